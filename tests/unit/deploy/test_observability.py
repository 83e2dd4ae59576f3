"""
Alerts, dashboard and docs speak of metrics that the services have, with labels that these have; every alert has its page and its tests.

The truth is what the real registries give. Whether Prometheus understands the files is for tests/artefacts/test_observability.py.
"""

import json
import re
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import prometheus_client
import pytest
import typer.main
import yaml

import bridge.cli.main
import bridge.metrics
import consumers.cli
import consumers.engine.metrics
import sandbox.cli
from bridge.metrics import SingleThreadCounter, SingleThreadHistogram
from bridge.spool import SpoolStats
from consumers.engine.metrics import ServiceSnapshot
from consumers.engine.records import TopicPartition

ROOT: Final = Path(__file__).parents[3]
DEPLOY: Final = ROOT / "deploy"
DOCS: Final = ROOT / "docs"
RUNBOOKS: Final = DOCS / "runbooks"

Json = Any


def loaded(path: str) -> Json:
    return yaml.load((DEPLOY / path).read_text(encoding="utf-8"), yaml.CSafeLoader)


RULES: Final = [rule for group in loaded("prometheus/rules.yml")["groups"] for rule in group["rules"]]
ALERTS: Final = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED: Final = frozenset(rule["record"] for rule in RULES if "record" in rule)
SCRAPES: Final = loaded("prometheus/prometheus.yml")["scrape_configs"]
DASHBOARD: Final = json.loads((DEPLOY / "grafana/dashboards/voipex.json").read_text(encoding="utf-8"))
PANELS: Final = DASHBOARD["panels"]

TARGET_LABELS: Final = frozenset({"job", "instance"})
"""Prometheus gives these to everything that it scrapes."""
OWN_METRICS: Final = {
    "up": TARGET_LABELS,
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
}


# ---------------------------------------------------------------------------------------------------- what there is


@cache
def exported() -> Mapping[str, frozenset[str]]:
    """Labels of every series that a scrape can show, by its name."""
    ours = bridge.metrics.Metrics("test")
    ours.watch_certificate(lambda: 0.0)
    ours.watch_spool(lambda: SpoolStats(1, 1, 0, 0, 1, None, 0), lambda: 0)
    theirs = consumers.engine.metrics.Metrics("test")
    snapshot = ServiceSnapshot(
        "timelines", "group", {TopicPartition("topic", 0): 1}, {"running": 1}, {("pbx", "new"): 1}, 0, 0
    )
    theirs.watch(lambda: [snapshot])
    series: dict[str, frozenset[str]] = {}
    for metrics in (ours, theirs):
        for metric in vars(metrics).values():
            count_once(metric)
        for family in metrics.registry.collect():
            for sample in family.samples:
                if not sample.name.endswith("_created"):  # the library's own; nobody asks for it
                    series[sample.name] = frozenset(sample.labels)
    return series


def count_once(metric: object) -> None:
    """A metric with labels has no series before."""
    if isinstance(metric, SingleThreadCounter):
        metric.inc(*metric._labels)
    elif isinstance(metric, SingleThreadHistogram):
        metric.observe(0)
    elif isinstance(
        metric, prometheus_client.Counter | prometheus_client.Gauge | prometheus_client.Histogram
    ):
        names = metric._labelnames
        if names:
            metric.labels(*names)


@cache
def documented_names() -> Mapping[str, frozenset[str]]:
    """Like `exported`, a histogram by the name of its family."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", name): labels - {"le"}
        for name, labels in exported().items()
        if not re.search(r"_(sum|count)$", name)
    }


# ---------------------------------------------------------------------------------------------------- what is said

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_NAME: Final = re.compile(r"(?<![\w:$])((?:\w+:)?voipex_\w+(?::\w+)?|up|ALERTS)\b(?:\{([^}]*)\})?")
_LABEL: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def faults_of(expression: str, legend: str = "") -> list[str]:
    """What in a PromQL expression, and in the legend of its series, the services do not have."""
    bare = _STRING.sub('""', expression)
    known: set[str] = set(TARGET_LABELS)
    faults = []
    for name, selector in _NAME.findall(bare):
        labels = labels_of(name)
        if labels is None:
            faults.append(f"no metric {name}")
            continue
        known |= labels
        faults += [
            f"{name} has no label {label}"
            for label in _LABEL.findall(selector)
            if label not in labels | TARGET_LABELS
        ]
    grouped = [label.strip() for labels in _GROUPING.findall(bare) for label in labels.split(",")]
    faults += [
        f"nothing here has the label {label}"
        for label in [*grouped, *re.findall(r"\{\{\s*(\w+)\s*\}\}", legend)]
        if label and label not in known
    ]
    if not _NAME.search(bare):
        faults.append(f"no metric at all in {expression}")
    return faults


def labels_of(name: str) -> frozenset[str] | None:
    if name in RECORDED:  # level:metric:operations; the level is its labels
        return frozenset(name.split(":", maxsplit=1)[0].split("_"))
    return OWN_METRICS.get(name) or exported().get(name)


def targets() -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of everything that the dashboard asks."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], annotation["titleFormat"]


def spans(text: str) -> list[str]:
    """Code of a page: blocks line by line, then what stands in the text."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return list(filter(None, lines)) + re.findall(
        r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )


