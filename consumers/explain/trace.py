"""
Read a recorded trace: JSON lines, in any order.

Each line is one of these. `pbx` may be missing (`voipex`), and so may `event_id`: it is then made from the time and the place among lines
of the same time.

    {"received_at": "2026-03-02T08:00:00Z", "pbx": "voipex", "event_id": "…", "body": {…} or "raw text"}     as the PBX sent it
    an Event, as read from `<pbx>.call.events.v1` or `<pbx>.agent.events.v1`
    {"topic": "…", "value": an Event, …}     as `voipex-bridge tail` prints it

Numbers keep their text while a line is read: the body's number `1412256225.1940`, read and written again, would lose the last 0.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from voipex.errors import InvalidWebhook
from voipex.events import Event, agent_key
from voipex.normalize import NormalizedEvent, Receipt, normalize
from voipex.records import decode, encode
from voipex.timestamps import format_rfc3339, parse_rfc3339
from voipex.topics import CALL_EVENTS, TopicSpec
from voipex.webhook import parse

DEFAULT_PBX: Final = "voipex"

_EARLIEST_US: Final = 0
_LATEST_US: Final = parse_rfc3339(
    "9000-01-01T00:00:00Z"
)  # the folds add deadlines, which must be valid times too

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that cannot be used. Lines count from 1."""

    line: int
    why: str


class Received(NamedTuple):
    """
    An event in its topic, when it was received (in microseconds), and its line in the trace.

    It holds the event as bytes, in a third of the memory of an `Event`: a trace may have a hundred thousand of them.
    """

    at_us: int
    event_id: str
    pbx: str
    kind: TopicSpec
    key: str
    value: bytes
    line: int = 0

    @property
    def event(self) -> Event:
        return decode(self.value)


@dataclass(frozen=True, slots=True)
class Trace:
    """`received` is in the total order of the folds: (received_at, event_id). A list, so that its memory can be given back (`explain`)."""

    received: list[Received]
    rejected: tuple[Rejected, ...]
    end_us: int | None
    """When the last event was received, also one of another call than the one that was asked for; None: no line can be used."""


class _InvalidLine(Exception):
    """Says why a line is rejected; never leaves this module."""


def read_trace(lines: Iterable[bytes], call_id: str | None = None) -> Trace:
    """Read every line; one that cannot be used is rejected and does not stop the others. *call_id*: keep the events of this call only."""
    received: list[Received] = []
    rejected: list[Rejected] = []
    unnamed: Counter[int] = Counter()
    end_us: int | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            one = _read(line, number, unnamed)
            end_us = one.at_us if end_us is None else max(end_us, one.at_us)
            if call_id is None or (one.key == call_id and one.kind is CALL_EVENTS):
                received.append(one)
        except (_InvalidLine, InvalidWebhook) as error:
            rejected.append(Rejected(number, str(error)))
    received.sort(key=_order)
    return Trace(received, tuple(rejected), end_us)


def _order(received: Received) -> tuple[int, str]:
    """The total order of the folds."""
    return received[:2]


def _read(line: bytes, number: int, unnamed: Counter[int]) -> Received:
    members = _parse(line)
    if "value" in members and "topic" in members:
        members = _object(members["value"])
    at_us = _received_at(members)
    if "body" not in members:
        return received_of(_event(members, at_us), number)
    pbx = _text(members, "pbx") or DEFAULT_PBX
    event_id = _text(members, "event_id")
    webhook = parse(_body(members["body"]))
    if event_id is None:
        event_id = made_up_id(at_us, unnamed[at_us])
        unnamed[at_us] += 1
    event = normalize(webhook, pbx, Receipt(at_us, format_rfc3339(at_us), event_id))
    return _received(at_us, event, number)


def received_of(event: Event, line: int = 0) -> Received:
    """Raises ValueError when the event has no key, or no time."""
    return _received(parse_rfc3339(event.received_at), NormalizedEvent.from_event(event), line)


def compact(value: bytes) -> bytes:
    """A copy of bytes that orjson made: its own occupy 8 KB, however short they are."""
    return bytes(memoryview(value))


def _received(at_us: int, event: NormalizedEvent, line: int) -> Received:
    fields = event.fields
    known = NormalizedEvent(
        event.kind, event.key, {name: each for name, each in fields.items() if each is not None}
    )
    value = compact(encode(known, at_us // 1000, partitions=1).value)
    return Received(at_us, fields["event_id"], fields["pbx"], event.kind, event.key, value, line)


def trace_of(events: Iterable[Event]) -> Trace:
    """Make a trace of events that were read from their topics, copies of one event_id once."""
    received: dict[str, Received] = {}
    for event in events:
        one = received_of(event)
        received.setdefault(one.event_id, one)
    ordered = sorted(received.values(), key=_order)
    return Trace(ordered, (), ordered[-1].at_us if ordered else None)


_DECODER: Final = json.JSONDecoder(
    strict=False, parse_float=orjson.Fragment, parse_int=orjson.Fragment, parse_constant=orjson.Fragment
)
"""Keeps the text of numbers, for orjson to write them as they were."""


def _parse(line: bytes) -> Json:
    try:
        document = _DECODER.decode(line.decode("utf-8-sig").strip())
    except (ValueError, RecursionError) as error:
        raise _InvalidLine("no JSON") from error
    return _object(document)


def _object(value: Any) -> Json:
    if type(value) is not dict:
        raise _InvalidLine("no JSON object")
    return value


def _text(members: Json, name: str) -> str | None:
    """Return a member that must be text; None when it is missing, null or blank: not known."""
    value = members.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str) or not _is_utf8(value):
        raise _InvalidLine(f"{name} is no text")
    return value


def _is_utf8(text: str) -> bool:
    """Return False for a lone surrogate, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _received_at(members: Json) -> int:
    text = _text(members, "received_at")
    if text is None:
        raise _InvalidLine("no received_at")
    try:
        return moment_us(text)
    except ValueError as error:
        raise _InvalidLine(f"received_at is {error}") from error


def moment_us(text: str) -> int:
    """Parse ISO 8601 with any offset into microseconds. Raises ValueError with a predicate: "received_at is …"."""
    try:
        at_us = parse_rfc3339(text.strip())
    except (ValueError, OverflowError) as error:
        raise ValueError("no ISO 8601 time with an offset") from error
    if not _EARLIEST_US <= at_us < _LATEST_US:
        raise ValueError("no time between 1970 and 9000")
    return at_us


def _body(value: Any) -> bytes:
    """Return the webhook's body: the text of a string, anything else as JSON."""
    return value.encode(errors="replace") if isinstance(value, str) else _json(value)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:  # a lone surrogate, or nested too deeply
        raise _InvalidLine("JSON that cannot be written as UTF-8") from error


def _event(members: Json, at_us: int) -> Event:
    if "type" not in members:
        raise _InvalidLine("neither a webhook nor an Event")
    try:
        event = Event.model_validate_json(_json(members))
    except ValidationError as error:
        wrong = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors()}))
        raise _InvalidLine(f"no Event: {wrong}") from error
    if event.unique_id is None and not (
        event.type.is_agent and agent_key(event.login, event.line, event.email) is not None
    ):
        raise _InvalidLine("no UniqueId, and no agent to key it by")
    return event.model_copy(update={"received_at": format_rfc3339(at_us)})


def made_up_id(at_us: int, place: int) -> str:
    """Make an event_id for a line without one: shaped as a UUIDv7, it sorts by time and then by place."""
    milliseconds, us = divmod(at_us, 1000)
    value = milliseconds << 80 | 0x7 << 76 | us << 66 | 0b10 << 62 | place
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
