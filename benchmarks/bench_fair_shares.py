"""
Response times of one PBX while another floods the bridge, compared with those it has alone.

The quiet PBX sends one event at a time on one connection, at uneven intervals; the other sends without a pause on many connections (`wrk`).
The bridge has one core, all else the other. The quiet client goes first there: it has a real-time priority where that is allowed, the
flooding one a lower one. How late the client wakes up is measured too, since that is no delay of the bridge: more than a millisecond means that the
machine is too busy for this benchmark. The cases take turns, several rounds, each after the
spool is empty; medians over the rounds are reported. Needs `wrk`.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import described
from benchmarks.rig import (
    LOAD_CORE,
    Bridge,
    kafka,
    percentiles,
    prepare,
    require_wrk,
    scrape,
    serving_bridge,
    wrk,
    wrk_command,
    wrk_figures,
)
from bridge.auth import manage
from sandbox.broker import LocalKafka

_PBXS = ("voipex", "brno")  # the first one floods
_WARMING_S = 1
_FLOOD_NICENESS = 5  # before Kafka, behind the quiet client
_EVENT_BYTES = 1500  # on disk, and more than enough


class Quiet(NamedTuple):
    """What the quiet client saw: seconds from a request to its response, and how late it woke up to send it."""

    took_s: list[float]
    late_s: list[float]
    not_2xx: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rate", type=int, default=100, help="events/s of the quiet PBX")
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 512], help="of the flooding PBX")
    options = parser.parse_args()
    require_wrk()
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as name, kafka(niceness=10) as broker:
        measured = measure(Path(name), broker, options)
    print(json.dumps(measured, indent=None if options.json else 1))


def measure(folder: Path, broker: LocalKafka, options: argparse.Namespace) -> dict[str, Any]:
    """Run every case in turn; see `main`."""
    shape = (options.rounds, options.seconds, options.rate)
    quiet_bytes = (
        options.rounds * options.seconds * options.rate * (1 + len(options.connections)) * _EVENT_BYTES
    )
    accepting, refusing = folder / "accepting", folder / "refusing"
    for each in (accepting, refusing):
        each.mkdir()
    bridge = prepare(accepting, broker, VOIPEX_PBXS=",".join(_PBXS), VOIPEX_SPOOL_LIMIT_BYTES=str(4 << 30))
    full = prepare(
        refusing,
        broker,
        VOIPEX_PBXS=",".join(_PBXS),
        VOIPEX_SPOOL_LIMIT_BYTES=str(4 * quiet_bytes),  # each of the two always gets a quarter
        VOIPEX_DRAIN_S="0",
    )
    token = _quiet_token(bridge)
    with serving_bridge(bridge):
        cases = _rounds(bridge, token, "its flood is accepted", [0, *options.connections], shape)
    broker.stop()
    token = _quiet_token(full)
    with serving_bridge(full):
        while not wrk(full.port, full.token, options.connections[0], 1)["not_2xx"]:
            pass  # until its share is full
        cases += _rounds(full, token, "its share is full", [0, *options.connections], shape, drains=False)
    return {
        "what": f"{options.rate} events/s of one PBX on one connection, alone and while another sends without a pause (`wrk`): "
        f"response times of the first, medians of {options.rounds} rounds of {options.seconds} s in turn. The bridge has one core, all else the other.",
        **described(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "events_per_s": options.rate,
        "cases": cases,
    }


def _quiet_token(bridge: Bridge) -> str:
    secret = manage.create(
        bridge.folder / "credentials.json", "quiet", _PBXS[1], pbxs=_PBXS, now_us=time.time_ns() // 1000
    ).secret
    return b64encode(f"quiet:{secret}".encode()).decode()


# ---------------------------------------------------------------- rounds


def _rounds(
    bridge: Bridge,
    token: str,
    name: str,
    connections: Sequence[int],
    shape: tuple[int, int, int],
    *,
    drains: bool = True,
) -> list[dict[str, Any]]:
    """Take turns; 0 connections are the quiet PBX alone."""
    rounds, seconds, rate = shape
    quiet: dict[int, list[Quiet]] = {count: [] for count in connections}
    floods: dict[int, list[dict[str, float]]] = {count: [] for count in connections}
    for _ in range(rounds):
        for count in connections:
            flooding = _start_flood(bridge, count, seconds + 2 * _WARMING_S) if count else None
            time.sleep(_WARMING_S)
            quiet[count].append(send_quietly(bridge.port, token, seconds, rate))
            if flooding is not None:
                floods[count].append(wrk_figures(flooding.communicate()[0]))
            if drains:
                _await_drained(bridge)
    return [_row(name, count, quiet[count], floods[count], quiet[0]) for count in connections]


def _start_flood(bridge: Bridge, connections: int, seconds: float) -> "subprocess.Popen[str]":
    command = wrk_command(bridge.port, bridge.token, connections, seconds)
    return subprocess.Popen(["nice", "-n", str(_FLOOD_NICENESS), *command], stdout=subprocess.PIPE, text=True)


def _await_drained(bridge: Bridge) -> None:
    while scrape(bridge)["voipex_bridge_spool_bytes"]:
        time.sleep(0.1)
    time.sleep(0.5)  # Kafka writes to its disk behind its responses


def send_quietly(port: int, token: str, seconds: float, rate: float) -> Quiet:
    """Send *rate* events a second on average, each after the response to the one before."""
    seen = Quiet([], [], 0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    intervals = random.Random(1)  # the same in every case
    head = f"POST /voipex HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {token}\r\nContent-Length: "
    not_2xx = 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            due = now + intervals.uniform(0.5, 1.5) / rate
            time.sleep(due - now)
            body = f'{{"EventName":"Ringing","From":"777888999","To":"222333444","Line":"444","UniqueId":"1412256225.{len(seen.took_s)}"}}'
            request = f"{head}{len(body)}\r\n\r\n{body}".encode()
            sent = time.perf_counter()
            sock.sendall(request)
            response = _response(sock)
            seen.took_s.append(time.perf_counter() - sent)
            seen.late_s.append(sent - due)
            not_2xx += not response.startswith(b"HTTP/1.1 200")
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return seen._replace(not_2xx=not_2xx)


def _response(sock: socket.socket) -> bytes:
    """Read a response without a body, or the head of another one, which ends the measurement."""
    response = b""
    while b"\r\n\r\n" not in response:
        received = sock.recv(4096)
        if not received:
            raise ConnectionError("closed before the response")
        response += received
    return response


def _row(
    name: str, connections: int, quiet: list[Quiet], floods: list[dict[str, float]], alone: list[Quiet]
) -> dict[str, Any]:
    p50, p99, late = (_median(quiet, part, name) for part, name in _FIGURES)
    p50_alone, p99_alone, _ = (_median(alone, part, name) for part, name in _FIGURES)
    return {
        "case": name if connections else "alone",
        "flooding_connections": connections,
        "p50_ms": p50,
        "p99_ms": p99,
        "p50_of_alone": round(p50 / p50_alone, 2),
        "p99_of_alone": round(p99 / p99_alone, 2),
        "client_late_p99_ms": late,
        "flood_answers_per_s": round(
            statistics.median(each["requests"] / each["duration_us"] * 1e6 for each in floods)
        )
        if floods
        else 0,
        "not_2xx": sum(each.not_2xx for each in quiet),
    }


_FIGURES = (("took_s", "p50_ms"), ("took_s", "p99_ms"), ("late_s", "p99_ms"))


def _median(rounds: list[Quiet], part: str, name: str) -> float:
    median: float = statistics.median(percentiles(getattr(each, part))[name] for each in rounds)
    return round(median, 2)


if __name__ == "__main__":
    main()
