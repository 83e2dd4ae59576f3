"""
Records of one batch and the states of their keys -> a BatchResult: the new states, and the records to produce (pure; no Kafka, no log).

Each key is decoded once, folds its records in the order of their offsets, and emits its documents once, as of the latest `received_at`
among them. The result is therefore the same whether a batch is folded as it arrives or hours later. The clock only shows which times cannot
be true (ADR 7).

A record that cannot be folded becomes a dead letter and does not stop the others: its value is unreadable or of an unknown version, its
key belongs to another partition, the state would grow too large, or our own rules raise. The last case is also reported as a FoldFailure,
for the task to log.

A key whose projection needs parts of its state waits in the result until the caller has read them and calls `resume`. Folding is pure, so
the key is folded again from its stored state.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Final, Generic, TypeVar

import orjson

from consumers.engine.errors import InvalidRecord, InvalidState, StateTooLarge
from consumers.engine.projection import (
    NO_LIMIT_US,
    NO_PARTS,
    SHOWN_AHEAD_US,
    Document,
    PartsNeeded,
    Projection,
)
from consumers.engine.records import (
    DUE_HEADER,
    FOLD_VERSION_HEADER,
    SOURCE_OFFSET_HEADER,
    SOURCE_TOPIC_HEADER,
    STATUS_HEADER,
    ConsumerRecord,
    DueState,
    InputRecord,
    PartKey,
    ProducerRecord,
    Source,
    StateChange,
    TaskId,
)
from voipex.dead_letters import unreadable
from voipex.partitioner import partition_for_key
from voipex.records import TRACEPARENT_HEADER
from voipex.timestamps import format_rfc3339, parse_rfc3339
from voipex.topics import topic_name

State = TypeVar("State")

MAX_VALUE_BYTES: Final = 900_000
"""Below the topics' max.message.bytes, with room for headers: Kafka would refuse a larger state or document."""

AHEAD_US: Final = 300 * 1_000_000
"""Clocks differ by less. A record from further beyond now shows that the clock of its producer is wrong, or the one of this host."""

MAX_CACHED_STATES: Final = 200
"""Decoded states kept per task. The next record usually belongs to a key of the last batches, which then need not be decoded."""

_NEVER_US: Final = 1 << 63

_LATEST_US: Final = parse_rfc3339("9000-01-01T00:00:00Z")

RETRY_TIMER_US: Final = 3600 * 1_000_000
"""A timer that changes nothing, or fails, fires again after an hour instead of in an endless loop of transactions."""


@dataclass(frozen=True, slots=True)
class FoldFailure:
    """Our rules raised `error`: while folding `source`, or, when it is None, in a timer."""

    source: Source | None
    error: Exception


Parts = Mapping[str, bytes]
"""Parts of one state by name."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A key that needs parts of its state. `work`: folds it, given `parts` and those of `names`."""

    names: Sequence[str]
    parts: Parts
    work: Callable[[Parts], Iterator[None]]


@dataclass(slots=True)
class BatchResult:
    """What a batch changes, before any of it is written. `outputs`: by topic and partition. `waiting`: by key, what is not folded yet."""

    changes: dict[str, StateChange] = field(default_factory=dict)
    parts: dict[PartKey, bytes | None] = field(default_factory=dict)
    outputs: dict[tuple[str, int], list[ProducerRecord]] = field(default_factory=dict)
    failures: list[FoldFailure] = field(default_factory=list)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    ahead: list[tuple[Source, int]] = field(default_factory=list)
    """Records from more than AHEAD_US beyond now, and their times in microseconds."""
    dead_letters: int = 0
    documents: int = 0

    def add(self, record: ProducerRecord) -> None:
        self.outputs.setdefault((record.topic, record.partition), []).append(record)


@dataclass(frozen=True, slots=True)
class _Cause:
    """Why documents are emitted: the moment they describe, the limit of it, and the record behind it, which goes into their headers."""

    as_of_us: int
    limit_us: int
    source: Source | None
    traceparent: bytes | None = None

    @property
    def until_us(self) -> int:
        """Its moment, or the limit if that is before."""
        return min(self.as_of_us, self.limit_us)

    @property
    def timestamp_ms(self) -> int:
        """Of the records: Kafka would keep one of the future, and all that come after it, until its time is over."""
        return self.until_us // 1000


