"""What every aiokafka client of a service needs: its arguments, a metadata refresh that does not spin, a close that cannot hang."""

import asyncio
import contextlib
from collections import deque
from collections.abc import (
    Awaitable,
    Callable,
)
from typing import Any, Final

from aiokafka import errors

from voipex.errors import KafkaAccessDenied
from voipex.kafka.settings import KafkaSettings

REQUEST_TIMEOUT_MS: Final = (
    30_000  # longer than a leader election: a batch that expires poisons its partition
)
RETRY_BACKOFF_MS: Final = 100


def mark_retrieved(future: "asyncio.Future[Any]") -> None:
    """A failure that nobody awaits any more is no news."""
    if not future.cancelled():
        future.exception()


def throttle_metadata_refresh(client: Any) -> None:
    """Ask for metadata at most ten times a second: while a partition has no leader, aiokafka asks 5,000 times."""
    ask: Callable[[], Awaitable[bool]] = client.force_metadata_update
    loop = asyncio.get_running_loop()
    asked_at: deque[float] = deque([-1.0] * 10, maxlen=10)
    waiting: asyncio.Future[bool] | None = None

    async def later(delay_s: float) -> bool:
        nonlocal waiting
        await asyncio.sleep(delay_s)
        waiting = None
        return await at_once() if client._sync_task is not None else False  # noqa: SLF001 - None: closed

    def at_once() -> Awaitable[bool]:
        asked_at.append(loop.time())
        return ask()

    def calmly() -> Awaitable[bool]:
        nonlocal waiting
        delay_s = asked_at[0] + 1.0 - loop.time()
        if delay_s <= 0:
            return at_once()
        if waiting is None:
            waiting = loop.create_task(later(delay_s))
        return asyncio.shield(waiting)

    client.force_metadata_update = calmly


async def close_producer(client: Any, timeout_s: float) -> None:
    """
    Close a producer without flushing.

    `stop()` of aiokafka waits for every batch, and for ever when the broker is away. So the batches are failed first, then the connections
    are closed, which ends the requests that wait on them.
    """
    accumulator = client._message_accumulator  # noqa: SLF001 - no public way
    accumulator._closed = True  # noqa: SLF001
    batches = [batch for queue in accumulator._batches.values() for batch in queue]  # noqa: SLF001
    accumulator.fail_all(errors.ProducerClosed())
    for batch in batches:
        mark_retrieved(batch._drain_waiter)  # noqa: SLF001

    async def no_metadata() -> bool:
        return False

    async def close() -> None:
        client._closed = True  # noqa: SLF001 - else its finalizer warns
        # What is in flight would wait for metadata that nobody fetches any more.
        client.client.force_metadata_update = lambda: asyncio.ensure_future(no_metadata())
        client.client._maybe_wait_metadata = no_metadata  # noqa: SLF001
        await client.client.close()
        with contextlib.suppress(Exception):  # its task may stumble over the batches that were failed
            await client._sender.close()  # noqa: SLF001
        await client.client.close()  # what was connecting meanwhile

    closing = asyncio.get_running_loop().create_task(close())
    _, late = await asyncio.wait({closing}, timeout=timeout_s)
    if late:
        closing.cancel()
        await asyncio.wait({closing}, timeout=0.1)
    mark_retrieved(closing)


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments of every client. Raises KafkaAccessDenied when a certificate file cannot be used."""
    try:
        return settings.client_arguments()
    except OSError as error:
        raise KafkaAccessDenied(f"the certificate files cannot be used: {error}") from error
