"""
Who had the caller after whom: a pass over the legs of a call, after or between its events.

Blind transfers (rule 9) have no event of their own: they are inferred here from the legs each time anew, so there is nothing to take back.
"""

from bisect import bisect_right
from typing import Final

from consumers.calls.call import ROUND_US, SECOND_US, Call, Transfer
from consumers.calls.legs import Found, Inferred, Leg
from consumers.calls.parties import same_party, same_person
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Confidence, TransferKind
from voipex.events import Direction

BLIND_US: Final = 10 * SECOND_US
"""A blind transfer usually rings the next line within this time of the first one's end (rule 9)."""


class Handing:
    """Reads a call as it stands; not to be kept after another event."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.holders = (
            [leg for leg in call.answers if not call.is_callers_own(leg)]
            if call.direction is Direction.OUTGOING_LOCAL
            else call.answers
        )
        """Legs that got the caller (`answered_by`), in that order."""
        self._left: list[int] | None = None
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
        """Who got the caller next after an event."""
        number = bisect_right(self.holders, place, key=_got_no)
        return self.holders[number] if number < len(self.holders) else None

    def alone_until(self, place: int) -> bool:
        """Nobody else had the caller when a leg ended by that event."""
        if self._left is None:
            self._left = sorted(leg.end.place for leg in self.holders if leg.end is not None)
        return bisect_right(self.holders, place, key=_got_no) <= bisect_right(self._left, place)

    def somebody_answered(self, attempt: Leg) -> bool:
        """Somebody has answered since 3 s before the attempt began."""
        last_us = self._last_answer_us()
        return last_us is not None and last_us >= attempt.began_us - ROUND_US

    def talked_at(self, end: Found[int] | None) -> bool:
        """Somebody had the caller when a leg ended."""
        return end is not None and any(
            (leg.caller_since_us or 0) <= end.value and (leg.end is None or leg.end.value >= end.value)
            for leg in self.holders
        )

    def was_elsewhere(self, attempt: Leg) -> bool:
        """It ended as answered elsewhere, and somebody did answer."""
        return attempt.outcome is LegResult.ANSWERED_ELSEWHERE and self.somebody_answered(attempt)

    def next_line(self, giver: Leg) -> Leg | None:
        """
        Rule 9: the first line of another person that rings on, begins to ring or answers after *giver* left, before somebody has the
        caller again. None when the caller was not handed on.
        """
        if giver.end is None or giver.outcome is LegResult.TIMEOUT or not self.alone_until(giver.end.place):
            return None
        left_no = giver.end.place
        following = self.next_holder(left_no)
        if following is not None and same_person(following, giver):
            return None
        legs = self.call.legs
        for number in range(bisect_right(legs, giver.answered_no, key=_began_no), len(legs)):
            leg = legs[number]
            if following is not None and leg.began_no > following.caller_since_no:
                return None
            if self._may_have_taken(leg, giver, left_no):
                return None if self._over_a_sure_end(left_no, leg.began_no) else leg
        return None

    def _may_have_taken(self, leg: Leg, giver: Leg, left_no: int) -> bool:
        return (
            leg.is_customer
            and (leg.ring_started_us is not None or leg.answer is not None)
            and (leg.end is None or leg.end.place > left_no)
            and not same_person(leg, giver)
            and not (leg.end is not None and leg.answer is None and leg.end.value < _end_us(giver))
            and not self.was_elsewhere(leg)
            and not self.call.is_callers_own(leg)
            and not is_overtaken(leg)
        )

    def _over_a_sure_end(self, left_no: int, began_no: int) -> bool:
        """A Hangup of the whole call, or of the caller, had ended it meanwhile (b, e)."""
        return any(end.rule in ("b", "e") and left_no <= end.place < began_no for end in self.call.ends)

    def blind_of(self, giver: Leg) -> Transfer | None:
        """`blind_inferred`, once per leg, and not of one that gave the caller away otherwise."""
        if giver.gave_away:
            return None
        first = self.next_line(giver)
        if first is None or giver.end is None:
            return None
        left_us = giver.end.value
        following = self.next_holder(giver.end.place)
        near = abs(first.began_us - left_us) <= BLIND_US
        return Transfer(
            max(left_us, first.began_us),
            giver.end.place,
            TransferKind.BLIND_INFERRED,
            Confidence.MEDIUM if near else Confidence.LOW,
            giver.number,
            0 if following is None else following.number,
            giver,
        )

    def newest_blind(self) -> Transfer | None:
        for leg in reversed(self.holders):
            blind = self.blind_of(leg)
            if blind is not None:
                return blind
        return None

    @property
    def transfers(self) -> list[tuple[Transfer, int, Confidence]]:
        """All of them with their taker and confidence, in the order of `at`."""
        if self._transfers is None:
            self._transfers = self._all_transfers()
        return self._transfers

    def _all_transfers(self) -> list[tuple[Transfer, int, Confidence]]:
        found = [(each, self._taker(each), self._confidence(each)) for each in self.call.transfers]
        for leg in self.holders:
            blind = self.blind_of(leg)
            if blind is not None:
                found.append((blind, blind.taker, blind.confidence))
        found.sort(key=lambda each: (each[0].at_us, each[0].place))
        return found

    def _taker(self, transfer: Transfer) -> int:
        """`to_line`, while not known: the other line that answers next."""
        if transfer.taker:
            return transfer.taker
        following = self.next_holder(transfer.place)
        if following is None or same_party(following, transfer.party):
            return 0
        return following.number

    def _confidence(self, transfer: Transfer) -> Confidence:
        """Without any consult leg it is high as soon as another line rings or answers as in rule 9."""
        unknown = transfer.confidence is Confidence.LOW and not transfer.after_consult
        if unknown and transfer.giver and self.next_line(self.call.leg(transfer.giver)) is not None:
            return Confidence.HIGH
        return transfer.confidence


def _got_no(leg: Leg) -> int:
    return leg.caller_since_no


def _began_no(leg: Leg) -> int:
    return leg.began_no


def _end_us(leg: Leg) -> int:
    return 0 if leg.end is None else leg.end.value


def is_overtaken(leg: Leg) -> bool:
    """5f: a Hangup seems to have overtaken its Ringing; it was over when it began, or will be said to be."""
    return leg.overtaken_by is not None or (isinstance(leg.end, Inferred) and leg.end.rule == "5f")
