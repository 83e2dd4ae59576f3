"""Ringing (rule 3) and Answered (rule 4) of agents, callers and consulted colleagues, and of monitors (rule 11)."""

from typing import Final

from consumers.calls.call import SECOND_US, Applied, Call
from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, is_blank, same_party
from consumers.calls.transfers import begin_leg, infer_blind_from, infer_blind_to, infer_handover
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Effect, EndedBy
from voipex.events import Direction, ReasonClass

PARALLEL_US: Final = 3 * SECOND_US
"""A second Ringing within this time is a second device: queues ring an agent again after 5 s at the earliest (rule 3)."""


# ---------------------------------------------------------------- rule 3


def ringing(call: Call, event: CallEvent) -> Applied:
    """Rule 3, Ringing(L). With direction `barge` it rings a monitor leg, independent of all others (rule 11)."""
    monitor = event.direction is Direction.BARGE
    leg = call.open_attempt_of(event, monitor=monitor)
    if leg is not None and event.at_us - leg.began_us <= PARALLEL_US:
        return _second_device(call, leg, event)
    answered = call.open_leg_of(event, monitor=monitor) if leg is None else None
    if answered is not None:
        return _ring_after_answer(call, answered, event)
    if monitor and call.ended:
        return Applied(Effect.NONE, "nothing to monitor any more")
    if leg is None and not monitor and _is_late_ring(call, event):
        return _late_ring(call, event)
    if leg is not None:
        call.close_inferred(leg, event.at_us, LegResult.NO_ANSWER)
    if monitor:
        return Applied(Effect.RANG, None, call.begin(event, LegRole.MONITOR, rings=True))
    begun = begin_leg(call, event, rings=True)
    infer_blind_to(call, begun, event.at_us)
    return Applied(Effect.RANG, None if leg is None else "its earlier attempt ended without an answer", begun)


def _second_device(call: Call, leg: Leg, event: CallEvent) -> Applied:
    call.touch(leg, event)
    leg.parallel_rings += 1
    return Applied(Effect.PARALLEL, "a second device of the line", leg)


def _ring_after_answer(call: Call, leg: Leg, event: CallEvent) -> Applied:
    call.anomalies.add(Anomaly.RING_AFTER_ANSWER)
    leg.ring_reported = True
    return call.note(leg, event, "rings after its answer")


def _is_late_ring(call: Call, event: CallEvent) -> bool:
    """Whether the Ringing comes within 2 s after L's own Hangup, and is the first of L."""
    return bool(call.late_hangups_of(event)) and not any(leg.ring_reported for leg in call.legs_of(event))


def _late_ring(call: Call, event: CallEvent) -> Applied:
    call.anomalies.add(Anomaly.LATE_EVENT)
    leg = next(call.legs_of(event), None)
    if leg is not None:
        leg.ring_reported = True
    return call.note(leg, event, "came after the Hangup of its line")


# ---------------------------------------------------------------- rule 4


def answered(call: Call, event: CallEvent) -> Applied:
    """Rule 4, Answered(L)."""
    if event.direction is Direction.BARGE or means_monitor(call, event):
        return _monitor_answered(call, event)
    leg = call.open_attempt_of(event) or _only_open_attempt(call, event)
    if leg is not None:
        return _answer(call, leg, event)
    talking = call.open_leg_of(event) or _any_answered(call, event)
    if talking is not None:
        return call.note(talking, event, "was answered before")
    if call.late_hangups_of(event):
        return _late_answer(call, event)
    return _answer(call, begin_leg(call, event, rings=False), event)


def means_monitor(call: Call, event: CallEvent) -> bool:
    """Rule 11: a Hangup or Answered of L refers to L's monitor leg if L has no other open leg."""
    return call.open_leg_of(event, monitor=True) is not None and call.open_leg_of(event) is None


def _only_open_attempt(call: Call, event: CallEvent) -> Leg | None:
    """A blank Answered refers to the only open attempt."""
    if not is_blank(event):
        return None
    attempts = [leg for leg in call.open_legs() if leg.is_attempt]
    return attempts[0] if len(attempts) == 1 else None


def _any_answered(call: Call, event: CallEvent) -> Leg | None:
    """A blank Answered while no attempt is open repeats a known answer: return the newest open leg."""
    legs = call.open_legs() if is_blank(event) else []
    return legs[-1] if legs and not any(leg.is_attempt for leg in legs) else None


