"""
Records of a batch and the states of their keys -> an overlay: what becomes of each key, and what is to be published (pure; no Kafka).

Each key is decoded once, folds its records in the order in which they lie, and tells its documents once, as of the latest
`received_at` among them. So it does not matter whether a batch is folded as it comes or hours later: only timers look at a clock.

What cannot be folded becomes a dead letter and keeps nothing else from being folded: a value that cannot be read, of an unknown
version, under a wrong key, more than a state can hold, or one on which our own rules fail (that is an error in the log, too).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from consumers.engine.projection import Document, Projection
from consumers.engine.store import Change, Row
from voipex.dead_letters import unreadable
from voipex.partitioner import partition_of
from voipex.records import TRACEPARENT_HEADER
from voipex.service.logging import get_logger
from voipex.timestamps import microseconds, rfc3339
from voipex.topics import TopicKind, topic_name

State = TypeVar("State")

MAX_VALUE_BYTES: Final = 900_000
"""Below the topics' max.message.bytes, with room for headers: a larger state or document could never be written."""

KEPT_STATES: Final = 200
"""Of a place, as they were told last: what comes next is mostly for one of them, which then need not be decoded."""

_FUTILE_US: Final = 3600 * 1_000_000

SOURCE_TOPIC_HEADER: Final = "bridge-source-topic"
SOURCE_OFFSET_HEADER: Final = "bridge-source-offset"
FOLD_VERSION_HEADER: Final = "bridge-fold-version"
DUE_HEADER: Final = "bridge-due-us"
STANDING_HEADER: Final = "bridge-standing"

log = get_logger("batch")


class Place(NamedTuple):
    """Partition `partition` of every input topic of one PBX: what one task works on."""

    pbx: str
    partition: int

    def __str__(self) -> str:
        return f"{self.pbx}/{self.partition}"


class InputRecord(Protocol):
    """A record as the client gives it."""

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


@dataclass(slots=True)  # not frozen: each record makes one, and a frozen __init__ takes four times as long
class Input:
    """A record, and of which topic."""

    kind: TopicKind
    record: InputRecord


class Output(NamedTuple):
    """A record to be written; `value` None deletes the key."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


class Source(NamedTuple):
    """The record that a document was made of last; in the document's headers."""

    topic: str
    offset: int


@dataclass(slots=True)
class Overlay:
    """What a batch comes to, before any of it is written."""

    changes: dict[str, Change] = field(default_factory=dict)
    outputs: dict[tuple[str, int], list[Output]] = field(default_factory=dict)
    dead_letters: int = 0
    documents: int = 0

    def put(self, record: Output) -> None:
        self.outputs.setdefault((record.topic, record.partition), []).append(record)


class Unreadable(ValueError):
    """A record that is no input of ours. The message is ours and repeats nothing of the record."""


