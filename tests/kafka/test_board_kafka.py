"""The board as a process on a real broker: it waits for topics, shows what is written, and says when Kafka is away."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.board_fixtures import timeline
from tests.kafka.conftest import apply_topics, console_producer
from tests.kafka.pausable import LocalKafka
from tests.processes import ServiceProcess, environment_with, free_port
from tests.waiting import WITHIN_S, eventually
from voipex.timestamps import format_rfc3339
from voipex.topics import CALL_TIMELINES, topic_name


@pytest.fixture
def board(own_kafka: LocalKafka, pbx: str, tmp_path: Path) -> Iterator[ServiceProcess]:
    port = free_port()
    process = ServiceProcess(
        ("-m", "consumers", "board"),
        environment_with(
            VOIPEX_KAFKA_BOOTSTRAP_SERVERS=own_kafka.bootstrap_servers, VOIPEX_PBXS=pbx, VOIPEX_PORT=str(port)
        ),
        port,
        tmp_path / "board.log",
    )
    process.launch(*process.command)
    yield process
    process.kill()


def fault(board: ServiceProcess) -> str:
    """Why it does not read now; empty while it does, or has not started."""
    return board.ready_details().get("board", {}).get("fault") or ""


def ask(board: ServiceProcess, path: str) -> Any:
    return json.loads(raw(board, path))


def raw(board: ServiceProcess, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", board.management_port, timeout=WITHIN_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def write(kafka: LocalKafka, pbx: str, call_id: str) -> None:
    document = timeline(call_id, pbx=pbx, updated_at=format_rfc3339(time.time_ns() // 1000))
    record = (call_id, orjson.dumps(document).decode())
    console_producer(kafka.bootstrap_servers, topic_name(pbx, CALL_TIMELINES), [record])


def shown(board: ServiceProcess) -> set[str]:
    return {row["call_id"] for row in ask(board, "/api/calls")["calls"]}


def test_a_board_waits_for_topics_and_outlives_kafka(
    board: ServiceProcess, own_kafka: LocalKafka, pbx: str
) -> None:
    eventually(lambda: "topics apply" in fault(board), board.log)
    assert board.ready()[0] == 503

    apply_topics(own_kafka.bootstrap_servers, pbx, 3)
    board.await_ready()
    write(own_kafka, pbx, "1772438400.1")
    eventually(lambda: shown(board) == {"1772438400.1"}, board.log)

    own_kafka.stop()
    eventually(lambda: fault(board), board.log)
    assert board.ready()[0] == 200
    assert shown(board) == {"1772438400.1"}

    own_kafka.start()
    own_kafka.wait_ready()
    write(own_kafka, pbx, "1772438400.2")
    eventually(lambda: shown(board) == {"1772438400.1", "1772438400.2"}, board.log)
    assert "Traceback" not in board.log()
    assert "777888999" not in board.log()
    assert b"777888999" not in raw(board, "/metrics") + raw(board, "/ready")
