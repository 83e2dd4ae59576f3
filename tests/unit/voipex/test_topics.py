"""The one declared list of topics."""

import re

from voipex.topics import CALL_EVENTS, DEAD_LETTERS, TOPIC_SPECS, topic_name, topics_for

DAY_MS = 86_400_000


def test_topics_of_a_pbx_are_those_of_the_contract() -> None:
    declared = {topic.name: (topic.kind.key, dict(topic.config)) for topic in topics_for(["voipex"])}

    largest = "9223372036854775807"
    size = {
        "max.message.bytes": "1048588",
        "message.timestamp.after.max.ms": largest,
        "message.timestamp.before.max.ms": largest,
    }
    week = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS), **size}
    month = {"retention.ms": str(30 * DAY_MS), **size}
    assert declared == {
        "voipex.call.events.v1": ("UniqueId", week),
        "voipex.agent.events.v1": ("agent key", week),
        "voipex.call.timelines.v1": ("UniqueId", {"cleanup.policy": "compact,delete", **month}),
        "voipex.agent.activity.v1": ("agent key", week),
        "voipex.agent.status.v1": ("agent key", {"cleanup.policy": "compact", **size}),
        "voipex.dead-letters.v1": ("as the source, else null", {"cleanup.policy": "delete", **month}),
        "voipex.call.state.v1": ("UniqueId", {"cleanup.policy": "compact,delete", **month}),
        "voipex.agent.state.v1": ("agent key", {"cleanup.policy": "compact", **size}),
        "voipex.agent.lines.v1": (
            "agent key",
            {"cleanup.policy": "delete", "retention.ms": "604800000", **size},
        ),
    }


def test_every_pbx_has_every_topic_with_equal_partitions() -> None:
    topics = topics_for(["voipex", "brno"], partitions=6)

    assert len(topics) == 2 * len(TOPIC_SPECS)
    assert {topic.partitions for topic in topics} == {6}
    assert {topic.name for topic in topics} == {
        topic_name(pbx, kind) for pbx in ("voipex", "brno") for kind in TOPIC_SPECS
    }


def test_default_is_12_partitions() -> None:
    assert {topic.partitions for topic in topics_for(["voipex"])} == {12}


def test_topic_names_are_legal_and_collide_in_no_metric() -> None:
    """Kafka's metric names fold `.` and `_`, so no name has a `_`; the longest PBX name still fits."""
    for topic in topics_for(["voipex", "x" * 32]):
        assert re.fullmatch(r"[a-z0-9.-]{1,99}", topic.name)


def test_topics_of_the_services_alone_are_private() -> None:
    private = [kind.suffix for kind in TOPIC_SPECS if not kind.public]
    assert private == ["call.state.v1", "agent.state.v1", "agent.lines.v1"]
    assert CALL_EVENTS.public
    assert DEAD_LETTERS.public
