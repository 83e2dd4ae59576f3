"""From an authenticated POST to a record on a real broker, read back with the Java console consumer."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import run_in_process
from tests.kafka.conftest import Broker, Seen, apply_topics, console_consumer, console_producer, read_all
from tests.processes import BridgeProcess, free_port
from tests.waiting import WITHIN_S, eventually
from voipex.partitioner import partition_for_key

WEBHOOKS = Path(__file__).parent.parent / "webhooks"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

DOCUMENTED = [  # the payloads of VOIPEX's documentation, unchanged
    b'{"EventName":"AgentLogin","Queue":"NOC","Login":"janecek","Line":"163","Email":"nejaky@email.cz"}',
    '{"EventName":"AgentPaused","Queue":"NOC","Login":"janecek","Line":"163","Email":"nejaky@email.cz","PauseName":"Oběd"}'.encode(),
    b'{"EventName":"Ringing","From":"777888999","To":"222333444","Line":"444","Email":"petr.novak@jehofirma.cz","Login":"petr.novak","UniqueId":"1412256225.1941"}',
    b'{"EventName":"Hangup","From":"777888999","To":"222333444","Line":"","Email":"","Login":"","UniqueId":"1412256225.1941","Reason":"No user response"}',
    b'{"EventName":"Ringing","From":"20","To":"777888999","Line":"20","Email":"","Login":"","UniqueId":"1412256225.1941","Direction":"outgoing"}',
    b'{"EventName":"Hangup","From":"29","To":"777888999","Line":"20","Email":"","Login":"cervenka","UniqueId":"1412256225.1941","Direction":"outgoing","Reason":"Normal Clearing"}',
    b"{EventName: Ringing, From: 777888999, To: 222333444, Line: 444, UniqueId: 1412256225.1941}",
]


@pytest.fixture
def bridge(kafka: Broker, pbx: str, tmp_path: Path) -> Iterator[BridgeProcess]:
    apply_topics(kafka.bootstrap_servers, pbx)
    with BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx).start() as running:
        yield running


def test_java_consumer_reads_the_documented_payloads(bridge: BridgeProcess, kafka: Broker, pbx: str) -> None:
    answers = [bridge.post(body, {"traceparent": TRACE}) for body in DOCUMENTED]

    calls = console_consumer(kafka.bootstrap_servers, f"{pbx}.call.events.v1", records=5)
    agents = console_consumer(kafka.bootstrap_servers, f"{pbx}.agent.events.v1", records=2)

    assert answers == [(200, b"")] * 7
    assert [seen.key for seen in calls] == ["1412256225.1941"] * 5
    assert [seen.key for seen in agents] == ["janecek"] * 2
    assert {seen.partition for seen in calls} == {partition_for_key(b"1412256225.1941", 12)}
    events = [json.loads(seen.value or "") for seen in calls]
    fields = ("type", "from", "to", "line", "login", "direction", "reason_class")
    assert [tuple(event[name] for name in fields) for event in events] == [
        ("ringing", "777888999", "222333444", "444", "petr.novak", None, None),
        ("hangup", "777888999", "222333444", None, None, None, "no_answer"),
        ("ringing", "20", "777888999", "20", None, "outgoing", None),
        ("hangup", "29", "777888999", "20", "cervenka", "outgoing", "normal"),
        ("ringing", "777888999", "222333444", "444", None, None, None),
    ]
    assert events[0]["pbx_started_at"] == "2014-10-02T13:23:45.000000Z"
    assert (events[0]["from_e164"], events[2]["from_e164"]) == ("+420777888999", None)
    assert json.loads(agents[1].value or "")["pause_name"] == "Oběd"
    assert [event["event_id"] for event in events] == sorted(event["event_id"] for event in events)
    spool_id = bridge.ready_details()["spool"]["id"]
    for number, (seen, event) in enumerate(zip(calls, events, strict=True)):
        assert_headers(seen, event, pbx, spool_id, seq=number + 2)


def assert_headers(seen: Seen, event: dict[str, str], pbx: str, spool_id: str, seq: int) -> None:
    """Check that the headers are exactly the documented ones."""
    assert seen.headers == {
        "ce_specversion": "1.0",
        "ce_id": event["event_id"],
        "ce_source": f"/voipex/{pbx}",
        "ce_type": f"voipex.call.{event['type']}.v1",
        "ce_time": event["received_at"],
        "ce_subject": event["unique_id"],
        "ce_partitionkey": event["unique_id"],
        "content-type": "application/json",
        "traceparent": TRACE,
        "bridge-spool-id": spool_id,
        "bridge-seq": str(seq),
    }


def test_a_java_producer_chooses_the_same_partition_for_a_key(
    bridge: BridgeProcess, kafka: Broker, pbx: str
) -> None:
    keys = [f"1412256225.{n}" for n in range(40)]
    for key in keys:
        bridge.post(json.dumps({"EventName": "Ringing", "UniqueId": key}).encode())
    topic = f"{pbx}.call.events.v1"

    console_producer(kafka.bootstrap_servers, topic, [(key, "by java") for key in keys])

    seen = console_consumer(kafka.bootstrap_servers, topic, records=80)
    by_bridge = {each.key: each.partition for each in seen if each.value != "by java"}
    by_java = {each.key: each.partition for each in seen if each.value == "by java"}
    assert len(by_bridge) == 40
    assert by_bridge == by_java


def test_a_numeric_unique_id_keeps_its_text(bridge: BridgeProcess, kafka: Broker, pbx: str) -> None:
    bridge.post(b'{"EventName":"Ringing","UniqueId":1412256225.1940,"Line":163}')

    seen = console_consumer(kafka.bootstrap_servers, f"{pbx}.call.events.v1", records=1)[0]

    assert seen.key == "1412256225.1940"
    assert json.loads(seen.value or "")["line"] == "163"


@pytest.mark.parametrize(
    "body", [b"no json", b'{"EventName":"Ringing"}', b'{"EventName":"AgentLogin","Queue":"NOC"}']
)
def test_an_invalid_webhook_becomes_a_dead_letter_byte_for_byte(
    bridge: BridgeProcess, kafka: Broker, pbx: str, body: bytes, record_property: Any
) -> None:
    status, _ = bridge.post(body)

    seen = console_consumer(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1", records=1)[0]

    assert status == (400 if body == b"no json" else 422)
    assert (seen.key, seen.value) == (None, body.decode())
    assert seen.headers["bridge-error-class"] == ("InvalidJson" if status == 400 else "InvalidEvent")
    assert (seen.headers["bridge-stage"], seen.headers["bridge-pbx"]) == ("ingress", pbx)
    assert {"bridge-error-message", "bridge-received-at", "bridge-event-id", "bridge-credential"} <= set(
        seen.headers
    )
    record_property("bodies that are no event", 1)
    record_property("kept byte for byte", int(seen.value == body.decode()))
    assert not [name for name in seen.headers if name.startswith("__dlq")]


def test_missing_topics_are_named_and_waited_for(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx)

    with bridge.start():
        eventually(lambda: f"topics are missing: {pbx}.call.events.v1" in bridge.log(), bridge.log)
        accepted, _ = bridge.post(DOCUMENTED[0])
        apply_topics(kafka.bootstrap_servers, pbx)
        bridge.await_drained()

    assert accepted == 200
    assert "topics apply" in bridge.log()
    assert len(read_all(kafka.bootstrap_servers, f"{pbx}.agent.events.v1")) == 1


def test_another_number_of_partitions_refuses_the_start(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    apply_topics(kafka.bootstrap_servers, pbx, partitions=3)
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx)

    with bridge.start(ready=False):
        code = bridge.ended()

    assert code == 1
    assert "3" in bridge.log()
    assert "12" in bridge.log()


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=WITHIN_S) as answer:
        return json.load(answer)


def test_up_runs_all_services_and_leaves_no_process_behind(tmp_path: Path, kafka: Broker) -> None:
    """The command of `make run`, on ports of its own and with jars that are already downloaded."""
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "kafka-jars").symlink_to(Path("build/kafka-jars").absolute())
    ports = [*(free_port() for _ in range(5)), free_port(2)]
    command = [sys.executable, "-m", "sandbox", "up", "--folder", str(folder), "--rate", "5"]
    options = (
        "--port",
        "--management-port",
        "--timelines-port",
        "--agents-port",
        "--board-port",
        "--kafka-port",
    )
    for option, port in zip(options, ports, strict=True):
        command += [option, str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
    )
    try:
        described = await_run_file(process, folder / "run.json")
        accepted = eventually(lambda: published(described["management_url"]))
        timelines = eventually(lambda: count(described["bootstrap_servers"], "voipex.call.timelines.v1"))
        statuses = eventually(lambda: count(described["bootstrap_servers"], "voipex.agent.status.v1"))
        shown = eventually(lambda: fetched(described["board_url"] + "api/agents")["agents"])
        refused = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=WITHIN_S
        )
        assert process.stdout is not None
        out = ""
        too_late = threading.Timer(WITHIN_S, process.kill)
        too_late.start()
        while "Events flow" not in out:
            out += (line := process.stdout.readline())
            assert line, out
        too_late.cancel()
        process.terminate()
        out += process.communicate(timeout=WITHIN_S)[0]
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 0
    assert accepted > 0
    assert timelines > 0
    assert statuses > 0
    assert {"agent", "state", "since", "days"} <= shown[0].keys()
    assert described["board_url"] in out
    assert f"curl -u 'demo:{described['password']}' {described['ingress_url']}" in out
    assert "1412256225.1941" in out
    assert refused.returncode == 1
    assert f"port {ports[0]} is in use" in refused.stderr
    assert "PORT=" in refused.stderr
    assert not (folder / "run.json").exists()
    assert set(described["pids"]) == {"broker", "bridge", "timelines", "agents", "board"}
    assert not [pid for pid in described["pids"].values() if Path(f"/proc/{pid}").exists()]


def test_a_service_that_dies_is_named_and_ends_everything(tmp_path: Path, kafka: Broker, pbx: str) -> None:
    """On an existing broker that already has the topics."""
    apply_topics(kafka.bootstrap_servers, pbx)
    command = [sys.executable, "-m", "sandbox", "up", "--folder", str(tmp_path / "build"), "--no-sim"]
    for option in ("--port", "--management-port", "--timelines-port", "--agents-port", "--board-port"):
        command += [option, str(free_port())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")}
    environment |= {"VOIPEX_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "VOIPEX_PBXS": pbx}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
    )
    try:
        described = await_run_file(process, tmp_path / "build" / "run.json")
        os.kill(described["pids"]["timelines"], signal.SIGKILL)
        out, _ = process.communicate(timeout=WITHIN_S)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 1
    assert "timelines exited with code -9" in out
    assert "task restored" in out  # its last lines
    assert not [pid for pid in described["pids"].values() if Path(f"/proc/{pid}").exists()]


def await_run_file(process: "subprocess.Popen[str]", path: Path) -> dict[str, Any]:
    def is_there() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return path.exists()

    eventually(is_there)
    assert path.stat().st_mode & 0o777 == 0o600
    described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return described


def count(bootstrap_servers: str, topic: str) -> int:
    return len(read_all(bootstrap_servers, topic))


def published(management_url: object) -> float:
    """Records that the bridge has delivered to Kafka."""
    with urllib.request.urlopen(f"{management_url}/metrics", timeout=5) as response:
        for line in response.read().decode().splitlines():
            if line.startswith("voipex_bridge_publish_total") and 'outcome="delivered"' in line:
                return float(line.rpartition(" ")[2])
    return 0


def test_a_survey_reads_the_topics(bridge: BridgeProcess, kafka: Broker, pbx: str) -> None:
    for body in [*DOCUMENTED, DOCUMENTED[2], b'{"EventName":"NewCall"}']:
        bridge.post(body)
    console_consumer(kafka.bootstrap_servers, f"{pbx}.call.events.v1", records=6)
    eventually(lambda: read_all(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1"))

    done = run_in_process(bridge.environment, "survey", "--json")

    assert done.code == 0, done.err
    survey = done.json
    assert survey["events"]["Ringing"]["count"] == 4
    assert survey["agents"]["agents"] == 1
    assert survey["dead_letters"] == {"InvalidEvent": 1}
    assert {each["code"] for each in survey["findings"]} >= {"repeated_event", "no_new_call", "dead_letter"}
    assert survey["sender"]["answers"] == {"200": 8, "422": 1}
    assert "777888999" not in done.out
    assert "novak" not in done.out
