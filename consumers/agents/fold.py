"""
The fold: one walk through time, over agent events and legs, that computes all that a document tells.

`advance(picture, …)` carries a Picture (an agent at a moment) on to a later one. Between two neighbouring moments at which anything
begins or ends nothing changes; so each such slice of time is added once to what runs in it, and unions, cuts at midnight, states of
no length and the silence rule need no further code. The law that everything else rests on:

    advance(p, all, t) == advance(advance(p, what begins before s, s), what is not over before s, t)

It allows to keep a picture of what is settled and to walk only over what came since (`memory`), and to walk again from an older
picture when something comes late. Sums are never corrected: a late or revised input means another walk.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from consumers.agents.days import (
    ANSWERED,
    ANSWERED_ELSEWHERE,
    ANSWERED_IN,
    ANSWERED_OUT,
    LOGIN_US,
    MISSED,
    MISSED_RINGS,
    PAUSE_US,
    PAUSED_HERE_US,
    PAUSED_US,
    PAUSES,
    RING_US,
    TALK_US,
    TALKED_US,
    TRANSFERS,
    UNANSWERED_OUT,
    DayTotals,
    LocalDays,
    QueueTotals,
    copy_of_day,
    new_day,
    new_queue_day,
)
from consumers.agents.legs import (
    AGENT,
    CONSULTING,
    MONITORING,
    ON_CALL_IN,
    ON_CALL_OUT,
    RINGING,
    Leg,
    Phase,
    outcome_of,
    phases,
)
from consumers.agents.presence import IN, OUT, UNNAMED, AgentEvent, Presence, Standing
from consumers.agents.status import AgentPresence, AgentState

BEGINNING: Final = -(1 << 62)
"""Before all time, in microseconds."""

SILENCE_US: Final = 24 * 3600 * 1_000_000
"""Without an agent event or a call for so long, nobody knows whether the agent is still there (contract 5)."""

FORGET_US: Final = 90 * 24 * 3600 * 1_000_000
"""Unseen for so long, an agent starts empty (contract 5)."""

IMPLICIT, OFFLINE, UNKNOWN = AgentState.IMPLICIT.value, AgentState.OFFLINE.value, AgentState.UNKNOWN.value
LOGGED_IN: Final = AgentPresence.LOGGED_IN.value

_STATE_OF_ACTIVITY: Final = {
    ON_CALL_IN: AgentState.ON_CALL.value,
    ON_CALL_OUT: AgentState.ON_CALL.value,
    MONITORING: AgentState.MONITORING.value,
    CONSULTING: AgentState.CONSULTING.value,
    RINGING: AgentState.RINGING.value,
}

Told = list[Any]
"""[order, value]: a value that was told, and its place in the order: [at_us, source, id, leg]. The greatest is the last."""


class Picture:
    """
    An agent at `at_us`, with all before it folded in and nothing of what happens at that very moment.

    A copy shares what is inside with its original: `advance` and `view` replace what they change.
    """

    __slots__ = (
        "at_us",
        "days",
        "email",
        "kept_presence",
        "last_event_us",
        "line",
        "login",
        "pause",
        "previous",
        "queue_days",
        "read_presence",
        "seen_us",
        "since_us",
        "standing",
        "state",
        "took_calls",
    )

    def __init__(self) -> None:
        self.at_us = BEGINNING
        self.start_empty()

    def start_empty(self) -> None:
        self.seen_us: int | None = (
            None  # the last moment of an agent event or a call; None: nothing is known of this agent
        )
        self.last_event_us = BEGINNING
        self.took_calls = False
        self.read_presence: Presence | None = Presence()
        self.kept_presence = b""
        self.standing = Presence().standing()
        self.state: str | None = None  # the last state of any length
        self.since_us = BEGINNING
        self.previous: Sequence[Any] | None = None  # the one before it: (state, since_us)
        self.pause: str | None = None  # name of the pause of all queues that ran last until now
        self.login: Told | None = None
        self.line: Told | None = None
        self.email: Told | None = None
        self.days: dict[str, DayTotals] = {}
        self.queue_days: dict[str, dict[str, QueueTotals]] = {}

    @property
    def presence(self) -> Presence:
        """The register of agent events; read only when one comes, the rest is in `standing`."""
        if self.read_presence is None:
            self.read_presence = Presence.from_json(self.kept_presence)
        return self.read_presence

    @presence.setter
    def presence(self, presence: Presence) -> None:
        self.read_presence = presence
        self.standing = presence.standing()

    def copy(self) -> "Picture":
        twin = Picture.__new__(Picture)
        twin.at_us = self.at_us
        twin.seen_us = self.seen_us
        twin.last_event_us = self.last_event_us
        twin.took_calls = self.took_calls
        twin.read_presence = self.read_presence
        twin.kept_presence = self.kept_presence
        twin.standing = self.standing
        twin.state = self.state
        twin.since_us = self.since_us
        twin.previous = self.previous
        twin.pause = self.pause
        twin.login = self.login
        twin.line = self.line
        twin.email = self.email
        twin.days = self.days.copy()
        twin.queue_days = self.queue_days.copy()
        return twin

    def to_json(self) -> list[Any]:
        """All but what has been JSON already: `presence_json` and `standing.queues`."""
        return [
            self.at_us,
            self.seen_us,
            self.last_event_us,
            self.took_calls,
            self.standing[:-1],
            self.state,
            self.since_us,
            self.previous,
            self.pause,
            self.login,
            self.line,
            self.email,
            self.days,
            self.queue_days,
        ]

    def presence_json(self) -> bytes:
        return self.kept_presence if self.read_presence is None else self.read_presence.to_json()

    @classmethod
    def from_json(cls, kept: list[Any], presence: bytes, queues: bytes) -> "Picture":
        picture = Picture.__new__(cls)
        picture.read_presence = None
        picture.kept_presence = presence
        (
            picture.at_us,
            picture.seen_us,
            picture.last_event_us,
            picture.took_calls,
            standing,
            picture.state,
            picture.since_us,
            picture.previous,
            picture.pause,
            picture.login,
            picture.line,
            picture.email,
            picture.days,
            picture.queue_days,
        ) = kept
        picture.standing = Standing._make((*standing, queues))
        return picture

    def is_silent(self, at_us: int) -> bool:
        """True once nothing was seen for 24 hours; an event at that very moment precedes it. Of an agent without an open leg."""
        return self.seen_us is not None and at_us >= self.seen_us + SILENCE_US


def view(
    picture: Picture,
    events: Iterable[AgentEvent],
    legs: Sequence[Leg],
    until_us: int,
    local_days: LocalDays,
    floor_us: int,
) -> list[Phase]:
    """
    As `advance`, but what happens at *until_us* itself counts too: the picture is to be shown, not to be carried on.

    Returns the phases that run at *until_us*.
    """
    walk = _Walk(picture, local_days, floor_us)
    walk.over(events, legs, until_us, before_us=until_us + 1)
    if picture.seen_us is not None:
        walk.look(until_us, silent=not walk.active and picture.is_silent(until_us))
    return list(walk.active.values())


def advance(
    picture: Picture,
    events: Iterable[AgentEvent],
    legs: Sequence[Leg],
    until_us: int,
    local_days: LocalDays,
    floor_us: int,
) -> None:
    """
    Carry *picture* on to *until_us*, in place. Time before *floor_us* is not summed up: no document shows those days any more.

    *events* are those of this time, in their total order. *legs* are those that begin before *until_us*, without removed ones; what
    they did before `picture.at_us` is in the picture, and who they say the agent is comes in when they are over.
    """
    _Walk(picture, local_days, floor_us).over(events, legs, until_us, before_us=until_us)


class _Walk:
    __slots__ = ("active", "before_us", "floor_us", "local_days", "owned", "picture")

    def __init__(self, picture: Picture, local_days: LocalDays, floor_us: int) -> None:
        self.picture = picture
        self.local_days = local_days
        self.floor_us = floor_us
        self.before_us = BEGINNING
        self.active: dict[tuple[str, int], Phase] = {}
        # What of the picture is not shared with another one: "presence", days, (queue, day).
        self.owned: dict[object, Any] = {}

    def over(
        self, events: Iterable[AgentEvent], legs: Sequence[Leg], until_us: int, *, before_us: int
    ) -> None:
        picture = self.picture
        from_us = picture.at_us
        moments = _moments(events, legs, from_us)
        self.before_us = before_us
        for leg in legs:
            if leg.start_us < from_us:
                self._resume(leg, from_us)
        for at_us, _, happen, what in moments:
            if at_us >= before_us:
                break
            if at_us > picture.at_us:
                self._pass(at_us)
            if picture.seen_us is None or at_us > picture.seen_us:
                picture.seen_us = at_us
            happen(self, what)
        if until_us > picture.at_us:
            self._pass(until_us)

    # ------------------------------------------------------------ what happens at a moment

    def hear(self, event: AgentEvent) -> None:
        """An agent event."""
        picture = self.picture
        presence = self.owned.get("presence")
        if presence is None:
            presence = self.owned["presence"] = picture.presence.copy()
        picture.last_event_us = max(picture.last_event_us, event.at_us)
        self._identify([event.at_us, 1, event.event_id, 0], event)
        heir = presence.apply(event)
        picture.presence = presence
        if UNNAMED in picture.queue_days:
            self._settle_unnamed(heir)

    def _settle_unnamed(self, heir: str | None) -> None:
        """A pause of an unnamed queue is counted for the queue that continues it, or for none."""
        picture = self.picture
        if UNNAMED in picture.standing.paused:
            return
        for day, totals in picture.queue_days.pop(UNNAMED).items():
            self.owned.pop((UNNAMED, day), None)
            if heir is not None:
                self._queue_totals(heir, day)[PAUSED_HERE_US] += totals[PAUSED_HERE_US]

    def _meet(self, leg: Leg) -> None:
        """A leg begins: the agent takes calls. Who it says the agent is may be said otherwise until it is over."""
        picture = self.picture
        picture.took_calls = True
        if leg.latest_us >= self.before_us:
            return
        picture.last_event_us = max(picture.last_event_us, leg.last_event_us)
        self._identify([leg.last_event_us, 0, leg.call_id, leg.leg], leg)

    def _resume(self, leg: Leg, from_us: int) -> None:
        """A leg began before the walk: go on with what it does, should it not be over."""
        self._meet(leg)
        end_us = leg.end_us
        if end_us is None or end_us >= from_us:
            self.active[leg.call_id, leg.leg] = [phase for phase in phases(leg) if phase.start_us < from_us][
                -1
            ]

    def see(self, _leg: Leg) -> None:
        """The last event of a leg came after its end: a Hangup that only fills. Still the agent was seen."""

    def go_on(self, phase: Phase) -> None:
        """A leg begins, or goes over to what it does next."""
        if phase.start_us == phase.leg.start_us:
            self._meet(phase.leg)
        self.active[phase.call_id, phase.number] = phase
        if phase.answers and phase.start_us >= self.floor_us:
            day = self.local_days.day_of(phase.start_us).name
            if phase.leg.role != AGENT:
                self._totals(day)[ANSWERED_OUT] += 1
                return
            self._totals(day)[ANSWERED_IN] += 1
            if phase.leg.queue is not None:
                self._queue_totals(phase.leg.queue, day)[ANSWERED] += 1

    def close(self, leg: Leg) -> None:
        """A leg is over: what it comes to."""
        del self.active[leg.call_id, leg.leg]
        at_us = leg.end_us
        outcome = outcome_of(leg)
        if at_us is None or at_us < self.floor_us or not any(outcome):
            return
        day = self.local_days.day_of(at_us).name
        totals = self._totals(day)
        totals[MISSED_RINGS] += outcome.missed
        totals[ANSWERED_ELSEWHERE] += outcome.answered_elsewhere
        totals[UNANSWERED_OUT] += outcome.unanswered_out
        totals[TRANSFERS] += outcome.transfer
        if outcome.missed and leg.queue is not None:
            self._queue_totals(leg.queue, day)[MISSED] += 1

    def _identify(self, order: Told, teller: AgentEvent | Leg) -> None:
        """Login, line and email: each the last that was told."""
        picture = self.picture
        if teller.login is not None and (picture.login is None or order > picture.login[0]):
            picture.login = [order, teller.login]
        if teller.line is not None and (picture.line is None or order > picture.line[0]):
            picture.line = [order, teller.line]
        if teller.email is not None and (picture.email is None or order > picture.email[0]):
            picture.email = [order, teller.email]

    # ------------------------------------------------------------ how time passes

    def _pass(self, until_us: int) -> None:
        """From `picture.at_us` to *until_us* nothing happens; but silence may begin, and after long silence all is forgotten."""
        picture = self.picture
        start_us, picture.at_us = picture.at_us, until_us
        if picture.seen_us is None:
            return
        if self.active:
            picture.seen_us = until_us
            self._slice(start_us, until_us)
            return
        silence_us = picture.seen_us + SILENCE_US
        if start_us < silence_us:
            self._slice(start_us, min(until_us, silence_us))
        if until_us > silence_us:
            self.look(max(start_us, silence_us), silent=True)
            if until_us > picture.seen_us + FORGET_US:
                picture.start_empty()
                self.owned.clear()

    def _slice(self, start_us: int, end_us: int) -> None:
        """Add a slice of time to all that runs in it, cut at local midnight."""
        self.look(start_us, silent=False)
        start_us = max(start_us, self.floor_us)
        logged_in = self.picture.standing.status == IN
        if not logged_in and not self.active:
            return
        while start_us < end_us:
            day = self.local_days.day_of(start_us)
            length_us = min(day.end_us, end_us) - start_us
            if self.active:
                self._add_calls(day.name, length_us)
            if logged_in:
                self._add_presence(day.name, length_us)
            start_us += length_us

    def _add_calls(self, day: str, length_us: int) -> None:
        """Unions: however many calls talk or ring at once, time passes once."""
        talks = rings = False
        queues = set()
        for phase in self.active.values():
            if phase.rings:
                rings = True
            elif phase.talks:
                talks = True
                if phase.leg.queue is not None and phase.leg.role == AGENT:
                    queues.add(phase.leg.queue)
        if rings:
            self._totals(day)[RING_US] += length_us
        if talks:
            self._totals(day)[TALK_US] += length_us
        for queue in queues:
            self._queue_totals(queue, day)[TALKED_US] += length_us

    def _add_presence(self, day: str, length_us: int) -> None:
        picture = self.picture
        totals = self._totals(day)
        totals[LOGIN_US] += length_us
        if picture.pause is not None:
            totals[PAUSED_US] += length_us
            totals[PAUSE_US][picture.pause] = totals[PAUSE_US].get(picture.pause, 0) + length_us
        for queue in picture.standing.paused:
            self._queue_totals(queue, day)[PAUSED_HERE_US] += length_us

    def look(self, at_us: int, *, silent: bool) -> None:
        """What holds from *at_us* on, for some length: the state to show, and whether a pause begins."""
        picture = self.picture
        if self.active:
            state = _STATE_OF_ACTIVITY[max(self.active.values()).activity]
        else:
            state = _idle_state(picture, silent=silent)
        if state != picture.state:
            if picture.state is not None:
                picture.previous = (picture.state, picture.since_us)
            picture.state, picture.since_us = state, at_us
        pause = picture.standing.pause
        if pause != picture.pause:
            picture.pause = pause
            if pause is not None and at_us >= self.floor_us:
                totals = self._totals(self.local_days.day_of(at_us).name)
                totals[PAUSES] += 1
                totals[PAUSE_US].setdefault(pause, 0)

    # ------------------------------------------------------------ sums, of which nobody else holds the object

    def _totals(self, day: str) -> DayTotals:
        owned: DayTotals | None = self.owned.get(day)
        if owned is None:
            shared = self.picture.days.get(day)
            owned = new_day() if shared is None else copy_of_day(shared)
            self.picture.days[day] = self.owned[day] = owned
        return owned

    def _queue_totals(self, queue: str, day: str) -> QueueTotals:
        owned: QueueTotals | None = self.owned.get((queue, day))
        if owned is None:
            of_queue = self.picture.queue_days.get(queue, {}).copy()
            shared = of_queue.get(day)
            owned = new_queue_day() if shared is None else shared.copy()
            of_queue[day] = self.owned[queue, day] = owned
            self.picture.queue_days[queue] = of_queue
        return owned


_Moment = tuple[int, int, Callable[[_Walk, Any], None], Any]


def _moments(events: Iterable[AgentEvent], legs: Sequence[Leg], from_us: int) -> list[_Moment]:
    """
    All that happens from a moment on, in the order of time: (at_us, running number, what, to whom).

    The number keeps the order of events, and that of what a leg does. Among the others order does not matter, since a state is looked
    at only between two moments.
    """
    moments: list[_Moment] = []
    number = 0
    for event in events:
        moments.append((event.at_us, number, _Walk.hear, event))
        number += 1
    for leg in legs:
        for phase in phases(leg):
            if phase.start_us >= from_us:
                moments.append((phase.start_us, number, _Walk.go_on, phase))
            number += 1
        end_us = leg.end_us
        if end_us is not None:
            if end_us >= from_us:
                moments.append((end_us, number, _Walk.close, leg))
            if leg.last_event_us > end_us and leg.last_event_us >= from_us:
                moments.append((leg.last_event_us, number + 1, _Walk.see, leg))
            number += 2
    moments.sort()
    return moments


def presence_of(picture: Picture, *, silent: bool) -> str:
    """Logged in or out as agent events say; who never logs in but has calls is implicit; nothing certain: unknown."""
    if silent:
        return UNKNOWN
    status = picture.standing.status
    if status == IN:
        return LOGGED_IN
    if status == OUT:
        return OFFLINE
    return IMPLICIT if picture.took_calls else UNKNOWN


def availability_of(picture: Picture, presence: str) -> str | None:
    """Paused in all logged queues, in some, or in none; None when offline or unknown."""
    return None if presence in (OFFLINE, UNKNOWN) else picture.standing.availability


def _idle_state(picture: Picture, *, silent: bool) -> str:
    """What to show without a call: the availability of who is logged in, else the presence."""
    presence = presence_of(picture, silent=silent)
    return picture.standing.availability if presence == LOGGED_IN else presence
