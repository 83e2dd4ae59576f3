"""A spool under test: small records, and a disk that loses what was not synced and fails on request."""

import asyncio
import dataclasses
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bridge.spool import RecordSink, SpooledRecord
from bridge.spool.segments import HEADER_BYTES, Files, salt_of
from bridge.spool.spool import Spool
from bridge.spool.tuning import SpoolTuning
from tests.waiting import WITHIN_S
from voipex.errors import ServiceUnavailable
from voipex.records import Record

LIMIT_BYTES = 1 << 30
EVERYTHING = 10_000, 1 << 24
"""Limits for `take` that no test reaches."""


def record(number: int, *, size_bytes: int = 0, timestamp_ms: int | None = None) -> Record:
    """A record whose value is *number*, padded to *size_bytes*."""
    value = b"%d" % number
    return Record(
        topic="demo.call.events.v1",
        partition=number % 12,
        key=b"call-%d" % (number % 5),
        value=value.ljust(size_bytes),
        headers=(("ce_id", value), ("ce_type", b"voipex.call.ringing.v1")),
        timestamp_ms=1000 + number if timestamp_ms is None else timestamp_ms,
    )


def numbers(taken: Iterable[SpooledRecord]) -> list[int]:
    return [int(spooled.record.value) for spooled in taken]


def start_append(spool: RecordSink, records: Sequence[Record]) -> "asyncio.Future[None]":
    """Append; the future is done when the records are durable, or has the error."""
    durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_durable(error: ServiceUnavailable | None) -> None:
        if error is None:
            durable.set_result(None)
        else:
            durable.set_exception(error)

    spool.append(records, on_durable)
    return durable


async def append(spool: RecordSink, records: Sequence[Record]) -> None:
    """Append, and return when the records are durable."""
    await start_append(spool, records)


class Disk(Files):
    """
    Remembers what was synced, and fails on request: `faults["write"] = errno.EIO`, "short" for half a write, or any exception.

    It does not sync: a crash is an image of the directory in which everything not synced is cut off or overwritten.
    """

    def __init__(self, *, allocates: bool = False) -> None:
        self.faults: dict[str, int | str | Exception] = {}
        self.allocates = allocates
        self.syncs = 0
        self.synced: dict[Path, int] = {}
        self.listed: set[Path] = set()
        """Files whose directory was synced after they were created."""
        self._paths: dict[int, Path] = {}
        self._written: dict[Path, int] = {}

    def _fail(self, operation: str) -> None:
        fault = self.faults.get(operation)
        if isinstance(fault, int):
            raise OSError(fault, os.strerror(fault))
        if isinstance(fault, Exception):
            raise fault

    def create(self, path: Path) -> int:
        self._fail("create")
        fd = super().create(path)
        self._paths[fd] = path
        self.synced[path] = self._written[path] = 0
        return fd

    def write(self, fd: int, content: bytes, offset: int) -> int:
        if "write" in self.faults:
            content = content[: len(content) // 2]  # a failed write may leave some bytes
        count = super().write(fd, content, offset)
        self._fail("write")
        self._written[self._paths[fd]] = offset + count
        return count

    def sync(self, fd: int) -> None:
        self._fail("sync")
        self.syncs += 1
        self.synced[self._paths[fd]] = self._written[self._paths[fd]]

    def truncate(self, fd: int, length: int) -> None:
        self._fail("truncate")
        super().truncate(fd, length)
        self._written[self._paths[fd]] = min(length, self._written[self._paths[fd]])

    def allocate(self, fd: int, length: int) -> None:
        self._fail("allocate")
        if self.allocates:
            super().allocate(fd, length)

    def sync_directory(self, path: Path) -> None:
        self._fail("sync_directory")
        self.listed |= {known for known in self.synced if known.parent == path}

    def image(self, root: Path, target: Path, tear: Callable[[bytes, int], bytes], *, unlisted: bool) -> None:
        """Copy *root* as a crash leaves it: `tear(content, synced length)`; files that are not listed exist only if *unlisted*."""
        shutil.copytree(root, target)
        for path, length in self.synced.items():
            copied = target / path.relative_to(root)
            if copied.exists() and path not in self.listed and not unlisted:
                copied.unlink()
            elif copied.exists():
                copied.write_bytes(tear(copied.read_bytes(), length))


_TUNABLE = frozenset(field.name for field in dataclasses.fields(SpoolTuning))


def open_spool(root: Path, files: Files | None = None, **options: Any) -> Spool:
    """Open a spool on a `Disk`; *options* are arguments of `Spool.open` and fields of SpoolTuning."""
    tuning = SpoolTuning(**{name: options.pop(name) for name in _TUNABLE & options.keys()})
    limit_bytes = options.pop("limit_bytes", LIMIT_BYTES)
    return Spool.open(root, limit_bytes=limit_bytes, tuning=tuning, files=files or Disk(), **options)


async def write_spool(root: Path, frames: Iterable[Iterable[int]], **options: Any) -> str:
    """Fill a spool with one frame for each of *frames*, and close it. Returns its id."""
    spool = open_spool(root, **options)
    for frame in frames:
        await append(spool, [record(number) for number in frame])
    await spool.close()
    return spool.spool_id


async def drain(spool: Spool, *, acknowledge: bool = True) -> list[int]:
    """Seal the spool and take everything."""
    spool.seal()
    drained: list[int] = []
    while taken := await spool.take(1000, 1 << 20):
        drained += numbers(taken)
        if acknowledge:
            spool.acknowledge(taken[-1])
    return drained


async def read_spool(root: Path, **options: Any) -> list[int]:
    """Return what a bridge started on *root* publishes; afterwards everything is acknowledged."""
    spool = open_spool(root, **options)
    drained = await drain(spool)
    await spool.close()
    return drained


def jobs_done(spool: Spool) -> None:
    """Wait until the writer thread has done the file work it was given."""
    done = threading.Event()
    spool._work.put(done.set)
    assert done.wait(WITHIN_S)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*-*/*.log"))


def frame_starts(segment: Path) -> list[int]:
    """Return the file offsets of the frames of *segment*."""
    content, salt = segment.read_bytes(), salt_of(segment.parent)
    starts, offset = [], content.find(salt, HEADER_BYTES)
    while offset >= 0:
        starts.append(offset)
        offset = content.find(salt, offset + 1)
    return starts


Faults = dict[str, int | str | Exception]
DISK_FULL: tuple[Faults, ...] = (
    {"write": errno.ENOSPC},
    {"write": errno.EDQUOT},
    {"write": "short"},
    {"sync": errno.ENOSPC},
    {"create": errno.ENOSPC},
    {"sync_directory": errno.ENOSPC},
)
DISK_FAILED: tuple[Faults, ...] = (
    {"write": errno.EIO},
    {"sync": errno.EIO},
    {"write": errno.ENOSPC, "truncate": errno.EIO},
    {"write": errno.EROFS},
    {"create": errno.EACCES},
)
