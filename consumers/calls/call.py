"""
Call: the state of one call after some of its events, and the operations on its legs.

The rules in `rings`, `hangups`, `transfers` and `fold` decide which event causes which operation; changes by time alone are in
`deadlines`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, Party, PartyLike, result_of, same_party
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Confidence, Effect, EndedBy, TransferKind
from voipex.events import Direction, ReasonClass

SECOND_US: Final = 1_000_000
LATE_US: Final = 2 * SECOND_US
"""An event within this time after the Hangup of its line was overtaken by that Hangup (rules 3 and 4)."""

NO_EFFECT: Final = frozenset({Effect.FILLED, Effect.NONE, Effect.CDR})
"""Effects that do not prove that the call is still alive (rule 12)."""

OUTGOING: Final = frozenset({Direction.OUTGOING, Direction.OUTGOING_LOCAL})


class Applied(NamedTuple):
    """The effect of an event, the reason for it, and the leg it concerns (None: the call as a whole)."""

    effect: Effect
    note: str | None = None
    leg: Leg | None = None


@dataclass(slots=True)
class Transfer:
    """The caller was transferred, or a consultation was cancelled. Legs are numbers, 0 if not known."""

    at_us: int
    kind: TransferKind
    confidence: Confidence
    transferor: int
    target: int
    party: PartyLike
    """The transferor, as far as an event named it."""
    reported_by: PartyLike | None = None
    """The party named by the AttendedTransfer (or its cancellation) that reported this transfer; None if it was inferred."""


@dataclass(slots=True)
class Call:
    index: int = 0  # of the event being folded, from 1
    legs: list[Leg] = field(default_factory=list)
    open: list[Leg] = field(
        default_factory=list
    )  # the open ones of `legs`, so that a step does not slow down as the call grows
    transfers: list[Transfer] = field(default_factory=list)
    effects: list[tuple[Effect, str | None]] = field(default_factory=list)  # (effect, note) of each event
    anomalies: set[Anomaly] = field(default_factory=set)
    direction: Direction | None = None
    caller: Party | None = None
    first: CallEvent | None = None  # the earliest event of a known type
    new_call: CallEvent | None = None
    only_cdrs: bool = True
    queues: list[str] = field(default_factory=list)
    from_first: CallEvent | None = None
    to_first: CallEvent | None = None
    from_all: list[str] = field(default_factory=list)
    to_all: list[str] = field(default_factory=list)
    pbx_started_us: int | None = None
    last_effect_us: int = 0
    hangups: list[tuple[int, CallEvent]] = field(default_factory=list)  # (index, event) of the last 2 s
    cdr: CallEvent | None = None
    cdr_pending: bool = False  # the CDR ends the call unless an event follows
    ended_us: int | None = None
    ended_by: EndedBy | None = None
    ended_reason: ReasonClass | None = None

    # ------------------------------------------------------------ queries

    @property
    def is_outgoing(self) -> bool:
        return self.direction in OUTGOING

    @property
    def ended(self) -> bool:
        return self.ended_us is not None

    def leg(self, number: int) -> Leg:
        return self.legs[number - 1]

    def open_legs(self) -> list[Leg]:
        """Open legs except monitors, which do not keep a call open (rule 11)."""
        return [leg for leg in self.open if leg.role is not LegRole.MONITOR]

    def talking(self) -> list[Leg]:
        return [leg for leg in self.open if leg.caller_since_us is not None]

    def legs_of(self, party: PartyLike, *, monitor: bool = False) -> Iterator[Leg]:
        """Legs of a party, newest first."""
        for leg in reversed(self.legs):
            if (leg.role is LegRole.MONITOR) is monitor and same_party(leg, party):
                yield leg

    def newest_leg_of(self, party: PartyLike) -> Leg | None:
        """The newest leg of a party; a monitor leg only if it has no other."""
        return next(self.legs_of(party), None) or next(self.legs_of(party, monitor=True), None)

    def open_leg_of(self, party: PartyLike, *, monitor: bool = False) -> Leg | None:
        for leg in reversed(self.open):
            if (leg.role is LegRole.MONITOR) is monitor and same_party(leg, party):
                return leg
        return None

    def open_attempt_of(self, party: PartyLike, *, monitor: bool = False) -> Leg | None:
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

    def is_caller(self, party: PartyLike) -> bool:
        return self.caller is not None and same_party(self.caller, party)

    def customer_role(self, party: PartyLike) -> LegRole:
        return LegRole.CALLER if self.is_caller(party) else LegRole.AGENT

    def late_hangups_of(self, party: PartyLike) -> list[int]:
        """Indexes of the party's own Hangups of the last 2 s, newest first."""
        return [index for index, hangup in self.hangups[::-1] if same_party(hangup, party)]

    # ------------------------------------------------------------ operations

    def begin(self, event: CallEvent, role: LegRole, *, rings: bool) -> Leg:
        leg = Leg(
            event.line,
            event.login,
            event.email,
            number=len(self.legs) + 1,
            role=role,
            began_us=event.at_us,
            began_index=self.index,
            last_index=self.index,
            last_us=event.at_us,
            touched_us=event.at_us,
            queue=event.queue,
            ring_started_us=event.at_us if rings else None,
            ring_reported=rings,
        )
        self.legs.append(leg)
        self.open.append(leg)
        return leg

    def touch(self, leg: Leg, event: CallEvent) -> bool:
        """Record *event* as the last event of *leg* and take over its details. Return True if a detail changed."""
        leg.last_index = self.index
        leg.last_us = leg.touched_us = event.at_us
        changed = leg.fill(event)
        if event.queue is not None and event.queue != leg.queue:
            leg.queue = event.queue
            changed = True
        return changed

    def note(self, leg: Leg | None, event: CallEvent, why: str) -> Applied:
        """Apply an event that changes only details of its leg."""
        changed = leg is not None and self.touch(leg, event)
        return Applied(Effect.FILLED if changed else Effect.NONE, why, leg)

    def close(self, leg: Leg, at_us: int, result: LegResult, by: CallEvent | None = None) -> None:
        """End a leg. `by` is the event that reports the end; its reason becomes that of the leg."""
        self.open.remove(leg)
        leg.ended_us = at_us
        leg.ended_index = self.index
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
        """Add the consultation until now to the consulting leg (`consult_s`)."""
        if consult.answered_us is not None:
            consulter = self.leg(consult.consulter)
            consulter.consulted = (*consulter.consulted, (consult.answered_us, at_us))

    def connect_caller(self, leg: Leg, at_us: int, index: int) -> None:
        leg.caller_since_us = at_us
        leg.caller_since_index = index

    def end(self, at_us: int, by: EndedBy, event: CallEvent | None = None) -> None:
        """
        End the call and every open leg: answered legs as completed, others by the reason of *event* (rule 5). Attempts superseded by
        an answer end at that answer (5c).
        """
        self.close_superseded()
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

    def close_superseded(self) -> None:
        """Close attempts that an answer had superseded, which the end of the call proves (5c)."""
        for leg in self.open_legs():
            answer = self.superseding_answer(leg) if leg.answered_us is None else None
            if answer is not None and answer.answered_us is not None:
                self.close_inferred(leg, answer.answered_us, LegResult.NO_ANSWER)

    def superseding_answer(self, attempt: Leg) -> Leg | None:
        """The first answer after the last event of the attempt: it stops the other lines from ringing (5c)."""
        answers = [
            leg
            for leg in self.legs
            if leg.caller_since_us is not None
            and leg.consult_until_us is None
            and leg.answered_index > attempt.last_index
        ]
        return min(answers, key=lambda leg: leg.answered_index, default=None)

    def reopen(self) -> None:
        """Continue an ended call that rings or is answered again (rules 3 and 6)."""
        if self.ended:
            self.ended_us = self.ended_by = self.ended_reason = None
            self.anomalies.add(Anomaly.REOPENED)

    def copy(self) -> "Call":
        """Return a copy whose legs may be changed."""
        call = replace(self)
        call.legs = [leg.copy() for leg in self.legs]
        call.open = [call.leg(leg.number) for leg in self.open]
        return call
