"""
`docker compose up --wait`: the file is valid, and the system loses no accepted event of two PBXs while each of its containers is killed.
"""

import asyncio
import base64
import contextlib
import http.client
import json
import re
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from bridge.ops.reader import read
from tests.artefacts import tools
from tests.artefacts.tools import ROOT, fails, passes, run
from tests.processes import free_port
from tests.waiting import WITHIN_S, eventually
from voipex.kafka.settings import KafkaSettings

pytestmark = pytest.mark.artefacts

FILE = ROOT / "docker-compose.yml"
OVERRIDE = ROOT / "deploy/compose/own-credentials.yml"
PBXS = ("voipex", "brno")
SERVICES = ("kafka", "bridge", "timelines", "agents", "board")
ONE_SHOTS = ("credentials", "topics")
UP = ("up", "--detach", "--no-build", "--wait", "--wait-timeout", "240")

# -------------------------------------------------------------------- the file


def test_the_file_is_valid_by_the_compose_specification() -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE, OVERRIDE)


def test_the_specification_finds_a_planted_fault(tmp_path: Path) -> None:
    planted = tmp_path / "docker-compose.yml"
    planted.write_text(FILE.read_text().replace("    stop_grace_period: 1m", "    stop_grace: 1m", 1))
    assert "stop_grace" in fails("check-jsonschema", "--builtin-schema", "vendor.compose-spec", planted)


def test_compose_reads_the_file_with_and_without_override() -> None:
    passes("docker", "compose", "--profile", "*", "config", "--quiet")
    both = ("compose", "-f", FILE, "-f", OVERRIDE, "config", "--quiet")
    passes("docker", *both, CREDENTIALS_FILE="/etc/hosts")
    assert "CREDENTIALS_FILE" in fails("docker", *both, CREDENTIALS_FILE="")


def test_compose_finds_a_planted_fault(tmp_path: Path) -> None:
    planted = tmp_path / "docker-compose.yml"
    planted.write_text(FILE.read_text().replace("      topics: {", "      topcis: {", 1))
    assert "topcis" in fails("docker", "compose", "-f", planted, "config", "--quiet")


def test_compose_services_are_confined_and_bind_loopback_only() -> None:
    services = configured()["services"]
    assert set(services) == {*SERVICES, *ONE_SHOTS, "sim", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) <= 1 << 30, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert {port["host_ip"] for port in service.get("ports", [])} <= {"127.0.0.1"}, name
        assert re.search(r":v?\d+\.\d+\.\d+$|^voipex-bridge:local$", service["image"]), name
    assert services["bridge"]["stop_grace_period"] == "30s"
    assert int(services["bridge"]["environment"]["VOIPEX_DRAIN_S"]) <= 20


