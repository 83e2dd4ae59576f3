"""Taken records on their way to Kafka."""

from collections import deque
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
        self._taken: deque[SpooledRecord] = deque()  # not acknowledged
        self._delivered: set[tuple[str, int]] = set()  # of these, behind a pending one
        self.extend(taken)

    def extend(self, taken: Sequence[SpooledRecord]) -> None:
        """Add what was taken since."""
        self._taken += taken
        pending = self.pending
        for spooled in taken:
            waiting = pending.get(spooled.record[:2])  # type: ignore[call-overload]  # equal to a TopicPartition
            if waiting is None:
                self.add(spooled)
            else:
                waiting.append(spooled)

    @property
    def unacknowledged(self) -> int:
        """Number of records that were taken and not returned by `acknowledgeable`."""
        return len(self._taken)

    def add(self, spooled: SpooledRecord) -> None:
        """Append a record to its partition."""
        record = spooled.record
        self.pending.setdefault(TopicPartition(record.topic, record.partition), []).append(spooled)

    def next_batch(self, partition: TopicPartition) -> Iterator[Record]:
        """Return the records to send next, with the headers that name their position in the spool."""
        return stamped(self.pending[partition][: self.too_large.batch_limit(partition)])

    def delivered(self, partition: TopicPartition, count: int) -> list[SpooledRecord]:
        """Remove and return the first *count* records of a partition: Kafka has them."""
        removed = self._remove(partition, count)
        self._delivered.update([(spool_id, seq) for spool_id, seq, _ in removed])
        return removed

    def _remove(self, partition: TopicPartition, count: int) -> list[SpooledRecord]:
        pending = self.pending[partition]
        removed = pending[:count]
        del pending[:count]
        if not pending:
            del self.pending[partition]
        return removed

    def replace_first(self, partition: TopicPartition, dead_letter: Record) -> None:
        """Let *dead_letter* take the place of the first record of a partition: that one counts as pending until it is delivered."""
        [rejected] = self._remove(partition, 1)
        self.add(rejected._replace(record=dead_letter))

    def drop_timestamps(self, partition: TopicPartition) -> None:
        """Send the pending records of a partition without a timestamp."""
        self.pending[partition] = [
            spooled._replace(record=spooled.record._replace(timestamp_ms=NO_TIMESTAMP))
            for spooled in self.pending[partition]
        ]

    def acknowledgeable(self) -> list[SpooledRecord]:
        """Return the last record of each spool before the first pending one; each is returned once."""
        last: list[SpooledRecord] = []
        taken, delivered = self._taken, self._delivered
        if not self.pending:  # nearly always
            last = list({spooled.spool_id: spooled for spooled in taken}.values())
            taken.clear()
            delivered.clear()
        while taken and (position := taken[0][:2]) in delivered:
            delivered.remove(position)
            spooled = taken.popleft()
            if last and last[-1].spool_id == spooled.spool_id:
                last.pop()
            last.append(spooled)
        return last


def stamped(records: Iterable[SpooledRecord]) -> Iterator[Record]:
    """Add the headers that name spool and sequence number: with them a reader recognises a copy."""
    known_id, spool = "", (SPOOL_ID_HEADER, b"")
    for spool_id, seq, record in records:
        if spool_id is not known_id:
            known_id, spool = spool_id, (SPOOL_ID_HEADER, spool_id.encode())
        topic, partition, key, value, headers, timestamp_ms = record
        yield Record(topic, partition, key, value, (*headers, spool, (SEQ_HEADER, b"%d" % seq)), timestamp_ms)
