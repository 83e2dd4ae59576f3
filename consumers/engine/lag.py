"""How far a group has read its input topics, asked without joining it (`voipex-consumers lag`)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.errors import KafkaError

from consumers.engine.access import admin_client_id, diagnose
from consumers.engine.consumer_client import (
    AIOKafkaTopicPartition,
    new_consumer,
    raise_offset_fetch_errors,
    start_consumer,
    stop_consumer,
)
from consumers.engine.records import TopicPartition
from voipex.kafka.settings import KafkaSettings
from voipex.kafka.topics import check_topics
from voipex.topics import Topic

_MAX_COUNTED: Final = 100
_TIMEOUT_S: Final = 30.0


class PartitionLag(NamedTuple):
    """How far a group has read a partition."""

    committed: int | None
    """The next offset to read; None: the group never committed one here."""
    end: int
    """The last stable offset."""
    lag: int
    """Records between them. Above 100 it is the difference of the offsets, which counts transaction markers too."""


async def read_lag(
    settings: KafkaSettings, group: str, topics: Sequence[Topic]
) -> dict[TopicPartition, PartitionLag]:
    """
    Return the lag of every partition of *topics*.

    Raises:
        TopicMismatch: topics are missing or have another number of partitions.
        KafkaUnreachable: with the cause.
    """
    await check_topics(settings, topics, client_id=admin_client_id(group))
    client = new_consumer(settings, f"{group}-lag", group, fetch_max_wait_ms=50)
    partitions = [
        AIOKafkaTopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)
    ]
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await start_consumer(client)
            raise_offset_fetch_errors(client)
            committed = {each: await client.committed(each) for each in partitions}
            begins, ends = await client.beginning_offsets(partitions), await client.end_offsets(partitions)
            # Records deleted before they were read cannot be read any more.
            starts = {each: max(begins[each], offset or 0) for each, offset in committed.items()}
            counted = await _count(client, starts, ends)
    except (KafkaError, OSError, TimeoutError) as error:
        raise await diagnose(settings, error, admin_client_id(group)) from error
    finally:
        await stop_consumer(client)
    return {
        TopicPartition(*each): PartitionLag(
            committed[each], ends[each], counted.get(each, max(0, ends[each] - starts[each]))
        )
        for each in partitions
    }


async def read_bounds(
    settings: KafkaSettings, topics: Sequence[Topic], client_id: str
) -> dict[TopicPartition, tuple[int, int]]:
    """
    Return the first offset and the last stable offset of every partition of *topics*.

    Raises:
        KafkaUnreachable: with the cause.
    """
    client = new_consumer(settings, client_id, None, fetch_max_wait_ms=50)
    partitions = [
        AIOKafkaTopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)
    ]
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await start_consumer(client)
            begins, ends = await client.beginning_offsets(partitions), await client.end_offsets(partitions)
    except (KafkaError, OSError, TimeoutError) as error:
        raise await diagnose(settings, error, client_id) from error
    finally:
        await stop_consumer(client)
    return {TopicPartition(*each): (begins[each], ends[each]) for each in partitions}


async def _count(client: Any, starts: Mapping[Any, int], ends: Mapping[Any, int]) -> dict[Any, int]:
    """Count the records where few offsets lie between, by reading them: the last offset of a transaction is its marker."""
    counts = {each: 0 for each, start in starts.items() if 0 < ends[each] - start <= _MAX_COUNTED}
    client.assign(list(counts))
    for each in counts:
        client.seek(each, starts[each])
    unread = list(counts)
    while unread:
        for each, records in (await client.getmany(*unread, timeout_ms=50)).items():
            counts[each] += sum(1 for record in records if record.offset < ends[each])
        unread = [each for each in unread if await client.position(each) < ends[each]]
    return counts
