"""
A projection simple enough to check by hand, and fakes for everything across the network: producer, offsets, positions.

A tally adds numbers up. `{"add": 2}` adds; `due` and `expires` set timers; `pad` makes a state large, `big` a document.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from consumers.engine.batch import Batch, BatchResult, take_all
from consumers.engine.projection import NO_LIMIT_US, NO_PARTS, Document
from consumers.engine.records import DueState, InputRecord, ProducerRecord, Source, TopicPartition
from voipex.partitioner import partition_for_key
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS, CALL_STATE, CALL_TIMELINES, TopicSpec

T0_US = 1_772_438_400_000_000  # 2026-03-02T08:00:00Z


@dataclass(frozen=True, slots=True)
class Tally:
    pbx: str
    key: str
    total: int = 0
    emitted: int = 0
    revision: int = 0
    due_us: int | None = None
    expires_us: int | None = None
    as_of_us: int = 0
    pad: str = ""
    big: int = 0


class TallyProjection:
    """Satisfies `Projection[Tally]`."""

    name: ClassVar = "tallies"
    fold_version: ClassVar = 3
    inputs: ClassVar[Sequence[TopicSpec]] = (CALL_EVENTS, AGENT_ACTIVITY)
    outputs: ClassVar[Sequence[TopicSpec]] = (CALL_TIMELINES,)
    repartitioned: ClassVar[Sequence[TopicSpec]] = ()
    changelog: ClassVar = CALL_STATE
    max_batch_records: ClassVar = 1_000

    def initial_state(self, pbx: str, key: str) -> Tally:
        return Tally(pbx, key)

    def fold(self, state: Tally, kind: TopicSpec, value: bytes) -> Tally:
        assert kind in self.inputs
        event = json.loads(value)
        return replace(
            state,
            total=state.total + event["add"],
            due_us=event.get("due", state.due_us),
            expires_us=event.get("expires", state.expires_us),
            pad=state.pad + "x" * event.get("pad", 0),
            big=event.get("big", state.big),
        )

    def emit(
        self,
        state: Tally,
        as_of_us: int,
        limit_us: int = NO_LIMIT_US,  # noqa: ARG002 - of the protocol
    ) -> tuple[Tally, Sequence[Document]]:
        if state.total == state.emitted:
            return state, ()
        revision = state.revision + 1
        value = json.dumps({"total": state.total, "as_of": as_of_us, "big": "x" * state.big}).encode()
        document = Document(
            CALL_TIMELINES, state.key, value, "voipex.tally.v1", f"{state.key}@{revision}", revision
        )
        return replace(state, emitted=state.total, revision=revision, as_of_us=as_of_us), (document,)

    def next_timer(self, state: Tally) -> int | None:
        return state.due_us

    def expires_at(self, state: Tally) -> int | None:
        return state.expires_us

    def status(self, state: Tally) -> str:
        return "even" if state.total % 2 == 0 else "odd"

    def encode(self, state: Tally) -> bytes:
        fields = (
            "pbx",
            "key",
            "total",
            "emitted",
            "revision",
            "due_us",
            "expires_us",
            "as_of_us",
            "pad",
            "big",
        )
        return json.dumps({name: getattr(state, name) for name in fields}).encode()

    def take_parts(self, state: Tally) -> tuple[Tally, Mapping[str, bytes | None]]:
        return state, NO_PARTS

    def decode(self, value: bytes, parts: Mapping[str, bytes] = NO_PARTS) -> Tally:  # noqa: ARG002
        return Tally(**json.loads(value))


@dataclass(frozen=True)
class FakeRecord:
    """A record as the client returns it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = T0_US // 1000
    headers: Sequence[tuple[str, bytes | None]] = ()


def keys_in(partition: int, partitions: int, number: int) -> list[str]:
    """Return keys of this partition."""
    found = (
        key for n in range(1000) if partition_for_key((key := f"1.{n}").encode(), partitions) == partition
    )
    return [next(found) for _ in range(number)]


