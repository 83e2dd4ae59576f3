"""Where a survey's events come from: a recording, or the event topics of one PBX."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from bridge.ops.reader import ConsumerRecord, read
from consumers.explain.trace import Received, Rejected, Trace
from voipex.errors import TopicMismatch
from voipex.events import Event
from voipex.kafka.settings import KafkaSettings
from voipex.timestamps import parse_rfc3339
from voipex.topics import AGENT_EVENTS, CALL_EVENTS, DEAD_LETTERS, topic_name

_CLASS = re.compile(r"[A-Za-z]{1,60}")


async def read_topics(settings: KafkaSettings, pbx: str, since_us: int) -> tuple[Trace, Counter[str]]:
    """
    Read the events of *pbx* that were received since *since_us*, and count its dead letters by error class.

    Raises:
        TopicMismatch: an event topic does not exist.
        KafkaUnreachable: with the cause.
    """
    received: dict[str, Received] = {}
    rejected: list[Rejected] = []
    for spec in (CALL_EVENTS, AGENT_EVENTS):
        async for record in read(settings, topic_name(pbx, spec)):
            if record.timestamp_ms * 1000 < since_us:
                continue
            try:
                event = Event.model_validate_json(record.value or b"")
                received.setdefault(event.event_id, Received(parse_rfc3339(event.received_at), event))
            except ValueError:
                rejected.append(Rejected(0, "no Event"))
    dead_letters: Counter[str] = Counter()
    try:
        async for record in read(settings, topic_name(pbx, DEAD_LETTERS)):
            if record.timestamp_ms * 1000 >= since_us:
                dead_letters[_error_class(record)] += 1
    except TopicMismatch:
        pass  # it is made by `topics apply`, and nobody has to
    ordered = sorted(received.values(), key=lambda each: each.event.order)
    return Trace(tuple(ordered), tuple(rejected)), dead_letters


def _error_class(record: ConsumerRecord) -> str:
    value = dict(record.headers).get("bridge-error-class") or b""
    name = value.decode(errors="replace")
    return name if _CLASS.fullmatch(name) else "(no identifier)"


def distinct(trace: Trace) -> list[Event]:
    """Return the events of a trace in their total order, copies of one event_id once."""
    events = {each.event.event_id: each.event for each in trace.received}
    return sorted(events.values(), key=lambda event: event.order)


def sender_habits(metrics: str) -> Mapping[str, Any]:
    """Pick what `/metrics` of a running bridge tells about its clients, since its start."""
    habits: dict[str, Any] = {}
    codes: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "voipex_bridge_http_requests_total" and sample.labels["route"] != "/token":
                codes[sample.labels["code"]] += int(sample.value)
    habits["answers by status code, since the bridge's start"] = (
        ", ".join(f"{code}: {count}" for code, count in sorted(codes.items())) or "none"
    )
    return habits