class Batch(Generic[State]):
    """Folds the batches of one task. `partitions`: of every topic of the PBX. `now_us`: None for a recorded trace, of which every time is believed."""

    def __init__(
        self,
        projection: Projection[State],
        task_id: TaskId,
        partitions: int,
        now_us: Callable[[], int] | None = None,
    ) -> None:
        self._projection = projection
        self._task_id = task_id
        self._partitions = partitions
        self._now_us = now_us
        self._changelog = topic_name(task_id.pbx, projection.changelog)
        self._state_cache: dict[str, tuple[bytes, State]] = {}  # oldest first

    def keys(self, inputs: Iterable[InputRecord]) -> set[str]:
        """Return the keys whose states `fold` needs."""
        return {key for each in inputs if (key := _text(each.record.key)) is not None}

    def fold(self, inputs: Sequence[InputRecord], states: Mapping[str, bytes]) -> BatchResult:
        """
        Fold records of the input topics; those of one topic must be in the order of their offsets.

        Raises:
            InvalidState: the state of a key cannot be decoded.
        """
        result = BatchResult()
        for _ in self.fold_steps(result, inputs, states):
            pass
        return result

    def fold_steps(
        self, result: BatchResult, inputs: Sequence[InputRecord], states: Mapping[str, bytes]
    ) -> Iterator[None]:
        """Do the same in steps of one record or one key, so that the caller can do something else between them; fill *result*."""
        by_key: dict[str, list[InputRecord]] = {}
        for each in inputs:
            try:
                by_key.setdefault(self._key(each.record), []).append(each)
            except InvalidRecord as error:
                self._reject(result, each, error)
        for key, records in by_key.items():
            work = partial(self._fold_key, result, key, records, states.get(key))
            yield from self._attempt(result, key, work, NO_PARTS)
            yield

    def resume(self, result: BatchResult, parts: Mapping[str, Parts]) -> None:
        """
        Go on with the keys that wait, given what they wait for.

        Raises:
            InvalidState: a part is not there.
        """
        for _ in self.resume_steps(result, parts):
            pass

    def resume_steps(self, result: BatchResult, parts: Mapping[str, Parts]) -> Iterator[None]:
        """Do the same in steps."""
        waiting, result.waiting = result.waiting, {}
        for key, each in waiting.items():
            if not parts[key].keys() >= set(each.names):
                raise InvalidState(key)
            yield from self._attempt(result, key, each.work, {**each.parts, **parts[key]})
            yield

    def _attempt(
        self, result: BatchResult, key: str, work: Callable[[Parts], Iterator[None]], parts: Parts
    ) -> Iterator[None]:
        try:
            yield from work(parts)
        except PartsNeeded as needed:
            result.waiting[key] = Waiting(needed.names, parts, work)

    def fire_timers(self, due: Iterable[DueState], as_of_us: int, source: Source | None) -> BatchResult:
        """Emit documents that time alone changed. `source`: the last record folded by the task, if any."""
        result = BatchResult()
        for _ in self.timer_steps(result, due, as_of_us, source):
            pass
        return result

    def timer_steps(
        self, result: BatchResult, due: Iterable[DueState], as_of_us: int, source: Source | None
    ) -> Iterator[None]:
        """Do the same in steps of one key; fill *result*."""
        for each in due:
            work = partial(self._fire_timer, result, each, _Cause(as_of_us, self._limit_us(), source))
            yield from self._attempt(result, each.key, work, NO_PARTS)

    def _fire_timer(self, result: BatchResult, due: DueState, cause: _Cause, parts: Parts) -> Iterator[None]:
        try:
            self._emit(result, due.key, self._decode(due.key, due.value, parts), cause)
        except (PartsNeeded, InvalidState):
            raise
        except StateTooLarge:
            result.changes[due.key] = StateChange(due.value, None, due.status)  # unchanged, never due
        except Exception as error:  # noqa: BLE001 - a bug in our rules must not stop the partition
            result.failures.append(FoldFailure(None, error))
            result.changes[due.key] = StateChange(due.value, cause.as_of_us, due.status)
        change = result.changes[due.key]
        if change.due_us is not None and change.due_us <= cause.as_of_us:
            result.changes[due.key] = replace(change, due_us=cause.as_of_us + RETRY_TIMER_US)
        yield

    # ---------------------------------------------------------------- one key

    def _key(self, record: ConsumerRecord) -> str:
        key = record.key
        text = _text(key)
        if key is None or text is None:
            raise InvalidRecord("no key, or a key that is not UTF-8")
        if partition_for_key(key, self._partitions) != self._task_id.partition:
            raise InvalidRecord(
                "the key belongs to another partition: the producer must use Kafka's default partitioner (murmur2)"
            )
        return text

    def _fold_key(
        self,
        result: BatchResult,
        key: str,
        inputs: Sequence[InputRecord],
        stored: bytes | None,
        parts: Parts,
    ) -> Iterator[None]:
        projection = self._projection
        state = (
            projection.initial_state(self._task_id.pbx, key)
            if stored is None
            else self._decode(key, stored, parts)
        )
        rejected: list[tuple[InputRecord, Exception]] = []
        failures: list[FoldFailure] = []
        folded: list[InputRecord] = []
        as_of_us = 0
        limit_us = self._limit_us()
        ahead: list[tuple[Source, int]] = []
        traceparent = None
        for each in inputs:
            try:
                times_us, trace = _times_and_trace(each.record)
                state = projection.fold(state, each.kind, each.record.value or b"")
            except PartsNeeded:
                raise
            except Exception as error:  # noqa: BLE001 - a bug in our rules must not stop the partition
                if not isinstance(error, ValueError):  # also of pydantic and orjson
                    failures.append(FoldFailure(self._source(each), error))
                rejected.append((each, error))
            else:
                folded.append(each)
                traceparent = trace
                as_of_us = max(as_of_us, _moment(times_us, limit_us))
                if max(times_us, default=0) > limit_us:
                    ahead.append((self._source(each), max(times_us)))
            yield
        if folded:
            cause = _Cause(as_of_us, limit_us, self._source(folded[-1]), traceparent)
            failure = self._emit_folded(result, key, state, cause, stored)
            if failure is not None and not isinstance(failure, InvalidRecord):
                failures.append(FoldFailure(cause.source, failure))
            rejected += [(each, failure) for each in folded if failure is not None]
        # Only now that no part is missing: the key would be folded, and they rejected, once more.
        result.failures += failures
        result.ahead += ahead
        for invalid, fault in rejected:
            self._reject(result, invalid, fault)

    def _emit_folded(
        self, result: BatchResult, key: str, state: State, cause: _Cause, stored: bytes | None
    ) -> Exception | None:
        """Emit, and return why the key keeps its stored state; None: it does not."""
        try:
            self._emit(result, key, state, cause, stored)
        except PartsNeeded:
            raise
        except Exception as error:  # noqa: BLE001 - the others go on
            return error
        return None

    def _emit(
        self, result: BatchResult, key: str, state: State, cause: _Cause, stored: bytes | None = None
    ) -> None:
        """
        Add the key's documents and its changelog record, unless it is as `stored` already.

        Raises:
            StateTooLarge: nothing was added.
        """
        projection = self._projection
        state, documents = projection.emit(state, cause.as_of_us, cause.limit_us)
        state, parts = projection.take_parts(state)
        next_timer_us, expires_at_us = projection.next_timer(state), projection.expires_at(state)
        if expires_at_us is not None and expires_at_us <= cause.until_us:
            change = StateChange(None, None, "")
        else:
            due_us = min(
                (at_us for at_us in (next_timer_us, expires_at_us) if at_us is not None), default=None
            )
            change = StateChange(projection.encode(state), due_us, projection.status(state))
        values = (change.value, *parts.values(), *(each.value for each in documents))
        if any(value is not None and len(value) > MAX_VALUE_BYTES for value in values):
            raise StateTooLarge(f"the key has more events than a state can hold ({MAX_VALUE_BYTES} bytes)")
        if stored is not None and change.value == stored and not documents and not parts:
            return
        result.changes[key] = change
        self._cache(key, change.value, state)
        result.add(self._changelog_record(key, change, cause))
        for name, value in parts.items():
            part = PartKey(key, name)
            result.parts[part] = value
            result.add(self._part_record(part, value, cause))
        for document in documents:
            result.add(self._document_record(document, cause))
        result.documents += len(documents)

    def _decode(self, key: str, value: bytes, parts: Parts) -> State:
        """
        Decode a stored state, or take it from the cache when that holds the same bytes: a failed transaction may have left others.

        Raises:
            InvalidState: it cannot be decoded.
        """
        cached = None if parts else self._state_cache.get(key)
        if cached is not None and cached[0] == value:
            return cached[1]
        try:
            return self._projection.decode(value, parts)
        except PartsNeeded:
            raise
        except Exception as error:
            raise InvalidState(key) from error

    def _cache(self, key: str, value: bytes | None, state: State) -> None:
        self._state_cache.pop(key, None)
        if value is not None:
            self._state_cache[key] = (value, state)
            if len(self._state_cache) > MAX_CACHED_STATES:
                del self._state_cache[next(iter(self._state_cache))]

    # ---------------------------------------------------------------- output records

    def _changelog_record(self, key: str, change: StateChange, cause: _Cause) -> ProducerRecord:
        headers = [(FOLD_VERSION_HEADER, _digits(self._projection.fold_version))]
        if cause.source is not None:
            headers += _source_headers(cause.source)
        if change.due_us is not None:
            headers.append((DUE_HEADER, _digits(change.due_us)))
        headers.append((STATUS_HEADER, change.status.encode()))
        return ProducerRecord(
            self._changelog,
            self._task_id.partition,
            key.encode(),
            change.value,
            tuple(headers),
            cause.timestamp_ms,
        )

    def _part_record(self, part: PartKey, value: bytes | None, cause: _Cause) -> ProducerRecord:
        return ProducerRecord(
            self._changelog, self._task_id.partition, part.encode(), value, (), cause.timestamp_ms
        )

    def _document_record(self, document: Document, cause: _Cause) -> ProducerRecord:
        pbx, key = self._task_id.pbx, document.key.encode()
        headers = [
            *_static_headers(pbx, document.ce_type, self._projection.fold_version),
            ("ce_id", document.ce_id.encode()),
            ("ce_time", format_rfc3339(cause.as_of_us).encode()),
            ("ce_subject", key),
            ("ce_partitionkey", key),
        ]
        if cause.source is not None:
            headers += _source_headers(cause.source)
        if cause.traceparent is not None:
            headers.append((TRACEPARENT_HEADER, cause.traceparent))
        is_elsewhere = document.kind in self._projection.repartitioned
        return ProducerRecord(
            topic_name(pbx, document.kind),
            partition_for_key(key, self._partitions) if is_elsewhere else self._task_id.partition,
            key,
            document.value,
            tuple(headers),
            cause.timestamp_ms,
        )

    def _reject(self, result: BatchResult, rejected: InputRecord, error: Exception) -> None:
        """Add a dead letter. Its message is written here: a library's message could repeat the content of the record."""
        if isinstance(error, InvalidRecord):
            message = str(error)
        else:
            message = (
                "the value cannot be read" if isinstance(error, ValueError) else "the rules failed on it"
            )
        record = rejected.record
        source = self._source(rejected)
        latest_ms = min(self._limit_us(), _LATEST_US) // 1000
        dead_letter = unreadable(
            record.key,
            record.value,
            record.headers,
            min(record.timestamp, latest_ms) if record.timestamp >= 0 else latest_ms,
            stage=self._projection.name,
            error=type(error).__name__,
            message=message,
            pbx=self._task_id.pbx,
            topic=source.topic,
            partition=self._task_id.partition,
            offset=source.offset,
        )
        result.add(ProducerRecord(*dead_letter))
        result.dead_letters += 1

    def _limit_us(self) -> int:
        return NO_LIMIT_US if self._now_us is None else self._now_us() + AHEAD_US

    def _source(self, each: InputRecord) -> Source:
        return Source(topic_name(self._task_id.pbx, each.kind), each.record.offset)


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _times_and_trace(record: ConsumerRecord) -> tuple[list[int], bytes | None]:
    """
    Return when the record was received, in microseconds, as its producer and its timestamp say, and the traceparent.

    They agree but for a foreign producer. Kafka takes any timestamp and also none (-1), so there may be one time, or no time at all.
    Raises InvalidRecord for a tombstone and for an unknown version.
    """
    if record.value is None:
        raise InvalidRecord("no value")
    claimed_us, traceparent = None, None
    for name, value in record.headers:
        if name == "ce_time" and value is not None:
            claimed_us = _parse_time(value)
        elif name == "ce_type" and value is not None and not value.endswith(b".v1"):
            raise InvalidRecord("of a version that this service does not know")
        elif name == TRACEPARENT_HEADER:
            traceparent = value
    if claimed_us is None:
        claimed_us = _received_at(record.value)
    times_us = [] if claimed_us is None else [claimed_us]
    if record.timestamp >= 0:
        times_us.append(
            record.timestamp * 1000 + 999
        )  # it has milliseconds only: until the last microsecond of its own
    return times_us, traceparent


