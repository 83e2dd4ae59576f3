"""
Restore: from an assigned partition to a task that may fold (ADR 5).

    (1) open the store; its lock keeps other processes out
    (2) fence: start the task's transactional producer. Once it has started, brokers promise, every earlier transaction of its id is finished
        and visible. Check that: wait until none is open that concerns the task, and halt if one stays open, since a broker has lost its end
        (KIP-664)
    (3) ask for the group's offsets, never before (2)
    (4) ask for the changelog's beginning and end; since (2) nobody else writes there
    (5) check the store's checkpoint against all of these; wipe the store on any doubt
    (6) read the changelog from the checkpoint to the end, into the store; halt at a record that cannot be read
    (7) without a group offset, start from the beginning only if the changelog had no record; otherwise stop and alarm
    (8) warn when the group's offsets were moved back: records are then read again, which changes nothing

Then the caller seeks and resumes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from consumers.engine.database import Checkpoint
from consumers.engine.errors import OffsetsLost, StateUnreadable, TransactionHanging
from consumers.engine.projection import PartsNeeded
from consumers.engine.records import (
    DUE_HEADER,
    FOLD_VERSION_HEADER,
    SOURCE_OFFSET_HEADER,
    SOURCE_TOPIC_HEADER,
    STATUS_HEADER,
    ChangelogRecord,
    PartKey,
    StateChange,
    TopicPartition,
    changelog_key,
)
from consumers.engine.store import Store
from voipex.service.logging import get_logger

MAX_STORE_AGE_US: Final = 12 * 3600 * 1_000_000
"""Half of `delete.retention.ms` (a day). An older store may have missed tombstones that the changelog has dropped since."""

CHANGELOG_TRUNCATED: Final = "the changelog has lost records that were committed"

UNREADABLE_STATE: Final = "a state in it cannot be read"

_LOOK_AGAIN_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_NOTIFY_AFTER_S: Final = 1.0
"""Transactions in outputs that no broker tells the producers of are open for tens of milliseconds; such a wait is no news."""

log = get_logger("restore")


class GroupOffsets(Protocol):
    """What a restore asks the brokers."""

    async def committed(self, partition: TopicPartition) -> int | None: ...
    async def beginning_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]: ...
    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the last stable offsets."""
        ...

    async def high_watermarks(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    async def open_transactions(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Mapping[int, int]]:
        """Return where open transactions begin, by partition and producer id. Partitions are missing of which a broker does not tell it."""
        ...


class Fence(Protocol):
    @property
    def producer_id(self) -> int:
        """The same for all producers of the task; known once it has started."""
        ...

    async def start(self) -> None: ...


class ReadChangelog(Protocol):
    """Reads committed records in [start, end): pieces, each with the offset that follows it."""

    def __call__(
        self, partition: TopicPartition, start: int, end: int
    ) -> AsyncIterator[tuple[Sequence[ChangelogRecord], int]]: ...


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """
    What to restore. `now_us`: the current time, to judge the store's age.

    `outputs`: where the task's transactions may have written, besides the changelog. A transaction that is open there ends within
    `open_transaction_limit_s`, unless a broker has lost its end. `notify`: called with the reason for a wait, and with None after it.
    `suspects`: keys whose state in the store could not be decoded; `decode` tells whether the changelog's can.
    """

    cluster_id: str
    fold_version: int
    changelog: TopicPartition
    inputs: tuple[TopicPartition, ...]
    now_us: int
    outputs: tuple[TopicPartition, ...] = ()
    open_transaction_limit_s: float = 0.0
    notify: Callable[[str | None], None] = lambda _: None
    suspects: frozenset[str] = frozenset()
    decode: Callable[[bytes, Mapping[str, bytes]], object] = lambda value, _parts: value


@dataclass(frozen=True, slots=True)
class Restored:
    """`positions`: where to start reading, by input partition. `records`: how many changelog records were read."""

    positions: Mapping[TopicPartition, int]
    records: int = 0
    wiped_because: str | None = None


async def restore(
    plan: RestorePlan, store: Store, producer: Fence, offsets: GroupOffsets, read_changelog: ReadChangelog
) -> Restored:
    """
    Take steps (2) to (8). The caller takes step (1) and closes store and producer.

    Raises:
        OffsetsLost, TransactionHanging, StateUnreadable: a person must decide; nothing was reset.
        KafkaUnreachable, StoreCorrupted: try again later.
    """
    await producer.start()  # (2)
    await _await_ends_of_transactions(plan, producer, offsets)
    committed = {each: await offsets.committed(each) for each in plan.inputs}  # (3)
    begins = await offsets.beginning_offsets([plan.changelog, *plan.inputs])  # (4)
    ends = await offsets.end_offsets([plan.changelog, *plan.inputs])
    begin, end = begins[plan.changelog], ends[plan.changelog]
    wiped_because = _invalid_because(plan, store.checkpoint, committed, begin, end)  # (5)
    if wiped_because is not None:
        if wiped_because == CHANGELOG_TRUNCATED:
            log.error("changelog truncated", topic=plan.changelog.topic, partition=plan.changelog.partition)
        await store.wipe()
    was_empty = not store.status_counts  # an aborted first transaction leaves a checkpoint and no state
    start = begin if store.checkpoint is None else store.checkpoint.changelog_next
    inputs_next = {each.topic: committed[each] or 0 for each in plan.inputs}
    records, newest = await _roll_forward(plan, store, start, end, inputs_next, read_changelog)  # (6)
    is_first_start = was_empty and records == 0
    positions = {
        each: _position(each, committed[each], begins[each], ends[each], is_first_start=is_first_start)
        for each in plan.inputs
    }  # (7)
    for each, position in positions.items():
        if newest.get(each.topic, -1) >= position:  # (8)
            log.warning("offset moved back", topic=each.topic, partition=each.partition, offset=position)
    return Restored(positions, records, wiped_because)


def _invalid_because(
    plan: RestorePlan,
    checkpoint: Checkpoint | None,
    committed: Mapping[TopicPartition, int | None],
    begin: int,
    end: int,
) -> str | None:
    """Return why the store cannot be rolled forward; None: it can, or it is empty."""
    if checkpoint is None:
        return None
    reasons = {
        UNREADABLE_STATE: bool(plan.suspects),
        "another cluster": checkpoint.cluster_id != plan.cluster_id,
        "another fold version": checkpoint.fold_version != plan.fold_version,
        CHANGELOG_TRUNCATED: checkpoint.changelog_next > end,
        "the changelog begins after the checkpoint": checkpoint.changelog_next < begin,
        "too old": not 0 <= plan.now_us - checkpoint.written_us <= MAX_STORE_AGE_US,
        "ahead of the group's offsets": any(
            checkpoint.inputs_next.get(each.topic, 0) > (offset or 0) for each, offset in committed.items()
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


async def _await_ends_of_transactions(plan: RestorePlan, producer: Fence, offsets: GroupOffsets) -> None:
    """
    Wait until every transaction has ended that is open now and concerns the task.

    Raises:
        TransactionHanging: one has not.
    """
    partitions = [plan.changelog, *plan.outputs]
    ends = await offsets.high_watermarks(partitions)
    clock = asyncio.get_running_loop().time
    started_s, looks = clock(), 0
    while True:
        stable = await offsets.end_offsets(partitions)
        begins = {each: stable[each] for each in partitions if stable[each] < ends[each]}
        begins = await _of_this_task(begins, plan, producer, offsets)
        if not begins:
            plan.notify(None)
            return
        waited_s = clock() - started_s
        if waited_s >= plan.open_transaction_limit_s:
            ends_now = await offsets.high_watermarks(list(begins))  # lower where a partition has lost records
            hanging = [each for each in begins if begins[each] < min(ends[each], ends_now[each])]
            if hanging:
                raise TransactionHanging(_hanging(hanging[0], begins[hanging[0]], len(hanging) - 1, waited_s))
            return
        if waited_s >= _NOTIFY_AFTER_S:
            partition, offset = next(iter(begins.items()))
            reason = f"a transaction is open in {partition} since offset {offset}; it has {plan.open_transaction_limit_s:.0f} s to end"
            plan.notify(reason)
        await asyncio.sleep(_LOOK_AGAIN_S[min(looks, len(_LOOK_AGAIN_S) - 1)])
        looks += 1


async def _of_this_task(
    begins: Mapping[TopicPartition, int], plan: RestorePlan, producer: Fence, offsets: GroupOffsets
) -> dict[TopicPartition, int]:
    """
    Leave out the open transactions that do not concern the task. Any in its changelog does, since the states are read from there. In an
    output it is one of its own producer: the next commit would commit that one, too. Those of others only hide later records from readers.
    """
    outputs = [each for each in begins if each != plan.changelog]
    described = await offsets.open_transactions(outputs) if outputs else {}
    of_task = dict(begins)
    for each in outputs:
        if each in described:
            del of_task[each]
            if producer.producer_id in described[each]:
                of_task[each] = described[each][producer.producer_id]
    return of_task


def _hanging(partition: TopicPartition, offset: int, others: int, waited_s: float) -> str:
    more = f" (and in {others} more partitions)" if others else ""
    return (
        f"a transaction hangs in {partition} since offset {offset}{more}: its end has not come within {waited_s:.0f} s. Find it: "
        f"kafka-transactions.sh --bootstrap-server … find-hanging --topic {partition.topic} --partition {partition.partition}"
    )


async def _roll_forward(
    plan: RestorePlan,
    store: Store,
    start: int,
    end: int,
    inputs_next: Mapping[str, int],
    read_changelog: ReadChangelog,
) -> tuple[int, dict[str, int]]:
    """
    Read the changelog into the store. Return the number of records, and the highest source offset among them by topic.

    Raises:
        StateUnreadable: the last record of a key has headers or a key that are not the engine's, or is the state of a suspect and cannot be
            decoded.
    """
    count, newest = 0, dict[str, int]()
    unreadable: dict[str, int] = {}
    suspects: dict[str, int] = {}
    if start >= end:
        return count, newest
    async for records, position in read_changelog(plan.changelog, start, end):
        changes: dict[str, StateChange] = {}
        parts: dict[PartKey, bytes | None] = {}
        for record in records:
            name = record.key.decode(errors="replace")
            unreadable.pop(name, None)
            try:
                key = changelog_key(record.key)
                if isinstance(key, PartKey):
                    parts[key] = record.value
                    name = key.key
                else:
                    changes[key] = _state_change(record, plan.fold_version)
                topic = record.headers.get(SOURCE_TOPIC_HEADER, b"").decode()
                offset = int(record.headers.get(SOURCE_OFFSET_HEADER, b"-1"))
            except ValueError:
                unreadable[name] = record.offset
                continue
            newest[topic] = max(newest.get(topic, -1), offset)
            if name in plan.suspects:
                suspects[name] = record.offset
        count += len(records)
        checkpoint = Checkpoint(plan.cluster_id, plan.fold_version, position, inputs_next, plan.now_us)
        await store.commit(changes, checkpoint, parts)
    unreadable |= {key: offset for key, offset in suspects.items() if not await _can_decode(plan, store, key)}
    if unreadable:
        await store.wipe()  # its checkpoint is past the record, so the next restore would not see it
        offset = next(iter(unreadable.values()))
        raise StateUnreadable(
            f"{plan.changelog} has a record at offset {offset} that cannot be read. A newer version of this service may have written it: start "
            "that one. Otherwise the record is damaged, and a person must replace it"
        )
    return count, newest


async def _can_decode(plan: RestorePlan, store: Store, key: str) -> bool:
    """Whether the rules read the state that was restored for *key*, with the parts that any of its records needs."""
    value = (await store.read([key])).get(key)
    parts: dict[str, bytes] = {}
    try:
        while value is not None:
            try:
                plan.decode(value, parts)
            except PartsNeeded as needed:
                before = len(parts)
                parts |= (await store.read_parts({key: needed.names}))[key]
                if len(parts) == before:
                    return False
            else:
                return True
    except Exception:  # noqa: BLE001 - whatever the rules raise, the bytes are not a state of theirs
        return False
    return True


def _state_change(record: ChangelogRecord, fold_version: int) -> StateChange:
    """
    Make the change of a record. A state of another fold version is due at once, so that it is folded again and its documents are emitted.

    Raises:
        ValueError: a header is not as the engine writes it.
    """
    headers = record.headers
    if headers.get(FOLD_VERSION_HEADER) != b"%d" % fold_version:
        due_us: int | None = 0
    else:
        due_us = int(headers[DUE_HEADER]) if DUE_HEADER in headers else None
    return StateChange(record.value, due_us, headers.get(STATUS_HEADER, b"").decode())


def _position(
    partition: TopicPartition, committed: int | None, begin: int, end: int, *, is_first_start: bool
) -> int:
    if committed is None:
        if not is_first_start:
            raise OffsetsLost(
                f"the group has no offset for {partition}, but its changelog has states: the offset expired or was deleted"
            )
        return begin
    if committed < begin:
        raise OffsetsLost(
            f"{partition} begins at {begin}, the group has read up to {committed}: records were deleted before they were read"
        )
    if committed > end:
        raise OffsetsLost(
            f"{partition} ends at {end}, the group has read up to {committed}: the topic lost records or was created anew"
        )
    return committed
