"""Details of the rules that `make mutants` found without a test."""

from tests.calls import (
    BARGE,
    BUSY,
    CONSULT,
    ELSEWHERE,
    LOCAL,
    NEVER,
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

GROUP = (new(0), ring(1, "201"), ring(1.1, "202"), ring(1.2, "203"))


class TestRule1:
    def test_a_second_device_fills_in_details(self) -> None:
        made = call(new(0), ring(1, "299"), ring(2, "299", login="novak", queue="NOC"))

        assert (only(made).login, only(made).queue) == ("novak", "NOC")

    def test_an_anonymous_answer_fills_in_details(self) -> None:
        made = call(new(0), ring(1, "201"), answer(5, None, queue="NOC"))

        assert (only(made).queue, only(made).answered_at) == ("NOC", at(5))

    def test_the_ring_of_the_far_end_fills_in_details(self) -> None:
        nobody = {"login": None, **OUT}
        made = call(new(0, **OUT), ring(1, "20", **nobody), answer(3, "20", **nobody), ring(5, "20", **OUT))

        assert (only(made).login, only(made).answered_at) == ("cervenka", None)

    def test_the_hangup_of_another_device_fills_in_details(self) -> None:
        made = call(
            *(new(0), ring(1, "299"), ring(1, "299"), answer(5, "299"), hangup(6, "299", BUSY, login="novak"))
        )

        assert (only(made).login, made.status) == ("novak", "talking")

    def test_the_newer_leg_of_a_line_known_by_its_login_is_filled(self) -> None:
        by_login = {"login": "ada"}
        made = call(
            *(new(0), ring(1, None, **by_login), hangup(3, None, **by_login), ring(10, "201")),
            *(hangup(20), hangup(20.5, "201", BUSY)),
        )

        assert legs(made) == [(None, "agent", "no_answer"), ("201", "agent", "busy")]


class TestRule3:
    def test_a_second_ringing_after_a_withdrawn_answer_is_a_device(self) -> None:
        made = call(
            *(new(0), answer(2, "201"), ring(3, "201"), ring(3.5, "201")),
            *(hangup(4, "201", BUSY), hangup(5, "201", BUSY)),
        )

        assert (only(made).parallel_rings, only(made).ended_at) == (1, at(5))

    def test_a_ringing_after_the_end_tells_that_the_line_rang(self) -> None:
        made = call(new(0), answer(5, "201"), hangup(20, "201"), hangup(20.1), ring(21, "201"))

        assert made.anomalies == ("late_event",)


class TestRule4:
    def test_of_two_that_ring_the_one_that_rings_again_is_out(self) -> None:
        made = call(*GROUP, answer(5, None), hangup(6, "203", ELSEWHERE), ring(9, "202"))

        assert (made.answered_by, made.legs[0].answered_at) == (("201",), at(5))

    def test_it_is_of_nobody_once_all_that_rang_were_busy(self) -> None:
        made = call(
            *(new(0), ring(1, "201"), ring(1.1, "202"), answer(5, None)),
            *(hangup(6, "201", BUSY), hangup(7, "202", BUSY)),
        )

        assert (made.status, made.outcome) == ("waiting", None)

    def test_an_elsewhere_that_rang_on_was_late(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(5, "201", ELSEWHERE), answer(6, "201"))

        assert (made.status, made.anomalies) == ("talking", ("late_event",))

    def test_a_late_answer_ends_an_earlier_round_as_no_answer(self) -> None:
        made = call(new(0), ring(1, "201"), ring(10, "202"), hangup(20, "202"), answer(21, "202"))

        assert legs(made) == [("201", "agent", "no_answer"), ("202", "agent", "completed")]

    def test_a_late_answer_takes_its_place_among_the_others(self) -> None:
        made = call(
            *(new(0), ring(1, "201"), hangup(10, "201"), ring(10.2, "202")),
            *(answer(11, "202"), answer(11.5, "201")),
        )

        assert (made.answered_by, made.answered_at) == (("201", "202"), at(10))

    def test_the_own_leg_of_a_local_caller_is_no_talk_of_another(self) -> None:
        made = call(
            *(new(0, **LOCAL), ring(1, "20", **LOCAL), answer(2, "20", **LOCAL)),
            *(ring(2.5, "202", **LOCAL), ring(2.6, "203", **LOCAL), answer(5, "203", **LOCAL)),
            answer(14, "202", **LOCAL),
        )

        assert (len(made.legs), made.legs[1].answered_at) == (3, at(14))

    def test_the_answer_of_a_monitor_ends_no_other_monitor(self) -> None:
        made = call(*TALK, ring(10, "202", **BARGE), ring(10.1, "203", **BARGE), answer(11, "202", **BARGE))

        assert made.legs[2].ended_at is None


class TestRule5:
    def test_a_consultation_that_follows_proves_no_talk(self) -> None:
        """Only inferred: the hand-over to 203, and that 202 was consulted by it from then on. The reason is reported."""
        made = call(*CONSULT, ring(14, "203"), answer(16, "203"), hangup(20, "203", BUSY), hangup(22))

        assert legs(made) == [
            ("201", "agent", "completed"),
            ("202", "consult", "completed"),
            ("203", "agent", "busy"),
        ]
        assert ([leg.talk_s for leg in made.legs], made.transfers) == ([17, None, None], ())

    def test_an_anonymous_answer_is_withdrawn_from_its_own_leg(self) -> None:
        made = call(
            new(0),
            ring(1, "201"),
            ring(1.1, "202"),
            answer(5, None),
            hangup(6, "202", ELSEWHERE),
            hangup(9, "201", BUSY),
        )

        assert legs(made) == [("201", "agent", "busy"), ("202", "agent", "answered_elsewhere")]
        assert ["answered_at" in leg.inferred for leg in made.legs] == [True, False]

    def test_an_anonymous_answer_in_a_talk_is_withdrawn_from_its_leg(self) -> None:
        made = call(*TALK, ring(10, "202"), answer(12, None), hangup(15, "202", BUSY))

        assert [leg.inferred for leg in made.legs] == [(), ("answered_at",)]

    def test_an_answer_of_a_line_that_rang_on_is_withdrawn_too(self) -> None:
        made = call(
            *(new(0), ring(1, "201"), hangup(3, "201", BUSY), answer(5, "201"), hangup(9, "201", NO_RESPONSE))
        )

        assert (made.outcome, only(made).result) == (None, "no_answer")

    def test_a_consult_that_was_busy_ends_with_the_answer_of_another(self) -> None:
        rings = (ring(10, "202", from_="201"), ring(10.1, "203", from_="201"))
        made = call(
            *(*TALK, *rings, hangup(11, "203", BUSY), answer(12, "202", from_="201")),
            hangup(20, "203", ELSEWHERE),
        )

        assert (made.legs[2].result, made.legs[2].ended_at) == ("answered_elsewhere", at(12))

    def test_the_callers_own_ring_ends_with_the_answer_of_the_other(self) -> None:
        made = call(
            *(new(0, **LOCAL), ring(1, "20", **LOCAL), ring(1.1, "202", **LOCAL), answer(5, "202", **LOCAL)),
            *(hangup(30, **LOCAL), hangup(30.2, "20", ELSEWHERE, **LOCAL)),
        )

        assert (made.legs[0].ended_at, made.legs[0].ring_s) == (at(5), 4)

    def test_b_a_cdr_before_the_end_does_not_keep_it(self) -> None:
        made = call(*TALK, cdr(8), hangup(9, "201"), hangup(30))

        assert (made.ended_at, made.last_segment_outcome) == (at(30), "missed")

    def test_b_a_consultation_goes_on_until_the_reported_end(self) -> None:
        made = call(*CONSULT, cdr(20), hangup(30))

        assert [leg.consult_s for leg in made.legs] == [18, 18]


class TestRule8:
    def test_nobodys_after_a_cdr_is_not_late_before_their_hangup(self) -> None:
        assert effects(call(*TALK, hangup(9, "201"), cdr(9.5), transfer(12)))[-1] == "transferred"

    def test_a_consult_since_the_report_means_another_transfer(self) -> None:
        made = call(
            *(*CONSULT, transfer(15, "201"), ring(20, "203", from_="202"), answer(22, "203", from_="202")),
            transfer(24),
        )

        assert moves(made) == [("attended", "201", "202", "high"), ("attended", "202", "203", "high")]

    def test_a_consult_since_that_has_ended_does_not(self) -> None:
        made = call(
            *(*CONSULT, transfer(15, "201"), ring(18, "203", from_="202"), hangup(20, "203", BUSY)),
            transfer(24),
        )

        assert (moves(made), effects(made)[-1]) == ([("attended", "201", "202", "high")], "filled")

    def test_a_consult_from_before_the_report_does_not(self) -> None:
        """It follows the line that has the caller now."""
        made = call(
            *(*CONSULT, ring(13, "203", from_="201"), transfer(15, "201"), transfer(16)),
        )

        assert (moves(made), effects(made)[-1]) == ([("attended", "201", "202", "high")], "filled")

    def test_a_line_that_begins_only_after_it_may_report_it_again(self) -> None:
        made = call(new(0), transfer(1, "201"), answer(3, "202"), transfer(4, "202"))

        assert (moves(made), effects(made)[-1]) == ([("attended", "201", "202", "low")], "filled")

    def test_a_consult_since_a_take_over_means_another_transfer(self) -> None:
        made = call(
            *(*CONSULT, hangup(15, "201"), ring(20, "203", from_="202"), answer(22, "203", from_="202")),
            transfer(24),
        )

        assert moves(made) == [("attended", "201", "202", "low"), ("attended", "202", "203", "high")]


class TestFields:
    def test_an_open_leg_has_the_caller_after_one_that_ended(self) -> None:
        made = call(*TALK, answer(9, "202"), hangup(12, "202"))

        assert (made.final_line, made.final_login) == ("201", "ada")

    def test_a_line_that_rang_until_the_time_out_lost_the_caller(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(12, "202"), as_of=NEVER)

        assert (made.status, made.outcome, made.last_segment_outcome) == ("stale", "answered", "missed")
