"""Task: the order of effects, and the state that is left when one of them fails. The network is faked, the store is real."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

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
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS

pytestmark = pytest.mark.anyio

SECOND_US = 1_000_000
CALLS, ACTIVITY = TopicPartition("voipex.call.events.v1", 0), TopicPartition("voipex.agent.activity.v1", 0)
INTERVAL_S = 0.02


class Bench:
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
        config = TaskConfig("tallies-group", 1, INTERVAL_S, self.limit_s, "cluster", lambda: self.now_us)
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


async def until_committed(bench: Bench, transactions: int) -> None:
    """Run the task until it has committed so many, then close it."""
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == transactions:
            bench.task.close()

    bench.producer.hooks["commit"] = count
    async with asyncio.timeout(20):
        await bench.task.run()


# -------------------------------------------------------------------------------- the order of effects


async def test_a_batch_is_one_transaction_and_then_the_store(store: Store) -> None:
    """All records are sent, then the offsets, then the commit; the store comes last (I2, I3)."""
    bench = Bench(store)
    stored_at_commit: list[object] = []
    bench.producer.hooks["commit"] = lambda: stored_at_commit.append(bench.store.checkpoint)

    await bench.task.process_batch([add("a", 2, offset=0), add("b", 3, offset=1)])

    sends = sorted(bench.producer.calls[1:3])
    assert sends == ["send call.state.v1", "send call.timelines.v1"]
    assert [bench.producer.calls[0], *bench.producer.calls[3:]] == [
        "begin",
        "offsets tallies-group",
        "commit",
    ]
    assert stored_at_commit == [None]
    assert await bench.totals("a", "b") == {"a": 2, "b": 3}
    checkpoint = bench.store.checkpoint
    assert checkpoint is not None
    assert checkpoint.changelog_next == 2
    assert (checkpoint.cluster_id, checkpoint.fold_version, checkpoint.written_us) == (
        "cluster",
        3,
        T0_US,
    )
    assert checkpoint.inputs_next == {CALLS.topic: 2, ACTIVITY.topic: 0}
    assert bench.task.positions == {CALLS: 2, ACTIVITY: 0}


async def test_offsets_of_inputs_without_records_are_committed_too(store: Store) -> None:
    """A restore that finds states but no offset of an input must take the offset for lost."""
    bench = Bench(store, positions={CALLS: 7, ACTIVITY: 4})
    await bench.task.process_batch([add("a", offset=7)])

    assert bench.producer.offsets == {CALLS: 8, ACTIVITY: 4}


async def test_one_transaction_commits_the_offsets_of_both_inputs(store: Store) -> None:
    """Gaps between offsets are transaction markers, or records that compaction removed."""
    bench = Bench(store)
    await bench.task.process_batch(
        [add("a", offset=0), add("a", offset=3, kind=AGENT_ACTIVITY), add("a", offset=9)]
    )

    assert bench.producer.offsets == {CALLS: 10, ACTIVITY: 4}
    assert bench.producer.calls.count("commit") == 1


async def test_an_unchanged_batch_commits_offsets_only(store: Store) -> None:
    """The changelog continues where the store ends, also for the next task."""
    bench = Bench(store)
    await bench.task.process_batch([add("a", 2, offset=0)])
    await bench.task.process_batch([add("a", 0, offset=1)])

    assert bench.producer.calls[-3:] == ["begin", "offsets tallies-group", "commit"]
    assert bench.producer.offsets[CALLS] == 2
    assert bench.store.checkpoint is not None
    assert bench.store.checkpoint.changelog_next == 1
    later = bench.new_task()
    await later.process_batch([add("a", 0, offset=2)])
    assert bench.store.checkpoint.changelog_next == 1


async def test_a_batch_is_counted_in_the_metrics(store: Store) -> None:
    bench = Bench(store)
    bench.now_us += 3 * SECOND_US
    invalid = InputRecord(CALL_EVENTS, FakeRecord(2, b"a", b"no json"))
    bench.add(add("a", offset=0), add("b", offset=1), invalid)
    assert (bench.task.buffered, bench.task.uncommitted(CALLS.topic)) == (3, 3)

    await until_committed(bench, 1)

    assert (bench.task.buffered, bench.task.uncommitted(CALLS.topic)) == (0, 0)
    assert bench.sample("records", CALLS.topic) == 3
    assert bench.sample("documents", "tallies") == 2
    assert bench.sample("dead_letters", "voipex.dead-letters.v1", "tallies") == 1
    assert bench.sample("transactions", "tallies", "committed") == 1
    assert bench.metrics.event_age.labels("tallies")._sum.get() == 3


async def test_a_bug_in_the_rules_is_logged_with_its_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold(*_: object) -> Tally:
        raise OverflowError("bug")

    monkeypatch.setattr(TallyProjection, "fold", fold)
    bench = Bench(store)

    with capture_logs() as logs:
        await bench.task.process_batch([add("a", offset=5)])

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
    bench = Bench(store)
    await bench.task.process_batch([add("a", 2, offset=0)])
    before = bench.store.checkpoint
    bench.producer.errors[step] = error

    with pytest.raises(TaskFailed) as failed:
        await bench.task.process_batch([add("a", 5, offset=1)])

    assert failed.value.fenced is fenced
    assert type(error).__name__ in str(failed.value)
    assert await bench.totals("a") == {"a": 2}
    assert bench.store.checkpoint == before
    assert bench.sample("transactions", "tallies", "fenced" if fenced else "failed") == 1
    assert "commit" not in bench.producer.calls[5:] or step == "commit"


async def test_a_failed_delivery_prevents_offsets_and_commit(store: Store) -> None:
    """The commit would succeed: the output would be lost and the offset committed."""
    bench = Bench(store)
    bench.producer.errors["send call.timelines.v1"] = BrokerError("too large")

    with pytest.raises(TaskFailed):
        await bench.task.process_batch([add("a", offset=0)])

    assert not {"offsets tallies-group", "commit"} & set(bench.producer.calls)
    assert (bench.producer.committed, bench.producer.offsets) == ([], {})


async def test_a_hanging_transaction_times_out(store: Store) -> None:
    """The client may wait for ever when the broker is away."""
    bench = Bench(store, limit_s=0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    bench.producer.commit = hang  # type: ignore[method-assign]
    with pytest.raises(TaskFailed, match="TimeoutError"):
        await bench.task.process_batch([add("a", offset=0)])
    assert bench.store.checkpoint is None


async def test_a_cancelled_transaction_leaves_the_store_unchanged(store: Store) -> None:
    """A cancelled commit may still succeed."""
    bench = Bench(store)
    bench.producer.errors["commit"] = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await bench.task.process_batch([add("a", offset=0)])
    assert bench.store.checkpoint is None


async def test_a_corrupted_store_fails_the_task_after_the_commit(store: Store) -> None:
    """The transaction is committed; the runner restores the store from the changelog."""
    bench = Bench(store)

    async def refuse(*_: object) -> None:
        raise StoreCorrupted("the disk is full")

    bench.store.commit = refuse  # type: ignore[method-assign, assignment]
    bench.add(add("a", offset=0))
    with pytest.raises(TaskFailed, match="the disk is full") as failed:
        await bench.task.run()
    assert not failed.value.fenced
    assert bench.producer.calls[-1] == "commit"


@pytest.mark.parametrize("offsets", [(4,), (5, 5), (6, 5)], ids=["before the position", "twice", "backwards"])
async def test_repeated_offsets_fail_the_task_before_any_write(
    store: Store, offsets: tuple[int, ...]
) -> None:
    """Another client has moved the position (I4)."""
    bench = Bench(store, positions={CALLS: 5, ACTIVITY: 0})
    bench.add(*(add("a", offset=offset) for offset in offsets))
    with pytest.raises(TaskFailed, match="went backwards"):
        await bench.task.run()
    assert bench.producer.calls == []


# -------------------------------------------------------------------------------- buffering and closing


async def test_records_within_the_interval_share_a_transaction(store: Store) -> None:
    bench = Bench(store)
    bench.add(add("a", offset=0))
    asyncio.get_running_loop().call_later(INTERVAL_S / 4, lambda: bench.add(add("a", offset=1)))

    await until_committed(bench, 1)

    assert await bench.totals("a") == {"a": 2}


async def test_a_full_batch_does_not_wait_for_the_interval(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TallyProjection, "max_batch_records", 3)
    monkeypatch.setattr(f"{__name__}.INTERVAL_S", 30.0)
    bench = Bench(store)
    bench.add(*(add("a", offset=n) for n in range(4)))

    await until_committed(bench, 1)

    assert bench.producer.offsets[CALLS] == 3
    assert (bench.task.buffered, bench.task.uncommitted(CALLS.topic)) == (1, 1)


async def test_fail_ends_the_task_before_any_write(store: Store) -> None:
    bench = Bench(store)
    bench.add(add("a", 1))
    bench.task.fail("the topic is at 9, delivered up to 7")

    with pytest.raises(TaskFailed, match="delivered up to 7"):
        await bench.task.run()

    assert bench.producer.calls == []


async def test_a_closed_task_leaves_its_buffer_unprocessed(store: Store) -> None:
    """Closed while idle, while buffering, and before it started."""
    bench = Bench(store)
    idle = asyncio.create_task(bench.task.run())
    await asyncio.sleep(0)
    bench.task.close()
    await idle

    bench.task = bench.new_task()
    bench.add(add("a", offset=0))
    buffering = asyncio.create_task(bench.task.run())
    await asyncio.sleep(0)
    bench.task.close()
    await buffering
    assert bench.task.buffered == 1

    await bench.task.run()
    assert bench.producer.calls == []


async def test_an_idle_task_commits_positions_past_markers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset before a marker would look lost once retention has deleted everything before it."""
    monkeypatch.setattr(task_module, "IDLE_COMMIT_S", 0.0)
    bench = Bench(store)
    bench.add(add("a", offset=0))
    bench.input_offsets.positions = {CALLS: 2, ACTIVITY: 3}

    await until_committed(bench, 2)

    assert bench.producer.offsets == {CALLS: 2, ACTIVITY: 3}


