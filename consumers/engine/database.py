"""
Database: the SQLite file of a store. States by key, with status and timer; parts; and the checkpoint that they belong to (ADR 5).

- One SQLite transaction holds the changes of a batch and the checkpoint that includes them.
- SQLite has no checksums, so the file has its own. Each row has one over all of its columns, compared when it is read; the checkpoint has
  one, and the sum of those of all rows. Opening compares that sum and lets SQLite check its trees, which finds rows that are missing, come
  twice, or cannot be reached by their key any more.
- With `synchronous=NORMAL` a power failure may lose the last transactions, never their order: the content is older and consistent.

Every call blocks, and all of them must come from one thread. What is wrong with the file raises `sqlite3.Error`.
"""

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

import orjson

from consumers.engine.records import DueState, PartKey, StateChange

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
_CHECKSUMS: Final = (
    "SELECT coalesce((SELECT sum(checksum) FROM state), 0) + coalesce((SELECT sum(checksum) FROM part), 0)"
)
_CACHE_KIB: Final = 2048


class Checkpoint(NamedTuple):
    """What the states in a store are made of, and how far they go."""

    cluster_id: str
    fold_version: int
    changelog_next: int
    """The first offset of the changelog partition that is not in the store."""
    inputs_next: Mapping[str, int]
    """By topic, the first offset that is not folded."""
    written_us: int


class AnotherLayout(ValueError):
    """The file was written by another version of this module."""


class Database:
    """Open it before anything else; `wipe` does, too. The attributes are as of the last commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint: Checkpoint | None = None
        """None: there is no state."""
        self.status_counts: Mapping[str, int] = {}
        """Number of keys by status."""
        self.next_due_us: int | None = None
        """When the earliest timer is due; None: no key has one."""
        self._connection: sqlite3.Connection | None = None
        self._checksums = 0
        """Sum of the checksums of all rows."""

    def open(self) -> None:
        """
        Open the file, or make it.

        Raises:
            AnotherLayout, sqlite3.Error, ValueError, TypeError: its content cannot be used.
        """
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.path.chmod(0o600)  # of an earlier version; SQLite gives its other files the same mode
        database = sqlite3.connect(self.path, isolation_level=None)
        self._connection = database
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
            raise AnotherLayout
        database.executescript(f"PRAGMA user_version = {_LAYOUT};{_SCHEMA}")
        if database.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the trees do not fit")
        row = database.execute("SELECT checksum, value FROM checkpoint").fetchone()
        if row is None:
            self.checkpoint, self.status_counts, self._checksums = None, {}, 0
        else:
            if row[0] != crc32(row[1]):
                raise sqlite3.DatabaseError("the checkpoint has another checksum")
            self._checksums, self.status_counts, values = orjson.loads(row[1])
            self.checkpoint = Checkpoint(*values)
        if database.execute(_CHECKSUMS).fetchone() != (self._checksums,):
            raise sqlite3.DatabaseError("rows are missing, or come twice")
        self._update_next_due()

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def wipe(self) -> None:
        """Begin with an empty file."""
        self.close()
        delete(self.path)
        self.open()

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the store is closed")
        return self._connection

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the states of those of *keys* that have one."""
        find = self.connection.execute
        query = "SELECT key, due_us, status, checksum, value FROM state WHERE key = ?"
        rows = (find(query, (key,)).fetchone() for key in keys)
        return {row[0]: _checked_state(*row).value for row in rows if row is not None}

    def read_parts(self, parts: Mapping[str, Iterable[str]]) -> dict[str, dict[str, bytes]]:
        """Return those of these parts that are there, by key and name."""
        find = self.connection.execute
        query = "SELECT key, name, checksum, value FROM part WHERE key = ? AND name = ?"
        found: dict[str, dict[str, bytes]] = {}
        for key, names in parts.items():
            rows = (find(query, (key, name)).fetchone() for name in names)
            found[key] = {row[1]: _checked_part(*row) for row in rows if row is not None}
        return found

    def due_states(self, until_us: int, limit: int) -> list[DueState]:
        """Return states whose timers are due, the earliest first."""
        query = (
            "SELECT key, due_us, status, checksum, value FROM state WHERE due_us <= ? ORDER BY due_us LIMIT ?"
        )
        return [_checked_state(*row) for row in self.connection.execute(query, (until_us, limit))]

    def commit(
        self,
        changes: Mapping[str, StateChange],
        checkpoint: Checkpoint,
        parts: Mapping[PartKey, bytes | None],
    ) -> None:
        """Write *changes*, changed *parts* (None deletes one) and the checkpoint that includes them, all or nothing."""
        database = self.connection
        counts = Counter(self.status_counts)
        database.execute("BEGIN IMMEDIATE")
        try:
            checksums = self._checksums
            checksums += _write_states(database, changes, counts) + _write_parts(database, parts)
            row = orjson.dumps((checksums, +counts, tuple(checkpoint)))
            database.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (crc32(row), row))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self.status_counts, self.checkpoint, self._checksums = +counts, checkpoint, checksums
        self._update_next_due()

    def _update_next_due(self) -> None:
        query = "SELECT min(due_us) FROM state WHERE due_us IS NOT NULL"
        (self.next_due_us,) = self.connection.execute(query).fetchone()


def delete(path: Path) -> None:
    """Delete the files of a database."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _write_states(
    database: sqlite3.Connection, changes: Mapping[str, StateChange], counts: Counter[str]
) -> int:
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
            checksum = _state_checksum(key, change.due_us, change.status, change.value)
            grown += checksum
            database.execute(put, (key, change.due_us, change.status, checksum, change.value))
    return grown


def _write_parts(database: sqlite3.Connection, parts: Mapping[PartKey, bytes | None]) -> int:
    """Write *parts*; return by how much the sum of the checksums grows."""
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


def _state_checksum(key: str, due_us: int | None, status: str, value: bytes) -> int:
    return crc32(value, crc32(f"{due_us} {status} {key}".encode()))


def _part_checksum(key: str, name: str, value: bytes) -> int:
    return crc32(value, crc32(f"{name} {key}".encode()))


def _checked_state(key: str, due_us: int | None, status: str, checksum: int, value: bytes) -> DueState:
    """Return a row as it was written. Damage may have changed types, too."""
    if type(value) is not bytes or checksum != _state_checksum(key, due_us, status, value):
        raise sqlite3.DatabaseError("a row has another checksum")
    return DueState(key, status, value)


def _checked_part(key: str, name: str, checksum: int, value: bytes) -> bytes:
    if type(value) is not bytes or checksum != _part_checksum(key, name, value):
        raise sqlite3.DatabaseError("a part has another checksum")
    return value
