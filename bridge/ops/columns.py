"""A record as one line for people: time, key, type, and the words that matter. `tail` prints it on a terminal."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from bridge.ops.reader import ConsumerRecord


class Row(NamedTuple):
    """One line. `style` is that of `type` and `state`, as rich names it; nothing is escaped yet."""

    time: str
    key: str
    type: str
    state: str
    """Status of a call, state of an agent, class of a dead letter; empty for events."""
    words: str
    style: str


def row(record: ConsumerRecord) -> Row:
    """Read what matters from any record; what it is not known to be is shown by its size. The time is local."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    time = datetime.fromtimestamp(record.timestamp_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    key = "-" if record.key is None else record.key.decode(errors="backslashreplace")
    value = record.value or b""
    if "bridge-error-class" in headers:
        words = (
            f"{headers.get('bridge-error-message', '')} ({headers.get('bridge-stage', '?')}, {len(value)} bytes)",
        )
        return Row(time, key, "dead letter", headers["bridge-error-class"], _join(words), "red")
    if record.value is None:
        return Row(time, key, "deleted", "", "", "dim")
    kind = headers.get("ce_type", "").removeprefix("voipex.").removesuffix(".v1")
    fields = _fields(value)
    if not kind or fields is None:
        return Row(time, key, kind or "record", "", f"{len(value)} bytes", "dim")
    state_field, words_of = _DOCUMENTS.get(kind, (None, _event))
    state = str(fields.get(state_field) or "") if state_field else ""
    name = kind.partition(".")[2] or kind
    return Row(time, key, name, state, _join(words_of(fields)), _STYLES.get(state or name, "cyan"))


def _fields(value: bytes) -> Mapping[str, Any] | None:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _join(words: Any) -> str:
    return "  ".join(each for each in words if each)


def _parties(fields: Mapping[str, Any]) -> str:
    caller, called = fields.get("from"), fields.get("to")
    return f"{caller or '?'} → {called or '?'}" if caller or called else ""


def _named(label: str, value: Any) -> str:
    return f"{label} {value}" if value not in (None, "", [], {}) else ""


def _event(fields: Mapping[str, Any]) -> Iterator[str]:
    yield _parties(fields)
    yield _named("line", fields.get("line"))
    yield str(fields.get("login") or fields.get("email") or "")
    yield _named("queue", fields.get("queue"))
    yield str(fields.get("direction") or "")
    yield _named("pause", fields.get("pause_name"))
    yield str(fields.get("reason") or "")


def _timeline(fields: Mapping[str, Any]) -> Iterator[str]:
    outcome = fields.get("outcome")
    yield str(outcome) if outcome and outcome != fields.get("status") else ""
    yield _parties(fields)
    yield _named("queue", ", ".join(fields.get("queues") or ()))
    yield _named("answered by", ", ".join(fields.get("answered_by") or ()))
    for label in ("wait", "talk"):
        seconds = fields.get(f"{label}_s")
        yield f"{label} {seconds:.0f} s" if isinstance(seconds, int | float) and seconds else ""
    yield str(fields.get("quality") or "")
    yield _named("revision", fields.get("revision"))


def _activity(fields: Mapping[str, Any]) -> Iterator[str]:
    yield str(fields.get("role") or "")
    yield _named("call", fields.get("call_id"))
    yield _named("with", fields.get("number"))
    yield _named("queue", fields.get("queue"))
    yield "removed" if fields.get("removed") else ""


def _status(fields: Mapping[str, Any]) -> Iterator[str]:
    yield _named("line", fields.get("line"))
    yield _named("queue", ", ".join(fields.get("queues") or ()))
    yield _named("pause", fields.get("pause_name"))
    for label, name in (("in call", "current_calls"), ("ringing for", "ringing_calls")):
        calls = fields.get(name) or ()
        yield _named(label, ", ".join(str(each.get("call_id")) for each in calls))
    yield _named("revision", fields.get("revision"))


_DOCUMENTS: Final[dict[str, tuple[str, Callable[[Mapping[str, Any]], Iterator[str]]]]] = {
    "call.timeline": ("status", _timeline),
    "agent.activity": ("result", _activity),
    "agent.status": ("state", _status),
}
_STYLES: Final = {
    "ringing": "yellow",
    "waiting": "yellow",
    "new": "yellow",
    "answered": "green",
    "talking": "green",
    "on_call": "green",
    "available": "green",
    "hangup": "magenta",
    "ended": "magenta",
    "paused": "yellow",
    "partially_paused": "yellow",
    "stale": "red",
    "unknown": "red",
    "offline": "dim",
}
