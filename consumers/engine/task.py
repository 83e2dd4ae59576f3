"""
Task: one partition of one PBX, exactly once (ADR 2).

What must hold at every moment, whatever is killed, frozen or lost:

    I1  One writer: a place (PBX and partition) has one transactional.id; only its holder writes that changelog partition and commits
        those offsets.
    I2  Changelog, documents, dead letters and input offsets of a batch are one transaction.
    I3  The store is the committed changelog up to its checkpoint, never ahead. What is not committed lives in the overlay only.
    I4  The input position is the group's offset as read after fencing.
    I5  The fold is pure; the only time it sees is `as_of`.
    I6  All that the fold needs (ids seen, deadlines, open calls) is in the changelog.
    I7  Partition counts of all topics of a PBX are equal and checked at the start.
    I8  Any doubt about the store: wipe it and restore.
    I9  Records are folded only between restored and revoked.

The steps of a batch:

    (1) gather records until the interval since the first one is over, or there are enough (the worker goes on polling meanwhile)
    (2) fold them on an overlay; what cannot be folded becomes a dead letter
    (3) begin the transaction
    (4) send: changelog, documents, dead letters; each to the partition that its key has
    (5) await every delivery. A commit would succeed although one failed: these futures are the only witnesses
    (6) add the input offsets
    (7) commit
    (8) keep the overlay in the store, with the checkpoint
    (9) drop the overlay

Whatever fails from (3) to (8) leaves the outcome unknown: the task ends with TaskBroken, and its owner begins with a restore.

Timers take the same steps without input offsets. They fire for keys that are due once everything has been folded that lay in the
input topics at a moment after the deadline: else a service that catches up would call a call stale whose end it has not read yet.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from consumers.engine.batch import Batch, Input, InputRecord, Output, Overlay, Place, Source
from consumers.engine.group import Partition, is_fenced
from consumers.engine.metrics import Metrics
from consumers.engine.projection import Projection
from consumers.engine.store import Checkpoint, Store
from voipex.topics import TopicKind, topic_name

State = TypeVar("State")

MAX_TIMERS: Final = 300
"""Of a transaction: each holds a state and a document in memory, in as many tasks as there are partitions."""
SETTLE_S: Final = 30.0
"""Without records for so long, the positions are committed past the markers that stand behind the last ones."""
_LOOK_AGAIN_S: Final = 0.2  # for the position to pass what it must before timers fire


class TaskBroken(Exception):
    """A batch has an unknown outcome. The task is of no use any more; nothing is lost."""

    def __init__(self, message: str, *, fenced: bool) -> None:
        super().__init__(message)
        self.fenced = fenced


class Producer(Protocol):
    """One transaction after the other; any error leaves the outcome unknown."""

    async def begin(self) -> None: ...
    async def send(self, topic: str, partition: int, records: Sequence[Output]) -> int: ...
    async def add_offsets(self, offsets: Mapping[Partition, int], group: str) -> None: ...
    async def commit(self) -> None: ...


class Reading(Protocol):
    """How far the inputs were read, and how far they go."""

    async def position(self, partition: Partition) -> int: ...
    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What all tasks of a service have in common."""

    group: str
    partitions: int
    interval_s: float
    transaction_limit_s: float
    cluster_id: str
    now_us: Callable[[], int]


class _Horizon(NamedTuple):
    """All that happened until `at_us` lies before `ends`."""

    at_us: int
    ends: Mapping[Partition, int]


