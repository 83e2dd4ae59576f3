"""
The spool without a disk (`ack=kafka`): records are durable once all in-sync replicas have them, within a deadline.

The same publisher drains it, so order, batches and the handling of failed deliveries are the same. What differs: an append waits for the
acknowledgement of Kafka instead of the disk. After the deadline the response is 503, **and the event may still arrive**: it stays in the
queue, since the broker may have it already. When the process ends, the queue is lost, but no sender has received 2xx for anything in it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from bridge.spool import OnDurable, SpooledRecord, SpoolStats, notify
from bridge.spool.shares import Shares, pbx_of
from voipex.errors import KafkaTooSlow, ServiceUnavailable, ShuttingDown, SpoolShareFull
from voipex.records import Record

DEFAULT_LIMIT_BYTES: Final = 32 << 20
"""Maximum of queued bytes: some seconds of full load. Beyond it appends are rejected."""


@dataclass(slots=True, eq=False)
class PendingAck:
    """An append whose last record Kafka has not acknowledged."""

    last_seq: int
    on_durable: OnDurable | None
    """None once it was called."""
    timer: asyncio.TimerHandle | None = None


class MemorySpool:
    """A RecordSink and RecordSource in memory; all of it belongs to one event loop."""

    def __init__(
        self, deadline_s: float, limit_bytes: int = DEFAULT_LIMIT_BYTES, pbxs: Sequence[str] = ()
    ) -> None:
        self.spool_id = str(uuid4())
        self._deadline_s = deadline_s
        self._limit_bytes = limit_bytes
        self._queue: deque[SpooledRecord] = deque()  # not acknowledged, oldest first
        self._taken = 0  # of the queue, from the left
        self._next_seq = 0
        self._bytes = 0
        self._progress_at = 0.0  # when a record was acknowledged, or the first one began to wait
        self._full_bytes = 0  # of the append for which there was no room
        self._shares = Shares(pbxs, limit_bytes)
        self._pending: deque[PendingAck] = deque()
        self._sealed = False
        self._records_available: asyncio.Future[None] | None = None

    # ---- appending

    def append(self, records: Sequence[Record], on_durable: OnDurable) -> None:
        """
        Queue *records* and call *on_durable* when all in-sync replicas have acknowledged them.

        Errors passed to *on_durable*:
            KafkaTooSlow: no acknowledgement within the deadline. Respond 503; the records may still arrive.
            ServiceUnavailable: too much is queued. The records are not.
            SpoolShareFull: too much of this PBX is. The same.
            ShuttingDown: the spool is sealed.
        """
        size = sum(record.size_bytes for record in records)
        rejection = self._rejection(records, size)
        if rejection is not None or not records:
            on_durable(rejection)
            return
        if not self._queue:
            self._progress_at = time.monotonic()
        for record in records:
            self._queue.append(SpooledRecord(self.spool_id, self._next_seq, record))
            self._next_seq += 1
        self._bytes += size
        self._shares.add(records)
        pending = PendingAck(self._next_seq - 1, on_durable)
        pending.timer = asyncio.get_running_loop().call_later(self._deadline_s, self._expire, pending)
        self._pending.append(pending)
        self._wake_publisher()

    def _rejection(self, records: Sequence[Record], size: int) -> ServiceUnavailable | None:
        if self._sealed:
            return ShuttingDown("the bridge is shutting down")
        if self._bytes + size > self._limit_bytes:
            self._full_bytes = size
            return ServiceUnavailable("too much waits for Kafka")
        if records and not self._shares.admit(pbx_of(records[0]), size, self._bytes + size):
            return SpoolShareFull("too much of this PBX waits for Kafka")
        return None

    def _expire(self, pending: PendingAck) -> None:
        _complete(pending, KafkaTooSlow("no acknowledgement within the deadline; the event may still arrive"))

    def seal(self) -> None:
        """Accept no more appends. `take` ends when everything was taken."""
        self._sealed = True
        self._wake_publisher()

    async def close(self) -> None:
        """Seal, and fail the appends that still wait."""
        self.seal()
        while self._pending:
            _complete(
                self._pending.popleft(),
                KafkaTooSlow("the bridge stopped before Kafka acknowledged the event"),
            )

    # ---- publishing

    async def take(self, max_records: int, max_bytes: int) -> Sequence[SpooledRecord]:
        """Return the next records (see RecordSource)."""
        while self._taken == len(self._queue):
            if self._sealed:
                return []
            self._records_available = asyncio.get_running_loop().create_future()
            await self._records_available
        batch: list[SpooledRecord] = []
        size = 0
        for i in range(self._taken, min(len(self._queue), self._taken + max_records)):
            size += self._queue[i].record.size_bytes
            if batch and size > max_bytes:
                break
            batch.append(self._queue[i])
        self._taken += len(batch)
        return batch

    async def yield_to_appends(self) -> None:
        """RecordSource: there is no disk to wait for."""
        await asyncio.sleep(0)

    def acknowledge(self, through: SpooledRecord) -> None:
        """Forget the records up to *through*, and complete their appends."""
        self._progress_at = time.monotonic()
        while self._queue and self._queue[0].seq <= through.seq:
            record = self._queue.popleft().record
            self._bytes -= record.size_bytes
            self._shares.subtract((record,))
            self._taken -= 1
        while self._pending and self._pending[0].last_seq <= through.seq:
            _complete(self._pending.popleft(), None)

    def stats(self) -> SpoolStats:
        return SpoolStats(
            appended_total=self._next_seq,
            acknowledged_total=self._next_seq - len(self._queue),
            waiting_records=len(self._queue),
            bytes=self._bytes,
            limit_bytes=self._limit_bytes,
            oldest_waiting_ms=self._queue[0].record.timestamp_ms if self._queue else None,
            stalled_s=time.monotonic() - self._progress_at if self._queue else 0.0,
            corrupt_frames_total=0,
            full=self._bytes + self._full_bytes > self._limit_bytes,
            failed=False,
            used_bytes_by_pbx=self._shares.used_bytes(self._bytes),
            refused_by_pbx=dict(self._shares.refused),
        )

    def _wake_publisher(self) -> None:
        if self._records_available is not None and not self._records_available.done():
            self._records_available.set_result(None)


def _complete(pending: PendingAck, error: ServiceUnavailable | None) -> None:
    """Call back unless that was done before."""
    if pending.on_durable is None:
        return
    on_durable, pending.on_durable = pending.on_durable, None
    if pending.timer is not None:
        pending.timer.cancel()
    notify(asyncio.get_running_loop(), on_durable, error)
