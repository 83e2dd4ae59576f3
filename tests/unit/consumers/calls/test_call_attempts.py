"""Rules 3 and 4: attempts, answers, and the attempts that an answer ends."""

import pytest

from tests.calls import (
    BARGE,
    BUSY,
    CONSULT,
    ELSEWHERE,
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
    moves,
    new,
    only,
    ring,
    transfer,
)

CLICK = (new(0, **OUT), ring(0.3, "20", **OUT), answer(3, "20", **OUT))
DUO = (new(0), ring(1, "201"), ring(1, "202"))


class TestRule3:
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


class TestRule4a:
    def test_closed_for_good_it_was_answered_at_its_end(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10), answer(11, "201"))

        assert (only(made).result, only(made).answered_at, made.outcome) == ("completed", at(10), "answered")
        assert made.status == "ended"

    @pytest.mark.parametrize("reason", [BUSY, NO_RESPONSE])
    def test_closed_for_good_by_a_no_talk_reason_it_is_late(self, reason: str) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, None, reason), answer(11, "201"))

        assert (only(made).answered_at, made.quality) == (None, "estimated")

    def test_after_an_anonymous_one_a_named_one_gives_the_time(self) -> None:
        made = call(new(0), ring(1, "201"), answer(5, None), answer(5.5, "201"), hangup(9, "201"))

        assert (only(made).answered_at, only(made).inferred) == (at(5.5), ())
        assert (made.talk_s, made.quality) == (3.5, "estimated")

    def test_effects_stay_as_when_their_turn_came(self) -> None:
        made = call(new(0), ring(1, "201"), answer(5, None), answer(5.5, "201"))

        assert effects(made) == ["opened", "rang", "answered", "answered"]


class TestRule4b:
    def test_an_attempt_ended_by_an_answer_rang_on(self) -> None:
        made = call(*DUO, answer(5, "201"), answer(6, "202"))

        assert [leg.answered_at for leg in made.legs] == [at(5), at(6)]
        assert [leg.inferred for leg in made.legs] == [(), ()]
        assert (made.status, made.answered_by, moves(made)) == ("talking", ("201", "202"), [])

    def test_it_reopens_a_call_that_ended_by_then(self) -> None:
        made = call(*DUO, answer(5, "201"), hangup(7, "201"), answer(9, "202"))

        assert (made.status, "reopened" in made.anomalies, len(made.legs)) == ("talking", True, 2)

    def test_not_after_another_talked_for_over_10_s(self) -> None:
        assert len(call(*DUO, answer(5, "201"), answer(15, "202")).legs) == 2
        assert len(call(*DUO, answer(5, "201"), answer(15.000001, "202")).legs) == 3


class TestRule4c:
    def test_a_device_reason_is_one_devices(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(1.3, "201", "Destination out of order"), answer(4, "201"))

        leg = only(made)
        assert (leg.answered_at, leg.ring_s, leg.reason, leg.inferred) == (at(4), 3, None, ())

    def test_other_reasons_are_the_lines(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(5, "201", NO_RESPONSE), answer(9, "201"))

        assert legs(made) == [("201", "agent", "no_answer"), ("201", "agent", None)]


