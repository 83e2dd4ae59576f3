"""
From the spool to Kafka: in order per partition, at least once, whatever happens to the brokers.

`run` repeats until the source is sealed and empty:

(1) Take the next records, limited by count and bytes.
(2) Group them by partition, in order.
(3) Send one batch per partition and wait for **all** of them, with a timeout.
(4) Acknowledge up to the first record that is not delivered; what is not delivered goes back to (3).
(5) Linger for a few milliseconds unless more is waiting: events accumulate, and responses to the PBX come first.

While Kafka refuses a topic, (1) goes on, up to a number of records in memory, so that the other topics do not wait for it.

A later record of a partition is never sent before the earlier one is acknowledged, and one task does all this.

Failures:

- No broker answers: the producer stays and retries by itself, which makes no copies. After `ack_timeout_s` a new one is created, since
  aiokafka asks only the brokers it knows from its last metadata.
- A delivery fails: the producer is replaced (its sequence numbers have a gap, so the broker would reject that partition for ever), and
  after a pause the new one sends what is not acknowledged. That may make copies; readers recognise them by their event id.
- A batch is larger than the topic's max.message.bytes: halve it until the record is alone. A record that is too large alone, and again
  with a new producer, is replaced by its dead letter, so that it does not block its partition. A dead letter that is too large waits.
- A broker refuses a batch for any other reason (no such topic, no right, a timestamp or a policy that it does not accept): wait, report it in
  the log, in `/ready` and in the metrics, and send it again. A dead letter whose timestamp is refused is sent without one.

So a record leaves the source only when Kafka has acknowledged it or its dead letter.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from bridge.metrics import Metrics
from bridge.publisher.delivery import Delivery
from bridge.publisher.faults import AckTimeout, DeliveryFailure, DeliveryFault
from bridge.publisher.metrics import PublisherMetrics
from bridge.publisher.rejections import TopicPartition
from bridge.spool import RecordSource, SpooledRecord
from voipex.dead_letters import undeliverable
from voipex.errors import KafkaAccessDenied, TopicMismatch
from voipex.records import Record
from voipex.service.logging import LogThrottle, get_logger
from voipex.timestamps import format_rfc3339
from voipex.topics import DEAD_LETTERS

_MAX_RECORDS: Final = 2000  # of one take
_MAX_BYTES: Final = 1024 * 1024
_MAX_UNACKNOWLEDGED: Final = 20_000
"""Records that are taken while a topic is refused: some 40 MB. Beyond it all topics wait."""
_BACKLOG_RECORDS: Final = 1000  # so many in one take: more is waiting, do not linger
_RECORDS_BETWEEN_YIELDS: Final = 64
"""Sent before the publisher lets appends go first: with few records in each of many partitions, a wait for each would add up."""
_BUSY_RECORDS: Final = 40  # so many in one take: linger longer, since larger batches cost less per event

log = get_logger("publisher")


class Producer(Protocol):
    """One connection to Kafka, used by one task; after a failed delivery it is replaced."""

    async def start(self) -> None: ...

    async def send(
        self, topic: str, partition: int, records: Iterable[Record]
    ) -> tuple[int, "asyncio.Future[object]"]:
        """Send the first *records* as one batch; return how many fitted, and a future that is done when all in-sync replicas have them."""
        ...

    async def stop(self, timeout_s: float) -> None: ...

    def fault_of(self, error: BaseException) -> DeliveryFault: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Pauses and timeouts, in seconds."""

    linger_s: float = 0.005
    """Between two rounds: each costs a millisecond of the core that also responds, however few records it carries."""
    busy_linger_s: float = 0.02
    """The same while events come fast. Longer saves CPU, but an event waits half of it: at 1,000 events/s it is in Kafka after 4 ms."""
    warn_after_s: float = 5.0
    """Without an acknowledgement for so long Kafka counts as unreachable."""
    ack_timeout_s: float = 180.0
    """Without an acknowledgement for so long the producer is replaced."""
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    log_interval_s: float = 60.0
    """Between two log lines about the same failure."""
    stop_timeout_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A topic whose records Kafka refuses, for `/ready`; they wait in the spool."""

    topic: str
    reason: str
    """Value of the DeliveryFault."""
    error: str
    since: str
    remedy: str


@dataclass(frozen=True, slots=True)
class PublisherState:
    """For `/ready`."""

    reachable: bool
    since: str | None
    last_error: str | None
    """Class of the last failure, also when it is over."""
    generation: int
    """Producers created since the start; 1 is normal."""
    refused: tuple[Refusal, ...] = ()


class Publisher:
    """
    Publishes the records of *source*. *make_producer* returns a new, unstarted producer; *partitions_of* is the number of each topic, by PBX.

    `run` may be cancelled at any time and ends within `Timing.stop_timeout_s`; what is not acknowledged stays in the source.
    """

    def __init__(
        self,
        source: RecordSource,
        make_producer: Callable[[], Producer],
        metrics: Metrics,
        *,
        partitions_of: Callable[[str], int],
        timing: Timing | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._make_producer = make_producer
        self._partitions_of = partitions_of
        self._timing = timing or Timing()
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._metrics = PublisherMetrics(metrics)
        self._state = PublisherState(reachable=False, since=None, last_error=None, generation=0)
        self._producer: Producer | None = None
        self._taking: asyncio.Task[Sequence[SpooledRecord]] | None = None
        self._stopping = False
        self._unreachable_from = monotonic()
        self._failures = 0  # since the last acknowledgement
        self._refused: dict[
            str, tuple[float, float]
        ] = {}  # topic -> time of the next attempt, and the pause before it
        self._throttle = LogThrottle(self._timing.log_interval_s, monotonic)
        self._batch_records = _MAX_RECORDS

    @property
    def state(self) -> PublisherState:
        return self._state

    @property
    def unreachable_s(self) -> float:
        """For how long Kafka has been unreachable, whatever the system's clock says; 0 while it is reachable."""
        return 0.0 if self._state.reachable else self._monotonic() - self._unreachable_from

    @property
    def clock_skew_s(self) -> Mapping[str, float]:
        """This host's clock minus that of each PBX, from the events of the last minutes."""
        return self._metrics.skew.by_pbx_s()

    def stop(self) -> None:
        """End `run` after the current batch; the rest stays in the source. To publish the rest, seal the source instead."""
        self._stopping = True
        if self._taking is not None:
            self._taking.cancel()

    async def run(self) -> None:
        """Publish until the source is sealed and empty, or `stop` is called."""
        try:
            while not self._stopping:
                taken = await self._take()  # (1)
                if not taken:
                    return
                await self._deliver(taken)
                if len(taken) < _BACKLOG_RECORDS:  # (5)
                    busy = len(taken) >= _BUSY_RECORDS
                    await asyncio.sleep(self._timing.busy_linger_s if busy else self._timing.linger_s)
        finally:
            await self._drop_producer()

    # ---------------------------------------------------------------- a round

    async def _take(self) -> Sequence[SpooledRecord]:
        """Step (1); until there is a producer, connect meanwhile."""
        self._taking = taking = asyncio.ensure_future(self._source.take(_MAX_RECORDS, _MAX_BYTES))
        try:
            while self._producer is None and not taking.done():
                if await self._try_connect() is None:
                    await asyncio.wait({taking}, timeout=self._backoff_s())
            return await taking
        except asyncio.CancelledError:
            if self._stopping and taking.cancelled():
                return ()
            raise
        finally:
            taking.cancel()
            self._taking = None

    async def _deliver(self, taken: Sequence[SpooledRecord]) -> None:
        """Steps (2) to (4)."""
        delivery = Delivery(taken, self._batch_records)  # (2)
        while delivery.pending:
            due = [partition for partition in delivery.pending if not self._must_wait(partition.topic)]
            if not due:
                await self._take_more(delivery)
                continue
            failures = await self._send(delivery, due)  # (3)
            self._acknowledge(delivery)  # (4)
            if failures:
                await self._recover(delivery, failures)
        self._shrink_batches(delivery)

    def _must_wait(self, topic: str) -> bool:
        """Return whether the topic was refused and its next attempt is not due."""
        return topic in self._refused and self._refused[topic][0] > self._monotonic()

    async def _take_more(self, delivery: Delivery) -> None:
        """Take what comes before the next attempt of a refused topic."""
        until = min(self._refused[topic][0] for topic, _ in delivery.pending)
        more: Sequence[SpooledRecord] = ()
        if delivery.unacknowledged < _MAX_UNACKNOWLEDGED:
            self._taking = taking = asyncio.ensure_future(self._source.take(_MAX_RECORDS, _MAX_BYTES))
            try:
                await asyncio.wait({taking}, timeout=until - self._monotonic())
            finally:
                taking.cancel()
                self._taking = None
            await asyncio.wait({taking})
            more = () if taking.cancelled() else taking.result()
        delivery.extend(more)
        await asyncio.sleep(self._timing.linger_s if more else max(0.0, until - self._monotonic()))

    async def _send(
        self, delivery: Delivery, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, DeliveryFailure]:
        """Step (3): send one batch per partition and remove what was delivered; return what failed."""
        producer = await self._connect()
        began = self._monotonic()
        sent: dict[TopicPartition, tuple[int, asyncio.Future[object]]] = {}
        failures: dict[TopicPartition, DeliveryFailure] = {}
        since_yield = 0
        for partition in partitions:
            try:
                sent[partition] = await producer.send(*partition, delivery.next_batch(partition))
            except Exception as error:  # noqa: BLE001 - whatever the client raises, the record stays pending
                failures[partition] = DeliveryFailure(error, 0)
                continue
            since_yield += sent[partition][0]
            if since_yield >= _RECORDS_BETWEEN_YIELDS:
                since_yield = 0
                await self._source.yield_to_appends()
        await self._await_acks([future for _, future in sent.values()], began)
        await self._source.yield_to_appends()

        delivered: list[tuple[str, list[SpooledRecord]]] = []
        for partition, (count, future) in sent.items():
            failure = _error_of(future)
            if failure is None:
                delivered.append((partition.topic, delivery.delivered(partition, count)))
            else:
                failures[partition] = DeliveryFailure(failure, count)
        if delivered:
            self._failures = 0
            self._set_reachable()
            self._clear_refusals({topic for topic, _ in delivered} - {topic for topic, _ in failures})
            self._metrics.delivered(delivered, self._monotonic() - began, self._now_ms())
        return failures

    async def _await_acks(self, futures: Sequence["asyncio.Future[object]"], began: float) -> None:
        """Wait for all. Return early at the timeout, or soon after one has failed, since then the producer is replaced anyway."""
        pending = set(futures)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=self._timing.warn_after_s)
            if not pending:
                return
            if not done:
                self._set_unreachable("no answer", f"no answer for {self._timing.warn_after_s:.0f} s")
            failed = any(future.done() and _error_of(future) is not None for future in futures)
            if failed or self._monotonic() - began > self._timing.ack_timeout_s:
                return

    def _acknowledge(self, delivery: Delivery) -> None:
        """Step (4)."""
        for through in delivery.acknowledgeable():
            self._source.acknowledge(through)

    # ---------------------------------------------------------------- failures

    async def _recover(self, delivery: Delivery, failures: Mapping[TopicPartition, DeliveryFailure]) -> None:
        """Classify the failures and act on each, replace the producer if its sequence numbers have a gap, and pause."""
        faults = {partition: self._fault_of(failure.error) for partition, failure in failures.items()}
        refused: set[str] = set()
        for partition, failure in failures.items():
            fault = faults[partition]
            self._metrics.failed(partition.topic, failure.batch_records)
            self._log_failure(partition, failure.error, fault)
            if failure.batch_records and fault is DeliveryFault.TOO_LARGE:
                if not self._halve_or_dead_letter(delivery, partition, failure):
                    refused.add(partition.topic)
            elif fault is DeliveryFault.TIMESTAMP and _is_dead_letters(partition.topic):
                delivery.drop_timestamps(partition)
            elif fault is not DeliveryFault.RETRIABLE:
                self._set_refused(partition.topic, failure.error, fault)
                refused.add(partition.topic)
        # A batch that was sent and failed leaves the gap; what failed before it was sent leaves none, unless the producer itself is broken.
        if any(
            failure.batch_records or faults[partition] is DeliveryFault.RETRIABLE
            for partition, failure in failures.items()
        ):
            await self._drop_producer()
        self._postpone(refused)
        if any(partition.topic not in refused for partition in failures):
            self._failures += 1
            await asyncio.sleep(self._backoff_s())

    def _postpone(self, topics: Iterable[str]) -> None:
        """Let the records of refused topics wait, each time twice as long; the others go on."""
        for topic in topics:
            _, pause_s = self._refused.get(topic, (0.0, self._timing.initial_backoff_s / 2))
            pause_s = min(self._timing.max_backoff_s, 2 * pause_s)
            self._refused[topic] = self._monotonic() + pause_s, pause_s

    def _fault_of(self, error: BaseException) -> DeliveryFault:
        return DeliveryFault.RETRIABLE if self._producer is None else self._producer.fault_of(error)

    def _halve_or_dead_letter(
        self, delivery: Delivery, partition: TopicPartition, failure: DeliveryFailure
    ) -> bool:
        """Send less at once; replace a record that is too large alone by its dead letter. Return False if it is one, which waits."""
        rejected = delivery.pending[partition][0]
        if not delivery.too_large.record(partition, rejected.seq, failure.batch_records):
            return True
        record, reason = rejected.record, type(failure.error).__name__
        if _is_dead_letters(record.topic):
            self._set_refused(record.topic, failure.error, DeliveryFault.TOO_LARGE)
            return False
        pbx = record.topic.partition(".")[0]  # names of PBXs have no dot
        dead_letter = undeliverable(record, f"Kafka refused it: {reason}", pbx, self._partitions_of(pbx))
        delivery.replace_first(partition, dead_letter)
        log.warning("record dead-lettered", event_id=_event_id(record), topic=record.topic, reason=reason)
        self._metrics.dead_lettered(record.topic, dead_letter.topic)
        return True

    def _shrink_batches(self, delivery: Delivery) -> None:
        """Send smaller batches from now on if a topic's limit is low: halving them each time would replace the producer each time."""
        for partition, batch_records in delivery.too_large.shrunk_batch_sizes().items():
            if batch_records < self._batch_records:
                self._batch_records = batch_records
                log.warning(
                    "batch size reduced",
                    topic=partition.topic,
                    records=batch_records,
                    reason="the topic's max.message.bytes is low",
                )

    def _log_failure(self, partition: TopicPartition, error: BaseException, fault: DeliveryFault) -> None:
        name = type(error).__name__
        self._state = replace(self._state, last_error=name)
        fields: dict[str, object] = {
            "topic": partition.topic,
            "partition": partition.partition,
            "error": name,
        }
        event = _REFUSALS.get(fault)
        if event is None:
            self._log_throttled(log.warning, "delivery failed", "delivery failed", **fields)
        else:
            if fault is DeliveryFault.UNAUTHORIZED:
                fields["operation"] = "Write"
            key = f"{fault.value} {partition.topic}"
            self._log_throttled(log.error, key, event, remedy=_remedy(fault, partition.topic), **fields)

    def _set_refused(self, topic: str, error: BaseException, fault: DeliveryFault) -> None:
        """Report a topic whose records wait, until it takes one."""
        if any(each.topic == topic and each.reason == fault.value for each in self._state.refused):
            return
        pause = self._refused.get(topic)
        self._clear_refusals({topic})
        if pause is not None:
            self._refused[topic] = pause
        refusal = Refusal(
            topic,
            fault.value,
            type(error).__name__,
            format_rfc3339(self._now_ms() * 1000),
            _remedy(fault, topic),
        )
        self._state = replace(self._state, refused=(*self._state.refused, refusal))
        self._metrics.refused(topic, fault.value, True)

    def _clear_refusals(self, topics: Collection[str]) -> None:
        for topic in topics:
            self._refused.pop(topic, None)
        if not self._state.refused:
            return
        for each in self._state.refused:
            if each.topic in topics:
                self._metrics.refused(each.topic, each.reason, False)
        self._state = replace(
            self._state, refused=tuple(each for each in self._state.refused if each.topic not in topics)
        )

    def _log_throttled(self, write: Callable[..., object], key: str, event: str, **fields: object) -> None:
        """Log once per interval and *key*."""
        suppressed = self._throttle.admit(key)
        if suppressed is not None:
            write(event, suppressed=suppressed, **fields)

    def _backoff_s(self) -> float:
        doublings = min(max(0, self._failures - 1), 20)
        return min(self._timing.max_backoff_s, self._timing.initial_backoff_s * (1 << doublings))

    # ---------------------------------------------------------------- the producer

    async def _connect(self) -> Producer:
        while True:
            producer = await self._try_connect()
            if producer is not None:
                return producer
            await asyncio.sleep(self._backoff_s())

    async def _try_connect(self) -> Producer | None:
        """Return the producer, a new one if there is none; None if Kafka does not answer."""
        if self._producer is not None:
            return self._producer
        producer = self._make_producer()
        try:
            await producer.start()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with Kafka, events wait in the spool
            self._failures += 1
            self._set_unreachable(
                type(error).__name__,
                str(error),
                needs_operator=isinstance(error, KafkaAccessDenied | TopicMismatch),
            )
            return None
        self._producer = producer
        self._state = replace(self._state, generation=self._state.generation + 1)
        if self._state.generation > 1:
            self._metrics.producer_restarted()
        self._set_reachable()
        return producer

    async def _drop_producer(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with contextlib.suppress(Exception):  # it is discarded in any case
                await producer.stop(self._timing.stop_timeout_s)

    def _set_reachable(self) -> None:
        if not self._state.reachable:
            self._state = replace(self._state, reachable=True, since=format_rfc3339(self._now_ms() * 1000))
            self._metrics.reachable(True)
            self._throttle.reset()
            log.info("kafka reachable", generation=self._state.generation)

    def _set_unreachable(self, error: str, cause: str, *, needs_operator: bool = False) -> None:
        if self._state.reachable or self._state.since is None:
            self._state = replace(self._state, reachable=False, since=format_rfc3339(self._now_ms() * 1000))
            self._unreachable_from = self._monotonic()
            self._metrics.reachable(False)
        self._state = replace(self._state, last_error=error)
        if needs_operator:
            # Throttled by cause: once one is fixed, the next one must show at once.
            self._log_throttled(log.error, cause, "kafka access failed", cause=cause)
        else:
            self._log_throttled(log.warning, "unreachable", "kafka unreachable", cause=cause)


def _error_of(future: "asyncio.Future[object]") -> BaseException | None:
    """Return why a batch counts as not delivered; None if it is."""
    if not future.done() or future.cancelled():
        return AckTimeout()
    return future.exception()


_REFUSALS: Final = {
    DeliveryFault.UNKNOWN_TOPIC: "topic not found",
    DeliveryFault.UNAUTHORIZED: "write not authorized",
    DeliveryFault.TIMESTAMP: "timestamp refused",
    DeliveryFault.REFUSED: "records refused",
}
"""Name of the log line; until the environment has changed, records of the topic wait."""


def _remedy(fault: DeliveryFault, topic: str) -> str:
    match fault:
        case DeliveryFault.UNAUTHORIZED:
            return f"kafka-acls.sh --add --allow-principal User:NAME --operation Write --topic {topic}"
        case DeliveryFault.TIMESTAMP:
            return "voipex-bridge topics apply; check the clocks of this host and of the brokers"
        case DeliveryFault.REFUSED:
            return "see the brokers' logs; exempt the topic from their policies"
        case _:
            return "voipex-bridge topics apply"


def _is_dead_letters(topic: str) -> bool:
    return topic.partition(".")[2] == DEAD_LETTERS.suffix  # names of PBXs have no dot


def _event_id(record: Record) -> str | None:
    for name, value in record.headers:
        if name in ("ce_id", "bridge-event-id"):
            return value.decode(errors="replace")
    return None