class Task(Generic[State]):
    """Made of a restored store and a fenced producer, which it uses alone and does not close."""

    def __init__(
        self,
        projection: Projection[State],
        place: Place,
        terms: Terms,
        store: Store,
        producer: Producer,
        reading: Reading,
        positions: Mapping[Partition, int],
        metrics: Metrics,
    ) -> None:
        self._projection = projection
        self._place = place
        self._terms = terms
        self._store = store
        self._producer = producer
        self._reading = reading
        self._metrics = metrics
        self._batch = Batch(projection, place, terms.partitions)
        self._changelog = Partition(topic_name(place.pbx, projection.changelog), place.partition)
        self._changelog_next = store.checkpoint.changelog_next if store.checkpoint is not None else 0
        self._kinds: dict[str, TopicKind] = {topic_name(place.pbx, kind): kind for kind in projection.inputs}
        self._inputs = {kind: Partition(topic, place.partition) for topic, kind in self._kinds.items()}
        self._positions = dict(positions)
        self._inbox: deque[Input] = deque()
        self._unwritten: dict[str, int] = {}
        self._first_at_s = 0.0
        self._news = asyncio.Event()
        self._closing = False
        self._fault: str | None = None
        self._horizon: _Horizon | None = None
        self._last_source: Source | None = None
        self._settle_at_s: float | None = None

    @property
    def store(self) -> Store:
        return self._store

    @property
    def positions(self) -> Mapping[Partition, int]:
        """By input partition, the next offset that is not committed."""
        return self._positions

    @property
    def waiting(self) -> int:
        """Records that were taken and are not folded."""
        return len(self._inbox)

    def waiting_of(self, topic: str) -> int:
        """The same of one input topic, with those of the batch that is being written."""
        return self._unwritten.get(topic, 0)

    def take(self, topic: str, records: Iterable[InputRecord]) -> None:
        """Step (1), the worker's side: here are the next records of an input topic."""
        kind = self._kinds[topic]
        if not self._inbox:
            self._first_at_s = asyncio.get_running_loop().time()
        before = len(self._inbox)
        self._inbox.extend([Input(kind, record) for record in records])
        self._unwritten[topic] = self._unwritten.get(topic, 0) + len(self._inbox) - before
        self._news.set()

    def close(self) -> None:
        """End after the batch that is being written; what else was taken is read again by the next owner."""
        self._closing = True
        self._news.set()

    def fail(self, why: str) -> None:
        """What was taken is not to be trusted: break off."""
        self._fault = why
        self.close()

    async def run(self) -> None:
        """
        Work until closed.

        Raises:
            TaskBroken: restore, and make a new task.
        """
        try:
            while not self._closing:
                if not self._inbox:
                    await self._fire_due()
                    await self._settle()
                    await self._wait()
                elif await self._gather():
                    await self.step(self._next_batch())
                    await self._fire_due()
            if self._fault is not None:
                raise TaskBroken(self._fault, fenced=False)  # noqa: TRY301 - as any other
        except TaskBroken:
            raise
        except Exception as error:
            raise TaskBroken(f"{type(error).__name__} {error}".strip(), fenced=False) from error

    # ---------------------------------------------------------------- waiting

    async def _gather(self) -> bool:
        """Step (1); False: closed meanwhile."""
        loop = asyncio.get_running_loop()
        until_s = self._first_at_s + self._terms.interval_s
        while len(self._inbox) < self._projection.records_at_once and not self._closing:
            self._news.clear()
            if not await self._told_within(until_s - loop.time()):
                break
        return not self._closing

    def _next_batch(self) -> list[Input]:
        return [self._inbox.popleft() for _ in range(min(self._projection.records_at_once, len(self._inbox)))]

    async def _wait(self) -> None:
        """Until there are records, or a key is due, or the task is closed."""
        self._news.clear()
        if self._inbox or self._closing:
            return
        waits_s = []
        if self._horizon is not None:
            waits_s.append(_LOOK_AGAIN_S)
        elif self._store.next_due_us is not None:
            waits_s.append((self._store.next_due_us - self._terms.now_us()) / 1e6)
        if self._settle_at_s is not None:
            waits_s.append(self._settle_at_s - asyncio.get_running_loop().time())
        if waits_s:
            await self._told_within(min(waits_s))
        else:
            await self._news.wait()

    async def _told_within(self, timeout_s: float) -> bool:
        if timeout_s <= 0:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    # ---------------------------------------------------------------- a batch

    async def step(self, inputs: Sequence[Input]) -> None:
        """Steps (2) to (9)."""
        offsets = self._offsets_after(inputs)
        with self._metrics.processing_duration.labels(self._projection.name).time():
            states = await self._store.read(self._batch.keys(inputs))  # (2)
            overlay = self._batch.fold(inputs, states)
            await self._write(overlay, offsets)
        last = inputs[-1]
        self._last_source = Source(topic_name(self._place.pbx, last.kind), last.record.offset)
        self._count(inputs, overlay)
        self._settle_at_s = asyncio.get_running_loop().time() + SETTLE_S

    async def _settle(self) -> None:
        """
        Commit the positions once it is quiet: an offset that stands before a transaction's marker would look lost when the topic has
        forgotten all that lies before it.
        """
        if self._settle_at_s is None or asyncio.get_running_loop().time() < self._settle_at_s:
            return
        self._settle_at_s = None
        passed = {each: await self._reading.position(each) for each in self._positions}
        if not self._inbox and passed != self._positions:  # after the positions: a poll may have come between
            await self._write(Overlay(), passed)

    async def _write(self, overlay: Overlay, offsets: Mapping[Partition, int]) -> None:
        producer, outcome = self._producer, self._metrics.transactions
        try:
            async with asyncio.timeout(self._terms.transaction_limit_s):
                await producer.begin()  # (3)
                changelog_next = await self._send(overlay)  # (4), (5)
                await producer.add_offsets(offsets, self._terms.group)  # (6)
                await producer.commit()  # (7)
        except Exception as error:
            faults = error.exceptions if isinstance(error, ExceptionGroup) else (error,)  # of (4) and (5)
            fenced = any(map(is_fenced, faults))
            outcome.labels(self._projection.name, "fenced" if fenced else "failed").inc()
            cause = f"transaction: {type(faults[0]).__name__} {faults[0]}".strip()
            raise TaskBroken(cause, fenced=fenced) from error
        outcome.labels(self._projection.name, "committed").inc()
        self._positions.update(offsets)
        self._changelog_next = changelog_next
        await self._store.commit(overlay.changes, self._checkpoint())  # (8)

    async def _send(self, overlay: Overlay) -> int:
        """Everything of the overlay; returns the changelog's next offset."""
        places = list(overlay.outputs)
        async with asyncio.TaskGroup() as sending:
            sent = {
                each: sending.create_task(self._producer.send(*each, overlay.outputs[each]))
                for each in places
            }
        last = sent.get((self._changelog.topic, self._changelog.number))
        return self._changelog_next if last is None else last.result() + 1

    def _checkpoint(self) -> Checkpoint:
        terms = self._terms
        inputs_next = {partition.topic: offset for partition, offset in self._positions.items()}
        return Checkpoint(
            terms.cluster_id, self._projection.fold_version, self._changelog_next, inputs_next, terms.now_us()
        )

    def _offsets_after(self, inputs: Sequence[Input]) -> dict[Partition, int]:
        """
        What to commit: of every input, also of one without records yet, since states without an offset mean that it was lost.

        Raises TaskBroken when records come twice or backwards: then the position is not ours.
        """
        after = {kind: self._positions[partition] for kind, partition in self._inputs.items()}
        for each in inputs:
            offset = each.record.offset
            if offset < after[each.kind]:
                partition = self._inputs[each.kind]
                raise TaskBroken(f"{partition.topic} {partition.number} went backwards", fenced=False)
            after[each.kind] = offset + 1
        return {self._inputs[kind]: offset for kind, offset in after.items()}

    def _count(self, inputs: Sequence[Input], overlay: Overlay) -> None:
        metrics, name = self._metrics, self._projection.name
        for kind, number in Counter([each.kind for each in inputs]).items():
            topic = topic_name(self._place.pbx, kind)
            self._unwritten[topic] = self._unwritten.get(topic, number) - number
            metrics.records.labels(topic).inc(number)
        metrics.documents.labels(name).inc(overlay.documents)
        if overlay.dead_letters:
            metrics.dead_letters.labels(f"{self._place.pbx}.dead-letters.v1", name).inc(overlay.dead_letters)
        oldest_ms = min([each.record.timestamp for each in inputs])
        metrics.event_age.labels(name).observe(max(0.0, self._terms.now_us() / 1e6 - oldest_ms / 1e3))

    # ---------------------------------------------------------------- timers

    async def _fire_due(self) -> None:
        """Tell the keys whose time has come, should all be read that could matter to them."""
        if self._horizon is None:
            now_us, due_us = self._terms.now_us(), self._store.next_due_us
            if due_us is None or due_us > now_us:
                return
            self._horizon = _Horizon(now_us, await self._reading.ends(list(self._positions)))
        if not await self._has_read(self._horizon.ends):
            return
        rows = await self._store.due(self._horizon.at_us, MAX_TIMERS)
        if rows:
            overlay = self._batch.fire(rows, self._horizon.at_us, self._last_source)
            await self._write(overlay, {})
            self._metrics.timers_fired.labels(self._projection.name).inc(len(rows))
            self._metrics.documents.labels(self._projection.name).inc(overlay.documents)
        if len(rows) < MAX_TIMERS:
            self._horizon = None

    async def _has_read(self, ends: Mapping[Partition, int]) -> bool:
        for partition, end in ends.items():
            position = await self._reading.position(partition)
            taken = self._next_in_inbox(partition.topic)  # after the position: a poll may have come between
            if (position if taken is None else taken) < end:
                return False
        return True

    def _next_in_inbox(self, topic: str) -> int | None:
        kind = self._kinds[topic]
        return next((each.record.offset for each in self._inbox if each.kind == kind), None)
