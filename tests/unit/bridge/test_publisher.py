"""What the publisher does when Kafka misbehaves, with a producer that fails on request and timeouts of milliseconds."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from bridge.metrics import Metrics
from bridge.publisher.delivery import Delivery
from bridge.publisher.faults import DeliveryFault
from bridge.publisher.publisher import Publisher, Timing
from bridge.publisher.rejections import TooLargeBatches, TopicPartition
from bridge.spool import SpooledRecord
from tests.waiting import WITHIN_S, async_eventually
from voipex.partitioner import partition_for_key
from voipex.records import Record

pytestmark = pytest.mark.anyio

IMPATIENT = Timing(
    linger_s=0.0,
    warn_after_s=0.005,
    ack_timeout_s=0.03,
    initial_backoff_s=0.0,
    max_backoff_s=0.0,
    log_interval_s=60,
    stop_timeout_s=0.05,
)
EVENTS = "voipex.call.events.v1"
DEAD_LETTERS = "voipex.dead-letters.v1"
DEAD_LETTER_PARTITION = partition_for_key(b"k", 12)


def record(name: str, partition: int = 0, topic: str = EVENTS) -> Record:
    return Record(topic, partition, b"k", b"v" * 10, (("ce_id", name.encode()),), 1_000)


def name_of(each: Record) -> str:
    return dict(each.headers)["ce_id"].decode()


class ListSource:
    """A RecordSource that records what was acknowledged."""

    def __init__(self, *records: Record, sealed: bool = True, per_take: int = 1000) -> None:
        self.items = [SpooledRecord("spool-1", seq, each) for seq, each in enumerate(records)]
        self.acknowledged: list[int] = []
        self._taken = 0
        self._per_take = per_take
        self._sealed = sealed
        self.yields = 0

    async def take(self, max_records: int, max_bytes: int) -> Sequence[SpooledRecord]:  # noqa: ARG002
        if self._taken == len(self.items) and not self._sealed:
            await asyncio.get_running_loop().create_future()
        batch = self.items[self._taken : self._taken + min(max_records, self._per_take)]
        self._taken += len(batch)
        return batch

    async def yield_to_appends(self) -> None:
        self.yields += 1
        await asyncio.sleep(0)

    def acknowledge(self, through: SpooledRecord) -> None:
        self.acknowledged.append(through.seq)


class TooLarge(Exception):
    pass


class Refused(Exception):
    pass


class OutsideTimestampLimits(Exception):
    pass


class NoSuchTopic(Exception):
    pass


class NotAuthorized(Exception):
    pass


class NoLeader(Exception):
    pass


FAULTS: dict[type[BaseException], DeliveryFault] = {
    TooLarge: DeliveryFault.TOO_LARGE,
    Refused: DeliveryFault.REFUSED,
    OutsideTimestampLimits: DeliveryFault.TIMESTAMP,
    NoSuchTopic: DeliveryFault.UNKNOWN_TOPIC,
    NotAuthorized: DeliveryFault.UNAUTHORIZED,
}

Result = BaseException | str | None
"""Of one batch: an error for its future, "hangs", or None: delivered. NoSuchTopic and NotAuthorized are raised by the call."""


@dataclass
class Kafka:
    """All producers of a test: how they start, what becomes of their batches, and what they delivered, in order, per partition."""

    result: Callable[[int, str, list[Record]], Result] = lambda generation, topic, records: None  # noqa: ARG005
    starts: list[BaseException] = field(default_factory=list)
    """Errors of the first starts."""
    delivered: dict[tuple[str, int], list[Record]] = field(default_factory=dict)
    batches: list[tuple[int, str, int, int]] = field(default_factory=list)
    hanging: list["asyncio.Future[object]"] = field(default_factory=list)
    started: int = 0
    stopped: int = 0
    stop_hangs: bool = False

    def producer(self) -> "FakeProducer":
        return FakeProducer(self)

    def names(self, topic: str = EVENTS, partition: int = 0) -> list[str]:
        return [name_of(each) for each in self.delivered.get((topic, partition), [])]


class FakeProducer:
    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._generation = 0
        self._in_flight: dict[tuple[str, int], asyncio.Future[object]] = {}

    async def start(self) -> None:
        if self._kafka.starts:
            raise self._kafka.starts.pop(0)
        self._kafka.started += 1
        self._generation = self._kafka.started

    async def send(
        self, topic: str, partition: int, records: Iterable[Record]
    ) -> tuple[int, "asyncio.Future[object]"]:
        batch = list(records)
        before = self._in_flight.get((topic, partition))
        assert before is None or before.done(), "a later record before the earlier one was acknowledged"
        self._kafka.batches.append((self._generation, topic, partition, len(batch)))
        result = self._kafka.result(self._generation, topic, batch)
        if isinstance(result, NoSuchTopic | NotAuthorized):
            raise result
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._in_flight[topic, partition] = future
        if isinstance(result, BaseException):
            future.set_exception(result)
        elif result is None:
            self._kafka.delivered.setdefault((topic, partition), []).extend(batch)
            future.set_result(object())
        else:
            self._kafka.hanging.append(future)
        return len(batch), future

    async def stop(self, timeout_s: float) -> None:
        if self._kafka.stop_hangs:
            await asyncio.sleep(timeout_s)
        self._kafka.stopped += 1
        for future in self._in_flight.values():
            future.cancel()

    def fault_of(self, error: BaseException) -> DeliveryFault:
        return FAULTS.get(type(error), DeliveryFault.RETRIABLE)


@dataclass
class PublisherHarness:
    """A publisher between a source and a Kafka."""

    kafka: Kafka
    source: ListSource
    timing: Timing = IMPATIENT
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.publisher = Publisher(
            self.source,
            self.kafka.producer,
            Metrics("test", self.registry),
            partitions_of=lambda _: 12,
            timing=self.timing,
            now_ms=lambda: 3_000,
        )

    async def publish(self) -> None:
        """Run until the sealed source is empty."""
        async with asyncio.timeout(WITHIN_S):
            await self.publisher.run()

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"voipex_bridge_{name}", labels)


async def cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=WITHIN_S)
    assert done
    assert task.cancelled()


# ---------------------------------------------------------------- the normal way


async def test_records_arrive_in_order_and_are_acknowledged() -> None:
    records = [record(f"{n}", partition=n % 3) for n in range(9)]
    harness = PublisherHarness(Kafka(), ListSource(*records, per_take=4))

    await harness.publish()

    assert [harness.kafka.names(partition=p) for p in range(3)] == [
        ["0", "3", "6"],
        ["1", "4", "7"],
        ["2", "5", "8"],
    ]
    assert harness.source.acknowledged == [3, 7, 8]


async def test_appends_may_go_first_after_records_not_partitions() -> None:
    """Each time may take a millisecond: with a hundred partitions a round would take a tenth of a second longer."""
    crowded = PublisherHarness(Kafka(), ListSource(*[record(f"{n}", n % 4) for n in range(512)]))
    spread = PublisherHarness(Kafka(), ListSource(*[record(f"{n}", n) for n in range(320)]))

    await crowded.publish()
    await spread.publish()

    assert (crowded.source.yields, spread.source.yields) == (5, 6)  # the last one before the acknowledgements


async def test_records_carry_spool_id_and_sequence_number() -> None:
    """Consumers can tell a copy from a second event, and an operator finds the record in the spool."""
    harness = PublisherHarness(Kafka(), ListSource(record("a"), record("b")))

    await harness.publish()

    headers = [dict(each.headers) for each in harness.kafka.delivered[EVENTS, 0]]
    assert [(each["bridge-spool-id"], each["bridge-seq"]) for each in headers] == [
        (b"spool-1", b"0"),
        (b"spool-1", b"1"),
    ]


async def test_metrics_count_deliveries_and_their_age() -> None:
    harness = PublisherHarness(Kafka(), ListSource(record("a"), record("b")))

    await harness.publish()

    assert harness.value("publish_total", topic=EVENTS, outcome="delivered") == 2
    assert harness.value("publish_duration_seconds_count", topic=EVENTS) == 1
    assert harness.value("event_age_seconds_sum") == 2.0  # received at 1 s, now 3 s
    assert harness.value("producer_restarts_total") == 0
    assert harness.value("kafka_reachable") == 1


# ---------------------------------------------------------------- Kafka does not answer


async def test_an_unreachable_kafka_is_logged_once_and_retried() -> None:
    harness = PublisherHarness(Kafka(starts=[OSError("refused")] * 20), ListSource(record("a")))

    with capture_logs() as lines:
        await harness.publish()

    assert harness.kafka.names() == ["a"]
    assert [(line["event"], line.get("cause")) for line in lines] == [
        ("kafka unreachable", "refused"),
        ("kafka reachable", None),
    ]
    assert (harness.publisher.state.reachable, harness.publisher.state.last_error) == (True, "OSError")


async def test_an_idle_publisher_reports_unreachable_and_retries() -> None:
    timing = Timing(initial_backoff_s=0.01, max_backoff_s=0.01)
    harness = PublisherHarness(Kafka(starts=[OSError("refused")] * 3), ListSource(sealed=False), timing)
    running = asyncio.create_task(harness.publisher.run())

    await async_eventually(lambda: harness.publisher.state.last_error)
    assert harness.publisher.state.reachable is False
    assert harness.value("kafka_reachable") == 0
    await async_eventually(lambda: harness.publisher.state.reachable)

    await cancel(running)


async def test_a_missing_acknowledgement_replaces_the_producer() -> None:
    """aiokafka asks only the brokers of its last metadata; if all have moved, it would ask for ever."""
    harness = PublisherHarness(
        Kafka(lambda generation, _topic, _records: "hangs" if generation == 1 else None),
        ListSource(record("a")),
    )

    with capture_logs() as lines:
        await harness.publish()

    assert harness.kafka.names() == ["a"]
    assert harness.kafka.started == 2
    assert [(line["event"], line.get("error")) for line in lines] == [
        ("kafka reachable", None),
        ("kafka unreachable", None),
        ("delivery failed", "AckTimeout"),
        ("kafka reachable", None),
    ]


async def test_kafka_is_unreachable_until_the_next_acknowledgement() -> None:
    harness = PublisherHarness(
        Kafka(lambda *_: "hangs"),
        ListSource(record("a")),
        timing=Timing(linger_s=0, warn_after_s=0.005, ack_timeout_s=60),
    )
    running = asyncio.create_task(harness.publish())

    await async_eventually(lambda: harness.kafka.hanging and not harness.publisher.state.reachable)
    assert harness.value("kafka_reachable") == 0
    harness.kafka.hanging[0].set_result(object())
    await running

    assert harness.value("kafka_reachable") == 1
    assert harness.publisher.state.generation == 1


async def test_a_failed_partition_does_not_wait_for_a_silent_one() -> None:
    def result(generation: int, _: str, records: list[Record]) -> Result:
        if generation > 1:
            return None
        return NoLeader() if records[0].partition == 0 else "hangs"

    harness = PublisherHarness(
        Kafka(result),
        ListSource(record("a", 0), record("b", 1)),
        timing=Timing(linger_s=0, warn_after_s=0.005, ack_timeout_s=60, initial_backoff_s=0),
    )

    await harness.publish()

    assert (harness.kafka.names(partition=0), harness.kafka.names(partition=1)) == (["a"], ["b"])


# ---------------------------------------------------------------- deliveries fail


async def test_a_new_producer_sends_only_what_is_missing() -> None:
    """After a failed delivery the sequence numbers have a gap: the broker would reject that partition for ever."""

    def result(generation: int, _: str, records: list[Record]) -> Result:
        return NoLeader() if generation == 1 and records[0].partition == 1 else None

    harness = PublisherHarness(
        Kafka(result), ListSource(*(record(f"{n}", partition=n % 2) for n in range(6)))
    )

    await harness.publish()

    assert (harness.kafka.names(partition=0), harness.kafka.names(partition=1)) == (
        ["0", "2", "4"],
        ["1", "3", "5"],
    )
    assert harness.kafka.started == harness.kafka.stopped == 2
    assert harness.source.acknowledged == [0, 5]  # up to the first missing record, then all
    assert harness.value("publish_total", topic=EVENTS, outcome="failed") == 3
    assert harness.value("producer_restarts_total") == 1
    assert harness.publisher.state.generation == 2


async def test_a_record_that_is_too_large_is_dead_lettered() -> None:
    """The records behind it are published."""

    def result(_: int, topic: str, records: list[Record]) -> Result:
        return TooLarge() if topic == EVENTS and "bad" in map(name_of, records) else None

    names = ["0", "1", "2", "bad", "4", "5", "6"]
    harness = PublisherHarness(Kafka(result), ListSource(*map(record, names)))

    with capture_logs() as lines:
        await harness.publish()

    assert harness.kafka.names() == ["0", "1", "2", "4", "5", "6"]
    [dead_letter] = harness.kafka.delivered[DEAD_LETTERS, DEAD_LETTER_PARTITION]
    headers = dict(dead_letter.headers)
    assert (headers["bridge-error-class"], headers["__dlq.errors.topic"]) == (
        b"Undeliverable",
        EVENTS.encode(),
    )
    assert (headers["bridge-seq"], headers["bridge-pbx"]) == (b"3", b"voipex")
    assert harness.source.acknowledged[-1] == 6
    assert harness.value("publish_total", topic=EVENTS, outcome="dead_lettered") == 1
    assert harness.value("dead_letters_total", topic=DEAD_LETTERS, stage="ingress") == 1
    [line] = [line for line in lines if line["event"] == "record dead-lettered"]
    assert (line["event_id"], line["reason"], line["log_level"]) == ("bad", "TooLarge", "warning")


async def test_a_single_record_is_rejected_twice_before_it_is_given_up() -> None:
    """The first rejection may be due to the sequence numbers of the producer before."""
    harness = PublisherHarness(
        Kafka(lambda generation, topic, _: TooLarge() if generation == 1 and topic == EVENTS else None),
        ListSource(record("a")),
    )

    await harness.publish()

    assert harness.kafka.names() == ["a"]


@pytest.mark.parametrize("error", [Refused, OutsideTimestampLimits])
async def test_a_refused_record_waits_and_is_no_dead_letter(error: type[BaseException]) -> None:
    """A clock, a policy or a broker is at fault, for however long it takes."""
    attempts = iter(range(1000))
    harness = PublisherHarness(
        Kafka(lambda *_: error() if next(attempts) < 30 else None),
        ListSource(record("a"), record("b")),
    )

    with capture_logs() as lines:
        await harness.publish()

    assert harness.kafka.names() == ["a", "b"]
    assert list(harness.kafka.delivered) == [(EVENTS, 0)]
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        "timestamp refused" if error is OutsideTimestampLimits else "records refused"
    ]


async def test_a_refused_topic_is_reported_until_it_takes_a_record() -> None:
    harness = PublisherHarness(
        Kafka(lambda generation, *_: OutsideTimestampLimits() if generation < 9 else None),
        ListSource(record("a"), sealed=False),
        timing=Timing(initial_backoff_s=0.001, max_backoff_s=0.02),
    )
    running = asyncio.create_task(harness.publisher.run())
    labels = {"topic": EVENTS, "reason": "timestamp"}

    await async_eventually(lambda: harness.publisher.state.refused)
    [refusal] = harness.publisher.state.refused
    gauge = harness.value("publish_refused", **labels)
    await async_eventually(lambda: harness.source.acknowledged)

    assert (refusal.topic, refusal.reason, refusal.error) == (EVENTS, "timestamp", "OutsideTimestampLimits")
    assert "voipex-bridge topics apply" in refusal.remedy
    assert gauge == 1
    assert harness.value("publish_refused", **labels) == 0
    assert harness.publisher.state.refused == ()
    await cancel(running)


async def test_a_refused_topic_does_not_stop_the_others() -> None:
    """A PBX without topics would delay the events of all PBXs. Nothing is acknowledged behind the first record that waits."""
    other = "brno.call.events.v1"
    may_pass = False
    harness = PublisherHarness(
        Kafka(lambda _generation, topic, _: Refused() if topic == EVENTS and not may_pass else None),
        ListSource(
            *(record(f"{n}", topic=EVENTS if n % 3 == 0 else other) for n in range(30)),
            sealed=False,
            per_take=4,
        ),
        timing=Timing(linger_s=0, initial_backoff_s=0.01, max_backoff_s=0.05),
    )
    running = asyncio.create_task(harness.publisher.run())

    await async_eventually(lambda: len(harness.kafka.names(other)) == 20)
    acknowledged_meanwhile = list(harness.source.acknowledged)
    may_pass = True
    await async_eventually(lambda: harness.source.acknowledged and harness.source.acknowledged[-1] == 29)

    assert acknowledged_meanwhile == []
    assert harness.kafka.names(other) == [f"{n}" for n in range(30) if n % 3]
    assert harness.kafka.names() == [f"{n}" for n in range(0, 30, 3)]
    await cancel(running)


async def test_a_refused_topic_stops_the_others_once_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken meanwhile is in memory."""
    monkeypatch.setattr("bridge.publisher.publisher._MAX_UNACKNOWLEDGED", 10)
    harness = PublisherHarness(
        Kafka(lambda _generation, topic, _: Refused() if topic == EVENTS else None),
        ListSource(
            record("first"),
            *(record(f"{n}", topic=DEAD_LETTERS) for n in range(30)),
            sealed=False,
            per_take=4,
        ),
        timing=Timing(linger_s=0, initial_backoff_s=0.001, max_backoff_s=0.002),
    )
    running = asyncio.create_task(harness.publisher.run())

    await async_eventually(lambda: len(harness.kafka.names(DEAD_LETTERS)) == 11)
    attempts = len(harness.kafka.batches)
    await async_eventually(lambda: len(harness.kafka.batches) > attempts + 5)

    assert len(harness.kafka.names(DEAD_LETTERS)) == 11
    await cancel(running)


