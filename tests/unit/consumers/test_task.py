"""Task: the order of effects, and the state that is left when one of them fails. The network is faked, the store is real."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.engine import task as task_module
from consumers.engine.errors import ProducerFenced, StoreCorrupted, TaskFailed
from consumers.engine.metrics import Metrics
from consumers.engine.records import InputRecord, TaskId, TopicPartition
from consumers.engine.store import Store
from consumers.engine.task import Task, TaskConfig
from tests.unit.consumers.tally import (
    T0_US,
    BrokerError,
    FakeInputOffsets,
    FakeProducer,
    FakeRecord,
    Tally,
    TallyProjection,
    add,
)
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS, TopicSpec

pytestmark = pytest.mark.anyio

SECOND_US = 1_000_000
CALLS, ACTIVITY = TopicPartition("voipex.call.events.v1", 0), TopicPartition("voipex.agent.activity.v1", 0)
INTERVAL_S = 0.02


class TaskHarness:
    """A task with fakes around it; `now_us` is its clock."""

    def __init__(
        self, store: Store, positions: dict[TopicPartition, int] | None = None, limit_s: float = 5
    ) -> None:
        self.now_us = T0_US
        self.store = store
        self.producer = FakeProducer()
        self.input_offsets = FakeInputOffsets()
        self.metrics = Metrics("test")
        self.positions = positions or {CALLS: 0, ACTIVITY: 0}
        self.limit_s = limit_s
        self.task = self.new_task()

    def new_task(self) -> Task[Tally]:
        config = TaskConfig(
            "tallies-group", lambda _: 1, INTERVAL_S, self.limit_s, "cluster", lambda: self.now_us
        )
        return Task(
            TallyProjection(),
            TaskId("voipex", 0),
            config,
            self.store,
            self.producer,
            self.input_offsets,
            self.positions,
            self.metrics,
        )

    def add(self, *inputs: InputRecord) -> None:
        for kind, topic in ((CALL_EVENTS, CALLS.topic), (AGENT_ACTIVITY, ACTIVITY.topic)):
            self.task.add_records(topic, [each.record for each in inputs if each.kind == kind])

    async def totals(self, *keys: str) -> dict[str, int]:
        return {key: json.loads(value)["total"] for key, value in (await self.store.read(keys)).items()}

    def sample(self, name: str, *labels: str) -> float:
        metric = getattr(self.metrics, name)
        value: float = metric.labels(*labels)._value.get()
        return value


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path, "state-0")
    yield opened
    await opened.close()


async def until_committed(harness: TaskHarness, transactions: int) -> None:
    """Run the task until it has committed so many, then close it."""
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == transactions:
            harness.task.close()

    harness.producer.hooks["commit"] = count
    async with asyncio.timeout(20):
        await harness.task.run()


# -------------------------------------------------------------------------------- the order of effects


async def test_a_batch_is_one_transaction_and_then_the_store(store: Store) -> None:
    """All records are sent, then the offsets, then the commit; the store comes last (I2, I3)."""
    harness = TaskHarness(store)
    stored_at_commit: list[object] = []
    harness.producer.hooks["commit"] = lambda: stored_at_commit.append(harness.store.checkpoint)

    await harness.task.process_batch([add("a", 2, offset=0), add("b", 3, offset=1)])

    sends = sorted(harness.producer.calls[1:3])
    assert sends == ["send call.state.v1", "send call.timelines.v1"]
    assert [harness.producer.calls[0], *harness.producer.calls[3:]] == [
        "begin",
        "offsets tallies-group",
        "commit",
    ]
    assert stored_at_commit == [None]
    assert await harness.totals("a", "b") == {"a": 2, "b": 3}
    checkpoint = harness.store.checkpoint
    assert checkpoint is not None
    assert checkpoint.changelog_next == 2
    assert (checkpoint.cluster_id, checkpoint.fold_version, checkpoint.written_us) == (
        "cluster",
        3,
        T0_US,
    )
    assert checkpoint.inputs_next == {CALLS.topic: 2, ACTIVITY.topic: 0}
    assert harness.task.positions == {CALLS: 2, ACTIVITY: 0}


async def test_offsets_of_inputs_without_records_are_committed_too(store: Store) -> None:
    """A restore that finds states but no offset of an input must take the offset for lost."""
    harness = TaskHarness(store, positions={CALLS: 7, ACTIVITY: 4})
    await harness.task.process_batch([add("a", offset=7)])

    assert harness.producer.offsets == {CALLS: 8, ACTIVITY: 4}


async def test_one_transaction_commits_the_offsets_of_both_inputs(store: Store) -> None:
    """Gaps between offsets are transaction markers, or records that compaction removed."""
    harness = TaskHarness(store)
    await harness.task.process_batch(
        [add("a", offset=0), add("a", offset=3, kind=AGENT_ACTIVITY), add("a", offset=9)]
    )

    assert harness.producer.offsets == {CALLS: 10, ACTIVITY: 4}
    assert harness.producer.calls.count("commit") == 1


async def test_an_unchanged_batch_commits_offsets_only(store: Store) -> None:
    """The changelog continues where the store ends, also for the next task."""
    harness = TaskHarness(store)
    await harness.task.process_batch([add("a", 2, offset=0)])
    await harness.task.process_batch([add("a", 0, offset=1)])

    assert harness.producer.calls[-3:] == ["begin", "offsets tallies-group", "commit"]
    assert harness.producer.offsets[CALLS] == 2
    assert harness.store.checkpoint is not None
    assert harness.store.checkpoint.changelog_next == 1
    later = harness.new_task()
    await later.process_batch([add("a", 0, offset=2)])
    assert harness.store.checkpoint.changelog_next == 1


async def test_a_batch_is_counted_in_the_metrics(store: Store) -> None:
    harness = TaskHarness(store)
    harness.now_us += 3 * SECOND_US
    invalid = InputRecord(CALL_EVENTS, FakeRecord(2, b"a", b"no json"))
    harness.add(add("a", offset=0), add("b", offset=1), invalid)
    assert (harness.task.buffered, harness.task.uncommitted(CALLS.topic)) == (3, 3)

    await until_committed(harness, 1)

    assert (harness.task.buffered, harness.task.uncommitted(CALLS.topic)) == (0, 0)
    assert harness.sample("records", CALLS.topic) == 3
    assert harness.sample("documents", "tallies") == 2
    assert harness.sample("dead_letters", "voipex.dead-letters.v1", "tallies") == 1
    assert harness.sample("transactions", "tallies", "committed") == 1
    assert harness.metrics.event_age.labels("tallies")._sum.get() == 3


async def test_a_bug_in_the_rules_is_logged_with_its_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold(*_: object) -> Tally:
        raise OverflowError("bug")

    monkeypatch.setattr(TallyProjection, "fold", fold)
    harness = TaskHarness(store)

    with capture_logs() as logs:
        await harness.task.process_batch([add("a", offset=5)])

    (logged,) = logs
    assert (logged["event"], logged["log_level"]) == ("record dead-lettered", "error")
    assert (logged["topic"], logged["partition"], logged["offset"]) == (CALLS.topic, 0, 5)


# -------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "step", ["begin", "send call.state.v1", "send call.timelines.v1", "offsets tallies-group", "commit"]
)
@pytest.mark.parametrize(
    ("error", "fenced"),
    [
        (BrokerError("gone"), False),
        (AssertionError(), False),
        (ProducerFenced(), True),
    ],
    ids=["failed", "assertion", "fenced"],
)
async def test_an_error_at_any_step_fails_the_task_before_the_store(
    store: Store, step: str, error: Exception, *, fenced: bool
) -> None:
    """The outcome is unknown until a restore. A store ahead of the changelog would stay wrong (I3)."""
    harness = TaskHarness(store)
    await harness.task.process_batch([add("a", 2, offset=0)])
    before = harness.store.checkpoint
    harness.producer.errors[step] = error

    with pytest.raises(TaskFailed) as failed:
        await harness.task.process_batch([add("a", 5, offset=1)])

    assert failed.value.fenced is fenced
    assert type(error).__name__ in str(failed.value)
    assert await harness.totals("a") == {"a": 2}
    assert harness.store.checkpoint == before
    assert harness.sample("transactions", "tallies", "fenced" if fenced else "failed") == 1
    assert "commit" not in harness.producer.calls[5:] or step == "commit"


async def test_a_failed_delivery_prevents_offsets_and_commit(store: Store) -> None:
    """The commit would succeed: the output would be lost and the offset committed."""
    harness = TaskHarness(store)
    harness.producer.errors["send call.timelines.v1"] = BrokerError("too large")

    with pytest.raises(TaskFailed):
        await harness.task.process_batch([add("a", offset=0)])

    assert not {"offsets tallies-group", "commit"} & set(harness.producer.calls)
    assert (harness.producer.committed, harness.producer.offsets) == ([], {})


async def test_a_hanging_transaction_times_out(store: Store) -> None:
    """The client may wait for ever when the broker is away."""
    harness = TaskHarness(store, limit_s=0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    harness.producer.commit = hang  # type: ignore[method-assign]
    with pytest.raises(TaskFailed, match="TimeoutError"):
        await harness.task.process_batch([add("a", offset=0)])
    assert harness.store.checkpoint is None


async def test_a_cancelled_transaction_leaves_the_store_unchanged(store: Store) -> None:
    """A cancelled commit may still succeed."""
    harness = TaskHarness(store)
    harness.producer.errors["commit"] = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await harness.task.process_batch([add("a", offset=0)])
    assert harness.store.checkpoint is None


async def test_a_corrupted_store_fails_the_task_after_the_commit(store: Store) -> None:
    """The transaction is committed; the runner restores the store from the changelog."""
    harness = TaskHarness(store)

    async def refuse(*_: object) -> None:
        raise StoreCorrupted("the disk is full")

    harness.store.commit = refuse  # type: ignore[method-assign, assignment]
    harness.add(add("a", offset=0))
    with pytest.raises(TaskFailed, match="the disk is full") as failed:
        await harness.task.run()
    assert not failed.value.fenced
    assert harness.producer.calls[-1] == "commit"


@pytest.mark.parametrize("offsets", [(4,), (5, 5), (6, 5)], ids=["before the position", "twice", "backwards"])
async def test_repeated_offsets_fail_the_task_before_any_write(
    store: Store, offsets: tuple[int, ...]
) -> None:
    """Another client has moved the position (I4)."""
    harness = TaskHarness(store, positions={CALLS: 5, ACTIVITY: 0})
    harness.add(*(add("a", offset=offset) for offset in offsets))
    with pytest.raises(TaskFailed, match="went backwards"):
        await harness.task.run()
    assert harness.producer.calls == []


# -------------------------------------------------------------------------------- buffering and closing


async def test_records_within_the_interval_share_a_transaction(store: Store) -> None:
    harness = TaskHarness(store)
    harness.add(add("a", offset=0))
    asyncio.get_running_loop().call_later(INTERVAL_S / 4, lambda: harness.add(add("a", offset=1)))

    await until_committed(harness, 1)

    assert await harness.totals("a") == {"a": 2}


async def test_a_full_batch_does_not_wait_for_the_interval(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TallyProjection, "max_batch_records", 3)
    monkeypatch.setattr(f"{__name__}.INTERVAL_S", 30.0)
    harness = TaskHarness(store)
    harness.add(*(add("a", offset=n) for n in range(4)))

    await until_committed(harness, 1)

    assert harness.producer.offsets[CALLS] == 3
    assert (harness.task.buffered, harness.task.uncommitted(CALLS.topic)) == (1, 1)


async def test_fail_ends_the_task_before_any_write(store: Store) -> None:
    harness = TaskHarness(store)
    harness.add(add("a", 1))
    harness.task.fail("the topic is at 9, delivered up to 7")

    with pytest.raises(TaskFailed, match="delivered up to 7"):
        await harness.task.run()

    assert harness.producer.calls == []


async def test_a_closed_task_leaves_its_buffer_unprocessed(store: Store) -> None:
    """Closed while idle, while buffering, and before it started."""
    harness = TaskHarness(store)
    idle = asyncio.create_task(harness.task.run())
    await asyncio.sleep(0)
    harness.task.close()
    await idle

    harness.task = harness.new_task()
    harness.add(add("a", offset=0))
    buffering = asyncio.create_task(harness.task.run())
    await asyncio.sleep(0)
    harness.task.close()
    await buffering
    assert harness.task.buffered == 1

    await harness.task.run()
    assert harness.producer.calls == []


async def test_an_idle_task_commits_positions_past_markers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset before a marker would look lost once retention has deleted everything before it."""
    monkeypatch.setattr(task_module, "IDLE_COMMIT_S", 0.0)
    harness = TaskHarness(store)
    harness.add(add("a", offset=0))
    harness.input_offsets.positions = {CALLS: 2, ACTIVITY: 3}

    await until_committed(harness, 2)

    assert harness.producer.offsets == {CALLS: 2, ACTIVITY: 3}


