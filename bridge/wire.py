"""
Event <-> Record: what lies in Kafka (pure; contract 2). CloudEvents 1.0, Kafka binding, binary mode, written by hand (the SDK takes 19 µs).
"""

from functools import lru_cache
from typing import Final, NamedTuple

from bridge.events import Event, EventType, agent_key
from bridge.partition import partition_of
from bridge.topics import AGENT_EVENTS, CALL_EVENTS, topic_name


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
    """
    Make the record of *event*: agent events to the agent topic by agent key, everything else to the call topic by UniqueId.

    `at_ms`: received_at, as the record's timestamp. The event must have a key (`normalize` sees to that).
    """
    agent = agent_key(event.login, event.line, event.email) if event.type.is_agent else None
    if agent is not None:
        topic, key = topic_name(event.pbx, AGENT_EVENTS), agent
    elif event.unique_id is not None:
        topic, key = topic_name(event.pbx, CALL_EVENTS), event.unique_id
    else:
        raise ValueError("an event without a key")
    key_bytes = key.encode()
    headers = [
        *_headers_of_kind(event.pbx, event.type, agent is not None),
        ("ce_id", event.event_id.encode()),
        ("ce_time", event.received_at.encode()),
        ("ce_subject", key_bytes),
        ("ce_partitionkey", key_bytes),
    ]
    if traceparent is not None:
        headers.append((TRACEPARENT_HEADER, traceparent.encode()))
    return Record(
        topic,
        partition_of(key_bytes, partitions),
        key_bytes,
        event.__pydantic_serializer__.to_json(event, by_alias=True),
        tuple(headers),
        at_ms,
    )


def decode(value: bytes) -> Event:
    """Read an event back. Raises ValueError when it is none."""
    return Event.model_validate_json(value)


@lru_cache(maxsize=4096)
def _headers_of_kind(pbx: str, event_type: EventType, is_agent: bool) -> tuple[tuple[str, bytes], ...]:
    return (
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
