"""Rules 7, 8 and 9: consultations, transfers by events, blind transfers and hand-overs."""

import pytest

from tests.calls import (
    CONSULT,
    ELSEWHERE,
    LOCAL,
    NO_RESPONSE,
    OUT,
    TALK,
    answer,
    at,
    call,
    cancel,
    cdr,
    effects,
    hangup,
    legs,
    moves,
    new,
    ring,
    transfer,
)

GROUP = (*TALK, ring(20, "202", from_="201"), ring(20, "203", from_="201"))


class TestRule7:
    def test_a_local_caller_consults_nobody_before_an_answer(self) -> None:
        made = call(
            *(new(0, from_="20", **LOCAL), ring(1, "20", from_="20", **LOCAL)),
            *(answer(1.5, "20", from_="20", **LOCAL), ring(2, "202", from_="20", **LOCAL)),
        )

        assert [leg.role for leg in made.legs] == ["caller", "agent"]

    def test_after_another_party_has_answered_it_may(self) -> None:
        made = call(
            *(new(0, from_="20", **LOCAL), ring(1, "20", from_="20", **LOCAL)),
            *(ring(2, "202", from_="20", **LOCAL), answer(3, "202", **LOCAL), answer(3, "20", **LOCAL)),
            ring(30, "203", from_="20", **LOCAL),
        )

        assert [leg.role for leg in made.legs] == ["caller", "agent", "consult"]


class TestRule8:
    def test_all_that_ring_ring_for_the_caller(self) -> None:
        made = call(*GROUP, transfer(23, "201"))

        assert legs(made)[1:] == [("202", "agent", None), ("203", "agent", None)]
        assert (moves(made), made.status) == ([("attended", "201", None, "high")], "ringing")

    def test_the_first_to_answer_takes_the_call(self) -> None:
        made = call(*GROUP, transfer(23, "201"), answer(27, "202"), hangup(60, "202"))

        assert moves(made) == [("attended", "201", "202", "high")]
        assert (made.talk_s, made.status) == (51, "ended")
        assert legs(made)[2] == ("203", "agent", "answered_elsewhere")

    def test_the_newest_answered_consult_takes_it(self) -> None:
        made = call(*CONSULT, ring(14, "203", from_="201"), transfer(20, "201"))

        assert moves(made) == [("attended", "201", "202", "high")]
        assert legs(made)[2] == ("203", "consult", None)

    def test_a_line_that_hung_up_gave_the_caller_away(self) -> None:
        made = call(*TALK, hangup(9, "201"), transfer(9.5, "201"))

        assert (legs(made), made.status) == ([("201", "agent", "transferred")], "waiting")
        assert (moves(made), made.legs[0].ended_at) == ([("attended", "201", None, "low")], at(9))

    @pytest.mark.parametrize("end", [(hangup(9),), (hangup(9, "201"), cdr(9.2))], ids=["b", "cdr"])
    def test_not_over_a_sure_end(self, end: tuple) -> None:  # type: ignore[type-arg]
        made = call(*TALK, *end, transfer(9.5, "201"))

        assert (made.status, moves(made)) == ("ended", [])

    def test_without_consult_high_once_another_line_rings(self) -> None:
        made = call(*TALK, transfer(9, "201"), ring(40, "202"))

        assert moves(made) == [("attended", "201", None, "high")]

    def test_to_line_is_the_other_line_that_answers_next(self) -> None:
        made = call(*TALK, transfer(9, "201"), ring(12, "202"), ring(12, "203"), answer(15, "203"))

        assert moves(made)[0][1:3] == ("201", "203")

    def test_a_late_report_confirms_after_the_end_too(self) -> None:
        made = call(*TALK, ring(10, "202"), answer(12, "202"), hangup(60), transfer(61, "201"))

        assert moves(made) == [("attended", "201", "202", "high")]
        assert (made.status, made.legs[0].inferred) == ("ended", ("ended_at",))

    @pytest.mark.parametrize("line", [None, "202"], ids=["nobody", "the target"])
    def test_within_20_s_of_the_report_it_is_a_note(self, line: str | None) -> None:
        made = call(*CONSULT, transfer(15, "201"), transfer(35, line))

        assert (len(made.transfers), effects(made)[-1], made.status) == (1, "filled", "talking")

    def test_a_consult_since_means_another_transfer(self) -> None:
        made = call(*CONSULT, transfer(15, "201"), ring(17, "203", from_="202"), transfer(20, "202"))

        assert moves(made)[1] == ("attended", "202", None, "high")

    def test_cancelled_consults_all_close(self) -> None:
        made = call(*CONSULT, ring(13, "203", from_="201"), cancel(15, "201"))

        assert legs(made)[1:] == [("202", "consult", "completed"), ("203", "consult", "cancelled")]
        assert moves(made) == [("cancelled", "201", "202", "high")]

    def test_of_unanswered_ones_the_newest_is_named(self) -> None:
        assert moves(call(*GROUP, cancel(22, "201"))) == [("cancelled", "201", "203", "high")]

    def test_left_with_consults_that_ring_they_take_the_call(self) -> None:
        made = call(*GROUP, hangup(23, "201"), answer(27, "203"))

        assert moves(made) == [("attended", "201", "203", "low")]


