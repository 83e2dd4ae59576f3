"""
Task: one partition of one PBX, exactly once (ADR 2).

Invariants, which hold at every moment, whatever is killed, frozen or lost:

    I1  One writer: a task has one transactional.id; only its holder writes the task's changelog partition and commits its offsets.
    I2  Changelog, documents, dead letters and input offsets of a batch are one transaction.
    I3  The store is the committed changelog up to its checkpoint, never ahead of it. Uncommitted changes live in the BatchResult only.
    I4  The input position is the group's offset as read after fencing.
    I5  The fold is pure; the only time it sees is `as_of`.
    I6  Everything the fold needs (event ids, deadlines, open calls) is in the changelog.
    I7  All topics of a PBX have the same number of partitions, checked at the start.
    I8  Any doubt about the store: wipe it and restore.
    I9  Records are folded only between restored and revoked.

Steps of a batch:

    (1) buffer records until the interval since the first one is over, or the batch is full; the session goes on polling meanwhile
    (2) fold them into a BatchResult, with the parts of states that are needed; a record that cannot be folded becomes a dead letter
    (3) begin the transaction
    (4) send changelog, documents and dead letters, each to the partition of its key
    (5) await every delivery: a commit would succeed although one failed, so these futures are the only evidence
    (6) add the input offsets
    (7) commit
    (8) write the changes and the checkpoint to the store
    (9) drop the BatchResult

A failure from (3) to (8) leaves the outcome unknown: the task ends with TaskFailed, and its runner starts again with a restore.

Timers take the same steps without input offsets. They fire once every record is folded that was in the input topics at some moment
after the deadline. Otherwise a task that catches up would call a call stale whose end it has not read yet.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from consumers.engine.batch import Batch, BatchResult
from consumers.engine.database import Checkpoint
from consumers.engine.errors import InvalidState, ProducerFenced, TaskFailed
from consumers.engine.metrics import Metrics
from consumers.engine.projection import Projection
from consumers.engine.records import (
    ConsumerRecord,
    InputRecord,
    ProducerRecord,
    Source,
    TaskId,
    TopicPartition,
)
from consumers.engine.store import Store
from consumers.engine.task_report import TaskReport
from voipex.service.logging import cause_of
from voipex.topics import TopicSpec, topic_name

State = TypeVar("State")

MAX_TIMERS: Final = 300
"""Timers per transaction: each holds a state and a document in memory, in as many tasks as there are partitions."""
IDLE_COMMIT_S: Final = 30.0
"""Idle time after which the positions are committed past the transaction markers behind the last records."""
_POSITION_RETRY_S: Final = 0.2  # between two looks at the position while timers wait for it

_SLICE_S: Final = 0.02
"""Time to fold until heartbeats, polls and probes get their turn."""


class Producer(Protocol):
    """
    A transactional producer: one transaction after the other. Any error leaves the outcome unknown.

    Raises ProducerFenced when the broker refuses the producer's epoch.
    """

    async def begin(self) -> None: ...
    async def send(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> int:
        """Return the offset of the last record once all in-sync replicas have it."""
        ...

    async def add_offsets(self, offsets: Mapping[TopicPartition, int], group: str) -> None: ...
    async def commit(self) -> None: ...


class InputOffsets(Protocol):
    """How far the input partitions were read, and how far they go."""

    async def position(self, partition: TopicPartition) -> int:
        """Return the next offset to read; every record below it has been added to its task."""
        ...

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]: ...


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """What all tasks of a service share. `partitions_of`: number of partitions of each topic, by PBX. `now_us`: the only clock of timers."""

    group: str
    partitions_of: Callable[[str], int]
    commit_interval_s: float
    transaction_limit_s: float
    cluster_id: str
    now_us: Callable[[], int]


@dataclass(frozen=True, slots=True)
class EndOffsets:
    """The ends of the input partitions, read after `as_of_us`: all records received until then lie before them."""

    as_of_us: int
    offsets: Mapping[TopicPartition, int]


class Task(Generic[State]):
    """Uses a restored store and a fenced producer exclusively, and closes neither."""

    def __init__(
        self,
        projection: Projection[State],
        task_id: TaskId,
        config: TaskConfig,
        store: Store,
        producer: Producer,
        input_offsets: InputOffsets,
        positions: Mapping[TopicPartition, int],
        metrics: Metrics,
    ) -> None:
        self._projection = projection
        self._task_id = task_id
        self._config = config
        self._store = store
        self._producer = producer
        self._input_offsets = input_offsets
        self._report = TaskReport(metrics, projection.name, task_id, config.now_us)
        self._batch = Batch(projection, task_id, config.partitions_of(task_id.pbx), config.now_us)
        self._changelog = TopicPartition(topic_name(task_id.pbx, projection.changelog), task_id.partition)
        self._changelog_next = store.checkpoint.changelog_next if store.checkpoint is not None else 0
        self._kinds: dict[str, TopicSpec] = {
            topic_name(task_id.pbx, kind): kind for kind in projection.inputs
        }
        self._inputs = {kind: TopicPartition(topic, task_id.partition) for topic, kind in self._kinds.items()}
        self._positions = dict(positions)
        self._buffer: deque[InputRecord] = deque()
        self._uncommitted = Counter[TopicSpec]()
        self._first_buffered_s = 0.0
        self._wake = asyncio.Event()
        self._busy_since_s: float | None = None
        self._closing = False
        self._failure: str | None = None
        self._end_offsets: EndOffsets | None = None
        self._last_source: Source | None = None
        self._idle_commit_at_s: float | None = None

    @property
    def store(self) -> Store:
        return self._store

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """By input partition, the next offset that is not committed."""
        return self._positions

    @property
    def busy_since_s(self) -> float | None:
        """When the batch or the timers in progress began, on the clock of the event loop; None: the task waits for something to do."""
        return self._busy_since_s

    @property
    def buffered(self) -> int:
        """Number of records that wait to be folded."""
        return len(self._buffer)

    def uncommitted(self, topic: str) -> int:
        """Return the number of records of an input topic that were added and are not committed."""
        return self._uncommitted[self._kinds[topic]]

    def add_records(self, topic: str, records: Iterable[ConsumerRecord]) -> None:
        """Buffer the next records of an input topic: step (1), called by the session."""
        kind = self._kinds[topic]
        if not self._buffer:
            self._first_buffered_s = asyncio.get_running_loop().time()
        before = len(self._buffer)
        self._buffer.extend([InputRecord(kind, record) for record in records])
        self._uncommitted[kind] += len(self._buffer) - before
        self._wake.set()

    def close(self) -> None:
        """End after the batch in progress. The next owner of the partitions reads the rest of the buffer again."""
        self._closing = True
        self._wake.set()

    def fail(self, reason: str) -> None:
        """End with TaskFailed: what was added cannot be trusted."""
        self._failure = reason
        self.close()

    async def run(self) -> None:
        """
        Work until closed.

        Raises:
            TaskFailed: restore, and make a new task.
            InvalidState: the same, from the changelog's beginning.
        """
        loop = asyncio.get_running_loop()
        try:
            while not self._closing:
                if not self._buffer:
                    self._busy_since_s = loop.time()
                    await self._fire_timers()
                    await self._commit_idle_positions()
                    self._busy_since_s = None
                    await self._wait()
                elif await self._fill_buffer():
                    self._busy_since_s = loop.time()
                    await self.process_batch(self._next_batch())
                    await self._fire_timers()
                    self._busy_since_s = None
            if self._failure is not None:
                raise TaskFailed(self._failure)  # noqa: TRY301 - as any other
        except (TaskFailed, InvalidState):
            raise
        except Exception as error:
            raise TaskFailed(cause_of(error)) from error

    # ---------------------------------------------------------------- waiting

    async def _fill_buffer(self) -> bool:
        """Step (1). Return False when the task was closed meanwhile."""
        loop = asyncio.get_running_loop()
        until_s = self._first_buffered_s + self._config.commit_interval_s
        while len(self._buffer) < self._projection.max_batch_records and not self._closing:
            self._wake.clear()
            if not await self._woken_within(until_s - loop.time()):
                break
        return not self._closing

    def _next_batch(self) -> list[InputRecord]:
        size = min(self._projection.max_batch_records, len(self._buffer))
        return [self._buffer.popleft() for _ in range(size)]

    async def _wait(self) -> None:
        """Return when there are records, a timer is due, idle positions are to be committed, or the task is closed."""
        self._wake.clear()
        if self._buffer or self._closing:
            return
        waits_s = []
        if self._end_offsets is not None:
            waits_s.append(_POSITION_RETRY_S)
        elif self._store.next_due_us is not None:
            waits_s.append((self._store.next_due_us - self._config.now_us()) / 1e6)
        if self._idle_commit_at_s is not None:
            waits_s.append(self._idle_commit_at_s - asyncio.get_running_loop().time())
        if waits_s:
            await self._woken_within(min(waits_s))
        else:
            await self._wake.wait()

    async def _woken_within(self, timeout_s: float) -> bool:
        if timeout_s <= 0:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    # ---------------------------------------------------------------- a batch

    async def process_batch(self, inputs: Sequence[InputRecord]) -> None:
        """Take steps (2) to (9)."""
        offsets = self._offsets_after(inputs)
        with self._report.processing():
            states = await self._store.read(self._batch.keys(inputs))  # (2)
            result = BatchResult()
            await self._fold(result, self._batch.fold_steps(result, inputs, states))
            await self._write(result, offsets)
        last = inputs[-1]
        self._last_source = Source(self._inputs[last.kind].topic, last.record.offset)
        self._uncommitted -= Counter([each.kind for each in inputs])
        self._report.batch(inputs, result)
        self._idle_commit_at_s = asyncio.get_running_loop().time() + IDLE_COMMIT_S

    async def _fold(self, result: BatchResult, steps: Iterator[None]) -> None:
        """Take all *steps*, and those of keys that wait for parts of their states."""
        await _in_slices(steps)
        while result.waiting:
            needed = {key: each.names for key, each in result.waiting.items()}
            await _in_slices(self._batch.resume_steps(result, await self._store.read_parts(needed)))
        self._report.failures(result)

    async def _commit_idle_positions(self) -> None:
        """
        Commit the positions once no records have come for a while. They are past the transaction markers at the end of the topics; an
        offset before a marker would look lost once retention has deleted everything before it.
        """
        if self._idle_commit_at_s is None or asyncio.get_running_loop().time() < self._idle_commit_at_s:
            return
        self._idle_commit_at_s = None
        positions = {each: await self._input_offsets.position(each) for each in self._positions}
        # Look at the buffer last: a poll may have added records while we asked for the positions.
        if not self._buffer and positions != self._positions:
            await self._write(BatchResult(), positions)

    async def _write(self, result: BatchResult, offsets: Mapping[TopicPartition, int]) -> None:
        producer = self._producer
        try:
            async with asyncio.timeout(self._config.transaction_limit_s):
                await producer.begin()  # (3)
                changelog_next = await self._send(result)  # (4), (5)
                await producer.add_offsets(offsets, self._config.group)  # (6)
                await producer.commit()  # (7)
        except Exception as error:
            causes = error.exceptions if isinstance(error, ExceptionGroup) else (error,)  # of (4) and (5)
            fenced = any(isinstance(each, ProducerFenced) for each in causes)
            self._report.transaction("fenced" if fenced else "failed")
            raise TaskFailed(f"transaction: {cause_of(causes[0])}", fenced=fenced) from error
        self._report.transaction("committed")
        self._positions.update(offsets)
        self._changelog_next = changelog_next
        await self._store.commit(result.changes, self._checkpoint(), result.parts)  # (8)

    async def _send(self, result: BatchResult) -> int:
        """Send all outputs concurrently; return the next offset of the changelog."""
        async with asyncio.TaskGroup() as group:
            sends = {
                target: group.create_task(self._producer.send(*target, records))
                for target, records in result.outputs.items()
            }
        changelog = sends.get(self._changelog)
        return self._changelog_next if changelog is None else changelog.result() + 1

    def _checkpoint(self) -> Checkpoint:
        config = self._config
        inputs_next = {partition.topic: offset for partition, offset in self._positions.items()}
        return Checkpoint(
            config.cluster_id,
            self._projection.fold_version,
            self._changelog_next,
            inputs_next,
            config.now_us(),
        )

    def _offsets_after(self, inputs: Sequence[InputRecord]) -> dict[TopicPartition, int]:
        """
        Return the offsets to commit: of every input, also of one without records yet. A restore takes states without an offset for lost
        offsets.

        Raises TaskFailed when a record is repeated or goes backwards: then another client moved the position (I4).
        """
        after = {kind: self._positions[partition] for kind, partition in self._inputs.items()}
        for each in inputs:
            offset = each.record.offset
            if offset < after[each.kind]:
                raise TaskFailed(f"{self._inputs[each.kind]} went backwards")
            after[each.kind] = offset + 1
        return {self._inputs[kind]: offset for kind, offset in after.items()}

    # ---------------------------------------------------------------- timers

    async def _fire_timers(self) -> None:
        """Emit documents of due keys, once every input record up to their deadline was folded."""
        if self._end_offsets is None:
            now_us, due_us = self._config.now_us(), self._store.next_due_us
            if due_us is None or due_us > now_us:
                return
            ends = await self._input_offsets.end_offsets(list(self._positions))
            self._end_offsets = EndOffsets(now_us, ends)
        if not await self._has_folded(self._end_offsets.offsets):
            return
        as_of_us = self._end_offsets.as_of_us
        due = await self._store.due_states(as_of_us, MAX_TIMERS)
        if due:
            result = BatchResult()
            steps = self._batch.timer_steps(result, due, as_of_us, self._last_source)
            await self._fold(result, steps)
            await self._write(result, {})
            self._report.timers(len(due), result)
        if len(due) < MAX_TIMERS:
            self._end_offsets = None

    async def _has_folded(self, ends: Mapping[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            position = await self._input_offsets.position(partition)
            # Look at the buffer last: a poll may have added records while we asked for the position.
            buffered = self._first_buffered_offset(partition.topic)
            if (position if buffered is None else buffered) < end:
                return False
        return True

    def _first_buffered_offset(self, topic: str) -> int | None:
        kind = self._kinds[topic]
        return next((each.record.offset for each in self._buffer if each.kind == kind), None)


async def _in_slices(steps: Iterator[None]) -> None:
    """Take all *steps*; let others have the event loop after every _SLICE_S."""
    clock = asyncio.get_running_loop().time
    slice_ends_s = clock() + _SLICE_S
    for _ in steps:
        if clock() >= slice_ends_s:
            await asyncio.sleep(0)
            slice_ends_s = clock() + _SLICE_S
