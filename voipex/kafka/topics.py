"""List, check and create the declared topics. Raises KafkaUnreachable, KafkaAccessDenied or TopicMismatch; every call has a deadline."""

import asyncio
from collections.abc import (
    Collection,
    Mapping,
    Sequence,
)
from typing import Any, Final, Literal, NamedTuple

import aiokafka
import aiokafka.admin
import aiokafka.admin.config_resource
import aiokafka.conn
from aiokafka import errors

from voipex.errors import TopicMismatch
from voipex.kafka.admin import ADMIN_TIMEOUT_S, BRIDGE_ADMIN, MissingAcl, admin_client
from voipex.kafka.permissions import topic_accesses
from voipex.kafka.settings import KafkaSettings
from voipex.topics import WRITTEN, Topic, TopicSpec

_NewTopic: Any = aiokafka.admin.NewTopic
_ConfigResource: Any = aiokafka.admin.config_resource.ConfigResource
_TOPIC: Any = aiokafka.admin.config_resource.ConfigResourceType.TOPIC


# ---------------------------------------------------------------------------------------------------- topics


class TopicState(NamedTuple):
    """A topic as it is."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


Outcome = Literal["created", "changed", "unchanged"]


async def list_topics(
    settings: KafkaSettings,
    names: Collection[str] | None = None,
    *,
    with_config: Collection[str] | None = None,
) -> tuple[TopicState, ...]:
    """
    Topics of the cluster, by name; only those in *names* if given. The settings of all of them, or of those in `with_config`.

    Raises:
        KafkaAccessDenied: we may not see settings that were asked for.
        KafkaUnreachable: with the cause.
    """
    async with admin_client(settings, ADMIN_TIMEOUT_S) as admin:
        return await _states(admin, names, with_config)


async def check_topics(
    settings: KafkaSettings,
    topics: Sequence[Topic],
    needed: Collection[TopicSpec] = WRITTEN,
    *,
    client_id: str = BRIDGE_ADMIN,
) -> tuple[str, ...]:
    """
    Compare the cluster with *topics*; return a line for each setting that differs and for what we may not see, which is no reason not to run.

    Raises:
        TopicMismatch: topics are missing, have another number of partitions, or would reject the bridge's records by their size; names all.
        KafkaAccessDenied: topics of kinds that are *needed* cannot be seen.
        KafkaUnreachable: with the cause.
    """
    async with admin_client(settings, ADMIN_TIMEOUT_S, client_id) as admin:
        standings = await topic_accesses(admin, topics)
        hidden = [topic for topic in topics if standings[topic.name].unauthorized]
        blocking = [topic.name for topic in hidden if topic.kind in needed]
        if blocking:
            raise MissingAcl("Describe", *blocking)
        visible = [topic for topic in topics if topic not in hidden]
        told = [topic.name for topic in visible if not standings[topic.name].config_unauthorized]
        there = {state.name: state for state in await _states(admin, {topic.name for topic in visible}, told)}
    _refuse_wrong(visible, there, missing_is_wrong=True)
    _refuse_small(visible, there)
    return (
        *(f"topic {topic.name}: not checked, the ACL for Describe is missing" for topic in hidden),
        *(
            f"topic {topic.name}: its configuration is not compared, the ACL for DescribeConfigs is missing"
            for topic in visible
            if topic.name not in told
        ),
        *(
            f"topic {topic.name}: {name} is {there[topic.name].config.get(name, 'not set')}, declared is {value}"
            for topic in visible
            if topic.name in told
            for name, value in _drift(topic.config, there[topic.name].config).items()
        ),
    )


async def apply_topics(
    settings: KafkaSettings, topics: Sequence[Topic], replication: int, min_insync: int
) -> dict[str, Outcome]:
    """
    Create what is missing and set our settings where they differ; other settings, partitions and replicas of what exists stay as they are.

    Returns what was done, by name.

    Raises:
        TopicMismatch: a topic has another number of partitions (then nothing was done), or the cluster refused.
        KafkaAccessDenied: a right is missing; names it.
        KafkaUnreachable: with the cause.
    """
    wanted = {topic.name: {**topic.config, "min.insync.replicas": str(min_insync)} for topic in topics}
    async with admin_client(settings, ADMIN_TIMEOUT_S) as admin:
        standings = await topic_accesses(admin, topics)
        for right, lacking in (
            ("Describe", [name for name, standing in standings.items() if standing.unauthorized]),
            (
                "DescribeConfigs",
                [name for name, standing in standings.items() if standing.config_unauthorized],
            ),
        ):
            if lacking:
                raise MissingAcl(right, *lacking)
        there = {state.name: state for state in await _states(admin, wanted)}
        _refuse_wrong(topics, there, missing_is_wrong=False)
        missing = [topic for topic in topics if topic.name not in there]
        if missing:
            await _create(
                admin,
                [
                    _NewTopic(topic.name, topic.partitions, replication, topic_configs=wanted[topic.name])
                    for topic in missing
                ],
            )
        outcomes: dict[str, Outcome] = {topic.name: "created" for topic in missing}
        for name, state in there.items():
            drift = _drift(wanted[name], state.config)
            if drift:
                # The request replaces the whole set, so what an operator set beside ours goes with it.
                await _alter(admin, name, {**await _topic_overrides(admin, name), **drift})
            outcomes[name] = "changed" if drift else "unchanged"
        await _wait_until_applied(admin, wanted)
    return {topic.name: outcomes[topic.name] for topic in topics}


async def _states(
    admin: Any, names: Collection[str] | None, with_config: Collection[str] | None = None
) -> tuple[TopicState, ...]:
    # All topics, since naming a missing one creates it where the cluster allows that.
    described = [
        topic
        for topic in await admin.describe_topics()
        if not topic["is_internal"] and (names is None or topic["topic"] in names)
    ]
    configs = await _configs(
        admin,
        [topic["topic"] for topic in described if with_config is None or topic["topic"] in with_config],
    )
    return tuple(
        TopicState(
            topic["topic"],
            len(topic["partitions"]),
            min((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
            {name: value for name, (value, _) in configs.get(topic["topic"], {}).items()},
        )
        for topic in sorted(described, key=lambda topic: topic["topic"])
    )


async def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, tuple[str, bool]]]:
    """Topic -> setting -> (value, set on the topic itself?)."""
    if not names:
        return {}
    refused: list[str] = []
    answers = await admin.describe_configs([_ConfigResource(_TOPIC, name) for name in names])
    configs: dict[str, dict[str, tuple[str, bool]]] = {}
    for answer in answers:
        for code, message, _, topic, entries in answer.resources:
            if code in _NO_RIGHT:
                refused.append(topic)
                continue
            _refuse_code(code, f"describe the settings of topic {topic}", message)
            # name, value, read-only, source (1: the topic itself), …
            configs[topic] = {
                entry[0]: (entry[1], entry[3] == 1) for entry in entries if entry[1] is not None
            }
    if refused:
        raise MissingAcl("DescribeConfigs", *refused)
    return configs


async def _topic_overrides(admin: Any, name: str) -> dict[str, str]:
    configs = await _configs(admin, [name])
    return {setting: value for setting, (value, own) in configs[name].items() if own}


async def _create(admin: Any, topics: Sequence[Any]) -> None:
    answer = await admin.create_topics(list(topics))
    refused = [name for name, code, _ in answer.topic_errors if code in _NO_RIGHT]
    if refused:
        raise MissingAcl("Create", *refused)
    for name, code, message in answer.topic_errors:
        if code != errors.TopicAlreadyExistsError.errno:  # somebody else applies at the same time
            _refuse_code(code, f"create topic {name}", message)


async def _alter(admin: Any, name: str, config: dict[str, str]) -> None:
    answers = await admin.alter_configs([_ConfigResource(_TOPIC, name, config)])
    for answer in answers:
        for code, message, *_ in answer.resources:
            if code in _NO_RIGHT:
                raise MissingAcl("AlterConfigs", name)
            _refuse_code(code, f"change the settings of topic {name}", message)


async def _wait_until_applied(admin: Any, wanted: Mapping[str, Mapping[str, str]]) -> None:
    """Return once each partition can be written to and each setting is seen: brokers follow a moment later. `admin_client` bounds it."""
    pause_s = 0.05
    while True:
        led = {
            topic["topic"]
            for topic in await admin.describe_topics()
            if topic["partitions"] and all(partition["leader"] >= 0 for partition in topic["partitions"])
        }
        if led.issuperset(wanted):
            states = await _states(admin, wanted)
            if not any(_drift(wanted[state.name], state.config) for state in states):
                return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)  # the whole cluster is described each time


_NO_RIGHT: Final = frozenset(
    {errors.TopicAuthorizationFailedError.errno, errors.ClusterAuthorizationFailedError.errno}
)


def _refuse_code(code: int, what: str, message: str | None) -> None:
    """Faults come as numbers in the answer; nothing is raised by itself."""
    if code != 0:
        name = errors.for_code(code).__name__
        raise TopicMismatch(f"Kafka refuses to {what}: {name}" + (f", {message}" if message else ""))


def _refuse_wrong(topics: Sequence[Topic], there: dict[str, TopicState], *, missing_is_wrong: bool) -> None:
    missing = [topic.name for topic in topics if topic.name not in there] if missing_is_wrong else []
    other = [
        f"{topic.name} has {there[topic.name].partitions} partitions, not {topic.partitions}"
        for topic in topics
        if topic.name in there and there[topic.name].partitions != topic.partitions
    ]
    lines = []
    if missing:
        lines.append(f"topics are missing: {', '.join(missing)}. Create them: voipex-bridge topics apply")
    if other:
        lines.append(
            f"topics have another number of partitions: {'; '.join(other)}. Partitions never change once events are there "
            "(keys would move): set VOIPEX_TOPIC_PARTITIONS to what is there, or delete these topics and run voipex-bridge topics apply"
        )
    if lines:
        raise TopicMismatch("\n".join(lines))


def _refuse_small(topics: Sequence[Topic], there: dict[str, TopicState]) -> None:
    """Refuse a lower max.message.bytes of a topic that the bridge writes: a record and its dead letter may not fit, and would be lost."""
    name = "max.message.bytes"
    small = [
        f"{topic.name} has {there[topic.name].config[name]}, declared is {topic.config[name]}"
        for topic in topics
        if topic.kind in WRITTEN and name in there[topic.name].config
        if name in _drift(topic.config, there[topic.name].config)
    ]
    if small:
        raise TopicMismatch(f"{name} is too low: {'; '.join(small)}. Raise it: voipex-bridge topics apply")


def _drift(declared: Mapping[str, str], actual: Mapping[str, str]) -> dict[str, str]:
    """Declared settings that the topic does not meet. A larger max.message.bytes does no harm."""

    def met(name: str, value: str) -> bool:
        current = actual.get(name)
        if current is None:
            return False
        if name == "cleanup.policy":
            return set(current.split(",")) == set(value.split(","))
        if name == "max.message.bytes":
            return int(current) >= int(value)
        return current == value

    return {name: value for name, value in declared.items() if not met(name, value)}
