"""
Every counter of the bridge by name (docs/metrics.md says what to do when one moves). Few label values: never a call id, a number, an agent.

What the spool knows itself is read from it on each scrape, so that it costs the events nothing.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.loop_metrics import LoopCounter, LoopHistogram

_LATENCY_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_DISK_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
_AGE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600)


class Metrics:
    """One set per process, in its own registry."""

    def __init__(self, version: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        keep = self.registry
        self.http_requests = LoopCounter(
            "voipex_bridge_http_requests", "Requests answered.", ("route", "method", "code"), keep
        )
        self.http_request_duration = LoopHistogram(
            "voipex_bridge_http_request_duration_seconds",
            "From the request's headers to the answer, of accepted events.",
            _LATENCY_BUCKETS,
            keep,
        )
        self.events_received = LoopCounter(
            "voipex_bridge_events_received", "Events accepted (2xx).", ("pbx", "type"), keep
        )
        self.events_rejected = Counter(
            "voipex_bridge_events_rejected",
            "Requests to /voipex not answered 2xx, by reason.",
            ["reason"],
            registry=keep,
        )
        self.publish = Counter(
            "voipex_bridge_publish",
            "Records handed to Kafka: delivered, failed (will be sent again), dead (kept as a dead letter instead) or lost (that was refused too).",
            ["topic", "outcome"],
            registry=keep,
        )
        self.publish_duration = Histogram(
            "voipex_bridge_publish_duration_seconds",
            "From sending a batch to its acknowledgement by all in-sync replicas.",
            ["topic"],
            buckets=_LATENCY_BUCKETS,
            registry=keep,
        )
        self.event_age = Histogram(
            "voipex_bridge_event_age_seconds",
            "Age of events when Kafka acknowledged them, one sample per batch and topic (its oldest).",
            buckets=_AGE_BUCKETS,
            registry=keep,
        )
        self.producer_generation = Gauge(
            "voipex_bridge_producer_generation",
            "Producers built since the start; 1 is normal.",
            registry=keep,
        )
        self.kafka_reachable = Gauge(
            "voipex_bridge_kafka_reachable",
            "1 while the last attempt to publish or connect succeeded.",
            registry=keep,
        )
        self.dead_letters = Counter(
            "voipex_bridge_dead_letters", "Dead letters kept.", ["topic", "stage"], registry=keep
        )
        self.spool_commit_duration = Histogram(
            "voipex_bridge_spool_commit_duration_seconds",
            "Write and fdatasync of one group of records.",
            buckets=_DISK_BUCKETS,
            registry=keep,
        )
        build = Gauge("voipex_bridge_build_info", "1, labelled with the version.", ["version"], registry=keep)
        build.labels(version).set(1)

    def watch_certificate(self, valid_until_s: Callable[[], float]) -> None:
        """Have a gauge for it, read on each scrape; without TLS there is none."""
        Gauge(
            "voipex_bridge_certificate_not_after_timestamp_seconds",
            "Until when the front door's certificate is valid, in seconds since 1970; 0: it is not.",
            registry=self.registry,
        ).set_function(valid_until_s)

    def watch_spool(self, stats: Callable[[], "SpoolFigures"], now_ms: Callable[[], int]) -> None:
        """Read the spool's own figures on each scrape."""
        self.registry.register(_SpoolCollector(stats, now_ms))


class SpoolFigures(Protocol):
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
    def damaged_frames_total(self) -> int: ...


class _SpoolCollector(Collector):
    def __init__(self, stats: Callable[[], SpoolFigures], now_ms: Callable[[], int]) -> None:
        self._stats = stats
        self._now_ms = now_ms

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        oldest = stats.oldest_waiting_ms
        age = 0.0 if oldest is None else max(0.0, (self._now_ms() - oldest) / 1000)
        yield CounterMetricFamily(
            "voipex_bridge_spool_appended",
            "Records written to the spool and synced.",
            value=stats.appended_total,
        )
        yield CounterMetricFamily(
            "voipex_bridge_spool_acknowledged",
            "Records of the spool that Kafka acknowledged; appended minus acknowledged wait.",
            value=stats.acknowledged_total,
        )
        yield GaugeMetricFamily("voipex_bridge_spool_bytes", "Bytes that wait for Kafka.", value=stats.bytes)
        yield GaugeMetricFamily(
            "voipex_bridge_spool_limit_bytes",
            "Most bytes that may wait; above it 503.",
            value=stats.limit_bytes,
        )
        yield GaugeMetricFamily(
            "voipex_bridge_spool_oldest_record_age_seconds",
            "Age of the oldest record that waits for Kafka.",
            value=age,
        )
        yield CounterMetricFamily(
            "voipex_bridge_spool_damaged_frames",
            "Damaged frames found on start; their files are kept aside.",
            value=stats.damaged_frames_total,
        )
