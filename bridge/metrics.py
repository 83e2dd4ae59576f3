"""
Every metric of the bridge (docs/metrics.md says what to do when one moves). Labels have few values: never a call id, a number, an agent.

The spool's own counters are read from it on each scrape, so that they cost the events nothing.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import accumulate
from typing import Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_LATENCY_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_DISK_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
_AGE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600)


class SingleThreadCounter(Collector):
    """A counter with labels for the event loop alone: counting a request needs no lock."""

    def __init__(
        self, name: str, documentation: str, labels: tuple[str, ...], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: defaultdict[tuple[str | int, ...], int] = defaultdict(int)
        registry.register(self)

    def inc(self, *values: str | int) -> None:
        """Count one; *values* of the labels in their order."""
        self._counts[values] += 1

    def counts(self) -> Mapping[tuple[str | int, ...], int]:
        """Return the counts by the values of the labels."""
        return self._counts

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric([str(value) for value in values], count)
        yield family


class SingleThreadHistogram(Collector):
    """A histogram without labels for the event loop alone."""

    def __init__(
        self, name: str, documentation: str, bounds: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._bounds = name, documentation, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def highest(self) -> str | None:
        """Return the upper bound of the highest bucket that is not empty; `+Inf` is that of the last, None without a sample."""
        upper = [*map(str, self._bounds), "+Inf"]
        return next((upper[n] for n in range(len(upper) - 1, -1, -1) if self._counts[n]), None)

    def collect(self) -> Iterable[Metric]:
        upper = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(upper, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class Metrics:
    """One set per process, in its own registry."""

    def __init__(self, version: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        to = self.registry
        self.http_requests = SingleThreadCounter(
            "voipex_bridge_http_requests", "HTTP requests with a response.", ("route", "method", "code"), to
        )
        self.http_request_duration = SingleThreadHistogram(
            "voipex_bridge_http_request_duration_seconds",
            "From the request's headers to the response, for accepted events.",
            _LATENCY_BUCKETS,
            to,
        )
        self.events_received = SingleThreadCounter(
            "voipex_bridge_events_received",
            "Events accepted (2xx), or stored while a probe answers 503.",
            ("pbx", "type"),
            to,
        )
        self.events_rejected = Counter(
            "voipex_bridge_events_rejected",
            "Requests to /voipex without a 2xx response, by reason.",
            ["reason"],
            registry=to,
        )
        self.publish = Counter(
            "voipex_bridge_publish",
            "Records sent to Kafka: delivered, failed (sent again later) or dead_lettered (replaced by a dead letter).",
            ["topic", "outcome"],
            registry=to,
        )
        self.publish_refused = Gauge(
            "voipex_bridge_publish_refused",
            "1 while Kafka answers and refuses the records of this topic, which wait in the spool, else 0.",
            ["topic", "reason"],
            registry=to,
        )
        self.publish_duration = Histogram(
            "voipex_bridge_publish_duration_seconds",
            "From sending a batch to its acknowledgement by all in-sync replicas.",
            ["topic"],
            buckets=_LATENCY_BUCKETS,
            registry=to,
        )
        self.event_age = Histogram(
            "voipex_bridge_event_age_seconds",
            "Age of events when Kafka acknowledged them: one sample per batch and topic, its oldest event.",
            buckets=_AGE_BUCKETS,
            registry=to,
        )
        self.producer_restarts = Counter(
            "voipex_bridge_producer_restarts",
            "Producers replaced after a failure.",
            registry=to,
        )
        self.kafka_reachable = Gauge(
            "voipex_bridge_kafka_reachable",
            "1 if the last attempt to publish or connect succeeded, else 0.",
            registry=to,
        )
        self.dead_letters = Counter(
            "voipex_bridge_dead_letters", "Dead letters stored.", ["topic", "stage"], registry=to
        )
        self.spool_commit_duration = Histogram(
            "voipex_bridge_spool_commit_duration_seconds",
            "Write and fdatasync of one group of records.",
            buckets=_DISK_BUCKETS,
            registry=to,
        )
        build = Gauge("voipex_bridge_build_info", "1, labelled with the version.", ["version"], registry=to)
        build.labels(version).set(1)

    def watch_certificate(self, valid_until_s: Callable[[], float]) -> None:
        """Export a gauge that is read on each scrape; called only with TLS."""
        Gauge(
            "voipex_bridge_certificate_not_after_timestamp_seconds",
            "End of the TLS certificate's validity, in seconds since 1970; 0 if the certificate is not valid.",
            registry=self.registry,
        ).set_function(valid_until_s)

    def watch_spool(
        self,
        stats: Callable[[], "SpoolCounts"],
        now_ms: Callable[[], int],
        free_bytes: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Export the spool's counters, and the free bytes of its disk, read on each scrape."""
        self.registry.register(_SpoolCollector(stats, now_ms, free_bytes))

    def watch_clock(self, ahead_s: Callable[[], float], skew_s: Callable[[], Mapping[str, float]]) -> None:
        """Export how far `received_at` is ahead of the clock, and the clock of each PBX, read on each scrape."""
        Gauge(
            "voipex_bridge_clock_ahead_seconds",
            "How far received_at is ahead of this host's clock since that was set back.",
            registry=self.registry,
        ).set_function(ahead_s)
        self.registry.register(_SkewCollector(skew_s))

    def watch_probe(self, is_probing: Callable[[], bool]) -> None:
        """Export whether a probe of retries runs, read on each scrape."""
        Gauge(
            "voipex_bridge_retry_probe",
            "1 while `survey --probe-retry` has stored events answered with 503, else 0.",
            registry=self.registry,
        ).set_function(is_probing)

    def watch_topics(self, faults: Callable[[], Mapping[str, int]]) -> None:
        """Export the number of topics with each kind of fault, read on each scrape."""
        gauge = Gauge(
            "voipex_bridge_topic_faults",
            "Declared topics that are missing, or have more (grown) or fewer (shrunk) partitions.",
            ["fault"],
            registry=self.registry,
        )

        def count(fault: str) -> float:
            return faults()[fault]

        for fault in faults():
            gauge.labels(fault).set_function(partial(count, fault))


