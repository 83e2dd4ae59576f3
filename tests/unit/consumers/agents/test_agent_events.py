"""Agent events that come swapped, end another login or got lost (consumers/agents/swapped.py, presence.py)."""

from typing import Any

import orjson
import pytest

from tests.unit.consumers.agent_traffic import (
    HOUR,
    MONDAY,
    PRAGUE,
    SECOND,
    Record,
    event,
    folded,
    leg,
    status,
    statuses,
)
from voipex.timestamps import format_rfc3339

T = MONDAY
LATER = T + HOUR
Json = dict[str, Any]


def after(seconds: float, name: str, queue: str | None = "A", **more: Any) -> Record:
    return event(T + round(seconds * SECOND), name, queue, **more)


def shown(*records: Record, as_of: int = LATER) -> Json:
    return status(*records, as_of=as_of)


class TestPauseJustBeforeItsLogin:
    OUT = (event(T - 2 * HOUR, "login", "A"), event(T - HOUR, "logout", "A"))

    def test_it_is_read_at_the_login(self) -> None:
        fields = shown(*self.OUT, after(0, "paused", pause_name="Oběd"), after(0.15, "login"))
        assert (fields["state"], fields["pause_name"]) == ("paused", "Oběd")
        assert fields["queues"]["A"]["paused_since"] == format_rfc3339(T + 150_000)
        assert fields["queues"]["A"]["inferred"] is False

    @pytest.mark.parametrize(("seconds", "state"), [(2, "paused"), (2.000001, "available")])
    def test_it_may_be_two_seconds_early(self, seconds: float, state: str) -> None:
        assert shown(*self.OUT, after(0, "paused"), after(seconds, "login"))["state"] == state

    def test_of_several_logins_it_is_read_after_the_last(self) -> None:
        fields = shown(*self.OUT, after(0, "paused"), after(1, "login"), after(2, "login"))
        assert fields["queues"]["A"]["paused_since"] == format_rfc3339(T + 2 * SECOND)

    def test_a_login_of_all_queues_is_one_too(self) -> None:
        assert shown(*self.OUT, after(0, "paused"), after(1, "login", None))["state"] == "paused"

    def test_a_pause_of_all_queues_belongs_to_any_login(self) -> None:
        assert shown(*self.OUT, after(0, "paused", None), after(1, "login"))["state"] == "paused"

    def test_a_login_of_another_queue_is_none(self) -> None:
        assert shown(*self.OUT, after(0, "paused"), after(1, "login", "B"))["state"] == "available"

    def test_an_unpause_between_keeps_it_where_it_is(self) -> None:
        events = after(0, "paused"), after(0.5, "unpaused"), after(1, "login")
        assert shown(*self.OUT, *events)["state"] == "available"

    def test_an_unpause_of_another_queue_between_does_not(self) -> None:
        events = after(0, "paused"), after(0.5, "unpaused", "B"), after(1, "login")
        assert shown(*self.OUT, *events)["state"] == "paused"

    def test_an_unpause_after_the_login_ends_it(self) -> None:
        events = after(0, "paused"), after(1, "login"), after(1.5, "unpaused")
        assert shown(*self.OUT, *events)["state"] == "available"

    def test_a_late_unpause_between_takes_it_back_to_its_moment(self) -> None:
        """The login is known ahead of the last document, which left the pause out; then the unpause before it arrives."""
        state = folded(after(0, "paused"), after(1.5, "login"))
        state, _ = PRAGUE.emit(state, T + SECOND)
        unpaused = after(1.2, "unpaused")
        state, _ = PRAGUE.emit(PRAGUE.fold(state, unpaused.kind, unpaused.value), T + SECOND)
        state.digest = 0
        fields = orjson.loads(statuses(PRAGUE.emit(state, LATER)[1])[0].value or b"")
        assert fields["days"]["2026-03-02"]["paused_s"] == 1.2


class TestLogoutOfAnotherLine:
    def test_the_new_phone_stays_logged_in(self) -> None:
        events = (
            after(0, "login", line="201"),
            after(60, "login", line="202"),
            after(90, "logout", line="201"),
        )
        fields = shown(*events)
        assert (fields["state"], fields["line"]) == ("available", "202")
        assert fields["queues"]["A"]["since"] == format_rfc3339(T)
        assert fields["last_event_at"] == format_rfc3339(T + 90 * SECOND)

    def test_the_line_of_the_last_login_logs_out(self) -> None:
        events = (
            after(0, "login", line="201"),
            after(60, "login", line="202"),
            after(90, "logout", line="202"),
        )
        assert shown(*events)["state"] == "offline"

    def test_the_login_that_names_its_queue_tells_the_line(self) -> None:
        events = after(0, "login", None, line="201"), after(60, "login", "A", line="202")
        assert shown(*events, after(90, "logout", line="202"))["state"] == "offline"
        assert shown(*events, after(90, "logout", line="201"))["state"] == "available"

    @pytest.mark.parametrize(("login", "logout"), [(None, "201"), ("201", None)])
    def test_both_lines_must_be_known(self, login: str | None, logout: str | None) -> None:
        assert shown(after(0, "login", line=login), after(60, "logout", line=logout))["state"] == "offline"

    def test_it_ends_no_pause(self) -> None:
        events = after(0, "login", line="202"), after(5, "paused"), after(60, "logout", line="201")
        assert shown(*events)["state"] == "paused"

    def test_of_all_queues_each_is_for_itself(self) -> None:
        events = after(0, "login", "A", line="201"), after(1, "login", "B", line="202")
        fields = shown(*events, after(60, "logout", None, line="201"))
        assert list(fields["queues"]) == ["B"]

    def test_of_all_queues_it_may_concern_none(self) -> None:
        fields = shown(after(0, "login", line="202"), after(60, "logout", None, line="201"))
        assert (fields["state"], fields["line"]) == ("available", "202")

    def test_a_login_of_all_queues_names_the_line_of_each(self) -> None:
        events = after(0, "login", "A", line="201"), after(9, "login", None, line="202")
        assert shown(*events, after(60, "logout", line="201"))["state"] == "available"


