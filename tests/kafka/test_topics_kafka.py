"""Topics, partitions and reading, on a real broker and compared with Kafka's own clients."""

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest

from bridge.ops.reader import read
from bridge.ops.tail import line, tail
from bridge.publisher.producer import KafkaProducer
from tests.kafka.conftest import (
    Broker,
    console_consumer,
    console_producer,
    create_topics,
    make_event_topics,
    read_all,
    settings_of,
)
from tests.kafka.pausable import LocalKafka
from tests.processes import environment_with
from tests.waiting import WITHIN_S
from voipex.errors import KafkaAccessDenied, KafkaUnreachable, TopicMismatch
from voipex.kafka import topics as kafka_topics
from voipex.kafka.admin import admin_client, describe_cluster
from voipex.kafka.settings import KafkaSettings
from voipex.kafka.topics import (
    Outcome,
    TopicState,
    _alter,
    _wait_until_applied,
    check_topics,
    list_topics,
)
from voipex.partitioner import partition_for_key
from voipex.records import Record
from voipex.topics import CALL_EVENTS, CALL_TIMELINES, TOPIC_SPECS, Topic, topics_for


def check(broker: Broker, topics: tuple[Topic, ...]) -> tuple[str, ...]:
    return asyncio.run(check_topics(settings_of(broker.bootstrap_servers), topics))


def apply(broker: Broker, topics: tuple[Topic, ...], replication: int = 1) -> dict[str, Outcome]:
    return asyncio.run(
        kafka_topics.apply_topics(settings_of(broker.bootstrap_servers), topics, replication, min_insync=1)
    )


def set_config(broker: Broker, topic: str, wanted: Mapping[str, str]) -> None:
    """Set a topic's whole configuration, as an operator's tool would."""

    async def alter() -> None:
        async with admin_client(settings_of(broker.bootstrap_servers), 10) as admin:
            await _alter(admin, topic, dict(wanted))
            await _wait_until_applied(admin, {topic: wanted})

    asyncio.run(alter())


def state(broker: Broker, topic: str) -> TopicState:
    [found] = asyncio.run(list_topics(settings_of(broker.bootstrap_servers), {topic}))
    return found


def test_missing_topics_are_named_and_created_by_apply(kafka: Broker, pbx: str) -> None:
    topics = topics_for([pbx])
    with pytest.raises(TopicMismatch, match="voipex-bridge topics apply") as wrong:
        check(kafka, topics)
    assert all(topic.name in str(wrong.value) for topic in topics)

    assert set(apply(kafka, topics).values()) == {"created"}
    assert set(apply(kafka, topics).values()) == {"unchanged"}

    assert check(kafka, topics) == ()
    made = state(kafka, f"{pbx}.call.events.v1")
    assert (made.partitions, made.replication) == (12, 1)
    assert made.config["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert made.config["min.insync.replicas"] == "1"
    assert state(kafka, f"{pbx}.agent.status.v1").config["cleanup.policy"] == "compact"


def test_a_partition_count_mismatch_is_refused_without_changes(kafka: Broker, pbx: str) -> None:
    """More partitions move keys: the order per call would break silently."""
    one, other = topics_for([pbx])[:2]
    apply(kafka, (Topic(one.name, one.kind, 6),))

    for attempt in (check, apply):
        with pytest.raises(TopicMismatch, match=re.escape(f"{one.name} has 6 partitions, not 12")):
            attempt(kafka, (one, other))

    assert state(kafka, one.name).partitions == 6
    with pytest.raises(TopicMismatch, match="missing"):
        check(kafka, (other,))


def test_apply_fixes_config_drift_and_keeps_other_topic_configs(kafka: Broker, pbx: str) -> None:
    topic = topics_for([pbx])[0]
    apply(kafka, (topic,))
    set_config(
        kafka, topic.name, {"retention.ms": "1000", "cleanup.policy": "compact", "compression.type": "zstd"}
    )

    warnings = check(kafka, (topic,))
    assert [line.split(": ")[1] for line in warnings] == [
        "cleanup.policy is compact, declared is delete",
        "message.timestamp.after.max.ms is 3600000, declared is 9223372036854775807",
        "retention.ms is 1000, declared is 604800000",
    ]
    assert apply(kafka, (topic,)) == {topic.name: "changed"}

    assert check(kafka, (topic,)) == ()
    assert state(kafka, topic.name).config["compression.type"] == "zstd"


def test_a_low_max_message_bytes_of_events_is_a_mismatch(kafka: Broker, pbx: str) -> None:
    """The bridge could lose a record that fits into neither the topic nor its dead letters; a higher limit is no error."""
    events, timelines = (topic for topic in topics_for([pbx]) if topic.kind in (CALL_EVENTS, CALL_TIMELINES))
    apply(kafka, (events, timelines))
    set_config(kafka, events.name, {**events.config, "max.message.bytes": "2000000"})
    assert check(kafka, (events,)) == ()

    set_config(kafka, events.name, {**events.config, "max.message.bytes": "100000"})
    set_config(kafka, timelines.name, {**timelines.config, "max.message.bytes": "100000"})

    too_low = f"max.message.bytes is too low: {events.name} has 100000, declared is 1048588."
    with pytest.raises(TopicMismatch, match=rf"{re.escape(too_low)} .*topics apply"):
        check(kafka, (events, timelines))
    assert [line.split(": ")[1] for line in check(kafka, (timelines,))] == [
        "max.message.bytes is 100000, declared is 1048588"
    ]
    assert apply(kafka, (events,)) == {events.name: "changed"}
    assert check(kafka, (events,)) == ()


def test_an_error_of_the_cluster_is_reported_with_its_message(kafka: Broker, pbx: str) -> None:
    with pytest.raises(TopicMismatch, match=r"create topic .*InvalidReplicationFactorError, .*replicat"):
        apply(kafka, topics_for([pbx])[:1], replication=3)


@pytest.mark.parametrize(
    ("addresses", "cause"),
    [
        ("127.0.0.1:1", "127.0.0.1:1 ConnectionRefusedError"),
        ("nowhere.invalid:9092", "nowhere.invalid:9092 gaierror"),
    ],
)
def test_an_unreachable_cluster_is_named_with_the_cause(addresses: str, cause: str) -> None:
    settings = settings_of(addresses)

    for call in (
        describe_cluster(settings),
        check_topics(settings, topics_for(["x"])),
        KafkaProducer(settings).start(),
        _first_record(settings),
    ):
        with pytest.raises(KafkaUnreachable, match=re.escape(cause)):
            asyncio.run(_awaited(call))


async def _awaited(call: object) -> None:
    await call  # type: ignore[misc]


async def _first_record(settings: KafkaSettings) -> None:
    async for _ in read(settings, "x"):
        return


def test_a_protocol_mismatch_is_reported_without_the_secret(kafka: Broker) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_username="bridge",
        kafka_sasl_password="very-secret",
    )

    with pytest.raises(KafkaAccessDenied, match="IllegalSaslState") as error:
        asyncio.run(describe_cluster(settings))

    assert "very-secret" not in str(error.value)


