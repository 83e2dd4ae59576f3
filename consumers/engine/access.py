"""Checks of topics and ACLs before anything is read, and the errors that name a missing ACL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import errors

from consumers.engine.projection import Projection
from voipex.errors import KafkaAccessDenied, KafkaUnavailable
from voipex.kafka import diagnostics, permissions
from voipex.kafka.admin import acl_command, describe_cluster, missing_acl
from voipex.kafka.settings import KafkaSettings
from voipex.kafka.topics import check_topics, topics_missing
from voipex.topics import DEAD_LETTERS, Topic


def group_of(service: str) -> str:
    """Return the consumer group of a service, which is also the prefix of its client and transactional ids."""
    return f"voipex-{service}"


def admin_client_id(group: str) -> str:
    return f"{group}-admin"


def used_topics(projection: Projection[Any], topics: Iterable[Topic]) -> list[Topic]:
    """Return those of *topics* that a service reads or writes."""
    kinds = {*projection.inputs, *projection.outputs, projection.changelog, DEAD_LETTERS}
    return [topic for topic in topics if topic.kind in kinds]


def required_acls(projection: Projection[Any], topics: Iterable[Topic]) -> dict[str, list[str]]:
    """
    Return the names of those of *topics* that need an operation (`Read`, `Write`) to be allowed. With Read on a repartitioned output, brokers
    tell whose a transaction is that hangs there.
    """
    kinds = {
        "Read": {*projection.inputs, projection.changelog, *projection.repartitioned},
        "Write": {*projection.outputs, projection.changelog, DEAD_LETTERS},
    }
    topics = tuple(topics)
    return {
        operation: [topic.name for topic in topics if topic.kind in needed]
        for operation, needed in kinds.items()
    }


async def check_cluster(
    settings: KafkaSettings, topics: Sequence[Topic], acls: Mapping[str, Collection[str]], client_id: str
) -> str:
    """
    Check that the topics are as declared and that we have the required *acls*; return the cluster's id.

    Raises:
        TopicsMissing: wait for them; TopicMismatch: they contradict the settings.
        KafkaUnreachable: with the cause; KafkaAccessDenied: an ACL is missing.
    """
    await check_acls(settings, acls, client_id)
    await check_topics(settings, topics, {topic.kind for topic in topics}, client_id=client_id)
    return (await describe_cluster(settings, client_id=client_id)).cluster_id


async def check_access(settings: KafkaSettings, acls: Mapping[str, Collection[str]], client_id: str) -> None:
    """
    Check that the topics exist and that each operation is allowed on them: the errors of clients tell little or nothing of it.

    Raises:
        TopicsMissing: some were deleted; names them.
        KafkaAccessDenied: an ACL is missing; names it.
        KafkaUnreachable: with the cause.
    """
    missing = await check_acls(settings, acls, client_id)
    if missing:
        raise topics_missing(missing)


async def check_acls(
    settings: KafkaSettings, acls: Mapping[str, Collection[str]], client_id: str
) -> Sequence[str]:
    """
    Check that each operation is allowed on its topics. The errors of a transaction say less clearly which ACL is missing, or nothing.

    Returns the names of topics that do not exist.

    Raises:
        KafkaAccessDenied: an ACL is missing; names it.
        KafkaUnreachable: with the cause.
    """
    found = await permissions.examine(settings, sorted(set().union(*acls.values())), client_id=client_id)
    for operation, names in acls.items():
        missing = [
            each.name
            for each in found.topics
            if each.name in names
            and (
                each.unauthorized
                or (each.error is None and each.operations is not None and operation not in each.operations)
            )
        ]
        if missing:
            raise missing_acl(settings, operation, missing)
    return [each.name for each in found.topics if each.error == errors.UnknownTopicOrPartitionError.__name__]


async def diagnose(settings: KafkaSettings, error: BaseException, client_id: str) -> KafkaUnavailable:
    """Return the cause of *error*; KafkaAccessDenied also for a missing ACL on a group or transactional id, which no topic shows."""
    if isinstance(error, errors.GroupAuthorizationFailedError):
        operation, resource, option = "Read", f"group {error.args[0]}", f"--group {error.args[0]}"
    elif isinstance(error, errors.TransactionalIdAuthorizationFailed):
        group = str(error.args[0]).partition(".")[0]
        operation, resource = "Write", f"transactional id {error.args[0]}"
        option = f"--transactional-id {group}. --resource-pattern-type prefixed"
    else:
        return await diagnostics.diagnose(settings, error, client_id=client_id)
    command = acl_command(settings, operation, ()).rstrip()
    return KafkaAccessDenied(
        f"Kafka denies {operation} on {resource}. Add the ACL: {command} {option} (docs/operations.md lists all ACLs)"
    )
