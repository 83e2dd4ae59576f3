"""Legs of a call while it is folded, and the comparison of parties (rule "L is the event's party"). Times are microseconds."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final, Protocol

from voipex.agent_activity import LegResult, LegRole
from voipex.events import ReasonClass

Span = tuple[int, int]


class PartyLike(Protocol):
    """An object with the fields that identify a party: an event, a leg or the caller."""

    @property
    def line(self) -> str | None: ...
    @property
    def login(self) -> str | None: ...
    @property
    def email(self) -> str | None: ...


def is_blank(party: PartyLike) -> bool:
    return party.line is None and party.login is None and party.email is None


def same_party(one: PartyLike, other: PartyLike) -> bool:
    """Compare Line; if either has none, Login; else Email. A blank party equals only another blank party."""
    if one.line is not None and other.line is not None:
        return one.line == other.line
    if one.login is not None and other.login is not None:
        return one.login.casefold() == other.login.casefold()
    if one.email is not None and other.email is not None:
        return one.email.casefold() == other.email.casefold()
    return is_blank(one) and is_blank(other)


@dataclass(slots=True, eq=False)
class Party:
    """Compared by identity; `same_party` compares the fields."""

    line: str | None
    login: str | None
    email: str | None

    def fill(self, other: PartyLike) -> bool:
        """Take over the fields of *other*. A blank field never replaces a value (rule 1). Return True if a field changed."""
        before = (self.line, self.login, self.email)
        if other.line is not None:
            self.line = other.line
        if other.login is not None:
            self.login = other.login
        if other.email is not None:
            self.email = other.email
        return before != (self.line, self.login, self.email)


RESULTS: Final = {
    ReasonClass.BUSY: LegResult.BUSY,
    ReasonClass.REJECTED: LegResult.REJECTED,
    ReasonClass.UNREACHABLE: LegResult.UNREACHABLE,
    ReasonClass.ANSWERED_ELSEWHERE: LegResult.ANSWERED_ELSEWHERE,
    ReasonClass.FAILED_NUMBER: LegResult.FAILED,
    ReasonClass.FAILED_NETWORK: LegResult.FAILED,
}


def result_of(reason_class: ReasonClass | None) -> LegResult:
    """Return the result of an attempt that ended unanswered for this reason."""
    if reason_class is None:
        return LegResult.NO_ANSWER
    return RESULTS.get(reason_class, LegResult.NO_ANSWER)


@dataclass(slots=True, eq=False)
class Leg(Party):
    """
    `*_index` fields are indexes of events in the call's total order. They decide "before" and "after", because times may be equal.
    References to other legs are leg numbers, which count from 1.
    """

    number: int
    role: LegRole
    began_us: int
    began_index: int
    last_index: int  # of the last event of this leg
    last_us: int
    touched_us: int  # last_us, or the time of the event that closed the leg
    queue: str | None = None
    ring_started_us: int | None = None
    ring_reported: bool = False  # a Ringing reported it, even if late
    parallel_rings: int = 0
    answered_us: int | None = None
    answered_index: int = 0
    caller_since_us: int | None = None  # connected to the caller since
    caller_since_index: int = 0
    consult_until_us: int | None = None  # the consulted leg took the caller over at this time
    ended_us: int | None = None
    ended_index: int = 0
    result: LegResult | None = None
    own_hangup: bool = False
    reason: str | None = None
    reason_class: ReasonClass | None = None
    inferred: tuple[str, ...] = ()
    consulter: int = 0  # of a consult leg: the number of the consulting leg
    cancel_reported: bool = False  # a CancelAttendedTransfer reported its cancellation
    consulted: tuple[Span, ...] = ()  # when the colleagues consulted by this leg were connected
    took_over_from: int = 0
    transferred_us: int | None = None

    @property
    def is_open(self) -> bool:
        return self.ended_us is None

    @property
    def is_customer(self) -> bool:
        """Whether the leg talks to the customer: neither consult nor monitor."""
        return self.role is LegRole.AGENT or self.role is LegRole.CALLER

    @property
    def is_attempt(self) -> bool:
        """Open and not answered yet."""
        return self.ended_us is None and self.answered_us is None

    @property
    def talks(self) -> bool:
        """Connected to the caller."""
        return self.caller_since_us is not None and self.ended_us is None

    @property
    def name(self) -> str | None:
        return self.line if self.line is not None else self.login

    def infer(self, *names: str) -> None:
        """Mark fields as inferred: no event reported them."""
        self.inferred = (*self.inferred, *(name for name in names if name not in self.inferred))

    def reported(self, *names: str) -> None:
        """Mark fields as reported by an event after all."""
        self.inferred = tuple(name for name in self.inferred if name not in names)

    def ring_span(self) -> Span | None:
        """[ring, answered or ended). None without a ring, while ringing, and after a timeout."""
        if self.ring_started_us is None:
            return None
        if self.answered_us is not None:
            return (self.ring_started_us, self.answered_us)
        if self.ended_us is None or self.result is LegResult.TIMEOUT:
            return None
        return (self.ring_started_us, self.ended_us)

    def talk_span(self) -> Span | None:
        """[connected to the caller, ended). None if never connected, while talking, and after a timeout."""
        if self.caller_since_us is None or self.ended_us is None or self.result is LegResult.TIMEOUT:
            return None
        return (self.caller_since_us, self.ended_us)

    def consult_span(self) -> Span | None:
        """[answered, ended or took over) of a consulted leg. None while open and after a timeout."""
        if self.answered_us is None:
            return None
        if self.consult_until_us is not None:
            return (self.answered_us, self.consult_until_us)
        if self.role is not LegRole.CONSULT or self.ended_us is None or self.result is LegResult.TIMEOUT:
            return None
        return (self.answered_us, self.ended_us)

    def consulting_spans(self) -> list[Span]:
        """Spans in which the leg consulted others, clipped to its talk."""
        if self.caller_since_us is None:
            return []
        spans = []
        for begin, end in self.consulted:
            begin = max(begin, self.caller_since_us)  # noqa: PLW2901  # clipping is the point
            end = end if self.ended_us is None else min(end, self.ended_us)  # noqa: PLW2901
            if begin < end:
                spans.append((begin, end))
        return spans

    def copy(self) -> "Leg":
        return Leg(*_values(self))


_values: Final = attrgetter(
    *(each.name for each in fields(Leg))
)  # `dataclasses.replace` takes six times as long


def union_us(spans: Iterable[Span]) -> int:
    """Return the length of the union of intervals."""
    total = 0
    reached: int | None = None
    for begin, end in sorted(spans):
        start = begin if reached is None else max(begin, reached)
        if end > start:
            total += end - start
        reached = end if reached is None else max(end, reached)
    return total
