"""A restore ends with the state that the live store has: after compaction, with and without tombstones, and after interruptions."""

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
WRITTEN_KEY = "9.0"
"""A key written only to start new segments: Kafka never compacts the active one."""

# -------------------------------------------------------------------------------- compaction


@pytest.mark.anyio
async def test_restore_from_a_compacted_changelog_equals_live_state(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path
) -> None:
    """
    Three PBXs with compacted changelogs: one retains its tombstones; one has lost them, so that an old cache would retain deleted keys;
    one has lost its first records too. Compared for each: the store of the live service, a new store, and one from before the compaction.
    """
    names = Names(f"{pbx}-retained", f"{pbx}-forgotten", f"{pbx}-moved")
    for name in names:
        await create_topics(own_kafka.bootstrap_servers, name, 1)
    live, old, new = (tmp_path / name for name in ("live", "old", "new"))
    with capture_logs() as logs:
        await compact_and_restore(own_kafka, names, live, old, new)

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
    retained: str
    forgotten: str
    moved: str


async def compact_and_restore(kafka: Broker, names: Names, live: Path, old: Path, new: Path) -> None:
    for name in names:
        await configure(
            kafka,
            topic_name(name, CALL_STATE),
            segment_ms="100",
            min_cleanable_dirty_ratio="0.01",
            delete_retention_ms=str(DAY_MS if name == names.retained else 0),
        )
    config = settings(kafka, live, *names)
    await run_service(config, [add(name, f"1.{number}", number) for name in names for number in range(40)])
    shutil.copytree(live, old)
    await run_service(config, [each for name in names for each in changes(name)])
    await run_service(
        config, [add(name, f"1.{number}", 100) for name in names for number in range(5)]
    )  # create deleted keys again
    await await_compaction(config, names)
    log_starts = [each.offset for each in await read(kafka, topic_name(names.moved, CALL_STATE))]
    await delete_records(kafka, TopicPartition(topic_name(names.moved, CALL_STATE), 0), min(log_starts))

    await run_service(settings(kafka, new, *names))
    await run_service(settings(kafka, old, names.retained, names.moved))
    await run_service(settings(kafka, old, names.forgotten), later_us=13 * HOUR_US)


def changes(pbx: str) -> list[Record]:
    """Delete half of the keys, change the others, create new ones."""
    deleted = [add(pbx, f"1.{number}", expires=1) for number in range(20)]
    return [*deleted, *(add(pbx, f"1.{number}", 1000) for number in range(20, 55))]


async def run_service(config: Settings, records: Sequence[Record] = (), later_us: int = 0) -> None:
    """Run a service until it has folded all its input."""
    worker = Worker(TallyProjection(), config, Metrics("test"), lambda: time.time_ns() // 1000 + later_us)
    async with running(worker):
        await all_running(worker, len(config.pbxs))
        if records:
            await write(config, records)
        await await_folded(worker, config)


async def await_folded(worker: Worker[Any], config: Settings) -> None:
    async def is_folded() -> bool:
        calls = [
            each for where, each in (await progress(worker, config)).items() if "call.events" in where.topic
        ]
        return all(each.lag == 0 for each in calls)

    await async_eventually(is_folded)


async def await_compaction(config: Settings, names: Names) -> None:
    """Wait until the changelog has one record per key, and tombstones exactly where they have to be retained."""
    worker = Worker(TallyProjection(), config, Metrics("test"))
    deleted = {f"1.{number}".encode() for number in range(5, 20)}
    kafka = BrokerAddress(config.kafka_bootstrap_servers)
    found: dict[str, list[tuple[bytes, bool]]] = {}

    async def is_compacted() -> bool:
        await write(config, [add(name, WRITTEN_KEY) for name in names])
        for name in names:
            records = await read(kafka, topic_name(name, CALL_STATE))
            found[name] = [
                (each.key or b"", each.value is None) for each in records if each.key != WRITTEN_KEY.encode()
            ]
        return all(
            len(records) == len({key for key, _ in records})
            and {key for key, is_deleted in records if is_deleted}
            == (deleted if name == names.retained else set())
            for name, records in found.items()
        )

    async with running(worker):
        await async_eventually(is_compacted, lambda: found, every_s=0.1)
        await await_folded(worker, config)


class BrokerAddress(NamedTuple):
    bootstrap_servers: str
    version: str = ""


def contents(folder: Path, pbx: str) -> tuple[list[Any], dict[str, int]]:
    """All rows of a state store, and the number of keys by status."""
    path = folder / "tallies" / pbx / "state-0.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT key, due_us, status, value FROM state ORDER BY key").fetchall()
        [(checkpoint,)] = database.execute("SELECT value FROM checkpoint").fetchall()
    counts: dict[str, int] = orjson.loads(checkpoint)[1]
    return rows, counts


# -------------------------------------------------------------------------------- interrupted restores


class RestoreGate:
    """Blocks every read of a changelog after each batch, until the gate is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._opened = asyncio.Event()
        self.held = 0
        """How many batches were read and are blocked, or were."""
        self._read = Changelogs.read
        monkeypatch.setattr(Changelogs, "read", lambda *arguments: self._read_gated(*arguments))  # noqa: PLW0108 - a function becomes a method
        monkeypatch.setattr(changelog, "_FETCH_BYTES", 1)  # one record batch per fetch

    async def _read_gated(self, *arguments: Any) -> AsyncIterator[tuple[Sequence[ChangelogRecord], int]]:
        batches: Any = self._read(*arguments)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                yield batch
                self.held += 1
                await self._opened.wait()

    def open(self) -> None:
        self._opened.set()


@pytest.mark.anyio
async def test_rebalances_during_a_restore_leave_no_partial_state(
    kafka: Broker, pbx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one instance restores, a second one joins, and leaves before it has restored."""
    await create_topics(kafka.bootstrap_servers, pbx, 2)
    config = settings(kafka, tmp_path / "one", pbx, partitions=2)
    keys = [f"1.{number}" for number in range(2000)]
    written = [add(pbx, key, 1 + number, 2, pad=2000) for number, key in enumerate(keys)]
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await write(config, written)
        await await_totals(kafka, pbx, written)

    gate = RestoreGate(monkeypatch)
    first = Worker(TallyProjection(), settings(kafka, tmp_path / "two", pbx, partitions=2), Metrics("test"))
    second = Worker(
        TallyProjection(), settings(kafka, tmp_path / "three", pbx, partitions=2), Metrics("test")
    )

    def restoring(worker: Worker[Any], number: int, held: int) -> bool:
        return worker.snapshot().partitions == {"restoring": number} and gate.held >= held

    async with running(first):
        await async_eventually(lambda: restoring(first, 2, 2))
        more = [add(pbx, key, 1, 2) for key in keys]
        await write(config, more)
        async with running(second):
            await async_eventually(lambda: restoring(first, 1, 4) and restoring(second, 1, 4))
        await async_eventually(lambda: restoring(first, 2, 6))
        gate.open()
        await await_totals(kafka, pbx, [*written, *more])
        assert first.ready
