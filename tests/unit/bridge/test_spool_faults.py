"""What the spool does when the disk is full, fails, or returns other bytes than were written."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.spool.frames import encode_frame, encode_record
from bridge.spool.inspect import quarantined
from bridge.spool.segments import HEADER_BYTES, SpoolFormat, salt_of, segment_header
from tests.spool_fixtures import (
    DISK_FAILED,
    DISK_FULL,
    EVERYTHING,
    Disk,
    Faults,
    append,
    drain,
    frame_starts,
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
from tests.waiting import async_eventually
from voipex.errors import SpoolFailed, SpoolFull

pytestmark = pytest.mark.anyio

FRAMES = ([0, 1], [2], [3, 4, 5], [6])
"""Records of the frames of one segment."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def overwrite(path: Path, offset: int, content: bytes) -> None:
    old = path.read_bytes()
    path.write_bytes(old[:offset] + content + old[offset + len(content) :])


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("faults", DISK_FULL, ids=str)
@pytest.mark.parametrize("allocates", [False, True])
async def test_a_full_disk_rejects_and_recovers_by_itself(
    root: Path, faults: Faults, allocates: bool
) -> None:
    """Never a 2xx for a record that is not on disk, and no restart is needed once there is room."""
    disk = Disk(allocates=allocates)
    spool = open_spool(root, disk, segment_bytes=1000)
    durable = []
    for n in range(0, 60, 3):  # enough for the fault to hit the creation of a segment too
        await append(spool, [record(n)])
        disk.faults = faults
        try:
            await append(spool, [record(n + 1)])
        except SpoolFull:
            durable += [n, n + 2]
        else:
            durable += [n, n + 1, n + 2]
        disk.faults = {}
        await append(spool, [record(n + 2)])

    assert await drain(spool, acknowledge=False) == durable
    await spool.close()
    assert len(durable) < 60
    assert await read_spool(root) == durable


async def test_a_full_disk_fails_all_pending_appends(root: Path) -> None:
    disk = Disk()
    spool = open_spool(root, disk)
    disk.faults = {"write": "short"}

    appends = [start_append(spool, [record(n)]) for n in range(10)]
    errors = await asyncio.gather(*appends, return_exceptions=True)

    assert set(map(type, errors)) == {SpoolFull}
    stats = spool.stats()
    assert (stats.waiting_records, stats.bytes, stats.appended_total) == (0, 0, 0)
    await spool.close()


@pytest.mark.parametrize("faults", DISK_FAILED, ids=str)
async def test_a_disk_error_fails_the_spool_for_ever(root: Path, faults: Faults) -> None:
    """After a failed sync the kernel forgets what it could not write: a second sync that succeeds proves nothing."""
    disk, failures = Disk(), list[str]()
    spool = open_spool(
        root,
        disk,
        segment_bytes=1 if "create" in faults else 1 << 20,
        on_failed=lambda _: failures.append("failed"),
    )
    await append(spool, [record(0)])
    disk.faults = faults
    appends = [start_append(spool, [record(n)]) for n in range(1, 4)]
    errors = await asyncio.gather(*appends, return_exceptions=True)
    disk.faults = {}

    assert set(map(type, errors)) == {SpoolFailed}
    with pytest.raises(SpoolFailed):
        await append(spool, [record(4)])
    assert failures == ["failed"]
    assert numbers(await spool.take(*EVERYTHING)) == [0]  # what was durable before still is
    await spool.close()
    assert (await read_spool(root))[0] == 0


async def test_any_writer_error_fails_the_spool(root: Path) -> None:
    """A bug must not leave requests waiting for a thread that has ended."""
    disk, failures = Disk(), list[str]()
    spool = open_spool(root, disk, on_failed=lambda _: failures.append("failed"))
    disk.faults = {"write": TypeError("a bug")}

    with pytest.raises(SpoolFailed, match="TypeError"):
        await append(spool, [record(0)])
    with pytest.raises(SpoolFailed):
        await append(spool, [record(1)])
    assert failures == ["failed"]
    await spool.close()


async def test_a_disk_need_not_allocate_ahead(root: Path) -> None:
    disk = Disk()
    await write_spool(root, FRAMES, files=disk)
    disk.faults = {"allocate": errno.EOPNOTSUPP}

    await write_spool(root, [[7]], files=disk)

    assert await read_spool(root, files=disk) == [0, 1, 2, 3, 4, 5, 6, 7]


