"""Rule 3: Ringing."""

import pytest

from tests.calls import (
    BUSY,
    NO_RESPONSE,
    OUT,
    TALK,
    answer,
    at,
    call,
    cdr,
    effects,
    hangup,
    legs,
    new,
    only,
    ring,
)

CLICK = (new(0, **OUT), ring(0.3, "20", **OUT), answer(3, "20", **OUT))


class TestRule3:
    def test_without_an_open_attempt_a_leg_begins(self) -> None:
        made = call(new(0), ring(1, "201"))

        assert (1, at(1), None, None, 0) == (
            only(made).leg,
            only(made).ring_started_at,
            only(made).ended_at,
            only(made).ring_s,
            only(made).parallel_rings,
        )
        assert ("ringing", at(1)) == (made.status, made.first_ring_at)

    def test_at_most_3_s_old_it_is_a_second_device(self) -> None:
        made = call(ring(0, "201"), ring(3, "201"), ring(3, "201"))

        assert only(made).parallel_rings == 2
        assert effects(made) == ["rang", "parallel", "parallel"]

    def test_older_it_closes_as_no_answer_and_a_new_leg_begins(self) -> None:
        made = call(ring(0, "201"), ring(3.000001, "201"))

        assert legs(made) == [("201", "agent", "no_answer"), ("201", "agent", None)]
        assert (made.legs[0].ring_s, made.legs[0].inferred) == (3.000001, ("ended_at",))
        assert "end_inferred" in made.anomalies

    def test_the_age_of_an_attempt_counts_from_its_first_ring(self) -> None:
        assert len(call(ring(0, "201"), ring(2, "201"), ring(4, "201")).legs) == 2

    def test_an_answered_leg_makes_it_ring_after_answer(self) -> None:
        made = call(*TALK, ring(6, "201", email="ada@x"))

        assert "ring_after_answer" in made.anomalies
        assert (only(made).ring_s, only(made).email) == (4, "ada@x")
        assert effects(made) == ["opened", "rang", "answered", "filled"]

    def test_ring_after_answer_that_teaches_nothing_has_no_effect(self) -> None:
        assert effects(call(*TALK, ring(6, "201"))) == ["opened", "rang", "answered", "none"]

    def test_on_an_ended_call_it_reopens(self) -> None:
        made = call(*TALK, hangup(20, "201"), ring(40, "201"))

        assert (made.status, made.ended_at, made.ended_by) == ("ringing", None, None)
        assert "reopened" in made.anomalies

    def test_after_a_hangup_of_a_line_without_a_leg_it_is_late(self) -> None:
        made = call(hangup(0, "20", **OUT), ring(2, "20", **OUT))

        assert ("ended", at(0)) == (made.status, made.ended_at)
        assert legs(made) == [("20", "caller", "no_answer")]
        assert made.anomalies == ("no_new_call", "hangup_without_leg", "late_event")
        assert effects(made) == ["ended", "none"]

    def test_it_is_late_at_any_time_after_that_hangup(self) -> None:
        made = call(hangup(0, "20"), ring(60, "20"))

        assert (made.status, made.legs) == ("ended", ())

    def test_on_an_open_call_it_is_shown_for_20_s_after_that_hangup(self) -> None:
        events = (new(0), ring(1, "202"), hangup(2, "201"), ring(3, "201"))

        assert legs(call(*events)) == [("202", "agent", None), ("201", "agent", None)]
        assert call(*events, as_of=21.999999).legs[1].ended_at is None
        made = call(*events, as_of=22)
        assert legs(made) == [("202", "agent", None), ("201", "agent", "no_answer")]
        assert (made.legs[1].ended_at, made.legs[1].inferred) == (at(3), ("ended_at",))

    def test_the_hangup_of_another_line_makes_nothing_late(self) -> None:
        made = call(new(0), ring(1, "202"), hangup(2, "203"), ring(3, "201"))

        assert legs(made) == [("202", "agent", None), ("201", "agent", None)]

    def test_a_line_that_had_rung_before_rings_again_at_once(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(2, "201"), ring(3, "201"))

        assert legs(made) == [("201", "agent", "no_answer"), ("201", "agent", None)]

    def test_a_late_ringing_explains_an_answer_without_ring(self) -> None:
        made = call(new(0), answer(5, "201"), ring(5.2, "201"), hangup(10, "201"))

        assert made.anomalies == ("ring_after_answer",)

    def test_after_a_ring_after_answer_the_next_ring_is_not_late(self) -> None:
        made = call(answer(0, "201"), ring(1, "201"), hangup(20, "201"), ring(21.5, "201"))

        assert made.status == "ringing"
        assert "reopened" in made.anomalies

    def test_ring_after_own_phone_answered_withdraws_the_answer(self) -> None:
        made = call(*CLICK, ring(5, "20", **OUT))

        assert (made.status, made.outcome, made.answered_by) == ("ringing", None, ())
        assert (only(made).answered_at, only(made).inferred) == (None, ("answered_at",))
        assert effects(made)[-1] == "rang"

    def test_next_answer_after_click_to_dial_is_the_far_ends(self) -> None:
        made = call(*CLICK, ring(5, "20", **OUT), answer(15, "20", **OUT), hangup(45, "20", **OUT))

        assert (made.outcome, made.wait_s, made.talk_s) == ("answered", 15, 30)
        assert (only(made).ring_s, only(made).result) == (14.7, "completed")
        assert (only(made).inferred, made.quality) == (("answered_at",), "estimated")

    def test_click_to_dial_busy_is_busy(self) -> None:
        made = call(*CLICK, ring(5, "20", **OUT), hangup(17, "20", BUSY, **OUT))

        assert (made.outcome, made.talk_s, made.wait_s, made.answered_by) == ("busy", 0, None, ())

    def test_the_far_ends_answer_is_not_withdrawn_by_another_ring(self) -> None:
        made = call(*CLICK, ring(5, "20", **OUT), answer(15, "20", **OUT), ring(16, "20", **OUT))

        assert (made.status, "ring_after_answer" in made.anomalies) == ("talking", True)

    @pytest.mark.parametrize(("again", "count"), [(8, 1), (8.000001, 2)])
    def test_the_far_end_that_rings_twice_in_3_s_is_one_leg(self, again: float, count: int) -> None:
        own = (new(0, **OUT), ring(1, "20", **OUT), answer(3, "20", **OUT))
        made = call(*own, ring(5, "20", **OUT), ring(again, "20", **OUT), answer(12, "20", **OUT))

        assert (len(made.legs), made.legs[-1].answered_at) == (count, at(12))

    def test_own_phone_needs_a_ring_before_its_answer(self) -> None:
        made = call(new(0, **OUT), answer(3, "20", **OUT), ring(5, "20", **OUT))

        assert (made.status, "ring_after_answer" in made.anomalies) == ("talking", True)

    def test_own_phone_only_while_no_other_party_has_a_leg(self) -> None:
        made = call(*CLICK, ring(4, "202", **OUT), ring(5, "20", **OUT))

        assert (made.status, "ring_after_answer" in made.anomalies) == ("talking", True)

    def test_an_agent_has_no_click_to_dial(self) -> None:
        made = call(*TALK, ring(6, "201"))

        assert (made.status, effects(made)[-1]) == ("talking", "none")

    def test_after_its_cdr_a_line_that_hung_up_rings_late(self) -> None:
        made = call(*TALK, hangup(9, "201"), cdr(10), ring(13, "201"))

        assert (made.status, made.ended_at, len(made.legs)) == ("ended", at(9), 1)
        assert "late_event" in made.anomalies

    def test_after_its_cdr_another_line_reopens(self) -> None:
        assert call(*TALK, hangup(9, "201"), cdr(10), ring(13, "202")).status == "ringing"

    def test_within_2_s_after_a_blank_hangup_any_line_is_late(self) -> None:
        assert call(*TALK, hangup(9), ring(11, "202")).status == "ended"
        assert call(*TALK, hangup(9), ring(11.000001, "202")).status == "ringing"

    def test_after_a_blank_hangup_a_line_with_a_leg_is_late_for_good(self) -> None:
        assert call(*TALK, hangup(9), ring(600, "201")).status == "ended"

    def test_a_blank_hangup_after_the_end_closes_for_good_too(self) -> None:
        events = (*TALK, hangup(9, "201"), hangup(9.1))

        assert call(*events, ring(14, "201")).status == "ended"
        assert call(*TALK, hangup(9, "201"), ring(14, "201")).status == "ringing"

    def test_an_overtaken_ring_is_over_at_the_end_of_the_call(self) -> None:
        made = call(*TALK, hangup(8, "202", NO_RESPONSE), ring(8.2, "202"), hangup(9, "201"))

        assert (made.status, made.ended_at) == ("ended", at(9))
        leg = made.legs[1]
        assert (leg.result, leg.ended_at, leg.ring_s, leg.reason) == ("no_answer", at(8.2), 0, NO_RESPONSE)
        assert (made.last_segment_outcome, made.transferred) == ("answered", False)
        assert made.quality == "estimated"

    def test_an_overtaken_ring_that_goes_on_is_an_attempt(self) -> None:
        made = call(*TALK, hangup(8, "202"), ring(8.2, "202"), answer(12, "202"), as_of=60)

        assert made.legs[1].answered_at == at(12)

    def test_over_20_s_after_that_hangup_it_is_an_attempt(self) -> None:
        made = call(*TALK, hangup(8, "202"), ring(28.000001, "202"), as_of=60)

        assert (made.legs[1].ended_at, made.legs[1].inferred) == (None, ())
