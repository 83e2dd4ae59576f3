"""Which topics exist and which ACLs this user has on them, asked with include_authorized_operations (KIP-430)."""

from collections.abc import (
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Final, NamedTuple

from aiokafka import errors
from aiokafka.protocol import api, types

from voipex.kafka.admin import BRIDGE_ADMIN, Cluster, admin_client
from voipex.kafka.settings import KafkaSettings
from voipex.topics import Topic

# ---------------------------------------------------------------------------------------------------- examination


class TopicAccess(NamedTuple):
    """A topic as the brokers let us see it."""

    name: str
    error: str | None
    """`UnknownTopicOrPartitionError`, `TopicAuthorizationFailedError`; then nothing else is known."""
    operations: frozenset[str] | None
    """What we may do with it, as Kafka's ACLs name it: `Read`, `Write`, `DescribeConfigs` …; None: the brokers do not say."""
    leaderless: tuple[int, ...]
    fewest_in_sync: int

    @property
    def unauthorized(self) -> bool:
        """Without the right Describe nobody is told whether it is there."""
        return self.error == errors.TopicAuthorizationFailedError.__name__

    @property
    def config_unauthorized(self) -> bool:
        return self.error is None and self.operations is not None and "DescribeConfigs" not in self.operations


class ClusterInfo(NamedTuple):
    """What the brokers say about themselves and about us."""

    cluster: Cluster
    topics: tuple[TopicAccess, ...]


async def examine(
    settings: KafkaSettings, topics: Sequence[str], timeout_s: float = 10.0, *, client_id: str = BRIDGE_ADMIN
) -> ClusterInfo:
    """
    Ask for the brokers and for this user's ACLs on *topics*; writes and creates nothing.

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
    metadata = await _metadata(admin, [topic.name for topic in topics])
    return {topic["topic"]: topic_access(topic) for topic in metadata["topics"]}


OPERATIONS_BY_BIT: Final = {  # number of the bit -> name (org.apache.kafka.common.acl.AclOperation)
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
    partitions = topic["partitions"]
    bits = topic["rights"]
    return TopicAccess(
        topic["topic"],
        None if topic["error_code"] == 0 else errors.for_code(topic["error_code"]).__name__,
        None if bits < 0 else frozenset(name for bit, name in OPERATIONS_BY_BIT.items() if bits >> bit & 1),
        tuple(sorted(each["partition"] for each in partitions if each["leader"] < 0)),
        min((len(each["isr"]) for each in partitions), default=0),
    )


# A request that aiokafka knows in older versions only. Kafka 2.3 added include_authorized_operations to it.


class _RightsResponse(api.Response):
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
                ("rights", types.Int32),
            ),
        ),
        ("cluster_rights", types.Int32),
    )


class _RightsStruct(api.RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _RightsResponse
    SCHEMA = types.Schema(
        ("topics", types.Array(types.String("utf-8"))),
        ("allow_auto_topic_creation", types.Boolean),
        ("include_cluster_rights", types.Boolean),
        ("include_topic_rights", types.Boolean),
    )


class TopicAccessRequest(api.Request[_RightsStruct]):
    """Metadata v8: names the topics without creating them, and tells our rights."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_RightsStruct]) -> _RightsStruct:
        return request_struct_class(self._topics, False, False, True)
