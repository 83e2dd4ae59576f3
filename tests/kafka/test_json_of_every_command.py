"""Every command that has `--json`, run with it beside a running bridge: standard output is JSON and nothing else."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

import bridge.cli.main
import consumers.cli.main
import sandbox.cli
from tests.commands import CommandResult
from tests.factories import body
from tests.kafka.conftest import Broker, apply_topics, read_all
from tests.processes import USER, BridgeProcess
from tests.waiting import WITHIN_S, eventually

APPS: Final = {"bridge": bridge.cli.main.app, "consumers": consumers.cli.main.app, "sandbox": sandbox.cli.app}


def commands_with_json(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from commands_with_json(command.get_command(None, name), (*path, name))
    elif any("--json" in each.opts for each in command.params):
        yield path


EVERY: Final = sorted(
    path for name, app in APPS.items() for path in commands_with_json(typer.main.get_command(app), (name,))
)

ARGUMENTS: Final[dict[tuple[str, ...], list[str]]] = {
    ("bridge", "credentials", "create"): ["another", "--pbx", "{pbx}"],
    ("bridge", "credentials", "rotate"): [USER],
    ("bridge", "dead-letters", "show"): ["{dead}"],
    ("bridge", "tail"): ["{pbx}.call.events.v1", "--from-beginning", "--no-follow"],
    ("consumers", "explain"): ["{trace}"],
    ("sandbox", "simulate"): ["--url", "{url}", "--user", USER, "--password", "{password}", "--duration", "2"],
}  # fmt: skip
"""What a command needs besides `--json`."""

FAILS: Final = {("bridge", "dead-letters", "replay"), ("consumers", "lag")}
"""Exit 1: the dead letter still is no event, and no group has committed anything."""


@pytest.fixture
def running(kafka: Broker, pbx: str, tmp_path: Path) -> Iterator[BridgeProcess]:
    apply_topics(kafka.bootstrap_servers, pbx, 1)
    one = {"VOIPEX_TOPIC_PARTITIONS": "1", "VOIPEX_TOPIC_REPLICATION": "1", "VOIPEX_TOPIC_MIN_INSYNC": "1"}
    with BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx, **one).start() as bridge_process:
        assert bridge_process.post(body())[0] == 200
        assert bridge_process.post(b"no json")[0] == 400
        eventually(lambda: read_all(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1"))
        yield bridge_process


def run(path: tuple[str, ...], environment: dict[str, str], names: dict[str, str]) -> CommandResult:
    package, *command = path
    arguments = [each.format_map(names) for each in ARGUMENTS.get(path, [])]
    done = subprocess.run(
        [sys.executable, "-m", package, *command, *arguments, "--json"],
        env=environment,
        cwd=names["folder"],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


def test_every_command_with_json_prints_json_alone(running: BridgeProcess, pbx: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text(
        '{"received_at":"2026-03-02T08:00:00Z","body":{"EventName":"Ringing","UniqueId":"1.1"}}\n'
    )
    names = {
        "pbx": pbx,
        "dead": "0:0",
        "trace": str(trace),
        "url": running.url,
        "password": running.password,
        "folder": str(tmp_path),
    }

    for path in EVERY:
        done = run(path, running.environment, names)

        assert done.code == (1 if path in FAILS else 0), (path, done)
        assert "Traceback" not in done.err, (path, done.err)
        for line in done.out.splitlines():
            json.loads(line)
        assert done.out, path


def test_the_commands_that_print_json_are_known() -> None:
    assert {("bridge", "doctor"), ("bridge", "tail"), ("sandbox", "simulate")} < set(EVERY)
    assert set(ARGUMENTS) | FAILS <= set(EVERY)
