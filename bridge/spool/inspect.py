"""Looks at the spools of a host from outside, also while bridges run; changes nothing."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from bridge.spool.frames import ScannedFrame, decode_records
from bridge.spool.segments import (
    QUARANTINE,
    frames_in,
    opened,
    read_cursor,
    root_locked,
    segment_paths,
    spool_paths,
    try_lock,
)

SEGMENT_BYTES: Final = 32 << 20  # allocated ahead, beyond the limit
_CHUNK_BYTES: Final = 1 << 20


class SpoolStatus(NamedTuple):
    """One spool directory."""

    spool_id: str
    in_use: bool
    """Whether a running bridge holds it."""
    segments: int
    bytes: int
    """Of all segments, without space that is only allocated."""
    waiting_records: int
    oldest_age_s: float | None
    """Age of the oldest waiting record."""


def inspect(root: Path, now_s: Callable[[], float] = time.time) -> list[SpoolStatus]:
    """Return the status of every spool below *root*. Blocks; reads the newest segment of each. Raises OSError."""
    if not root.is_dir():
        return []
    with root_locked(root):
        in_use = {path: _is_in_use(path) for path in spool_paths(root)}
    return [_status(path, used, now_s()) for path, used in in_use.items()]


def quarantined(root: Path) -> list[Path]:
    """Return the segments that were set aside because some of their frames are corrupt."""
    return sorted((root / QUARANTINE).glob("*"))


def free_bytes(directory: Path) -> int | None:
    """Return what is free for this user on the disk of *directory*; None if it cannot be read."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def lacks_room(free: int, used: int, limit: int) -> bool:
    """Return whether the disk would be full before a spool that uses *used* bytes reaches its limit."""
    return free + used < limit + SEGMENT_BYTES


def _is_in_use(directory: Path) -> bool:
    lock = try_lock(directory)
    if lock is not None:
        os.close(lock)
    return lock is None


def _status(directory: Path, in_use: bool, now_s: float) -> SpoolStatus:
    sizes = _segment_sizes(directory)
    segments = list(sizes)
    cursor = read_cursor(directory)
    acknowledged, end_seq = cursor.acknowledged, max(cursor.acknowledged, cursor.end_seq)
    oldest_ms = None
    if segments:
        acknowledged = max(acknowledged, int(segments[0].stem))
        newest = segments[-1]
        newest_end_seq, sizes[newest] = _end_of(newest, sizes[newest])
        end_seq = max(acknowledged, end_seq, newest_end_seq)
        oldest_ms = _oldest_waiting_ms(segments, sizes, acknowledged)
    return SpoolStatus(
        spool_id=directory.name,
        in_use=in_use,
        segments=len(segments),
        bytes=sum(sizes.values()),
        waiting_records=end_seq - acknowledged,
        oldest_age_s=None if oldest_ms is None else max(0.0, now_s - oldest_ms / 1000),
    )


def _segment_sizes(directory: Path) -> dict[Path, int]:
    sizes = {}
    for path in segment_paths(directory):
        with suppress(FileNotFoundError):  # a running bridge deletes what it has published
            sizes[path] = path.stat().st_size
    return sizes


def _end_of(segment: Path, size: int) -> tuple[int, int]:
    """Return the sequence number after the last record of *segment*, and the file offset where its frames end."""
    end_seq, stop = int(segment.stem), 0
    for frame in _frames(segment, size):
        end_seq, stop = frame.end_seq, frame.stop
    return end_seq, stop


def _oldest_waiting_ms(segments: Sequence[Path], sizes: dict[Path, int], acknowledged: int) -> int | None:
    """Return the timestamp of the first intact record from sequence number *acknowledged* on."""
    next_segments = [*segments[1:], None]
    for segment, next_segment in zip(segments, next_segments, strict=True):
        if next_segment is not None and int(next_segment.stem) <= acknowledged:
            continue  # completely in Kafka
        for frame in _frames(segment, sizes[segment]):
            if frame.end_seq > acknowledged:
                records = decode_records(frame.body, frame.record_count)
                return next(islice(records, max(0, acknowledged - frame.first_seq), None)).timestamp_ms
    return None


def _frames(segment: Path, size: int) -> Iterator[ScannedFrame]:
    with suppress(FileNotFoundError), opened(segment) as fd:
        yield from frames_in(fd, segment.parent, size, _CHUNK_BYTES)
