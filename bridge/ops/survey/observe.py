"""Trace -> counts: per event, field, call and agent (pure). Nothing in them is a value of an event."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from bridge.ops.survey.anonymous import People, kind_of
from bridge.ops.survey.between import BetweenCalls, between_calls
from voipex.events import Direction, Event, EventType, ReasonClass, agent_key, split_unique_id
from voipex.timestamps import parse_rfc3339

FIELDS: Final = ("from", "to", "line", "login", "email", "queue", "direction", "reason", "pause_name")
_OUTGOING: Final = frozenset({Direction.OUTGOING, Direction.OUTGOING_LOCAL})
_SWAP_US: Final = 20_000_000
"""A Hangup or Answered that comes this long before its Ringing was overtaken; later it is another attempt."""
_STRATEGY_US: Final = 5_000_000
"""Queue strategies ring a phone again after 5 s at the earliest: an equal event before that is a repeat."""
_AHEAD_S: Final = 60


@dataclass(slots=True)
class Spread:
    """Seconds, of which the report shows median, 95th percentile and extremes."""

    seconds: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any] | None:
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        last = len(ordered) - 1
        return {
            "count": len(ordered),
            "min": round(ordered[0], 3),
            "median": round(ordered[last // 2], 3),
            "p95": round(ordered[round(last * 0.95)], 3),
            "max": round(ordered[-1], 3),
        }


@dataclass(slots=True)
class EventCounts:
    """Counts of one event name: how often each field was there, and of which kind its values were."""

    count: int = 0
    present: Counter[str] = field(default_factory=Counter)
    kinds: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unmapped: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Keys outside the mapping -> kinds of their values."""


@dataclass(slots=True)
class CallCounts:
    """Counts over calls; each field's comment says of what."""

    calls: int = 0
    without_new_call: int = 0
    new_call_late: int = 0  # a NewCall that is not the first event
    without_end: int = 0  # neither a Hangup nor a CDR
    id_forms: Counter[str] = field(default_factory=Counter)
    clock_ahead: int = 0  # the epoch is over 60 s after the first event
    start_delay: Spread = field(default_factory=Spread)  # from the epoch to a NewCall
    lines_per_call: Counter[int] = field(default_factory=Counter)
    repeats: Counter[str] = field(default_factory=Counter)  # distance of equal events -> copies
    repeat_gap: Spread = field(default_factory=Spread)
    repeated_types: Counter[str] = field(default_factory=Counter)
    answered_before_ringing: int = 0
    hangup_before_ringing: int = 0
    after_cdr: Counter[str] = field(default_factory=Counter)  # type of events that come after a CDR
    cdrs_per_call: Counter[int] = field(default_factory=Counter)
    cdr_delay: Spread = field(default_factory=Spread)  # from the last Hangup to the CDR
    directions: Counter[str] = field(default_factory=Counter)
    direction_changes: int = 0
    from_changes: int = 0
    login_changes: int = 0  # calls in which one line has several logins
    outgoing: int = 0
    outgoing_line_is_from: int = 0
    outgoing_login_first_at: Counter[str] = field(default_factory=Counter)
    answered_by_nobody: int = 0  # Answered without Line, Login and Email: the PBX itself
    answered_by_nobody_first: int = 0  # of these, before anything rang
    with_queue: int = 0
    after_transfer: Counter[str] = field(default_factory=Counter)  # type of the event after AttendedTransfer


@dataclass(slots=True)
class AgentCounts:
    """Counts over agents and their events."""

    agents: int = 0
    never_log_in: int = 0  # on lines of calls, without any agent event
    login_again: int = 0
    logout_of_another_line: int = 0
    paused_without_login: int = 0
    unpaused_without_pause: int = 0
    blank_queue: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Observations:
    """Everything counted in a trace."""

    first_received_at: str | None
    last_received_at: str | None
    events: dict[str, EventCounts]
    unknown_events: Counter[str]
    unknown_directions: Counter[str]
    reasons: dict[str, Counter[str]]
    """Class -> texts, anonymized."""
    calls: CallCounts
    agents: AgentCounts
    between: BetweenCalls


