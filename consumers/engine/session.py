"""
GroupSession: one membership of the consumer group, with one client.

A rebalance first revokes every partition: tasks finish their transaction and close. Then each assigned task id (a PBX and a partition
number: that partition of every input topic) gets a TaskRunner.

One loop polls for all running tasks and adds the records to their buffers. A partition whose task has enough is paused; no partition is polled
while all tasks together have enough.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from consumers.engine.errors import OffsetOutOfRange, RecordDamaged
from consumers.engine.group import GroupConsumer
from consumers.engine.metrics import Metrics
from consumers.engine.projection import Projection
from consumers.engine.records import TaskId, TopicPartition
from consumers.engine.runner import OPEN_TRANSACTION_GRACE_S, SessionContext, TaskRunner
from consumers.engine.stopping import unless_stopped
from consumers.engine.task import TaskConfig
from consumers.settings import Settings
from voipex.errors import KafkaUnreachable
from voipex.service.logging import get_logger
from voipex.topics import topic_name

State = TypeVar("State")

_POLL_MS: Final = 50
_SILENCE_LIMIT_S: Final = 60.0
"""
aiokafka asks only the brokers of its last metadata and never bootstraps again (aiokafka issue 456), so a client that no broker has
answered for this long is replaced.
"""
_WATCHDOG_INTERVAL_S: Final = 5.0

MAX_BUFFERED_RECORDS: Final = 16_000
"""Of all tasks, 3 KB each: with so many nothing more is polled. The poll that reaches it may add 8,000 more."""

log = get_logger("session")


class GroupSession(Generic[State]):
    """Run it once."""

    def __init__(
        self,
        projection: Projection[State],
        settings: Settings,
        metrics: Metrics,
        config: TaskConfig,
        consumer: GroupConsumer,
    ) -> None:
        self.runners: dict[TaskId, TaskRunner[State]] = {}
        self.joined = False
        self._settings = settings
        self._consumer = consumer
        self._projection = projection
        self._wake = asyncio.Event()
        self._context = SessionContext(
            projection, settings, metrics, config, consumer, self, self._wake.set, self.end
        )
        self._polling = asyncio.Lock()
        self._error: Exception | None = None
        self._turned_s: float | None = None
        self._open_transactions: dict[TopicPartition, tuple[int, float]] = {}
        self._logged_blocked: set[TopicPartition] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """
        Join the group, and work until `stopping`.

        Raises:
            KafkaUnreachable: start a new session.
        """
        inputs = [topic_name(pbx, kind) for pbx in self._settings.pbxs for kind in self._projection.inputs]
        try:
            await unless_stopped(stopping, self._consumer.start(inputs, self._on_assigned, self._on_revoked))
            await self._poll(stopping)
        finally:
            await self._on_revoked()
            await self._consumer.stop()
        if self._error is not None:
            raise self._error

    def end(self, error: Exception) -> None:
        """End the session with *error*; the first one counts."""
        self._error = self._error or error
        self._wake.set()

    # ---------------------------------------------------------------- for tasks: InputOffsets

    async def position(self, partition: TopicPartition) -> int:
        """Return the position between two polls, when every record below it has been added to its task."""
        async with self._polling:
            return await self._consumer.position(partition)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._consumer.end_offsets(partitions)

    # ---------------------------------------------------------------- for metrics and /ready

    def states(self) -> dict[str, int]:
        """Return the number of tasks by state."""
        return dict(Counter(runner.state.value for runner in self.runners.values()))

    def halted(self) -> dict[str, str]:
        """Return why tasks are halted, by task id."""
        return {
            str(task_id): runner.halted_because
            for task_id, runner in self.runners.items()
            if runner.halted_because is not None
        }

    def waiting(self) -> dict[str, str]:
        """Return what tasks wait for that do not run, or get no records, by task id."""
        return {
            **{str(_task_id(partition)): reason for partition, reason in self._blocked().items()},
            **{
                str(task_id): runner.waits_for
                for task_id, runner in self.runners.items()
                if runner.waits_for is not None
            },
        }

    def _blocked(self) -> dict[TopicPartition, str]:
        """Return which inputs stand before a transaction that has been open for longer than the services' own may be."""
        limit_s = self._settings.transaction_timeout_s + OPEN_TRANSACTION_GRACE_S
        return {
            partition: f"a transaction is open in {partition} since offset {offset}: docs/operations.md, A transaction hangs"
            for partition, (offset, since_s) in self._open_transactions.items()
            if time.monotonic() - since_s > limit_s
        }

    def stalled_because(self, limit_s: float) -> str | None:
        """Return what has not moved for *limit_s*, although every step of it has a shorter limit; None: everything moves."""
        if self._turned_s is not None and time.monotonic() - self._turned_s > limit_s:
            return "the poll loop stands"
        now_s = asyncio.get_running_loop().time()
        for task_id, runner in self.runners.items():
            since_s = None if runner.task is None else runner.task.busy_since_s
            if since_s is not None and now_s - since_s > limit_s:
                return f"task {task_id} has worked on one batch for {now_s - since_s:.0f} s"
        return None

    def lag(self) -> dict[TopicPartition, int]:
        """Return the number of records that are not committed yet, by input partition."""
        lag: dict[TopicPartition, int] = {}
        for runner in self.runners.values():
            if runner.task is not None:
                for partition in runner.inputs:
                    unread = self._consumer.lag(partition)
                    if unread is not None:
                        lag[partition] = unread + runner.task.uncommitted(partition.topic)
        return lag

    # ---------------------------------------------------------------- membership

    def _on_assigned(self, partitions: set[TopicPartition]) -> None:
        """Called by the client, before anything is fetched. Must neither fail nor take long: no heartbeats are sent meanwhile."""
        for runner in self.runners.values():  # a rebalance that revoked nothing
            runner.halt("assigned anew")
        # A topic that got partitions has some that nothing is written to: there is no task for them.
        used = {
            each
            for each in map(_task_id, partitions)
            if each.partition < self._context.config.partitions_of(each.pbx)
        }
        self.runners = {task_id: TaskRunner(self._context, task_id) for task_id in sorted(used)}
        self.joined = True
        log.info("partitions assigned", service=self._projection.name, tasks=",".join(map(str, self.runners)))
        self._wake.set()

    async def _on_revoked(self) -> None:
        self.joined = False
        runners, self.runners = list(self.runners.values()), {}
        await asyncio.gather(*(runner.close() for runner in runners))
        if runners:
            log.info("partitions revoked", service=self._projection.name, tasks=len(runners))

    # ---------------------------------------------------------------- polling

    async def _poll(self, stopping: asyncio.Event) -> None:
        stop = asyncio.create_task(stopping.wait())
        stop.add_done_callback(lambda _: self._wake.set())
        watched_s = time.monotonic()
        full: set[TaskId] = set()
        try:
            while not stopping.is_set() and self._error is None:
                self._turned_s = time.monotonic()
                self._wake.clear()
                running = {
                    task_id: runner for task_id, runner in self.runners.items() if runner.task is not None
                }
                full = self._apply_backpressure(running, full)
                if running and not _is_crowded(running.values()):
                    await self._poll_once(running)
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), _POLL_MS / 1000 if running else 1.0)
                if time.monotonic() - watched_s > _WATCHDOG_INTERVAL_S:
                    watched_s = time.monotonic()
                    self._watch(running.values())
        finally:
            self._turned_s = None
            stop.cancel()

    async def _poll_once(self, running: Mapping[TaskId, TaskRunner[State]]) -> None:
        requested = {partition: runner for runner in running.values() for partition in runner.inputs}
        tasks = {runner.task_id: runner.task for runner in running.values()}
        async with self._polling:
            self._check_continuity(running.values())
            try:
                polled = await self._consumer.poll(requested, _POLL_MS)
            except OffsetOutOfRange as error:
                # A rebalance may have replaced the runner during the poll: the new one has not sought yet, and will.
                self._halt(
                    each
                    for each in error.partitions
                    if (runner := self.runners.get(_task_id(each))) is not None
                    and runner is requested.get(each)
                    and runner.task is tasks[runner.task_id]
                )
                return
            except RecordDamaged as error:
                damaged = self.runners.get(_task_id(error.partition))
                if damaged is not None:
                    damaged.reread(error)
                return
            positions = self._consumer.positions(requested)
            for partition, requester in requested.items():
                # A rebalance may have replaced the runner during the poll. The new one has sought already, so it must get the records.
                records, runner = polled.get(partition), self.runners.get(_task_id(partition))
                if runner is None or runner.task is None:  # it seeks once it is restored
                    continue
                if records:
                    runner.task.add_records(partition.topic, records)
                if partition in positions and (records or runner.task is tasks[requester.task_id]):
                    runner.delivered[partition] = positions[partition]  # without records: past markers

    def _halt(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            runner = self.runners.get(_task_id(partition))
            if runner is not None:
                runner.halt(f"the next record of {partition} was deleted or lost")

    def _check_continuity(self, running: Iterable[TaskRunner[State]]) -> None:
        """Fail tasks that did not get what was polled. The records would be missing in documents, and no lag would show it."""
        for runner in running:
            for partition, position in self._consumer.positions(runner.inputs).items():
                delivered = runner.delivered.get(partition)
                if delivered != position and runner.task is not None:
                    runner.task.fail(f"{partition} is at {position}, delivered up to {delivered}")

    def _apply_backpressure(
        self, running: Mapping[TaskId, TaskRunner[State]], full: set[TaskId]
    ) -> set[TaskId]:
        """Pause the partitions of tasks that became full, resume those that are no longer; return the full ones."""
        now = {
            task_id
            for task_id, runner in running.items()
            if runner.task is not None and runner.task.buffered >= self._projection.max_batch_records
        }
        for task_id in now - full:
            self._consumer.pause(running[task_id].inputs)
        for task_id in full - now:
            if task_id in running:
                self._consumer.resume(running[task_id].inputs)
        return now

    def _watch_open_transactions(self, running: Iterable[TaskRunner[State]]) -> None:
        """Note since when the first open transaction of each input is the same one."""
        before = self._open_transactions
        self._open_transactions = {
            partition: before[partition]
            if partition in before and before[partition][0] == offset
            else (offset, time.monotonic())
            for runner in running
            for partition in runner.inputs
            if (offset := self._consumer.open_transaction(partition)) is not None
        }
        for partition, reason in self._blocked().items():
            if partition not in self._logged_blocked:
                log.error("input blocked", topic=partition.topic, partition=partition.partition, cause=reason)
        self._logged_blocked = set(self._blocked())

    def _watch(self, running: Collection[TaskRunner[State]]) -> None:
        """End the session when no broker answers: brokers answer fetches also when there are no records."""
        fetches_ms = [
            self._consumer.last_fetch_ms(partition) for runner in running for partition in runner.inputs
        ]
        self._watch_open_transactions(running)
        newest_ms = max((at_ms for at_ms in fetches_ms if at_ms), default=None)
        if newest_ms is not None and time.time() * 1000 - newest_ms > _SILENCE_LIMIT_S * 1000:
            self.end(KafkaUnreachable(f"no broker has answered for {_SILENCE_LIMIT_S:.0f} s"))


def _is_crowded(runners: Iterable[TaskRunner[State]]) -> bool:
    buffered = sum([runner.task.buffered for runner in runners if runner.task is not None])
    return buffered >= MAX_BUFFERED_RECORDS


def _task_id(partition: TopicPartition) -> TaskId:
    return TaskId(partition.topic.split(".", 1)[0], partition.partition)
