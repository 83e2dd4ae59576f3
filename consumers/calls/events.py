"""CallEvent: the fields of an Event that the call fold uses, in the compact form in which the private state stores them."""

import json
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from voipex.events import Direction, Event, EventType, ReasonClass
from voipex.timestamps import format_rfc3339, parse_rfc3339


class CallEvent(NamedTuple):
    """Sorts in the total order of folds: (received_at, event_id) come first, and no two events of a call share an event_id."""

    at_us: int
    event_id: str
    type: EventType
    event_name: str
    direction: Direction | None = None
    from_: str | None = None
    to: str | None = None
    from_e164: str | None = None
    to_e164: str | None = None
    line: str | None = None
    login: str | None = None
    email: str | None = None
    queue: str | None = None
    reason: str | None = None
    reason_class: ReasonClass | None = None
    pbx_started_us: int | None = None
    extra: dict[str, Any] | None = None  # of CDRs only


@lru_cache(maxsize=16384)  # a call's times are written again with each of its documents
def time_text(at_us: int) -> str:
    return format_rfc3339(at_us)


@lru_cache(maxsize=16384)  # the same for all events of a call
def _started_us(text: str) -> int:
    return parse_rfc3339(text)


def call_event(event: Event) -> CallEvent:
    """Convert an Event. Raises ValueError when one of its times is invalid."""
    return CallEvent(
        parse_rfc3339(event.received_at),
        event.event_id,
        event.type,
        event.event_name,
        event.direction,
        event.from_,
        event.to,
        event.from_e164,
        event.to_e164,
        event.line,
        event.login,
        event.email,
        event.queue,
        event.reason,
        event.reason_class,
        None if event.pbx_started_at is None else _started_us(event.pbx_started_at),
        _storable(event.extra) if event.type is EventType.CDR else None,
    )


def _storable(extra: dict[str, Any]) -> dict[str, Any]:
    """Convert integers beyond 64 bits, which a PBX may add to a CDR, to floats: orjson cannot write them."""
    try:
        orjson.dumps(extra)
    except TypeError:
        return dict(orjson.loads(json.dumps(extra)))
    return extra


_TYPES: Final = {str(value): value for value in EventType}
_DIRECTIONS: Final[dict[str | None, Direction | None]] = {
    None: None,
    **{str(value): value for value in Direction},
}
_REASONS: Final[dict[str | None, ReasonClass | None]] = {
    None: None,
    **{str(value): value for value in ReasonClass},
}


def from_state(values: list[Any]) -> CallEvent:
    """Read an event from the list that the state stores. The list is changed."""
    values[_TYPE] = _TYPES[values[_TYPE]]
    values[_DIRECTION] = _DIRECTIONS[values[_DIRECTION]]
    values[_REASON_CLASS] = _REASONS[values[_REASON_CLASS]]
    return CallEvent._make(values)


_TYPE, _DIRECTION, _REASON_CLASS = map(CallEvent._fields.index, ("type", "direction", "reason_class"))


def earlier_copy(one: CallEvent, other: CallEvent) -> CallEvent:
    """Choose one of two differing copies of an event_id, the same one in any order of arrival. Copies should not differ."""
    return min(one, other, key=lambda event: (event.at_us, orjson.dumps(event[2:])))
