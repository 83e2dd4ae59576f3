"""One partition, exactly once: the order of effects, and what is left when any of them fails. The network is faked, the store is real."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from consumers.engine import task as task_module
from consumers.engine.batch import Input, Place
from consumers.engine.group import Partition
from consumers.engine.metrics import Metrics
from consumers.engine.store import Store, StoreBroken
from consumers.engine.task import Task, TaskBroken, Terms
from tests.unit.consumers.tally import (
    T0_US,
    FakeProducer,
    FakeReading,
    FakeRecord,
    Tally,
    TallyProjection,
    add,
)
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS

SECOND_US = 1_000_000
CALLS, ACTIVITY = Partition("voipex.call.events.v1", 0), Partition("voipex.agent.activity.v1", 0)
INTERVAL_S = 0.02


class Bench:
    """A task with fakes around it; `now_us` is its clock."""

    def __init__(
        self, store: Store, positions: dict[Partition, int] | None = None, limit_s: float = 5
    ) -> None:
        self.now_us = T0_US
        self.store = store
        self.producer = FakeProducer()
        self.reading = FakeReading()
        self.metrics = Metrics("test")
        self.positions = positions or {CALLS: 0, ACTIVITY: 0}
        self.limit_s = limit_s
        self.task = self.new_task()

    def new_task(self) -> Task[Tally]:
        terms = Terms("tallies-group", 1, INTERVAL_S, self.limit_s, "cluster", lambda: self.now_us)
        return Task(
            TallyProjection(),
            Place("voipex", 0),
            terms,
            self.store,
            self.producer,
            self.reading,
            self.positions,
            self.metrics,
        )

    def give(self, *inputs: Input) -> None:
        for kind, topic in ((CALL_EVENTS, CALLS.topic), (AGENT_ACTIVITY, ACTIVITY.topic)):
            self.task.take(topic, [each.record for each in inputs if each.kind == kind])

    async def totals(self, *keys: str) -> dict[str, int]:
        return {key: json.loads(value)["total"] for key, value in (await self.store.read(keys)).items()}

    def sample(self, name: str, *labels: str) -> float:
        metric = getattr(self.metrics, name)
        value: float = metric.labels(*labels)._value.get()
        return value


def on_bench(folder: Path, use: Callable[[Bench], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def run() -> Any:
        store = await Store.open(folder, "state-0")
        try:
            async with asyncio.timeout(20):
                return await use(Bench(store, **options))
        finally:
            await store.close()

    return asyncio.run(run())


async def until_committed(bench: Bench, transactions: int) -> None:
    """Let the task run until it has written so many, then close it."""
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == transactions:
            bench.task.close()

    bench.producer.hooks["commit"] = count
    await bench.task.run()


# -------------------------------------------------------------------------------- the order of effects


def test_a_batch_is_one_transaction_and_the_store_follows_it(tmp_path: Path) -> None:
    """Sent all, then offsets, then commit; the store's turn is last (I2, I3)."""

    async def use(bench: Bench) -> None:
        stored_at_commit: list[object] = []
        bench.producer.hooks["commit"] = lambda: stored_at_commit.append(bench.store.checkpoint)

        await bench.task.step([add("a", 2, offset=0), add("b", 3, offset=1)])

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

    on_bench(tmp_path, use)


def test_the_offset_of_an_input_without_records_is_committed_too(tmp_path: Path) -> None:
    """Else the next start finds states but no offset of that input, and must take it for lost."""

    async def use(bench: Bench) -> None:
        await bench.task.step([add("a", offset=7)])

        assert bench.producer.offsets == {CALLS: 8, ACTIVITY: 4}

    on_bench(tmp_path, use, positions={CALLS: 7, ACTIVITY: 4})


def test_records_of_both_inputs_move_both_offsets_in_one_transaction(tmp_path: Path) -> None:
    """Gaps are the markers of transactions, or records that a clean-up took."""

    async def use(bench: Bench) -> None:
        await bench.task.step(
            [add("a", offset=0), add("a", offset=3, kind=AGENT_ACTIVITY), add("a", offset=9)]
        )

        assert bench.producer.offsets == {CALLS: 10, ACTIVITY: 4}
        assert bench.producer.calls.count("commit") == 1

    on_bench(tmp_path, use)


