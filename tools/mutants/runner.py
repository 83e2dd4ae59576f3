"""
Run the unit tests on a mutant, in a forked process and a copy of the project.

The parent imports the libraries once and nothing of the project, so a fork needs only to import the copy. A copy belongs to one process at
a time. The mutated module has no cached bytecode: two mutants may have the same size and the same second.
"""

import contextlib
import importlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tools.mutants.mutations import Mutant, Mutated

COPIED: Final = ("voipex", "bridge", "consumers", "sandbox", "tools", "tests", "docs", "pyproject.toml")

_LIBRARIES: Final = (
    "pytest",
    "hypothesis",
    "pydantic",
    "orjson",
    "typer",
    "rich",
    "prometheus_client",
    "structlog",
)

_TIMEOUTS: Final = 5
"""A mutant that takes so many times as long as the source is taken for an endless loop."""
_LEAST_TIMEOUT_S: Final = 60.0


class Outcome(StrEnum):
    KILLED = "killed"
    TIMEOUT = "timeout"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Result:
    mutant: Mutant
    mutated: Mutated
    outcome: Outcome


@dataclass(slots=True)
class _Running:
    pid: int
    mutant: Mutant
    mutated: Mutated
    folder: Path
    original: bytes
    deadline_s: float


class BaselineFails(Exception):
    """The tests fail without any mutation."""


class Runner:
    """
    root: of the project. tests: paths for pytest, the fastest first, since the first failure ends a run. jobs: processes at once.
    """

    def __init__(self, root: Path, folder: Path, tests: Sequence[str], jobs: int) -> None:
        self._tests = tests
        self._copies = [folder / f"copy-{number}" for number in range(jobs)]
        for each in self._copies:
            each.mkdir()
            for name in COPIED:
                source = root / name
                copy = shutil.copytree if source.is_dir() else shutil.copyfile
                copy(source, each / name)
        for name in _LIBRARIES:
            importlib.import_module(name)
        self.timeout_s = 600.0

    def check(self) -> float:
        """Run the tests on each copy without a mutation, which also writes the bytecode. Return how many seconds they took."""
        started = time.monotonic()
        for copy in self._copies:
            pid = self._fork(copy, write_bytecode=True)
            _, status = os.waitpid(pid, 0)
            if status != 0:
                raise BaselineFails
        took_s = (time.monotonic() - started) / len(self._copies)
        self.timeout_s = max(_LEAST_TIMEOUT_S, took_s * _TIMEOUTS)
        return took_s

    def run(self, mutants: Iterable[Mutant]) -> Iterator[Result]:
        """Yield each result as it comes."""
        waiting = iter(mutants)
        free = list(self._copies)
        running: list[_Running] = []
        try:
            while True:
                while free and (mutant := next(waiting, None)) is not None:
                    running.append(self._start(mutant, free.pop()))
                if not running:
                    return
                time.sleep(0.05)
                for each in list(running):
                    outcome = _outcome(each)
                    if outcome is not None:
                        running.remove(each)
                        (each.folder / each.mutant.path).write_bytes(each.original)
                        free.append(each.folder)
                        yield Result(each.mutant, each.mutated, outcome)
        finally:
            for each in running:
                _kill(each.pid)

    def _start(self, mutant: Mutant, folder: Path) -> _Running:
        module = folder / mutant.path
        original = module.read_bytes()
        mutated = mutant.applied(original.decode())
        module.write_text(mutated.source, encoding="utf-8")
        for cached in (module.parent / "__pycache__").glob(f"{module.stem}.*.pyc"):
            cached.unlink()
        pid = self._fork(folder)
        return _Running(pid, mutant, mutated, folder, original, time.monotonic() + self.timeout_s)

    def _fork(self, folder: Path, *, write_bytecode: bool = False) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 2
        try:
            code = self._test(folder, write_bytecode=write_bytecode)
        finally:
            os._exit(code)

    def _test(self, folder: Path, *, write_bytecode: bool) -> int:
        """Run pytest in the child. It prints nothing."""
        import pytest  # noqa: PLC0415  # imported by the parent

        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.chdir(folder)
        os.environ["HYPOTHESIS_PROFILE"] = "fast"
        sys.dont_write_bytecode = not write_bytecode
        for name in [name for name in sys.modules if name.split(".")[0] in {*COPIED}]:
            del sys.modules[name]
        sys.path[:0] = [str(folder)]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-m", "not process"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported already
        return int(pytest.main([*options, *self._tests]))


def _outcome(running: _Running) -> Outcome | None:
    """None while it runs."""
    pid, status = os.waitpid(running.pid, os.WNOHANG)
    if pid:
        return Outcome.SURVIVED if status == 0 else Outcome.KILLED
    if time.monotonic() > running.deadline_s:
        _kill(running.pid)
        return Outcome.TIMEOUT
    return None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
