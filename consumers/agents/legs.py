"""
Legs: the register of activity records, one entry per (call, leg) with its highest revision.

`phases` cuts a leg into what its agent does: ringing, talking, consulting, monitoring. The counters are in
`rounds`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Final

from voipex.agent_activity import LegResult, LegRole
from voipex.agent_status import Activity
from voipex.events import Direction, split_unique_id

AGENT, CALLER, CONSULT, MONITOR = (
    role.value for role in (LegRole.AGENT, LegRole.CALLER, LegRole.CONSULT, LegRole.MONITOR)
)
ROLES: Final = frozenset(role.value for role in LegRole)
RESULTS: Final = frozenset({None, *(result.value for result in LegResult)})
DIRECTIONS: Final = frozenset({None, *(direction.value for direction in Direction)})
TIMEOUT: Final = LegResult.TIMEOUT.value


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
    call_answered_us: int | None = None
    """When anybody first answered the call."""
    forwarded: int = 0
    """Came through its line: the place in the order of what that line sent; 0: came directly, or was taken back by its call."""
    owner: str | None = None
    """At the key of a line: the agent whose line it was when the leg began."""
    is_sent: bool = False
    """This revision was sent to `owner`."""
    start_us: int = field(init=False)
    """
    The first moment of the agent's part in the call: its begin, of a caller at the latest the other party's answer (a caller that lost its
    events but the Hangup talked all the same). A removed leg has none but that of its last event.
    """
    latest_us: int = field(init=False)
    """The last moment that the leg tells of so far, not before its start."""
    end_us: int | None = field(init=False, default=None)
    """Its end, not before its start; of a removed leg None, as the next."""
    got_caller_us: int | None = field(init=False, default=None)
    """When its agent began to talk with the caller, or with the called one; inside of the leg also when its times contradict."""

    def __post_init__(self) -> None:
        self.start_us = self.latest_us = self.last_event_us
        if self.removed:
            return
        answered_us, ended_us = self.answered_us, self.ended_us
        self.start_us = self.begin_us
        if (
            self.role == CALLER
            and self.talk_us is not None
            and (ended_us is None or self.talk_us <= ended_us)
        ):
            self.start_us = min(self.start_us, self.talk_us)
        for at_us in (self.start_us, answered_us, self.talk_us, ended_us):
            if at_us is not None and at_us > self.latest_us:
                self.latest_us = at_us
        if ended_us is not None:
            self.end_us = max(self.start_us, ended_us)
        self.got_caller_us = self._got_caller_us()

    def _got_caller_us(self) -> int | None:
        start_us, end_us, talk_us = self.start_us, self.end_us, self.talk_us
        if self.role == CALLER:
            if talk_us is None or (end_us is not None and talk_us > end_us):
                return None
            return talk_us
        if self.role != AGENT or self.answered_us is None:
            return None
        answered_us = _within(self.answered_us, start_us, end_us)
        return answered_us if talk_us is None else _within(talk_us, answered_us, end_us)

    def to_json(self) -> tuple[Any, ...]:
        """All but what follows from the rest, in the order of `__init__`."""
        return _values_of_leg(self)

    @property
    def version(self) -> tuple[int, int, int]:
        """Of the records of one leg the greatest holds: the highest revision; of that what is the agent's directly, or by a line."""
        if self.forwarded:
            return self.revision, 1, self.forwarded
        return self.revision, 0 if self.removed else 2, 0

    @property
    def begin_us(self) -> int:
        """When it began, as to whose line it was."""
        if self.ring_us is not None:
            return self.ring_us
        if self.answered_us is not None:
            return self.answered_us
        return self.last_event_us if self.ended_us is None else self.ended_us

    @property
    def counts_here(self) -> bool:
        """It is no other agent's, and not taken back."""
        return self.owner is None and not self.removed

    def given_to(self, owner: str | None) -> "Leg":
        """The leg, sent to this agent."""
        return replace(self, owner=owner, is_sent=True)

    @property
    def is_open(self) -> bool:
        return self.ended_us is None and not self.removed

    @property
    def rings_unanswered_call(self) -> bool:
        """It begins with a ring, before anybody has answered the call."""
        ring_us = self.ring_us
        return (
            ring_us is not None
            and ring_us == self.start_us
            and (self.call_answered_us is None or ring_us < self.call_answered_us)
        )


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


