"""Ringing (rule 3) and Answered (rule 4), of agents, callers, consulted colleagues and, by rule 11, of those who barge in."""

from typing import Final

from consumers.calls.call import SECOND_US, Call, Told
from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, is_blank, same_party
from consumers.calls.transfers import begin_leg, infer_blind_from, infer_blind_to, infer_handover
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Effect, EndedBy
from voipex.events import Direction, ReasonClass

PARALLEL_US: Final = 3 * SECOND_US
"""Queues ring an agent again after 5 s at the earliest; what comes this shortly is a second device (rule 3)."""


# ---------------------------------------------------------------- rule 3


def ringing(call: Call, event: CallEvent) -> Told:
    """Rule 3, Ringing(L). A `barge` rings a monitor leg beside all others (rule 11)."""
    monitor = event.direction is Direction.BARGE
    leg = call.open_attempt_of(event, monitor=monitor)
    if leg is not None and event.at_us - leg.began_us <= PARALLEL_US:
        return _second_device(call, leg, event)
    answered = call.open_leg_of(event, monitor=monitor) if leg is None else None
    if answered is not None:
        return _ring_after_answer(call, answered, event)
    if monitor and call.ended:
        return Told(Effect.NONE, "nothing to monitor any more")
    if leg is None and not monitor and _is_late_ring(call, event):
        return _late_ring(call, event)
    if leg is not None:
        call.close_inferred(leg, event.at_us, LegResult.NO_ANSWER)
    if monitor:
        return Told(Effect.RANG, None, call.begin(event, LegRole.MONITOR, rings=True))
    begun = begin_leg(call, event, rings=True)
    infer_blind_to(call, begun, event.at_us)
    return Told(Effect.RANG, None if leg is None else "its earlier attempt ended without an answer", begun)


def _second_device(call: Call, leg: Leg, event: CallEvent) -> Told:
    call.touch(leg, event)
    leg.parallel_rings += 1
    return Told(Effect.PARALLEL, "a second device of the line", leg)


def _ring_after_answer(call: Call, leg: Leg, event: CallEvent) -> Told:
    call.oddities.add(Anomaly.RING_AFTER_ANSWER)
    leg.ring_told = True
    return call.note(leg, event, "rings after its answer")


def _is_late_ring(call: Call, event: CallEvent) -> bool:
    """Within 2 s after L's own Hangup, when L had never rung before."""
    return bool(call.late_hangups_of(event)) and not any(leg.ring_told for leg in call.legs_of(event))


def _late_ring(call: Call, event: CallEvent) -> Told:
    call.oddities.add(Anomaly.LATE_EVENT)
    leg = next(call.legs_of(event), None)
    if leg is not None:
        leg.ring_told = True
    return call.note(leg, event, "came after the Hangup of its line")


# ---------------------------------------------------------------- rule 4


def answered(call: Call, event: CallEvent) -> Told:
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
    """Rule 11: a Hangup or Answered of L without other open legs means L's monitor leg."""
    return call.open_leg_of(event, monitor=True) is not None and call.open_leg_of(event) is None


def _only_open_attempt(call: Call, event: CallEvent) -> Leg | None:
    """An Answered that names nobody means the only line that rings."""
    if not is_blank(event):
        return None
    attempts = [leg for leg in call.open_legs() if leg.is_attempt]
    return attempts[0] if len(attempts) == 1 else None


def _any_answered(call: Call, event: CallEvent) -> Leg | None:
    """One that names nobody, while nobody rings, repeats what is known: somebody has answered."""
    legs = call.open_legs() if is_blank(event) else []
    return legs[-1] if legs and not any(leg.is_attempt for leg in legs) else None


