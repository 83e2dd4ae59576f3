"""
The ends of legs and of the call: Hangup (rule 5), Hangups after the end (rule 6), CDR (rule 10).

No talk ends by a no-talk reason: such a Hangup withdraws an answer, and a further Hangup may restore it. Both times the call is read again
with that knowledge (`call.Hindsight`), so that everything inferred from the answer is withdrawn or restored with it.
"""

from typing import Final

from consumers.calls.attempts import decide, means_monitor
from consumers.calls.call import SECOND_US, SOON_US, Call, HungUp, ReadAgain, Step, closed_by_device
from consumers.calls.events import CallEvent
from consumers.calls.legs import DEVICE_REASONS, NO_TALK_REASONS, Inferred, Leg, Reported, result_of
from consumers.calls.parties import is_blank
from consumers.calls.transfers import take_over_by_hangup
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Effect, EndedBy
from voipex.events import Direction, ReasonClass

CDR_GRACE_US: Final = 5 * SECOND_US
"""Rule 10: how long after the CDR a Hangup may still come."""


def hangup(call: Call, event: CallEvent) -> Step:
    """Rule 5: apply the first case that fits of 11, 5a, 6, 5b, 7, the take-over of 8, 5e, 5c, 5d, 5f."""
    elsewhere = event.reason_class is ReasonClass.ANSWERED_ELSEWHERE
    never_had_leg = call.newest_leg_of(event) is None
    if never_had_leg and not elsewhere and not is_blank(event):
        call.anomalies.add(Anomaly.HANGUP_WITHOUT_LEG)
    if event.direction is Direction.BARGE or means_monitor(call, event):
        return _monitor_left(call, event)  # 11
    if is_blank(event):
        call.anonymous_hangups += 1
    elif never_had_leg:
        call.hung_up_without_leg.append(event)
        del call.hung_up_without_leg[:-100]
    before = set(call.open) if is_blank(event) else call.open_attempt_of(event)
    step = _left(call, event)
    closed = (
        tuple(leg for leg in call.legs if leg in before and leg.end is not None)
        if isinstance(before, set)
        else (before,)
        if before is not None and before.end is not None
        else ()
    )
    hungup = HungUp(call.place, event, closed)
    call.hangups.append(hungup)
    return step


def _left(call: Call, event: CallEvent) -> Step:
    _restore(call, event)
    other_device = _nobody_talked(call, event)
    if other_device is not None:
        return other_device
    if event.reason_class is ReasonClass.ANSWERED_ELSEWHERE and not (
        is_blank(event) and not call.talking() and call.undecided is None
    ):
        return _answered_elsewhere(call, event)  # a
    if is_blank(event):
        return _blank_after_the_end(call, event) if call.ended else _call_ends(call, event)  # b
    if call.ended:
        return _after_the_end(call, event)  # 6
    return _of_a_party(call, event)


def _of_a_party(call: Call, event: CallEvent) -> Step:
    leg = call.open_leg_of(event)
    if leg is not None and leg.role is LegRole.CONSULT:
        return _attempt_ended(call, leg, event, "was consulted")  # 7
    if leg is not None and take_over_by_hangup(call, leg, event):
        return Step(Effect.TRANSFERRED, "left while consulting: the consulted line has the caller", leg)  # 8
    if _is_callers(call, event):
        return _caller_left(call, leg, event)  # e
    if leg is None:
        return _without_open_leg(call, event)  # f
    if leg.answer is not None:
        return _talk_ended(call, leg, event)  # c
    return _attempt_ended(call, leg, event, None)  # d


# ---------------------------------------------------------------- no talk ends by a no-talk reason