async def test_buffered_records_prevent_an_idle_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll may add records while the task asks for the positions."""
    monkeypatch.setattr(task_module, "IDLE_COMMIT_S", 0.0)
    bench = Bench(store)
    await bench.task.process_batch([add("a", offset=0)])
    bench.input_offsets.positions = {CALLS: 2}
    bench.input_offsets.before_position = lambda: bench.add(add("a", offset=1))

    await bench.task._commit_idle_positions()

    assert bench.producer.offsets[CALLS] == 1


# -------------------------------------------------------------------------------- timers


async def add_timer(bench: Bench, *, due_in_s: float = 10) -> None:
    """Fold a record that sets a timer."""
    await bench.task.process_batch([add("a", 2, offset=0, due=T0_US + round(due_in_s * SECOND_US))])
    bench.producer.calls.clear()


async def test_a_due_timer_fires_without_input_offsets(store: Store) -> None:
    """The task's only producer writes it, in a transaction like any other (I1)."""
    bench = Bench(store)
    await add_timer(bench)
    bench.now_us += 11 * SECOND_US
    bench.input_offsets.positions = bench.input_offsets.ends = {CALLS: 1}

    await until_committed(bench, 1)

    assert bench.producer.calls == ["begin", "send call.state.v1", "offsets tallies-group", "commit"]
    assert bench.producer.offsets == {CALLS: 1, ACTIVITY: 0}
    assert bench.sample("timers_fired", "tallies") == 1
    source = dict(bench.producer.committed[-1].headers)
    assert (source["bridge-source-topic"], source["bridge-source-offset"]) == (CALLS.topic.encode(), b"0")
    assert bench.store.next_due_us == bench.now_us + 3600 * SECOND_US  # it changed nothing


