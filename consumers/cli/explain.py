"""`voipex-consumers explain`."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import click
import typer
from rich.console import Console

from consumers.cli.output import PIPED_WIDTH, Progress, fail
from consumers.explain.drawing import Paper, draw
from consumers.explain.page import page
from consumers.explain.replay import DEFAULT_TIME_ZONE, Explanation
from consumers.explain.replay import explain as explain_trace
from consumers.explain.trace import Trace, moment_us, read_trace
from consumers.explain.view import Clock, Wanted

EXPLAIN_HELP = """Fold a recorded trace offline: show the documents that the services would publish, and why.

FILE has one JSON object per line, in any order (`-` reads standard input). Either a webhook and when it was received:

    {"received_at": "2026-03-02T08:00:00Z", "body": {"EventName": "Ringing", "Line": "201", "UniqueId": "1772438400.1"}}

`received_at` is any ISO 8601 time with an offset. `body` is the webhook as it was sent: an object, or its raw text as a string.
Optional are `pbx` (voipex) and `event_id` (two lines with the same id are copies of one event; lines without are all different).
Or an event, as read from the topics:

    voipex-bridge tail voipex.call.events.v1 --from-beginning --no-follow > trace.jsonl
    voipex-consumers explain trace.jsonl

It begins with a summary. It draws each call as lanes, one per leg, and lists every event with its effect, the rule that read it (of
docs/call-rules.md) and its reason; it draws each agent as a strip of states. A value that no event reports is inferred: it is marked with a
sign (a, b, c), and the rule stands below.
With `--json`: one object `{"as_of", "timelines", "agents", "rejected"}` with the documents that the services would have published. A trace
of more than 5,000 events is folded in batches, as by a service that catches up: then `revision` counts batches.

Lines that cannot be used are listed (`rejected`) and do not stop the others.
"""

SMALL_TRACE: Final = 5_000
"""Events that are folded one by one. It takes 3 s; a longer trace is folded in batches."""

BATCHES: Final = 100
"""Batches of a longer trace. The strip of an agent has about as many cells."""


def _file(name: str) -> str:
    if name != "-" and not Path(name).is_file():
        raise typer.BadParameter(f"there is no file {name}")
    return name


def _moment(text: str | None) -> str | None:
    if text is not None:
        try:
            moment_us(text)
        except ValueError as error:
            raise typer.BadParameter(f"{text!r} is {error}, such as 2026-03-02T08:00:00Z") from error
    return text


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # unknown, or not a valid name
        raise typer.BadParameter(f"{name!r} is no time zone, such as Europe/Prague") from error
    return name


def explain(
    file: Annotated[
        str, typer.Argument(metavar="FILE", callback=_file, help="JSON lines; `-` is standard input.")
    ],
    call: Annotated[
        str | None, typer.Option(metavar="UNIQUEID", help="Show this call only, without the agents.")
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Show this agent (login, line or e-mail) and the calls with a leg of it."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="ISO",
            callback=_moment,
            help="Leave out calls that ended before this moment, and earlier states.",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="ISO",
            callback=_moment,
            help="Show the documents as of this moment; later lines are left out. Default: the end of the trace.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a drawing.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the drawing as one self-contained page instead."),
    ] = None,
    pager: Annotated[
        bool, typer.Option(help="On a terminal, show the drawing in $PAGER (default: less).")
    ] = True,
    time_zone: Annotated[
        str,
        typer.Option(
            envvar="VOIPEX_TIME_ZONE",
            metavar="NAME",
            callback=_time_zone,
            help="Time zone of the agents' days and of the times in the drawing.",
        ),
    ] = DEFAULT_TIME_ZONE,
) -> None:
    since_us = None if since is None else moment_us(since)
    wanted = Wanted(call, agent, since_us)
    trace = _trace(file, wanted)
    count = len(trace.received)
    with Progress("folding", count) as progress:
        explanation = explain_trace(
            trace,
            None if as_of is None else moment_us(as_of),
            time_zone,
            batch_events=1 if count <= SMALL_TRACE else -(-count // BATCHES),
            progress=progress,
            for_drawing=True,
        )
    if wanted != Wanted():
        explanation = explanation.only(wanted.is_call, wanted.is_agent)
    if (call or agent) and explanation.is_empty:
        fail(f"{file} has no {f'call {call}' if call else f'agent {agent}'}")
    clock = Clock(time_zone)
    if as_json:
        sys.stdout.buffer.write(explanation.to_bytes())
        sys.stdout.buffer.flush()
    elif html is not None:
        _write_page(html, page(explanation, clock, wanted))
    else:
        _print_drawing(explanation, clock, wanted, pager=pager)


def _trace(file: str, wanted: Wanted) -> Trace:
    """Read the trace. Exits with 1 if the file cannot be read, or if no line of it can be used."""
    try:
        if file == "-":
            trace = read_trace(sys.stdin.buffer, wanted.call)
        else:
            with Path(file).open("rb") as lines, Progress("reading", Path(file).stat().st_size) as progress:
                trace = read_trace(_counted(lines, progress), wanted.call)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    if trace.rejected and trace.end_us is None:
        first = trace.rejected[0]
        fail(
            f"{file} is no trace: none of its {len(trace.rejected):,} lines can be used (line {first.line}: {first.why}); "
            "`voipex-consumers explain --help` shows one"
        )
    return trace


def _counted(lines: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    size = 0
    for line in lines:
        size += len(line)
        progress(size)
        yield line


def _write_page(path: Path, pieces: Iterable[str]) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
    typer.echo(f"wrote {path}", err=True)


def _print_drawing(explanation: Explanation, clock: Clock, wanted: Wanted, *, pager: bool) -> None:
    console = Console(highlight=False)
    terminal = console.is_terminal
    paper = Paper(
        console.width if terminal else PIPED_WIDTH,
        blocks=console.encoding.lower().startswith("utf"),
        colours=console.color_system is not None,
    )
    lines = (f"{line}\n" for line in draw(explanation, paper, clock, wanted))
    if terminal and pager:
        os.environ.setdefault("LESS", "FRX")  # colours; and no pager for less than a screen
        click.echo_via_pager(lines, color=paper.colours)
        return
    output = sys.stdout.buffer
    for line in lines:
        output.write(line.encode(console.encoding, errors="replace"))
    output.flush()
