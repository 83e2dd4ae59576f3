"""What aiokafka's clients leave behind when their start is cancelled."""

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Awaitable, Callable

import pytest

from bridge.publisher.producer import KafkaProducer
from consumers.engine.consumer_client import new_consumer, start_consumer, stop_consumer
from tests.kafka.conftest import Broker, settings_of
from voipex.kafka.admin import describe_cluster
from voipex.kafka.settings import KafkaSettings

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
