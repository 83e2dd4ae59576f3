"""
Run the unit tests on mutants, in a copy of the project, so that an edit meanwhile changes nothing.

A server imports and collects the tests once. It runs them without a mutation and notes which functions each test calls. Each mutant is then a
fork of the server in which one function has other code. It runs only the tests that call this function: first those that caught a mutant of
it before, then the fastest. The first failure ends them.

A change outside of functions, or in one that runs while modules are imported, takes effect only with an import. Such a mutant is a fork that
imports and collects everything again, and runs all tests.
"""

import contextlib
import gc
import importlib
import json
import mmap
import os
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import IO, Any, Final

import pytest
from _pytest.runner import runtestprotocol

from tools.mutants.mutations import Mutant, Mutated

COPIED: Final = ("voipex", "bridge", "consumers", "sandbox", "tools", "tests", "docs", "pyproject.toml")

_LIBRARIES: Final = ("hypothesis", "pydantic", "orjson", "typer", "rich", "prometheus_client", "structlog")

_LIMIT_S: Final = 2.0
_LIMIT_FACTOR: Final = 20
"""A test is taken for an endless loop after this CPU time and so many times what it takes without a mutation."""

_IMPORT_LIMIT_S: Final = 60.0

_SURVIVED, _KILLED = 0, 1
"""Exit codes of a mutant."""


class Outcome(StrEnum):
    KILLED = "killed"
    TIMEOUT = "timeout"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Result:
    mutant: Mutant
    mutated: Mutated
    outcome: Outcome


class BaselineFails(Exception):
    """The tests fail without any mutation."""


class Runner:
    """
    root: of the project. folder: for the copy. tests: paths for pytest. jobs: processes at once.
    """

    def __init__(self, root: Path, folder: Path, tests: Sequence[str], jobs: int) -> None:
        self._copy = folder / "copy"
        self._tests = tests
        self._jobs = jobs
        self._copy.mkdir()
        for name in COPIED:
            copy = shutil.copytree if (root / name).is_dir() else shutil.copyfile
            copy(root / name, self._copy / name)
        for name in _LIBRARIES:
            importlib.import_module(name)

    def run(self, mutants: Iterable[Mutant]) -> Iterator[Result]:
        """Yield each result as it comes. Raises BaselineFails."""
        tasks = [_task(number, mutant, self._copy) for number, mutant in enumerate(mutants)]
        times_s: dict[str, float] = {}
        again: list[_Task] = []
        for answer in _answers(lambda file: self._pytest(_Server(tasks, self._jobs, file))):
            if "times_s" in answer:
                times_s = answer["times_s"]
            elif answer["outcome"] is None:
                again.append(tasks[answer["task"]])
            else:
                yield tasks[answer["task"]].result(answer["outcome"])
        if not times_s:
            raise BaselineFails
        for answer in _answers(lambda file: self._import_again(again, times_s, file)):
            yield tasks[answer["task"]].result(answer["outcome"])

    def _import_again(self, tasks: Sequence["_Task"], times_s: Mapping[str, float], file: IO[str]) -> None:
        def run(task: _Task) -> int:
            plugin = _Importer(task, times_s)
            sys.meta_path.insert(0, plugin)
            _limit(_IMPORT_LIMIT_S)
            self._pytest(plugin)
            return plugin.status

        for task, outcome in _forks(tasks, self._jobs, run):
            _write(file, {"task": task.number, "outcome": outcome})

    def _pytest(self, plugin: object) -> None:
        """Run pytest in a fork. It prints nothing, and imports the copy."""
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.chdir(self._copy)
        os.environ["HYPOTHESIS_PROFILE"] = "mutants"
        for name in [name for name in sys.modules if name.split(".")[0] in {*COPIED}]:
            del sys.modules[name]
        sys.path[:0] = [str(self._copy)]
        options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-m", "not process"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported already
        pytest.main([*options, *self._tests], plugins=[plugin])


# ---------------------------------------------------------------- mutants in memory

