"""A member of a consumer group."""

import asyncio
import copy
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import aiokafka.abc
from aiokafka import errors
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from consumers.engine.access import admin_client_id, diagnose
from consumers.engine.consumer_client import (
    FETCH_BYTES,
    REQUEST_TIMEOUT_MS,
    START_TIMEOUT_S,
    AIOKafkaTopicPartition,
    give_up_id_when_replaced,
    leave_when_stopped,
    new_consumer,
    raise_offset_fetch_errors,
    stop_consumer,
)
from consumers.engine.errors import OffsetOutOfRange, RecordDamaged
from consumers.engine.records import ConsumerRecord, TopicPartition
from voipex.errors import KafkaUnreachable
from voipex.kafka.describe_producers import DescribeProducersRequest
from voipex.kafka.settings import KafkaSettings
from voipex.service.logging import get_logger

_READ_UNCOMMITTED: Final = 0  # of ListOffsets
_MIN_RECORD_BYTES: Final = 256  # of an event or an activity
_NAMED_PARTITION: Final = re.compile(
    r"topic='([^']+)', partition=(\d+)"
)  # in the message of a CorruptRecordException
_MAX_POLLED: Final = 8_000  # they take up to 10 µs each, and nothing else has the event loop meanwhile
_FETCH_WAIT_MS: Final = 200
"""A resumed partition waits this long for its first data: for the fetch that is already with the broker."""
_HEARTBEAT_MS: Final = 1_000  # members learn of a rebalance with the next heartbeat
_REBALANCE_TIMEOUT_MS: Final = 60_000  # a transaction in flight and a revocation must fit

log = get_logger("group")


