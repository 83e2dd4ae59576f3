"""Check Kafka: the addresses, the cluster, this user's ACLs and the topics. Only reads metadata."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from bridge.ops.doctor.report import Check, skipped
from bridge.settings import Settings
from voipex.errors import BridgeError, KafkaUnavailable, TopicMismatch
from voipex.kafka import permissions
from voipex.kafka.admin import Cluster, acl_command
from voipex.kafka.diagnostics import probe_brokers
from voipex.kafka.permissions import TopicAccess
from voipex.kafka.topics import TopicState, check_topics, list_topics
from voipex.service.settings import variable_of
from voipex.topics import DEAD_LETTERS, WRITTEN, Topic

CHECKS: Final = ("kafka", "cluster", "rights", "topics")
_AFTER_CONNECTING: Final = CHECKS[1:]


async def check_kafka(settings: Settings) -> list[Check]:
    """Return the results of all checks of this module; each address has three seconds to answer."""
    meanwhile = "events wait in the spool" if settings.ack == "spool" else "no event is accepted"
    remedy = (
        "make sure that the broker is running and reachable; check VOIPEX_KAFKA_BOOTSTRAP_SERVERS, VOIPEX_KAFKA_SSL_* and "
        f"VOIPEX_KAFKA_SASL_*. Until then {meanwhile}"
    )
    try:
        problems = await probe_brokers(settings)
    except KafkaUnavailable as error:
        return [
            Check("kafka", "error", str(error), remedy),
            *skipped(_AFTER_CONNECTING, "Kafka is unreachable"),
        ]
    any_reachable = None in problems.values()
    checks = [
        Check("kafka", "ok", f"{address} answers")
        if problem is None
        else Check("kafka", "warning" if any_reachable else "error", f"{address} {problem}", remedy)
        for address, problem in problems.items()
    ]
    if not any_reachable:
        return [*checks, *skipped(_AFTER_CONNECTING, "Kafka is unreachable")]
    topics = settings.topics()
    try:
        found = await permissions.examine(settings, [topic.name for topic in topics])
        checks += await _check_advertised(settings, found.cluster, problems)
        checks += [_check_cluster(found.cluster), _check_rights(settings, topics, found.topics)]
        checks += await _check_topics(settings, topics, found.topics)
    except BridgeError as error:
        done = {check.name for check in checks}
        failed, *others = [name for name in _AFTER_CONNECTING if name not in done]
        checks += [
            Check(failed, "error", str(error), remedy),
            *skipped(others, "Kafka refused the request before"),
        ]
    return checks


async def _check_advertised(settings: Settings, cluster: Cluster, probed: Iterable[str]) -> list[Check]:
    """Probe the addresses that the brokers advertise: clients connect to these, and only the bootstrap addresses are in the settings."""
    others = [address for address in cluster.brokers if address not in set(probed)]
    if not others:
        return []
    return [
        Check("kafka", "ok", f"{address} answers; a broker advertises it")
        if problem is None
        else Check(
            "kafka",
            "error",
            f"{address}, which a broker advertises as its own address, {problem}",
            "correct that broker's advertised.listeners, the name resolution or the network",
        )
        for address, problem in (await probe_brokers(settings, ",".join(others))).items()
    ]


def _check_cluster(cluster: Cluster) -> Check:
    plural = "" if len(cluster.brokers) == 1 else "s"
    brokers = ", ".join(cluster.brokers)
    return Check("cluster", "ok", f"{cluster.cluster_id}: {len(cluster.brokers)} broker{plural}, {brokers}")


# ---------------------------------------------------------------- rights


def missing_rights(topics: Sequence[Topic], access: Iterable[TopicAccess]) -> dict[str, list[str]]:
    """
    Map each missing ACL operation to the topics that lack it.

    A topic that does not exist, or on which the brokers do not report operations, lacks none.
    """
    by_name = {each.name: each for each in access}
    missing: dict[str, list[str]] = {}
    for topic in topics:
        allowed = _allowed(by_name[topic.name])
        if allowed is None:
            continue
        # `serve` writes; `topics` and `doctor` compare all declared topics; `dead-letters` reads dead letters.
        needed = ["Describe", "DescribeConfigs"]
        needed += ["Write"] if topic.kind in WRITTEN else []
        needed += ["Read"] if topic.kind is DEAD_LETTERS else []
        for right in needed:
            if right not in allowed:
                missing.setdefault(right, []).append(topic.name)
    return missing


def _allowed(access: TopicAccess) -> frozenset[str] | None:
    """Return the allowed operations; None if they are unknown."""
    if access.unauthorized:
        return frozenset()
    return access.operations if access.error is None else None


def _check_rights(settings: Settings, topics: Sequence[Topic], access: Sequence[TopicAccess]) -> Check:
    missing = missing_rights(topics, access)
    if missing:
        first = "Write" if "Write" in missing else next(iter(missing))
        message = "missing: " + "; ".join(
            f"{' and '.join(rights)} on {f'all {len(names)} topics' if len(names) == len(topics) else ', '.join(names)}"
            for names, rights in _group_by_topics(missing).items()
        )
        remedy = f"{acl_command(settings, first, missing[first])}; docs/operations.md lists all ACLs"
        if "Write" in missing:
            return Check("rights", "error", message, remedy)
        # Write includes Describe, by Kafka's own rule.
        message += "; the bridge does not need that, but `topics`, `doctor`, `dead-letters` and `tail` do"
        return Check("rights", "warning", message, remedy)
    if all(_allowed(each) is None for each in access):
        return Check("rights", "skipped", "unknown: no topic exists, or the brokers do not report them")
    return Check("rights", "ok", "Describe on all topics, Write on those of events and dead letters")


def _group_by_topics(missing: Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], list[str]]:
    """Group the rights that are missing on the same topics."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for right, names in missing.items():
        grouped.setdefault(tuple(names), []).append(right)
    return grouped


