"""
The files of a spool: how they begin, grow and end, how a good frame is found behind damage, who holds a directory. The design is told
in `spool`, the format of frames in `frames`.

A segment opens with one line of 64 bytes, the same in every version: `voipex-spool <version> <spool_id> <crc32>`. Then frames. Zeros may
follow the last one: segments are allocated ahead.
"""

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID
from zlib import crc32

from bridge.spool.frames import AFTER_CRC, HEAD, Found, frame_bytes
from voipex.errors import BridgeError, SpoolFailed, SpoolFull

VERSION: Final = 1
LINE_BYTES: Final = 64
CHUNK_BYTES: Final = 1 << 20  # read at once
_LINE: Final = re.compile(rb"voipex-spool (\d+) ([0-9a-f-]{36}) ")
_SPOOL_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DAMAGED: Final = "damaged"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class SpoolFormat(BridgeError):
    """A segment is of another format version or another spool. Operator: run the version of the bridge that wrote it until it is drained."""


def good_frames(fd: int, mark: bytes, at: int, end: int) -> Iterator[Found]:
    """Yield the good frames from *at* to *end* in order; what is none is passed over. Blocks; holds about a chunk."""
    window = _Window(fd, end)
    while at + HEAD.size <= end:
        held, i = window.show(at, HEAD.size)
        if len(held) - i < HEAD.size:
            return
        mark_here, crc, length, count, first = HEAD.unpack_from(held, i)
        stop = at + HEAD.size + length
        if mark_here == mark and stop <= end:
            held, i = window.show(at, stop - at)
            if crc32(memoryview(held)[i + AFTER_CRC : i + stop - at]) == crc:
                yield Found(first, count, held[i + HEAD.size : i + stop - at], stop)
                at = stop
                continue
        at = window.find(mark, at + 1)


class _Window:
    """A part of a file, moved along."""

    def __init__(self, fd: int, end: int) -> None:
        self._fd, self._end = fd, end
        self._start, self._held = 0, b""

    def show(self, at: int, size: int) -> tuple[bytes, int]:
        """Bytes in which *at* … *at + size* lie (fewer when the file ends), and where in them."""
        if not self._start <= at <= at + size <= self._start + len(self._held):
            self._start = at
            self._held = os.pread(self._fd, max(size, min(CHUNK_BYTES, self._end - at)), at)
        return self._held, at - self._start

    def find(self, mark: bytes, at: int) -> int:
        """Where *mark* is next, or the end."""
        while at + len(mark) <= self._end:
            held, i = self.show(at, min(CHUNK_BYTES, self._end - at))
            if (found := held.find(mark, i)) >= 0:
                return self._start + found
            if len(held) - i < len(mark):
                break
            at = self._start + len(held) - len(mark) + 1
        return self._end


def first_line(spool_id: str, version: int = VERSION) -> bytes:
    line = b"voipex-spool %d %s " % (version, spool_id.encode())
    return (line + b"%08x" % crc32(line)).ljust(LINE_BYTES - 1) + b"\n"


def _check_first_line(path: Path, line: bytes) -> None:
    """Refuse another version or spool. A damaged line says nothing; the frames speak for themselves."""
    found = _LINE.match(line)
    if found is None or line[found.end() : found.end() + 8] != b"%08x" % crc32(found[0]):
        return
    version, spool_id = int(found[1]), found[2].decode()
    if version != VERSION:
        raise SpoolFormat(f"{path} has spool format {version}, this bridge reads {VERSION}")
    if spool_id != path.parent.name:
        raise SpoolFormat(f"{path} belongs to spool {spool_id}: give the directory its name back")


# ---------------------------------------------------------------- files


class Files:
    """How the writer touches the disk; tests put failing ones in its place."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def write(self, fd: int, content: bytes, at: int) -> int:
        return os.pwrite(fd, content, at)

    def sync(self, fd: int) -> None:
        _fdatasync(fd)

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def allocate(self, fd: int, length: int) -> None:
        """Allocate ahead: a write that changes no size syncs a quarter faster. Best effort."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, length)

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


_fdatasync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter


@dataclass(slots=True, eq=False)
class Segment:
    path: Path
    first: int
    length: int = 0  # up to the end of its last frame
    waiting_bytes: int = 0
    damaged: bool = False


