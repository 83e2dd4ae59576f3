"""What a member of the group does without a broker: waiting for one, what it says of itself, whom it feeds and whom it halts."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.engine import worker as worker_module
from consumers.engine.batch import Place
from consumers.engine.group import OutOfRange, Partition
from consumers.engine.metrics import Metrics
from consumers.engine.restore import OffsetsLost
from consumers.engine.store import StoreBroken
from consumers.engine.task import TaskBroken
from consumers.engine.worker import Worker, _Owner, _Session
from consumers.settings import Settings
from tests.unit.consumers.tally import T0_US, Tally, TallyProjection
from voipex.errors import BridgeError, KafkaUnreachable, TopicMismatch

CALLS, ACTIVITY = Partition("voipex.call.events.v1", 0), Partition("voipex.agent.activity.v1", 0)
PLACE = Place("voipex", 0)


class FakeConsumer:
    """The group's client."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Partition, ...]]] = []
        self.polls: list[Mapping[Partition, Sequence[Any]] | Exception] = []
        self.heard_at_ms: int | None = None
        self.positions: dict[Partition, int] = {}

    def reached(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        return {each: self.positions[each] for each in partitions if each in self.positions}

    def pause(self, partitions: Iterable[Partition]) -> None:
        self.calls.append(("pause", tuple(partitions)))

    def resume(self, partitions: Iterable[Partition]) -> None:
        self.calls.append(("resume", tuple(partitions)))

    def fetched_at_ms(self, partition: Partition) -> int | None:
        del partition
        return self.heard_at_ms

    async def poll(
        self, partitions: Iterable[Partition], timeout_ms: int
    ) -> Mapping[Partition, Sequence[Any]]:
        del partitions, timeout_ms
        told = self.polls.pop(0)
        if isinstance(told, Exception):
            raise told
        return told


class FakeTask:
    def __init__(self, waiting: int = 0) -> None:
        self.waiting = waiting
        self.taken: list[tuple[str, Sequence[Any]]] = []
        self.closed = False
        self.faults: list[str] = []
        self.store = SimpleNamespace(standings={"odd": 2}, next_due_us=T0_US, size_bytes=4096)

    def take(self, topic: str, records: Sequence[Any]) -> None:
        self.taken.append((topic, records))

    def fail(self, why: str) -> None:
        self.faults.append(why)

    def close(self) -> None:
        self.closed = True


def settings(folder: Path) -> Settings:
    return Settings(state_dir=folder, kafka_bootstrap_servers="127.0.0.1:1", topic_partitions=1)


def worker(folder: Path) -> Worker[Tally]:
    return Worker(TallyProjection(), settings(folder), Metrics("test"), lambda: T0_US)


def in_session(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[_Session[Tally], FakeConsumer], Coroutine[Any, Any, None]],
    work: Callable[[_Owner[Tally]], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """A session whose owners do *work* (default: nothing) instead of their own."""

    async def nothing(_: _Owner[Tally]) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(_Owner, "_once", work or nothing)

    async def run() -> None:
        session = _Session(TallyProjection(), settings(folder), Metrics("test"), lambda: T0_US)
        consumer = FakeConsumer()
        session.consumer = consumer  # type: ignore[assignment]
        try:
            async with asyncio.timeout(10):
                await use(session, consumer)
        finally:
            for owner in session.owners.values():
                owner.task = None  # a fake does not end when it is closed
            await session._revoked()

    asyncio.run(run())


def running(session: _Session[Tally], task: FakeTask) -> Mapping[Place, _Owner[Tally]]:
    session._assigned({CALLS, ACTIVITY})
    owner = session.owners[PLACE]
    owner.task = task  # type: ignore[assignment]
    owner.state = "running"
    return {PLACE: owner}


# -------------------------------------------------------------------------------- without Kafka


def test_a_worker_without_kafka_tries_again_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage is no reason to end."""
    monkeypatch.setattr(worker_module, "_BACKOFF_S", (0.0,))
    tries = 0
    member = worker(tmp_path)

    async def unreachable(*_: object) -> str:
        nonlocal tries
        tries += 1
        if tries == 3:
            member.stop()
        raise KafkaUnreachable("nobody answers")

    monkeypatch.setattr(worker_module, "examine", unreachable)
    asyncio.run(member.run())

    assert tries == 3
    assert not member.ready


def test_a_worker_ends_when_the_topics_are_not_as_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better no documents than some in the wrong place (I7)."""

    async def wrong(*_: object) -> str:
        raise TopicMismatch(["voipex.call.events.v1: missing"])

    monkeypatch.setattr(worker_module, "examine", wrong)

    with pytest.raises(TopicMismatch):
        asyncio.run(worker(tmp_path).run())


def test_a_worker_that_is_told_to_stop_while_it_joins_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others keep a join waiting: a frozen member for as long as its session lasts."""
    member = worker(tmp_path)
    joining = asyncio.Event()

    async def for_ever(*_: object) -> str:
        joining.set()
        await asyncio.Event().wait()
        return ""

    async def run() -> None:
        running = asyncio.create_task(member.run())
        await joining.wait()
        member.stop()
        await running

    monkeypatch.setattr(worker_module, "examine", for_ever)
    asyncio.run(run())

    assert not member.ready


def test_before_it_has_joined_a_worker_is_not_ready_and_says_why(tmp_path: Path) -> None:
    member = worker(tmp_path)

    assert not member.ready
    assert member.describe() == {"group": "voipex-tallies", "joined": False, "partitions": {}, "halted": {}}
    assert member.standing() == ("tallies", "voipex-tallies", {}, {}, {}, 0, 0)


def test_a_session_that_has_not_begun_has_no_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(session: _Session[Tally], _: FakeConsumer) -> None:
        with pytest.raises(BridgeError):
            session.plan(PLACE, (CALLS, ACTIVITY))

    in_session(tmp_path, monkeypatch, use)


# -------------------------------------------------------------------------------- membership


def test_each_place_gets_one_owner_for_that_partition_of_every_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(session: _Session[Tally], _: FakeConsumer) -> None:
        session._assigned({CALLS, ACTIVITY, Partition("brno.call.events.v1", 3)})

        assert set(session.owners) == {PLACE, Place("brno", 3)}
        assert session.owners[PLACE].inputs == (CALLS, ACTIVITY)
        assert session.joined
        assert session.partitions() == {"restoring": 2}
        await session._revoked()
        assert (session.owners, session.joined) == ({}, False)

    in_session(tmp_path, monkeypatch, use)


def test_what_a_worker_says_of_itself_is_of_its_running_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(session: _Session[Tally], consumer: FakeConsumer) -> None:
        consumer.lag = lambda _: None  # type: ignore[attr-defined]
        member = worker(tmp_path)
        member._session = session
        running(session, FakeTask())

        assert member.ready
        standing = member.standing()
        assert (standing.partitions, standing.keys) == ({"running": 1}, {("voipex", "odd"): 2})
        assert (standing.timers_due, standing.store_bytes, standing.lag) == (1, 4096, {})
        session.owners[PLACE].halt("offsets are lost")
        assert member.standing().partitions == {"halted": 1}
        assert member.describe()["halted"] == {"voipex/0": "offsets are lost"}

    in_session(tmp_path, monkeypatch, use)


def test_a_task_that_has_enough_gets_no_more_until_it_has_worked_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back-pressure is a pause, not a growing list."""

    async def use(session: _Session[Tally], consumer: FakeConsumer) -> None:
        task = FakeTask(waiting=TallyProjection.records_at_once)
        owners = running(session, task)

        full = session._hold_back(owners, set())
        full = session._hold_back(owners, full)
        task.waiting = 0
        full = session._hold_back(owners, full)

        assert consumer.calls == [("pause", (CALLS, ACTIVITY)), ("resume", (CALLS, ACTIVITY))]
        assert full == set()

    in_session(tmp_path, monkeypatch, use)


def test_polled_records_go_to_the_task_of_their_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(session: _Session[Tally], consumer: FakeConsumer) -> None:
        task = FakeTask()
        owners = running(session, task)
        consumer.polls = [{CALLS: ["one", "two"]}, {CALLS: ["three"]}]

        await session._poll_once(owners)
        session.owners[PLACE].task = None  # it broke meanwhile; its successor seeks
        await session._poll_once(owners)

        assert task.taken == [(CALLS.topic, ["one", "two"])]

    in_session(tmp_path, monkeypatch, use)


def test_records_that_come_while_the_partitions_are_assigned_anew_go_to_their_new_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has sought already, so nobody would read them again."""

    async def use(session: _Session[Tally], consumer: FakeConsumer) -> None:
        before, after = FakeTask(), FakeTask()
        owners = running(session, before)

        async def poll(*_: object) -> Mapping[Partition, Sequence[Any]]:
            owners[PLACE]._working.cancel()
            session.owners = {}
            running(session, after)
            return {CALLS: ["one"]}

        monkeypatch.setattr(consumer, "poll", poll)
        await session._poll_once(owners)

        assert (before.taken, after.taken) == ([], [(CALLS.topic, ["one"])])

    in_session(tmp_path, monkeypatch, use)


def test_what_was_polled_and_handed_to_nobody_makes_the_task_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lag would be 0 and documents wrong. Markers move positions too: without records that is no gap."""

    async def use(session: _Session[Tally], consumer: FakeConsumer) -> None:
        task = FakeTask()
        owners = running(session, task)
        session.owners[PLACE].handed = {CALLS: 5, ACTIVITY: 0}
        consumer.positions = {CALLS: 5, ACTIVITY: 0}

        async def poll(*_: object) -> Mapping[Partition, Sequence[Any]]:
            consumer.positions = {CALLS: 7, ACTIVITY: 1}
            return {CALLS: ["five"]}

        monkeypatch.setattr(consumer, "poll", poll)
        await session._poll_once(owners)
        await session._poll_once(owners)
        assert (len(task.taken), task.faults) == (2, [])

        consumer.positions = {CALLS: 9, ACTIVITY: 1}
        await session._poll_once(owners)
        assert task.faults == ["voipex.call.events.v1 0 is at 9, handed on until 7"]

    in_session(tmp_path, monkeypatch, use)


def test_a_partition_whose_next_record_is_not_there_is_halted_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never reset silently; it is said in the log and in `/ready`."""

    async def use(session: _Session[Tally], consumer: FakeConsumer) -> None:
        task = FakeTask()
        owners = running(session, task)
        consumer.polls = [OutOfRange([CALLS, Partition("brno.call.events.v1", 9)])]

        with capture_logs() as logs:
            await session._poll_once(owners)

        assert task.closed
        assert session.partitions() == {"halted": 1}
        assert [each["log_level"] for each in logs] == ["error"]
        assert CALLS.topic in logs[0]["why"]

    in_session(tmp_path, monkeypatch, use)


@pytest.mark.parametrize(("silent_s", "ends"), [(59, False), (61, True), (None, False)])
def test_a_client_that_no_broker_answers_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_s: float | None, *, ends: bool
) -> None:
    """It knows only the addresses that it last heard of."""

    async def use(session: _Session[Tally], consumer: FakeConsumer) -> None:
        owners = running(session, FakeTask())
        consumer.heard_at_ms = None if silent_s is None else round((time.time() - silent_s) * 1000)

        session._watch(owners.values())

        assert (session._fault is not None) is ends

    in_session(tmp_path, monkeypatch, use)


# -------------------------------------------------------------------------------- owners


def test_an_owner_whose_task_broke_begins_again_with_the_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_BACKOFF_S", (0.0,))
    causes: list[Exception | None] = [
        TaskBroken("unknown", fenced=False),
        StoreBroken("full"),
        KafkaUnreachable("away"),
        OSError("no space"),
        TaskBroken("fenced once", fenced=True),
        None,
    ]

    async def work(_: _Owner[Tally]) -> None:
        cause = causes.pop(0)
        if cause is not None:
            raise cause

    async def use(session: _Session[Tally], _: FakeConsumer) -> None:
        session._assigned({CALLS, ACTIVITY})
        await session.owners[PLACE]._working
        assert causes == []
        assert session._fault is None

    in_session(tmp_path, monkeypatch, use, work)


def test_an_owner_that_is_fenced_twice_gives_the_membership_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two instances would fence each other for ever; only the group can say who should work there."""
    monkeypatch.setattr(worker_module, "_BACKOFF_S", (0.0,))

    async def work(_: _Owner[Tally]) -> None:
        raise TaskBroken("fenced", fenced=True)

    async def use(session: _Session[Tally], _: FakeConsumer) -> None:
        session._assigned({CALLS, ACTIVITY})
        await session.owners[PLACE]._working
        assert isinstance(session._fault, KafkaUnreachable)
        assert "voipex/0 was fenced twice" in str(session._fault)

    in_session(tmp_path, monkeypatch, use, work)


def test_an_owner_without_offsets_halts_and_tries_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(_: _Owner[Tally]) -> None:
        raise OffsetsLost("they expired")

    async def use(session: _Session[Tally], _: FakeConsumer) -> None:
        session._assigned({CALLS, ACTIVITY})
        await session.owners[PLACE]._working
        assert session.halted() == {"voipex/0": "they expired"}
        assert session._fault is None

    in_session(tmp_path, monkeypatch, use, work)


def test_a_restore_that_is_revoked_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(session: _Session[Tally], _: FakeConsumer) -> None:
        session._assigned({CALLS, ACTIVITY})
        owner = session.owners[PLACE]
        await asyncio.sleep(0)
        await session._revoked()
        assert owner.state == "closed"
        assert owner._working.cancelled()

    in_session(tmp_path, monkeypatch, use)
