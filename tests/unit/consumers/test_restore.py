"""From an assigned partition to a task that may fold: each step of the restore, and each reason to doubt. The store is real."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from consumers.engine import restore as restore_module
from consumers.engine.group import Changed, Partition
from consumers.engine.restore import CHANGELOG_LOST, TRUST_FOR_US, OffsetsLost, Plan, Restored, restore
from consumers.engine.store import Change, Checkpoint, Store
from tests.unit.consumers.tally import T0_US, FakeOffsets, FakeProducer
from voipex.kafka.settings import KafkaSettings

CALLS, ACTIVITY = Partition("voipex.call.events.v1", 2), Partition("voipex.agent.activity.v1", 2)
CHANGELOG = Partition("voipex.call.state.v1", 2)
GOOD = Checkpoint("cluster", 3, 10, {CALLS.topic: 20, ACTIVITY.topic: 5}, T0_US - 1_000)
KEPT = {"kept": Change(b"old", None, "odd")}


def changed(offset: int, key: str, value: bytes | None, *, version: int = 3, **headers: str) -> Changed:
    named = {f"bridge-{name.replace('_', '-')}": text.encode() for name, text in headers.items()}
    return Changed(offset, key.encode(), value, {"bridge-fold-version": b"%d" % version, **named})


@dataclass
class World:
    """The brokers as a restore finds them: the changelog reaches from 0 to 12, the group is at 20 and 5."""

    offsets: FakeOffsets = field(
        default_factory=lambda: FakeOffsets(
            group={CALLS: 20, ACTIVITY: 5}, highs={CHANGELOG: 12, CALLS: 30, ACTIVITY: 5}
        )
    )
    changelog: Sequence[Changed] = (
        changed(3, "kept", b"old", source_topic=CALLS.topic, source_offset="8", standing="odd"),
        changed(10, "new", b"1", source_topic=CALLS.topic, source_offset="19", standing="even", due_us="77"),
    )
    read_from: list[tuple[int, int]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    async def read(
        self, settings: KafkaSettings, partition: Partition, start: int, target: int
    ) -> AsyncIterator[tuple[Sequence[Changed], int]]:
        del settings
        assert partition == CHANGELOG
        self.read_from.append((start, target))
        for record in self.changelog:
            if start <= record.offset < target:
                yield [record], record.offset + 1
        yield [], target  # the marker


@dataclass
class Outcome:
    restored: Restored
    checkpoint: Checkpoint | None
    states: Mapping[str, bytes]
    standings: Mapping[str, int]
    next_due_us: int | None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(restore_module, "read_changelog", made.read)
    return made


def restoring(
    folder: Path,
    world: World,
    checkpoint: Checkpoint | None = None,
    changes: Mapping[str, Change] = KEPT,
    now_us: int = T0_US,
) -> Outcome:
    """Restore a store that holds *changes* as of *checkpoint*."""
    plan = Plan(KafkaSettings(), "cluster", 3, CHANGELOG, (CALLS, ACTIVITY), now_us)
    producer = FakeProducer()
    producer.hooks["start"] = lambda: world.offsets.asked.append("fenced")

    async def run() -> Outcome:
        store = await Store.open(folder, "state-2")
        try:
            if checkpoint is not None:
                await store.commit(changes, checkpoint)
            restored = await restore(plan, store, producer, world.offsets)
            states = await store.read(["kept", "new", "gone"])
            return Outcome(restored, store.checkpoint, states, dict(store.standings), store.next_due_us)
        finally:
            await store.close()

    return asyncio.run(run())


def test_an_empty_store_is_filled_from_the_beginning_of_the_changelog(tmp_path: Path, world: World) -> None:
    outcome = restoring(tmp_path, world)

    assert outcome.restored == Restored({CALLS: 20, ACTIVITY: 5}, 2, None)
    assert outcome.states == {"kept": b"old", "new": b"1"}
    assert outcome.standings == {"odd": 1, "even": 1}
    assert outcome.next_due_us == 77
    assert outcome.checkpoint == Checkpoint("cluster", 3, 12, {CALLS.topic: 20, ACTIVITY.topic: 5}, T0_US)
    assert world.read_from == [(0, 12)]


def test_offsets_and_ends_are_asked_only_after_the_fence(tmp_path: Path, world: World) -> None:
    """Before it a transaction may be open whose outcome is not known (I4)."""
    restoring(tmp_path, world)

    assert world.offsets.asked == ["fenced", "committed", "committed", "beginnings", "ends"]


def test_a_good_store_is_rolled_forward_from_its_checkpoint(tmp_path: Path, world: World) -> None:
    outcome = restoring(tmp_path, world, GOOD)

    assert world.read_from == [(10, 12)]
    assert (outcome.restored.records, outcome.restored.wiped_because) == (1, None)
    assert outcome.states == {"kept": b"old", "new": b"1"}


def test_a_store_that_is_up_to_date_reads_nothing(tmp_path: Path, world: World) -> None:
    outcome = restoring(tmp_path, world, GOOD._replace(changelog_next=12))

    assert world.read_from == []
    assert outcome.restored == Restored({CALLS: 20, ACTIVITY: 5}, 0, None)


@pytest.mark.parametrize(
    ("checkpoint", "lows", "reason"),
    [
        (GOOD._replace(cluster_id="another"), {}, "it is of another cluster"),
        (GOOD._replace(fold_version=2), {}, "the rules changed"),
        (GOOD, {CHANGELOG: 11}, "the changelog begins later"),
        (GOOD._replace(changelog_next=13), {}, CHANGELOG_LOST),
        (GOOD._replace(written_us=T0_US - TRUST_FOR_US - 1), {}, "it is too old"),
        (GOOD._replace(written_us=T0_US + 1), {}, "it is too old"),
        (GOOD._replace(inputs_next={CALLS.topic: 21}), {}, "it is ahead of the group's offsets"),
    ],
    ids=["cluster", "rules", "moved on", "lost", "old", "of the future", "ahead"],
)
def test_a_store_in_doubt_is_wiped_and_filled_again(
    tmp_path: Path, world: World, checkpoint: Checkpoint, lows: dict[Partition, int], reason: str
) -> None:
    """The older it is the more deletions it may have missed; anything else may be another world's (I8)."""
    world.offsets.lows = lows

    outcome = restoring(tmp_path, world, checkpoint, {"gone": Change(b"1", 5, "odd")})

    assert outcome.restored.wiped_because == reason
    assert world.read_from == [(lows.get(CHANGELOG, 0), 12)]
    assert "gone" not in outcome.states


