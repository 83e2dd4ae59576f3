"""Settings that contradict each other: exit 2 with a sentence, no traceback, and nothing on disk."""

import subprocess
import sys
from pathlib import Path

from tests.commands import CommandResult, voipex_bridge
from tests.processes import BridgeProcess, environment_with, free_port
from tests.waiting import WITHIN_S


def sandbox(*arguments: str, **variables: str) -> CommandResult:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments],
        env=environment_with(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


def test_a_bridge_with_one_port_twice_does_not_start(tmp_path: Path) -> None:
    port = str(free_port())
    bridge = BridgeProcess(
        tmp_path, f"127.0.0.1:{free_port()}", VOIPEX_PORT=port, VOIPEX_MANAGEMENT_PORT=port
    )

    with bridge.start(ready=False):
        code = bridge.ended()

    assert code == 2
    assert bridge.log() == (
        f"voipex-bridge: VOIPEX_PORT and VOIPEX_MANAGEMENT_PORT are both {port}: set one of them to another port\n"
    )
    assert not (tmp_path / "spool").exists()


def test_up_with_one_port_twice_makes_no_folder(tmp_path: Path) -> None:
    port = free_port(2)

    done = sandbox(
        "up", "--folder", str(tmp_path / "build"), "--kafka-port", str(port), "--port", str(port + 1)
    )

    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert f"--port and --kafka-port + 1 (Kafka's controller) are both {port + 1}" in done.err


def test_up_names_each_fault_of_its_services_once(tmp_path: Path) -> None:
    done = sandbox(
        "up",
        "--folder",
        str(tmp_path / "build"),
        VOIPEX_PBXS="Praha",
        VOIPEX_IDLE_TIMEOUT_S="soon",
        VOIPEX_TALKING_LIMIT_S="31d",
    )

    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    invalid_pbx, invalid_timeout, contradiction = done.err.splitlines()
    assert invalid_pbx.startswith("voipex-sandbox: VOIPEX_PBXS='Praha': ")
    assert invalid_timeout.startswith("voipex-sandbox: VOIPEX_IDLE_TIMEOUT_S='soon': ")
    assert contradiction.startswith(
        "voipex-sandbox: VOIPEX_TALKING_LIMIT_S is 31d and VOIPEX_CALL_TIMELINES_"
    )


def test_topics_apply_refuses_more_in_sync_than_replicas() -> None:
    done = voipex_bridge({}, "topics", "apply", "--replication", "1")

    assert done.code == 2
    assert "VOIPEX_TOPIC_MIN_INSYNC=2 is more than VOIPEX_TOPIC_REPLICATION=1" in done.err
