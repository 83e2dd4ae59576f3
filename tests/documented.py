"""The commands that pages show, and a clone of its own to run them in: moved ports, an empty HOME, no `VOIPEX_` variable."""

import os
import re
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.processes import free_port
from tests.waiting import WITHIN_S, eventually

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^( *)((?:[-*]|\d+\.) )?```(sh|console)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
"""Blocks of commands, also in the item of a list."""
_SHARED = (".venv", "Makefile", "requirements-dev.txt", "pyproject.toml", "README.md", "docs")


class Block(NamedTuple):
    """A block of commands of a page."""

    page: str
    commands: tuple[str, ...]


def blocks(page: str) -> list[Block]:
    """Every block of commands of a page, a line that ends in a backslash joined with the next; of a console what follows `$`."""
    found = []
    for indent, item, language, text in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        left = " " * (len(indent) + len(item))
        joined = re.sub(rf"^{left}", "", text, flags=re.MULTILINE).replace("\\\n", " ")
        lines = joined.splitlines()
        if language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found.append(Block(page, tuple(re.sub(r" +", " ", line) for line in lines if line.strip())))
    return found


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Clone:
    """A folder that looks like a clone after `make setup`, in which `make run` runs on moved ports; stopped at the end of a `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.home = folder / "home"
        self._process: subprocess.Popen[str] | None = None
        self.ports = {
            name: free_port(2)
            for name in (
                "PORT",
                "MANAGEMENT_PORT",
                "TIMELINES_PORT",
                "AGENTS_PORT",
                "BOARD_PORT",
                "KAFKA_PORT",
            )
        }
        self.home.mkdir()
        (self.folder / "build").mkdir(parents=True)
        for name in _SHARED:
            (self.folder / name).symlink_to(ROOT / name)
        (ROOT / "build" / "kafka-jars").mkdir(parents=True, exist_ok=True)
        (self.folder / "build" / "kafka-jars").symlink_to(ROOT / "build" / "kafka-jars")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{self.folder}/.venv/bin:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
        }

    def start(self, *options: str) -> Self:
        """`make run` with moved ports. The environment of the tests is not set up again."""
        moved = [f"{name}={port}" for name, port in self.ports.items()]
        with (self.folder / "make-run.log").open("w") as log:
            self._process = subprocess.Popen(
                ["make", "-o", ".venv/.ready", "run", *moved, *options],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        eventually(self._is_running, self.log)
        return self

    def _is_running(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        return (self.folder / "build" / "run.json").exists()

    def log(self) -> str:
        return (self.folder / "make-run.log").read_text(encoding="utf-8")

    def run(self, command: str) -> Result:
        """Run a command as printed, in a shell. Pages call the commands by their names, as if they were installed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_S,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def stop(self) -> int:
        """Ctrl-C; returns the exit code of `make`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)
        return self._process.wait(WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