async def test_a_dead_letter_of_a_refused_time_goes_without_one() -> None:
    """It must not wait for a clock: its headers hold the time of receipt."""

    def result(_: int, topic: str, records: list[Record]) -> Result:
        refused = topic == DEAD_LETTERS and any(each.timestamp_ms >= 0 for each in records)
        return OutsideTimestampLimits() if refused else None

    harness = PublisherHarness(Kafka(result), ListSource(record("bad", topic=DEAD_LETTERS), record("b")))

    await harness.publish()

    [dead_letter] = harness.kafka.delivered[DEAD_LETTERS, 0]
    assert (dead_letter.timestamp_ms, harness.kafka.names()) == (-1, ["b"])
    assert harness.publisher.state.refused == ()
    assert harness.value("event_age_seconds_sum") == 2.0  # of the other one


async def test_a_dead_letter_that_is_too_large_waits() -> None:
    """Until an operator raises the limit again; the record is never given up."""
    attempts = iter(range(1000))

    def result(_: int, __: str, records: list[Record]) -> Result:
        return TooLarge() if "bad" in map(name_of, records) and next(attempts) < 30 else None

    harness = PublisherHarness(Kafka(result), ListSource(record("bad"), record("b")))

    await harness.publish()

    assert harness.kafka.names() == ["b"]
    assert harness.kafka.names(DEAD_LETTERS, DEAD_LETTER_PARTITION) == ["bad"]
    assert harness.source.acknowledged == [1]
    assert harness.value("publish_refused", topic=DEAD_LETTERS, reason="too_large") == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(FAULTS, key=str))), max_size=40))
