"""The rules of contract 4, one test or more each, sentences as names. Times are seconds after the first moment."""

from typing import Any

import pytest

from consumers.calls.call import Call
from consumers.calls.events import CallEvent
from consumers.calls.projection import timeline
from tests.call_strategies import BASE_US, CALL_ID
from tests.calls import (
    BARGE,
    CONSULT,
    ELSEWHERE,
    FROM,
    NEVER,
    OUT,
    TALK,
    answer,
    at,
    call,
    cancel,
    cdr,
    effects,
    event_at,
    hangup,
    legs,
    moves,
    new,
    only,
    ring,
    transfer,
)
from voipex.events import Direction, EventType, ReasonClass


class TestWhoIsWho:
    """Parties are compared by Line; where either has none, by Login, else by Email. Blank equals only blank."""

    def test_the_line_decides_where_both_have_one(self) -> None:
        made = call(ring(0, "201", login="ada"), answer(1, "202", login="ada"))

        assert [leg.line for leg in made.legs] == ["201", "202"]

    def test_the_login_decides_in_any_case_where_a_line_is_missing(self) -> None:
        made = call(ring(0, "201", login="Ada"), answer(1, None, login="aDA"), hangup(4, None, login="ada"))

        assert legs(made) == [("201", "agent", "completed")]

    def test_another_login_is_another_party_whatever_the_email(self) -> None:
        made = call(ring(0, None, login="ada", email="x@x"), answer(1, None, login="bob", email="x@x"))

        assert len(made.legs) == 2

    def test_the_email_decides_where_line_and_login_are_missing(self) -> None:
        made = call(
            ring(0, "201", email="Ada@x"), answer(1, None, email="ada@X"), hangup(4, None, email="ADA@x")
        )

        assert legs(made) == [("201", "agent", "completed")]

    def test_another_email_is_another_party(self) -> None:
        assert len(call(ring(0, None, email="a@x"), answer(1, None, email="b@x")).legs) == 2

    @pytest.mark.parametrize("name", [{"login": "ada"}, {"email": "ada@x"}])
    def test_a_login_or_an_email_alone_is_a_name(self, name: dict[str, str]) -> None:
        made = call(new(0), answer(1, None, **name), ring(2, "202"), hangup(3, None, **name))

        assert made.status == "ringing"

    def test_a_blank_party_equals_only_a_blank_one(self) -> None:
        made = call(ring(0, None), ring(1, "201"), answer(2, None))

        assert [leg.line for leg in made.legs] == [None, "201"]
        assert at(2) == made.legs[0].answered_at
        assert list(made.answered_by) == []


class TestRule1:
    def test_blank_never_replaces_a_value(self) -> None:
        made = call(
            ring(0, "201", queue="sales", email="ada@x", login="ada"),
            answer(1, "201", login=None, from_=None, to=None, direction=None),
        )

        leg = only(made)
        assert (leg.login, leg.email, leg.queue) == ("ada", "ada@x", "sales")
        assert (made.direction, made.from_, made.to) == ("incoming", FROM, "222333444")

    def test_the_last_value_that_is_not_blank_counts(self) -> None:
        made = call(
            ring(0, "20", login=None, from_="20", **OUT),
            hangup(12, "20", login="cervenka", from_="29", **OUT),
        )

        assert only(made).login == "cervenka"
        assert made.from_all == ("20", "29")
        assert made.from_ == "20"

    def test_a_later_queue_replaces_an_earlier_one(self) -> None:
        made = call(ring(0, "201", queue="sales"), answer(1, "201", queue="support"))

        assert only(made).queue == "support"
        assert made.queues == ("sales", "support")

    def test_a_queue_is_a_detail_too(self) -> None:
        made = call(new(0), ring(1, "201"), answer(2, "201"), answer(3, "201", queue="sales"))

        assert (only(made).queue, effects(made)[-1]) == ("sales", "filled")

    def test_a_repeated_detail_has_no_effect(self) -> None:
        made = call(new(0), ring(1, "201", queue="sales"), answer(2, "201"), ring(3, "201", queue="sales"))

        assert effects(made)[-1] == "none"


