"""Hangup: the first matching case of rule 5; after the end of the call, rule 6."""

from consumers.calls.call import Applied, Call
from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, is_blank, result_of
from consumers.calls.rings import means_monitor, release_superseded
from consumers.calls.transfers import infer_blind_from, transfer_on_hangup
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Effect, EndedBy
from voipex.events import Direction, ReasonClass


def hangup(call: Call, event: CallEvent) -> Applied:
    """Rule 5: apply the first matching case of 11, a, 6, b, 7, the take-over of 8, e, c, d, f."""
    if not is_blank(event) and call.newest_leg_of(event) is None:
        call.anomalies.add(Anomaly.HANGUP_WITHOUT_LEG)
    if event.direction is Direction.BARGE or means_monitor(call, event):
        return _monitor_left(call, event)  # 11
    call.hangups.append((call.index, event))
    if event.reason_class is ReasonClass.ANSWERED_ELSEWHERE:
        return _answered_elsewhere(call, event)  # a
    if call.ended:
        return _after_the_end(call, event)  # 6
    if is_blank(event):
        return _call_ends(call, event, "names no line: the whole call")  # b
    return _hangup_of_a_party(call, event)


def _hangup_of_a_party(call: Call, event: CallEvent) -> Applied:
    leg = call.open_leg_of(event)
    if leg is not None and leg.role is LegRole.CONSULT:
        return _consult_left(call, leg, event)  # 7
    if leg is not None and transfer_on_hangup(call, leg, event):
        return Applied(
            Effect.TRANSFERRED, "left while consulting: the consulted line has the caller", leg
        )  # 8
    if _is_callers(call, event):
        return _caller_left(call, leg, event)  # e
    if leg is None:
        return _without_open_leg(call, event)  # f
    if leg.answered_us is None:
        return _attempt_ended(call, leg, event)  # d
    return _answered_leg_left(call, leg, event)  # c


def _monitor_left(call: Call, event: CallEvent) -> Applied:
    """Rule 11: the monitor leaves; nothing else changes."""
    leg = call.open_leg_of(event, monitor=True)
    if leg is None:
        return _fill(call, next(call.legs_of(event, monitor=True), None), event, "no open leg barged in")
    _close_by_own(call, leg, event)
    return Applied(Effect.LEFT, None, leg)


def _answered_elsewhere(call: Call, event: CallEvent) -> Applied:
    """5a: end a ringing leg. This neither ends the call nor proves an answer."""
    leg = call.open_attempt_of(event)
    if leg is None:
        return call.note(call.newest_leg_of(event), event, "answered elsewhere, but it does not ring")
    _close_by_own(call, leg, event)
    return Applied(Effect.LEFT, None, leg)


def _after_the_end(call: Call, event: CallEvent) -> Applied:
    """Rule 6: add details to a closed leg."""
    return _fill(call, call.newest_leg_of(event), event, "the call had ended")


def _fill(call: Call, leg: Leg | None, event: CallEvent, why: str) -> Applied:
    """
    Rule 6: set Login and reason of a closed leg, and its result if it closed unanswered without its own Hangup. Times do not change.
    """
    if leg is None:
        return Applied(Effect.NONE, why)
    before = (leg.reason, leg.reason_class, leg.result)
    changed = call.touch(leg, event)
    if not leg.own_hangup:
        if event.reason is not None:
            leg.reason, leg.reason_class = event.reason, event.reason_class
        if leg.answered_us is None:
            if event.reason_class is not None:
                leg.result = result_of(event.reason_class)
            leg.reported("result")
        leg.own_hangup = True
    elif leg.reason is None:
        leg.reason, leg.reason_class = event.reason, event.reason_class
    changed = changed or before != (leg.reason, leg.reason_class, leg.result)
    return Applied(Effect.FILLED if changed else Effect.NONE, why, leg)


def _call_ends(call: Call, event: CallEvent, why: str | None) -> Applied:
    """5b: end the call and every open leg."""
    call.end(event.at_us, EndedBy.HANGUP, event)
    return Applied(Effect.ENDED, why)


def _consult_left(call: Call, leg: Leg, event: CallEvent) -> Applied:
    """Rule 7: close the consult leg; the call continues."""
    _close_by_own(call, leg, event)
    return Applied(Effect.LEFT, "was consulted", leg)


def _is_callers(call: Call, event: CallEvent) -> bool:
    """5e: whether the event is of the caller of an outgoing call whose leg was not transferred."""
    if not call.is_caller(event):
        return False
    # A colleague may consult a caller who has transferred the call: the consult leg does not make that party the caller again.
    leg = next((leg for leg in call.legs_of(event) if leg.is_customer), None)
    return leg is None or leg.result is not LegResult.TRANSFERRED


def _caller_left(call: Call, leg: Leg | None, event: CallEvent) -> Applied:
    """5e: end the call, answered or not."""
    if leg is not None:
        _close_by_own(call, leg, event)
    call.end(event.at_us, EndedBy.HANGUP, event)
    return Applied(Effect.ENDED, "our caller left", leg)


def _answered_leg_left(call: Call, leg: Leg, event: CallEvent) -> Applied:
    """5c: end the leg, and the call if no other leg is open. Attempts superseded by its answer do not keep the call open."""
    _close_by_own(call, leg, event)
    infer_blind_from(call, leg, event.at_us)
    release_superseded(call, leg)
    if call.open_legs():
        return Applied(Effect.LEFT, None, leg)
    call.end(event.at_us, EndedBy.HANGUP, event)
    return Applied(Effect.ENDED, None, leg)


def _attempt_ended(call: Call, leg: Leg, event: CallEvent) -> Applied:
    """5d: end the attempt by its reason; the call stays open."""
    _close_by_own(call, leg, event)
    return Applied(Effect.LEFT, None, leg)


def _without_open_leg(call: Call, event: CallEvent) -> Applied:
    """
    5f: a Hangup of a line without a leg ends the call if no leg is open. For a line with closed legs it adds details (rule 6).
    """
    leg = call.newest_leg_of(event)
    if leg is not None:
        return _fill(call, leg, event, "its leg had ended")
    if call.open_legs():
        return Applied(Effect.NONE, "of a line that never rang, while others are on the line")
    return _call_ends(call, event, "of a line that never rang, and nobody is on the line")


def _close_by_own(call: Call, leg: Leg, event: CallEvent) -> None:
    call.touch(leg, event)
    leg.own_hangup = True
    result = LegResult.COMPLETED if leg.answered_us is not None else result_of(event.reason_class)
    call.close(leg, event.at_us, result, event)
