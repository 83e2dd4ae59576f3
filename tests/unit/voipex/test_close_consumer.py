"""Closing a consumer: what aiokafka does when no broker answers must not look like a cancellation of the caller."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from voipex.kafka.clients import close_consumer

pytestmark = pytest.mark.anyio


def consumer(stop: Any) -> tuple[Any, list[str]]:
    closed: list[str] = []

    async def close() -> None:
        closed.append("connections")

    return SimpleNamespace(stop=stop, _client=SimpleNamespace(close=close)), closed


async def cancelled() -> None:
    raise asyncio.CancelledError


async def failing() -> None:
    raise OSError("no broker")


async def deaf() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            return


@pytest.mark.parametrize("stop", [cancelled, failing, deaf])
async def test_a_stop_that_fails_or_hangs_leaves_no_connection(stop: Any) -> None:
    client, closed = consumer(stop)

    await close_consumer(client, 0.05)

    assert closed == ["connections"]
    await asyncio.sleep(0.4)  # what it left running has ended, and nothing is logged


async def test_a_caller_that_is_cancelled_is_cancelled() -> None:
    released = asyncio.Event()
    client, _ = consumer(released.wait)
    closing = asyncio.create_task(close_consumer(client, 60))
    await asyncio.sleep(0.01)
    closing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await closing
    released.set()
    await asyncio.sleep(0.01)
