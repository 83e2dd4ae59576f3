"""
CallProjection: the call fold as a task of the engine uses it (pure). In: call events. Out: timelines and agent activity.

The state holds the events of a call, sorted in their total order, and what was last produced from them. The folded call is cached beside
it: an event that comes in order costs one step, a late one folds the call again.
"""

import zlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import ClassVar, Final

import orjson

from consumers.calls.activities import activities, removal
from consumers.calls.call import SECOND_US, Call
from consumers.calls.deadlines import DEFAULT_LIMITS, Limits, as_of, next_deadline
from consumers.calls.document import Json, bounded_json, document
from consumers.calls.events import CallEvent, call_event, earlier_copy, from_state, time_text
from consumers.calls.fold import FOLD_VERSION, fold
from consumers.calls.holders import Holders
from consumers.engine.projection import NO_LIMIT_US, NO_PARTS, Document
from voipex.call_timeline import CallTimeline
from voipex.events import Event
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS, CALL_STATE, CALL_TIMELINES, TopicSpec

TIMELINE_TYPE: Final = "voipex.call.timeline.v1"
ACTIVITY_TYPE: Final = "voipex.agent.activity.v1"

RETENTION_US: Final = 30 * 24 * 60 * 60 * SECOND_US
"""As long as the topics keep a timeline and its state."""

COMPRESS_FROM_BYTES: Final = 32 * 1024
"""A state of this size (hundreds of events) is compressed, to stay below the largest record that a topic accepts."""


@dataclass(frozen=True, slots=True)
class ProducedActivity:
    """The activity record last produced for a leg: enough to find a change, and to write a removal."""

    agent: str
    role: str
    last_event_us: int
    digest: str


@dataclass(frozen=True, slots=True)
class Produced:
    """What was last produced from a call."""

    revision: int = 0
    updated_us: int = 0
    digest: str = ""
    status: str = ""
    activities: dict[int, ProducedActivity] = field(default_factory=dict)


@dataclass(slots=True)
class _Folded:
    """
    A cache: the call after the first `count` events of a state.

    It moves on to the next state. A state that has lost its cache folds again, so a state never changes, whatever becomes of those that
    follow it.
    """

    call: Call | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class CallState:
    pbx: str
    call_id: str
    events: tuple[CallEvent, ...] = ()
    produced: Produced = Produced()
    fold_version: int = FOLD_VERSION
    folded: _Folded = field(default_factory=_Folded, compare=False, repr=False)

    def folded_call(self) -> Call:
        """The call after all events of this state. The caller must not change it."""
        folded = self.folded
        if folded.call is None:
            folded.call, folded.count = fold(self.events), len(self.events)
        elif folded.count < len(self.events):
            folded.call = fold(self.events[folded.count :], folded.call)
            folded.count = len(self.events)
        return folded.call

    def call_until(self, as_of_us: int) -> tuple[Sequence[CallEvent], Call]:
        """The events received until *as_of_us*, and the call after them."""
        if not self.events or self.events[-1].at_us <= as_of_us:
            return self.events, self.folded_call()
        events = [event for event in self.events if event.at_us <= as_of_us]
        return events, fold(events)

    def with_event(self, event: CallEvent) -> "CallState":
        if not self.events or event > self.events[-1]:
            moved = _Folded(self.folded.call, self.folded.count)
            self.folded.call = None
            return self._with((*self.events, event), moved)
        place = bisect_left(self.events, event)
        return self._with((*self.events[:place], event, *self.events[place:]), _Folded())

    def without(self, event: CallEvent) -> "CallState":
        return self._with(tuple(other for other in self.events if other is not event), _Folded())

    def _with(self, events: tuple[CallEvent, ...], folded: _Folded) -> "CallState":
        return CallState(self.pbx, self.call_id, events, self.produced, self.fold_version, folded)

    def find(self, event_id: str) -> CallEvent | None:
        return next((event for event in self.events[::-1] if event.event_id == event_id), None)


