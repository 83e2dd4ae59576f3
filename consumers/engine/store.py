"""
Store: the states of one task in SQLite: by key, with the time of their timers and their parts, and the checkpoint they belong to (ADR 5).

It is a cache. The private changelog topic is the truth; the store only saves reading all of it at every start. What makes it safe:

- One SQLite transaction holds the changes of a batch and the checkpoint that includes them, and is written only after the batch's Kafka
  transaction was committed. The store is therefore the changelog up to `changelog_next`, never ahead of it (I3).
- Any doubt (unreadable file, another layout, an interrupted wipe) ends in `wipe`: an empty store that the restore fills again (I8).
- SQLite has no checksums, so the store has its own. Each row has one over key, value and the rest, compared when it is read; the
  checkpoint has one, and the sum of those of all rows. Opening a store compares that sum and lets SQLite check its trees, which finds
  rows that are missing, come twice, or cannot be reached by their key any more. A difference wipes the store, by name (`wiped_because`).
- Files have mode 0600 and folders 0700: states hold numbers and names.
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
from types import MappingProxyType
from typing import Final, NamedTuple, Self, TypeVar
from zlib import crc32

import orjson

from consumers.engine.errors import StoreCorrupted
from consumers.engine.records import DueState, PartKey, StateChange

Result = TypeVar("Result")

_LAYOUT: Final = 2
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS state
    (key TEXT PRIMARY KEY, due_us INTEGER, status TEXT NOT NULL, checksum INTEGER NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS due ON state (due_us) WHERE due_us IS NOT NULL;
CREATE TABLE IF NOT EXISTS part
    (key TEXT, name TEXT, checksum INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (key, name));
CREATE TABLE IF NOT EXISTS checkpoint
    (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), checksum INTEGER NOT NULL, value BLOB NOT NULL);
"""
DAMAGED: Final = "damaged"
ANOTHER_LAYOUT: Final = "another layout"
DISK_FAILED: Final = "the disk failed"
_CHECKSUMS: Final = (
    "SELECT coalesce((SELECT sum(checksum) FROM state), 0) + coalesce((SELECT sum(checksum) FROM part), 0)"
)
_NO_PARTS: Final[Mapping[PartKey, bytes | None]] = MappingProxyType({})
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
        self._checksums = 0
        """Sum of the checksums of all rows."""
        self.wiped_because: str | None = None
        """Why the content of the file was deleted when it was opened; None: it was not."""
        self.failed_because: str | None = None
        """Why the file is deleted when it is closed; None: it is not."""
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

    async def read_parts(self, parts: Mapping[str, Iterable[str]]) -> dict[str, dict[str, bytes]]:
        """Return those of these parts that are there, by key and name."""
        return await self._run(self._read_parts, parts)

    async def due_states(self, until_us: int, limit: int) -> list[DueState]:
        """Return states whose timers are due, the earliest first."""
        return await self._run(self._due_states, until_us, limit)

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
        await self._run(self._commit, changes, checkpoint, parts)

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
            self.failed_because = self.failed_because or _reason(error)
            raise StoreCorrupted(f"{self._path.name}: {error}") from error

    # ---------------------------------------------------------------- in the thread

    def _open(self) -> None:
        self._delete_orphans()
        try:
            self._connect()
        except (sqlite3.Error, ValueError, TypeError) as error:
            self.wiped_because = str(error) if isinstance(error, _AnotherLayout) else DAMAGED
            self._wipe()

    def _connect(self) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)  # of an earlier version; SQLite gives its other files the same mode
        database = sqlite3.connect(self._path, isolation_level=None)
        self._database = database
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=MEMORY",
        ):
            database.execute(f"PRAGMA {pragma}")
        (layout,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and layout != _LAYOUT:
            raise _AnotherLayout(ANOTHER_LAYOUT)
        database.executescript(f"PRAGMA user_version = {_LAYOUT};{_SCHEMA}")
        if database.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the trees do not fit")
        row = database.execute("SELECT checksum, value FROM checkpoint").fetchone()
        (checksums,) = database.execute(_CHECKSUMS).fetchone()
        if row is None:
            expected, counts, checkpoint = 0, {}, None
        else:
            if row[0] != crc32(row[1]):
                raise sqlite3.DatabaseError("the checkpoint has another checksum")
            expected, counts, values = orjson.loads(row[1])
            checkpoint = Checkpoint(*values)
        if checksums != expected:
            raise sqlite3.DatabaseError("rows are missing, or come twice")
        self._status_counts, self._checkpoint, self._checksums = Counter(counts), checkpoint, expected
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
            row = find(
                "SELECT key, due_us, status, checksum, value FROM state WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                found[key] = _checked(*row).value
        return found

    def _read_parts(self, parts: Mapping[str, Iterable[str]]) -> dict[str, dict[str, bytes]]:
        find = self._connection().execute
        query = "SELECT key, name, checksum, value FROM part WHERE key = ? AND name = ?"
        found: dict[str, dict[str, bytes]] = {}
        for key, names in parts.items():
            of_key = found[key] = {}
            for name in names:
                row = find(query, (key, name)).fetchone()
                if row is not None:
                    of_key[name] = _checked_part(*row)
        return found

    def _due_states(self, until_us: int, limit: int) -> list[DueState]:
        query = (
            "SELECT key, due_us, status, checksum, value FROM state WHERE due_us <= ? ORDER BY due_us LIMIT ?"
        )
        return [_checked(*row) for row in self._connection().execute(query, (until_us, limit))]

    def _commit(
        self,
        changes: Mapping[str, StateChange],
        checkpoint: Checkpoint,
        parts: Mapping[PartKey, bytes | None],
    ) -> None:
        database = self._connection()
        counts = self._status_counts.copy()
        database.execute("BEGIN IMMEDIATE")
        try:
            checksums = self._checksums + self._apply(database, changes, counts)
            checksums += self._apply_parts(database, parts)
            row = orjson.dumps((checksums, +counts, tuple(checkpoint)))
            database.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (crc32(row), row))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._status_counts, self._checkpoint, self._checksums = +counts, checkpoint, checksums
        self._update_next_due()

    @staticmethod
    def _apply(database: sqlite3.Connection, changes: Mapping[str, StateChange], counts: Counter[str]) -> int:
        """Write *changes*, and change *counts*; return by how much the sum of the checksums grows."""
        grown = 0
        find = "SELECT status, checksum FROM state WHERE key = ?"
        put = (
            "INSERT INTO state VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "due_us = excluded.due_us, status = excluded.status, checksum = excluded.checksum, value = excluded.value"
        )
        for key, change in changes.items():
            before = database.execute(find, (key,)).fetchone()
            if before is not None:
                counts[before[0]] -= 1
                grown -= before[1]
            if change.value is None:
                database.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                counts[change.status] += 1
                checksum = _checksum(key, change.due_us, change.status, change.value)
                grown += checksum
                database.execute(put, (key, change.due_us, change.status, checksum, change.value))
        return grown

    @staticmethod
    def _apply_parts(database: sqlite3.Connection, parts: Mapping[PartKey, bytes | None]) -> int:
        """The same for *parts*."""
        grown = 0
        for part, value in parts.items():
            before = database.execute("SELECT checksum FROM part WHERE key = ? AND name = ?", part).fetchone()
            if before is not None:
                grown -= before[0]
            if value is None:
                database.execute("DELETE FROM part WHERE key = ? AND name = ?", part)
            else:
                checksum = _part_checksum(*part, value)
                grown += checksum
                database.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?)", (*part, checksum, value))
        return grown

    def _wipe(self) -> None:
        self._disconnect()
        self._delete_files()
        self._connect()

    def _close(self) -> None:
        self._disconnect()
        if self._private or self.failed_because is not None:
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


