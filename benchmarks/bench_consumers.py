"""
The consumers on a real broker: replay of simulated events from the event topics to published documents, transactions included; then
restarts, warm and cold, and memory.

    python -m benchmarks.bench_consumers [--json] [--events 1000000]

CPU is user + system of the service's process alone, from its start until nothing is left to be folded. The service has one core, the
broker the other. `instances`: so many processes share the partitions (and the one core). `times_nothing_folded`: CPU per record in that of
`benchmarks.nothing_folded`, which consumes, parses, produces and commits the same call events.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.machine import described
from benchmarks.rig import LOAD_CORE, SERVER_CORE, await_answer, kafka, rss_mib
from sandbox.broker import LocalKafka
from sandbox.simulator import SimulationPlan, events
from tests.processes import free_port
from tests.traffic import write
from voipex.kafka.settings import KafkaSettings
from voipex.kafka.topics import apply_topics
from voipex.normalize import Receipt, normalize
from voipex.records import Record, encode
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_EVENTS, CALL_EVENTS, topic_name, topics_for
from voipex.webhook import parse

PARTITIONS = 12
BATCH = 20_000
OPEN_CALLS = 100_000
IN_A_DAY = 1_800_000
"""At 5 calls a second: the broker rejects timestamps in the future."""
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as name, kafka() as broker:
        result = {
            "what": f"replay of {options.events:,} simulated events, exactly once, {PARTITIONS} partitions",
            **described(),
            "cases": measure(Path(name), broker, options.events),
        }
    print(json.dumps(result, indent=None if options.json else 1))


def measure(folder: Path, broker: LocalKafka, number: int) -> list[dict[str, Any]]:
    settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
    calls, agents = asyncio.run(publish(settings, "one", _records("one", number), number))
    asyncio.run(publish(settings, "two", _records("two", number), number))
    running, _ = asyncio.run(publish(settings, "open", _open_calls("open"), 3 * OPEN_CALLS))
    states = folder / "one"
    yardstick = nothing_folded("one", broker, calls)
    rows = [yardstick, replay("timelines", "one", states, broker, 1, calls)]
    rows.append(restart("timelines", "one", states, broker))
    shutil.rmtree(states)
    rows.append(restart("timelines", "one", states, broker))
    rows.append(replay("agents", "one", folder / "agents", broker, 1, agents))
    rows.append(replay("timelines", "two", folder / "two", broker, 2, calls))
    rows.append(replay("timelines", "open", folder / "open", broker, 1, running))
    rows[-1]["case"] = f"{OPEN_CALLS:,} open calls"
    for row in rows:
        if "cpu_us_per_record" in row:
            times = row["cpu_us_per_record"] / yardstick["cpu_us_per_record"]
            row["times_nothing_folded"] = round(times, 2)
    return rows


async def publish(
    settings: KafkaSettings, pbx: str, records: Iterator[Record], number: int
) -> tuple[int, int]:
    """Write *number* events like the bridge's publisher. Returns the numbers of call and agent events."""
    await apply_topics(settings, topics_for([pbx], PARTITIONS), 1, 1)
    counts: Counter[str] = Counter()
    left = number
    while left > 0 and (batch := list(islice(records, min(left, BATCH)))):
        left -= len(batch)
        counts.update(record.topic for record in batch)
        await write(settings, batch)
    return counts[topic_name(pbx, CALL_EVENTS)], counts[topic_name(pbx, AGENT_EVENTS)]


def _records(pbx: str, many: int) -> Iterator[Record]:
    """The events of a busy day, up to `IN_A_DAY` at a realistic rate; more are compressed into the same day."""
    pressed = min(1.0, IN_A_DAY / many)
    plan = SimulationPlan(seed=1, agents=200, queues=8, calls_per_s=5.0, speed=1.0)
    start_us = time.time_ns() // 1000 - 24 * 3600 * 1_000_000
    for number, (at_s, words) in enumerate(events(plan)):
        at_us = start_us + round(at_s * pressed * 1_000_000)
        receipt = Receipt(at_us, format_rfc3339(at_us), f"019cade5-4c00-7000-8000-{number:012x}")
        yield encode(normalize(parse(json.dumps(words).encode()), pbx, receipt), at_us // 1000, PARTITIONS)


def _open_calls(pbx: str) -> Iterator[Record]:
    """Calls that were answered in the last minutes and are still open."""
    start_us = time.time_ns() // 1000 - 600 * 1_000_000
    number = 0
    while True:
        unique_id, agent = f"{start_us // 1_000_000}.{number // 3}", number // 3 % 400
        for name in ("NewCall", "Ringing", "Answered"):
            at_us = start_us + number * 1000
            words = {
                "EventName": name,
                "Direction": "incoming",
                "From": "777888999",
                "To": "222333444",
                "UniqueId": unique_id,
            }
            if name != "NewCall":
                words |= {"Line": str(100 + agent), "Login": f"agent{agent}", "Queue": "Podpora"}
            receipt = Receipt(at_us, format_rfc3339(at_us), f"019cade5-4c00-7000-8000-{number:012x}")
            yield encode(
                normalize(parse(json.dumps(words).encode()), pbx, receipt), at_us // 1000, PARTITIONS
            )
            number += 1


class Service(NamedTuple):
    process: "subprocess.Popen[bytes]"
    port: int


@contextlib.contextmanager
def serving(name: str, pbx: str, folder: Path, broker: LocalKafka, instances: int) -> Iterator[list[Service]]:
    """Run processes of a service on the server's core, from their start to SIGTERM."""
    services = []
    for number in range(instances):
        port = free_port()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("VOIPEX_")},
            "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "VOIPEX_MANAGEMENT_PORT": str(port),
            "VOIPEX_STATE_DIR": str(folder / str(number)),
            "VOIPEX_PBXS": pbx,
        }
        command = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "consumers", name]
        services.append(Service(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL), port))
    try:
        yield services
    finally:
        for service in services:
            service.process.send_signal(signal.SIGTERM)
        for service in services:
            service.process.wait(60)


