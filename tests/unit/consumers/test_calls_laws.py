"""Laws of the call fold: properties of every call, in any order of its events."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.calls.events import CallEvent
from consumers.calls.projection import CallProjection, CallState
from consumers.engine.projection import Document
from tests.call_strategies import CALL_ID, S, calls, moments, value_of
from voipex.agent_activity import AgentActivity
from voipex.call_timeline import CallTimeline
from voipex.events import EventType
from voipex.timestamps import parse_rfc3339
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS, CALL_TIMELINES

PROJECTION = CallProjection()
Json = dict[str, Any]
laws = settings(deadline=None)


def state_of(events: Iterable[CallEvent]) -> CallState:
    state = PROJECTION.initial_state("voipex", CALL_ID)
    for event in events:
        state = PROJECTION.take(state, event)
    return state


def documents(events: Iterable[CallEvent], as_of_us: int) -> tuple[Json | None, dict[tuple[str, int], Json]]:
    """The timeline and the agents' records, without what counts the changes of one run."""
    return _published(PROJECTION.emit(state_of(events), as_of_us)[1])


def _published(produced: Sequence[Document]) -> tuple[Json | None, dict[tuple[str, int], Json]]:
    timeline: Json | None = None
    activities = {}
    for document in produced:
        assert document.kind in PROJECTION.repartitioned or document.key == CALL_ID
        assert document.value is not None
        published = orjson.loads(document.value)
        del published["revision"]
        if document.kind == CALL_TIMELINES:
            del published["updated_at"]
            timeline = published
        else:
            assert document.kind == AGENT_ACTIVITY
            assert published["agent"] == document.key
            activities[document.key, published["leg"]] = published
    return timeline, activities


def end_of(events: Sequence[CallEvent]) -> int:
    return events[-1].at_us + 5 * 3600 * S


@laws
@given(st.data())
def test_neither_order_nor_repetition_of_arrival_matters(data: st.DataObject) -> None:
    events = data.draw(calls())
    shuffled = data.draw(st.permutations(events + events[: data.draw(st.integers(0, len(events)))]))
    as_of_us = data.draw(moments(events))

    assert documents(events, as_of_us) == documents(shuffled, as_of_us)


@laws
@given(st.data())
def test_folding_step_by_step_gives_the_same_documents(data: st.DataObject) -> None:
    """As a task does it: fold, emit, encode, decode. Records go through bytes, and the last record of each agent counts."""
    events = data.draw(calls())
    arrival = data.draw(st.permutations(events)) if data.draw(st.booleans()) else events
    state = PROJECTION.initial_state("voipex", CALL_ID)
    timeline, activities, revisions, now_us = None, {}, [], 0
    for event in arrival:
        state = PROJECTION.fold(state, CALL_EVENTS, value_of(event))
        now_us = max(now_us, event.at_us)
        state, produced = PROJECTION.emit(state, now_us)
        state = PROJECTION.decode(PROJECTION.encode(state))
        revisions += [document.revision for document in produced if document.kind == CALL_TIMELINES]
        published, records = _published(produced)
        timeline = published or timeline
        activities.update(records)
    expected, expected_activities = documents(events, now_us)

    assert expected == timeline
    assert expected_activities == {
        key: published for key, published in activities.items() if not published["removed"]
    }
    assert revisions == list(range(1, len(revisions) + 1))


@laws
@given(st.data())
def test_the_document_of_a_moment_knows_what_had_come_until_then(data: st.DataObject) -> None:
    events = data.draw(calls())
    as_of_us = data.draw(moments(events))

    assert documents(events, as_of_us) == documents([e for e in events if e.at_us <= as_of_us], as_of_us)


@laws
@given(st.data())
def test_time_alone_never_reopens_a_call_nor_shortens_a_duration(data: st.DataObject) -> None:
    events = data.draw(calls())
    steps = sorted(data.draw(st.lists(st.integers(0, 6 * 3600), min_size=1, max_size=5)))
    timelines = []
    for seconds in (0, *steps):
        published, _ = documents(events, events[-1].at_us + seconds * S)
        assert published is not None
        timelines.append(published)

    for before, after in pairwise(timelines):
        assert before["ended_at"] is None or after["ended_at"] is not None
        for name in ("wait_s", "ring_s", "talk_s", "consult_s", "duration_s"):
            assert (before[name] or 0) <= (after[name] or 0), name
        for leg, later in zip(before["legs"], after["legs"], strict=True):
            assert leg["ended_at"] is None or later["ended_at"] is not None
            for name in ("ring_s", "talk_s", "consult_s"):
                assert (leg[name] or 0) <= (later[name] or 0), name


