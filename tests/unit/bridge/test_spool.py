"""The spool as the ingress and the publisher use it: order, waiting, bounds, restarts, many processes."""

import asyncio
import os
import stat
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.spool import segment_log as backlog
from bridge.spool.frames import decode_records, encode_record
from bridge.spool.segments import opened, read_cursor
from bridge.spool.spool import Spool, inspect
from tests.spool_fixtures import (
    Disk,
    chores_done,
    drain,
    names_in,
    numbers,
    open_spool,
    read_spool,
    record,
    segments,
    write_spool,
)
from voipex.errors import ServiceUnavailable, ShuttingDown, SpoolFull
from voipex.records import Record

MANY = 10_000, 1 << 24  # of take: no bound


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


records = st.builds(
    Record,
    topic=st.text("abc.-", min_size=1),
    partition=st.integers(0, 1000),
    key=st.none() | st.binary(),
    value=st.binary(),
    headers=st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.binary())).map(tuple),
    timestamp_ms=st.integers(0, 2**53),
)


@given(st.lists(records))
def test_a_record_comes_back_as_it_was(kept: list[Record]) -> None:
    assert list(decode_records(b"".join(map(encode_record, kept)), len(kept))) == kept


def test_what_is_appended_is_taken_in_order_with_its_place(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([record(0), record(1)])
        await spool.append([record(2)])

        taken = await spool.take(*MANY)
        assert [(one.spool_id, one.seq) for one in taken] == [(spool.spool_id, seq) for seq in range(3)]
        assert [one.record for one in taken] == [record(0), record(1), record(2)]
        await spool.close()

    asyncio.run(scenario())


def test_append_returns_only_after_the_sync(root: Path) -> None:
    """The promise of a 2xx."""

    async def scenario() -> None:
        disk = Disk()
        spool = open_spool(root, disk)
        await spool.append([record(0)])

        (path,) = segments(root)
        assert disk.synced[path] == path.stat().st_size
        assert path in disk.listed
        await spool.close()

    asyncio.run(scenario())


def test_many_appenders_share_a_sync_and_keep_their_own_order(root: Path) -> None:
    async def scenario() -> None:
        disk = Disk()
        spool = open_spool(root, disk)

        async def appender(who: int) -> None:
            for turn in range(20):
                await spool.append([record(who * 100 + turn)])

        await asyncio.gather(*map(appender, range(64)))
        got = numbers(await spool.take(*MANY))
        assert len(got) == len(set(got)) == 64 * 20
        for who in range(64):
            assert [n for n in got if n // 100 == who] == [who * 100 + turn for turn in range(20)]
        assert disk.syncs < 64 * 20 / 4
        await spool.close()

    asyncio.run(scenario())


def test_a_group_is_bounded(root: Path) -> None:
    """One commit must not take so long that everybody waits for it."""

    async def scenario() -> None:
        groups: list[int] = []
        spool = open_spool(root, on_commit=lambda _, count: groups.append(count))
        await asyncio.gather(*(spool.append([record(n)]) for n in range(2000)))

        assert sum(groups) == 2000
        assert max(groups) <= 512
        await spool.close()

    asyncio.run(scenario())


def test_take_keeps_its_bounds_and_splits_what_was_written_together(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([record(n, size_bytes=1000) for n in range(10)])

        assert numbers(await spool.take(3, 1 << 20)) == [0, 1, 2]
        assert numbers(await spool.take(100, 2 * record(3, size_bytes=1000).size_bytes)) == [3, 4]
        assert numbers(await spool.take(100, 1)) == [5]  # at least one, or it would wait for ever
        assert numbers(await spool.take(*MANY)) == [6, 7, 8, 9]
        await spool.close()

    asyncio.run(scenario())


def test_take_waits_for_the_next_append_and_cancelling_it_takes_nothing(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        given_up = asyncio.create_task(spool.take(*MANY))
        await asyncio.sleep(0)
        given_up.cancel()
        waiting = asyncio.create_task(spool.take(*MANY))
        await asyncio.sleep(0)
        await spool.append([record(0)])

        assert numbers(await waiting) == [0]
        assert given_up.cancelled()
        await spool.close()

    asyncio.run(scenario())


def test_rewind_begins_again_at_the_first_unacknowledged(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        for n in range(0, 9, 3):
            await spool.append([record(n), record(n + 1), record(n + 2)])
        taken = await spool.take(7, 1 << 20)
        spool.acknowledge(taken[3])  # in the middle of what was written together
        spool.rewind()

        again = await spool.take(*MANY)
        assert numbers(again) == [4, 5, 6, 7, 8]
        assert [one.seq for one in again] == [4, 5, 6, 7, 8]
        spool.acknowledge(again[-1])
        spool.rewind()
        await spool.append([record(9)])
        assert numbers(await spool.take(*MANY)) == [9]
        await spool.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("near_bytes", [0, 1 << 20], ids=["in a thread", "at once"])
def test_a_publisher_that_lags_reads_from_disk_and_catches_up(
    root: Path, monkeypatch: pytest.MonkeyPatch, near_bytes: int
) -> None:
    """Memory holds a bounded part of what waits; the caller sees no difference."""
    monkeypatch.setattr(backlog, "_AHEAD_BYTES", 1000)
    monkeypatch.setattr(backlog, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(backlog, "_NEAR_BYTES", near_bytes)

    async def scenario() -> None:
        spool = open_spool(root, segment_bytes=2000)
        got: list[int] = []
        for n in range(100):
            await spool.append([record(n)])
            assert spool._own.ahead_bytes <= 1000
        while len(got) < 100:
            taken = await spool.take(*MANY)
            got += numbers(taken)
            spool.acknowledge(taken[-1])
        await spool.append([record(100)])
        assert [frame.first for frame in spool._own.ready] == [100]  # from memory again
        got += numbers(await spool.take(*MANY))

        assert got == list(range(101))
        await spool.close()

    asyncio.run(scenario())


def test_a_segment_is_named_by_its_first_number_and_deleted_when_it_is_in_kafka(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root, segment_bytes=1000)
        for n in range(20):
            await spool.append([record(n)])
        names = [path.name for path in segments(root)]
        assert names[0] == "00000000000000000000.log"
        assert len(names) == 3
        taken = await spool.take(*MANY)
        spool.acknowledge(taken[int(Path(names[1]).stem)])
        chores_done(spool)
        assert [path.name for path in segments(root)] == names[1:]
        spool.acknowledge(taken[-1])
        chores_done(spool)
        assert [path.name for path in segments(root)] == names[-1:]  # it keeps the number
        assert spool.stats().bytes == 0
        await spool.close()

    asyncio.run(scenario())


def test_files_are_for_the_owner_only(root: Path) -> None:
    """They hold phone numbers and names."""
    before = os.umask(0)
    try:
        spool_id = write_spool(root, [[0]])
    finally:
        os.umask(before)

    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / spool_id).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (root / spool_id).iterdir()} == {0o600}


def test_a_restart_goes_on_where_it_was(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([record(n) for n in range(5)])
        spool.acknowledge((await spool.take(2, 1 << 20))[-1])
        await spool.close()

        again = open_spool(root)
        assert again.spool_id == spool.spool_id
        assert again.stats().waiting_records == 3
        assert again.stats().oldest_waiting_ms == record(2).timestamp_ms
        await again.append([record(5)])
        assert [(one.seq, int(one.record.value)) for one in await again.take(3, 1 << 20)] == [
            (2, 2),
            (3, 3),
            (4, 4),
        ]
        assert numbers(await again.take(*MANY)) == [5]
        await again.close()

    asyncio.run(scenario())


def test_numbers_go_on_after_everything_was_published(root: Path) -> None:
    """A number stands for one record for ever: readers of Kafka may have seen it."""
    write_spool(root, [range(5)])
    assert read_spool(root) == [0, 1, 2, 3, 4]

    async def scenario() -> None:
        for expected in (5, 6, 7):
            spool = open_spool(root)
            assert spool.stats().bytes == 0
            await spool.append([record(expected)])
            (one,) = await spool.take(*MANY)
            assert one.seq == expected
            spool.acknowledge(one)
            await spool.close()

    asyncio.run(scenario())


def test_numbers_go_on_when_the_cursor_was_lost_too(root: Path) -> None:
    write_spool(root, [range(5)])
    read_spool(root)
    next(root.glob("*/cursor")).unlink()

    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([record(5)])
        spool.seal()
        taken = [one for _ in range(2) for one in await spool.take(*MANY)]
        assert [one.seq for one in taken] == numbers(taken) == [0, 1, 2, 3, 4, 5]  # copies, no loss
        await spool.close()

    asyncio.run(scenario())


def test_the_cursor_is_written_a_second_after_an_acknowledgement(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        cursor = root / spool.spool_id / "cursor"
        await spool.append([record(n) for n in range(3)])
        taken = await spool.take(*MANY)
        spool.acknowledge(taken[0])
        spool.acknowledge(taken[1])
        timer = spool._cursor_timer
        assert timer is not None
        assert timer.when() <= asyncio.get_running_loop().time() + 1
        chores_done(spool)
        assert names_in(cursor.parent) == [f"{0:020}.log"]
        spool._write_cursors()  # what the timer does
        chores_done(spool)
        assert read_cursor(cursor.parent) == 2
        await spool.close()

    asyncio.run(scenario())


def test_the_publisher_reads_what_is_being_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a chunk is read in a thread the segment grows; nothing may be passed over, nor come twice."""
    grown = threading.Event()

    def opened_late(path: Path) -> AbstractContextManager[int]:
        assert grown.wait(5)
        return opened(path)

    monkeypatch.setattr(backlog, "_AHEAD_BYTES", 0)
    monkeypatch.setattr(backlog, "_NEAR_BYTES", 0)
    monkeypatch.setattr(backlog, "opened", opened_late)

    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([record(0)])
        taking = asyncio.create_task(spool.take(*MANY))
        await asyncio.sleep(0)
        await spool.append([record(1)])
        grown.set()

        assert numbers(await taking) == [0]
        assert numbers(await spool.take(*MANY)) == [1]
        assert spool.stats().damaged_frames_total == 0
        await spool.close()

    asyncio.run(scenario())


def test_a_publisher_beside_many_appenders_gets_everything_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_AHEAD_BYTES", 2000)
    monkeypatch.setattr(backlog, "_NEAR_BYTES", 0)

    async def scenario() -> None:
        spool = open_spool(root, segment_bytes=20_000)
        seqs: list[int] = []

        async def publish() -> None:
            while taken := await spool.take(50, 1 << 20):
                seqs.extend(one.seq for one in taken)
                await asyncio.sleep(0)
                spool.acknowledge(taken[-1])

        async def append() -> None:
            for n in range(50):
                await spool.append([record(n)])

        publishing = asyncio.create_task(publish())
        await asyncio.gather(*(append() for _ in range(20)))
        spool.seal()
        await publishing
        assert seqs == list(range(1000))
        assert spool.stats().waiting_records == 0
        await spool.close()

    asyncio.run(scenario())


def test_above_the_limit_appends_are_refused_until_kafka_took_some(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root, limit_bytes=3000)
        for n in range(4):
            await spool.append([record(n, size_bytes=500)])
        with pytest.raises(SpoolFull):
            await spool.append([record(4, size_bytes=500)])
        assert spool.stats().bytes <= 3000
        taken = await spool.take(*MANY)
        spool.acknowledge(taken[-1])

        await spool.append([record(100)])
        assert numbers(await spool.take(*MANY)) == [100]
        await spool.close()

    asyncio.run(scenario())


def test_what_waited_before_the_start_counts_against_the_limit(root: Path) -> None:
    write_spool(root, [[n] for n in range(20)])

    async def scenario() -> None:
        spool = open_spool(root, limit_bytes=1000)
        with pytest.raises(SpoolFull):
            await spool.append([record(20)])
        await spool.close()

    asyncio.run(scenario())


def test_appends_waiting_for_the_writer_are_bounded(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root, max_waiting=10)
        outcomes = await asyncio.gather(
            *(spool.append([record(n)]) for n in range(30)), return_exceptions=True
        )

        assert [type(one) for one in outcomes] == [type(None)] * 10 + [ServiceUnavailable] * 20
        await spool.append([record(30)])
        await spool.close()

    asyncio.run(scenario())


def test_sealed_it_completes_what_it_has_and_takes_no_more(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        under_way = asyncio.create_task(spool.append([record(0)]))
        await asyncio.sleep(0)
        spool.seal()
        with pytest.raises(ShuttingDown):
            await spool.append([record(1)])

        assert await drain(spool) == [0]
        assert await spool.take(*MANY) == []
        await under_way
        await spool.close()

    asyncio.run(scenario())


def test_a_waiting_take_ends_when_the_spool_is_sealed(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        waiting = asyncio.create_task(spool.take(*MANY))
        await asyncio.sleep(0)
        spool.seal()

        assert await waiting == []
        await spool.close()

    asyncio.run(scenario())


def test_a_cancelled_append_disturbs_nobody(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        appends = [asyncio.create_task(spool.append([record(n)])) for n in range(3)]
        await asyncio.sleep(0)
        appends[1].cancel()
        outcomes = await asyncio.gather(*appends, return_exceptions=True)

        assert [type(one) for one in outcomes] == [type(None), asyncio.CancelledError, type(None)]
        assert await drain(spool) == [0, 1, 2]  # it may be kept, as here
        await spool.close()

    asyncio.run(scenario())


def test_an_empty_append_is_done_at_once(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([])

        assert spool.stats().appended_total == 0
        await spool.close()

    asyncio.run(scenario())


def test_stats_tell_what_waits(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([record(0), record(1)])
        await spool.append([record(2)])
        (one, *_) = await spool.take(*MANY)
        spool.acknowledge(one)

        stats = spool.stats()
        assert (stats.appended_total, stats.acknowledged_total, stats.waiting_records) == (3, 1, 2)
        assert stats.commits_total == 2
        assert stats.oldest_waiting_ms == record(1).timestamp_ms
        assert 0 < stats.bytes < segments(root)[0].stat().st_size
        assert (stats.damaged_frames_total, stats.adopted_spools) == (0, 0)
        await spool.close()

    asyncio.run(scenario())


# ---------------------------------------------------------------- many processes


def test_two_at_once_never_share_a_directory(root: Path) -> None:
    one, other = open_spool(root), open_spool(root)

    assert one.spool_id != other.spool_id
    one.close_sync()
    other.close_sync()


def test_what_a_dead_process_left_is_drained_first_and_its_directory_removed(root: Path) -> None:
    async def scenario() -> None:
        dead = [open_spool(root) for _ in range(3)]
        for who, spool in enumerate(dead):
            await spool.append([record(who * 10), record(who * 10 + 1)])
        for spool in dead:
            await spool.close()
        ids = sorted(spool.spool_id for spool in dead)

        heir = open_spool(root)
        assert heir.spool_id == ids[0]
        assert heir.stats().adopted_spools == 2
        assert heir.stats().waiting_records == 6
        batches = [await heir.take(*MANY) for _ in range(3)]
        assert [{one.spool_id for one in batch} for batch in batches] == [{ids[1]}, {ids[2]}, {ids[0]}]
        for batch in batches:
            heir.acknowledge(batch[-1])
        chores_done(heir)
        assert names_in(root) == [heir.spool_id]
        assert heir.stats() == heir.stats()._replace(
            waiting_records=0, bytes=0, acknowledged_total=6, adopted_spools=0
        )
        await heir.close()

    asyncio.run(scenario())


def test_a_running_process_keeps_its_directory(root: Path) -> None:
    async def scenario() -> None:
        running = open_spool(root)
        await running.append([record(0)])
        other = open_spool(root)

        assert await drain(other) == []
        assert await drain(running) == [0]
        await other.close()
        await running.close()

    asyncio.run(scenario())


def test_a_directory_without_a_segment_is_not_continued(root: Path) -> None:
    """Its numbers are not known, so they could be given twice."""
    left = open_spool(root)
    left.close_sync()

    spool = open_spool(root)
    assert spool.spool_id != left.spool_id
    chores_done(spool)
    assert names_in(root) == [spool.spool_id]
    spool.close_sync()


@pytest.mark.process
def test_processes_started_together_get_a_directory_each(root: Path) -> None:
    write_spool(root, [[0]])
    program = (
        "import sys; from pathlib import Path; from bridge.spool.spool import Spool\n"
        f"spool = Spool.open(Path({str(root)!r}), limit_bytes=1)\n"
        "print(spool.spool_id, flush=True); sys.stdin.read(); spool.close_sync()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ids = [process.stdout.readline().strip() for process in processes if process.stdout is not None]
    assert all(process.communicate()[0] == "" for process in processes)

    assert len(set(ids)) == 3
    assert {process.returncode for process in processes} == {0}


def test_inspect_looks_at_a_running_spool_without_disturbing_it(root: Path) -> None:
    async def scenario() -> None:
        spool = open_spool(root, Disk(allocates=True), segment_bytes=1000)
        for n in range(10):
            await spool.append([record(n)])
        taken = await spool.take(*MANY)
        spool.acknowledge(taken[5])
        chores_done(spool)
        (status,) = inspect(root, now_s=lambda: 11.0)
        assert (status.spool_id, status.in_use) == (spool.spool_id, True)
        assert status.segments == len(segments(root))
        assert status.bytes < 10 * 150
        first = int(segments(root)[0].stem)
        assert status.waiting_records == 10 - first  # the cursor file is up to a second old
        assert status.oldest_age_s == pytest.approx(10 - first / 1000)
        await spool.close()
        (status,) = inspect(root, now_s=lambda: 11.0)
        assert (status.in_use, status.waiting_records) == (False, 4)
        assert status.oldest_age_s == pytest.approx(11 - record(6).timestamp_ms / 1000)

    asyncio.run(scenario())


def test_inspect_of_nothing(tmp_path: Path) -> None:
    assert inspect(tmp_path / "none") == []
    assert inspect(tmp_path) == []


def test_close_completes_what_is_under_way(root: Path) -> None:
    async def scenario() -> None:
        busy = threading.Event()
        spool = open_spool(root)
        spool._queue.put(busy.wait)
        appends = [asyncio.create_task(spool.append([record(n)])) for n in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(spool.close())
        await asyncio.sleep(0)
        busy.set()
        await closing
        await asyncio.gather(*appends)

    asyncio.run(scenario())
    assert read_spool(root) == [0, 1, 2]


def test_closing_twice_is_closing_once(root: Path) -> None:
    async def scenario() -> None:
        spool = Spool.open(root, limit_bytes=1)
        await spool.close()
        await spool.close()

    asyncio.run(scenario())
