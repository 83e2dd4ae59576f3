"""
Legs: the register of activity records, one entry per (call, leg) with its highest revision, and their meaning for the agent.

A leg is cut into phases: ringing, talking, consulting, monitoring. The rules of contract 5 are in `phases` (activity of an agent) and
`outcome_of` (what a finished leg counts for).
"""

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

from voipex.agent_activity import LegResult, LegRole
from voipex.agent_status import Activity
from voipex.events import Direction

AGENT, CALLER, CONSULT, MONITOR = (
    role.value for role in (LegRole.AGENT, LegRole.CALLER, LegRole.CONSULT, LegRole.MONITOR)
)
ROLES: Final = frozenset(role.value for role in LegRole)
RESULTS: Final = frozenset({None, *(result.value for result in LegResult)})
DIRECTIONS: Final = frozenset({None, *(direction.value for direction in Direction)})
_TIMEOUT: Final = LegResult.TIMEOUT.value
_TRANSFERRED: Final = LegResult.TRANSFERRED.value
_ANSWERED_ELSEWHERE: Final = LegResult.ANSWERED_ELSEWHERE.value
_MISSED: Final = frozenset({LegResult.NO_ANSWER.value, LegResult.BUSY.value, LegResult.REJECTED.value})


LegKey = tuple[str, int]
"""(call_id, leg)."""


# Mutable for speed (a frozen __init__ takes four times as long): nothing changes one.
@dataclass(slots=True, eq=False)
class Leg:
    """An AgentActivity in microseconds; (call_id, leg) is its key."""

    leg: int
    call_id: str
    revision: int
    removed: bool
    role: str
    ring_us: int | None
    answered_us: int | None
    talk_us: int | None
    ended_us: int | None
    result: str | None
    transferred_us: int | None
    last_event_us: int
    queue: str | None
    login: str | None
    line: str | None
    email: str | None
    direction: str | None
    number: str | None
    start_us: int = field(init=False)
    """The first moment of the agent's part in the call; a removed leg has none but that of its last event."""
    latest_us: int = field(init=False)
    """The last moment that the leg tells of so far, not before its start."""

    def __post_init__(self) -> None:
        self.start_us = self.latest_us = self.last_event_us
        if self.removed:
            return
        ring_us, answered_us, ended_us = self.ring_us, self.answered_us, self.ended_us
        if ring_us is not None and (answered_us is None or ring_us <= answered_us):
            self.start_us = ring_us
        elif answered_us is not None:
            self.start_us = answered_us
        elif ended_us is not None and ended_us < self.last_event_us:
            self.start_us = ended_us
        for at_us in (self.start_us, answered_us, self.talk_us, ended_us):
            if at_us is not None and at_us > self.latest_us:
                self.latest_us = at_us

    def to_json(self) -> tuple[Any, ...]:
        """All but what follows from the rest, in the order of `__init__`."""
        return _values_of_leg(self)

    @property
    def is_open(self) -> bool:
        return self.ended_us is None and not self.removed

    @property
    def end_us(self) -> int | None:
        """Its end, not before its start."""
        return None if self.ended_us is None else max(self.ended_us, self.start_us)


_values_of_leg: Final = attrgetter(*(each.name for each in fields(Leg) if each.init))


# Mutable for speed, likewise.
@dataclass(slots=True, eq=False)
class Phase:
    """Part of a leg, until the next one or the leg's end."""

    leg: Leg
    activity: str
    start_us: int
    since_us: int
    """What to show as its beginning: a caller is on the call from its ring."""
    talks: bool
    """Counts for talk_s."""
    rings: bool
    """Counts for ring_s."""
    answers: bool
    """Begins with the answer."""


def precedence_of(phase: Phase) -> tuple[int, int, str, int]:
    """The greatest wins when several run at once: on_call (begun last), monitoring, consulting, ringing."""
    return _PRECEDENCE[phase.activity], phase.since_us, phase.leg.call_id, phase.leg.leg