async def test_a_read_error_stops_the_publisher(root: Path) -> None:
    spool = open_spool(root, read_ahead_bytes=0)
    await append(spool, [record(0)])
    segments(root)[0].unlink()

    with pytest.raises(SpoolFailed):
        await spool.take(*EVERYTHING)
    await spool.close()


# ---------------------------------------------------------------- what the spool believes of its disk


def remove_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_segment(path: Path) -> None:
    path.write_bytes(path.read_bytes())  # keeps the file
    path.with_suffix(".copy").write_bytes(path.read_bytes())
    path.with_suffix(".copy").replace(path)


def hide_directory(path: Path) -> None:
    """As an empty volume does that is mounted over it."""
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.mkdir()


def remove_root(path: Path) -> None:
    shutil.rmtree(path.parent.parent)


DISAPPEARANCES = (Path.unlink, replace_segment, remove_directory, hide_directory, remove_root)


@pytest.mark.parametrize("disappear", DISAPPEARANCES)
async def test_nothing_is_durable_in_a_file_that_has_gone(
    root: Path, disappear: Callable[[Path], None]
) -> None:
    """Writes and syncs to an unlinked file succeed, and its content is gone with the process."""
    failures: list[SpoolFailed] = []
    spool = open_spool(root, on_failed=failures.append)
    await append(spool, [record(0)])

    disappear(segments(root)[0])
    with pytest.raises(SpoolFailed, match="removed or replaced"):
        await append(spool, [record(1)])

    assert len(failures) == 1
    assert spool.stats().failed
    with pytest.raises(SpoolFailed):
        await append(spool, [record(2)])
    await spool.close()


@pytest.mark.parametrize("disappear", DISAPPEARANCES)
async def test_an_idle_spool_finds_out_that_its_files_have_gone(
    root: Path, disappear: Callable[[Path], None]
) -> None:
    failures: list[SpoolFailed] = []
    spool = open_spool(root, on_failed=failures.append)
    await append(spool, [record(0)])
    spool.check()
    await async_eventually(lambda: not spool._checking)
    assert failures == []

    disappear(segments(root)[0])
    spool.check()

    await async_eventually(lambda: failures)
    assert spool.stats().failed
    await spool.close()


async def test_a_directory_that_has_gone_is_found_before_an_append(root: Path) -> None:
    failures: list[SpoolFailed] = []
    spool = open_spool(root, on_failed=failures.append)
    shutil.rmtree(root)

    spool.check()

    await async_eventually(lambda: failures)
    await spool.close()


@pytest.mark.parametrize("faults", DISK_FULL)
async def test_a_full_disk_is_reported_until_there_is_room(root: Path, faults: Faults) -> None:
    """Without any append: a bridge that is not ready gets none."""
    disk = Disk()
    spool = open_spool(root, disk, segment_bytes=1)  # each append makes a segment
    await append(spool, [record(0)])
    disk.faults = faults
    with pytest.raises(SpoolFull):
        await append(spool, [record(1)])
    assert spool.stats().full
    spool.check()
    await async_eventually(lambda: not spool._checking)
    assert spool.stats().full

    disk.faults = {}
    spool.check()
    await async_eventually(lambda: not spool.stats().full)

    await append(spool, [record(2)])
    assert await drain(spool) == [0, 2]
    await spool.close()
    assert await read_spool(root) == []


async def test_the_limit_is_reported_until_the_refused_append_fits(root: Path) -> None:
    """Waiting bytes stay below the limit while every append is refused."""
    spool = open_spool(root, limit_bytes=3000)
    for n in range(4):
        await append(spool, [record(n, size_bytes=500)])
    assert not spool.stats().full
    with pytest.raises(SpoolFull):
        await append(spool, [record(4, size_bytes=500)])
    assert spool.stats().bytes < 3000
    assert spool.stats().full

    spool.acknowledge((await spool.take(1, 1 << 20))[-1])

    assert not spool.stats().full
    await spool.close()


