"""
One directory of the spool as the event loop sees it: what is loaded, taken and acknowledged.

Sequence numbers divide a log into acknowledged <= read_seq <= end_seq. The records from `acknowledged` to `read_seq` are in memory: first
those that were taken, then those that are ready. The records from `read_seq` to `end_seq` are on disk only.

*Bytes that are no frame are corrupt exactly if a sequence number is missing.* If none is, they are a write that was never acknowledged.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bridge.spool import SpooledRecord
from bridge.spool.frames import ScannedFrame, decode_records
from bridge.spool.segments import (
    HEADER_BYTES,
    Segment,
    frames_in,
    open_segment,
    opened,
    read_cursor,
    segment_paths,
    truncate_torn_tail,
)
from bridge.spool.tuning import SpoolTuning
from voipex.errors import SpoolFailed
from voipex.records import Record


@dataclass(slots=True, eq=False)
class Frame:
    """Consecutive records in memory."""

    first_seq: int
    records: Sequence[Record]
    size: int
    """Bytes on disk, including corrupt ones in front of it."""
    segment: Segment

    @property
    def end_seq(self) -> int:
        return self.first_seq + len(self.records)

    def split(self, count: int) -> tuple["Frame", "Frame"]:
        """Return the first *count* records and the rest; the size is divided in proportion."""
        size = self.size * count // len(self.records)
        return (
            Frame(self.first_seq, self.records[:count], size, self.segment),
            Frame(self.first_seq + count, self.records[count:], self.size - size, self.segment),
        )


class _Range(NamedTuple):
    """A part of a segment to be read: from offset `start` to `stop`; its records end before `end_seq`."""

    segment: Segment
    start: int
    stop: int
    end_seq: int


_Decoded = tuple[ScannedFrame, list[Record]]


class SegmentLog:
    """The segments of one directory, for reading and deleting. Used by the event loop."""

    def __init__(self, directory: Path, lock: int, tuning: SpoolTuning) -> None:
        """Read the cursor and the newest segment, and truncate its torn tail. Blocks. Raises SpoolFormat, OSError."""
        self.directory, self.lock, self._tuning = directory, lock, tuning
        self.spool_id = directory.name
        self.segments = deque(map(open_segment, segment_paths(directory)))
        first_seq, end_seq = 0, 0
        cursor = read_cursor(directory)
        if self.segments:
            first_seq = self.segments[0].first_seq
            end_seq = truncate_torn_tail(self.segments[-1], tuning.chunk_bytes, cursor.end_seq)
        self.counted_before = cursor.counted
        self.read_seq = max(first_seq, cursor.acknowledged)
        self.end_seq = max(end_seq, cursor.acknowledged, cursor.end_seq)
        self.waiting_bytes = sum(segment.waiting_bytes for segment in self.segments)
        self.on_gap: Callable[[Path, int], None] = lambda _path, _records: None
        """Called with a segment and the number of records that are missing in it."""
        self.on_acknowledged: Callable[[Iterable[Record]], None] = lambda _records: None
        self._ready: deque[Frame] = deque()
        self._taken: deque[Frame] = deque()
        self._ready_bytes = 0
        self._position: tuple[Segment | None, int] = (None, 0)  # offset of record `read_seq`, if known

    @property
    def acknowledged(self) -> int:
        """First sequence number that Kafka has not acknowledged."""
        frames = self._taken or self._ready
        return frames[0].first_seq if frames else self.read_seq

    @property
    def waiting_records(self) -> int:
        return self.end_seq - self.acknowledged

    @property
    def drained(self) -> bool:
        return self.acknowledged == self.end_seq

    @property
    def oldest_waiting_ms(self) -> int | None:
        """Timestamp of the oldest waiting record; None if there is none, or if it is not loaded yet."""
        frames = self._taken or self._ready
        return frames[0].records[0].timestamp_ms if frames else None

    @property
    def ready(self) -> bool:
        """Whether `take` returns records."""
        return bool(self._ready)

    @property
    def ready_bytes(self) -> int:
        """Bytes of the frames in memory that were not taken."""
        return self._ready_bytes

    @property
    def loadable(self) -> bool:
        """Whether records remain on disk that `load` brings into memory."""
        return self.read_seq < self.end_seq

    @property
    def nearly_caught_up(self) -> bool:
        """Whether all records on disk and in memory that were not taken would fit into memory."""
        segment, offset = self._position
        if segment is None or segment is not self.segments[-1]:
            return False
        return self._ready_bytes + segment.length - offset <= self._tuning.read_ahead_bytes

    # ---- writing

    def append(self, frame: Frame, stop: int) -> None:
        """Add a frame that was just written, up to offset *stop* of its segment; it stays in memory while the publisher keeps up."""
        segment = frame.segment
        if not self.segments or self.segments[-1] is not segment:
            if self.segments and self.segments[-1].first_seq == segment.first_seq:
                self.segments.pop()  # a crash left it empty, and its file was used again
            self.segments.append(segment)
        keeps_up = (
            self.read_seq == frame.first_seq
            and self._ready_bytes + frame.size <= self._tuning.read_ahead_bytes
        )
        segment.length = stop
        segment.waiting_bytes += frame.size
        self.waiting_bytes += frame.size
        self.end_seq = frame.end_seq
        if keeps_up:
            self._enqueue(frame, stop)

    # ---- reading

    async def load(self) -> None:
        """Read the next chunk from disk. If it has no intact frame, `read_seq` skips the missing records. Raises SpoolFailed."""
        if self._skip_missing_segments():
            return
        part = self._next_range()
        if part.stop - part.start <= self._tuning.inline_read_bytes:
            self._enqueue_range(part, map(_decode, self._read(part)))
            return
        decoded: list[_Decoded] = []
        since_pause = 0
        for frame in await asyncio.to_thread(self._read, part):
            decoded.append(_decode(frame))
            since_pause += frame.record_count
            if since_pause >= self._tuning.decode_records:
                since_pause = 0
                await asyncio.sleep(0)
        self._enqueue_range(part, decoded)

    def load_blocking(self) -> None:
        """Like `load`, before the event loop runs."""
        if self._skip_missing_segments():
            return
        part = self._next_range()
        self._enqueue_range(part, map(_decode, self._read(part)))

    def _skip_missing_segments(self) -> bool:
        """Skip all records if no segment is left of them, though the cursor counts them; return whether that is so."""
        if not self.segments:
            self._record_gap(Segment(self.directory, self.read_seq), self.end_seq)
        return not self.segments

    def _next_range(self) -> _Range:
        """
        Return the segment of record `read_seq`, from its position if that is known.

        The range ends where the segment ends now: it may grow while a thread reads it.
        """
        end_seq = self.end_seq
        for segment in reversed(self.segments):
            if segment.first_seq <= self.read_seq:
                break
            end_seq = segment.first_seq
        known_segment, offset = self._position
        start = offset if known_segment is segment else HEADER_BYTES
        return _Range(segment, start, segment.length, end_seq)

    def _read(self, part: _Range) -> list[ScannedFrame]:
        """Read about one chunk of frames. Blocks."""
        frames: list[ScannedFrame] = []
        size, chunk_bytes = 0, self._tuning.chunk_bytes
        try:
            with opened(part.segment.path) as fd:
                for frame in frames_in(fd, self.directory, part.stop, chunk_bytes, part.start):
                    frames.append(frame)
                    size += len(frame.body)
                    if size >= chunk_bytes:
                        break
        except OSError as error:
            raise SpoolFailed(f"read of {part.segment.path} failed: {error.strerror}") from error
        return frames

    def _enqueue_range(self, part: _Range, frames: Iterable[_Decoded]) -> None:
        """Make the frames read from *part* ready, in order, and account for everything between them."""
        offset = part.start
        for scanned, records in frames:
            size, offset = scanned.stop - offset, scanned.stop
            self._enqueue_scanned(part, Frame(scanned.first_seq, records, size, part.segment), offset)
        if offset == part.start:  # no intact frame is left in the segment
            offset = part.stop
            self._record_gap(part.segment, part.end_seq)
        self._position = (part.segment, offset)

    def _enqueue_scanned(self, part: _Range, frame: Frame, stop: int) -> None:
        if frame.end_seq <= self.read_seq or frame.end_seq > part.end_seq:
            # Its records are in Kafka, or it is a write that was never acknowledged.
            self._subtract_waiting(frame.segment, frame.size)
            return
        self._record_gap(frame.segment, frame.first_seq)
        if frame.first_seq < self.read_seq:
            acknowledged, frame = frame.split(self.read_seq - frame.first_seq)
            self._subtract_waiting(frame.segment, acknowledged.size)
        self._enqueue(frame, stop)

    def _enqueue(self, frame: Frame, stop: int) -> None:
        self._ready.append(frame)
        self._ready_bytes += frame.size
        self.read_seq = frame.end_seq
        self._position = (frame.segment, stop)

    def _record_gap(self, segment: Segment, next_seq: int) -> None:
        """Skip the records from `read_seq` to *next_seq*, if any: they are missing in *segment*."""
        missing = next_seq - self.read_seq
        if missing > 0:
            segment.corrupt = True
            self.read_seq = next_seq
            self.on_gap(segment.path, missing)

    # ---- publishing

    def take(self, max_records: int, max_bytes: int) -> list[SpooledRecord]:
        """Return the next ready records within the limits, but at least one."""
        taken: list[SpooledRecord] = []
        spool_id = self.spool_id
        while self._ready and len(taken) < max_records:
            frame = self._ready[0]
            count = min(max_records - len(taken), len(frame.records))
            if frame.size > max_bytes:
                count = _count_within(frame.records[:count], max_bytes) or (0 if taken else 1)
                if not count:
                    break
            self._ready.popleft()
            if count < len(frame.records):
                frame, rest = frame.split(count)
                self._ready.appendleft(rest)
            self._taken.append(frame)
            self._ready_bytes -= frame.size
            max_bytes -= frame.size
            taken += [
                SpooledRecord(spool_id, seq, record)
                for seq, record in enumerate(frame.records, frame.first_seq)
            ]
        return taken

    def acknowledge(self, seq: int) -> list[Segment]:
        """Forget all records up to *seq*; return the segments to delete."""
        while self._taken and self._taken[0].end_seq <= seq + 1:
            frame = self._taken.popleft()
            self._subtract_waiting(frame.segment, frame.size)
            self.on_acknowledged(frame.records)
        if self._taken and self._taken[0].first_seq <= seq:
            done, self._taken[0] = self._taken[0].split(seq + 1 - self._taken[0].first_seq)
            self._subtract_waiting(done.segment, done.size)
            self.on_acknowledged(done.records)
        return self.release_segments()

    def release_segments(self) -> list[Segment]:
        """Forget and return the segments that are completely in Kafka, never the newest: its name preserves the next sequence number."""
        released = []
        while len(self.segments) > 1 and self.segments[1].first_seq <= self.acknowledged:
            released.append(self.segments.popleft())
            self._subtract_waiting(released[-1], released[-1].waiting_bytes)
        if self.drained and self.segments:
            self._subtract_waiting(self.segments[0], self.segments[0].waiting_bytes)
        return released

    def _subtract_waiting(self, segment: Segment, size: int) -> None:
        segment.waiting_bytes -= size
        self.waiting_bytes -= size


def _decode(frame: ScannedFrame) -> _Decoded:
    return frame, list(decode_records(frame.body, frame.record_count))


def _count_within(records: Sequence[Record], max_bytes: int) -> int:
    """Count how many of the first *records* fit into *max_bytes*."""
    for count, record in enumerate(records):
        max_bytes -= record.size_bytes
        if max_bytes < 0:
            return count
    return len(records)
