"""A bridge whose clock is wrong, as a process, against a real broker: no event is lost, and the operator sees it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clock import WrongClock
from tests.commands import voipex_bridge
from tests.factories import body
from tests.kafka.conftest import Broker, apply_topics, read_all
from tests.kafka.test_topics_kafka import set_config, state
from tests.processes import BridgeProcess
from tests.waiting import eventually
from voipex.topics import AGENT_EVENTS, CALL_EVENTS, DEAD_LETTERS

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
CALL_IDS = [f"1412256225.{n}" for n in range(20)]
KINDS = (CALL_EVENTS, AGENT_EVENTS, DEAD_LETTERS)


def received_ids(broker: Broker, pbx: str) -> list[str]:
    records = read_all(broker.bootstrap_servers, f"{pbx}.call.events.v1")
    return sorted(json.loads(record.value or b"{}")["unique_id"] for record in records)


def post_all(bridge: BridgeProcess) -> list[int]:
    """Post a body that is no event, and the events of all calls; return the statuses."""
    return [bridge.post(b"no json")[0]] + [bridge.post(body(UniqueId=call_id))[0] for call_id in CALL_IDS]


def limit_timestamps(broker: Broker, pbx: str) -> None:
    """Let the topics refuse times of more than an hour ahead, as Kafka does by default."""
    for kind in (CALL_EVENTS, DEAD_LETTERS):
        limits = {"message.timestamp.after.max.ms": "3600000"}
        set_config(broker, f"{pbx}.{kind.suffix}", {**kind.config(), **limits})


@pytest.mark.parametrize("ahead_s", [2 * HOUR_S, 400 * DAY_S, -2 * DAY_S])
def test_a_wrong_clock_keeps_no_event_from_kafka(
    kafka: Broker, pbx: str, tmp_path: Path, ahead_s: float, record_property: Any
) -> None:
    """A hardware clock in local time is enough to be two hours ahead."""
    apply_topics(kafka.bootstrap_servers, pbx)
    clock = WrongClock(tmp_path / "clock", ahead_s)

    with BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx, **clock.environment).start() as bridge:
        statuses = post_all(bridge)
        bridge.await_drained()
        refused = bridge.ready_details()["kafka"]["refused"]

    assert statuses == [400] + [200] * 20
    assert received_ids(kafka, pbx) == sorted(CALL_IDS)
    assert len(read_all(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1")) == 1
    assert refused == []
    record_property("events answered with 2xx", statuses.count(200))
    record_property("missing", len(set(CALL_IDS) - set(received_ids(kafka, pbx))))


def test_a_refused_time_waits_and_survives_a_restart(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """On topics that were created by an older version, until `topics apply`."""
    apply_topics(kafka.bootstrap_servers, pbx)
    limit_timestamps(kafka, pbx)
    clock = WrongClock(tmp_path / "clock", 2 * HOUR_S)
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx, **clock.environment)

    with bridge.start():
        assert post_all(bridge) == [400] + [200] * 20
        refusals = eventually(lambda: bridge.ready_details()["kafka"]["refused"], bridge.log)
        doctor = voipex_bridge(bridge.environment, "doctor", "--json")
        checked = voipex_bridge(bridge.environment, "topics", "check")
        eventually(lambda: read_all(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1"), bridge.log)
        bridge.kill()
        clock.set_ahead(0.0)
        bridge.start()
        eventually(lambda: bridge.ready_details()["kafka"]["refused"], bridge.log)
        waiting_after_restart = bridge.waiting()
        voipex_bridge(bridge.environment, "topics", "apply", "--replication", "1", "--min-insync", "1")
        bridge.await_drained()
        refused_afterwards = bridge.ready_details()["kafka"]["refused"]
        log = bridge.log()

    [refusal] = refusals
    assert (refusal["topic"], refusal["reason"]) == (f"{pbx}.call.events.v1", "timestamp")
    [check] = [each for each in doctor.json["checks"] if each["check"] == "bridge"]
    assert check["verdict"] == "error"
    assert f"{pbx}.call.events.v1" in check["message"]
    assert "message.timestamp.after.max.ms is 3600000, declared is 9223372036854775807" in checked.out
    assert waiting_after_restart >= 20
    assert refused_afterwards == []
    assert received_ids(kafka, pbx) == sorted(CALL_IDS)
    assert '"event":"timestamp refused"' in log
    assert '"event":"topics differ"' in log
    assert state(kafka, f"{pbx}.call.events.v1").config["message.timestamp.after.max.ms"] == str(2**63 - 1)
    dead_letters = read_all(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1")
    assert {record.timestamp_ms for record in dead_letters} == {-1}  # none; `bridge-received-at` has it
    record_property("events refused by Kafka", waiting_after_restart)
    record_property("missing", len(set(CALL_IDS) - set(received_ids(kafka, pbx))))