# ---------------------------------------------------------------- topics


async def _check_topics(
    settings: Settings, topics: Sequence[Topic], access: Sequence[TopicAccess]
) -> list[Check]:
    by_name = {each.name: each for each in access}
    hidden = [topic for topic in topics if by_name[topic.name].unauthorized]
    visible = [topic for topic in topics if topic not in hidden]
    without_config = [topic for topic in visible if by_name[topic.name].config_unauthorized]
    states = {
        state.name: state
        for state in await list_topics(
            settings,
            {topic.name for topic in visible},
            with_config={topic.name for topic in visible if topic not in without_config},
        )
    }
    checks = [
        Check("topics", "skipped", f"skipped: the ACL for {right} is missing on {_join_names(which)}")
        for right, which in (("Describe", hidden), ("DescribeConfigs", without_config))
        if which
    ]
    missing = [topic.name for topic in visible if topic.name not in states]
    if missing:
        checks.append(
            Check("topics", "error", f"missing: {', '.join(missing)}", "voipex-bridge topics apply")
        )
    existing = [topic for topic in visible if topic.name in states]
    mismatched = [topic for topic in existing if states[topic.name].partitions != topic.partitions]
    if mismatched:
        checks.append(
            Check(
                "topics",
                "error",
                "; ".join(
                    f"{topic.name} has {states[topic.name].partitions} partitions, not {topic.partitions}"
                    for topic in mismatched
                ),
                f"set {variable_of('topic_partitions')} to their number, or {variable_of('pbxs')}=NAME:NUMBER for one PBX, or delete these topics and run voipex-bridge topics apply",
            )
        )
    checks += _check_replicas(settings, [states[topic.name] for topic in existing], by_name)
    comparable = [topic for topic in existing if topic not in mismatched and topic not in without_config]
    try:
        differing = await check_topics(settings, comparable) if comparable else ()
    except TopicMismatch as error:
        checks.append(Check("topics", "error", str(error), "voipex-bridge topics apply"))
        differing = ()
    for line in differing:
        checks.append(Check("topics", "warning", line, "voipex-bridge topics apply sets the declared value"))
    return checks or [
        Check(
            "topics", "ok", f"{len(topics)} are as declared; each partition has a leader and enough replicas"
        )
    ]


def _check_replicas(
    settings: Settings, states: Sequence[TopicState], access: Mapping[str, TopicAccess]
) -> Iterator[Check]:
    for state in states:
        seen = access[state.name]
        min_in_sync = int(state.config.get("min.insync.replicas", "1"))
        if seen.leaderless:
            yield Check(
                "topics",
                "error",
                f"{state.name}: partitions {', '.join(map(str, seen.leaderless))} have no leader",
                "restart the brokers that hold them",
            )
        elif seen.fewest_in_sync < min_in_sync:
            yield Check(
                "topics",
                "error",
                f"{state.name}: {seen.fewest_in_sync} replicas in sync, min.insync.replicas is {min_in_sync}: writes are refused",
                "restart the brokers that hold the missing replicas",
            )
    below = [state for state in states if state.replication < settings.topic_replication]
    if below:
        yield Check(
            "topics",
            "warning",
            f"{_join_names(below)}: {min(state.replication for state in below)} replicas, "
            f"{variable_of('topic_replication')} is {settings.topic_replication}",
            f"add replicas with kafka-reassign-partitions.sh, or correct {variable_of('topic_replication')}",
        )


def _join_names(topics: Sequence[Topic | TopicState]) -> str:
    if len(topics) > 2:
        return f"{len(topics)} topics ({topics[0].name} …)"
    return ", ".join(topic.name for topic in topics)
