"""`voipex-consumers verify` on a real broker: right documents are equal, a planted wrong one is found."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from bridge.ops.reader import ConsumerRecord
from tests.document_oracle import await_published
from tests.kafka.conftest import Broker, apply_topics, read_all, settings_of
from tests.processes import ConsumerProcess
from tests.traffic import Traffic, write
from voipex.records import Record
from voipex.topics import AGENT_STATUS, CALL_TIMELINES, topic_name


def verify(environment: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "consumers", "verify", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def plant(kafka: Broker, record: ConsumerRecord, **fields: Any) -> None:
    """Publish the document once more, with other fields, as nobody but a faulty service would."""
    value = orjson.dumps({**orjson.loads(record.value or b""), **fields})
    headers = tuple((name, text) for name, text in record.headers if text is not None)
    wrong = Record(record.topic, record.partition, record.key, value, headers, record.timestamp_ms)
    asyncio.run(write(settings_of(kafka.bootstrap_servers), [wrong]))


def last_document(kafka: Broker, topic: str) -> ConsumerRecord:
    """Return the newest revision of the key that was written last: an earlier revision may describe a later moment."""
    documents = [each for each in read_all(kafka.bootstrap_servers, topic) if each.value]
    key = max(documents, key=lambda each: each.timestamp_ms).key
    revisions = [each for each in documents if each.key == key]
    return max(revisions, key=lambda each: int(orjson.loads(each.value or b"")["revision"]))


def test_verify_finds_planted_documents_and_nothing_else(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    timelines, agents = (
        ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx) for name in ("timelines", "agents")
    )
    traffic = Traffic(kafka.bootstrap_servers, pbx)
    traffic.publish(300)
    with timelines.start(), agents.start():
        traffic.publish(300)
        at_work = verify(timelines.environment)
        await_published(kafka.bootstrap_servers, pbx)
        settled = verify(timelines.environment)
        agents.stop()
        timelines.stop()
    call = last_document(kafka, topic_name(pbx, CALL_TIMELINES))
    status = last_document(kafka, topic_name(pbx, AGENT_STATUS))
    plant(kafka, call, talk_s=4711.5)
    plant(kafka, status, state="unknown")
    planted = verify(timelines.environment)

    assert (at_work[0], at_work[1]["differences"]) == (0, [])
    assert (settled[0], settled[1]["differences"]) == (0, [])
    assert [settled[1][what]["not_comparable"] for what in ("calls", "activity", "agents")] == [{}, {}, {}]
    assert all(settled[1][what]["equal"] > 10 for what in ("calls", "activity", "agents"))
    assert planted[0] == 1
    assert [
        (each["what"], each["key"].encode(), [one["field"] for one in each["fields"]])
        for each in planted[1]["differences"]
    ] == [("calls", call.key, ["talk_s"]), ("agents", status.key, ["state"])]


def test_verify_without_kafka_is_an_error(tmp_path: Path) -> None:
    away = ConsumerProcess(tmp_path, "timelines", "127.0.0.1:1", "voipex")
    done = subprocess.run(
        [sys.executable, "-m", "consumers", "verify"],
        env=away.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
