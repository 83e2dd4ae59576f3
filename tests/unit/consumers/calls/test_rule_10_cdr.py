"""Rule 10: CDR."""

import pytest

from consumers.calls.events import CallEvent
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
    new,
    only,
    ring,
    transfer,
)


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
        ) == ("completed", ("ended_at",), "estimated")
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

    def test_another_hangup_after_the_grace_gives_no_reason(self) -> None:
        made = call(new(0), ring(1, "201"), cdr(30), hangup(40, "201", "User busy"))

        assert (made.outcome, only(made).result) == ("missed", "busy")

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

    def test_the_first_cdr_since_the_call_went_on_counts(self) -> None:
        made = call(*TALK, cdr(60), cdr(64), as_of=65)
        assert (made.ended_at, made.cdr_at) == (at(60), at(64))

        made = call(*TALK, cdr(60), ring(62, "202"), cdr(64), as_of=70)
        assert made.ended_at == at(64)

    def test_a_later_hangup_of_nobody_moves_consultations_too(self) -> None:
        asked = (*TALK, ring(10, "202", from_="201"))
        made = call(*asked, answer(12, "202", from_="201"), cdr(20), hangup(21))
        assert [(leg.result, leg.ended_at, leg.consult_s) for leg in made.legs] == [
            ("completed", at(21), 9),
            ("completed", at(21), 9),
        ]

        made = call(*asked, cdr(20), hangup(21))
        assert [(leg.result, leg.ended_at, leg.consult_s) for leg in made.legs] == [
            ("completed", at(21), None),
            ("no_answer", at(21), None),
        ]

    def test_a_cdr_before_a_reopening_ends_nothing(self) -> None:
        assert call(*TALK, hangup(9, "201"), cdr(10), ring(12, "202"), as_of=60).ended_at is None
