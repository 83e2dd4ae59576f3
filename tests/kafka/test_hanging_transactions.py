"""
Transactions without an end: the restore of the task that one concerns waits, then halts, and publishes nothing twice; all other tasks go on.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import aiokafka
import pytest
from aiokafka.errors import KafkaError

from consumers.engine import runner as runner_module
from consumers.engine.metrics import Metrics
from consumers.engine.records import TopicPartition
from consumers.engine.worker import Worker
from consumers.settings import Settings
from tests.kafka.conftest import Broker, create_topics
from tests.kafka.engine import (
    add,
    all_running,
    await_totals,
    expected_totals,
    read,
    running,
    settings,
    tallies,
)
from tests.kafka.test_lost_offsets import OPERATIONS, run_tool
from tests.traffic import write
from tests.unit.consumers.tally import TallyProjection, keys_in
from tests.waiting import async_eventually
from voipex.kafka.clients import close_producer
from voipex.records import Record
from voipex.topics import AGENT_LINES, CALL_STATE, CALL_TIMELINES, DEAD_LETTERS, TopicSpec, topic_name

pytestmark = pytest.mark.anyio

_AIOKafkaProducer: Any = aiokafka.AIOKafkaProducer
_AIOKafkaTopicPartition: Any = aiokafka.TopicPartition


@contextlib.asynccontextmanager
async def open_transaction(kafka: Broker, topic: str) -> AsyncIterator[Any]:
    """A transaction of another producer that stays open in partition 0 for as long as the block."""
    producer = _AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        transactional_id=f"hanging-{topic}",
        transaction_timeout_ms=600_000,
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"{}", key=b"1.0", partition=0)
        yield producer
    finally:
        with contextlib.suppress(Exception):  # a test may have ended it
            await producer.abort_transaction()
        with contextlib.suppress(Exception):
            await producer.stop()


@pytest.fixture
def unverified(kafka: Broker) -> Iterator[None]:
    """Leaders do not ask coordinators whether a transaction is open, so that one can be made to hang (KIP-890)."""
    alter = ["kafka-configs.sh", "--bootstrap-server", kafka.bootstrap_servers, "--alter"]
    alter += ["--entity-type", "brokers", "--entity-default"]
    setting = "transaction.partition.verification.enable"
    run_tool([*alter, "--add-config", f"{setting}=false"])
    yield
    run_tool([*alter, "--delete-config", setting])


async def hang(kafka: Broker, pbx: str, task: int, partition: TopicPartition) -> None:
    """
    Leave a transaction of a task in *partition* that its coordinator does not know, so that no fence ends it: what is left when a broker
    completes a transaction and loses the marker of one partition.
    """

    async def is_written() -> bool:
        producer = _AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap_servers,
            transactional_id=f"voipex-tallies.{pbx}.tallies.{task}",
        )
        await producer.start()
        try:
            await producer.begin_transaction()
            producer._txn_manager._txn_partitions.add(_AIOKafkaTopicPartition(*partition))
            await producer.send_and_wait(partition.topic, b"{}", key=b"1.0", partition=partition.partition)
        except KafkaError:  # the broker does not have the setting yet
            return False
        finally:
            await close_producer(producer, 1.0)
        return True

    await async_eventually(is_written)


class Repartitioning(TallyProjection):
    """Its tasks may write to any partition of one output."""

    outputs: ClassVar[Sequence[TopicSpec]] = (CALL_TIMELINES, AGENT_LINES)
    repartitioned: ClassVar[Sequence[TopicSpec]] = (AGENT_LINES,)


async def fold_first_records(kafka: Broker, config: Settings, pbx: str) -> list[Record]:
    written = [add(pbx, f"1.{number % 5}", number) for number in range(50)]
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await all_running(worker, 1)
        await write(config, written)
        await await_totals(kafka, pbx, written)
    return written


async def test_a_restore_waits_for_the_end_of_an_open_transaction(
    kafka: Broker, pbx: str, tmp_path: Path
) -> None:
    """Of one in its changelog, whoever wrote it. `/ready` names the partition meanwhile."""
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    config = settings(kafka, tmp_path, pbx)
    topic = topic_name(pbx, CALL_STATE)
    written = await fold_first_records(kafka, config, pbx)
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with open_transaction(kafka, topic) as transaction, running(worker):
        await async_eventually(lambda: worker.describe()["waiting"], worker.describe)
        waiting = worker.describe()
        more = [add(pbx, "1.1", 1000)]
        await write(config, more)
        await transaction.abort_transaction()
        await await_totals(kafka, pbx, [*written, *more])
        await all_running(worker, 1)
        after = worker.describe()

    assert f"a transaction is open in {topic}-0" in waiting["waiting"][f"{pbx}/0"]
    assert waiting["partitions"] == {"restoring": 1}
    assert after["waiting"] == {}


@pytest.mark.parametrize("kind", [CALL_TIMELINES, DEAD_LETTERS], ids=lambda kind: kind.suffix)
async def test_open_transactions_of_other_producers_delay_no_restore(
    kafka: Broker, pbx: str, tmp_path: Path, kind: TopicSpec
) -> None:
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    config = settings(kafka, tmp_path, pbx)
    written = await fold_first_records(kafka, config, pbx)
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with open_transaction(kafka, topic_name(pbx, kind)) as transaction, running(worker):
        await all_running(worker, 1)
        more = [add(pbx, "1.1", 1000)]
        await write(config, more)
        await transaction.abort_transaction()
        await await_totals(kafka, pbx, [*written, *more])


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("kind", [CALL_STATE, CALL_TIMELINES, DEAD_LETTERS], ids=lambda kind: kind.suffix)
async def test_a_hanging_transaction_halts_until_a_person_ends_it(
    kafka: Broker,
    pbx: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: TopicSpec,
    record_property: Any,
) -> None:
    """To go on would publish twice, with two contents, what the transaction holds. The documented commands find it and end it."""
    monkeypatch.setattr(runner_module, "OPEN_TRANSACTION_GRACE_S", 0.0)
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    hanging = TopicPartition(topic_name(pbx, kind), 0)
    config = settings(kafka, tmp_path, pbx, transaction_timeout_s=2.0)
    written = await fold_first_records(kafka, config, pbx)
    before = await tallies(kafka, pbx)
    more = [add(pbx, "1.1", 1000)]
    await write(config, more)
    await hang(kafka, pbx, 0, hanging)
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await async_eventually(lambda: worker.describe()["halted"], worker.describe)
        halted = worker.describe()["halted"][f"{pbx}/0"]
        is_ready = worker.ready
    meanwhile = await tallies(kafka, pbx)
    end(kafka, hanging, halted)

    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await await_totals(kafka, pbx, [*written, *more])

    assert f"a transaction hangs in {hanging}" in halted
    assert not is_ready
    assert meanwhile == before
    assert all(each.value != b"{}" for each in await read(kafka, hanging.topic))
    record_property("hanging transactions", 1)
    record_property(
        "documents changed meanwhile", sum(before.get(key) != value for key, value in meanwhile.items())
    )


@pytest.mark.usefixtures("unverified")
async def test_a_hanging_transaction_halts_only_the_task_that_wrote_it(
    kafka: Broker, pbx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    """In a topic that every task writes, at a partition of another task. A second one hangs in the timelines of a third task."""
    monkeypatch.setattr(runner_module, "OPEN_TRANSACTION_GRACE_S", 0.0)
    await create_topics(kafka.bootstrap_servers, pbx, 12)
    config = settings(kafka, tmp_path, pbx, partitions=12, transaction_timeout_s=2.0)
    shared, own = (
        TopicPartition(topic_name(pbx, AGENT_LINES), 2),
        TopicPartition(topic_name(pbx, CALL_TIMELINES), 5),
    )
    keys = {number: keys_in(number, 12, 1)[0] for number in range(12)}
    written = [add(pbx, key, 1, 12) for key in keys.values()]
    more = [add(pbx, key, 10, 12) for key in keys.values()]
    worker = Worker(Repartitioning(), config, Metrics("test"))
    async with running(worker):
        await all_running(worker, 12)
        await write(config, written)
        await await_totals(kafka, pbx, written)
    await hang(kafka, pbx, 1, shared)
    await hang(kafka, pbx, 5, own)

    worker = Worker(Repartitioning(), config, Metrics("test"))
    async with running(worker):
        await async_eventually(
            lambda: worker.snapshot().partitions == {"running": 10, "halted": 2}, worker.describe
        )
        halted = worker.describe()["halted"]
        await write(config, more)
        expected = expected_totals(written) | {
            key: 11 for number, key in keys.items() if number not in (1, 5)
        }

        async def others_go_on() -> bool:
            return await tallies(kafka, pbx) == expected

        await async_eventually(others_go_on)
    end(kafka, shared, halted[f"{pbx}/1"])
    end(kafka, own, halted[f"{pbx}/5"])
    worker = Worker(Repartitioning(), config, Metrics("test"))
    async with running(worker):
        await await_totals(kafka, pbx, [*written, *more])

    assert set(halted) == {f"{pbx}/1", f"{pbx}/5"}
    assert f"a transaction hangs in {shared} since offset 0:" in halted[f"{pbx}/1"]
    record_property("hanging transactions", 2)
    record_property("tasks halted", len(halted))
    record_property("tasks that went on", 12 - len(halted))


def end(kafka: Broker, hanging: TopicPartition, halted: str) -> None:
    """Take the documented steps, with what `/ready` shows of the partition."""
    offset = re.search(r"since offset (\d+)", halted)
    assert offset is not None, halted
    find = halted.partition("Find it: ")[2]
    for command in (find, *documented_commands()):
        run_tool(
            command.replace("…", kafka.bootstrap_servers)
            .replace("<topic>", hanging.topic)
            .replace("<partition>", str(hanging.partition))
            .replace("<offset>", offset[1])
            .split()
        )


def documented_commands() -> list[str]:
    section = OPERATIONS.read_text().split("### A transaction hangs")[1].split("\n#")[0]
    commands = re.findall(r"^ *(kafka-transactions\.sh .*)$", section, re.MULTILINE)
    assert len(commands) == 2
    return commands