class SpoolCounts(Protocol):
    """What is exported of the spool's stats."""

    @property
    def appended_total(self) -> int: ...
    @property
    def acknowledged_total(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def limit_bytes(self) -> int: ...
    @property
    def oldest_waiting_ms(self) -> int | None: ...
    @property
    def stalled_s(self) -> float: ...
    @property
    def corrupt_frames_total(self) -> int: ...
    @property
    def used_bytes_by_pbx(self) -> Mapping[str, int]: ...
    @property
    def refused_by_pbx(self) -> Mapping[str, int]: ...


class _SkewCollector(Collector):
    def __init__(self, skew_s: Callable[[], Mapping[str, float]]) -> None:
        self._skew_s = skew_s

    def collect(self) -> Iterable[Metric]:
        yield _by_pbx(
            GaugeMetricFamily(
                "voipex_bridge_clock_skew_seconds",
                "This host's clock minus the PBX's: the least delay from a call's start to its event, within the last 5 to 10 minutes.",
                labels=("pbx",),
            ),
            self._skew_s(),
        )


_Family = TypeVar("_Family", CounterMetricFamily, GaugeMetricFamily)


def _by_pbx(family: _Family, values: Mapping[str, float]) -> _Family:
    for pbx, value in values.items():
        family.add_metric((pbx,), value)
    return family


class _SpoolCollector(Collector):
    def __init__(
        self,
        stats: Callable[[], SpoolCounts],
        now_ms: Callable[[], int],
        free_bytes: Callable[[], int | None],
    ) -> None:
        self._stats = stats
        self._now_ms = now_ms
        self._free_bytes = free_bytes

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        oldest_ms = stats.oldest_waiting_ms
        # A clock that was set back would make every record young.
        age_s = (
            stats.stalled_s
            if oldest_ms is None
            else max(stats.stalled_s, (self._now_ms() - oldest_ms) / 1000)
        )
        yield CounterMetricFamily(
            "voipex_bridge_spool_appended",
            "Records written to the spool and synced.",
            value=stats.appended_total,
        )
        yield CounterMetricFamily(
            "voipex_bridge_spool_acknowledged",
            "Records of the spool that Kafka acknowledged; appended minus acknowledged are waiting.",
            value=stats.acknowledged_total,
        )
        yield GaugeMetricFamily(
            "voipex_bridge_spool_bytes", "Bytes waiting for Kafka in the spool.", value=stats.bytes
        )
        yield GaugeMetricFamily(
            "voipex_bridge_spool_limit_bytes",
            "Maximum of waiting bytes; beyond it requests get 503.",
            value=stats.limit_bytes,
        )
        yield GaugeMetricFamily(
            "voipex_bridge_spool_oldest_record_age_seconds",
            "Age of the oldest record waiting for Kafka.",
            value=age_s,
        )
        yield CounterMetricFamily(
            "voipex_bridge_spool_corrupt_frames",
            "Gaps found when the spool was read, each because of corrupt or missing frames.",
            value=stats.corrupt_frames_total,
        )
        yield _by_pbx(
            GaugeMetricFamily(
                "voipex_bridge_spool_pbx_bytes",
                "About the bytes waiting for Kafka in the spool, by PBX.",
                labels=("pbx",),
            ),
            stats.used_bytes_by_pbx,
        )
        yield _by_pbx(
            CounterMetricFamily(
                "voipex_bridge_spool_pbx_refused",
                "Events refused because those of their PBX filled its share of the spool.",
                labels=("pbx",),
            ),
            stats.refused_by_pbx,
        )
        free_bytes = self._free_bytes()
        if free_bytes is not None:
            yield GaugeMetricFamily(
                "voipex_bridge_spool_free_bytes", "Free bytes of the spool's disk.", value=free_bytes
            )
