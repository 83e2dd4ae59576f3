"""Store, on real files: states and checkpoint change together, and a doubtful file starts empty."""

import asyncio
import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.engine.errors import StoreCorrupted
from consumers.engine.records import DueState, StateChange
from consumers.engine.store import Checkpoint, Store

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


async def test_a_failed_commit_leaves_everything_unchanged(tmp_path: Path) -> None:
    """Neither the checkpoint nor the counts may be ahead of the states."""
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"))
    changes = {"a": StateChange(b"2", 5, "even"), "b": StateChange(object(), None, "odd")}  # type: ignore[arg-type]

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


@pytest.mark.parametrize(
    "checkpoint",
    [
        orjson.dumps((0, {}, tuple(CHECKPOINT))),
        orjson.dumps((1, {}, ("too", "few"))),
        orjson.dumps({"another": "layout"}),
        b"no json",
    ],
    ids=["older layout", "other fields", "other form", "broken"],
)
async def test_a_file_of_another_layout_starts_empty(tmp_path: Path, checkpoint: bytes) -> None:
    await fill(tmp_path, a=StateChange(b"1", 10, "odd"))
    database = sqlite3.connect(tmp_path / "state-0.db")
    database.execute("UPDATE checkpoint SET value = ?", (checkpoint,))
    database.commit()
    database.close()

    assert await reopened(tmp_path) == EMPTY


async def test_a_file_corrupted_while_open_is_deleted_on_close(tmp_path: Path) -> None:
    """A damaged page shows only when it is read."""
    many = {f"k{n}": StateChange(b"x" * 3000, n, "odd") for n in range(50)}
    async with opened(tmp_path) as store:
        await store.commit(many, CHECKPOINT)
    path = tmp_path / "state-0.db"
    content = path.read_bytes()
    path.write_bytes(content[: -20 * 4096] + b"\xff" * (20 * 4096))

    async with opened(tmp_path) as store:
        with pytest.raises(StoreCorrupted, match="state-0"):
            await store.read([f"k{n}" for n in range(50)])

    assert await reopened(tmp_path) == EMPTY


async def test_a_full_disk_raises_and_keeps_the_last_commit(tmp_path: Path) -> None:
    """The Kafka transaction is committed by then: the runner restores the store from the changelog."""
    await fill(tmp_path, a=StateChange(b"1", None, "odd"))

    large = {"b": StateChange(b"x" * 1_000_000, 5, "even")}

    async with opened(tmp_path) as store:
        await store._run(lambda: store._connection().execute("PRAGMA max_page_count = 20").fetchone())
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
        await store._run(store._disconnect)

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
