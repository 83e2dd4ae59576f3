"""The spool as the ingress and the publisher use it: order, waiting, limits, restarts, several processes."""

import asyncio
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from bridge.metrics import Metrics
from bridge.spool.frames import decode_records, encode_record
from bridge.spool.segments import read_cursor
from tests.spool_fixtures import (
    EVERYTHING,
    Disk,
    append,
    drain,
    jobs_done,
    names_in,
    numbers,
    open_spool,
    read_spool,
    record,
    segments,
    start_append,
    write_spool,
)
from tests.waiting import WITHIN_S, async_eventually
from voipex.errors import ServiceUnavailable, ShuttingDown, SpoolFailed, SpoolFull
from voipex.records import Record

pytestmark = pytest.mark.anyio


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
def test_records_round_trip(written: list[Record]) -> None:
    assert list(decode_records(b"".join(map(encode_record, written)), len(written))) == written


# ---------------------------------------------------------------- appending


async def test_taken_records_have_order_and_position(root: Path) -> None:
    spool = open_spool(root)
    await append(spool, [record(0), record(1)])
    await append(spool, [record(2)])

    taken = await spool.take(*EVERYTHING)

    assert taken == [(spool.spool_id, seq, record(seq)) for seq in range(3)]
    await spool.close()


async def test_an_append_is_durable_only_after_the_sync(root: Path) -> None:
    """The promise of a 2xx."""
    disk = Disk()
    spool = open_spool(root, disk)

    await append(spool, [record(0)])

    (path,) = segments(root)
    assert disk.synced[path] == path.stat().st_size
    assert path in disk.listed
    await spool.close()


