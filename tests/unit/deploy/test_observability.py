"""
Alerts, dashboard and docs use only metrics and labels that the services export; every alert has its runbook and its tests.

The exported metrics are read from the services' registries. tests/artefacts/test_observability.py checks the files with Prometheus itself.
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
import consumers.cli.main
import consumers.engine.metrics
import sandbox.cli
from bridge.metrics import SingleThreadCounter, SingleThreadHistogram
from bridge.spool import SpoolStats
from consumers.board.access import Access
from consumers.board.metrics import board_registry
from consumers.board.stream import Stream
from consumers.engine.metrics import ServiceSnapshot
from consumers.engine.records import TopicPartition
from tests.board_fixtures import new_board

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
"""Prometheus adds these labels to every series it scrapes."""
OWN_METRICS: Final = {
    "up": TARGET_LABELS,
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
}


# ---------------------------------------------------------------------------------------------------- exported metrics


@cache
def exported() -> Mapping[str, frozenset[str]]:
    """Return the labels of every series that a scrape can contain, by series name."""
    of_bridge = bridge.metrics.Metrics("test")
    of_bridge.watch_certificate(lambda: 0.0)
    of_bridge.watch_spool(
        lambda: SpoolStats(1, 1, 0, 0, 1, None, 0.0, 0, False, False, {"pbx": 1}, {"pbx": 1}),
        lambda: 0,
        lambda: 1,
    )
    of_bridge.watch_clock(lambda: 0.0, lambda: {"pbx": 0.0})
    of_bridge.watch_topics(lambda: {"missing": 0})
    of_bridge.watch_probe(lambda: False)
    of_consumers = consumers.engine.metrics.Metrics("test")
    snapshot = ServiceSnapshot(
        service="timelines",
        group="group",
        lag={TopicPartition("topic", 0): 1},
        partitions={"running": 1},
        keys={("pbx", "new"): 1},
        partitions_with_due_timers=0,
        store_bytes=0,
        topic_faults={"missing": 0},
    )
    of_consumers.watch(lambda: [snapshot])
    series: dict[str, frozenset[str]] = {}
    for metrics in (of_bridge, of_consumers):
        for metric in vars(metrics).values():
            count_once(metric)
    board = new_board(lambda: 0)
    of_board = board_registry(board, Stream(board), Access(None), lambda: 0, "test")
    for registry in (of_bridge.registry, of_consumers.registry, of_board):
        for family in registry.collect():
            for sample in family.samples:
                if not sample.name.endswith("_created"):  # added by the library
                    series[sample.name] = frozenset(sample.labels)
    return series


def count_once(metric: object) -> None:
    """Observe a value, because a metric with labels has no series before."""
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
    """Like `exported`, with one name per histogram."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", name): labels - {"le"}
        for name, labels in exported().items()
        if not re.search(r"_(sum|count)$", name)
    }


