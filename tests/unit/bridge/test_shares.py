"""The room of a spool among several PBXs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.spool.memory import MemorySpool
from bridge.spool.shares import Shares
from bridge.spool.spool import Spool
from tests.spool_fixtures import append, drain, open_spool, record, start_append
from voipex.errors import SpoolFull, SpoolShareFull
from voipex.records import Record

LIMIT_BYTES = 100_000
PBXS = ("voipex", "brno")


def event(pbx: str, number: int = 0, size_bytes: int = 500) -> Record:
    return record(number, size_bytes=size_bytes)._replace(topic=f"{pbx}.call.events.v1")


async def fill(spool: Spool, pbx: str) -> None:
    for n in range(1000):
        await append(spool, [event(pbx, n)])


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 4000)), max_size=200))
def test_a_pbx_always_gets_its_part(appends: list[tuple[str, int]]) -> None:
    """Whatever the others sent before."""
    shares = Shares(("a", "b", "c"), 60_000)
    total_bytes = 0
    for pbx, size in appends:
        each = event(pbx, size_bytes=size)
        counted = len(each.value) + 512
        if total_bytes + counted <= 60_000 and shares.admit(pbx, counted, total_bytes + counted):
            shares.add([each])
            total_bytes += counted

    for pbx in ("a", "b", "c"):
        room = shares.reserved_bytes - shares.counted[pbx]
        assert room <= 0 or shares.admit(pbx, room, total_bytes + room)
        assert total_bytes + sum(max(0, 10_000 - used) for used in shares.counted.values()) <= 60_000


def test_a_single_pbx_has_all_of_it() -> None:
    shares = Shares(("voipex",), LIMIT_BYTES)

    assert shares.admit("voipex", 1, LIMIT_BYTES)


@pytest.mark.anyio
async def test_a_flood_fills_the_share_of_its_pbx_only(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    spool = open_spool(root, limit_bytes=LIMIT_BYTES, pbxs=PBXS)
    with pytest.raises(SpoolShareFull):
        await fill(spool, "voipex")
    stats = spool.stats()
    late = start_append(spool, [event("voipex", size_bytes=2000)])
    delayed = not late.done()
    with pytest.raises(SpoolShareFull):
        await late
    for n in range(15):  # of 100,000 a quarter is reserved
        await append(spool, [event("brno", n)])
    await spool.close()

    assert delayed
    assert 0.7 * LIMIT_BYTES < stats.bytes < 0.8 * LIMIT_BYTES
    assert not stats.full
    assert stats.refused_by_pbx == {"voipex": 1, "brno": 0}

    again = open_spool(root, limit_bytes=LIMIT_BYTES, pbxs=PBXS)  # a restart knows the shares
    waiting_before = again.stats().waiting_records
    with pytest.raises(SpoolShareFull):
        await fill(again, "voipex")
    assert again.stats().waiting_records - waiting_before <= 1
    await append(again, [event("brno", 15)])
    with pytest.raises(SpoolFull):
        await fill(again, "brno")
    assert await drain(again)
    assert set(again.stats().used_bytes_by_pbx.values()) == {0}
    await again.close()


@pytest.mark.anyio
async def test_without_a_disk_the_queue_is_shared_too() -> None:
    spool = MemorySpool(60.0, LIMIT_BYTES, PBXS)
    flood = [start_append(spool, [event("voipex")]) for _ in range(200)]
    other = start_append(spool, [event("brno")])

    refused = [each.exception() for each in flood if each.done()]
    assert refused
    assert set(map(type, refused)) == {SpoolShareFull}
    assert not other.done()
    [*_, last] = await spool.take(10_000, 1 << 30)
    spool.acknowledge(last)
    await other
    assert set(spool.stats().used_bytes_by_pbx.values()) == {0}
    await spool.close()
