"""
Kafka's client, typed: a producer, topics, a reader. The only file here that imports aiokafka.

Every call has a deadline and ends in `KafkaUnreachable` (with the addresses and the cause, never a secret), `NoAccess` (the same, and it
names the setting or the right that is to blame) or `TopicsWrong`.
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from io import BytesIO
from typing import Any, Final, Literal, NamedTuple

import aiokafka
import aiokafka.admin
import aiokafka.admin.config_resource
import aiokafka.conn
from aiokafka import errors
from aiokafka.errors import KafkaError
from aiokafka.protocol import api, types
from aiokafka.protocol.metadata import MetadataRequest

from bridge.connection import KafkaSettings
from bridge.errors import KafkaUnreachable, NoAccess, TopicsWrong
from bridge.topics import AGENT_EVENTS, CALL_EVENTS, DEAD_LETTERS, Topic, TopicKind
from bridge.wire import Record

# aiokafka ships no types: what comes from these is checked where it leaves this file.
_AIOKafkaProducer: Any = aiokafka.AIOKafkaProducer
_AIOKafkaConsumer: Any = aiokafka.AIOKafkaConsumer
_AIOKafkaAdminClient: Any = aiokafka.admin.AIOKafkaAdminClient
_NewTopic: Any = aiokafka.admin.NewTopic
_ConfigResource: Any = aiokafka.admin.config_resource.ConfigResource
_TOPIC: Any = aiokafka.admin.config_resource.ConfigResourceType.TOPIC
_collect_hosts: Any = aiokafka.conn.collect_hosts
_create_conn: Any = aiokafka.conn.create_conn

MAX_BATCH_BYTES: Final = 512 * 1024
"""A partition has one batch in flight, so small ones are slow; the topics' max.message.bytes (1 MiB) limits the batch."""

_REQUEST_TIMEOUT_MS: Final = (
    30_000  # longer than a leader election: a batch that expires poisons its partition
)
_RETRY_BACKOFF_MS: Final = 100
_MISSING_FOR_S: Final = 0.2
_ADMIN_TIMEOUT_S: Final = 20.0
_PROBE_TIMEOUT_S: Final = 3.0

WRITTEN: Final = frozenset({CALL_EVENTS, AGENT_EVENTS, DEAD_LETTERS})
"""Kinds of topics that the bridge itself writes."""

Fault = Literal["retry", "topic", "rights", "too_large", "refused", "unsure"]
"""
What a failed delivery means: try again with a new producer; the topic or partition is not there; a right is missing; the broker will
never take this batch, or so it seems.
"""


