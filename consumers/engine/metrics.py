"""
Every metric of the consumers; docs/metrics.md says what to do when one changes. Labels have few values: never a call id or an agent.

`service` is `timelines` or `agents`: `voipex-consumers all` runs both in one process.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.engine.records import TopicPartition

_DURATION_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_RESTORE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
_AGE_BUCKETS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 5.0, 15.0, 60.0, 300.0, 3600.0)


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """The state of a service at a scrape."""

    service: str
    group: str
    lag: Mapping[TopicPartition, int]
    """Records that are not committed yet, by input partition."""
    partitions: Mapping[str, int]
    """Number of tasks by state (`TaskState`)."""
    keys: Mapping[tuple[str, str], int]
    """Number of keys by PBX and status: the status of calls, the state of agents."""
    partitions_with_due_timers: int
    store_bytes: int
    topic_faults: Mapping[str, int] = field(default_factory=dict)
    """Number of topics that are missing or have another number of partitions, by kind of fault."""


class Metrics:
    """One set per process, in its own registry."""

    def __init__(self, version: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.records = Counter(
            "voipex_consumer_records",
            "Input records whose transaction was committed.",
            ["topic"],
            registry=self.registry,
        )
        self.future_records = Counter(
            "voipex_consumer_future_records",
            "Input records whose timestamp was more than five minutes ahead of this host's clock.",
            ["topic"],
            registry=self.registry,
        )
        self.documents = Counter(
            "voipex_consumer_documents",
            "Documents published (timelines, activities, statuses).",
            ["service"],
            registry=self.registry,
        )
        self.dead_letters = Counter(
            "voipex_consumer_dead_letters",
            "Input records that could not be folded and were written as dead letters.",
            ["topic", "stage"],
            registry=self.registry,
        )
        self.transactions = Counter(
            "voipex_consumer_transactions",
            "Transactions by outcome: committed, failed (outcome unknown; the task was restored), or fenced by another instance.",
            ["service", "outcome"],
            registry=self.registry,
        )
        self.processing_duration = Histogram(
            "voipex_consumer_processing_duration_seconds",
            "Time to fold a batch, commit its transaction and write the store.",
            ["service"],
            buckets=_DURATION_BUCKETS,
            registry=self.registry,
        )
        self.event_age = Histogram(
            "voipex_consumer_event_age_seconds",
            "Age of the oldest input record of a batch when its transaction was committed.",
            ["service"],
            buckets=_AGE_BUCKETS,
            registry=self.registry,
        )
        self.timers_fired = Counter(
            "voipex_consumer_timers_fired",
            "Timers fired: calls that became stale, midnights of agents, states folded again.",
            ["service"],
            registry=self.registry,
        )
        self.restore_duration = Histogram(
            "voipex_consumer_restore_duration_seconds",
            "Time from the start of a restore to the first poll.",
            ["service"],
            buckets=_RESTORE_BUCKETS,
            registry=self.registry,
        )
        self.restored_states = Counter(
            "voipex_consumer_restored_states",
            "Records of the private changelogs read by restores.",
            ["service"],
            registry=self.registry,
        )
        self.store_wipes = Counter(
            "voipex_consumer_store_wipes",
            "State stores deleted and restored from the changelog, by reason: damaged, too old, and others that the log names.",
            ["service", "reason"],
            registry=self.registry,
        )
        build = Gauge(
            "voipex_consumer_build_info", "Version of this process.", ["version"], registry=self.registry
        )
        build.labels(version).set(1)

    def watch(self, snapshots: Callable[[], Iterable[ServiceSnapshot]]) -> None:
        """Collect these snapshots at each scrape."""
        self.registry.register(_SnapshotCollector(snapshots))


class _SnapshotCollector(Collector):
    def __init__(self, snapshots: Callable[[], Iterable[ServiceSnapshot]]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterable[Metric]:
        lag = GaugeMetricFamily(
            "voipex_consumer_lag_records",
            "Records of an input partition that are not committed yet.",
            labels=["topic", "group", "partition"],
        )
        partitions = GaugeMetricFamily(
            "voipex_consumer_partitions",
            "Partitions of this instance by state: created, restoring, running, suspended (failed, restores after a backoff), halted (a person must act).",
            labels=["service", "state"],
        )
        keys = GaugeMetricFamily(
            "voipex_consumer_keys",
            "Calls by status and agents by state, in the partitions of this instance.",
            labels=["service", "pbx", "status"],
        )
        due = GaugeMetricFamily(
            "voipex_consumer_partitions_with_due_timers",
            "Partitions with due timers that have not fired yet.",
            labels=["service"],
        )
        size = GaugeMetricFamily(
            "voipex_consumer_store_bytes", "Size of the state stores on disk.", labels=["service"]
        )
        faults = GaugeMetricFamily(
            "voipex_consumer_topic_faults",
            "Topics of the service that are missing, or have more (grown) or fewer (shrunk) partitions than declared.",
            labels=["service", "fault"],
        )
        for each in self._snapshots():
            for (topic, partition), records in each.lag.items():
                lag.add_metric([topic, each.group, str(partition)], records)
            for state, number in each.partitions.items():
                partitions.add_metric([each.service, state], number)
            for (pbx, status), number in each.keys.items():
                keys.add_metric([each.service, pbx, status], number)
            due.add_metric([each.service], each.partitions_with_due_timers)
            size.add_metric([each.service], each.store_bytes)
            for fault, number in each.topic_faults.items():
                faults.add_metric([each.service, fault], number)
        return (lag, partitions, keys, due, size, faults)
