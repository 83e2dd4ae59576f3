"""Counters count calls and rounds, not devices (consumers/agents/rounds.py)."""

from collections import Counter
from typing import Any

import orjson

from tests.unit.consumers.agent_traffic import (
    DAY,
    HOUR,
    MONDAY,
    PRAGUE,
    SECOND,
    Record,
    folded,
    leg,
    status,
    statuses,
)
from voipex.timestamps import format_rfc3339

T = MONDAY
TODAY = "2026-03-02"
Json = dict[str, Any]


def ring(number: int, begin: int, end: int | None, result: str | None = None, **more: Any) -> Record:
    """An attempt that nobody answered, begun and ended so many seconds after T."""
    ended = None if end is None else T + end * SECOND
    more = {"line": str(200 + number), "queue": "A", **more}
    return leg("1.1", number, ring=T + begin * SECOND, ended=ended, result=result, **more)


def talk(number: int, begin: int, answer: int, end: int | None, **more: Any) -> Record:
    ended = None if end is None else T + end * SECOND
    times: Json = {"ring": T + begin * SECOND, "answered": T + answer * SECOND, "ended": ended}
    more = {"line": str(200 + number), "queue": "A", "result": ended and "completed", **more}
    return leg("1.1", number, **times, **more)


def today(*records: Record, as_of: int = T + HOUR) -> Json:
    fields: Json = status(*records, as_of=as_of)["days"].get(TODAY, Counter())
    return fields


def in_queue(name: str, *records: Record) -> Json:
    fields: Json = status(*records, as_of=T + HOUR)["queue_days"][name][TODAY]
    return fields


class TestAttemptsThatOverlap:
    def test_two_phones_of_one_agent_miss_one_ring(self) -> None:
        records = ring(1, 0, 20, "no_answer"), ring(2, 1, 20, "no_answer")
        assert today(*records)["missed_rings"] == 1
        assert in_queue("A", *records)["missed_rings"] == 1

    def test_attempts_one_after_the_other_are_two_rounds(self) -> None:
        assert today(ring(1, 0, 20, "no_answer"), ring(2, 20, 40, "no_answer"))["missed_rings"] == 2

    def test_a_phone_that_rings_again_begins_a_round(self) -> None:
        again = ring(3, 10, 30, "no_answer", line="201")
        records = ring(1, 0, 10, "no_answer"), ring(2, 0, 60, "no_answer"), again
        assert today(*records)["missed_rings"] == 2

    def test_two_phones_without_a_line_that_ring_at_once_overlap(self) -> None:
        records = ring(1, 0, 5, "answered_elsewhere", line=None), talk(2, 1, 5, 60, line=None)
        assert (today(*records)["answered_in"], today(*records)["answered_elsewhere"]) == (1, 0)

    def test_a_phone_without_a_line_rings_again_too(self) -> None:
        records = ring(1, 0, 5, "no_answer", line=None), ring(3, 0, 30, "no_answer")
        assert today(*records, ring(2, 10, 20, "no_answer", line=None))["missed_rings"] == 2

    def test_attempts_of_two_calls_are_two_rounds(self) -> None:
        other = leg("1.2", 1, ring=T, ended=T + 20 * SECOND, result="busy", line="202")
        assert today(ring(1, 0, 20, "no_answer"), other)["missed_rings"] == 2

    def test_an_attempt_of_no_length_belongs_to_the_one_begun_then(self) -> None:
        assert today(ring(1, 0, 0, "busy"), ring(2, 0, 20, "no_answer"))["missed_rings"] == 1

    def test_a_talk_belongs_to_its_attempt(self) -> None:
        records = talk(1, 0, 5, 60), ring(2, 30, 40, "no_answer")
        assert (today(*records)["answered_in"], today(*records)["missed_rings"]) == (1, 0)

    def test_attempts_over_each_other_in_a_chain_are_one_round(self) -> None:
        records = ring(1, 0, 10, "busy"), ring(2, 5, 20, "busy"), ring(3, 15, 30, "busy")
        assert today(*records)["missed_rings"] == 1


