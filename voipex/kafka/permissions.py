"""Which topics exist and which ACLs this user has on them, asked with include_authorized_operations (KIP-430)."""

from collections.abc import (
    Iterable,
    Mapping,
    Sequence,
)
from io import BytesIO
from typing import Any, Final, NamedTuple

from aiokafka import errors
from aiokafka.protocol import api, types

from voipex.kafka.admin import Cluster, _admin
from voipex.kafka.settings import KafkaSettings
from voipex.topics import Topic

# ---------------------------------------------------------------------------------------------------- examination


class Standing(NamedTuple):
    """A topic as the brokers let us see it."""

    name: str
    refusal: str | None
    """`UnknownTopicOrPartitionError`, `TopicAuthorizationFailedError`; then nothing else is known."""
    rights: frozenset[str] | None
    """What we may do with it, as Kafka's ACLs name it: `Read`, `Write`, `DescribeConfigs` …; None: the brokers do not say."""
    leaderless: tuple[int, ...]
    fewest_in_sync: int

    @property
    def hidden(self) -> bool:
        """Without the right Describe nobody is told whether it is there."""
        return self.refusal == errors.TopicAuthorizationFailedError.__name__

    @property
    def settings_hidden(self) -> bool:
        return self.refusal is None and self.rights is not None and "DescribeConfigs" not in self.rights


class Examination(NamedTuple):
    """What the brokers say about themselves and about us."""

    cluster: Cluster
    release: str | None
    """`4.3`: of the broker that was asked. None: it does not say (before 3.3), or is newer than `_RELEASES`."""
    topics: tuple[Standing, ...]


async def examine(settings: KafkaSettings, topics: Sequence[str], timeout_s: float = 10.0) -> Examination:
    """
    Ask for the release, the brokers, and what we may do with *topics*; writes and creates nothing.

    Raises:
        KafkaUnreachable: with the cause.
    """
    async with _admin(settings, timeout_s) as admin:
        metadata = await _metadata(admin, topics)
        features = (await admin._send_request(_FeaturesRequest())).to_object()["tags"].get(0)  # noqa: SLF001
    brokers = sorted((each["node_id"], f"{each['host']}:{each['port']}") for each in metadata["brokers"])
    return Examination(
        Cluster(metadata["cluster_id"] or "", tuple(address for _, address in brokers)),
        None if features is None else _release(features),
        tuple(_standing(topic) for topic in metadata["topics"]),
    )


async def _metadata(admin: Any, topics: Sequence[str]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = (await admin._send_request(_RightsRequest(topics))).to_object()  # noqa: SLF001 - no public way
    return metadata


async def _standings(admin: Any, topics: Iterable[Topic]) -> dict[str, Standing]:
    metadata = await _metadata(admin, [topic.name for topic in topics])
    return {topic["topic"]: _standing(topic) for topic in metadata["topics"]}


_RELEASES: Final = {
    7: "3.3",
    8: "3.4",
    11: "3.5",
    14: "3.6",
    19: "3.7",
    20: "3.8",
    21: "3.9",
    25: "4.0",
    27: "4.1",
    29: "4.2",
    30: "4.3",
}
"""Newest `metadata.version` that a release knows (`kafka-storage.sh version-mapping`): the protocol carries no other version."""

_RIGHTS: Final = {  # number of the bit -> name (org.apache.kafka.common.acl.AclOperation)
    3: "Read",
    4: "Write",
    5: "Create",
    6: "Delete",
    7: "Alter",
    8: "Describe",
    10: "DescribeConfigs",
    11: "AlterConfigs",
}


def _standing(topic: Mapping[str, Any]) -> Standing:
    partitions = topic["partitions"]
    bits = topic["rights"]
    return Standing(
        topic["topic"],
        None if topic["error_code"] == 0 else errors.for_code(topic["error_code"]).__name__,
        None if bits < 0 else frozenset(name for bit, name in _RIGHTS.items() if bits >> bit & 1),
        tuple(sorted(each["partition"] for each in partitions if each["leader"] < 0)),
        min((len(each["isr"]) for each in partitions), default=0),
    )


def _release(features: bytes) -> str | None:
    """From the supported features of an ApiVersions answer."""
    for name, _, newest, _ in _FEATURES.decode(BytesIO(features)) or ():
        if name == "metadata.version":
            known = [release for level, release in _RELEASES.items() if level <= newest]
            return known[-1] if known and newest <= max(_RELEASES) else None
    return None


# Two requests that aiokafka knows in older versions only. Kafka 2.3 brought the rights, 2.4 the features.


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


class _RightsRequest(api.Request[_RightsStruct]):
    """Metadata v8: names the topics without creating them, and tells our rights."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_RightsStruct]) -> _RightsStruct:
        return request_struct_class(self._topics, False, False, True)


_FEATURES: Final = types.CompactArray(
    ("name", types.CompactString("utf-8")),
    ("min_version", types.Int16),
    ("max_version", types.Int16),
    ("tags", types.TaggedFields),
)


class _FeaturesResponse(api.Response):
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = types.Schema(
        ("error_code", types.Int16),
        (
            "api_versions",
            types.CompactArray(
                ("api_key", types.Int16),
                ("min_version", types.Int16),
                ("max_version", types.Int16),
                ("tags", types.TaggedFields),
            ),
        ),
        ("throttle_time_ms", types.Int32),
        ("tags", types.TaggedFields),
    )


class _FeaturesStruct(api.RequestStruct):
    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _FeaturesResponse
    SCHEMA = types.Schema(
        ("client_software_name", types.CompactString("utf-8")),
        ("client_software_version", types.CompactString("utf-8")),
        ("tags", types.TaggedFields),
    )

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> api.ResponseHeader_v0:
        # The one answer whose header never has tags: a broker that does not know our version must be understood too.
        return api.ResponseHeader_v0.decode(read_buffer)


class _FeaturesRequest(api.Request[_FeaturesStruct]):
    """ApiVersions v3: its tag 0 holds the features that the broker supports."""

    API_KEY = 18

    def build(self, request_struct_class: type[_FeaturesStruct]) -> _FeaturesStruct:
        return request_struct_class("voipex-bridge", "1", {})