IDLE, RINGING, ON_CALL_IN, ON_CALL_OUT, CONSULTING, MONITORING = (activity.value for activity in Activity)
_PRECEDENCE: Final = {ON_CALL_IN: 3, ON_CALL_OUT: 3, MONITORING: 2, CONSULTING: 1, RINGING: 0}


def phases(leg: Leg) -> list[Phase]:
    """
    Cut a leg into what its agent did, the first part from its start.

    agent: ringing, then on_call_in; consult: ringing, consulting; caller: on_call_out from its ring; monitor: monitoring.
    A consulted colleague who took the call over consulted from its answer until it got the caller.
    """
    start_us, end_us, role = leg.start_us, leg.end_us, leg.role
    if role == MONITOR:
        return [_phase(leg, MONITORING, start_us)]
    calls = role == CALLER
    if leg.answered_us is None:
        activity = ON_CALL_OUT if calls else RINGING
        return [_phase(leg, activity, start_us, rings=not calls and leg.result != _TIMEOUT)]
    answered_us = _within(leg.answered_us, start_us, end_us)
    if role == CONSULT:
        return [_phase(leg, RINGING, start_us, rings=True), _phase(leg, CONSULTING, answered_us)]
    talks_us = answered_us if leg.talk_us is None else _within(leg.talk_us, answered_us, end_us)
    talks = leg.result != _TIMEOUT
    if talks_us > answered_us:
        return [
            _phase(leg, RINGING, start_us, rings=not calls),
            _phase(leg, CONSULTING, answered_us),
            _phase(leg, ON_CALL_OUT if calls else ON_CALL_IN, talks_us, talks=talks, answers=True),
        ]
    if calls:
        return [
            _phase(leg, ON_CALL_OUT, start_us),
            _phase(leg, ON_CALL_OUT, answered_us, since_us=start_us, talks=talks, answers=True),
        ]
    return [
        _phase(leg, RINGING, start_us, rings=True),
        _phase(leg, ON_CALL_IN, answered_us, talks=talks, answers=True),
    ]


def _within(at_us: int, start_us: int, end_us: int | None) -> int:
    """A moment of a leg, inside of it also when its times contradict each other."""
    at_us = max(at_us, start_us)
    return at_us if end_us is None else min(at_us, end_us)


def _phase(
    leg: Leg,
    activity: str,
    start_us: int,
    *,
    since_us: int | None = None,
    talks: bool = False,
    rings: bool = False,
    answers: bool = False,
) -> Phase:
    return Phase(leg, activity, start_us, start_us if since_us is None else since_us, talks, rings, answers)


def outcome_of(leg: Leg) -> tuple[bool, bool, bool, bool]:
    """What a leg that is over counts for, on the day it ended: (missed, answered elsewhere, unanswered outgoing, transfer)."""
    of_agent, calls = leg.role == AGENT, leg.role == CALLER
    return (
        of_agent and leg.result in _MISSED,
        of_agent and leg.result == _ANSWERED_ELSEWHERE,
        calls and leg.answered_us is None,
        (of_agent or calls) and (leg.transferred_us is not None or leg.result == _TRANSFERRED),
    )


def past_of(leg: Leg, until_us: int) -> tuple[object, ...]:
    """All of a leg that made a difference until a moment: two revisions that agree in it differ only from then on."""
    start_us = leg.start_us
    if leg.removed or start_us > until_us:
        return ()
    answered_us, talk_us, end_us = leg.answered_us, leg.talk_us, leg.end_us
    if end_us is not None and end_us <= until_us:
        last_us = leg.last_event_us
        seen_us = last_us if end_us < last_us <= until_us else None
        outcome = (leg.result, leg.transferred_us is None)
        return (leg.role, leg.queue, start_us, answered_us, talk_us, end_us, outcome, seen_us)
    if answered_us is None or answered_us > until_us:
        answered_us = talk_us = None
    elif talk_us is None:
        talk_us = answered_us
    elif talk_us > until_us:
        talk_us = None
    return (leg.role, leg.queue, start_us, answered_us, talk_us, leg.result == _TIMEOUT)