class TestRoundWithTheCaller:
    def test_it_counts_once_when_two_phones_got_him(self) -> None:
        assert today(talk(1, 0, 5, 60), talk(2, 1, 30, 90))["answered_in"] == 1

    def test_it_counts_at_once(self) -> None:
        assert today(talk(1, 0, 5, None), ring(2, 0, None), as_of=T + 5 * SECOND)["answered_in"] == 1

    def test_the_other_phone_is_neither_missed_nor_elsewhere(self) -> None:
        fields = today(talk(1, 0, 5, 60), ring(2, 0, 5, "answered_elsewhere"))
        assert (fields["answered_in"], fields["missed_rings"], fields["answered_elsewhere"]) == (1, 0, 0)

    def test_its_queue_is_that_of_the_phone_that_got_him(self) -> None:
        records = ring(1, 0, 5, "answered_elsewhere", queue="B"), talk(2, 0, 5, 65)
        assert in_queue("A", *records)["answered"] == 1
        assert "B" not in status(*records, as_of=T + HOUR)["queue_days"]

    def test_without_a_queue_there_it_is_the_first_that_has_one(self) -> None:
        records = ring(1, 0, 5, "answered_elsewhere"), talk(2, 0, 5, 65, queue=None)
        fields = in_queue("A", *records)
        assert (fields["answered"], fields["talk_s"]) == (1, 60)

    def test_it_counts_on_the_day_of_the_answer(self) -> None:
        record = leg(ring=T, answered=T + SECOND, ended=T + DAY, result="completed")
        days = status(record, as_of=T + DAY)["days"]
        assert (days["2026-03-02"]["answered_in"], days["2026-03-03"]["answered_in"]) == (1, 0)

    def test_talk_of_two_phones_at_once_passes_once(self) -> None:
        assert today(talk(1, 0, 10, 60), talk(2, 0, 30, 90))["talk_s"] == 80


class TestRoundInVain:
    def test_it_counts_once_all_its_attempts_have_ended(self) -> None:
        records = ring(1, 0, 20, "no_answer"), ring(2, 0, None)
        assert today(*records, as_of=T + 30 * SECOND)["missed_rings"] == 0

    def test_missed_goes_before_answered_elsewhere(self) -> None:
        fields = today(ring(1, 0, 5, "busy"), ring(2, 0, 20, "answered_elsewhere"))
        assert (fields["missed_rings"], fields["answered_elsewhere"]) == (1, 0)

    def test_answered_elsewhere_on_two_phones_counts_once(self) -> None:
        records = ring(1, 0, 20, "answered_elsewhere"), ring(2, 0, 20, "answered_elsewhere")
        assert today(*records)["answered_elsewhere"] == 1

    def test_other_results_count_for_nothing(self) -> None:
        for result in ("cancelled", "unreachable", "failed", "timeout"):
            fields = today(ring(1, 0, 20, result), ring(2, 0, 1, "cancelled"))
            assert (fields["missed_rings"], fields["answered_elsewhere"]) == (0, 0)

    def test_it_counts_on_the_day_of_its_last_end(self) -> None:
        first = leg("1.1", 1, line="201", ring=T, ended=T + SECOND, result="busy")
        last = leg("1.1", 2, line="202", ring=T, ended=T + DAY, result="cancelled")
        days = status(first, last, as_of=T + DAY)["days"]
        assert (days["2026-03-02"]["missed_rings"], days["2026-03-03"]["missed_rings"]) == (0, 1)

    def test_consults_are_no_rounds(self) -> None:
        assert today(ring(1, 0, 20, "no_answer", role="consult"))["missed_rings"] == 0


