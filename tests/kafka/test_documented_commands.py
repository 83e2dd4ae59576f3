"""Every command of the README, and those of the pages for `make run`, as printed: on moved ports, in an empty HOME."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documented import ROOT, Clone, Result, blocks
from tests.processes import free_port
from tests.waiting import WITHIN_S, eventually

DOCUMENTED_CALL = "1412256225.1941"
README = [command for block in blocks("README.md") for command in block.commands]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    with Clone(tmp_path_factory.mktemp("documented")) as running:
        yield running.start("SIM=0")


def the_one(words: str, page: str = "README.md", ends: str = "") -> str:
    """The only command of a page that contains these words."""
    [found] = [
        command
        for block in blocks(page)
        for command in block.commands
        if words in command and command.endswith(ends)
    ]
    return found


def new_call() -> str:
    """A UniqueId for the documented call in a test of its own, which other tests do not end."""
    return f"1412256225.{time.time_ns() // 1000}"


def succeeds(clone: Clone, command: str) -> Result:
    done = clone.run(command)
    assert done.code == 0, done
    return done


def prints(clone: Clone, command: str) -> Result:
    """Repeat a command until it prints something: a record takes a moment from the response to the topics."""
    last: list[Result] = []

    def has_printed() -> bool:
        last[:] = [clone.run(command)]
        return bool(last[0].out)

    eventually(has_printed, lambda: last)
    return last[0]


def test_every_command_of_the_readme_succeeds_in_order(clone: Clone) -> None:
    assert README[0] == "make run"

    results = {
        command: prints(clone, command) if " tail " in command else clone.run(command)
        for command in README[1:]
    }

    assert {command: done for command, done in results.items() if done.code} == {}
    event = json.loads(results[the_one("call.events.v1", ends="--no-follow")].out.splitlines()[-1])
    timeline = json.loads(results[the_one("call.timelines")].out.splitlines()[-1])
    assert event["value"]["unique_id"] == timeline["value"]["call_id"] == DOCUMENTED_CALL
    assert "accepted" in results[the_one("simulate")].out
    assert "voipex.call.events.v1" in results[the_one("kafka-topics")].out
    for command, done in results.items():
        if "voipex-" in command and "explain" not in command and "kafka-tool" not in command:
            assert f"127.0.0.1:{clone.ports['KAFKA_PORT']}" in done.out + done.err, command


def test_explain_gives_the_reason_that_the_readme_shows(clone: Clone) -> None:
    """But for clock times and lengths."""
    call = new_call()
    [shown] = re.findall(r"^CALL .*?(?=^```)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for event in ("Ringing", "Hangup"):
        succeeds(clone, the_one(event).replace(DOCUMENTED_CALL, call))
    command = the_one("explain -").replace(DOCUMENTED_CALL, call)

    def explained_to_the_end() -> str | None:
        out = clone.run(command).out
        return out if "Hangup" in out else None

    explained = eventually(explained_to_the_end)

    [drawn] = re.findall(r"^CALL .*?(?=^AGENTS)", explained, re.MULTILINE | re.DOTALL)
    assert words_of(drawn.replace(call, DOCUMENTED_CALL)) == words_of(shown)


def words_of(drawn: str) -> list[str]:
    return re.sub(r"[+\d.:]+( m?s)?|░", "", drawn).split()


def test_doctor_finds_no_fault_beside_a_running_sandbox(clone: Clone) -> None:
    done = succeeds(clone, ".venv/bin/voipex-bridge doctor --json")

    checks = json.loads(done.out)["checks"]
    assert [check for check in checks if check["verdict"] in ("warning", "error")] == []
    assert "sandbox" in [check["check"] for check in checks]


def test_what_make_run_prints_can_be_pasted(clone: Clone) -> None:
    log = clone.log()
    [link] = re.findall(r"^Look first at (\S+)$", log, re.MULTILINE)
    pasted = re.findall(r"^  (curl .*|\S*voipex-bridge tail .*)$", log, re.MULTILINE)

    succeeds(clone, f"curl -sf {link}")
    succeeds(clone, pasted[0])
    for command in pasted[1:]:
        prints(clone, command)

    assert len(pasted) == 4
    assert "error" not in log.lower()


def test_the_same_records_are_columns_on_a_terminal(clone: Clone) -> None:
    call = new_call()
    succeeds(clone, the_one("Ringing").replace(DOCUMENTED_CALL, call))
    command = the_one("call.timelines").replace(DOCUMENTED_CALL, call).split()
    prints(clone, " ".join(command))

    shown = on_a_terminal(clone, command)

    [documented] = re.findall(
        r"^20\S+ \S+ +(\S+ +timeline .*?) revision", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "\x1b[" in shown, "no colour"
    assert (
        documented.replace(DOCUMENTED_CALL, call).split()
        == plain.splitlines()[-1].partition(" revision")[0].split()[2:]
    )


def on_a_terminal(clone: Clone, command: list[str]) -> str:
    """Run a command whose output is a terminal, and return what it printed."""
    terminal, its_end = pty.openpty()
    with subprocess.Popen(
        command, cwd=clone.folder, env={**clone.environment, "TERM": "xterm-256color"}, stdout=its_end
    ) as process:
        os.close(its_end)
        shown = b""
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
            while chunk := os.read(terminal, 65_536):
                shown += chunk
    os.close(terminal)
    assert process.returncode == 0, shown
    return shown.decode().replace("\r\n", "\n")


def test_tail_reports_that_there_is_nothing_with_a_key(clone: Clone) -> None:
    ended = succeeds(
        clone, ".venv/bin/voipex-bridge tail voipex.call.events.v1 --key none --from-beginning --no-follow"
    )
    waiting = clone.run(
        "timeout --foreground -s INT 30 .venv/bin/voipex-bridge tail voipex.call.events.v1 --key none 2>&1 | "
        "grep -m 1 'nothing with key none yet'"
    )

    assert ended.out == ""
    assert "nothing with key none in voipex.call.events.v1" in ended.err
    assert "waiting for it" in waiting.out


def test_the_readers_of_the_page_find_the_sandbox(clone: Clone) -> None:
    succeeds(clone, the_one("Ringing"))
    command = the_one("kafka-console-consumer", "docs/reading.md")

    done = clone.run(f"{command} --max-messages 1 --timeout-ms {int(WITHIN_S * 1000)}")

    assert "ce_type:voipex.agent.status.v1" in done.out, done


def test_kafka_that_does_not_answer_is_named_with_its_setting(clone: Clone, tmp_path: Path) -> None:
    commands = (
        f"cd {tmp_path} && {ROOT}/.venv/bin/voipex-bridge topics check",
        f"cd {tmp_path} && {ROOT}/.venv/bin/voipex-consumers lag",
        f"VOIPEX_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1 {ROOT}/.venv/bin/voipex-sandbox kafka-tool kafka-topics --list",
    )

    for command in commands:
        done = clone.run(command)
        assert done.code == 1
        assert "Kafka does not answer at 127.0.0.1:" in done.err
        assert "VOIPEX_KAFKA_BOOTSTRAP_SERVERS" in done.err
        assert "Traceback" not in done.err


def test_simulate_against_nothing_names_the_url(clone: Clone) -> None:
    done = clone.run(".venv/bin/voipex-sandbox simulate --url http://127.0.0.1:1/voipex --json")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("voipex-sandbox: connection refused by http://127.0.0.1:1/voipex.")


def test_the_commands_of_the_page_on_the_board_succeed(clone: Clone) -> None:
    commands = [command for block in blocks("docs/board.md") for command in block.commands]

    done = {
        command: clone.run(command.replace(":8084", f":{clone.ports['BOARD_PORT']}")) for command in commands
    }
    streamed = done.pop(the_one("/api/stream", "docs/board.md"))

    assert {command: each.code for command, each in done.items() if each.code} == {}
    assert streamed.code in (0, 23)  # `head` has enough before curl has written all
    assert streamed.out.startswith("id: ")
    assert "role      wall" in done[the_one("--role wall", "docs/board.md")].out
    assert set(json.loads(done[the_one("/api/calls", "docs/board.md")].out)) == {"calls", "more"}


def test_the_commands_of_the_operators_pages_succeed(clone: Clone) -> None:
    """As printed, but for the position of the dead letter."""
    rejected = clone.run(the_one("Ringing").replace("-d '{", '-d \'{"No":1,').replace("EventName", "event"))
    listed = prints(clone, "voipex-bridge dead-letters list")
    position = listed.out.split()[0]

    runbooks = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs/runbooks").glob("*.md"))
    commands = {
        command: page
        for page in ("docs/operations.md", "docs/connecting.md", *runbooks)
        for block in blocks(page)
        for command in block.commands
        if (command.startswith(("voipex-", "date")) or "kafka-tool" in command)
        and "--probe-retry" not in command
    }
    for command, page in commands.items():
        done = clone.run(command.replace("0:0", position))
        # A replay of a dead letter that still is no event ends with 1.
        expected = 1 if " replay" in command and "unusable" in done.out else 0
        assert (done.code, "Traceback" in done.err) == (expected, False), (page, command, done)

    assert "422" in rejected.out or "InvalidEvent" in rejected.out
    assert "InvalidEvent" in listed.out


def test_the_probe_of_the_page_on_connecting_ends_with_ctrl_c(clone: Clone) -> None:
    """The command as printed, but for the question, which only a terminal is asked."""
    command = the_one("--probe-retry", "docs/connecting.md").replace("survey.md", "probed.md")
    management = f"http://127.0.0.1:{clone.ports['MANAGEMENT_PORT']}"
    runs = f"curl -sf {management}/ready | grep -q '\"retry_probe\":{{'"

    with subprocess.Popen(
        ["bash", "-c", f"exec {command.replace(' >', ' --yes >')}"],
        cwd=clone.folder,
        env=clone.environment,
        stderr=subprocess.DEVNULL,
    ) as probing:
        eventually(lambda: clone.run(runs).code == 0)
        warned = clone.run(".venv/bin/voipex-bridge doctor")
        probing.send_signal(signal.SIGINT)
        code = probing.wait(WITHIN_S)

    assert code == 0
    assert (clone.folder / "probed.md").read_text().startswith("# What this PBX sends")
    assert "a probe answers 503 to stored events" in warned.out
    assert clone.run(runs).code == 1


def test_services_start_as_the_page_on_deploying_says(clone: Clone, tmp_path: Path) -> None:
    """Its block without Docker, on the sandbox's Kafka: one broker, other ports, a PBX of its own."""
    [block] = [each for each in blocks("docs/deploying.md") if each.commands[0].startswith("export ")]
    exported, *commands = block.commands
    exported = re.sub(r"kafka-1:9092,kafka-2:9092", f"127.0.0.1:{clone.ports['KAFKA_PORT']}", exported)
    exported = exported.replace("/var/lib/voipex/spool", str(tmp_path / "spool"))
    first = free_port(3)
    moved = (
        f"cd {tmp_path}; {exported} VOIPEX_PBXS=deployed:1 VOIPEX_TOPIC_REPLICATION=1 VOIPEX_TOPIC_MIN_INSYNC=1 "
        f"VOIPEX_PORT={first}"
    )
    ports = {"serve": first, "timelines": first + 1, "agents": first + 2}
    services = [command.split("#")[0] for command in commands if command.split()[1] in ports]

    for command in (each for each in commands if each.split("#")[0] not in services):
        succeeds(clone, f"{moved}; {command}")
    with contextlib.ExitStack() as started:
        for command in services:
            program, name = command.split()[:2]
            management = f"export VOIPEX_MANAGEMENT_PORT={ports[name] + (name == 'serve') * 100}"
            process = started.enter_context(
                subprocess.Popen(
                    ["bash", "-c", f"{moved}; {management}; exec {command}"],
                    env=clone.environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            started.callback(process.terminate)
            healthy = f"{moved}; {management}; {program} health"
            eventually(lambda healthy=healthy: clone.run(healthy).code == 0)  # type: ignore[misc]

    assert [each.split()[1] for each in services] == ["serve", "timelines", "agents"]
    assert "deployed" in (tmp_path / "credentials.json").read_text()


def test_home_stays_empty_and_ctrl_c_ends_make_run(tmp_path: Path) -> None:
    with Clone(tmp_path) as clone:
        clone.start()
        started_s = time.monotonic()
        clone.stop()
        took_s = time.monotonic() - started_s
        after = clone.run(".venv/bin/voipex-bridge spool status")

    assert not (clone.folder / "build" / "run.json").exists()
    assert "sandbox" not in after.err
    assert list(clone.home.iterdir()) == []
    assert took_s < WITHIN_S
    assert re.search(r"^consumers: timelines, agents \(\d+\.\d s\)$", clone.log(), re.MULTILINE)


def test_make_run_with_one_port_twice_exits_with_2(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    port = clone.ports["PORT"]

    done = clone.run(f"make -o .venv/.ready run PORT={port} MANAGEMENT_PORT={port}")

    assert f"voipex-sandbox: --port and --management-port are both {port}" in done.err
    assert "Error 2" in done.err
    assert [each.name for each in (clone.folder / "build").iterdir()] == ["kafka-jars"]
