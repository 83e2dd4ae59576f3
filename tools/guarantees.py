"""
The last column of the tables in docs/guarantees.md: what the named tests measured when they last passed.

    python -m tools.guarantees tests    print the id of every test that the page names, for pytest
    python -m tools.guarantees write    take the figures from build/figures.jsonl, which the tests write; rows without new ones stay

A row names one test as `[test_name](../tests/file.py)` in its last column but one. Of a test with parameters, counts are added up, and of
other numbers the largest is shown.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

PAGE: Final = Path("docs/guarantees.md")  # relative to the repository, where this command runs
FIGURES: Final = Path("build/figures.jsonl")

_ROW: Final = re.compile(
    r"^(?P<head>\| .* \| \[`(?P<test>\w+)`\]\(\.\./(?P<file>tests/[\w/]+\.py)\) \|)(?P<figures>[^|]*)\|$"
)
Value = int | float | str


class Row(NamedTuple):
    """A row of the page: the test that can break the promise, and its last figures."""

    file: str
    test: str
    figures: str

    @property
    def node_id(self) -> str:
        return f"{self.file}::{self.test}"


def rows(page: str) -> Iterator[Row]:
    for line in page.splitlines():
        if match := _ROW.match(line):
            yield Row(match["file"], match["test"], match["figures"].strip())


def with_figures(page: str, lines: Iterable[str]) -> str:
    """Return the page with the figures of these lines of JSON, in the order in which they were written."""
    last: dict[str, dict[str, Mapping[str, Any]]] = {}
    for line in lines:
        found = json.loads(line)
        name, _, parameters = found["test"].partition("[")
        last.setdefault(_function(name), {})[parameters] = found

    def filled(line: str) -> str:
        match = _ROW.match(line)
        runs = last.get(f"{match['file']}::{match['test']}") if match else None
        return f"{match['head']} {_shown(list(runs.values()))} |" if match and runs else line

    return "\n".join(map(filled, page.split("\n")))


def _function(node_id: str) -> str:
    """Of a test in a class, the page names the class alone."""
    return "::".join(node_id.split("::")[:2])


def _shown(runs: Sequence[Mapping[str, Any]]) -> str:
    totals: dict[str, Value] = {}
    for run in runs:
        for name, value in run["figures"].items():
            totals[name] = _together(totals[name], value) if name in totals else value
    figures = ", ".join(f"{_number(value)} {name}" for name, value in totals.items())
    return f"{figures}; {max(run['date'] for run in runs)}"


def _together(one: Value, other: Value) -> Value:
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return max(float(one), float(other))


def _number(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def main(arguments: Sequence[str]) -> int:
    page = PAGE.read_text(encoding="utf-8")
    if list(arguments) == ["tests"]:
        sys.stdout.write("\n".join(dict.fromkeys(row.node_id for row in rows(page))) + "\n")
    elif list(arguments) == ["write"]:
        lines = FIGURES.read_text(encoding="utf-8").splitlines() if FIGURES.exists() else []
        PAGE.write_text(with_figures(page, lines), encoding="utf-8", newline="\n")
    else:
        sys.stderr.write("usage: python -m tools.guarantees tests|write\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