class TestCallsMade:
    def test_two_attempts_in_one_call_are_one_answered_call(self) -> None:
        records = talk(1, 0, 5, 20, role="caller"), talk(2, 60, 65, 80, role="caller")
        assert (today(*records)["answered_out"], today(*records)["unanswered_out"]) == (1, 0)

    def test_unanswered_only_once_all_attempts_ended(self) -> None:
        first, open_one = ring(1, 0, 20, "busy", role="caller"), ring(2, 60, None, role="caller")
        ended = ring(2, 60, 90, "busy", role="caller", revision=2)
        assert today(first, as_of=T + 30 * SECOND)["unanswered_out"] == 1
        assert today(first, open_one, as_of=T + 70 * SECOND)["unanswered_out"] == 0
        assert today(first, open_one, ended)["unanswered_out"] == 1

    def test_an_attempt_an_hour_later_takes_the_unanswered_back(self) -> None:
        """The first one is over and put away by then."""
        first, second = ring(1, 0, 20, "busy", role="caller"), talk(2, 3600, 3605, 3620, role="caller")
        state, _ = PRAGUE.emit(folded(first), T + HOUR)
        _, produced = PRAGUE.emit(PRAGUE.fold(state, second.kind, second.value), T + 2 * HOUR)
        fields = orjson.loads(statuses(produced)[0].value or b"")["days"][TODAY]

        assert (fields["answered_out"], fields["unanswered_out"]) == (1, 0)

    def test_a_time_out_is_not_unanswered(self) -> None:
        records = ring(1, 0, 20, "busy", role="caller"), ring(2, 60, 90, "timeout", role="caller")
        assert today(*records)["unanswered_out"] == 0

    def test_an_attempt_that_failed_before_it_rang_counts(self) -> None:
        record = leg(role="caller", ended=T, result="failed")
        assert today(record)["unanswered_out"] == 1

    def test_calls_made_count_in_no_queue(self) -> None:
        assert status(talk(1, 0, 5, 20, role="caller"), as_of=T + HOUR)["queue_days"] == {}


class TestCallerOfALocalCall:
    def test_his_own_answer_is_no_answer_before_the_other_party(self) -> None:
        record = leg(role="caller", ring=T, answered=T + SECOND, talk_started_at=None)
        fields = today(record, as_of=T + 9 * SECOND)
        assert (fields["answered_out"], fields["talk_s"]) == (0, 0)

    def test_he_talks_from_the_answer_of_the_other_party(self) -> None:
        answer = format_rfc3339(T + 6 * SECOND)
        record = leg(role="caller", ring=T, ended=T + 66 * SECOND, talk_started_at=answer, result="completed")
        assert (today(record)["answered_out"], today(record)["talk_s"]) == (1, 60)

    def test_he_is_on_the_call_from_its_ring(self) -> None:
        record = leg(role="caller", ring=T, answered=T + SECOND, talk=T + 6 * SECOND)
        shown = status(record, as_of=T + 9 * SECOND)
        assert shown["activity"] == "on_call_out"
        assert shown["current_calls"][0]["since"] == format_rfc3339(T)

    def test_who_lost_all_events_but_the_hangup_talked_all_the_same(self) -> None:
        end = T + 66 * SECOND
        record = leg(role="caller", ended=end, last=end, talk=T + 6 * SECOND, result="completed")
        assert (today(record)["answered_out"], today(record)["talk_s"]) == (1, 60)


class TestTransfers:
    def test_each_caller_given_away_counts(self) -> None:
        first = talk(1, 0, 5, 20, result="transferred", transferred=T + 20 * SECOND)
        again = talk(2, 60, 65, 80, transferred=T + 80 * SECOND)
        assert today(first, again)["transfers"] == 2

    def test_the_callers_own_leg_counts_too(self) -> None:
        record = talk(1, 0, 5, 20, role="caller", transferred=T + 20 * SECOND)
        assert today(record)["transfers"] == 1

    def test_a_consult_gives_nobody_away(self) -> None:
        record = talk(1, 0, 5, 20, role="consult", transferred=T + 20 * SECOND)
        assert today(record)["transfers"] == 0
