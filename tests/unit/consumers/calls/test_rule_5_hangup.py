"""Rules 5 and 6: Hangup, answers that it withdraws, and Hangups after the end."""

import pytest

from tests.calls import (
    BUSY,
    CONSULT,
    ELSEWHERE,
    NEVER,
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
    only,
    ring,
    transfer,
)
from voipex.events import Direction

DUO = (new(0), ring(1, "201"), ring(1.1, "202"), answer(6, "201"))
NO_TALK = (BUSY, "Call Rejected", NO_RESPONSE, "Subscriber absent", "Unallocated number")


class TestNoTalk:
    @pytest.mark.parametrize("reason", NO_TALK)
    def test_no_talk_ends_by_a_no_talk_reason(self, reason: str) -> None:
        made = call(*TALK, hangup(16, "201", reason), hangup(20))

        assert (made.outcome, made.talk_s, made.answered_by) == ("missed", 0, ())
        assert (only(made).answered_at, only(made).inferred) == (None, ("answered_at",))
        assert made.quality == "estimated"

    @pytest.mark.parametrize("reason", ["Normal Clearing", "Network out of order", "Whatever", None])
    def test_other_reasons_end_a_talk(self, reason: str | None) -> None:
        assert call(*TALK, hangup(16, "201", reason)).outcome == "answered"

    def test_a_late_ringing_shows_that_the_phone_rang(self) -> None:
        made = call(new(0), answer(4, "201"), ring(8, "201"), hangup(10, "201", NO_RESPONSE), hangup(20))

        assert (made.outcome, made.talk_s, made.answered_by) == ("missed", 0, ())

    def test_with_the_answer_go_the_ends_of_other_attempts(self) -> None:
        made = call(*DUO, hangup(16, "201", NO_RESPONSE), answer(20, "202"), hangup(60, "202"))

        assert legs(made) == [("201", "agent", "no_answer"), ("202", "agent", "completed")]
        assert (made.legs[1].ring_s, made.legs[1].inferred, made.transferred) == (18.9, (), False)
        assert effects(made)[:5] == ["opened", "rang", "rang", "answered", "left"]

    def test_with_the_answer_goes_a_hand_over(self) -> None:
        made = call(*TALK, ring(8, "202"), answer(12, "202"), hangup(13, "201", NO_RESPONSE))

        assert (moves(made), made.answered_by) == ([], ("202",))
        assert legs(made)[0] == ("201", "agent", "no_answer")

    def test_a_further_normal_hangup_restores_the_answer(self) -> None:
        made = call(*TALK, hangup(16, "201", NO_RESPONSE), hangup(30, "201"))

        assert (made.outcome, made.talk_s, made.ended_at) == ("answered", 25, at(30))
        assert effects(made)[-2:] == ["left", "ended"]

    def test_restored_after_an_anonymous_one_that_still_is_the_end(self) -> None:
        made = call(
            *(new(0, **OUT), ring(1, "20", **OUT), answer(5, "20", **OUT)),
            *(hangup(9, None, BUSY, **OUT), hangup(9.2, "20", **OUT)),
        )

        assert (made.outcome, made.talk_s, made.ended_at) == ("answered", 4, at(9))
        assert effects(made)[-2:] == ["ended", "filled"]

    def test_a_ringing_after_a_withdrawn_answer_is_no_second_device(self) -> None:
        made = call(new(0), answer(2, "201"), ring(3, "201"), hangup(4, "201", BUSY), as_of=20)

        leg = only(made)
        assert (leg.result, leg.ring_started_at, leg.ended_at) == ("busy", at(3), at(4))
        assert (leg.parallel_rings, made.status) == (0, "waiting")

    def test_an_anonymous_answered_is_restored_with_it(self) -> None:
        made = call(*TALK, answer(7, None), hangup(9, "201", BUSY), hangup(30, "201"))

        assert (legs(made), made.talk_s) == ([("201", "agent", "completed")], 25)

    def test_restored_it_is_not_withdrawn_again(self) -> None:
        made = call(*TALK, hangup(16, "201", BUSY), hangup(30, "201"), hangup(31, "201", BUSY))

        assert (made.outcome, made.talk_s) == ("answered", 25)

    def test_not_of_a_leg_that_consulted(self) -> None:
        assert call(*CONSULT, hangup(20, "201", BUSY)).legs[0].result == "transferred"

    def test_not_of_a_leg_that_took_the_caller_over(self) -> None:
        made = call(*CONSULT, hangup(20, "201"), hangup(30, "202", BUSY))

        assert made.answered_by == ("201", "202")

    def test_not_of_a_leg_that_never_rang(self) -> None:
        assert call(new(0), answer(5, "201"), hangup(9, "201", BUSY)).outcome == "answered"

    def test_the_callers_also_without_ring(self) -> None:
        assert call(new(0, **OUT), answer(5, "20", **OUT), hangup(9, "20", BUSY, **OUT)).outcome == "busy"

    def test_the_callers_also_by_a_hangup_without_party(self) -> None:
        made = call(new(0, **OUT), ring(1, "20", **OUT), answer(5, "20", **OUT), hangup(9, None, BUSY, **OUT))

        assert (made.outcome, made.talk_s, legs(made)) == ("busy", 0, [("20", "caller", "busy")])

    def test_an_agents_not_by_a_hangup_without_party(self) -> None:
        assert call(*TALK, hangup(9, None, BUSY)).outcome == "answered"

    def test_not_the_callers_where_another_party_was_answered(self) -> None:
        made = call(
            *(new(0, **OUT), ring(1, "20", **OUT), answer(2, "20", **OUT), ring(3, "202", from_="20")),
            *(answer(4, "202"), hangup(9, "20", BUSY, **OUT)),
        )

        assert made.answered_by == ("20", "202")

    def test_with_parallel_rings_it_is_another_devices(self) -> None:
        made = call(new(0), ring(1, "201"), ring(1, "201"), answer(5, "201"), hangup(6, "201", BUSY))

        assert (made.status, effects(made)[-1]) == ("talking", "filled")

    def test_of_the_last_device_it_is_the_legs(self) -> None:
        made = call(
            *(new(0), ring(1, "201"), ring(1, "201"), answer(5, "201")),
            *(hangup(6, "201", BUSY), hangup(7, "201", BUSY)),
        )

        assert (made.status, only(made).result) == ("waiting", "busy")

    def test_also_after_the_call_has_ended(self) -> None:
        made = call(*TALK, hangup(15), hangup(15.1, "201", NO_RESPONSE))

        assert (made.outcome, only(made).result, made.talk_s) == ("missed", "no_answer", 0)

    def test_after_the_end_too_it_is_another_devices(self) -> None:
        made = call(
            *(new(0), ring(1, "201"), ring(1, "201"), answer(5, "201"), cdr(20), hangup(60, "201", BUSY))
        )

        assert (made.outcome, made.talk_s, only(made).result) == ("answered", 15, "completed")

    def test_a_network_that_fails_ends_the_talk_of_two_devices(self) -> None:
        made = call(new(0), ring(1, "201"), ring(1, "201"), answer(5, "201"), hangup(60, "201", "Congestion"))

        assert (made.status, made.talk_s, only(made).ended_at) == ("ended", 55, at(60))

    def test_restored_where_it_would_have_reopened_the_call(self) -> None:
        """Read as that of nobody, it reopens nothing, so the Hangup that withdrew it closes no leg."""
        made = call(
            *(hangup(1, "20", "Congestion", **OUT), answer(5, "20", **OUT), hangup(9, "20", BUSY, **OUT)),
            hangup(30, "20", **OUT),
        )

        assert (made.outcome, made.talk_s, made.ended_at) == ("answered", 25, at(30))

    def test_restored_where_elsewhere_came_before_the_no_talk_reason(self) -> None:
        made = call(
            *(answer(5, "20", **OUT), hangup(9, "20", ELSEWHERE, **OUT), hangup(9.1, "20", BUSY, **OUT)),
            hangup(30, "20", **OUT),
        )

        assert (made.outcome, made.talk_s, made.ended_at) == ("answered", 25, at(30))

    def test_a_consulted_colleague_keeps_the_answer(self) -> None:
        made = call(*CONSULT, hangup(20, "202", BUSY))

        assert (made.legs[1].result, made.legs[1].consult_s) == ("completed", 8)