def _nobody_talked(call: Call, event: CallEvent) -> Step | None:
    """
    Rule 5: withdraw the answer of a customer leg that hangs up with a no-talk reason, by reading the call again.

    Returns the step of a Hangup of another device, or of one whose answer was restored; None if the other cases of rule 5 apply.
    """
    leg = _answered_leg_meant(call, event)
    if leg is None or leg.answer is None or not leg.is_customer or leg.hangup_place:
        return None
    if call.hindsight.restored.get(leg.answer.place) == call.place and not is_blank(event):
        return call.note(leg, event, "a further Hangup says that it was answered")
    of_a_device = event.reason_class in DEVICE_REASONS and event.reason_class in NO_TALK_REASONS
    if leg.devices_left and of_a_device and not is_blank(event):
        leg.devices_left -= 1
        call.touch(leg, event)
        return Step(Effect.FILLED, "another device of the line: one less", leg)
    if not _says_that_nobody_talked(call, leg, event):
        return None
    answered_place = leg.answer.place
    hindsight = call.hindsight
    if hindsight.is_open and answered_place not in hindsight.restored:
        hindsight.withdrawn[answered_place] = call.place
        raise ReadAgain
    return None


def _says_that_nobody_talked(call: Call, leg: Leg, event: CallEvent) -> bool:
    """Rule 5: whether the reason shows that nobody talked, and the leg neither took over, gave away nor consulted."""
    by_nobody = isinstance(leg.answer, Inferred) and leg.answer.rule == "4e"
    elsewhere = event.reason_class is ReasonClass.ANSWERED_ELSEWHERE and by_nobody and not is_blank(event)
    if event.reason_class not in NO_TALK_REASONS and not elsewhere:
        return False
    gave_away = leg.outcome is LegResult.TRANSFERRED and isinstance(leg.result, Reported)
    if leg.took_over_from or leg.has_consulted or gave_away:
        return False
    if leg.role is LegRole.CALLER:
        return not call.another_was_answered(leg)
    return leg.ring_started_us is not None or leg.ring_reported  # its Ringing may have come late


def _answered_leg_meant(call: Call, event: CallEvent) -> Leg | None:
    """The leg of the party, open or closed. Of an anonymous Hangup: the open leg of the caller of an outgoing call."""
    if not is_blank(event):
        return call.open_leg_of(event) or next(call.legs_of(event), None)
    if call.caller is None or not call.is_outgoing:
        return None
    leg = call.open_leg_of(call.caller)
    return leg if leg is not None and leg.role is LegRole.CALLER else None


def _restore(call: Call, event: CallEvent) -> None:
    """Rule 5: a further Hangup as normal restores the answer that an earlier one withdrew."""
    if event.reason_class is not ReasonClass.NORMAL or is_blank(event) or not call.hindsight.withdrawn:
        return
    leg = next(call.legs_of(event), None)
    if leg is None or leg.end is None:
        return
    hindsight = call.hindsight
    by_place = hindsight.withdrawn.get(leg.withdrawn_place)
    restored = {
        answered_place: hangup_place
        for answered_place, hangup_place in hindsight.withdrawn.items()
        if hangup_place == by_place
    }
    if not restored or not hindsight.is_open:
        return
    for answered_place in restored:  # an anonymous Answered may have been withdrawn with it
        del hindsight.withdrawn[answered_place]
    hindsight.restored.update(restored)
    raise ReadAgain


# ---------------------------------------------------------------- rules 11, 5a, 6


def _monitor_left(call: Call, event: CallEvent) -> Step:
    """Rule 11: end the monitor leg of the party; nothing else changes."""
    leg = call.open_leg_of(event, monitor=True)
    if leg is None:
        return _fill(call, next(call.legs_of(event, monitor=True), None), event, "no open leg barged in")
    _close_by_own(call, leg, event)
    return Step(Effect.LEFT, None, leg)


def _answered_elsewhere(call: Call, event: CallEvent) -> Step:
    """Rule 5a: answered_elsewhere ends an attempt, never the call, and proves no answer."""
    leg = call.open_attempt_of(event)
    if leg is not None:
        call.touch(leg, event)
        leg.hangup_place = call.place
        call.close(leg, _attempt_end(call, leg, event), _reported_result(call, event), event)
        decide(call)
        return Step(Effect.LEFT, None, leg)
    leg = next(call.legs_of(event), None)
    if leg is None or leg.answer is not None or (leg.hangup_place and not closed_by_device(leg)):
        return _empty(call, event, call.note(leg, event, "answered elsewhere, but it does not ring"))
    return _end_again(call, leg, event)


