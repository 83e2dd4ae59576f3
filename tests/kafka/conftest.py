"""
A real broker for the tests of this folder. Without one they fail; none skips.

`BROKER=docker` runs the tests that only use a broker against `apache/kafka` in a container; those that break one always have an embedded
one. Otherwise one embedded broker serves both.
"""

import asyncio
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

import sandbox.broker
from bridge.ops.reader import ConsumerRecord, read
from bridge.spool import SpooledRecord
from tests.kafka.pausable import LocalKafka
from tests.processes import free_port
from tests.waiting import WITHIN_S, eventually
from voipex.errors import KafkaUnavailable
from voipex.kafka import topics as kafka_topics
from voipex.kafka.admin import admin_client, describe_cluster
from voipex.kafka.settings import KafkaSettings
from voipex.kafka.topics import list_topics
from voipex.topics import CALL_EVENTS, DEAD_LETTERS, TOPIC_SPECS, TopicSpec, topics_for

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build"
JARS = BUILD / "kafka-jars"
IMAGE_VERSION = "4.3.1"
TEST_PROPERTIES = {
    "broker.session.timeout.ms": "6000",  # after kill -9 the next start waits so long
    "log.cleaner.backoff.ms": "300",
    "log.segment.delete.delay.ms": "100",
    "group.min.session.timeout.ms": "1000",
}

_versions: list[str] = []
_numbers = count(1)


