"""
Kafka as the consumers use it, typed: a member of a group, a transactional producer, a reader of changelogs. The only file here that
imports aiokafka; what it shares with the bridge's client (closing without hanging, what is wrong when nothing answers) is `voipex.kafka`'s.

Whatever a call of the transactional producer raises means one thing: the outcome is not known. Its owner drops it, makes a new one
(which ends every earlier transaction of that id) and asks what was committed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import aiokafka
import aiokafka.abc
from aiokafka import errors
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from consumers.engine.batch import InputRecord, Output
from voipex.errors import KafkaAccessDenied, KafkaUnavailable, KafkaUnreachable
from voipex.kafka import permissions
from voipex.kafka.admin import acl_command, describe_cluster, no_right
from voipex.kafka.clients import ask_for_metadata_calmly, client_arguments, close_producer
from voipex.kafka.diagnostics import unreachable
from voipex.kafka.settings import KafkaSettings
from voipex.kafka.topics import check_topics
from voipex.topics import Topic

# aiokafka ships no types: what comes from these is checked where it leaves this file.
_AIOKafkaProducer: Any = aiokafka.AIOKafkaProducer
_AIOKafkaConsumer: Any = aiokafka.AIOKafkaConsumer
_TopicPartition: Any = aiokafka.TopicPartition

_MAX_BATCH_BYTES: Final = 512 * 1024
_FETCH_BYTES: Final = (
    512 * 1024
)  # per partition; all that one poll returns of it, and more for who takes more at once
_RECORD_BYTES: Final = 256  # at least, of an event or an activity
_FETCH_WAIT_MS: Final = (
    200  # after a pause the next data of a partition wait so long for the fetch that is out
)
_REQUEST_TIMEOUT_MS: Final = 30_000
_HEARTBEAT_MS: Final = 1_000  # a join or leave is noticed with the next one
_REBALANCE_TIMEOUT_MS: Final = 60_000  # a transaction in flight and a revocation must fit
_START_S: Final = 30.0
_FENCE_S: Final = 60.0
_STOP_S: Final = 5.0
_COUNTED_BY_READING: Final = 100


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Progress(NamedTuple):
    """How far a group has read a partition."""

    committed: int | None
    """The next offset that it will read; None: it never committed here."""
    end: int
    """The last stable offset."""
    lag: int
    """Records between them; where there are many, the markers of transactions among them count too."""


class OutOfRange(Exception):
    """What should be read next is not there: it was deleted, or lost."""

    def __init__(self, partitions: Iterable[Partition]) -> None:
        self.partitions = tuple(partitions)
        super().__init__(", ".join(f"{topic} {number}" for topic, number in self.partitions))


async def examine(
    settings: KafkaSettings, topics: Sequence[Topic], needed: Mapping[str, Collection[str]]
) -> str:
    """
    The cluster's id, once its topics are as declared and we have the rights that are `needed` (see `check_rights`).

    Raises:
        TopicMismatch: some are missing or have another number of partitions.
        KafkaUnreachable: with the cause; KafkaAccessDenied: a right is missing.
    """
    await check_rights(settings, needed)
    await check_topics(settings, topics, {topic.kind for topic in topics})
    return (await describe_cluster(settings)).cluster_id


async def check_rights(settings: KafkaSettings, needed: Mapping[str, Collection[str]]) -> None:
    """
    Ask whether we have these rights, each with the topics that need it. What is refused later says so less clearly, or not at all.

    Raises:
        KafkaAccessDenied: one is missing; names it.
        KafkaUnreachable: with the cause.
    """
    found = await permissions.examine(settings, sorted(set().union(*needed.values())))
    for right, names in needed.items():
        missing = [
            each.name
            for each in found.topics
            if each.name in names
            and (
                each.hidden or (each.refusal is None and each.rights is not None and right not in each.rights)
            )
        ]
        if missing:
            raise no_right(settings, right, missing)


async def _unreachable(settings: KafkaSettings, error: BaseException) -> KafkaUnavailable:
    """The cause of *error*; KafkaAccessDenied when it is a right on a group or on a transactional.id, which no topic's answer tells."""
    if isinstance(error, errors.GroupAuthorizationFailedError):
        right, on, option = "Read", f"group {error.args[0]}", f"--group {error.args[0]}"
    elif isinstance(error, errors.TransactionalIdAuthorizationFailed):
        service = str(error.args[0]).partition(".")[0]
        right, on = "Write", f"transactional id {error.args[0]}"
        option = f"--transactional-id {service}. --resource-pattern-type prefixed"
    else:
        return await unreachable(settings, error)
    command = acl_command(settings, right, ()).rstrip()
    return KafkaAccessDenied(
        f"Kafka refuses us the right {right} on {on}. Give it: {command} {option} (docs/operations.md lists all rights)"
    )


