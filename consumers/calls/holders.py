"""
Which legs had the caller, one after the other, and the transfers between them.

Blind transfers (rule 9) have no event of their own. They are inferred here from the legs, anew for each document, so nothing has to be
withdrawn when later events change the legs.
"""

from bisect import bisect_left, bisect_right
from typing import Final

from consumers.calls.call import ROUND_US, SECOND_US, Call, Transfer
from consumers.calls.legs import Finding, Inferred, Leg
from consumers.calls.parties import same_party, same_person
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Confidence, TransferKind
from voipex.events import Direction

BLIND_US: Final = 10 * SECOND_US
"""Rule 9: a blind transfer usually rings the next line within this time of the end of the first."""


class Holders:
    """The legs that had the caller. It reads the call as it is and must not be used after another event."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.legs = (
            [leg for leg in call.answers if not call.is_callers_own(leg)]
            if call.direction is Direction.OUTGOING_LOCAL
            else call.answers
        )
        """Legs in the order in which they got the caller (`answered_by`)."""
        self._left: list[int] | None = None
        self._sure_ends: list[int] | None = None
        self._transfers: list[tuple[Transfer, int, Confidence]] | None = None

    def _last_answer_us(self) -> int | None:
        call = self.call
        answered = [
            leg.answer.value
            for leg in call.legs
            if leg.answer is not None and leg.role is not LegRole.MONITOR and not call.is_callers_own(leg)
        ]
        return max(answered, default=None)

    def next_holder(self, place: int) -> Leg | None:
        """The next leg that got the caller after the event at *place*."""
        number = bisect_right(self.legs, place, key=_caller_since_place)
        return self.legs[number] if number < len(self.legs) else None

    def alone_until(self, place: int) -> bool:
        """Rule 9: whether nobody else had the caller when a leg ended by the event at *place*."""
        if self._left is None:
            self._left = sorted(leg.end.place for leg in self.legs if leg.end is not None)
        return bisect_right(self.legs, place, key=_caller_since_place) <= bisect_right(self._left, place)

    def somebody_answered(self, attempt: Leg) -> bool:
        """Whether anybody has answered since 3 s before *attempt* began."""
        last_us = self._last_answer_us()
        return last_us is not None and last_us >= attempt.began_us - ROUND_US

    def talked_at(self, end: Finding[int] | None) -> bool:
        """Whether anybody had the caller at *end*."""
        return end is not None and any(
            (leg.caller_since_us or 0) <= end.value and (leg.end is None or leg.end.value >= end.value)
            for leg in self.legs
        )

    def was_elsewhere(self, attempt: Leg) -> bool:
        """Whether *attempt* ended as answered_elsewhere, and somebody did answer."""
        return attempt.outcome is LegResult.ANSWERED_ELSEWHERE and self.somebody_answered(attempt)

    def next_line(self, transferor: Leg) -> Leg | None:
        """
        Rule 9: the first leg of another person that rings on, begins to ring or answers after *transferor* ended.

        Only legs that began before somebody has the caller again count. None if the caller was not handed on.
        """
        if (
            transferor.end is None
            or transferor.outcome is LegResult.TIMEOUT
            or not self.alone_until(transferor.end.place)
        ):
            return None
        left_place = transferor.end.place
        following = self.next_holder(left_place)
        if following is not None and same_person(following, transferor):
            return None
        legs = self.call.legs
        for number in range(bisect_right(legs, transferor.answered_place, key=_began_place), len(legs)):
            leg = legs[number]
            if following is not None and leg.began_place > following.caller_since_place:
                return None
            if self._may_have_taken(leg, transferor, left_place):
                return None if self._over_a_sure_end(left_place, leg.began_place) else leg
        return None

    def _may_have_taken(self, leg: Leg, transferor: Leg, left_place: int) -> bool:
        return (
            leg.is_customer
            and (leg.ring_started_us is not None or leg.answer is not None)
            and (leg.end is None or leg.end.place > left_place)
            and not same_person(leg, transferor)
            and not (leg.end is not None and leg.answer is None and leg.end.value < _end_us(transferor))
            and not self.was_elsewhere(leg)
            and not self.call.is_callers_own(leg)
            and not is_overtaken(leg)
        )

    def _over_a_sure_end(self, left_place: int, began_place: int) -> bool:
        """Rule 9: whether an anonymous Hangup (5b) or that of the caller (5e) had ended the call in between."""
        if self._sure_ends is None:
            self._sure_ends = [end.place for end in self.call.ends if end.rule in ("b", "e")]
        return bisect_left(self._sure_ends, left_place) < bisect_left(self._sure_ends, began_place)

    def blind_of(self, transferor: Leg) -> Transfer | None:
        """Rule 9: the blind transfer by *transferor*, unless that leg gave the caller away otherwise."""
        if transferor.gave_away:
            return None
        first = self.next_line(transferor)
        if first is None or transferor.end is None:
            return None
        left_us = transferor.end.value
        following = self.next_holder(transferor.end.place)
        near = abs(first.began_us - left_us) <= BLIND_US
        return Transfer(
            max(left_us, first.began_us),
            transferor.end.place,
            TransferKind.BLIND_INFERRED,
            Confidence.MEDIUM if near else Confidence.LOW,
            transferor.number,
            0 if following is None else following.number,
            transferor,
        )

    def newest_blind(self) -> Transfer | None:
        for leg in reversed(self.legs):
            blind = self.blind_of(leg)
            if blind is not None:
                return blind
        return None

    @property
    def transfers(self) -> list[tuple[Transfer, int, Confidence]]:
        """All transfers with the number of their target and their confidence, in the order of `at`."""
        if self._transfers is None:
            self._transfers = self._all_transfers()
        return self._transfers

    def _all_transfers(self) -> list[tuple[Transfer, int, Confidence]]:
        found = [(each, self.target_of(each), self._confidence(each)) for each in self.call.transfers]
        for leg in self.legs:
            blind = self.blind_of(leg)
            if blind is not None:
                found.append((blind, blind.target, blind.confidence))
        found.sort(key=lambda each: (each[0].at_us, each[0].place))
        return found

    def target_of(self, transfer: Transfer) -> int:
        """Rule 8: the target; while no event names it, the other line that answers next. 0: not known."""
        if transfer.target:
            return transfer.target
        following = self.next_holder(transfer.place)
        if following is None or same_party(following, transfer.party):
            return 0
        return following.number

    def _confidence(self, transfer: Transfer) -> Confidence:
        """Rule 8: without a consult leg, low until another line rings or answers as in rule 9, then high."""
        unknown = transfer.confidence is Confidence.LOW and not transfer.after_consult
        if unknown and transfer.transferor and self.next_line(self.call.leg(transfer.transferor)) is not None:
            return Confidence.HIGH
        return transfer.confidence


def _caller_since_place(leg: Leg) -> int:
    return leg.caller_since_place


def _began_place(leg: Leg) -> int:
    return leg.began_place


def _end_us(leg: Leg) -> int:
    return 0 if leg.end is None else leg.end.value


def is_overtaken(leg: Leg) -> bool:
    """Rule 5f: whether a Hangup seems to have overtaken the Ringing of *leg*, so that it was over when it began."""
    return leg.overtaken_by is not None or (isinstance(leg.end, Inferred) and leg.end.rule == "5f")