def replay(
    name: str, pbx: str, folder: Path, broker: LocalKafka, instances: int, number: int
) -> dict[str, Any]:
    started = time.monotonic()
    with serving(name, pbx, folder, broker, instances) as services:
        folded, first_s, samples = 0.0, 0.0, []
        while True:
            time.sleep(0.5)
            figures = [scrape(each.port) for each in services]
            folded = sum(each.get("voipex_consumer_records_total", 0.0) for each in figures)
            cpu_s = sum(cpu_seconds(each.process.pid) for each in services)
            samples.append((time.monotonic() - started, folded, cpu_s))
            first_s = first_s or (time.monotonic() - started if folded else 0.0)
            # Activities are inputs of the agents service too, so the lag must be zero as well.
            lag = sum(each.get("voipex_consumer_lag_records", 0.0) for each in figures)
            if folded >= number and lag == 0:
                break
        took_s = time.monotonic() - started
        last = figures[-1]
        return _print_row(
            {
                "case": f"replay {name}",
                "instances": instances,
                "records": int(folded),
                "cpu_us_per_record": round(cpu_s / folded * 1e6, 1),
                **_slope("cpu_us_first_tenth", samples, 0.0, 0.1),
                **_slope("cpu_us_last_tenth", samples, 0.9, 1.0),
                "records_per_s": round(folded / (took_s - first_s + 0.5)),
                "documents": int(sum(each.get("voipex_consumer_documents_total", 0.0) for each in figures)),
                "records_per_transaction": round(
                    folded / max(1.0, sum(each["voipex_consumer_transactions_total"] for each in figures))
                ),
                "store_mib": round(last.get("voipex_consumer_store_bytes", 0.0) / 2**20, 1),
                "rss_mib": max(rss_mib(each.process.pid) for each in services),
            }
        )


def nothing_folded(pbx: str, broker: LocalKafka, number: int) -> dict[str, Any]:
    """Copy the call events of a PBX to those of another, exactly once."""
    settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
    asyncio.run(apply_topics(settings, topics_for(["copy"], PARTITIONS), 1, 1))
    source, target = (topic_name(name, CALL_EVENTS) for name in (pbx, "copy"))
    started = time.monotonic()
    arguments = [broker.bootstrap_servers, source, target, str(number)]
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "benchmarks.nothing_folded", *arguments]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return _print_row(
        {
            "case": "nothing folded",
            "instances": 1,
            "records": done["records"],
            "cpu_us_per_record": round(done["cpu_s"] / done["records"] * 1e6, 1),
            "records_per_s": round(done["records"] / (time.monotonic() - started)),
        }
    )


def _slope(name: str, samples: list[tuple[float, float, float]], low: float, high: float) -> dict[str, float]:
    """CPU per record in microseconds between two fractions of the run; empty if there are too few samples."""
    total = samples[-1][1]
    inside = [
        (folded, cpu_s) for _, folded, cpu_s in samples if low * total <= folded <= high * total and folded
    ]
    if len(inside) < 2 or inside[-1][0] == inside[0][0]:
        return {}
    return {name: round((inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0]) * 1e6, 1)}


def restart(name: str, pbx: str, folder: Path, broker: LocalKafka) -> dict[str, Any]:
    warm = folder.exists()
    started = time.monotonic()
    with serving(name, pbx, folder, broker, 1) as (service,):
        await_answer(f"http://127.0.0.1:{service.port}/ready")
        ready_s = time.monotonic() - started
        figures = scrape(service.port)
        states = figures.get("voipex_consumer_restored_states_total", 0.0)
        restores = (
            figures["voipex_consumer_restore_duration_seconds_sum"]
            / figures["voipex_consumer_restore_duration_seconds_count"]
        )
        return _print_row(
            {
                "case": f"restart {name}, {'warm' if warm else 'cold'}",
                "instances": 1,
                "records": int(states),
                "ready_s": round(ready_s, 2),
                "restore_s_mean": round(restores, 2),
                "records_per_s": round(states / ready_s) if states else 0,
                "keys": int(figures.get("voipex_consumer_keys", 0)),
                "rss_mib": rss_mib(service.process.pid),
            }
        )


def _print_row(row: dict[str, Any]) -> dict[str, Any]:
    print("  ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr, flush=True)
    return row


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def scrape(port: int) -> dict[str, float]:
    """Sums over all labels, by sample name; empty while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


if __name__ == "__main__":
    main()
