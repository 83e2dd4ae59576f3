"""Rules 5, 6 and 10: how legs and the call end, and answers that a Hangup withdraws."""

import pytest

from tests.calls import (
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

    def test_a_consulted_colleague_keeps_the_answer(self) -> None:
        made = call(*CONSULT, hangup(20, "202", BUSY))

        assert (made.legs[1].result, made.legs[1].consult_s) == ("completed", 8)


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

    def test_only_the_first_one_moves_the_end(self) -> None:
        assert call(*TALK, hangup(34, "201"), hangup(94), hangup(194)).ended_at == at(94)

    def test_not_after_the_callers_hangup(self) -> None:
        made = call(new(0, **OUT), ring(1, "20", **OUT), hangup(5, "20", **OUT), hangup(15, **OUT))

        assert made.ended_at == at(5)

    def test_after_an_end_by_cdr_it_is_the_end(self) -> None:
        made = call(*TALK, cdr(60), hangup(70))

        assert (made.ended_by, made.ended_at, made.talk_s) == ("hangup", at(70), 65)
        assert (only(made).inferred, made.quality) == ((), "exact")

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


class TestRule6:
    def test_a_handed_over_leg_keeps_its_end(self) -> None:
        made = call(*TALK, ring(20, "202"), answer(25, "202"), hangup(26, "201"))

        assert (made.legs[0].ended_at, made.legs[0].reason, effects(made)[-1]) == (
            at(20),
            "Normal Clearing",
            "filled",
        )


class TestRule10:
    def test_the_first_cdr_since_the_call_went_on_counts(self) -> None:
        made = call(*TALK, cdr(60), cdr(64), as_of=65)
        assert (made.ended_at, made.cdr_at) == (at(60), at(64))

        made = call(*TALK, cdr(60), ring(62, "202"), cdr(64), as_of=70)
        assert made.ended_at == at(64)

    def test_a_cdr_before_a_reopening_ends_nothing(self) -> None:
        assert call(*TALK, hangup(9, "201"), cdr(10), ring(12, "202"), as_of=60).ended_at is None
