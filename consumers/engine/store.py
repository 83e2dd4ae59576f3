"""
Store: the states of one task, cached in a SQLite file that it locks, wipes and deletes (ADR 5).

It is a cache. The private changelog topic is the truth; the store only saves reading all of it at every start. What makes it safe:

- The changes of a batch are written with their checkpoint, and only after the batch's Kafka transaction was committed. The store is
  therefore the changelog up to `changelog_next`, never ahead of it (I3).
- Any doubt (unreadable file, wrong checksum, another layout, an interrupted wipe) ends in an empty store that the restore fills again
  (I8). `wiped_because` and `failed_because` say why.
- Files have mode 0600 and folders 0700: states hold numbers and names.
- Two processes never share a file: it is locked while it is open. A process that does not get the lock in time, because a frozen one
  holds it, works on a private file with its own lock and deletes both on closing. Private files of killed processes are deleted by the
  next process that opens a store in the folder.

SQLite blocks, so each store has a thread; all calls are queued there. `Database` has the format of the file.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self, TypeVar

from consumers.engine import locks
from consumers.engine.database import AnotherLayout, Checkpoint, Database, delete
from consumers.engine.errors import StoreCorrupted
from consumers.engine.records import DueState, PartKey, StateChange

Result = TypeVar("Result")

DAMAGED: Final = "damaged"
ANOTHER_LAYOUT: Final = "another layout"
DISK_FAILED: Final = "the disk failed"
_NO_PARTS: Final[Mapping[PartKey, bytes | None]] = MappingProxyType({})
_private_files = count(1)


class Store:
    """The store of one task. Open it with `Store.open`; always close it."""

    def __init__(self, path: Path, lock: int | None, *, private: bool) -> None:
        self._path = path
        self._lock = lock
        self._private = private
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"store-{path.stem}")
        self._database = Database(path)
        self.wiped_because: str | None = None
        """Why the content of the file was deleted when it was opened; None: it was not."""
        self.failed_because: str | None = None
        """Why the file is deleted when it is closed; None: it is not."""

    @classmethod
    async def open(cls, folder: Path, name: str, lock_within_s: float = 3.0) -> Self:
        """Open `<folder>/<name>.db`, or a private file when another process holds its lock for longer than `lock_within_s`."""
        path = folder / f"{name}.db"
        lock = await locks.lock(path.with_suffix(".lock"), lock_within_s)
        is_private = lock is None
        if is_private:
            path = folder / f"{name}-{os.getpid()}-{next(_private_files)}.db"
            # None where the file system has no locks; then nobody deletes private files that were left behind.
            lock = locks.try_lock(path.with_suffix(".lock"))
        store = cls(path, lock, private=is_private)
        try:
            await store._run(store._open)
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def checkpoint(self) -> Checkpoint | None:
        """None: the store is empty."""
        return self._database.checkpoint

    @property
    def status_counts(self) -> Mapping[str, int]:
        """Number of keys by status."""
        return self._database.status_counts

    @property
    def next_due_us(self) -> int | None:
        """When the earliest timer is due, as of the last commit; None: no key has one."""
        return self._database.next_due_us

    @property
    def size_bytes(self) -> int:
        """Size of the database file, without its write-ahead log."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    async def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the states of those of *keys* that have one."""
        return await self._run(self._database.read, list(keys))

    async def read_parts(self, parts: Mapping[str, Iterable[str]]) -> dict[str, dict[str, bytes]]:
        """Return those of these parts that are there, by key and name."""
        return await self._run(self._database.read_parts, parts)

    async def due_states(self, until_us: int, limit: int) -> list[DueState]:
        """Return states whose timers are due, the earliest first."""
        return await self._run(self._database.due_states, until_us, limit)

    async def commit(
        self,
        changes: Mapping[str, StateChange],
        checkpoint: Checkpoint,
        parts: Mapping[PartKey, bytes | None] = _NO_PARTS,
    ) -> None:
        """
        Write *changes*, changed *parts* (None deletes one) and the checkpoint that includes them, all or nothing.

        Raises:
            StoreCorrupted: the disk is full or the file damaged. The changelog has everything; open the store again and restore it.
        """
        await self._run(self._database.commit, changes, checkpoint, parts)

    async def wipe(self) -> None:
        """Delete everything."""
        await self._run(self._database.wipe)

    async def close(self) -> None:
        """Wait for queued calls, close the file and release its lock."""
        try:
            with contextlib.suppress(StoreCorrupted):
                await self._run(self._close)
        finally:
            self._thread.shutdown(wait=False)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    async def _run(self, function: Callable[..., Result], *arguments: object) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except sqlite3.Error as error:
            self.failed_because = self.failed_because or _reason(error)
            raise StoreCorrupted(f"{self._path.name}: {error}") from error

    # ---------------------------------------------------------------- in the thread

    def _open(self) -> None:
        self._delete_orphans()
        try:
            self._database.open()
        except (sqlite3.Error, ValueError, TypeError) as error:
            self.wiped_because = ANOTHER_LAYOUT if isinstance(error, AnotherLayout) else DAMAGED
            self._database.wipe()

    def _close(self) -> None:
        self._database.close()
        if self._private or self.failed_because is not None:
            delete(self._path)
        if self._private:
            self._path.with_suffix(".lock").unlink(missing_ok=True)

    def _delete_orphans(self) -> None:
        """Delete private files of processes that are gone: nobody holds their lock."""
        for path in self._path.parent.glob("state-*-*-*.lock"):
            lock = locks.try_lock(path)
            if lock is not None:
                delete(path.with_suffix(".db"))
                path.unlink(missing_ok=True)
                os.close(lock)


def _reason(error: sqlite3.Error) -> str:
    """Why a store is not used any more, as logs and metrics name it."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return DISK_FAILED if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")) else DAMAGED
