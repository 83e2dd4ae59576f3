"""A topic as JSON lines, committed records only: what the console consumer shows, for people and pipes."""

from base64 import b64encode
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from bridge.ops.reader import Consumed, read
from voipex.kafka.settings import KafkaSettings
from voipex.partitioner import partition_of


async def tail(
    settings: KafkaSettings,
    topic: str,
    *,
    key: str | None = None,
    from_beginning: bool = False,
    limit: int | None = None,
    follow: bool = True,
) -> AsyncGenerator[str, None]:
    """
    Yield one JSON line per record; those of `key` only if given (then one partition is read). Without `follow` until what is there now ends.

    Raises:
        TopicMismatch: no such topic.
        KafkaUnreachable: with the cause.
    """
    wanted = None if key is None else key.encode()
    records = read(
        settings,
        topic,
        partition_of=None if wanted is None else lambda partitions: partition_of(wanted, partitions),
        from_beginning=from_beginning,
        follow=follow,
    )
    shown = 0
    try:
        async for record in records:
            if wanted is None or record.key == wanted:
                yield line(record)
                shown += 1
                if shown == limit:
                    return
    finally:
        await records.aclose()


def line(record: Consumed) -> str:
    """One record as a JSON object; a tombstone's value is null, bytes that are not JSON become `{"base64": …}`."""
    return orjson.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp_ms,
            "key": text(record.key),
            "headers": {name: text(value) for name, value in record.headers},
            "value": _value(record.value),
        }
    ).decode()


def text(content: bytes | None) -> Any:
    """Bytes as JSON can hold them: text, else `{"base64": …}`."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(content).decode()}


def _value(content: bytes | None) -> Any:
    if content is None:
        return None
    try:
        # The bytes as they are: a number such as 1412256225.1940 must not lose its last digit.
        orjson.loads(content)
        return orjson.Fragment(content)
    except orjson.JSONDecodeError:
        return {"base64": b64encode(content).decode()}
