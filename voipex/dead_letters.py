"""
Dead letters, records of `<pbx>.dead-letters.v1`: bodies and records that could not be processed, stored unchanged with the reason (pure).

The headers hold what a replay needs. Their messages never repeat the body.
"""

from collections.abc import Sequence
from typing import Final

from voipex.errors import InvalidWebhook
from voipex.normalize import Receipt
from voipex.partitioner import partition_for_key
from voipex.records import TRACEPARENT_HEADER, Record
from voipex.timestamps import format_rfc3339
from voipex.topics import DEAD_LETTERS, topic_name

ERROR_CLASS_HEADER: Final = "bridge-error-class"


def dead_letter(
    body: bytes, fault: InvalidWebhook, pbx: str, credential: str, receipt: Receipt, partitions: int
) -> Record:
    """Make the dead letter of a webhook that was authenticated and read but is not an event. A replay uses the key names of `credential`."""
    headers = [
        (ERROR_CLASS_HEADER, type(fault).__name__.encode()),
        ("bridge-error-message", str(fault).encode()),
        ("bridge-stage", b"ingress"),
        ("bridge-received-at", receipt.received_at.encode()),
        ("bridge-event-id", receipt.event_id.encode()),
        ("bridge-pbx", pbx.encode()),
        ("bridge-credential", credential.encode()),
    ]
    if receipt.traceparent is not None:
        headers.append((TRACEPARENT_HEADER, receipt.traceparent.encode()))
    return Record(
        topic_name(pbx, DEAD_LETTERS),
        partition_for_key(receipt.event_id.encode(), partitions),
        None,
        body,
        tuple(headers),
        receipt.received_at_us // 1000,
    )


def undeliverable(record: Record, message: str, pbx: str, partitions: int) -> Record:
    """Make the dead letter of a record that Kafka will never accept (too large, invalid); key, value and headers are unchanged."""
    own = dict(record.headers)
    received_at = own.get("ce_time") or format_rfc3339(record.timestamp_ms * 1000).encode()
    headers = (
        *record.headers,
        (ERROR_CLASS_HEADER, b"Undeliverable"),
        ("bridge-error-message", message.encode()),
        ("bridge-stage", b"ingress"),
        ("bridge-pbx", pbx.encode()),
        *([] if "bridge-received-at" in own else [("bridge-received-at", received_at)]),
        ("__dlq.errors.topic", record.topic.encode()),
    )
    key = record.key if record.key is not None else b""
    return record._replace(
        topic=topic_name(pbx, DEAD_LETTERS), partition=partition_for_key(key, partitions), headers=headers
    )


def unreadable(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    timestamp_ms: int,
    *,
    stage: str,
    error: str,
    message: str,
    pbx: str,
    topic: str,
    partition: int,
    offset: int,
) -> Record:
    """
    Make the dead letter of a record that a consumer cannot fold; key, value and headers are unchanged, and so is the number of its partition: a
    task writes to no other one. `topic`, `partition` and `offset` are those of the record.
    """
    own = tuple((name, content if content is not None else b"") for name, content in headers)
    return Record(
        topic_name(pbx, DEAD_LETTERS),
        partition,
        key,
        value or b"",
        (
            *own,
            (ERROR_CLASS_HEADER, error.encode()),
            ("bridge-error-message", message.encode()),
            ("bridge-stage", stage.encode()),
            ("bridge-pbx", pbx.encode()),
            ("bridge-received-at", format_rfc3339(timestamp_ms * 1000).encode()),
            ("__dlq.errors.topic", topic.encode()),
            ("__dlq.errors.partition", str(partition).encode()),
            ("__dlq.errors.offset", str(offset).encode()),
        ),
        timestamp_ms,
    )
