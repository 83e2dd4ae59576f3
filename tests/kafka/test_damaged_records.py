"""Bytes that change on a broker's disk: the partition halts and is named, instead of starting again for ever."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from sandbox.broker import LocalKafka
from tests.kafka.conftest import bring_up, create_topics
from tests.kafka.engine import add, all_running, await_totals, running, settings, tallies
from tests.traffic import write
from tests.unit.consumers.tally import TallyProjection
from tests.waiting import async_eventually
from voipex.topics import CALL_EVENTS, CALL_STATE, TopicSpec, topic_name

MARK = b"0123456789" * 4


def damage(kafka: LocalKafka, folder: Path, topic: str) -> None:
    """Turn the first MARK in a partition's log around while the broker is stopped; turn it back the next time."""
    kafka.stop()
    [segment] = folder.rglob(f"{topic}-0/00000000000000000000.log")
    content = segment.read_bytes()
    before, after = (MARK, MARK[::-1]) if MARK in content else (MARK[::-1], MARK)
    assert before in content
    segment.write_bytes(content.replace(before, after, 1))
    bring_up(kafka)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [CALL_EVENTS, CALL_STATE], ids=lambda kind: kind.suffix)
async def test_records_damaged_on_a_brokers_disk_halt_a_partition(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path, kind: TopicSpec, record_property: Any
) -> None:
    sound = f"{pbx}-sound"
    for name in (pbx, sound):
        await create_topics(own_kafka.bootstrap_servers, name, 1)
    config, topic = settings(own_kafka, tmp_path, pbx, sound), topic_name(pbx, kind)
    written = [add(pbx, f"1.{number % 5}", number) for number in range(50)]
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await all_running(worker, 2)
        await write(config, written)
        await await_totals(own_kafka, pbx, written)
    more = [add(pbx, "1.1", 1000, note=MARK.decode(), pad=1)]
    if kind is CALL_STATE:  # a state that holds the mark
        more = [add(pbx, MARK.decode(), 1000)]
        worker = Worker(TallyProjection(), config, Metrics("test"))
        async with running(worker):
            await write(config, more)
            await await_totals(own_kafka, pbx, [*written, *more])
        shutil.rmtree(tmp_path / "tallies" / pbx)  # so that the next restore reads it
    else:
        await write(config, more)
    before = await tallies(own_kafka, pbx)
    log_dir = own_kafka.folder
    await asyncio.to_thread(damage, own_kafka, log_dir, topic)

    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await async_eventually(lambda: worker.describe()["halted"], worker.describe)
        halted = worker.describe()["halted"]
        others = [add(sound, "1.1")]
        await write(config, others)
        await await_totals(own_kafka, sound, others)
    meanwhile = await tallies(own_kafka, pbx)
    await asyncio.to_thread(damage, own_kafka, log_dir, topic)
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await await_totals(own_kafka, pbx, [*written, *more])

    assert list(halted) == [f"{pbx}/0"]
    assert f"records of {topic}-0 do not match their checksum, from offset" in halted[f"{pbx}/0"]
    assert meanwhile == before
    record_property("halted", len(halted))
    record_property(
        "documents changed meanwhile", sum(before.get(key) != each for key, each in meanwhile.items())
    )
