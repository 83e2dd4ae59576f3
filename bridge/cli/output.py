"""What the commands share: the `--json` option, printing, and errors with exit codes."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console

from bridge import settings
from voipex.errors import BridgeError, CredentialsInvalid, SettingsInvalid
from voipex.service.running_sandbox import find_sandbox

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 120  # a pipe has no width, and the 80 columns that rich assumes cut tables


def load_settings(options: Mapping[str, Any] | None = None) -> settings.Settings:
    """Read the settings of a command: beside a running sandbox those of its bridge, which a line on standard error says."""
    sandbox = find_sandbox()
    if sandbox is not None and sandbox.chosen:
        typer.echo(f"voipex-bridge: {sandbox}", err=True)
    return settings.load(options, None if sandbox is None else sandbox.variables["bridge"])


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Print a BridgeError without a traceback, and exit: 2 for invalid settings or credentials, else 1."""
    try:
        yield
    except (SettingsInvalid, CredentialsInvalid) as error:
        fail(str(error), 2)
    except BridgeError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(message: str, code: int) -> NoReturn:
    """Print *message* to standard error and exit."""
    for line in message.splitlines():
        typer.echo(f"voipex-bridge: {line}", err=True)
    sys.exit(code)


def print_json(value: Any) -> None:
    """Print *value* as one line of JSON."""
    typer.echo(orjson.dumps(value, default=str).decode())


def escape_terminal(text: str, keep: Iterable[str] = ()) -> str:
    """Escape control characters other than *keep*: text from outside must not control the terminal."""
    kept = frozenset(keep)
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
