"""A transaction whose end a broker has lost: the restore waits for it, then halts, and publishes nothing twice."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiokafka
import pytest

from consumers.engine import runner as runner_module
from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from consumers.settings import Settings
from tests.kafka.conftest import Broker, create_topics
from tests.kafka.engine import add, all_running, await_totals, read, running, settings, tallies
from tests.kafka.test_lost_offsets import OPERATIONS, run_tool
from tests.traffic import write
from tests.unit.consumers.tally import TallyProjection
from tests.waiting import async_eventually
from voipex.records import Record
from voipex.topics import CALL_STATE, CALL_TIMELINES, DEAD_LETTERS, TopicSpec, topic_name

pytestmark = pytest.mark.anyio

_AIOKafkaProducer: Any = aiokafka.AIOKafkaProducer


@contextlib.asynccontextmanager
async def open_transaction(kafka: Broker, topic: str) -> AsyncIterator[Any]:
    """
    A transaction that stays open in partition 0 for as long as the block. To a task it looks like one of its own whose end is lost: the
    last stable offset stands before the end, although its own producers are fenced.
    """
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


async def fold_first_records(kafka: Broker, config: Settings, pbx: str) -> list[Record]:
    written = [add(pbx, f"1.{number % 5}", number) for number in range(50)]
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await all_running(worker, 1)
        await write(config, written)
        await await_totals(kafka, pbx, written)
    return written


@pytest.mark.parametrize("kind", [CALL_STATE, CALL_TIMELINES, DEAD_LETTERS], ids=lambda kind: kind.suffix)
async def test_a_restore_waits_for_the_end_of_an_open_transaction(
    kafka: Broker, pbx: str, tmp_path: Path, kind: TopicSpec
) -> None:
    """`/ready` names the partition meanwhile."""
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    config = settings(kafka, tmp_path, pbx)
    written = await fold_first_records(kafka, config, pbx)
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with open_transaction(kafka, topic_name(pbx, kind)) as transaction, running(worker):
        await async_eventually(lambda: worker.describe()["waiting"], worker.describe)
        waiting = worker.describe()
        more = [add(pbx, "1.1", 1000)]
        await write(config, more)
        await transaction.abort_transaction()
        await await_totals(kafka, pbx, [*written, *more])
        await all_running(worker, 1)
        after = worker.describe()

    assert f"a transaction is open in {topic_name(pbx, kind)}-0" in waiting["waiting"][f"{pbx}/0"]
    assert waiting["partitions"] == {"restoring": 1}
    assert after["waiting"] == {}


@pytest.mark.parametrize("kind", [CALL_STATE, CALL_TIMELINES], ids=lambda kind: kind.suffix)
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
    topic = topic_name(pbx, kind)
    config = settings(kafka, tmp_path, pbx, transaction_timeout_s=2.0)
    written = await fold_first_records(kafka, config, pbx)
    before = await tallies(kafka, pbx)
    more = [add(pbx, "1.1", 1000)]
    await write(config, more)
    async with open_transaction(kafka, topic):
        worker = Worker(TallyProjection(), config, Metrics("test"))
        async with running(worker):
            await async_eventually(lambda: worker.describe()["halted"], worker.describe)
            halted = worker.describe()["halted"][f"{pbx}/0"]
            is_ready = worker.ready
        meanwhile = await tallies(kafka, pbx)
        offset = re.search(r"since offset (\d+)", halted)
        assert offset is not None, halted
        find = halted.partition("Find it: ")[2]
        for command in (find, *documented_commands()):
            run_tool(
                command.replace("…", kafka.bootstrap_servers)
                .replace("<topic>", topic)
                .replace("<partition>", "0")
                .replace("<offset>", offset[1])
                .split()
            )

        worker = Worker(TallyProjection(), config, Metrics("test"))
        async with running(worker):
            await await_totals(kafka, pbx, [*written, *more])

    assert f"a transaction hangs in {topic}-0" in halted
    assert not is_ready
    assert meanwhile == before
    assert all(each.value != b"{}" for each in await read(kafka, topic))
    record_property("hanging transactions", 1)
    record_property(
        "documents changed meanwhile", sum(before.get(key) != value for key, value in meanwhile.items())
    )


def documented_commands() -> list[str]:
    section = OPERATIONS.read_text().split("### A transaction hangs")[1].split("\n#")[0]
    commands = re.findall(r"^ *(kafka-transactions\.sh .*)$", section, re.MULTILINE)
    assert len(commands) == 2
    return commands
