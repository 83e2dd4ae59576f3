"""Finds the record that is larger than its topic allows: batches that the broker finds too large are halved until it is alone."""

from collections.abc import Mapping
from typing import Final, NamedTuple

MAX_REJECTIONS: Final = 2
"""Of a record alone in its batch, each by a new producer, before it is given up. The first may be due to the producer before."""


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class TooLargeBatches:
    """The batches of one take that were too large for their topic."""

    def __init__(self, batch_records: int) -> None:
        self._batch_records = batch_records
        self._limits: dict[TopicPartition, int] = {}
        self._rejections: dict[int, int] = {}  # of a single record, by sequence number
        self._halved: set[TopicPartition] = set()
        self._single: set[TopicPartition] = set()

    def batch_limit(self, partition: TopicPartition) -> int:
        """Return how many records the next batch may have."""
        return self._limits.get(partition, self._batch_records)

    def record(self, partition: TopicPartition, first_seq: int, batch_records: int) -> bool:
        """Note a batch that began with record *first_seq* and was too large; return whether that record must be given up."""
        if batch_records > 1:
            self._limits[partition] = batch_records // 2
            self._halved.add(partition)
            return False
        self._limits[partition] = 1
        rejections = self._rejections[first_seq] = self._rejections.get(first_seq, 0) + 1
        if rejections < MAX_REJECTIONS:
            return False
        del self._rejections[first_seq]
        self._single.add(partition)
        return True

    def shrunk_batch_sizes(self) -> Mapping[TopicPartition, int]:
        """Return the batch limits of the partitions where batches were too large but no single record was: max.message.bytes is low."""
        return {partition: self._limits[partition] for partition in self._halved - self._single}