def test_no_sequence_of_faults_loses_a_record(faults: list[tuple[int, type[BaseException]]]) -> None:
    """Each record arrives once, itself or as its dead letter, whatever batches fail for whatever reason before."""
    waiting: dict[int, list[type[BaseException]]] = {}
    for partition, error in faults:
        waiting.setdefault(partition, []).append(error)

    def result(_: int, __: str, records: list[Record]) -> Result:
        pending = waiting.get(records[0].partition, [])
        return pending.pop()() if pending else None

    harness = PublisherHarness(
        Kafka(result), ListSource(*(record(f"{n}", partition=n % 4) for n in range(12)), per_take=5)
    )

    asyncio.run(harness.publish())

    arrived = [name_of(each) for records in harness.kafka.delivered.values() for each in records]
    assert sorted(arrived, key=int) == [f"{n}" for n in range(12)]
    for partition in range(4):
        in_order = list(map(int, harness.kafka.names(partition=partition)))
        assert in_order == sorted(in_order)
    assert harness.source.acknowledged[-1] == 11


async def test_a_low_size_limit_shrinks_later_batches() -> None:
    """An operator lowered max.message.bytes: halving each batch anew would replace the producer again and again."""
    harness = PublisherHarness(
        Kafka(lambda _generation, _topic, records: TooLarge() if len(records) > 4 else None),
        ListSource(*(record(f"{n}") for n in range(64)), per_take=16),
    )

    with capture_logs() as lines:
        await harness.publish()

    assert harness.kafka.names() == [f"{n}" for n in range(64)]
    assert harness.kafka.started == 3  # 16 -> 8 -> 4, once
    assert [line["records"] for line in lines if line["event"] == "batch size reduced"] == [4]


