"""docs/guarantees.md: every test that it names exists and measures something, and the writer of its last column."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from tools.guarantees import rows, with_figures

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
ROW = "| a kill | [`test_a`](../tests/unit/test_x.py) | not run |"


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def measures(file: Path, test: str) -> bool:
    """Whether the file has this test, and it records figures or Hypothesis counts its examples."""
    if f"\n{test} = " in file.read_text(encoding="utf-8"):  # the test case of a state machine
        return True
    return any(
        "record_property" in {argument.arg for argument in each.args.args}
        or any("given" in ast.unparse(decorator) for decorator in each.decorator_list)
        for each in functions(file)
        if each.name == test
    )


def test_every_named_test_exists_and_records_figures() -> None:
    named = list(rows(PAGE))

    assert [each for each in named if not measures(ROOT / each.file, each.test)] == []
    assert len(named) == PAGE.count("](../tests/")  # no row has another form


def test_every_long_test_is_on_the_page() -> None:
    slow = {
        each.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for each in functions(file)
        if each.name.startswith("test_")
        and (
            "\npytestmark = pytest.mark.slow" in file.read_text(encoding="utf-8")
            or "pytest.mark.slow" in map(ast.unparse, each.decorator_list)
        )
    }

    assert slow
    assert slow - {row.test for row in rows(PAGE)} == set()


def line(test: str, date: str = "2026-11-30", **figures: float) -> str:
    return json.dumps({"test": f"tests/unit/test_x.py::{test}", "date": date, "figures": figures})


def test_the_last_run_of_each_case_counts() -> None:
    lines = [line("test_a[1]", lost=9), line("test_a[1]", lost=0, kills=1000), line("test_a[2]", lost=1)]

    page = with_figures(f"text\n{ROW}\n", lines)

    assert page == f"text\n{ROW.replace('not run', '1 lost, 1,000 kills; 2026-11-30')}\n"


def test_of_seconds_the_largest_counts() -> None:
    page = with_figures(ROW, [line("test_a[1]", "2026-11-29", s=0.5), line("test_a[2]", s=0.25)])

    assert page == ROW.replace("not run", "0.5 s; 2026-11-30")


def test_a_row_without_a_new_run_stays() -> None:
    assert with_figures(ROW, [line("test_b", kills=1)]) == ROW
