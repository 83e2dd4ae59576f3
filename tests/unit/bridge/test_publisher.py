"""What the publisher does when Kafka misbehaves, with a producer that fails as told. No waiting: its patience is milliseconds here."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from bridge.metrics import Metrics
from bridge.publisher.publisher import Fault, Publisher, Timing
from bridge.spool.spool import Spooled
from voipex.partitioner import partition_of
from voipex.records import Record

IMPATIENT = Timing(
    gather_s=0.0,
    silence_s=0.005,
    watchdog_s=0.03,
    first_backoff_s=0.0,
    most_backoff_s=0.0,
    say_every_s=60,
    stop_s=0.05,
)
EVENTS = "voipex.call.events.v1"
LETTERS = "voipex.dead-letters.v1"
LETTER_PARTITION = partition_of(b"k", 12)


def record(name: str, partition: int = 0, topic: str = EVENTS, size: int = 10) -> Record:
    return Record(topic, partition, b"k", b"v" * size, (("ce_id", name.encode()),), 1_000)


class Backlog:
    """A list that notes what was acknowledged."""

    def __init__(self, *records: Record, sealed: bool = True, per_take: int = 1000) -> None:
        self.items = [Spooled("spool-1", seq, each) for seq, each in enumerate(records)]
        self.acknowledged: list[int] = []
        self._taken = 0
        self._per_take = per_take
        self._sealed = sealed

    async def take(self, max_records: int, max_bytes: int) -> Sequence[Spooled]:  # noqa: ARG002
        if self._taken == len(self.items) and not self._sealed:
            await asyncio.get_running_loop().create_future()
        batch = self.items[self._taken : self._taken + min(max_records, self._per_take)]
        self._taken += len(batch)
        return batch

    def acknowledge(self, through: Spooled) -> None:
        self.acknowledged.append(through.seq)


class TooLarge(Exception):
    pass


class Invalid(Exception):
    pass


class NoSuchTopic(Exception):
    pass


class NoRight(Exception):
    pass


class BrokerError(Exception):
    pass


class NoLeader(Exception):
    pass


FAULTS: dict[type[BaseException], Fault] = {
    TooLarge: "too_large",
    Invalid: "refused",
    NoSuchTopic: "topic",
    NoRight: "rights",
    BrokerError: "unsure",
}

Answer = BaseException | str | None
"""Of one batch: an error for its future, "hangs", "raises" (by the call), or None: delivered."""


@dataclass
class Kafka:
    """All producers of a test: how they start, how they answer, what they delivered, in order, per partition."""

    answer: Callable[[int, str, list[Record]], Answer] = lambda generation, topic, records: None  # noqa: ARG005
    starts: list[BaseException] = field(default_factory=list)
    delivered: dict[tuple[str, int], list[Record]] = field(default_factory=dict)
    batches: list[tuple[int, str, int, int]] = field(default_factory=list)
    made: int = 0
    stopped: int = 0
    stop_hangs: bool = False

    def make(self) -> "FakeProducer":
        return FakeProducer(self)

    def names(self, topic: str = EVENTS, partition: int = 0) -> list[str]:
        return [dict(each.headers)["ce_id"].decode() for each in self.delivered.get((topic, partition), [])]


class FakeProducer:
    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._generation = 0
        self._in_flight: dict[tuple[str, int], asyncio.Future[object]] = {}

    async def start(self) -> None:
        if self._kafka.starts:
            raise self._kafka.starts.pop(0)
        self._kafka.made += 1
        self._generation = self._kafka.made

    async def send(
        self, topic: str, partition: int, records: Iterable[Record]
    ) -> tuple[int, "asyncio.Future[object]"]:
        batch = list(records)
        before = self._in_flight.get((topic, partition))
        assert before is None or before.done(), "a later record before the earlier one was acknowledged"
        self._kafka.batches.append((self._generation, topic, partition, len(batch)))
        answer = self._kafka.answer(self._generation, topic, batch)
        if isinstance(answer, NoSuchTopic | NoRight):
            raise answer
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._in_flight[topic, partition] = future
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        elif answer is None:
            self._kafka.delivered.setdefault((topic, partition), []).extend(batch)
            future.set_result(object())
        return len(batch), future

    async def stop(self, timeout_s: float) -> None:
        if self._kafka.stop_hangs:
            await asyncio.sleep(timeout_s)
        self._kafka.stopped += 1
        for future in self._in_flight.values():
            future.cancel()

    def fault_of(self, error: BaseException) -> Fault:
        return FAULTS.get(type(error), "retry")


@dataclass
class Bench:
    """A publisher over a backlog and a Kafka."""

    kafka: Kafka
    backlog: Backlog
    timing: Timing = IMPATIENT
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.publisher = Publisher(
            self.backlog,
            self.kafka.make,
            Metrics("test", self.registry),
            partitions=12,
            timing=self.timing,
            now_ms=lambda: 3_000,
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"voipex_bridge_{name}", labels)


def run(body: Coroutine[None, None, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await body

    asyncio.run(bounded())


def published(bench: Bench) -> None:
    """Run until the sealed backlog is empty."""
    run(bench.publisher.run())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the publisher has no event for it
        await asyncio.sleep(0.001)


def test_records_arrive_in_order_per_partition_and_are_acknowledged_once_all_are_there() -> None:
    records = [record(f"{n}", partition=n % 3) for n in range(9)]
    bench = Bench(Kafka(), Backlog(*records, per_take=4))

    published(bench)

    assert [bench.kafka.names(partition=p) for p in range(3)] == [
        ["0", "3", "6"],
        ["1", "4", "7"],
        ["2", "5", "8"],
    ]
    assert bench.backlog.acknowledged == [3, 7, 8]


def test_every_record_says_which_spool_took_it_and_where_it_stood() -> None:
    """Consumers can tell a copy from a second event, and an operator finds the way back."""
    bench = Bench(Kafka(), Backlog(record("a"), record("b")))

    published(bench)

    headers = [dict(each.headers) for each in bench.kafka.delivered[EVENTS, 0]]
    assert [(each["bridge-spool-id"], each["bridge-seq"]) for each in headers] == [
        (b"spool-1", b"0"),
        (b"spool-1", b"1"),
    ]


def test_the_metrics_tell_what_was_delivered_and_how_old_it_was() -> None:
    bench = Bench(Kafka(), Backlog(record("a"), record("b")))

    published(bench)

    assert bench.value("publish_total", topic=EVENTS, outcome="delivered") == 2
    assert bench.value("publish_duration_seconds_count", topic=EVENTS) == 1
    assert bench.value("event_age_seconds_sum") == 2.0  # received at 1 s, now 3 s
    assert bench.value("producer_generation") == 1
    assert bench.value("kafka_reachable") == 1


def test_kafka_out_of_reach_at_the_start_is_said_once_a_minute_and_tried_again() -> None:
    bench = Bench(Kafka(starts=[OSError("refused")] * 20), Backlog(record("a")))

    with capture_logs() as lines:
        published(bench)

    assert bench.kafka.names() == ["a"]
    said = [(line["event"], line.get("cause")) for line in lines]
    assert said == [
        ("Kafka is out of reach; events are accepted and wait in the spool", "refused"),
        ("Kafka is in reach", None),
    ]
    assert (bench.publisher.state.reachable, bench.publisher.state.last_error) == (True, "OSError")


def test_while_idle_and_out_of_reach_the_state_says_so_and_connecting_goes_on() -> None:
    timing = Timing(first_backoff_s=0.01, most_backoff_s=0.01)
    bench = Bench(Kafka(starts=[OSError("refused")] * 3), Backlog(sealed=False), timing)

    async def body() -> None:
        running = asyncio.create_task(bench.publisher.run())
        await until(lambda: bench.publisher.state.last_error)
        assert bench.publisher.state.reachable is False
        assert bench.value("kafka_reachable") == 0
        await until(lambda: bench.publisher.state.reachable)
        running.cancel()
        await asyncio.wait({running})

    run(body())


def test_a_failed_delivery_makes_a_new_producer_that_sends_only_what_is_missing_again() -> None:
    """Its sequence numbers have a gap: the broker would refuse that partition for ever."""

    def answer(generation: int, _: str, records: list[Record]) -> Answer:
        return NoLeader() if generation == 1 and records[0].partition == 1 else None

    bench = Bench(Kafka(answer), Backlog(*(record(f"{n}", partition=n % 2) for n in range(6))))

    published(bench)

    assert (bench.kafka.names(partition=0), bench.kafka.names(partition=1)) == (
        ["0", "2", "4"],
        ["1", "3", "5"],
    )
    assert bench.kafka.made == bench.kafka.stopped == 2
    assert bench.backlog.acknowledged == [0, 5]  # up to the first that was missing, then all
    assert bench.value("publish_total", topic=EVENTS, outcome="failed") == 3
    assert bench.publisher.state.generation == 2


def test_without_an_answer_the_producer_is_kept_until_the_watchdog_builds_a_new_one() -> None:
    """aiokafka asks only the brokers of its last metadata; when all have moved, it would ask for ever."""
    bench = Bench(
        Kafka(lambda generation, _topic, _records: "hangs" if generation == 1 else None), Backlog(record("a"))
    )

    with capture_logs() as lines:
        published(bench)

    assert bench.kafka.names() == ["a"]
    assert bench.kafka.made == 2
    assert [line["event"] for line in lines] == [
        "Kafka is in reach",
        "Kafka is out of reach; events are accepted and wait in the spool",
        "delivery failed, sending again",
        "Kafka is in reach",
    ]


def test_silence_is_told_while_it_lasts_and_over_with_the_first_answer() -> None:
    gate: list[asyncio.Future[object]] = []

    class Slow(FakeProducer):
        async def send(
            self,
            topic: str,  # noqa: ARG002
            partition: int,  # noqa: ARG002
            records: Iterable[Record],
        ) -> tuple[int, "asyncio.Future[object]"]:
            gate.append(asyncio.get_running_loop().create_future())
            return len(list(records)), gate[0]

    bench = Bench(Kafka(), Backlog(record("a")), timing=Timing(gather_s=0, silence_s=0.005, watchdog_s=60))
    bench.publisher._make_producer = lambda: Slow(bench.kafka)

    async def body() -> None:
        running = asyncio.create_task(bench.publisher.run())
        await until(lambda: gate and not bench.publisher.state.reachable)
        assert bench.value("kafka_reachable") == 0
        gate[0].set_result(object())
        await running
        assert bench.value("kafka_reachable") == 1

    run(body())
    assert bench.publisher.state.generation == 1


def test_one_failed_partition_does_not_wait_for_a_silent_one() -> None:
    def answer(generation: int, _: str, records: list[Record]) -> Answer:
        if generation > 1:
            return None
        return NoLeader() if records[0].partition == 0 else "hangs"

    bench = Bench(
        Kafka(answer),
        Backlog(record("a", 0), record("b", 1)),
        timing=Timing(gather_s=0, silence_s=0.005, watchdog_s=60, first_backoff_s=0),
    )

    published(bench)

    assert (bench.kafka.names(partition=0), bench.kafka.names(partition=1)) == (["a"], ["b"])


@pytest.mark.parametrize("fault", [TooLarge, Invalid])
def test_a_record_that_kafka_never_takes_becomes_a_dead_letter_and_the_line_goes_on(
    fault: type[BaseException],
) -> None:
    def answer(_: int, topic: str, records: list[Record]) -> Answer:
        return (
            fault() if topic == EVENTS and any(dict(r.headers)["ce_id"] == b"bad" for r in records) else None
        )

    names = ["0", "1", "2", "bad", "4", "5", "6"]
    bench = Bench(Kafka(answer), Backlog(*(record(name) for name in names)))

    with capture_logs() as lines:
        published(bench)

    assert bench.kafka.names() == ["0", "1", "2", "4", "5", "6"]
    [letter] = bench.kafka.delivered[LETTERS, LETTER_PARTITION]
    headers = dict(letter.headers)
    assert (headers["bridge-error-class"], headers["__dlq.errors.topic"]) == (
        b"Undeliverable",
        EVENTS.encode(),
    )
    assert (headers["bridge-seq"], headers["bridge-pbx"]) == (b"3", b"voipex")
    assert bench.backlog.acknowledged[-1] == 6
    assert bench.value("publish_total", topic=EVENTS, outcome="dead") == 1
    assert bench.value("dead_letters_total", topic=LETTERS, stage="ingress") == 1
    assert {"event": "Kafka refuses a record; it becomes a dead letter", "event_id": "bad"}.items() <= next(
        line for line in lines if "becomes a dead letter" in line["event"]
    ).items()


def test_a_record_alone_is_refused_twice_before_it_is_given_up() -> None:
    """The first refusal may be the poisoned producer's."""
    bench = Bench(
        Kafka(lambda generation, topic, _: TooLarge() if generation == 1 and topic == EVENTS else None),
        Backlog(record("a")),
    )

    published(bench)

    assert bench.kafka.names() == ["a"]