def _answer(call: Call, leg: Leg, event: CallEvent) -> Told:
    call.touch(leg, event)
    leg.answered_us = event.at_us
    leg.answered_no = call.no
    if leg.is_customer:
        infer_handover(call, leg)
        call.get_caller(leg, event.at_us, call.no)
        infer_blind_to(call, leg, event.at_us)
    return Told(
        Effect.ANSWERED, None if leg.ring_told else "without a ring: a pickup, or a lost Ringing", leg
    )


def _monitor_answered(call: Call, event: CallEvent) -> Told:
    leg = call.open_leg_of(event, monitor=True)
    if leg is None and call.ended:
        return Told(Effect.NONE, "nothing to monitor any more")
    if leg is not None and leg.answered_us is not None:
        return call.note(leg, event, "was answered before")
    if leg is None:
        leg = call.begin(event, LegRole.MONITOR, rings=False)
    return _answer(call, leg, event)


def _late_answer(call: Call, event: CallEvent) -> Told:
    """
    Within 2 s after L's own Hangup an Answered was overtaken by it: what that closed unanswered was answered at its end; what
    `answered_elsewhere` closed goes on, answered.
    """
    call.oddities.add(Anomaly.LATE_EVENT)
    leg = _closed_unanswered_by_own_hangup(call, event)
    if leg is None or leg.ended_us is None:
        return call.note(call.newest_leg_of(event), event, "came after the Hangup of its line")
    if leg.reason_class is ReasonClass.ANSWERED_ELSEWHERE:
        return _goes_on_answered(call, leg, event)
    call.touch(leg, event)
    leg.answered_us, leg.answered_no = leg.ended_us, leg.ended_no
    leg.result = LegResult.COMPLETED
    leg.infer("answered_at", "result")
    if leg.is_customer:
        call.get_caller(leg, leg.ended_us, leg.ended_no)
        _left_late(call, leg, leg.ended_us)
    return Told(Effect.ANSWERED, "came after the Hangup of its line: answered at its end", leg)


def _closed_unanswered_by_own_hangup(call: Call, event: CallEvent) -> Leg | None:
    """L's attempt that L's Hangup closed; of a Hangup that named no line (and closed all) the only one."""
    for no in call.late_hangups_of(event):
        closed = [leg for leg in call.legs if leg.ended_no == no and _ended_as_attempt(leg)]
        own = [leg for leg in closed if same_party(leg, event)]
        if own:
            return own[-1]
        if is_blank(event) and len(closed) == 1:
            return closed[0]
    return None


def _ended_as_attempt(leg: Leg) -> bool:
    """Unanswered, by what an event told."""
    return (
        leg.ended_us is not None
        and leg.answered_us is None
        and leg.role is not LegRole.MONITOR
        and "ended_at" not in leg.inferred
    )


def _goes_on_answered(call: Call, leg: Leg, event: CallEvent) -> Told:
    leg.ended_us = leg.result = leg.reason = leg.reason_class = None
    leg.own_hangup = False
    call.open.append(leg)
    if leg.role is LegRole.CONSULT and not call.leg(leg.consulter).talks:
        leg.role = call.customer_role(leg)  # whom it was to advise has left meanwhile
    call.reopen()
    told = _answer(call, leg, event)
    return told._replace(note="it was this line that answered")


def _left_late(call: Call, leg: Leg, at_us: int) -> None:
    """As in 5c, had the Answered come first: the call ends with the leg if nothing else is open."""
    if call.ended:
        return
    infer_blind_from(call, leg, at_us)
    release_outrun(call, leg)
    if not call.open_legs():
        call.end(max(each.ended_us or 0 for each in call.legs), EndedBy.HANGUP)


def release_outrun(call: Call, answered_leg: Leg) -> None:
    """5c: attempts that began before that answer and got no event since ended with it, unanswered (inferred)."""
    at_us = answered_leg.answered_us
    for leg in call.open_legs():
        if at_us is not None and leg.is_attempt and leg.last_no < answered_leg.answered_no:
            call.close_inferred(leg, at_us, LegResult.NO_ANSWER)
