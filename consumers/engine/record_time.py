"""
When a record was received: what Kafka Streams calls a timestamp extractor (pure).

The producer says it in `ce_time`, or in `received_at` of the event, and Kafka in the record's timestamp. They agree but for a foreign
producer, and any of them may be wrong or missing: Kafka takes every timestamp, and also none (-1). The clock only shows which times cannot
be true (ADR 7); the earliest one that can be counts.
"""

from typing import Final, NamedTuple

import orjson

from consumers.engine.errors import InvalidRecord
from consumers.engine.projection import SHOWN_AHEAD_US
from consumers.engine.records import ConsumerRecord
from voipex.records import TRACEPARENT_HEADER
from voipex.timestamps import parse_rfc3339

AHEAD_US: Final = 300 * 1_000_000
"""Clocks differ by less. A record from further beyond now shows that the clock of its producer is wrong, or the one of this host."""

LATEST_US: Final = parse_rfc3339("9000-01-01T00:00:00Z")
"""Later times cannot be written as RFC 3339 everywhere."""


class RecordTime(NamedTuple):
    """
    When a record was received, in microseconds.

    `at_us`: the earliest of its times, or the limit when none can be true. `latest_us`: the latest, true or not; 0 when it has none.
    `traceparent`: of the request, read in passing.
    """

    at_us: int
    latest_us: int
    traceparent: bytes | None


def record_time(record: ConsumerRecord, limit_us: int) -> RecordTime:
    """
    Return when *record* was received. `limit_us`: now, and AHEAD_US.

    Raises:
        InvalidRecord: a tombstone, or of an unknown version.
    """
    if record.value is None:
        raise InvalidRecord("no value")
    claimed_us, traceparent = None, None
    for name, value in record.headers:
        if name == "ce_time" and value is not None:
            claimed_us = _parse(value)
        elif name == "ce_type" and value is not None and not value.endswith(b".v1"):
            raise InvalidRecord("of a version that this service does not know")
        elif name == TRACEPARENT_HEADER:
            traceparent = value
    if claimed_us is None:
        claimed_us = _received_at(record.value)
    # It has milliseconds only: until the last microsecond of its own.
    stamped_us = record.timestamp * 1000 + 999 if record.timestamp >= 0 else claimed_us
    if claimed_us is None:
        claimed_us = stamped_us
    if claimed_us is None or stamped_us is None:
        return RecordTime(min(limit_us, LATEST_US), 0, traceparent)
    at_us = min(claimed_us, stamped_us)
    if at_us > limit_us + SHOWN_AHEAD_US:
        at_us = min(limit_us, LATEST_US)
    return RecordTime(at_us, max(claimed_us, stamped_us), traceparent)


def _received_at(value: bytes) -> int | None:
    """Of an event without `ce_time`."""
    try:
        event = orjson.loads(value)
    except ValueError:
        return None
    text = event.get("received_at") if isinstance(event, dict) else None
    return _parse(text.encode()) if isinstance(text, str) else None


def _parse(text: bytes) -> int | None:
    try:
        return parse_rfc3339(text.decode())
    except ValueError:
        return None