def test_an_unknown_error_of_the_broker_gets_more_patience() -> None:
    bench = Bench(
        Kafka(lambda generation, topic, _: BrokerError() if generation <= 4 and topic == EVENTS else None),
        Backlog(record("a")),
    )

    published(bench)

    assert bench.kafka.names() == ["a"]


def test_a_dead_letter_that_is_too_large_is_shortened() -> None:
    """Key, headers and the event's own fields, which come first, are kept; an ERROR names the event."""

    def answer(_: int, __: str, records: list[Record]) -> Answer:
        return TooLarge() if any(len(each.value) > 100_000 for each in records) else None

    bench = Bench(Kafka(answer), Backlog(record("a"), record("huge", size=2_000_000), record("b")))

    with capture_logs() as lines:
        published(bench)

    [letter] = bench.kafka.delivered[LETTERS, LETTER_PARTITION]
    assert len(letter.value) == 64 * 1024
    assert dict(letter.headers)["bridge-shortened-from"] == b"2000000"
    assert bench.kafka.names() == ["a", "b"]
    assert bench.backlog.acknowledged[-1] == 2
    assert [line["event_id"] for line in lines if line["log_level"] == "error"] == ["huge"]


def test_a_record_that_nothing_takes_is_counted_and_named_and_the_line_goes_on() -> None:
    def answer(_: int, __: str, records: list[Record]) -> Answer:
        return Invalid() if any(dict(r.headers)["ce_id"] == b"bad" for r in records) else None

    bench = Bench(Kafka(answer), Backlog(record("bad"), record("b")))

    with capture_logs() as lines:
        published(bench)

    assert bench.kafka.names() == ["b"]
    assert bench.value("publish_total", topic=LETTERS, outcome="lost") == 1
    assert [line["event_id"] for line in lines if line["log_level"] == "error"] == ["bad"]


