"""A record of a changelog that cannot be read halts its partition, and says where it is. The documented procedure gets it going again."""

import contextlib
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from structlog.testing import capture_logs

from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from tests.kafka.conftest import Broker, create_topics, kafka_tools
from tests.kafka.engine import add, all_running, await_totals, read, running, settings, tallies
from tests.kafka.test_lost_offsets import OPERATIONS, documented_commands, run_tool
from tests.traffic import write
from tests.unit.consumers.tally import TallyProjection
from tests.waiting import WITHIN_S, async_eventually
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS, CALL_STATE, CALL_TIMELINES, topic_name

pytestmark = pytest.mark.anyio

_AIOKafkaProducer: Any = aiokafka.AIOKafkaProducer
DAMAGED = "1.3"


async def write_foreign_state(
    kafka: Broker, topic: str, value: bytes | None, headers: list[tuple[str, bytes]]
) -> int:
    """Write a record into a changelog as no service would; return its offset."""
    producer = _AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, value, DAMAGED.encode(), 0, None, headers)
        return int(sent.offset)
    finally:
        await producer.stop()


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"\xff\x00 not a state", [("bridge-fold-version", b"3")]),
        (b"\xff\x00 not a state", []),  # due at once: its timer finds it
        (b"{}", [("bridge-fold-version", b"3"), ("bridge-due-us", b"soon")]),
    ],
    ids=["value", "value of a timer", "header"],
)
async def test_an_unreadable_state_halts_until_the_documented_repair(
    kafka: Broker,
    pbx: str,
    tmp_path: Path,
    value: bytes,
    headers: list[tuple[str, bytes]],
    record_property: Any,
) -> None:
    """No retry changes it, so `/ready` is steady and names topic, partition and offset. A documented command shows the key."""
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    config, changelog = settings(kafka, tmp_path, pbx), topic_name(pbx, CALL_STATE)
    written = [add(pbx, f"1.{number % 5}", number) for number in range(50)]
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await all_running(worker, 1)
        await write(config, written)
        await await_totals(kafka, pbx, written)
    offset = await write_foreign_state(kafka, changelog, value, headers)

    worker = Worker(TallyProjection(), config, Metrics("test"))
    with capture_logs() as logs:
        async with running(worker):
            more = [add(pbx, DAMAGED, 1000)]
            await write(config, more)
            await async_eventually(lambda: worker.describe()["halted"], worker.describe)
            halted, is_ready = worker.describe()["halted"][f"{pbx}/0"], worker.ready
    before = await tallies(kafka, pbx)
    shown_key = show_key(kafka, changelog, offset)
    delete_state(kafka, changelog)
    reset_offsets(kafka, pbx)
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await async_eventually(lambda: _last_total(kafka, pbx, sum_of([*written, *more])))

    assert f"{changelog}-0 has a record at offset {offset} that cannot be read" in halted
    assert DAMAGED not in halted
    assert shown_key == DAMAGED
    assert not is_ready
    assert before[DAMAGED] == sum_of(written)
    [error] = [each for each in logs if each["event"] == "partition halted"]
    assert error["help"] == "docs/operations.md, A state cannot be read"
    assert len([each for each in logs if each["event"] == "task restarted"]) <= 1
    record_property("unreadable states", 1)
    record_property("halts", len([each for each in logs if each["event"] == "partition halted"]))


async def test_a_state_damaged_in_the_store_is_restored(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """The changelog has it whole, so nobody need act."""
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    config = settings(kafka, tmp_path, pbx)
    written = [add(pbx, f"1.{number % 5}", number) for number in range(50)]
    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await all_running(worker, 1)
        await write(config, written)
        await await_totals(kafka, pbx, written)
    with contextlib.closing(sqlite3.connect(tmp_path / "tallies" / pbx / "state-0.db")) as database:
        database.execute("UPDATE state SET value = ? WHERE key = ?", (b"\xff", DAMAGED))
        database.commit()

    worker = Worker(TallyProjection(), config, Metrics("test"))
    async with running(worker):
        await all_running(worker, 1)
        more = [add(pbx, DAMAGED, 1000)]
        await write(config, more)
        await await_totals(kafka, pbx, [*written, *more])


def sum_of(records: list[Any]) -> int:
    return sum(
        int(re.findall(rb'"add": (\d+)', each.value)[0]) for each in records if each.key == DAMAGED.encode()
    )


async def _last_total(kafka: Broker, pbx: str, total: int) -> bool:
    documents = [each for each in await read(kafka, topic_name(pbx, CALL_TIMELINES)) if each.key == b"1.3"]
    return b'"total": %d,' % total in (documents[-1].value or b"")


# -------------------------------------------------------------------------------- what the page says


def show_key(kafka: Broker, changelog: str, offset: int) -> str:
    """Run the documented command that shows the key of a record."""
    section = OPERATIONS.read_text().split("### A state cannot be read")[1].split("\n#")[0]
    [command] = re.findall(r"^ *kafka-console-consumer\.sh ((?:.*\\\n)*.*)$", section, re.MULTILINE)
    arguments = (
        command.replace("\\\n", " ")
        .replace("…", kafka.bootstrap_servers)
        .replace("<topic>", changelog)
        .replace("<partition>", "0")
        .replace("<offset>", str(offset))
    )
    done = subprocess.run(
        kafka_tools().command_line("org.apache.kafka.tools.consumer.ConsoleConsumer", *arguments.split()),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def delete_state(kafka: Broker, changelog: str) -> None:
    """Run the documented command that writes a tombstone."""
    section = OPERATIONS.read_text().split("### A state cannot be read")[1].split("\n#")[0]
    [text, producer] = re.findall(
        r"^ *printf '(.*)' \| (kafka-console-producer\.sh .*)$", section, re.MULTILINE
    )[0]
    _, *arguments = producer.replace("…", kafka.bootstrap_servers).replace("<topic>", changelog).split()
    done = subprocess.run(
        kafka_tools().command_line("org.apache.kafka.tools.ConsoleProducer", *arguments),
        input=text.replace("<key>", DAMAGED).encode().decode("unicode_escape").encode(),
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def reset_offsets(kafka: Broker, pbx: str) -> None:
    [reset] = [each for each in documented_commands() if "--reset-offsets" in each]
    for kind in (CALL_EVENTS, AGENT_ACTIVITY):
        run_tool(
            reset.replace("…", kafka.bootstrap_servers)
            .replace("<pbx>.call.events.v1", topic_name(pbx, kind))
            .replace("<partition>", "0")
            .replace("voipex-timelines", "voipex-tallies")
            .split()
        )
