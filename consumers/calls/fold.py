"""
Read the events of a call in their total order and hand each to the handler of its type.

To add an event type, write a handler here and add its line to `HANDLERS`. Changes that follow from time alone are in `deadlines`; only
the end by a CDR (rule 10) is applied here too, since it also holds for later events.
"""

from collections.abc import Callable, Iterable
from typing import Final

from consumers.calls.attempts import answered, ringing
from consumers.calls.call import (
    LATE_US,
    NO_EFFECT,
    OUTGOING,
    PARTY_EVENTS,
    Call,
    Hindsight,
    HungUp,
    ReadAgain,
    Step,
)
from consumers.calls.ending import cdr, cdr_deadline_us, end_by_cdr, hangup
from consumers.calls.events import CallEvent
from consumers.calls.parties import Party, is_blank, same_party
from consumers.calls.transfers import attended_transfer, cancel_attended_transfer
from voipex.agent_activity import LegRole
from voipex.call_timeline import Anomaly, Effect
from voipex.events import Direction, EventType, ReasonClass

FOLD_VERSION: Final = 1
"""Raise it with every change of the rules: stored calls are then folded and published again."""


def fold(events: Iterable[CallEvent], call: Call | None = None) -> Call:
    """
    Read *events* and return the call after them.

    They must be in their total order and later than those that *call* has seen. *call* must not be used afterwards.
    """
    call = Call() if call is None else call
    for event in events:
        call = _read(call, event)
    return call


def _read(call: Call, event: CallEvent) -> Call:
    """Read one event; if it shows that an earlier one meant something else, read all events again with that knowledge."""
    while True:
        try:
            _step(call, event, None)
        except ReadAgain:
            call = _read_again(call.hindsight, call.seen[:-1], call.effects)
        else:
            return call


def _read_again(
    hindsight: Hindsight, seen: list[CallEvent], effects: list[tuple[Effect, str | None]]
) -> Call:
    """Read *seen* again. Effects and notes of these events stay as they were when their turn came."""
    while True:
        hindsight.read_again += len(seen)
        call = Call(hindsight=hindsight)
        try:
            for event, effect in zip(seen, effects, strict=True):
                _step(call, event, effect)
        except ReadAgain:
            continue
        return call


def _step(call: Call, event: CallEvent, before: tuple[Effect, str | None] | None) -> None:
    """Read one event. `before` is its effect and note when its turn came, if it is read again."""
    if call.grace_from_us is not None and event.at_us > cdr_deadline_us(call):
        end_by_cdr(call)  # an event at a deadline precedes it
    if call.place == 0:
        call.last_effect_us = event.at_us
    call.place += 1
    call.seen.append(event)
    handler = HANDLERS.get(event.type)
    if handler is None:
        step = _unknown(call, event)
        call.effects.append((step.effect, step.note))
    else:
        _apply(call, event, handler, before)


def _apply(
    call: Call,
    event: CallEvent,
    handler: Callable[[Call, CallEvent], Step],
    before: tuple[Effect, str | None] | None,
) -> None:
    """Update the values that any event may carry, then let the handler apply its rule."""
    if call.first is None:
        call.first = event
        call.last_effect_us = event.at_us
    if event.type is not EventType.CDR:
        call.only_cdrs = False
    _update_call(call, event)
    empty = call.empty_hangups
    last = [each for each in empty if same_party(each.event, event)] if empty else []
    step = handler(call, event)
    if last and event.type in PARTY_EVENTS:
        _no_longer_last(call, last)
    effect = step.effect if before is None else before[0]
    call.effects.append((effect, step.note) if before is None else before)
    _update_numbers(call, event, step)
    if effect not in NO_EFFECT:
        call.last_effect_us = event.at_us
        if event.type in _GOES_ON and (step.leg is None or step.leg.role is not LegRole.MONITOR):
            call.grace_from_us = None  # rule 10: a ring, answer or AttendedTransfer shows that it goes on


_GOES_ON: Final = frozenset({EventType.RINGING, EventType.ANSWERED, EventType.ATTENDED_TRANSFER})


def _no_longer_last(call: Call, last: list[HungUp]) -> None:
    """Rule 5f: drop Hangups whose party has had another event since."""
    places = {each.place for each in last}
    call.empty_hangups = [each for each in call.empty_hangups if each.place not in places]


# ---------------------------------------------------------------- values that any event may carry


def _update_call(call: Call, event: CallEvent) -> None:
    """Update direction, queues, start and caller of the call. Rule 1: blank never replaces a value."""
    if event.direction is not None and event.direction is not Direction.BARGE:
        views = (call.direction, event.direction)
        if call.direction is None or views == (Direction.INCOMING_LOCAL, Direction.OUTGOING_LOCAL):
            call.direction = event.direction
    if event.queue is not None and event.queue not in call.queues:
        call.queues.append(event.queue)
    if call.pbx_started_us is None:
        call.pbx_started_us = event.pbx_started_us
    if event.reason_class is ReasonClass.OTHER:
        call.anomalies.add(Anomaly.UNKNOWN_REASON)
    while call.hangups and (event.at_us - call.hangups[0].event.at_us > LATE_US or len(call.hangups) > 100):
        del call.hangups[0]
    _update_caller(call, event)


def _update_caller(call: Call, event: CallEvent) -> None:
    """
    The caller of an outgoing call is the first party that a NewCall, Ringing, Answered or Hangup of an outgoing direction names.

    An event without a direction has that of the call.
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
    for leg in call.legs:  # those that began before the direction was known
        if leg.role is LegRole.AGENT and call.is_caller(leg):
            leg.role = LegRole.CALLER
            known = Party(leg.line, leg.login, leg.email)
            known.fill(call.caller)
            call.caller = known


_NAMES_CALLER: Final = frozenset(
    {EventType.NEW_CALL, EventType.RINGING, EventType.ANSWERED, EventType.HANGUP}
)


def _update_numbers(call: Call, event: CallEvent, step: Step) -> None:
    """Update From and To, but not from transfers, consult and monitor legs: those name colleagues."""
    if event.type in _TRANSFERS or (step.leg is not None and not step.leg.is_customer):
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


# ---------------------------------------------------------------- rules 2, 14


def _new_call(call: Call, event: CallEvent) -> Step:
    """Rule 2: NewCall opens the call. A late one gives from and to, but not started_at, and never reopens a call."""
    is_first = call.first is event
    is_first_new_call = call.new_call is None
    if call.new_call is None:
        call.new_call = event
    if is_first:
        return Step(Effect.OPENED)
    call.anomalies.add(Anomaly.LATE_EVENT)
    return Step(Effect.FILLED if is_first_new_call else Effect.NONE, "came after other events of the call")


def _unknown(call: Call, event: CallEvent) -> Step:
    """Rule 14: an unknown event is listed and changes nothing."""
    if event.type is EventType.UNKNOWN:
        call.anomalies.add(Anomaly.UNKNOWN_EVENT)
        return Step(Effect.NONE, "an event we do not know")
    return Step(Effect.NONE, "of an agent, not of the call")


HANDLERS: Final[dict[EventType, Callable[[Call, CallEvent], Step]]] = {
    EventType.NEW_CALL: _new_call,
    EventType.RINGING: ringing,
    EventType.ANSWERED: answered,
    EventType.HANGUP: hangup,
    EventType.ATTENDED_TRANSFER: attended_transfer,
    EventType.ATTENDED_TRANSFER_CANCELLED: cancel_attended_transfer,
    EventType.CDR: cdr,
}
