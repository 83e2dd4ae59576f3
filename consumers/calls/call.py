"""
Call: the state that the events of one call have built up, and the operations on its legs.

`attempts`, `transfers` and `ending` hold the rules that call these operations. Values that do not depend on the order of reading are
computed later from a complete Call: by `holders`, `deadlines` and `document`.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from consumers.calls.events import CallEvent
from consumers.calls.legs import DEVICE_REASONS, Finding, Inferred, Leg, Reported, result_of
from consumers.calls.parties import Party, PartyLike, is_blank, same_party
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Anomaly, Confidence, Effect, EndedBy, TransferKind
from voipex.events import Direction, EventType, ReasonClass

SECOND_US: Final = 1_000_000
SOON_US: Final = 2 * SECOND_US
"""Events of one moment reach the bridge within this time of each other (rules 4, 5)."""

LATE_US: Final = 20 * SECOND_US
"""An event may be late by this much (rules 4d, 5f, 8)."""

ROUND_US: Final = 3 * SECOND_US
"""Phones of one round begin to ring within this time. A queue rings a member again after 5 s at the earliest (rules 3, 4)."""

REMEMBERED: Final = 100
"""Hangups, transfers and legs without a line that are searched at most. Real calls have fewer; without a limit each event would search all."""

READ_AGAIN_LIMIT: Final = 10_000
"""Events of one call that are read again at most. Only a call with thousands of contradictions gets there; then no hindsight is added."""

NO_EFFECT: Final = frozenset({Effect.FILLED, Effect.NONE, Effect.CDR})
"""Rule 12: effects that do not restart the time until a call is stale."""

OUTGOING: Final = frozenset({Direction.OUTGOING, Direction.OUTGOING_LOCAL})


class Step(NamedTuple):
    """The effect of an event, the note that explains it, and its leg (None: it belongs to the call as a whole)."""

    effect: Effect
    note: str | None = None
    leg: Leg | None = None


class ReadAgain(Exception):
    """A later event showed that an earlier one meant something else. `Hindsight` has it; `fold` reads the call again."""


@dataclass(slots=True)
class Hindsight:
    """What later events show about earlier ones, by their places. While events come in order it only grows."""

    withdrawn: dict[int, int] = field(
        default_factory=dict
    )  # rule 5: place of an Answered without a talk -> place of the Hangup that shows it
    restored: dict[int, int] = field(
        default_factory=dict
    )  # rule 5: the same, once a further Hangup has restored the answer
    decided: dict[int, int] = field(
        default_factory=dict
    )  # rule 4e: place of an anonymous Answered -> place where the leg that it answered began
    replaced: set[int] = field(
        default_factory=set
    )  # rule 4a: places of anonymous Answered that one with a party has replaced
    read_again: int = 0  # number of events

    @property
    def is_open(self) -> bool:
        return self.read_again < READ_AGAIN_LIMIT


@dataclass(slots=True)
class Transfer:
    """A transfer of the caller, or a cancelled consultation. Legs are given by number, 0 if not known."""

    at_us: int
    place: int
    kind: TransferKind
    confidence: Confidence
    transferor: int
    target: int
    party: PartyLike  # the transferor, as far as an event names it
    reported_by: CallEvent | None = None  # the AttendedTransfer or CancelAttendedTransfer; None: inferred
    by_hangup: bool = False  # rule 8: the transferor hung up while consulting
    after_consult: bool = False


@dataclass(slots=True)
class Undecided:
    """Rule 4e: an anonymous Answered while several attempts were open."""

    place: int
    at_us: int
    candidates: list[Leg]
    elsewhere: bool = False  # a candidate closed as answered_elsewhere
    otherwise: bool = False  # a candidate closed with another result


class CallEnd(NamedTuple):
    """An end of the call, also one after which it was reopened."""

    place: int
    at_us: int
    rule: str


class HungUp(NamedTuple):
    """A Hangup and the attempts that it closed."""

    place: int
    event: CallEvent
    closed: tuple[Leg, ...]


@dataclass(slots=True, eq=False)
class LegsOfLine:
    """All legs of a line, and the open ones, in order of number."""

    legs: list[Leg] = field(default_factory=list)
    open: list[Leg] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """What has been read of a call. Rules are the methods of other modules; the methods here change legs and keep the indexes in step."""

    place: int = 0  # place of the event being read
    seen: list[CallEvent] = field(default_factory=list)
    effects: list[tuple[Effect, str | None]] = field(
        default_factory=list
    )  # one per event, of the moment when its turn came
    hindsight: Hindsight = field(default_factory=Hindsight)
    legs: list[Leg] = field(default_factory=list)
    open: list[Leg] = field(
        default_factory=list
    )  # the open ones of `legs`, so that the cost of a step does not grow with the call
    by_line: dict[str | None, LegsOfLine] = field(default_factory=dict)
    answers: list[Leg] = field(
        default_factory=list
    )  # customer legs, in the order in which they were answered
    transfers: list[Transfer] = field(default_factory=list)
    undecided: Undecided | None = None
    anomalies: set[Anomaly] = field(default_factory=set)
    direction: Direction | None = None
    caller: Party | None = None
    first: CallEvent | None = None  # the earliest event of a known type
    new_call: CallEvent | None = None
    only_cdrs: bool = True
    anonymous_answers: int = 0
    anonymous_hangups: int = 0
    queues: list[str] = field(default_factory=list)
    from_first: CallEvent | None = None
    to_first: CallEvent | None = None
    from_all: list[str] = field(default_factory=list)
    to_all: list[str] = field(default_factory=list)
    pbx_started_us: int | None = None
    last_effect_us: int = 0
    hangups: list[HungUp] = field(default_factory=list)  # of the last 20 s
    empty_hangups: list[HungUp] = field(
        default_factory=list
    )  # rule 5f: last event of its party, with nothing to end
    hung_up_without_leg: list[PartyLike] = field(
        default_factory=list
    )  # parties that hung up and never had a leg
    left_out: list[CallEvent] = field(default_factory=list)  # late events
    cdr: CallEvent | None = None
    cdr_place: int = 0
    cdr_since_end_us: int | None = None  # rule 5b: time of the first CDR since the end
    grace_from_us: int | None = None  # rule 10: time of the CDR that ends the call after the grace
    ended_us: int | None = None
    ended_place: int = 0
    ended_by: EndedBy | None = None
    ended_rule: str = ""
    ended_reason: ReasonClass | None = None
    end_moved: bool = False  # rule 5b
    end_doubtful: bool = False  # quality: a CDR long after the end kept rule 5b from moving it
    blank_hangup_since_end: bool = False
    ends: list[CallEnd] = field(default_factory=list)

    # ------------------------------------------------------------ parties and their legs

    @property
    def is_outgoing(self) -> bool:
        return self.direction in OUTGOING

    @property
    def ended(self) -> bool:
        return self.ended_us is not None

    def leg(self, number: int) -> Leg:
        return self.legs[number - 1]

    def keeping_open(self) -> list[Leg]:
        """Open legs without those that keep no call open: monitors (rule 11) and rings that a Hangup may have overtaken (rule 5f)."""
        return [leg for leg in self.open if leg.role is not LegRole.MONITOR and leg.overtaken_by is None]

    def is_callers_own(self, leg: Leg) -> bool:
        """Whether *leg* is that of the caller of a local call, and another party has a leg: then it does not count as having the caller."""
        return (
            leg.role is LegRole.CALLER
            and self.direction is Direction.OUTGOING_LOCAL
            and self.another_has_a_leg(leg)
        )

    def another_has_a_leg(self, party: PartyLike) -> bool:
        return any(leg.role is not LegRole.MONITOR and not same_party(leg, party) for leg in self.legs)

    def another_was_answered(self, party: PartyLike) -> bool:
        return any(
            leg.answer is not None and leg.role is not LegRole.MONITOR and not same_party(leg, party)
            for leg in self.legs
        )

    def talking(self) -> list[Leg]:
        """Open legs that have the caller on the line."""
        legs = [leg for leg in self.open if leg.caller_since_us is not None]
        if legs and self.direction is Direction.OUTGOING_LOCAL:
            return [leg for leg in legs if not self.is_callers_own(leg)]
        return legs

    def legs_of(self, party: PartyLike, *, monitor: bool = False) -> Iterator[Leg]:
        """The legs of *party*, newest first."""
        for leg in self._maybe_of(party, open_only=False):
            if (leg.role is LegRole.MONITOR) is monitor and same_party(leg, party):
                yield leg

    def _maybe_of(self, party: PartyLike, *, open_only: bool) -> Iterator[Leg]:
        """
        Legs that may be of *party*, newest first: those of its line and those without a line, or all if the party has no line.

        Of legs that are not found by their line only the newest `REMEMBERED` are searched.
        """
        if party.line is None and not is_blank(party):
            return reversed((self.open if open_only else self.legs)[-REMEMBERED:])
        found: list[Leg] = []
        for line in (party.line, None) if party.line is not None else (None,):
            here = self.by_line.get(line)
            legs = [] if here is None else here.open if open_only else here.legs
            legs = legs if line is not None else legs[-REMEMBERED:]
            if legs and found:
                return iter(sorted((*legs, *found), key=_number, reverse=True))
            found = legs or found
        return reversed(found)

    def newest_leg_of(self, party: PartyLike) -> Leg | None:
        """The newest leg of *party*; a monitor leg only if there is no other."""
        return next(self.legs_of(party), None) or next(self.legs_of(party, monitor=True), None)

    def open_leg_of(self, party: PartyLike, *, monitor: bool = False) -> Leg | None:
        for leg in self._maybe_of(party, open_only=True):
            if (leg.role is LegRole.MONITOR) is monitor and same_party(leg, party):
                return leg
        return None

    def open_attempt_of(self, party: PartyLike, *, monitor: bool = False) -> Leg | None:
        for leg in self._maybe_of(party, open_only=True):
            if leg.answer is None and (leg.role is LegRole.MONITOR) is monitor and same_party(leg, party):
                return leg
        return None

    def open_consults_of(self, consulter: Leg) -> list[Leg]:
        """The open consultations of *consulter*, without rings that a Hangup may have overtaken: those count for no transfer (rule 5f)."""
        return [
            leg
            for leg in self.open
            if leg.consulter == consulter.number and leg.role is LegRole.CONSULT and leg.overtaken_by is None
        ]

    def is_caller(self, party: PartyLike) -> bool:
        return self.caller is not None and same_party(self.caller, party)

    def customer_role(self, party: PartyLike) -> LegRole:
        return LegRole.CALLER if self.is_caller(party) else LegRole.AGENT

    # ------------------------------------------------------------ late or not

    def closed_for_good(self, party: PartyLike) -> bool:
        """Whether the call has ended so that later events of *party* are late and open nothing (terms of the rules)."""
        if self.ended_us is None:
            return False
        if self.cdr is not None and self._has_hung_up(party):
            return True
        if self.ended_rule != "b" and not self.blank_hangup_since_end:
            return False
        return self.at_us - self.ended_us <= SOON_US or self.newest_leg_of(party) is not None

    @property
    def at_us(self) -> int:
        """Time of the event being read."""
        return self.seen[self.place - 1].at_us

    def _has_hung_up(self, party: PartyLike) -> bool:
        if is_blank(party):
            return self.anonymous_hangups > 0
        leg = self.newest_leg_of(party)
        if leg is not None:
            return leg.hangup_place > 0
        return any(same_party(other, party) for other in self.hung_up_without_leg)

    def empty_hangup_of(self, party: PartyLike) -> HungUp | None:
        """Rule 5f: the last event of *party*, if that was a Hangup with nothing of the party to end or fill."""
        found = [hungup for hungup in self.empty_hangups if same_party(hungup.event, party)]
        return found[-1] if found else None

    def talked_meanwhile(self, attempt: Leg) -> bool:
        """Rules 4b, 4c: whether another party has talked for more than 10 s since *attempt* began. A phone does not ring so long."""
        for leg in self.answers:
            if leg.caller_since_us is None or same_party(leg, attempt) or self.is_callers_own(leg):
                continue
            end_us = self.at_us if leg.end is None else leg.end.value
            if end_us - max(leg.caller_since_us, attempt.began_us) > 10 * SECOND_US:
                return True
        return False

    # ------------------------------------------------------------ changes of legs and of the call

    def begin(self, event: CallEvent, role: LegRole, *, rings: bool) -> Leg:
        leg = Leg(
            event.line,
            event.login,
            event.email,
            number=len(self.legs) + 1,
            role=role,
            began_us=event.at_us,
            began_place=self.place,
            last_us=event.at_us,
            touched_us=event.at_us,
            queue=event.queue,
            ring_started_us=event.at_us if rings else None,
            ring_reported=rings,
            after_empty_hangup=self.empty_hangup_of(event) is not None,
        )
        self.legs.append(leg)
        self.open.append(leg)
        here = self.by_line.setdefault(leg.line, LegsOfLine())
        here.legs.append(leg)
        here.open.append(leg)
        return leg

    def touch(self, leg: Leg, event: CallEvent) -> bool:
        """Assign *event* to *leg* and fill in its details (rule 1). Return whether a detail changed."""
        leg.last_us = leg.touched_us = event.at_us
        leg.overtaken_by = None
        line = leg.line
        changed = leg.fill(event)
        if line != leg.line:
            self._file_again(leg, line)
        if event.queue is not None and event.queue != leg.queue:
            leg.queue = event.queue
            changed = True
        return changed

    def _file_again(self, leg: Leg, line: str | None) -> None:
        """Update the index after a leg without a line has got its line."""
        before, now = self.by_line[line], self.by_line.setdefault(leg.line, LegsOfLine())
        before.legs.remove(leg)
        now.legs.append(leg)
        now.legs.sort(key=_number)
        if leg.end is None:
            before.open.remove(leg)
            now.open.append(leg)
            now.open.sort(key=_number)

    def note(self, leg: Leg | None, event: CallEvent, why: str, effect: Effect = Effect.NONE) -> Step:
        """Leave everything as it is but the details of *leg*, and explain why."""
        changed = leg is not None and self.touch(leg, event)
        return Step(Effect.FILLED if changed else effect, why, leg)

    def late(self, event: CallEvent, why: str) -> Step:
        """Leave out a late event, except for details of the newest leg of its party."""
        self.anomalies.add(Anomaly.LATE_EVENT)
        self.left_out.append(event)
        return self.note(self.newest_leg_of(event), event, why)

    def close(
        self, leg: Leg, end: Finding[int], result: Finding[LegResult], by: CallEvent | None = None
    ) -> None:
        """End a leg. `by` is the event that reports the end; the reason of a Hangup becomes the leg's."""
        self.open.remove(leg)
        self.by_line[leg.line].open.remove(leg)
        leg.end, leg.result = end, result
        if by is not None:
            if by.type is EventType.HANGUP:
                leg.reason, leg.reason_class = by.reason, by.reason_class
            leg.touched_us = by.at_us
        if leg.role is LegRole.CONSULT and result.value is not LegResult.TIMEOUT:
            self.consultation_over(leg, end.value)
        self._no_candidate(leg, result.value)

    def infer_end(self, leg: Leg, at_us: int, result: LegResult, rule: str) -> None:
        self.close(leg, Inferred(at_us, self.place, rule), Inferred(result, self.place, rule))

    def _no_candidate(self, leg: Leg, result: LegResult) -> None:
        undecided = self.undecided
        if undecided is None or leg not in undecided.candidates:
            return
        undecided.candidates.remove(leg)
        if result is LegResult.ANSWERED_ELSEWHERE:
            undecided.elsewhere = True
        else:
            undecided.otherwise = True
        if not undecided.candidates:
            self.undecided = None

    def open_again(self, leg: Leg) -> None:
        """Withdraw the end of *leg*: it rang on."""
        leg.end = leg.result = leg.reason = leg.reason_class = None
        leg.hangup_place = 0
        self.open.append(leg)
        self.open.sort(key=_number)
        here = self.by_line[leg.line].open
        here.append(leg)
        here.sort(key=_number)

    def consultation_over(self, consult: Leg, at_us: int) -> None:
        """Add the time of a consultation to the `consult_s` of the leg that consults."""
        if consult.answer is not None:
            consulter = self.leg(consult.consulter)
            consulter.consulted = (*consulter.consulted, (consult.answer.value, at_us))

    def get_caller(self, leg: Leg, at_us: int, place: int) -> None:
        leg.caller_since_us = at_us
        leg.caller_since_place = place
        self.answers.append(leg)
        if len(self.answers) > 1 and self.answers[-2].caller_since_place > place:
            self.answers.sort(key=_caller_since_place)

    def first_answer_us(self, attempt: Leg) -> int | None:
        """Rules 4, 5a: the first answer of another party to the same caller, or consulting leg, since *attempt* began."""
        if attempt.role is LegRole.CONSULT:
            answers = [
                leg.answer.value
                for leg in self.legs
                if leg.answer is not None
                and leg.consulter == attempt.consulter
                and leg.answered_place > attempt.began_place
                and not same_party(leg, attempt)
            ]
            return min(answers, default=None)
        for leg in self.answers[bisect_right(self.answers, attempt.began_place, key=_caller_since_place) :]:
            took_over = leg.consult_until_us is not None  # a take-over is no answer
            if leg.role is not LegRole.CALLER and not took_over and not same_party(leg, attempt):
                return leg.caller_since_us
        return None

    def add_transfer(self, transfer: Transfer) -> None:
        self.transfers.append(transfer)
        if transfer.transferor and transfer.kind is not TransferKind.CANCELLED:
            self.leg(transfer.transferor).gave_away = True

    def end(self, at_us: int, by: EndedBy, rule: str, event: CallEvent | None = None) -> None:
        """Rule 5: end the call and its open legs, answered ones as completed, the others by the reason of *event*."""
        self.end_overtaken()
        reason_class = None if event is None else event.reason_class
        for leg in list(self.open):
            result = LegResult.COMPLETED if leg.answer is not None else result_of(reason_class)
            if by is EndedBy.CDR:
                self.close(leg, Inferred(at_us, self.place, "10"), Inferred(result, self.place, "10"))
            else:
                self.close(leg, Reported(at_us, self.place), Reported(result, self.place), event)
        self.undecided = None
        self.set_end(at_us, by, rule, reason_class)
        self.end_moved = self.end_doubtful = self.blank_hangup_since_end = False
        self.grace_from_us = self.cdr_since_end_us = None

    def set_end(self, at_us: int, by: EndedBy, rule: str, reason_class: ReasonClass | None) -> None:
        self.ended_us = at_us
        self.ended_place = self.place
        self.ended_by = by
        self.ended_rule = rule
        self.ended_reason = reason_class
        self.ends.append(CallEnd(self.place, at_us, rule))

    def end_overtaken(self) -> None:
        """Rule 5f: rings that a Hangup seems to have overtaken were over when they began."""
        for leg in list(self.open):
            if leg.overtaken_by is not None:
                self.over_when_it_began(leg)

    def over_when_it_began(self, leg: Leg) -> None:
        overtaken_by = leg.overtaken_by
        result = result_of(None if overtaken_by is None else overtaken_by.reason_class)
        self.infer_end(leg, leg.began_us, result, "5f")
        if overtaken_by is not None:
            leg.reason, leg.reason_class = overtaken_by.reason, overtaken_by.reason_class

    def reopen(self) -> None:
        """Rules 3, 6: a call that has ended goes on when it rings or is answered again."""
        if self.ended:
            self.ended_us = self.ended_by = self.ended_reason = self.cdr_since_end_us = None
            self.ended_rule = ""
            self.end_moved = self.end_doubtful = self.blank_hangup_since_end = False
            self.anomalies.add(Anomaly.REOPENED)

    def copy(self) -> "Call":
        """A copy whose legs may be changed."""
        copied = replace(self)
        copied.legs = [leg.copy() for leg in self.legs]
        copied.open = [copied.leg(leg.number) for leg in self.open]
        copied.by_line = {
            line: LegsOfLine(
                [copied.leg(leg.number) for leg in here.legs], [copied.leg(leg.number) for leg in here.open]
            )
            for line, here in self.by_line.items()
        }
        copied.answers = [copied.leg(leg.number) for leg in self.answers]
        copied.undecided = None if self.undecided is None else replace(self.undecided, candidates=[])
        copied.ends = list(self.ends)
        return copied


def _number(leg: Leg) -> int:
    return leg.number


def _caller_since_place(leg: Leg) -> int:
    return leg.caller_since_place


def closed_by_device(leg: Leg) -> bool:
    """Rule 4c: whether its own Hangup ended *leg* unanswered with a device reason. Another device may have rung on."""
    return leg.hangup_place > 0 and leg.answer is None and leg.reason_class in DEVICE_REASONS


PARTY_EVENTS: Final = frozenset(
    {
        EventType.RINGING,
        EventType.ANSWERED,
        EventType.HANGUP,
        EventType.ATTENDED_TRANSFER,
        EventType.ATTENDED_TRANSFER_CANCELLED,
    }
)
"""Events that report what a party does."""