class TestLostUnpause:
    PAUSED = (event(T, "login", "A", event_id="0"), event(T, "paused", "A", event_id="1", pause_name="Oběd"))

    def ring(self, seconds: float, queue: str = "A", **more: Any) -> Record:
        begin = T + round(seconds * SECOND)
        return leg(ring=begin, ended=begin + SECOND, result="no_answer", queue=queue, **more)

    def test_a_ring_of_the_queue_ends_the_pause(self) -> None:
        fields = shown(*self.PAUSED, self.ring(60))
        assert fields["state"] == "available"
        assert fields["queues"]["A"]["inferred"] is True
        assert fields["queues"]["A"]["paused"] is False
        assert fields["days"]["2026-03-02"]["paused_s"] == 60

    def test_an_answer_of_its_call_that_comes_late_keeps_the_pause(self) -> None:
        """A call that somebody had answered before the ring says nothing of the pause."""
        state, _ = PRAGUE.emit(folded(*self.PAUSED, self.ring(60)), T + 62 * SECOND)
        answered = self.ring(60, revision=2, call_answered_at=format_rfc3339(T + 50 * SECOND))
        _, produced = PRAGUE.emit(PRAGUE.fold(state, answered.kind, answered.value), T + 63 * SECOND)
        fields = orjson.loads(statuses(produced)[0].value or b"")

        assert (fields["state"], fields["queues"]["A"]["inferred"]) == ("paused", False)

    @pytest.mark.parametrize(("seconds", "state"), [(10, "available"), (9.999999, "paused")])
    def test_a_younger_pause_may_have_crossed_with_it(self, seconds: float, state: str) -> None:
        assert shown(*self.PAUSED, self.ring(seconds))["state"] == state

    def test_a_ring_of_another_queue_does_not(self) -> None:
        assert shown(*self.PAUSED, self.ring(60, "B"))["state"] == "paused"

    def test_other_roles_do_not(self) -> None:
        assert shown(*self.PAUSED, self.ring(60, role="consult"))["state"] == "paused"

    @pytest.mark.parametrize(("answered_s", "state"), [(59, "paused"), (61, "available")])
    def test_a_call_that_somebody_has_answered_does_not(self, answered_s: int, state: str) -> None:
        record = self.ring(60, call_answered_at=format_rfc3339(T + answered_s * SECOND))
        assert shown(*self.PAUSED, record)["state"] == state

    def test_an_answer_without_a_ring_does_not(self) -> None:
        record = leg(answered=T + 60 * SECOND, ended=T + 61 * SECOND, result="completed", queue="A")
        assert shown(*self.PAUSED, record)["state"] == "paused"

    @pytest.mark.parametrize("name", ["paused", "unpaused"])
    def test_inferred_until_the_next_pause_or_unpause(self, name: str) -> None:
        assert shown(*self.PAUSED, self.ring(60), after(90, name))["queues"]["A"]["inferred"] is False

    def test_another_queue_stays_paused(self) -> None:
        other = event(T, "login", "B", event_id="2"), event(T, "paused", "B", event_id="3")
        fields = shown(*self.PAUSED, *other, self.ring(60))
        assert fields["availability"] == "partially_paused"

    def test_a_leg_taken_back_gives_the_pause_back(self) -> None:
        removed = self.ring(60, revision=2, removed=True)
        assert shown(*self.PAUSED, self.ring(60), removed)["state"] == "paused"

    def test_a_later_answer_of_the_call_is_no_news_of_a_finished_leg(self) -> None:
        state, _ = PRAGUE.emit(folded(*self.PAUSED, self.ring(60)), LATER)
        answered = self.ring(60, revision=2, call_answered_at=format_rfc3339(T + 90 * SECOND))
        following = PRAGUE.fold(state, answered.kind, answered.value)
        assert following.head is state.head
        earlier = self.ring(60, revision=3, call_answered_at=format_rfc3339(T + 30 * SECOND))
        following = PRAGUE.fold(following, earlier.kind, earlier.value)
        assert statuses(PRAGUE.emit(following, LATER)[1])[0].value is not None
        assert following.head is not state.head
