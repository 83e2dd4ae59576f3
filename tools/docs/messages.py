"""
What lies in the public topics: every kind of record, its key and its headers, with what they mean (contract 2, 5.1 and 7).

The code that writes records does not read this; tests run it and compare.
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
"""Name of the files -> what the records of a topic hold."""

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
    """What its text may be, in the words of JSON Schema."""
    always: bool = True


class Message(NamedTuple):
    """One kind of record. `schema`: name of the model of its value; None: `value` says what it is."""

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
        Header("ce_specversion", "version of CloudEvents", {"const": "1.0"}),
        Header("ce_type", "what it is", {"const": types[0]} if len(types) == 1 else {"enum": list(types)}),
        Header("ce_source", "which PBX: `/voipex/<pbx>`", {"pattern": r"^/voipex/[a-z0-9-]{1,32}$"}),
        identity,
        Header("ce_time", time, {"format": "date-time", "pattern": _TIME}),
        Header("ce_subject", f"{subject}, as the key", {"minLength": 1}),
        Header("ce_partitionkey", "the key", {"minLength": 1}),
        Header("content-type", "of the value", {"const": JSON}),
    )


_EVENT_ID: Final = Header("ce_id", "`event_id`: copies of an event are known by it", {"pattern": _UUID})
_TRACEPARENT: Final = Header(
    TRACEPARENT_HEADER,
    "W3C trace context of the webhook's request, when it had one",
    {"pattern": r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"},
    always=False,
)
_OF_SPOOL: Final = (
    Header(SPOOL_ID_HEADER, "which spool of a bridge took it", {"pattern": _UUID}),
    Header(SEQ_HEADER, "its place in that spool", {"pattern": _DIGITS}),
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
        *_cloud_event((ce_type,), identity, "the moment that it was folded for", subject),
        Header(
            "bridge-fold-version",
            "by which version of the rules it was folded; after an upgrade all that is kept comes again",
            {"pattern": _DIGITS},
        ),
        Header(
            "bridge-source-topic",
            "topic of the last record that was folded into it or, when time alone changed it, that was read before; missing without one",
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


def _letter_headers(stage: Mapping[str, Any], error: Mapping[str, Any]) -> tuple[Header, ...]:
    return (
        Header("bridge-error-class", "kind of the fault", error),
        Header(
            "bridge-error-message", "what is wrong, in our words; never a part of the value", {"minLength": 1}
        ),
        Header("bridge-stage", "who could not use it", stage),
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
    "One step of a call, as the PBX told it. An agent's event that names nobody but has a UniqueId is here too.",
    "UniqueId, its text exactly as the PBX sent it",
    _event_headers(tuple(ce_type(each, is_agent=False) for each in EventType), "UniqueId"),
    "event",
)
AGENT_EVENT: Final = Message(
    "AgentEvent",
    AGENT_EVENTS,
    "An agent logged in or out of a queue, paused or went on.",
    "the agent key: login in small letters, else `line:<line>`, else `email:<e-mail>`",
    _event_headers(
        tuple(ce_type(each, is_agent=True) for each in EventType if each in AGENT_EVENT_TYPES),
        "the agent key",
    ),
    "event",
)
TIMELINE: Final = Message(
    "CallTimeline",
    CALL_TIMELINES,
    "The state of a call: written anew with every change, the highest revision holds.",
    "UniqueId",
    _document_headers(TIMELINE_TYPE, "<key>@<revision>", r"^.+@[0-9]+$", "UniqueId", _SAME_PARTITION),
    "call-timeline",
)
ACTIVITY: Final = Message(
    "AgentActivity",
    AGENT_ACTIVITY,
    "What one leg of a call is to an agent: written anew with every change, the highest revision holds.",
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
    "The state of an agent: written anew with every change, the highest revision holds.",
    "the agent key",
    _document_headers(STATUS_TYPE, "<key>@<revision>", r"^.+@[0-9]+$", "the agent key", _SAME_PARTITION),
    "agent-status",
)
FORGOTTEN_AGENT: Final = Message(
    "AgentForgotten",
    AGENT_STATUS,
    "No value: the agent was not seen for 90 days, or all that was known was taken back. Delete what you hold under the key.",
    "the agent key",
    STATUS.headers,
    value={"type": "null"},
)
_RAW: Final = {"type": "string", "format": "binary"}
REFUSED_WEBHOOK: Final = Message(
    "RefusedWebhook",
    DEAD_LETTERS,
    "A webhook that was answered 400 or 422: the body as it came, which may be no JSON and no UTF-8.",
    None,
    (
        *_letter_headers({"const": "ingress"}, {"enum": ["InvalidJson", "InvalidEvent"]}),
        _RECEIVED_AT,
        Header("bridge-event-id", "`event_id` that a replay gives it", {"pattern": _UUID}),
        Header("bridge-credential", "credential that it came with: its key names", {"minLength": 1}),
        *_OF_SPOOL,
        _TRACEPARENT,
    ),
    value=_RAW,
    content_type=BYTES,
)
UNDELIVERABLE_RECORD: Final = Message(
    "UndeliverableRecord",
    DEAD_LETTERS,
    "A record that Kafka refused for good (too large, invalid). Key, value and headers are the record's own; these headers are added.",
    "as the record",
    (
        *_letter_headers({"const": "ingress"}, {"const": "Undeliverable"}),
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
    "A record that the timelines or agents service could not fold. Key, value and headers are the record's own; these headers are added.",
    "as the record, null when it had none",
    (
        *_letter_headers({"enum": ["timelines", "agents"]}, {"minLength": 1}),
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
    """The headers as a JSON Schema; others may come with them."""
    return {
        "type": "object",
        "properties": {
            each.name: {"type": "string", "description": each.meaning, **each.limits}
            for each in message.headers
        },
        "required": [each.name for each in message.headers if each.always],
    }
