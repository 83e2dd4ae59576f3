"""Waits that end when the service is stopped."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def unless_stopped(stopping: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Await *work*, or cancel it and return None when `stopping` is set: a join can last as long as a frozen member's session."""
    working, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    stop.add_done_callback(lambda _: working.cancel())
    try:
        return await working
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
        return None
    finally:
        stop.cancel()


async def sleep_unless_stopped(stopping: asyncio.Event, delay_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), delay_s)
