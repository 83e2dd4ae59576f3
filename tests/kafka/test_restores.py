"""What a restore finds is what was rolled forward: after compaction, with and without tombstones, and when it is cut short."""

import asyncio
import contextlib
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from structlog.testing import capture_logs

from consumers.engine import changelog
from consumers.engine.changelog import Changelogs
from consumers.engine.metrics import Metrics
from consumers.engine.records import ChangelogRecord, TopicPartition
from consumers.engine.worker import Worker
from consumers.settings import Settings
from sandbox.broker import LocalKafka
from tests.kafka.conftest import Broker, create_topics
from tests.kafka.engine import (
    add,
    all_running,
    await_totals,
    configure,
    delete_records,
    progress,
    read,
    running,
    settings,
)
from tests.traffic import write
from tests.unit.consumers.tally import TallyProjection
from tests.waiting import async_eventually
from voipex.records import Record
from voipex.topics import CALL_STATE, topic_name

HOUR_US = 3600 * 1_000_000
DAY_MS = 24 * 3600 * 1000
NUDGED = "9.0"
"""A key that is only there to be written: Kafka compacts no segment before the next one has begun."""

# -------------------------------------------------------------------------------- compaction


@pytest.mark.anyio
async def test_restore_from_a_compacted_changelog_equals_live_state(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path
) -> None:
    """
    kafka.md 12 (11). Three PBXs whose changelogs are compacted: one keeps its tombstones; one has forgotten them, so that an old cache
    would keep what was deleted; one has lost its beginning too. Of each: the cache of the service that was there all along, a new one,
    and one from before the compaction.
    """
    names = Names(f"{pbx}-kept", f"{pbx}-forgotten", f"{pbx}-moved")
    for name in names:
        await create_topics(own_kafka.bootstrap_servers, name, 1)
    live, old, new = (tmp_path / name for name in ("live", "old", "new"))
    with capture_logs() as logs:
        await _compact_and_restore(own_kafka, names, live, old, new)

    for name in names:
        rows, counts = contents(live, name)
        assert len(rows) == sum(counts.values()) == 41
        assert contents(new, name) == (rows, counts)
        assert contents(old, name) == (rows, counts)
    wiped = {
        each["task"]: each["wiped_because"]
        for each in logs
        if each["event"] == "task restored" and each["wiped_because"]
    }
    assert wiped == {
        f"{names.forgotten}/0": "too old",
        f"{names.moved}/0": "the changelog begins after the checkpoint",
    }


class Names(NamedTuple):
    kept: str
    forgotten: str
    moved: str


async def _compact_and_restore(kafka: Broker, names: Names, live: Path, old: Path, new: Path) -> None:
    for name in names:
        await configure(
            kafka,
            topic_name(name, CALL_STATE),
            segment_ms="100",
            min_cleanable_dirty_ratio="0.01",
            delete_retention_ms=str(DAY_MS if name == names.kept else 0),
        )
    ours = settings(kafka, live, *names)
    await _work(ours, [add(name, f"1.{number}", number) for name in names for number in range(40)])
    shutil.copytree(live, old)
    await _work(ours, [each for name in names for each in _changes(name)])
    await _work(ours, [add(name, f"1.{number}", 100) for name in names for number in range(5)])  # anew
    await _compact(ours, names)
    log_starts = [each.offset for each in await read(kafka, topic_name(names.moved, CALL_STATE))]
    await delete_records(kafka, TopicPartition(topic_name(names.moved, CALL_STATE), 0), min(log_starts))

    await _work(settings(kafka, new, *names))
    await _work(settings(kafka, old, names.kept, names.moved))
    await _work(settings(kafka, old, names.forgotten), later_us=13 * HOUR_US)


def _changes(pbx: str) -> list[Record]:
    """Half of the keys are deleted, the others are added to; and some are new."""
    deleted = [add(pbx, f"1.{number}", expires=1) for number in range(20)]
    return [*deleted, *(add(pbx, f"1.{number}", 1000) for number in range(20, 55))]


