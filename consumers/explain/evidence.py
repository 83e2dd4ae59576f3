"""
What of a call was reported by an event, and what was inferred by which rule of docs/call-rules.md.

The fold holds each value as `Reported` or `Inferred`, with the place of its event. Here the call is folded once more from its state, and
every such value becomes a mark. A place is the position of an event in the call, from 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from consumers.calls.call import Call, Transfer
from consumers.calls.deadlines import DEFAULT_LIMITS, as_of
from consumers.calls.events import CallEvent
from consumers.calls.holders import Holders
from consumers.calls.legs import Finding, Inferred, Leg
from consumers.calls.parties import same_party
from consumers.calls.projection import CallProjection
from consumers.calls.quality import (
    is_doubtful,
    late_and_not_shown,
    only_the_caller_reports_an_answer,
    rang_during_a_talk,
)
from voipex.agent_activity import LegRole
from voipex.call_timeline import Confidence, Effect, EndedBy, TransferKind
from voipex.events import EventType, ReasonClass
from voipex.timestamps import parse_rfc3339

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """
    A value of the document.

    leg: its number, 0 for the call. at_us: where it is drawn, None if it has no moment. place: of the event that reports it, or that it
    follows from; 0 if it follows from time alone. rule: that inferred it; empty for a reported value.
    """

    leg: int
    what: str
    at_us: int | None
    place: int
    rule: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The marks of a call, the rule that read each of its events, and what else makes its document less than exact."""

    reported: tuple[Mark, ...]
    inferred: tuple[Mark, ...]
    rules: tuple[str, ...]
    doubts: tuple[str, ...]


def evidence_of(state: bytes, timeline: Json, as_of_us: int) -> Evidence:
    """Fold the call of *state*, as `CallProjection` encodes it, and collect what *timeline* shows."""
    events, call = CallProjection().decode(state).call_until(as_of_us)
    call = as_of(call, as_of_us, DEFAULT_LIMITS)
    holders = Holders(call)
    marks = [*_of_legs(call), *_of_transfers(call, holders), *_of_the_end(call)]
    started_at = timeline["started_at"]
    started_us = None if started_at is None else parse_rfc3339(started_at)
    return Evidence(
        tuple(mark for mark in marks if not mark.rule),
        tuple(_merged([mark for mark in marks if mark.rule])),
        tuple(_rule_of(call, place, event) for place, event in enumerate(events, start=1)),
        tuple(_doubts(call, holders, timeline, started_us)),
    )


def _merged(marks: list[Mark]) -> Iterator[Mark]:
    """Make one mark of neighbours that follow from the same event by the same rule."""
    for _, group in groupby(marks, key=lambda mark: (mark.leg, mark.rule, mark.place, mark.why)):
        first, *others = group
        yield replace(first, what=" and ".join(mark.what for mark in (first, *others)))


# ---------------------------------------------------------------- legs

WHY: Final = {
    ("3", "ended_at"): "its line rang again, so the attempt before had ended without an answer",
    ("3", "answered_at"): "its own phone had answered; the far end rang only then",
    ("4", "ended_at"): "another line answered, which ends every attempt that rings for the same caller",
    (
        "4d",
        "answered_at",
    ): "its Answered came only after its Hangup, so it was answered at its end at the latest",
    ("4d", "result"): "its Answered came only after its Hangup, so it was answered at its end at the latest",
    ("4e", "answered_at"): "the Answered names nobody; this line is the one that can have answered",
    ("5", "answered_at"): "no talk ends by the reason of its Hangup: its Answered was no talk",
    ("5a", "ended_at"): "its Hangup, answered elsewhere, came later than the answer that ended it",
    ("5f", "ended_at"): "its Ringing came after the Hangup of its line: it was over when it began",
    (
        "9",
        "ended_at",
    ): "another line began to ring and answered while this one talked: it gave the caller away",
    ("10", "ended_at"): "the CDR came and no Hangup: the call ended with it",
    ("12", "ended_at"): "no event came for too long",
}
"""The sentence behind each rule and field of a leg. The end and the result of a leg are inferred together."""


