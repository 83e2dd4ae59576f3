"""The publisher's metrics, with their children at hand."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

from prometheus_client import Counter, Histogram

from bridge.metrics import Metrics
from bridge.publisher.delivery import NO_TIMESTAMP
from bridge.publisher.skew import ClockSkew
from bridge.spool import SpooledRecord


class PublisherMetrics:
    """What the publisher reports about itself."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._delivered: Callable[[str], Counter] = cache(
            lambda topic: metrics.publish.labels(topic, "delivered")
        )
        self._duration: Callable[[str], Histogram] = cache(metrics.publish_duration.labels)
        self.skew = ClockSkew()
        metrics.kafka_reachable.set(0)

    def delivered(
        self, batches: Iterable[tuple[str, Sequence[SpooledRecord]]], duration_s: float, now_ms: int
    ) -> None:
        """Count the acknowledged batches of one round, each with its topic."""
        counts: dict[str, int] = {}
        oldest_ms: dict[str, int] = {}
        for topic, batch in batches:
            counts[topic] = counts.get(topic, 0) + len(batch)
            self.skew.observe(batch[-1].record)
            if (timestamp_ms := batch[0].record.timestamp_ms) != NO_TIMESTAMP:
                oldest_ms[topic] = min(oldest_ms.get(topic, now_ms), timestamp_ms)
        for topic, count in counts.items():
            self._delivered(topic).inc(count)
            self._duration(topic).observe(duration_s)
            self._metrics.event_age.observe(max(0, now_ms - oldest_ms.get(topic, now_ms)) / 1000)

    def failed(self, topic: str, count: int) -> None:
        self._metrics.publish.labels(topic, "failed").inc(count)

    def dead_lettered(self, topic: str, dead_letter_topic: str) -> None:
        self._metrics.publish.labels(topic, "dead_lettered").inc()
        self._metrics.dead_letters.labels(dead_letter_topic, "ingress").inc()

    def refused(self, topic: str, reason: str, refused: bool) -> None:
        self._metrics.publish_refused.labels(topic, reason).set(refused)

    def producer_restarted(self) -> None:
        self._metrics.producer_restarts.inc()

    def reachable(self, reachable: bool) -> None:
        self._metrics.kafka_reachable.set(reachable)
