"""
Install the pinned packages and show the progress: `python -m tools.install REQUIREMENTS` (`make setup`).

Runs before any package is there, so it imports the standard library only. pip's own output is shown when it fails.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PIP: Final = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off")
_LINES_APART: Final = 20  # packages between two lines of a log


def main(arguments: Sequence[str]) -> int:
    """Install the packages of a file with hashes, then this project. Returns pip's exit code."""
    [requirements] = arguments
    started_s = time.monotonic()
    total = sum("==" in line for line in Path(requirements).read_text(encoding="utf-8").splitlines())
    code, fetched = _run((*_PIP, "--require-hashes", "-r", requirements), total)
    if not code:
        code, _ = _run((*_PIP, "--no-build-isolation", "--no-deps", "-e", "."), 0)
    if not code:
        print(f"installed {fetched} packages in {time.monotonic() - started_s:.0f} s")  # noqa: T201
    return code


def _run(command: Sequence[str], total: int) -> tuple[int, int]:
    """Run pip. Returns its exit code and how many packages it has fetched; those of other systems are among *total*."""
    output: list[str] = []
    fetched = 0
    with subprocess.Popen(  # noqa: S603 - a fixed command
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as pip:
        for line in pip.stdout or ():
            output.append(line)
            if line.startswith(("Collecting ", "Requirement already satisfied")):
                fetched += 1
                _show(f"fetching packages: {fetched} of about {total}", fetched)
            elif total and line.startswith("Installing collected packages"):
                _show(f"installing {fetched} packages", 0)
    if pip.returncode:
        sys.stderr.writelines(output[-_LINES_APART:])
    return pip.returncode, fetched


def _show(text: str, number: int) -> None:
    """Print *text*: on a terminal in place, else every 20th time."""
    if sys.stdout.isatty():
        print(f"\r{text:60}", end="" if number else "\n", flush=True)  # noqa: T201
    elif number % _LINES_APART == 0:
        print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
