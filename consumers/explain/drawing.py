"""
Draw documents for a person: each call as one lane per leg on a time axis, above a list of its events with effect and reason; each agent
as a strip of states.

Whatever differs in colour differs in glyph too: a pipe has no colours, and not everybody can distinguish them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumers.explain.replay import Explanation
from voipex.timestamps import parse_rfc3339

Json = Mapping[str, Any]

LABEL_WIDTH: Final = 30
RESULT_WIDTH: Final = 28
SHOWN_CHANGES: Final = 8
"""How many of an agent's last states are also listed with their time."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ink:
    """How to draw a phase or state. `plain`: for terminals without block characters."""

    glyph: str
    plain: str
    style: str


PHASES: Final = {
    "ringing": Ink("░", ".", "yellow"),
    "talking": Ink("█", "#", "green"),
    "consulting": Ink("▒", "%", "cyan"),
    "monitoring": Ink("┄", "-", "magenta"),
}
STATES: Final = {
    "on_call": Ink("█", "#", "green"),
    "monitoring": Ink("┄", "-", "magenta"),
    "consulting": Ink("▒", "%", "cyan"),
    "ringing": Ink("░", ".", "yellow"),
    "paused": Ink("▄", "p", "red"),
    "partially_paused": Ink("▂", "o", "bright_red"),
    "available": Ink("─", "_", "bright_green"),
    "implicit": Ink("╌", "=", "blue"),
    "offline": Ink("·", " ", "dim"),
    "unknown": Ink("?", "?", "dim"),
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase or state between two moments, in microseconds."""

    start_us: int
    end_us: int
    what: str


def draw(explanation: Explanation, console: Console, time_zone: str) -> None:
    """Print the calls, then the agents, then the rejected lines."""
    drawing = _Drawing(console, ZoneInfo(time_zone), explanation)
    for timeline in explanation.timelines:
        drawing.draw_call(timeline)
    if explanation.agents:
        drawing.draw_agents()
    drawing.draw_rejected()
    if explanation.as_of_us is None:
        console.print(Text("The trace is empty.", "bold"))
    else:
        drawing.draw_legend()


class _Drawing:
    def __init__(self, console: Console, zone: tzinfo, explanation: Explanation) -> None:
        self.console = console
        self.zone = zone
        self.explanation = explanation
        self.as_of_us = explanation.as_of_us or 0
        self.width = max(20, console.width - LABEL_WIDTH - RESULT_WIDTH - 4)
        self.blocks = console.encoding.lower().startswith("utf")

    # ------------------------------------------------------------ calls

    def draw_call(self, timeline: Json) -> None:
        start_us, end_us = self._span(timeline)
        self._headline(timeline)
        self._axis(start_us, end_us)
        for leg in timeline["legs"]:
            lane = self._lane(_stretches(leg, self.as_of_us), PHASES, start_us, end_us)
            label = Text(f"{leg['leg']:>2} ") + _party(leg)
            if leg["role"] != "agent":
                label.append(f" {leg['role']}", "dim")
            self._row(label, lane, _result(leg))
        self._events(timeline, start_us)
        self.console.print()

    def _span(self, timeline: Json) -> tuple[int, int]:
        moments = [parse_rfc3339(event["at"]) for event in timeline["events"]]
        moments += [parse_rfc3339(leg["ended_at"]) for leg in timeline["legs"] if leg["ended_at"] is not None]
        is_open = timeline["status"] not in {"ended", "stale"}
        return min(moments), max([*moments, self.as_of_us] if is_open else moments)

    def _headline(self, timeline: Json) -> None:
        title = Text("CALL ", "bold") + _clean(f"{timeline['pbx']} {timeline['call_id']}", "bold")
        ends = [_clean(timeline[end] or "?") for end in ("from", "to")]
        title += Text("  ") + ends[0] + Text(" → " if self.blocks else " -> ") + ends[1]
        self.console.print(title)
        facts = [timeline["direction"] or "direction unknown", timeline["status"]]
        facts += [timeline["outcome"]] if timeline["outcome"] else []
        facts += [
            f"{word} {_seconds(timeline[name])}"
            for word, name in (("waited", "wait_s"), ("talked", "talk_s"), ("lasted", "duration_s"))
            if timeline[name] is not None
        ]
        if timeline["queues"]:
            facts.append("queues " + ", ".join(timeline["queues"]))
        if timeline["answered_by"]:
            facts.append("answered by " + ", ".join(timeline["answered_by"]))
        facts.append(f"quality {timeline['quality']}")
        self.console.print(_clean(" · ".join(facts) if self.blocks else ", ".join(facts)))
        for transfer in timeline["transfers"]:
            line = (
                f"transfer {transfer['kind']}: {transfer['from_line'] or '?'} to {transfer['to_line'] or '?'}"
            )
            self.console.print(_clean(f"{line}, confidence {transfer['confidence']}", "cyan"))
        if timeline["anomalies"]:
            self.console.print(Text("anomalies: " + ", ".join(timeline["anomalies"]), "red"))

    def _events(self, timeline: Json, start_us: int) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", no_wrap=True)
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for event in timeline["events"]:
            effect = event["effect"]
            table.add_row(
                Text(f"+{(parse_rfc3339(event['at']) - start_us) / 1e6:.3f}", "dim"),
                _clean(event["event_name"]),
                _clean(event["line"] or ""),
                Text(effect, "dim" if effect in {"none", "filled"} else "bold"),
                _clean(event["note"] or ""),
            )
        self.console.print(table)
        if timeline["events_dropped"]:
            self.console.print(f"… and {timeline['events_dropped']} more events")

    # ------------------------------------------------------------ agents

    def draw_agents(self) -> None:
        explanation = self.explanation
        start_us = min(parse_rfc3339(states[0][0]) for states in explanation.states.values())
        self.console.print(Text("AGENTS", "bold"))
        self._axis(start_us, self.as_of_us)
        for status in explanation.agents:
            states = explanation.states[status["pbx"], status["agent"]]
            ends = [parse_rfc3339(since) for since, _ in states[1:]] + [self.as_of_us]
            stretches = [
                Stretch(parse_rfc3339(since), end_us, state)
                for (since, state), end_us in zip(states, ends, strict=True)
            ]
            label = _clean(f"{status['pbx']} {status['agent']}")
            strip = self._lane(stretches, STATES, start_us, self.as_of_us)
            self._row(label, strip, Text(status["state"], STATES[status["state"]].style))
            self._facts(status, states)

    def _facts(self, status: Json, states: Sequence[tuple[str, str]]) -> None:
        changes = [f"{self._clock(parse_rfc3339(since))} {state}" for since, state in states[-SHOWN_CHANGES:]]
        facts = [", ".join((["…"] if len(states) > SHOWN_CHANGES else []) + changes)]
        if status["queues"]:
            facts.append(
                "queues: " + ", ".join(_queue(name, each) for name, each in status["queues"].items())
            )
        facts += [_day(day, totals) for day, totals in status["days"].items()]
        for fact in facts:
            self.console.print(Text("   ") + _clean(fact, "dim"))

    # ------------------------------------------------------------ the rest

    def draw_rejected(self) -> None:
        if self.explanation.rejected:
            self.console.print(Text("LINES THAT COULD NOT BE USED", "bold red"))
        for rejected in self.explanation.rejected:
            self.console.print(Text(f"{rejected.line:>6}  ") + _clean(rejected.why))

    def draw_legend(self) -> None:
        as_of = self._moment(self.as_of_us).isoformat(sep=" ", timespec="milliseconds")
        self.console.print(Text(f"as of {as_of} ({self.zone})", "dim"))
        if self.explanation.timelines:
            self.console.print(Text("legs: ") + self._inks(PHASES))
        if self.explanation.agents:
            self.console.print(Text("states: ") + self._inks(STATES))

    def _inks(self, inks: Mapping[str, Ink]) -> Text:
        return Text("  ").join(Text(f"{self._glyph(ink)} {name}", ink.style) for name, ink in inks.items())

    def _glyph(self, ink: Ink) -> str:
        return ink.glyph if self.blocks else ink.plain

    def _axis(self, start_us: int, end_us: int) -> None:
        start, end = self._clock(start_us), self._clock(end_us)
        gap = " " * max(1, self.width - len(start) - len(end))
        self.console.print(
            Text(" " * (LABEL_WIDTH + 1) + start + gap + end, "dim"), no_wrap=True, overflow="crop"
        )

    def _row(self, label: Text, lane: Text, result: Text) -> None:
        label = label.copy()
        label.truncate(LABEL_WIDTH, overflow="ellipsis" if self.blocks else "crop", pad=True)
        self.console.print(
            label + Text(" ") + lane + Text("  ") + result, no_wrap=True, overflow="crop", highlight=False
        )

    def _lane(
        self, stretches: Iterable[Stretch], inks: Mapping[str, Ink], start_us: int, end_us: int
    ) -> Text:
        """Draw cells of equal time. Each stretch gets at least one cell; the last of several in a cell is visible."""
        span_us = max(1, end_us - start_us)
        cells: list[Ink | None] = [None] * self.width
        for stretch in stretches:
            first = (stretch.start_us - start_us) * self.width // span_us
            last = -((start_us - stretch.end_us) * self.width // span_us)  # rounded up
            first = min(max(first, 0), self.width - 1)
            for cell in range(first, min(max(last, first + 1), self.width)):
                cells[cell] = inks[stretch.what]
        lane = Text()
        for ink in cells:
            lane.append(" " if ink is None else self._glyph(ink), None if ink is None else ink.style)
        return lane

    def _moment(self, at_us: int) -> datetime:
        return (_EPOCH + timedelta(microseconds=at_us)).astimezone(self.zone)

    def _clock(self, at_us: int) -> str:
        return self._moment(at_us).strftime("%H:%M:%S")


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


def _party(leg: Json) -> Text:
    names = [leg[name] for name in ("line", "login") if leg[name] is not None] or [leg["email"] or "?"]
    return _clean(" ".join(names))


def _result(leg: Json) -> Text:
    talk_s, ring_s = leg["talk_s"], leg["ring_s"]
    words = [leg["result"] or "open"]
    if talk_s is not None:
        words.append(f"talk {_seconds(talk_s)}")
    elif ring_s is not None:
        words.append(f"ring {_seconds(ring_s)}")
    return Text(" ".join(words), "dim")


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
    sums = (("talk", "talk_s"), ("ring", "ring_s"), ("login", "login_s"), ("paused", "paused_s"))
    parts = [f"{name} {count}" for name, count in counts if count]
    parts += [f"{name} {_seconds(totals[each])}" for name, each in sums if totals[each]]
    return f"{day}: {', '.join(parts)}"


def _seconds(length_s: float) -> str:
    """`28 s`, `4 min 12 s`, `1 h 02 min`."""
    if length_s < 60:
        return f"{length_s:.3f}".rstrip("0").rstrip(".") + " s"
    minutes, seconds = divmod(round(length_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _clean(text: str, style: str = "") -> Text:
    """Return text of the PBX with a dot for each control character: those could move the cursor or change colours."""
    return Text("".join(each if each.isprintable() else "·" for each in text), style)
