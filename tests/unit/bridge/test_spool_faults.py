"""What the spool does when the disk is full, refuses, or gives back something else than it was given."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.spool import segment_log as backlog
from bridge.spool.frames import encode_record, frame_bytes
from bridge.spool.segments import LINE_BYTES, first_line
from bridge.spool.spool import SpoolFormat
from tests.spool_fixtures import (
    BROKEN,
    FULL,
    Disk,
    chores_done,
    drain,
    frame_starts,
    names_in,
    numbers,
    open_spool,
    read_spool,
    record,
    segments,
    write_spool,
)
from voipex.errors import SpoolFailed, SpoolFull

MANY = 10_000, 1 << 24
FRAMES = ([0, 1], [2], [3, 4, 5], [6])  # of one segment


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def change(path: Path, at: int, content: bytes) -> None:
    old = path.read_bytes()
    path.write_bytes(old[:at] + content + old[at + len(content) :])


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("faults", FULL, ids=str)
@pytest.mark.parametrize("allocates", [False, True])
def test_a_full_disk_refuses_and_resumes_by_itself(
    root: Path, faults: dict[str, int | str], allocates: bool
) -> None:
    """Never a 2xx for what is not there, and nobody has to restart anything once there is room."""

    async def scenario() -> list[int]:
        disk = Disk(allocates=allocates)
        spool = open_spool(root, disk, segment_bytes=1000)
        kept = []
        for n in range(0, 60, 3):  # long enough for the fault to meet a new segment too
            await spool.append([record(n)])
            disk.faults = faults
            try:
                await spool.append([record(n + 1)])
            except SpoolFull:
                kept += [n, n + 2]
            else:
                kept += [n, n + 1, n + 2]
            disk.faults = {}
            await spool.append([record(n + 2)])
        assert await drain(spool, acknowledge=False) == kept
        await spool.close()
        return kept

    kept = asyncio.run(scenario())
    assert len(kept) < 60
    assert read_spool(root) == kept


def test_all_who_wait_are_refused_when_the_disk_is_full(root: Path) -> None:
    async def scenario() -> None:
        disk = Disk()
        spool = open_spool(root, disk)
        disk.faults = {"write": "short"}
        outcomes = await asyncio.gather(
            *(spool.append([record(n)]) for n in range(10)), return_exceptions=True
        )

        assert {type(one) for one in outcomes} == {SpoolFull}
        assert spool.stats() == spool.stats()._replace(waiting_records=0, bytes=0, appended_total=0)
        await spool.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("faults", BROKEN, ids=str)
def test_a_disk_that_refuses_breaks_the_spool_for_ever(root: Path, faults: dict[str, int | str]) -> None:
    """After a failed sync the kernel forgets what it could not write: a second one that succeeds proves nothing."""

    async def scenario() -> None:
        disk, told = Disk(), list[str]()
        segment_bytes = 1 if "create" in faults else 1 << 20
        spool = open_spool(root, disk, segment_bytes=segment_bytes, on_broken=lambda: told.append("broken"))
        await spool.append([record(0)])
        disk.faults = faults
        outcomes = await asyncio.gather(
            *(spool.append([record(n)]) for n in range(1, 4)), return_exceptions=True
        )
        disk.faults = {}
        assert {type(one) for one in outcomes} == {SpoolFailed}
        with pytest.raises(SpoolFailed):
            await spool.append([record(4)])
        assert told == ["broken"]
        assert numbers(await spool.take(*MANY)) == [0]  # what was kept before is still good
        await spool.close()

    asyncio.run(scenario())
    assert read_spool(root)[0] == 0


def test_a_fault_of_ours_in_the_writer_breaks_the_spool_and_leaves_nobody_waiting(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        told: list[str] = []
        spool = open_spool(root, on_broken=lambda: told.append("broken"))
        monkeypatch.setattr(spool._appender, "commit", None)
        with pytest.raises(SpoolFailed, match="TypeError"):
            await spool.append([record(0)])
        with pytest.raises(SpoolFailed):
            await spool.append([record(1)])
        assert told == ["broken"]
        await spool.close()

    asyncio.run(scenario())


def test_a_disk_that_cannot_allocate_ahead_is_good_enough(root: Path) -> None:
    write_spool(root, FRAMES, files=(disk := Disk()))
    disk.faults = {"allocate": 95}

    assert read_spool(root, files=disk) == [0, 1, 2, 3, 4, 5, 6]


def test_a_disk_that_refuses_to_read_stops_the_publisher(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_AHEAD_BYTES", 0)

    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([record(0)])
        segments(root)[0].unlink()
        with pytest.raises(SpoolFailed):
            await spool.take(*MANY)
        await spool.close()

    asyncio.run(scenario())


# ---------------------------------------------------------------- after a crash


@pytest.mark.process
def test_a_kill_loses_nothing_that_was_answered(root: Path) -> None:
    """On the real disk, by a real process; the answers are noted outside of it."""
    program = (
        "import asyncio; from pathlib import Path; from tests.spool_fixtures import open_spool, record; from bridge.spool.spool import Files\n"
        "async def main():\n"
        f"    spool = open_spool(Path({str(root)!r}), Files(), segment_bytes=10_000)\n"
        "    async def one(who):\n"
        "        for n in range(who, 10**9, 8):\n"
        "            await spool.append([record(n)]); print(n, flush=True)\n"
        "    await asyncio.gather(*map(one, range(8)))\n"
        "asyncio.run(main())"
    )
    answered: list[int] = []
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while len(answered) < 300:
            answered.append(int(process.stdout.readline()))
        process.kill()
        *whole, _ = [*process.stdout.read().split("\n")]
        answered += map(int, whole)

    kept = read_spool(root)
    assert set(answered) <= set(kept)
    assert len(kept) == len(set(kept)) <= len(answered) + 8


@pytest.mark.parametrize("garbage", [b"", b"\0" * 5000, b"\xff" * 5000], ids=["cut", "zeros", "ones"])
@pytest.mark.process
def test_a_torn_write_is_cut_wherever_it_tore(root: Path, garbage: bytes) -> None:
    """It was never answered; everything before it is good, and so is everything after the restart."""
    write_spool(root, FRAMES)
    (path,) = segments(root)
    content, last = path.read_bytes(), frame_starts(path)[-1]
    for length in range(last, len(content), 7 if garbage else 1):
        shutil.rmtree(root)
        path.parent.mkdir(parents=True)
        path.write_bytes(content[:length] + garbage)
        write_spool(root, [[7]])  # a start, and the next number

        assert path.stat().st_size == last  # what was allocated ahead is given back
        assert read_spool(root) == [0, 1, 2, 3, 4, 5, 7], length
        assert not (root / "damaged").exists()


def test_a_segment_that_was_just_made_is_made_again(root: Path) -> None:
    write_spool(root, FRAMES)
    for content in (b"", b"\0" * 1000, b"voipex-spo"):
        made = segments(root)[-1].with_name(f"{7:020}.log")
        made.write_bytes(content)

        write_spool(root, [])
        assert names_in(made.parent)[-1] == "cursor"
    write_spool(root, [[7]])
    assert read_spool(root) == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "content", [None, b"", b"12", b"999 00000000\n", b"\xff\0", b"7 " + b"0" * 8], ids=repr
)
def test_a_lost_or_torn_cursor_means_copies(root: Path, content: bytes | None) -> None:
    write_spool(root, FRAMES)
    cursor = next(root.glob("*/cursor"))
    if content is None:
        cursor.unlink()
    else:
        cursor.write_bytes(content)

    assert read_spool(root) == [0, 1, 2, 3, 4, 5, 6]


def test_a_frame_behind_the_cut_hides_nothing(root: Path) -> None:
    """It has the number of the next segment; were it believed, that segment would be passed over."""
    write_spool(root, FRAMES)
    write_spool(root, [[7]])
    older = segments(root)[0]
    mark = UUID(older.parent.name).bytes[:8]
    with older.open("ab") as file:
        file.write(frame_bytes(mark, 7, 1, encode_record(record(99))))

    assert read_spool(root) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_numbers_go_on_from_the_cursor_when_the_segment_is_empty(root: Path) -> None:
    write_spool(root, FRAMES)
    read_spool(root)
    segments(root)[0].write_bytes(b"")
    write_spool(root, [[7]])

    async def scenario() -> None:
        spool = open_spool(root)
        assert [one.seq for one in await spool.take(*MANY)] == [7]
        await spool.close()

    asyncio.run(scenario())


# ---------------------------------------------------------------- damage


def test_damage_in_the_middle_costs_its_frame_only_and_the_file_is_kept(root: Path) -> None:
    """Somebody may still read by hand what we cannot."""
    spool_id = write_spool(root, FRAMES)
    (path,) = segments(root)
    change(path, frame_starts(path)[2] + 40, b"\xaa\xaa")
    spoilt = path.read_bytes()

    async def scenario() -> None:
        told: list[tuple[Path, int]] = []
        spool = open_spool(root, on_damage=lambda where, missing: told.append((where, missing)))
        assert told == [(path, 3)]
        await spool.append([record(7)])
        assert await drain(spool) == [0, 1, 2, 6, 7]
        chores_done(spool)
        stats = spool.stats()
        assert (stats.damaged_frames_total, stats.damaged_records_total) == (1, 3)
        assert (stats.waiting_records, stats.acknowledged_total) == (0, 8)
        await spool.close()

    asyncio.run(scenario())
    assert (root / "damaged" / f"{spool_id}-{path.name}").read_bytes() == spoilt
    assert read_spool(root) == []


def test_damage_at_the_end_of_an_older_segment_is_no_torn_write(root: Path) -> None:
    write_spool(root, FRAMES)
    write_spool(root, [[7]])
    change(segments(root)[0], frame_starts(segments(root)[0])[-1] + 40, b"\xaa\xaa")

    assert read_spool(root) == [0, 1, 2, 3, 4, 5, 7]
    assert len(names_in(root / "damaged")) == 1


def test_a_segment_that_disappeared_is_damage(root: Path) -> None:
    for n in range(3):
        write_spool(root, [[n]])
    segments(root)[1].unlink()

    async def scenario() -> None:
        spool = open_spool(root)
        assert await drain(spool) == [0, 2]
        assert spool.stats().damaged_records_total == 1
        await spool.close()

    asyncio.run(scenario())


def test_a_segment_of_which_nothing_is_left_ends_nothing(root: Path) -> None:
    for n in range(3):
        write_spool(root, [[n]])
    segments(root)[1].write_bytes(b"")

    assert read_spool(root) == [0, 2]


def test_a_spoilt_first_line_costs_nothing(root: Path) -> None:
    write_spool(root, FRAMES)
    change(segments(root)[0], 0, b"\0" * LINE_BYTES)

    assert read_spool(root) == [0, 1, 2, 3, 4, 5, 6]


def test_what_spoils_while_we_run_is_found_when_it_is_read(root: Path) -> None:
    write_spool(root, FRAMES)

    async def scenario() -> None:
        spool = open_spool(root)
        spool._own.ready.clear()
        spool._own.read, spool._own._at = 0, (None, 0)
        change(segments(root)[0], frame_starts(segments(root)[0])[-1], b"\0" * 30)
        assert await drain(spool) == [0, 1, 2, 3, 4, 5]
        assert spool.stats().damaged_records_total == 1
        assert spool.stats().waiting_records == 0
        await spool.close()

    asyncio.run(scenario())


def test_an_adopted_directory_with_damage_leaves_only_the_damaged_file(root: Path) -> None:
    async def scenario() -> None:
        dead = [open_spool(root), open_spool(root)]
        for spool in dead:
            for n in range(3):
                await spool.append([record(n)])
        for spool in dead:
            await spool.close()
        orphan = max(spool.spool_id for spool in dead)
        path = next((root / orphan).glob("*.log"))
        change(path, frame_starts(path)[1] + 40, b"\xaa\xaa")
        heir = open_spool(root)
        assert await drain(heir) == [0, 2, 0, 1, 2]
        await heir.close()
        assert names_in(root) == sorted([heir.spool_id, "damaged"])
        assert names_in(root / "damaged") == [f"{orphan}-{path.name}"]

    asyncio.run(scenario())


def test_a_body_is_never_taken_for_a_frame(root: Path, tmp_path: Path) -> None:
    """Behind damage we look for the next frame, and bodies are what strangers sent: one may hold a frame, but not our mark."""
    write_spool(tmp_path / "other", [[99]])
    (other,) = segments(tmp_path / "other")

    async def scenario() -> None:
        spool = open_spool(root)
        await spool.append([record(0)])
        await spool.append([record(1)._replace(value=other.read_bytes())])
        await spool.append([record(2)])
        await spool.close()

    asyncio.run(scenario())
    (path,) = segments(root)
    change(path, frame_starts(path)[1] + 20, b"\xaa")
    assert read_spool(root) == [0, 2]


TEMPLATE: list[tuple[str, bytes]] = []


def template(tmp_path: Path) -> list[tuple[str, bytes]]:
    """Two segments of four frames each."""
    if not TEMPLATE:
        write_spool(tmp_path / "template", FRAMES)
        write_spool(tmp_path / "template", [[n + 7 for n in frame] for frame in FRAMES])
        TEMPLATE.extend(
            (str(path.relative_to(tmp_path / "template")), path.read_bytes())
            for path in segments(tmp_path / "template")
        )
    return TEMPLATE


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_costs_one_frame_at_most_and_invents_nothing(
    tmp_path: Path, data: st.DataObject
) -> None:
    root = tmp_path / "spool"
    shutil.rmtree(root, ignore_errors=True)
    which = data.draw(st.integers(0, 1), "segment")
    for number, (name, content) in enumerate(template(tmp_path)):
        spoilt = bytearray(content)
        if number == which:
            spoilt[data.draw(st.integers(0, len(content) - 1), "byte")] ^= 1 << data.draw(
                st.integers(0, 7), "bit"
            )
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(spoilt)

    frames = [[n + plus for n in frame] for plus in (0, 7) for frame in FRAMES]
    assert read_spool(root) in [
        [n for frame in frames if frame is not lost for n in frame] for lost in [None, *frames]
    ]


# ---------------------------------------------------------------- not ours to read


def test_a_newer_format_is_refused_untouched(root: Path) -> None:
    """Going back to an older bridge must not cost what the newer one kept."""
    write_spool(root, FRAMES)
    (path,) = segments(root)
    line = path.read_bytes()[:LINE_BYTES]
    newer = first_line(path.parent.name, version=2)
    assert len(newer) == len(line) == LINE_BYTES
    path.write_bytes(newer + b"whatever it means")

    with pytest.raises(SpoolFormat, match=rf"{path}.* 2"):
        open_spool(root)
    assert path.read_bytes() == newer + b"whatever it means"
    change(path, 0, first_line(path.parent.name))
    open_spool(root).close_sync()  # the refusal holds no lock


def test_a_renamed_directory_is_refused(root: Path) -> None:
    """Its frames would all look like garbage."""
    spool_id = write_spool(root, FRAMES)
    (root / spool_id).rename(root / f"{'0' * 8}{spool_id[8:]}")

    with pytest.raises(SpoolFormat, match=spool_id):
        open_spool(root)