def test_the_changelog_goes_on_where_the_store_ends(tmp_path: Path) -> None:
    """A batch that changes nothing writes nothing, and still commits its offsets."""

    async def use(bench: Bench) -> None:
        await bench.task.step([add("a", 2, offset=0)])
        await bench.task.step([add("a", 0, offset=1)])

        assert bench.producer.calls[-3:] == ["begin", "offsets tallies-group", "commit"]
        assert bench.producer.offsets[CALLS] == 2
        assert bench.store.checkpoint is not None
        assert bench.store.checkpoint.changelog_next == 1
        later = bench.new_task()
        await later.step([add("a", 0, offset=2)])
        assert bench.store.checkpoint.changelog_next == 1

    on_bench(tmp_path, use)


def test_what_was_done_is_counted(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        bench.now_us += 3 * SECOND_US
        broken = Input(CALL_EVENTS, FakeRecord(2, b"a", b"no json"))
        bench.give(add("a", offset=0), add("b", offset=1), broken)
        assert (bench.task.waiting, bench.task.waiting_of(CALLS.topic)) == (3, 3)

        await until_committed(bench, 1)

        assert (bench.task.waiting, bench.task.waiting_of(CALLS.topic)) == (0, 0)
        assert bench.sample("records", CALLS.topic) == 3
        assert bench.sample("documents", "tallies") == 2
        assert bench.sample("dead_letters", "voipex.dead-letters.v1", "tallies") == 1
        assert bench.sample("transactions", "tallies", "committed") == 1
        assert bench.metrics.event_age.labels("tallies")._sum.get() == 3

    on_bench(tmp_path, use)


# -------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "step", ["begin", "send call.state.v1", "send call.timelines.v1", "offsets tallies-group", "commit"]
)
@pytest.mark.parametrize(
    ("error", "fenced"),
    [
        (KafkaError("gone"), False),
        (AssertionError(), False),
        (ProducerFenced(), True),
        (InvalidProducerEpoch(), True),
    ],
    ids=["failed", "assertion", "fenced", "stale epoch"],
)
def test_a_failure_at_any_step_breaks_the_task_and_leaves_the_store_behind(
    tmp_path: Path, step: str, error: Exception, *, fenced: bool
) -> None:
    """The outcome is unknown: only a restore may tell. A store that ran ahead would be wrong for ever (I3)."""

    async def use(bench: Bench) -> None:
        await bench.task.step([add("a", 2, offset=0)])
        before = bench.store.checkpoint
        bench.producer.fault[step] = error

        with pytest.raises(TaskBroken) as broken:
            await bench.task.step([add("a", 5, offset=1)])

        assert broken.value.fenced is fenced
        assert type(error).__name__ in str(broken.value)
        assert await bench.totals("a") == {"a": 2}
        assert bench.store.checkpoint == before
        assert bench.sample("transactions", "tallies", "fenced" if fenced else "failed") == 1
        assert "commit" not in bench.producer.calls[5:] or step == "commit"

    on_bench(tmp_path, use)


def test_a_delivery_that_fails_keeps_the_offsets_and_the_commit_from_being_tried(tmp_path: Path) -> None:
    """A commit would succeed although a produce failed: the output lost, the offset committed."""

    async def use(bench: Bench) -> None:
        bench.producer.fault["send call.timelines.v1"] = KafkaError("too large")

        with pytest.raises(TaskBroken):
            await bench.task.step([add("a", offset=0)])

        assert not {"offsets tallies-group", "commit"} & set(bench.producer.calls)
        assert (bench.producer.committed, bench.producer.offsets) == ([], {})

    on_bench(tmp_path, use)


def test_a_transaction_that_hangs_breaks_the_task_in_time(tmp_path: Path) -> None:
    """The client itself may wait for ever."""

    async def use(bench: Bench) -> None:
        async def hang() -> None:
            await asyncio.Event().wait()

        bench.producer.commit = hang  # type: ignore[method-assign]
        with pytest.raises(TaskBroken, match="TimeoutError"):
            await bench.task.step([add("a", offset=0)])
        assert bench.store.checkpoint is None

    on_bench(tmp_path, use, limit_s=0.05)


def test_a_cancelled_transaction_leaves_the_store_behind(tmp_path: Path) -> None:
    """A cancelled commit may still succeed."""

    async def use(bench: Bench) -> None:
        bench.producer.fault["commit"] = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await bench.task.step([add("a", offset=0)])
        assert bench.store.checkpoint is None

    on_bench(tmp_path, use)