async def test_concurrent_appends_share_syncs_and_keep_order(root: Path) -> None:
    disk = Disk()
    spool = open_spool(root, disk)

    async def sender(number: int) -> None:
        for turn in range(20):
            await append(spool, [record(number * 100 + turn)])

    await asyncio.gather(*map(sender, range(64)))
    taken = numbers(await spool.take(*EVERYTHING))

    assert len(taken) == len(set(taken)) == 64 * 20
    for number in range(64):
        assert [n for n in taken if n // 100 == number] == [number * 100 + turn for turn in range(20)]
    assert disk.syncs < 64 * 20 / 4
    await spool.close()


async def test_the_publisher_does_not_wait_for_single_appends(root: Path) -> None:
    spool = open_spool(root, yield_s=2 * WITHIN_S)
    await append(spool, [record(0)])

    async with asyncio.timeout(WITHIN_S):
        await spool.yield_to_appends()

    await spool.close()


async def test_the_publisher_goes_on_while_the_disk_has_a_group(root: Path) -> None:
    disk_may_end = threading.Event()
    disk_may_end.set()

    class SlowDisk(Disk):
        def sync(self, fd: int) -> None:
            assert disk_may_end.wait(WITHIN_S)
            super().sync(fd)

    spool = open_spool(root, SlowDisk(), yield_s=2 * WITHIN_S)
    await asyncio.gather(*(append(spool, [record(number)]) for number in range(20)))
    disk_may_end.clear()
    yielding = asyncio.ensure_future(spool.yield_to_appends())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not yielding.done(), "the next crowd is kept from the CPU"

    durable = start_append(spool, [record(20)])
    async with asyncio.timeout(WITHIN_S):
        await yielding
        await spool.yield_to_appends()

    assert not durable.done()
    disk_may_end.set()
    await durable
    await spool.close()


async def test_the_publisher_waits_only_briefly_after_the_crowd(root: Path) -> None:
    spool = open_spool(root)
    await asyncio.gather(*(append(spool, [record(number)]) for number in range(20)))

    async with asyncio.timeout(WITHIN_S):
        await spool.yield_to_appends()

    await spool.close()


async def test_a_group_commit_is_bounded(root: Path) -> None:
    """One commit must not take so long that every request waits for it."""
    groups: list[int] = []
    spool = open_spool(root, group_max_records=100, on_commit=lambda _, count: groups.append(count))

    await asyncio.gather(*(append(spool, [record(n)]) for n in range(500)))

    assert sum(groups) == 500
    assert max(groups) <= 100
    await spool.close()


async def test_a_failing_callback_does_not_affect_others(root: Path) -> None:
    failures: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    spool = open_spool(root)
    failure = RuntimeError("no response")

    def fail(_: ServiceUnavailable | None) -> None:
        raise failure

    spool.append([record(0)], fail)
    await append(spool, [record(1)])

    assert failures == [failure]
    assert await drain(spool) == [0, 1]
    await spool.close()


async def test_an_empty_append_is_durable_at_once(root: Path) -> None:
    spool = open_spool(root)

    assert start_append(spool, []).done()
    assert spool.stats().appended_total == 0
    await spool.close()


# ---------------------------------------------------------------- taking and acknowledging


async def test_take_respects_its_limits_and_splits_frames(root: Path) -> None:
    spool = open_spool(root)
    await append(spool, [record(n, size_bytes=1000) for n in range(10)])

    assert numbers(await spool.take(3, 1 << 20)) == [0, 1, 2]
    assert numbers(await spool.take(100, 2 * record(3, size_bytes=1000).size_bytes)) == [3, 4]
    assert numbers(await spool.take(100, 1)) == [5]  # at least one, or it would wait for ever
    assert numbers(await spool.take(*EVERYTHING)) == [6, 7, 8, 9]
    await spool.close()


async def test_take_waits_for_the_next_append(root: Path) -> None:
    spool = open_spool(root)
    waiting = asyncio.create_task(spool.take(*EVERYTHING))

    await append(spool, [record(0)])

    assert numbers(await waiting) == [0]
    await spool.close()


async def test_a_cancelled_take_takes_nothing(root: Path) -> None:
    spool = open_spool(root)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await spool.take(*EVERYTHING)
    await append(spool, [record(0)])

    assert numbers(await spool.take(*EVERYTHING)) == [0]
    await spool.close()


async def test_an_acknowledgement_may_end_within_a_frame(root: Path) -> None:
    spool = open_spool(root)
    for n in range(0, 9, 3):
        await append(spool, [record(n), record(n + 1), record(n + 2)])
    taken = await spool.take(7, 1 << 20)
    spool.acknowledge(taken[3])
    await spool.close()

    again = open_spool(root)

    assert [(seq, int(each.value)) for _, seq, each in await again.take(*EVERYTHING)] == [
        (n, n) for n in range(4, 9)
    ]
    await again.close()


async def test_memory_holds_a_bounded_part_of_the_backlog(root: Path) -> None:
    """What can be taken without the files is what memory holds."""
    spool = open_spool(root, read_ahead_bytes=1000)
    for n in range(100):
        await append(spool, [record(n)])
    for path in segments(root):
        path.unlink()

    taken = await spool.take(*EVERYTHING)

    assert numbers(taken) == list(range(len(taken)))
    assert 1 <= sum(len(encode_record(each)) for _, _, each in taken) <= 1000
    with pytest.raises(SpoolFailed):
        await spool.take(*EVERYTHING)
    await spool.close()


@pytest.mark.parametrize("inline_read_bytes", [0, 1 << 20], ids=["in a thread", "on the event loop"])
async def test_a_lagging_publisher_reads_the_disk_and_catches_up(root: Path, inline_read_bytes: int) -> None:
    spool = open_spool(
        root,
        segment_bytes=2000,
        read_ahead_bytes=1000,
        chunk_bytes=1000,
        inline_read_bytes=inline_read_bytes,
    )
    drained: list[int] = []
    for n in range(100):
        await append(spool, [record(n)])
    while len(drained) < 100:
        taken = await spool.take(*EVERYTHING)
        drained += numbers(taken)
        spool.acknowledge(taken[-1])
    await append(spool, [record(100)])
    segments(root)[-1].unlink()
    drained += numbers(await spool.take(*EVERYTHING))  # from memory again

    assert drained == list(range(101))
    await spool.close()


async def test_a_publisher_as_fast_as_appends_leaves_the_disk(root: Path) -> None:
    """Behind by less than memory may hold, it need not become faster than the appends to catch up."""
    spool = open_spool(root, read_ahead_bytes=4000, chunk_bytes=1000)
    drained: list[int] = []
    for n in range(60):
        await append(spool, [record(n)])
    while len(drained) < 40:
        drained += numbers(await spool.take(10, 1 << 20))
    for n in range(60, 100):
        await append(spool, [record(n)])
        drained += numbers(await spool.take(1, 1 << 20))
    segments(root)[-1].unlink()

    while len(drained) < 100:
        drained += numbers(await spool.take(*EVERYTHING))

    assert drained == list(range(100))
    await spool.close()


async def test_what_memory_holds_is_taken_before_a_read_fails(root: Path) -> None:
    """Also when the rest of the disk would fit into memory, and is read before it is needed."""
    spool = open_spool(root, read_ahead_bytes=4000)
    for n in range(40):
        await append(spool, [record(n)])
    segments(root)[-1].unlink()

    drained = [numbers(await spool.take(5, 1 << 20)) for _ in range(6)]
    last = numbers(await spool.take(5, 1 << 20))

    assert [*chain.from_iterable(drained), *last] == list(range(32))  # as many as 4,000 bytes hold
    with pytest.raises(SpoolFailed):
        await spool.take(5, 1 << 20)
    await spool.close()


async def test_a_segment_may_grow_while_it_is_read(root: Path) -> None:
    """No record may be skipped or returned twice."""
    grown = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    spool = open_spool(root, read_ahead_bytes=0, inline_read_bytes=0)
    await append(spool, [record(0)])
    busy = loop.run_in_executor(None, grown.wait)  # the read waits for this thread
    taking = asyncio.create_task(spool.take(*EVERYTHING))
    await append(spool, [record(1)])
    grown.set()

    assert numbers(await taking) == [0]
    assert numbers(await spool.take(*EVERYTHING)) == [1]
    assert spool.stats().corrupt_frames_total == 0
    await busy
    await spool.close()


async def test_concurrent_appends_are_published_exactly_once(root: Path) -> None:
    spool = open_spool(root, segment_bytes=20_000, read_ahead_bytes=2000, inline_read_bytes=0)
    seqs: list[int] = []

    async def publish() -> None:
        while taken := await spool.take(50, 1 << 20):
            seqs.extend(spooled.seq for spooled in taken)
            await asyncio.sleep(0.0001)
            spool.acknowledge(taken[-1])

    async def send() -> None:
        for n in range(50):
            await append(spool, [record(n)])

    publishing = asyncio.create_task(publish())
    await asyncio.gather(*(send() for _ in range(20)))
    spool.seal()
    await publishing

    assert seqs == list(range(1000))
    assert spool.stats().waiting_records == 0
    await spool.close()


async def test_segments_in_kafka_are_deleted_but_the_newest(root: Path) -> None:
    """A segment is named by its first sequence number; the newest preserves the next one."""
    spool = open_spool(root, segment_bytes=1000)
    for n in range(20):
        await append(spool, [record(n)])
    names = [path.name for path in segments(root)]
    assert names[0] == "00000000000000000000.log"
    assert len(names) == 3
    taken = await spool.take(*EVERYTHING)

    spool.acknowledge(taken[int(Path(names[1]).stem)])
    jobs_done(spool)
    assert [path.name for path in segments(root)] == names[1:]
    spool.acknowledge(taken[-1])
    jobs_done(spool)
    assert [path.name for path in segments(root)] == names[-1:]
    assert spool.stats().bytes == 0
    await spool.close()


async def test_the_cursor_is_written_after_an_interval(root: Path) -> None:
    spool = open_spool(root, cursor_interval_s=0.05)
    directory = root / spool.spool_id
    await append(spool, [record(n) for n in range(3)])
    taken = await spool.take(*EVERYTHING)
    spool.acknowledge(taken[0])
    spool.acknowledge(taken[1])

    await async_eventually(lambda: read_cursor(directory).acknowledged == 2)

    assert read_cursor(directory).end_seq == 3
    await spool.close()


async def test_a_stall_is_measured_whatever_the_clock_says(root: Path) -> None:
    """Records of a clock that was ahead are of the future, and never old."""
    now_s = 0.0
    spool = open_spool(root, monotonic=lambda: now_s)
    registry = CollectorRegistry()
    Metrics("test", registry).watch_spool(spool.stats, lambda: 0)
    now_s = 10.0
    await append(spool, [record(0)])
    now_s = 100.0
    await append(spool, [record(1)])

    stalled = spool.stats().stalled_s
    age = registry.get_sample_value("voipex_bridge_spool_oldest_record_age_seconds")
    taken = await spool.take(*EVERYTHING)
    spool.acknowledge(taken[0])
    after_one = spool.stats().stalled_s
    spool.acknowledge(taken[1])
    now_s = 500.0

    assert (stalled, age, after_one, spool.stats().stalled_s) == (90.0, 90.0, 0.0, 0.0)
    await spool.close()


# ---------------------------------------------------------------- limits and the end


async def test_a_full_spool_rejects_until_kafka_acknowledges(root: Path) -> None:
    spool = open_spool(root, limit_bytes=3000)
    for n in range(4):
        await append(spool, [record(n, size_bytes=500)])
    with pytest.raises(SpoolFull):
        await append(spool, [record(4, size_bytes=500)])
    assert spool.stats().bytes <= 3000
    taken = await spool.take(*EVERYTHING)
    spool.acknowledge(taken[-1])

    await append(spool, [record(100)])

    assert numbers(await spool.take(*EVERYTHING)) == [100]
    await spool.close()


async def test_records_found_at_the_start_count_for_the_limit(root: Path) -> None:
    await write_spool(root, [[n] for n in range(20)])
    spool = open_spool(root, limit_bytes=1000)

    with pytest.raises(SpoolFull):
        await append(spool, [record(20)])
    await spool.close()


async def test_pending_appends_are_bounded(root: Path) -> None:
    spool = open_spool(root, max_pending_appends=10)

    appends = [start_append(spool, [record(n)]) for n in range(30)]
    errors = await asyncio.gather(*appends, return_exceptions=True)

    assert list(map(type, errors)) == [type(None)] * 10 + [ServiceUnavailable] * 20
    await append(spool, [record(30)])
    await spool.close()


async def test_pending_bytes_are_bounded(root: Path) -> None:
    spool = open_spool(root, max_pending_bytes=3000)

    appends = [start_append(spool, [record(n, size_bytes=1000)]) for n in range(4)]
    errors = await asyncio.gather(*appends, return_exceptions=True)

    assert list(map(type, errors)) == [type(None)] * 2 + [ServiceUnavailable] * 2
    await spool.close()


async def test_a_sealed_spool_completes_appends_and_rejects_new(root: Path) -> None:
    spool = open_spool(root)
    pending = start_append(spool, [record(0)])
    spool.seal()

    with pytest.raises(ShuttingDown):
        await append(spool, [record(1)])
    assert await drain(spool) == [0]
    assert await spool.take(*EVERYTHING) == []
    await pending
    await spool.close()


async def test_sealing_ends_a_waiting_take(root: Path) -> None:
    spool = open_spool(root)
    asyncio.get_running_loop().call_soon(spool.seal)

    assert await spool.take(*EVERYTHING) == []
    await spool.close()


async def test_close_completes_pending_appends(root: Path) -> None:
    disk_ready = threading.Event()

    class SlowDisk(Disk):
        def sync(self, fd: int) -> None:
            assert disk_ready.wait(WITHIN_S)
            super().sync(fd)

    spool = open_spool(root, SlowDisk())
    appends = [start_append(spool, [record(n)]) for n in range(3)]
    asyncio.get_running_loop().call_soon(disk_ready.set)
    await spool.close()

    await asyncio.gather(*appends)
    assert await read_spool(root) == [0, 1, 2]


async def test_a_spool_may_be_closed_twice(root: Path) -> None:
    spool = open_spool(root)

    await spool.close()
    await spool.close()


async def test_stats_count_waiting_records(root: Path) -> None:
    spool = open_spool(root)
    await append(spool, [record(0), record(1)])
    await append(spool, [record(2)])
    (first, *_) = await spool.take(*EVERYTHING)
    spool.acknowledge(first)

    stats = spool.stats()

    assert (stats.appended_total, stats.acknowledged_total, stats.waiting_records) == (3, 1, 2)
    assert stats.oldest_waiting_ms == record(1).timestamp_ms
    assert 0 < stats.bytes < segments(root)[0].stat().st_size
    assert stats.corrupt_frames_total == 0
    await spool.close()


# ---------------------------------------------------------------- restarts


async def test_files_are_readable_by_the_owner_only(root: Path) -> None:
    """They hold phone numbers and names."""
    before = os.umask(0)
    try:
        spool_id = await write_spool(root, [[0]])
    finally:
        os.umask(before)

    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / spool_id).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (root / spool_id).iterdir()} == {0o600}


