"""A bridge whose clock is wrong, as a process, against a real broker: no event is lost, and the operator sees it."""

import asyncio
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.clock import WrongClock
from tests.commands import voipex_bridge
from tests.factories import body, receipt
from tests.kafka.conftest import Broker, apply_topics, read_all
from tests.kafka.test_topics_kafka import set_config, state
from tests.processes import BridgeProcess, ConsumerProcess
from tests.traffic import write
from tests.waiting import eventually
from voipex.kafka.settings import KafkaSettings
from voipex.normalize import normalize
from voipex.records import Record, encode
from voipex.topics import (
    AGENT_EVENTS,
    AGENT_STATE,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_STATE,
    CALL_TIMELINES,
    DEAD_LETTERS,
    TopicSpec,
    topic_name,
)
from voipex.webhook import parse

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


# -------------------------------------------------------------------------------- what consumers make of it


def latest(broker: Broker, pbx: str, kind: TopicSpec, key: str) -> Any:
    """The last document of a key; None: there is none yet."""
    values = [
        each.value
        for each in read_all(broker.bootstrap_servers, topic_name(pbx, kind))
        if each.key == key.encode()
    ]
    return json.loads(values[-1] or b"null") if values else None


def metric(service: ConsumerProcess, name: str) -> float:
    """The sum of a counter over its labels."""
    url = f"http://127.0.0.1:{service.management_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


def foreign(pbx: str, kind: TopicSpec, key: str, timestamp_ms: int, **body: str) -> Record:
    """A record that claims to have been received in the year 2999."""
    at = "2999-01-01T00:00:00.000000Z"
    event = json.loads(encode(normalize(parse(json.dumps(body).encode()), pbx, receipt()), 0, 1).value)
    value = json.dumps({**event, "event_id": f"foreign-{timestamp_ms}", "received_at": at}).encode()
    return Record(topic_name(pbx, kind), 0, key.encode(), value, (), timestamp_ms)


def test_no_time_beyond_now_counts_as_login(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """
    A bridge whose clock goes an hour ahead while an agent is logged in, and records of the year 2999.

    Documents show what happens live, other keys and the partition go on, and log and metric report it.
    """
    servers = kafka.bootstrap_servers
    apply_topics(servers, pbx, 1)
    clock = WrongClock(tmp_path / "clock")
    bridge = BridgeProcess(tmp_path, servers, pbx, VOIPEX_TOPIC_PARTITIONS="1", **clock.environment)
    timelines, agents = (ConsumerProcess(tmp_path, each, servers, pbx, 1) for each in ("timelines", "agents"))

    def status(login: str = "janecek") -> Any:
        return latest(kafka, pbx, AGENT_STATUS, login)

    def log() -> str:
        return timelines.log() + agents.log()

    with bridge.start(), timelines.start(), agents.start():
        bridge.post(body(EventName="AgentLogin", UniqueId=None, Login="janecek", Line="163", Queue="NOC"))
        eventually(status, log)
        year_2999_ms = 32_472_144_000_000
        login = {"Login": "janecek", "Line": "163", "Queue": "NOC"}
        records = [
            foreign(pbx, kind, key, timestamp_ms, **named)
            for timestamp_ms in (-1, time.time_ns() // 1_000_000, year_2999_ms)
            for kind, key, named in (
                (CALL_EVENTS, CALL_IDS[0], {"EventName": "Hangup", "UniqueId": CALL_IDS[0]}),
                (AGENT_EVENTS, "janecek", {"EventName": "AgentLogout", **login}),
            )
        ]
        asyncio.run(write(KafkaSettings(kafka_bootstrap_servers=servers), records))
        clock.set_ahead(HOUR_S)
        bridge.post(body(EventName="AgentPaused", UniqueId=None, PauseName="Oběd", **login))
        bridge.post(body(UniqueId=CALL_IDS[0], Line="444", Login="petr.novak"))
        bridge.post(body(UniqueId=CALL_IDS[0], Line="444", Login="petr.novak", EventName="Answered"))
        bridge.post(body(EventName="AgentLogin", UniqueId=None, Login="other", Line="9", Queue="NOC"))
        eventually(lambda: (status() or {}).get("state") == "paused", log)
        eventually(lambda: (status("petr.novak") or {}).get("state") == "on_call", log)
        eventually(lambda: status("other"), log)
        future = {
            each: metric(service, "voipex_consumer_future_records_total")
            for each, service in {"timelines": timelines, "agents": agents}.items()
        }
        logged = log()

    paused, talking = status(), status("petr.novak")
    call = latest(kafka, pbx, CALL_TIMELINES, CALL_IDS[0])
    days = paused["days"].values()  # two of them in the hour before midnight in Prague
    assert sum(each["login_s"] for each in days) < 600
    assert sum(each["pauses"] for each in days) == 1
    assert sum(each["paused_s"] for each in days) == 0
    assert sum(each["talk_s"] for each in talking["days"].values()) == 0
    assert (call["status"], call["anomalies"]) == ("talking", ["no_new_call", "clock_skew"])
    assert future["timelines"] >= 5
    assert future["agents"] >= 5
    assert '"event":"record of the future"' in logged
    assert read_all(servers, topic_name(pbx, DEAD_LETTERS)) == []
    latest_ms = time.time_ns() // 1_000_000 + 300_000
    for kind in (CALL_TIMELINES, AGENT_STATUS, CALL_STATE, AGENT_STATE):
        written = read_all(servers, topic_name(pbx, kind))
        assert written, kind
        assert max(each.timestamp_ms for each in written) <= latest_ms
