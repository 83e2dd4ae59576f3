"""A spool under test: small records, and a disk that forgets and refuses as told."""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bridge.spool.segments import LINE_BYTES
from bridge.spool.spool import Files, Spool, Spooled
from tests.waiting import WITHIN_S
from voipex.records import Record

LIMIT_BYTES = 1 << 30


def record(number: int, *, size_bytes: int = 0, timestamp_ms: int | None = None) -> Record:
    """A record whose value says *number*."""
    value = b"%d" % number
    return Record(
        topic="demo.call.events.v1",
        partition=number % 12,
        key=b"call-%d" % (number % 5),
        value=value.ljust(size_bytes),
        headers=(("ce_id", value), ("ce_type", b"voipex.call.ringing.v1")),
        timestamp_ms=1000 + number if timestamp_ms is None else timestamp_ms,
    )


def numbers(taken: Iterable[Spooled]) -> list[int]:
    return [int(one.record.value) for one in taken]


class Disk(Files):
    """
    Remembers what was synced, and refuses as told: `faults["write"] = errno.EIO`, or "short" for half a write.

    It syncs nothing in truth: a crash is an image of the directory in which what was not synced is cut or spoilt.
    """

    def __init__(self, *, allocates: bool = False) -> None:
        self.faults: dict[str, int | str] = {}
        self.allocates = allocates
        self.syncs = 0
        self.synced: dict[Path, int] = {}
        self.listed: set[Path] = set()
        self._paths: dict[int, Path] = {}
        self._written: dict[Path, int] = {}

    def _meet(self, name: str) -> None:
        fault = self.faults.get(name)
        if isinstance(fault, int):
            raise OSError(fault, os.strerror(fault))

    def create(self, path: Path) -> int:
        self._meet("create")
        fd = super().create(path)
        self._paths[fd] = path
        self.synced[path] = self._written[path] = 0
        return fd

    def write(self, fd: int, content: bytes, at: int) -> int:
        if "write" in self.faults:
            content = content[: len(content) // 2]  # whatever it answers, some of it may lie there
        count = super().write(fd, content, at)
        self._meet("write")
        self._written[self._paths[fd]] = at + count
        return count

    def sync(self, fd: int) -> None:
        self._meet("sync")
        self.syncs += 1
        self.synced[self._paths[fd]] = self._written[self._paths[fd]]

    def truncate(self, fd: int, length: int) -> None:
        self._meet("truncate")
        super().truncate(fd, length)
        self._written[self._paths[fd]] = min(length, self._written[self._paths[fd]])

    def allocate(self, fd: int, length: int) -> None:
        self._meet("allocate")
        if self.allocates:
            super().allocate(fd, length)

    def sync_directory(self, path: Path) -> None:
        self._meet("sync_directory")
        self.listed |= {known for known in self.synced if known.parent == path}

    def image(
        self, root: Path, target: Path, spoil: Callable[[bytes, int], bytes], *, unlisted: bool
    ) -> None:
        """Copy *root* as a crash leaves it: `spoil(content, synced length)`; files of no synced directory only if *unlisted*."""
        shutil.copytree(root, target)
        for path, length in self.synced.items():
            copied = target / path.relative_to(root)
            if copied.exists() and path not in self.listed and not unlisted:
                copied.unlink()
            elif copied.exists():
                copied.write_bytes(spoil(copied.read_bytes(), length))


def open_spool(root: Path, files: Files | None = None, **options: Any) -> Spool:
    return Spool.open(
        root, limit_bytes=options.pop("limit_bytes", LIMIT_BYTES), files=files or Disk(), **options
    )


def write_spool(root: Path, frames: Iterable[Iterable[int]], **options: Any) -> str:
    """Fill a spool, one frame for each of *frames*, and close it. Returns its id."""

    async def fill() -> str:
        spool = open_spool(root, **options)
        for frame in frames:
            await spool.append([record(number) for number in frame])
        await spool.close()
        return spool.spool_id

    return asyncio.run(fill())


async def drain(spool: Spool, *, acknowledge: bool = True) -> list[int]:
    """Seal and take all."""
    spool.seal()
    got: list[int] = []
    while taken := await spool.take(1000, 1 << 20):
        got += numbers(taken)
        if acknowledge:
            spool.acknowledge(taken[-1])
    return got


def read_spool(root: Path, **options: Any) -> list[int]:
    """What a bridge started on *root* would publish; afterwards all is acknowledged."""

    async def read() -> list[int]:
        spool = open_spool(root, **options)
        got = await drain(spool)
        await spool.close()
        return got

    return asyncio.run(read())


def chores_done(spool: Spool) -> None:
    """Wait until the writer thread did what it was asked for."""
    done = threading.Event()
    spool._queue.put(done.set)
    assert done.wait(WITHIN_S)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*-*/*.log"))


def frame_starts(segment: Path) -> list[int]:
    """Where the frames of *segment* begin."""
    content, mark = segment.read_bytes(), bytes.fromhex(segment.parent.name.replace("-", ""))[:8]
    starts, at = [], content.find(mark, LINE_BYTES)
    while at >= 0:
        starts.append(at)
        at = content.find(mark, at + 1)
    return starts


FULL = (
    {"write": errno.ENOSPC},
    {"write": errno.EDQUOT},
    {"write": "short"},
    {"sync": errno.ENOSPC},
    {"create": errno.ENOSPC},
    {"sync_directory": errno.ENOSPC},
)
BROKEN = (
    {"write": errno.EIO},
    {"sync": errno.EIO},
    {"write": errno.ENOSPC, "truncate": errno.EIO},
    {"write": errno.EROFS},
    {"create": errno.EACCES},
)