def observe(events: Sequence[Event]) -> Observations:
    """Count what is in *events*, which are in their total order and without copies of one event_id."""
    people = People(events)
    by_call: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    of_agents: list[Event] = []
    for event in events:
        if event.type.is_agent:
            of_agents.append(event)
        elif event.unique_id is not None:
            by_call[event.pbx, event.unique_id].append(event)
    names, unknown, directions = _count_fields(events, people)
    return Observations(
        events[0].received_at if events else None,
        events[-1].received_at if events else None,
        names,
        unknown,
        directions,
        _count_reasons(events, people),
        _count_calls(by_call.values()),
        _count_agents(of_agents, by_call.values()),
        between_calls([event for event in events if not event.type.is_agent]),
    )


# ---------------------------------------------------------------- fields


def _count_fields(
    events: Iterable[Event], people: People
) -> tuple[dict[str, EventCounts], Counter[str], Counter[str]]:
    names: defaultdict[str, EventCounts] = defaultdict(EventCounts)
    unknown: Counter[str] = Counter()
    directions: Counter[str] = Counter()
    for event in events:
        name = event.event_name.strip()
        if event.type is EventType.UNKNOWN:
            name = people.identifier(name)
            unknown[name] += 1
        counts = names[name]
        counts.count += 1
        if event.unique_id is not None:
            counts.present["unique_id"] += 1
            counts.kinds["unique_id"][kind_of(event.unique_id)] += 1
        values = event.model_dump(by_alias=True, include={*FIELDS, "from_"})
        for each in FIELDS:
            value = values[each]
            if value is not None:
                counts.present[each] += 1
                counts.kinds[each]["known" if each == "direction" else kind_of(value)] += 1
        for key, value in event.extra.items():
            if key.casefold() == "direction":
                directions[people.identifier(str(value))] += 1
            else:
                counts.unmapped[people.identifier(key)][kind_of(value)] += 1
    return dict(names), unknown, directions


def _count_reasons(events: Iterable[Event], people: People) -> dict[str, Counter[str]]:
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        if event.reason is not None:
            reasons[(event.reason_class or ReasonClass.OTHER).value][people.phrase(event.reason)] += 1
    return dict(reasons)


# ---------------------------------------------------------------- calls


def _count_calls(calls: Iterable[list[Event]]) -> CallCounts:
    counts = CallCounts()
    for events in calls:
        counts.calls += 1
        _count_start(events, counts)
        _count_end(events, counts)
        _count_parties(events, counts)
        _count_repeats(events, counts)
        _count_order(events, counts)
    return counts


def _count_start(events: list[Event], counts: CallCounts) -> None:
    types = [event.type for event in events]
    if EventType.NEW_CALL not in types:
        counts.without_new_call += 1
    elif types[0] is not EventType.NEW_CALL:
        counts.new_call_late += 1
    parts = split_unique_id(events[0].unique_id or "")
    if parts is None:
        counts.id_forms["another form"] += 1
        return
    counts.id_forms["systemname-epoch.sequence" if parts[0] else "epoch.sequence"] += 1
    delay_s = parse_rfc3339(events[0].received_at) / 1e6 - parts[1]
    if delay_s < -_AHEAD_S:
        counts.clock_ahead += 1
    if types[0] is EventType.NEW_CALL:
        counts.start_delay.seconds.append(delay_s)


def _count_end(events: list[Event], counts: CallCounts) -> None:
    hung_up_us = cdr_us = None
    cdrs = 0
    for event in events:
        if event.type is EventType.HANGUP:
            hung_up_us = parse_rfc3339(event.received_at)
        if event.type is EventType.CDR:
            cdrs += 1
            if cdr_us is None:
                cdr_us = parse_rfc3339(event.received_at)
        elif cdr_us is not None:
            counts.after_cdr[event.type] += 1
    counts.cdrs_per_call[cdrs] += 1
    counts.without_end += hung_up_us is None and cdr_us is None
    if hung_up_us is not None and cdr_us is not None:
        counts.cdr_delay.seconds.append((cdr_us - hung_up_us) / 1e6)


