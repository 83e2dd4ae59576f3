"""
Call: what is known of one call after some of its events, and the few things that can happen to its legs.

Which event makes what happen is said by the rules in `rings`, `hangups`, `transfers` and `fold`. What only time makes is in `deadlines`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, Named, Party, result_of, same_party
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Confidence, Effect, EndedBy, TransferKind
from voipex.events import Direction, ReasonClass

SECOND_US: Final = 1_000_000
LATE_US: Final = 2 * SECOND_US
"""An event this shortly after its line's own Hangup was overtaken by it (rules 3 and 4)."""

NO_EFFECT: Final = frozenset({Effect.FILLED, Effect.NONE, Effect.CDR})
"""Effects that do not show a living call (rule 12)."""

OUTGOING: Final = frozenset({Direction.OUTGOING, Direction.OUTGOING_LOCAL})


class Told(NamedTuple):
    """What an event did, why, and to which leg it belongs (None: to the call)."""

    effect: Effect
    note: str | None = None
    leg: Leg | None = None


@dataclass(slots=True)
class Transfer:
    """The caller changed hands, or a consultation was cancelled. Legs by number, 0: not known."""

    at_us: int
    kind: TransferKind
    confidence: Confidence
    giver: int
    taker: int
    party: Named  # who gave the caller away, as far as an event named them
    teller: Named | None = None  # who an AttendedTransfer (or its Cancel) that told it named; None: inferred


