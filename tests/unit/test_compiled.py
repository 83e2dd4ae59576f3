"""The modules that the wheel compiles (`deploy/compiled.py`): named in pyproject.toml, and what `make test` tests the second time."""

import importlib
import runpy
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
missing = runpy.run_path(str(ROOT / "deploy" / "compiled.py"))["missing"]
MODULES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]


@pytest.mark.parametrize("path", MODULES)
def test_what_is_tested_is_compiled_as_it_is_shipped_and_python_else(path: str) -> None:
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert module.__file__ is not None
    as_shipped = sys.flags.safe_path and missing() is None  # as the Makefile says it
    assert module.__file__.endswith(".so" if as_shipped else ".py")


def test_all_modules_of_the_folds_are_compiled() -> None:
    """A new one is not forgotten. Models and what only names things are no part of a fold."""
    named = {"__init__.py", "timeline.py", "status.py"}
    folds = [path for part in ("agents", "calls") for path in (ROOT / "consumers" / part).glob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in folds if path.name not in named} <= set(MODULES)
