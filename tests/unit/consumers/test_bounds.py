"""Any trace: a status has at most 64 KiB, a timeline 512, and each says what it left out."""

import time
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.calls.document import MAX_EVENTS_BYTES, MAX_TIMELINE_BYTES
from consumers.calls.projection import CallProjection
from consumers.engine.bounds import MAX_DOCUMENT_BYTES
from tests.call_strategies import BASE_US, S
from tests.calls import event_at, hangup, new, ring
from tests.unit.consumers.agent_traffic import HOUR, MONDAY, PRAGUE, SECOND, Record, leg, statuses
from tests.unit.consumers.agent_traffic import event as agent_event
from voipex.agent_status import AgentStatus
from voipex.call_timeline import CallTimeline
from voipex.events import EventType

CALLS = CallProjection()

NAMES = st.builds(
    lambda text, length: (text * length)[:length],
    st.sampled_from(["x", "ž", "\x01", '"', "😀"]),
    st.integers(1, 6000),
)


def timeline_of(*events: Any) -> tuple[CallTimeline, int]:
    """The document of a call, and its size."""
    state = CALLS.initial_state("voipex", "1772438400.1")
    for number, each in enumerate(events):
        state = CALLS.take(state, each._replace(event_id=f"{number:036d}"))
    _, documents = CALLS.emit(state, BASE_US + 3600 * S)
    value = documents[0].value or b""
    listed = len(orjson.dumps(orjson.loads(value)["events"]))
    assert listed <= MAX_EVENTS_BYTES
    return CallTimeline.model_validate_json(value), len(value)


def status_of(*records: Record) -> tuple[AgentStatus, int]:
    state = PRAGUE.initial_state("voipex", "janecek")
    for each in records:
        state = PRAGUE.fold(state, each.kind, each.value)
    [document] = statuses(PRAGUE.emit(state, MONDAY + 2 * HOUR)[1])
    value = document.value or b""
    return AgentStatus.model_validate_json(value), len(value)


@given(st.lists(NAMES, min_size=1, max_size=6), st.integers(1, 500), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=15)
def test_any_call_has_a_timeline_of_512_kib(names: list[str], number: int, random: Any) -> None:
    kinds = (EventType.NEW_CALL, EventType.RINGING, EventType.ANSWERED, EventType.HANGUP, EventType.CDR)
    events = [
        event_at(
            random.choice(kinds),
            n,
            random.choice(names),
            **{name: random.choice(names) for name in ("queue", "login", "email", "from_", "to")},
            **({} if random.random() < 0.1 else {"extra": {random.choice(names): random.choice(names)}}),
        )
        for n in range(number)
    ]
    made, size = timeline_of(*events)

    assert size <= MAX_TIMELINE_BYTES
    assert len(made.events) + made.events_dropped == number


@given(st.lists(NAMES, min_size=1, max_size=60, unique=True), st.integers(1, 300))
@settings(deadline=None, max_examples=15)
def test_any_agent_has_a_status_of_64_kib(names: list[str], number: int) -> None:
    records = [agent_event(MONDAY + n, "login", name) for n, name in enumerate(names)]
    records += [
        agent_event(MONDAY + SECOND + n, "paused", name, pause_name=name) for n, name in enumerate(names)
    ]
    records += [
        leg(f"{n}.1", ring=MONDAY + n, queue=names[n % len(names)], number=names[n % len(names)])
        for n in range(number)
    ]
    made, size = status_of(*records)

    assert size <= MAX_DOCUMENT_BYTES
    assert len(made.ringing_calls) + made.dropped.get("ringing_calls", 0) == number


def test_a_bounded_timeline_keeps_the_newest_legs_and_counts() -> None:
    events = [
        each for n in range(1750) for each in (ring(2 * n, f"{n}"), hangup(2 * n + 1, f"{n}", "User busy"))
    ]
    made, size = timeline_of(new(0), *events)

    assert size <= MAX_TIMELINE_BYTES
    assert made.legs[-1].leg == 1750
    assert len(made.legs) + made.dropped["legs"] == 1750
    assert (len(made.events), made.events_dropped) == (500, 3001)
    assert made.events[0].type is EventType.NEW_CALL


def test_a_small_document_drops_nothing() -> None:
    made, _ = timeline_of(new(0), ring(1, "201"))

    assert (made.dropped, made.events_dropped) == ({}, 0)


def test_a_login_on_thousands_of_open_legs_keeps_the_loop_free() -> None:
    records = [leg(f"{n}.1", ring=MONDAY + n, line="163", number="777888999") for n in range(2500)]
    state = PRAGUE.initial_state("voipex", "janecek")
    for each in records[:-1]:
        state = PRAGUE.fold(state, each.kind, each.value)
    state, _ = PRAGUE.emit(state, MONDAY + HOUR)
    took_s = []
    for _ in range(5):
        began_s = time.process_time()
        _, produced = PRAGUE.emit(PRAGUE.fold(state, records[-1].kind, records[-1].value), MONDAY + HOUR)
        took_s.append(time.process_time() - began_s)
    [document] = statuses(produced)
    status = AgentStatus.model_validate_json(document.value or b"")

    assert min(took_s) < 0.1  # 0.025 s where nothing else runs
    assert len(document.value or b"") < 10_000
    assert [each.call_id for each in status.ringing_calls] == [f"{n}.1" for n in range(2450, 2500)]
    assert status.dropped == {"ringing_calls": 2450}
