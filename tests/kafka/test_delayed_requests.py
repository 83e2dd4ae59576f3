"""
A request of a transaction that reaches the broker twice, the second time late: the client has lost the connection and has repeated it.

Such a request carries the producer's epoch, which stays the same for all its transactions (KIP-890). The broker takes it for a request of the
transaction that is open by then.
"""

import time
from enum import IntEnum
from typing import Any, Final

import pytest

from consumers.engine.consumer_client import (
    AIOKafkaTopicPartition,
    new_consumer,
    start_consumer,
    stop_consumer,
)
from consumers.engine.records import ProducerRecord, TopicPartition
from consumers.engine.transactions import TransactionalProducer
from tests.kafka.conftest import Broker, create_topics, settings_of
from tests.kafka.delaying_proxy import DelayingProxy, delaying_proxy
from tests.kafka.engine import read
from tests.waiting import soak_rounds
from voipex.topics import CALL_EVENTS, CALL_STATE, topic_name

pytestmark = pytest.mark.anyio

GROUP = "voipex-delayed"


class Api(IntEnum):
    """Requests of a transaction, by their keys in the protocol."""

    PRODUCE = 0
    ADD_PARTITIONS = 24
    ADD_OFFSETS = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Rounds:
    """
    In each round, a request of one transaction is delayed into the next one. `early`: rounds in which that one was committed before its
    commit. `moved_back`: rounds after which the group's offset was that of an earlier transaction.
    """

    def __init__(self, kafka: Broker, pbx: str, proxy: DelayingProxy, reader: Any) -> None:
        self._producer_settings = settings_of(kafka.bootstrap_servers)
        self._id = f"{GROUP}.{pbx}.tallies.0"
        self._written = TopicPartition(topic_name(pbx, CALL_STATE), 0)
        self._read = TopicPartition(topic_name(pbx, CALL_EVENTS), 0)
        self._proxy, self._reader = proxy, reader
        self.transactions = 0
        self.early = self.moved_back = self.delayed = self.restarts = 0
        self.producer: TransactionalProducer | None = None

    async def play(self, api: Api) -> None:
        self._proxy.delay_next(api)
        await self._commit_one()
        self.delayed += self._proxy.holds_one
        offset = await self._begin()
        if self._proxy.holds_one:
            await self._proxy.release()
        self.early += await self._is_committed(offset)
        expected = self.transactions
        await self._commit()
        await (
            self._begin()
        )  # a barrier: the transaction before it is finished, and the group's offset visible
        self.moved_back += await self._committed() < expected
        await self._commit()

    async def _commit_one(self) -> None:
        """Commit a transaction; after a failure with a new producer, as a task does."""
        while True:
            try:
                await self._begin()
                await self._commit()
            except Exception:  # noqa: BLE001 - any of them ends a task
                await self.stop()
                self.restarts += 1
            else:
                return

    async def _begin(self) -> int:
        if self.producer is None:
            self.producer = TransactionalProducer(
                self._producer_settings, GROUP, self._id, transaction_timeout_ms=10_000
            )
            await self.producer.start()
        self.transactions += 1
        record = ProducerRecord(*self._written, b"1.0", b"{}", (), time.time_ns() // 1_000_000)
        await self.producer.begin()
        offset = await self.producer.send(*self._written, [record])
        await self.producer.add_offsets({self._read: self.transactions}, GROUP)
        return offset

    async def _commit(self) -> None:
        assert self.producer is not None
        await self.producer.commit()

    async def stop(self) -> None:
        if self.producer is not None:
            await self.producer.stop()
            self.producer = None

    async def _is_committed(self, offset: int) -> bool:
        where = AIOKafkaTopicPartition(*self._written)
        ends = await self._reader.end_offsets([where])
        return bool(ends[where] > offset)

    async def _committed(self) -> int:
        return int(await self._reader.committed(AIOKafkaTopicPartition(*self._read)))


async def play(kafka: Broker, pbx: str, monkeypatch: pytest.MonkeyPatch, api: Api, rounds: int) -> Rounds:
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    reader = new_consumer(settings_of(kafka.bootstrap_servers), "reader", GROUP)
    await start_consumer(reader)
    try:
        async with delaying_proxy(kafka.bootstrap_servers, monkeypatch) as proxy:
            played = Rounds(kafka, pbx, proxy, reader)
            try:
                for _ in range(rounds):
                    await played.play(api)
            finally:
                await played.stop()
    finally:
        await stop_consumer(reader)
    return played


ROUNDS: Final = 8
"""Without the remedy at least 84 % of the rounds go wrong, so eight rounds miss it once in two million runs."""

TRANSACTIONAL = [each for each in Api if each is not Api.PRODUCE]


@pytest.mark.parametrize("api", TRANSACTIONAL, ids=lambda api: api.name.lower())
async def test_a_delayed_request_does_not_reach_the_next_transaction(
    kafka: Broker, pbx: str, monkeypatch: pytest.MonkeyPatch, api: Api
) -> None:
    played = await play(kafka, pbx, monkeypatch, api, ROUNDS)

    assert (played.early, played.moved_back) == (0, 0)
    assert played.delayed == played.restarts == ROUNDS


async def test_a_delayed_produce_request_is_recognised(
    kafka: Broker, pbx: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is repeated: the broker knows the sequence numbers of its records."""
    played = await play(kafka, pbx, monkeypatch, Api.PRODUCE, ROUNDS)

    assert (played.early, played.moved_back, played.restarts) == (0, 0, 0)
    assert played.delayed == ROUNDS
    assert len(await read(kafka, topic_name(pbx, CALL_STATE))) == played.transactions


@pytest.mark.slow
@pytest.mark.parametrize("api", [Api.END_TXN, Api.TXN_OFFSET_COMMIT], ids=lambda api: api.name.lower())
async def test_a_thousand_delayed_requests_reach_no_other_transaction(
    kafka: Broker, pbx: str, monkeypatch: pytest.MonkeyPatch, api: Api, record_property: Any
) -> None:
    rounds = soak_rounds(1_000)
    played = await play(kafka, pbx, monkeypatch, api, rounds)

    assert (played.early, played.moved_back) == (0, 0)
    assert played.delayed == played.restarts == rounds
    record_property("requests delayed", played.delayed)
    record_property("transactions committed early", played.early)
    record_property("offsets moved back", played.moved_back)
