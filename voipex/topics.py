"""
The declared topics. This list feeds `topics apply|check|list`, compose, Kubernetes and the AsyncAPI document.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

DEFAULT_PARTITIONS: Final = 12
"""Enough for the expected load, with many divisors for evenly loaded instances; never changed, since that would move keys."""

_DAY_MS: Final = 24 * 60 * 60 * 1000
_MAX_MESSAGE_BYTES: Final = (
    "1048588"  # Kafka's default; declared because the publisher's batches (512 KiB) must stay below it
)


_ANY_TIMESTAMP: Final = {
    # Brokers would refuse the events of a host whose clock is an hour ahead (Kafka's default).
    "message.timestamp.after.max.ms": str(2**63 - 1),
    # Kafka's default; declared because events that waited long, and replays, are old.
    "message.timestamp.before.max.ms": str(2**63 - 1),
}
"""Kafka takes a record whatever its timestamp: a wrong clock is reported, and no reason to lose an event."""


@dataclass(frozen=True, slots=True, eq=False)
class TopicSpec:
    """Declared properties of one kind of topic that every PBX has. There is one object per kind, compared by identity."""

    suffix: str
    key: str
    value: str
    cleanup: str
    retention_ms: int | None
    public: bool = True

    def config(self, retention_ms: int | None = None) -> dict[str, str]:
        """Return the topic's configuration, as Kafka names it. `retention_ms`: None means that of the kind."""
        config = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": _MAX_MESSAGE_BYTES,
            **_ANY_TIMESTAMP,
        }
        kept_ms = self.retention_ms if retention_ms is None else retention_ms
        if kept_ms is not None:
            config["retention.ms"] = str(kept_ms)
        return config


CALL_EVENTS: Final = TopicSpec("call.events.v1", "UniqueId", "Event", "delete", 7 * _DAY_MS)
AGENT_EVENTS: Final = TopicSpec("agent.events.v1", "agent key", "Event", "delete", 7 * _DAY_MS)
CALL_TIMELINES: Final = TopicSpec(
    "call.timelines.v1", "UniqueId", "CallTimeline", "compact,delete", 30 * _DAY_MS
)
AGENT_ACTIVITY: Final = TopicSpec("agent.activity.v1", "agent key", "AgentActivity", "delete", 7 * _DAY_MS)
AGENT_STATUS: Final = TopicSpec("agent.status.v1", "agent key", "AgentStatus", "compact", None)
DEAD_LETTERS: Final = TopicSpec(
    "dead-letters.v1", "as the source, else null", "raw body or record", "delete", 30 * _DAY_MS
)
CALL_STATE: Final = TopicSpec(
    "call.state.v1", "UniqueId", "private", "compact,delete", 30 * _DAY_MS, public=False
)
AGENT_STATE: Final = TopicSpec("agent.state.v1", "agent key", "private", "compact", None, public=False)
AGENT_LINES: Final = TopicSpec("agent.lines.v1", "agent key", "private", "delete", 7 * _DAY_MS, public=False)
"""Claims to lines, and activity on an agent's line: the agents service writes it to itself."""

TOPIC_SPECS: Final = (
    CALL_EVENTS,
    AGENT_EVENTS,
    CALL_TIMELINES,
    AGENT_ACTIVITY,
    AGENT_STATUS,
    DEAD_LETTERS,
    CALL_STATE,
    AGENT_STATE,
    AGENT_LINES,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic to create and check. `retention_ms`: None means that of its kind."""

    name: str
    kind: TopicSpec
    partitions: int
    retention_ms: int | None = None

    @property
    def config(self) -> Mapping[str, str]:
        return self.kind.config(self.retention_ms)


def topic_name(pbx: str, kind: TopicSpec) -> str:
    return f"{pbx}.{kind.suffix}"


def topics_for(pbxs: Iterable[str], partitions: int = DEFAULT_PARTITIONS) -> tuple[Topic, ...]:
    """Return every topic of every PBX, in a fixed order."""
    return tuple(Topic(topic_name(pbx, kind), kind, partitions) for pbx in pbxs for kind in TOPIC_SPECS)


WRITTEN: Final = frozenset({CALL_EVENTS, AGENT_EVENTS, DEAD_LETTERS})
"""Kinds of topics that the bridge writes."""
