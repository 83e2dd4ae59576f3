"""Store, on real files: states and checkpoint change together, and a doubtful file starts empty."""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import orjson
import pytest

from consumers.engine.database import Checkpoint
from consumers.engine.errors import StoreCorrupted
from consumers.engine.records import DueState, PartKey, StateChange
from consumers.engine.store import Store

pytestmark = pytest.mark.anyio

OPEN_FILES = Path("/proc/self/fd")
CHECKPOINT = Checkpoint("cluster", 3, 17, {"voipex.call.events.v1": 5}, 1_000)


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[Store]:
    store = await Store.open(folder, "state-0", **options)
    try:
        yield store
    finally:
        await store.close()


async def fill(folder: Path, checkpoint: Checkpoint = CHECKPOINT, **changes: StateChange) -> None:
    async with opened(folder) as store:
        await store.commit(changes, checkpoint)


Contents = tuple[Checkpoint | None, dict[str, int], dict[str, bytes], int | None]


async def contents(store: Store) -> Contents:
    """Return checkpoint, number of keys by status, states, and the earliest timer."""
    states = await store.read(["a", "b", "c"])
    return store.checkpoint, dict(store.status_counts), states, store.next_due_us


async def reopened(folder: Path) -> Contents:
    async with opened(folder) as store:
        return await contents(store)


EMPTY: Contents = (None, {}, {}, None)


async def test_a_new_store_is_empty(tmp_path: Path) -> None:
    """Without a checkpoint, a restore starts at the beginning of the changelog."""
    assert await reopened(tmp_path / "new" / "folder") == EMPTY


async def test_states_and_checkpoint_survive_a_restart_together(tmp_path: Path) -> None:
    await fill(
        tmp_path,
        a=StateChange(b"1", None, "odd"),
        b=StateChange(b"2", 40, "even"),
        c=StateChange(b"3", 30, "odd"),
    )

    kept = await reopened(tmp_path)

    assert kept == (CHECKPOINT, {"odd": 2, "even": 1}, {"a": b"1", "b": b"2", "c": b"3"}, 30)


async def test_a_later_change_replaces_state_status_and_timer(tmp_path: Path) -> None:
    later = CHECKPOINT._replace(changelog_next=18)
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"), b=StateChange(b"1", 20, "odd"))
    await fill(tmp_path, later, a=StateChange(b"2", None, "even"))

    assert await reopened(tmp_path) == (later, {"odd": 1, "even": 1}, {"a": b"2", "b": b"1"}, 20)


async def test_a_deleted_key_is_neither_read_nor_counted_nor_due(tmp_path: Path) -> None:
    """Deleting an unknown key is allowed: a changelog may hold only its tombstone."""
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"))
    await fill(tmp_path, a=StateChange(None, None, ""), b=StateChange(None, None, ""))

    assert await reopened(tmp_path) == (CHECKPOINT, {}, {}, None)


async def test_parts_are_written_deleted_and_read_by_name(tmp_path: Path) -> None:
    parts = {PartKey("a", "1"): b"x", PartKey("a", "2"): b"y", PartKey("b", "1"): b"z"}
    async with opened(tmp_path) as store:
        await store.commit({}, CHECKPOINT, parts)
        await store.commit({}, CHECKPOINT, {PartKey("a", "1"): b"xx", PartKey("b", "1"): None})
        await store.commit({}, CHECKPOINT, {PartKey("c", "1"): None})

    async with opened(tmp_path) as store:
        assert store.wiped_because is None
        assert await store.read_parts({"a": ["1", "2"], "b": []}) == {"a": {"1": b"xx", "2": b"y"}, "b": {}}


async def test_a_part_that_was_changed_is_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.commit({"a": StateChange(b"1", 10, "odd")}, CHECKPOINT, {PartKey("a", "1"): b"x"})
        change_file(tmp_path / "state-0.db", ("UPDATE part SET value = x'32'",))
        with pytest.raises(StoreCorrupted, match="part"):
            await store.read_parts({"a": ["1"]})

    assert await reopened(tmp_path) == EMPTY


