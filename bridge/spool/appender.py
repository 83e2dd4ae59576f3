"""Writes frames to disk: the part of the spool that runs in its writer thread."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from bridge.spool.frames import encode_frame
from bridge.spool.segments import HEADER_BYTES, Files, Segment, salt_of, segment_header
from voipex.errors import SpoolFailed, SpoolFull

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Written(NamedTuple):
    """A frame that is on disk."""

    segment: Segment
    first_seq: int
    size: int
    stop: int
    """Offset of its end in the segment."""


class Appender:
    """Appends frames to the segments of one directory. Used by one thread; blocks."""

    def __init__(self, directory: Path, next_seq: int, files: Files, segment_bytes: int) -> None:
        self._directory, self._files, self._segment_bytes = directory, files, segment_bytes
        self._salt = salt_of(directory)
        self._next_seq = next_seq
        self._fd: int | None = None
        self._segment = Segment(directory, -1)
        self._synced_bytes = 0  # of the segment
        self._refused_bytes = 0  # of the frame for which the disk had no room

    def commit(self, body: bytes, record_count: int) -> Written:
        """
        Write one frame and sync it.

        Raises:
            SpoolFull: the disk is full; nothing was written, and the next call may succeed.
            SpoolFailed: the content of the disk is unknown from now on, or the segment is no longer in its directory.
        """
        frame = encode_frame(self._salt, self._next_seq, record_count, body)
        with self._rolled_back():
            self._refused_bytes = len(frame)
            return self._write_frame(frame, record_count)

    def probe(self) -> None:
        """Find out whether there is room again for the frame that was refused: write as many zeros, which are no frame. Raises as `commit`."""
        with self._rolled_back():
            if self._fd is None:
                self._fd = self._create_segment()
            self._write_all(self._fd, bytes(self._refused_bytes), self._synced_bytes)
            self._files.sync(self._fd)

    def check(self) -> None:
        """Raise SpoolFailed if the segment is no longer in its directory: what is written to it would be lost."""
        with self._rolled_back():
            self._check_linked()

    def _check_linked(self) -> None:
        if self._fd is not None and not self._files.is_at(self._fd, self._segment.path):
            raise SpoolFailed(f"{self._segment.path} was removed or replaced")

    @contextmanager
    def _rolled_back(self) -> Iterator[None]:
        """Turn OSError into SpoolFull, after a rollback to what was synced, or into SpoolFailed."""
        try:
            yield
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise SpoolFailed(f"write to the spool failed: {error.strerror}") from error
            self._rollback_write()
            raise SpoolFull("the disk is full") from error

    def _write_frame(self, frame: bytes, record_count: int) -> Written:
        if self._fd is None or HEADER_BYTES < self._synced_bytes > self._segment_bytes - len(frame):
            self._fd = self._create_segment()
        self._write_all(self._fd, frame, self._synced_bytes)
        self._files.sync(self._fd)
        self._check_linked()
        self._synced_bytes += len(frame)
        first_seq = self._next_seq
        self._next_seq += record_count
        return Written(self._segment, first_seq, len(frame), self._synced_bytes)

    def _write_all(self, fd: int, content: bytes, offset: int) -> None:
        if self._files.write(fd, content, offset) != len(content):
            raise OSError(errno.ENOSPC, "short write")

    def _create_segment(self) -> int:
        """Begin the next segment; its directory is synced before any of its records is acknowledged."""
        self.close()
        path = self._directory / f"{self._next_seq:020}.log"
        fd = self._files.create(path)
        try:
            self._allocate(fd)
            self._write_all(fd, segment_header(self._directory.name), 0)
            self._files.sync(fd)
            self._files.sync_directory(self._directory)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                path.unlink()
            raise
        self._segment, self._synced_bytes = Segment(path, self._next_seq, HEADER_BYTES), HEADER_BYTES
        return fd

    def _allocate(self, fd: int) -> None:
        try:
            self._files.allocate(fd, self._segment_bytes)
        except OSError:  # no room, or the file system cannot: the file grows with each write instead
            self._files.truncate(fd, 0)

    def _rollback_write(self) -> None:
        if self._fd is not None:
            try:
                self._files.truncate(self._fd, self._synced_bytes)
            except OSError as error:
                raise SpoolFailed(f"rollback of a spool write failed: {error.strerror}") from error

    def begin_segment(self) -> None:
        """Leave an empty segment, named by the next sequence number, so that the one before can be deleted. Raises OSError."""
        if self._segment.first_seq != self._next_seq:
            self._fd = self._create_segment()

    def close(self) -> None:
        """Close the segment and free the space allocated ahead."""
        if self._fd is not None:
            with suppress(OSError):  # zeros after the last frame are harmless
                self._files.truncate(self._fd, self._synced_bytes)
            os.close(self._fd)
            self._fd = None
