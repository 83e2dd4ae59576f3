"""
Ringing (rule 3), Answered (rule 4) and the monitor legs of both (rule 11).

An answer ends the other attempts that ring for the same caller. If a later event withdraws an answer, nothing is undone here: the call is
read again with that knowledge (`call.Hindsight`).
"""

from typing import Final

from consumers.calls.call import (
    LATE_US,
    ROUND_US,
    SOON_US,
    Call,
    HungUp,
    ReadAgain,
    Step,
    Undecided,
    closed_by_device,
)
from consumers.calls.events import CallEvent
from consumers.calls.legs import NO_TALK_REASONS, Finding, Inferred, Leg, Reported
from consumers.calls.parties import is_blank, same_party
from consumers.calls.transfers import begin_leg, infer_handover, role_after_consult
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Effect, EndedBy
from voipex.events import Direction, ReasonClass

UNRUNG: Final = "without a ring: a pickup, or a lost Ringing"


# ---------------------------------------------------------------- rule 3


def ringing(call: Call, event: CallEvent) -> Step:  # noqa: PLR0911  # the rule has as many cases
    """Rule 3: begin a leg, count a second device, or reopen the call. Rule 11: `barge` begins a monitor leg beside all others."""
    monitor = event.direction is Direction.BARGE
    attempt = call.open_attempt_of(event, monitor=monitor)
    _rings_again(call, attempt)
    if attempt is not None and event.at_us - (attempt.rang_on_us or attempt.began_us) <= ROUND_US:
        if not attempt.ring_reported:
            return _begins_to_ring(call, attempt, event)
        return _second_device(call, attempt, event)
    answered = call.open_leg_of(event, monitor=monitor) if attempt is None else None
    if answered is not None:
        if not monitor and _was_own_phone(call, answered):
            return _rings_on(call, answered, event)
        return _ring_after_answer(call, answered, event)
    if call.ended:
        if monitor:
            return Step(Effect.NONE, "nothing to monitor any more")
        if call.closed_for_good(event) or call.empty_hangup_of(event) is not None:
            return _late_ring(call, event)
    if attempt is not None:
        call.infer_end(attempt, event.at_us, LegResult.NO_ANSWER, "3")
    if monitor:
        return Step(Effect.RANG, None, call.begin(event, LegRole.MONITOR, rings=True))
    return _begin_attempt(
        call, event, None if attempt is None else "its earlier attempt ended without an answer"
    )


def _rings_again(call: Call, attempt: Leg | None) -> None:
    """Rule 4e: an attempt that rings again is no candidate for the anonymous Answered any more."""
    undecided = call.undecided
    if undecided is not None and attempt is not None and attempt in undecided.candidates:
        undecided.candidates.remove(attempt)
        if not undecided.candidates:
            call.undecided = None
        decide(call)


def _begins_to_ring(call: Call, leg: Leg, event: CallEvent) -> Step:
    """The Ringing of a leg whose Answered came before it and was withdrawn: its first device, not a second one."""
    call.touch(leg, event)
    leg.ring_started_us = event.at_us
    leg.ring_reported = True
    return Step(Effect.RANG, "its Answered came before its Ringing", leg)


def _second_device(call: Call, leg: Leg, event: CallEvent) -> Step:
    call.touch(leg, event)
    leg.parallel_rings += 1
    leg.devices_left += 1
    return Step(Effect.PARALLEL, "a second device of the line", leg)


def _was_own_phone(call: Call, leg: Leg) -> bool:
    """Rule 3: whether this is click to dial. The caller's own phone was answered, and the far end rings now."""
    return (
        call.is_outgoing
        and leg.role is LegRole.CALLER
        and leg.ring_started_us is not None
        and not leg.own_phone
        and not call.another_has_a_leg(leg)
    )


def _rings_on(call: Call, leg: Leg, event: CallEvent) -> Step:
    call.touch(leg, event)
    leg.answer = None
    leg.withdrawn = leg.own_phone = True
    leg.rang_on_us = event.at_us
    leg.caller_since_us = None
    leg.caller_since_place = 0
    call.answers.remove(leg)
    return Step(Effect.RANG, "its own phone had answered, now the far end rings", leg)


