"""
The transactional producer.

Whatever one of its calls raises means the same: the outcome of the transaction is unknown. Discard the producer and start a new one with
the same transactional.id, which ends every earlier transaction of that id; then ask what was committed.

A request whose connection is lost is not repeated. aiokafka would do so with the same epoch, and the first one, delayed on its way, would
reach the broker within the next transaction and commit it early, or commit older offsets with it (KIP-890;
`tests/kafka/test_delayed_requests.py` shows both). The producer ends instead; the epoch of the next one rejects whatever is still on its way.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import aiokafka
from aiokafka import errors
from aiokafka.errors import KafkaError
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.structs import OffsetAndMetadata

from consumers.engine.access import admin_client_id, diagnose
from consumers.engine.consumer_client import (
    REQUEST_TIMEOUT_MS,
    STOP_TIMEOUT_S,
    AIOKafkaTopicPartition,
)
from consumers.engine.errors import EngineError, ProducerFenced
from consumers.engine.records import ProducerRecord, TopicPartition
from voipex.kafka.clients import client_arguments, close_producer, prepare_client
from voipex.kafka.settings import KafkaSettings

_AIOKafkaProducer: Any = aiokafka.AIOKafkaProducer

_MAX_BATCH_BYTES: Final = 512 * 1024
_FENCE_TIMEOUT_S: Final = 60.0
_RETRY_BACKOFF_MS: Final = 20
"""A transaction that follows another at once waits this long for the earlier one's markers (CONCURRENT_TRANSACTIONS)."""


_NEVER_REPEATED: Final = (
    AddPartitionsToTxnRequest,
    AddOffsetsToTxnRequest,
    TxnOffsetCommitRequest,
    EndTxnRequest,
)


class RequestLost(EngineError):
    """The connection broke before a request of the transaction was answered. It may still arrive."""


class TransactionalProducer:
    """The one writer for a transactional.id. After any error, `stop` it and start a new one."""

    def __init__(
        self, settings: KafkaSettings, group: str, transactional_id: str, *, transaction_timeout_ms: int
    ) -> None:
        self._settings = settings
        self._group = group
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
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
        )
        prepare_client(client.client)
        _end_at_lost_requests(client.client)
        try:
            async with asyncio.timeout(_FENCE_TIMEOUT_S):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await close_producer(client, 1.0)
            raise await diagnose(self._settings, error, admin_client_id(self._group)) from error
        except BaseException:
            await close_producer(client, 1.0)
            raise
        self._client = client

    @property
    def producer_id(self) -> int:
        """What brokers know this producer by, as every earlier one with its transactional.id since that expired last. Set by `start`."""
        return int(self._client._txn_manager.producer_id)  # noqa: SLF001 - no public way

    async def begin(self) -> None:
        with _translated_errors():
            await self._client.begin_transaction()

    async def send(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> int:
        """Write *records*, in order, into the open transaction; return the last one's offset once all in-sync replicas have it."""
        client, sent, last = self._client, 0, -1
        with _translated_errors():
            while sent < len(records):
                batch = client.create_batch()
                count = _fill(batch, islice(records, sent, None))
                batch.close()  # an open batch would linger
                metadata = await (await client.send_batch(batch, topic, partition=partition))
                if metadata.offset < 0:  # the broker took it for a duplicate: its offset is not known
                    raise KafkaError("no offset")
                last, sent = metadata.offset + count - 1, sent + count
        return int(last)

    async def add_offsets(self, offsets: Mapping[TopicPartition, int], group: str) -> None:
        """Commit the group's *offsets* with the transaction."""
        if offsets:
            with _translated_errors():
                await self._client.send_offsets_to_transaction(
                    {
                        AIOKafkaTopicPartition(*each): OffsetAndMetadata(offset, "")
                        for each, offset in offsets.items()
                    },
                    group,
                )

    async def commit(self) -> None:
        with _translated_errors():
            await self._client.commit_transaction()

    async def stop(self) -> None:
        """Close the client within STOP_TIMEOUT_S; an open transaction is left to the next `start` of its id."""
        if self._client is not None:
            client, self._client = self._client, None
            await close_producer(client, STOP_TIMEOUT_S)


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (errors.ProducerFenced, errors.InvalidProducerEpoch) as error:
        raise ProducerFenced(f"{type(error).__name__} {error}".strip()) from error
    except KafkaError as error:
        if isinstance(error.__cause__, RequestLost):  # the sender's task has ended with it
            raise RequestLost(str(error.__cause__)) from error
        raise


def _end_at_lost_requests(client: Any) -> None:
    """Let a lost request of a transaction end the sender. Idempotent Produce requests are repeated: the broker recognises them."""
    send = client.send

    async def send_once(node_id: int, request: Any, **options: Any) -> Any:
        try:
            return await send(node_id, request, **options)
        except errors.NodeNotReadyError:  # never sent
            raise
        except KafkaError as error:
            if isinstance(request, _NEVER_REPEATED):
                # Not a KafkaError: the sender repeats those.
                raise RequestLost(f"{type(request).__name__}: {type(error).__name__} {error}") from error
            raise

    client.send = send_once


def _fill(batch: Any, records: Iterable[ProducerRecord]) -> int:
    """Append records until the batch is full; return how many it took."""
    append, count = batch.append, 0
    for record in records:
        appended = append(
            timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=list(record.headers)
        )
        if appended is None:
            break
        count += 1
    return count
