"""
Every figure that the board shows of a queue, each with its definition (pure).

Figures are computed from rows, anew whenever one of a queue's rows changed, and never incremented: a revised or repeated document changes
nothing twice.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from consumers.board.rows import Json
from consumers.board.window import is_open
from voipex.timestamps import parse_rfc3339

NO_QUEUE: Final = ""
"""Queue of the calls that name none: the PBX often tells no queue."""

BARS: Final = 6
BAR_US: Final = 600_000_000

DEFINITIONS: Final[Mapping[str, str]] = {
    "logged": "agents logged in to the queue, by agent events; static members are not reported and not counted",
    "free": "of these, logged in, not paused in this queue, and without a call",
    "talking": "of these, with a call, in whatever queue",
    "paused": "of these, paused in this queue",
    "waiting": "incoming calls of this queue with status new, ringing or waiting: those that the PBX has reported",
    "longest_since": "start of the one of these that began first",
    "answered": "incoming calls begun today that somebody answered",
    "missed": "incoming calls begun today that ended unanswered",
    "within": "of the answered and missed ones, the share answered within the target time; open calls are left out",
    "wait_s": "mean wait of the answered ones whose start was seen",
    "estimated": "of the answered and missed ones, those with anything inferred",
    "partial": "of the answered and missed ones, those whose start was not seen or that went stale",
    "last_hour": "incoming calls begun in each ten minutes of the last hour: answered, and not",
}
"""Figure -> how it is computed; the pages show it beside the figure, in their language."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Now, and the local day of which figures speak: [day_start_us, …), `date` its name."""

    now_us: int
    day_start_us: int
    date: str


def queue_of(row: Mapping[str, Any]) -> str:
    """Return the queue that a call counts for: of the first leg that was answered, else the last one it was in; `""` without any."""
    for leg in row["legs"]:
        if leg["answered_at"] is not None and leg["role"] == "agent" and leg["queue"]:
            return str(leg["queue"])
    queues = row["queues"] or ()
    return str(queues[-1]) if queues else NO_QUEUE


def is_incoming(row: Mapping[str, Any]) -> bool:
    """Whether it is a call from outside; one of unknown direction is taken for one, as its outcome is."""
    return row["direction"] in (None, "incoming")


def is_missed(row: Mapping[str, Any]) -> bool:
    """Whether it ended without an answer."""
    return not is_open(row) and row["outcome"] not in ("answered", "unknown", None)


class Fact(NamedTuple):
    """What a call adds to the figures of its queue."""

    began_us: int
    began_at: str
    waiting: bool
    answered: bool
    missed: bool
    wait_s: float | None
    quality: str


def fact(row: Mapping[str, Any]) -> Fact | None:
    """Return what a call adds to the figures of its queue; None for one that is not from outside."""
    if not is_incoming(row):
        return None
    began_at = row["started_at"] or row["updated_at"]
    return Fact(
        parse_rfc3339(began_at),
        began_at,
        row["status"] in ("new", "ringing", "waiting"),
        row["outcome"] == "answered",
        is_missed(row),
        row["wait_s"],
        row["quality"],
    )


def queue_figures(
    queue: str,
    facts: Collection[Fact],
    agents: Iterable[Mapping[str, Any]],
    clock: Clock,
    target_s: float,
) -> Json:
    """Compute the row of one queue from its calls and from the rows of all agents; see DEFINITIONS."""
    counted = [each for each in facts if each.answered or each.missed]
    today = [each for each in counted if each.began_us >= clock.day_start_us]
    answered = [each for each in today if each.answered]
    waits = [each.wait_s for each in answered if each.wait_s is not None]
    bars = [[0, 0] for _ in range(BARS)]
    for each in counted:
        age = (clock.now_us - each.began_us) // BAR_US
        if 0 <= age < BARS:
            bars[BARS - 1 - age][0 if each.answered else 1] += 1
    waiting = [each.began_at for each in facts if each.waiting]
    return {
        "queue": queue,
        **_member_figures(queue, agents),
        "waiting": len(waiting),
        "longest_since": min(waiting, default=None),
        "answered": len(answered),
        "missed": len(today) - len(answered),
        "within": round(sum(wait_s <= target_s for wait_s in waits) / len(today), 4) if today else None,
        "wait_s": round(sum(waits) / len(waits), 3) if waits else None,
        "estimated": sum(each.quality == "estimated" for each in today),
        "partial": sum(each.quality == "partial" for each in today),
        "last_hour": bars,
    }


def _member_figures(queue: str, agents: Iterable[Mapping[str, Any]]) -> Json:
    """Count members; null for calls without a queue, which nobody logs in to."""
    if queue == NO_QUEUE:
        return {"logged": None, "free": None, "talking": None, "paused": None}
    logged = free = talking = paused = 0
    for row in agents:
        member = (row["queues"] or {}).get(queue)
        if member is None or not member["logged_in"]:
            continue
        logged += 1
        busy = row["activity"] != "idle"
        paused += bool(member["paused"])
        talking += busy and row["activity"] != "ringing"
        free += not busy and not member["paused"] and row["presence"] != "unknown"
    return {"logged": logged, "free": free, "talking": talking, "paused": paused}