class TestRule5:
    def test_a_answered_elsewhere_closes_an_attempt_only(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(5, "201", ELSEWHERE))

        assert (made.status, made.outcome) == ("waiting", None)
        assert legs(made) == [("201", "agent", "answered_elsewhere")]
        assert effects(made) == ["opened", "rang", "left"]

    def test_a_it_is_a_note_where_nothing_rings(self) -> None:
        made = call(
            *TALK, hangup(6, "201", ELSEWHERE), hangup(7, None, ELSEWHERE), hangup(8, "202", ELSEWHERE)
        )

        assert (made.status, only(made).ended_at) == ("talking", None)
        assert effects(made)[3:] == ["none"] * 3

    def test_a_it_fills_the_login_of_a_leg_that_it_cannot_close(self) -> None:
        made = call(new(0), answer(1, "201", login=None), hangup(2, "201", ELSEWHERE))

        assert only(made).login == "ada"
        assert effects(made)[2] == "filled"

    def test_a_such_legs_are_cancelled_once_an_unanswered_call_ends(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(5, "201", ELSEWHERE), hangup(9))

        assert (made.outcome, only(made).result, only(made).ring_s) == ("missed", "cancelled", 4)

    def test_a_such_legs_stay_so_once_the_call_was_answered(self) -> None:
        made = call(*TALK, ring(5, "202"), hangup(6, "202", ELSEWHERE), hangup(9, "201"))

        assert made.legs[1].result == "answered_elsewhere"

    def test_b_an_anonymous_one_ends_the_call_and_every_leg(self) -> None:
        made = call(*TALK, ring(6, "202"), hangup(9, None, "User busy"))

        assert ("ended", "hangup", at(9), 9) == (made.status, made.ended_by, made.ended_at, made.duration_s)
        assert legs(made) == [("201", "agent", "completed"), ("202", "agent", "busy")]
        assert [leg.ring_s for leg in made.legs] == [4, 3]
        assert effects(made) == ["opened", "rang", "answered", "rang", "ended"]

    def test_c_an_answered_leg_ends_and_with_it_the_call(self) -> None:
        made = call(*TALK, hangup(9, "201"))

        assert (
            made.status,
            made.outcome,
            made.duration_s,
            made.talk_s,
            made.ring_s,
        ) == ("ended", "answered", 9, 4, 4)
        assert (
            only(made).result,
            only(made).reason,
            only(made).reason_class,
        ) == ("completed", "Normal Clearing", "normal")
        assert (effects(made)[-1], made.quality, made.anomalies) == ("ended", "exact", ())

    def test_c_another_open_leg_keeps_the_call(self) -> None:
        made = call(*TALK, ring(8, "202"), hangup(9, "201"))

        assert (made.status, effects(made)[-1:]) == ("ringing", ["left"])

    def test_c_attempts_that_rang_before_that_answer_ended_with_it(self) -> None:
        made = call(new(0), ring(1, "202"), ring(1, "201"), answer(5, "201"), hangup(9, "201"))

        assert ("ended", at(9)) == (made.status, made.ended_at)
        leg = made.legs[0]
        assert ("answered_elsewhere", at(5), 4, ("ended_at",)) == (
            leg.result,
            leg.ended_at,
            leg.ring_s,
            leg.inferred,
        )
        assert (made.quality, made.anomalies) == ("estimated", ("end_inferred",))

    def test_c_an_attempt_that_rang_since_that_answer_keeps_the_call(self) -> None:
        made = call(
            new(0), ring(3, "202"), ring(3, "201"), answer(4, "201"), ring(5, "202"), hangup(9, "201")
        )

        assert (made.status, made.legs[0].ended_at, len(made.legs)) == ("ringing", at(4), 3)

    def test_c_likewise_when_the_call_ends_otherwise(self) -> None:
        made = call(new(0), ring(1, "202"), ring(1, "201"), answer(5, "201"), hangup(9))

        assert ("answered_elsewhere", at(5)) == (made.legs[0].result, made.legs[0].ended_at)

    def test_c_the_answer_of_a_consult_ends_no_attempt(self) -> None:
        made = call(
            *(*TALK, ring(10, "202", from_="201"), ring(11, "203"), answer(12, "202"), transfer(15, "201")),
            hangup(20),
        )

        assert (made.legs[2].result, made.legs[2].ended_at, made.legs[2].inferred) == (
            "no_answer",
            at(20),
            (),
        )

    def test_c_nor_does_the_answer_of_a_consult_without_transfer(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), ring(11, "203"), answer(12, "202"), hangup(20))

        assert (made.legs[2].result, made.legs[2].ended_at) == ("no_answer", at(20))

    def test_c_of_two_answers_the_first_one_ended_the_others(self) -> None:
        made = call(new(0), ring(1, "202"), ring(1, "201"), answer(5, "201"), answer(8, "203"), hangup(20))

        assert made.legs[0].ended_at == at(5)

    def test_c_an_attempt_begun_after_the_answer_ends_with_the_call(self) -> None:
        made = call(*TALK, ring(8, "202"), hangup(9))

        assert ("no_answer", at(9), ()) == (
            made.legs[1].result,
            made.legs[1].ended_at,
            made.legs[1].inferred,
        )

    @pytest.mark.parametrize(
        ("reason", "result"),
        [
            ("Normal Clearing", "no_answer"),
            ("User busy", "busy"),
            ("Call Rejected", "rejected"),
            ("Subscriber absent", "unreachable"),
            ("Unallocated number", "failed"),
            ("Network out of order", "failed"),
            ("Whatever", "no_answer"),
            (None, "no_answer"),
        ],
    )
    def test_d_an_attempt_ends_by_its_reason_and_the_call_waits(
        self, reason: str | None, result: str
    ) -> None:
        made = call(new(0), ring(1, "201"), hangup(5, "201", reason))

        assert ("waiting", None, result, reason) == (
            made.status,
            made.outcome,
            only(made).result,
            only(made).reason,
        )
        assert (only(made).ring_s, only(made).talk_s) == (4, None)

    def test_e_the_callers_hangup_ends_an_outgoing_call_unanswered(self) -> None:
        made = call(
            new(0, from_="20", **OUT),
            ring(1, "20", **OUT),
            ring(2, "202"),
            hangup(9, "20", "User busy", **OUT),
        )

        assert (made.status, made.outcome, made.last_segment_outcome) == ("ended", "busy", "busy")
        assert legs(made) == [("20", "caller", "busy"), ("202", "agent", "busy")]

    def test_e_the_callers_hangup_ends_an_outgoing_call_answered(self) -> None:
        made = call(
            new(0, **OUT),
            ring(1, "20", **OUT),
            answer(2, "20", **OUT),
            ring(4, "202"),
            hangup(9, "20", **OUT),
        )

        assert ("ended", "answered", at(9)) == (made.status, made.outcome, made.ended_at)

    def test_e_it_does_so_without_a_leg(self) -> None:
        made = call(new(0, **OUT), ring(1, "202"), hangup(9, "20", **OUT))

        assert (made.status, made.anomalies) == ("ended", ("hangup_without_leg",))

    def test_e_but_not_once_its_leg_was_transferred(self) -> None:
        made = call(
            *(new(0, **OUT), ring(1, "20", **OUT), answer(2, "20", **OUT)),
            *(
                ring(4, "202", from_="20"),
                answer(5, "202", from_="20"),
                transfer(6, "20"),
                hangup(9, "20", **OUT),
            ),
        )

        assert (made.status, effects(made)[-1:]) == ("talking", ["filled"])

    def test_e_the_caller_is_known_by_all_names_of_its_legs(self) -> None:
        made = call(
            ring(0, "21", login="ada", direction=None),
            hangup(10, None, login="ada", **OUT),
            ring(21, "30", login=None, direction=None),
            hangup(29, "21", login=None, direction=None),
        )

        assert made.status == "ended"

    def test_e_an_internal_call_ends_with_its_caller_too(self) -> None:
        local = {"direction": Direction.OUTGOING_LOCAL}
        made = call(new(0, **local), ring(1, "20", **local), hangup(9, "20", **local))

        assert (made.status, made.outcome) == ("ended", "no_answer")

    def test_e_the_hangup_of_another_line_does_not(self) -> None:
        made = call(new(0, **OUT), ring(1, "20", **OUT), ring(2, "202", **OUT), hangup(3, "202", **OUT))

        assert (made.status, legs(made)) == (
            "ringing",
            [("20", "caller", None), ("202", "agent", "no_answer")],
        )

    def test_f_a_line_without_leg_ends_the_call_if_nobody_is_there(self) -> None:
        made = call(new(0), hangup(9, "201", "User busy"))

        assert (made.status, made.outcome, made.anomalies) == ("ended", "busy", ("hangup_without_leg",))

    def test_f_else_it_is_a_note(self) -> None:
        made = call(*TALK, hangup(9, "203"))

        assert (
            made.status,
            effects(made)[-1],
            made.anomalies,
        ) == ("talking", "none", ("hangup_without_leg",))

    def test_f_of_a_line_whose_legs_are_closed_it_fills(self) -> None:
        made = call(
            new(0), ring(1, "201", login=None), hangup(5, "201", ELSEWHERE, login=None), hangup(6, "201")
        )

        assert (made.status, only(made).login, only(made).result) == ("waiting", "ada", "answered_elsewhere")
        assert effects(made)[-1] == "filled"

    def test_attempts_of_a_stale_call_end_at_the_answer(self) -> None:
        made = call(ring(2, "202"), answer(14, "201"), transfer(71, "201"), as_of=NEVER)

        assert made.status == "stale"
        rung = made.legs[0]
        assert (rung.line, rung.result, rung.ended_at) == ("202", "answered_elsewhere", at(14))

    def test_e_a_consulted_transferor_is_not_the_caller_again(
        self,
    ) -> None:
        given = (
            new(0, line="20", **OUT),
            ring(1, "20", **OUT),
            answer(5, "20", **OUT),
            ring(10, "201", from_="20", **OUT),
            answer(12, "201", from_="20", **OUT),
            transfer(15, "20", **OUT),
        )
        asked = (ring(40, "20", from_="201", **OUT), answer(42, "20", from_="201", **OUT))
        made = call(*given, *asked, cancel(50, "201", **OUT), hangup(50.1, "20", from_="201", **OUT))

        assert made.status == "talking"
        assert "201" not in made.from_all