def _ring_after_answer(call: Call, leg: Leg, event: CallEvent) -> Step:
    call.anomalies.add(Anomaly.RING_AFTER_ANSWER)
    leg.ring_reported = True
    leg.ring_after_answer_place = call.place
    return call.note(leg, event, "rings after its answer")


def _late_ring(call: Call, event: CallEvent) -> Step:
    leg = next(call.legs_of(event), None)
    if leg is not None:
        leg.ring_reported = True
    return call.late(event, "came after the end of the call")


def _begin_attempt(call: Call, event: CallEvent, why: str | None) -> Step:
    empty = call.empty_hangup_of(event)
    overtaken = empty is not None and not call.ended and event.at_us - empty.event.at_us <= LATE_US
    same_round = _rang_in_this_round(call, event)
    leg = begin_leg(call, event, rings=True)
    leg.rang_in_this_round = same_round
    if overtaken and empty is not None:
        leg.overtaken_by = empty.event
        why = "a Hangup of its line seems to have overtaken it"
    return Step(Effect.RANG, why, leg)


def _rang_in_this_round(call: Call, event: CallEvent) -> bool:
    """Whether a device of the party has ended an attempt of this round: the Ringing may be another device's, or a copy."""
    leg = next(call.legs_of(event), None)
    return leg is not None and closed_by_device(leg) and event.at_us - leg.began_us <= ROUND_US


# ---------------------------------------------------------------- rule 4


def answered(call: Call, event: CallEvent) -> Step:  # noqa: PLR0911  # the rule has as many cases
    """Rule 4: answer a leg by the first case that fits."""
    if event.direction is Direction.BARGE or means_monitor(call, event):
        return _monitor_answered(call, event)
    if is_blank(event):
        call.anonymous_answers += 1
    if call.place in call.hindsight.withdrawn:
        return _without_talk(call, event)
    attempt = call.open_attempt_of(event)
    if attempt is not None:
        return _answer(call, attempt, event)  # a
    leg = call.open_leg_of(event)
    if leg is not None:
        return _answered_before(call, leg, event)  # a
    if call.closed_for_good(event):
        return _after_the_end(call, event)  # a
    attempt = _rang_on(call, event)
    if attempt is not None:
        return _goes_on(call, attempt, event, "it rang on")  # b, c
    hangups = _late_after(call, event)
    if hangups:
        return _late_answer(call, event, hangups)  # d
    if is_blank(event):
        return _anonymous_answer(call, event)  # e
    return _pickup(call, event)  # f


def means_monitor(call: Call, event: CallEvent) -> bool:
    """Rule 11: whether a Hangup or Answered means the monitor leg of its party, which has no other open leg."""
    return call.open_leg_of(event, monitor=True) is not None and call.open_leg_of(event) is None


def _answer(call: Call, leg: Leg, event: CallEvent) -> Step:
    call.touch(leg, event)
    named = leg.ring_reported
    _take(call, leg, Reported(event.at_us, call.place), call.place)
    if leg.role is not LegRole.MONITOR and not is_blank(event):
        call.undecided = None  # rule 4e: the anonymous Answered was that of the PBX
    return Step(Effect.ANSWERED, None if named else UNRUNG, leg)


def _take(call: Call, leg: Leg, answer: Finding[int], place: int) -> None:
    """Answer *leg*; the other attempts that ring for the same caller end."""
    leg.answer = answer
    leg.answered_place = place
    if leg.role is LegRole.MONITOR:
        return
    if leg.is_customer:
        infer_handover(call, leg)
        call.get_caller(leg, answer.value, place)
    if leg.role is not LegRole.CALLER:
        _end_others(call, leg, answer.value)


def _end_others(call: Call, leg: Leg, at_us: int) -> None:
    """Rule 4: an answer ends the other attempts that ring for the same caller, or for the same consulting leg."""
    for other in list(call.open):
        if (
            other is leg
            or other.role is not leg.role
            or other.answer is not None
            or (other.consulter != leg.consulter and leg.role is LegRole.CONSULT)
            or other.overtaken_by is not None
        ):
            continue
        one_round = leg.ring_started_us is None or abs(other.began_us - leg.began_us) <= ROUND_US
        call.infer_end(other, at_us, LegResult.ANSWERED_ELSEWHERE if one_round else LegResult.NO_ANSWER, "4")


