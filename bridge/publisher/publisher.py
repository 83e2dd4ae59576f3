"""
From the spool to Kafka: in order per partition, at least once, whatever happens to the brokers.

`run` repeats, until the backlog is sealed and empty:

(1) Take the next records, bounded by count and bytes.
(2) Line them up by partition, order kept.
(3) Send one batch per partition and await **all** of them, with a watch on time.
(4) Acknowledge up to the first record that is not delivered; what is not delivered goes back to (3).
(5) Pause a few milliseconds unless more waits: events gather, and the answers to the PBX come first.

A later record of a partition is never sent before the earlier one is acknowledged, and one task does all this.

When it fails:

- No broker answers: the producer is kept and retries by itself, which makes no copies. After `watchdog_s` a new one is built, since the
  client asks only the brokers it knows.
- A delivery fails: the producer is dropped (its sequence numbers have a gap, that partition would be refused for ever), and after a
  pause a new one sends again what is not acknowledged. That may make copies; readers know them by their event id.
- The topic or the partition is not there, or a right is missing: wait, and say so.
- The broker refuses a batch as such (too large, invalid): it is halved until the record is found. Refused alone and again by a new
  producer, it becomes a dead letter; when even that is too large, one with a shortened value. So the line goes on.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal, NamedTuple, Protocol

from prometheus_client import Counter, Histogram

from bridge.metrics import Metrics
from bridge.spool.spool import Spooled
from voipex.dead_letters import undeliverable
from voipex.errors import KafkaAccessDenied, TopicMismatch
from voipex.records import SEQ_HEADER, SPOOL_ID_HEADER, Record
from voipex.service.logging import get_logger
from voipex.timestamps import rfc3339

Fault = Literal["retry", "topic", "rights", "too_large", "refused", "unsure"]
"""What a failed delivery means; `unsure`: refused, but perhaps not for the record's sake."""

_MAX_RECORDS: Final = 2000
_MAX_BYTES: Final = 1024 * 1024
_MORE_WAITS: Final = 1000  # so many in one take: it is a backlog, no pause
_BUSY: Final = 40  # so many in one take: events come fast, and larger batches cost less for each
_ALONE_TRIES: Final[Mapping[Fault, int]] = {"too_large": 2, "refused": 2, "unsure": 5}
_SHORTENED_BYTES: Final = 64 * 1024  # an event's own fields come first in its value, foreign ones last

log = get_logger("publisher")


class Backlog(Protocol):
    """What is to be published: the spool."""

    async def take(self, max_records: int, max_bytes: int) -> Sequence[Spooled]:
        """At least one, waiting for it; all of one log. Empty once it is sealed and everything was taken. Cancelling it takes nothing."""
        ...

    def acknowledge(self, through: Spooled) -> None:
        """Forget everything of its log up to *through*."""
        ...


