"""
What is drawn of an explanation, in words that need no contract; `drawing` writes it as text and `page` as HTML.

Whatever differs in colour differs in glyph or text too: a pipe has no colours, and not everybody can distinguish them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from string import ascii_letters
from typing import Any, Final
from zoneinfo import ZoneInfo

from consumers.explain.evidence import Evidence, Mark, evidence_of
from consumers.explain.replay import Explanation, Key
from voipex.timestamps import parse_rfc3339

Json = Mapping[str, Any]

SHOWN_CHANGES: Final = 8
"""How many of an agent's last states are also listed with their time."""

SHOWN_MISSED: Final = 10
"""How many missed calls the summary names."""

SHOWN_LINES: Final = 5
"""How many of the lines that were rejected for one reason are named."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ink:
    """How to draw a phase or state. `plain`: for terminals without block characters."""

    glyph: str
    plain: str
    style: str
    words: str


PHASES: Final = {
    "ringing": Ink("░", ".", "yellow", "rings"),
    "talking": Ink("█", "#", "green", "talks with the caller"),
    "consulting": Ink("▒", "%", "cyan", "is consulted by a colleague"),
    "monitoring": Ink("┄", "-", "magenta", "listens in"),
}
STATES: Final = {
    "on_call": Ink("█", "#", "green", "in a call"),
    "monitoring": Ink("┄", "-", "magenta", "listens in"),
    "consulting": Ink("▒", "%", "cyan", "is consulted"),
    "ringing": Ink("░", ".", "yellow", "rings"),
    "paused": Ink("▄", "p", "red", "paused"),
    "partially_paused": Ink("▂", "o", "bright_red", "paused in some queues"),
    "available": Ink("─", "_", "bright_green", "free"),
    "implicit": Ink("╌", "=", "blue", "takes calls, never logged in"),
    "offline": Ink("·", " ", "dim", "logged out"),
    "unknown": Ink("?", "?", "dim", "not known"),
}
EFFECTS: Final = {
    "opened": "the call begins",
    "rang": "rings",
    "parallel": "a second phone rings",
    "answered": "answers",
    "left": "leaves",
    "ended": "ends the call",
    "transferred": "gives the caller away",
    "cancelled": "takes the caller back",
    "cdr": "the call's record",
    "filled": "adds details",
    "none": "changes nothing",
}
QUALITIES: Final = {
    "exact": "certain: events report every value",
    "estimated": "estimated: something is inferred or doubtful",
    "partial": "partial: its beginning or its end was not seen",
}
ROLES: Final = {
    "agent": "",
    "caller": "the caller",
    "consult": "consulted, rule 7",
    "monitor": "listens in, rule 11",
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase or state between two moments, in microseconds."""

    start_us: int
    end_us: int
    what: str


@dataclass(frozen=True, slots=True)
class Inference:
    """An inferred value: its sign in the drawing, what it is, the rule, its sentence, and the number of the event it follows from."""

    sign: str
    what: str
    rule: str
    why: str
    event: int

    @property
    def text(self) -> str:
        source = f" (event {self.event})" if self.event else " (time alone)"
        return f"{self.what}: {self.why}{source}"


@dataclass(frozen=True, slots=True)
class Lane:
    """A leg or agent on the time axis. `marks`: the signs of inferred values, each at its moment."""

    label: str
    role: str
    stretches: Sequence[Stretch]
    result: str
    marks: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, slots=True)
class EventRow:
    number: int
    after_s: float
    name: str
    line: str
    effect: str
    rule: str
    reports: str
    note: str

    @property
    def is_quiet(self) -> bool:
        """Whether it changes nothing that is drawn."""
        return self.effect in {EFFECTS["none"], EFFECTS["filled"]}


