"""The consumers as real processes, simulated events for them, and the oracle that says what they should have published."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from bridge.http.receipts import ReceiptClock
from bridge.ops import reader
from bridge.ops.reader import Consumed
from bridge.publisher.producer import KafkaProducer
from consumers.agents.projection import AgentProjection
from consumers.calls.events import call_event
from consumers.calls.projection import timeline
from sandbox.simulator import SimulationPlan, events
from tests.processes import free_port
from voipex.events import Event
from voipex.kafka.settings import KafkaSettings
from voipex.normalize import normalize
from voipex.records import Record, encode
from voipex.timestamps import microseconds
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, AGENT_STATUS, CALL_EVENTS, CALL_TIMELINES, topic_name
from voipex.webhook import parse

Json = dict[str, Any]


class ConsumerProcess:
    """`voipex-consumers <service>` with a cache of its own below *folder*."""

    def __init__(
        self,
        folder: Path,
        service: str,
        bootstrap_servers: str,
        pbx: str,
        partitions: int = 3,
        **changes: str,
    ) -> None:
        self.service = service
        self.state_dir = folder / f"state-{service}-{random.randrange(1 << 30)}"
        self.port = free_port()
        self.log_path = folder / f"{self.state_dir.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")},
            "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "VOIPEX_PBXS": pbx,
            "VOIPEX_TOPIC_PARTITIONS": str(partitions),
            "VOIPEX_STATE_DIR": str(self.state_dir),
            "VOIPEX_MANAGEMENT_PORT": str(self.port),
            "VOIPEX_TRANSACTION_TIMEOUT_S": "3",
            "VOIPEX_SESSION_TIMEOUT_S": "3",
            **changes,
        }

    def start(self, *, dying_at: str | None = None, countdown: int = 1, older: bool = False) -> Self:
        arguments = ["tests.older" if older else "consumers", self.service]
        if dying_at is not None:
            arguments = ["tests.crashing", self.service, dying_at, str(countdown)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=self.environment, stdout=log, stderr=log
            )
        return self

    def tell(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self, within_s: float = 40) -> int:
        assert self.process is not None
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.service} did not end:\n{self.log()}") from None

    def wipe(self) -> None:
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-6000:]

    def readiness(self) -> Json:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5) as answer:
                told: Json = json.load(answer)
        except urllib.error.HTTPError as unready:
            with unready:
                told = json.load(unready)
        except OSError:
            return {"ready": False}
        return told

    def await_ready(self, within_s: float = 40) -> None:
        deadline = time.monotonic() + within_s
        while not self.readiness()["ready"]:
            assert time.monotonic() < deadline, f"{self.service} is not ready:\n{self.log()}"
            assert self.process is not None
            assert self.process.poll() is None, f"{self.service} ended:\n{self.log()}"
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Traffic:
    """A seeded PBX that writes to the event topics, as the bridge's publisher does."""

    def __init__(self, bootstrap_servers: str, pbx: str, partitions: int = 3, seed: int = 1) -> None:
        self._settings = KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)
        self._records = _records(pbx, partitions, seed)

    def publish(self, number: int) -> None:
        asyncio.run(self._publish(list(islice(self._records, number))))

    async def _publish(self, records: Sequence[Record]) -> None:
        await write(self._settings, records)


async def write(settings: KafkaSettings, records: Iterable[Record]) -> None:
    """As the bridge's publisher does: acknowledged when this returns, those of a partition in order."""
    producer = KafkaProducer(settings)
    await producer.start()
    try:
        by_place: dict[tuple[str, int], list[Record]] = {}
        for record in records:
            by_place.setdefault((record.topic, record.partition), []).append(record)
        for (topic, partition), rows in by_place.items():
            done = 0
            while done < len(rows):
                sent, delivered = await producer.send(topic, partition, rows[done:])
                await delivered
                done += sent
    finally:
        await producer.stop()


def _records(pbx: str, partitions: int, seed: int) -> Iterator[Record]:
    clock = ReceiptClock()
    plan = SimulationPlan(seed=seed, agents=20, queues=3, calls_per_s=2.0, speed=1.0)
    for _, words in events(plan):
        receipt = clock.receipt()
        event = normalize(parse(json.dumps(words).encode()), pbx, receipt)
        yield encode(event, receipt.received_at_us // 1000, partitions)


def read(bootstrap_servers: str, pbx: str, *kinds: Any) -> dict[Any, list[Consumed]]:
    """All committed records of these topics, by kind."""
    settings = KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)

    async def all_of() -> dict[Any, list[Consumed]]:
        return {kind: [each async for each in reader.read(settings, topic_name(pbx, kind))] for kind in kinds}

    return asyncio.run(all_of())