def _of_legs(call: Call) -> Iterator[Mark]:
    for leg in call.legs:
        if leg.ring_started_us is not None:
            yield Mark(leg.number, "rang", leg.ring_started_us, leg.began_place)
        if leg.answer is not None:
            yield _mark(leg, "answered_at", "answered", leg.answer, leg.answer.value)
        if leg.withdrawn:
            rule = "3" if leg.own_phone else "5"
            yield Mark(
                leg.number, "answer withdrawn", None, _withdrawn_by(call, leg), rule, WHY[rule, "answered_at"]
            )
        if leg.end is not None:
            yield _mark(leg, "ended_at", "ended", leg.end, leg.end.value)
        if leg.result is not None and not _with_end(leg):
            yield _mark(leg, "result", f"result {leg.result.value}", leg.result, leg.ended_us)


def _mark(leg: Leg, name: str, what: str, finding: "Finding[Any]", at_us: int | None) -> Mark:
    if not isinstance(finding, Inferred):
        return Mark(leg.number, what, at_us, finding.place)
    place = 0 if finding.rule == "12" else finding.place
    why = WHY.get((finding.rule, name)) or WHY.get((finding.rule, "ended_at"), "")
    return Mark(leg.number, what, at_us, place, finding.rule, why)


def _with_end(leg: Leg) -> bool:
    """Whether the result comes from the same event, by the same rule, as the end: then it is no mark of its own."""
    return leg.end is not None and leg.result is not None and _source(leg.end) == _source(leg.result)


def _source(finding: "Finding[Any]") -> tuple[int, str]:
    return finding.place, finding.rule if isinstance(finding, Inferred) else ""


def _withdrawn_by(call: Call, leg: Leg) -> int:
    """The place of the event that withdrew an answer of *leg*: its Hangup, or the Ringing of the far end."""
    if not leg.own_phone:
        return leg.hangup_place or (0 if leg.end is None else leg.end.place)
    later = range(leg.began_place, len(call.seen))
    return next((place + 1 for place in later if call.seen[place].type is EventType.RINGING), 0)


# ---------------------------------------------------------------- the call


def _of_transfers(call: Call, holders: Holders) -> Iterator[Mark]:
    for transfer, _, confidence in holders.transfers:
        what = f"transfer {transfer.kind}"
        if transfer.reported_by is not None:
            place = _place_of(call, transfer.reported_by)
            if confidence is Confidence.HIGH:
                yield Mark(transfer.transferor, what, transfer.at_us, place)
            else:
                yield Mark(
                    transfer.transferor,
                    what,
                    transfer.at_us,
                    place,
                    "8",
                    "reported, but nobody is known to have taken the caller",
                )
        else:
            yield Mark(
                transfer.transferor, what, transfer.at_us, transfer.place, *_inferred_transfer(transfer)
            )


def _inferred_transfer(transfer: Transfer) -> tuple[str, str]:
    """The rule, and its sentence."""
    if transfer.by_hangup:
        return "8", "it left while it consulted a colleague, who has the caller now"
    if transfer.kind is TransferKind.HANDOVER_INFERRED:
        return "9", WHY["9", "ended_at"]
    return "9", "it left, and then another line rang on, began to ring or answered"


def _of_the_end(call: Call) -> Iterator[Mark]:
    if call.ended_us is None:
        if call.undecided is not None:
            why = "the Answered names nobody, and several lines ring: a later event decides which it was"
            yield Mark(0, "talking", call.undecided.at_us, call.undecided.place, "4e", why)
    elif call.ended_by is EndedBy.CDR:
        yield Mark(0, "end of the call", call.ended_us, call.cdr_place, "10", WHY["10", "ended_at"])
    elif call.ended_by is EndedBy.TIMEOUT:
        yield Mark(0, "end of the call", call.ended_us, 0, "12", WHY["12", "ended_at"])
    elif call.end_moved:
        why = "the caller waited on after the last line had left, until a Hangup that names nobody"
        yield Mark(0, "end of the call", call.ended_us, call.ended_place, "5b", why)
    else:
        yield Mark(0, "end of the call", call.ended_us, call.ended_place)


def _place_of(call: Call, event: CallEvent) -> int:
    return next((place for place, each in enumerate(call.seen, start=1) if each is event), 0)


# ---------------------------------------------------------------- events

RULES: Final = {
    EventType.NEW_CALL: "2",
    EventType.RINGING: "3",
    EventType.ANSWERED: "4",
    EventType.HANGUP: "5",
    EventType.ATTENDED_TRANSFER: "8",
    EventType.ATTENDED_TRANSFER_CANCELLED: "8",
    EventType.CDR: "10",
}
"""The rule that reads each type of event; any other type is read by rule 14."""

