"""`voipex-bridge`: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong usage or settings."""

import asyncio
import contextlib
import logging
import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import typer
from rich.text import Text

from bridge import service, settings
from bridge.cli.credentials import credentials_app
from bridge.cli.dead_letters import dead_letters_app
from bridge.cli.output import Json, console, load_settings, now_us, print_json, report_errors
from bridge.cli.survey import survey
from bridge.cli.topics import topics_app
from bridge.ops import tail
from bridge.ops.doctor.examine import examine
from bridge.ops.doctor.report import Report, Verdict
from bridge.spool.inspect import inspect
from voipex.service import health
from voipex.service import logging as service_logging
from voipex.service.settings import unknown_variables

VERSION = installed_version("voipex-bridge")

app = typer.Typer(
    name="voipex-bridge",
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
app.add_typer(topics_app, name="topics")
app.add_typer(credentials_app, name="credentials")
app.add_typer(spool_app, name="spool")
app.add_typer(dead_letters_app, name="dead-letters")
app.command()(survey)


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

    SIGTERM: stop accepting, publish what waits, exit 0. SIGHUP: reload the credentials.
    """
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


@app.command(name="doctor")
def doctor_command(
    offline: Annotated[bool, typer.Option("--offline", help="Skip the checks of Kafka.")] = False,
    as_json: Json = False,
) -> None:
    """
    Check settings, disk, credentials, ports and Kafka, and name the remedy for each problem. Changes nothing.

    Exit 0: no errors, 1: errors, 2: the settings are invalid.
    """
    report = examine(offline=offline, now_us=now_us())
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


@app.command(name="tail")
def tail_command(
    topic: str,
    key: Annotated[str | None, typer.Option(help="Only records with this key; reads one partition.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start with the first record, not with the next one.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after this many records.", min=1)] = None,
    follow: Annotated[bool, typer.Option(help="Wait for more records, or stop at the end.")] = True,
) -> None:
    """
    Print the committed records of a topic as JSON lines.

    Example: `voipex-bridge tail voipex.call.events.v1 --from-beginning --no-follow`
    """

    async def print_lines() -> None:
        async for line in tail.tail(
            load_settings(), topic, key=key, from_beginning=from_beginning, limit=limit, follow=follow
        ):
            typer.echo(line)

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(print_lines())


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