async def test_a_missing_part_wipes_the_store_as_it_is_opened(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.commit({}, CHECKPOINT, {PartKey("a", "1"): b"x"})
    change_file(tmp_path / "state-0.db", ("DELETE FROM part",))

    assert await wiped_because(tmp_path) == "damaged"


async def test_a_failed_commit_leaves_everything_unchanged(tmp_path: Path) -> None:
    """Neither the checkpoint nor the counts may be ahead of the states."""
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"))
    changes = {"a": StateChange(b"2", 5, "even"), "b": StateChange(b"1", None, object())}  # type: ignore[arg-type]

    async with opened(tmp_path) as store:
        with pytest.raises(StoreCorrupted):
            await store.commit(changes, CHECKPOINT._replace(changelog_next=99))

        assert await contents(store) == (CHECKPOINT, {"odd": 1}, {"a": b"1"}, 10)


async def test_an_invalid_checkpoint_rolls_its_changes_back(tmp_path: Path) -> None:
    """An error outside SQLite rolls back too, and the store can be used further."""
    invalid = CHECKPOINT._replace(cluster_id=object())  # type: ignore[arg-type]

    async with opened(tmp_path) as store:
        with pytest.raises(TypeError):
            await store.commit({"a": StateChange(b"1", None, "odd")}, invalid)
        await store.commit({"b": StateChange(b"2", None, "even")}, CHECKPOINT)

        assert await contents(store) == (CHECKPOINT, {"even": 1}, {"b": b"2"}, None)


async def test_due_states_are_ordered_by_time_and_limited(tmp_path: Path) -> None:
    changes = {f"k{at}": StateChange(b"%d" % at, at, "odd") for at in (50, 20, 40, 10, 30)} | {
        "never": StateChange(b"", None, "odd")
    }

    async with opened(tmp_path) as store:
        await store.commit(changes, CHECKPOINT)

        assert [each.key for each in await store.due_states(40, 3)] == ["k10", "k20", "k30"]
        assert await store.due_states(10, 3) == [DueState("k10", "odd", b"10")]
        assert await store.due_states(9, 3) == []
        assert store.next_due_us == 10


async def test_a_wiped_store_is_empty(tmp_path: Path) -> None:
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"))

    async with opened(tmp_path) as store:
        await store.wipe()
        assert await contents(store) == EMPTY

    assert await reopened(tmp_path) == EMPTY


async def test_size_is_that_of_the_file_or_zero(tmp_path: Path) -> None:
    await fill(tmp_path, a=StateChange(b"x" * 100_000, None, "odd"))

    async with opened(tmp_path) as store:
        assert store.size_bytes > 100_000
        (tmp_path / "state-0.db").unlink()
        assert store.size_bytes == 0


# -------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_a_corrupted_file_starts_empty(tmp_path: Path, content: bytes) -> None:
    """The changelog has everything."""
    (tmp_path / "state-0.db").write_bytes(content)

    assert await reopened(tmp_path) == EMPTY


async def wiped_because(folder: Path) -> str | None:
    async with opened(folder) as store:
        assert await contents(store) == EMPTY
        return store.wiped_because


def change_file(path: Path, *statements: tuple[str, *tuple[object, ...]]) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement, *values in statements:
            database.execute(statement, values)


FEW_FIELDS = orjson.dumps((0, {}, ("too", "few")))


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (("PRAGMA user_version = 1",), "another layout"),
        (("UPDATE checkpoint SET value = ?, checksum = ?", FEW_FIELDS, crc32(FEW_FIELDS)), "damaged"),
        (("UPDATE checkpoint SET value = ?", b"no json"), "damaged"),
        (("DELETE FROM checkpoint",), "damaged"),
        (("DELETE FROM state",), "damaged"),
        (("DROP TABLE state",), "damaged"),
    ],
    ids=["older layout", "other fields", "broken", "no checkpoint", "no row", "no table"],
)
async def test_a_file_that_does_not_fit_starts_empty(
    tmp_path: Path, statement: tuple[str, *tuple[object, ...]], reason: str
) -> None:
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"))
    change_file(tmp_path / "state-0.db", statement)

    assert await wiped_because(tmp_path) == reason