class CallProjection:
    """A `consumers.engine.projection.Projection[CallState]`. The limits of rule 12 are settings, in seconds."""

    name: ClassVar = "timelines"
    fold_version: ClassVar = FOLD_VERSION
    inputs: ClassVar[Sequence[TopicSpec]] = (CALL_EVENTS,)
    outputs: ClassVar[Sequence[TopicSpec]] = (CALL_TIMELINES, AGENT_ACTIVITY)
    repartitioned: ClassVar[Sequence[TopicSpec]] = (AGENT_ACTIVITY,)
    changelog: ClassVar = CALL_STATE
    max_batch_records: ClassVar = 1_000  # nearly each record has a state and a document of its own

    def __init__(
        self,
        *,
        ringing_limit_s: float = DEFAULT_LIMITS.ringing_us / SECOND_US,
        waiting_limit_s: float = DEFAULT_LIMITS.waiting_us / SECOND_US,
        talking_limit_s: float = DEFAULT_LIMITS.talking_us / SECOND_US,
    ) -> None:
        self.limits = Limits(
            round(ringing_limit_s * SECOND_US),
            round(waiting_limit_s * SECOND_US),
            round(talking_limit_s * SECOND_US),
        )

    def initial_state(self, pbx: str, key: str) -> CallState:
        return CallState(pbx, key)

    def fold(self, state: CallState, kind: TopicSpec, value: bytes) -> CallState:
        """Add one call event. Raises ValueError when it cannot be read, or belongs to another call."""
        if kind != CALL_EVENTS:
            raise ValueError(f"no input of this projection: {kind.suffix}")
        event = Event.model_validate_json(value)
        if event.unique_id != state.call_id:
            raise ValueError("an event of another call")
        return self.take(state, call_event(event))

    def take(self, state: CallState, event: CallEvent) -> CallState:
        """Add an event to the set. A copy of a known event changes nothing."""
        known = state.find(event.event_id)
        if known is None:
            return state.with_event(event)
        kept = earlier_copy(known, event)
        if kept == known:
            return state
        return state.without(known).with_event(kept)

    def emit(
        self, state: CallState, as_of_us: int, limit_us: int = NO_LIMIT_US
    ) -> tuple[CallState, Sequence[Document]]:
        """
        The timeline and the activity records that changed.

        A late event may bring an `as_of` before that of the last documents; then the later one counts, so that documents never go back.
        """
        as_of_us = max(as_of_us, state.produced.updated_us)
        events, call = state.call_until(as_of_us)
        if not events:
            return state, ()
        call = as_of(call, as_of_us, self.limits)
        holders = Holders(call)
        timeline = document(
            state.pbx, state.call_id, events, call, holders, is_ahead=events[-1].at_us > limit_us
        )
        body = bounded_json(timeline)
        records = {
            number: (_produced_activity(call, number, record), record)
            for number, record in activities(state.pbx, state.call_id, call, timeline, holders).items()
        }
        before = state.produced
        now = Produced(
            before.revision + 1,
            as_of_us,
            _digest(body),
            str(timeline["status"]),
            {number: produced for number, (produced, _) in records.items()},
        )
        is_current = state.fold_version == FOLD_VERSION
        if is_current and now.digest == before.digest and now.activities == before.activities:
            return state, ()
        documents = [_timeline_document(state.call_id, body, now)]
        for number, was in before.activities.items():
            if number not in records or records[number][0].agent != was.agent:
                record = removal(state.pbx, state.call_id, number, was.agent, was.role, was.last_event_us)
                documents.append(_activity_document(record, now.revision))
        for number, (produced, record) in records.items():
            if not is_current or before.activities.get(number) != produced:
                documents.append(_activity_document(record, now.revision))
        return CallState(state.pbx, state.call_id, state.events, now, FOLD_VERSION, state.folded), documents

    def next_timer(self, state: CallState) -> int | None:
        """
        The first moment after `updated_at` at which the documents change, by time alone or by an event received after it.

        A state that older rules have folded is due at once.
        """
        updated_us = state.produced.updated_us
        if state.fold_version != FOLD_VERSION:
            return updated_us
        upcoming_us = next((event.at_us for event in state.events if event.at_us > updated_us), None)
        events, call = state.call_until(updated_us)
        deadline_us = next_deadline(call, updated_us, self.limits) if events else None
        return min((at_us for at_us in (upcoming_us, deadline_us) if at_us is not None), default=None)

    def expires_at(self, state: CallState) -> int:
        """When the topics delete the call: 30 days after its last event or change."""
        last_us = state.events[-1].at_us if state.events else 0
        return max(last_us, state.produced.updated_us) + RETENTION_US

    def status(self, state: CallState) -> str:
        """`status` of the timeline."""
        return state.produced.status

    def encode(self, state: CallState) -> bytes:
        produced = state.produced
        value = orjson.dumps(
            [
                state.fold_version,
                state.pbx,
                state.call_id,
                [tuple(event) for event in state.events],
                produced.revision,
                produced.updated_us,
                produced.digest,
                produced.status,
                [
                    [number, each.agent, each.role, each.last_event_us, each.digest]
                    for number, each in produced.activities.items()
                ],
            ]
        )
        return value if len(value) < COMPRESS_FROM_BYTES else zlib.compress(value)

    def take_parts(self, state: CallState) -> tuple[CallState, Mapping[str, bytes | None]]:
        """A call has none: it is read as a whole."""
        return state, NO_PARTS

    def decode(self, value: bytes, parts: Mapping[str, bytes] = NO_PARTS) -> CallState:  # noqa: ARG002 - it has none
        if not value.startswith(b"["):
            value = zlib.decompress(value)
        version, pbx, call_id, events, revision, updated_us, digest, status, produced = orjson.loads(value)
        return CallState(
            pbx,
            call_id,
            tuple(map(from_state, events)),
            Produced(
                revision,
                updated_us,
                digest,
                status,
                {number: ProducedActivity(*each) for number, *each in produced},
            ),
            version,
        )


