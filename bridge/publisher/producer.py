"""The publisher's Kafka producer, on aiokafka: idempotent, acks=all, one batch per partition in flight."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import aiokafka
from aiokafka import errors
from aiokafka.errors import KafkaError

from bridge.publisher.faults import DeliveryFault
from voipex.kafka.admin import missing_acl
from voipex.kafka.clients import (
    REQUEST_TIMEOUT_MS,
    RETRY_BACKOFF_MS,
    client_arguments,
    close_producer,
    mark_retrieved,
    prepare_client,
)
from voipex.kafka.diagnostics import diagnose
from voipex.kafka.settings import KafkaSettings
from voipex.records import Record

_AIOKafkaProducer: Any = aiokafka.AIOKafkaProducer

MAX_BATCH_BYTES: Final = 512 * 1024
"""A partition has one batch in flight, so small batches are slow; the topics' max.message.bytes (1 MiB) limits them."""
_RECORDS_AT_ONCE: Final = 64
"""Added to a batch before the event loop looks for input: 0.1 ms; a whole batch may take four."""
_UNKNOWN_TOPIC_S: Final = 0.2
"""A topic that was not found counts as missing for so long, so that its other partitions need not search for it again."""
_METADATA_ATTEMPTS: Final = 5  # a topic that was just created is not known to every broker yet


class KafkaProducer:
    """
    A producer for one publishing task. After a failed delivery it must be replaced: its sequence numbers have a gap, and the broker rejects
    that partition for ever, since aiokafka never begins a new epoch.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:
        self._settings = settings
        self._max_batch_bytes = max_batch_bytes
        self._request_timeout_ms = request_timeout_ms
        self._client: Any = None
        self._unknown_until: dict[str, float] = {}

    async def start(self, timeout_s: float = 15.0) -> None:
        """
        Connect and get a producer id.

        Raises:
            KafkaUnreachable: nothing stays open; create a new producer to try again.
            KafkaAccessDenied: the same, but it will fail until someone grants access.
        """
        arguments = client_arguments(self._settings)
        client = _AIOKafkaProducer(
            **arguments,
            client_id="voipex-bridge",
            enable_idempotence=True,
            acks="all",
            linger_ms=0,  # the publisher lingers
            max_batch_size=self._max_batch_bytes,
            request_timeout_ms=self._request_timeout_ms,
            retry_backoff_ms=RETRY_BACKOFF_MS,
        )
        prepare_client(client.client)
        try:
            # aiokafka waits for a producer id without a timeout of its own.
            async with asyncio.timeout(timeout_s):
                await client.start()
        except (
            errors.ClusterAuthorizationFailedError
        ) as error:  # a user without Write on any topic gets no producer id
            await close_producer(client, 1.0)
            raise missing_acl(self._settings, "Write", ()) from error
        except (KafkaError, OSError, TimeoutError) as error:
            await close_producer(client, 1.0)
            raise await diagnose(self._settings, error) from error
        except BaseException:
            await close_producer(client, 1.0)
            raise
        self._client = client

    async def send(
        self, topic: str, partition: int, records: Iterable[Record]
    ) -> tuple[int, "asyncio.Future[object]"]:
        """
        Send as many of the first *records* as fit into one batch.

        Returns their number, and a future that is done when all in-sync replicas have them. The caller awaits it before it sends more to
        this partition. `fault_of` classifies a failure of the call or of the future.
        """
        client = self._client
        if client.client.cluster.partitions_for_topic(topic) is None:
            await self._ensure_metadata(topic)
        batch = client.create_batch()
        append, count = batch.append, 0
        for _, _, key, value, headers, timestamp_ms in records:
            appended = append(timestamp=timestamp_ms, key=key, value=value, headers=[*headers])
            if appended is None:
                break
            count += 1
            if count % _RECORDS_AT_ONCE == 0:
                await asyncio.sleep(0)
        batch.close()  # an open batch would linger
        future: asyncio.Future[object] = await client.send_batch(batch, topic, partition=partition)
        future.add_done_callback(mark_retrieved)
        return count, future

    async def _ensure_metadata(self, topic: str) -> None:
        """Find the topic within seconds, or tell "no such topic" from "no answer": aiokafka waits for the whole request timeout."""
        client = self._client.client
        loop = asyncio.get_running_loop()
        if loop.time() < self._unknown_until.get(topic, 0.0):
            raise errors.UnknownTopicOrPartitionError(topic)
        client.add_topic(topic)
        updated = False
        for _ in range(_METADATA_ATTEMPTS):
            async with asyncio.timeout(self._request_timeout_ms / 1000):
                updated = await client.force_metadata_update()
            if client.cluster.partitions_for_topic(topic) is not None:
                return
            if topic in client.cluster.unauthorized_topics:
                raise errors.TopicAuthorizationFailedError(topic)
            await asyncio.sleep(RETRY_BACKOFF_MS / 1000)
        if not updated:
            raise errors.KafkaConnectionError("no metadata")
        self._unknown_until[topic] = loop.time() + _UNKNOWN_TOPIC_S
        raise errors.UnknownTopicOrPartitionError(topic)

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Close without flushing: what is not acknowledged by now may or may not arrive. Takes at most `timeout_s`."""
        if self._client is not None:
            client, self._client = self._client, None
            await close_producer(client, timeout_s)

    @staticmethod
    def fault_of(error: BaseException) -> DeliveryFault:
        """Classify the error of a failed delivery."""
        for classes, fault in _FAULTS:
            if isinstance(error, classes):
                return fault
        return DeliveryFault.RETRIABLE


_FAULTS: Final[tuple[tuple[tuple[type[BaseException], ...], DeliveryFault], ...]] = (
    (
        # AssertionError: the partition is not in the metadata.
        (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError, AssertionError),
        DeliveryFault.UNKNOWN_TOPIC,
    ),
    (
        (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError),
        DeliveryFault.UNAUTHORIZED,
    ),
    ((errors.MessageSizeTooLargeError, errors.RecordListTooLargeError), DeliveryFault.TOO_LARGE),
    ((errors.InvalidTimestampError,), DeliveryFault.TIMESTAMP),
    (
        (
            errors.PolicyViolationError,
            errors.InvalidRequestError,
            errors.CorruptRecordException,
            # aiokafka knows no INVALID_RECORD (87) and reports it as unknown, like an internal error of the broker.
            errors.UnknownError,
        ),
        DeliveryFault.REFUSED,
    ),
)
