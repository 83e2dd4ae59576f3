"""Checks before a service reads: topics, ACLs, client ids, and the report of a missing ACL."""

from typing import Any

import pytest
from aiokafka import errors

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.engine.access import (
    admin_client_id,
    check_acls,
    check_cluster,
    diagnose,
    group_of,
    required_acls,
    used_topics,
)
from voipex.errors import KafkaAccessDenied, KafkaUnreachable
from voipex.kafka import admin, diagnostics, permissions
from voipex.kafka.settings import KafkaSettings
from voipex.topics import topics_for

pytestmark = pytest.mark.anyio

SETTINGS = KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1")
TIMELINES_ADMIN = admin_client_id(group_of("timelines"))


@pytest.fixture
def client_ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all connections that were tried."""
    tried: list[str] = []

    async def refuse(*_: object, client_id: str, **__: object) -> None:
        tried.append(client_id)
        raise ConnectionRefusedError

    def unreachable_admin(*, client_id: str, **options: Any) -> Any:
        tried.append(client_id)
        client = admin_of(client_id=client_id, **options)
        client.start = no_broker
        return client

    async def no_broker() -> None:
        raise errors.KafkaConnectionError("no broker")

    admin_of: Any = admin._AIOKafkaAdminClient
    monkeypatch.setattr(admin, "_AIOKafkaAdminClient", unreachable_admin)
    monkeypatch.setattr(diagnostics, "_create_conn", refuse)
    return tried


async def test_admin_connections_are_named_after_the_service(client_ids: list[str]) -> None:
    """Brokers log and limit clients by name; the consumers must not appear as the bridge."""
    with pytest.raises(KafkaUnreachable):
        await check_cluster(SETTINGS, [], {"Read": ["voipex.call.events.v1"]}, TIMELINES_ADMIN)

    assert client_ids == ["voipex-timelines-admin"] * 2


async def test_the_bridge_keeps_its_name(client_ids: list[str]) -> None:
    with pytest.raises(KafkaUnreachable):
        await admin.describe_cluster(SETTINGS)

    assert client_ids == ["voipex-bridge-admin"] * 2


def test_acls_cover_inputs_outputs_changelog_and_dead_letters() -> None:
    acls = required_acls(AgentProjection(), topics_for(["voipex"], 1))

    assert acls == {
        "Read": [
            "voipex.agent.events.v1",
            "voipex.agent.activity.v1",
            "voipex.agent.state.v1",
            "voipex.agent.lines.v1",
        ],
        "Write": [
            "voipex.agent.status.v1",
            "voipex.dead-letters.v1",
            "voipex.agent.state.v1",
            "voipex.agent.lines.v1",
        ],
    }


def test_used_topics_are_those_of_the_acls() -> None:
    topics = topics_for(["voipex", "brno"], 1)

    acls = required_acls(CallProjection(), topics)

    assert {topic.name for topic in used_topics(CallProjection(), topics)} == {*acls["Read"], *acls["Write"]}


def access(name: str, rights: frozenset[str] | None, refusal: str | None = None) -> permissions.TopicAccess:
    return permissions.TopicAccess(name, refusal, rights, (), 1)


@pytest.mark.parametrize(
    ("topic", "is_denied"),
    [
        (access("a.call.events.v1", frozenset({"Read"})), False),
        (access("a.call.events.v1", None), False),
        (access("a.call.events.v1", frozenset({"Write"})), True),
        (access("a.call.events.v1", None, "TopicAuthorizationFailedError"), True),
        (access("a.call.events.v1", None, "UnknownTopicOrPartitionError"), False),
    ],
    ids=["allowed", "unknown", "not allowed", "hidden", "missing topic"],
)
async def test_a_missing_acl_on_a_topic_is_named(
    monkeypatch: pytest.MonkeyPatch, topic: permissions.TopicAccess, *, is_denied: bool
) -> None:
    """A topic that does not exist is reported by the check of topics."""

    async def examine(*_: object, **__: object) -> permissions.ClusterInfo:
        return permissions.ClusterInfo(admin.Cluster("cluster", ()), (topic,))

    monkeypatch.setattr(permissions, "examine", examine)
    check = check_acls(SETTINGS, {"Read": ["a.call.events.v1"], "Write": []}, TIMELINES_ADMIN)

    if is_denied:
        with pytest.raises(KafkaAccessDenied, match=r"Read on topic a\.call\.events\.v1"):
            await check
    else:
        await check


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (errors.GroupAuthorizationFailedError("voipex-timelines"), "--group voipex-timelines"),
        (
            errors.TransactionalIdAuthorizationFailed("voipex-timelines.voipex.timelines.0"),
            "--transactional-id voipex-timelines. --resource-pattern-type prefixed",
        ),
    ],
    ids=["group", "transactional id"],
)
async def test_a_missing_acl_comes_with_its_command(error: Exception, command: str) -> None:
    found = await diagnose(SETTINGS, error, TIMELINES_ADMIN)

    assert isinstance(found, KafkaAccessDenied)
    assert command in str(found)
