"""Admin connections: the cluster's description, and the errors that name a missing ACL."""

import asyncio
import contextlib
from collections.abc import (
    AsyncIterator,
    Iterable,
    Sequence,
)
from typing import Any, Final, NamedTuple

import aiokafka
import aiokafka.admin
import aiokafka.admin.config_resource
import aiokafka.conn
from aiokafka.errors import KafkaError

from voipex.errors import KafkaAccessDenied
from voipex.kafka.clients import client_arguments
from voipex.kafka.diagnostics import diagnose
from voipex.kafka.settings import KafkaSettings

_AIOKafkaAdminClient: Any = aiokafka.admin.AIOKafkaAdminClient
ADMIN_TIMEOUT_S: Final = 20.0
BRIDGE_ADMIN: Final = "voipex-bridge-admin"
"""Client id of the bridge's admin connections, as brokers show it in logs and quotas; other services pass their own."""


# ---------------------------------------------------------------------------------------------------- reachability


class Cluster(NamedTuple):
    """What a broker says about its cluster."""

    cluster_id: str
    brokers: tuple[str, ...]


async def describe_cluster(
    settings: KafkaSettings, timeout_s: float = 5.0, *, client_id: str = BRIDGE_ADMIN
) -> Cluster:
    """
    Ask any broker.

    Raises:
        KafkaUnreachable: with the cause.
    """
    async with admin_client(settings, timeout_s, client_id) as admin:
        described = await admin.describe_cluster()
    brokers = sorted(
        (broker["node_id"], f"{broker['host']}:{broker['port']}") for broker in described["brokers"]
    )
    return Cluster(described["cluster_id"] or "", tuple(address for _, address in brokers))


def missing_acl(settings: KafkaSettings, right: str, topics: Sequence[str]) -> KafkaAccessDenied:
    """A right that Kafka's authorizer refuses us, with the command that gives it; without *topics*: it is missing on all."""
    where = (
        f"topic {topics[0]}" if len(topics) == 1 else f"topics {', '.join(topics)}" if topics else "any topic"
    )
    if right == "Describe":
        where += " (Read or Write would include it)"
    return KafkaAccessDenied(
        f"Kafka denies {right} on {where}. Add the ACL: {acl_command(settings, right, topics or ('NAME',))} "
        "(docs/operations.md lists the rights that each command needs)"
    )


def acl_command(settings: KafkaSettings, right: str, topics: Iterable[str]) -> str:
    """The command that gives us a right on topics. What a certificate's owner is called is for the brokers to say."""
    named = settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_username
    who = named or ("ANONYMOUS" if settings.kafka_security_protocol == "PLAINTEXT" else "NAME")
    where = " ".join(f"--topic {topic}" for topic in topics)
    return f"kafka-acls.sh --add --allow-principal User:{who} --operation {right} {where}"


class MissingAcl(Exception):
    """A right that is missing; `admin_client` says it in words."""

    def __init__(self, right: str, *topics: str) -> None:
        super().__init__(right, *topics)
        self.right = right
        self.topics = topics


@contextlib.asynccontextmanager
async def admin_client(
    settings: KafkaSettings, timeout_s: float, client_id: str = BRIDGE_ADMIN
) -> AsyncIterator[Any]:
    """An admin client, within one deadline for all that is done with it."""
    admin = _AIOKafkaAdminClient(
        **client_arguments(settings),
        client_id=client_id,
        request_timeout_ms=int(timeout_s * 1000),
    )
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            yield admin
    except MissingAcl as refused:
        raise missing_acl(settings, refused.right, refused.topics) from refused
    except (KafkaError, OSError, TimeoutError) as error:
        raise await diagnose(settings, error, client_id=client_id) from error
    finally:
        await admin.close()
