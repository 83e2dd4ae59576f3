"""
Memory, connections to Kafka, open files and idle CPU of each service for 1, 10 and 50 PBXs, with 12 partitions of each topic and with 1.

    python -m benchmarks.bench_sizing [--json] [--minutes 1]

Each case has a broker of its own. Every PBX sends one call, so that all clients are connected; after a pause the services are idle while
they are measured: user and system time, RSS and file descriptors of the process from /proc, established connections to the broker's port.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bench_consumers import cpu_seconds
from benchmarks.machine import described
from benchmarks.rig import rss_mib
from bridge.auth import manage
from sandbox.broker import LocalKafka
from tests.processes import free_port

PBXS = (1, 10, 50)
PARTITIONS = (12, 1)
HEAP_MB = 1024
SETTLE_S = 30.0
READY_WITHIN_S = 600.0
_SERVICES = {
    "bridge": ("-m", "bridge", "serve"),
    "timelines": ("-m", "consumers", "timelines"),
    "agents": ("-m", "consumers", "agents"),
}
_ESTABLISHED = "01"


class Running(NamedTuple):
    """A service, with the port of its `/ready`."""

    process: "subprocess.Popen[bytes]"
    management_port: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the services are measured")
    options = parser.parse_args()
    cases = [
        row
        for partitions in PARTITIONS
        for pbxs in PBXS
        for row in measure(pbxs, partitions, options.minutes)
    ]
    result = {"what": "idle services", **described(), "minutes": options.minutes, "cases": cases}
    print(json.dumps(result, indent=None if options.json else 1))


def measure(pbxs: int, partitions: int, minutes: float) -> list[dict[str, Any]]:
    """Run all services with so many PBXs; return a row for each service, and one for the broker."""
    names = [f"pbx-{number}" for number in range(pbxs)]
    with tempfile.TemporaryDirectory(prefix="bench-sizing-") as name, _kafka(Path(name) / "kafka") as broker:
        folder = Path(name)
        environment = _environment(folder, broker, names, partitions)
        secrets = {
            pbx: manage.create(
                folder / "credentials.json", pbx, pbx, pbxs=names, now_us=time.time_ns() // 1000
            ).secret
            for pbx in names
        }
        subprocess.run(
            [sys.executable, "-m", "bridge", "topics", "apply"],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        started = time.monotonic()
        with _serving(folder, environment) as services:
            for each in services.values():
                _await(lambda each=each: _ready(each.management_port))  # type: ignore[misc]
            ready_s = time.monotonic() - started
            for pbx, secret in secrets.items():
                _send_call(int(environment["VOIPEX_PORT"]), pbx, secret)
            time.sleep(SETTLE_S)
            pids = {service: each.process.pid for service, each in services.items()}
            assert broker.pid is not None
            used = {service: cpu_seconds(pid) for service, pid in (pids | {"kafka": broker.pid}).items()}
            time.sleep(minutes * 60)
            rows = [
                {
                    "pbxs": pbxs,
                    "partitions": partitions,
                    "service": service,
                    "rss_mib": rss_mib(pid),
                    "connections": connections(pid, broker.port),
                    "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
                    "cpu_s_per_minute": round((cpu_seconds(pid) - used[service]) / minutes, 2),
                    "all_ready_s": round(ready_s, 1),
                }
                for service, pid in (pids | {"kafka": broker.pid}).items()
            ]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr, flush=True)
    return rows


def connections(pid: int, port: int) -> int:
    """Count the established TCP connections of a process to or from this port."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(str(entry.readlink()))
    count = 0
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, remote, state, *rest = line.split()
            ports = {int(each.rpartition(":")[2], 16) for each in (local, remote)}
            count += state == _ESTABLISHED and port in ports and f"socket:[{rest[5]}]" in inodes
    return count


@contextlib.contextmanager
def _kafka(folder: Path) -> Iterator[LocalKafka]:
    broker = LocalKafka(
        folder, Path("build/kafka-jars"), port=free_port(), controller_port=free_port(), heap_mb=HEAP_MB
    )
    broker.prepare()
    broker.start()
    broker.wait_ready(120)
    try:
        yield broker
    finally:
        broker.kill()


def _environment(folder: Path, broker: LocalKafka, pbxs: Sequence[str], partitions: int) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")},
        "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "VOIPEX_PBXS": ",".join(f"{pbx}:{partitions}" for pbx in pbxs),
        "VOIPEX_TOPIC_REPLICATION": "1",
        "VOIPEX_TOPIC_MIN_INSYNC": "1",
        "VOIPEX_CREDENTIALS_FILE": str(folder / "credentials.json"),
        "VOIPEX_SPOOL_DIR": str(folder / "spool"),
        "VOIPEX_PORT": str(free_port()),
    }


@contextlib.contextmanager
def _serving(folder: Path, environment: Mapping[str, str]) -> Iterator[dict[str, Running]]:
    """Run all services, each with a state directory of its own, until SIGTERM."""
    services = {}
    for name, command in _SERVICES.items():
        port = free_port()
        own = {"VOIPEX_MANAGEMENT_PORT": str(port), "VOIPEX_STATE_DIR": str(folder / name)}
        process = subprocess.Popen(
            [sys.executable, *command], env={**environment, **own}, stdout=subprocess.DEVNULL
        )
        services[name] = Running(process, port)
    try:
        yield services
    finally:
        for each in services.values():
            each.process.send_signal(signal.SIGTERM)
        for each in services.values():
            each.process.wait(120)


def _await(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not happened():
        if time.monotonic() > deadline:
            sys.exit(f"not within {READY_WITHIN_S:g} s")
        time.sleep(0.2)


def _ready(management_port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{management_port}/ready", timeout=10).close()
    except urllib.error.HTTPError as answer:
        answer.close()
        return False
    except OSError:
        return False
    return True


def _send_call(port: int, pbx: str, secret: str) -> None:
    """POST a login and an answered call of that PBX."""
    token = base64.b64encode(f"{pbx}:{secret}".encode()).decode()
    call = {
        "From": "777888999",
        "To": "222333444",
        "Line": "101",
        "Login": "petr.novak",
        "UniqueId": f"{int(time.time())}.1",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for event in ("AgentLogin", "NewCall", "Ringing", "Answered", "Hangup"):
        connection.request(
            "POST", "/voipex", json.dumps({"EventName": event, **call}), {"Authorization": f"Basic {token}"}
        )
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    connection.close()


if __name__ == "__main__":
    main()