class KafkaProducer:
    """
    Idempotent, acks=all, one batch per partition in flight; for one publishing task. Once a delivery failed it must be replaced:
    its sequence numbers have a gap, and the broker refuses that partition for ever (aiokafka never begins a new epoch).
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        request_timeout_ms: int = _REQUEST_TIMEOUT_MS,
    ) -> None:
        self._settings = settings
        self._max_batch_bytes = max_batch_bytes
        self._request_timeout_ms = request_timeout_ms
        self._client: Any = None
        self._missing_until: dict[str, float] = {}

    async def start(self, timeout_s: float = 15.0) -> None:
        """
        Connect and get a producer id.

        Raises:
            KafkaUnreachable: nothing is left open; make a new one to try again.
            NoAccess: the same, but it will not help before somebody gave access.
        """
        arguments = client_arguments(self._settings)
        client = _AIOKafkaProducer(
            **arguments,
            client_id="voipex-bridge",
            enable_idempotence=True,
            acks="all",
            linger_ms=0,  # the publisher gathers
            max_batch_size=self._max_batch_bytes,
            request_timeout_ms=self._request_timeout_ms,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
        )
        ask_for_metadata_calmly(client.client)
        try:
            # aiokafka itself asks for a producer id without any limit.
            async with asyncio.timeout(timeout_s):
                await client.start()
        except (
            errors.ClusterAuthorizationFailedError
        ) as error:  # no producer id for those who may write nowhere
            await close_producer(client, 1.0)
            raise no_right(self._settings, "Write", ()) from error
        except (KafkaError, OSError, TimeoutError) as error:
            await close_producer(client, 1.0)
            raise await unreachable(self._settings, error) from error
        except BaseException:
            await close_producer(client, 1.0)
            raise
        self._client = client

    async def send(
        self, topic: str, partition: int, records: Iterable[Record]
    ) -> tuple[int, "asyncio.Future[object]"]:
        """
        Send the first of *records* that fit into one batch: (how many, a future that is done when all in-sync replicas have them).

        The caller awaits the future before it sends more to this partition. A failure, of the call or the future, is what `fault_of` reads.
        """
        client = self._client
        if client.client.cluster.partitions_for_topic(topic) is None:
            await self._learn(topic)
        batch = client.create_batch()
        append, count = batch.append, 0
        for record in records:
            if (
                append(
                    timestamp=record.timestamp_ms,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                )
                is None
            ):
                break
            count += 1
        batch.close()  # an open one would linger
        future: asyncio.Future[object] = await client.send_batch(batch, topic, partition=partition)
        future.add_done_callback(_look_at)
        return count, future

    async def _learn(self, topic: str) -> None:
        """Find the topic within seconds, or tell "no such topic" from "no answer" (aiokafka waits for the whole request timeout)."""
        client = self._client.client
        loop = asyncio.get_running_loop()
        if loop.time() < self._missing_until.get(topic, 0.0):  # its other partitions need not wait too
            raise errors.UnknownTopicOrPartitionError(topic)
        client.add_topic(topic)
        updated = False
        for _ in range(5):  # a topic that was just created is not on every broker yet
            async with asyncio.timeout(self._request_timeout_ms / 1000):
                updated = await client.force_metadata_update()
            if client.cluster.partitions_for_topic(topic) is not None:
                return
            if topic in client.cluster.unauthorized_topics:
                raise errors.TopicAuthorizationFailedError(topic)
            await asyncio.sleep(_RETRY_BACKOFF_MS / 1000)
        if not updated:
            raise errors.KafkaConnectionError("no metadata")
        self._missing_until[topic] = loop.time() + _MISSING_FOR_S
        raise errors.UnknownTopicOrPartitionError(topic)

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Let go: what is not acknowledged by now is given up (its fate is unknown). Takes at most `timeout_s`."""
        if self._client is not None:
            client, self._client = self._client, None
            await close_producer(client, timeout_s)

    @staticmethod
    def fault_of(error: BaseException) -> Fault:
        """Say what a failed delivery means."""
        for kinds, fault in _FAULTS:
            if isinstance(error, kinds):
                return fault
        return "retry"


_FAULTS: Final[tuple[tuple[tuple[type[BaseException], ...], Fault], ...]] = (
    # AssertionError: the partition is not in the metadata.
    ((errors.UnknownTopicOrPartitionError, errors.InvalidTopicError, AssertionError), "topic"),
    ((errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError), "rights"),
    ((errors.MessageSizeTooLargeError, errors.RecordListTooLargeError), "too_large"),
    ((errors.InvalidTimestampError, errors.PolicyViolationError), "refused"),
    # aiokafka's table ends before INVALID_RECORD (87) and calls it unknown, as it does an error of the broker's own.
    ((errors.UnknownError, errors.CorruptRecordException, errors.InvalidRequestError), "unsure"),
)


def _look_at(future: "asyncio.Future[Any]") -> None:
    """A failure that nobody awaits any more is no news."""
    if not future.cancelled():
        future.exception()


