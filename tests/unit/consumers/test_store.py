"""The cache of one partition: real files. What it holds is one with its checkpoint, and whatever is doubtful begins empty."""

import asyncio
import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.engine.store import Change, Checkpoint, Row, Store, StoreBroken

OPEN_FILES = Path("/proc/self/fd")
CHECKPOINT = Checkpoint("cluster", 3, 17, {"voipex.call.events.v1": 5}, 1_000)


def in_store(folder: Path, use: Callable[[Store], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What *use* returns of a store that is opened for it and closed afterwards."""

    async def run() -> Any:
        store = await Store.open(folder, "state-0", **options)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


def fill(folder: Path, checkpoint: Checkpoint = CHECKPOINT, **changes: Change) -> None:
    in_store(folder, lambda store: store.commit(changes, checkpoint))


async def everything(store: Store) -> tuple[Checkpoint | None, dict[str, int], dict[str, bytes], int | None]:
    states = await store.read(["a", "b", "c"])
    return store.checkpoint, dict(store.standings), states, store.next_due_us


NOTHING: tuple[None, dict[str, int], dict[str, bytes], None] = (None, {}, {}, None)


def test_a_new_store_holds_nothing_and_knows_it(tmp_path: Path) -> None:
    """No checkpoint means: restore from the changelog's beginning."""
    assert in_store(tmp_path / "new" / "folder", everything) == NOTHING


def test_states_and_their_checkpoint_survive_a_restart_together(tmp_path: Path) -> None:
    fill(tmp_path, a=Change(b"1", None, "odd"), b=Change(b"2", 40, "even"), c=Change(b"3", 30, "odd"))

    kept = in_store(tmp_path, everything)

    assert kept == (CHECKPOINT, {"odd": 2, "even": 1}, {"a": b"1", "b": b"2", "c": b"3"}, 30)


def test_a_later_change_replaces_the_state_its_standing_and_its_deadline(tmp_path: Path) -> None:
    later = CHECKPOINT._replace(changelog_next=18)
    fill(tmp_path, a=Change(b"1", 10, "odd"), b=Change(b"1", 20, "odd"))
    fill(tmp_path, later, a=Change(b"2", None, "even"))

    assert in_store(tmp_path, everything) == (later, {"odd": 1, "even": 1}, {"a": b"2", "b": b"1"}, 20)


def test_a_forgotten_key_is_neither_read_nor_counted_nor_due(tmp_path: Path) -> None:
    """And forgetting a key that was never there is no fault: a changelog may hold only its tombstone."""
    fill(tmp_path, a=Change(b"1", 10, "odd"))
    fill(tmp_path, a=Change(None, None, ""), b=Change(None, None, ""))

    assert in_store(tmp_path, everything) == (CHECKPOINT, {}, {}, None)


def test_a_commit_that_fails_half_way_leaves_all_as_it_was(tmp_path: Path) -> None:
    """The checkpoint must never say more than the states, nor the counts."""
    fill(tmp_path, a=Change(b"1", 10, "odd"))

    async def fail(store: Store) -> Any:
        changes = {"a": Change(b"2", 5, "even"), "b": Change(object(), None, "odd")}  # type: ignore[arg-type]
        with pytest.raises(StoreBroken):
            await store.commit(changes, CHECKPOINT._replace(changelog_next=99))
        return await everything(store)

    expected = (CHECKPOINT, {"odd": 1}, {"a": b"1"}, 10)
    assert in_store(tmp_path, fail) == expected


def test_a_checkpoint_that_cannot_be_kept_takes_its_changes_back(tmp_path: Path) -> None:
    """What fails outside SQLite rolls back just the same, and the store can go on."""

    async def fail(store: Store) -> Any:
        with pytest.raises(TypeError):
            await store.commit(
                {"a": Change(b"1", None, "odd")},
                CHECKPOINT._replace(cluster_id=object()),  # type: ignore[arg-type]
            )
        await store.commit({"b": Change(b"2", None, "even")}, CHECKPOINT)
        return await everything(store)

    assert in_store(tmp_path, fail) == (CHECKPOINT, {"even": 1}, {"b": b"2"}, None)


def test_what_is_due_comes_in_the_order_of_time_and_no_more_than_asked_for(tmp_path: Path) -> None:
    changes = {f"k{at}": Change(b"%d" % at, at, "odd") for at in (50, 20, 40, 10, 30)} | {
        "never": Change(b"", None, "odd")
    }

    async def look(store: Store) -> Any:
        await store.commit(changes, CHECKPOINT)
        return await store.due(40, 3), await store.due(9, 3), store.next_due_us

    due, none, following = in_store(tmp_path, look)
    assert due == [Row("k10", "odd", b"10"), Row("k20", "odd", b"20"), Row("k30", "odd", b"30")]
    assert (none, following) == ([], 10)


def test_a_wiped_store_is_a_new_one(tmp_path: Path) -> None:
    fill(tmp_path, a=Change(b"1", 10, "odd"))

    async def wipe(store: Store) -> Any:
        await store.wipe()
        return await everything(store)

    assert in_store(tmp_path, wipe) == NOTHING
    assert in_store(tmp_path, everything) == NOTHING


def test_its_size_is_known_while_there_is_a_file(tmp_path: Path) -> None:
    fill(tmp_path, a=Change(b"x" * 100_000, None, "odd"))

    async def sizes(store: Store) -> tuple[int, int]:
        before = store.size_bytes
        (tmp_path / "state-0.db").unlink()
        return before, store.size_bytes

    before, after = in_store(tmp_path, sizes)
    assert before > 100_000
    assert after == 0


# -------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_file_begins_empty(tmp_path: Path, content: bytes) -> None:
    """The changelog has it all."""
    (tmp_path / "state-0.db").write_bytes(content)

    assert in_store(tmp_path, everything) == NOTHING


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
def test_a_file_of_another_layout_begins_empty(tmp_path: Path, checkpoint: bytes) -> None:
    fill(tmp_path, a=Change(b"1", 10, "odd"))
    database = sqlite3.connect(tmp_path / "state-0.db")
    database.execute("UPDATE checkpoint SET value = ?", (checkpoint,))
    database.commit()
    database.close()

    assert in_store(tmp_path, everything) == NOTHING


def test_a_file_that_breaks_while_it_is_open_is_gone_at_the_next_start(tmp_path: Path) -> None:
    """A damaged page may be met late; until then it lies there quietly."""
    many = {f"k{n}": Change(b"x" * 3000, n, "odd") for n in range(50)}
    in_store(tmp_path, lambda store: store.commit(many, CHECKPOINT))
    path = tmp_path / "state-0.db"
    content = path.read_bytes()
    path.write_bytes(content[: -20 * 4096] + b"\xff" * (20 * 4096))

    async def use(store: Store) -> None:
        with pytest.raises(StoreBroken, match="state-0"):
            await store.read([f"k{n}" for n in range(50)])

    in_store(tmp_path, use)

    assert in_store(tmp_path, everything) == NOTHING


def test_a_full_disk_breaks_the_store_and_keeps_what_was_there(tmp_path: Path) -> None:
    """The transaction of Kafka stands by then: the owner restores from the changelog."""
    fill(tmp_path, a=Change(b"1", None, "odd"))

    async def overfill(store: Store) -> Any:
        await store._do(lambda: store._opened().execute("PRAGMA max_page_count = 20").fetchone())
        with pytest.raises(StoreBroken, match="full"):
            await store.commit(
                {"b": Change(b"x" * 1_000_000, 5, "even")}, CHECKPOINT._replace(changelog_next=99)
            )
        return await everything(store)

    assert in_store(tmp_path, overfill) == (CHECKPOINT, {"odd": 1}, {"a": b"1"}, None)
    assert in_store(tmp_path, everything) == NOTHING  # what broke once is not trusted again


def test_a_folder_that_takes_no_file_is_said_to_be_broken(tmp_path: Path) -> None:
    """The lock is let go: whoever mends the disk needs no restart."""

    async def run() -> None:
        store = await Store.open(tmp_path, "state-0")
        await store.close()
        (tmp_path / "state-0.db").unlink(missing_ok=True)
        (tmp_path / "state-0.db").mkdir()
        with pytest.raises(OSError, match="directory"):
            await Store.open(tmp_path, "state-0")

    asyncio.run(run())
    (tmp_path / "state-0.db").rmdir()
    assert in_store(tmp_path, everything) == NOTHING


def test_a_closed_store_refuses_instead_of_beginning_anew(tmp_path: Path) -> None:
    async def run() -> None:
        store = await Store.open(tmp_path, "state-0")
        await store._do(store._disconnect)
        with pytest.raises(StoreBroken, match="closed"):
            await store.read(["a"])
        await store.close()

    asyncio.run(run())


# -------------------------------------------------------------------------------- two processes

HOLDER = """
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_while_another_process_holds_the_file_it_works_on_one_of_its_own_and_deletes_it(
    tmp_path: Path,
) -> None:
    """A frozen process may hold the lock for long; its partition must go on. Its file is left as it is."""
    fill(tmp_path, a=Change(b"1", 10, "odd"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "state-0.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        def databases() -> list[str]:
            return sorted(path.name for path in tmp_path.glob("*.db"))

        async def use(store: Store) -> Any:
            found = await everything(store)
            await store.commit({"b": Change(b"2", None, "even")}, CHECKPOINT)
            return found, databases()

        found, files = in_store(tmp_path, use, lock_within_s=0.15)
        other.kill()

    assert found == NOTHING
    assert len(files) == 2
    assert str(os.getpid()) in files[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-0.db", "state-0.lock"]
    assert in_store(tmp_path, everything)[2] == {"a": b"1"}


def test_who_waits_gets_the_file_as_soon_as_the_other_lets_go(tmp_path: Path) -> None:
    fill(tmp_path, a=Change(b"1", None, "odd"))

    async def run() -> Any:
        first = await Store.open(tmp_path, "state-0")
        second = asyncio.create_task(Store.open(tmp_path, "state-0", lock_within_s=30))
        await asyncio.sleep(0)
        await first.close()
        store = await second
        found = await everything(store)
        await store.close()
        return found

    assert asyncio.run(run())[2] == {"a": b"1"}


def count_open_files() -> int:
    return len(list(OPEN_FILES.iterdir()))


def test_a_wait_that_is_given_up_holds_nothing(tmp_path: Path) -> None:
    """A revocation in the middle of a start."""

    async def run() -> None:
        first = await Store.open(tmp_path, "state-0")
        open_files = count_open_files()
        second = asyncio.create_task(Store.open(tmp_path, "state-0", lock_within_s=30))
        await asyncio.sleep(0)  # by now it waits
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert count_open_files() == open_files
        await first.close()

    asyncio.run(run())
    with (tmp_path / "state-0.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_files_of_a_process_that_was_killed_while_it_had_one_of_its_own_are_deleted(tmp_path: Path) -> None:
    """What another one still uses stays."""
    for name in ("state-0-17-1.db", "state-0-17-1.db-wal", "state-0-17-1.lock", "state-0-18-1.db"):
        (tmp_path / name).touch()
    with (tmp_path / "state-0-18-1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fill(tmp_path, a=Change(b"1", None, "odd"))

        left = {path.name for path in tmp_path.iterdir()}

    assert left == {"state-0.db", "state-0.lock", "state-0-18-1.db", "state-0-18-1.lock"}
