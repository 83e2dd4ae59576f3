"""Where a survey's events come from: a recording, or the event topics of one PBX."""

import re
from collections import Counter
from typing import NamedTuple

from bridge.ops.reader import ConsumerRecord, read
from consumers.explain.trace import Trace, trace_of
from voipex.errors import TopicMismatch
from voipex.events import Event
from voipex.kafka.settings import KafkaSettings
from voipex.topics import AGENT_EVENTS, CALL_EVENTS, DEAD_LETTERS, topic_name

_CLASS = re.compile(r"[A-Za-z]{1,60}")


class Source(NamedTuple):
    """A trace, how many lines or records are no events, and the dead letters by error class."""

    trace: Trace
    unusable: int
    dead_letters: Counter[str]


async def read_topics(settings: KafkaSettings, pbx: str, since_us: int) -> Source:
    """
    Read the events of *pbx* that were received since *since_us*, and count its dead letters by error class.

    Raises:
        TopicMismatch: an event topic does not exist.
        KafkaUnreachable: with the cause.
    """
    events: list[Event] = []
    unusable = 0
    for spec in (CALL_EVENTS, AGENT_EVENTS):
        async for record in read(settings, topic_name(pbx, spec)):
            if record.timestamp_ms * 1000 < since_us:
                continue
            try:
                events.append(Event.model_validate_json(record.value or b""))
            except ValueError:
                unusable += 1
    dead_letters: Counter[str] = Counter()
    try:
        async for record in read(settings, topic_name(pbx, DEAD_LETTERS)):
            if record.timestamp_ms * 1000 >= since_us:
                dead_letters[_error_class(record)] += 1
    except TopicMismatch:
        pass  # it is made by `topics apply`, and nobody has to
    return Source(trace_of(events), unusable, dead_letters)


def _error_class(record: ConsumerRecord) -> str:
    value = dict(record.headers).get("bridge-error-class") or b""
    name = value.decode(errors="replace")
    return name if _CLASS.fullmatch(name) else "(no identifier)"


def distinct(trace: Trace) -> list[Event]:
    """Return the events of a trace in their total order, copies of one event_id once."""
    events = {each.event_id: each for each in trace.received}
    return [each.event for each in sorted(events.values(), key=lambda each: each[:2])]
