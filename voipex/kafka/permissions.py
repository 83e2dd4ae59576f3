"""Which topics exist, and which operations their ACLs allow this user (KIP-430, include_authorized_operations)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import errors
from aiokafka.protocol import api, types

from voipex.kafka.admin import BRIDGE_ADMIN, Cluster, admin_client
from voipex.kafka.settings import KafkaSettings
from voipex.topics import Topic


class TopicAccess(NamedTuple):
    """A topic as the brokers show it to this user."""

    name: str
    error: str | None
    """Name of the error, such as `UnknownTopicOrPartitionError`; the rest is unknown then."""
    operations: frozenset[str] | None
    """Operations that this user is authorized for, as ACLs name them: `Read`, `Write` …; None if the brokers do not report them."""
    leaderless: tuple[int, ...]
    fewest_in_sync: int
    partitions: int = 0

    @property
    def unauthorized(self) -> bool:
        """Without Describe, brokers do not reveal whether the topic exists."""
        return self.error == errors.TopicAuthorizationFailedError.__name__

    @property
    def config_unauthorized(self) -> bool:
        return self.error is None and self.operations is not None and "DescribeConfigs" not in self.operations


class ClusterInfo(NamedTuple):
    """The cluster, and this user's access to some topics."""

    cluster: Cluster
    topics: tuple[TopicAccess, ...]


async def examine(
    settings: KafkaSettings, topics: Sequence[str], timeout_s: float = 10.0, *, client_id: str = BRIDGE_ADMIN
) -> ClusterInfo:
    """
    Describe the cluster and this user's access to *topics*. Writes and creates nothing.

    Raises:
        KafkaUnreachable: with the cause.
    """
    async with admin_client(settings, timeout_s, client_id) as admin:
        metadata = await _metadata(admin, topics)
    brokers = sorted((each["node_id"], f"{each['host']}:{each['port']}") for each in metadata["brokers"])
    return ClusterInfo(
        Cluster(metadata["cluster_id"] or "", tuple(address for _, address in brokers)),
        tuple(topic_access(topic) for topic in metadata["topics"]),
    )


async def _metadata(admin: Any, topics: Sequence[str]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = (await admin._send_request(TopicAccessRequest(topics))).to_object()  # noqa: SLF001 - no public way
    return metadata


async def topic_accesses(admin: Any, topics: Iterable[Topic]) -> dict[str, TopicAccess]:
    """Return this user's access to each topic, by name."""
    metadata = await _metadata(admin, [topic.name for topic in topics])
    return {topic["topic"]: topic_access(topic) for topic in metadata["topics"]}


OPERATIONS_BY_BIT: Final = {  # bit of the answer -> name (org.apache.kafka.common.acl.AclOperation)
    3: "Read",
    4: "Write",
    5: "Create",
    6: "Delete",
    7: "Alter",
    8: "Describe",
    10: "DescribeConfigs",
    11: "AlterConfigs",
}


def topic_access(topic: Mapping[str, Any]) -> TopicAccess:
    """Read a topic of the answer to a `TopicAccessRequest`."""
    partitions = topic["partitions"]
    bits = topic["authorized_operations"]
    return TopicAccess(
        topic["topic"],
        None if topic["error_code"] == 0 else errors.for_code(topic["error_code"]).__name__,
        None if bits < 0 else frozenset(name for bit, name in OPERATIONS_BY_BIT.items() if bits >> bit & 1),
        tuple(sorted(each["partition"] for each in partitions if each["leader"] < 0)),
        min((len(each["isr"]) for each in partitions), default=0),
        len(partitions),
    )


# Metadata, version 8 (Kafka 2.3), which added include_authorized_operations; aiokafka only knows older versions.


class _TopicAccessResponse(api.Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        (
            "brokers",
            types.Array(
                ("node_id", types.Int32),
                ("host", types.String("utf-8")),
                ("port", types.Int32),
                ("rack", types.String("utf-8")),
            ),
        ),
        ("cluster_id", types.String("utf-8")),
        ("controller_id", types.Int32),
        (
            "topics",
            types.Array(
                ("error_code", types.Int16),
                ("topic", types.String("utf-8")),
                ("is_internal", types.Boolean),
                (
                    "partitions",
                    types.Array(
                        ("error_code", types.Int16),
                        ("partition", types.Int32),
                        ("leader", types.Int32),
                        ("leader_epoch", types.Int32),
                        ("replicas", types.Array(types.Int32)),
                        ("isr", types.Array(types.Int32)),
                        ("offline_replicas", types.Array(types.Int32)),
                    ),
                ),
                ("authorized_operations", types.Int32),
            ),
        ),
        ("cluster_authorized_operations", types.Int32),
    )


class _TopicAccessStruct(api.RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _TopicAccessResponse
    SCHEMA = types.Schema(
        ("topics", types.Array(types.String("utf-8"))),
        ("allow_auto_topic_creation", types.Boolean),
        ("include_cluster_authorized_operations", types.Boolean),
        ("include_topic_authorized_operations", types.Boolean),
    )


class TopicAccessRequest(api.Request[_TopicAccessStruct]):
    """Ask for topics with this user's authorized operations, without creating them."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_TopicAccessStruct]) -> _TopicAccessStruct:
        return request_struct_class(self._topics, False, False, True)