@dataclass(slots=True)
class Call:
    no: int = 0  # place of the event being folded
    legs: list[Leg] = field(default_factory=list)
    open: list[Leg] = field(default_factory=list)  # of these legs, so that a step does not grow with the call
    transfers: list[Transfer] = field(default_factory=list)
    told: list[tuple[Effect, str | None]] = field(default_factory=list)  # one per event
    oddities: set[Anomaly] = field(default_factory=set)
    direction: Direction | None = None
    caller: Party | None = None
    first: CallEvent | None = None  # the earliest one of a kind we know
    new_call: CallEvent | None = None
    only_cdrs: bool = True
    queues: list[str] = field(default_factory=list)
    from_first: CallEvent | None = None
    to_first: CallEvent | None = None
    from_all: list[str] = field(default_factory=list)
    to_all: list[str] = field(default_factory=list)
    pbx_started_us: int | None = None
    last_effect_us: int = 0
    hangups: list[tuple[int, CallEvent]] = field(default_factory=list)  # with their places; of the last 2 s
    cdr: CallEvent | None = None
    cdr_pending: bool = False  # the call is to end by its CDR
    ended_us: int | None = None
    ended_by: EndedBy | None = None
    ended_reason: ReasonClass | None = None

    # ------------------------------------------------------------ who is there

    @property
    def is_outgoing(self) -> bool:
        return self.direction in OUTGOING

    @property
    def ended(self) -> bool:
        return self.ended_us is not None

    def leg(self, number: int) -> Leg:
        return self.legs[number - 1]

    def open_legs(self) -> list[Leg]:
        """Monitors keep and make nothing open (rule 11)."""
        return [leg for leg in self.open if leg.role is not LegRole.MONITOR]

    def talking(self) -> list[Leg]:
        return [leg for leg in self.open if leg.caller_since_us is not None]

    def legs_of(self, party: Named, *, monitor: bool = False) -> Iterator[Leg]:
        """Newest first."""
        for leg in reversed(self.legs):
            if (leg.role is LegRole.MONITOR) is monitor and same_party(leg, party):
                yield leg

    def newest_leg_of(self, party: Named) -> Leg | None:
        """Its newest leg; one that barged in only if there is no other."""
        return next(self.legs_of(party), None) or next(self.legs_of(party, monitor=True), None)

    def open_leg_of(self, party: Named, *, monitor: bool = False) -> Leg | None:
        for leg in reversed(self.open):
            if (leg.role is LegRole.MONITOR) is monitor and same_party(leg, party):
                return leg
        return None

    def open_attempt_of(self, party: Named, *, monitor: bool = False) -> Leg | None:
        for leg in reversed(self.open):
            if (
                leg.answered_us is None
                and (leg.role is LegRole.MONITOR) is monitor
                and same_party(leg, party)
            ):
                return leg
        return None

    def open_consults_of(self, consulter: Leg) -> list[Leg]:
        return [leg for leg in self.open if leg.consulter == consulter.number and leg.role is LegRole.CONSULT]

    def is_caller(self, party: Named) -> bool:
        return self.caller is not None and same_party(self.caller, party)

    def customer_role(self, party: Named) -> LegRole:
        return LegRole.CALLER if self.is_caller(party) else LegRole.AGENT

    def late_hangups_of(self, party: Named) -> list[int]:
        """Places of the party's own Hangups of the last 2 s, newest first."""
        return [no for no, hangup in self.hangups[::-1] if same_party(hangup, party)]

    # ------------------------------------------------------------ what can happen

    def begin(self, event: CallEvent, role: LegRole, *, rings: bool) -> Leg:
        leg = Leg(
            event.line,
            event.login,
            event.email,
            number=len(self.legs) + 1,
            role=role,
            began_us=event.at_us,
            began_no=self.no,
            last_no=self.no,
            last_us=event.at_us,
            touched_us=event.at_us,
            queue=event.queue,
            ring_started_us=event.at_us if rings else None,
            ring_told=rings,
        )
        self.legs.append(leg)
        self.open.append(leg)
        return leg

    def touch(self, leg: Leg, event: CallEvent) -> bool:
        """Note that *event* is of *leg*, and take over its details. True when that taught something."""
        leg.last_no = self.no
        leg.last_us = leg.touched_us = event.at_us
        taught = leg.fill(event)
        if event.queue is not None and event.queue != leg.queue:
            leg.queue = event.queue
            taught = True
        return taught

    def note(self, leg: Leg | None, event: CallEvent, why: str) -> Told:
        """The event changes nothing but details of its leg."""
        taught = leg is not None and self.touch(leg, event)
        return Told(Effect.FILLED if taught else Effect.NONE, why, leg)

    def close(self, leg: Leg, at_us: int, result: LegResult, by: CallEvent | None = None) -> None:
        """End a leg. `by`: the event that told so, whose reason it is then."""
        self.open.remove(leg)
        leg.ended_us = at_us
        leg.ended_no = self.no
        leg.result = result
        if by is not None:
            leg.reason, leg.reason_class = by.reason, by.reason_class
            leg.touched_us = by.at_us
        if leg.role is LegRole.CONSULT and result is not LegResult.TIMEOUT:
            self.consultation_over(leg, at_us)

    def close_inferred(self, leg: Leg, at_us: int, result: LegResult) -> None:
        self.close(leg, at_us, result)
        leg.infer("ended_at", "result")

    def consultation_over(self, consult: Leg, at_us: int) -> None:
        """What was consulted until now is part of the talk of the leg that consults (`consult_s`)."""
        if consult.answered_us is not None:
            consulter = self.leg(consult.consulter)
            consulter.consulted = (*consulter.consulted, (consult.answered_us, at_us))

    def get_caller(self, leg: Leg, at_us: int, no: int) -> None:
        leg.caller_since_us = at_us
        leg.caller_since_no = no

    def end(self, at_us: int, by: EndedBy, event: CallEvent | None = None) -> None:
        """
        The call is over: every open leg closes, answered ones as completed, others by the reason of *event* (rule 5);
        attempts that an answer had ended already do so at that answer (5c).
        """
        self.close_outrun()
        reason_class = None if event is None else event.reason_class
        for leg in list(self.open):
            result = LegResult.COMPLETED if leg.answered_us is not None else result_of(reason_class)
            self.close(leg, at_us, result, event)
            if by is EndedBy.CDR:
                leg.infer("ended_at", "result")
        self.ended_us = at_us
        self.ended_by = by
        self.ended_reason = reason_class
        self.cdr_pending = False

    def close_outrun(self) -> None:
        """Attempts that an answer had ended already, as the end of the call shows (5c)."""
        for leg in self.open_legs():
            answer = self.answer_outrunning(leg) if leg.answered_us is None else None
            if answer is not None and answer.answered_us is not None:
                self.close_inferred(leg, answer.answered_us, LegResult.NO_ANSWER)

    def answer_outrunning(self, attempt: Leg) -> Leg | None:
        """The first answer since the attempt's last event: whoever rings along stops ringing then (5c)."""
        answers = [
            leg
            for leg in self.legs
            if leg.caller_since_us is not None
            and leg.consult_until_us is None
            and leg.answered_no > attempt.last_no
        ]
        return min(answers, key=lambda leg: leg.answered_no, default=None)

    def reopen(self) -> None:
        """A call that ended and rings or is answered again goes on (rules 3 and 6)."""
        if self.ended:
            self.ended_us = self.ended_by = self.ended_reason = None
            self.oddities.add(Anomaly.REOPENED)

    def copy(self) -> "Call":
        """A twin whose legs may be changed."""
        twin = replace(self)
        twin.legs = [leg.copy() for leg in self.legs]
        twin.open = [twin.leg(leg.number) for leg in self.open]
        return twin
