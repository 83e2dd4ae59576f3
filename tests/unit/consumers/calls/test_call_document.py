"""The document: who answered, how the last segment came out, how far to trust it; records of agents."""

from typing import Any

import orjson
import pytest

from consumers.calls.events import CallEvent
from consumers.calls.projection import CallProjection
from tests.call_strategies import CALL_ID
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
    hangup,
    new,
    ring,
    transfer,
)
from voipex.events import Direction
from voipex.topics import AGENT_ACTIVITY

IN_LOCAL = {"direction": Direction.INCOMING_LOCAL}
INTERNAL = (
    new(0, from_="20", **LOCAL),
    ring(0.1, "20", from_="20", **LOCAL),
    ring(0.2, "202", from_="20", **IN_LOCAL),
)
TRANSFERRED = (*CONSULT, transfer(15, "201"), hangup(15.1, "201"), hangup(60, "202"), hangup(60.1))
BOTH = (*INTERNAL, answer(6, "202", **IN_LOCAL), answer(6.1, "20", **LOCAL))


def records(*events: CallEvent) -> list[dict[str, Any]]:
    projection = CallProjection()
    state = projection.initial_state("voipex", CALL_ID)
    for number, event in enumerate(events):
        state = projection.take(state, event._replace(event_id=f"{number:04d}"))
    _, documents = projection.emit(state, max(event.at_us for event in events))
    return [orjson.loads(each.value or b"") for each in documents if each.kind == AGENT_ACTIVITY]


class TestDirection:
    def test_the_callers_view_of_a_local_call_replaces_the_other(self) -> None:
        made = call(ring(0, "202", **IN_LOCAL), ring(1, "20", **LOCAL))

        assert (made.direction, [leg.role for leg in made.legs]) == ("outgoing_local", ["agent", "caller"])

    def test_no_other_direction_is_replaced(self) -> None:
        assert call(new(0), ring(1, "20", **LOCAL)).direction == "incoming"


class TestWhoAnswered:
    def test_of_a_local_call_the_other_party(self) -> None:
        made = call(*BOTH, hangup(60, "202", **IN_LOCAL), hangup(60.1, "20", **LOCAL))

        assert (made.answered_by, made.final_line, made.final_login) == (("202",), "202", "bob")
        assert (made.wait_s, made.talk_s, made.quality) == (6, 54, "exact")

    def test_its_caller_while_no_other_party_has_a_leg(self) -> None:
        made = call(*INTERNAL[:2], answer(3, "20", **LOCAL), hangup(9, "20", **LOCAL))

        assert (made.answered_by, made.quality) == (("20",), "estimated")

    def test_the_final_line_is_the_one_left_last(self) -> None:
        both = (new(0), ring(1, "201"), ring(1, "202"), answer(5, "201"), answer(6, "202"))

        assert call(*both, hangup(20, "202"), hangup(30, "201")).final_line == "201"
        assert call(*both).final_line == "202"


class TestLastSegment:
    def test_rung_in_vain_after_the_last_talk(self) -> None:
        made = call(*TALK, hangup(9, "201"), ring(10, "202"), hangup(25, "202", NO_RESPONSE), hangup(26))

        assert made.last_segment_outcome == "missed"

    def test_an_attempt_that_ended_during_a_talk_does_not_count(self) -> None:
        made = call(*TALK, ring(10, "202"), hangup(20, "202", NO_RESPONSE), hangup(30, "201"))

        assert made.last_segment_outcome == "answered"

    def test_nor_a_loser_of_a_round_that_was_answered(self) -> None:
        made = call(
            *(new(0), ring(1, "201"), ring(1, "202"), answer(3, "201"), hangup(4, "201")),
            *(hangup(4.5, "202", ELSEWHERE), hangup(5)),
        )

        assert made.last_segment_outcome == "answered"