class TestRule5a:
    def test_it_gives_its_result_to_an_attempt_that_had_closed(self) -> None:
        made = call(*DUO, hangup(300, "201"), hangup(300.1, "202", ELSEWHERE))

        assert (made.legs[1].result, made.legs[1].ended_at) == ("answered_elsewhere", at(6))
        assert made.legs[1].inferred == ("ended_at",)

    def test_and_to_one_that_a_device_reason_closed(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(2, "201", BUSY), hangup(9, "201", ELSEWHERE))

        assert (only(made).result, only(made).ended_at) == ("answered_elsewhere", at(9))

    def test_without_party_it_ends_the_call_when_nobody_talks(self) -> None:
        assert call(new(0), ring(1, "201"), hangup(5, None, ELSEWHERE)).status == "ended"
        assert call(*TALK, hangup(6, None, ELSEWHERE)).status == "talking"

    @pytest.mark.parametrize(("began", "result"), [(8, "answered_elsewhere"), (8.000001, "cancelled")])
    def test_cancelled_where_nobody_answered_since_3_s_before(self, began: float, result: str) -> None:
        made = call(
            *(*TALK, hangup(7, "201"), ring(began, "202"), hangup(20, "202", ELSEWHERE), hangup(30)),
        )

        assert made.legs[1].result == result

    def test_not_where_somebody_talked_when_it_ended(self) -> None:
        made = call(*TALK, ring(60, "202"), hangup(70, "202", ELSEWHERE), hangup(90, "201"))

        assert made.legs[1].result == "answered_elsewhere"