class TestRule2:
    def test_new_call_opens(self) -> None:
        made = call(new(0))

        assert effects(made) == ["opened"]
        assert (made.status, made.outcome, made.ended_by) == ("new", None, None)
        assert (at(0), "new_call") == (made.started_at, made.started_at_source)

    def test_late_it_gives_from_and_to_but_not_started_at(self) -> None:
        made = call(ring(0, "201", from_="1", to="2"), new(1, from_="3", to="4"))

        assert ("3", "4", at(0), "first_event") == (
            made.from_,
            made.to,
            made.started_at,
            made.started_at_source,
        )
        assert (made.from_all, made.to_all) == (("1", "3"), ("2", "4"))
        assert effects(made) == ["rang", "filled"]
        assert made.anomalies == ("late_event",)

    def test_it_never_reopens(self) -> None:
        made = call(hangup(0), new(1))

        assert ("ended", at(0)) == (made.status, made.ended_at)
        assert made.anomalies == ("late_event",)

    def test_a_second_one_changes_nothing(self) -> None:
        made = call(new(0, from_="1"), new(1, from_="2"))

        assert ("1", ("1", "2"), at(0)) == (made.from_, made.from_all, made.started_at)
        assert effects(made) == ["opened", "none"]

    def test_from_of_the_earliest_event_where_new_call_names_none(self) -> None:
        made = call(new(0, from_=None, to=None), ring(1, "201", from_="1", to="2"))

        assert (made.from_, made.to) == ("1", "2")

    def test_from_and_to_may_come_from_different_events(self) -> None:
        made = call(ring(0, "201", from_=None, to="2"), answer(1, "201", from_="1", to=None))

        assert (made.from_, made.to) == ("1", "2")


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
        assert (made.legs[0].ring_s, made.legs[0].inferred) == (3.000001, ("ended_at", "result"))
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
        assert (made.legs[1].ended_at, made.legs[1].inferred) == (at(3), ("ended_at", "result"))

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
        assert leg.inferred == ("answered_at", "result")
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
        assert ("answered_elsewhere", at(5), 4, ("ended_at", "result")) == (
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

        assert (only(made).reason, effects(made)[-1]) == ("User busy", "none")

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


class TestRule7:
    def test_a_leg_from_the_line_of_a_talking_leg_is_a_consult(self) -> None:
        made = call(*CONSULT)

        assert legs(made)[1] == ("202", "consult", None)
        assert (made.answered_by, made.status, made.from_all) == (("201",), "talking", (FROM,))

    def test_its_hangup_does_not_end_the_call(self) -> None:
        made = call(*CONSULT, hangup(20, "202", from_="201"))

        assert (made.status, effects(made)[-1]) == ("talking", "left")
        leg = made.legs[1]
        assert (leg.result, leg.consult_s, leg.ring_s, leg.talk_s) == ("completed", 8, 2, None)
        assert (made.legs[0].consult_s, made.legs[0].talk_s) == (8, None)
        assert (made.consult_s, made.from_all) == (8, (FROM,))

    def test_unanswered_it_ends_by_its_reason(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), hangup(11, "202", "Subscriber absent"))

        assert legs(made)[1] == ("202", "consult", "unreachable")
        assert (made.legs[0].consult_s, made.legs[1].consult_s, made.consult_s) == (None, None, 0)

    def test_a_consult_without_ring_begins_with_its_answer(self) -> None:
        made = call(*TALK, answer(10, "202", from_="201"))

        assert legs(made)[1] == ("202", "consult", None)

    def test_from_the_own_line_is_no_consult(self) -> None:
        made = call(
            new(0, **OUT),
            ring(1, "20", from_="20", **OUT),
            answer(2, "20", **OUT),
            hangup(4, "20"),
            ring(5, "20", from_="20"),
        )

        assert made.legs[1].role == "caller"

    def test_from_a_line_that_only_rings_is_no_consult(self) -> None:
        made = call(new(0), ring(1, "201"), ring(2, "202", from_="201"))

        assert made.legs[1].role == "agent"

    def test_from_a_line_that_left_is_no_consult(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "202", from_="201"))

        assert made.legs[1].role == "agent"

    def test_a_leg_without_from_is_no_consult(self) -> None:
        assert call(*TALK, ring(9, "202", from_=None)).legs[1].role == "agent"

    def test_from_the_line_of_a_consulted_colleague_is_no_consult(self) -> None:
        assert call(*CONSULT, ring(14, "203", from_="202")).legs[2].role == "agent"


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
        assert ("transferred", at(20), 15, ("ended_at", "result")) == (
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


class TestRule10:
    def test_5_s_after_its_cdr_an_open_call_ends_at_its_cdr(self) -> None:
        events = (*TALK, cdr(60))

        assert (call(*events, as_of=64.999999).status, call(*events, as_of=64).ended_by) == ("talking", None)
        made = call(*events, as_of=65)
        assert ("ended", "cdr", at(60), 55, 60) == (
            made.status,
            made.ended_by,
            made.ended_at,
            made.talk_s,
            made.duration_s,
        )
        assert (
            only(made).result,
            only(made).inferred,
            made.quality,
        ) == ("completed", ("ended_at", "result"), "estimated")
        assert (("end_inferred",), at(60)) == (made.anomalies, made.cdr_at)

    def test_or_at_a_later_effect_in_the_grace(self) -> None:
        made = call(new(0), ring(1, "201"), ring(1, "202"), cdr(60), hangup(63, "201"), as_of=100)

        assert (at(63), [at(63), at(63)]) == (made.ended_at, [leg.ended_at for leg in made.legs])

    def test_a_hangup_in_the_grace_wins(self) -> None:
        made = call(*TALK, cdr(60), hangup(65, "201"), as_of=100)

        assert ("hangup", at(65), "exact") == (made.ended_by, made.ended_at, made.quality)

    def test_a_hangup_after_the_grace_only_fills(self) -> None:
        made = call(*TALK, cdr(60), hangup(65.000001, "201", "User busy"))

        assert ("cdr", at(60), "User busy") == (made.ended_by, made.ended_at, only(made).reason)

    @pytest.mark.parametrize(
        "goes_on",
        [ring(62, "202"), answer(62, "202"), transfer(62, "201")],
        ids=["ring", "answer", "transfer"],
    )
    def test_a_ring_answer_or_transfer_in_the_grace_keeps_it_open(self, goes_on: CallEvent) -> None:
        made = call(*TALK, cdr(60), goes_on, as_of=100)

        assert (None, at(60)) == (made.ended_at, made.cdr_at)

    def test_a_ring_without_effect_does_not(self) -> None:
        assert at(60) == call(*TALK, cdr(60), ring(62, "201"), as_of=100).ended_at

    def test_nor_does_a_monitor(self) -> None:
        assert call(*TALK, cdr(60), ring(62, "900", **BARGE), as_of=100).ended_by == "cdr"

    def test_a_ring_after_the_grace_reopens(self) -> None:
        made = call(*TALK, cdr(60), ring(66, "202"))

        assert (
            made.status,
            tuple(a for a in made.anomalies if a == "reopened"),
        ) == ("ringing", ("reopened",))

    def test_after_the_end_it_only_adds_its_values(self) -> None:
        made = call(*TALK, hangup(9, "201"), cdr(10, extra={"billsec": 4}, queue="q", to=None), as_of=100)

        assert ("hangup", at(9), at(10)) == (made.ended_by, made.ended_at, made.cdr_at)
        assert made.cdr == {"from": FROM, "queue": "q", "extra": {"billsec": 4}}

    def test_its_effect_is_its_own(self) -> None:
        assert effects(call(cdr(0), hangup(1), cdr(2))) == ["cdr", "ended", "cdr"]

    def test_the_first_one_ends_the_call_and_the_last_one_is_shown(self) -> None:
        made = call(*TALK, cdr(60, extra={"n": 1}), cdr(63, extra={"n": 2}), as_of=100)

        assert (at(63), at(60)) == (made.cdr_at, made.ended_at)
        assert made.cdr is not None
        assert made.cdr["extra"] == {"n": 2}
        assert call(*TALK, cdr(60), cdr(63), as_of=64.9).status == "talking"

    def test_numbers_of_any_size_do_not_stop_the_fold(self) -> None:
        made = call(new(0), cdr(1, extra={"n": 10**30, "m": 7}))

        assert made.cdr is not None
        assert made.cdr["extra"] == {"n": 1e30, "m": 7}

    def test_of_a_call_known_by_cdrs_only_the_outcome_is_unknown(self) -> None:
        made = call(cdr(10), as_of=100)

        assert made.anomalies == ("no_new_call", "end_inferred")
        assert (made.status, made.outcome, made.ended_by, made.legs) == ("ended", "unknown", "cdr", ())
        assert (at(0), "unique_id", None, "partial") == (
            made.started_at,
            made.started_at_source,
            made.duration_s,
            made.quality,
        )


class TestRule11:
    def test_a_monitor_is_no_answer_no_talk_and_no_customer(self) -> None:
        made = call(*TALK, ring(10, "900", **BARGE), answer(11, "900", **BARGE), hangup(20, "201"))

        assert legs(made)[1] == ("900", "monitor", "completed")
        assert (made.status, made.answered_by, made.monitors, made.ring_s) == ("ended", ("201",), ("900",), 4)
        assert (made.legs[1].ring_s, made.legs[1].talk_s, made.legs[1].consult_s) == (1, None, None)
        assert made.direction == "incoming"

    def test_it_makes_no_call_talk_or_wait(self) -> None:
        made = call(ring(0, "900", **BARGE), answer(1, "900", **BARGE))

        assert (made.status, made.outcome, made.first_ring_at, made.from_) == ("new", None, None, None)

    @pytest.mark.parametrize("reported_as", [BARGE, {}], ids=["barge", "other direction"])
    def test_its_answer_and_hangup_mean_its_leg_alone(self, reported_as: dict[str, Any]) -> None:
        made = call(
            *TALK,
            ring(10, "900", **BARGE),
            answer(11, "900", **reported_as),
            hangup(15, "900", **reported_as),
        )

        assert ("talking", "completed", at(15)) == (made.status, made.legs[1].result, made.legs[1].ended_at)
        assert effects(made)[3:] == ["rang", "answered", "left"]

    def test_an_answer_without_ring_barges_in_too(self) -> None:
        made = call(*TALK, answer(11, "900", **BARGE), answer(12, "900", **BARGE))

        assert (legs(made)[1], effects(made)[3:]) == (("900", "monitor", None), ["answered", "filled"])

    def test_a_second_device_is_not_a_second_try(self) -> None:
        made = call(*TALK, ring(10, "900", **BARGE), ring(11, "900", **BARGE), ring(20, "900", **BARGE))

        assert legs(made)[1:] == [("900", "monitor", "no_answer"), ("900", "monitor", None)]
        assert (made.legs[1].parallel_rings, made.monitors) == (1, ("900",))

    def test_with_another_open_leg_of_the_line_it_means_that(self) -> None:
        made = call(*TALK, ring(10, "201", **BARGE), hangup(20, "201"))

        assert (made.status, made.legs[0].result) == ("ended", "completed")

    def test_one_that_barges_in_right_after_a_hangup_is_not_late(self) -> None:
        made = call(*TALK, hangup(9, "900"), ring(10, "900", **BARGE))

        assert legs(made)[1] == ("900", "monitor", None)

    def test_nothing_is_to_be_monitored_after_the_end(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "900", **BARGE), answer(11, "900", **BARGE))

        assert (made.status, effects(made)[4:], len(made.legs)) == ("ended", ["none", "none"], 1)

    def test_a_hangup_of_a_monitor_without_a_leg_is_a_note(self) -> None:
        made = call(*TALK, hangup(9, "900", **BARGE), hangup(10, None, **BARGE))

        assert (
            made.status,
            effects(made)[3:],
            made.anomalies,
        ) == ("talking", ["none", "none"], ("hangup_without_leg",))

    def test_a_second_hangup_fills(self) -> None:
        made = call(
            *TALK,
            ring(10, "900", **BARGE),
            hangup(11, "900", None, **BARGE),
            hangup(12, "900", "User busy", **BARGE),
        )

        assert ("no_answer", "User busy", at(11)) == (
            made.legs[1].result,
            made.legs[1].reason,
            made.legs[1].ended_at,
        )

    def test_a_line_that_monitored_may_ring_as_any_other(self) -> None:
        made = call(*TALK, ring(10, "900", **BARGE), ring(11, "900"))

        assert [leg.role for leg in made.legs] == ["agent", "monitor", "agent"]

    def test_after_the_end_a_hangup_of_a_monitor_fills_its_leg(self) -> None:
        made = call(*TALK, ring(10, "900", **BARGE), hangup(12), hangup(13, "900", "User busy"))

        assert ("busy", at(12)) == (made.legs[1].result, made.legs[1].ended_at)

    def test_the_numbers_of_a_new_call_count_whatever_its_direction(self) -> None:
        made = call(new(0, **BARGE), ring(1, "900", from_="9", **BARGE))

        assert (made.from_, made.from_all, made.direction) == (FROM, (FROM,), None)

    def test_a_monitor_that_also_rang_leaves_its_monitor_leg(self) -> None:
        """Two legs of one line with the same names are two legs."""
        rung = (new(0), ring(2, "201"), ring(2, "202"), answer(6, "201"))
        barged = (ring(10, "202", **BARGE), answer(12, "202", **BARGE), hangup(20, "202", **BARGE))
        made = call(*rung, *barged, hangup(60, "201"))

        ended = [(leg.line, leg.role, leg.ended_at) for leg in made.legs]
        assert ended == [("201", "agent", at(60)), ("202", "agent", at(6)), ("202", "monitor", at(20))]

    def test_a_line_that_talks_and_monitors_leaves_twice(self) -> None:
        made = call(answer(0, "201"), answer(10, "201", **BARGE), hangup(20, "201", **BARGE))
        assert made.status == "talking"

        made = call(
            answer(0, "201"), answer(10, "201", **BARGE), hangup(20, "201", **BARGE), hangup(30, "201")
        )
        assert (made.status, made.ended_at) == ("ended", at(30))

    @pytest.mark.parametrize("more", [BARGE, {"direction": None}], ids=["reported", "not reported"])
    def test_the_answer_of_a_monitor_does_not_stop_the_end_by_cdr(self, more: dict[str, Any]) -> None:
        made = call(*TALK, ring(50, "203", **BARGE), cdr(60), answer(61, "203", **more), as_of=70)

        assert (made.status, made.ended_by) == ("ended", "cdr")


