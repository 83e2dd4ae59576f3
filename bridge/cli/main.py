"""`voipex-bridge`: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong usage or settings."""

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version as installed_version
from typing import Annotated, Any, Final

import typer
from rich.text import Text
from typer.core import TyperGroup

from bridge import settings
from bridge.cli.output import (
    Json,
    console,
    escape_terminal,
    fail,
    load_settings,
    now_us,
    print_json,
    report_errors,
)
from bridge.ops import columns, tail
from bridge.ops.doctor.report import Report, Verdict
from bridge.ops.reader import ConsumerRecord
from bridge.spool.inspect import inspect
from voipex.service import health
from voipex.service.settings import unknown_variables

VERSION = installed_version("voipex-bridge")

_GROUPS: Final = {
    "topics": ("bridge.cli.topics", "topics_app"),
    "credentials": ("bridge.cli.credentials", "credentials_app"),
    "dead-letters": ("bridge.cli.dead_letters", "dead_letters_app"),
    "survey": ("bridge.cli.survey", "survey_app"),
}


class _LazyGroup(TyperGroup):
    """Imports commands when they are used: with all of them, each command would take half a second longer."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _GROUPS:
            return super().get_command(ctx, cmd_name)
        module, name = _GROUPS[cmd_name]
        command = typer.main.get_command(getattr(import_module(module), name))
        command.name = cmd_name
        return command


app = typer.Typer(
    name="voipex-bridge",
    cls=_LazyGroup,
    help="""Publish the webhooks of a VOIPEX PBX to Kafka.

    First steps: `voipex-bridge topics apply`, `voipex-bridge credentials create NAME`, `voipex-bridge serve`.
    To try it on this machine, run `voipex-sandbox up`. Settings are environment variables (docs/settings.md).
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with local variables would print bodies and secrets
    rich_markup_mode="markdown",
)
spool_app = typer.Typer(no_args_is_help=True, help="Inspect the events that wait for Kafka.")
app.add_typer(spool_app, name="spool")


def main() -> None:
    """Run the command line; the console script."""
    with report_errors():
        app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voipex-bridge {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the errors of the commands name the cause


@app.command()
def serve() -> None:
    """
    Run the bridge in the foreground.

    SIGTERM: drain the connections, publish what waits, exit 0. SIGHUP: reload the credentials.
    """
    from bridge import service  # noqa: PLC0415 - as `_LazyGroup`
    from voipex.service import logging as service_logging  # noqa: PLC0415

    loaded = settings.load()
    service_logging.set_up(loaded.log_level, loaded.log_format)
    for line in unknown_variables():
        service_logging.get_logger("settings").warning("unknown variable", detail=line)
    service.run(loaded, VERSION)


@app.command(name="health")
def health_command(
    live: Annotated[
        bool, typer.Option("--live", help="Ask /live instead of /ready: does it need a restart?")
    ] = False,
) -> None:
    """Ask the bridge on this host whether it is ready (`/ready` of its management port). Exit 0: it is, 1: it is not."""
    loaded = load_settings()
    result = health.probe(
        loaded.management_host or loaded.host, loaded.management_port, "live" if live else "ready"
    )
    typer.echo(result.message, err=not result.ok)
    sys.exit(0 if result.ok else 1)


# ---------------------------------------------------------------- doctor

_STYLES: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "error": "bold red", "skipped": "dim"}


def _address(given: str | None) -> str | None:
    if given is not None and not re.fullmatch(r".+:[0-9]{1,5}", given):
        raise typer.BadParameter("it is HOST:PORT")
    return given


