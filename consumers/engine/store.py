"""
Store: the states of one task in SQLite: by key, with the time of their timers, and the checkpoint they belong to (ADR 5).

It is a cache. The private changelog topic is the truth; the store only saves reading all of it at every start. What makes it safe:

- One SQLite transaction holds the changes of a batch and the checkpoint that includes them, and is written only after the batch's Kafka
  transaction was committed. The store is therefore the changelog up to `changelog_next`, never ahead of it (I3).
- Any doubt (unreadable file, another layout, an interrupted wipe) ends in `wipe`: an empty store that the restore fills again (I8).
- Two processes never share a file: it is locked while it is open. A process that does not get the lock in time, because a frozen one
  holds it, works on a private file with its own lock and deletes both on closing. Private files of killed processes are deleted by the
  next process that opens a store in the folder.

With `synchronous=NORMAL` a power failure may lose the last transactions, never their order: the store is older and consistent, and rolls
forward. SQLite blocks, so each store has a thread; all calls are queued there.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeVar

import orjson

from consumers.engine.errors import StoreCorrupted
from consumers.engine.records import DueState, StateChange

Result = TypeVar("Result")

_LAYOUT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, due_us INTEGER, status TEXT NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS due ON state (due_us) WHERE due_us IS NOT NULL;
CREATE TABLE IF NOT EXISTS checkpoint (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), value BLOB NOT NULL);
"""
_CACHE_KIB: Final = 2048
_LOCK_RETRY_S: Final = 0.1
_private_files = count(1)


class Checkpoint(NamedTuple):
    """What the states in a store are made of, and how far they go."""

    cluster_id: str
    fold_version: int
    changelog_next: int
    """The first offset of the changelog partition that is not in the store."""
    inputs_next: Mapping[str, int]
    """By topic, the first offset that is not folded."""
    written_us: int


