"""
Event <-> Record: what lies in Kafka (pure; contract 2). CloudEvents 1.0, Kafka binding, binary mode, written by hand (the SDK takes 19 µs).
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from voipex.events import AGENT_EVENT_TYPES, Event, EventType, agent_key
from voipex.partitioner import partition_of
from voipex.topics import AGENT_EVENTS, CALL_EVENTS, topic_name


class Record(NamedTuple):
    """One Kafka record. `key` None has no order; `value` is final: the same bytes on every attempt."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    @property
    def size_bytes(self) -> int:
        """Memory and room on the wire, roughly."""
        return len(self.value) + len(self.key or b"") + sum(len(n) + len(v) for n, v in self.headers) + 64


SPOOL_ID_HEADER: Final = "bridge-spool-id"
SEQ_HEADER: Final = "bridge-seq"
TRACEPARENT_HEADER: Final = "traceparent"


def encode(event: Event, at_ms: int, partitions: int, traceparent: str | None = None) -> Record:
    """Make the record of *event*; see `encode_fields`."""
    return encode_fields(event.model_dump(by_alias=True), at_ms, partitions, traceparent)


def encode_fields(
    fields: Mapping[str, Any], at_ms: int, partitions: int, traceparent: str | None = None
) -> Record:
    """
    Make the record of an event: agent events to the agent topic by agent key, everything else to the call topic by UniqueId.

    `fields`: as `normalize.fields_of` makes them; there must be a key. `at_ms`: received_at, as the record's timestamp.
    """
    pbx, event_type = fields["pbx"], fields["type"]
    agent = (
        agent_key(fields["login"], fields["line"], fields["email"])
        if event_type in AGENT_EVENT_TYPES
        else None
    )
    key = fields["unique_id"] if agent is None else agent
    if key is None:
        raise ValueError("an event without a key")
    key_bytes = key.encode()
    topic, headers_of_kind = _of_kind(pbx, event_type, agent is not None)
    headers: tuple[tuple[str, bytes], ...] = (
        *headers_of_kind,
        ("ce_id", fields["event_id"].encode()),
        ("ce_time", fields["received_at"].encode()),
        ("ce_subject", key_bytes),
        ("ce_partitionkey", key_bytes),
    )
    if traceparent is not None:
        headers += ((TRACEPARENT_HEADER, traceparent.encode()),)
    return Record(
        topic,
        partition_of(key_bytes, partitions),
        key_bytes,
        _json(fields),
        headers,
        at_ms,
    )


def _json(fields: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields)
    except TypeError:  # a whole number beyond 64 bits in `extra`
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def decode(value: bytes) -> Event:
    """Read an event back. Raises ValueError when it is none."""
    return Event.model_validate_json(value)


@lru_cache(maxsize=4096)
def _of_kind(pbx: str, event_type: EventType, is_agent: bool) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """Topic and headers that all events of a kind have."""
    return topic_name(pbx, AGENT_EVENTS if is_agent else CALL_EVENTS), (
        ("ce_specversion", b"1.0"),
        ("ce_type", ce_type(event_type, is_agent=is_agent).encode()),
        ("ce_source", f"/voipex/{pbx}".encode()),
        ("content-type", b"application/json"),
    )


def ce_type(event_type: EventType, *, is_agent: bool) -> str:
    """`voipex.call.ringing.v1`, `voipex.agent.login.v1`."""
    if is_agent:
        return f"voipex.agent.{event_type.removeprefix('agent_')}.v1"
    return f"voipex.call.{event_type}.v1"
