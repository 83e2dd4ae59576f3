"""Rule 9: blind transfers and hand-overs."""

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
    hangup,
    moves,
    new,
    ring,
)


class TestRule9:
    def test_another_line_ringing_10_s_after_is_a_blind_transfer(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(19, "202"))

        assert moves(made) == [("blind_inferred", "201", None, "medium")]
        assert ("completed", at(19), "estimated") == (
            made.legs[0].result,
            made.transfers[0].at,
            made.quality,
        )

    def test_later_it_is_one_of_low_confidence(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(19.000001, "202"))

        assert moves(made) == [("blind_inferred", "201", None, "low")]

    def test_the_same_line_is_not(self) -> None:
        assert moves(call(*TALK, hangup(9, "201"), ring(15, "201"))) == []

    def test_another_line_answering_within_10_s_after_is(self) -> None:
        assert moves(call(*TALK, hangup(9, "201"), answer(12, "202"))) == [
            ("blind_inferred", "201", "202", "medium")
        ]

    def test_another_line_ringing_within_10_s_before_is(self) -> None:
        made = call(*TALK, ring(8, "202"), hangup(18, "201"))

        assert moves(made) == [("blind_inferred", "201", None, "medium")]
        assert made.transfers[0].at == at(18)

    def test_earlier_it_is_one_of_low_confidence(self) -> None:
        made = call(*TALK, ring(8, "202"), hangup(18.000001, "201"))

        assert moves(made) == [("blind_inferred", "201", None, "low")]

    def test_a_line_that_rang_along_before_the_answer_is_not(self) -> None:
        made = call(
            new(0), ring(1, "202"), ring(1, "201"), answer(3, "201"), answer(4, "202"), hangup(5, "201")
        )

        assert (made.status, moves(made)) == ("talking", [])

    def test_a_line_that_had_stopped_ringing_is_not(self) -> None:
        made = call(*TALK, ring(8, "202"), hangup(9, "202"), hangup(10, "201"))

        assert (made.status, moves(made)) == ("ended", [])

    def test_a_line_that_has_the_caller_already_is_not(self) -> None:
        made = call(*TALK, answer(8, "202"), hangup(18, "201"))

        assert moves(made) == []

    def test_one_that_was_answered_before_is_not(self) -> None:
        made = call(new(0), ring(1, "202"), answer(3, "202"), answer(4, "201"), hangup(6, "201"))

        assert (moves(made), made.status) == ([], "talking")

    def test_answering_earlier_it_is_not(self) -> None:
        assert moves(call(*TALK, answer(7, "202"), hangup(18, "201"))) == []

    def test_while_somebody_else_talks_it_is_not(self) -> None:
        made = call(*TALK, answer(6, "203"), hangup(17, "201"), ring(18, "202"))

        assert moves(made) == []

    def test_nor_before_while_somebody_else_talks(self) -> None:
        made = call(*TALK, answer(6, "203"), ring(16, "202"), hangup(17, "201"))

        assert moves(made) == []

    def test_a_consult_is_not(self) -> None:
        made = call(*CONSULT, hangup(14, "202"), hangup(15, "201"))

        assert (made.status, made.transferred) == ("ended", False)

    def test_it_counts_once_per_leg(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "202"), ring(10, "203"), answer(12, "203"))

        assert moves(made) == [("blind_inferred", "201", "203", "medium")]

    def test_a_leg_that_nobody_answered_gave_nobody_away(self) -> None:
        assert moves(call(new(0), ring(1, "201"), hangup(5, "201"), ring(6, "202"))) == []

    def test_a_later_ring_answered_during_a_talk_is_a_hand_over(self) -> None:
        made = call(*TALK, ring(20, "202"), answer(25, "202"), hangup(26, "201"), hangup(60, "202"))

        assert moves(made) == [("handover_inferred", "201", "202", "medium")]
        first, second = made.legs
        assert ("transferred", at(20), 15, ("ended_at",)) == (
            first.result,
            first.ended_at,
            first.talk_s,
            first.inferred,
        )
        assert (35, 50, at(20)) == (second.talk_s, made.talk_s, made.transfers[0].at)
        assert (made.status, made.duration_s, " ".join(made.answered_by)) == ("ended", 60, "201 202")

    def test_ringing_along_before_the_answer_is_no_hand_over(self) -> None:
        made = call(new(0), ring(1, "202"), ring(1, "201"), answer(3, "201"), answer(4, "202"))

        assert (moves(made), made.status) == ([], "talking")

    def test_an_answer_without_ring_is_no_hand_over(self) -> None:
        assert moves(call(*TALK, answer(20, "202"))) == []

    def test_of_two_lines_that_ring_the_first_one_is_meant(self) -> None:
        made = call(*TALK, ring(8, "202"), ring(30, "203"), hangup(40, "201"))

        assert moves(made) == [("blind_inferred", "201", None, "low")]

    def test_nobody_hands_over_to_oneself(self) -> None:
        made = call(new(0), answer(1, None, login="ada"), ring(5, "201", login=None), answer(6, "201"))

        assert (moves(made), len(made.legs)) == ([], 2)

    def test_a_consultation_after_the_hand_over_is_the_targets(self) -> None:
        made = call(*CONSULT, ring(15, "203"), hangup(20, "202"), answer(25, "203"))

        assert [leg.consult_s for leg in made.legs] == [3, 8, None]

    def test_consults_follow_the_caller(self) -> None:
        made = call(*CONSULT, ring(20, "203"), answer(25, "203"), hangup(30, "203"), hangup(40, "202"))

        assert moves(made) == [
            ("handover_inferred", "201", "203", "medium"),
            ("attended", "203", "202", "low"),
        ]
        assert [leg.consult_s for leg in made.legs] == [8, 18, 5]
        assert (made.status, made.legs[1].talk_s) == ("ended", 10)

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