class TestRule12:
    @pytest.mark.parametrize(
        ("events", "limit_s", "result"),
        [
            ((new(0),), 3600, None),
            ((new(0), ring(1, "201"), hangup(5, "201")), 5 + 3600, "no_answer"),
            ((new(0), ring(1, "201")), 1 + 180, "timeout"),
            (TALK, 5 + 4 * 3600, "timeout"),
        ],
        ids=["new", "waiting", "ringing", "talking"],
    )
    def test_without_a_sign_of_life_a_call_goes_stale(
        self, events: tuple[CallEvent, ...], limit_s: float, result: str | None
    ) -> None:
        before = call(*events, as_of=limit_s - 0.000001)
        made = call(*events, as_of=limit_s)
        later = call(*events, as_of=NEVER)

        assert (before.ended_at, before.ended_by) == (None, None)
        assert ("stale", "timeout", at(limit_s), None) == (
            made.status,
            made.ended_by,
            made.ended_at,
            made.duration_s,
        )
        assert (made.quality, "end_inferred" in made.anomalies) == ("partial", True)
        assert made == later.model_copy(update={"updated_at": made.updated_at})
        assert [result] * len(made.legs) == [leg.result for leg in made.legs]

    def test_what_ended_by_timeout_has_no_duration(self) -> None:
        made = call(*CONSULT, ring(13, "900", **BARGE), as_of=NEVER)

        assert [(leg.ring_s, leg.talk_s, leg.consult_s) for leg in made.legs] == [
            (4, None, None),
            (2, None, None),
            (None, None, None),
        ]
        assert (made.talk_s, made.consult_s, made.ring_s, made.wait_s) == (None, None, 6, 5)

    def test_an_unanswered_call_that_went_stale_was_missed(self) -> None:
        assert call(new(0), ring(1, "201"), as_of=NEVER).outcome == "missed"

    def test_a_later_event_folds_as_if_no_deadline_had_passed(self) -> None:
        made = call(new(0), ring(1, "201"), answer(400, "201"))

        assert (made.status, only(made).ring_s, made.anomalies) == ("talking", 399, ())

    @pytest.mark.parametrize(
        "silent",
        [new(100), hangup(100, "203"), answer(100, "201"), hangup(100, "201", ELSEWHERE, login="Ada")],
        ids=["late", "stranger", "again", "filled"],
    )
    def test_events_without_effect_do_not_delay_the_end(self, silent: CallEvent) -> None:
        assert call(*TALK, silent, as_of=NEVER).ended_at == at(5 + 4 * 3600)

    def test_nor_is_a_cdr_which_ends_the_call_all_the_same(self) -> None:
        events = (new(0), ring(0, "201"), cdr(178))

        assert (call(*events, as_of=181).status, call(*events, as_of=181).ended_at) == ("stale", at(180))
        assert (call(*events, as_of=183).status, call(*events, as_of=183).ended_at) == ("ended", at(178))

    def test_while_the_call_talks_a_silent_attempt_is_released(self) -> None:
        events = (*TALK, ring(10, "202"))

        assert None is call(*events, as_of=189.999999).legs[1].ended_at
        made = call(*events, as_of=190)
        assert ("talking", "timeout", at(190), None) == (
            made.status,
            made.legs[1].result,
            made.legs[1].ended_at,
            made.legs[1].ring_s,
        )

    def test_an_attempt_ended_by_an_answer_keeps_that_end(self) -> None:
        made = call(new(0), ring(1, "202"), ring(1, "201"), answer(5, "201"), as_of=181)

        assert ("answered_elsewhere", at(5), 4) == (
            made.legs[0].result,
            made.legs[0].ended_at,
            made.legs[0].ring_s,
        )

    def test_a_released_attempt_may_still_be_answered(self) -> None:
        made = call(*TALK, ring(10, "202"), answer(300, "202"))

        assert made.legs[1].ring_s == 290

    def test_attempts_released_before_a_stale_call_keep_their_end(self) -> None:
        made = call(*TALK, ring(10, "202"), as_of=NEVER)

        assert [at(10 + 4 * 3600), at(190)] == [leg.ended_at for leg in made.legs]

    def test_a_monitor_without_an_answer_is_released_by_time_out(self) -> None:
        made = call(new(0), ring(1, "201"), ring(2, "20", **BARGE), answer(5, "201"), as_of=200)

        assert legs(made) == [("201", "agent", None), ("20", "monitor", "timeout")]
        assert made.legs[1].ended_at == at(182)