CallOrder = tuple[str, int, int, str]


def call_order(call_id: str) -> CallOrder:
    """Sort calls by UniqueId as numbers (9 before 10); ids of another form come first."""
    return (*(split_unique_id(call_id) or ("", -1, -1)), call_id)


def foremost(running: Collection[Phase]) -> Phase:
    """Of all that runs at once, the part to show."""
    return next(iter(running)) if len(running) == 1 else max(running, key=precedence_of)


def precedence_of(phase: Phase) -> tuple[int, int, CallOrder, int]:
    """Rule A14. The greatest wins when several run at once: on_call (begun last), monitoring, consulting, ringing."""
    return PRECEDENCE[phase.activity], phase.since_us, call_order(phase.leg.call_id), phase.leg.leg


IDLE, RINGING, ON_CALL_IN, ON_CALL_OUT, CONSULTING, MONITORING = (activity.value for activity in Activity)
PRECEDENCE: Final = {ON_CALL_IN: 3, ON_CALL_OUT: 3, MONITORING: 2, CONSULTING: 1, RINGING: 0}


def phases(leg: Leg) -> list[Phase]:
    """
    Rule A14. Cut a leg into what its agent did, the first part from its start.

    agent: ringing, then on_call_in; consult: ringing, consulting; caller: on_call_out from its ring; monitor: monitoring.
    A consulted colleague who took the call over consulted from its answer until it got the caller. The caller of a local call talks from
    the other party's answer on.
    """
    start_us, role, untimed = leg.start_us, leg.role, leg.result != TIMEOUT
    if role == MONITOR:
        return [_phase(leg, MONITORING, start_us)]
    talks_us = leg.got_caller_us
    if role == CALLER:
        if talks_us is None:
            return [_phase(leg, ON_CALL_OUT, start_us)]
        calling = [_phase(leg, ON_CALL_OUT, start_us)] if talks_us > start_us else []
        return [*calling, _phase(leg, ON_CALL_OUT, talks_us, since_us=start_us, talks=untimed)]
    if leg.answered_us is None:
        return [_phase(leg, RINGING, start_us, rings=untimed)]
    answered_us = _within(leg.answered_us, start_us, leg.end_us)
    cut = [_phase(leg, RINGING, start_us, rings=True)]
    if talks_us is None or talks_us > answered_us:
        cut.append(_phase(leg, CONSULTING, answered_us))
    if talks_us is not None:
        cut.append(_phase(leg, ON_CALL_IN, talks_us, talks=untimed))
    return cut


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
) -> Phase:
    return Phase(leg, activity, start_us, start_us if since_us is None else since_us, talks, rings)


def past_of(leg: Leg, until_us: int) -> tuple[object, ...]:
    """All of a leg that made a difference until a moment: two revisions that agree in it differ only from then on."""
    start_us = leg.start_us
    if leg.removed or start_us > until_us:
        return ()
    answered_us, talk_us, end_us = leg.answered_us, leg.talk_us, leg.end_us
    whole = (leg.role, leg.queue, leg.line, start_us, leg.queue is not None and leg.rings_unanswered_call)
    if end_us is not None and end_us <= until_us:
        last_us = leg.last_event_us
        seen_us = last_us if end_us < last_us <= until_us else None
        outcome = (leg.result, leg.transferred_us is None)
        return (*whole, answered_us, talk_us, end_us, outcome, seen_us)
    if answered_us is None or answered_us > until_us:
        answered_us = None
    if leg.role != CALLER and answered_us is None:
        talk_us = None
    elif talk_us is None and leg.role != CALLER:
        talk_us = answered_us
    elif talk_us is not None and talk_us > until_us:
        talk_us = None
    return (*whole, answered_us, talk_us, leg.result == TIMEOUT)
