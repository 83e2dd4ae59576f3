"""
The fold: one sweep through time over agent events and legs that computes all content of a document.

A Walk moves a Picture (the agent at a moment) forward. Nothing changes between two neighbouring moments at which something begins or
ends. So each such slice of time is added once to the running calls, and each time without agent events once to login and pauses. This
covers unions, cuts at midnight, states without duration and silence (rule A11) without further code. The law behind it:

    over(p, all, t) == over(over(p, what begins until s, s), what begins or continues after s, t)

It allows to store the picture of the last record and to sweep only over later inputs (`memory`), and to sweep again from an older
picture for a late input. Totals are never corrected: a late or revised input means another walk.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

import orjson

from consumers.agents.days import (
    ANSWERED,
    ANSWERED_IN,
    LOGIN_US,
    MISSED,
    PAUSE_US,
    PAUSED_HERE_US,
    PAUSED_US,
    PAUSES,
    RING_US,
    TALK_US,
    TALKED_US,
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
    LegKey,
    Phase,
    foremost,
    phases,
)
from consumers.agents.lines import Claim
from consumers.agents.presence import IN, OUT, PAUSED, UNNAMED, AgentEvent, Presence, PresenceSummary
from consumers.agents.rounds import Count, counts, queue_of_round, rounds
from consumers.agents.swapped import reading_order
from voipex.agent_status import AgentPresence, AgentState

BEGINNING: Final = -(1 << 62)
"""Before all time, in microseconds."""

SILENCE_US: Final = 24 * 3600 * 1_000_000
"""Rule A11: without an agent event or a call for so long, nobody knows whether the agent is still there."""

FORGET_US: Final = 90 * 24 * 3600 * 1_000_000
"""Rule A12: unseen for so long, an agent starts empty."""

IMPLICIT, OFFLINE, UNKNOWN = AgentState.IMPLICIT.value, AgentState.OFFLINE.value, AgentState.UNKNOWN.value
LOGGED_IN: Final = AgentPresence.LOGGED_IN.value

_STATE_OF_ACTIVITY: Final = {
    ON_CALL_IN: AgentState.ON_CALL.value,
    ON_CALL_OUT: AgentState.ON_CALL.value,
    MONITORING: AgentState.MONITORING.value,
    CONSULTING: AgentState.CONSULTING.value,
    RINGING: AgentState.RINGING.value,
}

_NO_PRESENCE: Final = Presence()
_NO_SUMMARY: Final = _NO_PRESENCE.summary()

Register = list[Any]
"""[order, value]: a reported value and its order, [at_us, source, id, leg]. The greatest is the latest."""


@dataclass(slots=True, eq=False)
class Picture:
    """
    An agent at `at_us`, with all folded in that happened until then and at that very moment. What holds from then on was not looked at
    yet, since more may happen at that moment: it is for the next slice of time, or for who wants to show it.

    A copy shares what is inside with its original: a walk replaces what it changes.
    """

    at_us: int = BEGINNING
    seen_us: int | None = None
    """The last moment of an agent event or a call; None: nothing is known of this agent."""
    last_event_us: int = BEGINNING
    took_calls: bool = False
    summary: PresenceSummary = _NO_SUMMARY
    state: str | None = None
    """The last state of any length."""
    since_us: int = BEGINNING
    previous: Sequence[Any] | None = None
    """The state before it: (state, since_us)."""
    pause: str | None = None
    """Name of the pause of all queues that ran last until now."""
    login: Register | None = None
    line: Register | None = None
    email: Register | None = None
    days: dict[str, DayTotals] = field(default_factory=dict)
    queue_days: dict[str, dict[str, QueueTotals]] = field(default_factory=dict)
    forgot_us: int = BEGINNING
    """What was over by then is forgotten, after 90 days without a sign of the agent."""
    claim: Claim | None = None
    """At the key of a line: the last record that named it together with a Login."""
    pause_heard_us: int = BEGINNING
    """When the last AgentPaused was received: a login soon after it is read before it (`swapped`)."""
    read_presence: Presence | None = _NO_PRESENCE
    kept_presence: bytes = b""

    def start_empty(self) -> None:
        """Forget all but the moment."""
        empty = Picture(self.at_us, forgot_us=self.forgot_us, claim=self.claim)
        for name in Picture.__slots__:
            setattr(self, name, getattr(empty, name))

    @property
    def presence(self) -> Presence:
        """The register of agent events; read only when one comes, the rest is in `summary`."""
        if self.read_presence is None:
            self.read_presence = Presence.from_json(self.kept_presence)
        return self.read_presence

    @presence.setter
    def presence(self, presence: Presence) -> None:
        self.read_presence = presence
        self.summary = presence.summary()

    def copy(self) -> "Picture":
        duplicate = Picture(*_values_of_picture(self))
        duplicate.days = self.days.copy()
        duplicate.queue_days = self.queue_days.copy()
        return duplicate

    def to_json(self) -> list[Any]:
        """All but what has been JSON already: `presence_json` and `summary.queues`."""
        *kept, _read_presence, _kept_presence = _values_of_picture(self)
        kept[_SUMMARY] = self.summary[:-1]
        kept[_CLAIM] = None if self.claim is None else tuple(self.claim)
        return kept

    def presence_json(self) -> bytes:
        return self.kept_presence if self.read_presence is None else self.read_presence.to_json()

    @classmethod
    def from_json(cls, kept: list[Any], presence: bytes, queues: bytes) -> "Picture":
        kept[_SUMMARY] = PresenceSummary._make((*kept[_SUMMARY], queues))
        picture = cls(*kept)
        picture.read_presence, picture.kept_presence = None, presence
        picture.claim = None if picture.claim is None else Claim(*picture.claim)
        return picture

    def to_bytes(self) -> bytes:
        """The picture alone, in JSON."""
        return orjson.dumps((self.to_json(), self.presence_json().decode(), self.summary.queues.decode()))

    @classmethod
    def from_bytes(cls, kept: bytes) -> "Picture":
        picture, presence, queues = orjson.loads(kept)
        return cls.from_json(picture, presence.encode(), queues.encode())

    def is_silent(self, at_us: int) -> bool:
        """True once nothing was seen for 24 hours; an event at that very moment precedes it. Of an agent without an open leg."""
        return self.seen_us is not None and at_us >= self.seen_us + SILENCE_US

    def update_identity(self, source: "AgentEvent | Leg", order: Register) -> None:
        """Rule A1: set login, line and e-mail to the value reported last."""
        self.last_event_us = max(self.last_event_us, order[0])
        if source.login is not None and (self.login is None or order > self.login[0]):
            self.login = [order, source.login]
        if source.line is not None and (self.line is None or order > self.line[0]):
            self.line = [order, source.line]
        if source.email is not None and (self.email is None or order > self.email[0]):
            self.email = [order, source.email]


_values_of_picture: Final = attrgetter(*(each.name for each in fields(Picture)))
_SUMMARY: Final = Picture.__slots__.index("summary")
_CLAIM: Final = Picture.__slots__.index("claim")


class Walk:
    """
    Carries a picture on, in place, over what happens after it. Time before *floor_us* is not summed up: no document shows those days
    any more.

    *events*: those after the picture, in their total order. *legs*: those that are not over then, without removed ones; what they did
    until then is in the picture. Who legs say the agent is may be said otherwise until they are over, so it is left to `identify`.
    """

    __slots__ = (
        "_changed",
        "_counts_time",
        "_floor_us",
        "_local_days",
        "_moments",
        "_owned",
        "_presence_us",
        "_queues",
        "active",
        "picture",
    )

    def __init__(
        self,
        picture: Picture,
        events: Collection[AgentEvent],
        legs: Iterable[Leg],
        local_days: LocalDays,
        floor_us: int,
    ) -> None:
        self.picture = picture
        self.active: dict[LegKey, Phase] = {}
        """What runs, by leg."""
        self._local_days = local_days
        self._floor_us = floor_us
        self._changed = True  # what runs, since it was looked at
        self._counts_time = True
        self._presence_us = picture.at_us  # until here login and pauses are summed up: they change seldom
        # What of the picture is not shared with another one: "presence", days, (queue, day).
        self._owned: dict[object, Any] = {}
        # (at_us, running number, what, to whom), the next one last. The number keeps the order of events, and that of what a leg does.
        # Among the others order does not matter, since a state is looked at only between two moments.
        self._moments: list[_Moment] = []
        self._queues: dict[LegKey, str | None] = {}  # of the round, where a leg itself has none
        for read_us, event in reading_order(sorted(events)) if events else ():
            if read_us == event.at_us:
                self._moments.append((read_us, len(self._moments), Walk._hear, event))
                continue
            if event.at_us > picture.at_us:
                self._moments.append((event.at_us, len(self._moments), Walk._hear_early, event))
            self._moments.append((read_us, len(self._moments), Walk._read, event))
        calls: dict[str, list[Leg]] = {}
        for leg in legs:
            self._lay_out(leg)
            of_call = calls.get(leg.call_id)
            if of_call is None:
                calls[leg.call_id] = [leg]
            else:
                of_call.append(leg)
        for of_call in calls.values():
            self._lay_out_counts(of_call)
        self._moments.sort(reverse=True)

    def _lay_out(self, leg: Leg) -> None:
        """What a leg does after the picture, and what it goes on with."""
        moments, from_us = self._moments, self.picture.at_us
        if leg.ended_us is not None and leg.latest_us <= from_us:
            return
        if leg.start_us <= from_us:
            self.picture.took_calls = True
        end_us = leg.end_us
        for phase in phases(leg):
            if phase.start_us > from_us:
                moments.append((phase.start_us, len(moments), Walk._go_on, phase))
            elif end_us is None or end_us > from_us:
                self.active[leg.call_id, leg.leg] = phase
        if end_us is not None:
            if end_us > from_us:
                moments.append((end_us, len(moments), Walk._close, leg))
            if leg.last_event_us > end_us and leg.last_event_us > from_us:
                moments.append((leg.last_event_us, len(moments), Walk._see, leg))

    def _lay_out_counts(self, legs: list[Leg]) -> None:
        """What the legs of one call count for after the picture."""
        moments, from_us = self._moments, self.picture.at_us
        if len(legs) == 1 and legs[0].latest_us <= from_us and legs[0].end_us is not None:
            return
        for count in counts(legs):
            if count.at_us > from_us:
                moments.append((count.at_us, len(moments), Walk._count, count))
        if len(legs) > 1:
            for attempts in rounds(legs):
                for leg in attempts:
                    if leg.queue is None and (got_us := leg.got_caller_us) is not None:
                        self._queues[leg.call_id, leg.leg] = queue_of_round(attempts, got_us)

    def over(self, until_us: int) -> None:
        """Carry the picture on to *until_us*, with what happens at that very moment."""
        moments, picture = self._moments, self.picture
        while moments and moments[-1][0] <= until_us:
            at_us, _, happen, what = moments.pop()
            if at_us > picture.at_us:
                self._pass(at_us)
            if picture.seen_us is None or at_us > picture.seen_us:
                picture.seen_us = at_us
            happen(self, what)
        if until_us > picture.at_us:
            self._pass(until_us)
        self._add_presence(until_us)

    def look_ahead(self, limit_us: int) -> None:
        """Let what happens until *limit_us* show, but no time pass. Only for a picture that is shown and not carried on."""
        last_us = next(
            (at_us for at_us, *_ in self._moments if at_us <= limit_us), None
        )  # the latest is first
        if last_us is not None:
            self._counts_time = False
            self.over(last_us)

    def identify(self, legs: Iterable[Leg]) -> None:
        """Let legs say who the agent is; but for those that were forgotten on the way."""
        for leg in legs:
            if leg.latest_us > self.picture.forgot_us:
                self.picture.update_identity(leg, [leg.last_event_us, 0, leg.call_id, leg.leg])

    def branch(self) -> None:
        """From here on carry on a copy: the picture stays as it is."""
        self.picture = self.picture.copy()
        self._owned.clear()

    def look_at_last(self) -> None:
        """See what holds from here on. Only for a picture that is shown and not carried on."""
        picture = self.picture
        self._look(picture.at_us, silent=not self.active and picture.is_silent(picture.at_us))

    # ------------------------------------------------------------ what happens at a moment

    def _hear(self, event: AgentEvent) -> None:
        """An agent event."""
        picture = self.picture
        if not self._read(event):
            picture.update_identity(event, [event.at_us, 1, event.event_id, 0])
        else:
            picture.last_event_us = max(picture.last_event_us, event.at_us)
        if event.kind == PAUSED:
            picture.pause_heard_us = event.at_us

    def _hear_early(self, event: AgentEvent) -> None:
        """A pause that is read later, after its login (rule A8)."""
        self.picture.update_identity(event, [event.at_us, 1, event.event_id, 0])
        self.picture.pause_heard_us = event.at_us

    def _read(self, event: AgentEvent) -> bool:
        """Apply an event to the register; returns True if it is ignored altogether."""
        picture = self.picture
        presence = self._presence_to_change()
        heir, ignored = presence.apply(event, picture.at_us)
        picture.presence = presence
        if UNNAMED in picture.queue_days:
            self._settle_unnamed(heir)
        return ignored

    def _presence_to_change(self) -> Presence:
        picture = self.picture
        self._add_presence(picture.at_us)
        self._changed = True
        presence: Presence | None = self._owned.get("presence")
        if presence is None:
            presence = self._owned["presence"] = picture.presence.copy()
        return presence

    def _settle_unnamed(self, heir: str | None) -> None:
        """Rule A6: a pause of an unnamed queue is counted for the queue that continues it, or for none."""
        picture = self.picture
        if UNNAMED in picture.summary.paused:
            return
        for day, totals in picture.queue_days.pop(UNNAMED).items():
            self._owned.pop((UNNAMED, day), None)
            if heir is not None:
                self._queue_totals(heir, day)[PAUSED_HERE_US] += totals[PAUSED_HERE_US]

    def _see(self, _leg: Leg) -> None:
        """The last event of a leg came after its end: a Hangup that only fills. Still the agent was seen."""

    def _go_on(self, phase: Phase) -> None:
        """A leg begins, or goes over to what it does next."""
        leg = phase.leg
        self.picture.took_calls = self._changed = True
        self.active[leg.call_id, leg.leg] = phase
        if leg.queue in self.picture.summary.paused and leg.role == AGENT and phase.start_us == leg.start_us:
            self._ring_paused(leg)

    def _ring_paused(self, leg: Leg) -> None:
        """Rule A9: a queue rings no paused member, so an AgentUnPaused was lost."""
        if leg.queue is not None and leg.rings_unanswered_call:
            presence = self._presence_to_change()
            if presence.ring(leg.queue, leg.start_us):
                self.picture.presence = presence

    def _close(self, leg: Leg) -> None:
        """A leg is over."""
        del self.active[leg.call_id, leg.leg]
        self._changed = True

    def _count(self, count: Count) -> None:
        """A round, a call or a transfer is complete."""
        if count.at_us < self._floor_us:
            return
        day = self._local_days.day_of(count.at_us).name
        self._totals(day)[count.counter] += 1
        if count.queue is not None:
            counter = ANSWERED if count.counter == ANSWERED_IN else MISSED
            self._queue_totals(count.queue, day)[counter] += 1

    # ------------------------------------------------------------ how time passes

    def _pass(self, until_us: int) -> None:
        """From `picture.at_us` to *until_us* nothing happens; but silence may begin, and after long silence all is forgotten."""
        picture = self.picture
        start_us, picture.at_us = picture.at_us, until_us
        if picture.seen_us is None:
            return
        if self.active:
            picture.seen_us = until_us
            if self._changed:
                self._look(start_us, silent=False)
            self._add_calls(start_us, until_us)
            return
        silence_us = picture.seen_us + SILENCE_US
        if start_us < silence_us and self._changed:
            self._look(start_us, silent=False)
        if until_us > silence_us:
            self._add_presence(silence_us)
            self._presence_us = until_us
            self._look(max(start_us, silence_us), silent=True)
            self._changed = True  # silence is over
            forget_us = picture.seen_us + FORGET_US
            if until_us > forget_us:
                picture.forgot_us = forget_us
                picture.start_empty()
                self._owned.clear()

    def _add_calls(self, start_us: int, end_us: int) -> None:
        """Sum up what runs. Unions: however many calls talk or ring at once, time passes once."""
        talks = rings = False
        queues: set[str | None] = set()
        for phase in self.active.values():
            if phase.rings:
                rings = True
            elif phase.talks:
                talks = True
                if phase.leg.role == AGENT:
                    queues.add(self._queue_of(phase.leg))
        if not self._counts_time or not (rings or talks):
            return
        queues.discard(None)
        for day, length_us in self._days_of(start_us, end_us):
            totals = self._totals(day)
            if rings:
                totals[RING_US] += length_us
            if talks:
                totals[TALK_US] += length_us
                for queue in queues:
                    self._queue_totals(queue or "", day)[TALKED_US] += length_us

    def _queue_of(self, leg: Leg) -> str | None:
        return leg.queue if leg.queue is not None else self._queues.get((leg.call_id, leg.leg))

    def _add_presence(self, until_us: int) -> None:
        """Sum up login and pauses, which have not changed since they were summed up last."""
        start_us, summary = self._presence_us, self.picture.summary
        if until_us <= start_us:
            return
        self._presence_us = until_us
        if summary.status != IN or not self._counts_time:
            return
        for day, length_us in self._days_of(start_us, until_us):
            totals = self._totals(day)
            totals[LOGIN_US] += length_us
            if summary.pause is not None:
                totals[PAUSED_US] += length_us
                totals[PAUSE_US][summary.pause] = totals[PAUSE_US].get(summary.pause, 0) + length_us
            for queue in summary.paused:
                self._queue_totals(queue, day)[PAUSED_HERE_US] += length_us

    def _days_of(self, start_us: int, end_us: int) -> Sequence[tuple[str, int]]:
        """A slice of time cut at local midnight: (day, length) of each piece."""
        start_us = max(start_us, self._floor_us)
        day = self._local_days.day_of(start_us)
        if start_us < end_us <= day.end_us:
            return ((day.name, end_us - start_us),)
        pieces = []
        while start_us < end_us:
            day = self._local_days.day_of(start_us)
            until_us = min(day.end_us, end_us)
            pieces.append((day.name, until_us - start_us))
            start_us = until_us
        return pieces

    def _look(self, at_us: int, *, silent: bool) -> None:
        """What holds from *at_us* on, for some length: the state to show (rule A15), and whether a pause begins (A7)."""
        picture = self.picture
        self._changed = False
        if self.active:
            state = _STATE_OF_ACTIVITY[foremost(self.active.values()).activity]
        else:
            state = _idle_state(picture, silent=silent)
        if state != picture.state:
            if picture.state is not None:
                picture.previous = (picture.state, picture.since_us)
            picture.state, picture.since_us = state, at_us
        pause = picture.summary.pause
        if pause != picture.pause:
            picture.pause = pause
            if pause is not None and at_us >= self._floor_us:
                totals = self._totals(self._local_days.day_of(at_us).name)
                totals[PAUSES] += 1
                totals[PAUSE_US].setdefault(pause, 0)

    # ------------------------------------------------------------ sums, of which nobody else holds the object

    def _totals(self, day: str) -> DayTotals:
        owned: DayTotals | None = self._owned.get(day)
        if owned is None:
            shared = self.picture.days.get(day)
            owned = new_day() if shared is None else copy_of_day(shared)
            self.picture.days[day] = self._owned[day] = owned
        return owned

    def _queue_totals(self, queue: str, day: str) -> QueueTotals:
        owned: QueueTotals | None = self._owned.get((queue, day))
        if owned is None:
            of_queue = self.picture.queue_days.get(queue, {}).copy()
            shared = of_queue.get(day)
            owned = new_queue_day() if shared is None else shared.copy()
            of_queue[day] = self._owned[queue, day] = owned
            self.picture.queue_days[queue] = of_queue
        return owned


_Moment = tuple[int, int, Callable[[Walk, Any], object], Any]


def presence_of(picture: Picture, *, silent: bool) -> str:
    """Rule A10: logged in or out as agent events say; who never logs in but has calls is implicit; nothing certain: unknown."""
    if silent:
        return UNKNOWN
    status = picture.summary.status
    if status == IN:
        return LOGGED_IN
    if status == OUT:
        return OFFLINE
    return IMPLICIT if picture.took_calls else UNKNOWN


def availability_of(picture: Picture, presence: str) -> str | None:
    """Paused in all logged queues, in some, or in none; None when offline or unknown."""
    return None if presence in (OFFLINE, UNKNOWN) else picture.summary.availability


def _idle_state(picture: Picture, *, silent: bool) -> str:
    """What to show without a call: the availability of who is logged in, else the presence."""
    presence = presence_of(picture, silent=silent)
    return picture.summary.availability if presence == LOGGED_IN else presence
