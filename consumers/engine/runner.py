"""
TaskRunner: restores the task of assigned partitions, runs it, and restores it again whenever it fails, until they are revoked.

Only a restore tells what was committed, so a failed task is never continued. A runner that finds its offsets lost, a transaction without an
end or a state that cannot be read halts: a person must decide, and no retry would change it. One that is fenced twice in a row ends the session: another instance works on the same partitions, or the brokers stall, and only
the group can say which member should go on.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from consumers.engine.access import admin_client_id, check_access, required_acls
from consumers.engine.changelog import Changelogs
from consumers.engine.errors import (
    OFFSETS_LOST,
    InvalidState,
    PersonNeeded,
    RecordDamaged,
    StoreCorrupted,
    TaskFailed,
)
from consumers.engine.group import GroupConsumer
from consumers.engine.metrics import Metrics
from consumers.engine.projection import Projection
from consumers.engine.records import TaskId, TopicPartition
from consumers.engine.restore import RestorePlan, restore
from consumers.engine.store import Store
from consumers.engine.task import InputOffsets, Task, TaskConfig
from consumers.engine.task_state import TaskState, transition
from consumers.engine.transactions import TransactionalProducer
from consumers.settings import Settings
from voipex.errors import KafkaAccessDenied, KafkaUnavailable, KafkaUnreachable, TopicsMissing
from voipex.service.logging import LogThrottle, cause_of, get_logger
from voipex.topics import DEAD_LETTERS, topic_name, topics_for

State = TypeVar("State")

BACKOFF_S: Final = (0.2, 1.0, 2.0, 5.0)
STABLE_AFTER_S: Final = 30.0
"""A failure after this long has a new cause: the backoff starts again."""
_MAX_DAMAGES: Final = 3
"""Wrong checksums in a row until it is the broker's disk, not the network or memory."""
LOG_INTERVAL_S: Final = 60.0
"""What is retried is logged once, and then once a minute."""
_CLOSE_TIMEOUT_S: Final = 20.0
"""For the transaction in flight; twice this must fit into the rebalance timeout."""
_MAX_FENCES: Final = 2
OPEN_TRANSACTION_GRACE_S: Final = 20.0
"""Brokers look for transactions that have timed out every ten seconds, and need a moment to end them."""

log = get_logger("runner")


def backoff_s(attempt: int) -> float:
    return BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]