class TestRule14:
    def test_unknown_events_are_kept_and_change_nothing(self) -> None:
        made = call(event_at(EventType.UNKNOWN, 0, "7", from_="5", queue="q"), new(1), as_of=NEVER)

        assert (at(1), "new_call", FROM, (), at(3601)) == (
            made.started_at,
            made.started_at_source,
            made.from_,
            made.queues,
            made.ended_at,
        )
        assert (effects(made), made.anomalies) == (["none", "opened"], ("unknown_event", "end_inferred"))

    def test_events_of_agents_change_nothing(self) -> None:
        assert call(event_at(EventType.AGENT_LOGIN, 0, "201")).anomalies == ("no_new_call",)

    def test_a_call_of_unknown_events_alone_is_new_and_goes_stale(self) -> None:
        events = (event_at(EventType.UNKNOWN, 0),)

        assert ("new", at(0), "first_event") == (
            call(*events).status,
            call(*events).started_at,
            call(*events).started_at_source,
        )


class TestCaller:
    def test_the_first_party_of_an_outgoing_call_is_its_caller(self) -> None:
        made = call(new(0, **OUT), ring(1, "20", **OUT), ring(2, "202", **OUT))

        assert [leg.role for leg in made.legs] == ["caller", "agent"]

    def test_an_event_of_another_direction_names_no_caller(self) -> None:
        made = call(new(0, **OUT), ring(1, "202", direction=Direction.INCOMING_LOCAL), ring(2, "20", **OUT))

        assert [leg.role for leg in made.legs] == ["agent", "caller"]

    def test_an_event_without_direction_has_that_of_the_call(self) -> None:
        assert call(new(0, **OUT), ring(1, "20", direction=None)).legs[0].role == "caller"

    def test_new_call_may_name_the_caller(self) -> None:
        assert call(new(0, login="cervenka", **OUT), ring(1, "20", **OUT)).legs[0].role == "caller"

    def test_the_names_of_the_caller_are_kept(self) -> None:
        made = call(
            *(new(0, login="cervenka", **OUT), ring(1, "20", **OUT), hangup(2, "20", "User busy", **OUT)),
            ring(9, "20", login=None, **OUT),
        )

        assert [leg.role for leg in made.legs] == ["caller", "caller"]

    def test_a_transfer_names_no_caller(self) -> None:
        made = call(new(0, **OUT), transfer(1, "202", **OUT), ring(2, "20", **OUT))

        assert made.legs[0].role == "caller"

    def test_a_leg_from_before_the_direction_becomes_the_callers(self) -> None:
        made = call(ring(0, "20", direction=None), ring(1, "202", direction=None), hangup(9, "20", **OUT))

        assert legs(made) == [("20", "caller", "no_answer"), ("202", "agent", "no_answer")]
        assert made.status == "ended"

    def test_an_incoming_call_has_none(self) -> None:
        assert call(new(0), ring(1, "20", **OUT)).legs[0].role == "agent"

    def test_answered_by_is_in_the_order_of_getting_the_caller(self) -> None:
        made = call(new(0), ring(1, "201"), ring(2, "202"), answer(3, "202"), answer(8, "201"))

        assert [leg.line for leg in made.legs] == ["201", "202"]
        assert made.answered_by == ("202", "201")
        assert made.final_line == "201"


