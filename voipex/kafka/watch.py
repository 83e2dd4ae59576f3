"""Look at the declared topics while a service runs: one that was deleted, or that got partitions, is named as what it is."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, get_args

from aiokafka import errors

from voipex.errors import KafkaUnavailable
from voipex.kafka.permissions import TopicAccess, examine
from voipex.kafka.settings import KafkaSettings
from voipex.service.logging import get_logger
from voipex.topics import Topic

INTERVAL_S: Final = 30.0

Kind = Literal["missing", "grown", "shrunk"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

log = get_logger("topics")


class TopicFault(NamedTuple):
    """What is wrong with a topic: it does not exist, or has more or fewer partitions than declared."""

    kind: Kind
    topic: str
    message: str


class TopicWatch:
    """Looks at *topics* every INTERVAL_S; `faults` is what the last look has found. Brokers that do not answer change nothing."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[Topic], client_id: str) -> None:
        self._settings = settings
        self._topics = topics
        self._client_id = client_id
        self.faults: tuple[TopicFault, ...] = ()

    async def run(self, on_restored: Callable[[Sequence[str]], None] = lambda _: None) -> None:
        """Look until cancelled. `on_restored`: called with the names of topics that were missing once none is any more."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            missing = self.missing()
            try:
                await self.look()
            except KafkaUnavailable:
                continue  # whoever needs Kafka notices, too
            if missing and not self.missing():
                on_restored(missing)

    async def look(self) -> tuple[TopicFault, ...]:
        """
        Look now, and log what has changed. Topics that this user may not describe are not judged.

        Raises:
            KafkaUnreachable, KafkaAccessDenied: with the cause.
        """
        names = [topic.name for topic in self._topics]
        found = {
            each.name: each
            for each in (await examine(self._settings, names, client_id=self._client_id)).topics
        }
        faults = tuple(
            fault for topic in self._topics if (fault := _fault(topic, found.get(topic.name))) is not None
        )
        for fault in set(faults) - set(self.faults):
            log.error("topic changed", topic=fault.topic, cause=fault.message)
        for fault in set(self.faults) - set(faults):
            log.info("topic restored", topic=fault.topic)
        self.faults = faults
        return faults

    def missing(self) -> tuple[str, ...]:
        """Return the names of the topics that did not exist at the last look."""
        return tuple(each.topic for each in self.faults if each.kind == "missing")

    def counts(self) -> dict[str, int]:
        """Return the number of faults of each kind, for a metric."""
        return {kind: sum(1 for each in self.faults if each.kind == kind) for kind in KINDS}

    def describe(self) -> list[str]:
        """Return what `/ready` shows."""
        return [each.message for each in self.faults]


def _fault(topic: Topic, found: TopicAccess | None) -> TopicFault | None:
    if found is None:
        return None
    if found.error == errors.UnknownTopicOrPartitionError.__name__:
        message = f"topic {topic.name} does not exist. Create it: voipex-bridge topics apply"
        return TopicFault("missing", topic.name, message)
    if found.error is not None or found.partitions == topic.partitions:
        return None
    message = f"topic {topic.name} has {found.partitions} partitions, not {topic.partitions}: "
    if found.partitions > topic.partitions:
        message += (
            f"the first {topic.partitions} are used, and the next start will refuse. Partitions cannot be taken away again: "
            "docs/operations.md, A topic has changed"
        )
        return TopicFault("grown", topic.name, message)
    return TopicFault("shrunk", topic.name, f"{message}records for the others cannot be written")
