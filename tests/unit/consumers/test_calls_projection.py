"""CallProjection as a task uses it: states, revisions, deadlines, and the activity records of agents."""

from typing import Any

import orjson
import pytest

from consumers.calls.deadlines import Limits
from consumers.calls.events import CallEvent
from consumers.calls.fold import FOLD_VERSION
from consumers.calls.projection import CallProjection, CallState, timeline
from consumers.engine.projection import Projection
from tests.call_strategies import BASE_US, CALL_ID, S, event, value_of
from tests.calls import (
    BARGE,
    CONSULT,
    FROM,
    OUT,
    TALK,
    answer,
    at,
    hangup,
    new,
    ring,
    transfer,
)
from voipex.agent_activity import AgentActivity
from voipex.events import Direction, EventType
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, CALL_EVENTS, CALL_STATE, CALL_TIMELINES

PROJECTION = CallProjection()


def numbered(*events: CallEvent) -> list[CallEvent]:
    return [each._replace(event_id=f"{number:04d}") for number, each in enumerate(events)]


def state_of(*events: CallEvent, state: CallState | None = None) -> CallState:
    state = PROJECTION.initial_state("voipex", CALL_ID) if state is None else state
    for each in events:
        state = PROJECTION.fold(state, CALL_EVENTS, value_of(each))
    return state


def published(documents: Any, kind: Any = CALL_TIMELINES) -> list[dict[str, Any]]:
    return [orjson.loads(each.value) for each in documents if each.kind == kind]


def records(*events: CallEvent, as_of: float | None = None) -> list[AgentActivity]:
    """What a call of these events did to agents."""
    as_of_us = events[-1].at_us if as_of is None else BASE_US + round(as_of * S)
    _, documents = PROJECTION.emit(state_of(*numbered(*events)), as_of_us)
    return [AgentActivity.model_validate(each) for each in published(documents, AGENT_ACTIVITY)]


class TestState:
    def test_it_is_a_projection(self) -> None:
        projection: Projection[CallState] = PROJECTION

        assert (projection.name, list(projection.inputs)) == ("timelines", [CALL_EVENTS])
        assert list(projection.outputs) == [CALL_TIMELINES, AGENT_ACTIVITY]
        assert projection.changelog == CALL_STATE

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (AGENT_EVENTS, value_of(new(0))),
            (CALL_EVENTS, b"{"),
            (CALL_EVENTS, b'{"event_id":"1"}'),
            (CALL_EVENTS, value_of(new(0)).replace(b"1772438400.1", b"1772438400.10")),
            (CALL_EVENTS, value_of(new(0)).replace(b"2026-03-02", b"yesterday")),
        ],
        ids=["other topic", "no JSON", "no event", "another call", "no time"],
    )
    def test_a_record_that_cannot_be_read_is_refused(self, kind: Any, value: bytes) -> None:
        with pytest.raises(ValueError, match=r".+"):
            PROJECTION.fold(PROJECTION.initial_state("voipex", CALL_ID), kind, value)

    def test_an_unknown_key_has_no_documents(self) -> None:
        state = PROJECTION.initial_state("voipex", CALL_ID)

        assert PROJECTION.emit(state, BASE_US) == (state, ())
        assert PROJECTION.next_timer(state) is None
        assert PROJECTION.expires_at(state) <= BASE_US

    def test_a_copy_of_an_event_changes_nothing(self) -> None:
        state = state_of(new(0))

        assert state_of(new(0), state=state) is state

    def test_a_state_of_hundreds_of_events_is_compressed(self) -> None:
        events = numbered(*(ring(5 * number, "201") for number in range(600)))
        state, _ = PROJECTION.emit(state_of(*events), events[-1].at_us)
        value = PROJECTION.encode(state)

        assert len(value) < 32 * 1024 < len(orjson.dumps([tuple(each) for each in events]))
        assert PROJECTION.decode(value) == state

    def test_a_usual_state_stays_readable(self) -> None:
        assert orjson.loads(PROJECTION.encode(state_of(new(0))))[:3] == [FOLD_VERSION, "voipex", CALL_ID]

    def test_it_is_forgotten_when_the_topics_have_forgotten_it(self) -> None:
        state, _ = PROJECTION.emit(state_of(new(0)), BASE_US)
        month_us = 30 * 24 * 3600 * S

        assert PROJECTION.expires_at(state) == BASE_US + month_us

        later, _ = PROJECTION.emit(state, BASE_US + 3600 * S)
        assert PROJECTION.expires_at(later) > BASE_US + month_us


