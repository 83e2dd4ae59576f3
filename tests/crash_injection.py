"""
A service that kills itself with SIGKILL: `python -m tests.crash_injection <service> <step> <countdown>`, the n-th time that it reaches a step
of a batch (consumers/engine/task.py).
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from consumers import service as run
from consumers import settings
from consumers.engine.store import Store
from consumers.engine.transactions import TransactionalProducer

STEPS = ("begin", "send", "sent", "offsets", "commit", "committing", "committed", "kept")
_left = 0


def _die_in_turn() -> None:
    global _left  # noqa: PLW0603 - one countdown per process
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _before(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def wrapped(*arguments: Any) -> Any:
        _die_in_turn()
        return await call(*arguments)

    return wrapped


def _after(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def wrapped(*arguments: Any) -> Any:
        result = await call(*arguments)
        _die_in_turn()
        return result

    return wrapped


def _during(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Die after the request is sent, without waiting for the response."""

    async def wrapped(*arguments: Any) -> Any:
        going = asyncio.ensure_future(call(*arguments))
        await asyncio.sleep(0.002)
        _die_in_turn()
        return await going

    return wrapped


def main() -> None:
    global _left  # noqa: PLW0603
    service, step, countdown = sys.argv[1:]
    _left = int(countdown)
    producer: Any = TransactionalProducer
    store: Any = Store
    owner, name, how = {
        "begin": (producer, "begin", _before),
        "send": (producer, "send", _before),
        "sent": (producer, "send", _after),
        "offsets": (producer, "add_offsets", _after),
        "commit": (producer, "commit", _before),
        "committing": (producer, "commit", _during),
        "committed": (producer, "commit", _after),
        "kept": (store, "commit", _after),
    }[step]
    setattr(owner, name, how(getattr(owner, name)))
    run.run(service, settings.load(), "0")


if __name__ == "__main__":
    main()
