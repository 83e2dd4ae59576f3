"""Bytes that change in the state stores of a stopped service: its documents are right, and log and metric name what was wiped."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from tests.kafka.conftest import Broker, create_topics
from tests.kafka.engine import add, all_running, await_totals, running, settings
from tests.traffic import write
from tests.unit.consumers.tally import TallyProjection

pytestmark = pytest.mark.anyio

PARTITIONS = 12
FLIPPED_BYTES = 40


async def test_flipped_bytes_reach_no_document(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    await create_topics(kafka.bootstrap_servers, pbx, PARTITIONS)
    config = settings(kafka, tmp_path, pbx, partitions=PARTITIONS)
    keys = [f"1.{number}" for number in range(400)]
    written = [add(pbx, key, 1 + number, PARTITIONS, pad=500) for number, key in enumerate(keys)]
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await all_running(worker, PARTITIONS)
        await write(config, written)
        await await_totals(kafka, pbx, written)
    stores = sorted((tmp_path / "tallies" / pbx).glob("state-*.db"))
    for number, path in enumerate(stores):
        flip_bytes(path, Random(number))

    metrics = Metrics("test")
    worker = Worker(TallyProjection(), config, metrics)
    with capture_logs() as logs:
        async with running(worker):
            await all_running(worker, PARTITIONS)
            more = [add(pbx, key, 1000, PARTITIONS) for key in keys]
            await write(config, more)
            await await_totals(kafka, pbx, [*written, *more])

    reasons = [
        each["wiped_because"]
        for each in logs
        if each["event"] == "task restored" and each["wiped_because"] is not None
    ]
    counted = {
        reason: metrics.registry.get_sample_value(
            "voipex_consumer_store_wipes_total", {"service": "tallies", "reason": reason}
        )
        for reason in reasons
    }
    assert len(stores) == PARTITIONS
    assert reasons
    assert set(reasons) <= {"damaged", "another layout"}
    assert counted == {reason: reasons.count(reason) for reason in reasons}
    record_property("stores", len(stores))
    record_property("bytes flipped", len(stores) * FLIPPED_BYTES)
    record_property("stores wiped", len(reasons))
    record_property("documents compared", len(keys))


def flip_bytes(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    for place in random.sample(range(len(content)), FLIPPED_BYTES):
        content[place] ^= random.randrange(1, 256)
    path.write_bytes(content)
