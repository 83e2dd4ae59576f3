"""
List the changes of the rules that no unit test notices (`make mutants`).

    python -m tools.mutants                                  a sample of both folds
    python -m tools.mutants --all consumers/calls            every mutant of one fold
    python -m tools.mutants --number 40 consumers/calls/ending.py

Exit codes: 0 every mutant is caught, 1 some survive, 2 wrong usage, or the tests fail without a mutation.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.dialect import ROOT
from tools.mutants.mutations import Mutant, Mutated, mutants_of, sample
from tools.mutants.runner import BaselineFails, Outcome, Result, Runner

TESTS: Final = {
    "consumers/calls": (
        "tests/unit/consumers/calls",
        "tests/unit/consumers/test_scenarios_calls.py",
        "tests/unit/consumers/test_calls_projection.py",
        "tests/unit/consumers/test_calls_laws.py",
    ),
    "consumers/agents": (
        "tests/unit/consumers/agents",
        "tests/unit/consumers/test_agents_rules.py",
        "tests/unit/consumers/test_scenarios.py",
        "tests/unit/consumers/test_agents_laws.py",
        "tests/unit/consumers/test_bounds.py",
    ),
}
"""The unit tests of each fold."""

NUMBER: Final = 300
"""Mutants of a fold in a sample: one of nearly each function."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="a fold, or modules of one (default: both folds)"
    )
    parser.add_argument(
        "--number", type=int, default=NUMBER, help=f"mutants of each fold in the sample ({NUMBER})"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--all", action="store_true", help="every mutant instead of a sample")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (2)")
    parser.add_argument("--function", help="only this function, such as _nobody_talked")
    options = parser.parse_args(arguments)
    paths = [path.rstrip("/") for path in options.paths] or list(TESTS)
    unknown = [path for path in paths if not path.startswith(tuple(TESTS)) or not (ROOT / path).exists()]
    if unknown:
        parser.error(f"{', '.join(unknown)}: not in {' or '.join(TESTS)}")
    survivors = 0
    for fold, tests in TESTS.items():
        own = [path for path in paths if path.startswith(fold)]
        mutants = [
            each
            for path in own
            for each in _mutants(path)
            if options.function is None or each.function.rsplit(".", 1)[-1] == options.function
        ]
        if not mutants:
            continue
        chosen = mutants if options.all else sample(mutants, options.number, options.seed)
        _say(f"{fold}: {len(chosen)} of {len(mutants)} mutants")
        try:
            survivors += _run(tests, chosen, options.jobs)
        except BaselineFails:
            sys.stderr.write(f"the tests of {fold} fail without a mutation: {' '.join(tests)}\n")
            return 2
    return 1 if survivors else 0


def _mutants(path: str) -> list[Mutant]:
    place = ROOT / path
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    return [
        each
        for file in files
        if file.name != "__init__.py"
        for each in mutants_of(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))
    ]


def _run(tests: Sequence[str], mutants: Sequence[Mutant], jobs: int) -> int:
    """Run and print; return the number of survivors."""
    started = time.monotonic()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="voipex-mutants-") as folder:
        for result in Runner(ROOT, Path(folder), tests, jobs).run(mutants):
            results.append(result)
            if result.outcome is Outcome.SURVIVED:
                _print_survivor(result.mutant, result.mutated)
    counts = Counter(each.outcome for each in results)
    total = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
    _say(f"{total} in {time.monotonic() - started:.0f} s")
    for path in sorted({each.mutant.path for each in results}):
        own = Counter(each.outcome for each in results if each.mutant.path == path)
        _say(f"  {path:<36} {own[Outcome.SURVIVED]:>4} of {own.total():>4} survive")
    return counts[Outcome.SURVIVED]


def _print_survivor(mutant: Mutant, mutated: Mutated) -> None:
    _say(f"survived: {mutant.place} {mutant.function}, {mutant.kind}")
    _say(f"    - {mutated.before}")
    _say(f"    + {mutated.after}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
