"""
The fold of a call: `fold(events)` is the call after those events, in their total order; nothing of it depends on when they came.

Adding an event type: one handler here and its line in `HANDLERS`. What only time changes is not known here (`deadlines`), but for
rule 10, which ends a call on its CDR.
"""

from collections.abc import Callable, Iterable
from typing import Final

from consumers.calls.call import LATE_US, NO_EFFECT, OUTGOING, SECOND_US, Call, Told
from consumers.calls.events import CallEvent
from consumers.calls.hangups import hangup
from consumers.calls.legs import Party, is_blank, same_party
from consumers.calls.rings import answered, ringing
from consumers.calls.transfers import attended_transfer, cancel_attended_transfer
from voipex.agent_activity import LegRole
from voipex.call_timeline import Anomaly, Effect, EndedBy
from voipex.events import Direction, EventType, ReasonClass

FOLD_VERSION: Final = 1
"""Raise it with every change of the rules: kept calls are then folded anew and published again."""

CDR_GRACE_US: Final = 5 * SECOND_US
"""How long a Hangup may still come after the CDR (rule 10)."""


def fold(events: Iterable[CallEvent], call: Call | None = None) -> Call:
    """Fold events that come after those that *call* (changed in place) has seen, in their total order."""
    call = Call() if call is None else call
    for event in events:
        _step(call, event)
    return call


def _step(call: Call, event: CallEvent) -> None:
    if call.cdr_pending and event.at_us > cdr_deadline_us(call):
        end_by_cdr(call)  # an event at a deadline precedes it
    if call.no == 0:
        call.last_effect_us = event.at_us
    call.no += 1
    handler = HANDLERS.get(event.type)
    told = _unknown(call, event) if handler is None else _take(call, event, handler)
    call.told.append((told.effect, told.note))


def _take(call: Call, event: CallEvent, handler: Callable[[Call, CallEvent], Told]) -> Told:
    """Note what any event may tell, then let its rule decide."""
    if call.first is None:
        call.first = event
        call.last_effect_us = event.at_us
    if event.type is not EventType.CDR:
        call.only_cdrs = False
    _learn(call, event)
    told = handler(call, event)
    _learn_numbers(call, event, told)
    if told.effect not in NO_EFFECT:
        call.last_effect_us = event.at_us
        if event.type in _GOES_ON and (told.leg is None or told.leg.role is not LegRole.MONITOR):
            call.cdr_pending = False  # rule 10: a ring, answer or AttendedTransfer shows that it goes on
    return told


_GOES_ON: Final = frozenset({EventType.RINGING, EventType.ANSWERED, EventType.ATTENDED_TRANSFER})


# ---------------------------------------------------------------- what any event tells


def _learn(call: Call, event: CallEvent) -> None:
    """Registers of the call; blank never replaces a value (rule 1)."""
    if call.direction is None and event.direction is not Direction.BARGE:
        call.direction = event.direction
    if event.queue is not None and event.queue not in call.queues:
        call.queues.append(event.queue)
    if call.pbx_started_us is None:
        call.pbx_started_us = event.pbx_started_us
    if event.reason_class is ReasonClass.OTHER:
        call.oddities.add(Anomaly.UNKNOWN_REASON)
    while call.hangups and event.at_us - call.hangups[0][1].at_us > LATE_US:
        del call.hangups[0]
    _learn_caller(call, event)


def _learn_caller(call: Call, event: CallEvent) -> None:
    """On an outgoing call: the first party of a NewCall, Ringing, Answered or Hangup of such direction (its own, else the call's)."""
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
    for leg in call.legs:  # those that began before the direction was known
        if leg.role is LegRole.AGENT and call.is_caller(leg):
            leg.role = LegRole.CALLER
            known = Party(leg.line, leg.login, leg.email)
            known.fill(call.caller)
            call.caller = known


_NAMES_CALLER: Final = frozenset(
    {EventType.NEW_CALL, EventType.RINGING, EventType.ANSWERED, EventType.HANGUP}
)


def _learn_numbers(call: Call, event: CallEvent, told: Told) -> None:
    """From and To, but not of transfers, consult and monitor legs: those name colleagues."""
    if event.type in _TRANSFERS or (told.leg is not None and not told.leg.is_customer):
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


def _new_call(call: Call, event: CallEvent) -> Told:
    """Rule 2: opens a call. Late, it gives from and to, not started_at, and never reopens."""
    is_first = call.first is event
    taught = call.new_call is None
    if call.new_call is None:
        call.new_call = event
    if is_first:
        return Told(Effect.OPENED)
    call.oddities.add(Anomaly.LATE_EVENT)
    return Told(Effect.FILLED if taught else Effect.NONE, "came after other events of the call")


def _cdr(call: Call, event: CallEvent) -> Told:
    """Rule 10: if the call is still open 5 s later, it ends at this moment."""
    call.cdr = event
    if call.ended:
        return Told(Effect.CDR)
    call.cdr_pending = True
    return Told(Effect.CDR, "ends the call, unless something else comes within 5 s")


def cdr_deadline_us(call: Call) -> int:
    return 0 if call.cdr is None else call.cdr.at_us + CDR_GRACE_US


def end_by_cdr(call: Call) -> None:
    """Rule 10: at cdr_at, or at a later effect in the grace."""
    if call.cdr is not None:
        call.end(max(call.cdr.at_us, call.last_effect_us), EndedBy.CDR)


def _unknown(call: Call, event: CallEvent) -> Told:
    """Rule 14: kept, changes nothing."""
    if event.type is EventType.UNKNOWN:
        call.oddities.add(Anomaly.UNKNOWN_EVENT)
        return Told(Effect.NONE, "an event we do not know")
    return Told(Effect.NONE, "of an agent, not of the call")


HANDLERS: Final[dict[EventType, Callable[[Call, CallEvent], Told]]] = {
    EventType.NEW_CALL: _new_call,
    EventType.RINGING: ringing,
    EventType.ANSWERED: answered,
    EventType.HANGUP: hangup,
    EventType.ATTENDED_TRANSFER: attended_transfer,
    EventType.ATTENDED_TRANSFER_CANCELLED: cancel_attended_transfer,
    EventType.CDR: _cdr,
}