def segment_paths(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*.log") if len(path.stem) == 20 and path.stem.isdigit())


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def measure(segment: Segment) -> None:
    with opened(segment.path) as fd:
        _check_first_line(segment.path, os.pread(fd, LINE_BYTES, 0))
        segment.length = os.fstat(fd).st_size
    segment.waiting_bytes = max(0, segment.length - LINE_BYTES)


def cut_tail(newest: Segment, mark: bytes) -> int:
    """
    Cut what follows the last good frame, and return the number that comes next.

    The rest is synced: after a kill it may lie in the page cache only, and its numbers are about to be published.
    """
    end, stop = newest.first, LINE_BYTES
    with opened(newest.path, os.O_RDWR) as fd:
        for found in good_frames(fd, mark, LINE_BYTES, newest.length):
            end, stop = found.end, found.stop
        if newest.length > stop:
            os.ftruncate(fd, stop)
        _fdatasync(fd)
    newest.length = min(newest.length, stop)
    newest.waiting_bytes = max(0, newest.length - LINE_BYTES)
    return end


def read_cursor(directory: Path) -> int:
    """Read the first number not in Kafka; 0 when the file is missing or damaged."""
    try:
        number, crc = (directory / "cursor").read_bytes().split()
        return int(number) if crc == b"%08x" % crc32(number) else 0
    except (OSError, ValueError):
        return 0


def write_cursor(directory: Path, number: int) -> None:
    text = b"%d" % number
    with opened(directory / "cursor.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        os.write(fd, b"%b %08x\n" % (text, crc32(text)))
    (directory / "cursor.new").replace(directory / "cursor")


def put_away(segment: Segment) -> None:
    """Delete a segment that is wholly in Kafka; keep a damaged one aside."""
    if not segment.damaged:
        segment.path.unlink(missing_ok=True)
        return
    aside = segment.path.parent.parent / _DAMAGED
    aside.mkdir(mode=0o700, exist_ok=True)
    segment.path.rename(aside / f"{segment.path.parent.name}-{segment.path.name}")


# ---------------------------------------------------------------- appending


class Written(NamedTuple):
    segment: Segment
    first: int
    size: int
    stop: int


class Appender:
    """Frames to disk. Used by one thread; blocks."""

    def __init__(self, directory: Path, next_number: int, files: Files, segment_bytes: int) -> None:
        self._directory, self._files, self._segment_bytes = directory, files, segment_bytes
        self._mark = UUID(directory.name).bytes[:8]
        self._next = next_number
        self._fd: int | None = None
        self._segment = Segment(directory, -1)
        self._at = 0  # up to here the segment is synced

    def commit(self, body: bytes, count: int) -> Written:
        """
        Write one frame and sync it.

        Raises:
            SpoolFull: no room; nothing was written, the next call tries again.
            SpoolFailed: what is on disk is not known any more.
        """
        try:
            return self._commit(frame_bytes(self._mark, self._next, count, body), count)
        except OSError as fault:
            if fault.errno not in _FULL:
                raise SpoolFailed(f"the disk refused: {fault.strerror}") from fault
            self._cut_back()
            raise SpoolFull("the disk is full") from fault

    def _commit(self, frame: bytes, count: int) -> Written:
        if self._fd is None or LINE_BYTES < self._at > self._segment_bytes - len(frame):
            self._fd = self._begin()
        self._write_all(self._fd, frame, self._at)
        self._files.sync(self._fd)
        self._at += len(frame)
        self._next += count
        return Written(self._segment, self._next - count, len(frame), self._at)

    def _write_all(self, fd: int, content: bytes, at: int) -> None:
        if self._files.write(fd, content, at) != len(content):
            raise OSError(errno.ENOSPC, "short write")

    def _begin(self) -> int:
        """Make the next segment, known to its directory before anything in it is answered."""
        self.close()
        path = self._directory / f"{self._next:020}.log"
        fd = self._files.create(path)
        try:
            self._allocate(fd)
            self._write_all(fd, first_line(self._directory.name), 0)
            self._files.sync(fd)
            self._files.sync_directory(self._directory)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                path.unlink()
            raise
        self._segment, self._at = Segment(path, self._next, LINE_BYTES), LINE_BYTES
        return fd

    def _allocate(self, fd: int) -> None:
        try:
            self._files.allocate(fd, self._segment_bytes)
        except OSError:  # no room, or not on this file system: then it grows with each write
            self._files.truncate(fd, 0)

    def _cut_back(self) -> None:
        if self._fd is not None:
            try:
                self._files.truncate(self._fd, self._at)
            except OSError as fault:
                raise SpoolFailed(f"the disk refused to cut a write back: {fault.strerror}") from fault

    def close(self) -> None:
        """Give back what was allocated ahead."""
        if self._fd is not None:
            with suppress(OSError):  # zeros behind the last frame harm nothing
                self._files.truncate(self._fd, self._at)
            os.close(self._fd)
            self._fd = None


# ---------------------------------------------------------------- whose directory is whose


def spool_paths(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if _SPOOL_ID.fullmatch(path.name))


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the root while directories are claimed or looked at: a look must not make a start pass one over."""
    with opened(root, os.O_RDONLY | os.O_DIRECTORY) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def try_lock(directory: Path) -> int | None:
    """Lock *directory* unless another process holds it or has just removed it."""
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
