"""
Waiting in tests: for a condition, never for time. A deadline here only keeps a test from hanging, so it is far longer than a loaded
machine needs; no test asserts how quickly something came.
"""

import asyncio
import inspect
import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

Result = TypeVar("Result")
Why = str | Callable[[], object]

WITHIN_S: Final = 120.0


def eventually(
    predicate: Callable[[], Result | None], why: Why = "", within_s: float = WITHIN_S, every_s: float = 0.05
) -> Result:
    """
    Call *predicate* until it returns something true, and return that.

    `why` is shown on failure; a function is called only then, to show the state that was found.

    Raises:
        AssertionError: not within `within_s` seconds.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = predicate()
        if found:
            return found
        _check(deadline, within_s, why)
        time.sleep(every_s)


async def async_eventually(
    predicate: Callable[[], object], why: Why = "", within_s: float = WITHIN_S, every_s: float = 0.02
) -> Any:
    """The same on the event loop; *predicate* may be a coroutine function, whose result counts."""
    deadline = time.monotonic() + within_s
    while True:
        found = predicate()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        _check(deadline, within_s, why)
        await asyncio.sleep(every_s)


def _check(deadline: float, within_s: float, why: Why) -> None:
    if time.monotonic() > deadline:
        raise AssertionError(f"not within {within_s:g} s: {why() if callable(why) else why}")


def outlast(span_s: float, what: str) -> None:
    """
    Let `span_s` seconds pass where the span itself is what is tested: an outage, a freeze. More time never changes the result.

    `what`: the time-out or session that must run out meanwhile, for the reader.
    """
    assert what
    time.sleep(span_s)


def soak_rounds(number: int) -> int:
    """Return how many of the *number* rounds of a long test to play: `make soak SHARE=0.1` plays a tenth."""
    return max(1, round(number * float(os.environ.get("SOAK_SHARE", "1"))))
