"""
Examples of every kind of record, computed from a recorded trace: the bridge's events of its webhooks, and the folds' documents.

Only two invalid webhooks and an unreadable record are written by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.explain.replay import Explanation, explain
from consumers.explain.trace import Received, Trace, made_up_id, read_trace
from tools.docs.messages import (
    ACTIVITY,
    AGENT_EVENT,
    CALL_EVENT,
    FORGOTTEN_AGENT,
    REFUSED_WEBHOOK,
    STATUS,
    TIMELINE,
    UNDELIVERABLE_RECORD,
    UNREADABLE_RECORD,
    Message,
)
from voipex.dead_letters import dead_letter, undeliverable, unreadable
from voipex.errors import InvalidWebhook
from voipex.normalize import NormalizedEvent, Receipt, normalize
from voipex.records import SEQ_HEADER, SPOOL_ID_HEADER, Record, encode
from voipex.timestamps import format_rfc3339, parse_rfc3339
from voipex.topics import CALL_EVENTS, DEFAULT_PARTITIONS, TopicSpec, topic_name
from voipex.webhook import parse

PBX: Final = "voipex"

_SPOOL_ID: Final = "5f0b2c3e-8d51-4c0e-9a46-2b7a1f3d9c10"
_TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_REFUSED: Final = (
    b'{"EventName":"Hangup","From":"777888999","To":"222333444","Reason":"Normal Clearing"}',
    b'{"EventName":"Hangup","From":"777888999","To":"222333444"',
)
"""Invalid webhooks: one without a call, one truncated."""
_REFUSED_AT: Final = "2026-03-02T07:12:00.000000Z"
_FOREIGN_VALUE: Final = b'{"unique_id":"1772435129.41","type":"ringing"}'

Json = dict[str, Any]


class Example(NamedTuple):
    """A complete record. `value`: an object, or bytes decoded to text, or None."""

    message: Message
    title: str
    pbx: str
    key: str | None
    headers: Mapping[str, str]
    value: Any

    @property
    def topic(self) -> str:
        return topic_name(self.pbx, self.message.kind)


@dataclass(frozen=True)
class Examples:
    """What one trace shows."""

    trace: Trace

    @cached_property
    def explanation(self) -> Explanation:
        return explain(self.trace)

    @cached_property
    def documents(self) -> Mapping[str, Json]:
        """One document of each model: the first call's, and what calls did to the agent who answered last."""
        event = next(each.event for each in self.trace.received if each.event.unique_id is not None)
        agent = self.explanation.activities[-1]["agent"]
        return {
            "event": event.model_dump(mode="json", by_alias=True),
            "call-timeline": self.explanation.timelines[0],
            "agent-activity": next(
                each for each in reversed(self.explanation.activities) if each["answered_at"] is not None
            ),
            "agent-status": next(each for each in self.explanation.agents if each["agent"] == agent),
        }

    @cached_property
    def records(self) -> Sequence[Example]:
        """Complete records with key and headers; of events one per type."""
        return (*self._events(), *self._of_documents(), *_dead_letters(self.trace.received[0]))

    def _events(self) -> list[Example]:
        first: dict[str, Example] = {}
        for seq, received in enumerate(self.trace.received):
            record = _stamped(
                encode(
                    NormalizedEvent.from_event(received.event), received.at_us // 1000, DEFAULT_PARTITIONS
                ),
                seq,
            )
            message = CALL_EVENT if record.topic == topic_name(PBX, CALL_EVENTS) else AGENT_EVENT
            value = received.event.model_dump(mode="json", by_alias=True)
            example = _example(message, received.event.event_name, record, value)
            first.setdefault(example.headers["ce_type"], example)
        return list(first.values())

    def _of_documents(self) -> list[Example]:
        timeline, activity, status = (
            self.documents[name] for name in ("call-timeline", "agent-activity", "agent-status")
        )
        calls, agents = CallProjection.fold_version, AgentProjection.fold_version
        leg = f"{activity['agent']}/{activity['call_id']}/{activity['leg']}"
        gone_at = format_rfc3339(parse_rfc3339(status["last_event_at"]) + 90 * 24 * 60 * 60 * 1_000_000)
        return [
            _document(
                TIMELINE, "a call that ended", timeline["call_id"], timeline["updated_at"], timeline, calls
            ),
            _document(
                ACTIVITY,
                "a leg that ended",
                leg,
                activity["last_event_at"],
                activity,
                calls,
                activity["agent"],
            ),
            _document(
                STATUS, "an agent between calls", status["agent"], status["updated_at"], status, agents
            ),
            _document(
                FORGOTTEN_AGENT,
                "not seen for 90 days",
                status["agent"],
                gone_at,
                {"revision": status["revision"] + 1},
                agents,
            )._replace(value=None),
        ]


