"""
Changes of a call that follow from time alone.

These are stale calls and released attempts (rule 12), rings that a Hangup has overtaken (rule 5f), and the end of the grace after a CDR
(rule 10). Deadlines shape a copy of the call and leave the call itself as it is: a later event is folded as if no deadline had passed, so
it does not matter when a timer fired. An event at a deadline precedes it.
"""

from dataclasses import dataclass
from typing import Final

from consumers.calls.call import LATE_US, SECOND_US, Call
from consumers.calls.ending import cdr_deadline_us, end_by_cdr
from consumers.calls.legs import Leg
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import CallStatus, EndedBy

MINUTE_US: Final = 60 * SECOND_US


@dataclass(frozen=True, slots=True)
class Limits:
    """Rule 12: how long after its last effect a call is stale."""

    ringing_us: int = 3 * MINUTE_US
    waiting_us: int = 60 * MINUTE_US  # also while new: a caller may wait in a queue without any event
    talking_us: int = 240 * MINUTE_US


DEFAULT_LIMITS: Final = Limits()


def status_of(call: Call) -> CallStatus:
    """
    The status of a call.

    `talking`: a line has the caller, or an anonymous answer is undecided (rule 4e). `ringing`: an attempt is open. `waiting`: there was a
    leg. Monitors do not count (rule 11).
    """
    if call.ended_us is not None:
        return CallStatus.STALE if call.ended_by is EndedBy.TIMEOUT else CallStatus.ENDED
    if call.undecided is not None or call.talking():
        return CallStatus.TALKING
    if any(leg.answer is None and leg.role is not LegRole.MONITOR for leg in call.open):
        return CallStatus.RINGING
    if any(leg.role is not LegRole.MONITOR for leg in call.legs):
        return CallStatus.WAITING
    return CallStatus.NEW


def as_of(call: Call, at_us: int, limits: Limits) -> Call:
    """The call at a moment that is not before its last event: *call* itself, or a changed copy."""
    if call.ended:
        return call
    if call.grace_from_us is not None and at_us >= cdr_deadline_us(call):
        copied = call.copy()
        end_by_cdr(copied)
        return copied
    copied = call
    for leg, until_us in _overtaken(call):
        if until_us <= at_us:
            copied = call.copy() if copied is call else copied
            copied.over_when_it_began(copied.leg(leg.number))
    status = status_of(copied)
    stale_us = _stale_us(copied, status, limits)
    moment_us = min(at_us, stale_us)
    overdue = [
        (leg.number, until_us) for leg, until_us in _attempts(copied, status, limits) if until_us <= moment_us
    ]
    if not overdue and at_us < stale_us:
        return copied
    copied = call.copy() if copied is call else copied
    for number, until_us in overdue:
        copied.infer_end(copied.leg(number), until_us, LegResult.TIMEOUT, "12")
    if at_us >= stale_us:
        _give_up(copied, stale_us)
    return copied


def next_deadline(call: Call, after_us: int, limits: Limits) -> int | None:
    """The first moment after *after_us* at which time alone changes the call."""
    if call.ended:
        return None
    moments = []
    if call.grace_from_us is not None:
        if after_us >= cdr_deadline_us(call):
            return None
        moments.append(cdr_deadline_us(call))
    overtaken = [until_us for _, until_us in _overtaken(call) if until_us > after_us]
    if overtaken:
        return min(*moments, *overtaken) if moments else min(overtaken)
    seen = as_of(call, after_us, limits)
    if not seen.ended:
        status = status_of(seen)
        attempts = _attempts(seen, status, limits)
        moments += [_stale_us(seen, status, limits), *(until_us for _, until_us in attempts)]
    return min((at_us for at_us in moments if at_us > after_us), default=None)


def _overtaken(call: Call) -> list[tuple[Leg, int]]:
    """Rule 5f: rings that a Hangup seems to have overtaken, and until when they are shown."""
    return [(leg, leg.overtaken_by.at_us + LATE_US) for leg in call.open if leg.overtaken_by is not None]


def _stale_us(call: Call, status: CallStatus, limits: Limits) -> int:
    if status is CallStatus.TALKING:
        return call.last_effect_us + limits.talking_us
    if status is CallStatus.RINGING:
        return call.last_effect_us + limits.ringing_us
    return call.last_effect_us + limits.waiting_us


def _attempts(call: Call, status: CallStatus, limits: Limits) -> list[tuple[Leg, int]]:
    """Rule 12: the open attempts of a call that talks, each with the time at which it is released."""
    if status is not CallStatus.TALKING:
        return []
    return [(leg, leg.last_us + limits.ringing_us) for leg in call.open if leg.answer is None]


def _give_up(call: Call, at_us: int) -> None:
    """Rule 12: end a stale call at its deadline and release its agents."""
    for leg in list(call.open):
        call.infer_end(leg, at_us, LegResult.TIMEOUT, "12")
    call.undecided = None
    call.ended_us = at_us
    call.ended_by = EndedBy.TIMEOUT