async def test_a_restart_continues_with_the_waiting_records(root: Path) -> None:
    spool = open_spool(root)
    await append(spool, [record(n) for n in range(5)])
    spool.acknowledge((await spool.take(2, 1 << 20))[-1])
    await spool.close()

    again = open_spool(root)

    assert again.spool_id == spool.spool_id
    assert again.stats().waiting_records == 3
    assert again.stats().oldest_waiting_ms == record(2).timestamp_ms
    await append(again, [record(5)])
    assert await again.take(3, 1 << 20) == [(spool.spool_id, n, record(n)) for n in (2, 3, 4)]
    assert numbers(await again.take(*EVERYTHING)) == [5]
    await again.close()


async def test_sequence_numbers_continue_after_a_drain(root: Path) -> None:
    """A number names one record for ever: readers of Kafka may have seen it."""
    await write_spool(root, [range(5)])
    assert await read_spool(root) == [0, 1, 2, 3, 4]

    for expected in (5, 6, 7):
        spool = open_spool(root)
        assert spool.stats().bytes == 0
        await append(spool, [record(expected)])
        (spooled,) = await spool.take(*EVERYTHING)
        assert spooled.seq == expected
        spool.acknowledge(spooled)
        await spool.close()


async def test_sequence_numbers_continue_without_a_cursor(root: Path) -> None:
    await write_spool(root, [range(5)])
    await read_spool(root)
    next(root.glob("*/cursor")).unlink()

    spool = open_spool(root)
    await append(spool, [record(5)])
    spool.seal()
    taken = await spool.take(*EVERYTHING)

    assert [spooled.seq for spooled in taken] == numbers(taken) == [5]
    await spool.close()