def test_a_paused_broker_ends_in_an_error_within_the_deadline(own_kafka: LocalKafka) -> None:
    """aiokafka's own timeout is 40 s."""
    own_kafka.pause()
    began = time.monotonic()

    with pytest.raises(KafkaUnreachable, match="no answer"):
        asyncio.run(describe_cluster(settings_of(own_kafka.bootstrap_servers), timeout_s=0.5))

    assert time.monotonic() - began < 20


def test_the_partitioner_agrees_with_javas(kafka: Broker, pbx: str) -> None:
    """Kafka's own producers and co-partitioned streams need the same partition for a key."""
    seed = random.Random(3)
    alphabet = "0123456789.-abcXYZěščřž☎"
    keys = {"".join(seed.choices(alphabet, k=seed.randint(1, 40))) for _ in range(2000)} | {"1412256225.1940"}
    topic = f"{pbx}.call.events.v1"
    make_event_topics(kafka.bootstrap_servers, pbx)

    console_producer(kafka.bootstrap_servers, topic, [(key, "x") for key in sorted(keys)])

    placed = {record.key: record.partition for record in read_all(kafka.bootstrap_servers, topic)}
    assert placed == {key.encode(): partition_for_key(key.encode(), 12) for key in keys}


@pytest.fixture
def events(kafka: Broker, pbx: str) -> str:
    """A topic with three records of one call, the last of them bytes, and one of another."""
    topic = f"{pbx}.call.events.v1"
    apply(
        kafka, (Topic(topic, CALL_EVENTS, 12, retention_ms=-1),)
    )  # else the broker deletes records that old
    headers = (("ce_id", b"0190"), ("ce_type", b"voipex.call.ringing.v1"), ("odd", b"\xff"))

    def record(key: bytes, value: bytes) -> Record:
        return Record(topic, partition_for_key(key, 12), key, value, headers, 1_700_000_000_000)

    async def produce() -> None:
        producer = KafkaProducer(settings_of(kafka.bootstrap_servers))
        await producer.start()
        for each in (
            record(b"1.1", b'{"step":1,"unique_id":1412256225.1940}'),
            record(b"1.1", b'{"step":2}'),
            record(b"2.2", b'{"step":1}'),
            record(b"1.1", b"\xff\x00"),
        ):
            _, future = await producer.send(topic, each.partition, [each])
            await future
        await producer.stop()

    asyncio.run(produce())
    return topic