class TestOutcome:
    @pytest.mark.parametrize(
        ("direction", "outcome"),
        [
            (Direction.INCOMING, "missed"),
            (Direction.INCOMING_LOCAL, "missed"),
            (Direction.OUTGOING_LOCAL, "no_answer"),
            (None, "missed"),
            (Direction.OUTGOING, "no_answer"),
        ],
    )
    def test_unanswered_it_goes_by_direction(self, direction: Direction | None, outcome: str) -> None:
        assert outcome == call(new(0, direction=direction), hangup(5, direction=direction)).outcome

    @pytest.mark.parametrize(
        ("reason", "outcome"),
        [
            ("User busy", "busy"),
            ("Call Rejected", "rejected"),
            ("Destination out of order", "unreachable"),
            ("No route to destination", "failed"),
            ("Circuit/channel congestion", "failed"),
            ("No answer", "missed"),
            ("Normal Clearing", "missed"),
            ("Whatever", "missed"),
            (None, "missed"),
        ],
    )
    def test_the_hangup_that_ended_it_refines_it(self, reason: str | None, outcome: str) -> None:
        assert outcome == call(new(0), hangup(5, None, reason)).outcome

    def test_the_reason_of_a_leg_does_not(self) -> None:
        assert call(new(0), ring(1, "201"), hangup(3, "201", "User busy"), hangup(5)).outcome == "missed"

    def test_the_last_segment_counts_a_leg_rung_in_vain_after_a_talk(self) -> None:
        made = call(
            *TALK, hangup(9, "201"), ring(10, "202"), hangup(15, "202"), hangup(16, None, "User busy")
        )

        assert (made.outcome, made.last_segment_outcome) == ("answered", "busy")

    def test_it_is_not_known_while_the_call_is_open(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "202"))

        assert (made.outcome, made.last_segment_outcome) == ("answered", None)

    def test_a_leg_that_rang_along_before_the_answer_does_not_count(self) -> None:
        made = call(new(0), ring(1, "202"), ring(1, "201"), answer(2, "201"), hangup(5, "201"))

        assert made.last_segment_outcome == "answered"

    def test_a_leg_that_rang_before_a_take_over_does_not_count(self) -> None:
        made = call(*CONSULT, ring(13, "203"), hangup(14, "203"), transfer(15, "201"), hangup(20, "202"))

        assert made.last_segment_outcome == "answered"

    def test_a_consult_does_not_count(self) -> None:
        made = call(*TALK, ring(10, "202", from_="201"), hangup(11, "202"), hangup(15, "201"))

        assert made.last_segment_outcome == "answered"


