"""How many documents were judged, how many were right, and how many of the wrong ones were sure."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

CALLS, CUT_CALLS, OPEN_CALLS = "ended calls", "ended calls that lost an event", "open calls"
STATES, DAYS, CUT_DAYS = "agents' states", "agents' days", "agents' days that lost an event"


@dataclass(slots=True)
class Score:
    """sure: wrong ones whose quality says `exact`. fields: how often each was wrong. calls: of agents' days, in all."""

    judged: int = 0
    wrong: int = 0
    sure: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    calls: int = 0

    def add(self, wrong_fields: list[str], quality: str = "", calls: int = 0) -> None:
        self.judged += 1
        self.calls += calls
        if wrong_fields:
            self.wrong += 1
            self.sure += quality == "exact"
            self.fields.update(wrong_fields)

    def merge(self, other: "Score") -> None:
        self.judged += other.judged
        self.wrong += other.wrong
        self.sure += other.sure
        self.calls += other.calls
        self.fields.update(other.fields)

    @property
    def right_percent(self) -> float:
        return 100.0 * (self.judged - self.wrong) / self.judged if self.judged else 100.0

    def to_json(self) -> dict[str, Any]:
        return {
            "judged": self.judged,
            "right": self.judged - self.wrong,
            "right_percent": round(self.right_percent, 2),
            "wrong": self.wrong,
            "wrong_and_exact": self.sure,
            "wrong_fields": dict(self.fields.most_common()),
            **({"calls": self.calls} if self.calls else {}),
        }


@dataclass(slots=True)
class Scores:
    """Scores by kind, and those of calls by situation too."""

    by_kind: dict[str, Score] = field(default_factory=dict)
    by_situation: dict[str, dict[str, Score]] = field(default_factory=dict)

    def add(
        self, kind: str, wrong_fields: list[str], quality: str = "", situation: str = "", calls: int = 0
    ) -> None:
        self.by_kind.setdefault(kind, Score()).add(wrong_fields, quality, calls)
        if situation:
            self.by_situation.setdefault(situation, {}).setdefault(kind, Score()).add(wrong_fields, quality)

    def merge(self, other: "Scores") -> None:
        for kind, score in other.by_kind.items():
            self.by_kind.setdefault(kind, Score()).merge(score)
        for situation, kinds in other.by_situation.items():
            for kind, score in kinds.items():
                self.by_situation.setdefault(situation, {}).setdefault(kind, Score()).merge(score)
