"""Worker, session and runner without a broker: retries, states, record delivery, halting."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.engine import runner as runner_module
from consumers.engine import worker as worker_module
from consumers.engine.errors import OffsetOutOfRange, OffsetsLost, RecordDamaged, StoreCorrupted, TaskFailed
from consumers.engine.metrics import Metrics, ServiceSnapshot
from consumers.engine.records import TaskId, TopicPartition
from consumers.engine.runner import TaskRunner
from consumers.engine.session import MAX_BUFFERED_RECORDS, GroupSession
from consumers.engine.task import TaskConfig
from consumers.engine.task_state import TaskState
from consumers.engine.worker import Worker
from consumers.settings import Settings
from tests.unit.consumers.tally import T0_US, Tally, TallyProjection
from tests.waiting import WITHIN_S
from voipex.errors import KafkaUnreachable, TopicMismatch, TopicsMissing

pytestmark = pytest.mark.anyio

CALLS, ACTIVITY = TopicPartition("voipex.call.events.v1", 0), TopicPartition("voipex.agent.activity.v1", 0)
TASK_ID = TaskId("voipex", 0)
NO_FAULTS = {"missing": 0, "grown": 0, "shrunk": 0}


class FakeConsumer:
    """The group's client; polls return what the test has queued."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[TopicPartition, ...]]] = []
        self.polls: list[Mapping[TopicPartition, Sequence[Any]] | Exception] = []
        self.fetched_ms: int | None = None
        self.open_from: dict[TopicPartition, int] = {}
        self.positions_now: dict[TopicPartition, int] = {}

    def positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self.positions_now[each] for each in partitions if each in self.positions_now}

    def lag(self, partition: TopicPartition) -> int | None:
        return 3 if partition == CALLS else None

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.calls.append(("pause", tuple(partitions)))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.calls.append(("resume", tuple(partitions)))

    def open_transaction(self, partition: TopicPartition) -> int | None:
        return self.open_from.get(partition)

    def last_fetch_ms(self, partition: TopicPartition) -> int | None:
        del partition
        return self.fetched_ms

    async def poll(
        self, partitions: Iterable[TopicPartition], timeout_ms: int
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        del partitions, timeout_ms
        polled = self.polls.pop(0)
        if isinstance(polled, Exception):
            raise polled
        return polled


class FakeTask:
    def __init__(self, buffered: int = 0) -> None:
        self.buffered = buffered
        self.added: list[tuple[str, Sequence[Any]]] = []
        self.closed = False
        self.failures: list[str] = []
        self.busy_since_s: float | None = None
        self.store = SimpleNamespace(status_counts={"odd": 2}, next_due_us=T0_US, size_bytes=4096)

    def add_records(self, topic: str, records: Sequence[Any]) -> None:
        self.added.append((topic, records))

    def uncommitted(self, topic: str) -> int:
        del topic
        return 4

    def fail(self, reason: str) -> None:
        self.failures.append(reason)

    def close(self) -> None:
        self.closed = True


def settings(folder: Path) -> Settings:
    return Settings(state_dir=folder, kafka_bootstrap_servers="127.0.0.1:1", topic_partitions=1)


@pytest.fixture
def worker(tmp_path: Path) -> Worker[Tally]:
    return Worker(TallyProjection(), settings(tmp_path), Metrics("test"), lambda: T0_US)


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
async def session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, consumer: FakeConsumer
) -> AsyncIterator[GroupSession[Tally]]:
    """A session whose runners wait for ever instead of restoring."""
    replace_work(monkeypatch, lambda _: asyncio.Event().wait())
    config = TaskConfig("voipex-tallies", lambda _: 1, 0.02, 5.0, "cluster", lambda: T0_US)
    made: GroupSession[Tally] = GroupSession(
        TallyProjection(),
        settings(tmp_path),
        Metrics("test"),
        config,
        consumer,  # type: ignore[arg-type]
    )
    yield made
    for runner in made.runners.values():
        runner.task = None  # a fake does not end when it is closed
    await made._on_revoked()


def replace_work(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[TaskRunner[Tally]], Awaitable[object]]
) -> None:
    """Make runners do *work* in RESTORING instead of restoring and running a task."""

    async def restore_and_run(runner: TaskRunner[Tally]) -> None:
        runner._go_to(TaskState.RESTORING)
        await work(runner)

    async def allowed(_: TaskRunner[Tally]) -> None:
        pass

    monkeypatch.setattr(TaskRunner, "_restore_and_run", restore_and_run)
    monkeypatch.setattr(TaskRunner, "_check_access", allowed)