def add(
    key: str, amount: int = 1, offset: int = 0, kind: TopicSpec = CALL_EVENTS, **more: Any
) -> InputRecord:
    """A record that adds; `at_us`: when it was received."""
    at_us = more.pop("at_us", T0_US)
    headers: list[tuple[str, bytes | None]] = more.pop("headers", [])
    value = json.dumps({"add": amount, **more}).encode()
    return InputRecord(kind, FakeRecord(offset, key.encode(), value, at_us // 1000, headers))


# -------------------------------------------------------------------------------- batches, at once


def folded(
    batch: Batch[Any], inputs: Sequence[InputRecord], states: Mapping[str, bytes] | None = None
) -> BatchResult:
    result = BatchResult()
    take_all(batch.fold_steps(result, inputs, states or {}))
    return result


def fired(
    batch: Batch[Any], due: Iterable[DueState], as_of_us: int, source: Source | None = None
) -> BatchResult:
    result = BatchResult()
    take_all(batch.timer_steps(result, due, as_of_us, source))
    return result


def resumed(batch: Batch[Any], result: BatchResult, parts: Mapping[str, Mapping[str, bytes]]) -> BatchResult:
    take_all(batch.resume_steps(result, parts))
    return result


# -------------------------------------------------------------------------------- fakes


class BrokerError(Exception):
    """Any error of a client."""


@dataclass
class FakeProducer:
    """
    Keeps transactions as a broker would: what was sent becomes visible with the commit.

    `errors` maps the name of a call to what it raises, `hooks` to what is called before that.
    """

    calls: list[str] = field(default_factory=list)
    open: list[ProducerRecord] = field(default_factory=list)
    committed: list[ProducerRecord] = field(default_factory=list)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    hooks: dict[str, Callable[[], Any]] = field(default_factory=dict)
    producer_id: int = 7
    _offsets: dict[TopicPartition, int] = field(default_factory=dict)
    _ends: dict[tuple[str, int], int] = field(default_factory=dict)

    async def start(self) -> None:
        self._call("start")

    async def begin(self) -> None:
        self.open, self._offsets = [], {}
        self._call("begin")

    async def send(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> int:
        self._call(f"send {topic.partition('.')[2]}")
        self.open += records
        end = self._ends.get((topic, partition), 0) + len(records)
        self._ends[topic, partition] = end + 1  # the marker
        return end - 1

    async def add_offsets(self, offsets: Mapping[TopicPartition, int], group: str) -> None:
        self._call(f"offsets {group}")
        self._offsets = dict(offsets)

    async def commit(self) -> None:
        self._call("commit")
        self.committed += self.open
        self.offsets.update(self._offsets)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        hook = self.hooks.get(name)
        if hook is not None:
            hook()
        if name in self.errors:
            raise self.errors[name]


@dataclass
class FakeInputOffsets:
    """Positions and end offsets of the inputs, as set by the test."""

    positions: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    end_requests: int = 0
    before_position: Callable[[], None] = lambda: None

    async def position(self, partition: TopicPartition) -> int:
        self.before_position()
        return self.positions.get(partition, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.end_requests += 1
        return {each: self.ends.get(each, 0) for each in partitions}


@dataclass
class FakeGroupOffsets:
    """The offsets of a group and of partitions, as brokers know them."""

    group: dict[TopicPartition, int] = field(default_factory=dict)
    begins: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    written: dict[TopicPartition, int] = field(default_factory=dict)
    """High watermarks where they differ from `ends`: a transaction is open between the two."""
    open: dict[TopicPartition, dict[int, int]] = field(default_factory=dict)
    """What the brokers tell of open transactions."""
    requests: list[str] = field(default_factory=list)

    async def committed(self, partition: TopicPartition) -> int | None:
        self.requests.append("committed")
        return self.group.get(partition)

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.requests.append("beginnings")
        return {each: self.begins.get(each, 0) for each in partitions}

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.requests.append("ends")
        return {each: self.ends.get(each, 0) for each in partitions}

    async def high_watermarks(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.requests.append("watermarks")
        return {each: self.written.get(each, self.ends.get(each, 0)) for each in partitions}

    async def open_transactions(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Mapping[int, int]]:
        self.requests.append("producers")
        return {each: self.open[each] for each in partitions if each in self.open}