def _count_parties(events: list[Event], counts: CallCounts) -> None:
    counts.lines_per_call[len({event.line for event in events} - {None})] += 1
    counts.with_queue += any(event.queue is not None for event in events)
    directions = {event.direction for event in events} - {None, Direction.BARGE}
    for direction in directions or {None}:
        counts.directions[direction or "none"] += 1
    counts.direction_changes += len(directions) > 1
    counts.from_changes += len({event.from_ for event in events} - {None}) > 1
    logins: defaultdict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.line is not None and event.login is not None:
            logins[event.line].add(event.login.casefold())
    counts.login_changes += any(len(each) > 1 for each in logins.values())
    if directions & _OUTGOING:
        counts.outgoing += 1
        counts.outgoing_line_is_from += any(
            event.line is not None and event.line == event.from_ for event in events
        )
        first = next((event.type.value for event in events if event.login is not None), "never")
        counts.outgoing_login_first_at[first] += 1
    rang = False
    for event in events:
        rang = rang or event.type is EventType.RINGING
        if event.type is EventType.ANSWERED and _party(event) is None:
            counts.answered_by_nobody += 1
            counts.answered_by_nobody_first += not rang


def _count_repeats(events: list[Event], counts: CallCounts) -> None:
    """Count events that equal an earlier one. A phone that a queue rings again makes its Answered and Hangup new ones, too."""
    latest: dict[bytes, int] = {}
    of_party: defaultdict[str | None, set[bytes]] = defaultdict(set)
    for event in events:
        content = orjson.dumps(
            event.model_dump(mode="json", exclude={"event_id", "received_at"}), default=str
        )
        at_us = parse_rfc3339(event.received_at)
        if content in latest:
            gap_us = at_us - latest[content]
            counts.repeat_gap.seconds.append(gap_us / 1e6)
            if gap_us >= _STRATEGY_US and event.type is EventType.RINGING:
                counts.repeats["rings again after 5 s or more"] += 1
                for each in of_party.pop(_party(event), ()):
                    latest.pop(each, None)
            else:
                counts.repeats["within 5 s" if gap_us < _STRATEGY_US else "after 5 s or more"] += 1
                counts.repeated_types[event.type] += 1
        latest[content] = at_us
        of_party[_party(event)].add(content)


def _count_order(events: list[Event], counts: CallCounts) -> None:
    """Count events that came before the Ringing which they need."""
    first: dict[str, tuple[EventType, int]] = {}
    for event, following in zip(events, [*events[1:], None], strict=True):
        if event.type is EventType.ATTENDED_TRANSFER:
            counts.after_transfer["nothing" if following is None else following.type] += 1
        party = _party(event)
        if party is None:
            continue
        at_us = parse_rfc3339(event.received_at)
        earlier = first.setdefault(party, (event.type, at_us))
        if event.type is EventType.RINGING and at_us - earlier[1] <= _SWAP_US:
            counts.answered_before_ringing += earlier[0] is EventType.ANSWERED
            counts.hangup_before_ringing += earlier[0] is EventType.HANGUP
            first[party] = (event.type, at_us)


def _party(event: Event) -> str | None:
    return event.line or event.login or event.email


# ---------------------------------------------------------------- agents


def _count_agents(events: Iterable[Event], calls: Iterable[list[Event]]) -> AgentCounts:
    counts = AgentCounts()
    seen: set[str] = set()
    lines: dict[tuple[str, str | None], str | None] = {}  # (agent, queue) -> line of the login
    paused: set[tuple[str, str | None]] = set()
    for event in events:
        agent = agent_key(event.login, event.line, event.email)
        if agent is None:
            continue
        seen.add(agent)
        place = (agent, event.queue)
        if event.queue is None:
            counts.blank_queue[event.type] += 1
        match event.type:
            case EventType.AGENT_LOGIN:
                counts.login_again += place in lines
                lines[place] = event.line
            case EventType.AGENT_LOGOUT:
                known = lines.pop(place, None)
                counts.logout_of_another_line += None not in (known, event.line) and known != event.line
                paused.discard(place)
            case EventType.AGENT_PAUSED:
                counts.paused_without_login += event.queue is not None and place not in lines
                paused.add(place)
            case EventType.AGENT_UNPAUSED:
                counts.unpaused_without_pause += place not in paused
                paused.discard(place)
    counts.agents = len(seen)
    counts.never_log_in = len(set(_agents_of_calls(calls)) - seen)
    return counts


def _agents_of_calls(calls: Iterable[list[Event]]) -> Iterator[str]:
    for events in calls:
        for event in events:
            if event.login is not None:
                yield event.login.casefold()
