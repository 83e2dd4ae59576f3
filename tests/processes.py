"""The bridge as a real process, and a PBX that notes what it was promised."""

import base64
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.auth import manage

USER = "site-7"


def free_port(wanted: int = 1) -> int:
    """A port nobody listens on, and so many - 1 behind it; below those that the system gives to outgoing connections."""
    while True:
        first = random.randrange(15_000, 32_000)
        try:
            with contextlib.ExitStack() as stack:
                for port in range(first, first + wanted):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


class BridgeProcess:
    """`voipex-bridge serve` with a spool and a credential of its own below *folder*; ports are kept over restarts."""

    def __init__(self, folder: Path, bootstrap_servers: str, pbx: str = "voipex", **changes: str) -> None:
        self.folder = folder
        self.wrapper: tuple[str, ...] = ()  # a command that runs it
        self.port, self.management_port = free_port(), free_port()
        self.password = manage.create(
            folder / "credentials.json", USER, pbx, pbxs=(pbx,), now_us=time.time_ns() // 1000
        ).secret
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")},
            "VOIPEX_PORT": str(self.port),
            "VOIPEX_MANAGEMENT_PORT": str(self.management_port),
            "VOIPEX_CREDENTIALS_FILE": str(folder / "credentials.json"),
            "VOIPEX_SPOOL_DIR": str(folder / "spool"),
            "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "VOIPEX_PBXS": pbx,
            **changes,
        }
        self.log_path = folder / "bridge.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/voipex"

    def start(self, *, ready: bool = True) -> Self:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, sys.executable, "-m", "bridge", "serve"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        if ready:
            self.await_ready()
        return self

    def await_ready(self, within_s: float = 30) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"the bridge ended:\n{self.log()}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.management_port}/ready", timeout=2):
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"not ready within {within_s} s:\n{self.log()}")

    def ready_details(self) -> dict[str, Any]:
        """What `/ready` says, whatever its status."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.management_port}/ready", timeout=5
            ) as answer:
                details: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as unready:
            with unready:
                details = json.load(unready)
        return details

    def waiting(self) -> int:
        waiting: int = self.ready_details()["spool"]["waiting_records"]
        return waiting

    def await_drained(self, within_s: float = 60) -> None:
        deadline = time.monotonic() + within_s
        while self.waiting():
            assert time.monotonic() < deadline, f"{self.ready_details()}\n{self.log()}"
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def ended(self, within_s: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(within_s)

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """One POST on a connection of its own; status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/voipex", body, {**self.authorization(), **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def authorization(self) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@dataclass
class Obligations:
    """What the bridge was given: `sent` in order per key, and which of it was answered 2xx and so must be in Kafka."""

    sent: dict[str, list[int]] = field(default_factory=dict)
    promised: set[tuple[str, int]] = field(default_factory=set)
    statuses: dict[int | str, int] = field(default_factory=dict)


class NotingPbx:
    """
    Threads that POST, each the events of its own calls, one after the other; every 2xx is noted here, outside the bridge's process.

    An event whose answer never came may be in Kafka or not. It is not sent again, as VOIPEX promises no retries.
    """

    def __init__(
        self, bridge: BridgeProcess, connections: int = 8, per_call: int = 10, pause_s: float = 0.0
    ) -> None:
        self._bridge = bridge
        self._per_call = per_call
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.obligations = Obligations()
        self._threads = [
            threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(connections)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        count = 0
        while not self._stop.is_set():
            key, place = f"{1_700_000_000 + number}.{count // self._per_call}", count % self._per_call
            count += 1
            body = json.dumps({"EventName": "Ringing", "UniqueId": key, "Line": str(number), "Place": place})
            with self._lock:
                self.obligations.sent.setdefault(key, []).append(place)
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._bridge.port, timeout=30)
                connection.request("POST", "/voipex", body, self._bridge.authorization())
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._note(type(error).__name__)
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(random.uniform(0.005, 0.03))
                continue
            self._note(answer.status)
            if answer.status == 200:
                with self._lock:
                    self.obligations.promised.add((key, place))
            if self._pause_s:
                time.sleep(self._pause_s)
        if connection is not None:
            connection.close()

    def _note(self, status: int | str) -> None:
        with self._lock:
            self.obligations.statuses[status] = self.obligations.statuses.get(status, 0) + 1
