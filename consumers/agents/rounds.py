"""Rules A18 and A19: what the legs of one agent in one call count for. Counters count calls and rounds, not devices."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from consumers.agents.days import (
    ANSWERED_ELSEWHERE,
    ANSWERED_IN,
    ANSWERED_OUT,
    MISSED_RINGS,
    TRANSFERS,
    UNANSWERED_OUT,
)
from consumers.agents.legs import AGENT, CALLER, TIMEOUT, Leg
from voipex.agent_activity import LegResult

_TRANSFERRED: Final = LegResult.TRANSFERRED.value
_ANSWERED_ELSEWHERE: Final = LegResult.ANSWERED_ELSEWHERE.value
_MISSED: Final = frozenset({LegResult.NO_ANSWER.value, LegResult.BUSY.value, LegResult.REJECTED.value})


class Count(NamedTuple):
    """One more in a counter, on the day of `at_us`."""

    at_us: int
    counter: int
    """Its place in DayTotals."""
    queue: str | None = None


def counts(legs: Sequence[Leg]) -> Iterable[Count]:
    """Return what the legs of one call count for."""
    return _counts_of_one(legs[0]) if len(legs) == 1 else _counts_of_several(legs)


def _counts_of_one(leg: Leg) -> Sequence[Count]:
    """Both rules for the usual call, in which the agent has one leg."""
    role = leg.role
    if role not in (AGENT, CALLER):
        return ()
    found = []
    end_us, got_us = leg.end_us, leg.got_caller_us
    if end_us is not None and (leg.transferred_us is not None or leg.result == _TRANSFERRED):
        found.append(Count(end_us, TRANSFERS))
    if got_us is not None:
        found.append(Count(got_us, ANSWERED_IN, leg.queue) if role == AGENT else Count(got_us, ANSWERED_OUT))
    elif end_us is None:
        pass
    elif role == CALLER:
        if leg.result != TIMEOUT:
            found.append(Count(end_us, UNANSWERED_OUT))
    elif leg.result in _MISSED:
        found.append(Count(end_us, MISSED_RINGS, leg.queue))
    elif leg.result == _ANSWERED_ELSEWHERE:
        found.append(Count(end_us, ANSWERED_ELSEWHERE))
    return found


def _counts_of_several(legs: Sequence[Leg]) -> Iterator[Count]:
    for leg in legs:
        if leg.role in (AGENT, CALLER) and (leg.transferred_us is not None or leg.result == _TRANSFERRED):
            end_us = leg.end_us
            if end_us is not None:
                yield Count(end_us, TRANSFERS)
    for attempts in rounds(legs):
        yield from _counts_of_round(attempts)
    outgoing = [leg for leg in legs if leg.role == CALLER]
    if outgoing:
        yield from _counts_outgoing(outgoing)


def rounds(legs: Iterable[Leg]) -> list[list[Leg]]:
    """Rule A18. Attempts that begin at the same moment overlap, also one of no length."""
    attempts = [leg for leg in legs if leg.role == AGENT]
    if len(attempts) < 2:
        return [attempts] if attempts else []
    attempts.sort(key=_by_start)
    found: list[list[Leg]] = []
    until_us: int | None = None  # the end of the last round; None: it goes on
    for leg in attempts:
        current = found[-1] if found else []
        overlaps = current and (
            until_us is None or leg.start_us < until_us or leg.start_us == current[-1].start_us
        )
        if overlaps and not any(_rings_again(leg, other) for other in current):
            current.append(leg)
            until_us = None if until_us is None or leg.end_us is None else max(until_us, leg.end_us)
        else:
            found.append([leg])
            until_us = leg.end_us
    return found


def _rings_again(leg: Leg, other: Leg) -> bool:
    """Whether the phone of *other*, an earlier attempt, rings again. Attempts without a Line are two phones while both go on."""
    if leg.line is not None or other.line is not None:
        return leg.line == other.line
    return other.end_us is not None and other.end_us <= leg.start_us


def queue_of_round(attempts: Sequence[Leg], at_us: int) -> str | None:
    """Rule A18, as known at a moment."""
    got_it = [leg for leg in attempts if (got_us := leg.got_caller_us) is not None and got_us <= at_us]
    first = min(got_it, key=_by_taking, default=None)
    if first is not None and first.queue is not None:
        return first.queue
    return next((leg.queue for leg in attempts if leg.queue is not None and leg.start_us <= at_us), None)


def _counts_of_round(attempts: Sequence[Leg]) -> Iterator[Count]:
    taken_us = min([got_us for leg in attempts if (got_us := leg.got_caller_us) is not None], default=None)
    if taken_us is not None:
        yield Count(taken_us, ANSWERED_IN, queue_of_round(attempts, taken_us))
        return
    ends = [leg.end_us for leg in attempts]
    if any(leg.answered_us is not None for leg in attempts):
        return
    end_us = max([each for each in ends if each is not None], default=0)
    if None in ends:
        return
    results = {leg.result for leg in attempts}
    if results & _MISSED:
        yield Count(end_us, MISSED_RINGS, queue_of_round(attempts, end_us))
    elif _ANSWERED_ELSEWHERE in results:
        yield Count(end_us, ANSWERED_ELSEWHERE)


def _counts_outgoing(attempts: Sequence[Leg]) -> Iterator[Count]:
    """Rule A19."""
    answered_us = min([got_us for leg in attempts if (got_us := leg.got_caller_us) is not None], default=None)
    if answered_us is not None:
        yield Count(answered_us, ANSWERED_OUT)
        return
    ends = [leg.end_us for leg in attempts]
    last_us = max([each for each in ends if each is not None], default=0)
    if None not in ends and all(leg.result != TIMEOUT for leg in attempts):
        yield Count(last_us, UNANSWERED_OUT)


def _by_start(leg: Leg) -> tuple[int, int]:
    return leg.start_us, leg.leg


def _by_taking(leg: Leg) -> tuple[int, int, int]:
    return leg.got_caller_us or 0, leg.start_us, leg.leg