def _attempt_end(call: Call, leg: Leg, event: CallEvent) -> Reported[int] | Inferred[int]:
    """Rule 5a: the end of an attempt is the first answer of another party, if that was more than 2 s before this Hangup."""
    answer_us = call.first_answer_us(leg)
    if answer_us is not None and event.at_us - answer_us > SOON_US:
        return Inferred(answer_us, call.place, "5a")
    at_us = event.at_us if call.ended_us is None else min(event.at_us, call.ended_us)
    return Reported(at_us, call.place)


def _reported_result(call: Call, event: CallEvent) -> Reported[LegResult]:
    return Reported(result_of(event.reason_class), call.place)


def _end_again(call: Call, leg: Leg, event: CallEvent) -> Step:
    """
    Rules 4, 5d, 6: a Hangup of an attempt that had ended without a Hangup of its own, or by a device reason.

    The Hangup gives reason and result. It gives the end too if it follows an answer within 2 s, or if a device had ended the attempt.
    """
    end = leg.end
    if end is None or leg.result is None:
        raise AssertionError("closed before")
    before = (leg.reason, leg.outcome, leg.inferred)
    changed = call.touch(leg, event) or not leg.hangup_place
    if closed_by_device(leg) and leg.role is not LegRole.CALLER:
        same_reason = event.reason_class is leg.reason_class
        leg.hangup_repeated |= same_reason and event.at_us - end.value <= SOON_US
        leg.end = _attempt_end(call, leg, event)
    elif isinstance(end, Inferred) and end.rule == "4" and not call.ended:
        if event.at_us - end.value <= SOON_US:
            leg.end = Reported(event.at_us, call.place)
    elif event.reason_class is ReasonClass.ANSWERED_ELSEWHERE:
        answer_us = call.first_answer_us(leg)
        if answer_us is not None and event.at_us - answer_us > SOON_US and answer_us < end.value:
            leg.end = Inferred(answer_us, end.place, "5a")
    reports_end = leg.end is not end and not call.ended
    leg.hangup_place = call.place
    if event.reason is not None:
        leg.reason, leg.reason_class = event.reason, event.reason_class
    result = leg.result.value if event.reason_class is None else result_of(event.reason_class)
    leg.result = Reported(result, call.place)
    if reports_end:
        return Step(Effect.LEFT, "its leg had ended", leg)
    changed = changed or leg.end is not end or before != (leg.reason, leg.outcome, leg.inferred)
    return Step(Effect.FILLED if changed else Effect.NONE, "its leg had ended", leg)


def _after_the_end(call: Call, event: CallEvent) -> Step:
    """Rule 6: fill a closed leg. Rule 5f: the caller of an outgoing call without a leg gets one that failed before it rang."""
    leg = call.newest_leg_of(event)
    if leg is None and call.is_outgoing and call.is_caller(event):
        return _empty(
            call, event, Step(Effect.FILLED, "the call had ended", _failed_before_ringing(call, event))
        )
    return _fill(call, leg, event, "the call had ended")


def _fill(call: Call, leg: Leg | None, event: CallEvent, why: str) -> Step:
    """Rule 6: give a closed leg its Login and reason, and the result if it ended unanswered without a Hangup of its own."""
    if leg is None:
        return _empty(call, event, Step(Effect.NONE, why))
    if leg.answer is None and (
        not leg.hangup_place or (closed_by_device(leg) and leg.role is not LegRole.CALLER)
    ):
        return _end_again(call, leg, event)
    before = (leg.reason, leg.reason_class)
    changed = call.touch(leg, event) or not leg.hangup_place
    if event.reason is not None and (leg.reason is None or not leg.hangup_place):
        leg.reason, leg.reason_class = event.reason, event.reason_class
    changed = changed or before != (leg.reason, leg.reason_class)
    step = Step(Effect.FILLED if changed else Effect.NONE, why, leg)
    if leg.hangup_place and not changed:
        return _empty(call, event, step)
    leg.hangup_place = leg.hangup_place or call.place
    return step


