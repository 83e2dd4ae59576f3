"""
Accepted records until Kafka has them: on disk (`spool`), or in memory while their senders wait for Kafka (`memory`).

Either one is the RecordSink of the ingress and the RecordSource of the publisher, both on the same event loop:

    ingress -- append(records, on_durable) --> spool -- take(), acknowledge(through) --> publisher

A record is *pending* until it is durable, and *waiting* until Kafka has acknowledged it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from voipex.errors import ServiceUnavailable
from voipex.records import Record

OnDurable = Callable[[ServiceUnavailable | None], None]
"""Called once, on the event loop: with None when the records are durable, else with the error to respond with."""


class SpooledRecord(NamedTuple):
    """A record and its position: the spool that accepted it and its sequence number there."""

    spool_id: str
    seq: int
    record: Record


class SpoolStats(NamedTuple):
    """Counters since the start. Records found at the start count as appended, corrupt ones as acknowledged once they are skipped."""

    appended_total: int
    acknowledged_total: int
    waiting_records: int
    bytes: int
    """Of the waiting records."""
    limit_bytes: int
    oldest_waiting_ms: int | None
    """Timestamp of the oldest waiting record, in milliseconds since 1970."""
    stalled_s: float
    """Time since a record was acknowledged, or the first one began to wait; 0 if none waits. Right also when the clock is wrong."""
    corrupt_frames_total: int
    full: bool
    """Whether an append was refused for want of room, on disk or within the limit, and would be again."""
    failed: bool
    """Whether the disk failed: nothing is accepted any more."""
    used_bytes_by_pbx: Mapping[str, int]
    """About the bytes of the waiting records of each PBX."""
    refused_by_pbx: Mapping[str, int]
    """Appends that were refused because their PBX had filled its share."""


class RecordSink(Protocol):
    """The side of the ingress."""

    def append(self, records: Sequence[Record], on_durable: OnDurable) -> None:
        """
        Store *records* durably, in order and all or none; then call `on_durable(None)`, or `on_durable(error)` if that failed.

        Called on the event loop for every accepted request. It neither blocks nor raises. *on_durable* is called exactly once, on the
        event loop: before `append` returns if the records are rejected at once, else later. After KafkaTooSlow and SpoolFailed the
        records may still reach Kafka; after any other error they do not.
        """
        ...


class RecordSource(Protocol):
    """The side of the publisher, which is the only caller."""

    async def take(self, max_records: int, max_bytes: int) -> Sequence[SpooledRecord]:
        """
        Return the next records in order, at least one and all of one spool id; wait for them if there are none.

        Returns an empty sequence once the source is sealed and everything was taken. A cancelled call takes nothing.
        """
        ...

    def acknowledge(self, through: SpooledRecord) -> None:
        """Forget all records of the spool `through.spool_id` up to and including *through*: Kafka has them."""
        ...

    async def yield_to_appends(self) -> None:
        """Return when the publisher may use the CPU for a while (about a millisecond) without delaying responses: at once, or soon."""
        ...


def notify(loop: asyncio.AbstractEventLoop, on_durable: OnDurable, error: ServiceUnavailable | None) -> None:
    """Call *on_durable*; a failing callback must not prevent the others from being called."""
    try:
        on_durable(error)
    except Exception as failure:  # noqa: BLE001 - it belongs to the caller of `append`, whatever it is
        loop.call_exception_handler({"message": "on_durable failed", "exception": failure})