@dataclass(frozen=True, slots=True)
class CallView:
    title: str
    facts: Sequence[str]
    transfers: Sequence[str]
    anomalies: Sequence[str]
    start_us: int
    end_us: int
    lanes: Sequence[Lane]
    inferences: Sequence[Inference]
    doubts: Sequence[str]
    events: Sequence[EventRow]
    dropped: int


@dataclass(frozen=True, slots=True)
class AgentView:
    lane: Lane
    facts: Sequence[str]


@dataclass(frozen=True, slots=True)
class AgentsView:
    start_us: int
    end_us: int
    agents: Sequence[AgentView]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls and agents to draw. None: all."""

    call: str | None = None
    agent: str | None = None
    since_us: int | None = None

    def is_call(self, timeline: Json) -> bool:
        if self.call is not None and timeline["call_id"] != self.call:
            return False
        if self.since_us is not None and _last_us(timeline) < self.since_us:
            return False
        return self.agent is None or any(self._is_leg(leg) for leg in timeline["legs"])

    def _is_leg(self, leg: Json) -> bool:
        """Whether the leg is of the agent, by login, line or e-mail."""
        names = (leg["login"], leg["line"], leg["email"])
        return (self.agent or "").casefold() in [name.casefold() for name in names if name is not None]

    def is_agent(self, status: Json) -> bool:
        if self.call is not None:
            return False
        names = (status["agent"], status["login"], status["line"], status["email"])
        return self.agent is None or self.agent.casefold() in [
            name.casefold() for name in names if name is not None
        ]


def _last_us(timeline: Json) -> int:
    """When the call ended; an open one goes on."""
    if timeline["ended_at"] is not None:
        return parse_rfc3339(timeline["ended_at"])
    return 1 << 62


class Clock:
    """Moments in a time zone."""

    def __init__(self, time_zone: str) -> None:
        self.name = time_zone
        self._zone: tzinfo = ZoneInfo(time_zone)

    def moment(self, at_us: int) -> str:
        """`2026-03-02 08:05:29.640+01:00`."""
        return self._local(at_us).isoformat(sep=" ", timespec="milliseconds")

    def time(self, at_us: int) -> str:
        """`08:05:29`."""
        return self._local(at_us).strftime("%H:%M:%S")

    def _local(self, at_us: int) -> datetime:
        return (_EPOCH + timedelta(microseconds=at_us)).astimezone(self._zone)


# ---------------------------------------------------------------- calls


def calls(explanation: Explanation, wanted: Wanted) -> Iterator[CallView]:
    as_of_us = explanation.as_of_us or 0
    for timeline in explanation.timelines:
        if wanted.is_call(timeline):
            state = explanation.call_states.get((timeline["pbx"], timeline["call_id"]))
            yield _call(timeline, None if state is None else evidence_of(state, timeline, as_of_us), as_of_us)


def _call(timeline: Json, evidence: Evidence | None, as_of_us: int) -> CallView:
    start_us, end_us = _span(timeline, as_of_us)
    marks = () if evidence is None else evidence.inferred
    inferences = [_inference(place, mark, timeline) for place, mark in enumerate(marks)]
    lanes = []
    for leg in timeline["legs"]:
        own = [
            (mark, each.sign) for mark, each in zip(marks, inferences, strict=True) if mark.leg == leg["leg"]
        ]
        signs = f" [{''.join(sign for _, sign in own)}]" if own else ""
        lanes.append(
            Lane(
                f"{leg['leg']} {_party(leg)}",
                ROLES[leg["role"]],
                _stretches(leg, as_of_us),
                _result(leg) + signs,
                [(mark.at_us, sign) for mark, sign in own if mark.at_us is not None],
            )
        )
    return CallView(
        f"{timeline['pbx']} {timeline['call_id']}  {timeline['from'] or '?'} to {timeline['to'] or '?'}",
        list(_facts(timeline)),
        [_transfer(each) for each in timeline["transfers"]],
        timeline["anomalies"],
        start_us,
        end_us,
        lanes,
        inferences,
        () if evidence is None else evidence.doubts,
        [_event(place, each, evidence, start_us) for place, each in enumerate(timeline["events"])],
        timeline["events_dropped"],
    )


def _span(timeline: Json, as_of_us: int) -> tuple[int, int]:
    moments = [parse_rfc3339(event["at"]) for event in timeline["events"]]
    moments += [parse_rfc3339(leg["ended_at"]) for leg in timeline["legs"] if leg["ended_at"] is not None]
    is_open = timeline["status"] not in {"ended", "stale"}
    return min(moments), max([*moments, as_of_us] if is_open else moments)


def _facts(timeline: Json) -> Iterator[str]:
    yield _words(timeline["direction"] or "direction not known")
    yield _words(timeline["status"])
    if timeline["outcome"]:
        yield _words(timeline["outcome"])
    for word, name in (("waited", "wait_s"), ("talked", "talk_s"), ("lasted", "duration_s")):
        if timeline[name] is not None and (name != "talk_s" or timeline[name]):
            yield f"{word} {seconds(timeline[name])}"
    if timeline["queues"]:
        yield "queues " + ", ".join(timeline["queues"])
    if timeline["answered_by"]:
        yield "answered by " + ", ".join(timeline["answered_by"])
    yield QUALITIES[timeline["quality"]]


def _transfer(transfer: Json) -> str:
    ends = f"{transfer['from_line'] or '?'} to {transfer['to_line'] or '?'}"
    return f"transfer {_words(transfer['kind'])}: {ends}, confidence {transfer['confidence']}"


def _inference(place: int, mark: Mark, timeline: Json) -> Inference:
    sign = ascii_letters[place] if place < len(ascii_letters) else "*"
    if mark.leg:
        leg = timeline["legs"][mark.leg - 1]
        what = f"leg {mark.leg} ({leg['line'] or leg['login'] or '?'}) {_words(mark.what)}"
    else:
        what = _words(mark.what)
    return Inference(sign, what, mark.rule, mark.why, mark.place)


def _event(place: int, event: Json, evidence: Evidence | None, start_us: int) -> EventRow:
    marks = [] if evidence is None else [mark for mark in evidence.reported if mark.place == place + 1]
    reports = [_words(mark.what) if not mark.leg else f"leg {mark.leg} {_words(mark.what)}" for mark in marks]
    return EventRow(
        place + 1,
        (parse_rfc3339(event["at"]) - start_us) / 1e6,
        event["event_name"],
        event["line"] or "",
        EFFECTS[event["effect"]],
        "" if evidence is None else evidence.rules[place],
        ", ".join(reports),
        event["note"] or "",
    )


def _stretches(leg: Json, as_of_us: int) -> list[Stretch]:
    """Return the phases of a leg: ringing, consulting, talking; a monitor monitors all the time."""
    end_us = as_of_us if leg["ended_at"] is None else parse_rfc3339(leg["ended_at"])
    ring_us = None if leg["ring_started_at"] is None else parse_rfc3339(leg["ring_started_at"])
    answered_us = None if leg["answered_at"] is None else parse_rfc3339(leg["answered_at"])
    start_us = next((each for each in (ring_us, answered_us) if each is not None), end_us)
    if leg["role"] == "monitor":
        return [Stretch(start_us, end_us, "monitoring")]
    if answered_us is None:
        return [Stretch(start_us, end_us, "ringing")]
    stretches = (
        [] if ring_us is None or ring_us >= answered_us else [Stretch(ring_us, answered_us, "ringing")]
    )
    if leg["role"] == "consult":
        return [*stretches, Stretch(answered_us, end_us, "consulting")]
    talks_us = answered_us
    if _was_consulted(leg):  # and then took the call over: talk_s begins where consult_s ends
        talks_us += round(leg["consult_s"] * 1_000_000)
        stretches.append(Stretch(answered_us, talks_us, "consulting"))
    return [*stretches, Stretch(talks_us, end_us, "talking")]


def _was_consulted(leg: Json) -> bool:
    """Return whether the leg was consulted first. A leg that consults talks meanwhile: consult_s is part of its talk_s."""
    if leg["consult_s"] is None or leg["talk_s"] is None or leg["ended_at"] is None:
        return False
    answered_s = (parse_rfc3339(leg["ended_at"]) - parse_rfc3339(leg["answered_at"])) / 1e6
    return bool(leg["talk_s"] < answered_s - leg["consult_s"] / 2)


def _party(leg: Json) -> str:
    return " ".join(
        [leg[name] for name in ("line", "login") if leg[name] is not None] or [leg["email"] or "?"]
    )


def _result(leg: Json) -> str:
    words = _words(leg["result"] or "open")
    if leg["talk_s"] is not None:
        return f"{words}, talked {seconds(leg['talk_s'])}"
    if leg["ring_s"] is not None:
        return f"{words}, rang {seconds(leg['ring_s'])}"
    return words


# ---------------------------------------------------------------- agents


def agents(explanation: Explanation, wanted: Wanted, clock: Clock) -> AgentsView | None:
    """None if no agent is wanted."""
    shown = [status for status in explanation.agents if wanted.is_agent(status)]
    if not shown:
        return None
    states: dict[Key, Sequence[tuple[str, str]]] = {}
    for status in shown:
        key = (status["pbx"], status["agent"])
        states[key] = explanation.states[key]
    as_of_us = explanation.as_of_us or 0
    start_us = min(parse_rfc3339(each[0][0]) for each in states.values())
    if wanted.since_us is not None:
        start_us = min(max(start_us, wanted.since_us), as_of_us)
    return AgentsView(
        start_us,
        as_of_us,
        [
            _agent(status, states[status["pbx"], status["agent"]], start_us, as_of_us, clock)
            for status in shown
        ],
    )


def _agent(
    status: Json, states: Sequence[tuple[str, str]], start_us: int, as_of_us: int, clock: Clock
) -> AgentView:
    ends = [parse_rfc3339(since) for since, _ in states[1:]] + [as_of_us]
    stretches = [
        Stretch(max(parse_rfc3339(since), start_us), end_us, state)
        for (since, state), end_us in zip(states, ends, strict=True)
        if end_us >= start_us
    ]
    changes = [
        f"{clock.time(parse_rfc3339(since))} {STATES[state].words}"
        for since, state in states[-SHOWN_CHANGES:]
    ]
    facts = [", ".join((["…"] if len(states) > SHOWN_CHANGES else []) + changes)]
    if status["queues"]:
        facts.append("queues: " + ", ".join(_queue(name, each) for name, each in status["queues"].items()))
    facts += [_day(day, totals) for day, totals in status["days"].items()]
    label = f"{status['pbx']} {status['agent']}"
    return AgentView(Lane(label, "", stretches, STATES[status["state"]].words), facts)


def _queue(name: str, queue: Json) -> str:
    if not queue["paused"]:
        return name
    return f"{name} (paused{', ' + queue['pause_name'] if queue['pause_name'] else ''})"


def _day(day: str, totals: Json) -> str:
    counts = (
        ("answered", totals["answered_in"] + totals["answered_out"]),
        ("missed", totals["missed_rings"]),
        ("unanswered out", totals["unanswered_out"]),
        ("answered elsewhere", totals["answered_elsewhere"]),
        ("transfers", totals["transfers"]),
        ("pauses", totals["pauses"]),
    )
    sums = (("talked", "talk_s"), ("rang", "ring_s"), ("logged in", "login_s"), ("paused", "paused_s"))
    parts = [f"{name} {count}" for name, count in counts if count]
    parts += [f"{name} {seconds(totals[each])}" for name, each in sums if totals[each]]
    return f"{day}: {', '.join(parts) or 'nothing'}"


# ---------------------------------------------------------------- summary


def summary(explanation: Explanation, wanted: Wanted, clock: Clock) -> list[str]:
    """The trace in a few lines: what was counted, and the last missed calls with their reason."""
    outcomes: Counter[str] = Counter()
    qualities: Counter[str] = Counter()
    missed: list[tuple[str, Json]] = []
    first: str | None = None
    for timeline in explanation.timelines:
        if not wanted.is_call(timeline):
            continue
        began = timeline["started_at"] or timeline["events"][0]["at"]
        first = began if first is None else min(first, began)
        outcomes[timeline["outcome"] or f"still {timeline['status']}"] += 1
        qualities[timeline["quality"]] += 1
        if timeline["outcome"] in {"missed", "busy", "rejected", "unreachable", "failed"}:
            missed.append((began, {name: timeline[name] for name in _OF_MISSED}))
    known_agents = sum(wanted.is_agent(status) for status in explanation.agents)
    as_of = clock.moment(explanation.as_of_us or 0)
    total = outcomes.total()
    lines = [
        f"{_many(explanation.events, 'event')}, {_many(total, 'call')}, {_many(known_agents, 'agent')}; as of {as_of} ({clock.name})"
    ]
    if total and first is not None:
        lines.append(
            f"calls since {clock.moment(parse_rfc3339(first))}: "
            + ", ".join(f"{_words(name)} {count}" for name, count in outcomes.most_common())
        )
        lines += [f"{qualities[name]} {words}" for name, words in QUALITIES.items() if qualities[name]]
    if missed:
        missed.sort(key=lambda each: each[0], reverse=True)
        lines.append(
            "not reached"
            + (f", the last {SHOWN_MISSED} of {len(missed)}" if len(missed) > SHOWN_MISSED else "")
            + ":"
        )
        lines += [f"  {_why_missed(timeline, began, clock)}" for began, timeline in missed[:SHOWN_MISSED]]
    return lines


_OF_MISSED: Final = ("call_id", "from", "to", "outcome", "legs", "duration_s")


def _why_missed(timeline: Json, began: str, clock: Clock) -> str:
    legs = [leg for leg in timeline["legs"] if leg["role"] in {"agent", "caller"}]
    if not legs:
        why = "no line rang"
    else:
        rounds = Counter(
            f"{leg['line'] or leg['login'] or '?'} {_words(leg['result'] or 'open')}" for leg in legs
        )
        parts = [name if count == 1 else f"{name} {count} times" for name, count in rounds.most_common(4)]
        more = len(rounds) - len(parts)
        why = ", ".join(parts) + (f" and {more} more" if more > 0 else "")
    lasted = "" if timeline["duration_s"] is None else f" after {seconds(timeline['duration_s'])}"
    ends = f"{timeline['from'] or '?'} to {timeline['to'] or '?'}"
    return f"{clock.time(parse_rfc3339(began))} {timeline['call_id']} {ends}, {_words(timeline['outcome'])}{lasted}: {why}"


def rejected(explanation: Explanation) -> list[str]:
    """The lines that could not be used, by reason."""
    by_reason: dict[str, list[int]] = {}
    for each in explanation.rejected:
        by_reason.setdefault(each.why, []).append(each.line)
    rows = []
    for why, lines in by_reason.items():
        shown = ", ".join(map(str, lines[:SHOWN_LINES])) + (
            "" if len(lines) <= SHOWN_LINES else f" and {len(lines) - SHOWN_LINES} more"
        )
        rows.append(f"line{'s' if len(lines) > 1 else ''} {shown}: {why}")
    return rows


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _words(code: str) -> str:
    return code.replace("_", " ")


def seconds(length_s: float) -> str:
    """`28 s`, `4 min 12 s`, `1 h 02 min`."""
    if length_s < 60:
        return f"{length_s:.3f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(round(length_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clean(text: str) -> str:
    """Return text of the PBX with a dot for each control character: those could move the cursor or change colours."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "·" for each in text)
