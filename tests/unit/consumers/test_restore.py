"""Restore: each step, and each reason to wipe the store. The brokers are faked, the store is real."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from consumers.engine.database import Checkpoint
from consumers.engine.errors import OffsetsLost, StateUnreadable, TransactionHanging
from consumers.engine.projection import PartsNeeded
from consumers.engine.records import ChangelogRecord, PartKey, StateChange, TopicPartition
from consumers.engine.restore import (
    CHANGELOG_TRUNCATED,
    MAX_STORE_AGE_US,
    UNREADABLE_STATE,
    Restored,
    RestorePlan,
    restore,
)
from consumers.engine.store import Store
from tests.unit.consumers.tally import T0_US, FakeGroupOffsets, FakeProducer

pytestmark = pytest.mark.anyio

CALLS, ACTIVITY = TopicPartition("voipex.call.events.v1", 2), TopicPartition("voipex.agent.activity.v1", 2)
CHANGELOG = TopicPartition("voipex.call.state.v1", 2)
GOOD = Checkpoint("cluster", 3, 10, {CALLS.topic: 20, ACTIVITY.topic: 5}, T0_US - 1_000)
LINES = TopicPartition("voipex.agent.lines.v1", 5)
STORED = {"stored": StateChange(b"old", None, "odd")}


def changelog_record(
    offset: int, key: str, value: bytes | None, *, version: int = 3, **headers: str
) -> ChangelogRecord:
    named = {f"bridge-{name.replace('_', '-')}": text.encode() for name, text in headers.items()}
    return ChangelogRecord(offset, key.encode(), value, {"bridge-fold-version": b"%d" % version, **named})


@dataclass
class World:
    """The brokers as a restore finds them: the changelog is [0, 12), the group is at 20 and 5."""

    offsets: FakeGroupOffsets = field(
        default_factory=lambda: FakeGroupOffsets(
            group={CALLS: 20, ACTIVITY: 5}, ends={CHANGELOG: 12, CALLS: 30, ACTIVITY: 5}
        )
    )
    changelog: Sequence[ChangelogRecord] = (
        changelog_record(3, "stored", b"old", source_topic=CALLS.topic, source_offset="8", status="odd"),
        changelog_record(
            10, "new", b"1", source_topic=CALLS.topic, source_offset="19", status="even", due_us="77"
        ),
    )
    reads: list[tuple[int, int]] = field(default_factory=list)

    async def read_changelog(
        self, partition: TopicPartition, start: int, end: int
    ) -> AsyncIterator[tuple[Sequence[ChangelogRecord], int]]:
        assert partition == CHANGELOG
        self.reads.append((start, end))
        for record in self.changelog:
            if start <= record.offset < end:
                yield [record], record.offset + 1
        yield [], end  # the marker


@dataclass
class Outcome:
    result: Restored
    checkpoint: Checkpoint | None
    states: Mapping[str, bytes]
    status_counts: Mapping[str, int]
    next_due_us: int | None


@pytest.fixture
def world() -> World:
    return World()


async def restored(
    folder: Path,
    world: World,
    checkpoint: Checkpoint | None = None,
    changes: Mapping[str, StateChange] = STORED,
    now_us: int = T0_US,
    suspects: frozenset[str] = frozenset(),
    limit_s: float = 0.0,
    outputs: tuple[TopicPartition, ...] = (),
    notify: Callable[[str | None], None] = lambda _: None,
) -> Outcome:
    """Restore a store that has *changes* as of *checkpoint*. The rules can decode everything but `bad`; `parted` needs a part."""

    def decode(value: bytes, parts: Mapping[str, bytes]) -> object:
        if value == b"bad" or b"bad" in parts.values():
            raise KeyError(value)
        if value == b"parted" and "1" not in parts:
            raise PartsNeeded(["1"])
        return value

    plan = RestorePlan(
        "cluster",
        3,
        CHANGELOG,
        (CALLS, ACTIVITY),
        now_us,
        outputs=outputs,
        open_transaction_limit_s=limit_s,
        notify=notify,
        suspects=suspects,
        decode=decode,
    )
    producer = FakeProducer()
    producer.hooks["start"] = lambda: world.offsets.requests.append("fenced")
    store = await Store.open(folder, "state-2")
    try:
        if checkpoint is not None:
            await store.commit(changes, checkpoint)
        result = await restore(plan, store, producer, world.offsets, world.read_changelog)
        states = await store.read(["stored", "new", "gone"])
        return Outcome(result, store.checkpoint, states, dict(store.status_counts), store.next_due_us)
    finally:
        await store.close()


async def test_an_empty_store_reads_the_changelog_from_its_beginning(tmp_path: Path, world: World) -> None:
    outcome = await restored(tmp_path, world)

    assert outcome.result == Restored({CALLS: 20, ACTIVITY: 5}, 2, None)
    assert outcome.states == {"stored": b"old", "new": b"1"}
    assert outcome.status_counts == {"odd": 1, "even": 1}
    assert outcome.next_due_us == 77
    assert outcome.checkpoint == Checkpoint("cluster", 3, 12, {CALLS.topic: 20, ACTIVITY.topic: 5}, T0_US)
    assert world.reads == [(0, 12)]


async def test_offsets_are_read_only_after_fencing(tmp_path: Path, world: World) -> None:
    """Before it, a transaction may be open whose outcome is unknown (I4)."""
    await restored(tmp_path, world)

    assert world.offsets.requests == [
        "fenced",
        "watermarks",
        "ends",
        "committed",
        "committed",
        "beginnings",
        "ends",
    ]


async def test_a_valid_store_rolls_forward_from_its_checkpoint(tmp_path: Path, world: World) -> None:
    outcome = await restored(tmp_path, world, GOOD)

    assert world.reads == [(10, 12)]
    assert (outcome.result.records, outcome.result.wiped_because) == (1, None)
    assert outcome.states == {"stored": b"old", "new": b"1"}


async def test_an_up_to_date_store_reads_nothing(tmp_path: Path, world: World) -> None:
    outcome = await restored(tmp_path, world, GOOD._replace(changelog_next=12))

    assert world.reads == []
    assert outcome.result == Restored({CALLS: 20, ACTIVITY: 5}, 0, None)


@pytest.mark.parametrize(
    ("checkpoint", "lows", "reason"),
    [
        (GOOD._replace(cluster_id="another"), {}, "another cluster"),
        (GOOD._replace(fold_version=2), {}, "another fold version"),
        (GOOD, {CHANGELOG: 11}, "the changelog begins after the checkpoint"),
        (GOOD._replace(changelog_next=13), {}, CHANGELOG_TRUNCATED),
        (GOOD._replace(written_us=T0_US - MAX_STORE_AGE_US - 1), {}, "too old"),
        (GOOD._replace(written_us=T0_US + 1), {}, "too old"),
        (GOOD._replace(inputs_next={CALLS.topic: 21}), {}, "ahead of the group's offsets"),
    ],
    ids=["cluster", "fold version", "moved on", "truncated", "old", "in the future", "ahead"],
)
async def test_a_doubtful_store_is_wiped_and_restored(
    tmp_path: Path, world: World, checkpoint: Checkpoint, lows: dict[TopicPartition, int], reason: str
) -> None:
    """An old store may have missed tombstones; any other mismatch means it belongs to another history (I8)."""
    world.offsets.begins = lows

    outcome = await restored(tmp_path, world, checkpoint, {"gone": StateChange(b"1", 5, "odd")})

    assert outcome.result.wiped_because == reason
    assert world.reads == [(lows.get(CHANGELOG, 0), 12)]
    assert "gone" not in outcome.states


@pytest.mark.parametrize("written_us", [T0_US, T0_US - MAX_STORE_AGE_US])
async def test_a_store_is_trusted_for_half_of_delete_retention(
    tmp_path: Path, world: World, written_us: int
) -> None:
    outcome = await restored(tmp_path, world, GOOD._replace(written_us=written_us))

    assert outcome.result.wiped_because is None


async def test_a_truncated_changelog_is_logged_as_an_error(tmp_path: Path, world: World) -> None:
    with capture_logs() as logs:
        await restored(tmp_path, world, GOOD._replace(changelog_next=13))

    assert [(each["log_level"], each["event"]) for each in logs] == [("error", "changelog truncated")]


async def test_a_tombstone_deletes_the_state_from_the_store(tmp_path: Path, world: World) -> None:
    world.changelog = (changelog_record(10, "stored", None, source_topic=CALLS.topic, source_offset="19"),)

    outcome = await restored(tmp_path, world, GOOD)

    assert (outcome.states, outcome.status_counts) == ({}, {})


async def test_parts_of_states_are_restored_and_deleted(tmp_path: Path, world: World) -> None:
    """A part is a record of its own, and no key."""
    world.changelog = tuple(
        ChangelogRecord(offset, PartKey("stored", name).encode(), value, {})
        for offset, name, value in [(7, "1", b"x"), (8, "2", b"y"), (10, "3", b"z"), (11, "1", None)]
    )
    outcome = await restored(tmp_path, world)
    store = await Store.open(tmp_path, "state-2")
    try:
        found = await store.read_parts({"stored": ["2", "3"]})
        assert await store.read_parts({"stored": ["1"]}) == {"stored": {}}
    finally:
        await store.close()

    assert (outcome.states, outcome.status_counts, outcome.result.records) == ({}, {}, 4)
    assert found == {"stored": {"2": b"y", "3": b"z"}}


async def test_a_state_of_another_fold_version_is_due_at_once(tmp_path: Path, world: World) -> None:
    """It is folded again and its documents are emitted, without a manual step."""
    world.changelog = (changelog_record(3, "stored", b"old", version=2, due_us="77", status="odd"),)

    assert (await restored(tmp_path, world)).next_due_us == 0


# -------------------------------------------------------------------------------- offsets


async def test_a_first_start_reads_from_the_beginning_offsets(tmp_path: Path, world: World) -> None:
    world.offsets = FakeGroupOffsets(ends={CALLS: 30}, begins={CALLS: 4})

    outcome = await restored(tmp_path, world)

    assert outcome.result == Restored({CALLS: 4, ACTIVITY: 0}, 0, None)
    assert world.reads == []


@pytest.mark.parametrize(
    "checkpoint", [None, GOOD._replace(changelog_next=2, inputs_next={})], ids=["new", "again"]
)
async def test_an_aborted_first_transaction_is_still_a_first_start(
    tmp_path: Path, world: World, checkpoint: Checkpoint | None
) -> None:
    """Such a changelog has offsets and no record, also when an earlier restore wrote a checkpoint for it."""
    world.offsets = FakeGroupOffsets(ends={CHANGELOG: 2, CALLS: 30})
    world.changelog = ()

    outcome = await restored(tmp_path, world, checkpoint, {})

    assert outcome.result.positions == {CALLS: 0, ACTIVITY: 0}
    assert outcome.result.wiped_because is None


@pytest.mark.parametrize(
    "checkpoint", [None, GOOD._replace(changelog_next=12, inputs_next={})], ids=["read", "stored"]
)
@pytest.mark.parametrize("missing", [CALLS, ACTIVITY])
async def test_states_without_a_group_offset_mean_lost_offsets(
    tmp_path: Path, world: World, missing: TopicPartition, checkpoint: Checkpoint | None
) -> None:
    """Starting from any offset could lose or repeat records, so a person decides."""
    del world.offsets.group[missing]

    with pytest.raises(OffsetsLost, match=f"no offset for {missing.topic}-2"):
        await restored(tmp_path, world, checkpoint)


@pytest.mark.parametrize(
    ("lows", "highs", "message"),
    [
        ({CALLS: 21}, {}, "begins at 21, the group has read up to 20: records were deleted before"),
        ({}, {CALLS: 19}, "ends at 19, the group has read up to 20: the topic lost records"),
    ],
)
async def test_an_offset_out_of_range_is_never_reset(
    tmp_path: Path,
    world: World,
    lows: dict[TopicPartition, int],
    highs: dict[TopicPartition, int],
    message: str,
) -> None:
    world.offsets.begins.update(lows)
    world.offsets.ends.update(highs)

    with pytest.raises(OffsetsLost, match=message):
        await restored(tmp_path, world)


@pytest.mark.parametrize(("low", "high"), [(20, 30), (0, 20), (20, 20)])
async def test_an_offset_at_the_edge_of_the_range_is_valid(
    tmp_path: Path, world: World, low: int, high: int
) -> None:
    world.offsets.begins[CALLS], world.offsets.ends[CALLS] = low, high

    assert (await restored(tmp_path, world)).result.positions[CALLS] == 20


async def test_offsets_moved_back_are_logged(tmp_path: Path, world: World) -> None:
    """Records are read again, which changes nothing; the log explains the lag."""
    world.offsets.group[CALLS] = 19

    with capture_logs() as logs:
        outcome = await restored(tmp_path, world)

    assert outcome.result.positions[CALLS] == 19
    assert [(each["log_level"], each["topic"]) for each in logs] == [("warning", CALLS.topic)]


# -------------------------------------------------------------------------------- what halts


async def test_a_suspect_is_read_again_from_the_changelog(tmp_path: Path, world: World) -> None:
    """Its state in the store could not be decoded; the changelog's can, so the store was damaged."""
    outcome = await restored(tmp_path, world, GOOD, suspects=frozenset({"stored"}))

    assert outcome.result.wiped_because == UNREADABLE_STATE
    assert world.reads == [(0, 12)]


