"""
Read a recorded trace: JSON lines, in any order.

Each is one of these, where `pbx` may be missing (`voipex`), and `event_id` too: it is then made from the time, and the place among
lines of the same time.

    {"received_at": "2026-03-02T08:00:00Z", "pbx": "voipex", "event_id": "…", "body": {…} or "raw text"}     as the PBX sent it
    an Event of ours, as read from `<pbx>.call.events.v1` or `<pbx>.agent.events.v1`
    {"topic": "…", "value": an Event of ours, …}     as `voipex-bridge tail` prints it
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from voipex.errors import InvalidWebhook
from voipex.events import Event, agent_key
from voipex.normalize import Receipt, normalize
from voipex.timestamps import microseconds, rfc3339
from voipex.webhook import parse

DEFAULT_PBX: Final = "voipex"

_EARLIEST_US: Final = 0
_LATEST_US: Final = microseconds(
    "9000-01-01T00:00:00Z"
)  # deadlines of folds must still be times that can be written


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that could not be used. Lines count from 1."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Received:
    """An event at the moment of its receipt."""

    at_us: int
    event: Event


@dataclass(frozen=True, slots=True)
class Trace:
    """`received` is in the total order of folds: (received_at, event_id)."""

    received: tuple[Received, ...]
    rejected: tuple[Rejected, ...]


class _Unreadable(Exception):
    """Says why a line is rejected; never leaves this module."""


def read_trace(lines: Iterable[bytes]) -> Trace:
    """Read every line; those that cannot be used are told, and do not keep the others from being folded."""
    received: list[Received] = []
    rejected: list[Rejected] = []
    unnamed: Counter[int] = Counter()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            received.append(_read(line, unnamed))
        except (_Unreadable, InvalidWebhook) as fault:
            rejected.append(Rejected(number, str(fault)))
    received.sort(key=lambda each: each.event.order)
    return Trace(tuple(received), tuple(rejected))


def _read(line: bytes, unnamed: Counter[int]) -> Received:
    members = _members(line)
    if "value" in members and "topic" in members:
        members = _members(members["value"].encode())
    at_us = _received_at(members)
    if "body" not in members:
        return Received(at_us, _event_of_ours(members, at_us))
    pbx = _text(members, "pbx") or DEFAULT_PBX
    event_id = _text(members, "event_id")
    webhook = parse(_body(members["body"]))
    if event_id is None:
        event_id = made_up_id(at_us, unnamed[at_us])
        unnamed[at_us] += 1
    return Received(at_us, normalize(webhook, pbx, Receipt(at_us, rfc3339(at_us), event_id)))


def _members(line: bytes) -> dict[str, str]:
    """
    Members of the object in a line, each as the JSON text that stands there.

    A body must reach `parse` as it was sent: its number `1412256225.1940` read and written again would lose the last 0.
    """
    try:
        text = line.decode("utf-8-sig").strip()
        if type(json.loads(text, strict=False)) is not dict:
            raise _Unreadable("no JSON object")
    except (ValueError, RecursionError) as fault:
        raise _Unreadable("no JSON") from fault
    decoder = json.JSONDecoder(strict=False)
    members = {}
    at = text.index("{") + 1
    while (at := _past(text, at, " \t\r\n,")) < len(text) and text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        start = _past(text, at, " \t\r\n:")
        _, at = decoder.raw_decode(text, start)
        members[name] = text[start:at]
    return members


def _past(text: str, at: int, skipped: str) -> int:
    while at < len(text) and text[at] in skipped:
        at += 1
    return at


def _value(members: dict[str, str], name: str) -> Any:
    return json.loads(members.get(name, "null"), strict=False)


def _text(members: dict[str, str], name: str) -> str | None:
    """A member that must be text; missing, null and blank are all "not known"."""
    value = _value(members, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str) or not _is_utf8(value):
        raise _Unreadable(f"{name} is no text")
    return value


def _is_utf8(text: str) -> bool:
    """False with a lone surrogate, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _received_at(members: dict[str, str]) -> int:
    text = _text(members, "received_at")
    if text is None:
        raise _Unreadable("no received_at")
    try:
        return moment_us(text)
    except ValueError as fault:
        raise _Unreadable(f"received_at is {fault}") from fault


def moment_us(text: str) -> int:
    """ISO 8601, with any offset -> microseconds. Raises ValueError, with what is wrong: "received_at is …"."""
    try:
        at_us = microseconds(text.strip())
    except (ValueError, OverflowError) as fault:
        raise ValueError("no ISO 8601 time with an offset") from fault
    if not _EARLIEST_US <= at_us < _LATEST_US:
        raise ValueError("no time between 1970 and 9000")
    return at_us


def _body(member: str) -> bytes:
    """An object as it stands there, or the text that stands for the raw body."""
    if not member.startswith('"'):
        return member.encode(errors="replace")
    return str(json.loads(member, strict=False)).encode(errors="replace")


def _event_of_ours(members: dict[str, str], at_us: int) -> Event:
    if "type" not in members:
        raise _Unreadable("neither a body nor an Event of ours")
    try:
        event = Event.model_validate({name: _value(members, name) for name in members})
    except ValidationError as fault:
        wrong = ", ".join(sorted({".".join(map(str, error["loc"])) for error in fault.errors()}))
        raise _Unreadable(f"no Event: {wrong}") from fault
    if event.unique_id is None and not (
        event.type.is_agent and agent_key(event.login, event.line, event.email) is not None
    ):
        raise _Unreadable("no UniqueId, and no agent to key it by")
    return event.model_copy(update={"received_at": rfc3339(at_us)})


def made_up_id(at_us: int, place: int) -> str:
    """An event_id for a line without one: shaped as a UUIDv7, it sorts by time and then by place."""
    milliseconds, us = divmod(at_us, 1000)
    value = milliseconds << 80 | 0x7 << 76 | us << 66 | 0b10 << 62 | place
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
