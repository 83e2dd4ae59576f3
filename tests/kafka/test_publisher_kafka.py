"""The publisher against the faults of a real broker: no record is lost or invented, partitions stay in order, copies can be recognized."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.metrics import Metrics
from bridge.ops import reader
from bridge.ops.reader import ConsumerRecord
from bridge.publisher.producer import KafkaProducer
from bridge.publisher.publisher import Publisher, Timing
from tests.kafka.conftest import (
    JARS,
    TEST_PROPERTIES,
    Broker,
    ListSource,
    bring_up,
    console_consumer,
    make_event_topics,
    read_topic,
    settings_of,
)
from tests.kafka.engine import configure
from tests.kafka.pausable import LocalKafka
from tests.processes import free_port
from tests.waiting import WITHIN_S, async_eventually, outlast
from voipex.kafka.admin import admin_client
from voipex.kafka.topics import _create, _NewTopic, _wait_until_applied
from voipex.partitioner import partition_for_key
from voipex.records import Record
from voipex.topics import CALL_EVENTS, topic_name

QUICK = Timing(linger_s=0.002, warn_after_s=1.0, initial_backoff_s=0.05, max_backoff_s=0.5)


def event(pbx: str, number: int, *, size: int = 500, partitions: int = 12) -> Record:
    """The n-th event: 50 calls, one after the other."""
    key = f"1412256225.{number % 50}".encode()
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_type", b"voipex.call.ringing.v1"),
        ("ce_source", b"/voipex/x"),
        ("content-type", b"application/json"),
        ("ce_id", f"event-{number}".encode()),
        ("ce_time", b"2026-03-02T08:00:00.000000Z"),
        ("ce_subject", key),
        ("ce_partitionkey", key),
    )
    value = b'{"n":%d,"extra":"%s"}' % (number, b"x" * size)
    at_ms = time.time_ns() // 1_000_000
    return Record(f"{pbx}.call.events.v1", partition_for_key(key, partitions), key, value, headers, at_ms)


@dataclass
class Publishing:
    """A publisher that runs beside the test, with its records in memory."""

    pbx: str
    bootstrap_servers: str
    request_timeout_ms: int = 4_000
    timing: Timing = QUICK
    partitions: int = 12
    source: ListSource = field(default_factory=ListSource)

    def __post_init__(self) -> None:
        self.metrics = Metrics("test")
        self.publisher = Publisher(
            self.source, self._make, self.metrics, partitions_of=lambda _: self.partitions, timing=self.timing
        )

    def _make(self) -> KafkaProducer:
        return KafkaProducer(settings_of(self.bootstrap_servers), request_timeout_ms=self.request_timeout_ms)

    def put(self, count: int, *, size: int = 500) -> None:
        start = len(self.source.items)
        self.source.put(
            event(self.pbx, n, size=size, partitions=self.partitions) for n in range(start, start + count)
        )

    @asynccontextmanager
    async def streaming(self, per_s: int) -> AsyncIterator[None]:
        """Put events at a steady rate meanwhile."""

        async def stream() -> None:
            began, start = time.monotonic(), len(self.source.items)
            while True:
                due = int((time.monotonic() - began) * per_s) - (len(self.source.items) - start)
                self.put(due)
                await asyncio.sleep(0.005)

        task = asyncio.create_task(stream())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def acknowledged(self, more: int) -> None:
        """Wait until Kafka has acknowledged *more* further events."""
        wanted = self.source.acknowledged + more
        await async_eventually(lambda: self.source.acknowledged >= wanted, lambda: self.publisher.state)

    async def drained(self) -> None:
        await async_eventually(
            lambda: self.source.acknowledged == len(self.source.items), lambda: self.publisher.state
        )


def let_producers_be_dropped() -> None:
    """
    Keep a test from failing by aiokafka's sender, which raises in a callback when it is closed with batches in flight
    (its pull request 831). The publisher has given these up and sends them again.
    """
    loop = asyncio.get_running_loop()
    handle: Any = loop.get_exception_handler()

    def handle_others(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "Sender._fail_all" not in context["message"]:
            handle(loop, context)

    loop.set_exception_handler(handle_others)


@asynccontextmanager
async def running(publishing: Publishing) -> AsyncIterator[Publishing]:
    let_producers_be_dropped()
    task = asyncio.create_task(publishing.publisher.run())
    try:
        yield publishing
        publishing.source.seal()
        async with asyncio.timeout(WITHIN_S):
            await task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def copies_after_checks(publishing: Publishing) -> int:
    """
    Check that no event is missing, invented or changed, and that first copies are in order per partition.

    Returns the number of further copies.
    """
    found = await read_topic(publishing.bootstrap_servers, f"{publishing.pbx}.call.events.v1")
    first: dict[str, ConsumerRecord] = {}
    for record in found:
        event_id = (dict(record.headers)["ce_id"] or b"").decode()
        if event_id in first:
            assert record.value == first[event_id].value, "a copy differs"
        first.setdefault(event_id, record)
    wanted = {dict(spooled.record.headers)["ce_id"].decode(): spooled for spooled in publishing.source.items}
    assert first.keys() == wanted.keys()
    per_partition: dict[int, list[int]] = {}
    for event_id, record in first.items():
        spooled = wanted[event_id]
        headers = dict(record.headers)
        assert (record.value, record.partition) == (spooled.record.value, spooled.record.partition)
        assert headers["bridge-spool-id"] == publishing.source.spool_id.encode()
        assert headers["bridge-seq"] == str(spooled.seq).encode()
        per_partition.setdefault(record.partition, []).append(spooled.seq)
    assert all(numbers == sorted(numbers) for numbers in per_partition.values()), "order of first copies"
    return len(found) - len(first)


def print_figure(capsys: pytest.CaptureFixture[str], figure: str) -> None:
    """Print a measurement past pytest's capture; nothing is asserted of it."""
    with capsys.disabled():
        sys.stdout.write(f"\n    {figure} ")


