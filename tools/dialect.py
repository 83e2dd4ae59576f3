"""
Find the words that this project no longer uses, and print the word to use instead: `python -m tools.dialect [FILE ...]`.

The words and the files to leave out are in tools/dialect.txt. Without arguments, every text file that git tracks is read.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, NamedTuple

LIST: Final = Path(__file__).with_suffix(".txt")
ROOT: Final = LIST.parent.parent


class Dialect(NamedTuple):
    """The list of words: one expression that matches any of them, the replacement of each, and the files that are not read."""

    words: re.Pattern[str]
    replacements: Sequence[str]
    exempt: Sequence[str]

    def findings(self, line: str) -> Iterator[tuple[str, str]]:
        """Yield each forbidden word in *line* with its replacement."""
        for match in self.words.finditer(line):
            yield match[0], self.replacements[int(str(match.lastgroup)[1:])]

    def reads(self, path: str) -> bool:
        """Whether a file, named relative to the root, is to be checked."""
        return not any(fnmatch(path, pattern) for pattern in self.exempt)


def parse(text: str) -> Dialect:
    """Read the list. Raises ValueError naming the first line that is neither empty, a comment, `exempt` nor `pattern => word`."""
    patterns: list[str] = []
    replacements: list[str] = []
    exempt: list[str] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        pattern, arrow, replacement = line.partition(" => ")
        if line.startswith("exempt "):
            exempt.append(line.removeprefix("exempt ").strip())
        elif arrow and pattern and replacement:
            patterns.append(f"(?P<p{len(replacements)}>{pattern})")
            replacements.append(replacement)
        elif line and not line.startswith("#"):
            raise ValueError(f"line {number} is not `pattern => replacement`: {line}")
    return Dialect(
        re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(patterns)})(?![A-Za-z0-9])"), replacements, exempt
    )


def check(dialect: Dialect, root: Path, paths: Iterable[str]) -> Iterator[str]:
    """Yield `file:line: word -> use replacement` for every forbidden word; binary files are passed over."""
    for path in filter(dialect.reads, paths):
        try:
            lines = (root / path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            for word, replacement in dialect.findings(line):
                yield f"{path}:{number}: {word} -> use {replacement}"


def tracked(root: Path) -> list[str]:
    """Every file that git tracks and that is still there, relative to *root*."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)  # noqa: S607
    return [path for path in listed.stdout.split("\0") if path and (root / path).is_file()]


def main(arguments: Sequence[str]) -> int:
    """Print every finding; return 1 if there is one, 0 otherwise."""
    dialect = parse(LIST.read_text(encoding="utf-8"))
    found = list(check(dialect, ROOT, sorted(arguments or tracked(ROOT))))
    for line in found:
        print(line)  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
