"""Rule 12: stale calls and released attempts."""

import pytest

from consumers.calls.events import CallEvent
from tests.calls import (
    BARGE,
    CONSULT,
    ELSEWHERE,
    NEVER,
    TALK,
    answer,
    at,
    call,
    cdr,
    hangup,
    legs,
    new,
    only,
    ring,
)


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