async def test_a_drained_spool_leaves_no_record_on_the_disk(root: Path) -> None:
    """Its volume may be given away."""
    spool = open_spool(root)
    for n in range(3):
        await append(spool, [record(n, size_bytes=500)])
    await drain(spool)
    await spool.close()

    [path] = segments(root)
    assert (path.name, path.stat().st_size) == (f"{3:020}.log", HEADER_BYTES)
    spool = open_spool(root)
    await append(spool, [record(3)])
    assert [spooled.seq for spooled in await spool.take(*EVERYTHING)] == [3]
    await spool.close()


# ---------------------------------------------------------------- after a crash


@pytest.mark.process
async def test_a_kill_loses_no_durable_record(root: Path) -> None:
    """On the real disk, by a real process; what was durable is recorded outside of it."""
    program = (
        "import asyncio; from pathlib import Path; from tests.spool_fixtures import append, open_spool, record\n"
        "from bridge.spool.segments import Files\n"
        "async def main():\n"
        f"    spool = open_spool(Path({str(root)!r}), Files(), segment_bytes=10_000)\n"
        "    async def sender(number):\n"
        "        for n in range(number, 10**9, 8):\n"
        "            await append(spool, [record(n)]); print(n, flush=True)\n"
        "    await asyncio.gather(*map(sender, range(8)))\n"
        "asyncio.run(main())"
    )
    durable: list[int] = []
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs on this event loop
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while len(durable) < 300:
            durable.append(int(process.stdout.readline()))
        process.kill()
        *complete_lines, _ = process.stdout.read().split("\n")
        durable += map(int, complete_lines)

    recovered = await read_spool(root)

    assert set(durable) <= set(recovered)
    assert len(recovered) == len(set(recovered)) <= len(durable) + 8


@pytest.mark.parametrize("garbage", [b"", b"\0" * 5000, b"\xff" * 5000], ids=["cut", "zeros", "ones"])
@pytest.mark.process
async def test_a_torn_tail_is_truncated_wherever_it_tore(root: Path, garbage: bytes) -> None:
    """The write was never acknowledged; everything before it is intact, and so is everything after the restart."""
    await write_spool(root, FRAMES)
    (path,) = segments(root)
    content, last = path.read_bytes(), frame_starts(path)[-1]
    for length in range(last, len(content), 7 if garbage else 1):
        shutil.rmtree(root)
        path.parent.mkdir(parents=True)
        path.write_bytes(content[:length] + garbage)
        await write_spool(root, [[7]])  # a start, and the next sequence number

        assert path.stat().st_size == last
        assert await read_spool(root) == [0, 1, 2, 3, 4, 5, 7], length
        assert quarantined(root) == []


async def test_a_segment_without_frames_is_written_again(root: Path) -> None:
    """The crash came while the segment was created."""
    await write_spool(root, FRAMES)
    for content in (b"", b"\0" * 1000, b"voipex-spo"):
        created = segments(root)[-1].with_name(f"{7:020}.log")
        created.write_bytes(content)

        await write_spool(root, [])
        assert names_in(created.parent)[-1] == "cursor"
    await write_spool(root, [[7]])
    assert await read_spool(root) == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "content", [None, b"", b"12", b"999 00000000\n", b"\xff\0", b"7 " + b"0" * 8], ids=repr
)
async def test_a_lost_or_torn_cursor_means_copies(root: Path, content: bytes | None) -> None:
    await write_spool(root, FRAMES)
    cursor = next(root.glob("*/cursor"))
    if content is None:
        cursor.unlink()
    else:
        cursor.write_bytes(content)

    assert await read_spool(root) == [0, 1, 2, 3, 4, 5, 6]


async def test_a_stale_frame_hides_no_later_segment(root: Path) -> None:
    """Its sequence number is that of the next segment; if it counted, that segment would be skipped."""
    await write_spool(root, FRAMES)
    await write_spool(root, [[7]])
    older = segments(root)[0]
    with older.open("ab") as file:
        file.write(encode_frame(salt_of(older.parent), 7, 1, encode_record(record(99))))

    assert await read_spool(root) == [0, 1, 2, 3, 4, 5, 6, 7]