def _answered_before(call: Call, leg: Leg, event: CallEvent) -> Step:
    """Rule 4a: after an Answered that named the party this is a note; after an anonymous one it gives the time."""
    if isinstance(leg.answer, Inferred) and not is_blank(event) and call.hindsight.is_open:
        call.hindsight.replaced.add(leg.answer.place)
        raise ReadAgain
    if leg.ring_after_answer_place and leg.role is LegRole.CALLER:
        leg.answered_again = True
    return call.note(leg, event, "was answered before", Effect.FILLED)


def _after_the_end(call: Call, event: CallEvent) -> Step:
    """Rule 4a, closed for good: the newest attempt was answered at its end, unless its reason or result excludes that."""
    leg = next(call.legs_of(event), None)
    if (
        leg is not None
        and leg.answer is None
        and leg.reason_class not in NO_TALK_REASONS
        and leg.outcome is not LegResult.ANSWERED_ELSEWHERE
    ):
        return _answered_at_its_end(call, leg, event)
    return call.late(event, "came after the end of the call")


def _rang_on(call: Call, event: CallEvent) -> Leg | None:
    """Rules 4b, 4c: the newest attempt, if it ended without a Hangup of its own, or by one with a device reason."""
    leg = next(call.legs_of(event), None)
    if leg is None or leg.answer is not None or (leg.hangup_place and not closed_by_device(leg)):
        return None
    return None if call.talked_meanwhile(leg) else leg


def _goes_on(call: Call, leg: Leg, event: CallEvent, why: str) -> Step:
    """Withdraw the end of *leg* and answer it."""
    call.open_again(leg)
    if leg.role is LegRole.CONSULT:
        role_after_consult(call, leg)
    call.reopen()
    return _answer(call, leg, event)._replace(note=why)


def _late_after(call: Call, event: CallEvent) -> list[HungUp]:
    """Rule 4d: the Hangups of the party after which an Answered may be late. A Hangup of a device that ended an attempt is none (rule 4c)."""
    found = []
    for hungup in call.hangups[::-1]:
        if not same_party(hungup.event, event):
            continue
        own = [leg for leg in hungup.closed if same_party(leg, event)]
        if own and closed_by_device(own[-1]):
            continue
        unanswered = bool(own) and own[-1].answer is None
        soon = event.at_us - hungup.event.at_us <= SOON_US
        normal = hungup.event.reason_class is ReasonClass.NORMAL
        if soon or (normal and unanswered and not call.keeping_open()):
            found.append(hungup)
    return found


def _late_answer(call: Call, event: CallEvent, hangups: list[HungUp]) -> Step:
    """Rule 4d: no new leg. The attempt that the Hangup ended was answered at its end, or goes on if it ended as answered_elsewhere."""
    for hungup in hangups:
        for leg in hungup.closed[::-1]:
            if leg.answer is None and leg.end is not None and same_party(leg, event):
                if leg.reason_class is ReasonClass.ANSWERED_ELSEWHERE:
                    call.anomalies.add(Anomaly.LATE_EVENT)
                    return _goes_on(call, leg, event, "it was this line that answered")
                return _answered_at_its_end(call, leg, event)
    return call.late(event, "came after the Hangup of its line")


