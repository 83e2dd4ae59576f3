"""Rule 4: Answered, and the attempts that an answer ends."""

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
    effects,
    hangup,
    legs,
    moves,
    new,
    only,
    ring,
    transfer,
)

DUO = (new(0), ring(1, "201"), ring(1, "202"))


class TestRule4:
    def test_it_answers_the_open_attempt(self) -> None:
        made = call(*TALK)

        assert (at(5), 4, None) == (only(made).answered_at, only(made).ring_s, only(made).talk_s)
        assert (
            made.status,
            made.outcome,
            made.wait_s,
            made.answered_by,
        ) == ("talking", "answered", 5, ("201",))

    def test_an_anonymous_one_answers_the_only_open_attempt(self) -> None:
        made = call(new(0), ring(1, "201"), answer(5, None))

        assert at(5) == only(made).answered_at

    def test_an_anonymous_one_among_two_attempts_is_undecided(self) -> None:
        made = call(new(0), ring(1, "201"), ring(1, "202"), answer(5, None))

        assert legs(made) == [("201", "agent", None), ("202", "agent", None)]
        assert (made.status, made.outcome, made.answered_by) == ("talking", None, ())

    def test_without_an_attempt_it_is_a_leg_without_ring(self) -> None:
        made = call(new(0), ring(0, "201"), answer(5, "202"))

        assert (None, None, at(5)) == (
            made.legs[1].ring_started_at,
            made.legs[1].ring_s,
            made.legs[1].answered_at,
        )
        assert made.anomalies == ("answered_without_ring", "end_inferred")

    def test_answered_without_ring_stands_until_its_ringing_comes(self) -> None:
        assert call(new(0), answer(5, "201"), ring(5.4, "201")).anomalies == ("ring_after_answer",)

    def test_already_answered_it_is_a_note(self) -> None:
        made = call(*TALK, answer(6, "201"))

        assert at(5) == only(made).answered_at
        assert effects(made) == ["opened", "rang", "answered", "filled"]
        assert made.events[3].note == "was answered before"

    def test_an_anonymous_one_while_nobody_rings_is_a_note(self) -> None:
        made = call(*TALK, answer(6, None))

        assert legs(made) == [("201", "agent", None)]
        assert effects(made)[3:] == ["none"]

    def test_a_second_anonymous_one_while_several_ring_is_a_note(self) -> None:
        made = call(*TALK, ring(6, "202"), ring(6, "203"), answer(8, None), answer(9, None))

        assert len(made.legs) == 3
        assert effects(made)[-2:] == ["answered", "none"]

    def test_on_an_ended_call_it_reopens(self) -> None:
        made = call(new(0), hangup(1), answer(5, "201"))

        assert (made.status, made.outcome) == ("talking", "answered")
        assert made.anomalies == ("answered_without_ring", "reopened")

    def test_within_2_s_after_its_hangup_it_was_answered_at_its_end(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201"), answer(12, "201"))

        leg = only(made)
        assert ("completed", at(10), at(10), 9, 0) == (
            leg.result,
            leg.answered_at,
            leg.ended_at,
            leg.ring_s,
            leg.talk_s,
        )
        assert leg.inferred == ("answered_at",)
        assert ("ended", "hangup", at(10), "answered", 10, 0) == (
            made.status,
            made.ended_by,
            made.ended_at,
            made.outcome,
            made.wait_s,
            made.talk_s,
        )
        assert made.anomalies == ("late_event",)
        assert made.quality == "estimated"

    def test_a_late_answer_fills_its_leg(self) -> None:
        made = call(new(0), ring(1, "201", login=None), hangup(10, "201", login=None), answer(12, "201"))

        assert (only(made).login, effects(made)[-1]) == ("ada", "filled")

    def test_after_2_s_it_is_a_leg_of_its_own(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201", None), answer(12.000001, "201"))

        assert legs(made) == [("201", "agent", "no_answer"), ("201", "agent", None)]

    def test_a_late_answer_leaves_the_call_open_while_others_are(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201"), ring(10.5, "202"), answer(11, "201"))

        assert (made.status, made.outcome) == ("ringing", "answered")
        assert moves(made) == [("blind_inferred", "201", None, "medium")]

    def test_a_late_answer_ends_attempts_of_its_round(self) -> None:
        made = call(new(0), ring(1, "201"), ring(1, "202"), hangup(10, "201"), answer(11, "201"))

        assert ("ended", at(10)) == (made.status, made.ended_at)
        assert legs(made) == [("201", "agent", "completed"), ("202", "agent", "answered_elsewhere")]
        assert made.legs[1].ring_s == 9

    def test_a_late_answer_ends_the_call_with_its_last_leg(self) -> None:
        made = call(
            new(0), ring(1, "201"), hangup(10, "201"), ring(10, "202"), hangup(11, "202"), answer(12, "201")
        )

        assert ("ended", at(11)) == (made.status, made.ended_at)

    def test_an_attempt_answered_elsewhere_goes_on_answered(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201", ELSEWHERE), answer(11, "201"))

        leg = only(made)
        assert (None, at(11), None, None) == (leg.result, leg.answered_at, leg.ended_at, leg.reason)
        assert (made.status, made.outcome) == ("talking", "answered")
        assert (leg.ring_s, leg.inferred) == (10, ())

    def test_an_attempt_answered_elsewhere_stays_so_after_the_end(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201", ELSEWHERE), hangup(10.5), answer(11, "201"))

        assert (made.status, legs(made)) == ("ended", [("201", "agent", "cancelled")])
        assert (made.anomalies, made.quality) == (("late_event",), "estimated")

    def test_after_the_hangup_of_an_answered_leg_it_is_a_late_note(self) -> None:
        made = call(*TALK, hangup(10, "201"), answer(11, "201"))

        assert (made.status, effects(made)) == ("ended", ["opened", "rang", "answered", "ended", "none"])

    def test_after_a_hangup_without_a_leg_it_is_a_late_note(self) -> None:
        made = call(new(0), hangup(10, "201"), answer(11, "201"))

        assert (made.status, made.outcome, made.legs) == ("ended", "missed", ())

    def test_an_anonymous_one_after_an_anonymous_hangup_is_late(
        self,
    ) -> None:
        made = call(new(0), ring(1, "201"), hangup(10), answer(11, None))

        assert (made.outcome, only(made).result, only(made).answered_at) == ("missed", "no_answer", None)
        assert made.quality == "estimated"

    def test_a_monitor_is_no_open_attempt(self) -> None:
        made = call(new(0), ring(1, "201"), ring(2, "900", **BARGE), answer(11, None))

        assert (made.outcome, made.answered_by) == ("answered", ("201",))

    def test_an_anonymous_one_after_two_closed_attempts_is_a_note(self) -> None:
        made = call(new(0), ring(1, "201"), ring(1, "202"), hangup(10), answer(11, None))

        assert made.outcome == "missed"

    def test_after_the_callers_hangup_the_call_stays_ended(self) -> None:
        made = call(new(0, **OUT), ring(1, "20", **OUT), hangup(9, "20", **OUT), answer(10, "20", **OUT))

        assert (made.status, made.outcome, made.talk_s) == ("ended", "answered", 0)

    def test_a_second_hangup_does_not_hide_the_attempt_of_the_first(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(10, "201"), hangup(10.5, "201"), answer(11, "201"))

        assert only(made).result == "completed"

    def test_a_consulted_line_that_answered_late_was_consulted(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), hangup(15, "202"), answer(16, "202"))

        assert legs(made)[1] == ("202", "consult", "completed")
        assert (made.status, made.legs[1].consult_s, made.answered_by) == ("talking", 0, ("201",))

    def test_a_consult_goes_on_as_one_while_its_consulter_talks(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), hangup(15, "202", ELSEWHERE), answer(16, "202"))

        assert legs(made)[1] == ("202", "consult", None)

    def test_a_consult_that_outlives_its_consulter_has_the_caller(self) -> None:
        made = call(
            *TALK,
            ring(10, "202", from_="201"),
            hangup(15, "202", ELSEWHERE),
            hangup(15.5, "201"),
            answer(16, "202"),
        )

        assert legs(made)[1] == ("202", "agent", None)
        assert made.answered_by == ("201", "202")


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

    def test_one_that_was_busy_leaves_it_undecided(self) -> None:
        rings = (ring(1, "201"), ring(1.1, "202"), ring(1.2, "203"), answer(5, None))
        made = call(new(0), *rings, hangup(6, "202", BUSY), hangup(6.1, "203", ELSEWHERE))

        assert (made.status, made.outcome) == ("talking", None)

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
        assert made.legs[0].inferred == ("ended_at",)

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