_Function = tuple[str, int]
"""Path of its module, and its first line."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A mutant to run. `code`: of its module."""

    number: int
    mutant: Mutant
    mutated: Mutated
    code: CodeType

    @property
    def function(self) -> _Function:
        """The function that changes; line 0: none."""
        return self.code.co_filename, self.mutant.body_line

    def result(self, outcome: str) -> Result:
        return Result(self.mutant, self.mutated, Outcome(outcome))


def _task(number: int, mutant: Mutant, root: Path) -> _Task:
    path = root / mutant.path
    mutated = mutant.applied(path.read_text(encoding="utf-8"))
    return _Task(number, mutant, mutated, compile(mutated.tree, str(path), "exec", dont_inherit=True))


def _code_at(code: CodeType, line: int) -> CodeType | None:
    """The code of the function that begins at this line, somewhere in *code*."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_firstlineno == line and inner.co_flags & _OPTIMIZED:
                return inner
            found = _code_at(inner, line)
            if found is not None:
                return found
    return None


_OPTIMIZED: Final = 1
"""Of the flags of a code: it is that of a function, not of a class or module (`inspect.CO_OPTIMIZED`)."""


def _live_functions() -> dict[_Function, list[FunctionType]]:
    found = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType):
            found[each.__code__.co_filename, each.__code__.co_firstlineno].append(each)
    return found


# ---------------------------------------------------------------- the two plugins of pytest


@dataclass(slots=True, eq=False)
class _Test:
    item: pytest.Item
    took_s: float
    functions: set[_Function]


@dataclass(slots=True, eq=False)
class _Server:
    """Runs mutants instead of the tests."""

    tasks: Sequence[_Task]
    jobs: int
    answers: IO[str]
    called: set[_Function] = field(default_factory=set)
    tests: list[_Test] = field(default_factory=list)
    killers: dict[_Function, list[_Test]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        sys.setprofile(_noting(self.called))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        sys.setprofile(None)
        mutated = {task.function for task in self.tasks}
        at_import = self.called & mutated
        self.tests = [] if session.testsfailed else _passed(session.items, mutated)
        if not self.tests:
            return True
        _write(self.answers, {"times_s": {test.item.nodeid: test.took_s for test in self.tests}})
        live = _live_functions()
        in_memory = []
        for task in self.tasks:
            if task.function in live and task.function not in at_import:
                in_memory.append(task)
            else:
                _write(self.answers, {"task": task.number, "outcome": None})
        killers = _Shared(len(self.tasks))

        def run(task: _Task) -> int:
            code = _code_at(task.code, task.mutant.body_line)
            for function in live[task.function]:
                function.__code__ = code or function.__code__
            tests = self._tests_of(task.function)
            failed = _first_failure([(test.item, test.took_s) for test in tests])
            if failed is None:
                return _SURVIVED
            killers.put(task.number, self.tests.index(tests[failed]))
            return _KILLED

        for task, outcome in _forks(in_memory, self.jobs, run):
            if outcome is Outcome.KILLED:
                killer = self.tests[killers.get(task.number)]
                known = self.killers[task.function]
                self.killers[task.function] = [killer, *(each for each in known if each is not killer)]
            _write(self.answers, {"task": task.number, "outcome": outcome})
        return True

    def _tests_of(self, function: _Function) -> list[_Test]:
        killers = self.killers[function]
        others = [test for test in self.tests if function in test.functions and test not in killers]
        return killers + sorted(others, key=lambda test: test.took_s)


@dataclass(slots=True, eq=False)
class _Importer:
    """Runs the tests, the fastest first, on a mutant that it puts in place of its module."""

    task: _Task
    times_s: Mapping[str, float]
    status: int = _KILLED

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:  # noqa: ARG002 - a finder
        module = self.task.mutant.path.removesuffix(".py").replace("/", ".")
        if name != module:
            return None
        file = self.task.code.co_filename
        return spec_from_file_location(name, file, loader=_Loader(name, file, self.task.code))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        tests = [(item, self.times_s[item.nodeid]) for item in session.items if item.nodeid in self.times_s]
        whole = len(tests) == len(session.items) == len(self.times_s)
        if whole and _first_failure(sorted(tests, key=lambda test: test[1])) is None:
            self.status = _SURVIVED
        return True


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - a loader
        return self._code


# ---------------------------------------------------------------- tests


def _passed(items: Sequence[pytest.Item], functions: set[_Function]) -> list[_Test]:
    """Run all tests in a fork, without a mutation, and note which of *functions* each calls. Empty if one fails."""
    named = sorted(functions)

    def run(file: IO[str]) -> None:
        called: set[_Function] = set()
        note = _noting(called)
        for place, item in enumerate(items):
            called.clear()
            started_s = time.process_time()
            sys.setprofile(note)
            failed = _fails(item, items[place + 1] if place + 1 < len(items) else None)
            sys.setprofile(None)
            if failed:
                return
            took_s = time.process_time() - started_s
            found = [number for number, function in enumerate(named) if function in called]
            _write(file, {"took_s": took_s, "functions": found})

    tests = [
        _Test(item, answer["took_s"], {named[number] for number in answer["functions"]})
        for item, answer in zip(items, _answers(run), strict=False)
    ]
    return tests if len(tests) == len(items) else []


def _noting(called: set[_Function]) -> Callable[[FrameType, str, object], None]:
    """A profiler that adds each function that is called."""

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    return note


def _first_failure(tests: Sequence[tuple[pytest.Item, float]]) -> int | None:
    """Run tests, given with the CPU time of each, until one fails; return its place."""
    for place, (item, took_s) in enumerate(tests):
        _limit(max(_LIMIT_S, took_s * _LIMIT_FACTOR))
        if _fails(item, tests[place + 1][0] if place + 1 < len(tests) else None):
            return place
    return None


def _fails(item: pytest.Item, following: pytest.Item | None) -> bool:
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))


def _limit(cpu_s: float) -> None:
    """Let the kernel end this process after so much CPU time from now on."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