def _answered_at_its_end(call: Call, leg: Leg, event: CallEvent) -> Step:
    call.anomalies.add(Anomaly.LATE_EVENT)
    call.touch(leg, event)
    if leg.end is None:
        raise AssertionError("an open attempt is answered as such")
    at_us, place = leg.end.value, leg.end.place
    leg.answer = Inferred(at_us, call.place, "4d")
    leg.answered_place = place
    leg.result = Inferred(LegResult.COMPLETED, call.place, "4d")
    if leg.is_customer:
        call.get_caller(leg, at_us, place)
        for other in call.keeping_open():
            if other.is_attempt and other.role is LegRole.AGENT and other.began_place < place:
                one_round = leg.ring_started_us is None or abs(other.began_us - leg.began_us) <= ROUND_US
                result = LegResult.ANSWERED_ELSEWHERE if one_round else LegResult.NO_ANSWER
                call.infer_end(other, at_us, result, "4")
        if not call.ended and not call.keeping_open():
            last_us = max(each.end.value for each in call.legs if each.end is not None)
            call.end(last_us, EndedBy.HANGUP, "c")
            call.ended_reason = leg.reason_class
    return Step(Effect.FILLED, "came after the Hangup of its line: answered at its end", leg)


def _anonymous_answer(call: Call, event: CallEvent) -> Step:
    """Rule 4e: answer the only open attempt. Of several, later events decide; if there is none, the PBX itself answered."""
    hindsight = call.hindsight
    if call.undecided is not None:
        return Step(Effect.NONE, "names nobody, as one before")
    attempts = [leg for leg in call.open if leg.is_attempt and leg.role is not LegRole.MONITOR]
    if call.place in hindsight.decided:
        attempts = [leg for leg in attempts if leg.began_place == hindsight.decided[call.place]]
    if not attempts or call.place in hindsight.replaced:
        return Step(Effect.NONE, "the PBX itself answered")
    if len(attempts) == 1:
        leg = attempts[0]
        call.touch(leg, event)
        _take(call, leg, Inferred(event.at_us, call.place, "4e"), call.place)
        return Step(Effect.ANSWERED, "names nobody: the only line that rings", leg)
    call.undecided = Undecided(call.place, event.at_us, attempts)
    return Step(Effect.ANSWERED, "names nobody: one of the lines that ring")


def decide(call: Call, leg: Leg | None = None) -> None:
    """
    Rule 4e: the anonymous Answered was that of *leg*, or of the only candidate that remains.

    A candidate remains when the others have closed as answered_elsewhere.
    """
    undecided = call.undecided
    if undecided is None or not call.hindsight.is_open:
        return
    if leg is None and len(undecided.candidates) == 1 and undecided.elsewhere and not undecided.otherwise:
        leg = undecided.candidates[0]
    if leg is not None:
        call.hindsight.decided[undecided.place] = leg.began_place
        raise ReadAgain


def _without_talk(call: Call, event: CallEvent) -> Step:
    """Rule 5: read an Answered after which nobody talked, as a later Hangup shows."""
    leg = call.open_attempt_of(event)
    if leg is None and is_blank(event):
        began_place = call.hindsight.decided.get(call.place)
        attempts = [leg for leg in call.open if leg.is_attempt and leg.role is not LegRole.MONITOR]
        if began_place is not None:
            attempts = [leg for leg in attempts if leg.began_place == began_place]
        leg = attempts[0] if len(attempts) == 1 else None
        if leg is None:
            return Step(Effect.NONE, "the PBX itself answered")
    if leg is None:
        leg = next(call.legs_of(event), None)
    if leg is None:
        leg = begin_leg(call, event, rings=False)
    call.touch(leg, event)
    leg.withdrawn = True
    leg.withdrawn_place = call.place
    return Step(Effect.ANSWERED, "nobody talked", leg)


def _pickup(call: Call, event: CallEvent) -> Step:
    """Rule 4f: begin an answered leg without a ring."""
    doubtful = bool(call.talking()) or any(same_party(each.event, event) for each in call.hangups)
    leg = begin_leg(call, event, rings=False)
    leg.doubtful_pickup = doubtful
    return _answer(call, leg, event)


def _monitor_answered(call: Call, event: CallEvent) -> Step:
    leg = call.open_leg_of(event, monitor=True)
    if leg is None and call.ended:
        return Step(Effect.NONE, "nothing to monitor any more")
    if leg is not None and leg.answer is not None:
        return call.note(leg, event, "was answered before", Effect.FILLED)
    if leg is None:
        leg = call.begin(event, LegRole.MONITOR, rings=False)
    return _answer(call, leg, event)
