"""Timelines and statuses as others read them: Apache's Java console consumer, and the CloudEvents SDK on a plain client."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiokafka
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from tests.kafka.conftest import Broker, Seen, apply_topics, console_consumer, read_all
from tests.processes import BridgeProcess, ConsumerProcess
from tests.waiting import WITHIN_S
from voipex.agent_status import AgentStatus
from voipex.call_timeline import CallTimeline

_Consumer: Any = aiokafka.AIOKafkaConsumer  # it ships no types
CALL, AGENT = "1412256225.1941", "petr.novak"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARTIES = {"From": "777888999", "To": "222333444", "Line": "444", "Login": "petr.novak", "UniqueId": CALL}


class Running(NamedTuple):
    bootstrap_servers: str
    pbx: str


@pytest.fixture
def published(kafka: Broker, pbx: str, tmp_path: Path) -> Iterator[Running]:
    """Both services, running, after the events of an ended call."""
    apply_topics(kafka.bootstrap_servers, pbx, partitions=3)
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx, VOIPEX_TOPIC_PARTITIONS="3")
    consumers = ConsumerProcess(tmp_path, "all", kafka.bootstrap_servers, pbx)
    with bridge.start(), consumers.start():
        for name, more in (("Ringing", {}), ("Answered", {}), ("Hangup", {"Reason": "Normal Clearing"})):
            body = json.dumps({"EventName": name, **PARTIES, **more}).encode()
            assert bridge.post(body, {"traceparent": TRACE})[0] == 200
        yield Running(kafka.bootstrap_servers, pbx)
        consumers.stop()


async def _first_matching(bootstrap_servers: str, topic: str, member: str, value: str) -> Any:
    """The first committed record whose document has *value* in *member*."""
    client: Any = _Consumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await client.start()
    try:
        async with asyncio.timeout(WITHIN_S):
            while True:
                record = await client.getone()
                if json.loads(record.value)[member] == value:
                    return record
    finally:
        await client.stop()


def record_where(published: Running, suffix: str, member: str, value: str) -> Any:
    return asyncio.run(
        _first_matching(published.bootstrap_servers, f"{published.pbx}.{suffix}", member, value)
    )


def shown_by_java(published: Running, suffix: str) -> list[Seen]:
    """Read a topic with the console consumer, once nothing more is written to it."""
    topic = f"{published.pbx}.{suffix}"
    return console_consumer(
        published.bootstrap_servers, topic, records=len(read_all(published.bootstrap_servers, topic))
    )


def assert_headers(headers: dict[str, str], key: str, revision: int, ce_type: str, pbx: str) -> None:
    """Check that the headers are exactly the documented ones."""
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_id"] == f"{key}@{revision}"
    assert headers["ce_source"] == f"/voipex/{pbx}"
    assert headers["ce_type"] == ce_type
    assert (headers["ce_subject"], headers["ce_partitionkey"]) == (key, key)
    assert headers["content-type"] == "application/json"
    assert headers["bridge-fold-version"].isdigit()
    assert headers["bridge-source-offset"].isdigit()


def test_a_timeline_is_read_by_javas_console_consumer(published: Running) -> None:
    record_where(published, "call.timelines.v1", "status", "ended")

    seen = shown_by_java(published, "call.timelines.v1")

    newest = seen[-1]
    timeline = CallTimeline.model_validate_json(newest.value or "")
    assert {each.key for each in seen} == {CALL}
    assert (timeline.status, timeline.outcome, timeline.final_line) == ("ended", "answered", "444")
    assert_headers(newest.headers, CALL, timeline.revision, "voipex.call.timeline.v1", published.pbx)
    assert newest.headers["ce_time"] == json.loads(newest.value or "")["updated_at"]
    assert newest.headers["bridge-source-topic"] == f"{published.pbx}.call.events.v1"
    assert newest.headers["bridge-source-offset"] == "2"
    assert newest.headers["traceparent"] == TRACE


def test_a_status_is_read_by_javas_console_consumer(published: Running) -> None:
    """The agents service has committed the status that follows from the call."""
    record_where(published, "call.timelines.v1", "status", "ended")
    record_where(published, "agent.status.v1", "activity", "idle")

    seen = shown_by_java(published, "agent.status.v1")

    newest = seen[-1]
    status = AgentStatus.model_validate_json(newest.value or "")
    (day,) = status.days.values()
    assert {each.key for each in seen} == {AGENT}
    assert (status.presence, status.activity, day.answered_in) == ("implicit", "idle", 1)
    assert_headers(newest.headers, AGENT, status.revision, "voipex.agent.status.v1", published.pbx)
    assert newest.headers["bridge-source-topic"] == f"{published.pbx}.agent.activity.v1"


@pytest.mark.parametrize(
    ("suffix", "member", "value", "key", "ce_type"),
    [
        ("call.timelines.v1", "status", "ended", CALL, "voipex.call.timeline.v1"),
        ("agent.status.v1", "activity", "idle", AGENT, "voipex.agent.status.v1"),
        ("agent.activity.v1", "result", "completed", AGENT, "voipex.agent.activity.v1"),
    ],
    ids=["timeline", "status", "activity"],
)
def test_a_document_is_a_cloud_event_to_the_cloudevents_sdk(
    published: Running, suffix: str, member: str, value: str, key: str, ce_type: str
) -> None:
    record = record_where(published, suffix, member, value)

    read = from_binary(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat())

    document = json.loads(record.value)
    assert read.get_specversion() == "1.0"
    assert read.get_type() == ce_type
    assert read.get_source() == f"/voipex/{published.pbx}"
    assert read.get_subject() == key
    assert read.get_extension("partitionkey") == key
    assert read.get_id().endswith(f"@{document['revision']}")
    assert read.get_datacontenttype() == "application/json"
    assert read.get_time() is not None
    assert read.get_data() == document
