"""`voipex-consumers`: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong usage."""

import asyncio
import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NoReturn, Self
from zoneinfo import ZoneInfo

import click
import orjson
import typer
from rich.console import Console
from rich.table import Table

from consumers import settings
from consumers.board.cli import board, board_users
from consumers.engine.records import TopicPartition
from consumers.explain.drawing import Paper, draw
from consumers.explain.page import page
from consumers.explain.replay import DEFAULT_TIME_ZONE, Explanation, explain
from consumers.explain.trace import Trace, moment_us, read_trace
from consumers.explain.verify import Verdict
from consumers.explain.view import Clock, Wanted
from voipex.errors import BridgeError, SettingsInvalid
from voipex.service import health
from voipex.service import logging as logs
from voipex.service.running_sandbox import find_sandbox
from voipex.service.settings import unknown_variables

if TYPE_CHECKING:
    from consumers.engine.lag import PartitionLag

# The Kafka client and the HTTP server take 30 MB and half a second, so only the commands that need them import them.

PIPED_WIDTH = 100
"""Columns when the output is not a terminal."""

app = typer.Typer(
    name="voipex-consumers",
    help="""Fold the events of a VOIPEX PBX from Kafka into call timelines and agent status; `explain` does the same with a file.""",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with local variables would show bodies
    rich_markup_mode="markdown",
)


VERSION = installed_version("voipex-bridge")

app.command()(board)
app.add_typer(board_users, name="board-users")


def _serve(name: str) -> None:
    loaded = settings.load()
    logs.set_up(loaded.log_level, loaded.log_format)
    for line in unknown_variables():
        logs.get_logger("settings").warning("unknown variable", detail=line)
    from consumers.service import run  # noqa: PLC0415

    run(name, loaded, VERSION)


def _load_settings(service: str) -> settings.Settings:
    """Read the settings of a command: beside a running sandbox those of its *service*, which a line on standard error says."""
    sandbox = find_sandbox()
    if sandbox is not None and sandbox.chosen:
        typer.echo(f"voipex-consumers: {sandbox}", err=True)
    return settings.load(sandbox=None if sandbox is None else sandbox.variables[service])


@app.command()
def timelines() -> None:
    """Fold call events into timelines, exactly once, until SIGTERM. Several instances share the partitions."""
    _serve("timelines")


@app.command()
def agents() -> None:
    """Fold agent events and call activity into agent status, exactly once, until SIGTERM. Several instances share the partitions."""
    _serve("agents")


@app.command("all")
def all_services() -> None:
    """Run `timelines` and `agents` in one process."""
    _serve("all")


@app.command("health")
def health_command(
    service: Annotated[
        Literal["timelines", "agents", "all"],
        typer.Argument(help="The service whose default port to ask; VOIPEX_MANAGEMENT_PORT wins."),
    ] = "all",
    live: Annotated[
        bool,
        typer.Option("--live", help="Ask `/live` instead of `/ready`: for whatever restarts the process."),
    ] = False,
) -> None:
    """Ask the local service whether it is ready (`/ready` on its management port). Exit 0: yes, 1: no."""
    loaded = _load_settings("timelines" if service == "all" else service)
    port = loaded.management_port
    said = health.probe(
        loaded.management_host or loaded.host,
        settings.MANAGEMENT_PORTS[service] if port is None else port,
        "live" if live else "ready",
    )
    typer.echo(said.message, err=not said.ok)
    raise typer.Exit(0 if said.ok else 1)


