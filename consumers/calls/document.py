"""
The timeline of a call (contract 4): `document(call, …)` returns a dict with the fields of `CallTimeline`.

It is a plain dict because validated models take ten times as long to build; tests compare it with the model.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from consumers.calls.call import SECOND_US, Call, Transfer
from consumers.calls.deadlines import status_of
from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, Span, union_us
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import (
    Anomaly,
    Confidence,
    EndedBy,
    Outcome,
    Quality,
    StartSource,
    TransferKind,
)
from voipex.events import Direction, EventType, ReasonClass
from voipex.timestamps import format_rfc3339_cached

MAX_EVENTS: Final = 500
CLOCK_SKEW_US: Final = 60 * SECOND_US

Json = dict[str, Any]


def document(pbx: str, call_id: str, events: Sequence[CallEvent], call: Call) -> Json:
    """Return the timeline without `revision` and `updated_at`, which count published changes. *call* has its deadlines applied."""
    customers = _by_connection_to_caller(call)
    started_us, source = _start(call, events)
    start_seen = source is StartSource.NEW_CALL or source is StartSource.FIRST_EVENT
    answered_us = customers[0].caller_since_us if customers else None
    outcome = _outcome(call, answered=bool(customers))
    from_event = _number_source(call, "from_")
    to_event = _number_source(call, "to")
    return {
        "pbx": pbx,
        "call_id": call_id,
        **links_of(call_id),
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
        if _rang_in_vain_since(call, customers)
        else outcome,
        "ended_by": call.ended_by,
        "started_at": time_text(started_us),
        "started_at_source": source,
        "pbx_started_at": time_text(call.pbx_started_us),
        "first_ring_at": time_text(_first_ring_us(call)),
        "answered_at": time_text(answered_us),
        "ended_at": time_text(call.ended_us),
        "cdr_at": None if call.cdr is None else format_rfc3339_cached(call.cdr.at_us),
        "wait_s": _between(started_us if start_seen else None, answered_us),
        "ring_s": _sum_s(leg.ring_span() for leg in call.legs if _rang(leg)),
        "talk_s": _sum_s(leg.talk_span() for leg in customers),
        "consult_s": _sum_s(leg.consult_span() for leg in call.legs if _was_consulted(leg)),
        "duration_s": None
        if call.ended_by is EndedBy.TIMEOUT
        else _between(started_us if start_seen else None, call.ended_us),
        "answered_by": [leg.name for leg in customers if leg.name is not None],
        "final_line": customers[-1].line if customers else None,
        "final_login": customers[-1].login if customers else None,
        "transferred": any(transfer.kind is not TransferKind.CANCELLED for transfer in call.transfers),
        "transfers": [
            _transfer(call, transfer) for transfer in sorted(call.transfers, key=lambda each: each.at_us)
        ],
        "monitors": _monitors(call),
        "legs": [_leg(call, leg, outcome) for leg in call.legs],
        "events": [
            {
                "event_id": event.event_id,
                "type": event.type,
                "event_name": event.event_name,
                "at": format_rfc3339_cached(event.at_us),
                "line": event.line,
                "effect": effect,
                "note": note,
            }
            for event, (effect, note) in zip(events[:MAX_EVENTS], call.effects, strict=False)
        ],
        "events_dropped": max(0, len(events) - MAX_EVENTS),
        "anomalies": _anomalies(call),
        "quality": _quality(call, start_seen=start_seen),
        "cdr": None if call.cdr is None else _cdr(call.cdr),
    }


# ---------------------------------------------------------------- times


def links_of(call_id: str) -> Json:
    """Return the fields that name other calls (rule 13). A fold sees one call, so each is a conversation of its own."""
    return {"conversation_id": call_id, "call_ids": (call_id,), "links": ()}


def time_text(at_us: int | None) -> str | None:
    return None if at_us is None else format_rfc3339_cached(at_us)


def _between(begin_us: int | None, end_us: int | None) -> float | None:
    return None if begin_us is None or end_us is None else (end_us - begin_us) / SECOND_US


def _sum_s(spans: Iterable[Span | None]) -> float | None:
    """Return the seconds of the union of spans. Spans that are None are left out: 0 without any span, None if all are None."""
    all_spans = list(spans)
    known = [span for span in all_spans if span is not None]
    if all_spans and not known:
        return None
    return union_us(known) / SECOND_US


def _start(call: Call, events: Sequence[CallEvent]) -> tuple[int | None, StartSource | None]:
    """
    Return the time of the earliest event and its source. Unknown events do not count unless there is no other (14). If the earliest
    event is a Hangup or CDR, the start is the epoch in the UniqueId, at most the time of that event.
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


def _number_source(call: Call, name: str) -> CallEvent | None:
    """Return the event that From or To is taken from: NewCall, else the earliest event."""
    if call.new_call is not None and getattr(call.new_call, name) is not None:
        return call.new_call
    return call.from_first if name == "from_" else call.to_first


def _by_connection_to_caller(call: Call) -> list[Leg]:
    legs = [leg for leg in call.legs if leg.caller_since_us is not None]
    legs.sort(key=lambda leg: (leg.caller_since_us or 0, leg.caller_since_index))
    return legs


