"""
Services in this process, on a real broker: a test can inspect their tasks, set their clock and stop them anywhere.

Most of these tests fold tallies (`tests/unit/consumers/tally.py`), which add numbers up: a lost or repeated record changes the sum.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiokafka
import aiokafka.admin

from bridge.ops import reader
from bridge.ops.reader import ConsumerRecord
from consumers.engine.lag import PartitionLag, read_lag
from consumers.engine.metrics import Metrics
from consumers.engine.records import TopicPartition
from consumers.engine.worker import Worker
from consumers.settings import Settings
from tests.kafka.conftest import Broker, settings_of
from tests.waiting import async_eventually
from voipex.kafka.admin import admin_client
from voipex.kafka.topics import _alter, _topic_overrides, _wait_until_applied
from voipex.partitioner import partition_for_key
from voipex.records import Record
from voipex.topics import CALL_EVENTS, CALL_TIMELINES, topic_name

_RecordsToDelete: Any = aiokafka.admin.RecordsToDelete  # it ships no types


def settings(kafka: Broker, state_dir: Path, *pbxs: str, partitions: int = 1, **changes: Any) -> Settings:
    given: dict[str, Any] = {
        "kafka_bootstrap_servers": kafka.bootstrap_servers,
        "pbxs": pbxs,
        "topic_partitions": partitions,
        "state_dir": state_dir,
        "commit_interval_ms": 20,
        "transaction_timeout_s": 5.0,
        "session_timeout_s": 10.0,
    }
    return Settings(**given | changes)


@asynccontextmanager
async def running(*workers: Worker[Any]) -> AsyncIterator[None]:
    """Run workers during the block. A worker that fails fails the test."""
    working = [asyncio.create_task(each.run()) for each in workers]
    try:
        yield
        failed = [each for each in working if each.done()]
        assert not failed, failed
    finally:
        for each in workers:
            each.stop()
        await asyncio.gather(*working)


async def all_running(worker: Worker[Any], number: int) -> None:
    await async_eventually(
        lambda: worker.ready and worker.snapshot().partitions == {"running": number}, worker.describe
    )


def transactions(metrics: Metrics, service: str, outcome: str) -> float:
    labels = {"service": service, "outcome": outcome}
    return metrics.registry.get_sample_value("voipex_consumer_transactions_total", labels) or 0.0


# -------------------------------------------------------------------------------- topics


async def read(kafka: Broker, topic: str) -> list[ConsumerRecord]:
    """Return all committed records of a topic."""
    return [each async for each in reader.read(settings_of(kafka.bootstrap_servers), topic)]


async def configure(kafka: Broker, topic: str, **config: str) -> None:
    """
    Change settings of a topic, written with `_` for `.`; the others stay.

    A broker describes a change before its logs have it, and makes one change after the other: once it describes a second one, the first is
    in force.
    """
    wanted = {name.replace("_", "."): value for name, value in config.items()}
    async with admin_client(settings_of(kafka.bootstrap_servers), 30) as admin:
        overrides = {**await _topic_overrides(admin, topic), **wanted}
        delay_ms = int(overrides.get("file.delete.delay.ms", "60000"))
        for second in ({}, {"file.delete.delay.ms": str(delay_ms + 1)}):
            await _alter(admin, topic, {**overrides, **second})
            await _wait_until_applied(admin, {topic: {**overrides, **second}})


async def delete_records(kafka: Broker, partition: TopicPartition, before: int) -> None:
    """Delete the records before an offset; -1: all."""
    where = aiokafka.TopicPartition(*partition)
    async with admin_client(settings_of(kafka.bootstrap_servers), 30) as admin:
        await admin.delete_records({where: _RecordsToDelete(before)})


async def progress(worker: Worker[Any], of: Settings) -> Mapping[TopicPartition, PartitionLag]:
    """Return how far a service has read, as the brokers know it."""
    inputs = set(worker._projection.inputs)
    return await read_lag(of, worker.group, [each for each in of.topics() if each.kind in inputs])


# -------------------------------------------------------------------------------- tallies


def add(pbx: str, key: str, amount: int = 1, partitions: int = 1, **more: Any) -> Record:
    """A record that adds."""
    name, now_ms = key.encode(), time.time_ns() // 1_000_000
    value = json.dumps({"add": amount, **more}).encode()
    return Record(topic_name(pbx, CALL_EVENTS), partition_for_key(name, partitions), name, value, (), now_ms)


async def tallies(kafka: Broker, pbx: str) -> dict[str, int]:
    """Return the last total of each key. Revisions must follow each other: none missing, none repeated."""
    totals: dict[str, int] = {}
    revisions: Counter[str] = Counter()
    for each in await read(kafka, topic_name(pbx, CALL_TIMELINES)):
        key = (each.key or b"").decode()
        revisions[key] += 1
        assert dict(each.headers)["ce_id"] == f"{key}@{revisions[key]}".encode()
        totals[key] = json.loads(each.value or b"")["total"]
    return totals


def expected_totals(records: Iterable[Record]) -> dict[str, int]:
    """The totals to be published for *records*."""
    totals: Counter[str] = Counter()
    for each in records:
        totals[(each.key or b"").decode()] += json.loads(each.value)["add"]
    return dict(totals)


async def await_totals(kafka: Broker, pbx: str, records: Iterable[Record]) -> None:
    """Wait until the published totals are those of *records*."""
    expected, found = expected_totals(records), dict[str, int]()

    async def is_published() -> bool:
        found.clear()
        found.update(await tallies(kafka, pbx))
        return found == expected

    await async_eventually(
        is_published,
        lambda: {key: (found.get(key), total) for key, total in expected.items() if found.get(key) != total},
    )
