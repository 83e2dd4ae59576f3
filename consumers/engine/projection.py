"""
Projection: what the engine needs to know of a fold (pure; no Kafka).

A projection folds the records of one key into a state, emits documents derived from the state, and says when time alone changes them.
The private changelog keeps the states; documents are published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from voipex.topics import TopicSpec

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Document:
    """A value to publish for *key* in the topic of *kind*; `value` None deletes the key (tombstone)."""

    kind: TopicSpec
    key: str
    value: bytes | None
    ce_type: str
    ce_id: str
    """Identifies this version of the document: `<key>@<revision>`."""
    revision: int


class Projection(Protocol[State]):
    """
    A fold. Times are microseconds since the epoch (UTC); no method reads a clock.

    The law: for one key, `fold` in any order and with any repetition of the same inputs, then `emit` as of the same `as_of_us`, gives the
    same documents. Only `revision` and `updated_at` may differ: they count the changes of one run.
    """

    name: ClassVar[str]
    fold_version: ClassVar[int]
    inputs: ClassVar[Sequence[TopicSpec]]
    outputs: ClassVar[Sequence[TopicSpec]]
    changelog: ClassVar[TopicSpec]
    max_batch_records: ClassVar[int]
    """
    Records per transaction while catching up. A larger batch spreads the fixed cost of a transaction and emits a key once for many of its
    records; a smaller one takes less memory and less time to fold.
    """

    def initial_state(self, pbx: str, key: str) -> State:
        """Return the state of a key without records."""
        ...

    def fold(self, state: State, kind: TopicSpec, value: bytes) -> State:
        """Add one record of an input topic. Raises ValueError when it cannot be read: it becomes a dead letter."""
        ...

    def emit(self, state: State, as_of_us: int) -> tuple[State, Sequence[Document]]:
        """Return the documents that changed since they were last emitted, and the state that remembers having emitted them."""
        ...

    def next_timer(self, state: State) -> int | None:
        """Return when time alone changes the documents next, in microseconds; None: never."""
        ...

    def expires_at(self, state: State) -> int | None:
        """Return when the key can be forgotten if no more records arrive, in microseconds; None: not known yet."""
        ...

    def status(self, state: State) -> str:
        """Return one word to count the key by in metrics, as of its last documents: `talking`, `paused`."""
        ...

    def encode(self, state: State) -> bytes:
        """Serialize the state for the changelog, with its fold version."""
        ...

    def decode(self, value: bytes) -> State:
        """Deserialize a state; one of an older fold version is folded again from its records."""
        ...