class TestRule5b:
    def test_over_2_s_after_the_talk_it_is_the_end(self) -> None:
        made = call(*TALK, hangup(34, "201"), hangup(94), cdr(94.8))

        assert (made.ended_at, made.ended_by, made.duration_s, made.talk_s) == (at(94), "hangup", 94, 29)
        assert (made.last_segment_outcome, made.outcome, made.quality) == ("missed", "answered", "estimated")
        assert effects(made)[-2:] == ["ended", "cdr"]

    def test_within_2_s_it_is_a_note(self) -> None:
        made = call(*TALK, hangup(34, "201"), hangup(36))

        assert (made.ended_at, effects(made)[-1], made.quality) == (at(34), "none", "exact")

    def test_after_a_cdr_it_is_a_note(self) -> None:
        assert call(*TALK, hangup(34, "201"), cdr(35), hangup(94)).ended_at == at(34)

    def test_a_cdr_over_2_s_after_the_end_has_overtaken_it(self) -> None:
        made = call(*TALK, hangup(34, "201"), cdr(94), hangup(96))

        assert (made.ended_at, made.last_segment_outcome, made.quality) == (at(96), "missed", "estimated")
        assert effects(made)[-1] == "ended"

    def test_a_cdr_over_2_s_before_it_has_not(self) -> None:
        made = call(*TALK, hangup(34, "201"), cdr(94), hangup(96.000001))

        assert (made.ended_at, made.last_segment_outcome, made.quality) == (at(34), "answered", "estimated")

    def test_a_cdr_within_2_s_of_the_end_belongs_to_it(self) -> None:
        made = call(*TALK, hangup(34, "201"), cdr(36), hangup(37))

        assert (made.ended_at, made.quality) == (at(34), "exact")

    def test_the_first_cdr_since_the_end_decides(self) -> None:
        assert call(*TALK, hangup(34, "201"), cdr(35), cdr(94), hangup(95)).ended_at == at(34)

    def test_a_cdr_before_the_call_went_on_does_not_count(self) -> None:
        made = call(*TALK, hangup(34, "201"), cdr(35), ring(50, "202"), hangup(60, "202"), hangup(94))

        assert made.ended_at == at(94)

    def test_only_the_first_one_moves_the_end(self) -> None:
        assert call(*TALK, hangup(34, "201"), hangup(94), hangup(194)).ended_at == at(94)

    def test_a_copy_of_one_within_2_s_does_not_move_it(self) -> None:
        made = call(*TALK, hangup(10, "201"), hangup(10.3), hangup(15))

        assert (made.ended_at, made.last_segment_outcome, effects(made)[-1]) == (at(10), "answered", "none")

    def test_not_after_the_callers_hangup(self) -> None:
        made = call(new(0, **OUT), ring(1, "20", **OUT), hangup(5, "20", **OUT), hangup(15, **OUT))

        assert made.ended_at == at(5)

    def test_after_an_end_by_cdr_it_is_the_end(self) -> None:
        made = call(*TALK, cdr(60), hangup(70))

        assert (made.ended_by, made.ended_at, made.talk_s) == ("hangup", at(70), 65)
        assert (only(made).inferred, made.quality) == ((), "exact")

    def test_after_its_cdr_and_both_hangups_all_is_reported(self) -> None:
        made = call(*TALK, cdr(20), hangup(30, "201"), hangup(30.3))

        assert (only(made).ended_at, only(made).inferred, made.quality) == (at(30.3), (), "exact")

    def test_after_a_transfer_to_nobody_the_caller_waited(self) -> None:
        made = call(*TALK, transfer(9, "201"), hangup(60))

        assert (made.outcome, made.last_segment_outcome) == ("answered", "missed")


