"""`voipex-bridge doctor` against a real broker."""

import asyncio
from pathlib import Path

import pytest

from tests.commands import CommandResult, run_in_process
from tests.kafka.conftest import Broker, apply_topics, read_all, settings_of
from tests.processes import BridgeProcess
from voipex.kafka import permissions
from voipex.kafka.admin import admin_client
from voipex.kafka.permissions import ClusterInfo
from voipex.kafka.topics import _alter, _wait_until_applied, list_topics
from voipex.topics import CALL_EVENTS, TOPIC_SPECS, topics_for


@pytest.fixture
def bridge(kafka: Broker, pbx: str, tmp_path: Path) -> BridgeProcess:
    """A bridge that is not started."""
    return BridgeProcess(
        tmp_path, kafka.bootstrap_servers, pbx, VOIPEX_TOPIC_REPLICATION="1", VOIPEX_TOPIC_MIN_INSYNC="1"
    )


def doctor(bridge: BridgeProcess, **changes: str) -> tuple[CommandResult, dict[str, list[tuple[str, str]]]]:
    """Return the verdicts and messages, by check."""
    done = run_in_process({**bridge.environment, **changes}, "doctor", "--json")
    checks: dict[str, list[tuple[str, str]]] = {}
    for each in done.json["checks"]:
        checks.setdefault(each["check"], []).append((each["verdict"], each["message"]))
    return done, checks


def examine(kafka: Broker, *topics: str) -> ClusterInfo:
    return asyncio.run(permissions.examine(settings_of(kafka.bootstrap_servers), topics))


def test_beside_a_running_bridge_nothing_is_written(bridge: BridgeProcess, kafka: Broker, pbx: str) -> None:
    apply_topics(kafka.bootstrap_servers, pbx)

    with bridge.start():
        done, checks = doctor(bridge)

    assert (done.code, done.err) == (0, "")
    assert checks["kafka"] == [("ok", f"{kafka.bootstrap_servers} answers")]
    assert checks["cluster"][0][0] == "ok"
    assert checks["cluster"][0][1].endswith(f": 1 broker, {kafka.bootstrap_servers}")
    assert [each[0] for each in checks["rights"]] == ["ok"]
    assert [each[0] for each in checks["topics"]] == ["ok"]
    assert checks["ports"][0][0] == "skipped"
    assert [read_all(kafka.bootstrap_servers, topic.name) for topic in topics_for([pbx])] == [[]] * len(
        TOPIC_SPECS
    )


def test_missing_topics_are_named_and_not_created(bridge: BridgeProcess, kafka: Broker, pbx: str) -> None:
    names = [topic.name for topic in topics_for([pbx])]

    done, checks = doctor(bridge)
    existing = asyncio.run(list_topics(settings_of(kafka.bootstrap_servers), names))

    assert done.code == 1
    assert checks["topics"] == [("error", f"missing: {', '.join(names)}")]
    assert checks["rights"][0][0] == "skipped"
    assert existing == ()


def test_other_partitions_are_an_error_other_settings_a_warning(
    bridge: BridgeProcess, kafka: Broker, pbx: str
) -> None:
    apply_topics(kafka.bootstrap_servers, pbx, partitions=3)

    async def shorten() -> None:
        async with admin_client(settings_of(kafka.bootstrap_servers), 10) as admin:
            config = {**CALL_EVENTS.config(), "retention.ms": "1000"}
            await _alter(admin, f"{pbx}.call.events.v1", config)
            await _wait_until_applied(admin, {f"{pbx}.call.events.v1": config})

    asyncio.run(shorten())

    other, other_checks = doctor(bridge)
    drift, drift_checks = doctor(bridge, VOIPEX_TOPIC_PARTITIONS="3", VOIPEX_TOPIC_REPLICATION="3")

    assert other.code == 1
    assert f"{pbx}.agent.status.v1 has 3 partitions, not 12" in other_checks["topics"][0][1]
    assert drift.code == 0
    assert {verdict for verdict, _ in drift_checks["topics"]} == {"warning"}
    assert "1 replicas, VOIPEX_TOPIC_REPLICATION is 3" in drift_checks["topics"][0][1]
    assert f"topic {pbx}.call.events.v1: retention.ms is 1000" in drift_checks["topics"][-1][1]


def test_a_low_max_message_bytes_is_an_error(bridge: BridgeProcess, kafka: Broker, pbx: str) -> None:
    """With this configuration the bridge would not start."""
    apply_topics(kafka.bootstrap_servers, pbx)
    topic, kafka_settings = f"{pbx}.dead-letters.v1", settings_of(kafka.bootstrap_servers)

    async def lower() -> None:
        async with admin_client(kafka_settings, 10) as admin:
            await _alter(admin, topic, {"max.message.bytes": "100000"})
        async with asyncio.timeout(10):
            while (await list_topics(kafka_settings, {topic}))[0].config["max.message.bytes"] != "100000":  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    asyncio.run(lower())

    done, checks = doctor(bridge)

    assert done.code == 1
    [low] = [found for verdict, found in checks["topics"] if verdict == "error"]
    assert f"{topic} has 100000, declared is 1048588" in low


def test_one_unreachable_address_of_two_is_a_warning(bridge: BridgeProcess, kafka: Broker, pbx: str) -> None:
    apply_topics(kafka.bootstrap_servers, pbx)

    done, checks = doctor(bridge, VOIPEX_KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:1,{kafka.bootstrap_servers}")

    assert done.code == 0
    assert [verdict for verdict, _ in checks["kafka"]] == ["warning", "ok"]


def test_rights_are_read_from_the_broker(kafka: Broker, pbx: str) -> None:
    """Without an authorizer every operation is allowed, so each bit must be found."""
    apply_topics(kafka.bootstrap_servers, pbx)

    found = examine(kafka, f"{pbx}.call.events.v1", f"{pbx}.nothing.v1")

    access = {each.name: each for each in found.topics}
    assert access[f"{pbx}.call.events.v1"].operations == frozenset({
        "Read", "Write", "Create", "Delete", "Alter", "Describe", "DescribeConfigs", "AlterConfigs"
    })  # fmt: skip
    assert access[f"{pbx}.call.events.v1"].fewest_in_sync == 1
    assert access[f"{pbx}.nothing.v1"].error == "UnknownTopicOrPartitionError"
