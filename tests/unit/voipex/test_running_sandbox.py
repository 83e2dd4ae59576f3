"""How commands find the sandbox that runs beside them, and when they do not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.settings import load
from voipex.service.running_sandbox import find_sandbox
from voipex.service.settings import SECRETS_DIR_VARIABLE


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("VOIPEX_")]:
        monkeypatch.delenv(name)
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path / "secrets"))


def write_run_file(folder: Path, mode: int = 0o600, **changes: Any) -> None:
    variables = {"VOIPEX_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9392", "VOIPEX_PORT": "8380"}
    content = {
        "ingress_url": "http://127.0.0.1:8380/voipex",
        "user": "demo",
        "password": "a secret",
        "pbx": "voipex",
        "bootstrap_servers": "127.0.0.1:9392",
        "pids": {"bridge": os.getpid()},
        "variables": {"bridge": variables, "timelines": {}, "agents": {}},
        **changes,
    }
    (folder / "build").mkdir(exist_ok=True)
    path = folder / "build" / "run.json"
    path.write_text(json.dumps(content))
    path.chmod(mode)


def test_a_sandbox_is_found_from_its_folder_and_below(tmp_path: Path) -> None:
    write_run_file(tmp_path)
    below = tmp_path / "docs" / "contract"
    below.mkdir(parents=True)

    for folder in (tmp_path, below):
        found = find_sandbox(folder)
        assert found is not None
        assert found.chosen
        assert "Kafka at 127.0.0.1:9392, bridge at http://127.0.0.1:8380/voipex" in str(found)
        assert "secret" not in str(found)


def test_without_a_run_file_no_sandbox_is_found(tmp_path: Path) -> None:
    assert find_sandbox(tmp_path) is None


def test_a_run_file_of_ended_processes_is_ignored(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    write_run_file(tmp_path, pids={"broker": os.getpid(), "bridge": ended.pid})

    assert find_sandbox(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pids": 1}', '{"pids": {"bridge": "x"}}', "\0"])
def test_other_content_of_a_run_file_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "run.json").write_text(content)
    (tmp_path / "build" / "run.json").chmod(0o600)

    assert find_sandbox(tmp_path) is None


def test_a_run_file_that_others_can_write_is_ignored(tmp_path: Path) -> None:
    write_run_file(tmp_path, mode=0o666)

    assert find_sandbox(tmp_path) is None


def test_another_kafka_in_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run_file(tmp_path)
    monkeypatch.setenv("VOIPEX_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")

    assert find_sandbox(tmp_path) is None


def test_another_kafka_in_a_secret_file_wins(tmp_path: Path) -> None:
    write_run_file(tmp_path)
    (tmp_path / "secrets" / "voipex_kafka_bootstrap_servers").write_text("kafka:9092")

    assert find_sandbox(tmp_path) is None


def test_the_same_kafka_in_the_environment_is_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run_file(tmp_path)
    monkeypatch.setenv("VOIPEX_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9392")

    found = find_sandbox(tmp_path)

    assert found is not None
    assert not found.chosen


def test_variables_of_the_environment_win_over_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run_file(tmp_path)
    monkeypatch.setenv("VOIPEX_PORT", "8999")
    found = find_sandbox(tmp_path)
    assert found is not None

    loaded = load(sandbox=found.variables["bridge"])

    assert (loaded.port, loaded.kafka_bootstrap_servers) == (8999, "127.0.0.1:9392")
