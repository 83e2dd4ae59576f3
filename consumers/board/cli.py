"""`voipex-consumers board` and `board-users`."""

import secrets
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Literal

import typer

from voipex.service import logging as logs
from voipex.service.settings import BoardSettings, load, unknown_variables


def board() -> None:
    """Show calls, agents and queues live in a browser, and serve the same as JSON, until SIGTERM: http://127.0.0.1:8084."""
    loaded = load(BoardSettings)
    logs.set_up(loaded.log_level, loaded.log_format)
    for line in unknown_variables():
        logs.get_logger("settings").warning("unknown variable", detail=line)
    from consumers.board.service import run  # noqa: PLC0415 - the Kafka client and the HTTP server take half a second

    run(loaded, installed_version("voipex-bridge"))


board_users = typer.Typer(no_args_is_help=True, help="Manage who may look at the board.")


@board_users.callback()
def _group() -> None:
    """Keep `add` a command of its own: a group of one command would be that command."""


@board_users.command("add")
def board_users_add(
    name: Annotated[str, typer.Argument(help="Name, such as team-podpora.")],
    role: Annotated[
        Literal["desk", "wall"],
        typer.Option(help="`desk` sees all; `wall` never receives a whole phone number."),
    ] = "desk",
    file: Annotated[
        Path,
        typer.Option(
            "--file", envvar="VOIPEX_BOARD_USERS_FILE", help="The users file; made when it is missing."
        ),
    ] = Path("board-users.json"),
) -> None:
    """Add a user, or give one a new password, which is shown once. A running board reads the file at its next start."""
    from consumers.board.access import add_user  # noqa: PLC0415 - as above

    password = secrets.token_urlsafe(18)
    add_user(file, name, role, password)
    typer.echo(f"user      {name}\npassword  {password}\nrole      {role}\nfile      {file}")