@pytest.mark.anyio
async def test_java_consumer_reads_every_field_of_a_published_record(kafka: Broker, pbx: str) -> None:
    """Key, value, every header and the partition, as Kafka's own consumer shows them."""
    await asyncio.to_thread(make_event_topics, kafka.bootstrap_servers, pbx)
    publishing = Publishing(pbx, kafka.bootstrap_servers)
    publishing.put(3)
    publishing.source.seal()

    await publishing.publisher.run()

    seen = {
        each.headers["ce_id"]: each
        for each in console_consumer(kafka.bootstrap_servers, f"{pbx}.call.events.v1", records=3)
    }
    for spooled in publishing.source.items:
        record = spooled.record
        own = {name: value.decode() for name, value in record.headers}
        stamps = {"bridge-spool-id": "spool-1", "bridge-seq": str(spooled.seq)}
        assert record.key is not None
        assert seen[own["ce_id"]]._replace(offset=0) == (
            record.timestamp_ms,
            record.partition,
            0,
            own | stamps,
            record.key.decode(),
            record.value.decode(),
        )


@pytest.mark.anyio
async def test_order_per_partition_without_loss_or_copies(
    kafka: Broker, pbx: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measures too how fast 50,000 waiting events are published from memory."""
    await asyncio.to_thread(make_event_topics, kafka.bootstrap_servers, pbx)
    publishing = Publishing(pbx, kafka.bootstrap_servers)
    publishing.put(50_000)
    publishing.source.seal()
    began, cpu = time.perf_counter(), time.process_time()

    await publishing.publisher.run()

    took, used = time.perf_counter() - began, time.process_time() - cpu
    print_figure(
        capsys, f"drain: {50_000 / took:,.0f} records/s, {used / 50_000 * 1e6:.1f} µs CPU per record"
    )
    assert await copies_after_checks(publishing) == 0
    assert publishing.publisher.state.generation == 1


@pytest.mark.anyio
async def test_a_backlog_drains_while_events_keep_arriving(
    kafka: Broker, pbx: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measures the latency from spool to consumer at 1,000 events/s, then the draining of 30,000 waiting events meanwhile."""
    await asyncio.to_thread(make_event_topics, kafka.bootstrap_servers, pbx)
    ages: list[float] = []

    async def watch() -> None:
        async for record in reader.read(
            settings_of(kafka.bootstrap_servers), f"{pbx}.call.events.v1", follow=True
        ):
            ages.append(time.time() * 1000 - record.timestamp_ms)  # noqa: PERF401 - read meanwhile

    async with running(Publishing(pbx, kafka.bootstrap_servers, timing=Timing())) as publishing:
        watching = asyncio.create_task(watch())
        async with publishing.streaming(1_000):
            await async_eventually(lambda: len(ages) > 500)  # everybody is connected
            ages.clear()
            await async_eventually(lambda: len(ages) > 3_000)
            steady = sorted(ages)
            began = time.monotonic()
            publishing.put(30_000)
            await publishing.acknowledged(30_000)
            rate = 30_000 / (time.monotonic() - began)
        await publishing.drained()
        watching.cancel()
        await asyncio.wait({watching})

    assert await copies_after_checks(publishing) == 0
    p50, p99 = steady[len(steady) // 2], steady[int(len(steady) * 0.99)]
    print_figure(capsys, f"at 1,000/s readable after p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print_figure(capsys, f"source beside that: {rate:,.0f} records/s")


@pytest.mark.anyio
async def test_a_killed_broker_loses_nothing_and_makes_no_copies(own_kafka: LocalKafka, pbx: str) -> None:
    """The same producer goes on, because only its own retries are idempotent."""
    await asyncio.to_thread(make_event_topics, own_kafka.bootstrap_servers, pbx)

    async with running(Publishing(pbx, own_kafka.bootstrap_servers)) as publishing:
        async with publishing.streaming(1_000):
            await publishing.acknowledged(500)
            await asyncio.to_thread(own_kafka.kill)
            await async_eventually(lambda: not publishing.publisher.state.reachable)
            await asyncio.to_thread(bring_up, own_kafka)
            await publishing.acknowledged(500)
        await publishing.drained()
        assert publishing.publisher.state.reachable

    assert await copies_after_checks(publishing) == 0
    assert publishing.publisher.state.generation == 1


@pytest.mark.anyio
async def test_a_stopped_broker_process_loses_nothing(own_kafka: LocalKafka, pbx: str) -> None:
    """SIGSTOP: connections stay open and nothing answers, for longer than a request may take."""
    await asyncio.to_thread(make_event_topics, own_kafka.bootstrap_servers, pbx)

    async with running(Publishing(pbx, own_kafka.bootstrap_servers, request_timeout_ms=3_000)) as publishing:
        async with publishing.streaming(500):
            await publishing.acknowledged(100)
            own_kafka.pause()
            await async_eventually(lambda: not publishing.publisher.state.reachable)
            await asyncio.to_thread(outlast, 4, "the time-out of a request")
            own_kafka.resume()
            await publishing.acknowledged(500)
        await publishing.drained()

    assert await copies_after_checks(publishing) == 0


@pytest.mark.anyio
async def test_a_broker_back_on_another_port_gets_the_waiting_events(own_kafka: LocalKafka, pbx: str) -> None:
    """
    The client asks only the brokers of its last metadata, for ever; after the watchdog's time a new one asks the addresses of the settings,
    where another broker of the cluster, or a load balancer, knows the new place. Here the address is a relay that follows the broker.
    """
    await asyncio.to_thread(make_event_topics, own_kafka.bootstrap_servers, pbx)
    target = own_kafka.port

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while chunk := await source.read(65536):
                sink.write(chunk)
            sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    door = await asyncio.start_server(relay, "127.0.0.1", 0)
    address = f"127.0.0.1:{door.sockets[0].getsockname()[1]}"
    timing = Timing(
        linger_s=0.002, warn_after_s=0.5, ack_timeout_s=1.5, initial_backoff_s=0.05, max_backoff_s=0.3
    )
    async with (
        door,
        running(Publishing(pbx, address, request_timeout_ms=2_000, timing=timing)) as publishing,
    ):
        publishing.put(100)
        await publishing.drained()
        await asyncio.to_thread(own_kafka.stop)
        moved = LocalKafka(
            own_kafka.folder,
            JARS,
            port=free_port(),
            controller_port=free_port(),
            properties=TEST_PROPERTIES,
        )
        moved.prepare()
        try:
            await asyncio.to_thread(bring_up, moved)
            target = moved.port
            publishing.put(100)
            await publishing.drained()
            publishing.bootstrap_servers = moved.bootstrap_servers
            await copies_after_checks(publishing)
        finally:
            await asyncio.to_thread(moved.stop)

    assert publishing.publisher.state.generation >= 2


@pytest.mark.anyio
async def test_kafka_out_of_reach_at_the_start_delays_events_only(own_kafka: LocalKafka, pbx: str) -> None:
    await asyncio.to_thread(make_event_topics, own_kafka.bootstrap_servers, pbx)
    own_kafka.stop()

    async with running(Publishing(pbx, own_kafka.bootstrap_servers)) as publishing:
        publishing.put(500)
        await async_eventually(lambda: publishing.publisher.state.last_error == "KafkaUnreachable")
        assert publishing.source.acknowledged == 0
        await asyncio.to_thread(bring_up, own_kafka)
        await publishing.drained()

    assert await copies_after_checks(publishing) == 0


@pytest.mark.anyio
async def test_cancelled_while_the_broker_is_silent_ends_at_once(own_kafka: LocalKafka, pbx: str) -> None:
    """When the drain runs out of time, unacknowledged events stay in the spool; no request timeout is awaited."""
    await asyncio.to_thread(make_event_topics, own_kafka.bootstrap_servers, pbx)
    let_producers_be_dropped()
    publishing = Publishing(pbx, own_kafka.bootstrap_servers, request_timeout_ms=600_000)
    task = asyncio.create_task(publishing.publisher.run())
    publishing.put(10)
    await publishing.drained()
    own_kafka.pause()
    publishing.put(10)
    await async_eventually(lambda: not publishing.publisher.state.reachable)  # it has waited for a response

    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=WITHIN_S)

    assert done == {task}
    assert publishing.source.acknowledged == 10


@pytest.mark.anyio
async def test_an_oversized_record_does_not_block_its_partition(kafka: Broker, pbx: str) -> None:
    """A rejected batch leaves a gap in the sequence numbers: without a new producer the broker would reject the partition for ever."""
    await asyncio.to_thread(make_event_topics, kafka.bootstrap_servers, pbx, partitions=1)
    await configure(kafka, topic_name(pbx, CALL_EVENTS), max_message_bytes="100000")
    publishing = Publishing(pbx, kafka.bootstrap_servers, partitions=1)
    publishing.put(20)
    publishing.put(1, size=150_000)
    publishing.put(20)
    too_large = publishing.source.items[20]
    publishing.source.seal()

    await publishing.publisher.run()

    del publishing.source.items[20]
    assert await copies_after_checks(publishing) == 0
    [dead_letter] = await read_topic(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1")
    headers = dict(dead_letter.headers)
    assert (dead_letter.key, dead_letter.value) == (too_large.record.key, too_large.record.value)
    assert headers["ce_id"] == b"event-20"
    assert headers["bridge-error-message"] == b"Kafka refused it: MessageSizeTooLargeError"
    assert headers["__dlq.errors.topic"] == f"{pbx}.call.events.v1".encode()
    assert publishing.publisher.state.generation > 1


@pytest.mark.anyio
async def test_a_low_message_limit_of_the_topic_shrinks_the_batches(kafka: Broker, pbx: str) -> None:
    await asyncio.to_thread(make_event_topics, kafka.bootstrap_servers, pbx, partitions=1)
    await configure(kafka, topic_name(pbx, CALL_EVENTS), max_message_bytes="60000")
    publishing = Publishing(pbx, kafka.bootstrap_servers, partitions=1)
    publishing.put(3_000)
    publishing.source.seal()

    await publishing.publisher.run()

    assert await copies_after_checks(publishing) == 0
    assert await read_topic(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1") == []


@pytest.mark.anyio
async def test_events_wait_for_a_topic_that_is_created_later(kafka: Broker, pbx: str) -> None:
    async with running(Publishing(pbx, kafka.bootstrap_servers)) as publishing:
        publishing.put(100)
        await async_eventually(
            lambda: publishing.publisher.state.last_error == "UnknownTopicOrPartitionError"
        )
        await asyncio.to_thread(make_event_topics, kafka.bootstrap_servers, pbx)
        await publishing.drained()

    assert await copies_after_checks(publishing) == 0


@pytest.mark.anyio
async def test_a_topic_of_one_pbx_delays_no_other_pbx(kafka: Broker, pbx: str) -> None:
    """It is missing, and created later; nothing is acknowledged before that, and nothing lost or out of order."""
    other = f"{pbx}-other"
    await asyncio.to_thread(make_event_topics, kafka.bootstrap_servers, pbx)
    async with running(Publishing(pbx, kafka.bootstrap_servers)) as publishing:
        for n in range(3_000):
            publishing.source.put([event(other if n % 2 else pbx, n)])
        publishing.put(100)
        topic = f"{pbx}.call.events.v1"
        await async_eventually(lambda: _count(kafka, topic, 1_600), lambda: publishing.publisher.state)
        [refusal] = publishing.publisher.state.refused
        acknowledged_meanwhile = publishing.source.acknowledged
        await asyncio.to_thread(make_event_topics, kafka.bootstrap_servers, other)
        await publishing.drained()

    assert (refusal.topic, refusal.reason) == (f"{other}.call.events.v1", "unknown_topic")
    assert acknowledged_meanwhile <= 1
    for name, numbers in ((pbx, [*range(0, 3_000, 2), *range(3_000, 3_100)]), (other, [*range(1, 3_000, 2)])):
        records = await read_topic(kafka.bootstrap_servers, f"{name}.call.events.v1")
        ids = [dict(record.headers)["ce_id"] or b"" for record in records]
        assert sorted(set(ids)) == sorted(f"event-{n}".encode() for n in numbers)
        by_key: dict[bytes | None, list[int]] = {}
        for record in records:
            number = int((dict(record.headers)["ce_id"] or b"").removeprefix(b"event-"))
            by_key.setdefault(record.key, []).append(number)
        assert all(each == sorted(each) for each in by_key.values())


async def _count(broker: Broker, topic: str, wanted: int) -> bool:
    return len(await read_topic(broker.bootstrap_servers, topic)) >= wanted


@pytest.fixture
def second_node(own_kafka: LocalKafka, tmp_path: Path) -> Iterator[LocalKafka]:
    """A second broker of the cluster, the only replica of the partitions placed on it."""
    port = free_port()
    node = LocalKafka(
        tmp_path / "second",
        JARS,
        port=port,
        controller_port=free_port(),
        cluster_id=own_kafka.cluster_id,
        heap_mb=256,
        properties={
            **TEST_PROPERTIES,
            "node.id": "2",
            "process.roles": "broker",
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": f"1@127.0.0.1:{own_kafka.controller_port}",
        },
    )
    node.prepare()
    bring_up(node)
    yield node
    node.stop()


@pytest.mark.anyio
async def test_a_leaderless_partition_recovers_at_low_cpu(
    own_kafka: LocalKafka, second_node: LocalKafka, pbx: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a leader for longer than the request timeout, the batch fails and the producer cannot continue the partition."""
    topic = f"{pbx}.call.events.v1"

    async with admin_client(settings_of(own_kafka.bootstrap_servers), 30) as admin:
        await _create(admin, [_NewTopic(topic, -1, -1, {0: [1], 1: [2]})])
        await _wait_until_applied(admin, {topic: {}})
    async with running(
        Publishing(pbx, own_kafka.bootstrap_servers, request_timeout_ms=2_000, partitions=2)
    ) as publishing:
        publishing.put(100)
        await publishing.drained()
        await asyncio.to_thread(second_node.kill)
        publishing.put(100)
        await async_eventually(lambda: publishing.publisher.state.generation > 1)
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(2)  # the span that is measured
        share = (time.process_time() - cpu) / (time.perf_counter() - began)
        await asyncio.to_thread(bring_up, second_node)
        await publishing.drained()

    copies = await copies_after_checks(publishing)
    print_figure(capsys, f"leaderless: {share * 100:.0f} % of a core, {copies} copies")
    assert share < 0.5