@pytest.mark.parametrize(
    "record",
    [
        changelog_record(7, "stored", b"bad"),
        changelog_record(7, "stored", b"good", due_us="soon"),
        changelog_record(7, "stored", b"good", source_offset="x"),
    ],
    ids=["value", "due", "source offset"],
)
async def test_an_unreadable_last_record_of_a_key_halts(
    tmp_path: Path, world: World, record: ChangelogRecord
) -> None:
    """The next restore must find it again, so nothing of this one is kept."""
    world.changelog = (*world.changelog[:1], record, *world.changelog[1:])
    for _ in range(2):
        with pytest.raises(StateUnreadable, match=r"state.v1-2 has a record at offset 7 that cannot be read"):
            await restored(tmp_path, world, suspects=frozenset({"stored"}))


@pytest.mark.parametrize(("part", "is_readable"), [(b"good", True), (b"bad", False), (None, False)])
async def test_a_suspect_is_read_with_its_parts(
    tmp_path: Path, world: World, part: bytes | None, is_readable: bool
) -> None:
    """A part that is missing in the changelog halts too: no retry brings it back."""
    written = ChangelogRecord(7, PartKey("stored", "1").encode(), part, {})
    world.changelog = (written, changelog_record(8, "stored", b"parted"))

    with contextlib.nullcontext() if is_readable else pytest.raises(StateUnreadable, match="at offset 8"):
        outcome = await restored(tmp_path, world, suspects=frozenset({"stored"}))
        assert outcome.states == {"stored": b"parted"}


