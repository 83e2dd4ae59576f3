"""
Archive: agent events, legs and claims that are over, as lines of bytes, which are rarely read again.

A line is a JSON array after a line break, so that it is found by its beginning: `[event_id,`, `[leg,call_id,` or `[null,claim_id,`. Three bytes
for each line (its trace) form a membership filter without false negatives: lines are read only if they probably hold the name.
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final
from zlib import crc32

import orjson

from consumers.agents.legs import CALLER, Leg, LegKey
from consumers.agents.lines import Claim
from consumers.agents.presence import AgentEvent
from voipex.agent_activity import LegResult, LegRole

TRACE_BYTES: Final = 3

_ROLES: Final = tuple(role.value for role in LegRole)
_RESULTS: Final = (None, *(result.value for result in LegResult))
"""By place, as lines name them: a change is a new FOLD_VERSION."""

_SHOWN_ONLY: Final = slice(16, 18)
"""Places of direction and number among the values of a leg: they are shown of calls that go on only."""

_CALL_ANSWERED: Final = 18
"""Place of call_answered_us: it matters only whether that was before the ring."""

_FORWARDING: Final = slice(19, 22)
"""Places of forwarded, owner and is_sent."""


_times_of: Final = attrgetter(
    "ring_us", "answered_us", "talk_us", "ended_us", "transferred_us", "call_answered_us"
)


def mark_of_event(event_id: str) -> bytes:
    return b"\n[%b," % orjson.dumps(event_id)


def mark_of_leg(leg: int, call_id: str) -> bytes:
    return b"\n[%d,%b," % (leg, orjson.dumps(call_id))


def mark_of_claim(claim_id: str) -> bytes:
    return b"\n[null,%b," % orjson.dumps(claim_id)


def mark_of_caller(call_id: str) -> bytes:
    """In the line of a leg of role caller: its attempts count by call."""
    return b",%b," % orjson.dumps(call_id)


def line_in(lines: bytes, mark: bytes) -> bytes:
    """Return the line that has *mark*, with its line break."""
    at = lines.index(mark)
    start, end = lines.rfind(b"\n", 0, at + 1), lines.find(b"\n", at + 1)
    return lines[start:] if end < 0 else lines[start:end]


def trace_of(mark: bytes) -> bytes:
    return (crc32(mark) & 0xFFFFFF).to_bytes(TRACE_BYTES)


def traces_of(lines: bytes) -> bytes:
    """Of each line one; of a caller's leg another one, by its call."""
    traces = []
    for kept in _parsed(lines):
        if type(kept[0]) is str:
            traces.append(trace_of(mark_of_event(kept[0])))
        elif kept[0] is None:
            traces.append(trace_of(mark_of_claim(kept[1])))
        else:
            traces.append(trace_of(mark_of_leg(kept[0], kept[1])))
            if _ROLES[kept[4]] == CALLER:
                traces.append(trace_of(mark_of_caller(kept[1])))
    return b"".join(traces)


# ---------------------------------------------------------------- lines


def lines_of(events: Iterable[AgentEvent], legs: Iterable[Leg], claims: Iterable[Claim]) -> bytes:
    kept: list[tuple[Any, ...]] = [(event_id, at_us, *rest) for at_us, event_id, *rest in events]
    kept += [_kept_leg(leg) for leg in legs]
    kept += [(None, claim_id, at_us, *rest) for at_us, claim_id, *rest in claims]
    return b"".join([b"\n" + orjson.dumps(each) for each in kept])


def _kept_leg(leg: Leg) -> tuple[Any, ...]:
    from_us = leg.last_event_us  # times count from here, which makes them short
    return (
        leg.leg,
        leg.call_id,
        leg.revision,
        int(leg.removed),
        _ROLES.index(leg.role),
        _RESULTS.index(leg.result),
        from_us,
        *[None if at_us is None else at_us - from_us for at_us in _times_of(leg)],
        leg.queue,
        leg.login,
        leg.line,
        leg.email,
        leg.forwarded,
        leg.owner,
    )


def read(lines: bytes) -> tuple[dict[str, AgentEvent], dict[LegKey, Leg], dict[str, Claim]]:
    """Return what lines tell, by name."""
    events: dict[str, AgentEvent] = {}
    legs: dict[LegKey, Leg] = {}
    claims: dict[str, Claim] = {}
    for kept in _parsed(lines):
        if type(kept[0]) is str:
            event_id, at_us, *rest = kept
            events[event_id] = AgentEvent(at_us, event_id, *rest)
        elif kept[0] is None:
            _, claim_id, at_us, *rest = kept
            claims[claim_id] = Claim(at_us, claim_id, *rest)
        else:
            legs[kept[1], kept[0]] = _leg_of(kept)
    return events, legs, claims


def _parsed(lines: bytes) -> list[list[Any]]:
    parsed: list[list[Any]] = orjson.loads(b"[%b]" % lines[1:].replace(b"\n", b","))
    return parsed


def _leg_of(kept: list[Any]) -> Leg:
    leg, call_id, revision, removed, role, result, from_us = kept[:7]
    times = [None if after_us is None else from_us + after_us for after_us in kept[7:13]]
    queue, login, line, email, forwarded, owner = kept[13:]
    values: list[Any] = [leg, call_id, revision, bool(removed), _ROLES[role], *times[:4], _RESULTS[result]]
    values += [times[4], from_us, queue, login, line, email, None, None]
    values += [times[5], forwarded, owner, owner is not None]
    return Leg(*values)


def as_kept(leg: Leg) -> list[Any]:
    """What of a leg makes a difference once it is over, but for its key."""
    values = list(leg.to_json())
    values[_CALL_ANSWERED] = leg.rings_unanswered_call
    del values[_FORWARDING], values[_SHOWN_ONLY], values[:3]
    return values
