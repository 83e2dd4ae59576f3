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

from consumers import settings
from consumers.engine.access import group_of
from consumers.engine.lag import PartitionLag, read_lag
from consumers.engine.records import TopicPartition
from consumers.explain.drawing import draw
from consumers.explain.replay import DEFAULT_TIME_ZONE, explain
from consumers.explain.trace import moment_us, read_trace
from consumers.service import SERVICES, run
from voipex.errors import BridgeError, SettingsInvalid
from voipex.service import health
from voipex.service import logging as logs
from voipex.service.running_sandbox import find_sandbox
from voipex.service.settings import unknown_variables

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


def _serve(name: str) -> None:
    loaded = settings.load()
    logs.set_up(loaded.log_level, loaded.log_format)
    for line in unknown_variables():
        logs.get_logger("settings").warning("unknown variable", detail=line)
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


Lag = dict[TopicPartition, PartitionLag]


async def _lag(name: str, loaded: settings.Settings) -> Lag:
    inputs = set(SERVICES[name](loaded).inputs)
    topics = [topic for topic in loaded.topics() if topic.kind in inputs]
    return await read_lag(loaded, group_of(name), topics)


def _total(lag: Lag) -> int:
    return sum(each.lag for each in lag.values())


def _lag_json(found: dict[str, Lag]) -> dict[str, object]:
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


EXPLAIN_HELP = """Fold a recorded trace offline: show the documents that the services would publish, and why.

FILE has one JSON object per line, in any order (`-` reads standard input). Either a webhook and when it was received:

    {"received_at": "2026-03-02T08:00:00Z", "body": {"EventName": "Ringing", "Line": "201", "UniqueId": "1772438400.1"}}

`received_at` is any ISO 8601 time with an offset. `body` is the webhook as it was sent: an object, or its raw text as a string.
Optional are `pbx` (voipex) and `event_id` (two lines with the same id are copies of one event; lines without are all different).
Or an event, as read from the topics:

    voipex-bridge tail voipex.call.events.v1 --from-beginning --no-follow > trace.jsonl
    voipex-consumers explain trace.jsonl

It draws each call as lanes, one per leg, and lists every event with its effect and reason; it draws each agent as a strip of states.
With `--json`: one object `{"as_of", "timelines", "agents", "rejected"}` with the documents that the services would have published.

Lines that cannot be used are listed (`rejected`) and do not stop the others.
"""


def _file(name: str) -> str:
    if name != "-" and not Path(name).is_file():
        raise typer.BadParameter(f"there is no file {name}")
    return name


def _as_of(text: str | None) -> str | None:
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
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="ISO",
            callback=_as_of,
            help="Show the documents as of this moment; later lines are left out. Default: the end of the trace.",
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
            help="Time zone of the agents' days and of the times in the drawing.",
        ),
    ] = DEFAULT_TIME_ZONE,
) -> None:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        typer.echo(f"{file} cannot be read: {error.strerror}", err=True)
        raise typer.Exit(1) from error
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
    """Run the command; a BridgeError becomes one message instead of a traceback."""
    try:
        app()
    except SettingsInvalid as error:
        typer.echo(str(error), err=True)
        sys.exit(2)
    except BridgeError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