class TestRule9:
    def test_parked_and_taken_over_an_inferred_end(self) -> None:
        made = call(*TALK, hangup(35, "201"), answer(95, "202"), hangup(155, "202"))

        assert moves(made) == [("blind_inferred", "201", "202", "low")]
        assert (made.transfers[0].at, made.talk_s, made.quality) == (at(95), 90, "estimated")

    def test_not_over_an_end_by_a_hangup_of_the_call(self) -> None:
        made = call(*TALK, hangup(9, "201"), hangup(20), ring(60, "202"))

        assert (made.status, moves(made)) == ("ringing", [])

    def test_not_over_an_end_by_the_caller(self) -> None:
        made = call(
            *(new(0, **OUT), ring(1, "20", **OUT), answer(2, "20", **OUT), hangup(9, "20", **OUT)),
            ring(12, "202", **OUT),
        )

        assert moves(made) == []

    def test_nobody_gives_the_caller_to_the_same_person(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "901", login="ada"), ring(10, "202"), answer(12, "901"))

        assert moves(made) == []

    def test_a_line_that_rings_on_counts_from_the_end(self) -> None:
        made = call(*TALK, ring(8, "202"), hangup(12, "201"), answer(14, "202"))

        assert (moves(made), made.transfers[0].at) == (
            [("blind_inferred", "201", "202", "medium")],
            at(12),
        )

    def test_a_loser_of_the_next_round_is_none(self) -> None:
        made = call(
            *(*TALK, hangup(9, "201"), ring(10, "202"), ring(10.1, "203"), answer(12, "203")),
            *(hangup(12.1, "202", ELSEWHERE), hangup(20, "203")),
        )

        assert (moves(made), made.transfers[0].at) == (
            [("blind_inferred", "201", "203", "medium")],
            at(10.1),
        )

    def test_to_line_is_null_until_somebody_has_the_caller(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "202"), hangup(20, "202", NO_RESPONSE), hangup(25))

        assert moves(made) == [("blind_inferred", "201", None, "medium")]

    def test_handed_over_at_a_later_ring(self) -> None:
        made = call(*TALK, ring(20, "202"), answer(25, "202"))

        assert moves(made) == [("handover_inferred", "201", "202", "medium")]

    def test_no_hand_over_to_another_phone_of_the_person(self) -> None:
        assert moves(call(*TALK, ring(20, "901", login="Ada"), answer(25, "901", login="Ada"))) == []

    def test_no_hand_over_to_the_caller_of_a_local_call(self) -> None:
        made = call(
            *(new(0, from_="20", **LOCAL), ring(1, "202", from_="20", **LOCAL), answer(2, "202", **LOCAL)),
            *(ring(3, "20", **LOCAL), answer(4, "20", **LOCAL)),
        )

        assert moves(made) == []