class TestQuality:
    @pytest.mark.parametrize(
        "events",
        [
            (new(0), answer(1, None), ring(2, "201"), answer(5, "201"), hangup(9, "201")),
            (new(0), ring(1, "201"), hangup(91.000001, "201"), hangup(92)),
            (new(0, **OUT), hangup(90.000001, "20", **OUT)),
            (*TALK, ring(9, "202"), hangup(12, "202", NO_RESPONSE), hangup(20, "201")),
            (*TALK, hangup(9, "201"), hangup(24), cdr(24.5), answer(25.000001, "201")),
            (*TALK, hangup(9, "201"), cdr(30), hangup(40)),
            (new(0), ring(1, "201"), hangup(2, "201", BUSY), hangup(3, "201", BUSY), hangup(9)),
            (
                new(0),
                ring(1, "201"),
                hangup(2, "201", BUSY),
                ring(4, "201"),
                answer(9, "201"),
                hangup(20, "201"),
            ),
            (*TALK, hangup(9, "203"), ring(9.1, "203"), hangup(12, "203", NO_RESPONSE), hangup(20)),
            (*TALK, answer(9, "202"), hangup(12, "202"), hangup(20, "201")),
            (*TALK, answer(9, "202"), ring(9.4, "202"), hangup(12, "202"), hangup(20, "201")),
            (*TALK, hangup(9, "201"), answer(28, "201"), hangup(40, "201")),
            (
                *(new(0, **OUT), answer(1, "20", **OUT), ring(2, "20", **OUT)),
                *(answer(5, "20", **OUT), hangup(9, "20", **OUT)),
            ),
            (new(0), hangup(5, "201"), answer(40, "201"), hangup(60, "201")),
            (*TALK, hangup(9, "203"), ring(9.1, "203", **BARGE)),
            (*TALK, hangup(9, "201"), hangup(60)),
            (
                *(new(0), hangup(17, "201", NO_RESPONSE), ring(17.4, "201"), ring(26, "201")),
                *(answer(32, "201"), hangup(60, "201"), hangup(60.1)),
            ),
            (*TRANSFERRED, transfer(61, "202")),
        ],
        ids=[
            "an Answered of nobody",
            "90 s and then normal",
            "never rang, 90 s after the start",
            "an attempt during a talk",
            "a late Answered that no leg shows",
            "a CDR before the Hangup of a caller who waited",
            "a device reason twice within 2 s",
            "a Ringing in the round that a device has ended",
            "a leg after an empty Hangup",
            "a pickup while others talk",
            "a pickup while others talk, its Ringing late",
            "a pickup after a Hangup of the line",
            "a further Answered of the caller",
            "a pickup after an empty Hangup",
            "a monitor after an empty Hangup",
            "an end that moved",
            "a late Ringing that no leg shows",
            "a late AttendedTransfer that no transfer shows",
        ],
    )
    def test_a_doubt_is_no_exact_document(self, events: tuple[CallEvent, ...]) -> None:
        assert call(*events).quality == "estimated"

    @pytest.mark.parametrize(
        "events",
        [
            (*TALK, hangup(20, "201"), hangup(20.1)),
            (new(0), ring(1, "201"), hangup(91, "201"), hangup(92)),
            (new(0), ring(1, "201"), ring(2, "202"), answer(3, "201"), hangup(3.1, "202", ELSEWHERE)),
            (*TALK, ring(7.9, "202"), hangup(12, "202", NO_RESPONSE), hangup(20, "201")),
            (*CONSULT, transfer(15, "201"), hangup(15.1, "201"), hangup(60, "202")),
            (new(0, **OUT), ring(1, "20", **OUT), hangup(12, "20", BUSY, **OUT)),
            (new(0), answer(5, "201"), ring(5.4, "201"), hangup(60, "201")),
            (*TALK, hangup(20, "201"), hangup(20.1), answer(25, "201")),
            (
                *(new(0), ring(1, "201"), hangup(2, "201", BUSY), ring(4.000001, "201")),
                *(answer(9, "201"), hangup(20, "201")),
            ),
            (
                *(new(0), ring(1, "201"), hangup(2, "201", NO_RESPONSE), ring(2.5, "201")),
                *(answer(9, "201"), hangup(20, "201")),
            ),
        ],
    )
    def test_all_reported_it_is_exact(self, events: tuple[CallEvent, ...]) -> None:
        assert call(*events).quality == "exact"

    @pytest.mark.parametrize(("late_s", "quality"), [(18, "exact"), (23, "exact"), (23.000001, "estimated")])
    def test_a_late_ringing_is_that_of_a_leg_for_20_s(self, late_s: float, quality: str) -> None:
        made = call(
            *(new(0), ring(3, "201"), hangup(10, "201", NO_RESPONSE), hangup(17), ring(late_s, "201"))
        )

        assert (made.quality, made.anomalies) == (quality, ("late_event",))

    def test_answered_elsewhere_is_no_hangup_without_leg(self) -> None:
        assert call(new(0), hangup(5, "201", ELSEWHERE)).anomalies == ()


class TestTime:
    def test_an_undecided_answer_talks_for_4_h(self) -> None:
        made = call(new(0), ring(1, "201"), ring(1, "202"), answer(5, None), as_of=4 * 3600 + 4)
        assert made.status == "talking"

        made = call(new(0), ring(1, "201"), ring(1, "202"), answer(5, None), as_of=NEVER)
        assert (made.status, made.ended_at) == ("stale", at(4 * 3600 + 5))


class TestActivity:
    def test_a_local_caller_talks_since_the_other_party_answered(self) -> None:
        made = records(*BOTH[:3], answer(3, "20", **LOCAL), answer(6, "202", **IN_LOCAL))

        assert [(each["role"], each["talk_started_at"]) for each in made] == [
            ("caller", at(6)),
            ("agent", at(6)),
        ]

    def test_each_record_says_when_the_call_was_answered(self) -> None:
        made = records(*TALK, ring(9, "202"))

        assert [each["call_answered_at"] for each in made] == [at(5), at(5)]
        assert [each["inferred"] for each in made] == [[], []]

    def test_lines_that_ring_for_the_caller_have_its_number(self) -> None:
        made = records(
            *(new(0, **OUT), ring(1, "20", **OUT), answer(2, "20", **OUT)),
            *(ring(4, "202", from_="20"), ring(4, "203", from_="20"), transfer(6, "20")),
        )

        assert [each["number"] for each in made] == ["222333444"] * 3