async def test_an_unreadable_record_that_was_replaced_is_ignored(tmp_path: Path, world: World) -> None:
    """Compaction takes its time to remove it."""
    world.changelog = (
        changelog_record(1, "stored", b"bad"),
        changelog_record(2, "gone", b"good", due_us="soon"),
        *world.changelog,
        changelog_record(11, "gone", None),
    )

    outcome = await restored(tmp_path, world, suspects=frozenset({"stored"}))

    assert outcome.states == {"stored": b"old", "new": b"1"}


async def test_a_transaction_without_an_end_halts(tmp_path: Path, world: World) -> None:
    world.offsets.written = {CHANGELOG: 14}
    reasons: list[str | None] = []

    with pytest.raises(TransactionHanging, match=r"find-hanging --topic voipex.call.state.v1 --partition 2"):
        await restored(tmp_path, world, limit_s=2.5, notify=reasons.append)

    assert reasons
    assert all(each == reasons[0] for each in reasons)
    assert "a transaction is open in voipex.call.state.v1-2 since offset 12" in str(reasons[0])


async def test_an_open_transaction_of_another_producer_is_no_concern(tmp_path: Path, world: World) -> None:
    """It may stay open for ever: the task's own records behind it are only late."""
    world.offsets.ends[LINES], world.offsets.written[LINES] = 5, 9
    world.offsets.open = {LINES: {8: 5}}

    outcome = await restored(tmp_path, world, outputs=(LINES,))

    assert outcome.result.records == 2
    assert world.offsets.requests.count("ends") == 2


