"""
Records of one batch and the states of their keys -> a BatchResult: the new states, and the records to produce (pure; no Kafka, no log).

Each key is decoded once, folds its records in the order of their offsets, and emits its documents once, as of the latest time at which one of
them was received. The result is therefore the same whether a batch is folded as it arrives or hours later.

A record that cannot be folded becomes a dead letter and does not stop the others: its value is unreadable or of an unknown version, its
key belongs to another partition, the state would grow too large, or our own rules raise. The last case is also reported as a FoldFailure,
for the task to log.

A key whose projection needs parts of its state waits in the result until the caller has read them and resumes. Folding is pure, so the key
is folded again from its stored state.

The work is done in steps of one record or one key: `take_all` takes them at once, a task lets others have the event loop between them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Generic, TypeVar

from consumers.engine.errors import InvalidRecord, InvalidState, StateTooLarge
from consumers.engine.outputs import Cause, Outputs
from consumers.engine.projection import NO_LIMIT_US, NO_PARTS, PartsNeeded, Projection
from consumers.engine.record_time import AHEAD_US, record_time
from consumers.engine.records import (
    ConsumerRecord,
    DueState,
    InputRecord,
    PartKey,
    ProducerRecord,
    Source,
    StateChange,
    TaskId,
)
from voipex.partitioner import partition_for_key
from voipex.topics import topic_name

State = TypeVar("State")

MAX_VALUE_BYTES: Final = 900_000
"""Below the topics' max.message.bytes, with room for headers: Kafka would refuse a larger state or document."""

MAX_CACHED_STATES: Final = 200
"""Decoded states kept per task. The next record usually belongs to a key of the last batches, which then need not be decoded."""

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


