"""The services as real processes."""

import base64
import functools
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.auth import manage
from tests.waiting import WITHIN_S, eventually

USER = "site-7"
_PORTS = range(15_000, 32_000)  # below those of outgoing connections
_PORTS_OF_A_PROCESS = 500


class _OwnPorts:
    """
    Ports that no other process of a test run is given, though they are bound only later.

    A process holds the first port of its block while it lives; the others skip that block.
    """

    def __init__(self) -> None:
        for first in _PORTS[::_PORTS_OF_A_PROCESS]:
            claim = socket.socket()
            try:
                claim.bind(("127.0.0.1", first))
            except OSError:
                claim.close()
                continue
            self._claim = claim
            self._ports = itertools.cycle(range(first + 1, first + _PORTS_OF_A_PROCESS))
            return
        raise AssertionError("all ports for tests are taken by other processes")

    def take(self, wanted: int) -> int:
        while True:
            ports = [next(self._ports) for _ in range(wanted)]
            if ports[-1] - ports[0] == wanted - 1 and all(_is_free(port) for port in ports):
                return ports[0]


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_own_ports = functools.cache(_OwnPorts)


def free_port(wanted: int = 1) -> int:
    """Return the first of *wanted* consecutive free ports, which no other caller of this function is given for minutes."""
    return _own_ports().take(wanted)


def environment_with(**variables: str) -> dict[str, str]:
    """The environment of this process with these `VOIPEX_` variables and no others."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")},
        **variables,
    }


class ServiceProcess:
    """
    One service with a management port and a log file; killed at the end of a `with` block.

    Args:
        command: arguments of the Python interpreter.
        environment: all of it.
    """

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], management_port: int, log_path: Path
    ) -> None:
        self.command = tuple(command)
        self.environment = environment
        self.management_port = management_port
        self.log_path = log_path
        self.wrapper: tuple[str, ...] = ()
        """The command that runs the service."""
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, *command: str) -> None:
        """Start the process; its log file is continued."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, sys.executable, *command], env=self.environment, stdout=log, stderr=log
            )

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "not started"
        return self.process

    def ready(self) -> tuple[int, bytes]:
        """Status and body of `/ready`; status 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.management_port}/ready", timeout=5) as found:
                return found.status, found.read()
        except urllib.error.HTTPError as unready:
            with unready:
                return unready.code, unready.read()
        except OSError as error:
            return 0, str(error).encode()

    def ready_details(self) -> dict[str, Any]:
        """The JSON body of `/ready`, whatever its status; empty while nothing listens."""
        status, body = self.ready()
        details: dict[str, Any] = json.loads(body) if status else {}
        return details

    def await_ready(self, within_s: float = WITHIN_S) -> None:
        """Raise AssertionError with the log, also when the process ends first."""

        def is_ready() -> bool:
            assert self.running.poll() is None, f"{self.command} ended:\n{self.log()}"
            return self.ready()[0] == 200

        eventually(is_ready, lambda: f"{self.ready()}\n{self.log()}", within_s, every_s=0.02)

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def send_signal(self, number: signal.Signals) -> None:
        self.running.send_signal(number)

    def terminate(self) -> None:
        self.running.terminate()

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.running.kill()
        self.running.wait()

    def ended(self, within_s: float = WITHIN_S) -> int:
        """Wait for the process to exit, and return its exit code."""
        try:
            return self.running.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} did not end:\n{self.log()[-6000:]}") from None

    def stop(self) -> None:
        """SIGTERM; the service must end with exit code 0."""
        self.terminate()
        assert self.ended() == 0, self.log()[-6000:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


class BridgeProcess(ServiceProcess):
    """`voipex-bridge serve` with a spool and a credential of its own below *folder*; ports stay the same over restarts."""

    def __init__(self, folder: Path, bootstrap_servers: str, pbx: str = "voipex", **changes: str) -> None:
        self.folder = folder
        self.port = free_port()
        management_port = free_port()
        self.password = manage.create(
            folder / "credentials.json", USER, pbx, pbxs=(pbx,), now_us=time.time_ns() // 1000
        ).secret
        variables = {
            "VOIPEX_PORT": str(self.port),
            "VOIPEX_MANAGEMENT_PORT": str(management_port),
            "VOIPEX_CREDENTIALS_FILE": str(folder / "credentials.json"),
            "VOIPEX_SPOOL_DIR": str(folder / "spool"),
            "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "VOIPEX_PBXS": pbx,
        }
        super().__init__(
            ("-m", "bridge", "serve"),
            environment_with(**{**variables, **changes}),
            management_port,
            folder / "bridge.log",
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/voipex"

    def start(self, *, ready: bool = True) -> Self:
        self.launch(*self.command)
        if ready:
            self.await_ready()
        return self

    def waiting(self) -> int:
        """Records in the spool that Kafka has not acknowledged."""
        waiting: int = self.ready_details()["spool"]["waiting_records"]
        return waiting

    def await_drained(self, within_s: float = WITHIN_S) -> None:
        eventually(
            lambda: not self.waiting(), lambda: f"{self.ready_details()}\n{self.log()[-6000:]}", within_s
        )

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """POST on a new connection; return status and body of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)
        try:
            connection.request("POST", "/voipex", body, {**self.authorization(), **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def authorization(self) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()}


class ConsumerProcess(ServiceProcess):
    """`voipex-consumers <service>` with a cache of its own below *folder*."""

    SESSION_TIMEOUT_S = 3.0
    TRANSACTION_TIMEOUT_S = 3.0

    def __init__(
        self,
        folder: Path,
        service: str,
        bootstrap_servers: str,
        pbx: str,
        partitions: int = 3,
        **changes: str,
    ) -> None:
        self.service = service
        self.state_dir = folder / f"state-{service}-{random.randrange(1 << 30)}"
        management_port = free_port()
        variables = {
            "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "VOIPEX_PBXS": pbx,
            "VOIPEX_TOPIC_PARTITIONS": str(partitions),
            "VOIPEX_STATE_DIR": str(self.state_dir),
            "VOIPEX_MANAGEMENT_PORT": str(management_port),
            "VOIPEX_TRANSACTION_TIMEOUT_S": f"{self.TRANSACTION_TIMEOUT_S:g}",
            "VOIPEX_SESSION_TIMEOUT_S": f"{self.SESSION_TIMEOUT_S:g}",
        }
        super().__init__(
            ("-m", "consumers", service),
            environment_with(**{**variables, **changes}),
            management_port,
            folder / f"{self.state_dir.name}.log",
        )

    def start(self) -> Self:
        """Start the service without waiting until it is ready."""
        self.launch(*self.command)
        return self

    def start_crashing(self, step: str, countdown: int) -> Self:
        """Start a service that kills itself the n-th time it reaches a step of a batch (`crash_injection`)."""
        self.launch("-m", "tests.crash_injection", self.service, step, str(countdown))
        return self

    def start_old_version(self) -> Self:
        """Start a service of the previous version (`old_version_service`)."""
        self.launch("-m", "tests.old_version_service", self.service)
        return self

    def wipe(self) -> None:
        """Delete its cache."""
        shutil.rmtree(self.state_dir, ignore_errors=True)
