"""current_calls and ringing_calls: each call once, in one of them (consumers/agents/projection.py)."""

from typing import Any

from tests.unit.consumers.agent_traffic import MONDAY, SECOND, Record, leg, status

T = MONDAY


def calls(*records: Record) -> tuple[list[Any], list[Any]]:
    fields = status(*records, as_of=T + 60 * SECOND)
    return (
        [call["call_id"] for call in fields["current_calls"]],
        [call["call_id"] for call in fields["ringing_calls"]],
    )


class TestOneCallOfTwoPhones:
    def test_a_call_that_rings_and_is_talked_in_is_current(self) -> None:
        records = leg("1.1", 1, line="201", ring=T), leg("1.1", 2, line="202", ring=T, answered=T + SECOND)
        assert calls(*records) == (["1.1"], [])

    def test_a_call_that_rings_twice_is_listed_once_since_the_first(self) -> None:
        records = leg("1.1", 1, line="201", ring=T + SECOND), leg("1.1", 2, line="202", ring=T, queue="B")
        fields = status(*records, as_of=T + 2 * SECOND)
        assert [call["queue"] for call in fields["ringing_calls"]] == ["B"]

    def test_a_talk_goes_before_listening_in(self) -> None:
        records = leg("1.1", 1, role="monitor", answered=T), leg("1.1", 2, answered=T + SECOND, queue="B")
        fields = status(*records, as_of=T + 2 * SECOND)
        assert [call["queue"] for call in fields["current_calls"]] == ["B"]


class TestOrder:
    def test_by_beginning_then_by_number_of_the_call(self) -> None:
        records = leg("5.10", ring=T), leg("5.9", ring=T), leg("5.1", ring=T + SECOND)
        assert calls(*records) == ([], ["5.9", "5.10", "5.1"])

    def test_the_activity_is_that_of_the_call_begun_last(self) -> None:
        incoming, outgoing = leg("5.9", answered=T), leg("5.10", role="caller", ring=T)
        assert status(incoming, outgoing, as_of=T)["activity"] == "on_call_out"