async def test_buffered_records_prevent_an_idle_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll may add records while the task asks for the positions."""
    monkeypatch.setattr(task_module, "IDLE_COMMIT_S", 0.0)
    harness = TaskHarness(store)
    await harness.task.process_batch([add("a", offset=0)])
    harness.input_offsets.positions = {CALLS: 2}
    harness.input_offsets.before_position = lambda: harness.add(add("a", offset=1))

    await harness.task._commit_idle_positions()

    assert harness.producer.offsets[CALLS] == 1


# -------------------------------------------------------------------------------- timers


async def add_timer(harness: TaskHarness, *, due_in_s: float = 10) -> None:
    """Fold a record that sets a timer."""
    await harness.task.process_batch([add("a", 2, offset=0, due=T0_US + round(due_in_s * SECOND_US))])
    harness.producer.calls.clear()


async def test_a_due_timer_fires_without_input_offsets(store: Store) -> None:
    """The task's only producer writes it, in a transaction like any other (I1)."""
    harness = TaskHarness(store)
    await add_timer(harness)
    harness.now_us += 11 * SECOND_US
    harness.input_offsets.positions = harness.input_offsets.ends = {CALLS: 1}

    await until_committed(harness, 1)

    assert harness.producer.calls == ["begin", "send call.state.v1", "offsets tallies-group", "commit"]
    assert harness.producer.offsets == {CALLS: 1, ACTIVITY: 0}
    assert harness.sample("timers_fired", "tallies") == 1
    source = dict(harness.producer.committed[-1].headers)
    assert (source["bridge-source-topic"], source["bridge-source-offset"]) == (CALLS.topic.encode(), b"0")
    assert harness.store.next_due_us == harness.now_us + 3600 * SECOND_US  # it changed nothing


