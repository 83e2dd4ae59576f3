"""How commands write: one object of JSON, progress on a terminal, a message on failure."""

import math
import sys
import time
from typing import NoReturn, Self

import orjson
import typer

PIPED_WIDTH = 100
"""Columns when the output is not a terminal."""


def print_json(value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def fail(message: str) -> NoReturn:
    """Write *message* on standard error, and exit with 1."""
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
