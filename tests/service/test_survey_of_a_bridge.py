"""A probe of a running bridge: a sender that repeats and one that does not are recognized, and nothing is lost."""

import http.server
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import orjson
import pytest

from tests.factories import body
from tests.processes import BridgeProcess, environment_with, free_port
from tests.service.test_serve import records_in
from tests.waiting import eventually
from voipex.records import decode

REPEATS = 3
GAP_S = 2.0
CALL = "1772438400.1"


class Surveyed:
    """A bridge and `survey --probe-retry` beside it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.bridge = BridgeProcess(folder, f"127.0.0.1:{free_port()}", VOIPEX_DRAIN_S="0.2")
        self.command: subprocess.Popen[str]

    def start(self) -> None:
        self.bridge.start()
        recording = self.folder / "recording.jsonl"
        line = {"received_at": "2026-03-02T08:00:00Z", "body": json.loads(body(UniqueId=CALL))}
        recording.write_bytes(orjson.dumps(line))
        self.command = probing(recording, f"127.0.0.1:{self.bridge.management_port}")
        eventually(lambda: self.probe() is not None, self.bridge.log)

    def probe(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.bridge.ready_details()["retry_probe"]
        return found

    def stored(self) -> Counter[str]:
        """UniqueIds of the events in the spool."""
        records = records_in(self.folder / "spool")
        return Counter(str(decode(record.value).unique_id) for record in records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.command.poll() is None:
            self.command.kill()
        self.command.communicate()
        self.bridge.__exit__(None, None, None)


def probing(recording: Path, management: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "bridge", "survey", str(recording), "--pbx", "voipex"),
            *("--bridge", management, "--probe-retry", "--yes"),
        ],
        env=environment_with(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def new_calls(number: int) -> list[bytes]:
    return [body(EventName="NewCall", UniqueId=f"1772438400.{n}") for n in range(1, number + 1)]


def test_a_probe_shows_which_sender_repeats_and_loses_nothing(tmp_path: Path) -> None:
    with Surveyed(tmp_path / "patient") as patient, Surveyed(tmp_path / "hasty") as hasty:
        for each in (patient, hasty):
            each.start()
        [call] = new_calls(1)

        answers = [hasty.bridge.post(call)[0], patient.bridge.post(call)[0]]
        for _ in range(REPEATS):
            time.sleep(GAP_S)  # the sender's own schedule
            answers.append(patient.bridge.post(call)[0])
        ringing = [each.bridge.post(body(UniqueId=CALL))[0] for each in (patient, hasty)]
        doctor = subprocess.run(
            [sys.executable, "-m", "bridge", "doctor", "--offline"],
            env=patient.bridge.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        shown = {}
        for each in (patient, hasty):
            out, err = each.command.communicate(timeout=300)
            assert each.command.returncode == 0, err
            shown[each] = out
        after = [each.probe() for each in (patient, hasty)]
        metrics = patient.bridge.log()

    assert answers == [503] * (2 + REPEATS)
    assert ringing == [200, 200]
    assert (patient.stored(), hasty.stored()) == ({CALL: REPEATS + 2}, {CALL: 2})
    question = r"\| Are refused requests sent again\? \| 503: "
    assert re.search(rf"{question}repeats after [\d. or]+ s, {REPEATS} times \(1 event\) \|", shown[patient])
    assert re.search(rf"{question}never within a minute, 1 event \|", shown[hasty])
    assert "a probe answers 503 to stored events of the PBX voipex" in doctor.stdout
    assert after == [None, None]
    assert ("retry probe started" in metrics, "retry probe ended" in metrics) == (True, True)


def test_ctrl_c_ends_a_probe_at_once_and_the_survey_follows(tmp_path: Path) -> None:
    with Surveyed(tmp_path / "probed") as probed:
        probed.start()

        probed.command.send_signal(signal.SIGINT)
        out, err = probed.command.communicate(timeout=120)
        after = probed.probe()
        answer = probed.bridge.post(new_calls(1)[0])[0]
        log = probed.bridge.log()

    assert probed.command.returncode == 0, err
    assert out.startswith("# What this PBX sends")
    assert (after, answer) == (None, 200)
    assert '"cause":"stopped"' in log.replace(" ", "")


@pytest.mark.parametrize(
    ("status", "shown", "orders"),
    [
        (200, b'{"probe": null}', ["POST", "DELETE"]),
        (409, b'{"error": "a probe runs already"}', ["POST"]),
        (404, b'{"detail": "Not Found"}', ["POST"]),
    ],
)
def test_a_probe_whose_order_was_not_answered_yet_is_ended(
    tmp_path: Path, status: int, shown: bytes, orders: list[str]
) -> None:
    """Ctrl-C before the answer: it may run. Not so one that was refused: another may have ordered it."""
    ordered, may_answer = threading.Event(), threading.Event()
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.command)
            ordered.set()
            may_answer.wait()
            self.answer(status)

        def do_DELETE(self) -> None:
            seen.append(self.command)
            self.answer(200)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(shown)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with probing(tmp_path / "recording.jsonl", f"127.0.0.1:{server.server_port}") as command:
            assert ordered.wait(120)
            if status == 200:
                command.send_signal(signal.SIGINT)
            else:
                may_answer.set()
            _, err = command.communicate(timeout=120)
            may_answer.set()
        server.shutdown()

    assert seen == orders
    expected = {200: "stopped", 409: "a probe runs already", 404: "it answers 404"}
    assert expected[status] in err
    assert "Traceback" not in err