class TestTimelines:
    def test_each_change_has_the_next_revision_and_says_as_of_when(self) -> None:
        first, second, third = numbered(new(0), ring(1, "201"), answer(5, "201"))
        state, one = PROJECTION.emit(state_of(first), BASE_US + S)
        state, two = PROJECTION.emit(state_of(second, third, state=state), BASE_US + 7 * S)

        assert [(each["revision"], each["updated_at"]) for each in (*published(one), *published(two))] == [
            (1, at(1)),
            (2, at(7)),
        ]
        assert (one[0].key, one[0].ce_type, one[0].revision) == (CALL_ID, "voipex.call.timeline.v1", 1)

    def test_an_unchanged_document_is_not_written_again(self) -> None:
        state, _ = PROJECTION.emit(state_of(new(0)), BASE_US)

        assert PROJECTION.emit(state, BASE_US + S) == (state, ())

    def test_a_late_event_does_not_move_updated_at_back(self) -> None:
        """Its record is folded as of its own received_at, which is before the moment of the last document."""
        first, late, last = numbered(new(0), ring(1, "201"), hangup(9))
        state, _ = PROJECTION.emit(state_of(first, last), last.at_us)
        state, documents = PROJECTION.emit(state_of(late, state=state), late.at_us)

        assert [
            (each["status"], len(each["events"]), each["updated_at"]) for each in published(documents)
        ] == [("ended", 3, at(9))]

    @pytest.mark.parametrize("published_at", [5, 190, 1e6], ids=["live", "attempt released", "stale"])
    def test_deadlines_that_were_published_leave_nothing_behind(self, published_at: float) -> None:
        *before, last = numbered(*TALK, ring(10, "202"), answer(300, "202"))
        state, _ = PROJECTION.emit(state_of(*before), BASE_US + round(published_at * S))
        _, documents = PROJECTION.emit(state_of(last, state=state), BASE_US + 2_000_000 * S)
        _, afresh = PROJECTION.emit(state_of(*before, last), BASE_US + 2_000_000 * S)

        (first,), (second,) = published(documents), published(afresh)
        assert first | {"revision": 1} == second

    def test_an_event_of_the_future_is_due_when_its_time_comes(self) -> None:
        state, _ = PROJECTION.emit(state_of(*numbered(new(0), hangup(9))), BASE_US)

        assert PROJECTION.next_timer(state) == BASE_US + 9 * S
        assert published(PROJECTION.emit(state, BASE_US + 9 * S)[1])[0]["status"] == "ended"

    def test_a_call_from_beyond_now_says_so(self) -> None:
        """The bridge's clock is an hour ahead: the timeline is there at once, with the times as reported."""
        state = state_of(*numbered(*TALK, hangup(60, "201")))
        last_us = state.events[-1].at_us
        state, ahead = PROJECTION.emit(state, last_us, last_us - 3300 * S)
        _, known = PROJECTION.emit(state_of(*numbered(*TALK, hangup(60, "201"))), last_us, last_us)

        (live,), (later,) = published(ahead), published(known)
        assert (live["status"], live["anomalies"]) == ("ended", ["clock_skew"])
        assert live | {"anomalies": []} == later

    def test_an_event_of_the_year_2999_hides_no_other(self) -> None:
        state = state_of(*numbered(new(0), ring(1, "201"), hangup(1e10, "201")))
        state, documents = PROJECTION.emit(state, BASE_US + S, BASE_US + S)

        assert published(documents)[0]["status"] == "ringing"
        assert published(documents)[0]["anomalies"] == []

    def test_deadlines_are_settings(self) -> None:
        projection = CallProjection(ringing_limit_s=1, waiting_limit_s=2, talking_limit_s=3)
        due_s = []
        for events in ([new(0)], [new(0), ring(0, "201")], [new(0), ring(0, "201"), answer(0, "201")]):
            state = projection.initial_state("voipex", CALL_ID)
            for each in numbered(*events):
                state = projection.take(state, each)
            state, _ = projection.emit(state, BASE_US)
            due_s.append(((projection.next_timer(state) or 0) - BASE_US) / S)

        assert due_s == [2, 1, 3]

    def test_a_timeline_takes_other_deadlines(self) -> None:
        limits = Limits(ringing_us=S, waiting_us=S, talking_us=S)
        made = timeline("voipex", CALL_ID, [new(0)], BASE_US + S, limits)

        assert made is not None
        assert made.status == "stale"

    def test_a_state_of_older_rules_is_due_and_published_again(self) -> None:
        events = numbered(*TALK)
        state, first = PROJECTION.emit(state_of(*events), BASE_US + 5 * S)
        older = PROJECTION.decode(b"[0" + PROJECTION.encode(state)[2:])

        assert PROJECTION.next_timer(older) == BASE_US + 5 * S
        assert PROJECTION.decode(PROJECTION.encode(older)) == older
        again, second = PROJECTION.emit(older, BASE_US + 6 * S)
        assert [(each.kind, each.revision) for each in second] == [(CALL_TIMELINES, 2), (AGENT_ACTIVITY, 2)]
        assert len(first) == len(second)
        assert PROJECTION.emit(again, BASE_US + 7 * S)[1] == ()


