"""
Rules, their tests, configurations, queries of dashboard and runbooks, and scrapes of the running services, checked by promtool and amtool.

The tests of each alert are also run with an alert that never fires and one that always does: both must fail.
"""

import json
import re
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from sandbox.broker import LocalKafka
from tests.artefacts.tools import BUILD, ROOT, passes, run
from tests.kafka.conftest import JARS, TEST_PROPERTIES, apply_topics
from tests.processes import BridgeProcess, ConsumerProcess, free_port
from tests.waiting import WITHIN_S, eventually

pytestmark = pytest.mark.artefacts

PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
ALERTMANAGER: Final = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboards" / "voipex.json"
RULES: Final = PROMETHEUS / "rules.yml"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
TESTS: Final = ("rules_test.yml", "rules_week_test.yml")
PARTITIONS: Final = 3

Json = Any


def written(folder: str, name: str, content: object) -> Path:
    """Write a file below build/; content that is no text is written as YAML."""
    path = BUILD / "observability" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def complaint(name: str, *arguments: str | Path, text: str | None = None) -> str:
    """Return the output of a tool that must fail; AssertionError if it succeeds."""
    done = run(name, *arguments, text=text)
    assert done.returncode != 0, f"{name} {arguments} notices nothing"
    return done.stdout + done.stderr


def loaded(path: Path) -> Json:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


GROUPS: Final = loaded(RULES)["groups"]
RECORDED: Final = [rule for group in GROUPS for rule in group["rules"] if "record" in rule]
ALERTS: Final = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}


# ---------------------------------------------------------------------------------------------------- rules


def test_promtool_accepts_the_rules() -> None:
    assert f"{len(RECORDED) + len(ALERTS)} rules found" in passes("promtool", "check", "rules", RULES)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("voipex_bridge_kafka_reachable == 0", "voipex_bridge_kafka_reachable ==", "parse error"),
        ("for: 3m", "for: 3 minutes", "not a valid duration"),
        ("{{ $labels.pbx }}", "{{ $label.pbx }}", "undefined variable"),
        ("alert: VoipexPbxSilent", "allert: VoipexPbxSilent", "field allert not found"),
    ],
)
def test_a_fault_in_the_rules_is_found(old: str, new: str, message: str) -> None:
    text = RULES.read_text(encoding="utf-8")
    assert old in text

    assert message in complaint(
        "promtool", "check", "rules", written("fault", "rules.yml", text.replace(old, new, 1))
    )


@pytest.mark.parametrize("name", TESTS)
def test_the_alerts_fire_as_their_tests_expect(name: str) -> None:
    assert "SUCCESS" in passes("promtool", "test", "rules", PROMETHEUS / name)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_that_never_or_always_fires_is_found(alert: str) -> None:
    as_it_is = exit_code_with(alert, ALERTS[alert]["expr"])
    never = exit_code_with(alert, "vector(0) > 1")
    always = exit_code_with(alert, "vector(1)")

    assert (as_it_is, never, always) == (0, 1, 1)


def exit_code_with(alert: str, expression: str) -> int:
    """Return promtool's exit code for the tests of an alert with *expression* instead of its own."""
    changed = {**ALERTS[alert], "expr": expression}
    folder = f"alone/{alert}"
    written(folder, "rules.yml", {"groups": [{"name": "alone", "rules": [*RECORDED, changed]}]})
    files = []
    for name in TESTS:
        suite = loaded(PROMETHEUS / name)
        suite["tests"] = [test for test in suite["tests"] if alert in json.dumps(test)]
        if suite["tests"]:
            files.append(written(folder, name, suite))
    assert files
    return run("promtool", "test", "rules", *files).returncode


# ---------------------------------------------------------------------------------------------------- configuration


def test_prometheus_accepts_its_configuration_with_the_rules() -> None:
    assert "1 rule files found" in passes("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize(
    ("old", "new"),
    [("rules.yml", "rule.yml"), ("scrape_interval: 15s", "scrape_interval: 15"), ("job_name:", "job:")],
)
def test_a_fault_in_its_configuration_is_found(old: str, new: str) -> None:
    text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    assert old in text
    written("config", "rules.yml", RULES.read_text(encoding="utf-8"))

    complaint("promtool", "check", "config", written("config", "prometheus.yml", text.replace(old, new)))


