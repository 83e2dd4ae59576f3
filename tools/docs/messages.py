"""
The records of the public topics: each kind with the meaning of its key and headers.

The code that writes records does not use this module; tests compare the two.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from consumers.agents.projection import CE_TYPE as STATUS_TYPE
from consumers.calls.projection import ACTIVITY_TYPE, TIMELINE_TYPE
from voipex.agent_activity import AgentActivity
from voipex.agent_status import AgentStatus
from voipex.call_timeline import CallTimeline
from voipex.events import AGENT_EVENT_TYPES, Event, EventType
from voipex.records import SEQ_HEADER, SPOOL_ID_HEADER, TRACEPARENT_HEADER, ce_type
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_TIMELINES,
    DEAD_LETTERS,
    TopicSpec,
)

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "event": Event,
    "call-timeline": CallTimeline,
    "agent-activity": AgentActivity,
    "agent-status": AgentStatus,
}
"""File name of a document -> its model."""

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"

_DIGITS: Final = r"^[0-9]+$"
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
_UUID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


class Header(NamedTuple):
    """One header; its value is UTF-8 text."""

    name: str
    meaning: str
    limits: Mapping[str, Any]
    """Limits of its text, as members of a JSON Schema."""
    always: bool = True


class Message(NamedTuple):
    """One kind of record. `schema` is the name of its value's model, or None; then `value` is the JSON Schema."""

    name: str
    kind: TopicSpec
    summary: str
    key: str | None
    headers: tuple[Header, ...]
    schema: str | None = None
    value: Mapping[str, Any] | None = None
    content_type: str = JSON


# ---------------------------------------------------------------- headers


def _cloud_event(types: tuple[str, ...], identity: Header, time: str, subject: str) -> tuple[Header, ...]:
    """CloudEvents 1.0, Kafka binding, binary mode."""
    return (
        Header("ce_specversion", "CloudEvents version", {"const": "1.0"}),
        Header(
            "ce_type",
            "type of the event or document",
            {"const": types[0]} if len(types) == 1 else {"enum": list(types)},
        ),
        Header("ce_source", "the PBX: `/voipex/<pbx>`", {"pattern": r"^/voipex/[a-z0-9-]{1,32}$"}),
        identity,
        Header("ce_time", time, {"format": "date-time", "pattern": _TIME}),
        Header("ce_subject", f"{subject}, as the key", {"minLength": 1}),
        Header("ce_partitionkey", "the key", {"minLength": 1}),
        Header("content-type", "media type of the value", {"const": JSON}),
    )


