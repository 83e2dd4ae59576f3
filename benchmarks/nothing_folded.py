"""
The yardstick of the consumers: consume, parse, produce one record for each, commit. The same guarantee, and no rule.

    python -m benchmarks.nothing_folded BOOTSTRAP_SERVERS TOPIC TARGET RECORDS

Prints the CPU of this process, from its start until RECORDS of TOPIC are committed, as JSON.
"""

import asyncio
import json
import sys
import time
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

_BATCH = 1000


async def run(bootstrap_servers: str, topic: str, target: str, records: int) -> None:
    group = f"{target}-nothing-folded"
    consumer: Any = AIOKafkaConsumer(  # type: ignore[no-untyped-call]
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer: Any = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=group)  # type: ignore[no-untyped-call]
    await consumer.start()
    await producer.start()
    seen = 0
    while seen < records:
        batches = await consumer.getmany(timeout_ms=1000, max_records=_BATCH)
        if not batches:
            continue
        async with producer.transaction():
            offsets: dict[TopicPartition, int] = {}
            for partition, batch in batches.items():
                for record in batch:
                    orjson.loads(record.value)
                    await producer.send(target, record.value, record.key, partition=partition.partition)
                seen += len(batch)
                offsets[partition] = batch[-1].offset + 1
            await producer.send_offsets_to_transaction(offsets, group)
    print(json.dumps({"records": seen, "cpu_s": time.process_time()}), flush=True)
    await producer.stop()
    await consumer.stop()


if __name__ == "__main__":
    servers, source, copy, number = sys.argv[1:]
    asyncio.run(run(servers, source, copy, int(number)))
