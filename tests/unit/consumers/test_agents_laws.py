"""Laws of the agent fold, over any traffic that hypothesis makes."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.agents.days import LocalDays
from consumers.agents.memory import AgentState
from consumers.explain.replay import explain
from consumers.explain.trace import read_trace
from tests.unit.consumers.agent_reference import reference
from tests.unit.consumers.agent_traffic import DAY, HOUR, LONG_STEPS, MONDAY, PRAGUE, Record, folded, traffic
from voipex.agent_status import AgentStatus
from voipex.events import agent_key
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS

Json = dict[str, Any]

AFTER = st.one_of(st.sampled_from([0, 1, HOUR, DAY, 90 * DAY]), st.integers(0, 3 * DAY))


def shown(state: AgentState, as_of_us: int) -> Json | None:
    """The document as of a moment, without what counts the changes of one run; None where there is none."""
    state = PRAGUE.decode(PRAGUE.encode(state))
    state.digest = 0
    _, documents = PRAGUE.emit(state, as_of_us)
    if not documents or documents[0].value is None:
        return None
    told: Json = orjson.loads(documents[0].value)
    AgentStatus.model_validate_json(documents[0].value)
    del told["revision"], told["updated_at"]
    return told


def end_of(records: list[Record]) -> int:
    return max([MONDAY, *(record.at_us for record in records)])


@given(traffic(), AFTER)
@settings(deadline=None)
def test_the_fold_agrees_with_brute_force(records: list[Record], after_us: int) -> None:
    as_of_us = end_of(records) + after_us

    assert shown(folded(*records), as_of_us) == reference(records, as_of_us)


@given(traffic(steps=LONG_STEPS), st.data())
@settings(deadline=None)
def test_incremental_is_batch_over_any_time(records: list[Record], data: st.DataObject) -> None:
    """Documents in between, settling, forgetting old days and the changelog's encoding change nothing; timers neither."""
    state = PRAGUE.initial_state("voipex", "janecek")
    for number, record in enumerate(records):
        state = PRAGUE.fold(state, record.kind, record.value)
        as_of_us = record.at_us
        if data.draw(st.booleans()):
            if data.draw(st.booleans()):
                state = PRAGUE.decode(PRAGUE.encode(state))
            state, _ = PRAGUE.emit(state, as_of_us)
            due_us = PRAGUE.next_timer(state)
            if due_us is not None and number + 1 < len(records) and due_us < records[number + 1].at_us:
                state, _ = PRAGUE.emit(state, due_us)
                as_of_us = due_us
        assert shown(state, as_of_us) == reference(records[: number + 1], as_of_us)


@given(traffic(), st.data())
@settings(deadline=None)
def test_order_and_repetition_do_not_matter(records: list[Record], data: st.DataObject) -> None:
    """Within the days that are kept: any order of the two topics and of each, any copies, documents produced in between."""
    as_of_us = end_of(records) + data.draw(AFTER)
    shuffled = data.draw(st.permutations(records + records[: data.draw(st.integers(0, 5))]))
    state = PRAGUE.initial_state("voipex", "janecek")
    for record in shuffled:
        state = PRAGUE.fold(state, record.kind, record.value)
        if data.draw(st.booleans()):
            state, _ = PRAGUE.emit(state, min(record.at_us + data.draw(STEPS_BETWEEN), as_of_us))
            if data.draw(st.booleans()):
                state = PRAGUE.decode(PRAGUE.encode(state))

    assert shown(state, as_of_us) == reference(records, as_of_us)


STEPS_BETWEEN = st.sampled_from([0, 60 * 1_000_000, HOUR, DAY])


@given(traffic(steps=LONG_STEPS), AFTER)
@settings(deadline=None)
def test_totals_are_sums_of_intervals_that_do_not_overlap(records: list[Record], after_us: int) -> None:
    """So none is negative, none longer than its day, and pauses by name add up to the paused time, which is part of the login."""
    told = shown(folded(*records), end_of(records) + after_us)
    calendar = LocalDays(ZoneInfo("Europe/Prague"))
    for date, totals in (told or {"days": {}})["days"].items():
        day = calendar.day_of(round(datetime.fromisoformat(f"{date}T12:00:00Z").timestamp()) * 1_000_000)
        length_s = (day.end_us - day.start_us) / 1e6
        assert all(value >= 0 for name, value in totals.items() if name != "pause_s")
        assert all(totals[name] <= length_s for name in ("talk_s", "ring_s", "login_s"))
        assert totals["paused_s"] <= totals["login_s"] + 1e-6
        assert abs(sum(totals["pause_s"].values()) - totals["paused_s"]) < 1e-5
    for queue, days in (told or {"queue_days": {}})["queue_days"].items():
        for date, of_queue in days.items():
            assert told is not None
            assert min(of_queue.values()) >= 0
            assert of_queue["talk_s"] <= told["days"][date]["talk_s"] + 1e-6, queue
            assert of_queue["answered"] <= told["days"][date]["answered_in"]
            assert of_queue["missed_rings"] <= told["days"][date]["missed_rings"]


@given(traffic(steps=LONG_STEPS), st.lists(st.integers(0, 3 * DAY), max_size=4))
@settings(deadline=None)
def test_time_alone_makes_no_interval_shorter(records: list[Record], steps: list[int]) -> None:
    as_of_us = end_of(records)
    before: Json = {}
    state = folded(*records)
    for step_us in steps:
        told = shown(state, as_of_us) or {"days": {}}
        for date in before.keys() & told["days"].keys():
            for name in ("login_s", "paused_s", "talk_s", "ring_s", "answered_in", "missed_rings", "pauses"):
                assert told["days"][date][name] >= before[date][name]
        before = told["days"]
        as_of_us += step_us


