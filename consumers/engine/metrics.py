"""
Every counter of the consumers by name (docs/metrics.md says what to do when one moves). Few label values: never a call id or an agent.

`service` is `timelines` or `agents`, since `voipex-consumers all` runs both in one process.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_DURATION_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_RESTORE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
_AGE_BUCKETS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 5.0, 15.0, 60.0, 300.0, 3600.0)


class Standing(NamedTuple):
    """What a service knows of itself when it is asked."""

    service: str
    group: str
    lag: dict[tuple[str, int], int]
    """By topic and partition: records that are not folded yet."""
    partitions: dict[str, int]
    """How many are running, restoring, halted."""
    keys: dict[tuple[str, str], int]
    """By PBX and standing (status of calls, state of agents)."""
    timers_due: int
    """Partitions with overdue keys."""
    store_bytes: int


class Metrics:
    """One set per process, in its own registry."""

    def __init__(self, version: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        keep = self.registry
        self.records = Counter(
            "voipex_consumer_records",
            "Input records whose transaction was committed.",
            ["topic"],
            registry=keep,
        )
        self.documents = Counter(
            "voipex_consumer_documents",
            "Documents published (timelines, activities, statuses).",
            ["service"],
            registry=keep,
        )
        self.dead_letters = Counter(
            "voipex_consumer_dead_letters",
            "Records that could not be folded and were kept as dead letters.",
            ["topic", "stage"],
            registry=keep,
        )
        self.transactions = Counter(
            "voipex_consumer_transactions",
            "Transactions: committed, failed (outcome unknown; the partition was restored), or fenced by another instance.",
            ["service", "outcome"],
            registry=keep,
        )
        self.processing_duration = Histogram(
            "voipex_consumer_processing_duration_seconds",
            "From a batch's fold to its commit and cache.",
            ["service"],
            buckets=_DURATION_BUCKETS,
            registry=keep,
        )
        self.event_age = Histogram(
            "voipex_consumer_event_age_seconds",
            "Age of input records when their transaction was committed, one sample per batch (its oldest).",
            ["service"],
            buckets=_AGE_BUCKETS,
            registry=keep,
        )
        self.timers_fired = Counter(
            "voipex_consumer_timers_fired",
            "Keys whose time had come: calls that went stale, midnights of agents, states folded anew.",
            ["service"],
            registry=keep,
        )
        self.restore_duration = Histogram(
            "voipex_consumer_restore_duration_seconds",
            "From a partition's assignment to its first poll.",
            ["service"],
            buckets=_RESTORE_BUCKETS,
            registry=keep,
        )
        self.restored_states = Counter(
            "voipex_consumer_restored_states",
            "Records of the private changelogs that were read at starts.",
            ["service"],
            registry=keep,
        )
        build = Gauge("voipex_consumer_build_info", "Version of this process.", ["version"], registry=keep)
        build.labels(version).set(1)

    def watch(self, standings: Callable[[], Iterable[Standing]]) -> None:
        """Ask for these on each scrape."""
        self.registry.register(_Standings(standings))


class _Standings(Collector):
    def __init__(self, standings: Callable[[], Iterable[Standing]]) -> None:
        self._standings = standings

    def collect(self) -> Iterable[Metric]:
        lag = GaugeMetricFamily(
            "voipex_consumer_lag_records",
            "Records of an input partition that are not folded yet.",
            labels=["topic", "group", "partition"],
        )
        partitions = GaugeMetricFamily(
            "voipex_consumer_partitions",
            "Partitions of this instance: running, restoring, or halted (a person must act).",
            labels=["service", "state"],
        )
        keys = GaugeMetricFamily(
            "voipex_consumer_keys",
            "Calls by status, agents by state, in the partitions of this instance.",
            labels=["service", "pbx", "standing"],
        )
        due = GaugeMetricFamily(
            "voipex_consumer_timers_due",
            "Partitions with keys whose time has come and that wait to be told.",
            labels=["service"],
        )
        size = GaugeMetricFamily(
            "voipex_consumer_store_bytes", "Size of the caches on disk.", labels=["service"]
        )
        for each in self._standings():
            for (topic, partition), records in each.lag.items():
                lag.add_metric([topic, each.group, str(partition)], records)
            for state, number in each.partitions.items():
                partitions.add_metric([each.service, state], number)
            for (pbx, standing), number in each.keys.items():
                keys.add_metric([each.service, pbx, standing], number)
            due.add_metric([each.service], each.timers_due)
            size.add_metric([each.service], each.store_bytes)
        return (lag, partitions, keys, due, size)