def test_batches_that_are_too_large_though_no_record_is_make_smaller_ones_from_then_on() -> None:
    """An operator lowered max.message.bytes: halving anew for each batch would rebuild the producer all the time."""
    bench = Bench(
        Kafka(lambda _g, _t, records: TooLarge() if len(records) > 4 else None),
        Backlog(*(record(f"{n}") for n in range(64)), per_take=16),
    )

    published(bench)

    assert bench.kafka.names() == [f"{n}" for n in range(64)]
    assert bench.kafka.made == 3  # 16 -> 8 -> 4, once


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            NoSuchTopic,
            "a topic or partition is not there; its events wait in the spool (voipex-bridge topics apply)",
        ),
        (NoRight, "Kafka refuses us the right to write; events wait in the spool"),
    ],
)
def test_a_missing_topic_or_right_is_waited_for_and_said_once_a_minute(
    fault: type[BaseException], said: str
) -> None:
    attempts = iter(range(1000))
    bench = Bench(
        Kafka(lambda _g, topic, _r: fault() if topic == EVENTS and next(attempts) < 10 else None),
        Backlog(record("a"), record("letter", topic=LETTERS)),
    )

    with capture_logs() as lines:
        published(bench)

    assert (bench.kafka.names(), bench.kafka.names(LETTERS)) == (["a"], ["letter"])
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [said]
    assert bench.kafka.made == 1  # nothing was sent, so nothing is poisoned