def test_a_store_that_breaks_after_the_commit_breaks_the_task(tmp_path: Path) -> None:
    """The transaction stands; the owner restores the store from the changelog."""

    async def use(bench: Bench) -> None:
        async def refuse(*_: object) -> None:
            raise StoreBroken("the disk is full")

        bench.store.commit = refuse  # type: ignore[method-assign, assignment]
        bench.give(add("a", offset=0))
        with pytest.raises(TaskBroken, match="the disk is full") as broken:
            await bench.task.run()
        assert not broken.value.fenced
        assert bench.producer.calls[-1] == "commit"

    on_bench(tmp_path, use)


@pytest.mark.parametrize("offsets", [(4,), (5, 5), (6, 5)], ids=["before the position", "twice", "backwards"])
def test_records_that_go_backwards_break_the_task_before_anything_is_written(
    tmp_path: Path, offsets: tuple[int, ...]
) -> None:
    """Then the position is not ours (I4)."""

    async def use(bench: Bench) -> None:
        bench.give(*(add("a", offset=offset) for offset in offsets))
        with pytest.raises(TaskBroken, match="went backwards"):
            await bench.task.run()
        assert bench.producer.calls == []

    on_bench(tmp_path, use, positions={CALLS: 5, ACTIVITY: 0})


# -------------------------------------------------------------------------------- gathering and closing


def test_records_that_come_within_the_interval_share_a_transaction(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        bench.give(add("a", offset=0))
        asyncio.get_running_loop().call_later(INTERVAL_S / 4, lambda: bench.give(add("a", offset=1)))

        await until_committed(bench, 1)

        assert await bench.totals("a") == {"a": 2}

    on_bench(tmp_path, use)


def test_a_batch_that_is_full_does_not_wait_and_takes_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TallyProjection, "records_at_once", 3)
    monkeypatch.setattr(f"{__name__}.INTERVAL_S", 30.0)

    async def use(bench: Bench) -> None:
        bench.give(*(add("a", offset=n) for n in range(4)))

        await until_committed(bench, 1)

        assert bench.producer.offsets[CALLS] == 3
        assert (bench.task.waiting, bench.task.waiting_of(CALLS.topic)) == (1, 1)

    on_bench(tmp_path, use)


