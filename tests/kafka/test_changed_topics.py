"""Topics that are missing at the start, deleted or given partitions while a service runs: named as what they are, and recovered from."""

import asyncio
from pathlib import Path
from typing import Any

import aiokafka.admin
import pytest

from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from tests.kafka.conftest import Broker, create_topics, settings_of
from tests.kafka.engine import add, all_running, await_totals, running, settings
from tests.processes import BridgeProcess, ConsumerProcess
from tests.traffic import write
from tests.unit.consumers.tally import TallyProjection
from tests.waiting import async_eventually, eventually
from voipex.errors import KafkaUnreachable, TopicMismatch
from voipex.kafka import watch
from voipex.kafka.admin import admin_client
from voipex.topics import (
    AGENT_ACTIVITY,
    CALL_EVENTS,
    CALL_STATE,
    CALL_TIMELINES,
    DEAD_LETTERS,
    TOPIC_SPECS,
    topic_name,
)

_NewPartitions: Any = aiokafka.admin.NewPartitions


@pytest.fixture(autouse=True)
def _watch_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL_S", 0.5)


async def delete_topic(kafka: Broker, name: str) -> None:
    async with admin_client(settings_of(kafka.bootstrap_servers), 30) as admin:
        await admin.delete_topics([name])


async def grow_topic(kafka: Broker, name: str, partitions: int) -> None:
    async with admin_client(settings_of(kafka.bootstrap_servers), 30) as admin:
        await admin.create_partitions({name: _NewPartitions(partitions)})


def fault_gauge(metrics: Metrics, fault: str) -> float | None:
    labels = {"service": "tallies", "fault": fault}
    return metrics.registry.get_sample_value("voipex_consumer_topic_faults", labels)


@pytest.mark.anyio
async def test_a_service_waits_for_topics_that_are_missing(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """They may be created after its start. Once they are there, it works without a restart."""
    config = settings(kafka, tmp_path, pbx)
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await async_eventually(lambda: worker.describe()["cause"])
        before = worker.describe()
        await create_topics(kafka.bootstrap_servers, pbx, 1)
        await all_running(worker, 1)
        written = [add(pbx, "1.1")]
        await write(config, written)
        await await_totals(kafka, pbx, written)
        after = worker.describe()

    assert "topics are missing" in before["cause"]
    assert topic_name(pbx, CALL_EVENTS) in before["cause"]
    assert (before["joined"], after["cause"]) == (False, None)


@pytest.mark.anyio
async def test_another_number_of_partitions_ends_the_start(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """That is no late dependency but a contradiction: records would go to the wrong partitions (I7)."""
    await create_topics(
        kafka.bootstrap_servers, pbx, 2, [each for each in TOPIC_SPECS if each is not CALL_STATE]
    )
    worker = Worker(TallyProjection(), settings(kafka, tmp_path, pbx), Metrics("test"))

    with pytest.raises(TopicMismatch, match="has 2 partitions, not 1"):
        await worker.run()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [CALL_EVENTS, AGENT_ACTIVITY, CALL_TIMELINES], ids=lambda kind: kind.suffix)
async def test_a_deleted_topic_is_named_until_it_exists_again(
    kafka: Broker, pbx: str, tmp_path: Path, kind: Any
) -> None:
    """`/ready`, the metric and the log name the topic; nothing swings, and other PBXs go on."""
    sound = f"{pbx}-sound"
    for name in (pbx, sound):
        await create_topics(kafka.bootstrap_servers, name, 1)
    config, metrics = settings(kafka, tmp_path, pbx, sound), Metrics("test")
    worker = Worker(TallyProjection(), config, metrics)
    metrics.watch(lambda: [worker.snapshot()])
    topic = topic_name(pbx, kind)
    async with running(worker):
        await all_running(worker, 2)
        await delete_topic(kafka, topic)
        await async_eventually(lambda: worker.describe()["topics"], worker.describe)
        description, is_ready = worker.describe(), worker.ready
        gauge = fault_gauge(metrics, "missing")
        written = [add(sound, "1.1")]
        await write(config, written)
        await await_totals(kafka, sound, written)
        await create_topics(kafka.bootstrap_servers, pbx, 1)
        await all_running(worker, 2)

    assert description["topics"] == [f"topic {topic} does not exist. Create it: voipex-bridge topics apply"]
    assert not is_ready
    assert gauge == 1


@pytest.mark.anyio
async def test_a_topic_that_grew_is_named_and_work_goes_on(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """The partitions that are used are the same. Only a start refuses."""
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    config, metrics = settings(kafka, tmp_path, pbx), Metrics("test")
    worker = Worker(TallyProjection(), config, metrics)
    metrics.watch(lambda: [worker.snapshot()])
    topic = topic_name(pbx, CALL_EVENTS)
    async with running(worker):
        await all_running(worker, 1)
        await grow_topic(kafka, topic, 2)
        await async_eventually(lambda: worker.describe()["topics"], worker.describe)
        description = worker.describe()
        gauge = fault_gauge(metrics, "grown")
        assert worker._session is not None
        worker._session.end(KafkaUnreachable("a new session is assigned the new partition, too"))
        written = [add(pbx, "1.1")]
        await write(config, written)
        await await_totals(kafka, pbx, written)
        await all_running(worker, 1)

    assert f"topic {topic} has 2 partitions, not 1" in description["topics"][0]
    assert gauge == 1
    with pytest.raises(TopicMismatch, match="has 2 partitions, not 1"):
        await Worker(TallyProjection(), config, Metrics("test")).run()


def test_the_bridge_waits_for_topics_and_names_missing_ones(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """Events wait in the spool meanwhile. A consumer that starts at the same time waits as well."""
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx, VOIPEX_TOPIC_PARTITIONS="3")
    timelines = ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx)
    with bridge.start(), timelines.start():
        body = b'{"EventName":"Ringing","UniqueId":"1.1","CallerNumber":"1","LocalNumber":"2"}'
        status, _ = bridge.post(body)
        eventually(lambda: timelines.ready_details().get("timelines", {}).get("cause"))
        details, waiting = bridge.ready_details(), bridge.waiting()
        asyncio.run(create_topics(kafka.bootstrap_servers, pbx, 3))
        bridge.await_drained()
        timelines.await_ready()
        eventually(lambda: not bridge.ready_details()["topics"], bridge.ready_details)
        asyncio.run(delete_topic(kafka, topic_name(pbx, CALL_EVENTS)))
        eventually(lambda: bridge.ready_details()["topics"], bridge.ready_details)
        deleted = bridge.ready_details()["topics"]

    assert (status, waiting) == (200, 1)
    assert any(topic_name(pbx, DEAD_LETTERS) in each for each in details["topics"])
    assert deleted == [
        f"topic {topic_name(pbx, CALL_EVENTS)} does not exist. Create it: voipex-bridge topics apply"
    ]
