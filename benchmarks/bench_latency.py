"""
1,000 events per second at an even pace: how long the answer takes, and how long until a consumer has the record; then the same answers
while the broker is down. Load and consumer share one core with Kafka, so the figures include their waiting for it.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from benchmarks.machine import described
from benchmarks.rig import Bridge, kafka, percentiles, prepare, serving_bridge, start_kafka
from sandbox.broker import LocalKafka

_CONNECTIONS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--outage", type=int, default=60, help="seconds without a broker")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, kafka() as broker:
        bridge = prepare(Path(name), broker)
        with serving_bridge(bridge):
            cases = asyncio.run(measure(bridge, broker, options.rate, options.seconds, options.outage))
    result = {"what": f"latency at {options.rate} events/s", **described(), "cases": cases}
    print(json.dumps(result, indent=None if options.json else 1))


async def measure(
    bridge: Bridge, broker: LocalKafka, rate: int, seconds: int, outage: int
) -> list[dict[str, Any]]:
    seen: dict[str, float] = {}
    consuming = asyncio.create_task(consume(broker.bootstrap_servers, seen))
    await asyncio.sleep(2)
    pace = Pace(bridge)
    await pace.play(rate, 3)  # warm
    usual = await pace.play(rate, seconds)
    await asyncio.sleep(1)
    readable = [seen[key] - sent for key, sent in usual.sent.items() if key in seen]
    consuming.cancel()
    await asyncio.gather(consuming, return_exceptions=True)
    await asyncio.to_thread(broker.kill)
    down = await pace.play(rate, outage)
    await asyncio.to_thread(start_kafka, broker)
    return [
        {"case": "answer, Kafka up", **percentiles(usual.answers_s), "not_2xx": usual.not_2xx},
        {
            "case": "POST to record readable",
            **percentiles(readable),
            "not_2xx": len(usual.sent) - len(readable),
        },
        {"case": "answer, Kafka down", **percentiles(down.answers_s), "not_2xx": down.not_2xx},
    ]


class Played:
    def __init__(self) -> None:
        self.sent: dict[str, float] = {}
        self.answers_s: list[float] = []
        self.not_2xx = 0


class Pace:
    """Post events at even intervals, independently of the responses; waiting for a free connection is measured too."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._number = 0

    async def play(self, rate: int, seconds: int) -> Played:
        played = Played()
        due: asyncio.Queue[tuple[str, float] | None] = asyncio.Queue()
        workers = [asyncio.create_task(self._post(due, played)) for _ in range(_CONNECTIONS)]
        begun = time.perf_counter()
        for n in range(rate * seconds):
            delay = begun + n / rate - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            self._number += 1
            key = f"1412256225.{self._number}"
            played.sent[key] = time.perf_counter()
            due.put_nowait((key, played.sent[key]))
        for _ in workers:
            due.put_nowait(None)
        await asyncio.gather(*workers)
        return played

    async def _post(self, due: "asyncio.Queue[tuple[str, float] | None]", played: Played) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._bridge.port)
        head = f"POST /voipex HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {self._bridge.token}\r\nContent-Length: "
        while (item := await due.get()) is not None:
            key, since = item
            body = f'{{"EventName":"Ringing","From":"777888999","To":"222333444","Line":"444","Login":"petr.novak","UniqueId":"{key}"}}'
            writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            played.answers_s.append(time.perf_counter() - since)
            if not answer.startswith(b"HTTP/1.1 200"):
                played.not_2xx += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._bridge.port)
        writer.close()


async def consume(bootstrap_servers: str, seen: dict[str, float]) -> None:
    """Record the arrival time of each record."""
    consumer: Any = AIOKafkaConsumer(  # type: ignore[no-untyped-call]
        "voipex.call.events.v1",
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="latest",
        fetch_max_wait_ms=5,
    )
    await consumer.start()
    try:
        async for record in consumer:
            seen[record.key.decode()] = time.perf_counter()
    finally:
        await consumer.stop()


if __name__ == "__main__":
    main()