@pytest.mark.parametrize("written_us", [T0_US, T0_US - TRUST_FOR_US])
def test_a_store_is_trusted_up_to_half_of_the_time_that_deletions_are_kept(
    tmp_path: Path, world: World, written_us: int
) -> None:
    outcome = restoring(tmp_path, world, GOOD._replace(written_us=written_us))

    assert outcome.restored.wiped_because is None


def test_a_changelog_that_lost_what_was_committed_is_an_error_for_a_person(
    tmp_path: Path, world: World
) -> None:
    with capture_logs() as logs:
        restoring(tmp_path, world, GOOD._replace(changelog_next=13))

    assert [(each["log_level"], each["event"]) for each in logs] == [("error", CHANGELOG_LOST)]


def test_a_deletion_in_the_changelog_is_one_in_the_store(tmp_path: Path, world: World) -> None:
    world.changelog = (changed(10, "kept", None, source_topic=CALLS.topic, source_offset="19"),)

    outcome = restoring(tmp_path, world, GOOD)

    assert (outcome.states, outcome.standings) == ({}, {})


def test_a_state_of_older_rules_is_due_at_once(tmp_path: Path, world: World) -> None:
    """So it is folded anew and told again, without a manual step."""
    world.changelog = (changed(3, "kept", b"old", version=2, due_us="77", standing="odd"),)

    assert restoring(tmp_path, world).next_due_us == 0


# -------------------------------------------------------------------------------- offsets


def test_a_first_start_begins_with_the_first_record_that_is_there(tmp_path: Path, world: World) -> None:
    world.offsets = FakeOffsets(highs={CALLS: 30}, lows={CALLS: 4})

    outcome = restoring(tmp_path, world)

    assert outcome.restored == Restored({CALLS: 4, ACTIVITY: 0}, 0, None)
    assert world.read_from == []


@pytest.mark.parametrize(
    "checkpoint", [None, GOOD._replace(changelog_next=2, inputs_next={})], ids=["new", "again"]
)
def test_after_a_first_transaction_that_was_aborted_it_is_still_a_first_start(
    tmp_path: Path, world: World, checkpoint: Checkpoint | None
) -> None:
    """Such a changelog has offsets, and no record; also when an earlier restore has noted that."""
    world.offsets = FakeOffsets(highs={CHANGELOG: 2, CALLS: 30})
    world.changelog = ()

    outcome = restoring(tmp_path, world, checkpoint, {})

    assert outcome.restored.positions == {CALLS: 0, ACTIVITY: 0}
    assert outcome.restored.wiped_because is None


@pytest.mark.parametrize(
    "checkpoint", [None, GOOD._replace(changelog_next=12, inputs_next={})], ids=["read", "kept"]
)
@pytest.mark.parametrize("missing", [CALLS, ACTIVITY])
def test_states_without_an_offset_of_the_group_mean_that_it_was_lost(
    tmp_path: Path, world: World, missing: Partition, checkpoint: Checkpoint | None
) -> None:
    """Whether it expired or was deleted: starting anywhere would lose or invent, so a person decides."""
    del world.offsets.group[missing]

    with pytest.raises(OffsetsLost, match=f"no offset for {missing.topic} 2"):
        restoring(tmp_path, world, checkpoint)


@pytest.mark.parametrize(
    ("lows", "highs", "message"),
    [
        ({CALLS: 21}, {}, "begins at 21, the group has read up to 20: records were deleted before"),
        ({}, {CALLS: 19}, "ends at 19, the group has read up to 20: the topic lost records"),
    ],
)
def test_an_offset_outside_of_what_is_there_is_never_reset(
    tmp_path: Path, world: World, lows: dict[Partition, int], highs: dict[Partition, int], message: str
) -> None:
    world.offsets.lows.update(lows)
    world.offsets.highs.update(highs)

    with pytest.raises(OffsetsLost, match=message):
        restoring(tmp_path, world)


@pytest.mark.parametrize(("low", "high"), [(20, 30), (0, 20), (20, 20)])
def test_an_offset_at_the_edge_of_what_is_there_is_good(
    tmp_path: Path, world: World, low: int, high: int
) -> None:
    world.offsets.lows[CALLS], world.offsets.highs[CALLS] = low, high

    assert restoring(tmp_path, world).restored.positions[CALLS] == 20


def test_offsets_that_were_moved_back_are_told(tmp_path: Path, world: World) -> None:
    """Records are read again, which changes nothing; somebody may wonder."""
    world.offsets.group[CALLS] = 19

    with capture_logs() as logs:
        outcome = restoring(tmp_path, world)

    assert outcome.restored.positions[CALLS] == 19
    assert [(each["log_level"], each["topic"]) for each in logs] == [("warning", CALLS.topic)]