def test_a_task_whose_input_has_a_gap_breaks_off_and_writes_no_more(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        bench.give(add("a", 1))
        bench.task.fail("the topic is at 9, handed on until 7")

        with pytest.raises(TaskBroken, match="handed on until 7"):
            await bench.task.run()

        assert bench.producer.calls == []

    on_bench(tmp_path, use)


def test_a_closed_task_returns_and_leaves_what_it_took_to_the_next_owner(tmp_path: Path) -> None:
    """Idle, gathering, or closed before it began."""

    async def use(bench: Bench) -> None:
        idle = asyncio.create_task(bench.task.run())
        await asyncio.sleep(0)
        bench.task.close()
        await idle

        bench.task = bench.new_task()
        bench.give(add("a", offset=0))
        gathering = asyncio.create_task(bench.task.run())
        await asyncio.sleep(0)
        bench.task.close()
        await gathering
        assert bench.task.waiting == 1

        await bench.task.run()
        assert bench.producer.calls == []

    on_bench(tmp_path, use)


# -------------------------------------------------------------------------------- timers


async def with_deadline(bench: Bench, *, due_in_s: float = 10) -> None:
    """A key that is due."""
    await bench.task.step([add("a", 2, offset=0, due=T0_US + round(due_in_s * SECOND_US))])
    bench.producer.calls.clear()


def test_a_deadline_that_has_passed_fires_without_input_offsets(tmp_path: Path) -> None:
    """The place's only writer writes it, in a transaction like any other."""

    async def use(bench: Bench) -> None:
        await with_deadline(bench)
        bench.now_us += 11 * SECOND_US
        bench.reading.positions = bench.reading.ends_now = {CALLS: 1}

        await until_committed(bench, 1)

        assert bench.producer.calls == ["begin", "send call.state.v1", "offsets tallies-group", "commit"]
        assert bench.producer.offsets == {CALLS: 1, ACTIVITY: 0}
        assert bench.sample("timers_fired", "tallies") == 1
        source = dict(bench.producer.committed[-1].headers)
        assert (source["bridge-source-topic"], source["bridge-source-offset"]) == (CALLS.topic.encode(), b"0")
        assert (
            bench.store.next_due_us == bench.now_us + 3600 * SECOND_US
        )  # it changed nothing: not without end

    on_bench(tmp_path, use)


def test_a_deadline_waits_until_everything_is_read_that_could_matter_to_it(tmp_path: Path) -> None:
    """A service that catches up would call a call stale whose end it has not read yet."""

    async def use(bench: Bench) -> None:
        await with_deadline(bench)
        bench.now_us += 11 * SECOND_US
        bench.reading.positions, bench.reading.ends_now = {CALLS: 1}, {CALLS: 2}

        await bench.task._fire_due()
        assert bench.producer.calls == []
        bench.give(add("a", 1, offset=1))
        bench.reading.positions[CALLS] = 2  # polled, and not folded yet
        await bench.task._fire_due()
        assert bench.producer.calls == []
        await until_committed(bench, 2)

        assert bench.producer.calls.count("offsets tallies-group") == 2
        assert bench.reading.asked_ends == 1
        assert await bench.totals("a") == {"a": 3}

    on_bench(tmp_path, use)


def test_records_that_a_poll_brings_while_the_position_is_asked_for_hold_a_deadline_back(
    tmp_path: Path,
) -> None:
    """The position passes them at the same moment at which they are handed over."""

    async def use(bench: Bench) -> None:
        await with_deadline(bench)
        bench.now_us += 11 * SECOND_US
        bench.reading.positions, bench.reading.ends_now = {CALLS: 1}, {CALLS: 2}

        def poll() -> None:
            if not bench.task.waiting:
                bench.give(add("a", 1, offset=1))
                bench.reading.positions[CALLS] = 2

        bench.reading.before_position = poll
        await bench.task._fire_due()

        assert bench.producer.calls == []
        assert bench.task.waiting == 1

    on_bench(tmp_path, use)


def test_what_is_not_due_yet_asks_the_brokers_nothing(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        await with_deadline(bench)
        await bench.task._fire_due()
        assert (bench.reading.asked_ends, bench.producer.calls) == (0, [])

    on_bench(tmp_path, use)


def test_a_waiting_task_wakes_for_the_next_deadline(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        await with_deadline(bench, due_in_s=0.02)
        bench.reading.positions = bench.reading.ends_now = {CALLS: 1}
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        bench.task._terms = Terms(
            "tallies-group", 1, INTERVAL_S, 5, "cluster", lambda: T0_US + round((loop.time() - began_s) * 1e6)
        )

        await until_committed(bench, 1)

        assert bench.sample("timers_fired", "tallies") == 1

    on_bench(tmp_path, use)


def test_a_waiting_task_looks_again_until_the_position_has_passed_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Markers at the end bring no record that would wake it."""
    monkeypatch.setattr(task_module, "_LOOK_AGAIN_S", 0.001)

    async def use(bench: Bench) -> None:
        await with_deadline(bench)
        bench.now_us += 11 * SECOND_US
        bench.reading.positions, bench.reading.ends_now = {CALLS: 1}, {CALLS: 2}
        asked = 0

        def pass_the_marker() -> None:
            nonlocal asked
            asked += 1
            if asked == 3:
                bench.reading.positions[CALLS] = 2

        bench.reading.before_position = pass_the_marker
        await until_committed(bench, 1)

        assert bench.reading.asked_ends == 1

    on_bench(tmp_path, use)


def test_more_deadlines_than_one_transaction_takes_are_fired_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a long stop thousands are due at once; the end offsets are asked for once."""
    monkeypatch.setattr(task_module, "MAX_TIMERS", 2)
    monkeypatch.setattr(task_module, "_LOOK_AGAIN_S", 0.001)

    async def use(bench: Bench) -> None:
        await bench.task.step([add(f"k{n}", offset=n, due=T0_US + n) for n in range(5)])
        bench.now_us += SECOND_US
        bench.reading.positions = bench.reading.ends_now = {CALLS: 5}

        await until_committed(bench, 3)

        assert bench.sample("timers_fired", "tallies") == 5
        assert bench.reading.asked_ends == 1

    on_bench(tmp_path, use)


def test_a_key_that_nothing_asks_for_any_more_is_forgotten(tmp_path: Path) -> None:
    """Its state becomes a tombstone of the changelog; a call that ended long ago has nothing left to tell."""

    async def use(bench: Bench) -> None:
        await bench.task.step([add("a", 2, offset=0, expires=T0_US + SECOND_US)])
        bench.now_us += 2 * SECOND_US
        bench.reading.positions = bench.reading.ends_now = {CALLS: 1}

        await until_committed(bench, 1)

        assert (bench.producer.committed[-1].key, bench.producer.committed[-1].value) == (b"a", None)
        assert await bench.totals("a") == {}
        assert bench.store.next_due_us is None

    on_bench(tmp_path, use)