@pytest.mark.parametrize(
    ("error", "event"), [(NoSuchTopic, "topic not found"), (NotAuthorized, "write not authorized")]
)
async def test_a_missing_topic_or_acl_is_logged_and_awaited(error: type[BaseException], event: str) -> None:
    attempts = iter(range(1000))
    harness = PublisherHarness(
        Kafka(lambda _generation, topic, _: error() if topic == EVENTS and next(attempts) < 10 else None),
        ListSource(record("a"), record("b", topic=DEAD_LETTERS)),
    )

    with capture_logs() as lines:
        await harness.publish()

    assert (harness.kafka.names(), harness.kafka.names(DEAD_LETTERS)) == (["a"], ["b"])
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [event]
    assert harness.kafka.started == 1  # nothing was sent, so the sequence numbers have no gap


async def test_no_log_line_carries_a_key_or_a_body() -> None:
    def result(_: int, topic: str, records: list[Record]) -> Result:
        return (
            TooLarge()
            if topic == EVENTS and any(each.value.startswith(b"secret") for each in records)
            else None
        )

    bad = record("bad")._replace(key=b"+420123456789", value=b"secret" * 10)
    harness = PublisherHarness(Kafka(result), ListSource(bad, record("b")))

    with capture_logs() as lines:
        await harness.publish()

    assert "420123456789" not in str(lines)
    assert "secret" not in str(lines)


