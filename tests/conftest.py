"""
Hypothesis uses the same examples in every run of `make test`; `make soak` uses many more, new ones each time.

What a test measured (`record_property`, or the examples of Hypothesis) is appended to build/figures.jsonl when it passed;
`python -m tools.guarantees write` puts the last of them into docs/guarantees.md.
"""

import json
import os
import re
import signal
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings

FIGURES: Final = Path(__file__).parents[1] / "build" / "figures.jsonl"

# No deadlines and no check for slow generation: on a loaded machine these times mean nothing.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", UNTIMED, max_examples=10, stateful_step_count=15, derandomize=True)
settings.register_profile(  # `make mutants`: that a test fails is enough
    "mutants", settings.get_profile("fast"), phases=[Phase.explicit, Phase.generate], database=None
)
settings.register_profile("test", UNTIMED, max_examples=100, stateful_step_count=30, derandomize=True)
settings.register_profile("soak", UNTIMED, max_examples=5000, stateful_step_count=60)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


def pytest_configure() -> None:
    """A shell ignores Ctrl-C in what it starts in the background, and so would the commands that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_BEGUN_FIRST: Final = frozenset(
    {
        "test_conservation.py",
        "test_survey_of_a_bridge.py",
        "test_changed_topics.py",
        "test_roll_out.py",
        "test_hostile_bodies.py",
        "test_mutants.py",
    }
)
"""Files that take long: a process that got one of them last would work on it while the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _BEGUN_FIRST)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run tests marked `anyio` on asyncio only."""
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count the examples of Hypothesis like what a test records by itself."""
    report = yield
    statistics = getattr(item, "hypothesis_statistics", "")
    if report.when == "call" and (passing := re.findall(r"(\d+) passing, ", statistics)):
        report.user_properties.append(("examples", sum(map(int, passing))))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the figures of a test that passed. With xdist only the process that started the others writes."""
    if report.when == "call" and report.passed and report.user_properties:
        if "PYTEST_XDIST_WORKER" in os.environ:
            return
        line = {
            "test": report.nodeid,
            "date": datetime.now(UTC).date().isoformat(),
            "figures": dict(report.user_properties),
        }
        FIGURES.parent.mkdir(exist_ok=True)
        with FIGURES.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