def test_mounted_directories_of_the_repository_exist() -> None:
    mounted = [
        volume["source"]
        for service in configured()["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert len(mounted) == 4
    assert [folder for folder in mounted if not any(Path(folder).rglob("*.*"))] == []


def configured() -> Any:
    """The file as compose reads it without any variables."""
    return json.loads(passes("docker", "compose", "--profile", "*", "config", "--format", "json"))


# -------------------------------------------------------------------- the stack


class Stack:
    """A compose project of its own on free ports."""

    def __init__(self) -> None:
        tools.image()
        self.project = f"voipex-check-{uuid.uuid4().hex[:8]}"
        self.port, self.kafka_port, self.board_port = free_port(), free_port(), free_port()
        self.environment = {
            "COMPOSE_PROJECT_NAME": self.project,
            "IMAGE": tools.IMAGE,
            "VOIPEX_PBXS": ",".join(PBXS),
            "PORT": str(self.port),
            "KAFKA_PORT": str(self.kafka_port),
            "BOARD_PORT": str(self.board_port),
            **{f"{name}_PORT": str(free_port()) for name in ("MANAGEMENT", "TIMELINES", "AGENTS")},
        }
        self.passwords: dict[str, str] = {}

    def compose(self, *arguments: str | Path, **environment: str) -> str:
        done = run(
            "docker", "compose", *arguments, timeout_s=300, variables={**self.environment, **environment}
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        return run("docker", "compose", "logs", "--tail", "15", variables=self.environment).stdout

    def up(self) -> None:
        self.compose(*UP)
        self.passwords = {
            pbx: self.compose("exec", "-T", "bridge", "cat", f"credentials/{pbx}.password").strip()
            for pbx in PBXS
        }

    def down(self) -> None:
        run(
            *("docker", "compose", "--profile", "*", "down", "--volumes", "--remove-orphans"),
            timeout_s=180,
            variables=self.environment,
        )

    def state(self, service: str) -> Any:
        container = self.compose("ps", "--all", "--quiet", service).strip()
        return json.loads(passes("docker", "inspect", container))[0]

    def post(self, pbx: str, event: dict[str, str], as_user: str | None = None) -> int:
        user = as_user or pbx
        token = base64.b64encode(f"{user}:{self.passwords[pbx]}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/voipex", json.dumps(event), {"Authorization": f"Basic {token}"})
            return connection.getresponse().status
        finally:
            connection.close()

    def ask_board(self, path: str, user: str | None = "team") -> tuple[int, Any]:
        """Status and JSON of an answer of the board's API."""
        headers = {}
        if user is not None:
            password = self.compose("exec", "-T", "board", "cat", "credentials/board.password").strip()
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.board_port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def keys(self, topic: str) -> set[str]:
        """Keys of the committed records of a topic, read through the published port."""
        return asyncio.run(_keys(f"127.0.0.1:{self.kafka_port}", topic))

    def await_keys(self, topic: str, wanted: set[str], within_s: float = WITHIN_S) -> None:
        def missing() -> set[str]:
            return wanted - self.keys(topic)

        eventually(
            lambda: not missing(),
            lambda: f"{topic} lacks {sorted(missing())[:5]}\n{self.logs()}",
            within_s,
            every_s=0.5,
        )


async def _keys(bootstrap_servers: str, topic: str) -> set[str]:
    settings = KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)
    return {record.key.decode() async for record in read(settings, topic) if record.key is not None}


class RecordingPbxs:
    """Two PBXs that post new calls and agents all the time and record every 2xx. Nothing is sent twice."""

    def __init__(self, stack: Stack, first: int) -> None:
        self._stack, self._first = stack, first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.calls: set[tuple[str, str]] = set()
        self.agents: set[tuple[str, str]] = set()
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)

    def await_more_calls(self, number: int) -> None:
        """Wait until *number* further calls are accepted."""
        wanted = len(self.calls) + number
        eventually(lambda: len(self.calls) >= wanted, self._stack.logs)

    def _run(self) -> None:
        number = self._first
        while not self._stop.wait(0.05):
            number += 1
            for pbx in PBXS:
                call, agent = f"1412256225.{number}", f"agent-{number}"
                self._send(pbx, {"EventName": "Ringing", "Line": "444", "UniqueId": call}, self.calls, call)
                login = {"EventName": "AgentLogin", "Queue": "NOC", "Login": agent, "Line": "163"}
                self._send(pbx, login, self.agents, agent)

    def _send(self, pbx: str, event: dict[str, str], noted: set[tuple[str, str]], key: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if self._stack.post(pbx, event) == 200:
                noted.add((pbx, key))
                return
        self.refused += 1


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack()
    try:
        begun = time.monotonic()
        stack.up()
        tools.written("compose", {"up_s": round(time.monotonic() - begun, 1), "memory": memory(stack)})
        yield stack
    finally:
        stack.down()


def memory(stack: Stack) -> dict[str, str]:
    containers = {service: stack.compose("ps", "--quiet", service).strip() for service in SERVICES}
    return {
        service: passes("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container).strip()
        for service, container in containers.items()
    }


def test_services_start_in_order(stack: Stack) -> None:
    states = {name: stack.state(name)["State"] for name in (*SERVICES, *ONE_SHOTS)}
    assert {states[name]["Health"]["Status"] for name in SERVICES} == {"healthy"}
    assert {(states[name]["Status"], states[name]["ExitCode"]) for name in ONE_SHOTS} == {("exited", 0)}
    for name in ("bridge", "timelines", "agents"):
        assert states["kafka"]["StartedAt"] < states["topics"]["StartedAt"]
        assert states["topics"]["FinishedAt"] < states[name]["StartedAt"]
    assert states["credentials"]["FinishedAt"] < states["bridge"]["StartedAt"]
    assert stack.compose("exec", "-T", "bridge", "voipex-bridge", "doctor").endswith(
        "no errors, no warnings\n"
    )


def test_a_pbx_has_its_own_credential_and_topics(stack: Stack) -> None:
    assert stack.passwords["voipex"] != stack.passwords["brno"]
    event = {"EventName": "Ringing", "Line": "444", "UniqueId": "1412256225.1"}
    assert stack.post("voipex", event, as_user="brno") == 401
    assert stack.post("brno", event) == 200
    stack.await_keys("brno.call.timelines.v1", {"1412256225.1"})
    assert "1412256225.1" not in stack.keys("voipex.call.events.v1")
    with pytest.raises(AssertionError, match=r"lacks \['never-sent'\]"):
        stack.await_keys("brno.call.timelines.v1", {"never-sent"}, within_s=1)


def test_the_board_shows_a_call_to_its_user(stack: Stack) -> None:
    event = {"EventName": "Ringing", "From": "777888999", "Line": "444", "UniqueId": "1412256225.2"}
    assert stack.post("voipex", event) == 200
    eventually(
        lambda: stack.ask_board("/api/calls/1412256225.2")[1].get("call_id") == "1412256225.2", stack.logs
    )
    assert stack.ask_board("/api/calls", user=None)[0] == 401
    assert stack.state("board")["State"]["Health"]["Status"] == "healthy"


@pytest.mark.parametrize("killed", SERVICES)
def test_kill_loses_no_acknowledged_event(stack: Stack, killed: str) -> None:
    with RecordingPbxs(stack, first=1000 * (1 + SERVICES.index(killed))) as pbxs:
        pbxs.await_more_calls(10)
        stack.compose("kill", killed)
        if killed == "bridge":
            eventually(lambda: pbxs.refused)
        else:
            pbxs.await_more_calls(10)
        stack.compose(*UP)
        pbxs.await_more_calls(10)
    assert (pbxs.refused > 0) == (killed == "bridge"), "what waits for Kafka is accepted meanwhile"
    for pbx in PBXS:
        calls = {key for whose, key in pbxs.calls if whose == pbx}
        agents = {key for whose, key in pbxs.agents if whose == pbx}
        stack.await_keys(f"{pbx}.call.events.v1", calls)
        stack.await_keys(f"{pbx}.call.timelines.v1", calls)
        stack.await_keys(f"{pbx}.agent.status.v1", agents)


def test_the_console_consumer_in_the_broker_reads_both_timelines(stack: Stack) -> None:
    for pbx in PBXS:
        printed = stack.compose(
            *("exec", "-T", "kafka", "/opt/kafka/bin/kafka-console-consumer.sh"),
            *("--bootstrap-server", "kafka:19092", "--topic", f"{pbx}.call.timelines.v1"),
            *("--isolation-level", "read_committed", "--from-beginning", "--max-messages", "20"),
        )
        assert {json.loads(line)["pbx"] for line in printed.splitlines() if line.startswith("{")} == {pbx}


def test_simulated_calls_are_accepted(stack: Stack) -> None:
    before = stack.keys("voipex.call.timelines.v1")
    output = stack.compose("run", "--rm", "sim", "--rate", "8", "--duration", "3")
    sent = re.search(r"sent (\d+), accepted (\d+), given up 0; answers: \2 x 200", output)
    assert sent is not None, output
    assert sent[1] == sent[2]
    eventually(lambda: len(stack.keys("voipex.call.timelines.v1") - before) >= 10, stack.logs, every_s=0.5)


def test_a_revoked_credential_does_not_come_back(stack: Stack) -> None:
    stack.compose("run", "--rm", "credentials", "voipex-bridge", "credentials", "revoke", "brno")
    stack.compose(
        "run", "--rm", "credentials", "voipex-bridge", "credentials", "create", "site-7", "--pbx", "brno"
    )
    stack.compose(*UP)
    event = {"EventName": "Ringing", "Line": "444", "UniqueId": "1412256225.9"}
    eventually(lambda: stack.post("brno", event) == 401, every_s=0.2)  # a running bridge reads the file again
    assert stack.post("voipex", event) == 200


def test_a_given_credentials_file_is_used_as_a_secret(stack: Stack, tmp_path: Path) -> None:
    own = tmp_path / "credentials.json"
    made = stack.compose(
        *("run", "--rm", "--env", "VOIPEX_CREDENTIALS_FILE=/tmp/own.json", "credentials", "sh", "-c"),
        "voipex-bridge credentials create own --pbx brno --json >&2 && cat /tmp/own.json",
    )
    own.write_text(made)
    own.chmod(0o644)
    files = ("-f", FILE, "-f", OVERRIDE)
    stack.compose(*files, *UP, CREDENTIALS_FILE=str(own))
    event = {"EventName": "Ringing", "Line": "444", "UniqueId": "1412256225.9"}
    assert stack.post("voipex", event) == 401
    with urllib.request.urlopen(
        f"http://127.0.0.1:{stack.environment['MANAGEMENT_PORT']}/ready", timeout=5
    ) as answer:
        assert answer.status == 200
