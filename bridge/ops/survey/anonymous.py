"""
Values of events -> kinds of values, so that a report can be mailed to a stranger (pure).

A number, an e-mail, a login or the name of a queue is never printed. A name that the PBX's software gives (a key, an event, a reason) is
printed only when it consists of words that belong to telephony or has the form of an identifier, and names nobody seen in the trace.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from voipex.events import Event

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_UNIQUE_ID: Final = re.compile(r"(?:.*-)?\d{9,11}\.\d+", re.DOTALL)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?.*|\d{1,2}\.\s?\d{1,2}\.\s?\d{4}.*", re.DOTALL
)
_DURATION: Final = re.compile(r"\d{1,3}:\d\d(:\d\d)?")
_EPOCH: Final = re.compile(r"1\d{9}(\d{3})?(\.\d+)?")
_EXTENSION: Final = re.compile(r"\d{1,5}", re.ASCII)
_DIALLED: Final = re.compile(r"[0-9 ()/.\-]+", re.ASCII)
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z_.-]{0,39}[0-9]{0,2}", re.ASCII)
_WORD: Final = re.compile(r"[^\W\d_]+")

_SHORTEST_NAME: Final = 3  # a shorter word of a login ("no", "de") is a word of any language

_TELEPHONY_WORDS: Final = frozenset(
    [
        "a",
        "abandoned",
        "absent",
        "accepted",
        "access",
        "after",
        "agent",
        "alerting",
        "all",
        "allowed",
        "an",
        "and",
        "announcement",
        "answer",
        "answered",
        "are",
        "at",
        "available",
        "bad",
        "barred",
        "bearer",
        "before",
        "blind",
        "busy",
        "by",
        "call",
        "called",
        "caller",
        "calls",
        "cancel",
        "canceled",
        "cancelled",
        "capability",
        "cause",
        "channel",
        "circuit",
        "class",
        "clearing",
        "complete",
        "completed",
        "conference",
        "congestion",
        "connected",
        "contact",
        "could",
        "declined",
        "denied",
        "destination",
        "device",
        "dialing",
        "dialled",
        "digit",
        "disconnect",
        "disconnected",
        "does",
        "done",
        "down",
        "elsewhere",
        "empty",
        "error",
        "exchange",
        "exist",
        "expired",
        "expiry",
        "facility",
        "failed",
        "failure",
        "far",
        "for",
        "format",
        "found",
        "gateway",
        "gone",
        "ground",
        "hangup",
        "has",
        "held",
        "here",
        "hold",
        "identified",
        "if",
        "implemented",
        "in",
        "incompatible",
        "incoming",
        "information",
        "internal",
        "interworking",
        "invalid",
        "is",
        "leg",
        "limit",
        "line",
        "local",
        "loop",
        "mailbox",
        "mandatory",
        "media",
        "member",
        "message",
        "missing",
        "moved",
        "network",
        "no",
        "none",
        "normal",
        "not",
        "number",
        "of",
        "offline",
        "on",
        "or",
        "originator",
        "other",
        "out",
        "outgoing",
        "overlap",
        "park",
        "parked",
        "party",
        "pause",
        "permanently",
        "person",
        "phone",
        "pick",
        "picked",
        "pickup",
        "preempted",
        "preemption",
        "progress",
        "prohibited",
        "protocol",
        "queue",
        "reached",
        "reason",
        "recovery",
        "redirected",
        "reference",
        "rejected",
        "release",
        "remote",
        "request",
        "requested",
        "required",
        "resource",
        "response",
        "responding",
        "restricted",
        "route",
        "routing",
        "selected",
        "sequence",
        "server",
        "service",
        "session",
        "signal",
        "specified",
        "state",
        "status",
        "subscribed",
        "subscriber",
        "success",
        "switch",
        "switching",
        "switched",
        "system",
        "temporarily",
        "temporary",
        "terminated",
        "terminating",
        "time",
        "timed",
        "timeout",
        "timer",
        "to",
        "transfer",
        "transferred",
        "transit",
        "trunk",
        "unallocated",
        "unassigned",
        "unauthorized",
        "unavailable",
        "undefined",
        "unknown",
        "unobtainable",
        "unreachable",
        "unregistered",
        "unspecified",
        "unsupported",
        "up",
        "user",
        "voice",
        "voicemail",
        "wait",
        "was",
        "while",
        "with",
        "without",
        "wrong",
    ]
)
"""Words of Asterisk's and SIP's reasons: a text that consists of them names nobody."""


_KINDS_OF_TYPES: Final = {type(None): "null", bool: "boolean", dict: "object", list: "list"}
_KINDS_OF_TEXTS: Final = (
    (re.compile(""), "blank"),
    (_EMAIL, "e-mail"),
    (_UUID, "UUID"),
    (_TIME, "time"),
    (_DURATION, "duration"),
    (_UNIQUE_ID, "UniqueId"),
    (_EPOCH, "seconds or milliseconds since 1970"),
    (_EXTENSION, "number of at most 5 digits"),
    (re.compile(r"\+[0-9 ()/.\-]+", re.ASCII), "phone number with +"),
    (_DIALLED, "number of 6 or more digits"),
    (re.compile(r"\S+"), "one word"),
)
"""The first that fits counts."""


def kind_of(value: Any) -> str:
    """Say which kind of value it is: `number of at most 5 digits`, `e-mail`, `time`, `text`, …; a blank one is `blank`."""
    kind = _KINDS_OF_TYPES.get(type(value))
    if kind is not None:
        return kind
    text = str(value).strip()
    return next((kind for pattern, kind in _KINDS_OF_TEXTS if pattern.fullmatch(text)), "text")


class People:
    """
    Everything in a trace that names a person, a number or a team, to keep it out of the report.

    `words`: the words of all logins, e-mails, queues and pauses, casefolded.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        values: set[str] = set()
        for event in events:
            for value in (event.login, event.email, event.queue, event.pause_name):
                if value is not None:
                    values.add(value)
        self._whole = frozenset(value.casefold() for value in values)
        self._words = frozenset(
            word
            for value in self._whole
            for word in _WORD.findall(value)
            if len(word) >= _SHORTEST_NAME and word not in _TELEPHONY_WORDS
        )

    def named_by(self, text: str) -> bool:
        """Whether *text* is or contains the name of somebody or something seen in the trace."""
        folded = text.casefold()
        return folded in self._whole or not self._words.isdisjoint(_WORD.findall(folded))

    def identifier(self, text: str) -> str:
        """Return the name of a key, an event or a direction, or `(no identifier)` when it could be anything."""
        name = text.strip()
        return name if _IDENTIFIER.fullmatch(name) and not self.named_by(name) else "(no identifier)"

    def phrase(self, text: str) -> str:
        """Return a reason that consists of telephony's words and small numbers, else how many words it has."""
        words = _WORD.findall(text.casefold())
        digits = sum(map(str.isdigit, text))
        if (
            words
            and digits <= 3
            and _TELEPHONY_WORDS.issuperset(words)
            and text.casefold() not in self._whole
        ):
            return " ".join(text.split())
        return f"(a text of {len(words)} word{'s' * (len(words) != 1)})"
