"""Rule 8: AttendedTransfer and CancelAttendedTransfer."""

import pytest

from consumers.calls.events import CallEvent
from tests.calls import (
    CONSULT,
    FROM,
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
    only,
    ring,
    transfer,
)

GROUP = (*TALK, ring(20, "202", from_="201"), ring(20, "203", from_="201"))


class TestRule8:
    def test_the_newest_consult_takes_the_call(self) -> None:
        made = call(*CONSULT, transfer(15, "201"), hangup(30, "202"))

        first, second = made.legs
        assert ("transferred", 10, 3, at(15)) == (first.result, first.talk_s, first.consult_s, first.ended_at)
        assert (second.role, second.result, second.consult_s, second.talk_s) == ("agent", "completed", 3, 15)
        assert moves(made) == [("attended", "201", "202", "high")]
        assert (
            made.transferred,
            made.answered_by,
            made.final_line,
            made.final_login,
        ) == (True, ("201", "202"), "202", "bob")
        assert (25, 3, "exact", at(15)) == (made.talk_s, made.consult_s, made.quality, made.transfers[0].at)

    def test_a_consult_that_still_rings_takes_it_too(self) -> None:
        made = call(
            *TALK, ring(10, "202", from_="201"), transfer(12, "201"), answer(15, "202"), hangup(30, "202")
        )

        assert (made.legs[1].ring_s, made.legs[1].consult_s, made.legs[1].talk_s) == (5, None, 15)
        assert made.answered_by == ("201", "202")

    def test_while_it_still_rings_the_call_rings(self) -> None:
        assert call(*TALK, ring(10, "202", from_="201"), transfer(12, "201")).status == "ringing"

    def test_it_fills_the_leg_of_the_transferor(self) -> None:
        made = call(new(0), answer(1, "201", login=None), transfer(5, "201"))

        assert only(made).login == "ada"

    def test_the_other_consults_follow(self) -> None:
        made = call(
            *CONSULT,
            *(ring(14, "203", from_="201"), answer(15, "203", from_="201"), transfer(20, "201")),
            *(hangup(25, "202"), hangup(40, "203")),
        )

        assert legs(made) == [
            ("201", "agent", "transferred"),
            ("202", "consult", "completed"),
            ("203", "agent", "completed"),
        ]
        assert [leg.consult_s for leg in made.legs] == [8, 13, 10]
        assert made.legs[2].talk_s == 20
        assert moves(made) == [("attended", "201", "203", "high")]

    def test_naming_the_consulted_line_it_means_the_consulting_one(self) -> None:
        assert moves(call(*CONSULT, transfer(15, "202"))) == [("attended", "201", "202", "high")]

    def test_naming_a_line_without_leg_it_means_the_consulting_one(self) -> None:
        assert moves(call(*CONSULT, transfer(15, "999"))) == [("attended", "201", "202", "high")]

    def test_of_two_consulting_lines_the_newest_is_meant(self) -> None:
        both = (*TALK, answer(6, "203"), ring(10, "202", from_="201"), ring(11, "204", from_="203"))

        assert moves(call(*both, transfer(12, "999"))) == [("attended", "203", None, "high")]

    def test_the_consult_of_another_is_not_ones_own(self) -> None:
        made = call(*TALK, answer(6, "203"), ring(10, "202", from_="201"), transfer(12, "203"))

        assert (moves(made), legs(made)[2]) == (
            [("attended", "203", None, "low")],
            ("202", "consult", None),
        )

    def test_an_anonymous_one_means_the_consulting_line(self) -> None:
        assert moves(call(*CONSULT, transfer(15))) == [("attended", "201", "202", "high")]

    def test_an_anonymous_one_without_consult_means_the_talking_leg(self) -> None:
        made = call(*TALK, transfer(9))

        assert moves(made) == [("attended", "201", None, "low")]
        assert (
            legs(made)[0],
            made.status,
            made.quality,
        ) == (("201", "agent", "transferred"), "waiting", "estimated")

    def test_an_anonymous_one_while_two_talk_has_no_transferor(self) -> None:
        made = call(*TALK, answer(6, "202"), transfer(9))

        assert moves(made) == [("attended", None, None, "low")]
        assert [leg.ended_at for leg in made.legs] == [None, None]
        assert (effects(made)[-1], made.transferred) == ("transferred", True)

    def test_of_a_line_that_rings_it_is_kept_without_consequence(self) -> None:
        made = call(*TALK, ring(6, "202"), transfer(9, "202"))

        assert moves(made) == [("attended", "202", None, "low")]
        assert [leg.ended_at for leg in made.legs] == [None, None]

    def test_without_any_consult_leg_it_is_kept_with_low_confidence(self) -> None:
        made = call(*TALK, transfer(9, "201"))

        assert moves(made) == [("attended", "201", None, "low")]
        assert (only(made).result, only(made).talk_s) == ("transferred", 4)

    def test_the_line_that_answers_next_is_the_target(self) -> None:
        made = call(
            *TALK, transfer(9, "201"), ring(9.1, "202", from_="201"), ring(9.2, "203"), answer(12, "202")
        )

        assert moves(made) == [("attended", "201", "202", "high")]

    def test_after_the_own_hangup_it_is_kept_too(self) -> None:
        made = call(*TALK, hangup(9, "201"), transfer(9.5, "201"))

        assert moves(made) == [("attended", "201", None, "low")]
        assert (made.status, only(made).result) == ("waiting", "transferred")

    def test_it_confirms_a_blind_transfer(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "202"), transfer(11, "201"))

        assert moves(made) == [("attended", "201", None, "high")]
        assert (effects(made)[-1], made.legs[0].result) == ("transferred", "transferred")

    def test_it_confirms_a_hand_over(self) -> None:
        made = call(*TALK, ring(10, "202"), answer(12, "202"), transfer(13, "201"))

        assert moves(made) == [("attended", "201", "202", "high")]

    def test_it_confirms_a_hangup_that_gave_the_caller_away(self) -> None:
        made = call(*CONSULT, hangup(15, "201"), transfer(15.2, "201"))

        assert moves(made) == [("attended", "201", "202", "high")]

    @pytest.mark.parametrize(
        "before",
        [
            (*CONSULT, hangup(15, "201")),
            (*TALK, hangup(9, "201"), ring(10, "202"), answer(12, "202")),
            (*TALK, ring(10, "202"), answer(12, "202")),
        ],
        ids=["left while consulting", "blind", "hand-over"],
    )
    def test_an_anonymous_one_confirms_an_inferred_transfer(self, before: tuple[CallEvent, ...]) -> None:
        made = call(*before, transfer(16))

        assert moves(made) == [("attended", "201", "202", "high")]
        assert made.status == "talking"

    @pytest.mark.parametrize(
        "before", [(transfer(15, "201"),), (cancel(15, "201"),)], ids=["reported", "cancelled"]
    )
    def test_an_anonymous_one_much_later_means_the_talking_leg(self, before: tuple[CallEvent, ...]) -> None:
        made = call(*CONSULT, *before, transfer(36))

        assert moves(made)[1][0::3] == ("attended", "low")
        assert made.status == "waiting"

    @pytest.mark.parametrize("line", [None, "202", "201"], ids=["nobody", "the target", "the transferor"])
    def test_reported_twice_in_the_same_words_it_is_one_transfer(self, line: str | None) -> None:
        made = call(*CONSULT, transfer(15, line), transfer(15.3, line), hangup(60, "202"))

        assert moves(made) == [("attended", "201", "202", "high")]
        assert made.talk_s == 55

    def test_the_target_may_report_it_after_the_transferor_has_left(self) -> None:
        made = call(*CONSULT, hangup(15, "201"), transfer(15.3, "202"))

        assert moves(made) == [("attended", "201", "202", "high")]
        assert made.status == "talking"

    def test_reported_again_much_later_it_is_another_one(self) -> None:
        made = call(*CONSULT, transfer(15), transfer(300))

        assert moves(made)[1] == ("attended", "202", None, "low")

    def test_an_anonymous_one_prefers_an_open_consultation(self) -> None:
        made = call(*TALK, ring(10, "202"), answer(12, "202"), ring(14, "203", from_="202"), transfer(15))

        assert moves(made) == [
            ("handover_inferred", "201", "202", "medium"),
            ("attended", "202", None, "high"),
        ]

    def test_it_does_not_confirm_the_transfer_of_another_line(self) -> None:
        made = call(*TALK, ring(10, "202"), answer(12, "202"), transfer(13, "999"))

        assert moves(made) == [
            ("handover_inferred", "201", "202", "medium"),
            ("attended", "999", None, "low"),
        ]

    def test_it_confirms_the_last_time_and_only_once(self) -> None:
        made = call(
            *(*CONSULT, transfer(15, "201"), hangup(20, "202"), ring(22, "201"), answer(24, "201")),
            *(hangup(30, "201"), ring(31, "203"), transfer(32, "201"), transfer(33, "201")),
        )

        assert moves(made)[-1] == ("attended", "201", None, "high")
        assert effects(made)[-2:] == ["transferred", "filled"]

    def test_twice_it_is_a_note(self) -> None:
        made = call(*CONSULT, transfer(15, "201"), transfer(16, "201"))

        assert (effects(made)[-2:], len(made.transfers)) == (["transferred", "filled"], 1)

    def test_twice_without_consult_it_is_a_note(self) -> None:
        made = call(new(0), transfer(1, "201"), transfer(2, "201"))

        assert (effects(made)[-2:], len(made.transfers)) == (["transferred", "filled"], 1)

    def test_a_line_that_got_the_caller_back_may_transfer_again(self) -> None:
        made = call(
            *CONSULT,
            transfer(15, "201"),
            hangup(20, "202"),
            ring(22, "201"),
            answer(24, "201"),
            transfer(30, "201"),
        )

        assert moves(made)[-1] == ("attended", "201", None, "low")

    def test_a_line_that_gets_the_caller_only_then_may_transfer(self) -> None:
        made = call(new(0), transfer(1, "201"), answer(7, "201"), transfer(9, "201"))

        assert (only(made).result, effects(made)[-1]) == ("transferred", "transferred")

    def test_a_hangup_while_consulting_gives_the_caller_away(self) -> None:
        made = call(*CONSULT, hangup(15, "201"), hangup(30, "202"))

        assert moves(made) == [("attended", "201", "202", "low")]
        assert legs(made) == [("201", "agent", "transferred"), ("202", "agent", "completed")]
        assert (made.duration_s, made.legs[1].talk_s, effects(made)[5]) == (30, 15, "transferred")

    def test_such_a_hangup_fills_its_leg(self) -> None:
        made = call(
            *(new(0), answer(1, "201", login=None), ring(2, "202", from_="201")),
            hangup(15, "201", "User busy"),
        )

        assert (made.legs[0].login, made.legs[0].reason) == ("ada", "User busy")

    def test_a_cancelled_transfer_closes_the_consult(self) -> None:
        made = call(*CONSULT, cancel(15, "201"), hangup(30, "201"))

        assert legs(made) == [("201", "agent", "completed"), ("202", "consult", "completed")]
        assert moves(made) == [("cancelled", "201", "202", "high")]
        assert (
            made.transferred,
            made.quality,
            made.consult_s,
            made.answered_by,
        ) == (False, "exact", 3, ("201",))

    def test_unanswered_the_consult_is_cancelled(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), cancel(12, "201"))

        assert legs(made)[1] == ("202", "consult", "cancelled")

    @pytest.mark.parametrize("line", ["202", None, "999"])
    def test_a_cancel_may_name_any_line_or_nobody(self, line: str | None) -> None:
        made = call(*CONSULT, cancel(15, line))

        assert moves(made) == [("cancelled", "201", "202", "high")]

    def test_all_consults_are_cancelled(self) -> None:
        made = call(*CONSULT, ring(13, "203", from_="201"), cancel(15, "201"))

        assert [leg.result for leg in made.legs] == [None, "completed", "cancelled"]
        assert moves(made) == [("cancelled", "201", "202", "high")]

    def test_one_that_is_open_before_one_that_is_not(self) -> None:
        made = call(*CONSULT, ring(13, "203", from_="201"), hangup(14, "203"), cancel(15, "201"))

        assert [leg.result for leg in made.legs] == [None, "completed", "no_answer"]

    def test_it_counts_once_per_consult(self) -> None:
        made = call(*CONSULT, cancel(15, "201"), cancel(16, "201"))

        assert (effects(made)[5:], len(made.transfers)) == (["cancelled", "none"], 1)

    def test_it_counts_for_a_consult_that_hung_up_before(self) -> None:
        made = call(*CONSULT, hangup(14, "202"), cancel(15, "201"))

        assert moves(made) == [("cancelled", "201", "202", "high")]
        assert at(14) == made.legs[1].ended_at

    def test_a_line_that_talks_cancels_its_own_consult_only(self) -> None:
        made = call(*TALK, answer(6, "203"), ring(10, "202", from_="201"), cancel(12, "203"))

        assert (moves(made), effects(made)[-1]) == ([], "none")

    def test_a_line_that_rings_has_no_consult_to_cancel(self) -> None:
        made = call(*CONSULT, ring(13, "203"), cancel(14, "203"))

        assert (moves(made), effects(made)[-1]) == ([], "none")

    def test_without_a_consult_it_is_a_note(self) -> None:
        made = call(*TALK, cancel(9, "201"))

        assert (only(made).ended_at, effects(made)[-1], made.transfers) == (None, "none", ())

    def test_from_and_to_of_transfers_are_not_those_of_the_call(self) -> None:
        made = call(*CONSULT, transfer(15, "201", from_="9", to="8"), cancel(16, "201", from_="7", to="6"))

        assert (made.from_all, made.to_all) == ((FROM,), ("222333444",))

    def test_a_line_that_only_rings_has_no_caller_to_transfer(self) -> None:
        """203 only rings: it neither talks nor consults, and has no caller to give away."""
        made = call(
            *CONSULT,
            ring(13, "203"),
            transfer(15, "203"),
        )

        assert legs(made) == [("201", "agent", None), ("202", "consult", None), ("203", "agent", None)]
        assert moves(made) == [("attended", "203", None, "low")]

    def test_after_a_cancelled_one_it_is_another_one(self) -> None:
        made = call(*CONSULT, cancel(15, "201"), transfer(18, "201"))

        assert effects(made)[-2:] == ["cancelled", "transferred"]
        assert moves(made) == [("cancelled", "201", "202", "high"), ("attended", "201", None, "low")]

    @pytest.mark.parametrize("line", [None, "202"], ids=["nobody", "the target"])
    def test_it_confirms_a_take_over_by_hangup_at_any_time(self, line: str | None) -> None:
        made = call(*CONSULT, hangup(15, "201"), transfer(300, line))

        assert moves(made) == [("attended", "201", "202", "high")]
        assert made.status == "talking"

    @pytest.mark.parametrize(("seconds", "confirms"), [(20, True), (20.1, False)])
    def test_an_anonymous_one_confirms_a_hand_over_of_the_last_20_s(
        self, seconds: float, confirms: bool
    ) -> None:
        made = call(*TALK, ring(10, "202"), answer(12, "202"), transfer(10 + seconds))

        assert moves(made)[0][0::3] == (("attended", "high") if confirms else ("handover_inferred", "medium"))
        assert len(moves(made)) == (1 if confirms else 2)

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

    def test_without_party_after_cdr_and_anonymous_hangup_it_is_late(self) -> None:
        made = call(new(0), hangup(9), cdr(9.5), transfer(12))

        assert (made.transferred, made.transfers, effects(made)[-1]) == (False, (), "none")
        assert "late_event" in made.anomalies

    def test_its_own_reason_is_none_of_the_leg(self) -> None:
        made = call(*TALK, transfer(15, "201", reason="Normal Clearing"))

        assert (only(made).result, only(made).reason) == ("transferred", None)

    def test_a_consultation_without_length_lasts_0_s_on_both_legs(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), answer(12, "202", from_="201"), transfer(12, "201"))

        assert [leg.consult_s for leg in made.legs] == [0, 0]

    def test_while_its_target_is_undecided_the_last_segment_is_open(self) -> None:
        made = call(*GROUP, answer(22, None), transfer(23, "201"))

        assert (made.status, made.outcome, made.last_segment_outcome) == ("talking", "answered", None)