def ask_for_metadata_calmly(client: Any) -> None:
    """Ask for metadata at most ten times a second: while a partition has no leader, aiokafka asks 5,000 times."""
    ask: Callable[[], Awaitable[bool]] = client.force_metadata_update
    loop = asyncio.get_running_loop()
    asked_at: deque[float] = deque([-1.0] * 10, maxlen=10)
    waiting: asyncio.Future[bool] | None = None

    async def later(delay_s: float) -> bool:
        nonlocal waiting
        await asyncio.sleep(delay_s)
        waiting = None
        return await at_once() if client._sync_task is not None else False  # noqa: SLF001 - None: closed

    def at_once() -> Awaitable[bool]:
        asked_at.append(loop.time())
        return ask()

    def calmly() -> Awaitable[bool]:
        nonlocal waiting
        delay_s = asked_at[0] + 1.0 - loop.time()
        if delay_s <= 0:
            return at_once()
        if waiting is None:
            waiting = loop.create_task(later(delay_s))
        return asyncio.shield(waiting)

    client.force_metadata_update = calmly


async def close_producer(client: Any, timeout_s: float) -> None:
    """
    Close a producer without flushing.

    `stop()` of aiokafka waits for every batch, and for ever when the broker is away. So the batches are failed first, then the connections
    are closed, which ends the requests that wait on them.
    """
    accumulator = client._message_accumulator  # noqa: SLF001 - no public way
    accumulator._closed = True  # noqa: SLF001
    batches = [batch for queue in accumulator._batches.values() for batch in queue]  # noqa: SLF001
    accumulator.fail_all(errors.ProducerClosed())
    for batch in batches:
        _look_at(batch._drain_waiter)  # noqa: SLF001

    async def no_metadata() -> bool:
        return False

    async def close() -> None:
        client._closed = True  # noqa: SLF001 - else its finalizer warns
        # What is in flight would wait for metadata that nobody fetches any more.
        client.client.force_metadata_update = lambda: asyncio.ensure_future(no_metadata())
        client.client._maybe_wait_metadata = no_metadata  # noqa: SLF001
        await client.client.close()
        with contextlib.suppress(Exception):  # its task may stumble over the batches that were failed
            await client._sender.close()  # noqa: SLF001
        await client.client.close()  # what was connecting meanwhile

    closing = asyncio.get_running_loop().create_task(close())
    _, late = await asyncio.wait({closing}, timeout=timeout_s)
    if late:
        closing.cancel()
        await asyncio.wait({closing}, timeout=0.1)
    _look_at(closing)


# ---------------------------------------------------------------------------------------------------- reachability


class Cluster(NamedTuple):
    """What a broker says about its cluster."""

    cluster_id: str
    brokers: tuple[str, ...]