class Store:
    """The store of one task. Open it with `Store.open`; always close it."""

    def __init__(self, path: Path, lock: int | None, *, private: bool) -> None:
        self._path = path
        self._lock = lock
        self._private = private
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"store-{path.stem}")
        self._database: sqlite3.Connection | None = None
        self._status_counts: Counter[str] = Counter()
        self._checkpoint: Checkpoint | None = None
        self._corrupted = False
        self.next_due_us: int | None = None
        """When the earliest timer is due, as of the last commit; None: no key has one."""

    @classmethod
    async def open(cls, folder: Path, name: str, lock_within_s: float = 3.0) -> Self:
        """Open `<folder>/<name>.db`, or a private file when another process holds its lock for longer than `lock_within_s`."""
        path = folder / f"{name}.db"
        lock = await _lock(path.with_suffix(".lock"), lock_within_s)
        is_private = lock is None
        if is_private:
            path = folder / f"{name}-{os.getpid()}-{next(_private_files)}.db"
            # None where the file system has no locks; then nobody deletes private files that were left behind.
            lock = _try_lock(path.with_suffix(".lock"))
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
        return self._checkpoint

    @property
    def status_counts(self) -> Mapping[str, int]:
        """Number of keys by status."""
        return self._status_counts

    @property
    def size_bytes(self) -> int:
        """Size of the database file, without its write-ahead log."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    async def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the states of those of *keys* that have one."""
        return await self._run(self._read, list(keys))

    async def due_states(self, until_us: int, limit: int) -> list[DueState]:
        """Return states whose timers are due, the earliest first."""
        return await self._run(self._due_states, until_us, limit)

    async def commit(self, changes: Mapping[str, StateChange], checkpoint: Checkpoint) -> None:
        """
        Write *changes* and the checkpoint that includes them, both or neither.

        Raises:
            StoreCorrupted: the disk is full or the file damaged. The changelog has everything; open the store again and restore it.
        """
        await self._run(self._commit, changes, checkpoint)

    async def wipe(self) -> None:
        """Delete everything."""
        await self._run(self._wipe)

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
            self._corrupted = True
            raise StoreCorrupted(f"{self._path.name}: {error}") from error

    # ---------------------------------------------------------------- in the thread

    def _open(self) -> None:
        self._delete_orphans()
        try:
            self._connect()
        except (sqlite3.Error, ValueError, TypeError):  # damaged, or of another layout
            self._wipe()

    def _connect(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        self._database = database
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=MEMORY",
        ):
            database.execute(f"PRAGMA {pragma}")
        database.executescript(_SCHEMA)
        row = database.execute("SELECT value FROM checkpoint").fetchone()
        if row is None:
            self._status_counts, self._checkpoint = Counter(), None
        else:
            layout, counts, checkpoint = orjson.loads(row[0])
            if layout != _LAYOUT:
                raise ValueError("another layout")
            self._status_counts, self._checkpoint = Counter(counts), Checkpoint(*checkpoint)
        self._update_next_due()

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.ProgrammingError("the store is closed")
        return self._database

    def _update_next_due(self) -> None:
        query = "SELECT min(due_us) FROM state WHERE due_us IS NOT NULL"
        (self.next_due_us,) = self._connection().execute(query).fetchone()

    def _read(self, keys: Sequence[str]) -> dict[str, bytes]:
        find = self._connection().execute
        found = {}
        for key in keys:
            row = find("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
            if row is not None:
                found[key] = row[0]
        return found

    def _due_states(self, until_us: int, limit: int) -> list[DueState]:
        query = "SELECT key, status, value FROM state WHERE due_us <= ? ORDER BY due_us LIMIT ?"
        return [DueState(*row) for row in self._connection().execute(query, (until_us, limit))]

    def _commit(self, changes: Mapping[str, StateChange], checkpoint: Checkpoint) -> None:
        database = self._connection()
        counts = self._status_counts.copy()
        database.execute("BEGIN IMMEDIATE")
        try:
            self._apply(database, changes, counts)
            row = orjson.dumps((_LAYOUT, +counts, tuple(checkpoint)))
            database.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?)", (row,))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._status_counts, self._checkpoint = +counts, checkpoint
        self._update_next_due()

    @staticmethod
    def _apply(
        database: sqlite3.Connection, changes: Mapping[str, StateChange], counts: Counter[str]
    ) -> None:
        find = "SELECT status FROM state WHERE key = ?"
        put = (
            "INSERT INTO state VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "due_us = excluded.due_us, status = excluded.status, value = excluded.value"
        )
        for key, change in changes.items():
            before = database.execute(find, (key,)).fetchone()
            if before is not None:
                counts[before[0]] -= 1
            if change.value is None:
                database.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                counts[change.status] += 1
                database.execute(put, (key, change.due_us, change.status, change.value))

    def _wipe(self) -> None:
        self._disconnect()
        self._delete_files()
        self._connect()

    def _close(self) -> None:
        self._disconnect()
        if self._private or self._corrupted:
            self._delete_files()
        if self._private:
            self._path.with_suffix(".lock").unlink(missing_ok=True)

    def _disconnect(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _delete_files(self) -> None:
        _delete(self._path)

    def _delete_orphans(self) -> None:
        """Delete private files of processes that are gone: nobody holds their lock."""
        for path in self._path.parent.glob("state-*-*-*.lock"):
            lock = _try_lock(path)
            if lock is not None:
                _delete(path.with_suffix(".db"))
                path.unlink(missing_ok=True)
                os.close(lock)


def _delete(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _try_lock(path: Path) -> int | None:
    """Return a file descriptor that holds the lock until it is closed; None: another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


async def _lock(path: Path, within_s: float) -> int | None:
    """The same, but wait up to *within_s* for another process to release it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while (lock := _try_lock(path)) is None and loop.time() < deadline:  # noqa: ASYNC110 - files have no events
        await asyncio.sleep(_LOCK_RETRY_S)
    return lock