async def test_timers_wait_for_the_end_offsets_after_the_deadline(store: Store) -> None:
    """A task that catches up would call a call stale whose end it has not read yet."""
    harness = TaskHarness(store)
    await add_timer(harness)
    harness.now_us += 11 * SECOND_US
    harness.input_offsets.positions, harness.input_offsets.ends = {CALLS: 1}, {CALLS: 2}

    await harness.task._fire_timers()
    assert harness.producer.calls == []
    harness.add(add("a", 1, offset=1))
    harness.input_offsets.positions[CALLS] = 2  # polled, and not folded yet
    await harness.task._fire_timers()
    assert harness.producer.calls == []
    await until_committed(harness, 2)

    assert harness.producer.calls.count("offsets tallies-group") == 2
    assert harness.input_offsets.end_requests == 1
    assert await harness.totals("a") == {"a": 3}


async def test_timers_wait_for_records_polled_with_the_position(store: Store) -> None:
    """A poll moves the position and adds the records at the same moment."""
    harness = TaskHarness(store)
    await add_timer(harness)
    harness.now_us += 11 * SECOND_US
    harness.input_offsets.positions, harness.input_offsets.ends = {CALLS: 1}, {CALLS: 2}

    def poll() -> None:
        if not harness.task.buffered:
            harness.add(add("a", 1, offset=1))
            harness.input_offsets.positions[CALLS] = 2

    harness.input_offsets.before_position = poll
    await harness.task._fire_timers()

    assert harness.producer.calls == []
    assert harness.task.buffered == 1


