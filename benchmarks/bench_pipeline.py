"""
Latency from a POST until a `read_committed` consumer reads a timeline with its event, at an even 1,000 events per second of simulated calls.
Bridge and timelines share one core; load, reader and Kafka share the other, so the figures include their waiting for it.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer

from benchmarks.bench_consumers import serving
from benchmarks.machine import described
from benchmarks.rig import LOAD_CORE, Bridge, await_answer, kafka, percentiles, prepare, serving_bridge
from sandbox.broker import LocalKafka
from sandbox.simulator import SimulationPlan, events
from voipex.events import EVENT_TYPES

_CONNECTIONS = 32
_WARM_S = 10
Sent = dict[tuple[str, str], deque[float]]
"""Send times of the events that are in no timeline yet, by call and event type."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with tempfile.TemporaryDirectory(prefix="bench-") as name, kafka() as broker:
        bridge = prepare(Path(name), broker)
        states = Path(name) / "timelines"
        with serving_bridge(bridge), serving("timelines", "voipex", states, broker, 1) as (service,):
            await_answer(f"http://127.0.0.1:{service.port}/ready")
            cases = asyncio.run(measure(bridge, broker, options.rate, options.seconds))
    result = {
        "what": f"{options.rate} events/s of simulated calls, from the POST to the timeline",
        **described(),
        "cases": cases,
    }
    print(json.dumps(result, indent=None if options.json else 1))


async def measure(bridge: Bridge, broker: LocalKafka, rate: int, seconds: int) -> list[dict[str, Any]]:
    sent: Sent = {}
    readable: list[float] = []
    answered: list[float] = []
    reading = asyncio.create_task(_read(broker.bootstrap_servers, sent, readable))
    await asyncio.sleep(2)
    bodies = (body for _, body in events(SimulationPlan.at_rate(rate)) if "UniqueId" in body)
    await _play(bridge, rate, list(islice(bodies, rate * _WARM_S)), sent, answered)
    await asyncio.sleep(2)
    readable.clear()
    answered.clear()
    await _play(bridge, rate, list(islice(bodies, rate * seconds)), sent, answered)
    await asyncio.sleep(3)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return [
        {"case": "answer", **percentiles(answered)},
        {
            "case": "POST to timeline readable",
            **percentiles(readable),
            "unpublished": sum(map(len, sent.values())),
        },
    ]


async def _play(
    bridge: Bridge, rate: int, bodies: list[dict[str, str]], sent: Sent, answered: list[float]
) -> None:
    """Post the bodies at even intervals, independently of the responses."""
    due: asyncio.Queue[tuple[dict[str, str], float] | None] = asyncio.Queue()
    workers = [asyncio.create_task(_post(bridge, due, answered)) for _ in range(_CONNECTIONS)]
    begun = time.perf_counter()
    for number, body in enumerate(bodies):
        delay = begun + number / rate - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        now = time.perf_counter()
        sent.setdefault((body["UniqueId"], EVENT_TYPES[body["EventName"]].value), deque()).append(now)
        due.put_nowait((body, now))
    for _ in workers:
        due.put_nowait(None)
    await asyncio.gather(*workers)


async def _post(
    bridge: Bridge, due: "asyncio.Queue[tuple[dict[str, str], float] | None]", answered: list[float]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    head = f"POST /voipex HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {bridge.token}\r\nContent-Length: "
    while (item := await due.get()) is not None:
        body, since = orjson.dumps(item[0]), item[1]
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        answered.append(time.perf_counter() - since)
    writer.close()


async def _read(bootstrap_servers: str, sent: Sent, readable: list[float]) -> None:
    """Measure, for each event, the time until the first timeline that contains it."""
    consumer: Any = AIOKafkaConsumer(  # type: ignore[no-untyped-call]
        "voipex.call.timelines.v1",
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="latest",
        fetch_max_wait_ms=5,
    )
    seen: dict[str, int] = {}
    await consumer.start()
    try:
        async for record in consumer:
            now, document = time.perf_counter(), orjson.loads(record.value)
            known = document["events"]
            before = seen.get(document["call_id"], 0)
            seen[document["call_id"]] = len(known)
            for event in known[before:]:
                waiting = sent.get((document["call_id"], event["type"]))
                if waiting:
                    readable.append(now - waiting.popleft())
    finally:
        await consumer.stop()


if __name__ == "__main__":
    main()
