"""
One call of each kind of doubt: docs/contract/example-doubts.md. Each is drawn by `voipex-consumers explain`, so the page cannot drift.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from consumers.explain.drawing import Paper, draw_call
from consumers.explain.page import picture
from consumers.explain.replay import DEFAULT_TIME_ZONE, explain
from consumers.explain.trace import read_trace
from consumers.explain.view import CallView, Clock, Wanted, calls
from tools.docs.pages import MADE
from voipex.timestamps import format_rfc3339, parse_rfc3339

START_US: Final = parse_rfc3339("2026-03-02T07:00:00Z")
CALL_ID: Final = "1772434800.1"
PICTURE: Final = "example-doubt.svg"

Step = tuple[float, str, dict[str, str]]
"""Seconds since the start, EventName, and the fields that the event has beside From, To and UniqueId."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """`shows`: the rule that infers, or words of the doubt. `until_s`: as of when it is drawn, if not as of its last event."""

    title: str
    shows: str
    text: str
    steps: Sequence[Step]
    fields: dict[str, str]
    until_s: float | None = None


def _step(at_s: float, name: str, line: str = "", reason: str = "", **more: str) -> Step:
    fields = {"Line": line, "Reason": reason, **more}
    return at_s, name, {key: value for key, value in fields.items() if value}


_NEW: Final = _step(0, "NewCall")
_NORMAL: Final = "Normal Clearing"
_IN: Final = {"From": "777888999", "To": "222333444", "Direction": "incoming"}
_OUT: Final = {"From": "201", "To": "777888999", "Direction": "outgoing"}

DOUBTS: Final = (
    Doubt(
        "The other phones of a ring group",
        "4",
        "An answer ends every other attempt at once, and the Hangups of the other phones usually follow. Here that of 202 was lost.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(2.1, "Ringing", "202"),
            _step(2.2, "Ringing", "203"),
            _step(9, "Answered", "201"),
            _step(9.2, "Hangup", "203", "Answered elsewhere"),
            _step(40, "Hangup", "201", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A line that rings again",
        "3",
        "A queue rings a member again, and no Hangup came between.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(22, "Ringing", "201"),
            _step(30, "Answered", "201"),
            _step(50, "Hangup", "201", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "Click to dial",
        "3",
        "The PBX calls its own phone first. When that phone rings again, the far end rings, and the first Answered was no talk.",
        (
            _NEW,
            _step(1, "Ringing", "201"),
            _step(4, "Answered", "201"),
            _step(5, "Ringing", "201"),
            _step(25, "Hangup", "201", "User busy"),
        ),
        _OUT,
    ),
    Doubt(
        "An Answered after its Hangup",
        "4d",
        "The Answered came late. The attempt was answered at its end, and how long the talk was is not known.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(14, "Hangup", "201", _NORMAL),
            _step(14.5, "Answered", "201"),
        ),
        _IN,
    ),
    Doubt(
        "An Answered that names nobody",
        "4e",
        "Only one line rings, so it was this line.",
        (_NEW, _step(2, "Ringing", "201"), _step(9, "Answered"), _step(30, "Hangup", "201", _NORMAL)),
        _IN,
    ),
    Doubt(
        "An answer without a talk",
        "5",
        "No talk ends as `No answer`: a mobile phone did not confirm, or a mailbox answered.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(6, "Answered", "201"),
            _step(16, "Hangup", "201", "No answer"),
            _step(17, "Hangup", "", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A Hangup that came late",
        "5a",
        "One device of 202 was busy, another rang on. It rang no longer than until 201 answered, although its Hangup came 12 s later.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(2.1, "Ringing", "202"),
            _step(4, "Hangup", "202", "User busy"),
            _step(9, "Answered", "201"),
            _step(21, "Hangup", "202", "Answered elsewhere"),
            _step(40, "Hangup", "201", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A caller who waited on",
        "5b",
        "The last line left, and much later a Hangup named nobody: until then the caller waited in a queue.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(5, "Answered", "201"),
            _step(30, "Hangup", "201", _NORMAL),
            _step(75, "Hangup", "", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A Ringing after its Hangup",
        "5f",
        "The Hangup of 202 has nothing to end; the Ringing that comes right after it was over when it began.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(3, "Hangup", "202", "User busy"),
            _step(3.4, "Ringing", "202"),
            _step(8, "Answered", "201"),
            _step(40, "Hangup", "201", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A transfer by hanging up",
        "8",
        "201 consults 205 and hangs up, and no AttendedTransfer comes: 205 has the caller.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(5, "Answered", "201"),
            _step(20, "Ringing", "205", From="201", To="205"),
            _step(24, "Answered", "205", From="201", To="205"),
            _step(31, "Hangup", "201", _NORMAL),
            _step(60, "Hangup", "205", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A blind transfer",
        "9",
        "It has no event of its own. 201 left, and another line began to ring right then.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(5, "Answered", "201"),
            _step(30, "Ringing", "205"),
            _step(30.2, "Hangup", "201", _NORMAL),
            _step(36, "Answered", "205"),
            _step(60, "Hangup", "205", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A hand-over",
        "9",
        "205 begins to ring while 201 talks, and answers before 201 leaves: the caller was handed over.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(5, "Answered", "201"),
            _step(30, "Ringing", "205"),
            _step(36, "Answered", "205"),
            _step(60, "Hangup", "205", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A call that ends with its CDR",
        "10",
        "The Hangup was lost.",
        (_NEW, _step(2, "Ringing", "201"), _step(5, "Answered", "201"), _step(42, "CDR")),
        _IN,
        until_s=60,
    ),
    Doubt(
        "A call without an end",
        "12",
        "Nothing came for three minutes while it rang: the call is given up, and its agent is free.",
        (_NEW, _step(2, "Ringing", "201")),
        _IN,
        until_s=400,
    ),
    Doubt(
        "A call whose beginning was not seen",
        "no NewCall came",
        "It may have begun before the bridge was connected, or NewCall is not sent.",
        (_step(2, "Ringing", "201"), _step(5, "Answered", "201"), _step(30, "Hangup", "201", _NORMAL)),
        _IN,
    ),
    Doubt(
        "A call of which only the end was seen",
        "no start was seen",
        "The start is that in the UniqueId, which has whole seconds of another clock.",
        (_step(30, "Hangup", "", _NORMAL),),
        _IN,
    ),
    Doubt(
        "An Answered of the PBX",
        "an Answered names nobody",
        "No line rings: a queue, an announcement or a mailbox answered. It counts as no answer.",
        (_NEW, _step(1, "Answered"), _step(40, "Hangup", "", _NORMAL)),
        _IN,
    ),
    Doubt(
        "A ring that no phone endures",
        "more than 90 s",
        "It ended as normal after two minutes: probably its Answered was lost, and this was a talk.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(122, "Hangup", "201", _NORMAL),
            _step(122.5, "Hangup", "", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A pickup, or a lost Ringing",
        "answered without a ring",
        "205 answers while 201 talks, and never rang: it may have been a pickup, or its Ringing was lost.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(5, "Answered", "201"),
            _step(20, "Answered", "205"),
            _step(40, "Hangup", "205", _NORMAL),
            _step(42, "Hangup", "201", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "Another Answered of the caller",
        "answered again",
        "The caller of an outgoing call rang again while a colleague had a leg, and was answered again: one of the two was no talk.",
        (
            _NEW,
            _step(1, "Ringing", "201"),
            _step(3, "Answered", "201"),
            _step(3.2, "Ringing", "205", From="999"),
            _step(4, "Ringing", "201"),
            _step(9, "Answered", "201"),
            _step(40, "Hangup", "205", "User busy"),
            _step(42, "Hangup", "201", _NORMAL),
        ),
        _OUT,
    ),
    Doubt(
        "A local call that only its caller answers",
        "only the caller of a local call",
        "The other line never reported an answer, so it is not sure that somebody talked.",
        (
            _step(0, "NewCall", "201"),
            _step(1, "Ringing", "205", From="201", To="205"),
            _step(6, "Answered", "201", From="201", To="205"),
            _step(30, "Hangup", "", _NORMAL),
        ),
        {"From": "201", "To": "205", "Direction": "outgoingLocal"},
    ),
    Doubt(
        "An event that came too late",
        "came too late",
        "The call was over when 202 rang: the Ringing is left out.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(5, "Answered", "201"),
            _step(30, "Hangup", "", _NORMAL),
            _step(31, "Ringing", "202"),
        ),
        _IN,
    ),
    Doubt(
        "A ring after a Hangup of the same line",
        "nothing to end",
        "A Hangup of 202 came first. The attempt goes on, but its Hangup may be the one that came before.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(3, "Hangup", "202", "User busy"),
            _step(30, "Ringing", "202"),
            _step(34, "Answered", "202"),
            _step(60, "Hangup", "202", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A ring during a talk",
        "a line began to ring while another talked",
        "205 rang while 201 talked and was not answered: a transfer that failed, or a Ringing of another call's phone.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(5, "Answered", "201"),
            _step(20, "Ringing", "205"),
            _step(29, "Hangup", "205", "No answer"),
            _step(42, "Hangup", "201", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A device that was busy twice",
        "delivered twice",
        "Two devices of 201 may have been busy, or one Hangup was delivered twice.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(4, "Hangup", "201", "User busy"),
            _step(4.5, "Hangup", "201", "User busy"),
            _step(9, "Hangup", "", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A ring right after a dead device",
        "Ringing delivered twice",
        "One device of 201 was dead. The second Ringing may be that of another device, or the first one delivered twice.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(2.3, "Hangup", "201", "Subscriber absent"),
            _step(2.9, "Ringing", "201"),
            _step(9, "Answered", "201"),
            _step(40, "Hangup", "201", _NORMAL),
        ),
        _IN,
    ),
    Doubt(
        "A CDR long after the end",
        "a CDR long after the end",
        "The caller may have waited on after 201 had left: then the CDR came before the Hangup that ended it.",
        (
            _NEW,
            _step(2, "Ringing", "201"),
            _step(5, "Answered", "201"),
            _step(30, "Hangup", "201", _NORMAL),
            _step(75, "CDR"),
            _step(85, "Hangup", "", _NORMAL),
        ),
        _IN,
    ),
)


def trace_of(doubt: Doubt) -> bytes:
    """The call as JSON lines."""
    lines = []
    for at_s, name, fields in doubt.steps:
        body: dict[str, Any] = {"EventName": name, "UniqueId": CALL_ID, **doubt.fields, **fields}
        lines.append(
            orjson.dumps({"received_at": format_rfc3339(START_US + round(at_s * 1_000_000)), "body": body})
        )
    return b"\n".join(lines)


def view_of(doubt: Doubt) -> CallView:
    as_of_us = None if doubt.until_s is None else START_US + round(doubt.until_s * 1_000_000)
    (call,) = calls(explain(read_trace(trace_of(doubt).splitlines()), as_of_us), Wanted())
    return call


_INTRODUCTION: Final = f"""What an event says is *reported*. What only follows from other events is *inferred*, by a [rule of the call fold](../call-rules.md), and a
document with anything inferred never calls itself `exact`. Below is one call of each kind of doubt, as `voipex-consumers explain` draws it:
░ rings, █ talks with the caller, ▒ is consulted. A sign in a lane marks an inferred value, and the line with that sign names the rule and
the event it follows from; all else is reported by the event of the list that names it. `doubt` is what makes a document less than
exact although nothing in it is inferred.

The same with `--html`: ![the first call below as a picture]({PICTURE})"""


def page() -> str:
    paper = Paper(110)
    clock = Clock(DEFAULT_TIME_ZONE)
    parts = ["# One call of each kind of doubt", MADE, _INTRODUCTION]
    for doubt in DOUBTS:
        drawing = "\n".join(line.rstrip() for line in draw_call(view_of(doubt), paper, clock))
        parts += [f"## {doubt.title}", doubt.text, f"```\n{drawing}\n```"]
    return "\n\n".join(parts) + "\n"


def doubt_picture() -> str:
    return picture(view_of(DOUBTS[0]), Clock(DEFAULT_TIME_ZONE))