def test_alertmanager_accepts_its_configuration() -> None:
    assert "2 receivers" in passes("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize(("old", "new"), [("receiver: page", "receiver: pager"), ("equal:", "equals:")])
def test_a_fault_in_alertmanagers_configuration_is_found(old: str, new: str) -> None:
    text = ALERTMANAGER.read_text(encoding="utf-8")
    assert old in text

    complaint("amtool", "check-config", written("config", "alertmanager.yml", text.replace(old, new)))


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_an_alert_is_routed_by_its_severity(severity: str) -> None:
    routed = passes(
        "amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}"
    )

    assert routed.strip() == severity


# ---------------------------------------------------------------------------------------------------- queries


def as_rules(expressions: Iterable[str]) -> Mapping[str, Json]:
    """Write queries as recording rules, which promtool parses, with Grafana's variables replaced."""
    variables = {"$__rate_interval": "1m", "$pbx": "voipex|brno"}
    rules = []
    for number, expression in enumerate(expressions):
        filled = expression
        for name, value in variables.items():
            filled = filled.replace(name, value)
        assert "$" not in filled
        rules.append({"record": f"query:number_{number}", "expr": filled})
    return {"groups": [{"name": "dashboard", "rules": rules}]}


def queries() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return asked + [each["expr"] for each in dashboard["annotations"]["list"]]


def test_prometheus_parses_all_queries_of_the_dashboard() -> None:
    asked = queries()

    assert f"{len(asked)} rules found" in passes(
        "promtool", "check", "rules", written("dashboard", "queries.yml", as_rules(asked))
    )


def test_prometheus_parses_all_queries_of_the_runbooks() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in RUNBOOKS.glob("*.md"))
    asked = re.findall(r"`([^`\n]*voipex_(?:bridge|consumer|board)_[^`\n]*)`", pages)

    assert len(asked) > 20
    assert f"{len(asked)} rules found" in passes(
        "promtool", "check", "rules", written("runbooks", "queries.yml", as_rules(asked))
    )


def test_a_fault_in_a_query_is_found() -> None:
    asked = [*queries(), "sum by (topic (voipex_bridge_publish_total)"]

    assert "parse error" in complaint(
        "promtool", "check", "rules", written("dashboard", "fault.yml", as_rules(asked))
    )


# ---------------------------------------------------------------------------------------------------- scrapes


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """/metrics of the three services after a call, an agent's login, a dead letter and a wrong password."""
    folder = tmp_path_factory.mktemp("scrapes")
    broker = LocalKafka(
        folder / "kafka", JARS, port=free_port(), controller_port=free_port(), properties=TEST_PROPERTIES
    )
    broker.prepare()
    broker.start()
    try:
        broker.wait_ready(WITHIN_S)
        servers = broker.bootstrap_servers
        apply_topics(servers, "voipex", PARTITIONS)
        bridge = BridgeProcess(folder, servers, VOIPEX_TOPIC_PARTITIONS=str(PARTITIONS))
        timelines, agents = (
            ConsumerProcess(folder, name, servers, "voipex", PARTITIONS) for name in ("timelines", "agents")
        )
        with bridge.start(), timelines.start(), agents.start():
            assert bridge.post(b'{"EventName":"AgentLogin","Login":"janecek","Queue":"NOC"}')[0] == 200
            assert (
                bridge.post(b'{"EventName":"Ringing","UniqueId":"1.1","Login":"janecek","Line":"1"}')[0]
                == 200
            )
            assert bridge.post(b"no json")[0] == 400
            assert bridge.post(b"{}", {"Authorization": "Basic eDp5"})[0] == 401
            yield {
                "bridge": scraped(bridge.management_port, "voipex_bridge_publish_duration_seconds_count"),
                "timelines": scraped(timelines.management_port, "voipex_consumer_keys{"),
                "agents": scraped(agents.management_port, "voipex_consumer_keys{"),
            }
    finally:
        broker.stop()


def scraped(port: int, series: str) -> str:
    """Return /metrics, once it has *series*."""

    def found() -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
                text: str = response.read().decode()
        except OSError:
            return None
        return text if f"\n{series}" in text else None

    return eventually(found, f"no {series}", every_s=0.1)


@pytest.mark.parametrize("service", ["bridge", "timelines", "agents"])
def test_prometheus_finds_no_fault_in_a_scrape(service: str, scrapes: Mapping[str, str]) -> None:
    checked = run("promtool", "check", "metrics", text=scrapes[service])

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        ("# TYPE voipex_bridge_nothing gauge\nvoipex_bridge_nothing 1\n", "no help text"),
        ("# HELP voipex_waits_ms x\n# TYPE voipex_waits_ms gauge\nvoipex_waits_ms 1\n", "abbreviated units"),
        ("# HELP voipex_seen x\n# TYPE voipex_seen counter\nvoipex_seen 1\n", "_total"),
    ],
)
def test_a_fault_in_a_scrape_is_found(planted: str, message: str, scrapes: Mapping[str, str]) -> None:
    assert message in complaint("promtool", "check", "metrics", text=scrapes["bridge"] + planted)
