"""
A leg of a call while its events are read, and the two kinds of value in it.

`Reported`: an event says so. `Inferred`: it only follows from others, by a rule of contract 4. A reported value replaces an inferred one
whenever it comes, an inferred one replaces nothing; `inferred[]` of a document names the slots that hold an `Inferred`.
Times are microseconds, places count the events of a call from 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final, Generic, TypeVar

from consumers.calls.events import CallEvent
from consumers.calls.parties import Party
from voipex.agent_activity import LegResult, LegRole
from voipex.events import ReasonClass

Span = tuple[int, int]
Value = TypeVar("Value")


@dataclass(slots=True, eq=False)
class Reported(Generic[Value]):
    """An event says so."""

    value: Value
    place: int  # of that event


@dataclass(slots=True, eq=False)
class Inferred(Generic[Value]):
    """It follows from other events by a rule of contract 4."""

    value: Value
    place: int  # of the event that it follows from
    rule: str


Finding = Reported[Value] | Inferred[Value]

DEVICE_REASONS: Final = frozenset(
    {
        ReasonClass.BUSY,
        ReasonClass.REJECTED,
        ReasonClass.UNREACHABLE,
        ReasonClass.FAILED_NUMBER,
        ReasonClass.FAILED_NETWORK,
    }
)
"""One device says so, not its line."""

NO_TALK_REASONS: Final = frozenset(
    {
        ReasonClass.BUSY,
        ReasonClass.REJECTED,
        ReasonClass.NO_ANSWER,
        ReasonClass.UNREACHABLE,
        ReasonClass.FAILED_NUMBER,
    }
)
"""No talk ends so; a network can fail while one talks."""

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
    One attempt to ring a line. "Before" and "after" are decided by places, since times may be equal. Other legs are named by their
    number, which is their place among the legs from 1; 0: none.
    """

    number: int
    role: LegRole
    began_us: int
    began_place: int
    last_us: int  # of its own last event
    touched_us: int  # as last_us, or the event that closed it
    queue: str | None = None
    ring_started_us: int | None = None
    ring_reported: bool = False  # a Ringing came for it, be it late
    ring_after_answer_place: int = 0
    parallel_rings: int = 0
    devices_left: int = 0  # of the parallel ones, those whose Hangup has not come
    answer: Finding[int] | None = None
    answered_place: int = 0  # where the answer stands in the order
    withdrawn: bool = False  # an answer of it was withdrawn (3, 5)
    own_phone: bool = False  # the withdrawn one was its own phone's (3)
    answered_again: bool = False  # a further Answered of a caller, a Ringing lay between (quality)
    caller_since_us: int | None = None  # when it got the caller
    caller_since_place: int = 0
    consult_until_us: int | None = None  # when its consultation turned into a call
    end: Finding[int] | None = None
    result: Finding[LegResult] | None = None
    hangup_place: int = 0  # of its own Hangup
    reason: str | None = None
    reason_class: ReasonClass | None = None
    consulter: int = 0  # of a consult: the leg that consults it
    has_consulted: bool = False
    cancel_reported: bool = False  # a CancelAttendedTransfer counted for it
    consulted: tuple[Span, ...] = ()  # when colleagues that this leg consults were on the line
    took_over_from: int = 0  # by rule 8
    gave_away: bool = False  # an event, or an answer, says that it gave the caller away
    overtaken_by: CallEvent | None = None  # the Hangup that seems to have overtaken its Ringing (5f)
    after_empty_hangup: bool = False  # began as its party's next event after a Hangup that had nothing to end
    doubtful_pickup: bool = False  # began unrung, while others talked or shortly after a Hangup of its party

    @property
    def answered_us(self) -> int | None:
        return None if self.answer is None else self.answer.value

    @property
    def ended_us(self) -> int | None:
        return None if self.end is None else self.end.value

    @property
    def outcome(self) -> LegResult | None:
        return None if self.result is None else self.result.value

    @property
    def is_open(self) -> bool:
        return self.end is None

    @property
    def is_customer(self) -> bool:
        """Neither consult nor monitor."""
        return self.role is LegRole.AGENT or self.role is LegRole.CALLER

    @property
    def is_attempt(self) -> bool:
        """Open and not answered yet."""
        return self.end is None and self.answer is None

    @property
    def name(self) -> str | None:
        return self.line if self.line is not None else self.login

    @property
    def inferred(self) -> list[str]:
        """Names of its fields that no event says."""
        names = []
        if self.withdrawn or isinstance(self.answer, Inferred):
            names.append("answered_at")
        if isinstance(self.end, Inferred):
            names.append("ended_at")
        if isinstance(self.result, Inferred):
            names.append("result")
        return names

    def ended_by_answer(self) -> bool:
        """Another's answer ended this attempt (4), and no Hangup of its own has come."""
        return isinstance(self.end, Inferred) and self.end.rule == "4" and not self.hangup_place

    def ring_span(self) -> Span | None:
        """[ring, answered or ended); None without ring, while ringing, or when it ended by time-out."""
        if self.ring_started_us is None:
            return None
        if self.answer is not None:
            return (self.ring_started_us, self.answer.value)
        if self.end is None or self.outcome is LegResult.TIMEOUT:
            return None
        return (self.ring_started_us, self.end.value)

    def talk_span(self) -> Span | None:
        """[got the caller, left); None when it never did, still talks, or ended by time-out."""
        if self.caller_since_us is None or self.end is None or self.outcome is LegResult.TIMEOUT:
            return None
        return (self.caller_since_us, self.end.value)

    def consult_span(self) -> Span | None:
        """[answered, left or took over) of a leg that was consulted; None while open, or when it ended by time-out."""
        if self.answer is None:
            return None
        if self.consult_until_us is not None:
            return (self.answer.value, self.consult_until_us)
        if self.role is not LegRole.CONSULT or self.end is None or self.outcome is LegResult.TIMEOUT:
            return None
        return (self.answer.value, self.end.value)

    def consulting_spans(self) -> list[Span]:
        """When it consulted others, as far as that is part of its talk."""
        if self.caller_since_us is None:
            return []
        spans = []
        for begin, end in self.consulted:
            begin = max(begin, self.caller_since_us)  # noqa: PLW2901  # clipping is the point
            end = end if self.end is None else min(end, self.end.value)  # noqa: PLW2901
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