def await_published(
    bootstrap_servers: str,
    pbx: str,
    within_s: float = 60,
    forgotten: Mapping[Any, Sequence[Consumed]] | None = None,
) -> None:
    """
    Until what is published is what should be; see `differences`.

    Raises:
        AssertionError: what differs, should it still do so at the end.
    """
    deadline = time.monotonic() + within_s
    while True:
        wrong = differences(bootstrap_servers, pbx, forgotten)
        if not wrong:
            return
        assert time.monotonic() < deadline, f"{len(wrong)} differences:\n" + "\n".join(wrong[:10])
        time.sleep(0.5)


def differences(
    bootstrap_servers: str, pbx: str, forgotten: Mapping[Any, Sequence[Consumed]] | None = None
) -> list[str]:
    """
    What a batch fold of the event topics says otherwise than the documents; and revisions that were doubled or left out.

    `forgotten`: by kind, records that were folded and that their topic may have deleted since.
    """
    found = read(
        bootstrap_servers, pbx, CALL_EVENTS, AGENT_EVENTS, AGENT_ACTIVITY, CALL_TIMELINES, AGENT_STATUS
    )
    for kind, records in (forgotten or {}).items():
        there = {(each.partition, each.offset) for each in found[kind]}
        found[kind] += [each for each in records if (each.partition, each.offset) not in there]
    return [
        *_revisions(found[CALL_TIMELINES]),
        *_revisions(found[AGENT_STATUS]),
        *call_differences(pbx, found),
        *_agents(pbx, found),
    ]


def _revisions(documents: Sequence[Consumed]) -> Iterator[str]:
    last: dict[bytes, int] = {}
    for each in documents:
        revision = orjson.loads(each.value or b"null")["revision"]
        key = each.key or b""
        if revision != last.get(key, 0) + 1:
            yield f"{each.topic} {key!r}: revision {revision} after {last.get(key, 0)}"
        last[key] = revision


def _latest(documents: Sequence[Consumed]) -> dict[str, Json]:
    return {(each.key or b"").decode(): orjson.loads(each.value or b"null") for each in documents}


def call_differences(pbx: str, found: dict[Any, list[Consumed]]) -> Iterator[str]:
    sent: dict[str, list[Event]] = {}
    for each in found[CALL_EVENTS]:
        sent.setdefault((each.key or b"").decode(), []).append(Event.model_validate_json(each.value or b""))
    published = _latest(found[CALL_TIMELINES])
    for call_id, its_events in sent.items():
        told = published.get(call_id)
        if told is None:
            yield f"call {call_id}: not published"
            continue
        as_of_us = microseconds(told["updated_at"])
        expected = timeline(pbx, call_id, [call_event(each) for each in its_events], as_of_us)
        assert expected is not None
        yield from _compared(f"call {call_id}", told, orjson.loads(expected.model_dump_json(by_alias=True)))
        # The topic is written at least once, the document tells each event once.
        told_ids = [each["event_id"] for each in told["events"]]
        sent_ids = {each.event_id for each in its_events}
        if sorted(told_ids) != sorted(sent_ids):
            yield f"call {call_id}: {len(told_ids)} events for {len(sent_ids)} of {len(its_events)} records"


def _agents(pbx: str, found: dict[Any, list[Consumed]]) -> Iterator[str]:
    projection = AgentProjection()
    states: dict[str, Any] = {}
    for kind in (AGENT_EVENTS, AGENT_ACTIVITY):
        for each in found[kind]:
            key = (each.key or b"").decode()
            state = states.get(key) or projection.start(pbx, key)
            states[key] = projection.fold(state, kind, each.value or b"")
    published = _latest(found[AGENT_STATUS])
    for key, state in states.items():
        told = published.get(key)
        if told is None:
            yield f"agent {key}: not published"
            continue
        _, documents = projection.produce(state, microseconds(told["updated_at"]))
        yield from _compared(f"agent {key}", told, orjson.loads(documents[0].value or b"null"))


def _compared(what: str, told: Json, expected: Json) -> Iterator[str]:
    for name in sorted(told.keys() | expected.keys()):
        if name not in {"revision", "updated_at"} and told.get(name) != expected.get(name):
            yield f"{what}: {name} is {told.get(name)}, should be {expected.get(name)}"