# ---------------------------------------------------------------- several processes


async def test_two_processes_never_share_a_directory(root: Path) -> None:
    spool, other = open_spool(root), open_spool(root)

    assert spool.spool_id != other.spool_id
    await spool.close()
    await other.close()


async def test_spools_of_dead_processes_are_drained_and_removed(root: Path) -> None:
    dead = [open_spool(root) for _ in range(3)]
    for number, spool in enumerate(dead):
        await append(spool, [record(number * 10), record(number * 10 + 1)])
    for spool in dead:
        await spool.close()
    ids = sorted(spool.spool_id for spool in dead)

    spool = open_spool(root)
    assert spool.spool_id == ids[0]
    assert spool.stats().waiting_records == 6
    batches = [await spool.take(*EVERYTHING) for _ in range(3)]
    assert [{spooled.spool_id for spooled in batch} for batch in batches] == [{ids[1]}, {ids[2]}, {ids[0]}]
    for batch in batches:
        spool.acknowledge(batch[-1])
    jobs_done(spool)

    assert names_in(root) == [spool.spool_id]
    stats = spool.stats()
    assert (stats.waiting_records, stats.bytes, stats.acknowledged_total) == (0, 0, 6)
    await spool.close()


async def test_a_running_process_keeps_its_directory(root: Path) -> None:
    running = open_spool(root)
    await append(running, [record(0)])
    other = open_spool(root)

    assert await drain(other) == []
    assert await drain(running) == [0]
    await other.close()
    await running.close()


async def test_a_directory_without_segments_is_not_continued(root: Path) -> None:
    """Its next sequence number is unknown, so numbers could be given twice."""
    left = open_spool(root)
    await left.close()

    spool = open_spool(root)

    assert spool.spool_id != left.spool_id
    jobs_done(spool)
    assert names_in(root) == [spool.spool_id]
    await spool.close()


@pytest.mark.process
async def test_processes_starting_at_once_get_own_directories(root: Path) -> None:
    await write_spool(root, [[0]])
    program = (
        "import asyncio, sys; from pathlib import Path; from bridge.spool.spool import Spool\n"
        f"spool = Spool.open(Path({str(root)!r}), limit_bytes=1)\n"
        "print(spool.spool_id, flush=True); sys.stdin.read(); asyncio.run(spool.close())"
    )
    processes = [
        subprocess.Popen(  # noqa: ASYNC220 - nothing else runs on this event loop
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ids = [process.stdout.readline().strip() for process in processes if process.stdout is not None]
    assert all(process.communicate()[0] == "" for process in processes)

    assert len(set(ids)) == 3
    assert {process.returncode for process in processes} == {0}
