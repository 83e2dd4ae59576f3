"""The result of the doctor's checks, and the text they share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["ok", "warning", "error", "skipped"]

SETTINGS_CHECK: Final = "settings"


@dataclass(frozen=True, slots=True)
class Check:
    """One result of a check, and the remedy unless it is ok. A check may have several results."""

    name: str
    verdict: Verdict
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All results, in the order of the checks."""

    checks: tuple[Check, ...]

    def count(self, verdict: Verdict) -> int:
        """Return how many results have this verdict."""
        return sum(check.verdict == verdict for check in self.checks)

    @property
    def exit_code(self) -> int:
        """0: no error, 1: errors, 2: the settings are invalid."""
        if any(check.name == SETTINGS_CHECK and check.verdict == "error" for check in self.checks):
            return 2
        return 1 if self.count("error") else 0


def skipped(names: Iterable[str], reason: str) -> list[Check]:
    """Report that these checks were not made."""
    return [Check(name, "skipped", f"skipped: {reason}") for name in names]


def reason_of(error: BaseException) -> str:
    """Return the text of an error, without the number and path of an OSError."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def format_bytes(count: int) -> str:
    """`1536` -> `2 KiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