def take_all(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


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
        self._outputs = Outputs(projection, task_id, partitions)
        self._state_cache: dict[str, tuple[bytes, State]] = {}  # oldest first

    def keys(self, inputs: Iterable[InputRecord]) -> set[str]:
        """Return the keys whose states `fold_steps` needs."""
        return {key for each in inputs if (key := _text(each.record.key)) is not None}

    def fold_steps(
        self, result: BatchResult, inputs: Sequence[InputRecord], states: Mapping[str, bytes]
    ) -> Iterator[None]:
        """
        Fold records of the input topics into *result*; those of one topic must be in the order of their offsets.

        Raises:
            InvalidState: the state of a key cannot be decoded.
        """
        limit_us = self._limit_us()
        by_key: dict[str, list[InputRecord]] = {}
        for each in inputs:
            try:
                by_key.setdefault(self._key(each.record), []).append(each)
            except InvalidRecord as error:
                self._reject(result, each, error, limit_us)
        for key, records in by_key.items():
            work = partial(self._fold_key, result, key, records, states.get(key), limit_us)
            yield from self._attempt(result, key, work, NO_PARTS)
            yield

    def timer_steps(
        self, result: BatchResult, due: Iterable[DueState], as_of_us: int, source: Source | None
    ) -> Iterator[None]:
        """Emit documents that time alone changed into *result*. `source`: the last record folded by the task, if any."""
        cause = Cause(as_of_us, self._limit_us(), source)
        for each in due:
            work = partial(self._fire_timer, result, each, cause)
            yield from self._attempt(result, each.key, work, NO_PARTS)

    def resume_steps(self, result: BatchResult, parts: Mapping[str, Parts]) -> Iterator[None]:
        """
        Go on with the keys that wait, given what they wait for.

        Raises:
            InvalidState: a part is not there.
        """
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
        limit_us: int,
        parts: Parts,
    ) -> Iterator[None]:
        projection = self._projection
        state = self._decode(key, stored, parts)
        rejected: list[tuple[InputRecord, Exception]] = []
        failures: list[FoldFailure] = []
        folded: list[InputRecord] = []
        ahead: list[tuple[Source, int]] = []
        as_of_us, traceparent = 0, None
        for each in inputs:
            try:
                time = record_time(each.record, limit_us)
                state = projection.fold(state, each.kind, each.record.value or b"")
            except PartsNeeded:
                raise
            except Exception as error:  # noqa: BLE001 - a bug in our rules must not stop the partition
                if not isinstance(error, ValueError):  # also of pydantic and orjson
                    failures.append(FoldFailure(self._source(each), error))
                rejected.append((each, error))
            else:
                folded.append(each)
                as_of_us, traceparent = max(as_of_us, time.at_us), time.traceparent
                if time.latest_us > limit_us:
                    ahead.append((self._source(each), time.latest_us))
            yield
        if folded:
            cause = Cause(as_of_us, limit_us, self._source(folded[-1]), traceparent)
            refused = self._emit_folded(result, key, state, cause, stored)
            if refused is not None and not isinstance(refused, InvalidRecord):
                failures.append(FoldFailure(cause.source, refused))
            rejected += [(each, refused) for each in folded if refused is not None]
        # Only now that no part is missing: the key would be folded, and they rejected, once more.
        result.failures += failures
        result.ahead += ahead
        for invalid, fault in rejected:
            self._reject(result, invalid, fault, limit_us)

    def _emit_folded(
        self, result: BatchResult, key: str, state: State, cause: Cause, stored: bytes | None
    ) -> Exception | None:
        """Emit, and return why the key keeps its stored state; None: it does not."""
        try:
            self._emit(result, key, state, cause, stored)
        except PartsNeeded:
            raise
        except Exception as error:  # noqa: BLE001 - the others go on
            return error
        return None

    def _fire_timer(self, result: BatchResult, due: DueState, cause: Cause, parts: Parts) -> Iterator[None]:
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

    def _emit(
        self, result: BatchResult, key: str, state: State, cause: Cause, stored: bytes | None = None
    ) -> None:
        """
        Add the key's documents and its changelog record, unless it is as `stored` already.

        Raises:
            StateTooLarge: nothing was added.
        """
        projection, outputs = self._projection, self._outputs
        state, documents = projection.emit(state, cause.as_of_us, cause.limit_us)
        state, parts = projection.take_parts(state)
        change = self._change(state, cause)
        values = (change.value, *parts.values(), *(each.value for each in documents))
        if any(value is not None and len(value) > MAX_VALUE_BYTES for value in values):
            raise StateTooLarge(f"the key has more events than a state can hold ({MAX_VALUE_BYTES} bytes)")
        if stored is not None and change.value == stored and not documents and not parts:
            return
        result.changes[key] = change
        self._cache(key, change.value, state)
        result.add(outputs.state(key, change, cause))
        for name, value in parts.items():
            part = PartKey(key, name)
            result.parts[part] = value
            result.add(outputs.part(part, value, cause))
        for document in documents:
            result.add(outputs.document(document, cause))
        result.documents += len(documents)

    def _change(self, state: State, cause: Cause) -> StateChange:
        """The change to a state that has emitted its documents: forgotten if it has expired, else due at its next timer or its expiry."""
        projection = self._projection
        next_timer_us, expires_at_us = projection.next_timer(state), projection.expires_at(state)
        if expires_at_us is not None and expires_at_us <= cause.until_us:
            return StateChange(None, None, "")
        due_us = min((each for each in (next_timer_us, expires_at_us) if each is not None), default=None)
        return StateChange(projection.encode(state), due_us, projection.status(state))

    def _reject(self, result: BatchResult, rejected: InputRecord, error: Exception, limit_us: int) -> None:
        result.add(self._outputs.dead_letter(rejected, error, limit_us))
        result.dead_letters += 1

    def _limit_us(self) -> int:
        return NO_LIMIT_US if self._now_us is None else self._now_us() + AHEAD_US

    def _source(self, each: InputRecord) -> Source:
        return Source(topic_name(self._task_id.pbx, each.kind), each.record.offset)

    # ---------------------------------------------------------------- states

    def _decode(self, key: str, value: bytes | None, parts: Parts) -> State:
        """
        Decode a stored state (None: the key has none yet), or take it from the cache when that holds the same bytes: a failed transaction may have left others.

        Raises:
            InvalidState: it cannot be decoded.
        """
        if value is None:
            return self._projection.initial_state(self._task_id.pbx, key)
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


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None
