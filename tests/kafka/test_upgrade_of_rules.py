"""After an upgrade of the rules the stored states are folded again and published again, without a manual step."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bridge.ops.reader import ConsumerRecord
from consumers.agents import memory
from consumers.agents import projection as agents
from consumers.calls import projection as calls
from consumers.calls.document import document
from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from consumers.settings import Settings
from tests.document_oracle import await_published, differences
from tests.kafka.conftest import Broker, apply_topics, create_topics
from tests.kafka.engine import all_running, delete_records, progress, read, running, settings
from tests.processes import ConsumerProcess
from tests.traffic import Traffic
from tests.waiting import async_eventually
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_LINES,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_TIMELINES,
    topic_name,
)

PARTITIONS = 2
NEW_RULES = "by-the-new-rules"


@pytest.mark.anyio
@pytest.mark.parametrize("cache", ["present", "lost"])
async def test_an_upgrade_refolds_each_call_and_publishes_it_once(
    kafka: Broker, pbx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, record_property: Any
) -> None:
    """
    The next version writes another `conversation_id`, and agents a new field. Meanwhile every event has been deleted from the topics:
    only the private state is left. The documents of agents are derived from their registers again.
    """
    await create_topics(kafka.bootstrap_servers, pbx, PARTITIONS)
    config = settings(kafka, tmp_path / "state", pbx, partitions=PARTITIONS)
    deleted = await _fold_and_delete(kafka, pbx, config)
    before = await read(kafka, topic_name(pbx, CALL_TIMELINES))
    agents_before = await read(kafka, topic_name(pbx, AGENT_STATUS))
    upgrade(monkeypatch)
    if cache == "lost":
        config = settings(kafka, tmp_path / "another", pbx, partitions=PARTITIONS)
    await _fold_until_equal(kafka, pbx, config, deleted)

    after = await read(kafka, topic_name(pbx, CALL_TIMELINES))
    assert deleted[CALL_EVENTS]
    assert not await read(kafka, topic_name(pbx, CALL_EVENTS))
    assert latest(after, "conversation_id") == dict.fromkeys(latest(before, "conversation_id"), NEW_RULES)
    assert publications(after) == {key: number + 1 for key, number in publications(before).items()}
    assert versions(after) == {
        **versions(before),
        calls.CallProjection.fold_version: len(publications(before)),
    }
    agents_after = await read(kafka, topic_name(pbx, AGENT_STATUS))
    assert latest(agents_after, "rules") == dict.fromkeys(latest(agents_before, "state"), memory.FOLD_VERSION)
    record_property("calls", len(publications(before)))
    record_property("published again", len(publications(after)))


def test_a_rolling_upgrade_ends_with_all_documents_republished(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """One instance after the other: partitions go to the new ones, back to the old ones, and to the new ones for good."""
    apply_topics(kafka.bootstrap_servers, pbx, PARTITIONS)
    traffic = Traffic(kafka.bootstrap_servers, pbx, PARTITIONS, seed=5)
    old, new, last = (
        [
            ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx, PARTITIONS)
            for name in ("timelines", "agents")
        ]
        for _ in range(3)
    )
    with contextlib.ExitStack() as ends:
        for each in old:
            ends.enter_context(each.start_old_version())
            each.await_ready()
        _publish_and_compare(kafka, pbx, traffic)
        for each in new:
            ends.enter_context(each.start())
            each.await_ready()
        _publish_and_compare(kafka, pbx, traffic)
        stop(new)
        _publish_and_compare(kafka, pbx, traffic)
        for each in last:
            ends.enter_context(each.start())
            each.await_ready()
        stop(old)
        _publish_and_compare(kafka, pbx, traffic)

    found = asyncio.run(read(kafka, topic_name(pbx, CALL_TIMELINES)))
    newest = {each.key: dict(each.headers)["bridge-fold-version"] for each in found}
    assert set(newest.values()) == {b"%d" % calls.CallProjection.fold_version}
    assert set(versions(found)) == {calls.CallProjection.fold_version - 1, calls.CallProjection.fold_version}
    record_property("calls", len(newest))
    record_property(
        "calls by the old rules",
        sum(int(each or b"0") < calls.CallProjection.fold_version for each in newest.values()),
    )


def _publish_and_compare(kafka: Broker, pbx: str, traffic: Traffic) -> None:
    traffic.publish(150)
    await_published(kafka.bootstrap_servers, pbx)


def stop(services: Iterable[ConsumerProcess]) -> None:
    for each in services:
        each.terminate()
    for each in services:
        assert each.ended() == 0, each.log()


async def _fold_and_delete(kafka: Broker, pbx: str, config: Settings) -> dict[Any, list[ConsumerRecord]]:
    """Fold some traffic, stop, and delete the folded records from their topics. Returns those records."""
    traffic = Traffic(kafka.bootstrap_servers, pbx, PARTITIONS, seed=4)
    workers = services(config)
    async with running(*workers):
        await asyncio.to_thread(traffic.publish, 300)
        await until_equal(kafka, pbx)
    deleted = {
        kind: await read(kafka, topic_name(pbx, kind))
        for kind in (CALL_EVENTS, AGENT_EVENTS, AGENT_ACTIVITY, AGENT_LINES)
    }
    for worker in workers:
        for partition, each in (await progress(worker, config)).items():
            if (
                partition.topic not in (topic_name(pbx, AGENT_ACTIVITY), topic_name(pbx, AGENT_LINES))
                and each.committed
            ):
                await delete_records(kafka, partition, each.committed)
    return deleted


async def _fold_until_equal(
    kafka: Broker, pbx: str, config: Settings, deleted: dict[Any, list[ConsumerRecord]]
) -> None:
    workers = services(config)
    async with running(*workers):
        for worker in workers:
            await all_running(worker, PARTITIONS)
        await until_equal(kafka, pbx, deleted)


async def until_equal(
    kafka: Broker, pbx: str, deleted: dict[Any, list[ConsumerRecord]] | None = None
) -> None:
    found: list[str] = []

    async def is_equal() -> bool:
        found[:] = await asyncio.to_thread(differences, kafka.bootstrap_servers, pbx, deleted)
        return not found

    await async_eventually(is_equal, lambda: found[:10])


def services(config: Settings) -> list[Worker[Any]]:
    return [
        Worker(calls.CallProjection(), config, Metrics("test")),
        Worker(agents.AgentProjection(), config, Metrics("test")),
    ]


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch both folds to their next version."""
    content = agents._content

    def new_document(*arguments: Any, **named: Any) -> Any:
        return {**document(*arguments, **named), "conversation_id": NEW_RULES}

    def new_content(*arguments: Any, **named: Any) -> bytes:
        return content(*arguments, **named) + b',"rules":%d' % memory.FOLD_VERSION

    monkeypatch.setattr(calls, "document", new_document)
    monkeypatch.setattr(agents, "_content", new_content)
    for module, projection in ((calls, calls.CallProjection), (memory, agents.AgentProjection)):
        monkeypatch.setattr(projection, "fold_version", projection.fold_version + 1)
        monkeypatch.setattr(module, "FOLD_VERSION", projection.fold_version)


def publications(documents: Iterable[ConsumerRecord]) -> Counter[bytes]:
    return Counter(each.key or b"" for each in documents)


def versions(documents: Iterable[ConsumerRecord]) -> Counter[int]:
    return Counter(int(dict(each.headers)["bridge-fold-version"] or 0) for each in documents)


def latest(documents: Iterable[ConsumerRecord], field: str) -> dict[bytes, Any]:
    return {each.key or b"": json.loads(each.value or b"{}").get(field) for each in documents}
