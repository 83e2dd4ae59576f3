"""Run the command line as a process, or in this process where a test with a broker takes long enough."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest import mock

import orjson

from bridge.cli import main as cli
from tests.processes import environment_with
from tests.waiting import WITHIN_S


class CommandResult(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


def voipex_bridge(environment: Mapping[str, str], *arguments: str) -> CommandResult:
    """Run `voipex-bridge` with these `VOIPEX_` variables and no others."""
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        env=environment_with(**environment),
        capture_output=True,
        check=False,
        timeout=WITHIN_S,
    )
    return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_in_process(environment: Mapping[str, str], *arguments: str) -> CommandResult:
    """Run it in this process, where unclosed resources are warnings and so fail the test."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code: Any = 0
    with (
        mock.patch.dict(os.environ, environment_with(**environment), clear=True),
        mock.patch.object(sys, "argv", ["voipex-bridge", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    return CommandResult(code, _written(out), _written(err))


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()
