"""What a task tells of its work, in metrics and in the log: a record by topic, partition and offset, never by key or content."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal

from consumers.engine.batch import BatchResult
from consumers.engine.metrics import Metrics
from consumers.engine.records import InputRecord, TaskId
from voipex.service.logging import LogThrottle, get_logger, place_of
from voipex.topics import DEAD_LETTERS, topic_name

_FUTURE_LOG_S: Final = 3600.0

log = get_logger("task")


class TaskReport:
    def __init__(self, metrics: Metrics, service: str, task_id: TaskId, now_us: Callable[[], int]) -> None:
        self._metrics = metrics
        self._service = service
        self._task_id = task_id
        self._now_us = now_us
        self._throttle = LogThrottle(_FUTURE_LOG_S)

    def processing(self) -> AbstractContextManager[object]:
        """Measure how long the block takes, from folding a batch to writing the store."""
        return self._metrics.processing_duration.labels(self._service).time()

    def transaction(self, outcome: Literal["committed", "failed", "fenced"]) -> None:
        self._metrics.transactions.labels(self._service, outcome).inc()

    def failures(self, result: BatchResult) -> None:
        """Log what our own rules could not do."""
        for failure in result.failures:
            traceback = place_of(failure.error)
            if failure.source is None:
                log.error("timer failed", service=self._service, task=str(self._task_id), traceback=traceback)
            else:
                log.error(
                    "record dead-lettered",
                    service=self._service,
                    topic=failure.source.topic,
                    partition=self._task_id.partition,
                    offset=failure.source.offset,
                    traceback=traceback,
                )

    def batch(self, inputs: Sequence[InputRecord], result: BatchResult) -> None:
        """Count a batch that was committed."""
        metrics, pbx = self._metrics, self._task_id.pbx
        for kind, number in Counter([each.kind for each in inputs]).items():
            metrics.records.labels(topic_name(pbx, kind)).inc(number)
        metrics.documents.labels(self._service).inc(result.documents)
        if result.dead_letters:
            topic = topic_name(pbx, DEAD_LETTERS)
            metrics.dead_letters.labels(topic, self._service).inc(result.dead_letters)
        self._future_records(result)
        times_ms = [each.record.timestamp for each in inputs if each.record.timestamp >= 0]
        if times_ms:
            age_s = self._now_us() / 1e6 - min(times_ms) / 1e3
            metrics.event_age.labels(self._service).observe(max(0.0, age_s))

    def timers(self, fired: int, result: BatchResult) -> None:
        """Count timers whose documents were committed."""
        self._metrics.timers_fired.labels(self._service).inc(fired)
        self._metrics.documents.labels(self._service).inc(result.documents)

    def _future_records(self, result: BatchResult) -> None:
        """Count and log records from beyond now: the clock of their producer is wrong, or the one of this host."""
        for source, at_us in result.ahead:
            self._metrics.future_records.labels(source.topic).inc()
            if self._throttle.admit(source.topic) is not None:
                log.error(
                    "record of the future",
                    topic=source.topic,
                    partition=self._task_id.partition,
                    offset=source.offset,
                    ahead_s=round((at_us - self._now_us()) / 1e6),
                )