async def test_timers_wait_for_the_end_offsets_after_the_deadline(store: Store) -> None:
    """A task that catches up would call a call stale whose end it has not read yet."""
    bench = Bench(store)
    await add_timer(bench)
    bench.now_us += 11 * SECOND_US
    bench.input_offsets.positions, bench.input_offsets.ends = {CALLS: 1}, {CALLS: 2}

    await bench.task._fire_timers()
    assert bench.producer.calls == []
    bench.add(add("a", 1, offset=1))
    bench.input_offsets.positions[CALLS] = 2  # polled, and not folded yet
    await bench.task._fire_timers()
    assert bench.producer.calls == []
    await until_committed(bench, 2)

    assert bench.producer.calls.count("offsets tallies-group") == 2
    assert bench.input_offsets.end_requests == 1
    assert await bench.totals("a") == {"a": 3}


async def test_timers_wait_for_records_polled_with_the_position(store: Store) -> None:
    """A poll moves the position and adds the records at the same moment."""
    bench = Bench(store)
    await add_timer(bench)
    bench.now_us += 11 * SECOND_US
    bench.input_offsets.positions, bench.input_offsets.ends = {CALLS: 1}, {CALLS: 2}

    def poll() -> None:
        if not bench.task.buffered:
            bench.add(add("a", 1, offset=1))
            bench.input_offsets.positions[CALLS] = 2

    bench.input_offsets.before_position = poll
    await bench.task._fire_timers()

    assert bench.producer.calls == []
    assert bench.task.buffered == 1