PAGES: Final = sorted(RUNBOOKS.glob("*.md"))
SPANS: Final = [(page.name, span) for page in PAGES for span in spans(page.read_text(encoding="utf-8"))]


# ---------------------------------------------------------------------------------------------------- metrics


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(voipex_bridge_nothing)", "no metric voipex_bridge_nothing"),
        ("rate(voipex_bridge_publish[5m])", "no metric voipex_bridge_publish"),
        ("voipex_bridge_event_age_seconds", "no metric voipex_bridge_event_age_seconds"),
        ('voipex_bridge_publish_total{kind="x"}', "voipex_bridge_publish_total has no label kind"),
        ("sum by (pbx) (voipex_bridge_publish_total)", "nothing here has the label pbx"),
        ("sum by (le) (voipex_bridge_event_age_seconds_count)", "nothing here has the label le"),
        ("x:voipex_bridge_events_received:rate1m > 0", "no metric x:voipex_bridge_events_received:rate1m"),
        ("vector(1)", "no metric at all in vector(1)"),
    ],
)
def test_what_no_service_has_is_noticed(expression: str, fault: str) -> None:
    assert faults_of(expression) == [fault]


def test_a_label_that_a_legend_invents_is_noticed() -> None:
    assert faults_of("voipex_bridge_spool_bytes", "{{pbx}}") == ["nothing here has the label pbx"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.get("alert") or rule["record"]))
def test_rules_ask_for_what_the_services_have(rule: Json) -> None:
    assert faults_of(rule["expr"]) == []


def test_the_dashboard_asks_for_what_the_services_have() -> None:
    asked = list(targets())

    assert len(asked) > 30
    assert [
        (title, fault) for title, expression, legend in asked for fault in faults_of(expression, legend)
    ] == []


def test_runbooks_ask_for_what_the_services_have() -> None:
    queries = [(page, span) for page, span in SPANS if re.search(r"voipex_(bridge|consumer)_", span)]

    assert len(queries) > 20
    assert [(page, fault) for page, query in queries for fault in faults_of(query)] == []


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    documented = {
        name: frozenset(labels.split(",")) if labels else frozenset()
        for row in re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
        for name, labels in re.findall(r"`(voipex_\w+)(?:\{([\w,]+)\})?`", row)
    }

    assert documented == documented_names()


def test_the_jobs_that_alerts_ask_for_are_scraped() -> None:
    asked = {job for rule in RULES for job in re.findall(r'job="([^"]+)"', rule["expr"])}

    assert asked <= {each["job_name"] for each in SCRAPES}
    assert {each["job_name"]: each["static_configs"] for each in SCRAPES} == {
        f"voipex-{name}": [{"targets": [f"{name}:8081"]}] for name in ("bridge", "timelines", "agents")
    }