def run_task(session: GroupSession[Tally], task: FakeTask) -> Mapping[TaskId, TaskRunner[Tally]]:
    session._on_assigned({CALLS, ACTIVITY})
    runner = session.runners[TASK_ID]
    runner.task = task  # type: ignore[assignment]
    runner.state = TaskState.RUNNING
    return {TASK_ID: runner}


# -------------------------------------------------------------------------------- without Kafka


async def test_an_unreachable_kafka_is_retried_until_stopped(
    worker: Worker[Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage does not end the service."""
    monkeypatch.setattr(runner_module, "BACKOFF_S", (0.0,))
    attempts = 0

    async def unreachable(*_: object) -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            worker.stop()
        raise KafkaUnreachable("no answer")

    monkeypatch.setattr(worker_module, "check_cluster", unreachable)
    await worker.run()

    assert attempts == 3
    assert not worker.ready


async def test_missing_topics_are_awaited(worker: Worker[Tally], monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be created at any moment; `/ready` has the cause meanwhile, and the log has it once a minute."""
    monkeypatch.setattr(runner_module, "BACKOFF_S", (0.0,))
    causes: list[object] = []

    async def missing(*_: object) -> str:
        causes.append(worker.describe()["cause"])
        if len(causes) == 3:
            worker.stop()
        raise TopicsMissing("topics are missing: voipex.call.events.v1")

    monkeypatch.setattr(worker_module, "check_cluster", missing)
    with capture_logs() as logs:
        await worker.run()

    assert causes == [None, *["topics are missing: voipex.call.events.v1"] * 2]
    assert [each["event"] for each in logs] == ["topics missing"]
    assert not worker.ready


async def test_wrong_topics_end_the_worker(worker: Worker[Tally], monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents would go to the wrong partitions (I7)."""

    async def wrong(*_: object) -> str:
        raise TopicMismatch(["voipex.call.events.v1: missing"])

    monkeypatch.setattr(worker_module, "check_cluster", wrong)

    with pytest.raises(TopicMismatch):
        await worker.run()


async def test_stop_cancels_the_join(worker: Worker[Tally], monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen member keeps others from joining for as long as its session lasts."""
    joining = asyncio.Event()

    async def never(*_: object) -> str:
        joining.set()
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(worker_module, "check_cluster", never)
    running = asyncio.create_task(worker.run())
    await joining.wait()
    worker.stop()
    async with asyncio.timeout(10):
        await running

    assert not worker.ready


async def test_a_worker_is_not_ready_before_it_joins(worker: Worker[Tally]) -> None:
    assert not worker.ready
    assert worker.describe() == {
        "group": "voipex-tallies",
        "joined": False,
        "partitions": {},
        "halted": {},
        "waiting": {},
        "topics": [],
        "cause": None,
    }
    assert worker.snapshot() == ServiceSnapshot("tallies", "voipex-tallies", {}, {}, {}, 0, 0, NO_FAULTS)


async def test_nothing_is_polled_while_all_tasks_have_enough(
    session: GroupSession[Tally], consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, stopping = FakeTask(MAX_BUFFERED_RECORDS), asyncio.Event()
    run_task(session, task)
    turns = 0

    def next_turn(*_: object) -> set[TaskId]:
        nonlocal turns
        turns += 1
        if turns == 3:
            task.buffered -= 1
        if turns == 4:
            stopping.set()
        return set()

    monkeypatch.setattr(session, "_apply_backpressure", next_turn)
    consumer.polls = [{}, {}, {}, {}]
    async with asyncio.timeout(WITHIN_S):
        await session._poll(stopping)

    assert turns == 4
    assert len(consumer.polls) == 2  # the first two turns polled nothing


# -------------------------------------------------------------------------------- membership


async def test_each_task_id_gets_one_runner_for_all_its_inputs(session: GroupSession[Tally]) -> None:
    session._on_assigned({CALLS, ACTIVITY, TopicPartition("brno.call.events.v1", 0)})

    assert set(session.runners) == {TASK_ID, TaskId("brno", 0)}
    assert session.runners[TASK_ID].inputs == (CALLS, ACTIVITY)
    assert session.joined
    assert session.states() == {"created": 2}
    await asyncio.sleep(0)
    assert session.states() == {"restoring": 2}
    await session._on_revoked()
    assert (session.runners, session.joined) == ({}, False)


async def test_a_snapshot_sums_up_the_running_tasks(
    worker: Worker[Tally], session: GroupSession[Tally]
) -> None:
    worker._session = session
    run_task(session, FakeTask())

    assert worker.ready
    assert worker.snapshot() == ServiceSnapshot(
        service="tallies",
        group="voipex-tallies",
        lag={CALLS: 7},
        partitions={"running": 1},
        keys={("voipex", "odd"): 2},
        partitions_with_due_timers=1,
        store_bytes=4096,
        topic_faults=NO_FAULTS,
    )


async def test_a_halted_task_makes_the_worker_unready(
    worker: Worker[Tally], session: GroupSession[Tally]
) -> None:
    worker._session = session
    run_task(session, FakeTask())

    session.runners[TASK_ID].halt("offsets are lost")

    assert not worker.ready
    assert worker.snapshot().partitions == {"halted": 1}
    assert worker.describe()["halted"] == {"voipex/0": "offsets are lost"}


async def test_a_full_task_is_paused_until_it_has_room(
    session: GroupSession[Tally], consumer: FakeConsumer
) -> None:
    """Back-pressure pauses the partitions; the buffer does not grow."""
    task = FakeTask(buffered=TallyProjection.max_batch_records)
    runners = run_task(session, task)

    full = session._apply_backpressure(runners, set())
    full = session._apply_backpressure(runners, full)
    task.buffered = 0
    full = session._apply_backpressure(runners, full)

    assert consumer.calls == [("pause", (CALLS, ACTIVITY)), ("resume", (CALLS, ACTIVITY))]
    assert full == set()


async def test_polled_records_go_to_the_task_of_their_partition(
    session: GroupSession[Tally], consumer: FakeConsumer
) -> None:
    task = FakeTask()
    runners = run_task(session, task)
    consumer.polls = [{CALLS: ["one", "two"]}, {CALLS: ["three"]}]

    await session._poll_once(runners)
    session.runners[TASK_ID].task = None  # failed meanwhile; the next task seeks
    await session._poll_once(runners)

    assert task.added == [(CALLS.topic, ["one", "two"])]


async def test_records_polled_during_a_rebalance_go_to_the_new_task(
    session: GroupSession[Tally], consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new task has sought already, so the records would not be read again."""
    before, after = FakeTask(), FakeTask()
    runners = run_task(session, before)

    async def poll(*_: object) -> Mapping[TopicPartition, Sequence[Any]]:
        runners[TASK_ID]._working.cancel()
        session.runners = {}
        run_task(session, after)
        return {CALLS: ["one"]}

    monkeypatch.setattr(consumer, "poll", poll)
    await session._poll_once(runners)

    assert (before.added, after.added) == ([], [(CALLS.topic, ["one"])])


async def test_undelivered_records_fail_the_task(
    session: GroupSession[Tally], consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lag would be 0 and documents wrong. A position moved past markers, without records, is no gap."""
    task = FakeTask()
    runners = run_task(session, task)
    session.runners[TASK_ID].delivered = {CALLS: 5, ACTIVITY: 0}
    consumer.positions_now = {CALLS: 5, ACTIVITY: 0}

    async def poll(*_: object) -> Mapping[TopicPartition, Sequence[Any]]:
        consumer.positions_now = {CALLS: 7, ACTIVITY: 1}
        return {CALLS: ["five"]}

    monkeypatch.setattr(consumer, "poll", poll)
    await session._poll_once(runners)
    await session._poll_once(runners)
    assert (len(task.added), task.failures) == (2, [])

    consumer.positions_now = {CALLS: 9, ACTIVITY: 1}
    await session._poll_once(runners)
    assert task.failures == ["voipex.call.events.v1-0 is at 9, delivered up to 7"]


async def test_an_offset_out_of_range_halts_its_task_only(
    session: GroupSession[Tally], consumer: FakeConsumer
) -> None:
    """The offset is never reset silently; log and `/ready` name the partition."""
    task = FakeTask()
    runners = run_task(session, task)
    consumer.polls = [OffsetOutOfRange([CALLS, TopicPartition("brno.call.events.v1", 9)])]

    with capture_logs() as logs:
        await session._poll_once(runners)

    assert task.closed
    assert session.states() == {"halted": 1}
    assert [each["log_level"] for each in logs] == ["error"]
    assert CALLS.topic in logs[0]["reason"]


@pytest.mark.parametrize(("silent_s", "ends"), [(59, False), (61, True), (None, False)])
async def test_a_client_without_answers_ends_the_session(
    session: GroupSession[Tally], consumer: FakeConsumer, silent_s: float | None, *, ends: bool
) -> None:
    """The client asks only brokers of its last metadata, which may all be gone."""
    runners = run_task(session, FakeTask())
    consumer.fetched_ms = None if silent_s is None else round((time.time() - silent_s) * 1000)

    session._watch(runners.values())

    assert (session._error is not None) is ends


async def test_an_input_behind_an_open_transaction_is_named(
    session: GroupSession[Tally], consumer: FakeConsumer
) -> None:
    """No record comes, and no error either. Transactions of usual length are no news."""
    runners = run_task(session, FakeTask())
    consumer.open_from = {CALLS: 7, ACTIVITY: 3}
    session._watch(runners.values())
    before = session.waiting()
    for partition, (offset, since_s) in session._open_transactions.items():
        session._open_transactions[partition] = (offset, since_s - 1000)
    consumer.open_from[ACTIVITY] = 4
    with capture_logs() as logs:
        session._watch(runners.values())
        session._watch(runners.values())

    assert before == {}
    assert "a transaction is open in voipex.call.events.v1-0 since offset 7" in session.waiting()["voipex/0"]
    assert [each["event"] for each in logs] == ["input blocked"]


async def test_damaged_records_halt_only_if_they_stay_so(
    session: GroupSession[Tally], consumer: FakeConsumer
) -> None:
    """A wrong checksum may come from the network; a third one comes from the disk."""
    task = FakeTask()
    runners = run_task(session, task)
    for _ in range(3):
        consumer.polls = [RecordDamaged(CALLS, 7)]
        await session._poll_once(runners)

    assert len(task.failures) == 2
    assert (
        "records of voipex.call.events.v1-0 do not match their checksum, from offset 7 on"
        in (session.halted()["voipex/0"])
    )


async def test_a_poll_loop_or_batch_that_stands_is_stalled(
    worker: Worker[Tally], session: GroupSession[Tally]
) -> None:
    """A restart may help then, as when a disk does not answer; an outage of Kafka stalls nothing."""
    task = FakeTask()
    run_task(session, task)
    reasons = [worker.stalled_because]
    worker._session = session
    reasons.append(worker.stalled_because)
    session._turned_s = time.monotonic() - worker_module.STALL_LIMIT_S - 1
    reasons.append(worker.stalled_because)
    session._turned_s = time.monotonic()
    task.busy_since_s = asyncio.get_running_loop().time() - worker_module.STALL_LIMIT_S - 1
    reasons.append(worker.stalled_because)

    assert reasons[:3] == [None, None, "the poll loop stands"]
    assert "task voipex/0 has worked on one batch for 301 s" in str(reasons[3])


# -------------------------------------------------------------------------------- runners


async def test_a_failed_task_is_restored_again(
    session: GroupSession[Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "BACKOFF_S", (0.0,))
    causes: list[Exception | None] = [
        TaskFailed("unknown", fenced=False),
        StoreCorrupted("full"),
        KafkaUnreachable("away"),
        OSError("no space"),
        TaskFailed("fenced once", fenced=True),
        None,
    ]

    async def work(_: TaskRunner[Tally]) -> None:
        cause = causes.pop(0)
        if cause is not None:
            raise cause

    replace_work(monkeypatch, work)
    session._on_assigned({CALLS, ACTIVITY})
    await session.runners[TASK_ID]._working
    assert causes == []
    assert session._error is None


async def test_a_task_fenced_twice_ends_the_session(
    session: GroupSession[Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two instances would fence each other for ever; only the group can decide between them."""
    monkeypatch.setattr(runner_module, "BACKOFF_S", (0.0,))

    async def work(_: TaskRunner[Tally]) -> None:
        raise TaskFailed("fenced", fenced=True)

    replace_work(monkeypatch, work)
    session._on_assigned({CALLS, ACTIVITY})
    await session.runners[TASK_ID]._working
    assert isinstance(session._error, KafkaUnreachable)
    assert "voipex/0 was fenced twice" in str(session._error)


async def test_lost_offsets_halt_the_task(
    session: GroupSession[Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(_: TaskRunner[Tally]) -> None:
        raise OffsetsLost("they expired")

    replace_work(monkeypatch, work)
    session._on_assigned({CALLS, ACTIVITY})
    await session.runners[TASK_ID]._working
    assert session.halted() == {"voipex/0": "they expired"}
    assert session.states() == {"halted": 1}
    assert session._error is None


async def test_a_revocation_cancels_the_restore(session: GroupSession[Tally]) -> None:
    session._on_assigned({CALLS, ACTIVITY})
    runner = session.runners[TASK_ID]
    await asyncio.sleep(0)

    await session._on_revoked()

    assert runner.state is TaskState.CLOSED
    assert runner._working.cancelled()


async def test_a_halted_restore_cannot_start_running(
    session: GroupSession[Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance that revokes nothing must not leave two tasks for the same partitions."""
    halted = asyncio.Event()

    async def work(runner: TaskRunner[Tally]) -> None:
        try:
            await halted.wait()
        finally:
            runner._suspend()

    replace_work(monkeypatch, work)
    session._on_assigned({CALLS, ACTIVITY})
    runner = session.runners[TASK_ID]
    await asyncio.sleep(0)

    session._on_assigned({CALLS, ACTIVITY})
    await asyncio.wait({runner._working})

    assert runner.state is TaskState.HALTED
    assert runner._working.cancelled()
    assert session.runners[TASK_ID] is not runner
    await runner.close()