_EVENT_ID: Final = Header("ce_id", "`event_id`, the same in all copies of an event", {"pattern": _UUID})
_TRACEPARENT: Final = Header(
    TRACEPARENT_HEADER,
    "W3C trace context of the webhook's request, if it had one",
    {"pattern": r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"},
    always=False,
)
_OF_SPOOL: Final = (
    Header(SPOOL_ID_HEADER, "id of the bridge's spool that stored it", {"pattern": _UUID}),
    Header(SEQ_HEADER, "its sequence number in that spool", {"pattern": _DIGITS}),
)
_REPLAYS: Final = Header(
    "bridge-replays",
    "how often it was published again by `voipex-bridge dead-letters replay`",
    {"pattern": _DIGITS},
    always=False,
)


def _event_headers(types: tuple[str, ...], subject: str) -> tuple[Header, ...]:
    about = _cloud_event(types, _EVENT_ID, "`received_at`", subject)
    return (*about, *_OF_SPOOL, _TRACEPARENT, _REPLAYS)


def _document_headers(
    ce_type: str, ce_id: str, ce_id_pattern: str, subject: str, source_partition: str
) -> tuple[Header, ...]:
    identity = Header("ce_id", f"names this version of the document: `{ce_id}`", {"pattern": ce_id_pattern})
    return (
        *_cloud_event((ce_type,), identity, "the time as of which it was folded", subject),
        Header(
            "bridge-fold-version",
            "version of the rules that folded it; after an upgrade every retained document is published again",
            {"pattern": _DIGITS},
        ),
        Header(
            "bridge-source-topic",
            "topic of the last record folded into it or, if a timer changed it, of the last record read before; absent without one",
            {"minLength": 1},
            always=False,
        ),
        Header(
            "bridge-source-offset",
            f"offset of that record, {source_partition}",
            {"pattern": _DIGITS},
            always=False,
        ),
        _TRACEPARENT,
    )


_SAME_PARTITION: Final = "in the partition of the same number"


def _dead_letter_headers(stage: Mapping[str, Any], error: Mapping[str, Any]) -> tuple[Header, ...]:
    return (
        Header("bridge-error-class", "class of the error", error),
        Header("bridge-error-message", "what is wrong; never contains a part of the value", {"minLength": 1}),
        Header("bridge-stage", "service that could not use it", stage),
        Header("bridge-pbx", "name of the PBX", {"pattern": r"^[a-z0-9-]{1,32}$"}),
    )


_RECEIVED_AT: Final = Header(
    "bridge-received-at", "when it was received", {"format": "date-time", "pattern": _TIME}
)
_SOURCE_TOPIC: Final = Header("__dlq.errors.topic", "topic of the record", {"minLength": 1})


# ---------------------------------------------------------------- messages

CALL_EVENT: Final = Message(
    "CallEvent",
    CALL_EVENTS,
    "One step of a call, as the PBX reported it. An agent event without an agent, but with a UniqueId, is here too.",
    "UniqueId, its text exactly as the PBX sent it",
    _event_headers(tuple(ce_type(each, is_agent=False) for each in EventType), "UniqueId"),
    "event",
)
AGENT_EVENT: Final = Message(
    "AgentEvent",
    AGENT_EVENTS,
    "An agent logged in to or out of a queue, or was paused or unpaused.",
    "the agent key: login in lower case, else `line:<line>`, else `email:<e-mail>`",
    _event_headers(
        tuple(ce_type(each, is_agent=True) for each in EventType if each in AGENT_EVENT_TYPES),
        "the agent key",
    ),
    "event",
)
TIMELINE: Final = Message(
    "CallTimeline",
    CALL_TIMELINES,
    "The state of a call, published again with every change: the highest revision is current.",
    "UniqueId",
    _document_headers(TIMELINE_TYPE, "<key>@<revision>", r"^.+@[0-9]+$", "UniqueId", _SAME_PARTITION),
    "call-timeline",
)
ACTIVITY: Final = Message(
    "AgentActivity",
    AGENT_ACTIVITY,
    "The part of an agent in one leg of a call, published again with every change: the highest revision is current.",
    "the agent key",
    _document_headers(
        ACTIVITY_TYPE,
        "<agent>/<call_id>/<leg>@<revision>",
        r"^.+/.+/[0-9]+@[0-9]+$",
        "the agent key",
        "in the partition of its call",
    ),
    "agent-activity",
)
STATUS: Final = Message(
    "AgentStatus",
    AGENT_STATUS,
    "The state of an agent, published again with every change: the highest revision is current.",
    "the agent key",
    _document_headers(STATUS_TYPE, "<key>@<revision>", r"^.+@[0-9]+$", "the agent key", _SAME_PARTITION),
    "agent-status",
)
FORGOTTEN_AGENT: Final = Message(
    "AgentForgotten",
    AGENT_STATUS,
    "No value: the agent was not seen for 90 days, or everything known about it was revoked. Delete your data of the key.",
    "the agent key",
    STATUS.headers,
    value={"type": "null"},
)
_RAW: Final = {"type": "string", "format": "binary"}
REFUSED_WEBHOOK: Final = Message(
    "RefusedWebhook",
    DEAD_LETTERS,
    "A webhook that was answered with 400 or 422: the raw body, which may be neither JSON nor UTF-8.",
    None,
    (
        *_dead_letter_headers({"const": "ingress"}, {"enum": ["InvalidJson", "InvalidEvent"]}),
        _RECEIVED_AT,
        Header("bridge-event-id", "`event_id` that the event gets in a replay", {"pattern": _UUID}),
        Header(
            "bridge-credential",
            "credential of the request; its key names are used in a replay",
            {"minLength": 1},
        ),
        *_OF_SPOOL,
        _TRACEPARENT,
    ),
    value=_RAW,
    content_type=BYTES,
)
UNDELIVERABLE_RECORD: Final = Message(
    "UndeliverableRecord",
    DEAD_LETTERS,
    "A record that Kafka rejected permanently (too large, invalid). Key, value and headers are those of the record, with these headers added.",
    "the key of the record",
    (
        *_dead_letter_headers({"const": "ingress"}, {"const": "Undeliverable"}),
        _RECEIVED_AT,
        _SOURCE_TOPIC,
        *_OF_SPOOL,
    ),
    value=_RAW,
    content_type=BYTES,
)
UNREADABLE_RECORD: Final = Message(
    "UnreadableRecord",
    DEAD_LETTERS,
    "A record that the timelines or agents service could not fold. Key, value and headers are those of the record, with these headers added.",
    "the key of the record, null if it had none",
    (
        *_dead_letter_headers({"enum": ["timelines", "agents"]}, {"minLength": 1}),
        _RECEIVED_AT,
        _SOURCE_TOPIC,
        Header("__dlq.errors.partition", "partition of the record", {"pattern": _DIGITS}),
        Header("__dlq.errors.offset", "offset of the record", {"pattern": _DIGITS}),
    ),
    value=_RAW,
    content_type=BYTES,
)

MESSAGES: Final = (
    CALL_EVENT,
    AGENT_EVENT,
    TIMELINE,
    ACTIVITY,
    STATUS,
    FORGOTTEN_AGENT,
    REFUSED_WEBHOOK,
    UNDELIVERABLE_RECORD,
    UNREADABLE_RECORD,
)


def headers_schema(message: Message) -> dict[str, Any]:
    """Return the headers as a JSON Schema, which allows further ones."""
    return {
        "type": "object",
        "properties": {
            each.name: {"type": "string", "description": each.meaning, **each.limits}
            for each in message.headers
        },
        "required": [each.name for each in message.headers if each.always],
    }