class Batch(Generic[State]):
    """Folds for one place. `partitions`: of every topic of the PBX."""

    def __init__(self, projection: Projection[State], place: Place, partitions: int) -> None:
        self._projection = projection
        self._place = place
        self._partitions = partitions
        self._changelog = topic_name(place.pbx, projection.changelog)
        self._kept: dict[str, tuple[bytes, State]] = {}  # the one that was told last at the end

    def keys(self, inputs: Iterable[Input]) -> set[str]:
        """Keys whose states `fold` will ask for."""
        return {key for each in inputs if (key := _text_of(each.record.key)) is not None}

    def fold(self, inputs: Sequence[Input], states: Mapping[str, bytes]) -> Overlay:
        """Fold records of the input topics, each topic's in their order."""
        overlay = Overlay()
        by_key: dict[str, list[Input]] = {}
        for each in inputs:
            try:
                by_key.setdefault(self._key_of(each.record), []).append(each)
            except Unreadable as fault:
                self._reject(overlay, each, fault)
        for key, records in by_key.items():
            self._fold_key(overlay, key, records, states.get(key))
        return overlay

    def fire(self, rows: Iterable[Row], as_of_us: int, source: Source | None) -> Overlay:
        """Let time pass for keys that are due. `source`: the last record that was read."""
        overlay = Overlay()
        for key, standing, value in rows:
            state = self._decoded(key, value)
            try:
                is_told = self._tell(overlay, key, state, as_of_us, source, None, None)
            except Exception:
                log.exception("a deadline failed", service=self._projection.name, place=str(self._place))
                overlay.changes[key] = Change(value, as_of_us, standing)
                is_told = True
            if not is_told:
                overlay.changes[key] = Change(value, None, standing)  # it stays as it was
            change = overlay.changes[key]
            if change.due_us is not None and change.due_us <= as_of_us:
                # A deadline that changes nothing would fire without end.
                overlay.changes[key] = change._replace(due_us=as_of_us + _FUTILE_US)
        return overlay

    # ---------------------------------------------------------------- one key

    def _key_of(self, record: InputRecord) -> str:
        key = record.key
        text = _text_of(key)
        if key is None or text is None:
            raise Unreadable("no key, or one that is no text")
        if partition_of(key, self._partitions) != self._place.partition:
            raise Unreadable(
                "the key belongs to another partition: the producer must use Kafka's default partitioner (murmur2)"
            )
        return text

    def _fold_key(self, overlay: Overlay, key: str, inputs: Sequence[Input], value: bytes | None) -> None:
        projection = self._projection
        state = projection.start(self._place.pbx, key) if value is None else self._decoded(key, value)
        folded: list[Input] = []
        as_of_us = 0
        traceparent = None
        for each in inputs:
            try:
                at_us, trace = _check(each.record)
                state = projection.fold(state, each.kind, each.record.value or b"")
            except ValueError as fault:  # pydantic's and orjson's errors are ones
                self._reject(overlay, each, fault)
            except Exception as fault:  # noqa: BLE001 - a fault of ours stops no partition
                self._say_failure(each, fault)
                self._reject(overlay, each, fault)
            else:
                folded.append(each)
                as_of_us, traceparent = max(as_of_us, at_us), trace
        if not folded:
            return
        last = folded[-1]
        source = Source(topic_name(self._place.pbx, last.kind), last.record.offset)
        refused: Exception | None = None
        try:
            if not self._tell(overlay, key, state, as_of_us, source, traceparent, value):
                refused = Unreadable(
                    f"the key has more events than a state can hold ({MAX_VALUE_BYTES} bytes)"
                )
        except Exception as fault:  # noqa: BLE001 - the key stays as it was, and the others go on
            self._say_failure(last, fault)
            refused = fault
        if refused is not None:
            for each in folded:
                self._reject(overlay, each, refused)

    def _tell(
        self,
        overlay: Overlay,
        key: str,
        state: State,
        as_of_us: int,
        source: Source | None,
        traceparent: bytes | None,
        before: bytes | None,
    ) -> bool:
        """Documents and changelog of a key, if anything changed since `before`; False, and nothing done, when they are too large to be written."""
        projection = self._projection
        state, documents = projection.produce(state, as_of_us)
        due_us, expires_us = projection.due(state), projection.expires(state)
        if expires_us is not None and expires_us <= as_of_us:
            change = Change(None, None, "")
        else:
            due_us = min((at_us for at_us in (due_us, expires_us) if at_us is not None), default=None)
            change = Change(projection.encode(state), due_us, projection.standing(state))
        if any(
            len(value) > MAX_VALUE_BYTES
            for value in (change.value, *(each.value for each in documents))
            if value
        ):
            return False
        if before is not None and change.value == before and not documents:
            return True
        overlay.changes[key] = change
        self._keep(key, change.value, state)
        overlay.put(self._changelog_record(key, change, as_of_us, source))
        for document in documents:
            overlay.put(self._document_record(document, as_of_us, source, traceparent))
        overlay.documents += len(documents)
        return True

    def _decoded(self, key: str, value: bytes) -> State:
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[0] == value else self._projection.decode(value)

    def _keep(self, key: str, value: bytes | None, state: State) -> None:
        """Whether it was written, too, the value tells that comes with the next record."""
        self._kept.pop(key, None)
        if value is not None:
            self._kept[key] = (value, state)
            if len(self._kept) > KEPT_STATES:
                del self._kept[next(iter(self._kept))]

    # ---------------------------------------------------------------- records

    def _changelog_record(self, key: str, change: Change, as_of_us: int, source: Source | None) -> Output:
        headers = [(FOLD_VERSION_HEADER, _digits(self._projection.fold_version))]
        if source is not None:
            headers += _source_headers(source)
        if change.due_us is not None:
            headers.append((DUE_HEADER, _digits(change.due_us)))
        headers.append((STANDING_HEADER, change.standing.encode()))
        return Output(
            self._changelog, self._place.partition, key.encode(), change.value, tuple(headers), as_of_us // 1000
        )  # fmt: skip

    def _document_record(
        self, document: Document, as_of_us: int, source: Source | None, traceparent: bytes | None
    ) -> Output:
        key = document.key.encode()
        headers = [
            *_headers_of_type(self._place.pbx, document.ce_type, self._projection.fold_version),
            ("ce_id", document.ce_id.encode()),
            ("ce_time", rfc3339(as_of_us).encode()),
            ("ce_subject", key),
            ("ce_partitionkey", key),
        ]
        if source is not None:
            headers += _source_headers(source)
        if traceparent is not None:
            headers.append((TRACEPARENT_HEADER, traceparent))
        return Output(
            topic_name(self._place.pbx, document.kind),
            partition_of(key, self._partitions),
            key,
            document.value,
            tuple(headers),
            as_of_us // 1000,
        )

    def _say_failure(self, failed: Input, fault: Exception) -> None:
        log.error(
            "our rules fail on a record; it becomes a dead letter",
            service=self._projection.name,
            topic=topic_name(self._place.pbx, failed.kind),
            partition=self._place.partition,
            offset=failed.record.offset,
            exc_info=fault,
        )

    def _reject(self, overlay: Overlay, rejected: Input, fault: Exception) -> None:
        record = rejected.record
        if isinstance(fault, Unreadable):
            message = str(fault)
        else:
            message = (
                "the value cannot be read" if isinstance(fault, ValueError) else "the rules failed on it"
            )
        overlay.put(
            Output(
                *unreadable(
                    record.key,
                    record.value,
                    record.headers,
                    record.timestamp,
                    stage=self._projection.name,
                    error=type(fault).__name__,
                    message=message,
                    pbx=self._place.pbx,
                    topic=topic_name(self._place.pbx, rejected.kind),
                    partition=self._place.partition,
                    offset=record.offset,
                    partitions=self._partitions,
                )
            )
        )
        overlay.dead_letters += 1


