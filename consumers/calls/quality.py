"""
How far a timeline can be trusted: `anomalies` and `quality`.

Both follow from the inferred values of the call and from the doubts below, each a line of "Quality" in docs/call-rules.md. A wrong document
must never call itself exact.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import inf
from typing import Final

from consumers.calls.call import LATE_US, ROUND_US, SECOND_US, Call, Transfer
from consumers.calls.events import CallEvent
from consumers.calls.holders import Holders
from consumers.calls.legs import Leg
from voipex.agent_activity import LegRole
from voipex.call_timeline import Anomaly, Confidence, EndedBy, Quality
from voipex.events import Direction, EventType, ReasonClass

CLOCK_SKEW_US: Final = 60 * SECOND_US

LONG_ATTEMPT_US: Final = 90 * SECOND_US
"""No phone rings so long and then hangs up as normal: an Answered may be lost."""


def anomalies_of(call: Call, *, is_ahead: bool) -> list[Anomaly]:
    found = set(call.anomalies)
    if call.new_call is None:
        found.add(Anomaly.NO_NEW_CALL)
    if any(leg.answer is not None and not leg.ring_reported for leg in call.legs):
        found.add(Anomaly.ANSWERED_WITHOUT_RING)
    if is_ahead or _clock_skew(call):
        found.add(Anomaly.CLOCK_SKEW)
    if _end_inferred(call):
        found.add(Anomaly.END_INFERRED)
    return [anomaly for anomaly in Anomaly if anomaly in found] if found else []


def _clock_skew(call: Call) -> bool:
    """Whether the epoch in the UniqueId is more than 60 s after the first event."""
    if call.first is None or call.pbx_started_us is None:
        return False
    return call.pbx_started_us - call.first.at_us > CLOCK_SKEW_US


def _end_inferred(call: Call) -> bool:
    if call.ended_by is EndedBy.CDR or call.ended_by is EndedBy.TIMEOUT:
        return True
    return any("ended_at" in leg.inferred for leg in call.legs)


def quality_of(
    call: Call,
    holders: Holders,
    transfers: Sequence[tuple[Transfer, int, Confidence]],
    started_us: int | None,
    *,
    start_seen: bool,
) -> Quality:
    if call.new_call is None or not start_seen or call.ended_by is EndedBy.TIMEOUT:
        return Quality.PARTIAL
    if (
        call.ended_by is EndedBy.CDR
        or call.end_moved
        or call.end_doubtful
        or call.anonymous_answers
        or any(confidence is not Confidence.HIGH for _, _, confidence in transfers)
        or any(leg.inferred for leg in call.legs)
        or any(is_doubtful(leg, started_us) for leg in call.legs)
        or any(doubt(call, holders) for doubt in _DOUBTS)
    ):
        return Quality.ESTIMATED
    return Quality.EXACT


def is_doubtful(leg: Leg, started_us: int | None) -> bool:
    """Whether its begin, its answer or its end may be those of another event: see "Quality" in docs/call-rules.md."""
    if leg.after_empty_hangup or leg.answered_again or leg.hangup_repeated:
        return True
    if leg.doubtful_pickup or leg.rang_in_this_round:
        return True
    if leg.answer is not None or leg.end is None or leg.reason_class is not ReasonClass.NORMAL:
        return False
    if leg.role is LegRole.MONITOR:
        return False
    since_us = started_us if leg.ring_started_us is None else leg.ring_started_us
    return since_us is not None and leg.end.value - since_us > LONG_ATTEMPT_US


def only_the_caller_reports_an_answer(call: Call, _: Holders) -> bool:
    """Whether only the caller of a local call reports an answer."""
    if call.direction is not Direction.OUTGOING_LOCAL:
        return False
    answered = [leg.role for leg in call.legs if leg.answer is not None and leg.role is not LegRole.MONITOR]
    return bool(answered) and all(role is LegRole.CALLER for role in answered)


def late_and_not_shown(call: Call, _: Holders) -> bool:
    """Whether a late event was left out, and no leg shows what it reports."""
    return any(not _is_shown(call, event) for event in call.left_out)


def _is_shown(call: Call, event: CallEvent) -> bool:
    return any(_shows(call, leg, event) for leg in call.legs_of(event) if leg.began_us <= event.at_us)


def _shows(call: Call, leg: Leg, event: CallEvent) -> bool:
    """
    A leg that began after the event shows another ring, answer or transfer.

    So does one that rang or was answered more than 20 s before it: an event comes no later than that.
    """
    if event.type is EventType.RINGING:
        return leg.ring_started_us is not None and event.at_us - leg.ring_started_us <= LATE_US
    if event.type is EventType.ANSWERED:
        return leg.answer is not None and event.at_us - leg.answer.value <= LATE_US
    return any(each.transferor == leg.number for each in call.transfers)


def rang_during_a_talk(call: Call, holders: Holders) -> bool:
    """Whether an attempt began more than 3 s after an answer while that talk went on, and was not answered."""
    got_us = [leg.caller_since_us or 0 for leg in holders.legs]
    last_left = list(accumulate((_left_place(leg) for leg in holders.legs), max))
    for leg in call.legs:
        if leg.answer is None and leg.role is LegRole.AGENT and leg.ring_started_us is not None:
            number = bisect_left(got_us, leg.began_us - ROUND_US)
            if number and last_left[number - 1] > leg.began_place:
                return True
    return False


def _left_place(holder: Leg) -> float:
    return inf if holder.end is None else holder.end.place


_DOUBTS: Final[tuple[Callable[[Call, Holders], bool], ...]] = (
    only_the_caller_reports_an_answer,
    late_and_not_shown,
    rang_during_a_talk,
)
