"""Transactions of which the broker rejects a part: nothing of them is committed, and other partitions go on."""

from pathlib import Path

import pytest

from consumers.engine.metrics import Metrics
from consumers.engine.records import TopicPartition
from consumers.engine.worker import Worker
from tests.kafka.conftest import Broker, create_topics
from tests.kafka.engine import (
    add,
    all_running,
    await_totals,
    configure,
    delete_records,
    expected_totals,
    progress,
    read,
    running,
    settings,
    tallies,
    transactions,
)
from tests.traffic import write
from tests.unit.consumers.tally import TallyProjection
from tests.waiting import async_eventually
from voipex.topics import CALL_EVENTS, CALL_STATE, CALL_TIMELINES, topic_name


@pytest.mark.anyio
async def test_a_failed_produce_aborts_the_transaction_for_a_retry(
    kafka: Broker, pbx: str, tmp_path: Path
) -> None:
    """
    Kafka can commit a transaction although a produce request in it failed. While the topic of documents rejects batches, no offset, state
    or document may be committed.
    """
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    config, metrics = settings(kafka, tmp_path, pbx), Metrics("test")
    worker = Worker(TallyProjection(), config, metrics)
    documents, states = topic_name(pbx, CALL_TIMELINES), topic_name(pbx, CALL_STATE)
    first = [add(pbx, f"1.{number % 7}", number) for number in range(70)]
    second = [add(pbx, f"1.{number % 9}", number) for number in range(90)]

    async def committed() -> tuple[object, ...]:
        offsets = {where: each.committed for where, each in (await progress(worker, config)).items()}
        return offsets, await tallies(kafka, pbx), len(await read(kafka, states))

    async with running(worker):
        await all_running(worker, 1)
        await write(config, first)
        await await_totals(kafka, pbx, first)
        before = await committed()
        await configure(kafka, documents, max_message_bytes="100")
        await write(config, second)
        await async_eventually(lambda: transactions(metrics, "tallies", "failed") >= 2)
        meanwhile = await committed()
        await configure(kafka, documents, max_message_bytes="1048588")
        await await_totals(kafka, pbx, [*first, *second])
        await all_running(worker, 1)

    assert before == meanwhile


@pytest.mark.anyio
async def test_a_failing_or_halted_pbx_does_not_stop_the_others(
    kafka: Broker, pbx: str, tmp_path: Path
) -> None:
    """Each PBX has topics, tasks and transactions of its own."""
    broken, halted, sound = names = (f"{pbx}-broken", f"{pbx}-halted", f"{pbx}-sound")
    for name in names:
        await create_topics(kafka.bootstrap_servers, name, 1)
    config, metrics = settings(kafka, tmp_path, *names), Metrics("test")
    worker = Worker(TallyProjection(), config, metrics)
    written = {name: [add(name, f"1.{number % 7}", number) for number in range(70)] for name in names}

    async def more(*pbxs: str) -> None:
        for name in pbxs:
            new = [add(name, f"1.{number % 9}", number) for number in range(90)]
            written[name] += new
            await write(config, new)

    async with running(worker):
        await all_running(worker, 3)
        for name in names:
            await write(config, written[name])
        for name in names:
            await await_totals(kafka, name, written[name])
    calls = TopicPartition(topic_name(halted, CALL_EVENTS), 0)
    await write(config, [add(halted, "1.1")])
    await delete_records(kafka, calls, -1)  # unread
    await configure(kafka, topic_name(broken, CALL_TIMELINES), max_message_bytes="100")

    worker = Worker(TallyProjection(), config, metrics)
    async with running(worker):
        await more(broken, sound)
        await async_eventually(lambda: transactions(metrics, "tallies", "failed") >= 2)
        await await_totals(kafka, sound, written[sound])
        await more(sound)
        await await_totals(kafka, sound, written[sound])
        description = worker.describe()
        is_ready = worker.ready
        await configure(kafka, topic_name(broken, CALL_TIMELINES), max_message_bytes="1048588")
        await await_totals(kafka, broken, written[broken])

    assert list(description["halted"]) == [f"{halted}/0"]
    assert "deleted before they were read" in description["halted"][f"{halted}/0"]
    assert not is_ready
    assert await tallies(kafka, halted) == expected_totals(written[halted])
