"""The records that a task produces: states and parts for its changelog, documents, dead letters, with their headers (pure)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from consumers.engine.errors import InvalidRecord
from consumers.engine.projection import Document, Projection
from consumers.engine.record_time import LATEST_US
from consumers.engine.records import (
    DUE_HEADER,
    FOLD_VERSION_HEADER,
    SOURCE_OFFSET_HEADER,
    SOURCE_TOPIC_HEADER,
    STATUS_HEADER,
    InputRecord,
    PartKey,
    ProducerRecord,
    Source,
    StateChange,
    TaskId,
)
from voipex.dead_letters import unreadable
from voipex.partitioner import partition_for_key
from voipex.records import TRACEPARENT_HEADER
from voipex.timestamps import format_rfc3339
from voipex.topics import topic_name

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why documents are emitted: the moment they describe, the limit of it, and the record behind it, which goes into their headers."""

    as_of_us: int
    limit_us: int
    source: Source | None
    traceparent: bytes | None = None

    @property
    def until_us(self) -> int:
        """Its moment, or the limit if that is before."""
        return min(self.as_of_us, self.limit_us)

    @property
    def timestamp_ms(self) -> int:
        """Of the records: Kafka would keep one of the future, and all that come after it, until its time is over."""
        return self.until_us // 1000


class Outputs:
    """Makes the records of one task. `partitions`: of every topic of the PBX."""

    def __init__(self, projection: Projection[Any], task_id: TaskId, partitions: int) -> None:
        self._projection = projection
        self._task_id = task_id
        self._partitions = partitions
        self._changelog = topic_name(task_id.pbx, projection.changelog)

    def state(self, key: str, change: StateChange, cause: Cause) -> ProducerRecord:
        headers = [(FOLD_VERSION_HEADER, _digits(self._projection.fold_version))]
        if cause.source is not None:
            headers += _source_headers(cause.source)
        if change.due_us is not None:
            headers.append((DUE_HEADER, _digits(change.due_us)))
        headers.append((STATUS_HEADER, change.status.encode()))
        return ProducerRecord(
            self._changelog,
            self._task_id.partition,
            key.encode(),
            change.value,
            tuple(headers),
            cause.timestamp_ms,
        )

    def part(self, part: PartKey, value: bytes | None, cause: Cause) -> ProducerRecord:
        return ProducerRecord(
            self._changelog, self._task_id.partition, part.encode(), value, (), cause.timestamp_ms
        )

    def document(self, document: Document, cause: Cause) -> ProducerRecord:
        pbx, key = self._task_id.pbx, document.key.encode()
        headers = [
            *_static_headers(pbx, document.ce_type, self._projection.fold_version),
            ("ce_id", document.ce_id.encode()),
            ("ce_time", format_rfc3339(cause.as_of_us).encode()),
            ("ce_subject", key),
            ("ce_partitionkey", key),
        ]
        if cause.source is not None:
            headers += _source_headers(cause.source)
        if cause.traceparent is not None:
            headers.append((TRACEPARENT_HEADER, cause.traceparent))
        is_elsewhere = document.kind in self._projection.repartitioned
        return ProducerRecord(
            topic_name(pbx, document.kind),
            partition_for_key(key, self._partitions) if is_elsewhere else self._task_id.partition,
            key,
            document.value,
            tuple(headers),
            cause.timestamp_ms,
        )

    def dead_letter(self, rejected: InputRecord, error: Exception, limit_us: int) -> ProducerRecord:
        """Its message is written here: a library's message could repeat the content of the record."""
        if isinstance(error, InvalidRecord):
            message = str(error)
        else:
            message = (
                "the value cannot be read" if isinstance(error, ValueError) else "the rules failed on it"
            )
        record, pbx = rejected.record, self._task_id.pbx
        latest_ms = min(limit_us, LATEST_US) // 1000
        dead_letter = unreadable(
            record.key,
            record.value,
            record.headers,
            min(record.timestamp, latest_ms) if record.timestamp >= 0 else latest_ms,
            stage=self._projection.name,
            error=type(error).__name__,
            message=message,
            pbx=pbx,
            topic=topic_name(pbx, rejected.kind),
            partition=self._task_id.partition,
            offset=record.offset,
        )
        return ProducerRecord(*dead_letter)


def _digits(number: int) -> bytes:
    return b"%d" % number


def _source_headers(source: Source) -> Headers:
    return ((SOURCE_TOPIC_HEADER, source.topic.encode()), (SOURCE_OFFSET_HEADER, _digits(source.offset)))


@lru_cache(maxsize=256)
def _static_headers(pbx: str, ce_type: str, fold_version: int) -> Headers:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", ce_type.encode()),
        ("ce_source", f"/voipex/{pbx}".encode()),
        ("content-type", b"application/json"),
        (FOLD_VERSION_HEADER, _digits(fold_version)),
    )