class Producer(Protocol):
    """One connection to Kafka; after a failed delivery a new one is made."""

    async def start(self) -> None: ...

    async def send(
        self, topic: str, partition: int, records: Iterable[Record]
    ) -> tuple[int, "asyncio.Future[object]"]:
        """Send the first *records* as one batch: how many fitted, and a future that is done when all in-sync replicas have them."""
        ...

    async def stop(self, timeout_s: float) -> None: ...

    def fault_of(self, error: BaseException) -> Fault: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Pauses and patience, in seconds."""

    gather_s: float = 0.005
    busy_gather_s: float = 0.02
    """While events come fast: a round costs a millisecond of the core that answers, however few records it carries."""
    """Longer ones save CPU for the answers, and every event waits half of it: at 1,000 events/s it is in Kafka after 4 ms."""
    silence_s: float = 5.0
    """Without an answer for so long: out of reach."""
    watchdog_s: float = 180.0
    """Without an answer for so long: a new producer."""
    first_backoff_s: float = 0.1
    most_backoff_s: float = 5.0
    say_every_s: float = 60.0
    stop_s: float = 1.0


@dataclass(frozen=True, slots=True)
class PublisherState:
    """For `/ready`."""

    reachable: bool
    since: str | None
    last_error: str | None
    """Class of the last failure, also when it is over."""
    generation: int
    """Producers built; 1 is normal."""


class _Place(NamedTuple):
    topic: str
    partition: int


class _Failure:
    """`batch`: records in the batch that failed; 0: it was not sent."""

    def __init__(self, error: BaseException, batch: int) -> None:
        self.error, self.batch = error, batch


class _NoAnswer(Exception):
    """The watch on time ran out; whether the batch arrived is unknown."""


_Lines = dict[_Place, list[Spooled]]


class Publisher:
    """
    Drains *backlog*. `make_producer` gives a new, unstarted producer; `partitions` is the number of every topic.

    `run` may be cancelled at any time and ends within `Timing.stop_s`: what is not acknowledged stays in the backlog.
    """

    def __init__(
        self,
        backlog: Backlog,
        make_producer: Callable[[], Producer],
        metrics: Metrics,
        *,
        partitions: int,
        timing: Timing | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backlog = backlog
        self._make_producer = make_producer
        self._partitions = partitions
        self._timing = timing or Timing()
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._figures = _Figures(metrics)
        self._state = PublisherState(reachable=False, since=None, last_error=None, generation=0)
        self._producer: Producer | None = None
        self._taking: asyncio.Task[Sequence[Spooled]] | None = None
        self._stopping = False
        self._failures = 0
        self._said_at: dict[str, float] = {}
        self._batch_records = _MAX_RECORDS

    @property
    def state(self) -> PublisherState:
        return self._state

    def stop(self) -> None:
        """End `run` after the batch in hand; what remains stays in the backlog. To drain it, seal it instead."""
        self._stopping = True
        if self._taking is not None:
            self._taking.cancel()

    async def run(self) -> None:
        """Publish until the backlog is sealed and empty, or `stop`."""
        try:
            while not self._stopping:
                taken = await self._take()  # (1)
                if not taken:
                    return
                await self._deliver(taken)
                if len(taken) < _MORE_WAITS:  # (5)
                    busy = len(taken) >= _BUSY
                    await asyncio.sleep(self._timing.busy_gather_s if busy else self._timing.gather_s)
        finally:
            await self._drop_producer()

    # ------------------------------------------------------------------------------------------------ the way of a batch

    async def _take(self) -> Sequence[Spooled]:
        """Step (1); until Kafka answered once, connect meanwhile."""
        self._taking = taking = asyncio.ensure_future(self._backlog.take(_MAX_RECORDS, _MAX_BYTES))
        try:
            while self._producer is None and not taking.done():
                if await self._connect_once() is None:
                    await asyncio.wait({taking}, timeout=self._backoff_s())
            return await taking
        except asyncio.CancelledError:
            if self._stopping and taking.cancelled():
                return ()
            raise
        finally:
            taking.cancel()
            self._taking = None

    async def _deliver(self, taken: Sequence[Spooled]) -> None:
        """Steps (2) to (4)."""
        lines: _Lines = {}
        for spooled in taken:  # (2)
            record = spooled.record
            lines.setdefault(_Place(record.topic, record.partition), []).append(spooled)
        refusals = _Refusals(self._batch_records)
        acknowledged = 0
        while lines:
            failed = await self._send(lines, refusals)  # (3)
            acknowledged = self._acknowledge(taken, lines, acknowledged)  # (4)
            if failed:
                await self._recover(lines, failed, refusals)
        self._batch_records = refusals.learnt(self._batch_records)

    async def _send(self, lines: _Lines, refusals: "_Refusals") -> dict[_Place, _Failure]:
        """Step (3): one batch for each line; what was delivered leaves its line, what failed is returned."""
        producer = await self._connect()
        began = self._monotonic()
        sent: dict[_Place, tuple[int, asyncio.Future[object]]] = {}
        failed: dict[_Place, _Failure] = {}
        for place, line in lines.items():
            try:
                sent[place] = await producer.send(*place, _stamped(line[: refusals.most_in(place)]))
            except Exception as error:  # noqa: BLE001 - whatever the client raises, the record stays here
                failed[place] = _Failure(error, 0)
        await self._watch([future for _, future in sent.values()], began)

        delivered: list[tuple[str, list[Spooled]]] = []
        for place, (count, future) in sent.items():
            if not future.done() or future.cancelled():
                failed[place] = _Failure(_NoAnswer(), count)
                continue
            fault = future.exception()
            if fault is not None:
                failed[place] = _Failure(fault, count)
                continue
            line = lines[place]
            delivered.append((place.topic, line[:count]))
            del line[:count]
            if not line:
                del lines[place]
        if delivered:
            self._reached()
            self._figures.delivered(delivered, self._monotonic() - began, self._now_ms())
        return failed

    async def _watch(self, futures: Sequence["asyncio.Future[object]"], began: float) -> None:
        """Wait for all; say so when nothing answers. Gives up at the watchdog's time, or soon once one has failed: a new producer follows."""
        pending = set(futures)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=self._timing.silence_s)
            if not pending:
                return
            if not done:
                self._out_of_reach("no answer", f"no answer for {self._timing.silence_s:.0f} s")
            broken = any(future.done() and _has_failed(future) for future in futures)
            if broken or self._monotonic() - began > self._timing.watchdog_s:
                return

    def _acknowledge(self, taken: Sequence[Spooled], lines: _Lines, acknowledged: int) -> int:
        """Step (4); how many of *taken* are acknowledged now."""
        waiting = {spooled.seq for line in lines.values() for spooled in line}  # all of one log
        through = acknowledged
        while through < len(taken) and taken[through].seq not in waiting:
            through += 1
        if through > acknowledged:
            self._backlog.acknowledge(taken[through - 1])
        return through

    # ------------------------------------------------------------------------------------------------ failures

    async def _recover(self, lines: _Lines, failed: Mapping[_Place, _Failure], refusals: "_Refusals") -> None:
        """Drop the producer, decide what each failure means, wait."""
        producer = self._producer
        fault_of = producer.fault_of if producer is not None else _retry
        faults = {place: fault_of(failure.error) for place, failure in failed.items()}
        if any(failure.batch or faults[place] == "retry" for place, failure in failed.items()):
            await self._drop_producer()
        self._failures += 1
        for place, failure in failed.items():
            fault = faults[place]
            self._figures.failed(place.topic, failure.batch)
            self._say_failure(place, failure.error, fault)
            if failure.batch and fault in _ALONE_TRIES:
                refused = refusals.again(place, lines[place][0], failure.batch, fault)
                if refused is not None:
                    self._bury(refused, failure.error, lines, refusals)
        await asyncio.sleep(self._backoff_s())

    def _bury(self, spooled: Spooled, error: BaseException, lines: _Lines, refusals: "_Refusals") -> None:
        """Take the record that Kafka refuses out of its line; a dead letter goes on in its place."""
        place = _Place(spooled.record.topic, spooled.record.partition)
        line = lines[place]
        del line[0]
        if not line:
            del lines[place]
        letter = self._letter(spooled, type(error).__name__, refusals)
        if letter is not None:
            lines.setdefault(_Place(letter.topic, letter.partition), []).append(
                Spooled(spooled.spool_id, spooled.seq, letter)
            )

    def _letter(self, spooled: Spooled, reason: str, refusals: "_Refusals") -> Record | None:
        """First a dead letter with all of it, then one with a shortened value; None when even that was refused."""
        record = spooled.record
        event_id = _event_id(record)
        pbx = record.topic.partition(".")[0]  # names of PBXs have no dot
        step = refusals.next_step(spooled)
        if step == 0:
            log.warning("Kafka refuses a record; it becomes a dead letter", event_id=event_id, reason=reason)
            letter = undeliverable(record, f"Kafka refused it: {reason}", pbx, self._partitions)
            self._figures.dead(record.topic, letter.topic)
            return letter
        if step == 1 and len(record.value) > _SHORTENED_BYTES:
            log.error(
                "the dead letter was refused too; it is shortened",
                event_id=event_id,
                reason=reason,
                from_bytes=len(record.value),
                to_bytes=_SHORTENED_BYTES,
            )
            headers = (*record.headers, ("bridge-shortened-from", str(len(record.value)).encode()))
            return record._replace(value=record.value[:_SHORTENED_BYTES], headers=headers)
        log.error("a record is lost: Kafka refused it and its dead letter", event_id=event_id, reason=reason)
        self._figures.lost(record.topic)
        return None

    def _say_failure(self, place: _Place, error: BaseException, fault: Fault) -> None:
        name = type(error).__name__
        self._state = replace(self._state, last_error=name)
        more: dict[str, str] = {}
        if fault == "topic":
            said = (
                "a topic or partition is not there; its events wait in the spool (voipex-bridge topics apply)"
            )
        elif fault == "rights":
            said = "Kafka refuses us the right to write; events wait in the spool"
            more = {
                "right": "Write",
                "remedy": f"kafka-acls.sh --add --allow-principal User:NAME --operation Write --topic {place.topic}",
            }
        else:
            if self._may_say("delivery"):
                log.warning(
                    "delivery failed, sending again", topic=place.topic, partition=place.partition, error=name
                )
            return
        if self._may_say(f"{fault} {place.topic}"):
            log.error(said, topic=place.topic, partition=place.partition, error=name, **more)

    def _may_say(self, what: str) -> bool:
        """Once a minute for each thing."""
        now = self._monotonic()
        said_at = self._said_at.get(what)
        if said_at is not None and now - said_at < self._timing.say_every_s:
            return False
        self._said_at[what] = now
        return True

    def _backoff_s(self) -> float:
        doublings = min(max(0, self._failures - 1), 20)
        return min(self._timing.most_backoff_s, self._timing.first_backoff_s * (1 << doublings))

    # ------------------------------------------------------------------------------------------------ the producer

    async def _connect(self) -> Producer:
        while True:
            producer = await self._connect_once()
            if producer is not None:
                return producer
            await asyncio.sleep(self._backoff_s())

    async def _connect_once(self) -> Producer | None:
        """Have a producer; None when Kafka does not answer."""
        if self._producer is not None:
            return self._producer
        producer = self._make_producer()
        try:
            await producer.start()
        except Exception as error:  # noqa: BLE001 - whatever is wrong out there, events wait in the spool
            self._failures += 1
            self._out_of_reach(
                type(error).__name__,
                str(error),
                for_a_person=isinstance(error, KafkaAccessDenied | TopicMismatch),
            )
            return None
        self._producer = producer
        self._state = replace(self._state, generation=self._state.generation + 1)
        self._figures.generation(self._state.generation)
        self._reachable()
        return producer

    async def _drop_producer(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with contextlib.suppress(Exception):  # it is given up in any case
                await producer.stop(self._timing.stop_s)

    def _reached(self) -> None:
        self._failures = 0
        self._reachable()

    def _reachable(self) -> None:
        if not self._state.reachable:
            self._state = replace(self._state, reachable=True, since=rfc3339(self._now_ms() * 1000))
            self._figures.reachable(1)
            self._said_at.clear()
            log.info("Kafka is in reach", generation=self._state.generation)

    def _out_of_reach(self, error: str, cause: str, *, for_a_person: bool = False) -> None:
        if self._state.reachable or self._state.since is None:
            self._state = replace(self._state, reachable=False, since=rfc3339(self._now_ms() * 1000))
            self._figures.reachable(0)
        self._state = replace(self._state, last_error=error)
        if for_a_person:
            if self._may_say(cause):  # one fault is mended, and the next one shows: that is news
                log.error("Kafka cannot be used; events are accepted and wait in the spool", cause=cause)
        elif self._may_say("reach"):
            log.warning("Kafka is out of reach; events are accepted and wait in the spool", cause=cause)


def _stamped(line: Iterable[Spooled]) -> Iterator[Record]:
    """Records with the headers that say which spool took them and where they stood in it."""
    for spooled in line:
        topic, partition, key, value, headers, timestamp_ms = spooled.record
        yield Record(
            topic,
            partition,
            key,
            value,
            (*headers, (SPOOL_ID_HEADER, spooled.spool_id.encode()), (SEQ_HEADER, b"%d" % spooled.seq)),
            timestamp_ms,
        )


def _retry(_: BaseException) -> Fault:
    return "retry"


def _has_failed(future: "asyncio.Future[object]") -> bool:
    return future.cancelled() or future.exception() is not None


def _event_id(record: Record) -> str | None:
    for name, value in record.headers:
        if name in ("ce_id", "bridge-event-id"):
            return value.decode(errors="replace")
    return None


class _Refusals:
    """What Kafka refused of one take: batches are halved until the record is alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limits: dict[_Place, int] = {}
        self._tries: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        self._halved_for_size: set[_Place] = set()
        self._buried_for_size: set[_Place] = set()

    def most_in(self, place: _Place) -> int:
        """How many records the next batch of *place* may have."""
        return self._limits.get(place, self._most)

    def again(self, place: _Place, first: Spooled, batch: int, fault: Fault) -> Spooled | None:
        """Note that a batch, which began with *first*, was refused; return the record to give up, if it is certain."""
        if batch > 1:
            self._limits[place] = batch // 2
            if fault == "too_large":
                self._halved_for_size.add(place)
            return None
        self._limits[place] = 1
        tries = self._tries[first.seq] = self._tries.get(first.seq, 0) + 1
        if tries < _ALONE_TRIES[fault]:
            return None
        del self._tries[first.seq]
        if fault == "too_large":
            self._buried_for_size.add(place)
        return first

    def next_step(self, spooled: Spooled) -> int:
        """How often this record was given up before."""
        step = self._steps.get(spooled.seq, 0)
        self._steps[spooled.seq] = step + 1
        return step

    def learnt(self, most: int) -> int:
        """Records per batch from now on: fewer when batches were too large though no single record was, so the topic's limit is low."""
        for place in self._halved_for_size - self._buried_for_size:
            if self._limits[place] < most:
                most = self._limits[place]
                log.warning(
                    "the topic's max.message.bytes is low; smaller batches from now on",
                    topic=place.topic,
                    records=most,
                )
        return most


class _Figures:
    """The publisher's metrics, with the children at hand."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._delivered: Callable[[str], Counter] = cache(
            lambda topic: metrics.publish.labels(topic, "delivered")
        )
        self._duration: Callable[[str], Histogram] = cache(metrics.publish_duration.labels)
        metrics.kafka_reachable.set(0)

    def delivered(self, batches: Iterable[tuple[str, Sequence[Spooled]]], took_s: float, now_ms: int) -> None:
        counts: dict[str, int] = {}
        oldest_ms: dict[str, int] = {}
        for topic, batch in batches:
            counts[topic] = counts.get(topic, 0) + len(batch)
            oldest_ms[topic] = min(oldest_ms.get(topic, now_ms), batch[0].record.timestamp_ms)
        for topic, count in counts.items():
            self._delivered(topic).inc(count)
            self._duration(topic).observe(took_s)
            self._metrics.event_age.observe(max(0, now_ms - oldest_ms[topic]) / 1000)

    def failed(self, topic: str, count: int) -> None:
        self._metrics.publish.labels(topic, "failed").inc(count)

    def dead(self, topic: str, letter_topic: str) -> None:
        self._metrics.publish.labels(topic, "dead").inc()
        self._metrics.dead_letters.labels(letter_topic, "ingress").inc()

    def lost(self, topic: str) -> None:
        self._metrics.publish.labels(topic, "lost").inc()

    def generation(self, number: int) -> None:
        self._metrics.producer_generation.set(number)

    def reachable(self, value: int) -> None:
        self._metrics.kafka_reachable.set(value)