def _empty(call: Call, event: CallEvent, step: Step) -> Step:
    """Rule 5f: remember a Hangup that had nothing of its party to end or fill: it may have overtaken its Ringing."""
    if not is_blank(event):
        call.empty_hangups.append(HungUp(call.place, event, ()))
        del call.empty_hangups[:-100]
    return step


def _failed_before_ringing(call: Call, event: CallEvent) -> Leg:
    """Rule 5f: begin and end the leg of the caller of an outgoing call with its Hangup, at most at the end of the call."""
    leg = call.begin(event, LegRole.CALLER, rings=False)
    leg.hangup_place = call.place
    at_us = event.at_us if call.ended_us is None else min(event.at_us, call.ended_us)
    leg.began_us = at_us
    call.close(leg, Reported(at_us, call.place), _reported_result(call, event), event)
    return leg


# ---------------------------------------------------------------- rule 5b


def _call_ends(call: Call, event: CallEvent) -> Step:
    """Rule 5b: end the call and every open leg."""
    call.end(event.at_us, EndedBy.HANGUP, "b", event)
    return Step(Effect.ENDED, "names no line: the whole call")


def _blank_after_the_end(call: Call, event: CallEvent) -> Step:
    """
    Rule 5b: move the end of the call here if it ended by 5c or 5f over 2 s ago without a CDR since, or by rule 10. Else a note.

    A CDR that came over 2 s after that end, and at most 2 s ago, has only overtaken this Hangup.
    """
    is_first = not call.blank_hangup_since_end
    call.blank_hangup_since_end = True
    if call.ended_us is None:
        raise AssertionError("the call has ended")
    if call.ended_by is EndedBy.CDR:
        for leg in call.legs:
            if leg.end is not None and isinstance(leg.end, Inferred) and leg.end.rule == "10":
                result = LegResult.COMPLETED if leg.answer is not None else result_of(event.reason_class)
                _consulted_until(call, leg, event.at_us)
                leg.end = Reported(event.at_us, call.place)
                if leg.answer is not None or not leg.hangup_place:
                    leg.result = Reported(result, call.place)
                if not leg.hangup_place:
                    leg.reason, leg.reason_class = event.reason, event.reason_class
                    leg.touched_us = event.at_us
        call.set_end(event.at_us, EndedBy.HANGUP, "b", event.reason_class)
        return Step(Effect.ENDED, "names no line: the whole call, after its CDR")
    waited = is_first and call.ended_rule in ("c", "f") and event.at_us - call.ended_us > SOON_US
    if not waited or (call.cdr_since_end_us is not None and not _has_overtaken(call, event)):
        if waited and call.cdr is not None and call.cdr.at_us - call.ended_us > SOON_US:
            call.end_doubtful = True
        return Step(Effect.NONE, "the call had ended")
    call.set_end(event.at_us, EndedBy.HANGUP, "b", event.reason_class)
    call.end_moved = True
    return Step(Effect.ENDED, "names no line: the caller was waiting until now")


def _has_overtaken(call: Call, event: CallEvent) -> bool:
    """Rule 5b: whether the first CDR since the end is of the moment of this Hangup, and not of that end."""
    cdr_us, ended_us = call.cdr_since_end_us, call.ended_us
    if cdr_us is None or ended_us is None:
        return False
    return cdr_us - ended_us > SOON_US and event.at_us - cdr_us <= SOON_US


def _consulted_until(call: Call, consult: Leg, at_us: int) -> None:
    """Extend the consultation that rule 10 had ended."""
    if consult.role is LegRole.CONSULT and consult.answer is not None and consult.end is not None:
        consulter = call.leg(consult.consulter)
        was, now = (consult.answer.value, consult.end.value), (consult.answer.value, at_us)
        consulter.consulted = tuple(now if span == was else span for span in consulter.consulted)


# ---------------------------------------------------------------- rules 7, 5e, 5c, 5d, 5f


