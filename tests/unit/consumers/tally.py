"""
A projection small enough to see through, and fakes of what is across the network: producer, offsets, positions.

A tally adds numbers up. `{"add": 2}` adds; `due` and `expires` say when time shall change something; `pad` makes a state large, and
`big` a document.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from consumers.engine.batch import Input, Output
from consumers.engine.group import Partition
from consumers.engine.projection import Document
from voipex.partitioner import partition_of
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS, CALL_STATE, CALL_TIMELINES, TopicKind

T0_US = 1_772_438_400_000_000  # 2026-03-02T08:00:00Z


@dataclass(frozen=True, slots=True)
class Tally:
    pbx: str
    key: str
    total: int = 0
    told: int = 0
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
    inputs: ClassVar[Sequence[TopicKind]] = (CALL_EVENTS, AGENT_ACTIVITY)
    outputs: ClassVar[Sequence[TopicKind]] = (CALL_TIMELINES,)
    changelog: ClassVar = CALL_STATE
    records_at_once: ClassVar = 1_000

    def start(self, pbx: str, key: str) -> Tally:
        return Tally(pbx, key)

    def fold(self, state: Tally, kind: TopicKind, value: bytes) -> Tally:
        assert kind in self.inputs
        told = json.loads(value)
        return replace(
            state,
            total=state.total + told["add"],
            due_us=told.get("due", state.due_us),
            expires_us=told.get("expires", state.expires_us),
            pad=state.pad + "x" * told.get("pad", 0),
            big=told.get("big", state.big),
        )

    def produce(self, state: Tally, as_of_us: int) -> tuple[Tally, Sequence[Document]]:
        if state.total == state.told:
            return state, ()
        revision = state.revision + 1
        value = json.dumps({"total": state.total, "as_of": as_of_us, "big": "x" * state.big}).encode()
        document = Document(
            CALL_TIMELINES, state.key, value, "voipex.tally.v1", f"{state.key}@{revision}", revision
        )
        return replace(state, told=state.total, revision=revision, as_of_us=as_of_us), (document,)

    def due(self, state: Tally) -> int | None:
        return state.due_us

    def expires(self, state: Tally) -> int | None:
        return state.expires_us

    def standing(self, state: Tally) -> str:
        return "even" if state.total % 2 == 0 else "odd"

    def encode(self, state: Tally) -> bytes:
        fields = ("pbx", "key", "total", "told", "revision", "due_us", "expires_us", "as_of_us", "pad", "big")
        return json.dumps({name: getattr(state, name) for name in fields}).encode()

    def decode(self, value: bytes) -> Tally:
        return Tally(**json.loads(value))


@dataclass(frozen=True)
class FakeRecord:
    """A record as the client gives it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = T0_US // 1000
    headers: Sequence[tuple[str, bytes | None]] = ()


def keys_in(partition: int, partitions: int, number: int) -> list[str]:
    """Keys that lie there."""
    found = (key for n in range(1000) if partition_of((key := f"1.{n}").encode(), partitions) == partition)
    return [next(found) for _ in range(number)]


def add(key: str, amount: int = 1, offset: int = 0, kind: TopicKind = CALL_EVENTS, **more: Any) -> Input:
    """A record that adds; `at_us`: when it was received."""
    at_us = more.pop("at_us", T0_US)
    headers: list[tuple[str, bytes | None]] = more.pop("headers", [])
    value = json.dumps({"add": amount, **more}).encode()
    return Input(kind, FakeRecord(offset, key.encode(), value, at_us // 1000, headers))


# -------------------------------------------------------------------------------- the other side of the network


class Refused(Exception):
    """What a broker may say."""


@dataclass
class FakeProducer:
    """
    One transaction after the other, as a broker would keep them: what was sent becomes visible with the commit.

    `fault` maps the name of a call to what it raises; `say_commit_failed` commits and then raises, as when the answer is lost.
    """

    calls: list[str] = field(default_factory=list)
    open: list[Output] = field(default_factory=list)
    committed: list[Output] = field(default_factory=list)
    offsets: dict[Partition, int] = field(default_factory=dict)
    fault: dict[str, BaseException] = field(default_factory=dict)
    hooks: dict[str, Callable[[], Any]] = field(default_factory=dict)
    _offsets: dict[Partition, int] = field(default_factory=dict)
    _ends: dict[tuple[str, int], int] = field(default_factory=dict)

    async def start(self) -> None:
        self._call("start")

    async def begin(self) -> None:
        self.open, self._offsets = [], {}
        self._call("begin")

    async def send(self, topic: str, partition: int, records: Sequence[Output]) -> int:
        self._call(f"send {topic.partition('.')[2]}")
        self.open += records
        end = self._ends.get((topic, partition), 0) + len(records)
        self._ends[topic, partition] = end + 1  # the marker
        return end - 1

    async def add_offsets(self, offsets: Mapping[Partition, int], group: str) -> None:
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
        if name in self.fault:
            raise self.fault[name]


@dataclass
class FakeReading:
    """Positions and ends of the inputs, as told."""

    positions: dict[Partition, int] = field(default_factory=dict)
    ends_now: dict[Partition, int] = field(default_factory=dict)
    asked_ends: int = 0
    before_position: Callable[[], None] = lambda: None

    async def position(self, partition: Partition) -> int:
        self.before_position()
        return self.positions.get(partition, 0)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self.asked_ends += 1
        return {each: self.ends_now.get(each, 0) for each in partitions}


@dataclass
class FakeOffsets:
    """What the brokers know of a group and of partitions."""

    group: dict[Partition, int] = field(default_factory=dict)
    lows: dict[Partition, int] = field(default_factory=dict)
    highs: dict[Partition, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def committed(self, partition: Partition) -> int | None:
        self.asked.append("committed")
        return self.group.get(partition)

    async def beginnings(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self.asked.append("beginnings")
        return {each: self.lows.get(each, 0) for each in partitions}

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self.asked.append("ends")
        return {each: self.highs.get(each, 0) for each in partitions}
