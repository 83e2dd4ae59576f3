"""
The fold of a call: `fold(events)` is the call after these events in their total order, whenever they arrived.

To add an event type, write one handler here and its line in `HANDLERS`. Changes by time alone are in `deadlines`, except the end by CDR
(rule 10).
"""

from collections.abc import Callable, Iterable
from typing import Final

from consumers.calls.call import LATE_US, NO_EFFECT, OUTGOING, SECOND_US, Applied, Call
from consumers.calls.events import CallEvent
from consumers.calls.hangups import hangup
from consumers.calls.legs import Party, is_blank, same_party
from consumers.calls.rings import answered, ringing
from consumers.calls.transfers import attended_transfer, cancel_attended_transfer
from voipex.agent_activity import LegRole
from voipex.call_timeline import Anomaly, Effect, EndedBy
from voipex.events import Direction, EventType, ReasonClass

FOLD_VERSION: Final = 1
"""Raise it with every change of the rules: stored calls are then folded again and published again."""

CDR_GRACE_US: Final = 5 * SECOND_US
"""Time in which a Hangup may follow the CDR (rule 10)."""


def fold(events: Iterable[CallEvent], call: Call | None = None) -> Call:
    """Apply *events*, in their total order, to *call* (changed in place). They follow all events that *call* has seen."""
    call = Call() if call is None else call
    for event in events:
        _step(call, event)
    return call


def _step(call: Call, event: CallEvent) -> None:
    if call.cdr_pending and event.at_us > cdr_deadline_us(call):
        end_by_cdr(call)  # an event at a deadline precedes it
    if call.index == 0:
        call.last_effect_us = event.at_us
    call.index += 1
    handler = HANDLERS.get(event.type)
    applied = _unknown(call, event) if handler is None else _apply(call, event, handler)
    call.effects.append((applied.effect, applied.note))


def _apply(call: Call, event: CallEvent, handler: Callable[[Call, CallEvent], Applied]) -> Applied:
    """Update the call with the fields that any event may have, then apply the rule of this event type."""
    if call.first is None:
        call.first = event
        call.last_effect_us = event.at_us
    if event.type is not EventType.CDR:
        call.only_cdrs = False
    _update_call(call, event)
    applied = handler(call, event)
    _update_numbers(call, event, applied)
    if applied.effect not in NO_EFFECT:
        call.last_effect_us = event.at_us
        if event.type in _PROVES_OPEN and (applied.leg is None or applied.leg.role is not LegRole.MONITOR):
            call.cdr_pending = False  # rule 10: the call continues after the CDR
    return applied


_PROVES_OPEN: Final = frozenset({EventType.RINGING, EventType.ANSWERED, EventType.ATTENDED_TRANSFER})


# ---------------------------------------------------------------- fields of any event


def _update_call(call: Call, event: CallEvent) -> None:
    """Update the registers of the call. A blank field never replaces a value (rule 1)."""
    if call.direction is None and event.direction is not Direction.BARGE:
        call.direction = event.direction
    if event.queue is not None and event.queue not in call.queues:
        call.queues.append(event.queue)
    if call.pbx_started_us is None:
        call.pbx_started_us = event.pbx_started_us
    if event.reason_class is ReasonClass.OTHER:
        call.anomalies.add(Anomaly.UNKNOWN_REASON)
    while call.hangups and event.at_us - call.hangups[0][1].at_us > LATE_US:
        del call.hangups[0]
    _update_caller(call, event)


def _update_caller(call: Call, event: CallEvent) -> None:
    """
    Find the caller of an outgoing call: the first party of a NewCall, Ringing, Answered or Hangup with an outgoing direction (the
    event's, else the call's).
    """
    if not call.is_outgoing:
        return
    if call.caller is not None:
        if same_party(call.caller, event):
            call.caller.fill(event)
        return
    direction = event.direction or call.direction
    if event.type not in _NAMES_CALLER or direction not in OUTGOING or is_blank(event):
        return
    call.caller = Party(event.line, event.login, event.email)
    for leg in call.legs:  # legs that began before the direction was known
        if leg.role is LegRole.AGENT and call.is_caller(leg):
            leg.role = LegRole.CALLER
            known = Party(leg.line, leg.login, leg.email)
            known.fill(call.caller)
            call.caller = known


_NAMES_CALLER: Final = frozenset(
    {EventType.NEW_CALL, EventType.RINGING, EventType.ANSWERED, EventType.HANGUP}
)


def _update_numbers(call: Call, event: CallEvent, applied: Applied) -> None:
    """Collect From and To. Transfers, consult and monitor legs are left out: their numbers are colleagues."""
    if event.type in _TRANSFERS or (applied.leg is not None and not applied.leg.is_customer):
        return
    if event.direction is Direction.BARGE and event.type in _OF_LEGS:
        return
    if event.from_ is not None:
        call.from_first = call.from_first or event
        if event.from_ not in call.from_all:
            call.from_all.append(event.from_)
    if event.to is not None:
        call.to_first = call.to_first or event
        if event.to not in call.to_all:
            call.to_all.append(event.to)


_TRANSFERS: Final = frozenset({EventType.ATTENDED_TRANSFER, EventType.ATTENDED_TRANSFER_CANCELLED})
_OF_LEGS: Final = frozenset({EventType.RINGING, EventType.ANSWERED, EventType.HANGUP})


# ---------------------------------------------------------------- rules 2, 10, 14


def _new_call(call: Call, event: CallEvent) -> Applied:
    """Rule 2: open the call. A late NewCall sets from and to, not started_at, and never reopens a call."""
    is_first = call.first is event
    changed = call.new_call is None
    if call.new_call is None:
        call.new_call = event
    if is_first:
        return Applied(Effect.OPENED)
    call.anomalies.add(Anomaly.LATE_EVENT)
    return Applied(Effect.FILLED if changed else Effect.NONE, "came after other events of the call")


def _cdr(call: Call, event: CallEvent) -> Applied:
    """Rule 10: a call that is still open 5 s after the CDR ends at the time of the CDR."""
    call.cdr = event
    if call.ended:
        return Applied(Effect.CDR)
    call.cdr_pending = True
    return Applied(Effect.CDR, "ends the call, unless something else comes within 5 s")


def cdr_deadline_us(call: Call) -> int:
    return 0 if call.cdr is None else call.cdr.at_us + CDR_GRACE_US


def end_by_cdr(call: Call) -> None:
    """Rule 10: end the call at cdr_at, or at a later effect within the grace."""
    if call.cdr is not None:
        call.end(max(call.cdr.at_us, call.last_effect_us), EndedBy.CDR)


def _unknown(call: Call, event: CallEvent) -> Applied:
    """Rule 14: list the event; it changes nothing else."""
    if event.type is EventType.UNKNOWN:
        call.anomalies.add(Anomaly.UNKNOWN_EVENT)
        return Applied(Effect.NONE, "an event we do not know")
    return Applied(Effect.NONE, "of an agent, not of the call")


HANDLERS: Final[dict[EventType, Callable[[Call, CallEvent], Applied]]] = {
    EventType.NEW_CALL: _new_call,
    EventType.RINGING: ringing,
    EventType.ANSWERED: answered,
    EventType.HANGUP: hangup,
    EventType.ATTENDED_TRANSFER: attended_transfer,
    EventType.ATTENDED_TRANSFER_CANCELLED: cancel_attended_transfer,
    EventType.CDR: _cdr,
}
