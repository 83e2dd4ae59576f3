"""
What happened in a conversation, as its people know it.

The simulation writes it while it plays persons and phones; nothing here is read from events. The comparison asks it. Moments are in
microseconds since 1970. Results of legs and outcomes have the contract's names.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

Interval = tuple[int, int]
"""[from, to), in microseconds."""


class Role(StrEnum):
    """Why a phone took part. A colleague who takes the caller over after a consultation becomes an agent."""

    AGENT = "agent"
    CALLER = "caller"
    CONSULT = "consult"
    MONITOR = "monitor"


@dataclass(slots=True, eq=False)
class Leg:
    """
    One phone rings, and perhaps somebody picks up.

    rang_us: None when it never rang. answered_us: somebody picked up and stayed. got_caller_us: from when on the caller was with this
    phone. result: None when no event tells it, alternatives separated by "|". login_reported: whether any event named the login. round: phones of one person that the PBX rings together share it.
    """

    line: str
    login: str
    role: Role
    round: int
    queue: str | None = None
    rang_us: int | None = None
    answered_us: int | None = None
    got_caller_us: int | None = None
    ended_us: int | None = None
    result: str | None = None
    consulted_by: "Leg | None" = None
    consulted_until_us: int | None = None
    login_reported: bool = False
    devices: int = 1

    def rings_at(self, at_us: int) -> bool:
        until_us = self.answered_us if self.answered_us is not None else self.ended_us
        return self.rang_us is not None and _within(at_us, self.rang_us, until_us)

    def has_caller_at(self, at_us: int) -> bool:
        return self.got_caller_us is not None and _within(at_us, self.got_caller_us, self.ended_us)

    def is_consulted_at(self, at_us: int) -> bool:
        if self.answered_us is None or self.role is Role.MONITOR or self.consulted_by is None:
            return False
        until_us = self.consulted_until_us if self.consulted_until_us is not None else self.ended_us
        return _within(at_us, self.answered_us, until_us)

    def monitors_at(self, at_us: int) -> bool:
        return (
            self.role is Role.MONITOR
            and self.answered_us is not None
            and _within(at_us, self.answered_us, self.ended_us)
        )

    def ringing(self, end_us: int) -> Interval | None:
        if self.rang_us is None:
            return None
        until_us = self.answered_us if self.answered_us is not None else self.ended_us
        return self.rang_us, end_us if until_us is None else until_us

    def talking(self, end_us: int) -> Interval | None:
        if self.got_caller_us is None:
            return None
        return self.got_caller_us, end_us if self.ended_us is None else self.ended_us

    def consulted(self, end_us: int) -> Interval | None:
        if self.answered_us is None or self.consulted_by is None:
            return None
        until_us = self.consulted_until_us if self.consulted_until_us is not None else self.ended_us
        return self.answered_us, end_us if until_us is None else until_us


def _within(at_us: int, from_us: int, until_us: int | None) -> bool:
    return from_us <= at_us and (until_us is None or at_us < until_us)


class Manner(StrEnum):
    """How a caller was handed over."""

    ATTENDED = "attended"
    BLONDE = "blonde"
    BLIND = "blind"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Handover:
    """to_line: None when nobody took the caller over."""

    at_us: int
    manner: Manner
    transferor: Leg
    to_line: str | None = None


@dataclass(slots=True, eq=False)
class Conversation:
    """
    One call of a customer, or between two colleagues.

    first_sign_us: its first event, since no event tells of anything before. outcome, last_segment: None while open. unreported: intervals in
    which no event says what goes on, with the reason; the comparison asks nothing then. transfers_asked: whether transfers are compared. unheard: persons whose part in it no event tells.
    """

    call_id: str
    situation: str
    direction: str
    direction_reported: bool
    first_sign_us: int | None = None
    start_seen: bool = True
    ended_us: int | None = None
    outcome: str | None = None
    last_segment: str | None = None
    legs: list[Leg] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)
    transfers_asked: bool = True
    unreported: list[tuple[int, int, str]] = field(default_factory=list)
    unheard: set[str] = field(default_factory=set)

    @property
    def talks(self) -> list[Leg]:
        """The far party's legs that had the caller, in the order of getting the caller."""
        had = [leg for leg in self.legs if leg.got_caller_us is not None]
        if self.direction == "outgoing_local" and any(leg.role is not Role.CALLER for leg in self.legs):
            had = [leg for leg in had if leg.role is not Role.CALLER]
        return sorted(had, key=lambda leg: leg.got_caller_us or 0)

    @property
    def first_answer_us(self) -> int | None:
        return self.talks[0].got_caller_us if self.talks else None

    @property
    def last_holder(self) -> Leg | None:
        """Who had the caller last; of several, who left last."""
        end_us = self.ended_us or 1 << 62
        return max(self.talks, key=lambda leg: (leg.ended_us or end_us, leg.got_caller_us), default=None)

    def open_at(self, at_us: int) -> bool:
        return self.first_sign_us is not None and _within(at_us, self.first_sign_us, self.ended_us)

    def is_unreported_at(self, at_us: int) -> bool:
        return any(from_us <= at_us < until_us for from_us, until_us, _ in self.unreported)

    def status_at(self, at_us: int) -> str:
        legs = [leg for leg in self.legs if leg.role is not Role.MONITOR]
        if any(leg.has_caller_at(at_us) for leg in self.talks):
            return "talking"
        if any(leg.rings_at(at_us) for leg in legs):
            return "ringing"
        begun = [
            leg
            for leg in legs
            if min(each for each in (leg.rang_us, leg.answered_us, 1 << 62) if each is not None) <= at_us
        ]
        return "waiting" if begun else "new"


def union_us(intervals: Iterable[Interval | None]) -> int:
    """Return the time covered by any of the intervals."""
    total_us = covered_until_us = 0
    for from_us, until_us in sorted(each for each in intervals if each is not None):
        total_us += max(0, until_us - max(from_us, covered_until_us))
        covered_until_us = max(covered_until_us, until_us)
    return total_us