# ---------------------------------------------------------------- the end


async def test_cancelling_ends_soon_though_kafka_is_silent() -> None:
    """Even if the producer does not stop."""
    harness = PublisherHarness(
        Kafka(lambda *_: "hangs", stop_hangs=True),
        ListSource(record("a")),
        timing=Timing(stop_timeout_s=0.01),
    )
    running = asyncio.create_task(harness.publisher.run())
    await async_eventually(lambda: harness.kafka.batches)

    await cancel(running)

    assert harness.source.acknowledged == []
    assert harness.kafka.stopped == 1


async def test_stop_ends_an_idle_publisher() -> None:
    harness = PublisherHarness(Kafka(), ListSource(record("a"), sealed=False))
    running = asyncio.create_task(harness.publisher.run())
    await async_eventually(lambda: harness.source.acknowledged)

    harness.publisher.stop()
    await running

    assert harness.kafka.stopped == 1


async def test_cancelling_an_idle_publisher_is_a_cancellation() -> None:
    harness = PublisherHarness(Kafka(), ListSource(sealed=False))
    running = asyncio.create_task(harness.publisher.run())
    await async_eventually(lambda: harness.kafka.started)

    await cancel(running)


# ---------------------------------------------------------------- rejected batches, deliveries

PARTITION = TopicPartition(EVENTS, 0)


