"""Simulated events, written to their topics without a bridge."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from bridge.http.receipts import ReceiptClock
from bridge.publisher.producer import KafkaProducer
from sandbox.simulator import SimulationPlan, events
from voipex.kafka.settings import KafkaSettings
from voipex.normalize import normalize
from voipex.records import Record, encode
from voipex.webhook import parse


class Traffic:
    """A seeded PBX that writes to the event topics, as the bridge's publisher does."""

    def __init__(self, bootstrap_servers: str, pbx: str, partitions: int = 3, seed: int = 1) -> None:
        self.settings = KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)
        self._records = _records(pbx, partitions, seed)

    def publish(self, number: int) -> None:
        asyncio.run(self._publish(list(islice(self._records, number))))

    async def _publish(self, records: Sequence[Record]) -> None:
        await write(self.settings, records)


async def write(settings: KafkaSettings, records: Iterable[Record]) -> None:
    """Write records like the bridge's publisher: in order per partition, and acknowledged when this returns."""
    producer = KafkaProducer(settings)
    await producer.start()
    try:
        by_place: dict[tuple[str, int], list[Record]] = {}
        for record in records:
            by_place.setdefault((record.topic, record.partition), []).append(record)
        for (topic, partition), rows in by_place.items():
            done = 0
            while done < len(rows):
                sent, delivered = await producer.send(topic, partition, rows[done:])
                await delivered
                done += sent
    finally:
        await producer.stop()


def _records(pbx: str, partitions: int, seed: int) -> Iterator[Record]:
    clock = ReceiptClock()
    plan = SimulationPlan(seed=seed, agents=20, queues=3, calls_per_s=2.0, speed=1.0)
    for _, words in events(plan):
        receipt = clock.receipt()
        event = normalize(parse(json.dumps(words).encode()), pbx, receipt)
        yield encode(event, receipt.received_at_us // 1000, partitions)
