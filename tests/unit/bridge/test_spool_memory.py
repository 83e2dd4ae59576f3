"""The spool in memory: an append completes when Kafka has acknowledged it, or fails after the deadline though it may still arrive."""

import asyncio
from typing import Any

import pytest

from bridge.spool.memory import MemorySpool
from tests.spool_fixtures import EVERYTHING, append, numbers, record, start_append
from voipex.errors import KafkaTooSlow, ServiceUnavailable, ShuttingDown

pytestmark = pytest.mark.anyio


async def test_appends_complete_in_order_on_acknowledgement() -> None:
    spool = MemorySpool(deadline_s=5)
    appends = [start_append(spool, [record(n)]) for n in range(3)]
    batch = await spool.take(*EVERYTHING)
    assert [durable.done() for durable in appends] == [False] * 3

    spool.acknowledge(batch[1])
    assert [durable.done() for durable in appends] == [True, True, False]
    spool.acknowledge(batch[2])

    await asyncio.gather(*appends)
    assert spool.stats().waiting_records == 0


async def test_an_append_waits_for_its_last_record() -> None:
    spool = MemorySpool(deadline_s=5)
    durable = start_append(spool, [record(0), record(1)])
    batch = await spool.take(*EVERYTHING)

    spool.acknowledge(batch[0])
    assert not durable.done()
    spool.acknowledge(batch[1])
    assert durable.done()


async def test_a_late_record_fails_but_stays_in_the_queue() -> None:
    spool = MemorySpool(deadline_s=0.01)
    with pytest.raises(KafkaTooSlow, match="may still arrive"):
        await append(spool, [record(1)])

    batch = await spool.take(*EVERYTHING)
    spool.acknowledge(batch[0])

    assert numbers(batch) == [1]
    assert spool.stats().waiting_records == 0


async def test_a_full_queue_rejects_at_once() -> None:
    spool = MemorySpool(deadline_s=5, limit_bytes=record(0, size_bytes=100).size_bytes)
    first = start_append(spool, [record(1, size_bytes=100)])

    with pytest.raises(ServiceUnavailable):
        await append(spool, [record(2)])

    assert spool.stats().waiting_records == 1
    spool.acknowledge((await spool.take(1, 1))[0])
    await first
    assert spool.stats().bytes == 0


async def test_take_respects_its_limits_and_returns_at_least_one() -> None:
    spool = MemorySpool(deadline_s=5)
    durable = start_append(spool, [record(n, size_bytes=100) for n in range(6)])
    size = record(0, size_bytes=100).size_bytes

    batches = [await spool.take(2, 10**6), await spool.take(10, 2 * size), await spool.take(10, 1)]
    batches.append(await spool.take(10, 10**6))

    assert list(map(numbers, batches)) == [[0, 1], [2, 3], [4], [5]]
    spool.acknowledge(batches[-1][-1])
    await durable


async def test_take_waits_for_the_next_append() -> None:
    spool = MemorySpool(deadline_s=5)
    asyncio.get_running_loop().call_soon(start_append, spool, [record(1)])

    batch = await spool.take(*EVERYTHING)

    assert numbers(batch) == [1]
    spool.acknowledge(batch[-1])


async def test_a_sealed_queue_rejects_and_ends_when_taken() -> None:
    spool = MemorySpool(deadline_s=5)
    durable = start_append(spool, [record(1)])
    spool.seal()

    with pytest.raises(ShuttingDown):
        await append(spool, [record(2)])
    batch = await spool.take(*EVERYTHING)
    spool.acknowledge(batch[-1])

    await durable
    assert numbers(batch) == [1]
    assert await spool.take(*EVERYTHING) == []


async def test_sealing_ends_a_waiting_take() -> None:
    spool = MemorySpool(deadline_s=5)
    asyncio.get_running_loop().call_soon(spool.seal)

    assert await spool.take(*EVERYTHING) == []


async def test_close_fails_pending_appends() -> None:
    spool = MemorySpool(deadline_s=60)
    durable = start_append(spool, [record(1)])

    await spool.close()

    with pytest.raises(KafkaTooSlow, match="stopped"):
        await durable


async def test_a_failing_callback_does_not_affect_others() -> None:
    """It must not reach the publisher, which calls `acknowledge`."""
    failures: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    spool = MemorySpool(deadline_s=5)
    failure = RuntimeError("no response")

    def fail(_: ServiceUnavailable | None) -> None:
        raise failure

    spool.append([record(0)], fail)
    durable = start_append(spool, [record(1)])
    spool.acknowledge((await spool.take(*EVERYTHING))[-1])

    await durable
    assert failures == [failure]


async def test_an_empty_append_is_durable_at_once() -> None:
    assert start_append(MemorySpool(deadline_s=5), []).done()