@given(traffic(), st.data())
@settings(deadline=None)
def test_the_changelog_keeps_all_that_matters(records: list[Record], data: st.DataObject) -> None:
    state = folded(*records)
    if data.draw(st.booleans()):
        state, _ = PRAGUE.emit(state, end_of(records) + data.draw(AFTER))
    twin = PRAGUE.decode(PRAGUE.encode(state))

    assert PRAGUE.encode(twin) == PRAGUE.encode(state)
    assert PRAGUE.next_timer(twin) == PRAGUE.next_timer(state)


@given(traffic(), st.data())
@settings(deadline=None)
def test_a_state_does_not_change_when_another_is_made_of_it(
    records: list[Record], data: st.DataObject
) -> None:
    """A task that fails goes on from the state that it had."""
    state = PRAGUE.initial_state("voipex", "janecek")
    for record in records:
        kept = PRAGUE.encode(state)
        following = PRAGUE.fold(state, record.kind, record.value)
        PRAGUE.emit(following, record.at_us + data.draw(AFTER))
        PRAGUE.emit(state, record.at_us)
        assert PRAGUE.encode(state) == kept
        state = following


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "received_at": st.sampled_from(
                    [format_rfc3339(MONDAY + n * HOUR) for n in range(0, 400, 13)]
                ),
                "event_id": st.text(max_size=3),
                "type": st.sampled_from(
                    [f"agent_{name}" for name in ("login", "logout", "paused", "unpaused")] + ["cdr"]
                ),
                "login": st.sampled_from(["janecek", "Janecek", "JANECEK"]),
            },
            optional={
                name: st.none() | st.text(max_size=4)
                for name in ("queue", "pause_name", "line", "email", "extra")
            },
        ),
        max_size=12,
    )
)
@settings(deadline=None)
def test_the_fold_never_raises(events: list[Json]) -> None:
    """Any text is a name; the same event_id may come with anything."""
    state = PRAGUE.initial_state("voipex", "janecek")
    for told in events:
        state = PRAGUE.fold(state, AGENT_EVENTS, orjson.dumps(told))
        state, _ = PRAGUE.emit(state, at_us := max(state.touched_us, MONDAY))
        state = PRAGUE.decode(PRAGUE.encode(state))
        shown(state, at_us)


# ---------------------------------------------------------------- both folds, from webhooks on

PARTIES = st.sampled_from(
    [{"Line": "201", "Login": "a"}, {"Line": "202", "Login": "b"}, {"Line": "201"}, {"Login": "A"}, {}]
)


@st.composite
def webhooks(draw: st.DrawFn) -> list[bytes]:
    """Lines of a trace of a few calls and agents, each with an event_id."""
    lines = []
    at_us = MONDAY
    for number in range(draw(st.integers(0, 14))):
        at_us += draw(st.sampled_from([0, 1_000_000, 4_000_000, 20_000_000, 300_000_000, 5 * HOUR, DAY]))
        if draw(st.booleans()):
            names = [
                "NewCall",
                "Ringing",
                "Ringing",
                "Answered",
                "Hangup",
                "AttendedTransfer",
                "CancelAttendedTransfer",
                "CDR",
            ]
            body = {
                "EventName": draw(st.sampled_from(names)),
                "UniqueId": draw(st.sampled_from(["1.1", "1.2"])),
                "From": draw(st.sampled_from(["777888999", "201", "202"])),
                "Direction": draw(st.sampled_from(["incoming", "outgoing", "barge", ""])),
                "Reason": draw(st.sampled_from(["", "Normal Clearing", "Answered elsewhere", "User busy"])),
            }
        else:
            body = {
                "EventName": draw(
                    st.sampled_from(["AgentLogin", "AgentLogout", "AgentPaused", "AgentUnPaused"])
                ),
                "Email": "x@y.cz",
            }
        body |= draw(PARTIES) | {"Queue": draw(st.sampled_from(["", "NOC", "Sales"]))}
        lines.append(
            orjson.dumps({"received_at": format_rfc3339(at_us), "event_id": f"{number:04d}", "body": body})
        )
    return lines


@given(webhooks(), st.data())
@settings(deadline=None)
def test_any_order_and_repetition_of_lines_gives_the_same_documents(
    lines: list[bytes], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(lines + lines[: data.draw(st.integers(0, 3))]))

    assert explain(read_trace(shuffled)).to_json() == explain(read_trace(lines)).to_json()


@given(webhooks(), st.data())
@settings(deadline=None)
def test_the_services_may_read_their_topics_in_any_order(lines: list[bytes], data: st.DataObject) -> None:
    """The agents service gets events and activity in any interleaving, and says what it says when all comes in order."""
    explanation = explain(read_trace(lines))
    as_of_us = explanation.as_of_us or MONDAY
    for told in explanation.agents:
        records = [
            (AGENT_ACTIVITY, orjson.dumps(activity))
            for activity in explanation.activities
            if activity["agent"] == told["agent"]
        ]
        for received in read_trace(lines).received:
            event = received.event
            if event.type.is_agent and agent_key(event.login, event.line, event.email) == told["agent"]:
                records.append((AGENT_EVENTS, event.model_dump_json(by_alias=True).encode()))
        state = PRAGUE.initial_state("voipex", told["agent"])
        for kind, value in data.draw(st.permutations(records)):
            state = PRAGUE.fold(state, kind, value)
            if data.draw(st.booleans()):
                state, _ = PRAGUE.emit(state, data.draw(st.integers(MONDAY, as_of_us)))

        expected = {name: value for name, value in told.items() if name not in {"revision", "updated_at"}}
        assert shown(state, as_of_us) == expected
