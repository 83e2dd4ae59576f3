"""
Run the services over a trace without Kafka: the same `Batch` as a task, with the states in memory, one event per batch.

Each event is folded as of its receipt, and timers fire in the order of time, at last as of the end. The revisions and `updated_at` are
therefore those of a run in which no event came late.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final

import orjson

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.engine.batch import Batch, BatchResult
from consumers.engine.projection import Projection
from consumers.engine.records import DueState, InputRecord, ProducerRecord, StateChange, TaskId
from consumers.explain.trace import Received, Rejected, Trace
from voipex.events import split_unique_id
from voipex.normalize import NormalizedEvent
from voipex.records import Record, encode
from voipex.timestamps import format_rfc3339
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_LINES,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_TIMELINES,
    DEAD_LETTERS,
    TopicSpec,
    topic_name,
)

Key = tuple[str, str]
"""(pbx, record key)."""
Json = dict[str, Any]

DEFAULT_TIME_ZONE: Final = "Europe/Prague"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the services would have published as of a moment; None: the trace is empty, and no moment was given."""

    as_of_us: int | None
    timelines: Sequence[Json]
    agents: Sequence[Json]
    rejected: Sequence[Rejected]
    activities: Sequence[Json] = ()
    """Records from the calls to the agents, in the order of writing."""
    states: Mapping[Key, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """The states of each agent: (since, state)."""

    def to_json(self) -> Json:
        return {
            "as_of": None if self.as_of_us is None else format_rfc3339(self.as_of_us),
            "timelines": self.timelines,
            "agents": self.agents,
            "rejected": [{"line": each.line, "why": each.why} for each in self.rejected],
        }


def explain(trace: Trace, as_of_us: int | None = None, time_zone: str = DEFAULT_TIME_ZONE) -> Explanation:
    """
    Fold what was received until *as_of_us* (default: everything), and emit the documents as of then.

    Raises `zoneinfo.ZoneInfoNotFoundError` when there is no such time zone.
    """
    if as_of_us is None:
        if not trace.received:
            return Explanation(None, (), (), trace.rejected)
        as_of_us = trace.received[-1].at_us
    return next(snapshots(trace, (as_of_us,), time_zone))


def snapshots(
    trace: Trace, moments_us: Iterable[int], time_zone: str = DEFAULT_TIME_ZONE
) -> Iterator[Explanation]:
    """Fold the trace once, and yield what the services show at each of these ascending moments."""
    replay = _Replay(time_zone)
    waiting = deque(trace.received)
    for as_of_us in moments_us:
        while waiting and waiting[0].at_us <= as_of_us:
            received = waiting.popleft()
            replay.fire_timers(received.at_us - 1)  # an event at the moment of a deadline precedes it
            replay.fold(received)
        replay.fire_timers(as_of_us)
        replay.finish(as_of_us)
        yield Explanation(
            as_of_us,
            [replay.timelines[key] for key in sorted(replay.timelines, key=_numeric_order)],
            [replay.agents[key] for key in sorted(replay.agents)],
            sorted([*trace.rejected, *replay.rejected], key=lambda each: each.line),
            tuple(replay.activities),
            {key: tuple(replay.agent_states[key]) for key in sorted(replay.agents)},
        )


def _numeric_order(key: Key) -> tuple[str, tuple[str, int, int], str]:
    """Sort calls by PBX and UniqueId, as numbers (9 before 10); ids of another form come first."""
    pbx, unique_id = key
    return (pbx, split_unique_id(unique_id) or ("", -1, -1), unique_id)


@dataclass(frozen=True, slots=True)
class _Polled:
    """A record as a consumer would get it, with partition 0 as the only one."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class _Service:
    """One service for every PBX: a batch per PBX, and the states in memory."""

    def __init__(self, projection: Projection[Any], rank: int) -> None:
        self.states: dict[Key, StateChange] = {}
        self.rank = rank
        """Among services whose timers are due at the same moment."""
        self._projection = projection
        self._batches: dict[str, Batch[Any]] = {}
        self._offset = 0

    def fold(self, pbx: str, kind: TopicSpec, record: Record | ProducerRecord) -> BatchResult:
        polled = _Polled(self._offset, record.timestamp_ms, record.key, record.value, record.headers)
        self._offset += 1
        inputs = [InputRecord(kind, polled)]
        batch = self._batch(pbx)
        stored = {key: self.states.get((pbx, key)) for key in batch.keys(inputs)}
        values = {
            key: each.value for key, each in stored.items() if each is not None and each.value is not None
        }
        return self._keep(pbx, batch.fold(inputs, values))

    def fire(self, key: Key, as_of_us: int) -> BatchResult:
        pbx, name = key
        state = self.states[key]
        due = [DueState(name, state.status, state.value or b"")]
        return self._keep(pbx, self._batch(pbx).fire_timers(due, as_of_us, None))

    def _batch(self, pbx: str) -> Batch[Any]:
        if pbx not in self._batches:
            self._batches[pbx] = Batch(self._projection, TaskId(pbx, 0), 1)
        return self._batches[pbx]

    def _keep(self, pbx: str, result: BatchResult) -> BatchResult:
        for failure in result.failures:
            raise failure.error
        for key, change in result.changes.items():
            if change.value is None:
                self.states.pop((pbx, key), None)
            else:
                self.states[pbx, key] = change
        return result


class _Replay:
    def __init__(self, time_zone: str) -> None:
        self.timelines: dict[Key, Json] = {}
        self.agents: dict[Key, Json] = {}
        self.activities: list[Json] = []
        self.agent_states: dict[Key, list[tuple[str, str]]] = {}
        self.rejected: list[Rejected] = []
        self._calls = _Service(CallProjection(), 0)
        self._agents = _Service(AgentProjection(time_zone), 1)
        self._timers: list[tuple[int, int, Key]] = []  # (due, rank of the service, key)

    def fold(self, received: Received) -> None:
        pbx = received.event.pbx
        record = encode(NormalizedEvent.from_event(received.event), received.at_us // 1000, partitions=1)
        if record.topic == topic_name(pbx, AGENT_EVENTS):
            result = self._agents.fold(pbx, AGENT_EVENTS, record)
            self._publish(self._agents, pbx, result)
        else:
            result = self._calls.fold(pbx, CALL_EVENTS, record)
            self._publish(self._calls, pbx, result)
        for each in _outputs(result, topic_name(pbx, DEAD_LETTERS)):
            message = dict(each.headers)["bridge-error-message"].decode()
            self.rejected.append(Rejected(received.line, f"a dead letter: {message}"))

    def fire_timers(self, until_us: int) -> None:
        while self._timers and self._timers[0][0] <= until_us:
            due_us, rank, key = heappop(self._timers)
            service = (self._calls, self._agents)[rank]
            state = service.states.get(key)
            if state is not None and state.due_us == due_us:  # else it was set anew since
                self._publish(service, key[0], service.fire(key, due_us))

    def finish(self, as_of_us: int) -> None:
        """Emit every document as of the end."""
        for service in (self._calls, self._agents):
            for key in list(service.states):
                self._publish(service, key[0], service.fire(key, as_of_us))

    def _publish(self, service: _Service, pbx: str, result: BatchResult) -> None:
        """Keep the documents, feed activities to the agents, and set timers."""
        for name, change in result.changes.items():
            if change.due_us is not None:
                heappush(self._timers, (change.due_us, service.rank, (pbx, name)))
        for each in _outputs(result, topic_name(pbx, CALL_TIMELINES)):
            self.timelines[pbx, _key_of(each)] = orjson.loads(each.value or b"null")
        for each in _outputs(result, topic_name(pbx, AGENT_STATUS)):
            self._keep_status((pbx, _key_of(each)), each.value)
        for each in _outputs(result, topic_name(pbx, AGENT_LINES)):
            self._publish(self._agents, pbx, self._agents.fold(pbx, AGENT_LINES, each))
        for each in _outputs(result, topic_name(pbx, AGENT_ACTIVITY)):
            self.activities.append(orjson.loads(each.value or b"null"))
            self._publish(self._agents, pbx, self._agents.fold(pbx, AGENT_ACTIVITY, each))

    def _keep_status(self, key: Key, value: bytes | None) -> None:
        if value is None:
            self.agents.pop(key, None)
            return
        status = self.agents[key] = orjson.loads(value)
        # A late event may have changed the end of the strip of states.
        states = self.agent_states.setdefault(key, [])
        for shown in (status["previous"], status):
            if shown is not None:
                while states and states[-1][0] >= shown["since"]:
                    states.pop()
                states.append((shown["since"], shown["state"]))


def _outputs(result: BatchResult, topic: str) -> Iterable[ProducerRecord]:
    return result.outputs.get((topic, 0), ())


def _key_of(record: ProducerRecord) -> str:
    return (record.key or b"").decode()