# ---------------------------------------------------------------------------------------------------- expressions and pages

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_NAME: Final = re.compile(r"(?<![\w:$])((?:\w+:)?voipex_\w+(?::\w+)?|up|ALERTS)\b(?:\{([^}]*)\})?")
_LABEL: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def faults_of(expression: str, legend: str = "") -> list[str]:
    """List metrics and labels in a PromQL expression or its legend that the services do not export."""
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
        f"no metric in the expression has the label {label}"
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
    """Yield title, expression and legend of every query of the dashboard."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], annotation["titleFormat"]


def spans(text: str) -> list[str]:
    """Return the code of a page: lines of blocks, then inline code."""
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
        ("sum by (pbx) (voipex_bridge_publish_total)", "no metric in the expression has the label pbx"),
        (
            "sum by (le) (voipex_bridge_event_age_seconds_count)",
            "no metric in the expression has the label le",
        ),
        ("x:voipex_bridge_events_received:rate1m > 0", "no metric x:voipex_bridge_events_received:rate1m"),
        ("vector(1)", "no metric at all in vector(1)"),
    ],
)
def test_an_unknown_metric_or_label_is_found(expression: str, fault: str) -> None:
    assert faults_of(expression) == [fault]


def test_an_unknown_label_in_a_legend_is_found() -> None:
    assert faults_of("voipex_bridge_spool_bytes", "{{pbx}}") == [
        "no metric in the expression has the label pbx"
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.get("alert") or rule["record"]))
def test_rules_use_exported_metrics_only(rule: Json) -> None:
    assert faults_of(rule["expr"]) == []


def test_the_dashboard_uses_exported_metrics_only() -> None:
    queries = list(targets())

    assert len(queries) > 30
    assert [
        (title, fault) for title, expression, legend in queries for fault in faults_of(expression, legend)
    ] == []


def test_runbooks_use_exported_metrics_only() -> None:
    queries = [(page, span) for page, span in SPANS if re.search(r"voipex_(bridge|consumer|board)_", span)]

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


def test_jobs_named_in_alerts_are_scraped() -> None:
    named = {job for rule in RULES for job in re.findall(r'job="([^"]+)"', rule["expr"])}

    assert named <= {each["job_name"] for each in SCRAPES}
    ports = {"bridge": 8081, "timelines": 8081, "agents": 8081, "board": 8084}
    assert {each["job_name"]: each["static_configs"] for each in SCRAPES} == {
        f"voipex-{name}": [{"targets": [f"{name}:{port}"]}] for name, port in ports.items()
    }


# ---------------------------------------------------------------------------------------------------- alerts


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_severity_texts_and_a_runbook(name: str) -> None:
    alert = ALERTS[name]

    assert re.fullmatch(r"Voipex[A-Za-z]+", name)
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    assert (ROOT / alert["annotations"]["runbook_url"]).is_file()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_firing_and_silent(name: str) -> None:
    cases = [
        case
        for path in ("prometheus/rules_test.yml", "prometheus/rules_week_test.yml")
        for test in loaded(path)["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == name
    ]

    assert [case for case in cases if case["exp_alerts"]], "never expected to fire"
    assert [case for case in cases if not case["exp_alerts"]], "never expected to be silent"


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


def test_links_of_the_runbooks_lead_to_files() -> None:
    links = [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    ]

    assert [(page.name, link) for page, link in links if not (page.parent / link).is_file()] == []


def test_alertmanager_inhibits_existing_alerts_only() -> None:
    config = loaded("alertmanager/alertmanager.yml")
    named = {
        name
        for rule in config["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        for name in re.search(r'alertname=~?"([^"]+)"', matcher).group(1).split("|")  # type: ignore[union-attr]
    }

    assert named <= set(ALERTS)
    assert {each["receiver"] for each in (config["route"], *config["route"]["routes"])} == {"page", "ticket"}


# ---------------------------------------------------------------------------------------------------- commands of the runbooks

APPLICATIONS: Final = {
    "voipex-bridge": typer.main.get_command(bridge.cli.main.app),
    "voipex-consumers": typer.main.get_command(consumers.cli.main.app),
    "voipex-sandbox": typer.main.get_command(sandbox.cli.app),
}


def fault_of_command(line: str) -> str | None:
    """Describe what is wrong with a command line, if anything."""
    name, *words = line.split()
    command: Any = APPLICATIONS[name]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        word = words.pop(0)
        command = command.get_command(None, word)
        if command is None:
            return f"{line}: no command {word}"
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
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    assert fault_of_command(line) is not None


def test_the_commands_of_the_runbooks_exist() -> None:
    lines = [span for _, span in SPANS if span.split()[0] in APPLICATIONS and len(span.split()) > 1]

    assert len(lines) > 20
    assert [fault for fault in map(fault_of_command, lines) if fault] == []


# ---------------------------------------------------------------------------------------------------- the dashboard


def test_the_dashboard_has_a_uid_and_a_datasource_variable() -> None:
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
def test_a_panel_has_a_title_a_description_and_the_right_unit(panel: Json) -> None:
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
