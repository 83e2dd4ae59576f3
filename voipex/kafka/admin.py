"""Admin clients: the description of the cluster, and errors that name a missing ACL with the command that adds it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, NamedTuple

import aiokafka.admin
from aiokafka.errors import KafkaError

from voipex.errors import KafkaAccessDenied
from voipex.kafka.clients import client_arguments, prepare_client
from voipex.kafka.diagnostics import diagnose
from voipex.kafka.settings import KafkaSettings

_AIOKafkaAdminClient: Any = aiokafka.admin.AIOKafkaAdminClient
ADMIN_TIMEOUT_S: Final = 20.0
BRIDGE_ADMIN: Final = "voipex-bridge-admin"
"""Client id of the bridge's admin connections, as brokers show it in logs and quotas; other services pass their own."""


class Cluster(NamedTuple):
    """Id of a cluster and addresses of its brokers, as a broker reports them."""

    cluster_id: str
    brokers: tuple[str, ...]


async def describe_cluster(
    settings: KafkaSettings, timeout_s: float = 5.0, *, client_id: str = BRIDGE_ADMIN
) -> Cluster:
    """
    Ask any broker for its cluster.

    Raises:
        KafkaUnreachable: with the cause.
    """
    async with admin_client(settings, timeout_s, client_id) as admin:
        described = await admin.describe_cluster()
    brokers = sorted(
        (broker["node_id"], f"{broker['host']}:{broker['port']}") for broker in described["brokers"]
    )
    return Cluster(described["cluster_id"] or "", tuple(address for _, address in brokers))


def missing_acl(settings: KafkaSettings, operation: str, topics: Sequence[str]) -> KafkaAccessDenied:
    """Make the error for an *operation* that Kafka denies on *topics* (none: on every topic), with the command that adds the ACL."""
    where = (
        f"topic {topics[0]}" if len(topics) == 1 else f"topics {', '.join(topics)}" if topics else "any topic"
    )
    if operation == "Describe":
        where += " (Read or Write would include it)"
    return KafkaAccessDenied(
        f"Kafka denies {operation} on {where}. Add the ACL: {acl_command(settings, operation, topics or ('NAME',))} "
        "(docs/operations.md lists the ACLs that each command needs)"
    )


def acl_command(settings: KafkaSettings, operation: str, topics: Iterable[str]) -> str:
    """Return the command that allows *operation* on *topics*. Only the brokers know the principal of a certificate: it is `NAME`."""
    sasl_user = settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_username
    principal = sasl_user or ("ANONYMOUS" if settings.kafka_security_protocol == "PLAINTEXT" else "NAME")
    options = " ".join(f"--topic {topic}" for topic in topics)
    return f"kafka-acls.sh --add --allow-principal User:{principal} --operation {operation} {options}"


class MissingAcl(Exception):
    """Kafka denied an operation on some topics; `admin_client` turns it into the error with the command."""

    def __init__(self, operation: str, *topics: str) -> None:
        super().__init__(operation, *topics)
        self.operation = operation
        self.topics = topics


@contextlib.asynccontextmanager
async def admin_client(
    settings: KafkaSettings, timeout_s: float, client_id: str = BRIDGE_ADMIN
) -> AsyncIterator[Any]:
    """
    Start an admin client. One deadline covers everything that is done with it.

    Raises:
        KafkaAccessDenied: an ACL is missing, or a broker denied access.
        KafkaUnreachable: any other failure, with its cause.
    """
    admin = _AIOKafkaAdminClient(
        **client_arguments(settings),
        client_id=client_id,
        request_timeout_ms=int(timeout_s * 1000),
    )
    prepare_client(admin._client)  # noqa: SLF001 - no public way
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            yield admin
    except MissingAcl as error:
        raise missing_acl(settings, error.operation, error.topics) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise await diagnose(settings, error, client_id=client_id) from error
    finally:
        await admin.close()
        await admin._client.close()  # noqa: SLF001 - connections that were opened meanwhile
