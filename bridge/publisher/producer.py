"""The publisher's Kafka producer: idempotent, acks=all, one batch per partition in flight."""

import asyncio
from collections.abc import (
    Iterable,
)
from typing import Any, Final

import aiokafka
import aiokafka.admin
import aiokafka.admin.config_resource
import aiokafka.conn
from aiokafka import errors
from aiokafka.errors import KafkaError

from bridge.publisher.faults import Fault
from voipex.kafka.admin import no_right
from voipex.kafka.clients import (
    _REQUEST_TIMEOUT_MS,
    _RETRY_BACKOFF_MS,
    _look_at,
    ask_for_metadata_calmly,
    client_arguments,
    close_producer,
)
from voipex.kafka.diagnostics import unreachable
from voipex.kafka.settings import KafkaSettings
from voipex.records import Record

_AIOKafkaProducer: Any = aiokafka.AIOKafkaProducer

MAX_BATCH_BYTES: Final = 512 * 1024
"""A partition has one batch in flight, so small ones are slow; the topics' max.message.bytes (1 MiB) limits the batch."""
_MISSING_FOR_S: Final = 0.2


class KafkaProducer:
    """
    Idempotent, acks=all, one batch per partition in flight; for one publishing task. Once a delivery failed it must be replaced:
    its sequence numbers have a gap, and the broker refuses that partition for ever (aiokafka never begins a new epoch).
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        request_timeout_ms: int = _REQUEST_TIMEOUT_MS,
    ) -> None:
        self._settings = settings
        self._max_batch_bytes = max_batch_bytes
        self._request_timeout_ms = request_timeout_ms
        self._client: Any = None
        self._missing_until: dict[str, float] = {}

    async def start(self, timeout_s: float = 15.0) -> None:
        """
        Connect and get a producer id.

        Raises:
            KafkaUnreachable: nothing is left open; make a new one to try again.
            KafkaAccessDenied: the same, but it will not help before somebody gave access.
        """
        arguments = client_arguments(self._settings)
        client = _AIOKafkaProducer(
            **arguments,
            client_id="voipex-bridge",
            enable_idempotence=True,
            acks="all",
            linger_ms=0,  # the publisher gathers
            max_batch_size=self._max_batch_bytes,
            request_timeout_ms=self._request_timeout_ms,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
        )
        ask_for_metadata_calmly(client.client)
        try:
            # aiokafka itself asks for a producer id without any limit.
            async with asyncio.timeout(timeout_s):
                await client.start()
        except (
            errors.ClusterAuthorizationFailedError
        ) as error:  # no producer id for those who may write nowhere
            await close_producer(client, 1.0)
            raise no_right(self._settings, "Write", ()) from error
        except (KafkaError, OSError, TimeoutError) as error:
            await close_producer(client, 1.0)
            raise await unreachable(self._settings, error) from error
        except BaseException:
            await close_producer(client, 1.0)
            raise
        self._client = client

    async def send(
        self, topic: str, partition: int, records: Iterable[Record]
    ) -> tuple[int, "asyncio.Future[object]"]:
        """
        Send the first of *records* that fit into one batch: (how many, a future that is done when all in-sync replicas have them).

        The caller awaits the future before it sends more to this partition. A failure, of the call or the future, is what `fault_of` reads.
        """
        client = self._client
        if client.client.cluster.partitions_for_topic(topic) is None:
            await self._learn(topic)
        batch = client.create_batch()
        append, count = batch.append, 0
        for record in records:
            if (
                append(
                    timestamp=record.timestamp_ms,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                )
                is None
            ):
                break
            count += 1
        batch.close()  # an open one would linger
        future: asyncio.Future[object] = await client.send_batch(batch, topic, partition=partition)
        future.add_done_callback(_look_at)
        return count, future

    async def _learn(self, topic: str) -> None:
        """Find the topic within seconds, or tell "no such topic" from "no answer" (aiokafka waits for the whole request timeout)."""
        client = self._client.client
        loop = asyncio.get_running_loop()
        if loop.time() < self._missing_until.get(topic, 0.0):  # its other partitions need not wait too
            raise errors.UnknownTopicOrPartitionError(topic)
        client.add_topic(topic)
        updated = False
        for _ in range(5):  # a topic that was just created is not on every broker yet
            async with asyncio.timeout(self._request_timeout_ms / 1000):
                updated = await client.force_metadata_update()
            if client.cluster.partitions_for_topic(topic) is not None:
                return
            if topic in client.cluster.unauthorized_topics:
                raise errors.TopicAuthorizationFailedError(topic)
            await asyncio.sleep(_RETRY_BACKOFF_MS / 1000)
        if not updated:
            raise errors.KafkaConnectionError("no metadata")
        self._missing_until[topic] = loop.time() + _MISSING_FOR_S
        raise errors.UnknownTopicOrPartitionError(topic)

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Let go: what is not acknowledged by now is given up (its fate is unknown). Takes at most `timeout_s`."""
        if self._client is not None:
            client, self._client = self._client, None
            await close_producer(client, timeout_s)

    @staticmethod
    def fault_of(error: BaseException) -> Fault:
        """Say what a failed delivery means."""
        for kinds, fault in _FAULTS:
            if isinstance(error, kinds):
                return fault
        return "retry"


_FAULTS: Final[tuple[tuple[tuple[type[BaseException], ...], Fault], ...]] = (
    # AssertionError: the partition is not in the metadata.
    ((errors.UnknownTopicOrPartitionError, errors.InvalidTopicError, AssertionError), "topic"),
    ((errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError), "rights"),
    ((errors.MessageSizeTooLargeError, errors.RecordListTooLargeError), "too_large"),
    ((errors.InvalidTimestampError, errors.PolicyViolationError), "refused"),
    # aiokafka's table ends before INVALID_RECORD (87) and calls it unknown, as it does an error of the broker's own.
    ((errors.UnknownError, errors.CorruptRecordException, errors.InvalidRequestError), "unsure"),
)
