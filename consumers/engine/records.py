"""Identifiers and records that pass between the parts of the engine, named as Kafka names them (pure; knows no client)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from voipex.topics import TopicSpec

SOURCE_TOPIC_HEADER: Final = "bridge-source-topic"
SOURCE_OFFSET_HEADER: Final = "bridge-source-offset"
FOLD_VERSION_HEADER: Final = "bridge-fold-version"
DUE_HEADER: Final = "bridge-due-us"
STATUS_HEADER: Final = "bridge-status"

_PART_SEPARATOR: Final = b"\xff"
"""Between a key and the name of a part in the keys of a changelog: no UTF-8 text contains it."""


class PartKey(NamedTuple):
    """A part of the state of a key."""

    key: str
    name: str

    def encode(self) -> bytes:
        """As the changelog names it. Its record lies in the partition of `key`."""
        return self.key.encode() + _PART_SEPARATOR + self.name.encode()


def changelog_key(key: bytes) -> str | PartKey:
    """Read the key of a changelog record: of the value of a state, or of a part."""
    text, separator, name = key.partition(_PART_SEPARATOR)
    return PartKey(text.decode(), name.decode()) if separator else text.decode()


class TopicPartition(NamedTuple):
    """One partition of a topic; `voipex.call.events.v1-3` in messages, as Kafka writes it."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class TaskId(NamedTuple):
    """The task for partition `partition` of every input topic of one PBX; `voipex/3` in messages."""

    pbx: str
    partition: int

    def __str__(self) -> str:
        return f"{self.pbx}/{self.partition}"


class ConsumerRecord(Protocol):
    """A record as the Kafka client returns it. `timestamp`: milliseconds since the epoch."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class InputRecord:
    """A record of an input topic of this kind."""

    kind: TopicSpec
    record: ConsumerRecord


class ProducerRecord(NamedTuple):
    """A record to produce; `value` None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


class ChangelogRecord(NamedTuple):
    """A record read from a changelog; `value` None is a tombstone."""

    offset: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]


class Source(NamedTuple):
    """The input record that an output was derived from last; written to the output's headers."""

    topic: str
    offset: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """The new state of a key; `value` None deletes it. `due_us`: when its timer fires next, None: never. `status`: what it is counted as."""

    value: bytes | None
    due_us: int | None
    status: str


@dataclass(frozen=True, slots=True)
class DueState:
    """A stored state whose timer is due."""

    key: str
    status: str
    value: bytes
