"""`voipex-bridge credentials`: create, list, rotate and revoke credentials."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bridge.auth import manage
from bridge.cli.output import Json, console, fail, load_settings, now_us, print_json

credentials_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Manage who may POST. A secret is generated here, shown once, and stored as a hash.",
)


@credentials_app.command("create")
def credentials_create(
    name: Annotated[
        str, typer.Argument(help="Name, such as `pbx-site-7`; the user of Basic authentication.")
    ],
    pbx: Annotated[
        str | None, typer.Option(help="PBX whose topics it writes to. Default: the first of VOIPEX_PBXS.")
    ] = None,
    region: Annotated[str, typer.Option(help="Region of phone numbers without a country code.")] = "CZ",
    key: Annotated[
        list[str] | None,
        typer.Option(help="A renamed key, such as `UniqueId=call_id`: the documented name, then this PBX's."),
    ] = None,
    secret_from_stdin: Annotated[
        bool, typer.Option(help="Read the secret from standard input (at least 20 characters).")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Create a credential and show its secret, once.

    Example: `voipex-bridge credentials create site-7`
    """
    key_names = _parse_key_names(key or ())
    secret = sys.stdin.readline().strip() if secret_from_stdin else None
    loaded = load_settings()
    issued = manage.create(
        loaded.credentials_file,
        name,
        pbx or loaded.pbxs[0],
        pbxs=loaded.pbxs,
        now_us=now_us(),
        region=region,
        key_names=key_names,
        secret=secret,
    )
    _show_secret(issued, as_json=as_json)


@credentials_app.command("list")
def credentials_list(as_json: Json = False) -> None:
    """List names, PBXs and the age of each secret; never a secret."""
    rows = manage.list_all(_credentials_path())
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("name", "pbx", "region", "renamed keys", "secrets created at")
    for row in rows:
        renamed = ", ".join(f"{documented}={actual}" for documented, actual in row.key_names.items())
        table.add_row(
            row.name, row.pbx, row.region, renamed, "\n".join(each.created_at for each in row.secrets)
        )
    console.print(table)


@credentials_app.command("rotate")
def credentials_rotate(name: str, as_json: Json = False) -> None:
    """
    Add a second secret and show it, once. The first stays valid until `revoke --old`.

    A running bridge accepts the new secret within two seconds.
    """
    _show_secret(manage.rotate(_credentials_path(), name, now_us=now_us()), as_json=as_json)


@credentials_app.command("revoke")
def credentials_revoke(
    name: str,
    old: Annotated[bool, typer.Option("--old", help="Revoke only the older of its two secrets.")] = False,
) -> None:
    """Remove a credential, or with --old the older secret after a rotation."""
    revoked = manage.revoke(_credentials_path(), name, old=old)
    typer.echo(f"revoked {name}" if revoked.whole else f"revoked the older secret of {name}")


def _parse_key_names(pairs: Iterable[str]) -> dict[str, str]:
    key_names: dict[str, str] = {}
    for pair in pairs:
        documented, equals, actual = pair.partition("=")
        if not equals or not actual:
            fail(f"--key {pair!r}: write it as UniqueId=call_id", 2)
        key_names[documented] = actual
    return key_names


def _credentials_path() -> Path:
    return load_settings().credentials_file


def _show_secret(issued: manage.NewSecret, *, as_json: bool) -> None:
    if as_json:
        print_json({"user": issued.name, "password": issued.secret, "pbx": issued.pbx})
        return
    typer.echo(
        f"user      {issued.name}\npassword  {issued.secret}\nOnly a hash of it is stored: it cannot be shown again."
    )