def _outcome(call: Call, *, answered: bool) -> Outcome | None:
    if answered:
        return Outcome.ANSWERED
    if not call.ended:
        return None
    if call.only_cdrs:
        return Outcome.UNKNOWN
    unanswered = Outcome.NO_ANSWER if call.direction is Direction.OUTGOING else Outcome.MISSED
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


def _rang_in_vain_since(call: Call, customers: Sequence[Leg]) -> bool:
    """Whether a customer leg began to ring after the last answer and was not answered."""
    last_answer_index = max((leg.caller_since_index for leg in customers), default=0)
    return any(
        leg.is_customer and leg.answered_us is None and leg.began_index > last_answer_index
        for leg in call.legs
    )


def _transfer(call: Call, transfer: Transfer) -> Json:
    return {
        "at": format_rfc3339_cached(transfer.at_us),
        "kind": transfer.kind,
        "from_line": call.leg(transfer.transferor).line if transfer.transferor else transfer.party.line,
        "to_line": call.leg(transfer.target).line if transfer.target else None,
        "confidence": transfer.confidence,
    }


def _monitors(call: Call) -> list[str]:
    names = (leg.name for leg in call.legs if leg.role is LegRole.MONITOR)
    return list(dict.fromkeys(name for name in names if name is not None))


# ---------------------------------------------------------------- legs


def _rang(leg: Leg) -> bool:
    return leg.ring_started_us is not None and leg.role is not LegRole.MONITOR


def _was_consulted(leg: Leg) -> bool:
    return leg.answered_us is not None and (leg.role is LegRole.CONSULT or leg.consult_until_us is not None)


def _leg(call: Call, leg: Leg, outcome: Outcome | None) -> Json:
    return {
        "leg": leg.number,
        "line": leg.line,
        "login": leg.login,
        "email": leg.email,
        "queue": leg.queue,
        "role": leg.role,
        "result": published_result(call, leg, outcome),
        "ring_started_at": time_text(leg.ring_started_us),
        "answered_at": time_text(leg.answered_us),
        "ended_at": time_text(leg.ended_us),
        "ring_s": _span_s(leg.ring_span()),
        "talk_s": _span_s(leg.talk_span()),
        "consult_s": _leg_consult_s(leg),
        "parallel_rings": leg.parallel_rings,
        "reason": leg.reason,
        "reason_class": leg.reason_class,
        "inferred": leg.inferred,
    }


def published_result(call: Call, leg: Leg, outcome: Outcome | None) -> LegResult | None:
    """5a: `answered_elsewhere` becomes `cancelled` when the call ends unanswered."""
    if leg.result is LegResult.ANSWERED_ELSEWHERE and call.ended and outcome is not Outcome.ANSWERED:
        return LegResult.CANCELLED
    return leg.result


def _span_s(span: Span | None) -> float | None:
    return None if span is None else (span[1] - span[0]) / SECOND_US


def _leg_consult_s(leg: Leg) -> float | None:
    """Return the seconds of consulting and being consulted; None without any."""
    own = leg.consult_span()
    spans = [*leg.consulting_spans(), *(() if own is None else (own,))]
    return union_us(spans) / SECOND_US if spans else None


# ---------------------------------------------------------------- quality


def _anomalies(call: Call) -> list[Anomaly]:
    found = set(call.anomalies)
    if call.new_call is None:
        found.add(Anomaly.NO_NEW_CALL)
    if any(leg.answered_us is not None and not leg.ring_reported for leg in call.legs):
        found.add(Anomaly.ANSWERED_WITHOUT_RING)
    if _clock_skew(call):
        found.add(Anomaly.CLOCK_SKEW)
    if _end_inferred(call):
        found.add(Anomaly.END_INFERRED)
    return [anomaly for anomaly in Anomaly if anomaly in found] if found else []


def _clock_skew(call: Call) -> bool:
    """Whether the epoch in the UniqueId lies more than 60 s after the first event."""
    if call.first is None or call.pbx_started_us is None:
        return False
    return call.pbx_started_us - call.first.at_us > CLOCK_SKEW_US


def _end_inferred(call: Call) -> bool:
    if call.ended_by is EndedBy.CDR or call.ended_by is EndedBy.TIMEOUT:
        return True
    return any("ended_at" in leg.inferred for leg in call.legs)


def _quality(call: Call, *, start_seen: bool) -> Quality:
    if call.new_call is None or not start_seen or call.ended_by is EndedBy.TIMEOUT:
        return Quality.PARTIAL
    if (
        call.ended_by is EndedBy.CDR
        or any(leg.inferred for leg in call.legs)
        or any(transfer.confidence is not Confidence.HIGH for transfer in call.transfers)
    ):
        return Quality.ESTIMATED
    return Quality.EXACT


def _cdr(cdr: CallEvent) -> Json:
    """Return the non-null fields of the last CDR, and its fields outside the mapping."""
    fields: Json = {
        "from": cdr.from_,
        "to": cdr.to,
        "line": cdr.line,
        "login": cdr.login,
        "email": cdr.email,
        "queue": cdr.queue,
        "reason": cdr.reason,
    }
    return {**{name: value for name, value in fields.items() if value is not None}, "extra": cdr.extra or {}}
