"""A call of thousands of events: bounded work, and the same rules."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from consumers.calls.call import READ_AGAIN_LIMIT
from consumers.calls.events import CallEvent
from consumers.calls.fold import fold
from consumers.calls.projection import CallProjection, CallState
from tests.calls import NO_RESPONSE, TALK, answer, call, cancel, hangup, new, ring, transfer

ROUNDS = 1500


def unconfirmed(number: int) -> tuple[CallEvent, ...]:
    """A phone that picks up, and then says that nobody talked."""
    line, at = str(1000 + number), 10.0 * number
    return ring(at, line), answer(at + 2, line), hangup(at + 4, line, NO_RESPONSE)


class TestLongCalls:
    def test_answers_withdrawn_are_read_again_within_a_limit(self) -> None:
        events = [event for number in range(ROUNDS) for event in unconfirmed(number)]
        after = fold(events)

        assert len(after.legs) == ROUNDS
        assert READ_AGAIN_LIMIT <= after.hindsight.read_again < READ_AGAIN_LIMIT + len(events)

    @pytest.mark.parametrize("batch", [1, 7, 400])
    def test_the_limit_is_met_at_the_same_event_in_any_batches(self, batch: int) -> None:
        events = [event for number in range(400) for event in unconfirmed(number)]
        after = None
        for start in range(0, len(events), batch):
            after = fold(events[start : start + batch], after)
        at_once = fold(events)

        assert after is not None
        assert [leg.answered_us for leg in at_once.legs] == [leg.answered_us for leg in after.legs]

    def test_a_party_without_a_line_is_found_among_hundreds_of_legs(self) -> None:
        rounds = [event for number in range(300) for event in unconfirmed(number)]
        made = call(new(0), *rounds, ring(4000, None, login="zoe"), answer(4005, None, login="zoe"))

        assert made.legs[-1].ring_s == 5


def instructions(run: Callable[[], object]) -> int:
    """Count the bytecode instructions of the call fold that *run* executes: its work, however busy the machine is."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "consumers/calls" not in frame.f_code.co_filename:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def queue(number: int) -> Iterator[CallEvent]:
    """A queue rings one of three members, without an end of the ring."""
    yield ring(10.0 + 5 * number, str(201 + number % 3))


def rung_in_vain(number: int) -> Iterator[CallEvent]:
    yield ring(10.0 + 5 * number, str(1000 + number))
    yield hangup(13.0 + 5 * number, str(1000 + number))


def talks(number: int) -> Iterator[CallEvent]:
    line, at = str(201 + number % 3), 10.0 + 60 * number
    yield from (ring(at, line), answer(at + 2, line), hangup(at + 20, line))


def handed_over(number: int) -> Iterator[CallEvent]:
    yield ring(10.0 + 5 * number, str(1000 + number))
    yield answer(12.0 + 5 * number, str(1000 + number))


def consulted(number: int) -> Iterator[CallEvent]:
    at = 10.0 + 10 * number
    yield from (ring(at, "202", from_="201"), answer(at + 2, "202", from_="201"), cancel(at + 4, "201"))


def transferred(number: int) -> Iterator[CallEvent]:
    transferor, target, at = str(201 + number), str(202 + number), 10.0 + 10 * number
    yield from (
        ring(at, target, from_=transferor),
        answer(at + 2, target, from_=transferor),
        transfer(at + 4, transferor),
    )


def anonymous(number: int) -> Iterator[CallEvent]:
    yield ring(10.0 + 5 * number, str(1000 + number))
    yield answer(11.0 + 5 * number, None)


@pytest.mark.parametrize("kind", [queue, rung_in_vain, talks, handed_over, consulted, transferred, anonymous])
class TestWorkGrowsWithTheCall:
    """Twice the events are about twice the work, so a call of 5,000 events costs a share of a second and stalls no partition."""

    def test_of_the_fold(self, kind: Callable[[int], Iterator[CallEvent]]) -> None:
        short, long = (instructions(partial(fold, events)) for events in _calls(kind))

        assert long < 2.6 * short

    def test_of_a_document(self, kind: Callable[[int], Iterator[CallEvent]]) -> None:
        states = [CallState("voipex", "1", events) for events in _calls(kind)]
        for state in states:
            state.folded_call()
        emit = CallProjection().emit
        short, long = (instructions(partial(emit, state, state.events[-1].at_us)) for state in states)

        assert long < 2.6 * short


def _calls(kind: Callable[[int], Iterator[CallEvent]]) -> tuple[tuple[CallEvent, ...], tuple[CallEvent, ...]]:
    """The same call with 100 and with 200 rounds."""
    long = [*TALK, *(event for number in range(200) for event in kind(number))]
    half = len(TALK) + (len(long) - len(TALK)) // 2
    numbered = tuple(event._replace(event_id=f"{place:06d}") for place, event in enumerate(long))
    return numbered[:half], numbered
