"""
Restore: from an assigned partition to a task that may fold (kafka.md's order; ADR 5).

    (1) open the store; its lock keeps other processes out
    (2) fence: start the place's transactional producer. On return every earlier transaction of its id is finished and visible
    (3) ask the group's offsets, never before (2)
    (4) ask the changelog's beginning and end; after (2) nobody writes there any more
    (5) check the store's checkpoint against all of that; any doubt: wipe
    (6) read the changelog from the checkpoint to the end, into the store
    (7) without group offsets: a first start only if no record of the changelog was seen; otherwise stop and alarm
    (8) tell when the group's offsets were moved back: records will be read again, and change nothing

Then the caller seeks and resumes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from consumers.engine.batch import (
    DUE_HEADER,
    FOLD_VERSION_HEADER,
    SOURCE_OFFSET_HEADER,
    SOURCE_TOPIC_HEADER,
    STANDING_HEADER,
)
from consumers.engine.group import Changed, Partition, read_changelog
from consumers.engine.store import Change, Checkpoint, Store
from voipex.kafka.settings import KafkaSettings
from voipex.service.logging import get_logger

TRUST_FOR_US: Final = 12 * 3600 * 1_000_000
"""Half of `delete.retention.ms` (a day): an older store may have missed deletions that the changelog has forgotten by now."""

CHANGELOG_LOST: Final = "the changelog has lost records that were committed"

log = get_logger("restore")


class OffsetsLost(Exception):
    """What the group has read up to is not known, or was deleted before it was read. Operator: see docs/operations.md, "Offsets are lost"."""


class Offsets(Protocol):
    """What a restore asks the brokers."""

    async def committed(self, partition: Partition) -> int | None: ...
    async def beginnings(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]: ...
    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]: ...


class Fence(Protocol):
    async def start(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What to restore. `now_us`: the time, to judge the store's age."""

    settings: KafkaSettings
    cluster_id: str
    fold_version: int
    changelog: Partition
    inputs: tuple[Partition, ...]
    now_us: int


@dataclass(slots=True)
class Restored:
    """Where to go on, by input partition; and how many records of the changelog were read."""

    positions: dict[Partition, int]
    records: int = 0
    wiped_because: str | None = None


async def restore(plan: Plan, store: Store, producer: Fence, offsets: Offsets) -> Restored:
    """
    Steps (2) to (8); (1) is the caller's, who closes both.

    Raises:
        OffsetsLost: a person must decide; nothing was reset.
        KafkaUnreachable, StoreBroken: try again later.
    """
    await producer.start()  # (2)
    committed = {each: await offsets.committed(each) for each in plan.inputs}  # (3)
    begins = await offsets.beginnings([plan.changelog, *plan.inputs])  # (4)
    ends = await offsets.ends([plan.changelog, *plan.inputs])
    low, target = begins[plan.changelog], ends[plan.changelog]
    doubt = _doubt(plan, store.checkpoint, committed, low, target)  # (5)
    if doubt is not None:
        if doubt == CHANGELOG_LOST:
            log.error(doubt, topic=plan.changelog.topic, partition=plan.changelog.number)
        await store.wipe()
    was_empty = not store.standings  # an aborted first transaction leaves a checkpoint and no state
    start = low if store.checkpoint is None else store.checkpoint.changelog_next
    known = {each.topic: committed[each] or 0 for each in plan.inputs}
    read, newest = await _roll_forward(plan, store, start, target, known)  # (6)
    positions = {
        each: _position(each, committed[each], was_empty and not read, begins, ends) for each in plan.inputs
    }  # (7)
    for each, position in positions.items():
        if newest.get(each.topic, -1) >= position:  # (8)
            log.warning(
                "records will be read again, and change nothing", topic=each.topic, partition=each.number
            )
    return Restored(positions, read, doubt)


def _doubt(
    plan: Plan,
    checkpoint: Checkpoint | None,
    committed: Mapping[Partition, int | None],
    low: int,
    target: int,
) -> str | None:
    """Why the store cannot be rolled forward; None: it can, or is empty."""
    if checkpoint is None:
        return None
    reasons = {
        "it is of another cluster": checkpoint.cluster_id != plan.cluster_id,
        "the rules changed": checkpoint.fold_version != plan.fold_version,
        CHANGELOG_LOST: checkpoint.changelog_next > target,
        "the changelog begins later": checkpoint.changelog_next < low,
        "it is too old": not 0 <= plan.now_us - checkpoint.written_us <= TRUST_FOR_US,
        "it is ahead of the group's offsets": any(
            checkpoint.inputs_next.get(each.topic, 0) > (offset or 0) for each, offset in committed.items()
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


async def _roll_forward(
    plan: Plan, store: Store, start: int, target: int, known: Mapping[str, int]
) -> tuple[int, dict[str, int]]:
    """Read the changelog into the store; how many records, and the highest source offset of each topic among them."""
    count, newest = 0, dict[str, int]()
    if start >= target:
        return count, newest
    async for records, position in read_changelog(plan.settings, plan.changelog, start, target):
        changes = {}
        for record in records:
            changes[record.key.decode()] = _change(record, plan.fold_version)
            topic = record.headers.get(SOURCE_TOPIC_HEADER, b"").decode()
            newest[topic] = max(newest.get(topic, -1), int(record.headers.get(SOURCE_OFFSET_HEADER, b"-1")))
        count += len(records)
        await store.commit(
            changes, Checkpoint(plan.cluster_id, plan.fold_version, position, known, plan.now_us)
        )
    return count, newest


def _change(record: Changed, fold_version: int) -> Change:
    """A state of an older version of the rules is due at once: it is folded anew and told again."""
    headers = record.headers
    if headers.get(FOLD_VERSION_HEADER) != b"%d" % fold_version:
        due_us: int | None = 0
    else:
        due_us = int(headers[DUE_HEADER]) if DUE_HEADER in headers else None
    return Change(record.value, due_us, headers.get(STANDING_HEADER, b"").decode())


def _position(
    partition: Partition,
    committed: int | None,
    is_first_start: bool,
    begins: Mapping[Partition, int],
    ends: Mapping[Partition, int],
) -> int:
    low, end = begins[partition], ends[partition]
    where = f"{partition.topic} {partition.number}"
    if committed is None:
        if not is_first_start:
            raise OffsetsLost(
                f"the group has no offset for {where}, but states were folded from it: it expired, or was deleted"
            )
        return low
    if committed < low:
        raise OffsetsLost(
            f"{where} begins at {low}, the group has read up to {committed}: records were deleted before they were read"
        )
    if committed > end:
        raise OffsetsLost(
            f"{where} ends at {end}, the group has read up to {committed}: the topic lost records, or was made anew"
        )
    return committed
