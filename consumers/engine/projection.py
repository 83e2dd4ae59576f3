"""
Projection: all that a task needs to know of a fold (pure, no Kafka).

A projection folds the records of one key into a state, derives documents from it, and says when time alone will change them.
The state is what the private changelog keeps; documents are what is published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from voipex.topics import TopicKind

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Document:
    """One output: a value for *key* in the topic of *kind*; `value` None deletes the key (tombstone)."""

    kind: TopicKind
    key: str
    value: bytes | None
    ce_type: str
    ce_id: str
    """Names this version of the document: `<key>@<revision>`."""
    revision: int


class Projection(Protocol[State]):
    """
    What a fold offers. Times are microseconds since the epoch (UTC); nothing here reads a clock.

    The law: for one key, `fold` in any order and with any repetition of the same inputs, then `produce` at the same
    `as_of_us`, gives the same documents (but for revision and updated_at, which count the changes of one run).
    """

    name: ClassVar[str]
    fold_version: ClassVar[int]
    inputs: ClassVar[Sequence[TopicKind]]
    outputs: ClassVar[Sequence[TopicKind]]
    changelog: ClassVar[TopicKind]
    records_at_once: ClassVar[int]
    """
    Of a transaction at most, when it catches up: many make its fixed costs small, and what comes late among them costs nothing; few take
    little memory, and are folded in a fraction of a second.
    """

    def start(self, pbx: str, key: str) -> State:
        """The state of a key never seen."""
        ...

    def fold(self, state: State, kind: TopicKind, value: bytes) -> State:
        """Take one record of an input topic. Raises ValueError when it cannot be read: a dead letter."""
        ...

    def produce(self, state: State, as_of_us: int) -> tuple[State, Sequence[Document]]:
        """Documents that changed since the last time, as of a moment, and the state that remembers having produced them."""
        ...

    def due(self, state: State) -> int | None:
        """When the documents change by time alone, in microseconds; None: never."""
        ...

    def expires(self, state: State) -> int | None:
        """From when on the key is to be forgotten altogether, should nothing more come, in microseconds; None: not yet known."""
        ...

    def standing(self, state: State) -> str:
        """How the key stood when it was last told, in a word to be counted by: `talking`, `paused`, and so on."""
        ...

    def encode(self, state: State) -> bytes:
        """The state as the changelog keeps it, fold_version inside."""
        ...

    def decode(self, value: bytes) -> State:
        """The state as it was encoded; one of an older fold version is folded anew."""
        ...