async def test_the_cursor_preserves_the_next_sequence_number(root: Path) -> None:
    await write_spool(root, FRAMES)
    await read_spool(root)
    segments(root)[0].write_bytes(b"")
    await write_spool(root, [[7]])

    spool = open_spool(root)

    assert [spooled.seq for spooled in await spool.take(*EVERYTHING)] == [7]
    await spool.close()


# ---------------------------------------------------------------- corruption


async def test_a_corrupt_frame_costs_its_records_only(root: Path) -> None:
    """The file is set aside: its records may be recovered by hand."""
    spool_id = await write_spool(root, FRAMES)
    (path,) = segments(root)
    overwrite(path, frame_starts(path)[2] + 40, b"\xaa\xaa")
    content = path.read_bytes()

    gaps: list[tuple[Path, int]] = []
    spool = open_spool(root, on_corrupt=lambda segment, missing: gaps.append((segment, missing)))
    assert gaps == [(path, 3)]
    await append(spool, [record(7)])
    assert await drain(spool) == [0, 1, 2, 6, 7]
    jobs_done(spool)
    stats = spool.stats()
    assert (stats.corrupt_frames_total, stats.waiting_records, stats.acknowledged_total) == (1, 0, 8)
    await spool.close()

    assert quarantined(root) == [root / "corrupt" / f"{spool_id}-{path.name}"]
    assert quarantined(root)[0].read_bytes() == content
    assert await read_spool(root) == []


@pytest.mark.parametrize("kept", [0, 40, None], ids=["removed", "cut", "flipped"])
async def test_a_corrupt_end_of_the_newest_segment_is_no_torn_tail(root: Path, kept: int | None) -> None:
    """The cursor knows that the frame was synced: its records were acknowledged."""
    spool_id = await write_spool(root, FRAMES)
    (path,) = segments(root)
    last = frame_starts(path)[-1]
    if kept is None:
        overwrite(path, last + 40, b"\xaa\xaa")
    else:
        os.truncate(path, last + kept)
    content = path.read_bytes()

    gaps: list[tuple[Path, int]] = []
    spool = open_spool(root, on_corrupt=lambda segment, missing: gaps.append((segment, missing)))
    await append(spool, [record(7)])
    assert await drain(spool) == [0, 1, 2, 3, 4, 5, 7]
    await spool.close()

    assert gaps == [(path, 1)]
    assert quarantined(root) == [root / "corrupt" / f"{spool_id}-{path.name}"]
    assert quarantined(root)[0].read_bytes() == content


async def test_lost_segments_are_counted_though_none_is_left(root: Path) -> None:
    spool_id = await write_spool(root, FRAMES)
    segments(root)[0].unlink()

    gaps: list[tuple[Path, int]] = []
    spool = open_spool(root, on_corrupt=lambda segment, missing: gaps.append((segment, missing)))
    await append(spool, [record(7)])

    assert await drain(spool) == [7]
    assert gaps == [(root / spool_id, 7)]
    assert spool.stats().corrupt_frames_total == 1
    await spool.close()


async def test_a_corrupt_end_of_an_older_segment_is_no_torn_tail(root: Path) -> None:
    await write_spool(root, FRAMES)
    await write_spool(root, [[7]])
    overwrite(segments(root)[0], frame_starts(segments(root)[0])[-1] + 40, b"\xaa\xaa")

    assert await read_spool(root) == [0, 1, 2, 3, 4, 5, 7]
    assert len(quarantined(root)) == 1


async def test_a_missing_segment_is_a_gap(root: Path) -> None:
    for n in range(3):
        await write_spool(root, [[n]])
    segments(root)[1].unlink()

    gaps: list[int] = []
    spool = open_spool(root, on_corrupt=lambda _, missing: gaps.append(missing))

    assert await drain(spool) == [0, 2]
    assert gaps == [1]
    await spool.close()


async def test_an_emptied_segment_does_not_end_the_log(root: Path) -> None:
    for n in range(3):
        await write_spool(root, [[n]])
    segments(root)[1].write_bytes(b"")

    assert await read_spool(root) == [0, 2]


async def test_a_corrupt_segment_header_costs_nothing(root: Path) -> None:
    await write_spool(root, FRAMES)
    overwrite(segments(root)[0], 0, b"\0" * HEADER_BYTES)

    assert await read_spool(root) == [0, 1, 2, 3, 4, 5, 6]