def test_large_batches_are_halved_down_to_one_record() -> None:
    too_large = TooLargeBatches(8)
    limits = []
    for _ in range(4):
        limit = too_large.batch_limit(PARTITION)
        limits.append(limit)
        assert not too_large.record(PARTITION, 0, limit)

    assert limits == [8, 4, 2, 1]
    assert too_large.record(PARTITION, 0, 1)
    assert not too_large.record(PARTITION, 1, 1)  # the next record counts anew
    dead_letters = TopicPartition(DEAD_LETTERS, 0)
    assert not too_large.record(dead_letters, 0, 1)  # so does its dead letter, with the same seq


def test_a_single_large_record_does_not_shrink_batches() -> None:
    too_large = TooLargeBatches(2)
    for batch_records in (2, 1, 1):
        too_large.record(PARTITION, 0, batch_records)

    assert too_large.shrunk_batch_sizes() == {}


def test_a_delivery_acknowledges_up_to_the_first_pending_record() -> None:
    taken = [SpooledRecord("spool-1", n, record(f"{n}", partition=n % 2)) for n in range(6)]
    delivery = Delivery(taken, 100)
    assert delivery.acknowledgeable() == []

    delivery.delivered(TopicPartition(EVENTS, 0), 3)
    assert delivery.acknowledgeable() == [taken[0]]
    assert delivery.acknowledgeable() == []  # not twice
    delivery.delivered(TopicPartition(EVENTS, 1), 2)
    assert delivery.acknowledgeable() == [taken[4]]
    delivery.delivered(TopicPartition(EVENTS, 1), 1)
    assert delivery.acknowledgeable() == [taken[5]]
    assert not delivery.pending


def test_each_spool_of_a_delivery_is_acknowledged() -> None:
    """A recovered one first; both number from 0."""
    taken = [
        SpooledRecord(spool_id, n, record(f"{n}")) for spool_id in ("spool-2", "spool-1") for n in (0, 1)
    ]
    delivery = Delivery(taken[:2], 100)
    delivery.extend(taken[2:])

    delivery.delivered(PARTITION, 3)

    assert delivery.acknowledgeable() == [taken[1], taken[2]]
    assert delivery.unacknowledged == 1


def test_a_pending_dead_letter_holds_the_acknowledgement() -> None:
    taken = [SpooledRecord("spool-1", n, record(f"{n}")) for n in range(2)]
    delivery = Delivery(taken, 100)

    delivery.replace_first(PARTITION, record("0", topic=DEAD_LETTERS))
    delivery.delivered(PARTITION, 1)
    assert delivery.acknowledgeable() == []
    delivery.delivered(TopicPartition(DEAD_LETTERS, 0), 1)
    assert delivery.acknowledgeable() == [taken[1]]