def _moment(times_us: Sequence[int], limit_us: int) -> int:
    """The earliest of these times, if there is one that can be true; else now."""
    at_us = min(times_us, default=_NEVER_US)
    return at_us if at_us <= limit_us + SHOWN_AHEAD_US else min(limit_us, _LATEST_US)


def _received_at(value: bytes) -> int | None:
    """Of an event without `ce_time`."""
    try:
        event = orjson.loads(value)
    except ValueError:
        return None
    text = event.get("received_at") if isinstance(event, dict) else None
    return _parse_time(text.encode()) if isinstance(text, str) else None


def _parse_time(text: bytes) -> int | None:
    try:
        return parse_rfc3339(text.decode())
    except ValueError:
        return None


def _digits(number: int) -> bytes:
    return b"%d" % number


def _source_headers(source: Source) -> tuple[tuple[str, bytes], ...]:
    return ((SOURCE_TOPIC_HEADER, source.topic.encode()), (SOURCE_OFFSET_HEADER, _digits(source.offset)))


@lru_cache(maxsize=256)
def _static_headers(pbx: str, ce_type: str, fold_version: int) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", ce_type.encode()),
        ("ce_source", f"/voipex/{pbx}".encode()),
        ("content-type", b"application/json"),
        (FOLD_VERSION_HEADER, _digits(fold_version)),
    )
