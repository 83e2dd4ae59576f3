"""
Query parameters of the JSON interface, declared once for those who read them and for the description (pure).

They are read strictly: a filter with a typing error would else answer with everything, or with nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from consumers.board.rows import Json
from voipex.agent_status import AgentState
from voipex.call_timeline import CallStatus, Outcome, Quality
from voipex.events import Direction
from voipex.timestamps import parse_rfc3339_in_range

PAGE: Final = 200
MOST: Final = 1000
"""Calls in one answer: without `limit`, and at most."""


class BadQuery(Exception):
    """A parameter is not known, is given twice, or cannot be read. Status 400; the text says which, and never repeats a value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter. `read` returns its value, and raises ValueError with what it must be."""

    name: str
    description: str
    schema: Json
    read: Callable[[str], Any]


def read_query(given: Iterable[tuple[str, str]], parameters: Iterable[Parameter]) -> Mapping[str, Any]:
    """
    Return the values of the parameters that are given, by name.

    Raises:
        BadQuery
    """
    known = {each.name: each for each in parameters}
    found: dict[str, Any] = {}
    for name, text in given:
        if name not in known:
            raise BadQuery(f"there is no such parameter; known are: {', '.join(known)}")
        if name in found:
            raise BadQuery(f"{name} is given twice")
        try:
            found[name] = known[name].read(text)
        except ValueError as error:
            raise BadQuery(f"{name} is {error}") from None
    return found


# ---------------------------------------------------------------- kinds of values


def _text(name: str, description: str) -> Parameter:
    return Parameter(name, description, {"type": "string"}, str)


def _one_of(name: str, description: str, *values: str) -> Parameter:
    def read(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return text

    return Parameter(name, description, {"type": "string", "enum": list(values)}, read)


def _word(name: str, description: str, words: type[StrEnum], *more: str) -> Parameter:
    return _one_of(name, description, *more, *words)


def _time(name: str, description: str) -> Parameter:
    def read(text: str) -> int:
        try:
            # A plus sign in a query means a space.
            return parse_rfc3339_in_range(text.replace(" ", "+"))
        except ValueError:
            raise ValueError("an RFC 3339 time such as 2026-03-02T08:00:00Z") from None

    return Parameter(name, description, {"type": "string", "format": "date-time"}, read)


def _count(name: str, description: str) -> Parameter:
    def read(text: str) -> int:
        if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST:
            raise ValueError(f"a number from 1 to {MOST}")
        return int(text)

    schema = {"type": "integer", "minimum": 1, "maximum": MOST, "default": PAGE}
    return Parameter(name, description, schema, read)


_NUMBER: Final = re.compile(r"[0-9]{1,6}")

# ---------------------------------------------------------------- parameters of each path

_PBX: Final = _text("pbx", "name of the PBX; else all of them")
_OF_PBX: Final = _text("pbx", "name of the PBX; else the first of the settings")

CALLS: Final = (
    _PBX,
    _text("queue", "name of the queue that the call counts for; empty: calls without one"),
    _text("agent", "agent key, login, or line of a leg"),
    _word("outcome", "of the timeline", Outcome),
    _word("quality", "of the timeline", Quality),
    _word("direction", "of the timeline", Direction),
    _word("status", "of the timeline, or `open`: neither ended nor stale", CallStatus, "open"),
    _time("since", "calls that began at this time or later"),
    _count("limit", "most rows in the answer"),
    _text("after", "`call_id` of the last row of a page: go on behind it"),
)
AGENTS: Final = (
    _PBX,
    _text("queue", "name of a queue that the agent is logged into"),
    _word("state", "of the status", AgentState),
)
QUEUES: Final = (_PBX, _text("queue", "name of the queue"))
MISSED: Final = (
    _PBX,
    _text("queue", "name of the queue of the last missed call; empty: none"),
    _time("since", "callers whose last missed call began at this time or later"),
    _one_of("open", "`true`: only callers that were not called back", "true", "false"),
)
DOCUMENT: Final = (_OF_PBX,)
NONE: Final = ()
