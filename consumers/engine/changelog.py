"""Read a partition of a private changelog to its end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiokafka import errors
from aiokafka.errors import KafkaError

from consumers.engine.consumer_client import (
    FETCH_BYTES,
    START_TIMEOUT_S,
    AIOKafkaTopicPartition,
    new_consumer,
    start_consumer,
    stop_consumer,
)
from consumers.engine.errors import RecordDamaged
from consumers.engine.records import ChangelogRecord, TopicPartition
from voipex.errors import KafkaUnreachable
from voipex.kafka.settings import KafkaSettings

_FETCH_BYTES: Final = 2 * FETCH_BYTES


class Changelogs:
    """Reads changelogs of one service. `client_id`: prefix of its connections' names."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = f"{client_id}-restore"

    async def read(
        self, partition: TopicPartition, start: int, end: int
    ) -> AsyncIterator[tuple[Sequence[ChangelogRecord], int]]:
        """
        Read committed records in [start, end): pieces, each with the offset that follows it.

        It ends by the position, which passes markers, aborted and compacted records, so it ends also when no record is left to read.

        Raises:
            KafkaUnreachable: no response, or no progress.
            RecordDamaged: a checksum does not match.
        """
        client = new_consumer(
            self._settings,
            self._client_id,
            None,
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        source = AIOKafkaTopicPartition(*partition)
        position = start
        clock = asyncio.get_running_loop().time
        try:
            await start_consumer(client)
            client.assign([source])
            client.seek(source, start)
            progress_s = clock()
            while position < end:
                polled = await client.getmany(source, timeout_ms=50, max_records=5_000)
                records = [_changelog_record(each) for each in polled.get(source, ()) if each.offset < end]
                reached = min(end, await client.position(source))
                if reached > position:
                    position, progress_s = reached, clock()
                    yield records, position
                elif clock() - progress_s > START_TIMEOUT_S:
                    raise KafkaUnreachable(f"reading {partition} makes no progress")
        except errors.CorruptRecordException as error:
            raise RecordDamaged(partition, position) from error
        except (KafkaError, OSError, TimeoutError) as error:
            cause = f"{type(error).__name__} {error}".strip()
            raise KafkaUnreachable(f"{partition} cannot be read: {cause}") from error
        finally:
            await stop_consumer(client)


def _changelog_record(record: Any) -> ChangelogRecord:
    return ChangelogRecord(record.offset, record.key or b"", record.value, dict(record.headers))
