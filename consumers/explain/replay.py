"""
Run the services over a trace without Kafka: the same `Batch` as a task, with the states in memory.

With one event per batch, each event is folded as of its receipt, and timers fire in the order of time, at last as of the end. The revisions
and `updated_at` are therefore those of a run in which no event came late. A long trace is folded as by a service that catches up, many
events per batch: by the law of `Projection` only `revision` and `updated_at` differ, and states of agents that were over within a batch are
not in their strips.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Any, Final, overload

import orjson

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.engine.batch import Batch, BatchResult, take_all
from consumers.engine.projection import Projection
from consumers.engine.records import DueState, InputRecord, PartKey, ProducerRecord, StateChange, TaskId
from consumers.explain.trace import Received, Rejected, Trace, compact
from voipex.events import split_unique_id
from voipex.timestamps import format_rfc3339
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_LINES,
    AGENT_STATUS,
    CALL_TIMELINES,
    DEAD_LETTERS,
    TopicSpec,
    topic_name,
)

Key = tuple[str, str]
"""(pbx, record key)."""
Json = dict[str, Any]

DEFAULT_TIME_ZONE: Final = "Europe/Prague"


class Documents(Sequence[Json]):
    """Documents that are decoded each time they are read: a long trace has more of them than memory."""

    def __init__(self, values: Sequence[bytes] = ()) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, place: int) -> Json: ...
    @overload
    def __getitem__(self, place: slice) -> "Documents": ...
    def __getitem__(self, place: int | slice) -> "Json | Documents":
        if isinstance(place, slice):
            return Documents(self.values[place])
        document: Json = orjson.loads(self.values[place])
        return document


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the services would have published as of a moment; None: the trace is empty, and no moment was given."""

    as_of_us: int | None
    timelines: Documents = field(default_factory=Documents)
    agents: Documents = field(default_factory=Documents)
    rejected: Sequence[Rejected] = ()
    activities: Documents = field(default_factory=Documents)
    """Records from the calls to the agents, in the order of writing."""
    states: Mapping[Key, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """The states of each agent: (since, state)."""
    call_states: Mapping[Key, bytes] = field(default_factory=dict)
    """The state of each call as `CallProjection` encodes it, with its events. A call that the topics would have deleted has none."""
    events: int = 0

    @property
    def is_empty(self) -> bool:
        return not self.timelines and not self.agents

    def only(self, calls: Callable[[Json], bool], agents: Callable[[Json], bool]) -> "Explanation":
        """The same with some of its documents."""
        return replace(
            self,
            timelines=Documents([each for each in self.timelines.values if calls(orjson.loads(each))]),
            agents=Documents([each for each in self.agents.values if agents(orjson.loads(each))]),
        )

    def to_json(self) -> Json:
        return self._json(list(self.timelines), list(self.agents))

    def to_bytes(self) -> bytes:
        """`to_json` in JSON, with a line end; nothing is decoded on the way."""
        document = self._json(
            *(list(map(orjson.Fragment, each.values)) for each in (self.timelines, self.agents))
        )
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)

    def _json(self, timelines: Sequence[Any], agents: Sequence[Any]) -> Json:
        return {
            "as_of": None if self.as_of_us is None else format_rfc3339(self.as_of_us),
            "timelines": timelines,
            "agents": agents,
            "rejected": [{"line": each.line, "why": each.why} for each in self.rejected],
        }


def explain(
    trace: Trace,
    as_of_us: int | None = None,
    time_zone: str = DEFAULT_TIME_ZONE,
    batch_events: int = 1,
    progress: Callable[[int], None] = lambda _: None,
    *,
    for_drawing: bool = False,
) -> Explanation:
    """
    Fold what was received until *as_of_us* (default: everything), and emit the documents as of then.

    *progress* is called with the number of events folded so far. *for_drawing* saves half of the memory: the trace is emptied meanwhile, and
    `activities` stay empty. Raises `zoneinfo.ZoneInfoNotFoundError` when there is no such time zone.
    """
    if as_of_us is None:
        as_of_us = trace.end_us
        if as_of_us is None:
            return Explanation(None, rejected=trace.rejected)
    return next(snapshots(trace, (as_of_us,), time_zone, batch_events, progress, for_drawing=for_drawing))