class Broker(Protocol):
    """A broker that a test uses but does not stop."""

    @property
    def bootstrap_servers(self) -> str: ...
    @property
    def version(self) -> str: ...


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.kafka)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Report the broker of each test process to the process that started them."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["brokers"] = _versions


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _versions.extend(getattr(node, "workeroutput", {}).get("brokers", ()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for version in sorted(set(_versions)):
        terminalreporter.write_line(f"broker: {version}")


@pytest.fixture(scope="session")
def _embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    broker = LocalKafka(
        tmp_path_factory.mktemp("broker"),
        JARS,
        port=free_port(),
        controller_port=free_port(),
        properties=TEST_PROPERTIES,
    )
    broker.prepare()
    broker.write_java_cache()
    bring_up(broker)
    _versions.append(f"Apache Kafka {broker.version}, embedded")
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def _used(request: pytest.FixtureRequest) -> Iterator[Broker]:
    if os.environ.get("BROKER") != "docker":
        yield request.getfixturevalue("_embedded")
        return
    with _docker() as broker:
        _versions.append(f"apache/kafka:{IMAGE_VERSION}, in a container")
        yield broker


@pytest.fixture
def kafka(_used: Broker) -> Iterator[Broker]:
    """A broker that the test only uses. It has no topics: see `apply_topics`."""
    yield _used
    _delete_topics(_used.bootstrap_servers)


@pytest.fixture
def own_kafka(_embedded: LocalKafka) -> Iterator[LocalKafka]:
    """A broker that the test may stop, kill and pause; it runs again afterwards."""
    yield _embedded
    _embedded.resume()
    if _embedded.pid is None:
        bring_up(_embedded)
    _await_broker(_embedded.bootstrap_servers)  # after a pause it is fenced for a moment, and in no metadata
    _delete_topics(_embedded.bootstrap_servers)


def _delete_topics(bootstrap_servers: str) -> None:
    """Delete all topics: with a thousand partitions, starting and stopping the broker takes ten seconds."""

    async def delete() -> None:
        settings = settings_of(bootstrap_servers)
        names = [topic.name for topic in await list_topics(settings)]
        async with admin_client(settings, 30) as admin:
            if names:
                await admin.delete_topics(names)

    asyncio.run(delete())


@contextmanager
def _docker() -> Iterator[Broker]:
    """Start a container without testcontainers' Kafka class, which needs another image: the advertised port must be known before the start."""
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    from testcontainers.core.container import DockerContainer

    port = free_port()
    container = DockerContainer(f"apache/kafka:{IMAGE_VERSION}")
    container.ports["9092/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]
    # One variable replaces all of the image's defaults, so this is the whole list.
    for name, value in {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "OFFSETS_TOPIC_NUM_PARTITIONS": "3",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "TRANSACTION_STATE_LOG_NUM_PARTITIONS": "3",
        "SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
    }.items():
        container.with_env(f"KAFKA_{name}", value)
    broker = _Container(f"127.0.0.1:{port}", IMAGE_VERSION)
    container.start()
    try:
        _await_broker(broker.bootstrap_servers)
        yield broker
    finally:
        container.stop()


class _Container(NamedTuple):
    bootstrap_servers: str
    version: str


def _await_broker(bootstrap_servers: str) -> None:
    def answers() -> bool:
        with suppress(KafkaUnavailable):
            return bool(asyncio.run(describe_cluster(settings_of(bootstrap_servers))).brokers)
        return False

    eventually(answers, every_s=0.3)


def bring_up(broker: sandbox.broker.LocalKafka) -> None:
    """Start the broker and wait until it responds."""
    broker.start()
    broker.wait_ready(WITHIN_S)


def settings_of(bootstrap_servers: str) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)


@pytest.fixture
def pbx() -> str:
    """A name that no other test uses, so that its topics are empty."""
    return f"pbx-{next(_numbers)}"


async def create_topics(
    bootstrap_servers: str, pbx: str, partitions: int = 12, kinds: Iterable[TopicSpec] = TOPIC_SPECS
) -> None:
    """Create the topics of *pbx*. With fewer kinds a restarted broker is ready sooner."""
    topics = [topic for topic in topics_for([pbx], partitions) if topic.kind in set(kinds)]
    await kafka_topics.apply_topics(settings_of(bootstrap_servers), topics, 1, 1)


def apply_topics(
    bootstrap_servers: str, pbx: str, partitions: int = 12, kinds: Iterable[TopicSpec] = TOPIC_SPECS
) -> None:
    """The same, for tests without an event loop."""
    asyncio.run(create_topics(bootstrap_servers, pbx, partitions, kinds))


def make_event_topics(bootstrap_servers: str, pbx: str, partitions: int = 12) -> None:
    """Create the topics of call events and dead letters only."""
    apply_topics(bootstrap_servers, pbx, partitions, (CALL_EVENTS, DEAD_LETTERS))


async def read_topic(bootstrap_servers: str, topic: str) -> list[ConsumerRecord]:
    """All committed records that are there now; each partition in order."""
    return [record async for record in read(settings_of(bootstrap_servers), topic)]


def read_all(bootstrap_servers: str, topic: str) -> list[ConsumerRecord]:
    """The same, for tests without an event loop."""
    return asyncio.run(read_topic(bootstrap_servers, topic))


# -------------------------------------------------------------------------------- Kafka's own clients


class Seen(NamedTuple):
    """A record as Apache's console consumer printed it."""

    timestamp_ms: int
    partition: int
    offset: int
    headers: dict[str, str]
    key: str | None
    value: str | None


_FIELD, _HEADER, _NULL = "\x1f", "\x1e", "\x1d"


def kafka_tools() -> LocalKafka:
    """Apache's command-line tools; a folder for each process that runs tests."""
    tools = LocalKafka(BUILD / f"kafka-tools{os.environ.get('PYTEST_XDIST_WORKER', '')}", JARS)
    tools.prepare()
    return tools


def console_consumer(bootstrap_servers: str, topic: str, *, records: int) -> list[Seen]:
    """Read the first records of a topic with the Java console consumer; fewer if no more arrive."""
    properties = {
        "print.timestamp": "true",
        "print.partition": "true",
        "print.offset": "true",
        "print.headers": "true",
        "print.key": "true",
        "key.separator": _FIELD,
        "headers.separator": _HEADER,
        "null.literal": _NULL,
    }
    arguments = ["--bootstrap-server", bootstrap_servers, "--topic", topic, "--from-beginning"]
    arguments += ["--isolation-level", "read_committed"]
    arguments += ["--timeout-ms", str(int(WITHIN_S * 1000)), "--max-messages", str(records)]
    for name, value in properties.items():
        arguments += ["--formatter-property", f"{name}={value}"]
    done = subprocess.run(
        kafka_tools().command_line("org.apache.kafka.tools.consumer.ConsoleConsumer", *arguments),
        capture_output=True,
        timeout=2 * WITHIN_S,
        check=False,
    )
    assert done.returncode == 0 or b"TimeoutException" in done.stderr, done.stderr.decode()
    return [_seen(line) for line in done.stdout.decode(errors="replace").split("\n") if _FIELD in line]


def _seen(line: str) -> Seen:
    time_text, partition, offset, headers, key, value = line.split(_FIELD)
    pairs = [] if headers == "NO_HEADERS" else [pair.split(":", 1) for pair in headers.split(_HEADER)]
    return Seen(
        int(time_text.removeprefix("CreateTime:")),
        int(partition.removeprefix("Partition:")),
        int(offset.removeprefix("Offset:")),
        {name: text for name, text in pairs},  # noqa: C416 - pairs are lists
        None if key == _NULL else key,
        None if value == _NULL else value,
    )


def console_producer(bootstrap_servers: str, topic: str, records: Iterable[tuple[str, str]]) -> None:
    """Write (key, value) pairs with the Java console producer, which chooses the partitions."""
    lines = "".join(f"{key}\t{value}\n" for key, value in records)
    arguments = ["--bootstrap-server", bootstrap_servers, "--topic", topic]
    arguments += ["--reader-property", "parse.key=true", "--reader-property", "key.separator=\t"]
    done = subprocess.run(
        kafka_tools().command_line("org.apache.kafka.tools.ConsoleProducer", *arguments),
        input=lines.encode(),
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


# -------------------------------------------------------------------------------- a spool in memory


class ListSource:
    """The publisher's side of a spool, in memory: records are taken and acknowledged in the order of `put`."""

    def __init__(self, spool_id: str = "spool-1") -> None:
        self.spool_id = spool_id
        self.items: list[SpooledRecord] = []
        self.taken = 0
        self.acknowledged = 0
        self._sealed = False
        self._available: asyncio.Future[None] | None = None

    def put(self, records: Iterable[Any]) -> None:
        self.items += [
            SpooledRecord(self.spool_id, len(self.items) + n, record) for n, record in enumerate(records)
        ]
        self._notify()

    def seal(self) -> None:
        self._sealed = True
        self._notify()

    async def take(self, max_records: int, max_bytes: int) -> Sequence[SpooledRecord]:
        while self.taken == len(self.items):
            if self._sealed:
                return []
            self._available = asyncio.get_running_loop().create_future()
            await self._available
        batch: list[SpooledRecord] = []
        size = 0
        for spooled in self.items[self.taken : self.taken + max_records]:
            size += spooled.record.size_bytes
            if batch and size > max_bytes:
                break
            batch.append(spooled)
        self.taken += len(batch)
        return batch

    async def yield_to_appends(self) -> None:
        await asyncio.sleep(0)

    def acknowledge(self, through: SpooledRecord) -> None:
        assert through.spool_id == self.spool_id
        assert through.seq >= self.acknowledged, "acknowledged twice"
        self.acknowledged = through.seq + 1

    def _notify(self) -> None:
        if self._available is not None and not self._available.done():
            self._available.set_result(None)
