"""
Find test functions whose names are longer than 60 characters: `python -m tools.test_names [FILE ...]`.

Without arguments, every Python file below tests/ that git tracks is read.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.dialect import ROOT, tracked

LIMIT: Final = 60


def long_names(root: Path, paths: Iterable[str]) -> Iterator[str]:
    """Yield `file:line: name has n characters` for each test function with too long a name, methods included."""
    for path in paths:
        for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name.startswith("test_")
                and len(node.name) > LIMIT
            ):
                yield f"{path}:{node.lineno}: {node.name} has {len(node.name)} characters, at most {LIMIT} are allowed"


def main(arguments: Sequence[str]) -> int:
    """Print every finding; return 1 if there is one, 0 otherwise."""
    tests = (path for path in tracked(ROOT) if path.startswith("tests/") and path.endswith(".py"))
    found = list(long_names(ROOT, sorted(arguments or tests)))
    for line in found:
        print(line)  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
