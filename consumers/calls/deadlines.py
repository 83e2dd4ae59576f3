"""
What only time does to a call: rule 12 (stale, attempts released) and the end of rule 10's grace.

Deadlines shape the call at a moment; they leave nothing behind: a later event folds as if none had passed. So it never matters when a
timer fired. An event at a deadline precedes it.
"""

from dataclasses import dataclass
from typing import Final

from consumers.calls.call import SECOND_US, Call
from consumers.calls.fold import cdr_deadline_us, end_by_cdr
from consumers.calls.legs import Leg
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import CallStatus, EndedBy

MINUTE_US: Final = 60 * SECOND_US


@dataclass(frozen=True, slots=True)
class Limits:
    """After how long without a sign of life a call is given up (rule 12)."""

    ringing_us: int = 3 * MINUTE_US
    waiting_us: int = 60 * MINUTE_US  # also while new: a caller may wait in a queue without any event
    talking_us: int = 240 * MINUTE_US


DEFAULT_LIMITS: Final = Limits()


def status_of(call: Call) -> CallStatus:
    """`talking`: a customer leg is answered; `ringing`: an attempt is open; `waiting`: there was a leg. Monitors count for nothing (11)."""
    if call.ended:
        return CallStatus.STALE if call.ended_by is EndedBy.TIMEOUT else CallStatus.ENDED
    if call.talking():
        return CallStatus.TALKING
    if any(leg.is_attempt for leg in call.open_legs()):
        return CallStatus.RINGING
    if any(leg.role is not LegRole.MONITOR for leg in call.legs):
        return CallStatus.WAITING
    return CallStatus.NEW


def as_of(call: Call, at_us: int, limits: Limits) -> Call:
    """The call as it looks at a moment not before its last event; *call* itself, or a changed twin."""
    if call.ended:
        return call
    if call.cdr_pending and at_us >= cdr_deadline_us(call):
        twin = call.copy()
        end_by_cdr(twin)
        return twin
    status = status_of(call)
    stale_us = _stale_us(call, status, limits)
    moment_us = min(at_us, stale_us)
    overdue = [leg.number for leg, until_us in _attempts(call, status, limits) if until_us <= moment_us]
    if not overdue and at_us < stale_us:
        return call
    twin = call.copy()
    for number in overdue:
        _release(twin, twin.leg(number), limits)
    if at_us >= stale_us:
        _give_up(twin, stale_us)
    return twin


def next_deadline(call: Call, after_us: int, limits: Limits) -> int | None:
    """The first moment after *after_us* at which time alone changes the call."""
    if call.ended:
        return None
    deadlines = []
    if call.cdr_pending:
        if after_us >= cdr_deadline_us(call):
            return None
        deadlines.append(cdr_deadline_us(call))
    status = status_of(call)
    stale_us = _stale_us(call, status, limits)
    if after_us < stale_us:
        attempts = _attempts(call, status, limits)
        deadlines += [stale_us, *(until_us for _, until_us in attempts if until_us > after_us)]
    return min(deadlines, default=None)


def _stale_us(call: Call, status: CallStatus, limits: Limits) -> int:
    if status is CallStatus.TALKING:
        return call.last_effect_us + limits.talking_us
    if status is CallStatus.RINGING:
        return call.last_effect_us + limits.ringing_us
    return call.last_effect_us + limits.waiting_us


def _attempts(call: Call, status: CallStatus, limits: Limits) -> list[tuple[Leg, int]]:
    """While the call talks: who still rings, and until when that is believed."""
    if status is not CallStatus.TALKING:
        return []
    return [(leg, leg.last_us + limits.ringing_us) for leg in call.open if leg.answered_us is None]


def _release(call: Call, leg: Leg, limits: Limits) -> None:
    """An attempt without an event for 3 min: no_answer at the answer it preceded (5c), else `timeout`."""
    answer = None if leg.role is LegRole.MONITOR else call.answer_outrunning(leg)
    if answer is not None and answer.answered_us is not None:
        call.close_inferred(leg, answer.answered_us, LegResult.NO_ANSWER)
    else:
        call.close_inferred(leg, leg.last_us + limits.ringing_us, LegResult.TIMEOUT)


def _give_up(call: Call, at_us: int) -> None:
    """Stale: ended at its deadline, agents are released."""
    call.close_outrun()
    for leg in list(call.open):
        call.close_inferred(leg, at_us, LegResult.TIMEOUT)
    call.ended_us = at_us
    call.ended_by = EndedBy.TIMEOUT
