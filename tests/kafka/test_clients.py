"""What aiokafka's clients leave behind when their start is cancelled, or their end finds work."""

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.publisher.producer import KafkaProducer
from consumers.engine.consumer_client import new_consumer, start_consumer, stop_consumer
from tests.kafka.conftest import Broker, create_topics, settings_of
from tests.kafka.pausable import LocalKafka
from voipex.kafka.admin import describe_cluster
from voipex.kafka.settings import KafkaSettings
from voipex.records import Record
from voipex.topics import CALL_EVENTS, topic_name

DELAYS_S = [0.0001 * 1.07**number for number in range(80)]
"""Up to 20 ms, most of them short: a start takes 3 ms, or many on a busy machine."""

Use = Callable[[KafkaSettings], Awaitable[None]]


async def consume(settings: KafkaSettings) -> None:
    client = new_consumer(settings, "test", None)
    try:
        await start_consumer(client)
    finally:
        await stop_consumer(client)


async def produce(settings: KafkaSettings) -> None:
    producer = KafkaProducer(settings)
    await producer.start()
    await producer.stop()


async def administrate(settings: KafkaSettings) -> None:
    await describe_cluster(settings)


@pytest.mark.anyio
@pytest.mark.parametrize("use", [consume, produce, administrate], ids=lambda use: use.__name__)
async def test_a_cancelled_start_leaves_no_connection(kafka: Broker, use: Use) -> None:
    """At any moment, the request for the first metadata among them."""
    cancelled = 0
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        for delay_s in DELAYS_S:
            using = asyncio.ensure_future(use(settings_of(kafka.bootstrap_servers)))
            await asyncio.sleep(delay_s)
            using.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await using
            cancelled += using.cancelled()
        del using
        gc.collect()

    assert [str(each.message) for each in left if issubclass(each.category, ResourceWarning)] == []
    assert cancelled > 10


@pytest.mark.anyio
async def test_a_close_between_two_attempts_fails_no_callback(own_kafka: LocalKafka, pbx: str) -> None:
    """Its batch is among the sent ones, or among those that wait: for a leader, say; or it goes over to these at that very moment."""
    await create_topics(own_kafka.bootstrap_servers, pbx, 1, [CALL_EVENTS])
    topic, record = topic_name(pbx, CALL_EVENTS), Record("", 0, b"1.1", b"{}", (), 0)
    producers = [KafkaProducer(settings_of(own_kafka.bootstrap_servers)) for _ in range(8)]
    for each in producers:
        await each.start()
        _, written = await each.send(topic, 0, [record])
        await written
    await asyncio.to_thread(own_kafka.kill)
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    for each in producers:
        await each.send(topic, 0, [record])
    for number, each in enumerate(producers):
        await asyncio.sleep(0.07)
        accumulator = each._client._message_accumulator
        if number % 3:
            while not accumulator._pending_batches:  # noqa: ASYNC110 - aiokafka tells nobody
                await asyncio.sleep(0.001)
            [batch] = accumulator._pending_batches
            if number % 3 == 1:
                accumulator.reenqueue(batch)
            else:
                asyncio.get_running_loop().call_soon(accumulator.reenqueue, batch)
        await each.stop()
    await asyncio.sleep(0)

    assert failures == []
