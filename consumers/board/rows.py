"""Documents -> rows of a list: the fields that a list shows, under the names of the documents."""

import re
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

Json = dict[str, Any]

CALL_FIELDS: Final = (
    "pbx",
    "call_id",
    "direction",
    "from",
    "to",
    "queues",
    "status",
    "outcome",
    "last_segment_outcome",
    "started_at",
    "answered_at",
    "ended_at",
    "wait_s",
    "talk_s",
    "duration_s",
    "answered_by",
    "final_line",
    "final_login",
    "transferred",
    "monitors",
    "quality",
    "revision",
    "updated_at",
)
LEG_FIELDS: Final = (
    "leg",
    "line",
    "login",
    "queue",
    "role",
    "result",
    "ring_started_at",
    "answered_at",
    "ended_at",
    "talk_s",
    "consult_s",
    "inferred",
)
AGENT_FIELDS: Final = (
    "pbx",
    "agent",
    "login",
    "line",
    "presence",
    "availability",
    "activity",
    "state",
    "since",
    "pause_name",
    "queues",
    "current_calls",
    "ringing_calls",
    "last_event_at",
    "revision",
    "updated_at",
)
_NUMBER_FIELDS: Final = frozenset(
    {"from", "to", "from_e164", "to_e164", "number", "line", "final_line", "from_line", "to_line"}
)
"""A line may be a mobile phone."""
_TEXTS_WITH_NUMBERS: Final = frozenset({"cdr", "raw"})
_NUMBER_LISTS: Final = frozenset({"from_all", "to_all", "answered_by", "monitors"})
_AGENT_FIELD: Final = "agent"
_LINE_KEY: Final = "/line:"
"""In the name of a row in the stream: the agent is known by a line only."""
_MASK_KEY: Final = secrets.token_bytes(16)
"""Of this process: without it nobody finds a number by trying all."""
LEGS: Final = 12
"""Legs in a row; the whole call has all of them."""
_DAYS: Final = 2
_KEPT_DIGITS: Final = 3
_EXTENSION: Final = 5
_DIGIT: Final = re.compile(r"\d")


def call_row(timeline: Mapping[str, Any]) -> Json:
    """Return the row of a CallTimeline; `doubt`: whether anything in it was inferred or is not known."""
    row = {name: timeline.get(name) for name in CALL_FIELDS}
    legs = timeline.get("legs") or ()
    row["legs"] = [{name: leg.get(name) for name in LEG_FIELDS} for leg in legs[-LEGS:]]
    row["doubt"] = timeline.get("quality") != "exact"
    events = timeline.get("events") or ()
    row["last_event_at"] = events[-1]["at"] if events else timeline.get("updated_at")
    return row


def agent_row(status: Mapping[str, Any]) -> Json:
    """Return the row of an AgentStatus, with the counters of its last two days."""
    row = {name: status.get(name) for name in AGENT_FIELDS}
    days = status.get("days") or {}
    row["days"] = {date: days[date] for date in sorted(days)[-_DAYS:]}
    return row


def masked(document: Any) -> Any:
    """Return a copy without whole phone numbers: all but the last three digits are dots. Extensions stay."""
    if isinstance(document, dict):
        return {_masked_name(name): _masked_value(name, value) for name, value in document.items()}
    if isinstance(document, list):
        return [masked(each) for each in document]
    return document


def _masked_name(name: str) -> str:
    if _LINE_KEY not in name:
        return name
    pbx, _, agent = name.partition("/")
    return f"{pbx}/{_mask_agent(agent)}"


def _masked_value(name: str, value: Any) -> Any:
    if name in _TEXTS_WITH_NUMBERS:
        return None
    if name == _AGENT_FIELD and isinstance(value, str):
        return _mask_agent(value)
    if name in _NUMBER_FIELDS and isinstance(value, str):
        return mask(value)
    if name in _NUMBER_LISTS and isinstance(value, list):
        return [mask(each) for each in value]
    return masked(value)


def _mask_agent(key: str) -> str:
    """`line:777888999` -> `line:······999~5d0c21ab`: the agent of another line may have the same last digits."""
    hidden = mask(key)
    if hidden == key:
        return key
    return f"{hidden}~{blake2b(key.encode(), digest_size=4, key=_MASK_KEY).hexdigest()}"


def mask(number: str) -> str:
    """`777888999` -> `······999`; at most five digits are an extension and stay."""
    digits = len(_DIGIT.findall(number))
    if digits <= _EXTENSION:
        return number
    hidden = digits - _KEPT_DIGITS

    def dot(match: re.Match[str]) -> str:
        nonlocal hidden
        hidden -= 1
        return "·" if hidden >= 0 else match[0]

    return _DIGIT.sub(dot, number)
