"""`voipex-consumers`: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong usage."""

import asyncio
import logging
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import orjson
import typer
from rich.console import Console
from rich.table import Table

from consumers import service as run
from consumers import settings
from consumers.engine import group as kafka
from consumers.explain.drawing import draw
from consumers.explain.replay import DEFAULT_TIME_ZONE, explain
from consumers.explain.trace import moment_us, read_trace
from voipex.errors import BridgeError, SettingsInvalid
from voipex.service import health
from voipex.service import logging as logs
from voipex.service.settings import unknown_variables

PIPED_WIDTH = 100
"""Columns where there is no terminal to ask."""

app = typer.Typer(
    name="voipex-consumers",
    help="""What reads the events of a VOIPEX PBX from Kafka, and `explain`, which does the same with a file.""",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with local variables would show bodies
    rich_markup_mode="markdown",
)


VERSION = installed_version("voipex-bridge")


def _serve(name: str) -> None:
    loaded = settings.load()
    logs.set_up(loaded.log_level, loaded.log_format)
    for line in unknown_variables():
        logs.get_logger("settings").warning("unknown variable", detail=line)
    run.run(name, loaded, VERSION)


@app.command()
def timelines() -> None:
    """
    Fold call events into timelines, exactly once, until SIGTERM. Start more of it to share the partitions.
    """
    _serve("timelines")


@app.command()
def agents() -> None:
    """Fold agent events, and what calls did to agents, into their status, exactly once, until SIGTERM."""
    _serve("agents")


@app.command("all")
def all_services() -> None:
    """`timelines` and `agents` in one process."""
    _serve("all")


@app.command("health")
def health_command(
    service: Annotated[
        Literal["timelines", "agents", "all"],
        typer.Argument(help="Whose port, unless VOIPEX_MANAGEMENT_PORT says it."),
    ] = "all",
    live: Annotated[
        bool, typer.Option("--live", help="Only whether it lives: for those who would restart it.")
    ] = False,
) -> None:
    """Is the service that runs here ready (`/ready` of its management port)? Exit 0 or 1."""
    loaded = settings.load()
    port = loaded.management_port
    said = health.ask(
        loaded.management_host or loaded.host,
        settings.MANAGEMENT_PORTS[service] if port is None else port,
        "live" if live else "ready",
    )
    typer.echo(said.words, err=not said.good)
    raise typer.Exit(0 if said.good else 1)


@app.command("lag")
def lag_command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """
    How far the services have read: committed offset, end and lag of each partition. Exit 1: Kafka is away, or a service never committed
    although there are records.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it has to say is in our errors
    loaded = settings.load()
    found = {name: asyncio.run(_progress(name, loaded)) for name in run.SERVICES}
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(_lag_json(found), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    else:
        _print_lag(found)
    idle = [
        name
        for name, each in found.items()
        if _total(each) and all(place.committed is None for place in each.values())
    ]
    for name in idle:
        typer.echo(
            f"the group voipex-{name} has committed nothing, and there are records for it: "
            f"start `voipex-consumers {name}`, or see whether these are the brokers and PBXs that it works for",
            err=True,
        )
    if idle:
        raise typer.Exit(1)


Progress = dict[kafka.Partition, kafka.Progress]


async def _progress(name: str, loaded: settings.Settings) -> Progress:
    inputs = set(run.SERVICES[name](loaded).inputs)
    topics = [topic for topic in loaded.topics() if topic.kind in inputs]
    return await kafka.progress_of(loaded, f"voipex-{name}", topics)


def _total(progress: Progress) -> int:
    return sum(each.lag for each in progress.values())


def _lag_json(found: dict[str, Progress]) -> dict[str, object]:
    return {
        "lag": sum(map(_total, found.values())),
        "services": [
            {
                "service": name,
                "group": f"voipex-{name}",
                "lag": _total(progress),
                "partitions": [
                    {"topic": topic, "partition": number, **each._asdict()}
                    for (topic, number), each in progress.items()
                ],
            }
            for name, progress in found.items()
        ],
    }


def _print_lag(found: dict[str, Progress]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    table = Table("service", "topic", box=None, pad_edge=False)
    for column in ("partition", "committed", "end", "lag"):
        table.add_column(column, justify="right")
    for name, progress in found.items():
        for (topic, number), each in progress.items():
            committed = "never" if each.committed is None else str(each.committed)
            table.add_row(name, topic, str(number), committed, str(each.end), str(each.lag))
    console.print(table)
    totals = ", ".join(f"{name} {_total(progress)}" for name, progress in found.items())
    console.print(f"lag {sum(map(_total, found.values()))} ({totals})")


EXPLAIN_HELP = """Fold a recorded trace offline: what would the services say of these calls and agents, and why?

FILE has one JSON object per line, in any order (`-` reads standard input). Either what the PBX sent, and when:

    {"received_at": "2026-03-02T08:00:00Z", "body": {"EventName": "Ringing", "Line": "201", "UniqueId": "1772438400.1"}}

`received_at` is any ISO 8601 time with an offset. `body` is the webhook as it was sent: an object, or its raw text as a string.
Optional are `pbx` (voipex) and `event_id` (two lines with the same id are copies of one event; lines without are all different).
Or events of ours, as they lie in the topics:

    voipex-bridge tail voipex.call.events.v1 --from-beginning --no-follow > trace.jsonl
    voipex-consumers explain trace.jsonl

Shown is each call as lanes, a leg each, and every event with its effect and the reason; each agent as a strip of states.
With `--json`: one object `{"as_of", "timelines", "agents", "rejected"}` with the documents that the services would have published.

Lines that cannot be used are told (`rejected`) and do not keep the others from being folded.
"""


def _file(name: str) -> str:
    if name != "-" and not Path(name).is_file():
        raise typer.BadParameter(f"there is no file {name}")
    return name


def _as_of(text: str | None) -> str | None:
    if text is not None:
        try:
            moment_us(text)
        except ValueError as fault:
            raise typer.BadParameter(f"{text!r} is {fault}, such as 2026-03-02T08:00:00Z") from fault
    return text


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as fault:  # not found, or no name of a zone at all
        raise typer.BadParameter(f"{name!r} is no time zone, such as Europe/Prague") from fault
    return name


@app.command("explain", help=EXPLAIN_HELP)
def explain_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE", callback=_file, help="JSON lines; `-` is standard input.")
    ],
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="ISO",
            callback=_as_of,
            help="Show things as of this moment; later lines are left out. Default: the end of the trace.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a drawing.")
    ] = False,
    time_zone: Annotated[
        str,
        typer.Option(
            envvar="VOIPEX_TIME_ZONE",
            metavar="NAME",
            callback=_time_zone,
            help="Where the days of agents begin, and of the times in the drawing.",
        ),
    ] = DEFAULT_TIME_ZONE,
) -> None:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as fault:
        typer.echo(f"{file} cannot be read: {fault.strerror}", err=True)
        raise typer.Exit(1) from fault
    explanation = explain(
        read_trace(content.splitlines()), None if as_of is None else moment_us(as_of), time_zone
    )
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(explanation.to_json(), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    draw(explanation, console, time_zone)


def main() -> None:
    """The console script: errors of ours are one message, not a traceback."""
    try:
        app()
    except SettingsInvalid as error:
        typer.echo(str(error), err=True)
        sys.exit(2)
    except BridgeError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
