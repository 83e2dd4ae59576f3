"""
Store: the cache of one partition in SQLite: states by key, when each is due, and the checkpoint that says how far it goes (ADR 5).

It is disposable. The private changelog topic is the truth; the store only saves reading all of it at every start. What makes it safe:

- One transaction of SQLite holds a batch's changes and the checkpoint that includes them, and it is written only after the batch's
  transaction of Kafka was committed. So the store is the changelog up to `changelog_next`, and never ahead of it (I3).
- Any doubt (unreadable file, another layout, an interrupted wipe) ends in `wipe`: an empty store that the restore fills again (I8).
- Two processes never share a file: its lock is held while it is open. Who does not get it in time (a frozen process may hold it) works
  on a file of its own, with a lock of its own, and deletes both when it closes. Who was killed before that left them to the next one that
  opens a file here.

`synchronous=NORMAL` may lose the last transactions with the power, never their order: an older consistent store, which rolls forward.
SQLite blocks, so each store has a thread; all calls are queued there.
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

Result = TypeVar("Result")

_LAYOUT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, due_us INTEGER, standing TEXT NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS due ON state (due_us) WHERE due_us IS NOT NULL;
CREATE TABLE IF NOT EXISTS checkpoint (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), value BLOB NOT NULL);
"""
_CACHE_KIB: Final = 2048
_LOCK_EVERY_S: Final = 0.1
_private_files = count(1)


class Checkpoint(NamedTuple):
    """How far a store goes, and of what."""

    cluster_id: str
    fold_version: int
    changelog_next: int
    """The first offset of the changelog partition that is not in the store."""
    inputs_next: Mapping[str, int]
    """By topic, the first offset that is not folded in."""
    written_us: int


class Change(NamedTuple):
    """What a key becomes; `value` None: it is forgotten."""

    value: bytes | None
    due_us: int | None
    standing: str


class Row(NamedTuple):
    """A key that is due."""

    key: str
    standing: str
    value: bytes


class StoreBroken(Exception):
    """The file cannot be used (any more). It will be wiped when it is opened again."""


