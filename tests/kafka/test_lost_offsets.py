"""Offsets that expired or point to deleted records halt the partition; docs/operations.md has the procedure to reset them."""

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from consumers.calls.projection import CallProjection
from consumers.engine.metrics import Metrics
from consumers.engine.records import TopicPartition
from consumers.engine.worker import Worker
from tests.document_oracle import await_published, read
from tests.kafka.conftest import Broker, apply_topics, kafka_tools
from tests.kafka.engine import delete_records, progress, settings
from tests.processes import ConsumerProcess
from tests.traffic import Traffic
from tests.waiting import WITHIN_S, eventually
from voipex.topics import CALL_EVENTS, CALL_TIMELINES, topic_name

OPERATIONS = Path(__file__).parent.parent.parent / "docs" / "operations.md"
TOOLS = {
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-get-offsets.sh": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}


def test_lost_offsets_halt_partitions_until_the_documented_reset(
    kafka: Broker, pbx: str, tmp_path: Path
) -> None:
    """One of three partitions has lost its offset; another has records that were deleted unread."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=12)
    timelines, agents = (
        ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx) for name in ("timelines", "agents")
    )
    calls = topic_name(pbx, CALL_EVENTS)

    with timelines.start(), agents.start():
        traffic.publish(300)
        await_published(kafka.bootstrap_servers, pbx)
        timelines.stop()
        folded = read(kafka.bootstrap_servers, pbx, CALL_EVENTS)
        traffic.publish(100)
        asyncio.run(delete_records(kafka, TopicPartition(calls, 1), -1))
        delete_offset = ["--delete-offsets", "--group", "voipex-timelines", "--topic", f"{calls}:0"]
        run_tool(["kafka-consumer-groups.sh", "--bootstrap-server", kafka.bootstrap_servers, *delete_offset])
        offsets_before, before = offsets(kafka, pbx, tmp_path), timelines_by_partition(kafka, pbx)

        timelines.start()
        await_halted(timelines, 2)
        status, details = timelines.ready()
        eventually(lambda: timelines_by_partition(kafka, pbx)[2] > before[2], every_s=0.2)
        offsets_meanwhile, meanwhile = offsets(kafka, pbx, tmp_path), timelines_by_partition(kafka, pbx)
        timelines.stop()
        for command in documented_commands():
            run_tool(filled_in(command, kafka, pbx, "0,1"))
        timelines.start().await_ready()
        await_published(kafka.bootstrap_servers, pbx, forgotten=folded)

    assert status == 503
    assert f"the group has no offset for {calls}-0" in details.decode()
    assert f"{calls}-1 begins at" in details.decode()
    assert offsets_before[0] is None
    assert [offsets_meanwhile[number] for number in (0, 1)] == [offsets_before[number] for number in (0, 1)]
    assert [meanwhile[number] for number in (0, 1)] == [before[number] for number in (0, 1)]


def offsets(kafka: Broker, pbx: str, folder: Path) -> list[int | None]:
    """Committed offsets of the call events' partitions."""
    config = settings(kafka, folder, pbx, partitions=3)
    found = asyncio.run(progress(Worker(CallProjection(), config, Metrics("test")), config))
    return [found[TopicPartition(topic_name(pbx, CALL_EVENTS), number)].committed for number in range(3)]


def timelines_by_partition(kafka: Broker, pbx: str) -> Counter[int]:
    """Count the published timelines, by partition."""
    documents = read(kafka.bootstrap_servers, pbx, CALL_TIMELINES)[CALL_TIMELINES]
    return Counter(each.partition for each in documents)


def await_halted(service: ConsumerProcess, number: int) -> None:
    eventually(
        lambda: f'"halted":{number}'.encode() in service.ready()[1],
        lambda: f"{service.ready()}\n{service.log()}",
    )


# -------------------------------------------------------------------------------- what the page says


def documented_commands() -> list[str]:
    section = OPERATIONS.read_text().split("### Offsets are lost")[1].split("\n#")[0]
    found = [
        line.strip()
        for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [line for line in found if line]
    assert len(commands) == 3
    return commands


def filled_in(command: str, kafka: Broker, pbx: str, partitions: str) -> list[str]:
    for placeholder, value in {"…": kafka.bootstrap_servers, "<pbx>": pbx, "<partition>": partitions}.items():
        command = command.replace(placeholder, value)
    return command.split()


def run_tool(command: Sequence[str]) -> None:
    """Run one of Kafka's scripts, by its main class."""
    script, *arguments = command
    done = subprocess.run(
        kafka_tools().command_line(TOOLS[script], *arguments),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Error" not in done.stdout, done.stdout