def lines(broker: Broker, topic: str, **options: object) -> list[str]:
    async def collect() -> list[str]:
        settings = settings_of(broker.bootstrap_servers)
        found = tail(settings, topic, from_beginning=True, follow=False, **options)  # type: ignore[arg-type]
        return [line(record) async for record in found]

    return asyncio.run(collect())


def test_tail_shows_one_key_in_order_as_json(kafka: Broker, events: str) -> None:
    shown = lines(kafka, events, key="1.1")

    assert json.loads(shown[0]) == {
        "topic": events,
        "partition": partition_for_key(b"1.1", 12),
        "offset": 0,
        "timestamp": 1_700_000_000_000,
        "key": "1.1",
        "headers": {"ce_id": "0190", "ce_type": "voipex.call.ringing.v1", "odd": {"base64": "/w=="}},
        "value": {"step": 1, "unique_id": 1412256225.1940},
    }
    assert '"unique_id":1412256225.1940}' in shown[0]  # the number as it was written
    assert [json.loads(each)["value"] for each in shown[1:]] == [{"step": 2}, {"base64": "/wA="}]


def test_tail_stops_at_the_limit_and_at_the_end(kafka: Broker, events: str) -> None:
    assert len(lines(kafka, events)) == 4
    assert len(lines(kafka, events, limit=2)) == 2
    assert lines(kafka, events, key="nobody") == []


@pytest.mark.anyio
async def test_tail_follows_from_now_on(kafka: Broker, events: str) -> None:
    followed = tail(settings_of(kafka.bootstrap_servers), events, follow=True)
    first = asyncio.ensure_future(anext(followed))
    producer = KafkaProducer(settings_of(kafka.bootstrap_servers))
    await producer.start()
    async with asyncio.timeout(WITHIN_S):
        while not first.done():  # the reader may not stand at the end yet
            await (await producer.send(events, 5, [Record(events, 5, b"9.9", b"{}", (), 1)]))[1]
            await asyncio.wait({first}, timeout=0.2)
    await producer.stop()
    await followed.aclose()

    assert (await first).key == b"9.9"


def test_tail_of_a_missing_topic_is_an_error(kafka: Broker) -> None:
    with pytest.raises(TopicMismatch, match="topic nope does not exist"):
        lines(kafka, "nope")


def test_the_console_consumer_shows_a_published_record(kafka: Broker, events: str) -> None:
    seen = [
        each for each in console_consumer(kafka.bootstrap_servers, events, records=4) if each.key == "2.2"
    ]

    assert [(each.partition, each.timestamp_ms, each.value) for each in seen] == [
        (partition_for_key(b"2.2", 12), 1_700_000_000_000, '{"step":1}')
    ]
    assert seen[0].headers["ce_type"] == "voipex.call.ringing.v1"


@pytest.mark.anyio
async def test_every_declared_kind_of_topic_can_be_written(kafka: Broker, pbx: str) -> None:
    await create_topics(kafka.bootstrap_servers, pbx)
    producer = KafkaProducer(settings_of(kafka.bootstrap_servers))
    await producer.start()
    for kind in TOPIC_SPECS:
        topic = f"{pbx}.{kind.suffix}"
        await (await producer.send(topic, 11, [Record(topic, 11, b"k", b"{}", (), 1)]))[1]
    await producer.stop()


def test_topics_apply_waits_for_a_kafka_that_starts_later(own_kafka: LocalKafka, pbx: str) -> None:
    """As the Job of the manifests, which may be applied together with Kafka."""
    own_kafka.kill()
    environment = environment_with(
        VOIPEX_KAFKA_BOOTSTRAP_SERVERS=own_kafka.bootstrap_servers,
        VOIPEX_PBXS=pbx,
        VOIPEX_TOPIC_REPLICATION="1",
        VOIPEX_TOPIC_MIN_INSYNC="1",
    )
    command = [sys.executable, "-m", "bridge", "topics", "apply", "--wait"]
    at_once = subprocess.run([*command, "0"], env=environment, capture_output=True, check=False, text=True)
    with subprocess.Popen(
        [*command, str(WITHIN_S)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        own_kafka.start()
        applied, more = waiting.communicate(timeout=WITHIN_S)

    assert (at_once.returncode, at_once.stdout) == (1, "")
    assert "Trying again for 120 s" in said
    assert (waiting.returncode, more) == (0, "")
    assert len(re.findall(rf"^created +{pbx}\.", applied, re.MULTILINE)) == len(TOPIC_SPECS)