def _text_of(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _check(record: InputRecord) -> tuple[int, bytes | None]:
    """When it was received, in microseconds, and its traceparent. Raises Unreadable when it is a tombstone or of another version."""
    if record.value is None:
        raise Unreadable("no value")
    # The timestamp lost what is below a millisecond. It bounds what a foreign producer claims: brokers refuse what is written with a
    # timestamp of the future, and one record would break its partition for good.
    latest_us = record.timestamp * 1000 + 999
    at_us, traceparent = latest_us, None
    for name, value in record.headers:
        if name == "ce_time" and value is not None:
            at_us = min(_microseconds(value, latest_us), latest_us)
        elif name == "ce_type" and value is not None and not value.endswith(b".v1"):
            raise Unreadable("of a version that this service does not know")
        elif name == TRACEPARENT_HEADER:
            traceparent = value
    return at_us, traceparent


def _microseconds(text: bytes, otherwise: int) -> int:
    try:
        return microseconds(text.decode())
    except ValueError:  # a foreign producer's
        return otherwise


def _digits(number: int) -> bytes:
    return b"%d" % number


def _source_headers(source: Source) -> tuple[tuple[str, bytes], ...]:
    return ((SOURCE_TOPIC_HEADER, source.topic.encode()), (SOURCE_OFFSET_HEADER, _digits(source.offset)))


@lru_cache(maxsize=256)
def _headers_of_type(pbx: str, ce_type: str, fold_version: int) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", ce_type.encode()),
        ("ce_source", f"/voipex/{pbx}".encode()),
        ("content-type", b"application/json"),
        (FOLD_VERSION_HEADER, _digits(fold_version)),
    )
