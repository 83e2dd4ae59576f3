"""
Changes by time alone: stale calls and released attempts (rule 12), and the end of the CDR's grace (rule 10).

Deadlines change only the view of the call at a moment, never the folded call: a later event folds as if no deadline had passed, so it
does not matter when a timer fires. An event at the time of a deadline precedes it.
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
    """Time without an effective event after which a call is considered stale (rule 12)."""

    ringing_us: int = 3 * MINUTE_US
    waiting_us: int = 60 * MINUTE_US  # new calls too: a caller may wait in a queue without any event
    talking_us: int = 240 * MINUTE_US


DEFAULT_LIMITS: Final = Limits()


def status_of(call: Call) -> CallStatus:
    """`talking`: a customer leg is answered; `ringing`: an attempt is open; `waiting`: there was a leg. Monitors do not count (11)."""
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
    """Apply the deadlines that have passed at *at_us*, which is not before the last event. Returns *call* itself or a changed copy."""
    if call.ended:
        return call
    if call.cdr_pending and at_us >= cdr_deadline_us(call):
        call = call.copy()
        end_by_cdr(call)
        return call
    status = status_of(call)
    stale_us = _stale_us(call, status, limits)
    moment_us = min(at_us, stale_us)
    overdue = [leg.number for leg, until_us in _attempts(call, status, limits) if until_us <= moment_us]
    if not overdue and at_us < stale_us:
        return call
    call = call.copy()
    for number in overdue:
        _release(call, call.leg(number), limits)
    if at_us >= stale_us:
        _give_up(call, stale_us)
    return call


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
    """Return the attempts of a talking call, each with the time of its release."""
    if status is not CallStatus.TALKING:
        return []
    return [(leg, leg.last_us + limits.ringing_us) for leg in call.open if leg.answered_us is None]


def _release(call: Call, leg: Leg, limits: Limits) -> None:
    """Close an attempt without an event for 3 min: as no_answer at the answer that superseded it (5c), else as `timeout`."""
    answer = None if leg.role is LegRole.MONITOR else call.superseding_answer(leg)
    if answer is not None and answer.answered_us is not None:
        call.close_inferred(leg, answer.answered_us, LegResult.NO_ANSWER)
    else:
        call.close_inferred(leg, leg.last_us + limits.ringing_us, LegResult.TIMEOUT)


def _give_up(call: Call, at_us: int) -> None:
    """End a stale call at its deadline; open legs end with `timeout`."""
    call.close_superseded()
    for leg in list(call.open):
        call.close_inferred(leg, at_us, LegResult.TIMEOUT)
    call.ended_us = at_us
    call.ended_by = EndedBy.TIMEOUT