def timeline(
    pbx: str, call_id: str, events: Sequence[CallEvent], as_of_us: int, limits: Limits = DEFAULT_LIMITS
) -> CallTimeline | None:
    """Fold any events of a call, in any order, as of a moment. None if no event had come until then."""
    projection = CallProjection()
    projection.limits = limits
    state = projection.initial_state(pbx, call_id)
    for event in events:
        state = projection.take(state, event)
    _, documents = projection.emit(state, as_of_us)
    if not documents or documents[0].value is None:
        return None
    return CallTimeline.model_validate_json(documents[0].value)


def _digest(body: bytes) -> str:
    return blake2b(body, digest_size=9).hexdigest()


def _produced_activity(call: Call, number: int, record: Json) -> ProducedActivity:
    leg = call.leg(number)
    return ProducedActivity(record["agent"], leg.role, leg.touched_us, _digest(orjson.dumps(record)))


def _timeline_document(call_id: str, body: bytes, now: Produced) -> Document:
    """Append `revision` and `updated_at` to *body*, the JSON of the timeline without them."""
    counted = orjson.dumps({"revision": now.revision, "updated_at": time_text(now.updated_us)})
    value = body[:-1] + b"," + counted[1:]
    return Document(CALL_TIMELINES, call_id, value, TIMELINE_TYPE, f"{call_id}@{now.revision}", now.revision)


def _activity_document(record: Json, revision: int) -> Document:
    record["revision"] = revision
    agent = record["agent"]
    ce_id = f"{agent}/{record['call_id']}/{record['leg']}@{revision}"  # an agent has many legs
    return Document(AGENT_ACTIVITY, agent, orjson.dumps(record), ACTIVITY_TYPE, ce_id, revision)