@laws
@given(st.data())
def test_times_and_totals_agree(data: st.DataObject) -> None:
    events = data.draw(calls())
    published, activities = documents(
        events, data.draw(moments(events).filter(lambda at_us: at_us >= events[0].at_us))
    )
    assert published is not None
    timeline = CallTimeline.model_validate(published | {"revision": 1, "updated_at": ""})
    assert published == orjson.loads(
        timeline.model_dump_json(by_alias=True, exclude={"revision", "updated_at"})
    )

    durations = (timeline.wait_s, timeline.ring_s, timeline.talk_s, timeline.consult_s, timeline.duration_s)
    assert all(duration is None or duration >= 0 for duration in durations)
    rings, talks = [], []
    by_leg = {
        record["leg"]: AgentActivity.model_validate(record | {"revision": 1})
        for record in activities.values()
    }
    others_have_legs = any(leg.role in ("agent", "consult") for leg in timeline.legs)
    for leg in timeline.legs:
        assert all(duration is None or duration >= 0 for duration in (leg.ring_s, leg.talk_s, leg.consult_s))
        assert leg.ended_at is None or leg.ended_at >= (leg.answered_at or leg.ring_started_at or "")
        assert leg.ended_at is None or timeline.ended_at is None or leg.ended_at <= timeline.ended_at
        assert (leg.ended_at is None) == (leg.result is None)
        assert leg.role not in ("consult", "monitor") or leg.talk_s is None
        if leg.ring_s is not None:
            assert leg.ring_started_at is not None
            rings.append((leg.ring_started_at, leg.answered_at or leg.ended_at or ""))
        if leg.talk_s is not None:
            assert leg.ended_at is not None
            end_us = parse_rfc3339(leg.ended_at)
            begin_us = end_us - round(leg.talk_s * S)
            assert leg.answered_at is not None
            assert begin_us >= parse_rfc3339(leg.answered_at)
            if leg.role == "caller" and timeline.direction == "outgoing_local" and others_have_legs:
                continue  # it talks with the line that answered it
            talks.append((begin_us, end_us))
            record = by_leg.get(leg.leg)
            assert record is None or parse_rfc3339(record.talk_started_at or "") == begin_us
    monitors = {leg.ring_started_at for leg in timeline.legs if leg.role == "monitor"}
    if not monitors:
        assert _union_s([(parse_rfc3339(a), parse_rfc3339(b)) for a, b in rings]) == (timeline.ring_s or 0)
    assert _union_s(talks) == (timeline.talk_s or 0)
    assert len(timeline.answered_by) <= len(talks) + sum(leg.talk_s is None for leg in timeline.legs)
    assert (timeline.outcome == "answered") == (timeline.answered_at is not None)
    assert timeline.status not in ("ended", "stale") or all(leg.ended_at for leg in timeline.legs)


def _union_s(spans: list[tuple[int, int]]) -> float:
    covered = 0
    edges = sorted({edge for span in spans for edge in span})
    for begin, end in pairwise(edges):
        if any(span[0] <= begin and end <= span[1] for span in spans):
            covered += end - begin
    return covered / S


@laws
@given(calls())
def test_every_event_is_listed_once_with_its_effect(events: list[CallEvent]) -> None:
    published, _ = documents(events, end_of(events))

    assert published is not None
    assert [event.event_id for event in events] == [event["event_id"] for event in published["events"]]


@laws
@given(calls())
def test_a_state_survives_its_encoding(events: list[CallEvent]) -> None:
    state, _ = PROJECTION.emit(state_of(events), events[-1].at_us)

    again = PROJECTION.decode(PROJECTION.encode(state))

    assert state == again
    assert PROJECTION.next_timer(state) == PROJECTION.next_timer(again)
    assert PROJECTION.emit(again, events[-1].at_us)[1] == ()


@laws
@given(calls())
def test_due_is_exactly_when_time_changes_the_document(events: list[CallEvent]) -> None:
    state, _ = PROJECTION.emit(state_of(events), events[0].at_us)
    for _ in range(4 * len(events) + 4):
        due_us = PROJECTION.next_timer(state)
        if due_us is None:
            break
        assert PROJECTION.emit(state, due_us - 1)[1] == ()
        state, produced = PROJECTION.emit(state, due_us)
        assert produced
    assert PROJECTION.next_timer(state) is None
    assert PROJECTION.emit(state, end_of(events) * 2)[1] == ()


@laws
@given(calls())
def test_unknown_events_change_nothing(events: list[CallEvent]) -> None:
    foreign = (EventType.UNKNOWN, EventType.AGENT_LOGIN)
    known = [event for event in events if event.type not in foreign]
    if not known:
        return
    published, activities = documents(events, end_of(events))
    without, same_activities = documents(known, end_of(events))

    assert published is not None
    assert without is not None
    published["events"] = [event for event in published["events"] if event["type"] not in foreign]
    published["anomalies"] = [code for code in published["anomalies"] if code != "unknown_event"]
    assert without == published
    assert same_activities == activities


@laws
@given(st.data())
def test_a_state_does_not_change_when_another_follows_from_it(data: st.DataObject) -> None:
    """A task that fails folds the same record onto the same state again."""
    events = data.draw(calls())
    last = events[-1]
    state = state_of(events[:-1])
    first = _published(PROJECTION.emit(PROJECTION.take(state, last), last.at_us)[1])
    PROJECTION.take(state, last._replace(type=EventType.CDR, event_id="other"))

    assert first == _published(PROJECTION.emit(PROJECTION.take(state, last), last.at_us)[1])


@laws
@given(st.data())
def test_of_copies_that_differ_the_same_one_counts_always(data: st.DataObject) -> None:
    events = data.draw(calls())
    victim = data.draw(st.sampled_from(events))
    forged = victim._replace(at_us=victim.at_us + data.draw(st.sampled_from((-1, 0, 1))), line="666")
    both = data.draw(st.permutations([*events, forged]))

    assert documents([*events, forged], end_of(events)) == documents(both, end_of(events))