def _is_callers(call: Call, event: CallEvent) -> bool:
    """Rule 5e: whether the party is the caller of an outgoing call, and its leg was not transferred."""
    if not call.is_outgoing or not call.is_caller(event):
        return False
    # A colleague may consult a caller who has given the call away: that leg makes nobody the caller again.
    leg = next((leg for leg in call.legs_of(event) if leg.is_customer), None)
    return leg is None or leg.outcome is not LegResult.TRANSFERRED


def _caller_left(call: Call, leg: Leg | None, event: CallEvent) -> Step:
    """Rule 5e: the Hangup of the caller ends the call, answered or not."""
    never = call.newest_leg_of(event) is None
    if leg is not None:
        _close_by_own(call, leg, event)
    elif never:
        leg = _failed_before_ringing(call, event)
    call.end(event.at_us, EndedBy.HANGUP, "e", event)
    step = Step(Effect.ENDED, "our caller left", leg)
    return _empty(call, event, step) if never else step


def _talk_ended(call: Call, leg: Leg, event: CallEvent) -> Step:
    """Rule 5c: end the answered leg, and the call if no other leg is open."""
    _close_by_own(call, leg, event)
    if call.keeping_open():
        return Step(Effect.LEFT, None, leg)
    call.end(event.at_us, EndedBy.HANGUP, "c", event)
    return Step(Effect.ENDED, None, leg)


def _attempt_ended(call: Call, leg: Leg, event: CallEvent, why: str | None) -> Step:
    """Rule 5d: end the attempt by its reason, or let it ring on if other devices do. The call stays open."""
    if leg.answer is None:
        if leg.devices_left and event.reason_class in DEVICE_REASONS:
            call.touch(leg, event)
            leg.devices_left -= 1
            return Step(Effect.FILLED, "one device less, the line rings on", leg)
        undecided = call.undecided
        if undecided is not None and leg in undecided.candidates and event.reason_class is ReasonClass.NORMAL:
            decide(call, leg)
    _close_by_own(call, leg, event)
    decide(call)
    return Step(Effect.LEFT, why, leg)


def _without_open_leg(call: Call, event: CallEvent) -> Step:
    """Rule 5f: a party without a leg ends the call only if no leg is open. If its legs are closed, rule 6 applies."""
    leg = call.newest_leg_of(event)
    if leg is not None:
        return _fill(call, leg, event, "its leg had ended")
    if call.keeping_open():
        return _empty(
            call, event, Step(Effect.NONE, "of a line that never rang, while others are on the line")
        )
    call.end(event.at_us, EndedBy.HANGUP, "f", event)
    return _empty(call, event, Step(Effect.ENDED, "of a line that never rang, and nobody is on the line"))


def _close_by_own(call: Call, leg: Leg, event: CallEvent) -> None:
    call.touch(leg, event)
    leg.hangup_place = call.place
    result = LegResult.COMPLETED if leg.answer is not None else result_of(event.reason_class)
    call.close(leg, Reported(event.at_us, call.place), Reported(result, call.place), event)


# ---------------------------------------------------------------- rule 10


def cdr(call: Call, event: CallEvent) -> Step:
    """Rule 10: an open call ends 5 s after the first CDR since it opened or went on."""
    call.cdr = event
    call.cdr_place = call.place
    if call.ended:
        if call.cdr_since_end_us is None:
            call.cdr_since_end_us = event.at_us
        return Step(Effect.CDR)
    if call.grace_from_us is None:
        call.grace_from_us = event.at_us
    return Step(Effect.CDR, "ends the call, unless something else comes within 5 s")


def cdr_deadline_us(call: Call) -> int:
    """Rule 10: when the grace after the CDR ends; 0 without a CDR that ends the call."""
    return 0 if call.grace_from_us is None else call.grace_from_us + CDR_GRACE_US


def end_by_cdr(call: Call) -> None:
    """Rule 10: end the call at its CDR, or at a later effect in the grace."""
    if call.grace_from_us is not None:
        call.end(max(call.grace_from_us, call.last_effect_us), EndedBy.CDR, "10")