def examples_of(trace: bytes) -> Examples:
    return Examples(read_trace(trace.splitlines()))


def _example(message: Message, title: str, record: Record, value: Any) -> Example:
    headers = {name: text.decode() for name, text in record.headers}
    key = None if record.key is None else record.key.decode()
    return Example(message, title, PBX, key, headers, value)


def _stamped(record: Record, seq: int) -> Record:
    """As the publisher sends it."""
    place = ((SPOOL_ID_HEADER, _SPOOL_ID.encode()), (SEQ_HEADER, str(seq).encode()))
    return record._replace(headers=(*record.headers, *place))


def _document(
    message: Message,
    title: str,
    name: str,
    at: str,
    value: Json,
    fold_version: int,
    key: str | None = None,
) -> Example:
    """`name`: of the document, in its ce_id; the key is another one of activities."""
    subject = name if key is None else key
    (ce_type,) = (each.limits["const"] for each in message.headers if each.name == "ce_type")
    headers = {
        "ce_specversion": "1.0",
        "ce_type": ce_type,
        "ce_source": f"/voipex/{PBX}",
        "ce_id": f"{name}@{value['revision']}",
        "ce_time": at,
        "ce_subject": subject,
        "ce_partitionkey": subject,
        "content-type": "application/json",
        "bridge-fold-version": str(fold_version),
        "bridge-source-topic": topic_name(PBX, _source_of(message)),
        "bridge-source-offset": "11",
    }
    return Example(message, title, PBX, subject, headers, value)


def _source_of(message: Message) -> TopicSpec:
    return ACTIVITY.kind if message.kind == STATUS.kind else CALL_EVENTS


# ---------------------------------------------------------------- dead letters


def _dead_letters(received: Received) -> list[Example]:
    rejected = encode(NormalizedEvent.from_event(received.event), received.at_us // 1000, DEFAULT_PARTITIONS)
    refused = undeliverable(rejected, "Kafka refused it: InvalidTimestamp", PBX, DEFAULT_PARTITIONS)
    unread = unreadable(
        b"1772435129.41",
        _FOREIGN_VALUE,
        (("ce_type", b"voipex.call.ringing.v1"),),
        parse_rfc3339(_REFUSED_AT) // 1000,
        stage=CallProjection.name,
        error="ValidationError",
        message="the value cannot be read",
        pbx=PBX,
        topic=topic_name(PBX, CALL_EVENTS),
        partition=7,
        offset=1184,
    )
    return [
        *(_refused(body, place) for place, body in enumerate(_REFUSED)),
        _example(
            UNDELIVERABLE_RECORD,
            "a record that Kafka rejected",
            _stamped(refused, 41),
            refused.value.decode(),
        ),
        _example(
            UNREADABLE_RECORD,
            "a record of another producer, without an event_id",
            unread,
            unread.value.decode(),
        ),
    ]


def _refused(body: bytes, place: int) -> Example:
    at_us = parse_rfc3339(_REFUSED_AT) + place
    receipt = Receipt(
        at_us, format_rfc3339(at_us), made_up_id(at_us, 0), _TRACEPARENT if place == 0 else None
    )
    try:
        normalize(parse(body), PBX, receipt)
    except InvalidWebhook as fault:
        record = _stamped(dead_letter(body, fault, PBX, "site-7", receipt, DEFAULT_PARTITIONS), 39 + place)
        return _example(REFUSED_WEBHOOK, f"{type(fault).__name__}: {fault}", record, body.decode())
    raise AssertionError("it is an event")