class TestTimesAndTrust:
    def test_without_a_start_seen_nothing_is_counted_from_it(self) -> None:
        made = call(hangup(10, "201"), answer(20, "201"), hangup(30, "201"))

        assert (at(0), "unique_id", None, None, 10) == (
            made.started_at,
            made.started_at_source,
            made.wait_s,
            made.duration_s,
            made.talk_s,
        )

    def test_the_epoch_is_at_most_the_time_of_the_first_event(self) -> None:
        assert at(-5) == call(hangup(-5)).started_at

    def test_without_an_epoch_no_start_is_known(self) -> None:
        made = call(hangup(5)._replace(pbx_started_us=None))

        assert (made.started_at, made.started_at_source, made.pbx_started_at) == (None, None, None)

    def test_clock_skew_is_an_epoch_over_60_s_after_the_first_event(self) -> None:
        assert "clock_skew" not in call(new(-60)).anomalies
        assert call(new(-60.000001)).anomalies == ("clock_skew",)
        assert call(new(0)._replace(pbx_started_us=None)).anomalies == ()

    def test_without_new_call_it_is_partial(self) -> None:
        made = call(ring(0, "201"), answer(1, "201"), hangup(2, "201"))

        assert (
            made.anomalies,
            made.quality,
            made.started_at_source,
            made.duration_s,
        ) == (("no_new_call",), "partial", "first_event", 2)

    def test_a_new_call_after_the_end_leaves_it_partial(self) -> None:
        assert call(hangup(0), new(1)).quality == "partial"

    def test_an_unknown_reason_is_an_anomaly(self) -> None:
        assert call(new(0), hangup(5, None, "Něco")).anomalies == ("unknown_reason",)

    def test_talk_is_a_union(self) -> None:
        made = call(*TALK, answer(6, "202"), hangup(20, "201"), hangup(25, "202"))

        assert (made.talk_s, made.duration_s) == (20, 25)

    def test_rings_are_a_union(self) -> None:
        made = call(new(0), ring(1, "201"), ring(2, "202"), hangup(5, "201"), ring(9, "203"), hangup(10))

        assert (made.ring_s, made.first_ring_at) == (9, at(1))

    def test_a_call_never_answered_has_no_talk(self) -> None:
        made = call(new(0), hangup(5))

        assert (made.talk_s, made.ring_s, made.consult_s, made.wait_s) == (0, 0, 0, None)

    def test_while_it_talks_the_length_is_not_known(self) -> None:
        assert (call(*TALK).talk_s, call(*TALK).duration_s) == (None, None)

    def test_what_is_complete_of_a_talk_is_known(self) -> None:
        assert call(*TALK, ring(20, "202"), answer(25, "202")).talk_s == 15

    def test_e164_goes_with_its_number(self) -> None:
        made = call(
            new(0, from_e164="+420600000001"), ring(1, "201", from_="x", from_e164="+1", to_e164="+2")
        )

        assert (made.from_e164, made.to_e164) == ("+420600000001", None)

    def test_only_500_events_are_listed_but_all_are_folded(self) -> None:
        made = call(*(ring(5 * number, "201") for number in range(502)), hangup(9999))

        assert (
            len(made.events),
            made.events_dropped,
            len(made.legs),
            made.status,
        ) == (500, 3, 502, "ended")

    def test_a_conversation_is_one_call(self) -> None:
        made = call(new(0))

        assert (made.conversation_id, made.call_ids, made.links) == (CALL_ID, (CALL_ID,), ())
        assert made.events_dropped == 0

    def test_transfers_are_in_the_order_of_time(self) -> None:
        made = call(
            *TALK, ring(10, "203"), ring(12, "202", from_="201"), cancel(14, "201"), answer(16, "203")
        )

        assert [each.kind for each in made.transfers] == ["handover_inferred", "cancelled"]

    def test_a_call_without_events_is_none(self) -> None:
        assert timeline("voipex", CALL_ID, [new(5)], BASE_US) is None

    def test_nothing_ends_by_a_cdr_that_never_came(self) -> None:
        from consumers.calls.ending import cdr_deadline_us, end_by_cdr

        quiet = Call()
        end_by_cdr(quiet)

        assert (quiet.ended_us, cdr_deadline_us(quiet)) == (None, 0)


def test_reason_classes_of_results_are_all_known() -> None:
    """Every reason class has a result; a class that says nothing about the attempt gives no_answer."""
    from consumers.calls.legs import RESULTS

    assert {ReasonClass.NORMAL, ReasonClass.NO_ANSWER, ReasonClass.OTHER} == set(ReasonClass) - set(RESULTS)
