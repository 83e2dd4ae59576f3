"""TransactionalProducer: what its calls raise, and the offsets it returns; aiokafka's client is faked."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors

from consumers.engine.errors import ProducerFenced
from consumers.engine.records import ProducerRecord, TopicPartition
from consumers.engine.transactions import TransactionalProducer
from voipex.kafka.settings import KafkaSettings

pytestmark = pytest.mark.anyio

CALLS = TopicPartition("voipex.call.events.v1", 0)
RECORD = ProducerRecord("voipex.call.timelines.v1", 0, b"1.1", b"{}", (), 1_772_438_400_000)


class FakeBatch:
    """Has room for two records."""

    def __init__(self) -> None:
        self.appended: list[Any] = []

    def append(self, **record: Any) -> object | None:
        if len(self.appended) == 2:
            return None
        self.appended.append(record)
        return object()

    def close(self) -> None:
        pass


class FakeClient:
    """Raises `error` at every call, or writes batches from `next_offset` on."""

    def __init__(self, error: Exception | None = None, next_offset: int = 0) -> None:
        self.error = error
        self.next_offset = next_offset
        self.batches: list[FakeBatch] = []

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, batch: FakeBatch, topic: str, partition: int) -> Any:
        self._fail()
        assert (topic, partition) == (RECORD.topic, RECORD.partition)
        self.batches.append(batch)
        base, self.next_offset = self.next_offset, self.next_offset + len(batch.appended)

        async def delivered() -> Any:
            return SimpleNamespace(offset=base)

        return delivered()

    async def begin_transaction(self) -> None:
        self._fail()

    async def send_offsets_to_transaction(self, *_: object) -> None:
        self._fail()

    async def commit_transaction(self) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


def producer(client: FakeClient) -> TransactionalProducer:
    made = TransactionalProducer(
        KafkaSettings(),
        "voipex-timelines",
        "voipex-timelines.voipex.timelines.0",
        transaction_timeout_ms=10_000,
    )
    made._client = client
    return made


async def call(step: str, made: TransactionalProducer) -> None:
    if step == "begin":
        await made.begin()
    elif step == "send":
        await made.send(RECORD.topic, RECORD.partition, [RECORD])
    elif step == "add_offsets":
        await made.add_offsets({CALLS: 1}, "voipex-timelines")
    else:
        await made.commit()


@pytest.mark.parametrize("step", ["begin", "send", "add_offsets", "commit"])
@pytest.mark.parametrize("error", [errors.ProducerFenced(), errors.InvalidProducerEpoch()], ids=repr)
async def test_fencing_at_any_step_raises_producer_fenced(step: str, error: Exception) -> None:
    with pytest.raises(ProducerFenced, match=type(error).__name__):
        await call(step, producer(FakeClient(error)))


@pytest.mark.parametrize("step", ["begin", "send", "add_offsets", "commit"])
async def test_other_errors_pass_unchanged(step: str) -> None:
    with pytest.raises(errors.RequestTimedOutError):
        await call(step, producer(FakeClient(errors.RequestTimedOutError())))


async def test_send_returns_the_offset_of_the_last_record() -> None:
    client = FakeClient(next_offset=7)

    last = await producer(client).send(RECORD.topic, RECORD.partition, [RECORD] * 5)

    assert last == 11
    assert [len(batch.appended) for batch in client.batches] == [2, 2, 1]


async def test_a_delivery_without_an_offset_is_an_error() -> None:
    """The broker took the batch for a duplicate: the changelog's end is not known."""
    with pytest.raises(errors.KafkaError, match="no offset"):
        await producer(FakeClient(next_offset=-1)).send(RECORD.topic, RECORD.partition, [RECORD])


async def test_no_offsets_are_not_sent() -> None:
    """aiokafka refuses an empty mapping; timers have no input offsets."""
    await producer(FakeClient(errors.KafkaError("refused"))).add_offsets({}, "voipex-timelines")