def _consumer(settings: KafkaSettings, client_id: str, group: str | None, **more: Any) -> Any:
    """A client, not started, that sees what was committed, commits nothing and never resets a position."""
    return _AIOKafkaConsumer(
        **client_arguments(settings),
        client_id=client_id,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",  # `latest` loses silently when offsets expire
        isolation_level="read_committed",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        **more,
    )


async def progress_of(
    settings: KafkaSettings, group: str, topics: Sequence[Topic]
) -> dict[Partition, Progress]:
    """
    Ask, without being a member, how far *group* has read these topics.

    Raises:
        TopicMismatch: some are missing or have another number of partitions.
        KafkaUnreachable: with the cause.
    """
    await check_topics(settings, topics)
    client = _consumer(settings, "voipex-lag", group, fetch_max_wait_ms=50)
    places = [_TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    try:
        async with asyncio.timeout(_START_S):
            await client.start()
            await asyncio.sleep(0)  # a stop() right after start() would look like a cancellation
            _heed_refused_offsets(client)
            committed = {each: await client.committed(each) for each in places}
            begins, ends = await client.beginning_offsets(places), await client.end_offsets(places)
            # What was deleted before it was read cannot be read any more.
            starts = {each: max(begins[each], offset or 0) for each, offset in committed.items()}
            counted = await _count_few(client, starts, ends)
    except (KafkaError, OSError, TimeoutError) as error:
        raise await _unreachable(settings, error) from error
    finally:
        await _stop_consumer(client)
    return {
        Partition(*each): Progress(
            committed[each], ends[each], counted.get(each, max(0, ends[each] - starts[each]))
        )
        for each in places
    }


async def _count_few(client: Any, starts: Mapping[Any, int], ends: Mapping[Any, int]) -> dict[Any, int]:
    """Records of the partitions with a small difference, by reading them: at the end of what a transaction wrote its marker stands."""
    few = {each: 0 for each, start in starts.items() if 0 < ends[each] - start <= _COUNTED_BY_READING}
    client.assign(list(few))
    for each in few:
        client.seek(each, starts[each])
    unread = list(few)
    while unread:
        for each, records in (await client.getmany(*unread, timeout_ms=50)).items():
            few[each] += sum(1 for record in records if record.offset < ends[each])
        unread = [each for each in unread if await client.position(each) < ends[each]]
    return few


class GroupConsumer:
    """
    A member of a consumer group that commits nothing itself. `read_committed`, never resets a position.

    `records_at_once`: of a partition, as many as its owner would take.
    """

    def __init__(
        self, settings: KafkaSettings, group: str, *, session_timeout_ms: int, records_at_once: int
    ) -> None:
        self._settings = settings
        self._group = group
        self._session_timeout_ms = session_timeout_ms
        self._fetch_bytes = max(_FETCH_BYTES, records_at_once * _RECORD_BYTES)
        self._client: Any = None

    async def start(
        self,
        topics: Sequence[str],
        assigned: Callable[[set[Partition]], None],
        revoked: Callable[[], Any],
    ) -> None:
        """
        Join. `assigned` is called with all partitions after each rebalance (they are paused), the coroutine `revoked` before one.

        Raises:
            KafkaUnreachable: then, as always, `stop` it.
        """
        client = _consumer(
            self._settings,
            self._group,
            self._group,
            partition_assignment_strategy=(
                RangePartitionAssignor,
            ),  # puts equal numbers of all topics together
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=min(_HEARTBEAT_MS, self._session_timeout_ms // 3),
            rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=10 * _REBALANCE_TIMEOUT_MS,  # the worker watches itself
            retry_backoff_ms=100,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=self._fetch_bytes,
        )
        ask_for_metadata_calmly(client._client)  # noqa: SLF001 - no public way
        client.subscribe(topics, listener=_listener(client, assigned, revoked))
        self._client = client  # it joins, and calls `assigned`, before `start` returns
        try:
            # A frozen member keeps others from joining until its session ends.
            async with asyncio.timeout(_START_S + self._session_timeout_ms / 1000):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            raise await _unreachable(self._settings, error) from error

    async def stop(self) -> None:
        """Leave the group. Bounded."""
        if self._client is not None:
            client, self._client = self._client, None
            await _stop_consumer(client)

    async def poll(
        self, partitions: Iterable[Partition], timeout_ms: int
    ) -> Mapping[Partition, Sequence[InputRecord]]:
        """
        Records of these partitions; waits at most `timeout_ms` when there are none.

        Raises:
            OutOfRange: of some partitions; the others' records come with the next call.
            KafkaUnreachable: the client is of no use any more.
        """
        try:
            polled = await self._client.getmany(
                *(_TopicPartition(*each) for each in partitions), timeout_ms=timeout_ms
            )
        except (errors.OffsetOutOfRangeError, errors.NoOffsetForPartitionError) as error:
            raise OutOfRange(_named(error)) from error
        except KafkaError as error:
            raise KafkaUnreachable(
                f"the group's client failed: {type(error).__name__} {error}".strip()
            ) from error
        return {Partition(*each): records for each, records in polled.items()}

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing of these until `resume`; a rebalance forgets it."""
        if ours := self._still_assigned(partitions):
            self._client.pause(*ours)

    def resume(self, partitions: Iterable[Partition]) -> None:
        if ours := self._still_assigned(partitions):
            self._client.resume(*ours)

    def seek(self, partition: Partition, offset: int) -> None:
        self._client.seek(_TopicPartition(*partition), offset)

    async def position(self, partition: Partition) -> int:
        """The next offset that a poll will return; transaction markers are passed."""
        offset: int = await self._client.position(_TopicPartition(*partition))
        return offset

    def reached(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The same without waiting, of those that have a position. Only polls and `seek` move it."""
        subscription = self._client._subscription.subscription  # noqa: SLF001 - the public one may wait
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return {}
        states = {each: assignment.state_value(_TopicPartition(*each)) for each in partitions}
        return {
            each: state.position
            for each, state in states.items()
            if state is not None and state.has_valid_position
        }

    def lag(self, partition: Partition) -> int | None:
        """Records (and markers) between what was polled and the end, as of the last fetch; None: not known yet."""
        known = self._still_assigned([partition])
        if not known:
            return None
        state = self._client._subscription.subscription.assignment.state_value(known[0])  # noqa: SLF001 - `position` may wait
        if state.highwater is None or not state.has_valid_position:
            return None
        return int(max(0, state.highwater - state.position))

    def fetched_at_ms(self, partition: Partition) -> int | None:
        """When a broker last answered for this partition, in milliseconds since 1970."""
        known = self._still_assigned([partition])
        at_ms: int | None = self._client.last_poll_timestamp(known[0]) if known else None
        return at_ms

    async def committed(self, partition: Partition) -> int | None:
        """The group's offset. Says the truth only after the partition's producer was fenced."""
        _heed_refused_offsets(self._client)
        offset: int | None = await self._bounded(self._client.committed(_TopicPartition(*partition)))
        return offset

    async def beginnings(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        found = await self._bounded(
            self._client.beginning_offsets([_TopicPartition(*each) for each in partitions])
        )
        return {Partition(*each): offset for each, offset in found.items()}

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The last stable offsets: nothing before them is undecided."""
        found = await self._bounded(self._client.end_offsets([_TopicPartition(*each) for each in partitions]))
        return {Partition(*each): offset for each, offset in found.items()}

    def _still_assigned(self, partitions: Iterable[Partition]) -> list[Any]:
        if self._client is None:  # stopped; an owner may still be letting go
            return []
        assigned = self._client.assignment()
        return [each for each in (_TopicPartition(*each) for each in partitions) if each in assigned]

    async def _bounded(self, call: Any) -> Any:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_MS / 1000):
                return await call
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnreachable(
                f"offsets cannot be read: {type(error).__name__} {error}".strip()
            ) from error


def _heed_refused_offsets(client: Any) -> None:
    """
    aiokafka overlooks the error of a whole answer (OffsetFetch 2 and later): while the group's coordinator moves or loads it would say
    that nothing was ever committed, which halts the partition. Such an error is raised, and so asked again.
    """
    coordinator = client._coordinator  # noqa: SLF001 - no public way
    if "_send_req" in vars(coordinator):  # done before
        return
    send = coordinator._send_req  # noqa: SLF001

    async def checked(request: Any) -> Any:
        response = await send(request)
        if isinstance(request, OffsetFetchRequest) and getattr(response, "error_code", 0) != 0:
            error = errors.for_code(response.error_code)
            if error is errors.NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
            raise error(coordinator.group_id)
        return response

    coordinator._send_req = checked  # noqa: SLF001


def _listener(client: Any, assigned: Callable[[set[Partition]], None], revoked: Callable[[], Any]) -> Any:
    class Listener(aiokafka.abc.ConsumerRebalanceListener):
        # Not a coroutine: nothing may be fetched before the pause, and heartbeats stop while this runs.
        def on_partitions_assigned(self, partitions: Iterable[Any]) -> None:
            client.pause(*partitions)
            assigned({Partition(*each) for each in partitions})

        async def on_partitions_revoked(self, partitions: Iterable[Any]) -> None:
            del partitions  # eagerly: always all
            await revoked()

    return Listener()


def _named(error: Exception) -> list[Partition]:
    found = error.args[0] if error.args else ()
    return [Partition(*each) for each in found] if isinstance(found, dict) else [Partition(*found)]


async def _stop_consumer(client: Any) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_STOP_S):
            await client.stop()
            return
    with contextlib.suppress(Exception):
        await client._client.close()  # noqa: SLF001 - what a stop that hangs leaves open


class TransactionalProducer:
    """One writer for one transactional.id. After any error it is of no use: `stop` it and start another one."""

    def __init__(
        self, settings: KafkaSettings, transactional_id: str, *, transaction_timeout_ms: int
    ) -> None:
        self._settings = settings
        self._transactional_id = transactional_id
        self._timeout_ms = transaction_timeout_ms
        self._client: Any = None

    async def start(self) -> None:
        """
        Fence every other producer of this id. On return all of its earlier transactions are finished, and what they wrote is visible.

        Raises:
            KafkaUnreachable: nothing is left open.
        """
        client = _AIOKafkaProducer(
            **client_arguments(self._settings),
            client_id=self._transactional_id,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=self._timeout_ms,
            acks="all",
            linger_ms=0,
            max_batch_size=_MAX_BATCH_BYTES,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            retry_backoff_ms=20,  # as long as a transaction waits for the end of the one before
        )
        ask_for_metadata_calmly(client.client)
        try:
            async with asyncio.timeout(_FENCE_S):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await close_producer(client, 1.0)
            raise await _unreachable(self._settings, error) from error
        except BaseException:
            await close_producer(client, 1.0)
            raise
        self._client = client

    async def begin(self) -> None:
        await self._client.begin_transaction()

    async def send(self, topic: str, partition: int, records: Sequence[Output]) -> int:
        """Write *records*, in order, into the open transaction; returns the last one's offset once all in-sync replicas have it."""
        client, done, last = self._client, 0, -1
        while done < len(records):
            batch = client.create_batch()
            count = _fill(batch, islice(records, done, None))
            batch.close()  # an open one would linger
            sent = await (await client.send_batch(batch, topic, partition=partition))
            if sent.offset < 0:  # taken for a copy: where it lies is not known
                raise KafkaError("no offset")
            last, done = sent.offset + count - 1, done + count
        return int(last)

    async def add_offsets(self, offsets: Mapping[Partition, int], group: str) -> None:
        """Commit the group's *offsets* with the transaction."""
        if offsets:
            await self._client.send_offsets_to_transaction(
                {_TopicPartition(*each): OffsetAndMetadata(offset, "") for each, offset in offsets.items()},
                group,
            )

    async def commit(self) -> None:
        await self._client.commit_transaction()

    async def stop(self) -> None:
        """Let go; an open transaction is left to the next `start` of its id. Bounded."""
        if self._client is not None:
            client, self._client = self._client, None
            await close_producer(client, _STOP_S)


def _fill(batch: Any, records: Iterable[Output]) -> int:
    append, count = batch.append, 0
    for record in records:
        added = append(
            timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=list(record.headers)
        )
        if added is None:
            break
        count += 1
    return count


def is_fenced(error: BaseException) -> bool:
    """Whether somebody else started the same transactional.id, or the transaction took too long: the same to the client."""
    return isinstance(error, errors.ProducerFenced | errors.InvalidProducerEpoch)


class Changed(NamedTuple):
    """A record of a changelog."""

    offset: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]


async def read_changelog(
    settings: KafkaSettings, partition: Partition, start: int, target: int
) -> AsyncIterator[tuple[Sequence[Changed], int]]:
    """
    Read committed records from offset `start` until `target`: pieces, each with the offset that follows it.

    Ends by the position, which passes markers, aborted and compacted records; so it ends also when no record is left to be read.

    Raises:
        KafkaUnreachable: no answer, or no progress.
    """
    client = _consumer(
        settings,
        "voipex-restore",
        None,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=2 * _FETCH_BYTES,
    )
    ours = _TopicPartition(*partition)
    try:
        async with asyncio.timeout(_START_S):
            await client.start()
            await asyncio.sleep(0)  # a stop() right after start() would look like a cancellation
        client.assign([ours])
        client.seek(ours, start)
        position, progress_at = start, asyncio.get_running_loop().time()
        while position < target:
            polled = await client.getmany(ours, timeout_ms=50, max_records=5_000)
            records = [_changed(each) for each in polled.get(ours, ()) if each.offset < target]
            reached = min(target, await client.position(ours))
            if reached > position:
                position, progress_at = reached, asyncio.get_running_loop().time()
                yield records, position
            elif asyncio.get_running_loop().time() - progress_at > _START_S:
                raise KafkaUnreachable(f"reading {partition.topic} {partition.number} makes no progress")
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnreachable(
            f"{partition.topic} cannot be read: {type(error).__name__} {error}".strip()
        ) from error
    finally:
        await _stop_consumer(client)


def _changed(record: Any) -> Changed:
    return Changed(record.offset, record.key or b"", record.value, dict(record.headers))
