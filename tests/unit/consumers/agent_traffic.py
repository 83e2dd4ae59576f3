"""What happens to one agent, made by hand or by hypothesis: agent events and activity records, as they lie in the two topics."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from hypothesis import strategies as st

from consumers.agents.memory import AgentState
from consumers.agents.projection import AgentProjection
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, TopicSpec

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

PRAGUE = AgentProjection()


def at(text: str) -> int:
    """`2026-03-02T09:00:00+01:00` -> microseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


MONDAY = at("2026-03-02T08:00:00+01:00")

Json = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One record of an input topic, and when it was written."""

    at_us: int
    kind: TopicSpec
    value: bytes

    def __repr__(self) -> str:
        told = {
            name: each
            for name, each in orjson.loads(self.value).items()
            if each not in (None, "voipex", "janecek")
        }
        return f"{self.kind.suffix}{told}"


def event(
    at_us: int, name: str, queue: str | None = None, event_id: str | None = None, **more: Any
) -> Record:
    """An agent event: `event(MONDAY, "login", "NOC")`."""
    told = {
        "event_id": event_id or f"{at_us:020d}",
        "pbx": "voipex",
        "type": f"agent_{name}",
        "received_at": format_rfc3339(at_us),
        "queue": queue,
        "pause_name": None,
        "login": "janecek",
        "line": "163",
        "email": None,
        **more,
    }
    return Record(at_us, AGENT_EVENTS, orjson.dumps(told))


def leg(
    call_id: str = "1.1",
    leg_number: int = 1,
    *,
    revision: int = 1,
    role: str = "agent",
    ring: int | None = None,
    answered: int | None = None,
    talk: int | None = None,
    ended: int | None = None,
    result: str | None = None,
    transferred: int | None = None,
    last: int | None = None,
    **more: Any,
) -> Record:
    """An activity record; `talk` follows `answered` where the role talks with the caller, `last` is the last of the times."""
    if talk is None and role in {"agent", "caller"}:
        talk = answered
    times = {
        "ring_started_at": ring,
        "answered_at": answered,
        "talk_started_at": talk,
        "ended_at": ended,
        "transferred_at": transferred,
    }
    last = max(each for each in times.values() if each is not None) if last is None else last
    told = {
        "pbx": "voipex",
        "agent": "janecek",
        "call_id": call_id,
        "leg": leg_number,
        "revision": revision,
        "removed": False,
        "login": "janecek",
        "line": None,
        "email": None,
        "role": role,
        "queue": None,
        "direction": "incoming",
        "number": "777888999",
        "result": result,
        **{name: None if each is None else format_rfc3339(each) for name, each in times.items()},
        "last_event_at": format_rfc3339(last),
        **more,
    }
    return Record(last, AGENT_ACTIVITY, orjson.dumps(told))


def folded(*records: Record, projection: AgentProjection = PRAGUE) -> AgentState:
    state = projection.initial_state("voipex", "janecek")
    for record in records:
        state = projection.fold(state, record.kind, record.value)
    return state


def status(*records: Record, as_of: int, projection: AgentProjection = PRAGUE) -> Json:
    """The document of these records as of a moment."""
    _, documents = projection.emit(folded(*records, projection=projection), as_of)
    assert len(documents) == 1
    assert documents[0].value is not None
    told: Json = orjson.loads(documents[0].value)
    return told


# ---------------------------------------------------------------- any traffic

QUEUES = st.sampled_from([None, "NOC", "Sales", "Ústředna"])
PAUSES = st.sampled_from([None, "Oběd", "Káva"])
STEPS = st.one_of(
    st.sampled_from([0, 1, SECOND, 30 * SECOND, 61 * SECOND, HOUR]),
    st.integers(0, 5 * HOUR),
)
LONG_STEPS = st.one_of(
    STEPS,
    st.sampled_from([DAY - 1, DAY, DAY + 1, 26 * HOUR, 3 * DAY, 8 * DAY, 90 * DAY, 90 * DAY + 1, 91 * DAY]),
)
LENGTHS = st.one_of(st.sampled_from([0, 1, 20 * SECOND, 5 * HOUR]), st.integers(0, HOUR))


@st.composite
def agent_events(draw: st.DrawFn, at_us: int, number: int) -> list[Record]:
    name = draw(st.sampled_from(["login", "login", "logout", "paused", "paused", "unpaused", "wrapup"]))
    return [
        event(
            at_us,
            name,
            draw(QUEUES),
            event_id=f"{draw(st.integers(0, 9))}-{number}",
            pause_name=draw(PAUSES) if name == "paused" else None,
            line=draw(st.sampled_from([None, "163", "164"])),
            email=draw(st.sampled_from([None, "a@b.cz"])),
        )
    ]


@st.composite
def leg_records(draw: st.DrawFn, at_us: int, number: int) -> list[Record]:
    """All revisions of a leg, each as of a later moment."""
    role = draw(st.sampled_from(["agent", "agent", "caller", "consult", "monitor"]))
    call_id, leg_number = f"{at_us // SECOND}.{number}", draw(st.integers(1, 3))
    fixed: dict[str, Any] = {
        "queue": draw(QUEUES),
        "line": draw(st.sampled_from([None, "163", "201"])),
        "login": draw(st.sampled_from([None, "janecek"])),
    }
    rings = draw(st.booleans())
    answers = draw(st.booleans()) or not rings
    times: dict[str, Any] = {"ring": at_us if rings else None}
    records: list[Record] = []

    def write(last: int) -> None:
        records.append(
            leg(call_id, leg_number, revision=len(records) + 1, role=role, last=last, **times, **fixed)
        )

    now = at_us
    if rings:
        write(now)
    if answers:
        now += draw(LENGTHS) if rings else 0
        times["answered"] = now
        write(now)
        if role == "consult" and draw(st.booleans()):
            now += draw(LENGTHS)
            role = "agent"
            times["talk"] = now
            write(now)
    if draw(st.integers(0, 9)):
        now += draw(LENGTHS)
        times["ended"] = now
        if answers:
            result = draw(st.sampled_from(["completed", "transferred", "timeout"]))
            times["transferred"] = now if result == "transferred" or draw(st.booleans()) else None
        else:
            result = draw(
                st.sampled_from(
                    ["no_answer", "busy", "rejected", "answered_elsewhere", "cancelled", "timeout", "failed"]
                )
            )
        times["result"] = result
        write(now)
        if draw(st.booleans()):  # a Hangup after the end, which only fills
            write(now + draw(LENGTHS))
    if not draw(st.integers(0, 5)):
        fixed["removed"] = True
        write(records[-1].at_us + draw(LENGTHS))
    return records


@st.composite
def traffic(draw: st.DrawFn, steps: st.SearchStrategy[int] = STEPS, max_size: int = 12) -> list[Record]:
    """Records of both topics in the order of their writing."""
    now = MONDAY
    records: list[Record] = []
    for number in range(draw(st.integers(0, max_size))):
        now += draw(steps)
        maker = agent_events if draw(st.booleans()) else leg_records
        records += draw(maker(now, number))
    return sorted(records, key=lambda record: record.at_us)
