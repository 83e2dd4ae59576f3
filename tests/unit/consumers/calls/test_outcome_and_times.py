"""Outcome, start, durations and anomalies of a call."""

import pytest

from consumers.calls.call import Call
from consumers.calls.projection import timeline
from tests.call_strategies import BASE_US, CALL_ID
from tests.calls import CONSULT, TALK, answer, at, call, cancel, hangup, new, ring, transfer
from voipex.events import Direction, ReasonClass


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
