"""Finds the record because of which the broker rejects a batch: batches are halved until it is alone."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from bridge.publisher.faults import DeliveryFault

MAX_REJECTIONS: Final[Mapping[DeliveryFault, int]] = {
    DeliveryFault.TOO_LARGE: 2,
    DeliveryFault.REJECTED: 2,
    DeliveryFault.AMBIGUOUS: 5,
}
"""
Rejections of a record alone in its batch, each by a new producer, before it is given up. One is not enough: the broker may have rejected
the sequence numbers of the producer before. Other faults are not the record's.
"""


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class RejectedBatches:
    """The batches of one take that the broker rejected."""

    def __init__(self, batch_records: int) -> None:
        self._batch_records = batch_records
        self._limits: dict[TopicPartition, int] = {}
        self._rejections: dict[int, int] = {}  # of a single record, by sequence number
        self._halved_for_size: set[TopicPartition] = set()
        self._single_too_large: set[TopicPartition] = set()

    def batch_limit(self, partition: TopicPartition) -> int:
        """Return how many records the next batch may have."""
        return self._limits.get(partition, self._batch_records)

    def record(
        self, partition: TopicPartition, first_seq: int, batch_records: int, fault: DeliveryFault
    ) -> bool:
        """Note a rejected batch that began with record *first_seq*; return whether that record must be given up."""
        if fault not in MAX_REJECTIONS:
            return False
        if batch_records > 1:
            self._limits[partition] = batch_records // 2
            if fault is DeliveryFault.TOO_LARGE:
                self._halved_for_size.add(partition)
            return False
        self._limits[partition] = 1
        rejections = self._rejections[first_seq] = self._rejections.get(first_seq, 0) + 1
        if rejections < MAX_REJECTIONS[fault]:
            return False
        del self._rejections[first_seq]
        if fault is DeliveryFault.TOO_LARGE:
            self._single_too_large.add(partition)
        return True

    def shrunk_batch_sizes(self) -> Mapping[TopicPartition, int]:
        """Return the batch limits of the partitions where batches were too large but no single record was: max.message.bytes is low."""
        return {
            partition: self._limits[partition] for partition in self._halved_for_size - self._single_too_large
        }
