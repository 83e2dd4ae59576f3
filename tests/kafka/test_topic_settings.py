"""Retention and number of partitions as settings, on a real broker."""

import subprocess
from pathlib import Path

from tests.commands import run_in_process
from tests.factories import body
from tests.kafka.conftest import Broker, kafka_tools, read_all
from tests.processes import BridgeProcess, ConsumerProcess
from tests.waiting import WITHIN_S, eventually
from voipex.topics import TOPIC_SPECS

ONE_REPLICA = {"VOIPEX_TOPIC_REPLICATION": "1", "VOIPEX_TOPIC_MIN_INSYNC": "1"}


def test_a_changed_retention_is_applied_once(kafka: Broker, pbx: str) -> None:
    first = {
        "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "VOIPEX_PBXS": f"{pbx}:1",
        **ONE_REPLICA,
    }
    longer = {**first, "VOIPEX_CALL_EVENTS_RETENTION_S": "30d", "VOIPEX_CALL_TIMELINES_RETENTION_S": "60d"}

    created = run_in_process(first, "topics", "apply", "--json").json
    changed = run_in_process(longer, "topics", "apply", "--json").json
    unchanged = run_in_process(longer, "topics", "apply", "--json").json
    listed = run_in_process(longer, "topics", "list", "--json").json
    warned = run_in_process(first, "topics", "check").out

    assert set(created.values()) == {"created"}
    assert {name for name, outcome in changed.items() if outcome == "changed"} == {
        f"{pbx}.call.events.v1",
        f"{pbx}.call.timelines.v1",
        f"{pbx}.call.state.v1",
    }
    assert set(unchanged.values()) == {"unchanged"}
    assert listed[0]["config"]["retention.ms"] == "2592000000"
    assert f"{pbx}.call.events.v1: retention.ms is 2592000000, declared is 604800000" in warned


def test_services_work_with_other_partitions_for_one_pbx(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    one = f"{pbx}-one"
    declared = {"VOIPEX_PBXS": f"{pbx}:3,{one}:1"}
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, one, **declared, **ONE_REPLICA)
    applied = run_in_process(bridge.environment, "topics", "apply")
    services = [
        ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, "", 3, **declared)
        for name in ("timelines", "agents")
    ]

    with bridge.start(), services[0].start(), services[1].start():
        for service in services:
            service.await_ready()
        tasks = [service.ready_details()[service.service]["partitions"] for service in services]
        answers = [bridge.post(body(UniqueId=f"1412256225.{n}"))[0] for n in range(20)]
        eventually(lambda: len(read_all(kafka.bootstrap_servers, f"{one}.call.timelines.v1")) >= 20)
        eventually(lambda: read_all(kafka.bootstrap_servers, f"{one}.agent.status.v1"))
        producers = transactional_ids(kafka)
        dead = bridge.post(b"no json")[0]
        eventually(lambda: read_all(kafka.bootstrap_servers, f"{one}.dead-letters.v1"))
        replayed = run_in_process(bridge.environment, "dead-letters", "list", "--pbx", one)

    assert applied.code == 0, applied.err
    assert [each["running"] for each in tasks] == [4, 4]
    assert (set(answers), dead) == ({200}, 400)
    assert {each for each in producers if f".{one}." in each} == {
        f"voipex-timelines.{one}.timelines.0",
        f"voipex-agents.{one}.agents.0",
    }
    assert len([each for each in producers if f".{pbx}." in each]) == 6
    assert "InvalidJson" in replayed.out
    assert {
        record.partition
        for kind in TOPIC_SPECS
        for record in read_all(kafka.bootstrap_servers, f"{one}.{kind.suffix}")
    } == {0}


def transactional_ids(kafka: Broker) -> list[str]:
    """The ids of all transactional producers that the broker knows."""
    done = subprocess.run(
        kafka_tools().command_line(
            "org.apache.kafka.tools.TransactionsCommand",
            "--bootstrap-server",
            kafka.bootstrap_servers,
            "list",
        ),
        capture_output=True,
        text=True,
        check=True,
        timeout=WITHIN_S,
    )
    return [line.split()[0] for line in done.stdout.splitlines()[1:] if line.strip()]
