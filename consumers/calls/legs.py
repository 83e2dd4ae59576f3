"""
A leg of a call while the events are read, and the two kinds of value in it.

A value is `Reported` when an event says it, and `Inferred` when it only follows from other events by a rule of docs/call-rules.md. A
reported value replaces an inferred one whenever it comes; an inferred one never replaces a reported one. `inferred[]` of a document names
the fields that hold an `Inferred`. Times are microseconds. A place is the position of an event in the call, from 1.
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
    """A value that an event says."""

    value: Value
    place: int  # of that event


@dataclass(slots=True, eq=False)
class Inferred(Generic[Value]):
    """A value that follows from other events by a rule."""

    value: Value
    place: int  # of the event that it follows from
    rule: str  # as "5f"


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
"""One device of a line reports these; its other devices may ring on."""

NO_TALK_REASONS: Final = frozenset(
    {
        ReasonClass.BUSY,
        ReasonClass.REJECTED,
        ReasonClass.NO_ANSWER,
        ReasonClass.UNREACHABLE,
        ReasonClass.FAILED_NUMBER,
    }
)
"""No talk ends by these. FAILED_NETWORK is missing: a network can fail during a talk."""

RESULTS: Final = {
    ReasonClass.BUSY: LegResult.BUSY,
    ReasonClass.REJECTED: LegResult.REJECTED,
    ReasonClass.UNREACHABLE: LegResult.UNREACHABLE,
    ReasonClass.ANSWERED_ELSEWHERE: LegResult.ANSWERED_ELSEWHERE,
    ReasonClass.FAILED_NUMBER: LegResult.FAILED,
    ReasonClass.FAILED_NETWORK: LegResult.FAILED,
}


def result_of(reason_class: ReasonClass | None) -> LegResult:
    """The result of an attempt that ended unanswered for this reason."""
    if reason_class is None:
        return LegResult.NO_ANSWER
    return RESULTS.get(reason_class, LegResult.NO_ANSWER)


@dataclass(slots=True, eq=False)
class Leg(Party):
    """
    One ring attempt of a party, and its talk if it was answered.

    "Before" and "after" are decided by places, since times may be equal. Other legs are referred to by number, from 1; 0 means none.
    """

    number: int
    role: LegRole
    began_us: int
    began_place: int
    last_us: int  # last event of its own party
    touched_us: int  # last_us, or the event that closed it
    queue: str | None = None
    ring_started_us: int | None = None
    ring_reported: bool = False  # a Ringing came for it, also a late one
    ring_after_answer_place: int = 0
    parallel_rings: int = 0
    devices_left: int = 0  # parallel devices whose Hangup has not come
    answer: Finding[int] | None = None
    answered_place: int = 0  # position of the answer in the order of events
    withdrawn: bool = False  # an answer of this leg was withdrawn (rules 3, 5)
    withdrawn_place: int = 0  # place of the last one that rule 5 withdrew
    rang_on_us: int | None = None  # the Ringing by which the far end began to ring (rule 3)
    own_phone: bool = False  # the withdrawn answer was that of the caller's own phone (rule 3)
    answered_again: bool = False  # quality: the caller was answered again after another Ringing
    caller_since_us: int | None = None  # when it got the caller
    caller_since_place: int = 0
    consult_until_us: int | None = None  # when it took the call over after a consultation
    end: Finding[int] | None = None
    result: Finding[LegResult] | None = None
    hangup_place: int = 0  # place of its own Hangup; 0: none
    hangup_repeated: bool = (
        False  # quality: a device reason came twice within 2 s, maybe one Hangup delivered twice
    )
    reason: str | None = None
    reason_class: ReasonClass | None = None
    consulter: int = 0  # the leg that consults this one
    has_consulted: bool = False
    cancel_reported: bool = False  # a CancelAttendedTransfer was counted for it
    consulted: tuple[Span, ...] = ()  # intervals in which a colleague that it consults was on the line
    took_over_from: int = 0  # the transferor, by rule 8
    gave_away: bool = False  # a reported transfer or a hand-over says that it gave the caller away
    overtaken_by: CallEvent | None = None  # rule 5f: the Hangup that seems to have overtaken its Ringing
    after_empty_hangup: bool = (
        False  # rule 5f: began as next event of its party after a Hangup with nothing to end
    )
    rang_in_this_round: bool = False  # quality: a device has ended an attempt of its party in the same round
    doubtful_pickup: bool = (
        False  # began without a ring while others talked, or shortly after a Hangup of its party
    )

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
    def is_customer(self) -> bool:
        """Whether its role is neither consult nor monitor."""
        return self.role is LegRole.AGENT or self.role is LegRole.CALLER

    @property
    def is_attempt(self) -> bool:
        """Whether it is open and not answered."""
        return self.end is None and self.answer is None

    @property
    def name(self) -> str | None:
        return self.line if self.line is not None else self.login

    @property
    def inferred(self) -> list[str]:
        """Names of the fields that no event reports; `ended_at` stands for the end and its result."""
        names = []
        if self.withdrawn or isinstance(self.answer, Inferred):
            names.append("answered_at")
        if isinstance(self.end, Inferred):
            names.append("ended_at")
        return names

    def ring_span(self) -> Span | None:
        """[ring, answered or ended); None without a ring, while ringing, or if it ended by timeout."""
        if self.ring_started_us is None:
            return None
        if self.answer is not None:
            return (self.ring_started_us, self.answer.value)
        if self.end is None or self.outcome is LegResult.TIMEOUT:
            return None
        return (self.ring_started_us, self.end.value)

    def talk_span(self) -> Span | None:
        """[got the caller, ended); None if it never got the caller, still talks, or ended by timeout."""
        if self.caller_since_us is None or self.end is None or self.outcome is LegResult.TIMEOUT:
            return None
        return (self.caller_since_us, self.end.value)

    def consult_span(self) -> Span | None:
        """[answered, ended or took over) of a leg that was consulted; None while open, or if it ended by timeout."""
        if self.answer is None:
            return None
        if self.consult_until_us is not None:
            return (self.answer.value, self.consult_until_us)
        if self.role is not LegRole.CONSULT or self.end is None or self.outcome is LegResult.TIMEOUT:
            return None
        return (self.answer.value, self.end.value)

    def consulting_spans(self) -> list[Span]:
        """The intervals in which it consulted others, clipped to its own talk."""
        if self.caller_since_us is None:
            return []
        spans = []
        for begin, end in self.consulted:
            begin = max(begin, self.caller_since_us)  # noqa: PLW2901  # clipping is the point
            end = end if self.end is None else min(end, self.end.value)  # noqa: PLW2901
            if begin <= end:
                spans.append((begin, end))
        return spans

    def copy(self) -> "Leg":
        return Leg(*_values(self))


_values: Final = attrgetter(
    *(each.name for each in fields(Leg))
)  # `dataclasses.replace` takes six times as long


def union_us(spans: Iterable[Span]) -> int:
    """Length of the union of intervals, in microseconds."""
    total = 0
    reached: int | None = None
    for begin, end in sorted(spans):
        start = begin if reached is None else max(begin, reached)
        if end > start:
            total += end - start
        reached = end if reached is None else max(end, reached)
    return total
