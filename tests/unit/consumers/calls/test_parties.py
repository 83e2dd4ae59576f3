"""Parties of a call, and the events that only open it or change nothing: rules 1, 2 and 14."""

import pytest

from tests.calls import (
    FROM,
    NEVER,
    OUT,
    answer,
    at,
    call,
    effects,
    event_at,
    hangup,
    legs,
    new,
    only,
    ring,
    transfer,
)
from voipex.events import Direction, EventType


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