def snapshots(
    trace: Trace,
    moments_us: Iterable[int],
    time_zone: str = DEFAULT_TIME_ZONE,
    batch_events: int = 1,
    progress: Callable[[int], None] = lambda _: None,
    *,
    for_drawing: bool = False,
) -> Iterator[Explanation]:
    """Fold the trace once, and yield what the services show at each of these ascending moments."""
    replay = _Replay(time_zone, keep_activities=not for_drawing)
    waiting = deque(trace.received)
    if for_drawing:
        trace.received.clear()
    done = 0
    for as_of_us in moments_us:
        while waiting and waiting[0].at_us <= as_of_us:
            batch = [waiting.popleft()]
            while waiting and waiting[0].at_us <= as_of_us and len(batch) < batch_events:
                batch.append(waiting.popleft())
            replay.fire_timers(batch[0].at_us - 1)  # an event at the moment of a deadline precedes it
            replay.fold(batch)
            done += len(batch)
            progress(done)
        replay.fire_timers(as_of_us)
        replay.finish(as_of_us)
        yield Explanation(
            as_of_us,
            Documents([replay.timelines[key] for key in sorted(replay.timelines, key=_numeric_order)]),
            Documents([replay.agents[key] for key in sorted(replay.agents)]),
            sorted([*trace.rejected, *replay.rejected], key=lambda each: each.line),
            Documents(tuple(replay.activities)),
            {key: tuple(replay.agent_states[key]) for key in sorted(replay.agents)},
            replay.call_states(),
            done,
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
        self._parts: dict[PartKey, bytes] = {}
        self.rank = rank
        """Among services whose timers are due at the same moment."""
        self._projection = projection
        self._batches: dict[str, Batch[Any]] = {}

    def fold(self, pbx: str, inputs: Sequence[InputRecord]) -> BatchResult:
        batch = self._batch(pbx)
        stored = {key: self.states.get((pbx, key)) for key in batch.keys(inputs)}
        values = {
            key: each.value for key, each in stored.items() if each is not None and each.value is not None
        }
        result = BatchResult()
        take_all(batch.fold_steps(result, inputs, values))
        return self._keep(pbx, result)

    def fire(self, key: Key, as_of_us: int) -> BatchResult:
        pbx, name = key
        state = self.states[key]
        due = [DueState(name, state.status, state.value or b"")]
        result = BatchResult()
        take_all(self._batch(pbx).timer_steps(result, due, as_of_us, None))
        return self._keep(pbx, result)

    def _batch(self, pbx: str) -> Batch[Any]:
        if pbx not in self._batches:
            self._batches[pbx] = Batch(self._projection, TaskId(pbx, 0), 1)
        return self._batches[pbx]

    def _keep(self, pbx: str, result: BatchResult) -> BatchResult:
        while result.waiting:
            needed = {
                key: {name: self._parts[PartKey(f"{pbx} {key}", name)] for name in each.names}
                for key, each in result.waiting.items()
            }
            take_all(self._batch(pbx).resume_steps(result, needed))
        for part, value in result.parts.items():
            place = part._replace(key=f"{pbx} {part.key}")
            if value is None:
                self._parts.pop(place, None)
            else:
                self._parts[place] = value
        for failure in result.failures:
            raise failure.error
        for key, change in result.changes.items():
            if change.value is None:
                self.states.pop((pbx, key), None)
            else:
                self.states[pbx, key] = replace(change, value=compact(change.value))
        return result


class _Replay:
    def __init__(self, time_zone: str, *, keep_activities: bool) -> None:
        self._keep_activities = keep_activities
        self.timelines: dict[Key, bytes] = {}
        self.agents: dict[Key, bytes] = {}
        self.activities: list[bytes] = []
        self.agent_states: dict[Key, list[tuple[str, str]]] = {}
        self.rejected: list[Rejected] = []
        self._calls = _Service(CallProjection(), 0)
        self._agents = _Service(AgentProjection(time_zone), 1)
        self._timers: list[tuple[int, int, Key]] = []  # (due, rank of the service, key)

    def call_states(self) -> dict[Key, bytes]:
        return {key: each.value for key, each in self._calls.states.items() if each.value is not None}

    def fold(self, batch: Sequence[Received]) -> None:
        """Fold events as one batch of each service and PBX, the calls first: their activity is an input of the agents."""
        by_pbx: dict[str, tuple[list[InputRecord], list[InputRecord]]] = {}
        for each in batch:
            calls, agents = by_pbx.setdefault(each.pbx, ([], []))
            (agents if each.kind is AGENT_EVENTS else calls).append(InputRecord(each.kind, _polled(each)))
        for pbx, (calls, agents) in by_pbx.items():
            if calls:
                result = self._calls.fold(pbx, calls)
                agents.extend(self._publish(self._calls, pbx, result))
            self._fold_agents(pbx, agents, together=len(batch) > 1)

    def _fold_agents(self, pbx: str, inputs: list[InputRecord], *, together: bool) -> None:
        """Fold the inputs of the agents, and what the agents write to each other."""
        waiting = deque(inputs)
        while waiting:
            some = [waiting.popleft() for _ in range(len(waiting) if together else 1)]
            waiting.extendleft(reversed(self._publish(self._agents, pbx, self._agents.fold(pbx, some))))

    def fire_timers(self, until_us: int) -> None:
        while self._timers and self._timers[0][0] <= until_us:
            due_us, rank, key = heappop(self._timers)
            service = (self._calls, self._agents)[rank]
            state = service.states.get(key)
            if state is not None and state.due_us == due_us:  # else it was set anew since
                self._fire(service, key, due_us)

    def finish(self, as_of_us: int) -> None:
        """Emit the status of every agent as of the end: what is open counts until then. A timeline changes by its timers only."""
        for key in list(self._agents.states):
            self._fire(self._agents, key, as_of_us)

    def _fire(self, service: _Service, key: Key, as_of_us: int) -> None:
        inputs = self._publish(service, key[0], service.fire(key, as_of_us))
        self._fold_agents(key[0], inputs, together=False)

    def _publish(self, service: _Service, pbx: str, result: BatchResult) -> list[InputRecord]:
        """Keep the documents and set timers. Return the inputs of the agents."""
        for name, change in result.changes.items():
            if change.due_us is not None:
                heappush(self._timers, (change.due_us, service.rank, (pbx, name)))
        for each in _outputs(result, pbx, CALL_TIMELINES):
            self.timelines[pbx, _key_of(each)] = compact(each.value or b"null")
        for each in _outputs(result, pbx, AGENT_STATUS):
            self._keep_status((pbx, _key_of(each)), each.value)
        for each in _outputs(result, pbx, DEAD_LETTERS):
            headers = dict(each.headers)
            why = f"a dead letter: {headers['bridge-error-message'].decode()}"
            self.rejected.append(Rejected(int(headers["__dlq.errors.offset"]), why))
        activities = _outputs(result, pbx, AGENT_ACTIVITY)
        if self._keep_activities:
            self.activities += [compact(each.value or b"null") for each in activities]
        return [
            *(InputRecord(AGENT_LINES, _polled_output(each)) for each in _outputs(result, pbx, AGENT_LINES)),
            *(InputRecord(AGENT_ACTIVITY, _polled_output(each)) for each in activities),
        ]

    def _keep_status(self, key: Key, value: bytes | None) -> None:
        if value is None:
            self.agents.pop(key, None)
            return
        self.agents[key] = compact(value)
        status = orjson.loads(value)
        # A late event may have changed the end of the strip of states.
        states = self.agent_states.setdefault(key, [])
        for shown in (status["previous"], status):
            if shown is not None:
                while states and states[-1][0] >= shown["since"]:
                    states.pop()
                states.append((shown["since"], shown["state"]))


def _polled(received: Received) -> _Polled:
    """The record of an event; its offset is the line in the trace, which a dead letter names."""
    headers = (("ce_time", format_rfc3339(received.at_us).encode()),)
    return _Polled(received.line, received.at_us // 1000, received.key.encode(), received.value, headers)


def _polled_output(record: ProducerRecord) -> _Polled:
    return _Polled(0, record.timestamp_ms, record.key, record.value, record.headers)


def _outputs(result: BatchResult, pbx: str, kind: TopicSpec) -> Sequence[ProducerRecord]:
    return result.outputs.get((topic_name(pbx, kind), 0), ())


def _key_of(record: ProducerRecord) -> str:
    return (record.key or b"").decode()
