"""The spool seen from outside, by the command line and the doctor."""

from pathlib import Path

import pytest

from bridge.spool.inspect import inspect, quarantined
from tests.spool_fixtures import EVERYTHING, Disk, append, jobs_done, open_spool, record, segments

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


async def test_inspect_reads_a_running_spool(root: Path) -> None:
    spool = open_spool(root, Disk(allocates=True), segment_bytes=1000)
    for n in range(10):
        await append(spool, [record(n)])
    taken = await spool.take(*EVERYTHING)
    spool.acknowledge(taken[5])
    jobs_done(spool)

    (status,) = inspect(root, now_s=lambda: 11.0)

    assert (status.spool_id, status.in_use) == (spool.spool_id, True)
    assert status.segments == len(segments(root))
    assert status.bytes < 10 * 150  # without what is only allocated
    first = int(segments(root)[0].stem)
    assert status.waiting_records == 10 - first  # the cursor is not written yet
    assert status.oldest_age_s == pytest.approx(10 - first / 1000)
    await spool.close()


async def test_inspect_reads_a_closed_spool(root: Path) -> None:
    spool = open_spool(root, segment_bytes=1000)
    for n in range(10):
        await append(spool, [record(n)])
    taken = await spool.take(*EVERYTHING)
    spool.acknowledge(taken[5])
    await spool.close()

    (status,) = inspect(root, now_s=lambda: 11.0)

    assert (status.in_use, status.waiting_records) == (False, 4)
    assert status.oldest_age_s == pytest.approx(11 - record(6).timestamp_ms / 1000)


async def test_inspect_of_a_drained_spool(root: Path) -> None:
    spool = open_spool(root)
    await append(spool, [record(0)])
    spool.acknowledge((await spool.take(*EVERYTHING))[-1])
    await spool.close()

    (status,) = inspect(root)

    assert (status.waiting_records, status.oldest_age_s) == (0, None)


async def test_inspect_of_a_spool_without_segments(root: Path) -> None:
    """A bridge that has accepted nothing yet."""
    spool = open_spool(root)

    assert inspect(root) == [(spool.spool_id, True, 0, 0, 0, None)]
    await spool.close()


def test_inspect_without_spools(tmp_path: Path) -> None:
    assert inspect(tmp_path / "none") == []
    assert inspect(tmp_path) == []
    assert quarantined(tmp_path / "none") == []