RULES_OF_NOTES: Final = {
    "without a ring: a pickup, or a lost Ringing": "4f",
    "was answered before": "4a",
    "it rang on": "4b",
    "came after the Hangup of its line": "4d",
    "it was this line that answered": "4d",
    "came after the Hangup of its line: answered at its end": "4d",
    "names nobody, as one before": "4e",
    "the PBX itself answered": "4e",
    "names nobody: the only line that rings": "4e",
    "names nobody: one of the lines that ring": "4e",
    "answered elsewhere, but it does not ring": "5a",
    "names no line: the whole call": "5b",
    "names no line: the whole call, after its CDR": "5b",
    "names no line: the caller was waiting until now": "5b",
    "one device less, the line rings on": "5d",
    "our caller left": "5e",
    "of a line that never rang, while others are on the line": "5f",
    "of a line that never rang, and nobody is on the line": "5f",
    "a Hangup of its line seems to have overtaken it": "5f",
    "the call had ended": "6",
    "its leg had ended": "6",
    "was consulted": "7",
    "left while consulting: the consulted line has the caller": "8",
    "no open leg barged in": "11",
    "nothing to monitor any more": "11",
}
"""A note belongs to one case of a rule."""


def _rule_of(call: Call, place: int, event: CallEvent) -> str:
    """The rule that read an event: by its note, by the leg that it changed, or by its type."""
    effect, note = call.effects[place - 1]
    if note == "its leg had ended" and effect is Effect.LEFT:
        before = call.seen[: place - 1]
        hung_up = any(each.type is EventType.HANGUP and same_party(each, event) for each in before)
        return "5d" if hung_up else "4"
    of_note = RULES_OF_NOTES.get(note or "")
    return of_note or _rule_of_leg(call, place, event) or RULES.get(event.type, "14")


def _rule_of_leg(call: Call, place: int, event: CallEvent) -> str | None:
    for leg in call.legs:
        if leg.role is LegRole.MONITOR and (leg.began_place == place or _is_of(leg.end, place)):
            return "11"
        if event.type is EventType.ANSWERED and _is_of(leg.answer, place):
            return "4a"
        if event.type is EventType.HANGUP and _is_of(leg.end, place):
            if event.reason_class is ReasonClass.ANSWERED_ELSEWHERE:
                return "5a"
            return "5d" if leg.answer is None else "5c"
    return None


def _is_of(finding: "Finding[int] | None", place: int) -> bool:
    return finding is not None and not isinstance(finding, Inferred) and finding.place == place


# ---------------------------------------------------------------- doubts


def _doubts(call: Call, holders: Holders, timeline: Json, started_us: int | None) -> Iterator[str]:
    """What makes a document `partial` or `estimated` beside its inferred values: "Quality" in docs/call-rules.md."""
    if call.new_call is None:
        yield "no NewCall came: the call may have begun earlier"
    if timeline["started_at_source"] not in {"new_call", "first_event"}:
        yield "no start was seen, only its end"
    if call.anonymous_answers:
        yield "an Answered names nobody"
    if call.end_doubtful:
        yield "a CDR long after the end may have overtaken the Hangup of a caller who waited"
    for leg in call.legs:
        yield from (f"leg {leg.number} {doubt}" for doubt in _doubts_of_leg(leg, started_us))
    if only_the_caller_reports_an_answer(call, holders):
        yield "only the caller of a local call reports an answer"
    if late_and_not_shown(call, holders):
        yield "an event came too late, and no leg shows what it reports"
    if rang_during_a_talk(call, holders):
        yield "a line began to ring while another talked, and was not answered"


def _doubts_of_leg(leg: Leg, started_us: int | None) -> Iterator[str]:
    doubtful_pickup = leg.doubtful_pickup and not leg.ring_reported
    if leg.after_empty_hangup:
        yield "began right after a Hangup of its line that had nothing to end"
    if leg.answered_again:
        yield "was answered again after it had rung again"
    if doubtful_pickup:
        yield "was answered without a ring while others talked, or right after a Hangup of its line"
    if leg.hangup_repeated:
        yield "got a device reason twice within 2 s: maybe one Hangup delivered twice"
    if leg.rang_in_this_round:
        yield "rang within 3 s of an attempt that a device ended: maybe another device, or a Ringing delivered twice"
    other = leg.after_empty_hangup or leg.answered_again or doubtful_pickup or leg.hangup_repeated
    other = other or leg.rang_in_this_round
    if is_doubtful(leg, started_us) and not other:
        yield "ended as normal after more than 90 s without an answer: its Answered may be lost"
