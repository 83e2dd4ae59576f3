"""
The files of a spool: segment headers, sizes and torn tails, the cursor, directories and their locks. `spool` explains the design, `frames`
the format of a frame.

A segment begins with a header line of 64 bytes, the same in every version: `voipex-spool <version> <spool_id> <crc32>`. Frames follow,
then possibly zeros, since segments are allocated ahead.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID
from zlib import crc32

import orjson

from bridge.spool.frames import ScannedFrame, scan_frames
from voipex.errors import BridgeError

VERSION: Final = 1
HEADER_BYTES: Final = 64
QUARANTINE: Final = "corrupt"
"""Directory below the root for segments with corrupt frames."""
_HEADER: Final = re.compile(rb"voipex-spool (\d+) ([0-9a-f-]{36}) ")
_SPOOL_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SpoolFormat(BridgeError):
    """A segment has another format version or belongs to another spool. Operator: run the version of the bridge that wrote it until it is drained."""


# ---------------------------------------------------------------- segment headers


def segment_header(spool_id: str, version: int = VERSION) -> bytes:
    line = b"voipex-spool %d %s " % (version, spool_id.encode())
    return (line + b"%08x" % crc32(line)).ljust(HEADER_BYTES - 1) + b"\n"


def _check_header(path: Path, header: bytes) -> None:
    """Reject another version or spool. A corrupt header is ignored: each frame proves itself by its salt and crc."""
    match = _HEADER.match(header)
    if match is None or header[match.end() : match.end() + 8] != b"%08x" % crc32(match[0]):
        return
    version, spool_id = int(match[1]), match[2].decode()
    if version != VERSION:
        raise SpoolFormat(f"{path} has spool format {version}, this bridge reads {VERSION}")
    if spool_id != path.parent.name:
        raise SpoolFormat(f"{path} belongs to spool {spool_id}: give its directory that name again")


def salt_of(directory: Path) -> bytes:
    """Return the bytes that every frame of the spool in *directory* begins with."""
    return UUID(directory.name).bytes[:8]


# ---------------------------------------------------------------- files


class Files:
    """The disk operations of the writer; tests replace them with failing ones."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def write(self, fd: int, content: bytes, offset: int) -> int:
        return os.pwrite(fd, content, offset)

    def sync(self, fd: int) -> None:
        _fdatasync(fd)

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def allocate(self, fd: int, length: int) -> None:
        """Allocate ahead, where the platform can: syncing a write that does not change the file's size takes a quarter less time."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, length)

    def is_at(self, fd: int, path: Path) -> bool:
        """Return whether *path* still names the open file or directory: it may have been removed, replaced or hidden by a mount."""
        try:
            return os.path.samestat(os.fstat(fd), path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


_fdatasync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass(slots=True, eq=False)
class Segment:
    """A segment file, named by its first sequence number."""

    path: Path
    first_seq: int
    length: int = 0
    """Offset of the end of its last frame."""
    waiting_bytes: int = 0
    corrupt: bool = False


def segment_paths(directory: Path) -> list[Path]:
    """Return the segments of *directory*, oldest first."""
    return sorted(path for path in directory.glob("*.log") if len(path.stem) == 20 and path.stem.isdigit())


def open_segment(path: Path) -> Segment:
    """Check the header and measure the file. Raises SpoolFormat."""
    with opened(path) as fd:
        _check_header(path, os.pread(fd, HEADER_BYTES, 0))
        length = os.fstat(fd).st_size
    return Segment(path, int(path.stem), length, max(0, length - HEADER_BYTES))


def frames_in(
    fd: int, directory: Path, stop: int, chunk_bytes: int, start: int = HEADER_BYTES
) -> Iterator[ScannedFrame]:
    """Yield the intact frames of an open segment of *directory*, between two file offsets."""
    return scan_frames(partial(os.pread, fd), salt_of(directory), start, stop, chunk_bytes)


def truncate_torn_tail(newest: Segment, chunk_bytes: int, durable_seq: int) -> int:
    """
    Truncate the newest segment after its last intact frame, and return the next sequence number.

    If records before *durable_seq* are missing, the tail is corrupt, not torn, and stays for whoever examines it. The frames are synced:
    after a kill they may exist in the page cache only, and they are about to be published.
    """
    end_seq, stop = newest.first_seq, HEADER_BYTES
    with opened(newest.path, os.O_RDWR) as fd:
        for frame in frames_in(fd, newest.path.parent, newest.length, chunk_bytes):
            end_seq, stop = frame.end_seq, frame.stop
        if end_seq >= durable_seq:
            if newest.length > stop:
                os.ftruncate(fd, stop)
            newest.length = min(newest.length, stop)
        _fdatasync(fd)
    newest.waiting_bytes = max(0, newest.length - HEADER_BYTES)
    return end_seq


def delete_or_quarantine(segment: Segment) -> None:
    """Delete a segment that is completely in Kafka; move one with corrupt frames to the quarantine instead."""
    if not segment.corrupt:
        segment.path.unlink(missing_ok=True)
        return
    quarantine = segment.path.parent.parent / QUARANTINE
    quarantine.mkdir(mode=0o700, exist_ok=True)
    segment.path.rename(quarantine / f"{segment.path.parent.name}-{segment.path.name}")


# ---------------------------------------------------------------- the cursor


class Cursor(NamedTuple):
    """How far a spool got, as of about a second ago."""

    acknowledged: int = 0
    """First sequence number that is not in Kafka."""
    end_seq: int = 0
    """First sequence number that was not synced: records before it that are missing were lost by the disk."""
    counted: Mapping[str, int] = {}
    """Of `Shares`, for all directories that the process held."""


def read_cursor(directory: Path) -> Cursor:
    """Read the cursor; all zero if the file is missing or corrupt."""
    try:
        content, crc = (directory / "cursor").read_bytes().rsplit(maxsplit=1)
        if crc != b"%08x" % crc32(content):
            return Cursor()
        acknowledged, *more = content.split()
        if not more:  # of a version that wrote nothing else
            return Cursor(int(acknowledged))
        return Cursor(int(acknowledged), int(more[0]), orjson.loads(more[1]))
    except (OSError, ValueError, IndexError):
        return Cursor()


def write_cursor(directory: Path, cursor: Cursor) -> None:
    """Replace the cursor atomically. It is not synced: an old cursor only means copies."""
    content = b"%d %d %b" % (cursor.acknowledged, cursor.end_seq, orjson.dumps(cursor.counted))
    with opened(directory / "cursor.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        os.write(fd, b"%b %08x\n" % (content, crc32(content)))
    (directory / "cursor.new").replace(directory / "cursor")


# ---------------------------------------------------------------- directories


def spool_paths(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if _SPOOL_ID.fullmatch(path.name))


@contextmanager
def root_locked(root: Path) -> Iterator[None]:
    """Hold the root's lock while directories are claimed or inspected: an inspection must not make a starting bridge skip a directory."""
    with opened(root, os.O_RDONLY | os.O_DIRECTORY) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def try_lock(directory: Path) -> int | None:
    """Lock *directory*; None if another process holds it or has just removed it."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), directory.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def remove_directory(directory: Path, segments: Iterable[Segment]) -> None:
    """Remove a drained directory with its segments and cursor."""
    for segment in segments:
        delete_or_quarantine(segment)
    for name in ("cursor", "cursor.new"):
        (directory / name).unlink(missing_ok=True)
    directory.rmdir()