class Store:
    """The store of one partition; open it with `Store.open`, close it always."""

    def __init__(self, path: Path, lock: int | None, *, private: bool) -> None:
        self._path = path
        self._lock = lock
        self._private = private
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"store-{path.stem}")
        self._database: sqlite3.Connection | None = None
        self._counts: Counter[str] = Counter()
        self._checkpoint: Checkpoint | None = None
        self._broken = False
        self.next_due_us: int | None = None
        """The earliest moment at which a key is due; None: none is. As of the last commit."""

    @classmethod
    async def open(cls, folder: Path, name: str, lock_within_s: float = 3.0) -> Self:
        """Open `<folder>/<name>.db`, or a file of our own when another process holds it for longer than `lock_within_s`."""
        path = folder / f"{name}.db"
        lock = await _locked(path.with_suffix(".lock"), lock_within_s)
        is_private = lock is None
        if is_private:
            path = folder / f"{name}-{os.getpid()}-{next(_private_files)}.db"
            lock = _lock_now(
                path.with_suffix(".lock")
            )  # None where files cannot be locked: then nobody deletes orphans
        store = cls(path, lock, private=is_private)
        try:
            await store._do(store._open)
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def checkpoint(self) -> Checkpoint | None:
        """None: nothing is in here yet."""
        return self._checkpoint

    @property
    def standings(self) -> Mapping[str, int]:
        """How many keys stand how."""
        return self._counts

    @property
    def size_bytes(self) -> int:
        """Size of the file, without what SQLite has not moved there yet."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    async def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The states that are there, of these keys."""
        return await self._do(self._read, list(keys))

    async def due(self, until_us: int, limit: int) -> list[Row]:
        """Keys that are due, the earliest first."""
        return await self._do(self._due, until_us, limit)

    async def commit(self, changes: Mapping[str, Change], checkpoint: Checkpoint) -> None:
        """
        Keep *changes* and the checkpoint that includes them, both or none.

        Raises:
            StoreBroken: the disk is full or the file damaged. The changelog has it all; open again and restore.
        """
        await self._do(self._commit, changes, checkpoint)

    async def wipe(self) -> None:
        """Forget everything."""
        await self._do(self._wipe)

    async def close(self) -> None:
        """Close the file and let others have it; waits for what is queued."""
        try:
            with contextlib.suppress(StoreBroken):
                await self._do(self._close)
        finally:
            self._thread.shutdown(wait=False)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    async def _do(self, function: Callable[..., Result], *arguments: object) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except sqlite3.Error as error:
            self._broken = True
            raise StoreBroken(f"{self._path.name}: {error}") from error

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
        kept = database.execute("SELECT value FROM checkpoint").fetchone()
        if kept is None:
            self._counts, self._checkpoint = Counter(), None
        else:
            layout, counts, checkpoint = orjson.loads(kept[0])
            if layout != _LAYOUT:
                raise ValueError("another layout")
            self._counts, self._checkpoint = Counter(counts), Checkpoint(*checkpoint)
        self._look_when_due()

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.ProgrammingError("the store is closed")
        return self._database

    def _look_when_due(self) -> None:
        query = "SELECT min(due_us) FROM state WHERE due_us IS NOT NULL"
        (self.next_due_us,) = self._opened().execute(query).fetchone()

    def _read(self, keys: Sequence[str]) -> dict[str, bytes]:
        find = self._opened().execute
        found = {}
        for key in keys:
            row = find("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
            if row is not None:
                found[key] = row[0]
        return found

    def _due(self, until_us: int, limit: int) -> list[Row]:
        query = "SELECT key, standing, value FROM state WHERE due_us <= ? ORDER BY due_us LIMIT ?"
        return [Row(*row) for row in self._opened().execute(query, (until_us, limit))]

    def _commit(self, changes: Mapping[str, Change], checkpoint: Checkpoint) -> None:
        database = self._opened()
        counts = self._counts.copy()
        database.execute("BEGIN IMMEDIATE")
        try:
            self._apply(database, changes, counts)
            kept = orjson.dumps((_LAYOUT, +counts, tuple(checkpoint)))
            database.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?)", (kept,))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._counts, self._checkpoint = +counts, checkpoint
        self._look_when_due()

    @staticmethod
    def _apply(database: sqlite3.Connection, changes: Mapping[str, Change], counts: Counter[str]) -> None:
        find = "SELECT standing FROM state WHERE key = ?"
        put = (
            "INSERT INTO state VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "due_us = excluded.due_us, standing = excluded.standing, value = excluded.value"
        )
        for key, change in changes.items():
            before = database.execute(find, (key,)).fetchone()
            if before is not None:
                counts[before[0]] -= 1
            if change.value is None:
                database.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                counts[change.standing] += 1
                database.execute(put, (key, change.due_us, change.standing, change.value))

    def _wipe(self) -> None:
        self._disconnect()
        self._delete_files()
        self._connect()

    def _close(self) -> None:
        self._disconnect()
        if self._private or self._broken:
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
        """Private files whose process is gone: nobody holds their lock."""
        for path in self._path.parent.glob("state-*-*-*.lock"):
            lock = _lock_now(path)
            if lock is not None:
                _delete(path.with_suffix(".db"))
                path.unlink(missing_ok=True)
                os.close(lock)


def _delete(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _lock_now(path: Path) -> int | None:
    """An open file that holds the lock until it is closed; None: somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


async def _locked(path: Path, within_s: float) -> int | None:
    """The same, with some patience."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while (lock := _lock_now(path)) is None and loop.time() < deadline:  # noqa: ASYNC110 - files have no events
        await asyncio.sleep(_LOCK_EVERY_S)
    return lock
