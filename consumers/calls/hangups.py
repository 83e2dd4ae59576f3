"""Hangup: rule 5, the first of its cases that fits, and rule 6, what is left to say after the end."""

from consumers.calls.call import Call, Told
from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, is_blank, result_of
from consumers.calls.rings import means_monitor, release_outrun
from consumers.calls.transfers import hangup_gives_away, infer_blind_from
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Effect, EndedBy
from voipex.events import Direction, ReasonClass


def hangup(call: Call, event: CallEvent) -> Told:
    """Rule 5: the first that fits of 11, a, 6, b, 7, the take-over of 8, e, c, d, f."""
    if not is_blank(event) and call.newest_leg_of(event) is None:
        call.oddities.add(Anomaly.HANGUP_WITHOUT_LEG)
    if event.direction is Direction.BARGE or means_monitor(call, event):
        return _monitor_left(call, event)  # 11
    call.hangups.append((call.no, event))
    if event.reason_class is ReasonClass.ANSWERED_ELSEWHERE:
        return _answered_elsewhere(call, event)  # a
    if call.ended:
        return _after_the_end(call, event)  # 6
    if is_blank(event):
        return _call_ends(call, event, "names no line: the whole call")  # b
    return _hangup_of_a_party(call, event)


def _hangup_of_a_party(call: Call, event: CallEvent) -> Told:
    leg = call.open_leg_of(event)
    if leg is not None and leg.role is LegRole.CONSULT:
        return _consult_left(call, leg, event)  # 7
    if leg is not None and hangup_gives_away(call, leg, event):
        return Told(Effect.TRANSFERRED, "left while consulting: the consulted line has the caller", leg)  # 8
    if _is_callers(call, event):
        return _caller_left(call, leg, event)  # e
    if leg is None:
        return _without_open_leg(call, event)  # f
    if leg.answered_us is None:
        return _attempt_ended(call, leg, event)  # d
    return _answered_leg_left(call, leg, event)  # c


def _monitor_left(call: Call, event: CallEvent) -> Told:
    """Rule 11: who barged in leaves; nothing else changes."""
    leg = call.open_leg_of(event, monitor=True)
    if leg is None:
        return _fill(call, next(call.legs_of(event, monitor=True), None), event, "no open leg barged in")
    _close_by_own(call, leg, event)
    return Told(Effect.LEFT, None, leg)


def _answered_elsewhere(call: Call, event: CallEvent) -> Told:
    """5a: ends a leg that rang, never the call, and proves no answer."""
    leg = call.open_attempt_of(event)
    if leg is None:
        return call.note(call.newest_leg_of(event), event, "answered elsewhere, but it does not ring")
    _close_by_own(call, leg, event)
    return Told(Effect.LEFT, None, leg)


def _after_the_end(call: Call, event: CallEvent) -> Told:
    """Rule 6."""
    return _fill(call, call.newest_leg_of(event), event, "the call had ended")


def _fill(call: Call, leg: Leg | None, event: CallEvent, why: str) -> Told:
    """Rule 6: give a closed leg its Login and reason, and the result if it closed unanswered without its own Hangup; no times."""
    if leg is None:
        return Told(Effect.NONE, why)
    before = (leg.reason, leg.reason_class, leg.result)
    taught = call.touch(leg, event)
    if not leg.own_hangup:
        if event.reason is not None:
            leg.reason, leg.reason_class = event.reason, event.reason_class
        if leg.answered_us is None:
            if event.reason_class is not None:
                leg.result = result_of(event.reason_class)
            leg.told("result")
        leg.own_hangup = True
    elif leg.reason is None:
        leg.reason, leg.reason_class = event.reason, event.reason_class
    taught = taught or before != (leg.reason, leg.reason_class, leg.result)
    return Told(Effect.FILLED if taught else Effect.NONE, why, leg)


def _call_ends(call: Call, event: CallEvent, why: str | None) -> Told:
    """5b: every open leg closes."""
    call.end(event.at_us, EndedBy.HANGUP, event)
    return Told(Effect.ENDED, why)


def _consult_left(call: Call, leg: Leg, event: CallEvent) -> Told:
    """Rule 7: its Hangup does not end the call."""
    _close_by_own(call, leg, event)
    return Told(Effect.LEFT, "was consulted", leg)


def _is_callers(call: Call, event: CallEvent) -> bool:
    """5e: of the caller of an outgoing call, unless its leg was transferred."""
    if not call.is_caller(event):
        return False
    # A colleague may consult a caller who has given the call away: that leg makes nobody the caller again.
    leg = next((leg for leg in call.legs_of(event) if leg.is_customer), None)
    return leg is None or leg.result is not LegResult.TRANSFERRED


def _caller_left(call: Call, leg: Leg | None, event: CallEvent) -> Told:
    """5e: the caller's Hangup ends the call, answered or not."""
    if leg is not None:
        _close_by_own(call, leg, event)
    call.end(event.at_us, EndedBy.HANGUP, event)
    return Told(Effect.ENDED, "our caller left", leg)


def _answered_leg_left(call: Call, leg: Leg, event: CallEvent) -> Told:
    """5c: it ends; so does the call if no other leg is open. Attempts outrun by its answer do not keep it open."""
    _close_by_own(call, leg, event)
    infer_blind_from(call, leg, event.at_us)
    release_outrun(call, leg)
    if call.open_legs():
        return Told(Effect.LEFT, None, leg)
    call.end(event.at_us, EndedBy.HANGUP, event)
    return Told(Effect.ENDED, None, leg)


def _attempt_ended(call: Call, leg: Leg, event: CallEvent) -> Told:
    """5d: by its reason; the call stays open."""
    _close_by_own(call, leg, event)
    return Told(Effect.LEFT, None, leg)


def _without_open_leg(call: Call, event: CallEvent) -> Told:
    """5f: of a line that never had a leg it ends the call only if no leg is open; of one whose legs are closed it fills (6)."""
    leg = call.newest_leg_of(event)
    if leg is not None:
        return _fill(call, leg, event, "its leg had ended")
    if call.open_legs():
        return Told(Effect.NONE, "of a line that never rang, while others are on the line")
    return _call_ends(call, event, "of a line that never rang, and nobody is on the line")


def _close_by_own(call: Call, leg: Leg, event: CallEvent) -> None:
    call.touch(leg, event)
    leg.own_hangup = True
    result = LegResult.COMPLETED if leg.answered_us is not None else result_of(event.reason_class)
    call.close(leg, event.at_us, result, event)