async def test_corruption_after_the_start_is_found_by_reading(root: Path) -> None:
    await write_spool(root, FRAMES)
    gaps: list[int] = []
    spool = open_spool(root, chunk_bytes=100, on_corrupt=lambda _, missing: gaps.append(missing))
    overwrite(segments(root)[0], frame_starts(segments(root)[0])[-1], b"\0" * 30)

    assert await drain(spool) == [0, 1, 2, 3, 4, 5]
    assert gaps == [1]
    assert spool.stats().waiting_records == 0
    await spool.close()


async def test_a_recovered_directory_leaves_its_corrupt_file(root: Path) -> None:
    dead = [open_spool(root), open_spool(root)]
    for spool in dead:
        for n in range(3):
            await append(spool, [record(n)])
    for spool in dead:
        await spool.close()
    recovered = max(spool.spool_id for spool in dead)
    path = next((root / recovered).glob("*.log"))
    overwrite(path, frame_starts(path)[1] + 40, b"\xaa\xaa")

    spool = open_spool(root)
    assert await drain(spool) == [0, 2, 0, 1, 2]
    await spool.close()

    assert names_in(root) == sorted([spool.spool_id, "corrupt"])
    assert names_in(root / "corrupt") == [f"{recovered}-{path.name}"]


async def test_a_body_is_never_read_as_a_frame(root: Path, tmp_path: Path) -> None:
    """Behind corrupt bytes the next frame is searched, and a sender may put a frame into a body, but not with this spool's salt."""
    await write_spool(tmp_path / "other", [[99]])
    (other,) = segments(tmp_path / "other")
    spool = open_spool(root)
    await append(spool, [record(0)])
    await append(spool, [record(1)._replace(value=other.read_bytes())])
    await append(spool, [record(2)])
    await spool.close()
    (path,) = segments(root)
    overwrite(path, frame_starts(path)[1] + 20, b"\xaa")

    assert await read_spool(root) == [0, 2]


TEMPLATE: list[tuple[str, bytes]] = []


def template(tmp_path: Path) -> list[tuple[str, bytes]]:
    """Return two segments of four frames each."""
    if not TEMPLATE:
        root = tmp_path / "template"
        asyncio.run(write_spool(root, FRAMES))
        asyncio.run(write_spool(root, [[n + 7 for n in frame] for frame in FRAMES]))
        TEMPLATE.extend((str(path.relative_to(root)), path.read_bytes()) for path in segments(root))
    return TEMPLATE


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_costs_one_frame_at_most(tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "spool"
    shutil.rmtree(root, ignore_errors=True)
    flipped = data.draw(st.integers(0, 1), "segment")
    for number, (name, content) in enumerate(template(tmp_path)):
        corrupt = bytearray(content)
        if number == flipped:
            corrupt[data.draw(st.integers(0, len(content) - 1), "byte")] ^= 1 << data.draw(
                st.integers(0, 7), "bit"
            )
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(corrupt)

    frames = [[n + plus for n in frame] for plus in (0, 7) for frame in FRAMES]
    assert asyncio.run(read_spool(root)) in [
        [n for frame in frames if frame is not lost for n in frame] for lost in [None, *frames]
    ]


# ---------------------------------------------------------------- another spool or version


async def test_a_newer_format_is_rejected_and_not_touched(root: Path) -> None:
    """Going back to an older bridge must not lose what the newer one accepted."""
    await write_spool(root, FRAMES)
    (path,) = segments(root)
    newer = segment_header(path.parent.name, version=2)
    assert len(newer) == HEADER_BYTES
    path.write_bytes(newer + b"frames of version 2")

    with pytest.raises(SpoolFormat, match=rf"{path}.* 2"):
        open_spool(root)
    assert path.read_bytes() == newer + b"frames of version 2"
    overwrite(path, 0, segment_header(path.parent.name))
    await open_spool(root).close()  # the rejection holds no lock


async def test_a_renamed_directory_is_rejected(root: Path) -> None:
    """All of its frames would count as garbage."""
    spool_id = await write_spool(root, FRAMES)
    (root / spool_id).rename(root / f"{'0' * 8}{spool_id[8:]}")

    with pytest.raises(SpoolFormat, match=spool_id):
        open_spool(root)
