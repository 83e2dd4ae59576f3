"""
The spool alone: appends per second and their latency, draining from disk, the start on 1 GB.

    python -m benchmarks.bench_spool [--json] [--directory build/bench-spool] [--gigabytes 1.0]

Run it on the disk in question; the first line says what one write and fdatasync take there.
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from bridge.http.receipts import ReceiptClock
from bridge.spool.spool import Spool
from voipex.errors import ServiceUnavailable
from voipex.normalize import normalize
from voipex.records import Record, encode
from voipex.webhook import parse

LIMIT_BYTES = 8 << 30
BODY = (
    b'{"EventName":"Ringing","From":"777888999","To":"222333444","Line":"444","Email":"petr.novak@jehofirma.cz",'
    b'"Login":"petr.novak","UniqueId":"1412256225.1941"}'
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--directory", type=Path, default=Path("build/bench-spool"))
    parser.add_argument("--gigabytes", type=float, default=1.0)
    options = parser.parse_args()
    root = options.directory
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    try:
        found = {
            "disk": disk(root),
            "append": [run(append, root, appenders) for appenders in (1, 64, 256)],
            **run(backlog, root, options.gigabytes),
        }
    finally:
        shutil.rmtree(root)
    print(json.dumps(found, indent=2) if options.json else table(found))


def run(bench: Callable[[Path, Any], Awaitable[Any]], root: Path, argument: Any) -> Any:
    gc.collect()
    return uvloop.run(_finished(bench(root, argument)))


async def _finished(bench: Awaitable[Any]) -> Any:
    return await bench


def sample() -> Record:
    """The record of a documented event, with a trace."""
    event = normalize(parse(BODY), "demo", ReceiptClock().receipt())
    return encode(event, 1_772_438_400_000, 12, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def percentiles(seconds: list[float]) -> dict[str, float]:
    seconds.sort()
    return {
        "p50_ms": round(statistics.median(seconds) * 1000, 3),
        "p99_ms": round(seconds[len(seconds) * 99 // 100] * 1000, 3),
    }


def disk(root: Path) -> dict[str, float]:
    """One write of 1 KiB and fdatasync, at the end of a growing file."""
    took = []
    fd = os.open(root / "probe", os.O_WRONLY | os.O_CREAT, 0o600)
    for _ in range(1000):
        started = time.perf_counter()
        os.write(fd, b"x" * 1024)
        os.fdatasync(fd)
        took.append(time.perf_counter() - started)
    os.close(fd)
    return percentiles(took)


async def durable(spool: Spool, record: Record) -> None:
    """Append, and return when the record is durable."""
    done = asyncio.get_running_loop().create_future()

    def on_durable(error: ServiceUnavailable | None) -> None:
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    spool.append((record,), on_durable)
    await done


async def append(root: Path, appenders: int) -> dict[str, float]:
    """Appends of one record, while a publisher takes and acknowledges in batches 5 ms apart."""
    commits: list[int] = []
    spool = Spool.open(
        root / f"append-{appenders}",
        limit_bytes=LIMIT_BYTES,
        on_commit=lambda _, count: commits.append(count),
    )
    record, took = sample(), list[float]()
    turns = 4000 if appenders == 1 else 100_000 // appenders

    async def appender() -> None:
        for _ in range(turns):
            started = time.perf_counter()
            await durable(spool, record)
            took.append(time.perf_counter() - started)

    async def publisher() -> None:
        while taken := await spool.take(5000, 4 << 20):
            await asyncio.sleep(0.005)
            spool.acknowledge(taken[-1])

    publishing = asyncio.create_task(publisher())
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(appender() for _ in range(appenders)))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    spool.seal()
    await publishing
    await spool.close()
    return {
        "appenders": appenders,
        "per_s": round(len(took) / seconds),
        "cpu_us_per_append": round(cpu / len(took) * 1e6, 1),
        "records_per_commit": round(statistics.mean(commits), 1),
        **percentiles(took),
    }


async def backlog(root: Path, gigabytes: float) -> dict[str, Any]:
    """Write *gigabytes* as in an outage, then measure the start and the drain."""
    directory, record = root / "backlog", sample()
    spool = Spool.open(directory, limit_bytes=LIMIT_BYTES)
    while spool.stats().bytes < gigabytes * 1e9:
        await asyncio.gather(*(durable(spool, record) for _ in range(64)))
    size, waiting = spool.stats().bytes, spool.stats().waiting_records
    await spool.close()

    started = time.perf_counter()
    spool = Spool.open(directory, limit_bytes=LIMIT_BYTES)
    open_s = time.perf_counter() - started
    first = await spool.take(1000, 1 << 20)
    ready_s = time.perf_counter() - started
    spool.acknowledge(first[-1])
    spool.seal()
    pauses = Pauses()
    watching = asyncio.create_task(pauses.watch())
    started = time.perf_counter()
    while taken := await spool.take(1000, 1 << 20):
        spool.acknowledge(taken[-1])
    drain_s = time.perf_counter() - started
    watching.cancel()
    await spool.close()
    return {
        "backlog": {"bytes": size, "records": waiting},
        "start": {"open_s": round(open_s, 3), "first_taken_s": round(ready_s, 3)},
        "drain": {
            "per_s": round((waiting - len(first)) / drain_s),
            "longest_pause_of_the_loop_ms": round(pauses.longest_s * 1000, 1),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        },
    }


class Pauses:
    """Measure the delays of the event loop."""

    longest_s = 0.0

    async def watch(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0)
            self.longest_s = max(self.longest_s, time.perf_counter() - started)


def table(found: dict[str, Any]) -> str:
    lines = [f"write + fdatasync of 1 KiB: {found['disk']}", "append:"]
    lines += [f"  {row}" for row in found["append"]]
    lines += [f"{name}: {found[name]}" for name in ("backlog", "start", "drain")]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
