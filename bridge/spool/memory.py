"""
The stateless twin of the spool (`ack=kafka`): 2xx once all in-sync replicas have the event, within a deadline; nothing is kept on disk.

The same publisher drains it, so order, batches and the care for failed producers are the same. What differs: an append waits for the
acknowledgement instead of the disk. After the deadline the answer is 503, **and the event may still arrive**: it stays in line, since the
broker may have it already. What is in line when the process ends is lost, but nobody was told 2xx for it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import uuid4

from bridge.spool.spool import Kept, Spooled, SpoolStats
from voipex.errors import KafkaTooSlow, ServiceUnavailable, ShuttingDown
from voipex.records import Record

DEFAULT_LIMIT_BYTES: Final = 32 << 20
"""Most that may be in line: some seconds of full load. Above it the answer is 503 at once."""


class _Promise(NamedTuple):
    """An append that waits until its last record is in Kafka."""

    last: int
    kept: "asyncio.Future[None]"


class KafkaOutbox:
    """An outbox and a backlog in memory; all of it belongs to one event loop, and there is one taker."""

    def __init__(self, deadline_s: float, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.spool_id = str(uuid4())
        self._deadline_s = deadline_s
        self._limit_bytes = limit_bytes
        self._line: deque[Spooled] = deque()  # not acknowledged, oldest first
        self._taken = 0  # of these, from the left
        self._next = 0
        self._bytes = 0
        self._promises: deque[_Promise] = deque()
        self._sealed = False
        self._news: asyncio.Future[None] | None = None
        self._appending: set[asyncio.Task[None]] = set()

    # ---- keeping

    async def append(self, records: Sequence[Record]) -> None:
        """
        Return once *records* are acknowledged by all in-sync replicas.

        Raises:
            KafkaTooSlow: not within the deadline. Answer 503; they may still arrive.
            ServiceUnavailable: too much is in line; these records are not.
            ShuttingDown: the process is stopping.
        """
        if self._sealed:
            raise ShuttingDown("no more events are taken")
        size = sum(record.size_bytes for record in records)
        if self._bytes + size > self._limit_bytes:
            raise ServiceUnavailable("too much waits for Kafka")
        for record in records:
            self._line.append(Spooled(self.spool_id, self._next, record))
            self._next += 1
        self._bytes += size
        promise = _Promise(self._next - 1, asyncio.get_running_loop().create_future())
        self._promises.append(promise)
        self._tell()
        try:
            async with asyncio.timeout(self._deadline_s):
                await promise.kept
        except TimeoutError:
            raise KafkaTooSlow("no acknowledgement within the deadline; the event may still arrive") from None

    def add(self, records: Sequence[Record], kept: Kept) -> None:
        """Keep *records* as `append` does, and tell *kept*."""

        def done(appending: "asyncio.Task[None]") -> None:
            self._appending.discard(appending)
            if not appending.cancelled():
                kept(appending.exception())  # type: ignore[arg-type]  # `append` raises nothing else

        appending = asyncio.get_running_loop().create_task(self.append(records))
        self._appending.add(appending)
        appending.add_done_callback(done)

    def seal(self) -> None:
        """Take no more appends."""
        self._sealed = True
        self._tell()

    async def close(self) -> None:
        """Nothing is held. Appends that still wait run into their deadline's answer."""
        self.seal()
        for promise in self._promises:
            if not promise.kept.done():
                promise.kept.set_exception(
                    KafkaTooSlow("the bridge stopped before Kafka acknowledged the event")
                )
        self._promises.clear()

    # ---- publishing

    async def take(self, max_records: int, max_bytes: int) -> Sequence[Spooled]:
        """Return the next records, in order; at least one, waiting for it. Empty once sealed and all taken."""
        while self._taken == len(self._line):
            if self._sealed:
                return []
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        batch: list[Spooled] = []
        size = 0
        for place in range(self._taken, min(len(self._line), self._taken + max_records)):
            size += self._line[place].record.size_bytes
            if batch and size > max_bytes:
                break
            batch.append(self._line[place])
        self._taken += len(batch)
        return batch

    def acknowledge(self, through: Spooled) -> None:
        """All up to *through* are in Kafka: their appends return."""
        while self._line and self._line[0].seq <= through.seq:
            self._bytes -= self._line.popleft().record.size_bytes
            self._taken -= 1
        while self._promises and self._promises[0].last <= through.seq:
            promise = self._promises.popleft()
            if not promise.kept.done():
                promise.kept.set_result(None)

    def stats(self) -> SpoolStats:
        """As the spool's: what is in line counts as waiting."""
        return SpoolStats(
            appended_total=self._next,
            acknowledged_total=self._next - len(self._line),
            waiting_records=len(self._line),
            bytes=self._bytes,
            limit_bytes=self._limit_bytes,
            oldest_waiting_ms=self._line[0].record.timestamp_ms if self._line else None,
            commits_total=0,
            damaged_frames_total=0,
            damaged_records_total=0,
            adopted_spools=0,
        )

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