async def test_a_file_of_the_first_layout_starts_empty(tmp_path: Path) -> None:
    change_file(
        tmp_path / "state-0.db",
        ("CREATE TABLE state (key TEXT PRIMARY KEY, due_us INTEGER, status TEXT, value BLOB)",),
        ("CREATE TABLE checkpoint (only_one INTEGER PRIMARY KEY, value BLOB)",),
    )

    assert await wiped_because(tmp_path) == "another layout"


@pytest.mark.parametrize(
    "change",
    [
        "value = x'32'",
        "value = 'text'",
        "due_us = 11",
        "status = 'even'",
        "checksum = checksum + 1, key = CASE key WHEN 'a' THEN 'b' ELSE 'a' END",
    ],
)
async def test_a_row_that_was_changed_is_not_read(tmp_path: Path, change: str) -> None:
    """Also where sum and trees fit: two rows change, of which one grows by what the other shrinks."""
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"))
    change_file(tmp_path / "state-0.db", (f"UPDATE state SET {change}",))  # noqa: S608 - of this file

    async with opened(tmp_path) as store:
        with contextlib.suppress(StoreCorrupted):
            assert await store.read(["a", "b"]) == {}
        with contextlib.suppress(StoreCorrupted):
            assert await store.due_states(100, 10) == []
        assert "damaged" in (store.wiped_because, store.failed_because)


async def test_a_file_corrupted_while_open_is_deleted_on_close(tmp_path: Path) -> None:
    """A damaged page shows only when it is read; SQLite reads again what its cache of 2 MiB does not hold."""
    many = {f"k{n}": StateChange(b"x" * 3000, n, "odd") for n in range(1500)}
    async with opened(tmp_path) as store:
        await store.commit(many, CHECKPOINT)

    async with opened(tmp_path) as store:
        with (tmp_path / "state-0.db").open("r+b") as file:
            content = file.read()
            file.seek(0)
            file.write(content.replace(b"x", b"y"))
        with pytest.raises(StoreCorrupted, match="state-0"):
            await store.read([f"k{n}" for n in range(1500)])
        assert store.failed_because == "damaged"

    assert await reopened(tmp_path) == EMPTY


@pytest.mark.parametrize("seed", range(12))
async def test_flipped_bytes_are_read_by_nobody(tmp_path: Path, seed: int) -> None:
    """Forty bytes of a real file: every state is as it was written, or the store is wiped and says why."""
    states = {
        f"agent-{n}": StateChange(
            orjson.dumps({"n": n, "queue": "NOC", "pad": "x" * (n * 37 % 900)}), n, "odd"
        )
        for n in range(200)
    }
    expected = {key: change.value for key, change in states.items()}
    async with opened(tmp_path) as store:
        for first in range(0, 200, 20):  # as batches do
            await store.commit(dict(list(states.items())[first : first + 20]), CHECKPOINT)
    path = tmp_path / "state-0.db"
    content = bytearray(path.read_bytes())
    random = Random(seed)
    for place in random.sample(range(len(content)), 40):
        content[place] ^= random.randrange(1, 256)
    path.write_bytes(content)

    async with opened(tmp_path) as store:
        if store.wiped_because is None:
            with contextlib.suppress(StoreCorrupted):
                assert await store.read(states) == expected
            with contextlib.suppress(StoreCorrupted):
                due = await store.due_states(1000, 1000)
                assert {each.key: each.value for each in due} == expected
            outcome = store.failed_because or "right"
        else:
            assert await contents(store) == EMPTY
            outcome = store.wiped_because

    assert outcome in {"right", "damaged", "another layout"}


async def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    """Also a file that an earlier version made readable, and folders that are missing."""
    folder = tmp_path / "state" / "agents" / "voipex"
    await fill(folder)
    (folder / "state-0.db").chmod(0o644)
    folder.chmod(0o755)
    async with opened(folder) as store:
        await store.commit({"a": StateChange(b"1", None, "odd")}, CHECKPOINT)
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}

    assert modes == dict.fromkeys(["state-0.db", "state-0.db-wal", "state-0.db-shm", "state-0.lock"], 0o600)
    for each in (folder, folder.parent, folder.parent.parent):
        assert each.stat().st_mode & 0o777 == 0o700