async def _work(ours: Settings, records: Sequence[Record] = (), later_us: int = 0) -> None:
    """A service comes, folds what there is, and goes."""
    worker = Worker(TallyProjection(), ours, Metrics("test"), lambda: time.time_ns() // 1000 + later_us)
    async with running(worker):
        await all_running(worker, len(ours.pbxs))
        if records:
            await write(ours, records)
        await _folded(worker, ours)


async def _folded(worker: Worker[Any], ours: Settings) -> None:
    async def is_folded() -> bool:
        calls = [
            each for where, each in (await progress(worker, ours)).items() if "call.events" in where.topic
        ]
        return all(each.lag == 0 for each in calls)

    await async_eventually(is_folded)


async def _compact(ours: Settings, names: Names) -> None:
    """Until no state is there that was replaced, and deletions are there as long as they should be."""
    worker = Worker(TallyProjection(), ours, Metrics("test"))
    deleted = {f"1.{number}".encode() for number in range(5, 20)}
    kafka = _At(ours.kafka_bootstrap_servers)
    found: dict[str, list[tuple[bytes, bool]]] = {}

    async def is_compacted() -> bool:
        await write(ours, [add(name, NUDGED) for name in names])
        for name in names:
            records = await read(kafka, topic_name(name, CALL_STATE))
            found[name] = [
                (each.key or b"", each.value is None) for each in records if each.key != NUDGED.encode()
            ]
        return all(
            len(records) == len({key for key, _ in records})
            and {key for key, is_deleted in records if is_deleted}
            == (deleted if name == names.kept else set())
            for name, records in found.items()
        )

    async with running(worker):
        await async_eventually(is_compacted, lambda: found, every_s=0.1)
        await _folded(worker, ours)


class _At(NamedTuple):
    bootstrap_servers: str
    version: str = ""


def contents(folder: Path, pbx: str) -> tuple[list[Any], dict[str, int]]:
    """All rows of a state store, and the number of keys by status."""
    path = folder / "tallies" / pbx / "state-0.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT key, due_us, status, value FROM state ORDER BY key").fetchall()
        [(kept,)] = database.execute("SELECT value FROM checkpoint").fetchall()
    counts: dict[str, int] = orjson.loads(kept)[1]
    return rows, counts


# -------------------------------------------------------------------------------- cut short


class Gate:
    """Holds every reading of a changelog after each piece, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._opened = asyncio.Event()
        self.held = 0
        """How often a reading has had a piece and came here."""
        self._read = Changelogs.read
        monkeypatch.setattr(Changelogs, "read", lambda *arguments: self._slowly(*arguments))  # noqa: PLW0108 - a function becomes a method
        monkeypatch.setattr(changelog, "_FETCH_BYTES", 1)  # a batch is a piece

    async def _slowly(self, *arguments: Any) -> AsyncIterator[tuple[Sequence[ChangelogRecord], int]]:
        pieces: Any = self._read(*arguments)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece
                self.held += 1
                await self._opened.wait()

    def open(self) -> None:
        self._opened.set()


@pytest.mark.anyio
async def test_rebalances_during_a_restore_leave_no_partial_state(
    kafka: Broker, pbx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka.md 12 (6b): while the first one restores, a second one joins, and leaves before it has restored."""
    await create_topics(kafka.bootstrap_servers, pbx, 2)
    ours = settings(kafka, tmp_path / "one", pbx, partitions=2)
    keys = [f"1.{number}" for number in range(2000)]
    written = [add(pbx, key, 1 + number, 2, pad=2000) for number, key in enumerate(keys)]
    worker = Worker(TallyProjection(), ours, Metrics("test"))
    async with running(worker):
        await write(ours, written)
        await await_totals(kafka, pbx, written)

    gate = Gate(monkeypatch)
    first = Worker(TallyProjection(), settings(kafka, tmp_path / "two", pbx, partitions=2), Metrics("test"))
    second = Worker(
        TallyProjection(), settings(kafka, tmp_path / "three", pbx, partitions=2), Metrics("test")
    )

    def restoring(worker: Worker[Any], number: int, held: int) -> bool:
        return worker.snapshot().partitions == {"restoring": number} and gate.held >= held

    async with running(first):
        await async_eventually(lambda: restoring(first, 2, 2))
        more = [add(pbx, key, 1, 2) for key in keys]
        await write(ours, more)
        async with running(second):
            await async_eventually(lambda: restoring(first, 1, 4) and restoring(second, 1, 4))
        await async_eventually(lambda: restoring(first, 2, 6))
        gate.open()
        await await_totals(kafka, pbx, [*written, *more])
        assert first.ready
