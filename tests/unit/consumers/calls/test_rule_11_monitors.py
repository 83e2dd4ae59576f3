"""Rule 11: monitors."""

from typing import Any

import pytest

from tests.calls import (
    BARGE,
    FROM,
    TALK,
    answer,
    at,
    call,
    cdr,
    effects,
    hangup,
    legs,
    new,
    ring,
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