class TestRule5d:
    def test_one_device_less_and_the_line_rings_on(self) -> None:
        made = call(new(0), ring(1, "201"), ring(1, "201"), hangup(2, "201", BUSY))

        assert (made.status, only(made).parallel_rings, effects(made)[-1]) == ("ringing", 1, "filled")

    def test_the_last_device_ends_the_attempt(self) -> None:
        made = call(
            new(0), ring(1, "201"), ring(1, "201"), hangup(2, "201", BUSY), hangup(3, "201", "Call Rejected")
        )

        assert (made.status, only(made).result, only(made).ended_at) == ("waiting", "rejected", at(3))

    def test_of_a_consult_too(self) -> None:
        made = call(
            *TALK, *(ring(10, "202", from_="201") for _ in range(2)), hangup(11, "202", BUSY, from_="201")
        )

        assert made.legs[1].ended_at is None

    def test_a_further_hangup_after_a_device_reason_is_the_attempts(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(2, "201", BUSY), hangup(20, "201", NO_RESPONSE))

        assert (only(made).result, only(made).ended_at, only(made).reason) == (
            "no_answer",
            at(20),
            NO_RESPONSE,
        )

    def test_at_most_at_the_end_of_the_call(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(2, "201", BUSY), hangup(9), hangup(9.5, "201"))

        assert (only(made).result, only(made).ended_at) == ("no_answer", at(9))


