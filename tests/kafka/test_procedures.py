"""The operator's procedures of docs/procedures.md, carried out with real processes, disks and brokers."""

import asyncio
import shutil
import subprocess
import time
from base64 import b64encode
from pathlib import Path

import pytest

from bridge.auth import manage
from bridge.spool.segments import HEADER_BYTES, segment_header
from sandbox.broker import LocalKafka
from tests.commands import voipex_bridge
from tests.document_oracle import await_published, read
from tests.kafka.conftest import (
    JARS,
    TEST_PROPERTIES,
    Broker,
    apply_topics,
    bring_up,
    kafka_tools,
    read_all,
    settings_of,
)
from tests.kafka.test_conservation import PERFECT, compare
from tests.kafka.test_lost_offsets import await_halted
from tests.processes import BridgeProcess, ConsumerProcess, free_port
from tests.recording_pbx import RecordingPbx
from tests.traffic import Traffic, write
from tests.waiting import WITHIN_S, eventually
from voipex.kafka.admin import admin_client
from voipex.records import Record
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_LINES,
    AGENT_STATE,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_STATE,
    CALL_TIMELINES,
    TopicSpec,
    topic_name,
)


def test_a_spool_is_rescued_by_another_bridge(own_kafka: LocalKafka, pbx: str, tmp_path: Path) -> None:
    """The volume of a lost host: in another bridge's spool directory its spool is drained, then deleted."""
    apply_topics(own_kafka.bootstrap_servers, pbx)
    gone, other = tmp_path / "gone", tmp_path / "other"
    gone.mkdir()
    other.mkdir()
    bridge = BridgeProcess(gone, own_kafka.bootstrap_servers, pbx).start()
    own_kafka.stop()
    with bridge, RecordingPbx(bridge) as phones:
        phones.await_more(300)
        bridge.kill()
    bring_up(own_kafka)

    with BridgeProcess(other, own_kafka.bootstrap_servers, pbx).start() as rescuer:
        rescuer.stop()
        (rescued,) = (path for path in (gone / "spool").iterdir() if path.is_dir())
        shutil.move(rescued, other / "spool" / rescued.name)
        rescuer.start()
        rescuer.await_drained()
        rescuer.stop()

    outcome = compare(phones.obligations, read_all(own_kafka.bootstrap_servers, f"{pbx}.call.events.v1"))
    assert outcome["promised"] > 200
    assert {name: outcome[name] for name in PERFECT} == PERFECT
    assert len([path for path in (other / "spool").iterdir() if path.is_dir()]) == 1


def test_sigterm_with_10000_spooled_events_and_a_dead_broker(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path
) -> None:
    """preStop with traffic, then SIGTERM: the bridge stops after VOIPEX_DRAIN_S without a loss, and the next start goes on."""
    apply_topics(own_kafka.bootstrap_servers, pbx)
    with BridgeProcess(tmp_path, own_kafka.bootstrap_servers, pbx, VOIPEX_DRAIN_S="3").start() as bridge:
        own_kafka.kill()
        with RecordingPbx(bridge) as phones:
            eventually(lambda: bridge.waiting() >= 10_000, bridge.ready_details, within_s=5 * WITHIN_S)
            phones.await_more(500)  # as during preStop
            bridge.stop()
            gave_up = "drain incomplete" in bridge.log()
        bring_up(own_kafka)
        bridge.start()
        bridge.await_drained()
        bridge.stop()

    outcome = compare(phones.obligations, read_all(own_kafka.bootstrap_servers, f"{pbx}.call.events.v1"))
    assert gave_up
    assert outcome["promised"] > 10_000
    assert {name: outcome[name] for name in PERFECT} == PERFECT


def test_an_older_bridge_names_a_spool_of_a_newer_format(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """After a downgrade the bridge refuses the directory by name and changes nothing in it."""
    apply_topics(kafka.bootstrap_servers, pbx)
    with BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx).start() as bridge:
        assert bridge.post(b'{"EventName":"NewCall","UniqueId":"1.1"}')[0] == 200
        bridge.kill()
        (segment,) = (tmp_path / "spool").glob("*/*.log")
        content = segment.read_bytes()
        newer = segment_header(segment.parent.name, version=2) + content[HEADER_BYTES:]
        segment.write_bytes(newer)

        bridge.start(ready=False)
        code = bridge.ended()

    assert code != 0
    assert "has spool format 2, this bridge reads 1" in bridge.log()
    assert segment.read_bytes() == newer


def test_a_pbx_is_added(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """Add it to VOIPEX_PBXS, create topics and credential, restart each service; the other PBX is not affected."""
    new, both = f"{pbx}-b", f"{pbx},{pbx}-b"
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    three = {"VOIPEX_TOPIC_PARTITIONS": "3"}
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx, **three)
    timelines = ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx)
    with bridge.start(), timelines.start():
        timelines.await_ready()
        assert bridge.post(b'{"EventName":"NewCall","UniqueId":"1772438400.1"}')[0] == 200
        bridge.terminate()
        timelines.terminate()
        assert bridge.ended() == 0
        assert timelines.ended() == 0

        bridge.environment["VOIPEX_PBXS"] = timelines.environment["VOIPEX_PBXS"] = both
        applied = voipex_bridge(
            {
                **{name: value for name, value in bridge.environment.items() if name.startswith("VOIPEX_")},
                "VOIPEX_TOPIC_REPLICATION": "1",
                "VOIPEX_TOPIC_MIN_INSYNC": "1",
            },
            "topics",
            "apply",
        )
        assert applied.code == 0, applied.err
        secret = manage.create(
            tmp_path / "credentials.json", "brno", new, pbxs=(pbx, new), now_us=time.time_ns() // 1000
        ).secret
        bridge.start()
        timelines.start().await_ready()
        assert bridge.post(b'{"EventName":"Hangup","UniqueId":"1772438400.1"}')[0] == 200
        # The same UniqueId as in the other PBX, but another call.
        basic = {"Authorization": "Basic " + b64encode(f"brno:{secret}".encode()).decode()}
        assert bridge.post(b'{"EventName":"NewCall","UniqueId":"1772438400.1"}', basic)[0] == 200
        bridge.await_drained()
        await_published(kafka.bootstrap_servers, pbx)
        await_published(kafka.bootstrap_servers, new)

    assert len(read(kafka.bootstrap_servers, new, CALL_TIMELINES)[CALL_TIMELINES]) == 1


