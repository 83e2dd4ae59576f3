"""
Draw an explanation as text: each call as one lane per leg on a time axis, above a list of its events; each agent as a strip of states.

Nothing is cut. Where a line has no room for its figures, they move to a line of their own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from textwrap import wrap
from typing import Final

from consumers.explain import view
from consumers.explain.replay import Explanation
from consumers.explain.view import AgentsView, CallView, Clock, EventRow, Ink, Lane, Wanted, clean

LANE_WIDTH: Final = 20
"""Cells that a lane needs at least to show anything."""

_CODES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "bright_red": "91",
    "bright_green": "92",
    "inferred": "1;7;33",
}
"""Style -> parameters of the escape sequence SGR (ECMA-48, 8.3.117)."""


_FIGURE: Final = re.compile(r"(?<=\d) (?=(?:s|min|h)\b)|(?<=\d min) (?=\d)|(?<=\d h) (?=\d)")
"""The spaces within a length of time; no line ends there."""


@dataclass(frozen=True, slots=True)
class Paper:
    """`blocks`: the terminal has block characters. `colours`: it understands escape sequences."""

    width: int = 100
    blocks: bool = True
    colours: bool = False

    def paint(self, text: str, style: str) -> str:
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colours and text else text

    def glyph(self, ink: Ink) -> str:
        return ink.glyph if self.blocks else ink.plain


def draw(
    explanation: Explanation,
    paper: Paper,
    clock: Clock,
    wanted: Wanted = Wanted(),  # noqa: B008  # frozen
) -> Iterator[str]:
    """Yield the lines: the legend and the summary first, then the calls, the agents, and the rejected lines."""
    drawing = _Drawing(paper, clock)
    if explanation.as_of_us is None:
        yield paper.paint("The trace is empty.", "bold")
        yield from drawing.rejected(explanation)
        return
    yield from drawing.legend()
    yield ""
    yield from drawing.summary(explanation, wanted)
    for call in view.calls(explanation, wanted):
        yield ""
        yield from drawing.call(call)
    agents = view.agents(explanation, wanted, clock)
    if agents is not None:
        yield ""
        yield from drawing.agents(agents)
    yield from drawing.rejected(explanation)


def draw_call(call: CallView, paper: Paper, clock: Clock) -> Iterator[str]:
    """Yield the lines of one call."""
    return _Drawing(paper, clock).call(call)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Widths of a lane's label, cells and result. `below`: the result has no room beside the cells; `above`: nor has the label."""

    label: int
    cells: int
    below: bool
    above: bool


