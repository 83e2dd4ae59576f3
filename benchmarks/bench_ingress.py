"""
The front door with everything on, against a bare uvicorn echo and the plain handler: same run, same options, same core, load from `wrk`.

The server has one core, `wrk` and Kafka have the other. The cases take turns, several rounds; medians are reported. Needs `wrk`.
"""

import argparse
import base64
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import described
from bridge import credentials
from bridge.local_kafka import LocalKafka

_SERVER_CORE, _LOAD_CORE = "0", "1"
_LUA = Path(__file__).parent / "load.lua"
_UVICORN = [
    "--loop",
    "uvloop",
    "--http",
    "httptools",
    "--no-access-log",
    "--no-server-header",
    "--no-proxy-headers",
    "--log-level",
    "warning",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 1])
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed for this benchmark; Debian and Homebrew have it under that name")
    print(
        json.dumps(
            measure(options.rounds, options.seconds, options.connections), indent=None if options.json else 1
        )
    )


def measure(rounds: int, seconds: int, connections: list[int]) -> dict[str, Any]:
    """Run every case in turn; see `main`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, kafka() as broker:
        folder = Path(name)
        environment = {
            **os.environ,
            "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "VOIPEX_TOPIC_REPLICATION": "1",
            "VOIPEX_TOPIC_MIN_INSYNC": "1",
            "VOIPEX_CREDENTIALS_FILE": str(folder / "credentials.json"),
            "VOIPEX_SPOOL_DIR": str(folder / "spool"),
        }
        secret = credentials.create(
            folder / "credentials.json", "bench", "voipex", pbxs=("voipex",), now_us=time.time_ns() // 1000
        ).secret
        token = base64.b64encode(f"bench:{secret}".encode()).decode()
        subprocess.run(
            [sys.executable, "-m", "bridge", "topics", "apply"],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        servers = {
            "echo": (
                free_port(),
                ["-m", "uvicorn", "benchmarks.yardsticks:echo", "--lifespan", "off", *_UVICORN],
            ),
            "plain": (free_port(), ["-m", "uvicorn", "benchmarks.yardsticks:plain", *_UVICORN]),
            "bridge": (free_port(), ["-m", "bridge", "serve"]),
        }
        results: dict[str, dict[int, list[dict[str, float]]]] = {
            name: {n: [] for n in connections} for name in servers
        }
        for _ in range(rounds):
            for case, (port, command) in servers.items():
                with server(case, port, command, environment):
                    for count in connections:
                        results[case][count].append(wrk(port, token, count, seconds))
        return {
            "what": "ingress",
            **described(),
            "rounds": rounds,
            "seconds": seconds,
            "cases": summary(results),
        }


def summary(results: dict[str, dict[int, list[dict[str, float]]]]) -> list[dict[str, Any]]:
    rows = []
    for case, by_connections in results.items():
        for count, runs in by_connections.items():
            per_s = [run["requests"] / run["duration_us"] * 1e6 for run in runs]
            echo = [run["requests"] / run["duration_us"] * 1e6 for run in results["echo"][count]]
            rows.append(
                {
                    "case": case,
                    "connections": count,
                    "requests_per_s": round(statistics.median(per_s)),
                    "of_echo": round(statistics.median(a / b for a, b in zip(per_s, echo, strict=True)), 3),
                    "p50_ms": round(statistics.median(run["p50_us"] for run in runs) / 1000, 3),
                    "p99_ms": round(statistics.median(run["p99_us"] for run in runs) / 1000, 3),
                    "not_2xx": sum(run["not_2xx"] for run in runs),
                    "socket_errors": sum(run["socket_errors"] for run in runs),
                }
            )
    return rows


@contextmanager
def kafka() -> Iterator[LocalKafka]:
    with tempfile.TemporaryDirectory(prefix="bench-kafka-") as name:
        broker = LocalKafka(
            Path(name), Path("build/kafka-jars"), port=free_port(), controller_port=free_port()
        )
        broker.prepare()
        broker.start()
        try:
            broker.wait_ready()
            for thread in Path(f"/proc/{broker.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {int(_LOAD_CORE)})
            yield broker
        finally:
            broker.stop()


@contextmanager
def server(case: str, port: int, command: list[str], environment: dict[str, str]) -> Iterator[int]:
    management = free_port()
    arguments = ["taskset", "-c", _SERVER_CORE, sys.executable, *command]
    if case == "bridge":
        environment = {**environment, "VOIPEX_PORT": str(port), "VOIPEX_MANAGEMENT_PORT": str(management)}
    else:
        arguments += ["--port", str(port)]
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL)
    try:
        await_port(management if case == "bridge" else port, "/ready" if case == "bridge" else "/")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def await_port(port: int, path: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).close()
        except urllib.error.HTTPError as answer:
            if answer.code != 503:
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.05)
    sys.exit(f"nothing answers on port {port}")


def wrk(port: int, token: str, connections: int, seconds: int) -> dict[str, float]:
    out = subprocess.run(
        ["taskset", "-c", _LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(_LUA),
         f"http://127.0.0.1:{port}/voipex", "--", token],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    line = next(each for each in out.splitlines() if each.startswith("JSON "))
    figures: dict[str, float] = json.loads(line.removeprefix("JSON "))
    return figures


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