@app.command("lag")
def lag_command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """
    Show how far the services have read: committed offset, end and lag of each partition. Exit 1: Kafka is unreachable, or a service has
    never committed an offset although there are records.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the errors of the commands name the cause
    from consumers.engine.access import group_of  # noqa: PLC0415
    from consumers.service import SERVICES  # noqa: PLC0415

    loaded = _load_settings("timelines")
    found = {name: asyncio.run(_lag(name, loaded)) for name in SERVICES}
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(_lag_json(found), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    else:
        _print_lag(found)
    idle = [
        name
        for name, lag in found.items()
        if _total(lag) and all(each.committed is None for each in lag.values())
    ]
    for name in idle:
        typer.echo(
            f"the group {group_of(name)} has committed nothing, and there are records for it: "
            f"start `voipex-consumers {name}`, or check that brokers and PBXs are the intended ones",
            err=True,
        )
    if idle:
        raise typer.Exit(1)


Lag = dict[TopicPartition, "PartitionLag"]


async def _lag(name: str, loaded: settings.Settings) -> Lag:
    from consumers.engine.access import group_of  # noqa: PLC0415
    from consumers.engine.lag import read_lag  # noqa: PLC0415
    from consumers.service import SERVICES  # noqa: PLC0415

    inputs = set(SERVICES[name](loaded).inputs)
    topics = [topic for topic in loaded.topics() if topic.kind in inputs]
    return await read_lag(loaded, group_of(name), topics)


def _total(lag: Lag) -> int:
    return sum(each.lag for each in lag.values())


def _lag_json(found: dict[str, Lag]) -> dict[str, object]:
    from consumers.engine.access import group_of  # noqa: PLC0415

    return {
        "lag": sum(map(_total, found.values())),
        "services": [
            {
                "service": name,
                "group": group_of(name),
                "lag": _total(lag),
                "partitions": [
                    {"topic": topic, "partition": number, **each._asdict()}
                    for (topic, number), each in lag.items()
                ],
            }
            for name, lag in found.items()
        ],
    }


def _print_lag(found: dict[str, Lag]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    table = Table("service", "topic", box=None, pad_edge=False)
    for column in ("partition", "committed", "end", "lag"):
        table.add_column(column, justify="right")
    for name, lag in found.items():
        for (topic, number), each in lag.items():
            committed = "never" if each.committed is None else str(each.committed)
            table.add_row(name, topic, str(number), committed, str(each.end), str(each.lag))
    console.print(table)
    totals = ", ".join(f"{name} {_total(lag)}" for name, lag in found.items())
    console.print(f"lag {sum(map(_total, found.values()))} ({totals})")


@app.command("verify")
def verify_command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """
    Fold the event topics anew and compare with the published timelines, activity and agent status, field by field, each as of its own
    moment.

    Run it with the settings of the services. Documents whose events have left their topic, or wait to be folded, are counted and not compared.
    Exit 1: a document differs or is missing, or Kafka is unreachable.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the errors of the commands name the cause
    loaded = _load_settings("timelines")
    from consumers.explain.published import verify  # noqa: PLC0415

    with StatusLine() as status:
        verdict = asyncio.run(verify(loaded, status))
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(verdict.to_json(), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    else:
        _print_verdict(verdict)
    if verdict.different:
        raise typer.Exit(1)


def _print_verdict(verdict: Verdict) -> None:
    for each in verdict.differences:
        typer.echo(f"{each.pbx} {each.what} {each.key}:")
        for one in each.fields:
            typer.echo(
                f"    {one.path or 'document'} is {_text(one.published)}, should be {_text(one.expected)}"
            )
    more = verdict.different.total() - len(verdict.differences)
    if more > 0:
        typer.echo(f"and {more} more")
    for what, counts in verdict.to_json().items():
        if what != "differences":
            reasons = counts["not_comparable"]
            parts = [f"{counts['equal']} equal", f"{counts['different']} different"]
            parts += [f"{number} not compared: {reason}" for reason, number in reasons.items()]
            typer.echo(f"{what}: {', '.join(parts)}")


def _text(value: object) -> str:
    return "missing" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()


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


@app.command("explain", help=EXPLAIN_HELP)
def explain_command(
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
        explanation = explain(
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
        _fail(f"{file} has no {f'call {call}' if call else f'agent {agent}'}")
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
        _fail(f"{file} cannot be read: {error.strerror}")
    if trace.rejected and trace.end_us is None:
        first = trace.rejected[0]
        _fail(
            f"{file} is no trace: none of its {len(trace.rejected):,} lines can be used (line {first.line}: {first.why}); "
            "`voipex-consumers explain --help` shows one"
        )
    return trace


def _counted(lines: Iterable[bytes], progress: "Progress") -> Iterator[bytes]:
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
        _fail(f"{path} cannot be written: {error.strerror}")
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


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


class StatusLine:
    """Shows on a terminal what a long step does, from its second second on."""

    def __init__(self) -> None:
        self._next_at = time.monotonic() + 1 if sys.stderr.isatty() else math.inf
        self._shown = False

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + 0.2
            self._shown = True
            sys.stderr.write(f"\r\x1b[K{text} ")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class Progress(StatusLine):
    """Shows how much of a long step is done. Called with the amount."""

    def __init__(self, name: str, total: int) -> None:
        super().__init__()
        self._name = name
        self._total = max(total, 1)

    def __call__(self, done: object) -> None:
        if isinstance(done, int):
            super().__call__(f"{self._name} {done * 100 // self._total} %")


def main() -> None:
    """Run the command; a BridgeError becomes one message instead of a traceback."""
    try:
        app()
    except SettingsInvalid as error:
        typer.echo(str(error), err=True)
        sys.exit(2)
    except BridgeError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