async def test_a_timer_that_is_not_due_asks_for_no_end_offsets(store: Store) -> None:
    harness = TaskHarness(store)
    await add_timer(harness)
    await harness.task._fire_timers()
    assert (harness.input_offsets.end_requests, harness.producer.calls) == (0, [])


async def test_an_idle_task_wakes_for_the_next_timer(store: Store) -> None:
    harness = TaskHarness(store)
    await add_timer(harness, due_in_s=0.02)
    harness.input_offsets.positions = harness.input_offsets.ends = {CALLS: 1}
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    harness.task._config = TaskConfig(
        "tallies-group",
        lambda _: 1,
        INTERVAL_S,
        5,
        "cluster",
        lambda: T0_US + round((loop.time() - began_s) * 1e6),
    )

    await until_committed(harness, 1)

    assert harness.sample("timers_fired", "tallies") == 1


async def test_an_idle_task_waits_until_the_position_passes_markers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Markers at the end of a topic bring no record that would wake the task."""
    monkeypatch.setattr(task_module, "_POSITION_RETRY_S", 0.001)
    harness = TaskHarness(store)
    await add_timer(harness)
    harness.now_us += 11 * SECOND_US
    harness.input_offsets.positions, harness.input_offsets.ends = {CALLS: 1}, {CALLS: 2}
    requests = 0

    def pass_the_marker() -> None:
        nonlocal requests
        requests += 1
        if requests == 3:
            harness.input_offsets.positions[CALLS] = 2

    harness.input_offsets.before_position = pass_the_marker
    await until_committed(harness, 1)

    assert harness.input_offsets.end_requests == 1


async def test_many_due_timers_fire_in_several_transactions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a long stop thousands are due at once. The end offsets are read once."""
    monkeypatch.setattr(task_module, "MAX_TIMERS", 2)
    monkeypatch.setattr(task_module, "_POSITION_RETRY_S", 0.001)
    harness = TaskHarness(store)
    await harness.task.process_batch([add(f"k{n}", offset=n, due=T0_US + n) for n in range(5)])
    harness.now_us += SECOND_US
    harness.input_offsets.positions = harness.input_offsets.ends = {CALLS: 5}

    await until_committed(harness, 3)

    assert harness.sample("timers_fired", "tallies") == 5
    assert harness.input_offsets.end_requests == 1