async def describe_cluster(settings: KafkaSettings, timeout_s: float = 5.0) -> Cluster:
    """
    Ask any broker.

    Raises:
        KafkaUnreachable: with the cause.
    """
    async with _admin(settings, timeout_s) as admin:
        described = await admin.describe_cluster()
    brokers = sorted(
        (broker["node_id"], f"{broker['host']}:{broker['port']}") for broker in described["brokers"]
    )
    return Cluster(described["cluster_id"] or "", tuple(address for _, address in brokers))


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments of every client. Raises NoAccess when a certificate file cannot be used."""
    try:
        return settings.client_arguments()
    except OSError as error:
        raise NoAccess(f"the certificate files cannot be used: {error}") from error


async def unreachable(settings: KafkaSettings, error: BaseException) -> KafkaUnreachable:
    """Find the cause of *error*: `NoAccess` when it is ours to mend."""
    named: set[str] = set()
    answers = await _probe(settings, named=named)
    causes = [_Cause(f"{address} {cause.words}", cause.access) for address, cause in answers.items() if cause]
    others = sorted(named.difference(answers))
    if not causes and others:
        causes = [
            _Cause(f"{address}, which a broker names as its own address, {cause.words}", cause.access)
            for address, cause in (await _probe(settings, ",".join(others))).items()
            if cause is not None
        ]
    if causes:
        why = "; ".join(cause.words for cause in causes)
    elif isinstance(error, TimeoutError):
        why = str(error) or "connections are taken, but what was asked was not answered in time"
    else:
        why = f"{type(error).__name__} {error}".strip()
    if any(cause.access for cause in causes):
        return NoAccess(f"Kafka does not let us in at {settings.kafka_bootstrap_servers}: {why}")
    return KafkaUnreachable(f"Kafka does not answer at {settings.kafka_bootstrap_servers}: {why}")


async def reach(settings: KafkaSettings, addresses: str | None = None) -> dict[str, str | None]:
    """
    Connect to each of *addresses* (`host:port,…`, by default those of the settings), TLS and SASL included: what is wrong there, or None.

    Raises:
        NoAccess: the certificate files cannot be used.
    """
    causes = await _probe(settings, addresses)
    return {address: None if cause is None else cause.words for address, cause in causes.items()}


class _Cause(NamedTuple):
    """Why an address cannot be used."""

    words: str
    access: bool
    """Credentials, certificates, settings: trying again does not help."""


async def _probe(
    settings: KafkaSettings, addresses: str | None = None, named: set[str] | None = None
) -> dict[str, _Cause | None]:
    """Connect to each address and say what is wrong, which aiokafka only logs; adds to *named* the addresses that brokers name."""
    arguments = client_arguments(settings)
    servers = arguments.pop("bootstrap_servers")
    hosts = _collect_hosts(addresses or servers, randomize=False)

    async def cause(host: str, port: int) -> _Cause | None:
        connection: Any = None
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                connection = await _create_conn(host, port, client_id="voipex-bridge", **arguments)
                # A listener that wants SASL ends the connection only here.
                metadata = await connection.send(MetadataRequest([]))
        except TimeoutError:
            return _Cause(f"no answer within {_PROBE_TIMEOUT_S:.0f} s", access=False)
        except (OSError, KafkaError) as error:
            return _cause(settings, error)
        finally:
            if connection is not None:
                connection.close()
        if named is not None:
            named.update(f"{broker[1]}:{broker[2]}" for broker in metadata.brokers)
        return None

    found = await asyncio.gather(*(cause(host, port) for host, port, _ in hosts))
    return {f"{host}:{port}": why for (host, port, _), why in zip(hosts, found, strict=True)}


def _cause(settings: KafkaSettings, error: OSError | KafkaError) -> _Cause:
    """Say why a connection failed. Of one that ended aiokafka says only that; what it ended with stands behind."""
    found = error.__cause__ if isinstance(error.__cause__, OSError | EOFError) else error
    reason = found.strerror if isinstance(found, OSError) and found.strerror else str(found)
    advice = _advice(settings, found)
    if advice is not None:
        return _Cause(f"{type(found).__name__}: {advice} ({reason.strip().rstrip('.')})", access=True)
    if isinstance(found, EOFError | ConnectionResetError):
        return _Cause(
            f"{type(error).__name__}: it ends the connection without an answer. Does it speak "
            f"VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}?",
            access=False,
        )
    return _Cause(f"{type(found).__name__}: {reason}", access=False)


def _advice(settings: KafkaSettings, error: BaseException) -> str | None:
    """What to do about a refusal that nobody but a person can end; None: it is something else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_advice(settings, error)
    if isinstance(error, ssl.SSLError):
        if "ALERT" not in (error.reason or ""):
            return (
                f"TLS fails. Does it speak VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}?"
            )
        if settings.kafka_ssl_cert_file is None:
            return "the broker wants a client certificate. Set VOIPEX_KAFKA_SSL_CERT_FILE and VOIPEX_KAFKA_SSL_KEY_FILE"
        return (
            f"the broker refuses our certificate VOIPEX_KAFKA_SSL_CERT_FILE={settings.kafka_ssl_cert_file}. "
            "It must be valid, and signed by an authority of the brokers' trust store"
        )
    for kind, advice in (
        (
            errors.SaslAuthenticationFailed,
            (
                f"wrong user or password. Check VOIPEX_KAFKA_SASL_USERNAME={settings.kafka_sasl_username}, "
                f"VOIPEX_KAFKA_SASL_PASSWORD, and that this user has {settings.kafka_sasl_mechanism} credentials"
            ),
        ),
        (
            errors.UnsupportedSaslMechanismError,
            f"it does not take VOIPEX_KAFKA_SASL_MECHANISM={settings.kafka_sasl_mechanism}",
        ),
        (
            errors.IllegalSaslStateError,
            f"it wants no SASL. Check VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}",
        ),
    ):
        if isinstance(error, kind):
            return advice
    return None