# ---------------------------------------------------------------- processes


class _Shared:
    """A number for each task, which forks write and their parent reads."""

    def __init__(self, length: int) -> None:
        self._memory = mmap.mmap(-1, max(1, length) * 4)

    def put(self, place: int, value: int) -> None:
        self._memory[place * 4 : place * 4 + 4] = value.to_bytes(4)

    def get(self, place: int) -> int:
        return int.from_bytes(self._memory[place * 4 : place * 4 + 4])


def _forks(tasks: Iterable[_Task], jobs: int, run: Callable[[_Task], int]) -> Iterator[tuple[_Task, Outcome]]:
    """Run each task in a fork, *jobs* at once. The caller has no other children."""
    running: dict[int, _Task] = {}

    def ended() -> tuple[_Task, Outcome]:
        pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        outcome = {_SURVIVED: Outcome.SURVIVED, -signal.SIGPROF: Outcome.TIMEOUT}.get(code, Outcome.KILLED)
        return running.pop(pid), outcome

    try:
        for task in tasks:
            if len(running) == jobs:
                yield ended()
            running[_fork(partial(run, task))] = task
        while running:
            yield ended()
    finally:
        for pid in running:
            _kill(pid)


def _answers(serve: Callable[[IO[str]], object]) -> Iterator[dict[str, Any]]:
    """Run *serve* in a fork, and yield what it writes: a line of JSON for each answer."""
    reading, writing = os.pipe()

    def child() -> int:
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as file:
            serve(file)
        return 0

    pid = _fork(child)
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as answers:
            yield from map(json.loads, answers)
    finally:
        _kill(pid)


def _write(file: IO[str], answer: dict[str, Any]) -> None:
    file.write(json.dumps(answer) + "\n")
    file.flush()


def _fork(run: Callable[[], int]) -> int:
    """Start a process that ends with the code that *run* returns."""
    pid = os.fork()
    if pid:
        return pid
    code = _KILLED
    try:
        code = run()
    finally:
        os._exit(code)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