# ---------------------------------------------------------------------------------------------------- alerts


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]

    assert re.fullmatch(r"Voipex[A-Za-z]+", name)
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    assert (ROOT / alert["annotations"]["runbook_url"]).is_file()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_when_it_fires_and_when_it_is_silent(name: str) -> None:
    looks = [
        look
        for path in ("prometheus/rules_test.yml", "prometheus/rules_week_test.yml")
        for test in loaded(path)["tests"]
        for look in test.get("alert_rule_test", ())
        if look["alertname"] == name
    ]

    assert [look for look in looks if look["exp_alerts"]], "never expected to fire"
    assert [look for look in looks if not look["exp_alerts"]], "never expected to be silent"


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.stem for page in PAGES} == {*ALERTS, "README"}


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_has_its_parts_and_the_severity_of_its_alert(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")

    assert page.startswith(f"# {name}\n\nSeverity: {ALERTS[name]['labels']['severity']}.\n\n**Means:**")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Look at", "Do", "Over"]


def test_the_index_lists_every_alert_with_its_severity() -> None:
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", index, re.MULTILINE)

    assert sorted(listed) == sorted((name, name, each["labels"]["severity"]) for name, each in ALERTS.items())


def test_links_of_the_pages_lead_somewhere() -> None:
    links = [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    ]

    assert [(page.name, link) for page, link in links if not (page.parent / link).is_file()] == []


def test_what_alertmanager_holds_back_are_alerts_of_ours() -> None:
    config = loaded("alertmanager/alertmanager.yml")
    named = {
        name
        for rule in config["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        for name in re.search(r'alertname=~?"([^"]+)"', matcher).group(1).split("|")  # type: ignore[union-attr]
    }

    assert named <= set(ALERTS)
    assert {each["receiver"] for each in (config["route"], *config["route"]["routes"])} == {"page", "ticket"}


# ---------------------------------------------------------------------------------------------------- commands of the pages

APPLICATIONS: Final = {
    "voipex-bridge": typer.main.get_command(bridge.cli.main.app),
    "voipex-consumers": typer.main.get_command(consumers.cli.app),
    "voipex-sandbox": typer.main.get_command(sandbox.cli.app),
}


def fault_of_command(line: str) -> str | None:
    """What in a command line of ours does not exist."""
    name, *words = line.split()
    command: Any = APPLICATIONS[name]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        word = words.pop(0)
        if word not in command.commands:
            return f"{line}: no command {word}"
        command = command.commands[word]
    options = {option for each in command.params for option in each.opts}
    return next(
        (f"{line}: no option {word}" for word in words if word[:2] == "--" and word not in options), None
    )


@pytest.mark.parametrize(
    "line",
    [
        "voipex-bridge spool show",
        "voipex-bridge dead-letters list --after 2h",
        "voipex-consumers lag --watch",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    assert fault_of_command(line) is not None


def test_the_commands_of_the_pages_exist() -> None:
    lines = [span for _, span in SPANS if span.split()[0] in APPLICATIONS and len(span.split()) > 1]

    assert len(lines) > 20
    assert [fault for fault in map(fault_of_command, lines) if fault] == []


# ---------------------------------------------------------------------------------------------------- the dashboard


def test_the_dashboard_can_be_found_and_asked_of_any_source() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    sources = [
        each["datasource"]["uid"]
        for panel in PANELS
        for each in (panel, *panel.get("targets", ()))
        if panel["type"] != "row"
    ]

    assert DASHBOARD["uid"] == "voipex"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["pbx"]["multi"]
    assert faults_of(variables["pbx"]["definition"].removeprefix("label_values").replace(", pbx", "")) == []
    assert set(sources) == {"${datasource}"}
    used = {name for _, expression, _ in targets() for name in re.findall(r"\$(?!__)\{?(\w+)", expression)}
    assert used == {"pbx"}


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    assert [number for number, times in Tally(panel["id"] for panel in PANELS).items() if times > 1] == []
    assert [
        (one["title"], other["title"]) for one, other in combinations(PANELS, 2) if overlap(one, other)
    ] == []
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def overlap(one: Json, other: Json) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    return bool(
        a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    )


@pytest.mark.parametrize(
    "panel", [each for each in PANELS if each["type"] != "row"], ids=lambda each: each["title"]
)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    references: Sequence[str] = [target["refId"] for target in panel["targets"]]

    assert panel["title"]
    assert panel["description"].endswith(".")
    assert defaults["unit"] in {"none", "short", "s", "bytes", "percentunit", "reqps", "ops", "wps"}
    assert len(set(references)) == len(references) > 0
    expressions = " ".join(target["expr"] for target in panel["targets"])
    if "_seconds" in expressions:
        assert defaults["unit"] == "s"
    if "_bytes" in expressions:
        assert defaults["unit"] in {"bytes", "percentunit"}


def test_the_source_and_the_dashboard_are_provisioned() -> None:
    (source,) = loaded("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    (provider,) = loaded("grafana/provisioning/dashboards/voipex.yml")["providers"]

    assert (source["type"], source["url"], source["isDefault"]) == (
        "prometheus",
        "http://prometheus:9090",
        True,
    )
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