def _answer(call: Call, leg: Leg, event: CallEvent) -> Applied:
    call.touch(leg, event)
    leg.answered_us = event.at_us
    leg.answered_index = call.index
    if leg.is_customer:
        infer_handover(call, leg)
        call.connect_caller(leg, event.at_us, call.index)
        infer_blind_to(call, leg, event.at_us)
    return Applied(
        Effect.ANSWERED, None if leg.ring_reported else "without a ring: a pickup, or a lost Ringing", leg
    )


def _monitor_answered(call: Call, event: CallEvent) -> Applied:
    leg = call.open_leg_of(event, monitor=True)
    if leg is None and call.ended:
        return Applied(Effect.NONE, "nothing to monitor any more")
    if leg is not None and leg.answered_us is not None:
        return call.note(leg, event, "was answered before")
    if leg is None:
        leg = call.begin(event, LegRole.MONITOR, rings=False)
    return _answer(call, leg, event)


def _late_answer(call: Call, event: CallEvent) -> Applied:
    """
    Apply an Answered of L that comes within 2 s after L's own Hangup, which overtook it. A leg that the Hangup closed unanswered was
    answered at its end; a leg closed as `answered_elsewhere` continues as answered.
    """
    call.anomalies.add(Anomaly.LATE_EVENT)
    leg = _closed_unanswered_by_own_hangup(call, event)
    if leg is None or leg.ended_us is None:
        return call.note(call.newest_leg_of(event), event, "came after the Hangup of its line")
    if leg.reason_class is ReasonClass.ANSWERED_ELSEWHERE:
        return _continue_answered(call, leg, event)
    call.touch(leg, event)
    leg.answered_us, leg.answered_index = leg.ended_us, leg.ended_index
    leg.result = LegResult.COMPLETED
    leg.infer("answered_at", "result")
    if leg.is_customer:
        call.connect_caller(leg, leg.ended_us, leg.ended_index)
        _leave_late(call, leg, leg.ended_us)
    return Applied(Effect.ANSWERED, "came after the Hangup of its line: answered at its end", leg)


def _closed_unanswered_by_own_hangup(call: Call, event: CallEvent) -> Leg | None:
    """Return L's attempt that L's Hangup closed. For a blank Hangup, which closes all legs: the attempt, if it closed only one."""
    for index in call.late_hangups_of(event):
        closed = [leg for leg in call.legs if leg.ended_index == index and _ended_as_attempt(leg)]
        own = [leg for leg in closed if same_party(leg, event)]
        if own:
            return own[-1]
        if is_blank(event) and len(closed) == 1:
            return closed[0]
    return None


def _ended_as_attempt(leg: Leg) -> bool:
    """Whether the leg ended unanswered, reported by an event."""
    return (
        leg.ended_us is not None
        and leg.answered_us is None
        and leg.role is not LegRole.MONITOR
        and "ended_at" not in leg.inferred
    )


def _continue_answered(call: Call, leg: Leg, event: CallEvent) -> Applied:
    leg.ended_us = leg.result = leg.reason = leg.reason_class = None
    leg.own_hangup = False
    call.open.append(leg)
    if leg.role is LegRole.CONSULT and not call.leg(leg.consulter).talks:
        leg.role = call.customer_role(leg)  # the consulting leg has ended meanwhile
    call.reopen()
    return _answer(call, leg, event)._replace(note="it was this line that answered")


def _leave_late(call: Call, leg: Leg, at_us: int) -> None:
    """Continue as in 5c, as if the Answered had come first: the call ends with the leg if no other is open."""
    if call.ended:
        return
    infer_blind_from(call, leg, at_us)
    release_superseded(call, leg)
    if not call.open_legs():
        call.end(max(each.ended_us or 0 for each in call.legs), EndedBy.HANGUP)


def release_superseded(call: Call, answered_leg: Leg) -> None:
    """5c: close attempts without an event since that answer, as unanswered at the answer (inferred)."""
    at_us = answered_leg.answered_us
    for leg in call.open_legs():
        if at_us is not None and leg.is_attempt and leg.last_index < answered_leg.answered_index:
            call.close_inferred(leg, at_us, LegResult.NO_ANSWER)