class GroupConsumer:
    """
    A consumer that reads committed records, commits nothing itself, and never resets a position.

    `max_batch_records`: the most records of a partition that a task takes at once. `instance_id`: of a static member; None: a dynamic one.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        *,
        session_timeout_ms: int,
        max_batch_records: int,
        instance_id: str | None = None,
    ) -> None:
        self._settings = settings
        self._group = group
        self._instance_id = instance_id
        self._session_timeout_ms = session_timeout_ms
        self._fetch_bytes = max(FETCH_BYTES, max_batch_records * _MIN_RECORD_BYTES)
        self._client: Any = None

    async def start(
        self,
        topics: Sequence[str],
        on_assigned: Callable[[set[TopicPartition]], None],
        on_revoked: Callable[[], Awaitable[None]],
    ) -> None:
        """
        Join the group. After each rebalance `on_assigned` gets all our partitions, paused; before one, `on_revoked` is awaited.

        Raises:
            KafkaUnreachable: then, as always, `stop` it.
        """
        client = new_consumer(
            self._settings,
            self._group,
            self._group,
            group_instance_id=self._instance_id,
            partition_assignment_strategy=(RangePartitionAssignor,),  # equal numbers of all topics together
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=min(_HEARTBEAT_MS, self._session_timeout_ms // 3),
            rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=10 * _REBALANCE_TIMEOUT_MS,  # the session has its own watchdog
            retry_backoff_ms=100,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=self._fetch_bytes,
        )
        client.subscribe(topics, listener=_listener(client, on_assigned, on_revoked))
        self._client = client  # `on_assigned` is called before `start` returns
        try:
            # A frozen member keeps others from joining until its session ends.
            async with asyncio.timeout(START_TIMEOUT_S + self._session_timeout_ms / 1000):
                await client.start()
            give_up_id_when_replaced(client, self._log_replaced)
        except (KafkaError, OSError, TimeoutError) as error:
            raise await diagnose(self._settings, error, admin_client_id(self._group)) from error

    async def stop(self) -> None:
        """Leave the group, within STOP_TIMEOUT_S."""
        if self._client is not None:
            client, self._client = self._client, None
            leave_when_stopped(client)
            await stop_consumer(client)

    def _log_replaced(self) -> None:
        log.warning(
            "group has forgotten this instance",
            group=self._group,
            instance_id=self._instance_id,
            cause="its session ended, or another process has the same id; it goes on without one",
        )

    async def poll(
        self, partitions: Iterable[TopicPartition], timeout_ms: int
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """
        Return records of these partitions; wait at most `timeout_ms` when there are none.

        Raises:
            OffsetOutOfRange: for some partitions; the records of the others come with the next call.
            RecordDamaged: of one partition; what was fetched of others may be missing in the next call.
            KafkaUnreachable: the client cannot be used any more.
        """
        try:
            polled = await self._client.getmany(
                *(AIOKafkaTopicPartition(*each) for each in partitions),
                timeout_ms=timeout_ms,
                max_records=_MAX_POLLED,
            )
        except (errors.OffsetOutOfRangeError, errors.NoOffsetForPartitionError) as error:
            raise OffsetOutOfRange(_partitions_of(error)) from error
        except errors.CorruptRecordException as error:
            named = _NAMED_PARTITION.search(str(error))
            if named is None:
                raise KafkaUnreachable(f"the group's client failed: {error}") from error
            damaged = TopicPartition(named[1], int(named[2]))
            raise RecordDamaged(damaged, self.positions([damaged]).get(damaged)) from error
        except KafkaError as error:
            cause = f"{type(error).__name__} {error}".strip()
            raise KafkaUnreachable(f"the group's client failed: {cause}") from error
        return {TopicPartition(*each): records for each, records in polled.items()}

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop fetching these partitions until `resume`; a rebalance undoes it."""
        if assigned := self._assigned(partitions):
            self._client.pause(*assigned)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        if assigned := self._assigned(partitions):
            self._client.resume(*assigned)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._client.seek(AIOKafkaTopicPartition(*partition), offset)

    async def position(self, partition: TopicPartition) -> int:
        """Return the next offset that a poll will return, past transaction markers."""
        offset: int = await self._client.position(AIOKafkaTopicPartition(*partition))
        return offset

    def positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the positions of those partitions that have one, without waiting. Only `poll` and `seek` move them."""
        subscription = self._client._subscription.subscription  # noqa: SLF001 - the public `position` may wait
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return {}
        states = {each: assignment.state_value(AIOKafkaTopicPartition(*each)) for each in partitions}
        return {
            each: state.position
            for each, state in states.items()
            if state is not None and state.has_valid_position
        }

    def lag(self, partition: TopicPartition) -> int | None:
        """Return the offsets between the position and the end, as of the last fetch; None: not known yet."""
        assigned = self._assigned([partition])
        if not assigned:
            return None
        state = self._client._subscription.subscription.assignment.state_value(assigned[0])  # noqa: SLF001 - as above
        if state.highwater is None or not state.has_valid_position:
            return None
        return int(max(0, state.highwater - state.position))

    def open_transaction(self, partition: TopicPartition) -> int | None:
        """Return the offset where the first open transaction begins, as of the last fetch; None: none is open, or it is not known."""
        assigned = self._assigned([partition])
        if not assigned:
            return None
        state = self._client._subscription.subscription.assignment.state_value(assigned[0])  # noqa: SLF001 - as above
        if state.lso is None or state.highwater is None or state.lso >= state.highwater:
            return None
        return int(state.lso)

    def last_fetch_ms(self, partition: TopicPartition) -> int | None:
        """Return when a broker last answered a fetch of this partition, in milliseconds since the epoch; None: never."""
        assigned = self._assigned([partition])
        at_ms: int | None = self._client.last_poll_timestamp(assigned[0]) if assigned else None
        return at_ms

    async def committed(self, partition: TopicPartition) -> int | None:
        """Return the group's offset. It is final only after the producer of the partition's task was fenced."""
        raise_offset_fetch_errors(self._client)
        offset: int | None = await self._bounded(self._client.committed(AIOKafkaTopicPartition(*partition)))
        return offset

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        found = await self._bounded(
            self._client.beginning_offsets([AIOKafkaTopicPartition(*each) for each in partitions])
        )
        return {TopicPartition(*each): offset for each, offset in found.items()}

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the last stable offsets: no transaction before them is open."""
        found = await self._bounded(
            self._client.end_offsets([AIOKafkaTopicPartition(*each) for each in partitions])
        )
        return {TopicPartition(*each): offset for each, offset in found.items()}

    async def high_watermarks(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the ends of the partitions, with what open transactions have written."""
        fetcher = copy.copy(self._client._fetcher)  # noqa: SLF001 - the public `end_offsets` has one isolation level per client
        fetcher._isolation_level = _READ_UNCOMMITTED  # noqa: SLF001
        found = await self._bounded(
            fetcher.end_offsets([AIOKafkaTopicPartition(*each) for each in partitions], REQUEST_TIMEOUT_MS)
        )
        return {TopicPartition(*each): offset for each, offset in found.items()}

    async def open_transactions(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, dict[int, int]]:
        """
        Return by partition where each open transaction begins, by producer id. A partition is missing whose leader does not say: it is
        another broker meanwhile, Read is denied, or the broker does not know the question.
        """
        client, topics_by_leader = self._client._client, dict[int, dict[str, list[int]]]()  # noqa: SLF001 - no public way
        for topic, number in partitions:
            leader = client.cluster.leader_for_partition(AIOKafkaTopicPartition(topic, number))
            if leader is not None and leader >= 0:
                topics_by_leader.setdefault(leader, {}).setdefault(topic, []).append(number)
        try:
            answers = [
                await self._bounded(client.send(leader, DescribeProducersRequest(topics)))
                for leader, topics in topics_by_leader.items()
            ]
        except KafkaUnreachable as error:
            if isinstance(error.__cause__, errors.IncompatibleBrokerVersion):
                return {}
            raise
        return {
            TopicPartition(topic["name"], each["partition_index"]): {
                producer["producer_id"]: producer["current_txn_start_offset"]
                for producer in each["active_producers"]
                if producer["current_txn_start_offset"] >= 0
            }
            for answer in answers
            for topic in answer.to_object()["topics"]
            for each in topic["partitions"]
            if each["error_code"] == 0
        }

    def _assigned(self, partitions: Iterable[TopicPartition]) -> list[Any]:
        if self._client is None:  # stopped; a runner may still be closing
            return []
        assigned = self._client.assignment()
        return [each for each in (AIOKafkaTopicPartition(*each) for each in partitions) if each in assigned]

    async def _bounded(self, call: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
                return await call
        except (KafkaError, OSError, TimeoutError) as error:
            cause = f"{type(error).__name__} {error}".strip()
            raise KafkaUnreachable(f"offsets cannot be read: {cause}") from error


def _listener(
    client: Any,
    on_assigned: Callable[[set[TopicPartition]], None],
    on_revoked: Callable[[], Awaitable[None]],
) -> Any:
    class Listener(aiokafka.abc.ConsumerRebalanceListener):
        # Not a coroutine: nothing may be fetched before the pause, and no heartbeats are sent while this runs.
        def on_partitions_assigned(self, partitions: Iterable[Any]) -> None:
            client.pause(*partitions)
            on_assigned({TopicPartition(*each) for each in partitions})

        async def on_partitions_revoked(self, partitions: Iterable[Any]) -> None:
            del partitions  # always all of them: the assignor is eager
            await on_revoked()

    return Listener()


def _partitions_of(error: Exception) -> list[TopicPartition]:
    found = error.args[0] if error.args else ()
    return [TopicPartition(*each) for each in found] if isinstance(found, dict) else [TopicPartition(*found)]
