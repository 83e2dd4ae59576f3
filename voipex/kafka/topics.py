"""List, check and create topics. Every call has a deadline, and raises KafkaUnreachable, KafkaAccessDenied or TopicMismatch."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import aiokafka.admin
import aiokafka.admin.config_resource
from aiokafka import errors

from voipex.errors import TopicMismatch, TopicsMissing
from voipex.kafka.admin import ADMIN_TIMEOUT_S, BRIDGE_ADMIN, MissingAcl, admin_client
from voipex.kafka.permissions import topic_accesses
from voipex.kafka.settings import KafkaSettings
from voipex.topics import WRITTEN, Topic, TopicSpec

_NewTopic: Any = aiokafka.admin.NewTopic
_ConfigResource: Any = aiokafka.admin.config_resource.ConfigResource
_TOPIC: Any = aiokafka.admin.config_resource.ConfigResourceType.TOPIC


class TopicState(NamedTuple):
    """A topic as it exists in the cluster."""

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
    Return the topics of the cluster, ordered by name, or only those in *names*; with the configuration of all, or of those in *with_config*.

    Raises:
        KafkaAccessDenied: the ACL to describe a requested configuration is missing.
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
    Compare the cluster with *topics*, and return a warning for each difference and for each topic that this user may not see completely.

    Raises:
        TopicMismatch: topics have another number of partitions, or would reject the bridge's records by their size; names all.
        TopicsMissing: topics do not exist; nothing else is wrong with the others' partitions.
        KafkaAccessDenied: this user may not see topics of the kinds in *needed*.
        KafkaUnreachable: with the cause.
    """
    async with admin_client(settings, ADMIN_TIMEOUT_S, client_id) as admin:
        access = await topic_accesses(admin, topics)
        unauthorized = [topic for topic in topics if access[topic.name].unauthorized]
        blocking = [topic.name for topic in unauthorized if topic.kind in needed]
        if blocking:
            raise MissingAcl("Describe", *blocking)
        visible = [topic for topic in topics if topic not in unauthorized]
        readable = [topic.name for topic in visible if not access[topic.name].config_unauthorized]
        states = await _states(admin, {topic.name for topic in visible}, readable)
    existing = {state.name: state for state in states}
    _require_partitions(visible, existing, allow_missing=False)
    _require_record_size(visible, existing)
    return (
        *(f"topic {topic.name}: not checked, the ACL for Describe is missing" for topic in unauthorized),
        *(
            f"topic {topic.name}: its configuration is not compared, the ACL for DescribeConfigs is missing"
            for topic in visible
            if topic.name not in readable
        ),
        *(
            f"topic {topic.name}: {name} is {existing[topic.name].config.get(name, 'not set')}, declared is {value}"
            for topic in visible
            if topic.name in readable
            for name, value in _drift(topic.config, existing[topic.name].config).items()
        ),
    )


async def apply_topics(
    settings: KafkaSettings, topics: Sequence[Topic], replication: int, min_insync: int
) -> dict[str, Outcome]:
    """
    Create missing topics, and set the declared configuration where it differs; nothing else of an existing topic is changed.

    Returns what was done, by name.

    Raises:
        TopicMismatch: a topic has another number of partitions (then nothing was done), or the cluster rejected a change.
        KafkaAccessDenied: an ACL is missing; the message names it.
        KafkaUnreachable: with the cause.
    """
    wanted = {topic.name: {**topic.config, "min.insync.replicas": str(min_insync)} for topic in topics}
    async with admin_client(settings, ADMIN_TIMEOUT_S) as admin:
        access = await topic_accesses(admin, topics)
        for operation, denied in (
            ("Describe", [name for name, each in access.items() if each.unauthorized]),
            ("DescribeConfigs", [name for name, each in access.items() if each.config_unauthorized]),
        ):
            if denied:
                raise MissingAcl(operation, *denied)
        existing = {state.name: state for state in await _states(admin, wanted)}
        _require_partitions(topics, existing, allow_missing=True)
        missing = [topic for topic in topics if topic.name not in existing]
        if missing:
            await _create(
                admin,
                [
                    _NewTopic(topic.name, topic.partitions, replication, topic_configs=wanted[topic.name])
                    for topic in missing
                ],
            )
        outcomes: dict[str, Outcome] = {topic.name: "created" for topic in missing}
        for name, state in existing.items():
            drift = _drift(wanted[name], state.config)
            if drift:
                # The request replaces the whole set, so the other settings of the topic must be in it, too.
                await _alter(admin, name, {**await _topic_overrides(admin, name), **drift})
            outcomes[name] = "changed" if drift else "unchanged"
        await _wait_until_applied(admin, wanted)
    return {topic.name: outcomes[topic.name] for topic in topics}