def _certificate_advice(settings: KafkaSettings, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_NAME:
        return (
            "the broker's certificate is not for this name. Use one of its names in VOIPEX_KAFKA_BOOTSTRAP_SERVERS "
            "and in the brokers' advertised.listeners"
        )
    if error.verify_code in _UNKNOWN_AUTHORITY:
        file = settings.kafka_ssl_ca_file
        return (
            "the broker's certificate is signed by an authority that we do not know. Put that authority's certificate into "
            f"VOIPEX_KAFKA_SSL_CA_FILE ({'not set: the system decides' if file is None else file})"
        )
    return "the broker's certificate is not good. Has it expired, or is our clock wrong?"


_OTHER_NAME: Final = frozenset(
    {62, 63, 64}
)  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_MISMATCH, _IP_ADDRESS_MISMATCH
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 27})  # no issuer, self-signed, not trusted


def no_right(settings: KafkaSettings, right: str, topics: Sequence[str]) -> NoAccess:
    """A right that Kafka's authorizer refuses us, with the command that gives it; without *topics*: it is missing on all."""
    where = (
        f"topic {topics[0]}" if len(topics) == 1 else f"topics {', '.join(topics)}" if topics else "any topic"
    )
    if right == "Describe":
        where += " (Read or Write would include it)"
    return NoAccess(
        f"Kafka refuses us the right {right} on {where}. Give it: {acl_command(settings, right, topics or ('NAME',))} "
        "(docs/operations.md lists the rights that each command needs)"
    )


def acl_command(settings: KafkaSettings, right: str, topics: Iterable[str]) -> str:
    """The command that gives us a right on topics. What a certificate's owner is called is for the brokers to say."""
    named = settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_username
    who = named or ("ANONYMOUS" if settings.kafka_security_protocol == "PLAINTEXT" else "NAME")
    where = " ".join(f"--topic {topic}" for topic in topics)
    return f"kafka-acls.sh --add --allow-principal User:{who} --operation {right} {where}"


class _Refused(Exception):
    """A right that is missing; `_admin` says it in words."""

    def __init__(self, right: str, *topics: str) -> None:
        super().__init__(right, *topics)
        self.right = right
        self.topics = topics


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
    with_settings: Collection[str] | None = None,
) -> tuple[TopicState, ...]:
    """
    Topics of the cluster, by name; only those in *names* if given. The settings of all of them, or of those in `with_settings`.

    Raises:
        NoAccess: we may not see settings that were asked for.
        KafkaUnreachable: with the cause.
    """
    async with _admin(settings, _ADMIN_TIMEOUT_S) as admin:
        return await _states(admin, names, with_settings)


