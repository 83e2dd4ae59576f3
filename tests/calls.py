"""Build the events of a call, a line each, and its timeline, for tests of the call fold. Times are seconds after `BASE_US`."""

from typing import Any

from consumers.calls.events import CallEvent, call_event
from consumers.calls.projection import timeline
from tests.call_strategies import BASE_US, CALL_ID, event
from voipex.call_timeline import CallTimeline, Leg
from voipex.events import Direction, EventType
from voipex.hangup_causes import reason_class
from voipex.timestamps import format_rfc3339

OUT = {"direction": Direction.OUTGOING}
BARGE = {"direction": Direction.BARGE}
LOCAL = {"direction": Direction.OUTGOING_LOCAL}
BUSY = "User busy"
NO_RESPONSE = "No user response"
FROM = "600000001"
ELSEWHERE = "Answered elsewhere"
NEVER = 1e6
"""Late enough for every deadline."""

LOGINS = {"201": "ada", "202": "bob", "203": "eve", "20": "cervenka"}


def event_at(kind: EventType, at: float, line: str | None = None, **more: Any) -> CallEvent:
    """An event of an incoming call, with the login of the line."""
    more.setdefault("direction", Direction.INCOMING)
    more.setdefault("from_", FROM)
    more.setdefault("to", "222333444")
    more.setdefault("login", LOGINS.get(line or ""))
    if more.get("reason") is not None:
        more["reason_class"] = reason_class(more["reason"])
    number = more.pop("number", 0)
    return call_event(event(kind, round(at * 1_000_000), number, line=line, **more))


def new(at: float, **more: Any) -> CallEvent:
    return event_at(EventType.NEW_CALL, at, **more)


def ring(at: float, line: str | None, **more: Any) -> CallEvent:
    return event_at(EventType.RINGING, at, line, **more)


def answer(at: float, line: str | None, **more: Any) -> CallEvent:
    return event_at(EventType.ANSWERED, at, line, **more)


def hangup(
    at: float, line: str | None = None, reason: str | None = "Normal Clearing", **more: Any
) -> CallEvent:
    return event_at(EventType.HANGUP, at, line, reason=reason, **more)


def transfer(at: float, line: str | None = None, **more: Any) -> CallEvent:
    return event_at(EventType.ATTENDED_TRANSFER, at, line, **more)


def cancel(at: float, line: str | None = None, **more: Any) -> CallEvent:
    return event_at(EventType.ATTENDED_TRANSFER_CANCELLED, at, line, **more)


def cdr(at: float, **more: Any) -> CallEvent:
    return event_at(EventType.CDR, at, **more)


def call(*events: CallEvent, as_of: float | None = None) -> CallTimeline:
    """The timeline as of *as_of*, or of the last event."""
    numbered = [each._replace(event_id=f"{number:04d}") for number, each in enumerate(events)]
    as_of_us = max(each.at_us for each in events) if as_of is None else BASE_US + round(as_of * 1_000_000)
    made = timeline("voipex", CALL_ID, numbered, as_of_us)
    assert made is not None
    return made


def at(seconds: float) -> str:
    return format_rfc3339(BASE_US + round(seconds * 1_000_000))


def effects(made: CallTimeline) -> list[str]:
    return [str(each.effect) for each in made.events]


def legs(made: CallTimeline) -> list[tuple[str | None, str, str | None]]:
    """(line, role, result) of each."""
    return [(leg.line, leg.role, leg.result) for leg in made.legs]


def only(made: CallTimeline) -> Leg:
    assert len(made.legs) == 1
    return made.legs[0]


def moves(made: CallTimeline) -> list[tuple[str, str | None, str | None, str]]:
    return [(each.kind, each.from_line, each.to_line, each.confidence) for each in made.transfers]


TALK = (new(0), ring(1, "201"), answer(5, "201"))
CONSULT = (*TALK, ring(10, "202", from_="201"), answer(12, "202", from_="201"))