def test_cancelling_ends_at_once_also_when_kafka_is_silent_and_the_producer_does_not_stop() -> None:
    bench = Bench(
        Kafka(lambda *_: "hangs", stop_hangs=True), Backlog(record("a")), timing=Timing(stop_s=0.01)
    )

    async def body() -> None:
        running = asyncio.create_task(bench.publisher.run())
        await until(lambda: bench.kafka.batches)
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=0.5)
        assert done
        assert running.cancelled()

    run(body())
    assert bench.backlog.acknowledged == []
    assert bench.kafka.stopped == 1


def test_stop_ends_an_idle_publisher() -> None:
    bench = Bench(Kafka(), Backlog(record("a"), sealed=False))

    async def body() -> None:
        running = asyncio.create_task(bench.publisher.run())
        await until(lambda: bench.backlog.acknowledged)
        bench.publisher.stop()
        await running

    run(body())
    assert bench.kafka.stopped == 1


def test_cancelling_an_idle_publisher_is_a_cancellation() -> None:
    bench = Bench(Kafka(), Backlog(sealed=False))

    async def body() -> None:
        running = asyncio.create_task(bench.publisher.run())
        await until(lambda: bench.kafka.made)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()

    run(body())


def test_no_log_line_carries_a_key_or_a_body() -> None:
    def answer(_: int, __: str, records: list[Record]) -> Answer:
        return Invalid() if any(each.value.startswith(b"secret") for each in records) else None

    bad = record("bad")._replace(key=b"+420123456789", value=b"secret" * 10)
    bench = Bench(Kafka(answer), Backlog(bad, record("b")))

    with capture_logs() as lines:
        published(bench)

    assert "420123456789" not in str(lines)
    assert "secret" not in str(lines)
