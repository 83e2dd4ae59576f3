"""
Errors of the engine (pure). None leaves it: the worker handles every one of them.

    EngineError
    ├── InvalidRecord         a dead letter; nothing else stops
    │   └── StateTooLarge     as above, for all records of the key in this batch
    ├── RequestLost           as TaskFailed (in `transactions`)
    ├── ProducerFenced        another producer has our transactional.id, or the transaction timed out
    ├── TaskFailed            the outcome of a transaction is unknown: restore the task
    ├── StoreCorrupted        the state store is deleted and restored
    ├── InvalidState          the store's state of a key cannot be read: restore, and look at the changelog
    ├── OffsetOutOfRange      the task halts: a person must decide
    ├── PersonNeeded          the task halts: no retry changes it
    │   ├── OffsetsLost
    │   ├── TransactionHanging
    │   ├── RecordDamaged     only if it is read so again
    │   └── StateUnreadable
    └── IllegalTransition     a bug in the engine
"""

from collections.abc import Iterable
from typing import ClassVar, Final

from consumers.engine.records import TopicPartition

OFFSETS_LOST: Final = "Offsets are lost"


class EngineError(Exception):
    """Base of the errors above."""


class InvalidRecord(EngineError, ValueError):
    """An input record that cannot be folded. The message repeats nothing of the record: it becomes a header of the dead letter."""


class StateTooLarge(InvalidRecord):
    """A state or document would exceed what Kafka accepts. The key keeps its last state."""


class ProducerFenced(EngineError):
    """
    The broker refuses this producer's epoch. Either another producer initialized the same transactional.id, or the coordinator aborted
    a transaction that took too long; the client cannot tell them apart.
    """


class TaskFailed(EngineError):
    """The task cannot go on, and what it wrote last may or may not be committed. Discard it and restore; nothing is lost."""

    def __init__(self, message: str, *, fenced: bool = False) -> None:
        super().__init__(message)
        self.fenced = fenced


class StoreCorrupted(EngineError):
    """The state store cannot be read or written: a damaged file, a full disk. It is deleted when it closes; open it again and restore."""


class OffsetOutOfRange(EngineError):
    """The next record to read was deleted or lost."""

    def __init__(self, partitions: Iterable[TopicPartition]) -> None:
        self.partitions = tuple(partitions)
        super().__init__(", ".join(map(str, self.partitions)))


class InvalidState(EngineError):
    """The store's state of a key cannot be decoded. The store may be damaged, or the changelog: only a restore can tell."""

    def __init__(self, key: str) -> None:
        super().__init__("the state of a key cannot be read")
        self.key = key


class PersonNeeded(EngineError):
    """No retry changes it. `section`: of docs/operations.md."""

    section: ClassVar[str] = OFFSETS_LOST


class OffsetsLost(PersonNeeded):
    """
    The group's offset is missing, or lies outside the partition. Going on from any other offset could lose or repeat records.

    Operator: see docs/operations.md, "Offsets are lost".
    """


class TransactionHanging(PersonNeeded):
    """
    A transaction stays open in a partition of the task although its writer is fenced: a broker has lost the transaction's end. What it holds
    back may be committed, so to go on could publish it twice, or never.

    Operator: see docs/operations.md, "A transaction hangs".
    """

    section = "A transaction hangs"


class RecordDamaged(PersonNeeded):
    """
    A batch of records does not match its checksum. If reading it again does not help, its bytes have changed on the broker's disk.

    Operator: see docs/operations.md, "A record is damaged".
    """

    section = "A record is damaged"

    def __init__(self, partition: TopicPartition, offset: int | None) -> None:
        self.partition = partition
        where = "" if offset is None else f", from offset {offset} on"
        super().__init__(
            f"records of {partition} do not match their checksum{where}: bytes have changed on a broker's disk"
        )


class StateUnreadable(PersonNeeded):
    """
    A record of the private changelog cannot be read. Without it the key's documents would begin anew and lose what was published.

    Operator: see docs/operations.md, "A state cannot be read".
    """

    section = "A state cannot be read"


class IllegalTransition(EngineError):
    """A task cannot go from its state to the wanted one."""