async def check_topics(
    settings: KafkaSettings, topics: Sequence[Topic], needed: Collection[TopicKind] = WRITTEN
) -> tuple[str, ...]:
    """
    Compare the cluster with *topics*; return a line for each setting that differs and for what we may not see, which is no reason not to run.

    Raises:
        TopicsWrong: some are missing or have another number of partitions; names all of them.
        NoAccess: topics of kinds that are *needed* cannot be seen.
        KafkaUnreachable: with the cause.
    """
    async with _admin(settings, _ADMIN_TIMEOUT_S) as admin:
        standings = await _standings(admin, topics)
        hidden = [topic for topic in topics if standings[topic.name].hidden]
        blocking = [topic.name for topic in hidden if topic.kind in needed]
        if blocking:
            raise _Refused("Describe", *blocking)
        visible = [topic for topic in topics if topic not in hidden]
        told = [topic.name for topic in visible if not standings[topic.name].settings_hidden]
        there = {state.name: state for state in await _states(admin, {topic.name for topic in visible}, told)}
    _refuse_wrong(visible, there, missing_is_wrong=True)
    return (
        *(f"topic {topic.name}: not looked at, the right Describe on it is missing" for topic in hidden),
        *(
            f"topic {topic.name}: its settings are not compared, the right DescribeConfigs on it is missing"
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
        TopicsWrong: a topic has another number of partitions (then nothing was done), or the cluster refused.
        NoAccess: a right is missing; names it.
        KafkaUnreachable: with the cause.
    """
    wanted = {topic.name: {**topic.config, "min.insync.replicas": str(min_insync)} for topic in topics}
    async with _admin(settings, _ADMIN_TIMEOUT_S) as admin:
        standings = await _standings(admin, topics)
        for right, lacking in (
            ("Describe", [name for name, standing in standings.items() if standing.hidden]),
            ("DescribeConfigs", [name for name, standing in standings.items() if standing.settings_hidden]),
        ):
            if lacking:
                raise _Refused(right, *lacking)
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
                await _alter(admin, name, {**await _set_by_hand(admin, name), **drift})
            outcomes[name] = "changed" if drift else "unchanged"
        await _wait_until_applied(admin, wanted)
    return {topic.name: outcomes[topic.name] for topic in topics}


@contextlib.asynccontextmanager
async def _admin(settings: KafkaSettings, timeout_s: float) -> AsyncIterator[Any]:
    """An admin client, within one deadline for all that is done with it."""
    admin = _AIOKafkaAdminClient(
        **client_arguments(settings),
        client_id="voipex-bridge-admin",
        request_timeout_ms=int(timeout_s * 1000),
    )
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            yield admin
    except _Refused as refused:
        raise no_right(settings, refused.right, refused.topics) from refused
    except (KafkaError, OSError, TimeoutError) as error:
        raise await unreachable(settings, error) from error
    finally:
        await admin.close()


async def _states(
    admin: Any, names: Collection[str] | None, with_settings: Collection[str] | None = None
) -> tuple[TopicState, ...]:
    # All topics, since naming a missing one creates it where the cluster allows that.
    described = [
        topic
        for topic in await admin.describe_topics()
        if not topic["is_internal"] and (names is None or topic["topic"] in names)
    ]
    configs = await _configs(
        admin,
        [topic["topic"] for topic in described if with_settings is None or topic["topic"] in with_settings],
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
        raise _Refused("DescribeConfigs", *refused)
    return configs


async def _set_by_hand(admin: Any, name: str) -> dict[str, str]:
    configs = await _configs(admin, [name])
    return {setting: value for setting, (value, own) in configs[name].items() if own}


async def _create(admin: Any, topics: Sequence[Any]) -> None:
    answer = await admin.create_topics(list(topics))
    refused = [name for name, code, _ in answer.topic_errors if code in _NO_RIGHT]
    if refused:
        raise _Refused("Create", *refused)
    for name, code, message in answer.topic_errors:
        if code != errors.TopicAlreadyExistsError.errno:  # somebody else applies at the same time
            _refuse_code(code, f"create topic {name}", message)


async def _alter(admin: Any, name: str, config: dict[str, str]) -> None:
    answers = await admin.alter_configs([_ConfigResource(_TOPIC, name, config)])
    for answer in answers:
        for code, message, *_ in answer.resources:
            if code in _NO_RIGHT:
                raise _Refused("AlterConfigs", name)
            _refuse_code(code, f"change the settings of topic {name}", message)


async def _wait_until_applied(admin: Any, wanted: Mapping[str, Mapping[str, str]]) -> None:
    """Return once each partition can be written to and each setting is seen: brokers follow a moment later. `_admin` bounds it."""
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
        raise TopicsWrong(f"Kafka refuses to {what}: {name}" + (f", {message}" if message else ""))


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
        raise TopicsWrong("\n".join(lines))


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


# ---------------------------------------------------------------------------------------------------- reading


class Consumed(NamedTuple):
    """A record as it lies in Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


async def read(
    settings: KafkaSettings,
    topic: str,
    *,
    partition_of: Callable[[int], int] | None = None,
    from_beginning: bool = True,
    from_offset: int = 0,
    follow: bool = False,
    timeout_s: float = 15.0,
) -> AsyncGenerator[Consumed, None]:
    """
    Read committed records, without a consumer group; each partition in order.

    `partition_of` chooses one partition from their number, else all are read. `from_offset`: nothing before it. Without `follow` the
    end is what is there at the start.

    Raises:
        TopicsWrong: no such topic.
        NoAccess: we may not read it.
        KafkaUnreachable: no answer; while it reads: nothing came for `timeout_s` although there is more (`follow` waits instead).
    """
    consumer = _AIOKafkaConsumer(
        **client_arguments(settings),
        client_id="voipex-bridge-reader",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # what was deleted while we read is passed over
        isolation_level="read_committed",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        retry_backoff_ms=_RETRY_BACKOFF_MS,
        fetch_max_wait_ms=200,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await consumer.start()
                await asyncio.sleep(0)  # stop() right after start() would look like a cancellation
                partitions = await _partitions(consumer, topic, partition_of)
                consumer.assign(partitions)
                ends = await consumer.end_offsets(partitions)
                starts = await consumer.beginning_offsets(partitions) if from_beginning else ends
        except errors.TopicAuthorizationFailedError as error:
            raise no_right(settings, "Describe", (topic,)) from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise await unreachable(settings, error) from error
        for partition in partitions:
            consumer.seek(partition, max(starts[partition], from_offset))
        async for record in _records(settings, consumer, None if follow else ends, timeout_s):
            yield record
    finally:
        await consumer.stop()


async def _partitions(consumer: Any, topic: str, partition_of: Callable[[int], int] | None) -> list[Any]:
    # All topics, since naming a missing one creates it where the cluster allows that.
    cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - `topics()` keeps the partitions to itself
    numbers = sorted(cluster.partitions_for_topic(topic) or ())
    if not numbers:
        client = consumer._client  # noqa: SLF001
        answer = await client.send(client.get_random_node(), _RightsRequest([topic]))
        if _standing(answer.to_object()["topics"][0]).hidden:
            raise errors.TopicAuthorizationFailedError(topic)
        raise TopicsWrong(f"topic {topic} is not there. Create ours: voipex-bridge topics apply")
    if partition_of is not None:
        numbers = [partition_of(len(numbers))]
    return [aiokafka.TopicPartition(topic, number) for number in numbers]


async def _records(
    settings: KafkaSettings, consumer: Any, ends: dict[Any, int] | None, timeout_s: float
) -> AsyncIterator[Consumed]:
    last_progress = time.monotonic()
    while True:
        if ends is not None:
            # Positions pass transaction markers too, so they reach the end even when no record is left.
            ready = [partition for partition, end in ends.items() if await consumer.position(partition) < end]
            if not ready:
                return
        else:
            ready = []
        try:
            polled = await consumer.getmany(*ready, timeout_ms=200)
        except errors.TopicAuthorizationFailedError as error:
            name = next(iter(consumer.assignment())).topic
            raise no_right(settings, "Read", (name,)) from error
        if polled:
            last_progress = time.monotonic()
        elif ends is not None and time.monotonic() - last_progress > timeout_s:
            raise await unreachable(settings, TimeoutError(f"nothing came for {timeout_s:.0f} s"))
        for partition, records in polled.items():
            for record in records:
                if ends is not None and record.offset >= ends[partition]:
                    break
                yield Consumed(
                    record.topic,
                    record.partition,
                    record.offset,
                    record.timestamp,
                    record.key,
                    record.value,
                    tuple(record.headers),
                )
