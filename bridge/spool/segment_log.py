"""
One directory of the spool as the event loop knows it: what is loaded, taken, acknowledged.

The numbers of a log: acknowledged <= read <= end. From `acknowledged` to `read` the records are loaded: first those taken, then those
ready. From `read` to `end` they lie on disk only. *Bytes that are no frame are damage exactly when a number is missing.*
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from bridge.spool.frames import Found, decode_records
from bridge.spool.segments import (
    CHUNK_BYTES,
    LINE_BYTES,
    Segment,
    cut_tail,
    good_frames,
    measure,
    opened,
    read_cursor,
    segment_paths,
)
from voipex.errors import SpoolFailed
from voipex.records import Record

# Written frames held for the publisher: about 5,000 records, 15 MB of objects.
_AHEAD_BYTES: Final = 4 << 20
# So little was written a moment ago: the page cache answers sooner than a thread would.
_NEAR_BYTES: Final = 64 << 10
# Records, 0.6 ms: the event loop has others to serve.
_DECODED_AT_ONCE: Final = 100


class Spooled:
    """A record with its place: which spool took it and its number there."""

    __slots__ = ("record", "seq", "spool_id")

    def __init__(self, spool_id: str, seq: int, record: Record) -> None:
        self.spool_id: Final = spool_id
        self.seq: Final = seq
        self.record: Final = record


@dataclass(slots=True, eq=False)
class Frame:
    """Loaded records that follow each other."""

    first: int
    records: Sequence[Record]
    size: int  # on disk
    segment: Segment

    @property
    def end(self) -> int:
        return self.first + len(self.records)

    def split(self, count: int) -> tuple["Frame", "Frame"]:
        size = self.size * count // len(self.records)
        return (
            Frame(self.first, self.records[:count], size, self.segment),
            Frame(self.first + count, self.records[count:], self.size - size, self.segment),
        )


class _Part(NamedTuple):
    """What is to be read of a segment: from `at` to `length`, where it ends before number `limit`."""

    segment: Segment
    at: int
    length: int
    limit: int


class Log:
    """The segments of one directory. Reading and forgetting; used by the event loop."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory, self.lock = directory, lock
        self.spool_id = directory.name
        self.mark = UUID(self.spool_id).bytes[:8]
        self.segments = deque(Segment(path, int(path.stem)) for path in segment_paths(directory))
        for segment in self.segments:
            measure(segment)
        first = self.segments[0].first if self.segments else 0
        newest_end = cut_tail(self.segments[-1], self.mark) if self.segments else 0
        cursor = read_cursor(directory)
        self.read = max(first, cursor)
        self.end = max(newest_end, cursor)
        self.ready: deque[Frame] = deque()
        self.taken: deque[Frame] = deque()
        self.ahead_bytes = 0
        self.waiting_bytes = sum(segment.waiting_bytes for segment in self.segments)
        self.on_missing: Callable[[Path, int], None] = lambda _path, _records: None
        self._at: tuple[Segment | None, int] = (None, 0)  # where the frame with number `read` is, when known

    @property
    def acknowledged(self) -> int:
        if self.taken:
            return self.taken[0].first
        return self.ready[0].first if self.ready else self.read

    @property
    def drained(self) -> bool:
        return self.acknowledged == self.end

    @property
    def oldest_waiting_ms(self) -> int | None:
        frames = self.taken or self.ready
        return frames[0].records[0].timestamp_ms if frames else None

    def committed(self, segment: Segment, frame: Frame, stop: int) -> None:
        """Know a frame that is on disk, up to *stop* of its segment."""
        if not self.segments or self.segments[-1] is not segment:
            if self.segments and self.segments[-1].first == segment.first:
                self.segments.pop()  # left empty by a crash; its file was used again
            self.segments.append(segment)
        kept_up = self.read == frame.first and self.ahead_bytes + frame.size <= _AHEAD_BYTES
        segment.length = stop
        segment.waiting_bytes += frame.size
        self.waiting_bytes += frame.size
        self.end = frame.end
        if kept_up:
            self._hold(frame, stop)

    async def load(self) -> None:
        """Bring the next chunk from disk; without one, `read` moves on over what is missing. Raises SpoolFailed."""
        part = self._next_part()
        if part.length - part.at <= _NEAR_BYTES:
            found = self._read(part)
            return self._loaded(part, [(one, list(decode_records(one.body, one.records))) for one in found])
        loaded, since_others = [], 0
        for one in await asyncio.to_thread(self._read, part):
            loaded.append((one, list(decode_records(one.body, one.records))))
            since_others += one.records
            if since_others >= _DECODED_AT_ONCE:
                since_others = 0
                await asyncio.sleep(0)
        return self._loaded(part, loaded)

    def load_now(self) -> None:
        """Bring the next chunk; blocks."""
        part = self._next_part()
        self._loaded(part, [(one, list(decode_records(one.body, one.records))) for one in self._read(part)])

    def _next_part(self) -> "_Part":
        """
        Say where number `read` is, or was before it was damaged.

        The part is as things are now: while it is read in a thread, the segment grows.
        """
        limit = self.end
        for segment in reversed(self.segments):
            if segment.first <= self.read:
                break
            limit = segment.first
        known, at = self._at
        return _Part(segment, at if known is segment else LINE_BYTES, segment.length, limit)

    def _read(self, part: "_Part") -> list[Found]:
        found: list[Found] = []
        size = 0
        try:
            with opened(part.segment.path) as fd:
                for one in good_frames(fd, self.mark, part.at, part.length):
                    found.append(one)
                    size += len(one.body)
                    if size >= CHUNK_BYTES:
                        break
        except OSError as fault:
            raise SpoolFailed(f"the disk refused to read {part.segment.path}: {fault.strerror}") from fault
        return found

    def _loaded(self, part: "_Part", loaded: Iterable[tuple[Found, list[Record]]]) -> None:
        segment, stop = part.segment, part.at
        for found, records in loaded:
            size, stop = found.stop - stop, found.stop
            if found.end <= self.read or found.end > part.limit:  # in Kafka already, or never answered
                self._gone(segment, size)
                continue
            if found.first > self.read:
                self._missing(segment, found.first)
            frame = Frame(found.first, records, size, segment)
            if found.first < self.read:
                done, frame = frame.split(self.read - found.first)
                self._gone(segment, done.size)
            self._hold(frame, stop)
        if stop == part.at:  # nothing readable is left
            stop = part.length
            if self.read < part.limit:
                self._missing(segment, part.limit)
        self._at = (segment, stop)

    def _hold(self, frame: Frame, stop: int) -> None:
        self.ready.append(frame)
        self.ahead_bytes += frame.size
        self.read = frame.end
        self._at = (frame.segment, stop)

    def _missing(self, segment: Segment, until: int) -> None:
        segment.damaged = True
        missing = until - self.read
        self.read = until
        self.on_missing(segment.path, missing)

    def take(self, max_records: int, max_bytes: int) -> list[Spooled]:
        taken: list[Spooled] = []
        while self.ready and len(taken) < max_records:
            frame = self.ready[0]
            fits = min(max_records - len(taken), len(frame.records))
            if frame.size > max_bytes:
                fits = _how_many_fit(frame.records[:fits], max_bytes) or (0 if taken else 1)
                if not fits:
                    break
            self.ready.popleft()
            if fits < len(frame.records):
                frame, rest = frame.split(fits)
                self.ready.appendleft(rest)
            self.taken.append(frame)
            self.ahead_bytes -= frame.size
            max_bytes -= frame.size
            spool_id = self.spool_id
            taken += [Spooled(spool_id, seq, record) for seq, record in enumerate(frame.records, frame.first)]
        return taken

    def rewind(self) -> None:
        self.ahead_bytes += sum(frame.size for frame in self.taken)
        self.ready.extendleft(reversed(self.taken))
        self.taken.clear()

    def acknowledge(self, seq: int) -> list[Segment]:
        """Forget all up to *seq*; returns the segments that are not needed any more."""
        while self.taken and self.taken[0].end <= seq + 1:
            frame = self.taken.popleft()
            self._gone(frame.segment, frame.size)
        if self.taken and self.taken[0].first <= seq:
            done, self.taken[0] = self.taken[0].split(seq + 1 - self.taken[0].first)
            self._gone(done.segment, done.size)
        return self.let_go()

    def let_go(self) -> list[Segment]:
        """Forget the segments that are wholly in Kafka; never the newest, whose name keeps the next number."""
        gone = []
        while len(self.segments) > 1 and self.segments[1].first <= self.acknowledged:
            gone.append(self.segments.popleft())
            self._gone(gone[-1], gone[-1].waiting_bytes)
        if self.drained and self.segments:
            self._gone(self.segments[0], self.segments[0].waiting_bytes)
        return gone

    def _gone(self, segment: Segment, size: int) -> None:
        segment.waiting_bytes -= size
        self.waiting_bytes -= size


def _how_many_fit(records: Sequence[Record], max_bytes: int) -> int:
    for count, record in enumerate(records):
        max_bytes -= record.size_bytes
        if max_bytes < 0:
            return count
    return len(records)
