"""
Run the folds over a trace, event by event, as the services do: fold and produce as of the event's receipt, timers in the order of
time, at last as of the end. So revision and updated_at are those of a run in which nothing came late.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final, Generic, TypeVar

import orjson

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.engine.projection import Document, Projection
from consumers.explain.trace import Rejected, Trace
from voipex.events import split_unique_id
from voipex.records import encode
from voipex.timestamps import rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, CALL_EVENTS, TopicKind, topic_name

State = TypeVar("State")
Key = tuple[str, str]
"""(pbx, key of the topic)."""
Json = dict[str, Any]

DEFAULT_TIME_ZONE: Final = "Europe/Prague"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the services would have published as of a moment; None: the trace is empty, and no moment was named."""

    as_of_us: int | None
    timelines: Sequence[Json]
    agents: Sequence[Json]
    rejected: Sequence[Rejected]
    activities: Sequence[Json] = ()
    """Records from the calls to the agents, in the order of writing."""
    states: dict[Key, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """States that each agent was shown in: (since, state)."""

    def to_json(self) -> Json:
        return {
            "as_of": None if self.as_of_us is None else rfc3339(self.as_of_us),
            "timelines": self.timelines,
            "agents": self.agents,
            "rejected": [{"line": each.line, "why": each.why} for each in self.rejected],
        }


def explain(trace: Trace, as_of_us: int | None = None, time_zone: str = DEFAULT_TIME_ZONE) -> Explanation:
    """
    Fold what was received until *as_of_us* (default: all of it), and show it as of then.

    Raises `zoneinfo.ZoneInfoNotFoundError` when there is no such time zone.
    """
    replay = _Replay(time_zone)
    if as_of_us is None:
        if not trace.received:
            return Explanation(None, (), (), trace.rejected)
        as_of_us = trace.received[-1].at_us
    for received in trace.received:
        if received.at_us > as_of_us:
            break
        replay.fire_timers(received.at_us - 1)  # an event at a deadline precedes it
        record = encode(received.event, received.at_us // 1000, partitions=1)
        is_agent = record.topic == topic_name(received.event.pbx, AGENT_EVENTS)
        replay.take(
            AGENT_EVENTS if is_agent else CALL_EVENTS,
            (received.event.pbx, (record.key or b"").decode()),
            record.value,
            received.at_us,
        )
    replay.fire_timers(as_of_us)
    replay.show(as_of_us)
    return Explanation(
        as_of_us,
        [replay.timelines[key] for key in sorted(replay.timelines, key=_numerically)],
        [replay.agents[key] for key in sorted(replay.agents)],
        trace.rejected,
        replay.activities,
        {key: tuple(replay.states[key]) for key in sorted(replay.agents)},
    )


def _numerically(key: Key) -> tuple[str, tuple[str, int, int], str]:
    """Calls sort by PBX and UniqueId, as numbers (9 before 10); ids of another form come first."""
    pbx, unique_id = key
    return (pbx, split_unique_id(unique_id) or ("", -1, -1), unique_id)


class _Folds(Generic[State]):
    """The states of one projection by key, and when each is due."""

    def __init__(self, projection: Projection[State]) -> None:
        self.projection = projection
        self.states: dict[Key, State] = {}

    def take(self, kind: TopicKind, key: Key, value: bytes) -> None:
        state = self.states.get(key)
        if state is None:
            state = self.projection.start(*key)
        self.states[key] = self.projection.fold(state, kind, value)

    def produce(self, key: Key, as_of_us: int) -> Sequence[Document]:
        self.states[key], documents = self.projection.produce(self.states[key], as_of_us)
        return documents

    def due_us(self, key: Key) -> int | None:
        state = self.states.get(key)
        return None if state is None else self.projection.due(state)


class _Replay:
    def __init__(self, time_zone: str) -> None:
        self._calls = _Folds(CallProjection())
        self._agents = _Folds(AgentProjection(time_zone))
        self._timers: list[tuple[int, bool, Key]] = []  # (when, an agent's, whose)
        self.timelines: dict[Key, Json] = {}
        self.agents: dict[Key, Json] = {}
        self.activities: list[Json] = []
        self.states: dict[Key, list[tuple[str, str]]] = {}

    def take(self, kind: TopicKind, key: Key, value: bytes, as_of_us: int) -> None:
        if kind == CALL_EVENTS:
            self._calls.take(kind, key, value)
            self._tell_call(key, as_of_us)
        else:
            self._agents.take(kind, key, value)
            self._tell_agent(key, as_of_us)

    def fire_timers(self, until_us: int) -> None:
        while self._timers and self._timers[0][0] <= until_us:
            due_us, of_agent, key = heappop(self._timers)
            folds = self._agents if of_agent else self._calls
            if folds.due_us(key) == due_us:  # else it was set anew since
                (self._tell_agent if of_agent else self._tell_call)(key, due_us)

    def show(self, as_of_us: int) -> None:
        for key in list(self._calls.states):
            self._tell_call(key, as_of_us)
        for key in list(self._agents.states):
            self._tell_agent(key, as_of_us)

    def _tell_call(self, key: Key, as_of_us: int) -> None:
        for document in self._calls.produce(key, as_of_us):
            value = document.value or b"null"
            if document.kind == AGENT_ACTIVITY:
                self.activities.append(orjson.loads(value))
                self.take(AGENT_ACTIVITY, (key[0], document.key), value, as_of_us)
            else:
                self.timelines[key] = orjson.loads(value)
        self._set_timer(self._calls, key, as_of_us, of_agent=False)

    def _tell_agent(self, key: Key, as_of_us: int) -> None:
        for document in self._agents.produce(key, as_of_us):
            if document.value is None:
                self.agents.pop(key, None)
            else:
                self.agents[key] = orjson.loads(document.value)
                self._remember_state(key, self.agents[key])
        expires_us = self._agents.projection.expires(self._agents.states[key])
        if expires_us is not None and expires_us <= as_of_us:
            del self._agents.states[key]
        self._set_timer(self._agents, key, as_of_us, of_agent=True)

    def _remember_state(self, key: Key, status: Json) -> None:
        """Keep the strip of states; what came late may have changed its end."""
        states = self.states.setdefault(key, [])
        for shown in (status["previous"], status):
            if shown is not None:
                while states and states[-1][0] >= shown["since"]:
                    states.pop()
                states.append((shown["since"], shown["state"]))

    def _set_timer(self, folds: "_Folds[Any]", key: Key, as_of_us: int, *, of_agent: bool) -> None:
        due_us = folds.due_us(key)
        if due_us is not None and due_us > as_of_us:
            heappush(self._timers, (due_us, of_agent, key))