@app.command(name="doctor")
def doctor_command(
    offline: Annotated[bool, typer.Option("--offline", help="Skip the checks of Kafka.")] = False,
    board: Annotated[
        str | None,
        typer.Option(
            "--board", metavar="HOST:PORT", callback=_address, help="The board, if not 127.0.0.1:8084."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Check settings, disk, credentials, ports, the board and Kafka, and name the remedy for each problem. Changes nothing.

    Exit 0: no errors, 1: errors, 2: the settings are invalid.
    """
    from bridge.ops.doctor.examine import examine  # noqa: PLC0415 - as `_LazyGroup`

    report = examine(offline=offline, now_us=now_us(), board=board)
    if as_json:
        print_json(
            {
                "ok": report.exit_code == 0,
                "checks": [
                    {
                        "check": each.name,
                        "verdict": each.verdict,
                        "message": each.message,
                        "remedy": each.remedy,
                    }
                    for each in report.checks
                ],
            }
        )
    else:
        _print_report(report)
    sys.exit(report.exit_code)


def _print_report(report: Report) -> None:
    width = max(len(each.name) for each in report.checks) + 2
    indent = " " * (9 + width)
    for each in report.checks:
        first, *more = each.message.splitlines() or [""]
        console.print(
            Text(f"{each.verdict:9}{each.name:{width}}", _STYLES[each.verdict]) + Text(first, "default")
        )
        for line in more:
            console.print(Text(indent + line))
        if each.remedy is not None:
            console.print(Text(f"{indent}-> {each.remedy}"))
    counts = ((report.count("error"), "error"), (report.count("warning"), "warning"))
    console.print("\n" + ", ".join(f"{count or 'no'} {name}{'s' * (count != 1)}" for count, name in counts))


# ---------------------------------------------------------------- tail, spool

_QUIET_S: Final = 1.0  # then a person wonders whether anything happens
_TYPE_WIDTH: Final = len("attended_transfer")


@app.command(name="tail")
def tail_command(
    topic: str,
    key: Annotated[str | None, typer.Option(help="Only records with this key; reads one partition.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start with the first record, not with the next one.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after this many records.", min=1)] = None,
    follow: Annotated[bool, typer.Option(help="Wait for more records, or stop at the end.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, as when the output is not a terminal.")
    ] = False,
    pretty: Annotated[bool, typer.Option("--pretty", help="JSON over several lines.")] = False,
) -> None:
    """
    Print the committed records of a topic: on a terminal time, key, type and what matters of each, else JSON lines.

    Example: `voipex-bridge tail voipex.call.events.v1 --from-beginning --no-follow`
    """
    if as_json and pretty:
        fail("--json and --pretty exclude each other", 2)
    show = _printer(as_json=as_json, pretty=pretty)
    missing = f"nothing with key {key}" if key is not None else "nothing"

    async def print_records() -> None:
        waiting = asyncio.get_running_loop().call_later(
            _QUIET_S, partial(typer.echo, f"{missing} yet in {topic}; waiting for it (Ctrl-C ends)", err=True)
        )
        if not follow:
            waiting.cancel()
        count = 0
        records = tail.tail(
            load_settings(), topic, key=key, from_beginning=from_beginning, limit=limit, follow=follow
        )
        try:
            async for record in records:
                waiting.cancel()
                show(record)
                count += 1
        finally:
            waiting.cancel()
        if not count:
            typer.echo(f"{missing} in {topic}", err=True)

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(print_records())


def _printer(*, as_json: bool, pretty: bool) -> Callable[[ConsumerRecord], None]:
    if pretty:
        return lambda record: typer.echo(tail.indented(record))
    if as_json or not console.is_terminal:
        return lambda record: typer.echo(tail.line(record))
    key_width = 0

    def print_row(record: ConsumerRecord) -> None:
        nonlocal key_width
        shown = columns.row(record)
        time, key, kind, state, words = (escape_terminal(each) for each in shown[:5])
        key_width = max(key_width, len(key))  # the columns stay where they are
        console.print(
            Text.assemble(
                (time, "dim"),
                f"  {key:<{key_width}}  ",
                (f"{kind:<{_TYPE_WIDTH}}", shown.style),
                (f"  {state}" if state else "", shown.style),
                f"  {words}",
            )
        )

    return print_row


@spool_app.command("status")
def spool_status(as_json: Json = False) -> None:
    """Show how many events wait for Kafka on this host. Reads only, also beside a running bridge."""
    rows = inspect(load_settings().spool_dir)
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    if not rows:
        typer.echo("no spool here")
    for row in rows:
        age = "" if row.oldest_age_s is None else f", oldest {row.oldest_age_s:.0f} s"
        typer.echo(
            f"{row.spool_id}  {'in use' if row.in_use else 'idle'}  {row.waiting_records} waiting, "
            f"{row.bytes} bytes in {row.segments} segments{age}"
        )
