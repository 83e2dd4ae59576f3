"""A call of thousands of events: bounded work, and the same rules."""

import pytest

from consumers.calls.call import READ_AGAIN_LIMIT
from consumers.calls.events import CallEvent
from consumers.calls.fold import fold
from tests.calls import NO_RESPONSE, answer, call, hangup, new, ring

ROUNDS = 1500


def unconfirmed(number: int) -> tuple[CallEvent, ...]:
    """A phone that picks up, and then says that nobody talked."""
    line, at = str(1000 + number), 10.0 * number
    return ring(at, line), answer(at + 2, line), hangup(at + 4, line, NO_RESPONSE)


class TestLongCalls:
    def test_answers_withdrawn_are_read_again_within_a_limit(self) -> None:
        events = [event for number in range(ROUNDS) for event in unconfirmed(number)]
        after = fold(events)

        assert len(after.legs) == ROUNDS
        assert READ_AGAIN_LIMIT <= after.hindsight.read_again < READ_AGAIN_LIMIT + len(events)

    @pytest.mark.parametrize("batch", [1, 7, 400])
    def test_the_limit_is_met_at_the_same_event_in_any_batches(self, batch: int) -> None:
        events = [event for number in range(400) for event in unconfirmed(number)]
        after = None
        for start in range(0, len(events), batch):
            after = fold(events[start : start + batch], after)
        at_once = fold(events)

        assert after is not None
        assert [leg.answered_us for leg in at_once.legs] == [leg.answered_us for leg in after.legs]

    def test_a_party_without_a_line_is_found_among_hundreds_of_legs(self) -> None:
        rounds = [event for number in range(300) for event in unconfirmed(number)]
        made = call(new(0), *rounds, ring(4000, None, login="zoe"), answer(4005, None, login="zoe"))

        assert made.legs[-1].ring_s == 5
