"""The command line, as an operator calls it: as a process, or within this one where a broker makes a test long enough."""

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


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


def voipex_bridge(environment: Mapping[str, str], *arguments: str) -> Done:
    """Run it with these `VOIPEX_` variables and no others."""
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        env=_only(environment),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def called(environment: Mapping[str, str], *arguments: str) -> Done:
    """The same without a process: what it leaves open is a warning here, so an error."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code: Any = 0
    with (
        mock.patch.dict(os.environ, _only(environment), clear=True),
        mock.patch.object(sys, "argv", ["voipex-bridge", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    return Done(code, _written(out), _written(err))


def _only(environment: Mapping[str, str]) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")}
    return {**others, **environment}


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()
