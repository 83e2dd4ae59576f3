"""
Projection: what the engine needs to know of a fold (pure; no Kafka).

A projection folds the records of one key into a state, emits documents derived from the state, and says when time alone changes them.
The private changelog keeps the states; documents are published.

A state is one value, or a value and named parts: what is read seldom, written once and deleted as it is (ADR 13). A projection that needs
a part it was not given raises PartsNeeded; it is then called again with it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final, Protocol, TypeVar

from voipex.topics import TopicSpec

State = TypeVar("State")

NO_LIMIT_US: Final = 1 << 62

SHOWN_AHEAD_US: Final = 24 * 60 * 60 * 1_000_000
"""
What a clock in local time, or set to another day's noon, may be ahead. Content from so far beyond now is shown at once, since it happens now;
content from further on waits for its time. It would hide what happens until then.
"""


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


NO_PARTS: Final[Mapping[str, bytes]] = MappingProxyType({})


class PartsNeeded(Exception):
    """A state cannot be decoded or folded without these of its parts."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(names)
        super().__init__(", ".join(self.names))


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
    repartitioned: ClassVar[Sequence[TopicSpec]]
    """Outputs whose documents have other keys than the state, and so lie in any partition. Those of the others lie in the task's own."""
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

    def emit(
        self, state: State, as_of_us: int, limit_us: int = NO_LIMIT_US
    ) -> tuple[State, Sequence[Document]]:
        """
        Return the documents that changed since they were last emitted, and the state that remembers having emitted them.

        `limit_us`: now, and what clocks may differ by. `as_of_us` is beyond it, by at most SHOWN_AHEAD_US, when records claim to come from
        there. Documents show that, and no time beyond the limit counts as elapsed.
        """
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
        """Serialize the value of the state for the changelog, with its fold version."""
        ...

    def take_parts(self, state: State) -> tuple[State, Mapping[str, bytes | None]]:
        """Return the state as it is once its parts are written, and the parts that have changed since; None deletes one."""
        ...

    def decode(self, value: bytes, parts: Mapping[str, bytes]) -> State:
        """
        Deserialize a state; one of an older fold version is folded again from its records. `parts`: those of its parts that were loaded.

        Raises:
            PartsNeeded: also `fold` and `emit` may, of a state without parts.
        """
        ...