class TestRule5f:
    def test_the_caller_failed_before_it_rang(self) -> None:
        made = call(new(0, **OUT), hangup(0.4, "20", "Call Rejected", **OUT))

        assert legs(made) == [("20", "caller", "rejected")]
        assert (only(made).ring_s, only(made).ended_at, made.outcome) == (None, at(0.4), "rejected")
        assert made.quality == "exact"

    def test_also_after_the_end_then_at_that_end(self) -> None:
        made = call(new(0, **OUT), hangup(5, None, BUSY, **OUT), hangup(5.2, "20", BUSY, **OUT))

        assert (legs(made), only(made).ended_at) == ([("20", "caller", "busy")], at(5))

    def test_the_leg_keeps_its_place_before_a_late_ring(self) -> None:
        made = call(new(0, **OUT), hangup(1, "20", **OUT), ring(1.2, "20", **OUT))

        assert (only(made).ring_s, made.quality) == (None, "estimated")

    def test_a_consult_ring_that_a_hangup_overtook_takes_nothing(self) -> None:
        overtaken = (*CONSULT, hangup(13, "203", ELSEWHERE, from_="201"), ring(16, "203", from_="201"))
        made = call(*overtaken, transfer(20, "201"), hangup(60, "202"), hangup(60.1))

        assert moves(made) == [("attended", "201", "202", "high")]
        assert legs(made)[1:] == [("202", "agent", "completed"), ("203", "consult", "answered_elsewhere")]


