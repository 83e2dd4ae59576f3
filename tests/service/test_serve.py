"""`voipex-bridge serve` as a process, without any Kafka: it starts, accepts, spools and logs, and refuses wrong settings."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.auth import manage
from bridge.spool.frames import decode_records
from bridge.spool.inspect import inspect
from bridge.spool.segments import frames_in, opened
from tests.factories import body
from tests.processes import BridgeProcess, free_port
from tests.waiting import eventually
from voipex.records import Record, decode


@pytest.fixture
def nowhere() -> str:
    """An address without a broker."""
    return f"127.0.0.1:{free_port()}"


def run_cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")},
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_event_accepted_without_kafka_survives_a_restart(tmp_path: Path, nowhere: str) -> None:
    with BridgeProcess(tmp_path, nowhere, VOIPEX_DRAIN_S="0.2").start() as bridge:
        answers = [bridge.post(body(UniqueId=f"1.{n}"))[0] for n in range(20)]
        details = bridge.ready_details()
        seen_from_outside = inspect(tmp_path / "spool")
        bridge.terminate()
        exit_code = bridge.ended()
        bridge.start()
        waiting_after_restart = bridge.waiting()
        bridge.kill()
        bridge.start()
        waiting_after_kill = bridge.waiting()
        log = bridge.log()

    assert answers == [200] * 20
    assert details["ready"] is True
    assert details["kafka"]["reachable"] is False
    assert (details["spool"]["waiting_records"], waiting_after_restart, waiting_after_kill) == (20, 20, 20)
    assert [(each.in_use, each.waiting_records) for each in seen_from_outside] == [(True, 20)]
    assert exit_code == 0
    assert "777888999" not in log
    assert "petr.novak" not in log
    assert bridge.password not in log


def test_bytes_of_every_kind_become_the_event_they_mean(tmp_path: Path, nowhere: str) -> None:
    sent = {
        b"\xef\xbb\xbf" * 2 + body(Login="Dvořák") + b"\0\0": "Dvořák",
        body(Login="Dvořák").decode().encode("cp1250"): "Dvořák",
        body(Login="Dvořák!").replace(b"!", b"\xe2\x82"): "Dvořák\ufffd\ufffd",
        body(Login="!").replace(b"!", rb"\ud83d\ude00\ud83d"): "\U0001f600\ufffd",
        body(Login='old","Login":"new').replace(rb"\"", b'"'): "new",
    }

    with BridgeProcess(tmp_path, nowhere, VOIPEX_DRAIN_S="0").start() as bridge:
        answers = [bridge.post(raw)[0] for raw in sent]
        bridge.stop()
    values = [decode(record.value) for record in records_in(tmp_path / "spool")]

    assert answers == [200] * len(sent)
    assert [event.login for event in values] == list(sent.values())


def records_in(root: Path) -> list[Record]:
    """The records of all segments below *root*, in order."""
    records: list[Record] = []
    for path in sorted(root.glob("*/*.log")):
        with opened(path) as fd:
            for frame in frames_in(fd, path.parent, path.stat().st_size, 1 << 20):
                records += decode_records(frame.body, frame.record_count)
    return records


def test_all_wrong_settings_are_named_at_once_and_no_port_opens(tmp_path: Path) -> None:
    port = free_port()

    done = run_cli(
        "serve",
        VOIPEX_PORT=str(port),
        VOIPEX_PBXS="Praha",
        VOIPEX_SPOOL_LIMIT_BYTES="many",
        VOIPEX_KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        VOIPEX_SPOOL_DIR=str(tmp_path),
    )

    assert done.returncode == 2
    assert "VOIPEX_PBXS='Praha'" in done.stderr
    assert "VOIPEX_SPOOL_LIMIT_BYTES='many'" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_sasl_password_is_named_and_none_is_shown() -> None:
    missing = run_cli(
        "topics", "list", VOIPEX_KAFKA_SECURITY_PROTOCOL="SASL_SSL", VOIPEX_KAFKA_SASL_USERNAME="bridge"
    )
    given = run_cli("topics", "list", VOIPEX_KAFKA_SASL_PASSWORD="hush-hush", VOIPEX_PORT="x")

    assert missing.returncode == 2
    assert "VOIPEX_KAFKA_SASL_PASSWORD" in missing.stderr
    assert given.returncode == 2
    assert "hush-hush" not in given.stderr + given.stdout


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "voipex_pbxs").write_text("brno\n")

    done = run_cli("topics", "list", "--json", VOIPEX_SECRETS_DIR=str(tmp_path))

    assert done.returncode == 0
    assert '"brno.call.events.v1"' in done.stdout


@pytest.mark.parametrize("setting", ["VOIPEX_PORT", "VOIPEX_MANAGEMENT_PORT"])
def test_a_port_in_use_is_named_with_its_setting(tmp_path: Path, nowhere: str, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bridge = BridgeProcess(tmp_path, nowhere, **{setting: str(taken.getsockname()[1])})
        with bridge.start(ready=False):
            code = bridge.ended()

    assert code == 1
    assert setting in bridge.log()
    assert "Traceback" not in bridge.log()


def test_a_credential_of_another_pbx_refuses_the_start(tmp_path: Path, nowhere: str) -> None:
    bridge = BridgeProcess(tmp_path, nowhere)
    manage.create(tmp_path / "credentials.json", "brno-1", "brno", pbxs=("brno",), now_us=1)

    with bridge.start(ready=False):
        code = bridge.ended()

    assert code == 2
    assert "brno" in bridge.log()


def test_rotated_password_needs_no_restart(tmp_path: Path, nowhere: str) -> None:
    with BridgeProcess(tmp_path, nowhere).start() as bridge:
        old_password = bridge.password
        path = tmp_path / "credentials.json"
        bridge.password = manage.rotate(path, "site-7", now_us=time.time_ns() // 1000).secret
        deadline = time.monotonic() + 10
        while bridge.post(body())[0] == 401:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        new_password, bridge.password = bridge.password, old_password
        both_live = bridge.post(body())[0]
        manage.revoke(path, "site-7", old=True)
        while bridge.post(body())[0] == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        bridge.password = new_password
        new_still_live = bridge.post(body())[0]

    assert (both_live, new_still_live) == (200, 200)


def test_second_bridge_uses_its_own_spool_directory(tmp_path: Path, nowhere: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    shared = {"VOIPEX_SPOOL_DIR": str(tmp_path / "spool")}
    with (
        BridgeProcess(tmp_path / "a", nowhere, **shared).start() as one,
        BridgeProcess(tmp_path / "b", nowhere, **shared).start() as other,
    ):
        ids = {one.ready_details()["spool"]["id"], other.ready_details()["spool"]["id"]}

    assert len(ids) == 2


def test_metrics_and_liveness_are_on_the_management_port_only(tmp_path: Path, nowhere: str) -> None:
    import urllib.request

    with BridgeProcess(tmp_path, nowhere).start() as bridge:
        bridge.post(body())
        base = f"http://127.0.0.1:{bridge.management_port}"
        with urllib.request.urlopen(f"{base}/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
        with urllib.request.urlopen(f"{base}/live", timeout=5) as answer:
            live = answer.status

    assert live == 200
    assert 'voipex_bridge_events_received_total{pbx="voipex",type="ringing"} 1.0' in metrics
    assert "voipex_bridge_spool_appended_total 1.0" in metrics
    assert "777888999" not in metrics


def test_debug_level_logs_a_line_per_request(tmp_path: Path, nowhere: str) -> None:
    with BridgeProcess(tmp_path, nowhere, VOIPEX_LOG_LEVEL="debug").start() as bridge:
        bridge.post(body())
        eventually(lambda: '"event":"request"' in bridge.log(), why=bridge.log)  # written after the response
        log = bridge.log()

    lines = [json.loads(line) for line in log.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [(each["method"], each["route"], each["status"]) for each in requests] == [
        ("POST", "/voipex", 200)
    ]
    assert "777888999" not in log


def test_commands_create_list_and_revoke_credentials(tmp_path: Path) -> None:
    environment = {"VOIPEX_CREDENTIALS_FILE": str(tmp_path / "credentials.json")}

    made = run_cli("credentials", "create", "site-9", "--key", "UniqueId=call_id", "--json", **environment)
    again = run_cli("credentials", "create", "site-9", **environment)
    listed = run_cli("credentials", "list", "--json", **environment)
    revoked = run_cli("credentials", "revoke", "site-9", **environment)
    wrong = run_cli("credentials", "create", "site-9", "--key", "nonsense", **environment)

    assert made.returncode == 0
    assert '"user":"site-9"' in made.stdout
    assert (again.returncode, wrong.returncode, revoked.returncode) == (2, 2, 0)
    assert '"key_names":{"UniqueId":"call_id"}' in listed.stdout
    assert "digest" not in listed.stdout


def test_help_and_version_need_nothing() -> None:
    helped, version = run_cli("--help"), run_cli("--version")

    assert (helped.returncode, version.returncode) == (0, 0)
    assert "voipex-sandbox up" in helped.stdout
    assert version.stdout.startswith("voipex-bridge ")
