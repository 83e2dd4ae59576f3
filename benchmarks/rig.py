"""Shared by the benchmarks of processes: a broker, a bridge, load from `wrk`, figures of a process."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from bridge.auth import manage
from sandbox.broker import LocalKafka
from tests.processes import free_port

SERVER_CORE, LOAD_CORE = "0", "1"
_LUA = Path(__file__).parent / "load.lua"


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed for this benchmark; Debian and Homebrew have it under that name")


class Bridge(NamedTuple):
    """Ports, directories and settings of a bridge."""

    folder: Path
    port: int
    management_port: int
    token: str
    environment: Mapping[str, str]


@contextlib.contextmanager
def kafka(niceness: int = 0) -> Iterator[LocalKafka]:
    """A real broker on the load's core."""
    with tempfile.TemporaryDirectory(prefix="bench-kafka-") as name:
        broker = LocalKafka(
            Path(name), Path("build/kafka-jars"), port=free_port(), controller_port=free_port()
        )
        broker.prepare()
        start_kafka(broker, niceness)
        try:
            yield broker
        finally:
            broker.stop()


def start_kafka(broker: LocalKafka, niceness: int = 0) -> None:
    broker.start()
    broker.wait_ready()
    for thread in Path(f"/proc/{broker.pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {int(LOAD_CORE)})
            os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)


def prepare(folder: Path, broker: LocalKafka, **changes: str) -> Bridge:
    """Create a credential and the topics."""
    port, management_port = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")},
        "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "VOIPEX_TOPIC_REPLICATION": "1",
        "VOIPEX_TOPIC_MIN_INSYNC": "1",
        "VOIPEX_CREDENTIALS_FILE": str(folder / "credentials.json"),
        "VOIPEX_SPOOL_DIR": str(folder / "spool"),
        "VOIPEX_PORT": str(port),
        "VOIPEX_MANAGEMENT_PORT": str(management_port),
        **changes,
    }
    secret = manage.create(
        folder / "credentials.json", "bench", "voipex", pbxs=("voipex",), now_us=time.time_ns() // 1000
    ).secret
    token = base64.b64encode(f"bench:{secret}".encode()).decode()
    subprocess.run(
        [sys.executable, "-m", "bridge", "topics", "apply"],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Bridge(folder, port, management_port, token, environment)


@contextlib.contextmanager
def serving(
    command: list[str], environment: Mapping[str, str], ready_url: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server on its own core, from ready to SIGTERM."""
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, sys.executable, *command], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        await_answer(ready_url)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def serving_bridge(bridge: Bridge) -> "contextlib.AbstractContextManager[subprocess.Popen[bytes]]":
    return serving(
        ["-m", "bridge", "serve"], bridge.environment, f"http://127.0.0.1:{bridge.management_port}/ready"
    )


def await_answer(url: str) -> None:
    """Wait for a response other than 503."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError as answer:
            if answer.code != 503:
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.02)
    sys.exit(f"nothing answers at {url}")


def wrk(port: int, token: str, connections: int, seconds: float) -> dict[str, float]:
    """Run wrk; return requests, duration_us, p50_us, p99_us, not_2xx and socket_errors."""
    command = wrk_command(port, token, connections, seconds)
    return wrk_figures(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def wrk_command(port: int, token: str, connections: int, seconds: float) -> list[str]:
    return [
        "taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(_LUA),
        f"http://127.0.0.1:{port}/voipex", "--", token,
    ]  # fmt: skip


def wrk_figures(out: str) -> dict[str, float]:
    """Return what load.lua prints at the end."""
    line = next(each for each in out.splitlines() if each.startswith("JSON "))
    figures: dict[str, float] = json.loads(line.removeprefix("JSON "))
    return figures


def scrape(bridge: Bridge) -> dict[str, float]:
    """Sums over all labels, by sample name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{bridge.management_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def percentiles(samples_s: list[float]) -> dict[str, Any]:
    """Return p50, p99 and the maximum in ms."""
    ordered = sorted(samples_s)
    return {
        "n": len(ordered),
        "p50_ms": round(ordered[len(ordered) // 2] * 1000, 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 2),
        "max_ms": round(ordered[-1] * 1000, 1),
    }