class TestRule4d:
    @pytest.mark.parametrize(("late", "count"), [(20, 1), (20.000001, 2)])
    def test_late_by_up_to_20_s_after_a_normal_hangup(self, late: float, count: int) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201"), answer(10 + late, "201"))

        assert len(made.legs) == count

    def test_not_while_something_of_the_call_is_open(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201"), ring(12, "202"), answer(14, "201"))

        assert len(made.legs) == 3

    def test_its_effect_is_filled(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201"), answer(11, "201"))

        assert (effects(made)[-1], made.status) == ("filled", "ended")


class TestRule4e:
    def test_the_only_attempt_is_meant(self) -> None:
        made = call(new(0), ring(1, "201"), answer(5, None))

        assert (only(made).answered_at, only(made).inferred) == (at(5), ("answered_at",))

    def test_without_attempt_the_pbx_answered(self) -> None:
        made = call(new(0), answer(0.2, None), ring(8, "201"), hangup(28, "201", NO_RESPONSE), hangup(40))

        assert (made.outcome, made.talk_s, made.wait_s, made.answered_by) == ("missed", 0, None, ())
        assert (effects(made)[1], made.quality) == ("none", "estimated")

    def test_of_two_the_one_that_remains_was_answered(self) -> None:
        made = call(*DUO, answer(5, None), hangup(5.1, "202", ELSEWHERE), as_of=60)

        assert legs(made) == [("201", "agent", None), ("202", "agent", "answered_elsewhere")]
        assert (made.answered_at, made.legs[0].inferred) == (at(5), ("answered_at",))
        assert made.legs[1].ended_at == at(5.1)

    def test_of_two_the_first_to_hang_up_as_normal_was(self) -> None:
        made = call(*DUO, answer(5, None), hangup(60, "202"))

        assert (made.outcome, made.answered_by, made.talk_s) == ("answered", ("202",), 55)
        assert legs(made)[0] == ("201", "agent", "answered_elsewhere")

    def test_a_named_answer_says_that_it_was_the_pbxs(self) -> None:
        made = call(*DUO, answer(5, None), answer(9, "202"))

        assert (made.answered_at, made.answered_by) == (at(9), ("202",))

    def test_a_line_that_rings_again_was_not_answered(self) -> None:
        made = call(*DUO, ring(1, "203"), answer(5, None), ring(6, "202"), hangup(7, "203", ELSEWHERE))

        assert (made.answered_by, made.answered_at) == (("201",), at(5))

    def test_undecided_at_the_end_nobody_was_answered(self) -> None:
        made = call(*DUO, answer(5, None), hangup(9))

        assert (made.outcome, made.talk_s, made.quality) == ("missed", 0, "estimated")

    @pytest.mark.parametrize("reason", [ELSEWHERE, NO_RESPONSE])
    def test_an_anonymous_answer_is_withdrawn_by_elsewhere_too(self, reason: str) -> None:
        made = call(new(0), ring(1, "201"), answer(5, None), hangup(9, "201", reason), hangup(20))

        assert (made.outcome, only(made).answered_at, made.talk_s) == ("missed", None, 0)


class TestAnAnswerEndsOthers:
    def test_of_its_round_as_answered_elsewhere(self) -> None:
        made = call(new(0), ring(1, "201"), ring(4, "202"), answer(5, "202"))

        assert (made.legs[0].result, made.legs[0].ended_at) == ("answered_elsewhere", at(5))
        assert made.legs[0].inferred == ("ended_at", "result")

    def test_begun_earlier_as_no_answer(self) -> None:
        assert call(new(0), ring(1, "201"), ring(4.000001, "202"), answer(5, "202")).legs[0].result == (
            "no_answer"
        )

    def test_for_a_pickup_as_answered_elsewhere(self) -> None:
        assert call(new(0), ring(1, "201"), answer(15, "202")).legs[0].result == "answered_elsewhere"

    def test_not_those_of_a_consult(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), ring(11, "203"), answer(12, "203"))

        assert made.legs[1].ended_at is None

    def test_of_the_same_consulting_line(self) -> None:
        made = call(*TALK, *(ring(10, line, from_="201") for line in ("202", "203")), answer(12, "202"))

        assert legs(made)[2] == ("203", "consult", "answered_elsewhere")

    def test_neither_by_nor_of_the_callers_own_leg(self) -> None:
        made = call(new(0, **OUT), ring(1, "20", **OUT), ring(2, "202", **OUT), answer(3, "20", **OUT))
        assert made.legs[1].ended_at is None

        made = call(new(0, **OUT), ring(1, "20", **OUT), ring(2, "202", **OUT), answer(3, "202", **OUT))
        assert made.legs[0].ended_at is None

    def test_not_monitors(self) -> None:
        assert (
            call(new(0), ring(1, "201"), ring(1, "900", **BARGE), answer(3, "201")).legs[1].ended_at is None
        )

    def test_a_hangup_within_2_s_reports_the_end(self) -> None:
        made = call(*DUO, answer(5, "201"), hangup(7, "202", ELSEWHERE))

        assert (made.legs[1].ended_at, made.legs[1].inferred, effects(made)[-1]) == (at(7), (), "left")

    def test_a_later_one_its_result_only(self) -> None:
        made = call(*DUO, answer(5, "201"), hangup(7.000001, "202", ELSEWHERE))

        assert (made.legs[1].ended_at, made.legs[1].inferred, effects(made)[-1]) == (
            at(5),
            ("ended_at",),
            "filled",
        )

    def test_a_reported_result_replaces_the_inferred_one(self) -> None:
        made = call(*DUO, answer(5, "201"), hangup(6, "202", NO_RESPONSE))

        assert (made.legs[1].result, made.quality) == ("no_answer", "exact")

    def test_a_transfer_ends_none(self) -> None:
        made = call(*CONSULT, ring(13, "203"), transfer(15, "201"))

        assert made.legs[2].ended_at is None
