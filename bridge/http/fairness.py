"""
Turns on the event loop, so that a PBX that floods the bridge hardly delays the others (ADR 15).

All requests share one event loop. Without turns those that arrive together are handled together, and a PBX with 500 connections lets each
request of another one wait for 500 of its own, twice: when they are handled, and when they are answered.

Each PBX has a queue of calls. The queues take turns, one call each, for `QUANTUM_S`; then the event loop looks for input, so that a request
that arrives meanwhile does not wait for all calls that were there before it. Nothing is held back while there is time for it: a PBX that is
alone has all turns. The calls of one PBX keep their order.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from bridge.http.messages import Respond

QUANTUM_S: Final = 0.0001
"""Of turns between two looks for input: four requests or so. A look costs a few microseconds."""

NOBODY: Final = ""
"""Has a turn like a PBX: requests that were rejected by their head, whoever sent them."""

_Call = Callable[[], object]


class Turns:
    """
    The calls that wait for their turn, by PBX. One owner: the event loop.

    Args:
        call_soon: schedules a call for the next iteration of the event loop, after a look for input.
        quantum_s: time of turns in one iteration; the last call may take longer.
        clock: in seconds.
    """

    def __init__(
        self,
        call_soon: Callable[[_Call], object],
        quantum_s: float = QUANTUM_S,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._call_soon = call_soon
        self._quantum_s = quantum_s
        self._clock = clock
        self._queues: dict[str, deque[_Call]] = {}
        self._due: deque[deque[_Call]] = deque()
        """The queues that are not empty, in the order of their turns."""
        self._called: set[str] = set()
        """The PBXs that had a call at once since the last turns."""
        self._scheduled = False

    def call(self, pbx: str, call: Callable[..., object], *arguments: Any) -> None:
        """Call at once if nothing of the PBX waits and it had no such call since the last turns; else `add`."""
        if pbx in self._called or self._queues.get(pbx):
            self.add(pbx, call, *arguments)
            return
        self._called.add(pbx)
        self._schedule_turns()
        call(*arguments)

    def add(self, pbx: str, call: Callable[..., object], *arguments: Any) -> None:
        """Let *call* wait for a turn of its PBX. It should not raise: the event loop reports it, and the turns go on."""
        queue = self._queues.get(pbx)
        if queue is None:
            queue = self._queues[pbx] = deque()
        if not queue:
            self._due.append(queue)
        queue.append(partial(call, *arguments))
        self._schedule_turns()

    def schedule(self, handler: Callable[[bytes, Respond], None], body: bytes, respond: Respond) -> None:
        """Let *handler* wait for a turn of the PBX that it names, or of NOBODY."""
        self.add(getattr(handler, "pbx", None) or NOBODY, handler, body, respond)

    def _schedule_turns(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        self._called.clear()
        due, clock = self._due, self._clock
        end_s = clock() + self._quantum_s
        try:
            while due:
                queue = due.popleft()
                call = queue.popleft()
                if queue:
                    due.append(queue)
                call()
                if clock() >= end_s:
                    break
        finally:
            self._scheduled = bool(due)
            if due:
                self._call_soon(self._run)