@dataclass(frozen=True, slots=True)
class SessionContext(Generic[State]):
    """
    What the runners of a session share. `on_running`: called when a task may be fed. `end_session`: ends the membership with an error.
    """

    projection: Projection[State]
    settings: Settings
    metrics: Metrics
    config: TaskConfig
    consumer: GroupConsumer
    input_offsets: InputOffsets
    on_running: Callable[[], None]
    end_session: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a task has ended."""

    cause: str
    fenced: bool = False
    needs_operator: bool = False


class TaskRunner(Generic[State]):
    """Works from its creation to `close`; `TaskState` draws what it does meanwhile."""

    def __init__(self, context: SessionContext[State], task_id: TaskId) -> None:
        self.task_id = task_id
        self.inputs = tuple(
            TopicPartition(topic_name(task_id.pbx, kind), task_id.partition)
            for kind in context.projection.inputs
        )
        self.state = TaskState.CREATED
        self.halted_because: str | None = None
        self.waits_for: str | None = None
        """Why the task does not run; None: it does, or has just begun to."""
        self.task: Task[State] | None = None
        self.delivered: dict[TopicPartition, int] = {}
        """By input partition, the position up to which the task was given what was polled."""
        self._context = context
        self._closing = False
        self._was_restored = False
        self._store_failed_because: str | None = None
        self._throttle = LogThrottle(LOG_INTERVAL_S)
        self._damages = 0
        self._suspects: frozenset[str] = frozenset()
        self._working = asyncio.create_task(self._work(), name=f"{context.projection.name} {task_id}")

    async def close(self) -> None:
        """Finish the transaction in flight and release everything, within twice _CLOSE_TIMEOUT_S."""
        self._closing = True
        if self.task is not None:
            self.task.close()
        else:
            self._working.cancel()
        _, pending = await asyncio.wait({self._working}, timeout=_CLOSE_TIMEOUT_S)
        if pending:
            self._working.cancel()
            await asyncio.wait({self._working}, timeout=_CLOSE_TIMEOUT_S)
        ended = self._working.done() and not self._working.cancelled()
        error = self._working.exception() if ended else None
        if error is not None:
            log.error("runner failed", task=str(self.task_id), error=cause_of(error))
        self._go_to(TaskState.CLOSED)

    def halt(self, reason: str, section: str = OFFSETS_LOST) -> None:
        """Stop working, and report *reason* until the partitions are revoked. `section`: of docs/operations.md."""
        if self.state in (TaskState.HALTED, TaskState.CLOSED):
            return
        self._go_to(TaskState.HALTED)
        self.halted_because, self.waits_for = reason, None
        if self.task is not None:
            self.task.close()
        elif asyncio.current_task() is not self._working:
            self._working.cancel()
        log.error(
            "partition halted",
            service=self._context.projection.name,
            task=str(self.task_id),
            reason=reason,
            help=f"docs/operations.md, {section}",
        )

    def _go_to(self, state: TaskState) -> None:
        self.state = transition(self.state, state)

    def _suspend(self) -> None:
        """Note that the task has failed, unless it was closed or halted."""
        if self.state in (TaskState.RESTORING, TaskState.RUNNING) and not self._closing:
            self._go_to(TaskState.SUSPENDED)

    def reread(self, error: RecordDamaged) -> None:
        """Let the task read its input again; halt when that has not helped."""
        self._damages += 1
        if self._damages >= _MAX_DAMAGES:
            self.halt(str(error), error.section)
        elif self.task is not None:
            self.task.fail(str(error))

    async def _work(self) -> None:
        attempt, fences = 0, 0
        while True:
            started_s = time.monotonic()
            failure = await self._run_once()
            if failure is None or self._closing or self.state is TaskState.HALTED:
                return
            self._suspend()
            fences = fences + 1 if failure.fenced else 0
            if fences >= _MAX_FENCES:
                self._context.end_session(KafkaUnreachable(f"{self.task_id} was fenced twice"))
                return
            self.waits_for = failure.cause
            attempt += 1
            if time.monotonic() - started_s > STABLE_AFTER_S:
                attempt = self._damages = 0
            self._log(failure)
            await asyncio.sleep(backoff_s(attempt))

    async def _run_once(self) -> _Failure | None:
        """Restore and run once. Return why a restore may help; None: the task was closed, or has halted."""
        try:
            if self._was_restored:
                # The last failure may be an ACL or a topic that was removed meanwhile, which the errors of a transaction do not name.
                await self._check_access()
            self._was_restored = True
            await self._restore_and_run()
        except RecordDamaged as error:
            self._damages += 1
            if self._damages < _MAX_DAMAGES:
                return _Failure(str(error))
            self.halt(str(error), error.section)
        except PersonNeeded as error:
            self.halt(str(error), error.section)
        except InvalidState as error:
            self._suspects |= {error.key}
            return _Failure(str(error))
        except TaskFailed as error:
            return _Failure(str(error), fenced=error.fenced)
        except (KafkaUnavailable, TopicsMissing, StoreCorrupted, OSError) as error:
            return _Failure(str(error), needs_operator=isinstance(error, KafkaAccessDenied | TopicsMissing))
        except Exception as error:  # noqa: BLE001 - of the client; restore, as after any other
            return _Failure(cause_of(error))
        return None

    def _log(self, failure: _Failure) -> None:
        suppressed = self._throttle.admit(failure.cause)
        if suppressed is not None:
            warn = log.error if failure.needs_operator else log.warning
            warn(
                "task restarted",
                service=self._context.projection.name,
                task=str(self.task_id),
                cause=failure.cause,
                suppressed=suppressed,
            )

    async def _restore_and_run(self) -> None:
        context, task_id, name = self._context, self.task_id, self._context.projection.name
        self._go_to(TaskState.RESTORING)
        started_s = time.monotonic()
        store = await Store.open(
            context.settings.state_dir / name / task_id.pbx, f"state-{task_id.partition}"
        )
        producer = self._new_producer()
        try:
            changelogs = Changelogs(context.settings, context.config.group)
            restored = await restore(self._plan(), store, producer, context.consumer, changelogs.read)
            self._go_to(TaskState.RUNNING)
            self.waits_for, self._suspects = None, frozenset()
            self.task = Task(
                context.projection,
                task_id,
                context.config,
                store,
                producer,
                context.input_offsets,
                restored.positions,
                context.metrics,
            )
            for partition, position in restored.positions.items():
                context.consumer.seek(partition, position)
            self.delivered = dict(restored.positions)
            context.consumer.resume(self.inputs)
            took_s = time.monotonic() - started_s
            context.metrics.restore_duration.labels(name).observe(took_s)
            context.metrics.restored_states.labels(name).inc(restored.records)
            wiped_because = restored.wiped_because or store.wiped_because or self._store_failed_because
            if wiped_because is not None:
                context.metrics.store_wipes.labels(name, wiped_because).inc()
            self._store_failed_because = None
            log.info(
                "task restored",
                service=name,
                task=str(task_id),
                records=restored.records,
                wiped_because=wiped_because,
                seconds=round(took_s, 3),
            )
            context.on_running()
            await self.task.run()
        finally:
            self._suspend()
            context.consumer.pause(self.inputs)
            self.task = None
            self._store_failed_because = store.failed_because or self._store_failed_because
            await asyncio.shield(_close(store, producer))

    def _new_producer(self) -> TransactionalProducer:
        settings, group = self._context.settings, self._context.config.group
        pbx, partition = self.task_id
        return TransactionalProducer(
            settings,
            group,
            f"{group}.{pbx}.{self._context.projection.name}.{partition}",
            transaction_timeout_ms=round(settings.transaction_timeout_s * 1000),
        )

    def _plan(self) -> RestorePlan:
        config, projection, pbx = self._context.config, self._context.projection, self.task_id.pbx
        return RestorePlan(
            config.cluster_id,
            projection.fold_version,
            TopicPartition(topic_name(pbx, projection.changelog), self.task_id.partition),
            self.inputs,
            config.now_us(),
            outputs=tuple(self._outputs()),
            open_transaction_limit_s=self._context.settings.transaction_timeout_s + OPEN_TRANSACTION_GRACE_S,
            notify=self._notify,
            suspects=self._suspects,
            decode=projection.decode,
        )

    def _outputs(self) -> Iterator[TopicPartition]:
        """Where the task's transactions may have written: dead letters and documents of its keys have its own partition number."""
        projection, (pbx, own) = self._context.projection, self.task_id
        for kind in (*projection.outputs, DEAD_LETTERS):
            is_repartitioned = kind in projection.repartitioned
            for number in range(self._context.config.partitions_of(pbx)) if is_repartitioned else (own,):
                yield TopicPartition(topic_name(pbx, kind), number)

    def _notify(self, reason: str | None) -> None:
        if reason is not None and self.waits_for != reason:
            log.warning(
                "restore waits", service=self._context.projection.name, task=str(self.task_id), cause=reason
            )
        self.waits_for = reason

    async def _check_access(self) -> None:
        context = self._context
        topics = topics_for([self.task_id.pbx], context.config.partitions_of(self.task_id.pbx))
        acls = required_acls(context.projection, topics)
        await check_access(context.settings, acls, admin_client_id(context.config.group))


async def _close(store: Store, producer: TransactionalProducer) -> None:
    try:
        await producer.stop()
    finally:
        await store.close()