async def test_an_expired_key_is_deleted_from_changelog_and_store(store: Store) -> None:
    """Its changelog record becomes a tombstone; no document is emitted."""
    harness = TaskHarness(store)
    await harness.task.process_batch([add("a", 2, offset=0, expires=T0_US + SECOND_US)])
    harness.now_us += 2 * SECOND_US
    harness.input_offsets.positions = harness.input_offsets.ends = {CALLS: 1}

    await until_committed(harness, 1)

    assert (harness.producer.committed[-1].key, harness.producer.committed[-1].value) == (b"a", None)
    assert await harness.totals("a") == {}
    assert harness.store.next_due_us is None


# -------------------------------------------------------------------------------- the event loop


async def turns_during(work: Coroutine[Any, Any, None]) -> int:
    """Do *work*, and count how often another task had the event loop meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    try:
        await work
    finally:
        counting.cancel()
    return turns


class SlowProjection(TallyProjection):
    """Each step is as long as a slice."""

    def fold(self, state: Tally, kind: TopicSpec, value: bytes) -> Tally:
        time.sleep(task_module._SLICE_S)
        return super().fold(state, kind, value)

    def next_timer(self, state: Tally) -> int | None:
        time.sleep(task_module._SLICE_S)
        return super().next_timer(state)


@pytest.mark.parametrize("keys", [1, 30], ids=["one key", "many keys"])
async def test_a_large_batch_lets_others_have_the_event_loop(
    store: Store, monkeypatch: pytest.MonkeyPatch, keys: int
) -> None:
    """Heartbeats, polls of other tasks and probes go on. Waiting for the store and Kafka takes no turn of its own here."""
    harness = TaskHarness(store)
    harness.task._batch._projection = SlowProjection()
    steps: list[int] = []
    slices = task_module._in_slices

    async def counted(each: Iterator[None]) -> None:
        steps.append(await turns_during(slices(each)))

    monkeypatch.setattr(task_module, "_in_slices", counted)
    await harness.task.process_batch([add(f"{number % keys}", 1, offset=number) for number in range(30)])

    assert len(steps) == 1
    assert steps[0] >= 30


async def test_many_timers_let_others_have_the_event_loop(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At midnight every agent has one."""
    harness = TaskHarness(store)
    await harness.task.process_batch(
        [add(f"{number}", 1, offset=number, due=T0_US + 1) for number in range(30)]
    )
    harness.task._batch._projection = SlowProjection()
    harness.now_us += SECOND_US
    steps: list[int] = []
    slices = task_module._in_slices

    async def counted(each: Iterator[None]) -> None:
        steps.append(await turns_during(slices(each)))

    monkeypatch.setattr(task_module, "_in_slices", counted)
    harness.input_offsets.positions = {CALLS: 30}
    await harness.task._fire_timers()

    assert len(steps) == 1
    assert steps[0] >= 30


async def test_a_task_shows_since_when_it_is_busy(store: Store) -> None:
    """For the liveness probe."""
    harness = TaskHarness(store)
    busy: list[float | None] = [harness.task.busy_since_s]
    harness.producer.hooks["begin"] = lambda: busy.append(harness.task.busy_since_s)
    harness.add(add("a"))
    await until_committed(harness, 1)

    assert busy[0] is None
    assert busy[1] is not None


async def test_records_of_the_future_are_counted_and_logged_once(store: Store) -> None:
    harness = TaskHarness(store)
    ahead_us = T0_US + 301 * SECOND_US
    with capture_logs() as logs:
        await harness.task.process_batch(
            [add("a", offset=0), add("a", offset=1, at_us=ahead_us), add("a", offset=2, at_us=ahead_us)]
        )

    assert harness.sample("future_records", CALLS.topic) == 2
    [error] = [each for each in logs if each["event"] == "record of the future"]
    assert (error["offset"], error["ahead_s"]) == (1, 301)
