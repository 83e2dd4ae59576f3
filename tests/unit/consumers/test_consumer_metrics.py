"""Metrics of the consumers: names by the rules of Prometheus, few label values."""

import re

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from consumers.engine.metrics import Metrics, ServiceSnapshot
from consumers.engine.records import TopicPartition

SNAPSHOT = ServiceSnapshot(
    service="timelines",
    group="voipex-timelines",
    lag={TopicPartition("voipex.call.events.v1", 3): 17},
    partitions={"running": 11, "halted": 1},
    keys={("voipex", "talking"): 5},
    partitions_with_due_timers=2,
    store_bytes=4096,
)
FOREIGN_UNITS = r"milli|micro|nano|minute|hour|_ms$|_us$|_kb$|_mb$|_percent|_days"


def families(metrics: Metrics) -> dict[str, Metric]:
    text = generate_latest(metrics.registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def watched() -> dict[str, Metric]:
    metrics = Metrics("1.2.3")
    metrics.watch(lambda: [SNAPSHOT])
    metrics.restored_states.labels("timelines").inc(3)
    return families(metrics)


def test_names_follow_the_rules_of_prometheus() -> None:
    """As `promtool check metrics` demands: help, base units at the end, `_total` on counters only."""
    found = watched()

    assert found
    for name, family in found.items():
        assert re.fullmatch(r"voipex_consumer_[a-z_]+", name), name
        assert family.documentation.endswith("."), name
        assert not re.search(FOREIGN_UNITS, name), name
        sampled = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert sampled <= {f"{name}_total", f"{name}_created"}, name
        else:
            assert not any(each.endswith("_total") for each in sampled), name
        if family.type == "histogram":
            assert name.endswith("_seconds"), name


def test_snapshots_are_taken_at_each_scrape() -> None:
    taken = 0

    def snapshots() -> list[ServiceSnapshot]:
        nonlocal taken
        taken += 1
        return [SNAPSHOT]

    metrics = Metrics("1.2.3")
    metrics.watch(snapshots)
    before = taken
    families(metrics)
    families(metrics)

    assert taken == before + 2


def test_a_snapshot_becomes_labelled_samples() -> None:
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in watched().values()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }

    expected = {
        (
            "voipex_consumer_lag_records",
            ("group", "voipex-timelines"),
            ("partition", "3"),
            ("topic", "voipex.call.events.v1"),
        ): 17,
        ("voipex_consumer_partitions", ("service", "timelines"), ("state", "running")): 11,
        ("voipex_consumer_partitions", ("service", "timelines"), ("state", "halted")): 1,
        ("voipex_consumer_keys", ("pbx", "voipex"), ("service", "timelines"), ("status", "talking")): 5,
        ("voipex_consumer_partitions_with_due_timers", ("service", "timelines")): 2,
        ("voipex_consumer_store_bytes", ("service", "timelines")): 4096,
        ("voipex_consumer_restored_states_total", ("service", "timelines")): 3,
        ("voipex_consumer_build_info", ("version", "1.2.3")): 1,
    }
    assert expected.items() <= found.items()


def test_a_registry_may_be_given() -> None:
    registry = CollectorRegistry()

    assert Metrics("test", registry).registry is registry
