"""`voipex-consumers`: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong usage."""

import sys
from importlib.metadata import version as installed_version
from typing import Annotated, Literal

import typer

from consumers import settings
from consumers.board.cli import board, board_users
from consumers.cli.explain import EXPLAIN_HELP, explain
from consumers.cli.lag import lag
from consumers.cli.settings import load_settings
from consumers.cli.verify import verify
from voipex.errors import BridgeError, SettingsInvalid
from voipex.service import health
from voipex.service import logging as logs
from voipex.service.settings import unknown_variables

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
    loaded = load_settings("timelines" if service == "all" else service)
    port = loaded.management_port
    said = health.probe(
        loaded.management_host or loaded.host,
        settings.MANAGEMENT_PORTS[service] if port is None else port,
        "live" if live else "ready",
    )
    typer.echo(said.message, err=not said.ok)
    raise typer.Exit(0 if said.ok else 1)


app.command()(lag)
app.command()(verify)
app.command(help=EXPLAIN_HELP)(explain)


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