class _Drawing:
    def __init__(self, paper: Paper, clock: Clock) -> None:
        self.paper = paper
        self.clock = clock
        self._paint = paper.paint

    def legend(self) -> Iterator[str]:
        phases = self._inks(view.PHASES)
        yield from self._wrapped("a leg:    ", phases)
        yield from self._wrapped("an agent: ", self._inks(view.STATES))
        more = "…" if self.paper.blocks else "..."
        yield from self._wrapped(
            "",
            [
                f"{self._paint('a', 'inferred')} b c {more}",
                "a value that no event reports:",
                "it is inferred, by the rule and from the event that stand below the lanes.",
                "All else is reported by an event of the list.",
                "Rules: docs/call-rules.md.",
            ],
        )

    def _inks(self, inks: Mapping[str, Ink]) -> list[str]:
        return [f"{self._paint(f'{self.paper.glyph(ink)} {ink.words}', ink.style)} " for ink in inks.values()]

    def _wrapped(self, head: str, parts: Iterable[str]) -> Iterator[str]:
        """Join parts, which may have colours, in lines; a part that is longer than a line is wrapped."""
        line, used = head, len(head)
        for part in parts:
            length = _length(part)
            if used + length > self.paper.width and used > len(head):
                yield line.rstrip()
                line, used = " " * len(head), len(head)
            if length > self.paper.width - used:
                first, *rest = self._fold(part, self.paper.width - used)
                yield line + first
                yield from (" " * len(head) + each for each in rest)
                line, used = " " * len(head), len(head)
                continue
            line, used = f"{line}{part} ", used + length + 1
        if line.strip():
            yield line.rstrip()

    def summary(self, explanation: Explanation, wanted: Wanted) -> Iterator[str]:
        yield self._paint("SUMMARY", "bold")
        for line in view.summary(explanation, wanted, self.clock):
            yield from self._text(line, indent=2 if line.startswith(" ") else 0)

    # ------------------------------------------------------------ calls

    def call(self, call: CallView) -> Iterator[str]:
        yield from self._text(f"CALL {call.title}", "bold")
        separator = " ·" if self.paper.blocks else ","
        facts = [clean(fact) for fact in call.facts]
        yield from self._wrapped("", [*(fact + separator for fact in facts[:-1]), facts[-1]])
        for transfer in call.transfers:
            yield from self._text(transfer, "cyan")
        if call.anomalies:
            yield from self._text("anomalies: " + ", ".join(call.anomalies), "red")
        if call.lanes:
            yield from self._lanes(call.lanes, view.PHASES, call.start_us, call.end_us)
        for inference in call.inferences:
            head = f" {self._paint(inference.sign, 'inferred')} rule {inference.rule:<3}"
            yield from self._hanging(head, 10, inference.text)
        for doubt in call.doubts:
            yield from self._hanging(self._paint(" doubt    ", "inferred"), 10, doubt)
        yield from self._events(call.events)
        if call.dropped:
            yield f"{'…' if self.paper.blocks else '...'} and {call.dropped} more events"

    def _events(self, events: Sequence[EventRow]) -> Iterator[str]:
        rows = [
            (
                str(each.number),
                f"+{each.after_s:.3f}",
                clean(each.name),
                clean(each.line),
                each.effect,
                f"rule {each.rule}" if each.rule else "",
            )
            for each in events
        ]
        widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)]
        for row, event in zip(rows, events, strict=True):
            number, after, name, line, effect, rule = (
                cell.rjust(width) if place < 2 else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            style = "dim" if event.is_quiet else "bold"
            head = (
                f"{number} {self._paint(after, 'dim')}  {name}  {line}  {self._paint(effect, style)}  {rule}"
            )
            length = sum(widths) + 9
            rest = "; ".join(part for part in (event.reports, event.note) if part)
            yield from self._hanging(head + "  ", length + 2, rest) if rest else (head.rstrip(),)

    # ------------------------------------------------------------ agents

    def agents(self, agents: AgentsView) -> Iterator[str]:
        yield self._paint("AGENTS", "bold")
        lanes = [each.lane for each in agents.agents]
        columns = self._columns(lanes)
        yield from self._axis(columns, agents.start_us, agents.end_us)
        for agent in agents.agents:
            yield from self._lane(agent.lane, columns, view.STATES, agents.start_us, agents.end_us)
            for fact in agent.facts:
                yield from self._text(fact, "dim", indent=3)

    # ------------------------------------------------------------ the rest

    def rejected(self, explanation: Explanation) -> Iterator[str]:
        rows = view.rejected(explanation)
        if rows:
            yield ""
            yield self._paint("LINES THAT COULD NOT BE USED", "red")
        for row in rows:
            yield from self._text(row)

    # ------------------------------------------------------------ lanes

    def _lanes(
        self, lanes: Sequence[Lane], inks: Mapping[str, Ink], start_us: int, end_us: int
    ) -> Iterator[str]:
        columns = self._columns(lanes)
        yield from self._axis(columns, start_us, end_us)
        for lane in lanes:
            yield from self._lane(lane, columns, inks, start_us, end_us)

    def _columns(self, lanes: Sequence[Lane]) -> _Columns:
        width = self.paper.width
        label = max(len(_label(lane)) for lane in lanes)
        result = max(len(lane.result) for lane in lanes)
        for below in (False, True):
            cells = width - label - 1 - (0 if below else result + 2)
            if cells >= LANE_WIDTH:
                return _Columns(label, cells, below, above=False)
        return _Columns(0, max(LANE_WIDTH, width), below=True, above=True)

    def _axis(self, columns: _Columns, start_us: int, end_us: int) -> Iterator[str]:
        start, end = self.clock.time(start_us), self.clock.time(end_us)
        gap = " " * max(1, columns.cells - len(start) - len(end))
        indent = "" if columns.above else " " * (columns.label + 1)
        yield self._paint(f"{indent}{start}{gap}{end}", "dim")

    def _lane(
        self, lane: Lane, columns: _Columns, inks: Mapping[str, Ink], start_us: int, end_us: int
    ) -> Iterator[str]:
        label = _label(lane)
        cells = self._cells(lane, columns.cells, inks, start_us, end_us)
        result = self._paint(lane.result, "dim")
        if columns.above:
            yield label
            yield cells
            yield f"  {result}"
        elif columns.below:
            yield f"{label:<{columns.label}} {cells}"
            yield f"{'':<{columns.label}} {result}"
        else:
            yield f"{label:<{columns.label}} {cells}  {result}"

    def _cells(self, lane: Lane, width: int, inks: Mapping[str, Ink], start_us: int, end_us: int) -> str:
        """
        Draw cells of equal time. Each stretch gets at least one cell; the last of several in a cell is visible, and a sign is above all.
        """
        span_us = max(1, end_us - start_us)
        cells: list[tuple[str, str]] = [(" ", "")] * width
        for stretch in lane.stretches:
            first = min(max((stretch.start_us - start_us) * width // span_us, 0), width - 1)
            last = -((start_us - stretch.end_us) * width // span_us)  # rounded up
            last = min(max(last, first + 1), width)
            ink = inks[stretch.what]
            cells[first:last] = [(self.paper.glyph(ink), ink.style)] * (last - first)
        for at_us, sign in lane.marks:
            place = (at_us - start_us) * width // span_us
            cells[min(max(place, 0), width - 1)] = (sign, "inferred")
        if not self.paper.colours:
            return "".join([glyph for glyph, _ in cells])
        return "".join(
            "".join(glyph for glyph, _ in run)
            if not style
            else self._paint("".join(glyph for glyph, _ in run), style)
            for style, run in groupby(cells, key=_style)
        )

    # ------------------------------------------------------------ text

    def _text(self, text: str, style: str = "", indent: int = 0) -> Iterator[str]:
        """Wrap text between words; a word is never broken."""
        margin = " " * indent
        for line in self._fold(clean(text.strip()), self.paper.width - indent):
            yield margin + (self._paint(line, style) if style else line)

    def _hanging(self, head: str, head_length: int, text: str) -> Iterator[str]:
        """Write text beside a head, wrapped in a column of its own, or below it where the column would be too narrow."""
        room = self.paper.width - head_length
        text = clean(text)
        if len(text) <= room:
            yield head + text
            return
        if room < 30:
            yield head.rstrip()
            margin = " " * 8
            yield from (margin + line for line in self._fold(text, self.paper.width - len(margin)))
            return
        first, *rest = self._fold(text, room)
        yield head + first
        yield from (" " * head_length + line for line in rest)

    @staticmethod
    def _fold(text: str, width: int) -> list[str]:
        if len(text) <= width:
            return [text]
        lines = wrap(
            _FIGURE.sub("\u00a0", text), max(width, 1), break_long_words=False, break_on_hyphens=False
        )
        return [line.replace("\u00a0", " ") for line in lines] or [""]


def _label(lane: Lane) -> str:
    return clean(f"{lane.label} ({lane.role})" if lane.role else lane.label)


def _style(cell: tuple[str, str]) -> str:
    return cell[1]


def _length(text: str) -> int:
    """Characters on the screen, without escape sequences."""
    return (
        len(text)
        if "\x1b" not in text
        else sum(
            len(part.partition("m")[2]) if place else len(part)
            for place, part in enumerate(text.split("\x1b["))
        )
    )
