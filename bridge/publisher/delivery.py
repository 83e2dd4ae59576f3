"""The records of one take on their way to Kafka."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from bridge.publisher.rejections import TooLargeBatches, TopicPartition
from bridge.spool import SpooledRecord
from voipex.records import SEQ_HEADER, SPOOL_ID_HEADER, Record

NO_TIMESTAMP: Final = -1
"""Kafka's mark of a record without a time: it is taken whatever limits a topic has, and deleted by the age of its file."""


class Delivery:
    """What was taken, and what of it is pending: by partition, in order."""

    def __init__(self, taken: Sequence[SpooledRecord], batch_records: int) -> None:
        self.pending: dict[TopicPartition, list[SpooledRecord]] = {}
        self.too_large = TooLargeBatches(batch_records)
        self._taken = taken
        self._acknowledged = 0  # of `taken`
        for spooled in taken:
            self.add(spooled)

    def add(self, spooled: SpooledRecord) -> None:
        """Append a record to its partition."""
        record = spooled.record
        self.pending.setdefault(TopicPartition(record.topic, record.partition), []).append(spooled)

    def next_batch(self, partition: TopicPartition) -> Iterator[Record]:
        """Return the records to send next, with the headers that name their position in the spool."""
        return stamped(self.pending[partition][: self.too_large.batch_limit(partition)])

    def remove(self, partition: TopicPartition, count: int) -> list[SpooledRecord]:
        """Remove and return the first *count* records of a partition."""
        pending = self.pending[partition]
        removed = pending[:count]
        del pending[:count]
        if not pending:
            del self.pending[partition]
        return removed

    def replace_first(self, partition: TopicPartition, dead_letter: Record) -> None:
        """Let *dead_letter* take the place of the first record of a partition: that one counts as pending until it is delivered."""
        [rejected] = self.remove(partition, 1)
        self.add(rejected._replace(record=dead_letter))

    def drop_timestamps(self, partition: TopicPartition) -> None:
        """Send the pending records of a partition without a timestamp."""
        self.pending[partition] = [
            spooled._replace(record=spooled.record._replace(timestamp_ms=NO_TIMESTAMP))
            for spooled in self.pending[partition]
        ]

    def acknowledgeable(self) -> SpooledRecord | None:
        """Return the last record before the first pending one; None if that was returned before."""
        pending = {spooled.seq for records in self.pending.values() for spooled in records}
        acknowledged = self._acknowledged
        while acknowledged < len(self._taken) and self._taken[acknowledged].seq not in pending:
            acknowledged += 1
        if acknowledged == self._acknowledged:
            return None
        self._acknowledged = acknowledged
        return self._taken[acknowledged - 1]


def stamped(records: Iterable[SpooledRecord]) -> Iterator[Record]:
    """Add the headers that name spool and sequence number: with them a reader recognises a copy."""
    for spool_id, seq, record in records:
        topic, partition, key, value, headers, timestamp_ms = record
        yield Record(
            topic,
            partition,
            key,
            value,
            (*headers, (SPOOL_ID_HEADER, spool_id.encode()), (SEQ_HEADER, b"%d" % seq)),
            timestamp_ms,
        )