class TestRule6:
    def test_after_the_end_a_hangup_fills_details_but_no_times(self) -> None:
        made = call(new(0), ring(1, "201", login=None), hangup(9), hangup(9.2, "201", "User busy"))

        leg = only(made)
        assert ("ada", "User busy", "busy", at(9)) == (leg.login, leg.reason, leg.result, leg.ended_at)
        assert (at(9), "missed", "filled") == (made.ended_at, made.outcome, effects(made)[-1])

    def test_the_result_of_an_own_hangup_stays(self) -> None:
        made = call(
            new(0), ring(1, "201"), hangup(5, "201", "No answer"), hangup(9), hangup(9.2, "201", "User busy")
        )

        assert (only(made).result, only(made).reason, effects(made)[-1]) == ("no_answer", "No answer", "none")

    def test_the_first_own_hangup_decides(self) -> None:
        made = call(
            new(0),
            ring(1, "201"),
            hangup(9),
            hangup(9.2, "201", "No answer"),
            hangup(9.4, "201", "User busy"),
        )

        assert (only(made).result, only(made).reason) == ("no_answer", "No answer")

    def test_an_own_hangup_without_reason_may_get_one(self) -> None:
        made = call(
            new(0), ring(1, "201"), hangup(5, "201", None), hangup(9), hangup(9.2, "201", "User busy")
        )

        assert (only(made).result, only(made).reason) == ("no_answer", "User busy")

    def test_an_answered_leg_stays_completed(self) -> None:
        made = call(*TALK, hangup(9, None, None), hangup(9.2, "201", "Network out of order"))

        assert (only(made).result, only(made).reason) == ("completed", "Network out of order")

    def test_a_hangup_without_reason_keeps_the_known_reason(self) -> None:
        made = call(*TALK, hangup(9, None, "User busy"), hangup(9.2, "201", None))

        assert (only(made).reason, effects(made)[-1]) == ("User busy", "filled")

    def test_the_first_own_hangup_fills_a_second_one_is_a_note(self) -> None:
        made = call(new(0), ring(1, "201"), hangup(9), hangup(9.2, "201"), hangup(9.4, "201"))

        assert effects(made)[-2:] == ["filled", "none"]

    def test_a_reported_result_is_not_inferred_any_more(self) -> None:
        made = call(
            new(0),
            ring(1, "202"),
            ring(1, "201"),
            answer(5, "201"),
            hangup(9, "201"),
            hangup(10, "202", "User busy"),
        )

        assert ("busy", at(5), ("ended_at",)) == (
            made.legs[0].result,
            made.legs[0].ended_at,
            made.legs[0].inferred,
        )

    def test_a_second_hangup_of_the_call_changes_nothing(self) -> None:
        made = call(new(0), hangup(3, None, "User busy"), hangup(5), hangup(6, "203"))

        assert (at(3), "busy") == (made.ended_at, made.outcome)
        assert effects(made) == ["opened", "ended", "none", "none"]
        assert made.anomalies == ("hangup_without_leg",)

    def test_the_newest_leg_is_filled(self) -> None:
        made = call(
            *(new(0), ring(1, "201"), hangup(5, "201", None), ring(8, "201"), hangup(9)),
            hangup(10, "201", "User busy"),
        )

        assert [leg.result for leg in made.legs] == ["no_answer", "busy"]

    def test_a_hangup_without_reason_keeps_the_known_result(self) -> None:
        made = call(ring(1, "201"), hangup(5, reason="User busy"), hangup(5.1, "201", reason=None))

        assert legs(made) == [("201", "agent", "busy")]
        assert only(made).reason_class == "busy"

    def test_a_handed_over_leg_keeps_its_end(self) -> None:
        made = call(*TALK, ring(20, "202"), answer(25, "202"), hangup(26, "201"))

        assert (made.legs[0].ended_at, made.legs[0].reason, effects(made)[-1]) == (
            at(20),
            "Normal Clearing",
            "filled",
        )
