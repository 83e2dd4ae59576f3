"""Calls from outside that nobody answered, or who were lost after a talk -> one row per caller (pure)."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from consumers.board.figures import is_incoming, is_missed
from consumers.board.rows import Json
from consumers.board.window import is_open

_CALLS: Final = 20
"""Calls that a row names; `tries` counts all."""


def other_party(row: Mapping[str, Any]) -> str | None:
    """Return the number outside: of the caller, on an outgoing call of the called."""
    number = row["to"] if row["direction"] == "outgoing" else row["from"]
    return None if number is None else str(number)


def caller_key(row: Mapping[str, Any]) -> str:
    """Group calls by the number outside, without spaces and country code (9 digits in the end); without a number each is its own."""
    number = other_party(row)
    if number is None:
        return f"call {row['pbx']} {row['call_id']}"
    digits = "".join(char for char in number if char.isdigit())
    return f"{row['pbx']} {digits[-_NATIONAL:] if len(digits) >= _NATIONAL else number.strip()}"


_NATIONAL: Final = 9


def is_lost(row: Mapping[str, Any]) -> bool:
    """Whether the caller was talked to and then left waiting until the end: parked, or in another queue."""
    return not is_open(row) and row["outcome"] == "answered" and row["last_segment_outcome"] == "missed"


def missed_row(rows: Iterable[Mapping[str, Any]]) -> Json | None:
    """
    Return the row of one caller from the rows of all calls with that number; None when the caller missed nobody.

    `called_back`: the first answered call with the number, in either direction, that was answered after the last missed one began.
    """
    calls = sorted(rows, key=_start)
    missed = [row for row in calls if is_incoming(row) and (is_missed(row) or is_lost(row))]
    if not missed:
        return None
    last = missed[-1]
    since = _start(last)
    back = next(
        (
            row
            for row in calls
            if row["outcome"] == "answered"
            and not is_lost(row)
            and row["answered_at"] is not None
            and row["answered_at"] > since
            and row is not last
        ),
        None,
    )
    return {
        "pbx": last["pbx"],
        "number": other_party(last),
        "tries": len(missed),
        "first_at": _start(missed[0]),
        "last_at": since,
        "queue": (last["queues"] or [None])[-1],
        "waited_s": _waited_s(last),
        "lost_after_talk": is_lost(last),
        "doubt": any(row["doubt"] for row in missed),
        "calls": [row["call_id"] for row in missed[-_CALLS:]],
        "called_back": None
        if back is None
        else {
            "call_id": back["call_id"],
            "at": back["answered_at"],
            "direction": back["direction"],
            "by": back["final_login"] or back["final_line"],
            "doubt": back["doubt"],
        },
    }


def _waited_s(row: Mapping[str, Any]) -> float | None:
    """How long the caller waited in a call that nobody answered; None when that is not known."""
    return None if is_lost(row) else row["duration_s"]


def _start(row: Mapping[str, Any]) -> str:
    return str(row["started_at"] or row["updated_at"])