class TestAgents:
    def test_a_leg_has_a_record_of_its_agent(self) -> None:
        (record,) = records(new(0), ring(1, "201", queue="sales", email="ada@x"), answer(5, "201"))

        assert record == AgentActivity.model_validate(
            {
                "pbx": "voipex",
                "agent": "ada",
                "call_id": CALL_ID,
                "leg": 1,
                "revision": 1,
                "login": "ada",
                "line": "201",
                "email": "ada@x",
                "role": "agent",
                "queue": "sales",
                "direction": "incoming",
                "number": FROM,
                "ring_started_at": at(1),
                "answered_at": at(5),
                "talk_started_at": at(5),
                "last_event_at": at(5),
                "call_answered_at": at(5),
            }
        )

    def test_the_key_of_its_record_is_the_agent(self) -> None:
        _, documents = PROJECTION.emit(state_of(new(0), ring(1, "201", login="Ada", number=1)), BASE_US + S)

        assert [
            (each.key, each.ce_type, each.revision) for each in documents if each.kind == AGENT_ACTIVITY
        ] == [("ada", "voipex.agent.activity.v1", 1)]

    def test_without_login_it_is_the_line_else_the_email(self) -> None:
        keys = [record.agent for record in records(ring(0, "203", login=None), ring(0, None, email="Ada@X"))]

        assert keys == ["line:203", "email:ada@x"]

    def test_a_leg_that_names_nobody_has_no_record(self) -> None:
        assert records(ring(0, None)) == []

    def test_only_what_changed_is_written_again(self) -> None:
        first, second, third = numbered(new(0), ring(1, "201"), ring(2, "202"))
        state, _ = PROJECTION.emit(state_of(first, second), second.at_us)
        _, documents = PROJECTION.emit(state_of(third, state=state), third.at_us)

        assert [(each["agent"], each["revision"]) for each in published(documents, AGENT_ACTIVITY)] == [
            ("bob", 2)
        ]

    def test_a_leg_that_changes_its_key_is_removed_from_the_old_one(self) -> None:
        first, second = numbered(ring(0, "20", login=None), hangup(9, "20", login="Cervenka"))
        state, _ = PROJECTION.emit(state_of(first), first.at_us)
        _, documents = PROJECTION.emit(state_of(second, state=state), second.at_us)

        assert [
            (each["agent"], each["removed"], each["revision"], each["last_event_at"])
            for each in published(documents, AGENT_ACTIVITY)
        ] == [("line:20", True, 2, at(0)), ("cervenka", False, 2, at(9))]
        assert AgentActivity.model_validate(published(documents, AGENT_ACTIVITY)[0]).removed

    def test_a_leg_that_a_late_event_withdraws_is_removed(self) -> None:
        opened, between, again = numbered(ring(0, "201"), ring(0, "201"), ring(4, "201"))
        nearer = between._replace(at_us=BASE_US + 3 * S)
        state, first = PROJECTION.emit(state_of(opened, again), again.at_us)
        assert [each["leg"] for each in published(first, AGENT_ACTIVITY)] == [1, 2]

        answered = nearer._replace(type=EventType.ANSWERED)
        _, documents = PROJECTION.emit(state_of(answered, state=state), again.at_us)

        assert [(each["leg"], each["removed"]) for each in published(documents, AGENT_ACTIVITY)] == [
            (2, True),
            (1, False),
        ]

    def test_the_number_of_the_caller_is_to(self) -> None:
        assert [(each.role, each.number) for each in records(new(0, **OUT), ring(1, "20", **OUT))] == [
            ("caller", "222333444")
        ]

    def test_and_of_a_line_that_took_over_from_it(self) -> None:
        made = records(
            *(new(0, **OUT), ring(1, "20", **OUT), answer(2, "20", **OUT)),
            *(
                ring(4, "202", from_="20"),
                answer(5, "202", from_="20"),
                transfer(6, "20"),
                ring(9, "203", **OUT),
            ),
        )

        assert [each.number for each in made] == ["222333444", "222333444", FROM]

    def test_also_from_hand_to_hand(self) -> None:
        made = records(
            *(new(0, **OUT), ring(1, "20", **OUT), answer(2, "20", **OUT), ring(6, "203"), answer(7, "203")),
            *(ring(8, "202"), answer(9, "202"), hangup(12, "202")),
        )

        assert [each.number for each in made] == ["222333444"] * 3

    def test_the_caller_has_its_own_number_after_any_take_over(self) -> None:
        made = records(
            new(0, **OUT),
            answer(1, "202", direction=Direction.INCOMING),
            hangup(2, "202"),
            ring(3, "20", **OUT),
        )

        assert [(each.role, each.number) for each in made] == [("agent", FROM), ("caller", "222333444")]

    def test_the_number_of_a_consult_is_the_consulting_line(self) -> None:
        assert [each.number for each in records(*CONSULT)] == [FROM, "201"]

    def test_the_number_of_a_line_that_took_over_an_agent_is_from(self) -> None:
        made = records(*CONSULT, transfer(15, "201"))

        assert [(each.number, each.talk_started_at, each.transferred_at) for each in made] == [
            (FROM, at(5), at(15)),
            (FROM, at(15), None),
        ]

    def test_consult_and_monitor_have_no_talk(self) -> None:
        made = records(*CONSULT, ring(13, "900", **BARGE), answer(14, "900", **BARGE))

        assert [(each.role, each.talk_started_at) for each in made] == [
            ("agent", at(5)),
            ("consult", None),
            ("monitor", None),
        ]

    def test_a_blind_transfer_counts_for_its_transferor(self) -> None:
        made = records(*TALK, hangup(9, "201"), ring(10, "202"))

        assert [(each.result, each.transferred_at) for each in made] == [("completed", at(10)), (None, None)]

    def test_so_did_a_line_that_reported_it_after_its_hangup(self) -> None:
        (made,) = records(*TALK, hangup(9, "201"), transfer(9.5, "201"))

        assert (made.result, made.transferred_at) == ("transferred", at(9.5))

    def test_at_the_end_of_the_call_all_are_released(self) -> None:
        made = records(*TALK, ring(6, "202"), hangup(9))

        assert [(each.result, each.ended_at, each.last_event_at) for each in made] == [
            ("completed", at(9), at(9)),
            ("no_answer", at(9), at(9)),
        ]

    def test_so_they_are_when_it_goes_stale(self) -> None:
        (made,) = records(*TALK, as_of=1e6)

        assert (made.result, made.ended_at, made.last_event_at) == ("timeout", at(5 + 4 * 3600), at(5))

    def test_answered_elsewhere_is_cancelled_in_an_unanswered_call(self) -> None:
        (made,) = records(new(0), ring(1, "201"), hangup(5, "201", "Answered elsewhere"), hangup(9))

        assert made.result == "cancelled"


def test_the_event_survives_the_state_unchanged() -> None:
    sent = event(EventType.RINGING, 0, direction=Direction.BARGE, from_="1", line="2")

    assert (
        value_of(
            PROJECTION.fold(
                PROJECTION.initial_state("voipex", CALL_ID),
                CALL_EVENTS,
                sent.model_dump_json(by_alias=True).encode(),
            ).events[0]
        )
        == sent.model_dump_json(by_alias=True).encode()
    )
    assert sent.received_at == format_rfc3339(BASE_US)