def test_a_second_cluster_can_take_over(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """
    The event topics are copied, partition by partition, nothing else. The services fold them anew there: their caches and the old
    cluster's offsets count for nothing.
    """
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=31)
    services = [
        ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx) for name in ("timelines", "agents")
    ]
    successor = LocalKafka(
        tmp_path / "successor",
        JARS,
        port=free_port(),
        controller_port=free_port(),
        properties=TEST_PROPERTIES,
    )
    successor.prepare()
    successor.start()
    try:
        with services[0].start(), services[1].start():
            traffic.publish(300)
            await_published(kafka.bootstrap_servers, pbx)
            for service in services:
                service.terminate()
            assert [service.ended() for service in services] == [0, 0]

            successor.wait_ready(WITHIN_S)
            apply_topics(successor.bootstrap_servers, pbx, 3)
            _copy(kafka.bootstrap_servers, successor.bootstrap_servers, pbx)
            traffic.settings = settings_of(successor.bootstrap_servers)
            traffic.publish(300)
            for service in services:
                service.environment["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"] = successor.bootstrap_servers
                service.start().await_ready()
            await_published(successor.bootstrap_servers, pbx)
            assert "another cluster" in services[0].log()
    finally:
        successor.stop()


def _copy(source: str, target: str, pbx: str) -> None:
    """Copy records as MirrorMaker does: key, value, headers, timestamp and partition unchanged."""
    found = read(source, pbx, CALL_EVENTS, AGENT_EVENTS)
    records = [
        Record(
            each.topic,
            each.partition,
            each.key,
            each.value or b"",
            tuple((name, value or b"") for name, value in each.headers),
            each.timestamp_ms,
        )
        for kind in (CALL_EVENTS, AGENT_EVENTS)
        for each in found[kind]
    ]
    asyncio.run(write(settings_of(target), records))


@pytest.mark.parametrize(
    ("service", "documents", "state", "inputs"),
    [
        ("timelines", CALL_TIMELINES, CALL_STATE, (CALL_EVENTS,)),
        ("agents", AGENT_STATUS, AGENT_STATE, (AGENT_EVENTS, AGENT_ACTIVITY, AGENT_LINES)),
    ],
)
def test_a_deleted_topic_of_documents_is_filled_again(
    kafka: Broker,
    pbx: str,
    tmp_path: Path,
    service: str,
    documents: TopicSpec,
    state: TopicSpec,
    inputs: tuple[TopicSpec, ...],
) -> None:
    """Delete the changelog and the group's offsets too: states are folded again from the retained records."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=32)
    services = {
        name: ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx)
        for name in ("timelines", "agents")
    }
    with services["timelines"].start(), services["agents"].start():
        traffic.publish(300)
        await_published(kafka.bootstrap_servers, pbx)
        _delete_topic(kafka.bootstrap_servers, topic_name(pbx, documents))

        services[service].terminate()
        assert services[service].ended() == 0
        _delete_topic(kafka.bootstrap_servers, topic_name(pbx, state))
        topics = [word for kind in inputs for word in ("--topic", topic_name(pbx, kind))]
        _tool(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            *("--bootstrap-server", kafka.bootstrap_servers, "--delete-offsets"),
            *("--group", f"voipex-{service}", *topics),
        )
        apply_topics(kafka.bootstrap_servers, pbx, 3)
        services[service].start()
        traffic.publish(100)
        await_published(kafka.bootstrap_servers, pbx)


def test_a_deleted_event_topic_halts_its_consumers(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """A recreated topic begins at offset 0 without the folded records: the partition halts, and no offset is reset."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=33)
    timelines, agents = (
        ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx) for name in ("timelines", "agents")
    )
    with timelines.start(), agents.start():
        traffic.publish(300)
        await_published(kafka.bootstrap_servers, pbx)
        timelines.stop()
        _delete_topic(kafka.bootstrap_servers, topic_name(pbx, CALL_EVENTS))
        apply_topics(kafka.bootstrap_servers, pbx, 3)
        before = read(kafka.bootstrap_servers, pbx, CALL_TIMELINES)[CALL_TIMELINES]

        timelines.start()
        await_halted(timelines, 3)
        status, details = timelines.ready()

    assert status == 503
    assert details.decode().count("but its changelog has states") == 3
    after = read(kafka.bootstrap_servers, pbx, CALL_TIMELINES)[CALL_TIMELINES]
    assert sorted(after) == sorted(before)


def _delete_topic(bootstrap_servers: str, name: str) -> None:
    async def delete() -> None:
        async with admin_client(settings_of(bootstrap_servers), 30) as admin:
            await admin.delete_topics([name])

    asyncio.run(delete())


def _tool(name: str, *arguments: str) -> str:
    done = subprocess.run(
        kafka_tools().command_line(name, *arguments),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
