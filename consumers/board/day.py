"""One local day of an agent: presence and pauses from its events, folded as the service folds them, and legs from its calls (pure)."""

from collections.abc import Iterable, Sequence

from consumers.board.rows import Json
from consumers.board.window import Entry
from consumers.explain.replay import snapshots
from consumers.explain.trace import trace_of
from voipex.events import Event, EventType, agent_key
from voipex.timestamps import format_rfc3339, parse_rfc3339


class EventsUnreadable(Exception):
    """Kafka does not give the events of the day."""


def agent_day(
    status: Json,
    calls: Iterable[Entry],
    events: Sequence[Event],
    date: str,
    bounds_us: tuple[int, int],
    now_us: int,
    time_zone: str,
) -> Json:
    """
    Return the day: `presence` (states without calls, from midnight to midnight or now), `pauses`, `legs`, and the sums of the status.

    `bounds_us`: begin and end of the local day, 23 to 25 hours. `presence` is empty for an agent who never logs in.
    """
    begin_us, end_us = bounds_us
    until_us = min(end_us, now_us)
    return {
        "agent": status["agent"],
        "pbx": status["pbx"],
        "date": date,
        "begin": format_rfc3339(begin_us),
        "end": format_rfc3339(end_us),
        "until": format_rfc3339(max(begin_us, until_us)),
        "presence": _presence(events, begin_us, until_us, time_zone),
        "pauses": [
            {"at": event.received_at, "queue": event.queue, "pause_name": event.pause_name}
            for event in events
            if event.type is EventType.AGENT_PAUSED and begin_us <= parse_rfc3339(event.received_at) < end_us
        ],
        "legs": sorted(
            (leg for entry in calls for leg in _legs(entry.row, entry.legs(), status, begin_us, end_us)),
            key=lambda leg: leg["began_at"],
        ),
        "sums": (status.get("days") or {}).get(date),
        "updated_at": status["updated_at"],
    }


def _presence(events: Sequence[Event], begin_us: int, until_us: int, time_zone: str) -> list[Json]:
    if not events or until_us <= begin_us:
        return []
    states: Sequence[tuple[str, str]] = ()
    for explanation in snapshots(trace_of(events), (until_us,), time_zone):
        for found in explanation.states.values():
            states = found
    shown: list[Json] = []
    for since, state in states:
        since_us = max(parse_rfc3339(since), begin_us)
        if since_us > until_us:
            continue
        if shown and shown[-1]["since"] == format_rfc3339(since_us):
            shown.pop()
        shown.append({"since": format_rfc3339(since_us), "state": state})
    return shown


def _legs(row: Json, legs: Sequence[Json], status: Json, begin_us: int, end_us: int) -> Iterable[Json]:
    for leg in legs:
        if not _is_of(leg, status):
            continue
        began_at = leg["ring_started_at"] or leg["answered_at"] or leg["ended_at"]
        if began_at is None:
            continue
        ended_us = end_us if leg["ended_at"] is None else parse_rfc3339(leg["ended_at"])
        if parse_rfc3339(began_at) < end_us and ended_us >= begin_us:
            yield {
                **leg,
                "call_id": row["call_id"],
                "direction": row["direction"],
                "from": row["from"],
                "to": row["to"],
                "outcome": row["outcome"],
                "quality": row["quality"],
                "began_at": began_at,
                "talk_started_at": _talk_started_at(leg, row["call_id"], status),
            }


def _is_of(leg: Json, status: Json) -> bool:
    """Whether a leg is the agent's; one that names a line and no login is by the agent's present line."""
    if leg["login"] is None and leg["line"] is not None and leg["line"] == status["line"]:
        return True
    return bool(agent_key(leg["login"], leg["line"], None) == status["agent"])


def _talk_started_at(leg: Json, call_id: str, status: Json) -> str | None:
    """When the leg got the caller; a consulted colleague got him later than he answered, and while he talks only the status says when."""
    if leg["role"] not in ("agent", "caller") or leg["answered_at"] is None:
        return None
    if leg["talk_s"] is None or leg["ended_at"] is None:
        if leg["ended_at"] is not None:
            return None
        since = [each["since"] for each in status["current_calls"] if each["call_id"] == call_id]
        return max([str(leg["answered_at"]), *map(str, since)])
    return format_rfc3339(parse_rfc3339(leg["ended_at"]) - round(leg["talk_s"] * 1e6))
