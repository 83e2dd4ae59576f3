"""
Draw an explanation as one self-contained HTML page, and a call as an SVG picture.

The page loads nothing and runs no script, and its policy forbids both. Every text of the PBX is escaped.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from consumers.explain import view
from consumers.explain.replay import Explanation
from consumers.explain.view import CallView, Clock, Ink, Lane, Wanted, clean

_CHARACTER: Final = 7.3
"""Pixels of a character of the monospaced font at 12 px."""
_CELLS: Final = 560
_ROW: Final = 22

_FILLS: Final = {
    "yellow": "#b7791f",
    "green": "#2f855a",
    "cyan": "#0987a0",
    "magenta": "#97266d",
    "red": "#c53030",
    "bright_red": "#dd6b20",
    "bright_green": "#68d391",
    "blue": "#2b6cb0",
    "dim": "#a0aec0",
}
_HATCHED: Final = frozenset({"ringing", "implicit", "partially_paused"})
_DOTTED: Final = frozenset({"consulting", "unknown"})
_THIN: Final = frozenset({"monitoring", "available", "offline"})

_STYLE: Final = """
:root { color-scheme: light dark; --faint: color-mix(in srgb, CanvasText 60%, Canvas) }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem } p { margin: .2rem 0 }
.drawing { overflow-x: auto; background: #fff; border: 1px solid #cbd5e0; margin: .5rem 0; width: fit-content; max-width: 100% }
table { border-collapse: collapse; margin: .4rem 0 } td { padding: .1rem .8rem .1rem 0; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } tr.quiet, .faint { color: var(--faint) }
tr:target { outline: 2px solid #dd6b20 }
b.i { background: #faf089; color: #000; border-radius: .3rem; padding: 0 .3rem }
pre { white-space: pre-wrap }
"""


def page(explanation: Explanation, clock: Clock, wanted: Wanted) -> Iterator[str]:
    """Yield the page in pieces."""
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width">'
        f"<title>voipex-consumers explain</title><style>{_STYLE}</style></head><body>\n"
        "<h1>Calls and agents of a recorded trace</h1>\n"
    )
    yield (
        f'<div class="drawing">{_legend()}</div>\n'
        '<p><b class="i">a</b> marks a value that no event reports: it is inferred, by the rule and from the event named below the drawing. '
        "All else is reported by an event of the list. Rules: docs/call-rules.md.</p>\n"
    )
    if explanation.as_of_us is None:
        yield "<p>The trace is empty.</p>\n"
    else:
        lines = "\n".join(view.summary(explanation, wanted, clock))
        yield f"<h2>Summary</h2>\n<pre>{_text(lines)}</pre>\n"
        for number, call in enumerate(view.calls(explanation, wanted)):
            yield from _call(number, call, clock)
        yield from _agents(explanation, clock, wanted)
    rejected = view.rejected(explanation)
    if rejected:
        yield "<h2>Lines that could not be used</h2>\n"
        yield from (f"<p>{_text(row)}</p>\n" for row in rejected)
    yield "</body></html>\n"


def _call(number: int, call: CallView, clock: Clock) -> Iterator[str]:
    yield f"<section><h2>Call {_text(call.title)}</h2>\n<p>{_text(' · '.join(call.facts))}</p>\n"
    yield from (f"<p>{_text(transfer)}</p>\n" for transfer in call.transfers)
    if call.anomalies:
        yield f"<p>anomalies: {_text(', '.join(call.anomalies))}</p>\n"
    if call.lanes:
        yield f'<div class="drawing">{_lanes(call.lanes, view.PHASES, call.start_us, call.end_us, clock)}</div>\n'
    for each in call.inferences:
        link = f'<a href="#e{number}-{each.event}">{_text(each.text)}</a>' if each.event else _text(each.text)
        yield f'<p><b class="i">{each.sign}</b> rule {each.rule}: {link}</p>\n'
    yield from (f'<p><b class="i">doubt</b> {_text(doubt)}</p>\n' for doubt in call.doubts)
    yield "<table>\n"
    for row in call.events:
        reports = "; ".join(part for part in (row.reports, row.note) if part)
        yield (
            f'<tr id="e{number}-{row.number}"{" class=quiet" if row.is_quiet else ""}><td class="n">{row.number}<td class="n">+{row.after_s:.3f}'
            f"<td>{_text(row.name)}<td>{_text(row.line)}<td>{row.effect}<td>{f'rule {row.rule}' if row.rule else ''}<td>{_text(reports)}</tr>\n"
        )
    yield "</table>\n"
    if call.dropped:
        yield f"<p>and {call.dropped} more events</p>\n"
    yield "</section>\n"


def _agents(explanation: Explanation, clock: Clock, wanted: Wanted) -> Iterator[str]:
    agents = view.agents(explanation, wanted, clock)
    if agents is None:
        return
    lanes = [agent.lane for agent in agents.agents]
    yield "<section><h2>Agents</h2>\n"
    yield f'<div class="drawing">{_lanes(lanes, view.STATES, agents.start_us, agents.end_us, clock)}</div>\n'
    for agent in agents.agents:
        yield f"<p>{_text(agent.lane.label)}</p>\n"
        yield from (f'<p class="faint">{_text(fact)}</p>\n' for fact in agent.facts)
    yield "</section>\n"


def _text(text: str) -> str:
    return escape("\n".join(clean(line) for line in text.split("\n")))


# ---------------------------------------------------------------- pictures


def picture(call: CallView, clock: Clock) -> str:
    """A call as an SVG file."""
    return _lanes(call.lanes, view.PHASES, call.start_us, call.end_us, clock) + "\n"


def _lanes(lanes: Sequence[Lane], inks: Mapping[str, Ink], start_us: int, end_us: int, clock: Clock) -> str:
    """Draw lanes below their time axis; the columns are as wide as their longest text."""
    labels = [clean(f"{lane.label} ({lane.role})" if lane.role else lane.label) for lane in lanes]
    left = _width(labels)
    parts = [
        _label(left, 14, clock.time(start_us), "#4a5568"),
        _label(left + _CELLS, 14, clock.time(end_us), "#4a5568", anchor="end"),
    ]
    for place, (lane, label) in enumerate(zip(lanes, labels, strict=True)):
        top = 22 + place * _ROW
        parts.append(_label(8, top + 14, label))
        scale = _CELLS / max(1, end_us - start_us)
        for stretch in lane.stretches:
            x = left + max(0.0, (stretch.start_us - start_us) * scale)
            width = max(1.5, min((stretch.end_us - start_us) * scale, _CELLS) - (x - left))
            parts.append(_bar(stretch.what, inks[stretch.what], x, top + 3, width))
        for at_us, sign in lane.marks:
            parts.append(_mark(left + min(max((at_us - start_us) * scale, 0), _CELLS), top, sign))
        parts.append(_label(left + _CELLS + 10, top + 14, lane.result, "#4a5568"))
    width = left + _CELLS + 10 + _width([lane.result for lane in lanes])
    return _svg(width, 28 + len(lanes) * _ROW, parts)


def _legend() -> str:
    parts = []
    top = 4
    for inks in (view.PHASES, view.STATES):
        left = 8.0
        for what, ink in inks.items():
            if left > 700:
                left, top = 8.0, top + _ROW
            parts += [_bar(what, ink, left, top + 3, 28), _label(left + 34, top + 14, ink.words)]
            left += 34 + _width([ink.words]) + 8
        top += _ROW
    return _svg(960, top + 4, parts)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    hatch = '<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V5" stroke="#fff" stroke-width="4"/></pattern>'
    dots = '<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse"><circle cx="2.5" cy="2.5" r="1.6" fill="#fff"/></pattern>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f"<defs>{hatch}{dots}</defs>{''.join(parts)}</svg>"
    )


def _bar(what: str, ink: Ink, x: float, y: float, width: float) -> str:
    """A phase or state: its pattern differs where its colour does."""
    colour = _FILLS[ink.style]
    title = f"<title>{escape(ink.words)}</title>"
    if what in _THIN:
        return (
            f'<rect x="{x:.1f}" y="{y + 6:.1f}" width="{width:.1f}" height="4" fill="{colour}">{title}</rect>'
        )
    bar = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="16" fill="{colour}" stroke="{colour}">{title}</rect>'
    pattern = "hatch" if what in _HATCHED else "dots" if what in _DOTTED else None
    if pattern is None:
        return bar
    return f'{bar}<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="16" fill="url(#{pattern})" pointer-events="none"/>'


def _mark(x: float, top: float, sign: str) -> str:
    return (
        f'<path d="M{x:.1f} {top}v{_ROW}" stroke="#dd6b20" stroke-width="2" stroke-dasharray="3 2"/>'
        f'<rect x="{x - 5:.1f}" y="{top + 4}" width="10" height="14" rx="3" fill="#faf089" stroke="#dd6b20"/>'
        + _label(x, top + 15, sign, anchor="middle")
    )


def _label(x: float, y: float, text: str, colour: str = "#1a202c", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{escape(clean(text))}</text>'
    )


def _width(texts: Sequence[str]) -> float:
    return 16 + max((len(text) for text in texts), default=0) * _CHARACTER