@pytest.mark.parametrize(
    ("open_in", "begin"), [({LINES: {8: 5, 7: 6}}, 6), ({}, 5)], ids=["its own", "no answer"]
)
async def test_an_open_transaction_that_may_be_its_own_halts(
    tmp_path: Path, world: World, open_in: dict[TopicPartition, dict[int, int]], begin: int
) -> None:
    """The next commit would commit it, too, also if it was aborted."""
    world.offsets.ends[LINES], world.offsets.written[LINES] = 5, 9
    world.offsets.open = open_in

    with pytest.raises(TransactionHanging, match=rf"hangs in {LINES} since offset {begin}:"):
        await restored(tmp_path, world, outputs=(LINES,))


async def test_any_open_transaction_in_the_changelog_halts(tmp_path: Path, world: World) -> None:
    """An earlier producer of the task may have had another id; the states behind it are the task's."""
    world.offsets.written = {CHANGELOG: 14}
    world.offsets.open = {CHANGELOG: {8: 12}}

    with pytest.raises(TransactionHanging):
        await restored(tmp_path, world)


async def test_a_partition_that_lost_its_end_is_no_open_transaction(tmp_path: Path, world: World) -> None:
    """An unclean election of a leader may cut records off; the checks of the offsets judge that."""
    seen: list[int] = []

    async def high_watermarks(partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        seen.append(len(partitions))
        return dict.fromkeys(partitions, 14 if len(seen) == 1 else 12)

    world.offsets.high_watermarks = high_watermarks  # type: ignore[method-assign]

    outcome = await restored(tmp_path, world)

    assert seen == [1, 1]
    assert outcome.result.records == 2