async def test_a_full_disk_raises_and_keeps_the_last_commit(tmp_path: Path) -> None:
    """The Kafka transaction is committed by then: the runner restores the store from the changelog."""
    await fill(tmp_path, a=StateChange(b"1", None, "odd"))

    large = {"b": StateChange(b"x" * 1_000_000, 5, "even")}

    async with opened(tmp_path) as store:
        await store._run(lambda: store._database.connection.execute("PRAGMA max_page_count = 20").fetchone())
        with pytest.raises(StoreCorrupted, match="full"):
            await store.commit(large, CHECKPOINT._replace(changelog_next=99))
        assert await contents(store) == (CHECKPOINT, {"odd": 1}, {"a": b"1"}, None)

    assert await reopened(tmp_path) == EMPTY  # not trusted again


async def test_an_unusable_path_raises_and_releases_the_lock(tmp_path: Path) -> None:
    """Once the disk is repaired, no restart is needed."""
    await reopened(tmp_path)
    (tmp_path / "state-0.db").unlink()
    (tmp_path / "state-0.db").mkdir()

    with pytest.raises(OSError, match="directory"):
        await Store.open(tmp_path, "state-0")

    (tmp_path / "state-0.db").rmdir()
    assert await reopened(tmp_path) == EMPTY


async def test_a_disconnected_store_raises_instead_of_starting_empty(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store._run(store._database.close)

        with pytest.raises(StoreCorrupted, match="closed"):
            await store.read(["a"])


# -------------------------------------------------------------------------------- two processes

HOLDER = """
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def lock_held_elsewhere(path: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield
        other.kill()


def names(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


async def test_a_locked_file_is_replaced_by_a_private_one(
    tmp_path: Path,
) -> None:
    """A frozen process may hold the lock for long; its partition must go on. Its own file stays as it is."""
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"))
    with lock_held_elsewhere(tmp_path / "state-0.lock"):
        async with opened(tmp_path, lock_within_s=0.15) as store:
            found = await contents(store)
            await store.commit({"b": StateChange(b"2", None, "even")}, CHECKPOINT)
            databases = names(tmp_path, "*.db")

    assert found == EMPTY
    assert len(databases) == 2
    assert str(os.getpid()) in databases[0]
    assert names(tmp_path) == ["state-0.db", "state-0.lock"]
    assert (await reopened(tmp_path))[2] == {"a": b"1"}


async def test_a_released_lock_goes_to_the_waiting_store(tmp_path: Path) -> None:
    await fill(tmp_path, a=StateChange(b"1", None, "odd"))

    async with opened(tmp_path):
        waiting = asyncio.create_task(Store.open(tmp_path, "state-0", lock_within_s=30))
        await asyncio.sleep(0)
    store = await waiting

    assert await store.read(["a"]) == {"a": b"1"}
    await store.close()


def count_open_files() -> int:
    return len(list(OPEN_FILES.iterdir()))


async def test_a_cancelled_open_holds_no_lock(tmp_path: Path) -> None:
    """A revocation in the middle of a restore."""
    async with opened(tmp_path):
        open_files = count_open_files()
        waiting = asyncio.create_task(Store.open(tmp_path, "state-0", lock_within_s=30))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert count_open_files() == open_files

    with (tmp_path / "state-0.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_private_files_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    """A file that another process still uses stays."""
    for name in ("state-0-17-1.db", "state-0-17-1.db-wal", "state-0-17-1.lock", "state-0-18-1.db"):
        (tmp_path / name).touch()
    with (tmp_path / "state-0-18-1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await fill(tmp_path, a=StateChange(b"1", None, "odd"))

        left = names(tmp_path)

    assert left == ["state-0-18-1.db", "state-0-18-1.lock", "state-0.db", "state-0.lock"]
