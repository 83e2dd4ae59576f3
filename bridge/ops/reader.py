"""Read a topic without a consumer group, for `tail` and `dead-letters`."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final, NamedTuple

import aiokafka
from aiokafka import errors
from aiokafka.errors import KafkaError

from voipex.errors import TopicMismatch
from voipex.kafka.admin import missing_acl
from voipex.kafka.clients import (
    REQUEST_TIMEOUT_MS,
    RETRY_BACKOFF_MS,
    close_consumer,
    consumer_arguments,
    prepare_client,
)
from voipex.kafka.diagnostics import diagnose
from voipex.kafka.permissions import TopicAccessRequest, topic_access
from voipex.kafka.settings import KafkaSettings

_AIOKafkaConsumer: Any = aiokafka.AIOKafkaConsumer
_STOP_TIMEOUT_S: Final = 5.0


class ConsumerRecord(NamedTuple):
    """A record as it is stored in Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


async def read(
    settings: KafkaSettings,
    topic: str,
    *,
    choose_partition: Callable[[int], int] | None = None,
    from_beginning: bool = True,
    from_offset: int = 0,
    follow: bool = False,
    timeout_s: float = 15.0,
) -> AsyncGenerator[ConsumerRecord, None]:
    """
    Yield committed records; each partition in order.

    `choose_partition`: choose one partition, given their number; by default all are read. `from_beginning`: start with the first record, else
    with the next one that is written. `from_offset`: skip what is before it. `follow`: wait for more records, else stop at what was the
    end when the read started. Close the generator (`aclose`), which closes the consumer.

    Raises:
        TopicMismatch: the topic does not exist.
        KafkaAccessDenied: a right is missing.
        KafkaUnreachable: no answer; while reading: no record within `timeout_s` before the end is reached (`follow` waits instead).
    """
    consumer = _AIOKafkaConsumer(
        **consumer_arguments(settings),
        client_id="voipex-bridge-reader",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # skip what retention deletes meanwhile
        isolation_level="read_committed",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        retry_backoff_ms=RETRY_BACKOFF_MS,
        fetch_max_wait_ms=200,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    prepare_client(consumer._client)  # noqa: SLF001 - no public way
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await consumer.start()
                await asyncio.sleep(0)  # stop() right after start() would look like a cancellation
                partitions = await _partitions(consumer, topic, choose_partition)
                consumer.assign(partitions)
                ends = await consumer.end_offsets(partitions)
                starts = await consumer.beginning_offsets(partitions) if from_beginning else ends
        except errors.TopicAuthorizationFailedError as error:
            raise missing_acl(settings, "Describe", (topic,)) from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise await diagnose(settings, error) from error
        for partition in partitions:
            consumer.seek(partition, max(starts[partition], from_offset))
        async for record in _records(settings, consumer, None if follow else ends, timeout_s):
            yield record
    finally:
        await close_consumer(consumer, _STOP_TIMEOUT_S)


async def _partitions(consumer: Any, topic: str, choose_partition: Callable[[int], int] | None) -> list[Any]:
    # All topics: a request that names a missing one creates it if auto.create.topics.enable is set.
    cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - `topics()` does not return the partitions
    numbers = sorted(cluster.partitions_for_topic(topic) or ())
    if not numbers:
        client = consumer._client  # noqa: SLF001
        answer = await client.send(client.get_random_node(), TopicAccessRequest([topic]))
        if topic_access(answer.to_object()["topics"][0]).unauthorized:
            raise errors.TopicAuthorizationFailedError(topic)
        raise TopicMismatch(
            f"topic {topic} does not exist. To create the declared topics: voipex-bridge topics apply"
        )
    if choose_partition is not None:
        numbers = [choose_partition(len(numbers))]
    return [aiokafka.TopicPartition(topic, number) for number in numbers]


async def _records(
    settings: KafkaSettings, consumer: Any, ends: dict[Any, int] | None, timeout_s: float
) -> AsyncIterator[ConsumerRecord]:
    last_progress = time.monotonic()
    while True:
        if ends is not None:
            # Positions also move past transaction markers, so they reach the end even if no record is left.
            ready = [partition for partition, end in ends.items() if await consumer.position(partition) < end]
            if not ready:
                return
        else:
            ready = []
        try:
            polled = await consumer.getmany(*ready, timeout_ms=200)
        except errors.TopicAuthorizationFailedError as error:
            name = next(iter(consumer.assignment())).topic
            raise missing_acl(settings, "Read", (name,)) from error
        if not polled and ends is not None and time.monotonic() - last_progress > timeout_s:
            raise await diagnose(settings, TimeoutError(f"no record within {timeout_s:.0f} s"))
        for partition, records in polled.items():
            for record in records:
                if ends is not None and record.offset >= ends[partition]:
                    break
                yield ConsumerRecord(
                    record.topic,
                    record.partition,
                    record.offset,
                    record.timestamp,
                    record.key,
                    record.value,
                    tuple(record.headers),
                )
        if polled:
            last_progress = time.monotonic()  # after the records: the caller may take its time with them