async def _states(
    admin: Any, names: Collection[str] | None, with_config: Collection[str] | None = None
) -> tuple[TopicState, ...]:
    # Describe all topics: to name a missing one would create it where the cluster allows that.
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
    """Return topic -> setting -> (value, whether it is set on the topic itself)."""
    if not names:
        return {}
    denied: list[str] = []
    answers = await admin.describe_configs([_ConfigResource(_TOPIC, name) for name in names])
    configs: dict[str, dict[str, tuple[str, bool]]] = {}
    for answer in answers:
        for code, message, _, topic, entries in answer.resources:
            if code in _UNAUTHORIZED:
                denied.append(topic)
                continue
            _require_success(code, f"describe the settings of topic {topic}", message)
            # name, value, read-only, source (1: the topic itself), …
            configs[topic] = {
                entry[0]: (entry[1], entry[3] == 1) for entry in entries if entry[1] is not None
            }
    if denied:
        raise MissingAcl("DescribeConfigs", *denied)
    return configs


async def _topic_overrides(admin: Any, name: str) -> dict[str, str]:
    configs = await _configs(admin, [name])
    return {setting: value for setting, (value, own) in configs[name].items() if own}


async def _create(admin: Any, topics: Sequence[Any]) -> None:
    answer = await admin.create_topics(list(topics))
    denied = [name for name, code, _ in answer.topic_errors if code in _UNAUTHORIZED]
    if denied:
        raise MissingAcl("Create", *denied)
    for name, code, message in answer.topic_errors:
        if code != errors.TopicAlreadyExistsError.errno:  # another process creates it at the same time
            _require_success(code, f"create topic {name}", message)


async def _alter(admin: Any, name: str, config: dict[str, str]) -> None:
    answers = await admin.alter_configs([_ConfigResource(_TOPIC, name, config)])
    for answer in answers:
        for code, message, *_ in answer.resources:
            if code in _UNAUTHORIZED:
                raise MissingAcl("AlterConfigs", name)
            _require_success(code, f"change the settings of topic {name}", message)


async def _wait_until_applied(admin: Any, wanted: Mapping[str, Mapping[str, str]]) -> None:
    """Wait until every partition has a leader and brokers report every setting, which takes them a moment. `admin_client` limits the time."""
    pause_s = 0.05
    while True:
        with_leaders = {
            topic["topic"]
            for topic in await admin.describe_topics()
            if topic["partitions"] and all(partition["leader"] >= 0 for partition in topic["partitions"])
        }
        if with_leaders.issuperset(wanted):
            states = await _states(admin, wanted)
            if not any(_drift(wanted[state.name], state.config) for state in states):
                return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)  # the whole cluster is described each time


_UNAUTHORIZED: Final = frozenset(
    {errors.TopicAuthorizationFailedError.errno, errors.ClusterAuthorizationFailedError.errno}
)


def _require_success(code: int, action: str, message: str | None) -> None:
    """Raise the error of an answer: aiokafka returns error codes and raises nothing."""
    if code != 0:
        name = errors.for_code(code).__name__
        raise TopicMismatch(f"Kafka refuses to {action}: {name}" + (f", {message}" if message else ""))


def _require_partitions(
    topics: Sequence[Topic], existing: Mapping[str, TopicState], *, allow_missing: bool
) -> None:
    missing = [] if allow_missing else [topic.name for topic in topics if topic.name not in existing]
    other = [
        f"{topic.name} has {existing[topic.name].partitions} partitions, not {topic.partitions}"
        for topic in topics
        if topic.name in existing and existing[topic.name].partitions != topic.partitions
    ]
    lines = []
    if missing:
        lines.append(str(topics_missing(missing)))
    if other:
        lines.append(
            f"topics have another number of partitions: {'; '.join(other)}. Partitions never change once there are events "
            "(keys would move): set VOIPEX_TOPIC_PARTITIONS to that number, or VOIPEX_PBXS=NAME:NUMBER for one PBX, or delete these topics and run voipex-bridge topics apply"
        )
    if other:
        raise TopicMismatch("\n".join(lines))
    if missing:
        raise topics_missing(missing)


def topics_missing(names: Sequence[str]) -> TopicsMissing:
    """Make the error for topics that do not exist."""
    return TopicsMissing(f"topics are missing: {', '.join(names)}. Create them: voipex-bridge topics apply")


def _require_record_size(topics: Sequence[Topic], existing: Mapping[str, TopicState]) -> None:
    """Reject a lower max.message.bytes of a topic that the bridge writes: neither a record nor its dead letter may fit, and all behind it wait."""
    name = "max.message.bytes"
    small = [
        f"{topic.name} has {existing[topic.name].config[name]}, declared is {topic.config[name]}"
        for topic in topics
        if topic.kind in WRITTEN and name in existing[topic.name].config
        if name in _drift(topic.config, existing[topic.name].config)
    ]
    if small:
        raise TopicMismatch(f"{name} is too low: {'; '.join(small)}. Raise it: voipex-bridge topics apply")


def _drift(declared: Mapping[str, str], actual: Mapping[str, str]) -> dict[str, str]:
    """Return the declared settings that the topic does not have. A larger max.message.bytes does no harm."""

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
