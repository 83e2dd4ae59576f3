"""
The timeline of a call: `document(call, …)` has the fields of `CallTimeline`.

It is a plain dict, since validated models take ten times as long to make. Tests compare it with the model.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from consumers.calls.call import SECOND_US, SOON_US, Call, Transfer
from consumers.calls.deadlines import status_of
from consumers.calls.events import CallEvent, time_text
from consumers.calls.holders import Holders, is_overtaken
from consumers.calls.legs import Leg, Span, union_us
from consumers.calls.quality import anomalies_of, quality_of
from consumers.engine.bounds import Container, bounded, bounded_list
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Confidence, EndedBy, Outcome, StartSource, TransferKind
from voipex.events import EventType, ReasonClass

MAX_EVENTS: Final = 500
MAX_TIMELINE_BYTES: Final = 512 * 1024
"""Room for a thousand legs: the contract promises one for each attempt."""

MAX_EVENTS_BYTES: Final = 128 * 1024
"""500 events have some 90 KB; only longer texts than any PBX sends have more."""

Json = dict[str, Any]


def document(
    pbx: str,
    call_id: str,
    events: Sequence[CallEvent],
    call: Call,
    holders: Holders,
    *,
    is_ahead: bool = False,
) -> Json:
    """
    All fields but `revision` and `updated_at`, which count the changes of one run.

    *call* is that of the moment `as_of`, and *holders* was made from it. *events* are those received until then. *is_ahead*: the
    last of them claims to have been received later than now.
    """
    customers = holders.legs
    started_us, source = _start(call, events)
    start_seen = source is StartSource.NEW_CALL or source is StartSource.FIRST_EVENT
    answered_us = customers[0].caller_since_us if customers else None
    outcome = _outcome(call, answered=bool(customers))
    transfers = holders.transfers
    from_event = _number_of(call, "from_")
    to_event = _number_of(call, "to")
    last = max(customers, key=_left_us, default=None)
    return {
        "pbx": pbx,
        "call_id": call_id,
        "conversation_id": call_id,  # rule 13: the fold sees one call, and calls are never merged
        "call_ids": (call_id,),
        "links": (),
        "direction": call.direction,
        "from": None if from_event is None else from_event.from_,
        "to": None if to_event is None else to_event.to,
        "from_all": call.from_all,
        "to_all": call.to_all,
        "from_e164": None if from_event is None else from_event.from_e164,
        "to_e164": None if to_event is None else to_event.to_e164,
        "queues": call.queues,
        "status": status_of(call),
        "outcome": outcome,
        "last_segment_outcome": _outcome(call, answered=False)
        if _lost_after_the_last_talk(call, holders)
        else outcome,
        "ended_by": call.ended_by,
        "started_at": text(started_us),
        "started_at_source": source,
        "pbx_started_at": text(call.pbx_started_us),
        "first_ring_at": text(_first_ring_us(call)),
        "answered_at": text(answered_us),
        "ended_at": text(call.ended_us),
        "cdr_at": None if call.cdr is None else time_text(call.cdr.at_us),
        "wait_s": _between(started_us if start_seen else None, answered_us),
        "ring_s": _sum_s(leg.ring_span() for leg in call.legs if _rang(leg)),
        "talk_s": _sum_s(leg.talk_span() for leg in customers),
        "consult_s": _sum_s(leg.consult_span() for leg in call.legs if _was_consulted(leg)),
        "duration_s": None
        if call.ended_by is EndedBy.TIMEOUT
        else _between(started_us if start_seen else None, call.ended_us),
        "answered_by": [leg.name for leg in customers if leg.name is not None],
        "final_line": None if last is None else last.line,
        "final_login": None if last is None else last.login,
        "transferred": any(transfer.kind is not TransferKind.CANCELLED for transfer, _, _ in transfers),
        "transfers": [_transfer(call, *transfer) for transfer in transfers],
        "monitors": _monitors(call),
        "legs": [_leg(leg, result_of_leg(call, leg, holders)) for leg in call.legs],
        "events": [
            {
                "event_id": event.event_id,
                "type": event.type,
                "event_name": event.event_name,
                "at": time_text(event.at_us),
                "line": event.line,
                "effect": effect,
                "note": note,
            }
            for event, (effect, note) in zip(events[:MAX_EVENTS], call.effects, strict=False)
        ],
        "events_dropped": max(0, len(events) - MAX_EVENTS),
        "anomalies": anomalies_of(call, is_ahead=is_ahead),
        "quality": quality_of(call, holders, transfers, started_us, start_seen=start_seen),
        "cdr": None if call.cdr is None else _cdr(call.cdr),
        "dropped": {},
    }


def bounded_json(timeline: Json) -> bytes:
    """Return its JSON, of at most 512 KiB, 128 of them events; *timeline* then has what that shows."""
    events = bounded_list(timeline["events"], MAX_EVENTS_BYTES)
    timeline["events_dropped"] += len(timeline["events"]) - len(events)
    timeline["events"] = events
    containers = [Container(name, timeline, name) for name in _LISTS]
    if timeline["cdr"] is not None:
        containers += (Container("cdr", timeline, "cdr"), Container("cdr.extra", timeline["cdr"], "extra"))
    return bounded(timeline, containers, MAX_TIMELINE_BYTES)


_LISTS: Final = ("from_all", "to_all", "queues", "answered_by", "transfers", "monitors", "legs")


# ---------------------------------------------------------------- times


def text(at_us: int | None) -> str | None:
    return None if at_us is None else time_text(at_us)


def _between(begin_us: int | None, end_us: int | None) -> float | None:
    return None if begin_us is None or end_us is None else (end_us - begin_us) / SECOND_US


def _sum_s(spans: Iterable[Span | None]) -> float | None:
    """Seconds of the union of all known spans. 0 without any span, None if there are spans and none is known."""
    all_spans = list(spans)
    known = [span for span in all_spans if span is not None]
    if all_spans and not known:
        return None
    return union_us(known) / SECOND_US


def _start(call: Call, events: Sequence[CallEvent]) -> tuple[int | None, StartSource | None]:
    """
    Time of the earliest event, without the unknown ones (rule 14) unless there is no other.

    If that is a Hangup or CDR, no start was seen: then the epoch in the UniqueId, at most the time of that event.
    """
    first = call.first or events[0]
    if first.type is EventType.NEW_CALL:
        return first.at_us, StartSource.NEW_CALL
    if first.type is not EventType.HANGUP and first.type is not EventType.CDR:
        return first.at_us, StartSource.FIRST_EVENT
    if call.pbx_started_us is None:
        return None, None
    return min(call.pbx_started_us, first.at_us), StartSource.UNIQUE_ID


def _first_ring_us(call: Call) -> int | None:
    rings = (
        leg.ring_started_us
        for leg in call.legs
        if leg.ring_started_us is not None and leg.role is not LegRole.MONITOR
    )
    return min(rings, default=None)


# ---------------------------------------------------------------- parties and outcome


def _number_of(call: Call, name: str) -> CallEvent | None:
    """The event that gives From or To: NewCall, else the earliest one that has it."""
    if call.new_call is not None and getattr(call.new_call, name) is not None:
        return call.new_call
    return call.from_first if name == "from_" else call.to_first


def _left_us(leg: Leg) -> tuple[bool, int, int]:
    """Sort key for `final_line`: the leg that ended last. Open legs come after all others, by the order of their answers."""
    return (leg.end is None, 0 if leg.end is None else leg.end.value, leg.caller_since_place)


def _outcome(call: Call, *, answered: bool) -> Outcome | None:
    if answered:
        return Outcome.ANSWERED
    if not call.ended:
        return None
    if call.only_cdrs:
        return Outcome.UNKNOWN
    unanswered = Outcome.NO_ANSWER if call.is_outgoing else Outcome.MISSED
    if call.ended_reason is None:
        return unanswered
    return _REFINED.get(call.ended_reason, unanswered)


_REFINED: Final = {
    ReasonClass.BUSY: Outcome.BUSY,
    ReasonClass.REJECTED: Outcome.REJECTED,
    ReasonClass.UNREACHABLE: Outcome.UNREACHABLE,
    ReasonClass.FAILED_NUMBER: Outcome.FAILED,
    ReasonClass.FAILED_NETWORK: Outcome.FAILED,
}


def _lost_after_the_last_talk(call: Call, holders: Holders) -> bool:
    """Whether, after the last talk, a customer leg rings or rang in vain, or the caller waited until the end (rule 5b)."""
    left_us = [leg.end.value for leg in holders.legs if leg.end is not None]
    if not left_us or len(left_us) < len(holders.legs):
        return False
    last_us = max(left_us)
    if call.ended_us is not None and call.ended_rule == "b" and call.ended_us - last_us > SOON_US:
        return True
    return any(
        leg.answer is None
        and leg.ring_started_us is not None
        and (leg.end is None or leg.end.value > last_us)
        and not is_overtaken(leg)
        and not holders.was_elsewhere(leg)
        and leg.is_customer
        and not call.is_callers_own(leg)
        for leg in call.legs
    )


def _transfer(call: Call, transfer: Transfer, target: int, confidence: Confidence) -> Json:
    return {
        "at": time_text(transfer.at_us),
        "kind": transfer.kind,
        "from_line": call.leg(transfer.transferor).line if transfer.transferor else transfer.party.line,
        "to_line": call.leg(target).line if target else None,
        "confidence": confidence,
    }


def _monitors(call: Call) -> list[str]:
    names = (leg.name for leg in call.legs if leg.role is LegRole.MONITOR)
    return list(dict.fromkeys(name for name in names if name is not None))


# ---------------------------------------------------------------- legs


def _rang(leg: Leg) -> bool:
    return leg.ring_started_us is not None and leg.role is not LegRole.MONITOR


def _was_consulted(leg: Leg) -> bool:
    return leg.answered_us is not None and (leg.role is LegRole.CONSULT or leg.consult_until_us is not None)


def _leg(leg: Leg, result: LegResult | None) -> Json:
    return {
        "leg": leg.number,
        "line": leg.line,
        "login": leg.login,
        "email": leg.email,
        "queue": leg.queue,
        "role": leg.role,
        "result": result,
        "ring_started_at": text(leg.ring_started_us),
        "answered_at": text(leg.answered_us),
        "ended_at": text(leg.ended_us),
        "ring_s": _span_s(leg.ring_span()),
        "talk_s": _span_s(leg.talk_span()),
        "consult_s": _leg_consult_s(leg),
        "parallel_rings": leg.parallel_rings,
        "reason": leg.reason,
        "reason_class": leg.reason_class,
        "inferred": leg.inferred,
    }


def result_of_leg(call: Call, leg: Leg, holders: Holders) -> LegResult | None:
    """Rule 5a: once a call has ended in which nobody answered, legs with the result answered_elsewhere are cancelled."""
    if (
        leg.outcome is LegResult.ANSWERED_ELSEWHERE
        and call.ended
        and not holders.somebody_answered(leg)
        and not holders.talked_at(leg.end)
    ):
        return LegResult.CANCELLED
    return leg.outcome


def _span_s(span: Span | None) -> float | None:
    return None if span is None else (span[1] - span[0]) / SECOND_US


def _leg_consult_s(leg: Leg) -> float | None:
    """Seconds of being consulted and of consulting; None without any."""
    own = leg.consult_span()
    spans = [*leg.consulting_spans(), *(() if own is None else (own,))]
    return union_us(spans) / SECOND_US if spans else None


def _cdr(cdr: CallEvent) -> Json:
    """The fields of the last CDR that are not null, and `extra` with those outside the mapping."""
    known: Json = {
        "from": cdr.from_,
        "to": cdr.to,
        "line": cdr.line,
        "login": cdr.login,
        "email": cdr.email,
        "queue": cdr.queue,
        "reason": cdr.reason,
    }
    return {**{name: value for name, value in known.items() if value is not None}, "extra": cdr.extra or {}}
