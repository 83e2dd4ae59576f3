"""A leg of a call while it is folded, and who is who (rule "L is the event's party"). Times are microseconds."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final, Protocol

from voipex.agent_activity import LegResult, LegRole
from voipex.events import ReasonClass

Span = tuple[int, int]


class Named(Protocol):
    """Whatever names a party: an event, a leg, the caller."""

    @property
    def line(self) -> str | None: ...
    @property
    def login(self) -> str | None: ...
    @property
    def email(self) -> str | None: ...


def is_blank(party: Named) -> bool:
    return party.line is None and party.login is None and party.email is None


def same_party(one: Named, other: Named) -> bool:
    """Same Line; where either has none, same Login, else same Email; a blank party equals only a blank one."""
    if one.line is not None and other.line is not None:
        return one.line == other.line
    if one.login is not None and other.login is not None:
        return one.login.casefold() == other.login.casefold()
    if one.email is not None and other.email is not None:
        return one.email.casefold() == other.email.casefold()
    return is_blank(one) and is_blank(other)


@dataclass(slots=True, eq=False)
class Party:
    """Each is itself only; who is who says `same_party`."""

    line: str | None
    login: str | None
    email: str | None

    def fill(self, other: Named) -> bool:
        """Take over what *other* knows; blank never replaces a value (rule 1). True when that taught something."""
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
    """Result of an attempt that ended unanswered for this reason."""
    if reason_class is None:
        return LegResult.NO_ANSWER
    return RESULTS.get(reason_class, LegResult.NO_ANSWER)


@dataclass(slots=True, eq=False)
class Leg(Party):
    """
    `…_no` are places of events in the call's order: "before" and "after" are decided by them, since times may be equal.
    Other legs are named by their number, which is their place in the call from 1.
    """

    number: int
    role: LegRole
    began_us: int
    began_no: int
    last_no: int  # of its own last event
    last_us: int
    touched_us: int  # as last_us, or the event that closed it
    queue: str | None = None
    ring_started_us: int | None = None
    ring_told: bool = False  # a Ringing came for it, be it late
    parallel_rings: int = 0
    answered_us: int | None = None
    answered_no: int = 0
    caller_since_us: int | None = None  # when it got the caller
    caller_since_no: int = 0
    consult_until_us: int | None = None  # when its consultation turned into a call
    ended_us: int | None = None
    ended_no: int = 0
    result: LegResult | None = None
    own_hangup: bool = False
    reason: str | None = None
    reason_class: ReasonClass | None = None
    inferred: tuple[str, ...] = ()
    consulter: int = 0  # of a consult: the leg that consults it
    consult_told: bool = False  # a CancelAttendedTransfer counted for it
    consulted: tuple[Span, ...] = ()  # when colleagues that this leg consults were on the line
    took_over_from: int = 0
    transferred_us: int | None = None

    @property
    def is_open(self) -> bool:
        return self.ended_us is None

    @property
    def is_customer(self) -> bool:
        """Neither consult nor monitor."""
        return self.role is LegRole.AGENT or self.role is LegRole.CALLER

    @property
    def is_attempt(self) -> bool:
        """Open and not answered yet."""
        return self.ended_us is None and self.answered_us is None

    @property
    def talks(self) -> bool:
        """Has the caller on the line."""
        return self.caller_since_us is not None and self.ended_us is None

    @property
    def name(self) -> str | None:
        return self.line if self.line is not None else self.login

    def infer(self, *names: str) -> None:
        """Flag fields that no event told."""
        self.inferred = (*self.inferred, *(name for name in names if name not in self.inferred))

    def told(self, *names: str) -> None:
        """An event told after all what had been inferred."""
        self.inferred = tuple(name for name in self.inferred if name not in names)

    def ring_span(self) -> Span | None:
        """[ring, answered or ended); None without ring, while ringing, or when it ended by time-out."""
        if self.ring_started_us is None:
            return None
        if self.answered_us is not None:
            return (self.ring_started_us, self.answered_us)
        if self.ended_us is None or self.result is LegResult.TIMEOUT:
            return None
        return (self.ring_started_us, self.ended_us)

    def talk_span(self) -> Span | None:
        """[got the caller, left); None when it never did, still talks, or ended by time-out."""
        if self.caller_since_us is None or self.ended_us is None or self.result is LegResult.TIMEOUT:
            return None
        return (self.caller_since_us, self.ended_us)

    def consult_span(self) -> Span | None:
        """[answered, left or took over) of a leg that was consulted; None while open, or when it ended by time-out."""
        if self.answered_us is None:
            return None
        if self.consult_until_us is not None:
            return (self.answered_us, self.consult_until_us)
        if self.role is not LegRole.CONSULT or self.ended_us is None or self.result is LegResult.TIMEOUT:
            return None
        return (self.answered_us, self.ended_us)

    def consulting_spans(self) -> list[Span]:
        """When it consulted others, as far as that is part of its talk."""
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
    """Length of the union of intervals."""
    total = 0
    reached: int | None = None
    for begin, end in sorted(spans):
        start = begin if reached is None else max(begin, reached)
        if end > start:
            total += end - start
        reached = end if reached is None else max(end, reached)
    return total
