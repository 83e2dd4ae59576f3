"""What every aiokafka client needs: its arguments, a start that leaves nothing behind, few refreshes of metadata, a close that cannot hang."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka import errors

from voipex.errors import KafkaAccessDenied
from voipex.kafka.settings import KafkaSettings

# Longer than a leader election: after a batch that expired, aiokafka sends its partition wrong sequence numbers (issue 1017).
REQUEST_TIMEOUT_MS: Final = 30_000
RETRY_BACKOFF_MS: Final = 100


def mark_retrieved(future: "asyncio.Future[Any]") -> None:
    """Mark the exception of *future* as retrieved, once it is done, so that asyncio does not log it when nothing awaits the future any more."""
    if not future.done():
        future.add_done_callback(mark_retrieved)
    elif not future.cancelled():
        future.exception()


_REFRESHES_PER_S: Final = 10
_BOOTSTRAP_S: Final = 0.5


def prepare_client(client: Any) -> None:
    """Change two habits of an `AIOKafkaClient` before it is started. Called on its event loop."""
    _throttle_metadata_refresh(client)
    _complete_bootstrap(client)


def _complete_bootstrap(client: Any) -> None:
    """
    Give a bootstrap that is cancelled half a second to end, so that `close` knows its connection.

    Cancelled while it awaits its first metadata, aiokafka leaves that connection to the garbage collector, which logs an error.
    """
    bootstrap: Callable[[], Awaitable[None]] = client.bootstrap

    async def completed() -> None:
        running = asyncio.ensure_future(bootstrap())
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            try:
                await asyncio.wait({running}, timeout=_BOOTSTRAP_S)
            finally:  # also when cancelled again: it must not go on after `close`
                running.cancel()
                mark_retrieved(running)
            raise

    client.bootstrap = completed


def _throttle_metadata_refresh(client: Any) -> None:
    """
    Let an `AIOKafkaClient` refresh its metadata at most ten times a second.

    While a partition has no leader, aiokafka asks as fast as brokers answer: 5,000 times a second, with a core each (issue 1155).
    """
    refresh: Callable[[], Awaitable[bool]] = client.force_metadata_update
    loop = asyncio.get_running_loop()
    refreshed_at: deque[float] = deque([-1.0] * _REFRESHES_PER_S, maxlen=_REFRESHES_PER_S)
    delayed: asyncio.Future[bool] | None = None

    def refresh_now() -> Awaitable[bool]:
        refreshed_at.append(loop.time())
        return refresh()

    async def refresh_later(delay_s: float) -> bool:
        nonlocal delayed
        await asyncio.sleep(delay_s)
        delayed = None
        return await refresh_now() if client._sync_task is not None else False  # noqa: SLF001 - None: closed

    def throttled_refresh() -> Awaitable[bool]:
        nonlocal delayed
        delay_s = refreshed_at[0] + 1.0 - loop.time()
        if delay_s <= 0:
            return refresh_now()
        if delayed is None:
            delayed = loop.create_task(refresh_later(delay_s))
        return asyncio.shield(delayed)

    client.force_metadata_update = throttled_refresh


async def close_producer(client: Any, timeout_s: float) -> None:
    """
    Close a producer without flushing, within *timeout_s*.

    `AIOKafkaProducer.stop()` waits for every batch, for ever while no broker answers (aiokafka issues 1013 and 1101). Here the batches fail
    first; then the connections are closed, which ends the requests that wait for them.
    """
    accumulator = client._message_accumulator  # noqa: SLF001 - no public way
    accumulator._closed = True  # noqa: SLF001
    batches = [batch for queue in accumulator._batches.values() for batch in queue]  # noqa: SLF001
    accumulator._pending_batches = _ClosedBatches(accumulator._pending_batches)  # noqa: SLF001
    accumulator.fail_all(errors.ProducerClosed())
    for batch in batches:
        mark_retrieved(batch._drain_waiter)  # noqa: SLF001
    if client._txn_manager is not None:  # noqa: SLF001
        _prepare_transactions_for_failure(client._txn_manager)  # noqa: SLF001

    async def no_metadata() -> bool:
        return False

    async def close() -> None:
        client._closed = True  # noqa: SLF001 - otherwise its finalizer warns
        # Requests in flight would wait for metadata that nothing fetches any more.
        client.client.force_metadata_update = lambda: asyncio.ensure_future(no_metadata())
        client.client._maybe_wait_metadata = no_metadata  # noqa: SLF001
        await client.client.close()
        with contextlib.suppress(Exception):  # its task may fail on the failed batches
            await client._sender.close()  # noqa: SLF001
        await client.client.close()  # connections that were opened meanwhile

    sending = client._sender._sender_task  # noqa: SLF001
    if sending is not None and sending.done():  # `close` awaits only one that runs
        mark_retrieved(sending)
    closing = asyncio.get_running_loop().create_task(close())
    _, late = await asyncio.wait({closing}, timeout=timeout_s)
    if late:
        closing.cancel()
        await asyncio.wait({closing}, timeout=0.1)
    mark_retrieved(closing)


class _ClosedBatches(set[Any]):
    """The sent batches of a closed producer. Each is removed when it fails; one that waits for its retry, or begins to, is not among them."""

    def remove(self, batch: Any) -> None:
        self.discard(batch)


def _prepare_transactions_for_failure(transactions: Any) -> None:
    """The sender may fail while it is closed, and then sets the exception of a future, which a producer without transactions does not have."""
    fatal_error: Callable[[BaseException], None] = transactions.fatal_error

    def retrieved(error: BaseException) -> None:
        fatal_error(error)
        mark_retrieved(transactions._transaction_waiter)  # noqa: SLF001

    transactions.fatal_error = retrieved
    if transactions._transaction_waiter is None:  # noqa: SLF001
        transactions._transaction_waiter = asyncio.get_running_loop().create_future()  # noqa: SLF001
    mark_retrieved(transactions._transaction_waiter)  # noqa: SLF001


async def close_consumer(client: Any, timeout_s: float) -> None:
    """
    Stop a consumer within *timeout_s*; then close connections that a stop that hangs has left, or that were opened meanwhile.

    `AIOKafkaConsumer.stop()` awaits fetches that it has cancelled, and lets their CancelledError through when no broker answers: it would look like
    a cancellation of the caller. Hence a task of its own.
    """
    stopping = asyncio.get_running_loop().create_task(client.stop())
    _, late = await asyncio.wait({stopping}, timeout=timeout_s)
    if late:
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=0.1)
    mark_retrieved(stopping)
    with contextlib.suppress(Exception):
        await client._client.close()  # noqa: SLF001 - no public way


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Return the arguments of every client. Raises KafkaAccessDenied if a certificate file cannot be used."""
    try:
        return settings.client_arguments()
    except OSError as error:
        raise KafkaAccessDenied(f"the certificate files cannot be used: {error}") from error


def consumer_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Return the arguments of every consumer; see `client_arguments`."""
    return {**client_arguments(settings), "client_rack": settings.kafka_client_rack}
