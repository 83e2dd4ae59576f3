"""
The complete ingress compared with a bare uvicorn echo and a plain handler: same run, options and core, load from `wrk`.

`bridge, spool in memory` shows what the disk costs: the same with its spool on a tmpfs, which makes nothing durable.

The server has one core, `wrk` and Kafka have the other. The cases take turns, several rounds, each after a second of
warming up; medians are reported. Needs `wrk`.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import described
from benchmarks.rig import kafka, prepare, require_wrk, serving, wrk
from tests.processes import free_port

_UVICORN = [
    "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header", "--no-proxy-headers",
    "--log-level", "warning",
]  # fmt: skip

WARMING_S = 1
IN_MEMORY = "bridge, spool in memory"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 1])
    options = parser.parse_args()
    require_wrk()
    print(
        json.dumps(
            measure(options.rounds, options.seconds, options.connections), indent=None if options.json else 1
        )
    )


def measure(rounds: int, seconds: int, connections: list[int]) -> dict[str, Any]:
    """Run every case in turn; see `main`."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as in_memory,
        kafka() as broker,
    ):
        bridge = prepare(Path(name), broker)
        echo, plain = free_port(), free_port()
        environments = {IN_MEMORY: {**bridge.environment, "VOIPEX_SPOOL_DIR": in_memory}}
        servers = {
            "echo": (echo, echo, "/", ["uvicorn", "benchmarks.yardsticks:echo", "--lifespan", "off"]),
            "plain": (plain, plain, "/", ["uvicorn", "benchmarks.yardsticks:plain"]),
            "bridge": (bridge.port, bridge.management_port, "/ready", ["bridge", "serve"]),
            IN_MEMORY: (bridge.port, bridge.management_port, "/ready", ["bridge", "serve"]),
        }
        results: dict[str, dict[int, list[dict[str, float]]]] = {
            case: {count: [] for count in connections} for case in servers
        }
        for _ in range(rounds):
            for case, (port, asked, path, arguments) in servers.items():
                command = ["-m", *arguments, *([] if path == "/ready" else [*_UVICORN, "--port", str(port)])]
                environment = environments.get(case, bridge.environment)
                with serving(command, environment, f"http://127.0.0.1:{asked}{path}"):
                    wrk(port, bridge.token, connections[0], WARMING_S)
                    for count in connections:
                        results[case][count].append(wrk(port, bridge.token, count, seconds))
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


if __name__ == "__main__":
    main()