class _AnotherLayout(ValueError):
    """Written by another version of this file."""


def _checksum(key: str, due_us: int | None, status: str, value: bytes) -> int:
    return crc32(value, crc32(f"{due_us} {status} {key}".encode()))


def _checked(key: str, due_us: int | None, status: str, checksum: int, value: bytes) -> DueState:
    """Return a row as it was written. Damage may have changed types, too."""
    if type(value) is not bytes or checksum != _checksum(key, due_us, status, value):
        raise sqlite3.DatabaseError("a row has another checksum")
    return DueState(key, status, value)


def _part_checksum(key: str, name: str, value: bytes) -> int:
    return crc32(value, crc32(f"{name} {key}".encode()))


def _checked_part(key: str, name: str, checksum: int, value: bytes) -> bytes:
    if type(value) is not bytes or checksum != _part_checksum(key, name, value):
        raise sqlite3.DatabaseError("a part has another checksum")
    return value


def _reason(error: sqlite3.Error) -> str:
    """Why a store is not used any more, as logs and metrics name it."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return DISK_FAILED if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")) else DAMAGED


def _make_private_folder(folder: Path) -> None:
    """Make *folder* and those above it that are missing, for this user only."""
    for each in reversed([folder, *folder.parents]):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(PermissionError):  # of another user, as a mounted volume may be
        folder.chmod(0o700)


def _delete(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _try_lock(path: Path) -> int | None:
    """Return a file descriptor that holds the lock until it is closed; None: another process holds it."""
    _make_private_folder(path.parent)
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
