"""Read a topic for people and pipes, like Apache's console consumer: committed records only."""

from base64 import b64encode
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from bridge.ops.reader import ConsumerRecord, read
from voipex.kafka.settings import KafkaSettings
from voipex.partitioner import partition_for_key


async def tail(
    settings: KafkaSettings,
    topic: str,
    *,
    key: str | None = None,
    from_beginning: bool = False,
    limit: int | None = None,
    follow: bool = True,
) -> AsyncGenerator[ConsumerRecord, None]:
    """
    Yield records. `key`: only its records, read from its partition alone. `follow`: wait for more, else stop at the end.

    Raises:
        TopicMismatch: the topic does not exist.
        KafkaUnreachable: with the cause.
    """
    wanted = None if key is None else key.encode()
    records = read(
        settings,
        topic,
        choose_partition=None if wanted is None else lambda partitions: partition_for_key(wanted, partitions),
        from_beginning=from_beginning,
        follow=follow,
    )
    count = 0
    try:
        async for record in records:
            if wanted is None or record.key == wanted:
                yield record
                count += 1
                if count == limit:
                    return
    finally:
        await records.aclose()


def line(record: ConsumerRecord) -> str:
    """Return a record as a JSON object. The value of a tombstone is null; a value that is not JSON becomes `{"base64": …}`."""
    return orjson.dumps(_members(record)).decode()


def indented(record: ConsumerRecord) -> str:
    """Return the same object over several lines. A number of the value may lose digits that a float does not have."""
    members = _members(record)
    if isinstance(members["value"], orjson.Fragment):
        members["value"] = orjson.loads(record.value or b"null")
    return orjson.dumps(members, option=orjson.OPT_INDENT_2).decode()


def _members(record: ConsumerRecord) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": text(record.key),
        "headers": {name: text(value) for name, value in record.headers},
        "value": _value(record.value),
    }


def text(content: bytes | None) -> Any:
    """Return bytes as a JSON value: text if they are UTF-8, else `{"base64": …}`."""
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
        # Embed the bytes unchanged: a number such as 1412256225.1940 would lose its last digit.
        orjson.loads(content)
        return orjson.Fragment(content)
    except orjson.JSONDecodeError:
        return {"base64": b64encode(content).decode()}
