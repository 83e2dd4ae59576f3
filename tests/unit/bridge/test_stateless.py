"""The stateless twin: an append returns when Kafka acknowledged, or says that it may still arrive."""

import asyncio
from collections.abc import Sequence

import pytest

from bridge.spool.memory import KafkaOutbox
from bridge.spool.spool import Spooled
from voipex.errors import KafkaTooSlow, ServiceUnavailable, ShuttingDown
from voipex.records import Record


def record(number: int, size: int = 10) -> Record:
    return Record("t", 0, b"k", str(number).rjust(size).encode(), (), number)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def numbers(batch: Sequence[Spooled]) -> list[int]:
    return [int(each.record.value) for each in batch]


def test_an_append_returns_only_when_its_record_was_acknowledged_and_in_order() -> None:
    async def story() -> list[list[bool]]:
        outbox = KafkaOutbox(deadline_s=5)
        appends = [asyncio.create_task(outbox.append([record(n)])) for n in range(3)]
        await settle()
        batch = await outbox.take(10, 10**6)
        seen = [[append.done() for append in appends]]
        outbox.acknowledge(batch[1])
        await settle()
        seen.append([append.done() for append in appends])
        outbox.acknowledge(batch[2])
        await asyncio.gather(*appends)
        return [*seen, [outbox.stats().waiting_records == 0]]

    assert asyncio.run(story()) == [[False] * 3, [True, True, False], [True]]


def test_after_the_deadline_it_is_unavailable_and_the_event_stays_in_line() -> None:
    async def story() -> tuple[list[int], int]:
        outbox = KafkaOutbox(deadline_s=0.01)
        with pytest.raises(KafkaTooSlow, match="may still arrive"):
            await outbox.append([record(1)])
        batch = await outbox.take(10, 10**6)
        outbox.acknowledge(batch[0])  # late, and nobody waits
        return numbers(batch), outbox.stats().waiting_records

    assert asyncio.run(story()) == ([1], 0)


def test_too_much_in_line_is_refused_at_once_and_not_put_in_line() -> None:
    async def story() -> tuple[int, int]:
        outbox = KafkaOutbox(deadline_s=5, limit_bytes=record(0, 100).size_bytes)
        first = asyncio.create_task(outbox.append([record(1, 100)]))
        await settle()
        with pytest.raises(ServiceUnavailable):
            await outbox.append([record(2)])
        waiting = outbox.stats().waiting_records
        outbox.acknowledge((await outbox.take(1, 1))[0])
        await first
        return waiting, outbox.stats().bytes

    assert asyncio.run(story()) == (1, 0)


def test_batches_are_bounded_by_count_and_bytes_and_hold_at_least_one() -> None:
    async def story() -> list[list[int]]:
        outbox = KafkaOutbox(deadline_s=5)
        task = asyncio.create_task(outbox.append([record(n, 100) for n in range(6)]))
        await settle()
        size = record(0, 100).size_bytes
        batches = [await outbox.take(2, 10**6), await outbox.take(10, 2 * size), await outbox.take(10, 1)]
        batches.append(await outbox.take(10, 10**6))
        outbox.acknowledge(batches[-1][-1])
        await task
        return [numbers(batch) for batch in batches]

    assert asyncio.run(story()) == [[0, 1], [2, 3], [4], [5]]


def test_sealed_it_takes_nothing_more_and_ends_when_all_was_taken() -> None:
    async def story() -> tuple[list[int], Sequence[Spooled]]:
        outbox = KafkaOutbox(deadline_s=5)
        waiting = asyncio.create_task(outbox.take(10, 10**6))
        await settle()
        task = asyncio.create_task(outbox.append([record(1)]))
        first = await waiting
        outbox.seal()
        with pytest.raises(ShuttingDown):
            await outbox.append([record(2)])
        outbox.acknowledge(first[-1])
        await task
        return numbers(first), await outbox.take(10, 10**6)

    assert asyncio.run(story()) == ([1], [])


def test_a_taker_that_waits_hears_of_the_seal() -> None:
    async def story() -> Sequence[Spooled]:
        outbox = KafkaOutbox(deadline_s=5)
        waiting = asyncio.create_task(outbox.take(10, 10**6))
        await settle()
        outbox.seal()
        return await waiting

    assert asyncio.run(story()) == []


def test_closing_answers_who_still_waits() -> None:
    async def story() -> None:
        outbox = KafkaOutbox(deadline_s=60)
        task = asyncio.create_task(outbox.append([record(1)]))
        await settle()
        await outbox.close()
        with pytest.raises(KafkaTooSlow, match="stopped"):
            await task

    asyncio.run(story())