async def test_a_timer_that_is_not_due_asks_for_no_end_offsets(store: Store) -> None:
    bench = Bench(store)
    await add_timer(bench)
    await bench.task._fire_timers()
    assert (bench.input_offsets.end_requests, bench.producer.calls) == (0, [])


async def test_an_idle_task_wakes_for_the_next_timer(store: Store) -> None:
    bench = Bench(store)
    await add_timer(bench, due_in_s=0.02)
    bench.input_offsets.positions = bench.input_offsets.ends = {CALLS: 1}
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    bench.task._config = TaskConfig(
        "tallies-group", 1, INTERVAL_S, 5, "cluster", lambda: T0_US + round((loop.time() - began_s) * 1e6)
    )

    await until_committed(bench, 1)

    assert bench.sample("timers_fired", "tallies") == 1


async def test_an_idle_task_waits_until_the_position_passes_markers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Markers at the end of a topic bring no record that would wake the task."""
    monkeypatch.setattr(task_module, "_POSITION_RETRY_S", 0.001)
    bench = Bench(store)
    await add_timer(bench)
    bench.now_us += 11 * SECOND_US
    bench.input_offsets.positions, bench.input_offsets.ends = {CALLS: 1}, {CALLS: 2}
    requests = 0

    def pass_the_marker() -> None:
        nonlocal requests
        requests += 1
        if requests == 3:
            bench.input_offsets.positions[CALLS] = 2

    bench.input_offsets.before_position = pass_the_marker
    await until_committed(bench, 1)

    assert bench.input_offsets.end_requests == 1


async def test_many_due_timers_fire_in_several_transactions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a long stop thousands are due at once. The end offsets are read once."""
    monkeypatch.setattr(task_module, "MAX_TIMERS", 2)
    monkeypatch.setattr(task_module, "_POSITION_RETRY_S", 0.001)
    bench = Bench(store)
    await bench.task.process_batch([add(f"k{n}", offset=n, due=T0_US + n) for n in range(5)])
    bench.now_us += SECOND_US
    bench.input_offsets.positions = bench.input_offsets.ends = {CALLS: 5}

    await until_committed(bench, 3)

    assert bench.sample("timers_fired", "tallies") == 5
    assert bench.input_offsets.end_requests == 1


async def test_an_expired_key_is_deleted_from_changelog_and_store(store: Store) -> None:
    """Its changelog record becomes a tombstone; no document is emitted."""
    bench = Bench(store)
    await bench.task.process_batch([add("a", 2, offset=0, expires=T0_US + SECOND_US)])
    bench.now_us += 2 * SECOND_US
    bench.input_offsets.positions = bench.input_offsets.ends = {CALLS: 1}

    await until_committed(bench, 1)

    assert (bench.producer.committed[-1].key, bench.producer.committed[-1].value) == (b"a", None)
    assert await bench.totals("a") == {}
    assert bench.store.next_due_us is None
