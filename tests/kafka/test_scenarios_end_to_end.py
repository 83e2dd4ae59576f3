"""
Every recorded scenario through the whole system: HTTP, spool, a real broker, both services; documents are read from the topics.

The clock is an argument: the bridge's receipts and the services' timers see the scenario's time. All scenarios share one run, each as a
PBX of its own, in the order of time. At each moment that a scenario looks at, its partitions are settled and its documents are read.
"""

import asyncio
import base64
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiokafka
import pytest

from bridge.auth import manage
from bridge.auth.authenticate import authenticate
from bridge.http.fairness import Turns
from bridge.http.ingress import WebhookEndpoint
from bridge.http.receipts import ReceiptClock
from bridge.service import Bridge
from bridge.settings import Settings as BridgeSettings
from bridge.spool import OnDurable
from bridge.spool.spool import Spool
from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from consumers.service import SERVICES
from consumers.settings import Settings
from tests.kafka.conftest import Broker, _delete_topics, settings_of
from tests.processes import free_port
from tests.spool_fixtures import append
from tests.unit.consumers.traces import Json, by_key, differences, scenario, scenario_names
from tests.waiting import async_eventually
from voipex.errors import ServiceUnavailable
from voipex.kafka.topics import apply_topics
from voipex.records import Record
from voipex.timestamps import parse_rfc3339
from voipex.topics import AGENT_STATUS, CALL_TIMELINES, topic_name, topics_for

_Consumer: Any = aiokafka.AIOKafkaConsumer  # it ships no types
NAMES = scenario_names()
DEFAULT_PBX = "voipex"


@dataclass
class Clock:
    """The time that the bridge and the services of this process use."""

    now_us: int = 0

    def now_ns(self) -> int:
        return self.now_us * 1000


@dataclass(order=True)
class Step:
    """A webhook of a scenario, or an expectation (`is_look`) of its documents; a webhook at the same time comes first."""

    at_us: int
    is_look: bool
    number: int
    name: str = field(compare=False)
    content: Json = field(compare=False)


def pbx_of(name: str, pbx: str = DEFAULT_PBX) -> str:
    """Name the PBX of a scenario. Each scenario needs its own, because they use the same calls and agents."""
    return name.lower() if pbx == DEFAULT_PBX else f"{name.lower()}-{pbx}"


def pbxs() -> dict[str, str]:
    """PBX in this test -> its name in the scenario."""
    return {
        pbx_of(name, event.get("pbx", DEFAULT_PBX)): event.get("pbx", DEFAULT_PBX)
        for name in NAMES
        for event in scenario(name)["events"]
    }


def steps() -> Iterator[Step]:
    for name in NAMES:
        recorded = scenario(name)
        base_us = parse_rfc3339(recorded["base"])
        for look, kind in ((False, "events"), (True, "expect")):
            for number, each in enumerate(recorded[kind]):
                yield Step(base_us + round(each["as_of" if look else "at"] * 1e6), look, number, name, each)


# -------------------------------------------------------------------------------- the system in this process


class RepeatingSpool:
    """A spool that can append the last record of a PBX again: a redelivery, as after a lost acknowledgement from Kafka."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.last: dict[str, Record] = {}

    def append(self, records: Sequence[Record], on_durable: OnDurable) -> None:
        def remember(error: ServiceUnavailable | None) -> None:
            if error is None:
                for record in records:
                    self.last[record.topic.partition(".")[0]] = record
            on_durable(error)

        self._spool.append(records, remember)

    async def repeat(self, pbx: str) -> None:
        await append(self._spool, [self.last[pbx]])


class ClockedBridge(Bridge):
    """The bridge, on the clock of the test."""

    def __init__(self, settings: BridgeSettings, clock: Clock) -> None:
        super().__init__(settings, "test")
        self._clock = clock

    def _webhooks(self, turns: Turns | None) -> WebhookEndpoint:
        assert isinstance(self._spool, Spool)
        self.repeating = RepeatingSpool(self._spool)
        return WebhookEndpoint(
            self.repeating,
            lambda header: authenticate(header, self._credentials.credentials, time.time()),
            ReceiptClock(self._clock.now_ns),
            self._metrics,
            partitions_of=self._settings.partitions_of,
            max_body_bytes=self._settings.max_body_bytes,
            turns=turns,
        )

    @property
    def waiting(self) -> int:
        return self._spool.stats().waiting_records


class Pbx:
    """Posts on one connection, one webhook after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def post(self, user: str, password: str, body: bytes) -> int:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        head = f"POST /voipex HTTP/1.1\r\nHost: bridge\r\nAuthorization: Basic {secret}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.partition("content-length:")[2].partition("\r\n")[0])
        await self._reader.readexactly(length)
        return int(answer.split(" ", 2)[1])

    def close(self) -> None:
        self._writer.close()


class System:
    """Bridge, broker, both services, and a reader; all on one clock."""

    def __init__(self, bootstrap_servers: str, folder: Path, names: Sequence[str]) -> None:
        self.clock = Clock()
        self._names = names
        self._bootstrap_servers = bootstrap_servers
        common: dict[str, Any] = {
            "kafka_bootstrap_servers": bootstrap_servers,
            "pbxs": tuple(names),
            "topic_partitions": 1,
        }
        self._documents: dict[Any, dict[bytes, bytes | None]] = {
            aiokafka.TopicPartition(topic_name(pbx, kind), 0): {}
            for pbx in names
            for kind in (CALL_TIMELINES, AGENT_STATUS)
        }
        self._passwords = {
            pbx: manage.create(
                folder / "credentials.json", pbx, pbx, pbxs=names, now_us=time.time_ns() // 1000
            ).secret
            for pbx in names
        }
        self._port = free_port()
        self.bridge = ClockedBridge(
            BridgeSettings(
                port=self._port,
                management_port=free_port(),
                spool_dir=folder / "spool",
                credentials_file=folder / "credentials.json",
                **common,
            ),
            self.clock,
        )
        settings = Settings(state_dir=folder / "state", commit_interval_ms=5, **common)
        metrics = Metrics("test")
        self.workers = [
            Worker(make(settings), settings, metrics, lambda: self.clock.now_us) for make in SERVICES.values()
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        parts = [
            asyncio.create_task(self.bridge.serve()),
            *(asyncio.create_task(each.run()) for each in self.workers),
        ]
        try:

            def are_ready() -> bool:
                self._failed(parts)
                return all(self._owners(each) == len(self._names) for each in self.workers)

            await async_eventually(are_ready)
            self._pbx = Pbx(*await asyncio.open_connection("127.0.0.1", self._port))
            self._reader: Any = _Consumer(
                bootstrap_servers=self._bootstrap_servers,
                isolation_level="read_committed",
                fetch_max_wait_ms=50,
            )
            self._watcher: Any = _Consumer(bootstrap_servers=self._bootstrap_servers)
            await self._watcher.start()
            await self._reader.start()
            self._reader.assign(list(self._documents))
            for each in self._documents:
                self._reader.seek(each, 0)
            yield
            self._failed(parts)
            await self._reader.stop()
            await self._watcher.stop()
            self._pbx.close()
        finally:
            for worker in self.workers:
                worker.stop()
            self.bridge._request_stop()
            await asyncio.wait(parts)

    @staticmethod
    def _owners(worker: Worker[Any]) -> int:
        return (worker.snapshot().partitions if worker.ready else {}).get("running", 0)

    @staticmethod
    def _failed(parts: Sequence["asyncio.Task[None]"]) -> None:
        for part in parts:
            if part.done():
                part.result()
                raise AssertionError("a part ended")

    async def send(self, pbx: str, event: Json) -> None:
        if event.get("redelivery"):
            await self.bridge.repeating.repeat(pbx)
            return
        status = await self._pbx.post(pbx, self._passwords[pbx], json.dumps(event["body"]).encode())
        assert status == 200

    async def settle(self, names: Sequence[str]) -> None:
        """Wait until every webhook is published and folded and every due timer has fired: first for calls, then for their agents."""
        await async_eventually(lambda: not self.bridge.waiting, every_s=0.005)
        for worker in self.workers:
            await async_eventually(partial(self._is_settled, worker, names), every_s=0.005)

    async def _is_settled(self, worker: Worker[Any], names: Sequence[str]) -> bool:
        session = worker._session
        assert session is not None
        for runner in session.runners.values():
            if runner.task_id.pbx not in names:
                continue
            task = runner.task
            if task is None:
                return False
            task._wake.set()  # the clock was moved: check for due timers
            ends = await self._ends([each.topic for each in runner.inputs])
            positions = {each.topic: await session.position(each) for each in runner.inputs}
            due_us = task.store.next_due_us
            if (
                any(positions[topic] < end for topic, end in ends.items())
                or any(task.uncommitted(each.topic) for each in runner.inputs)
                or (due_us is not None and due_us <= self.clock.now_us)
            ):
                return False
        return True

    async def _ends(self, topics: Sequence[str]) -> dict[str, int]:
        """High watermarks, uncommitted records included: a commit returns before its markers are written."""
        found = await self._watcher.end_offsets([aiokafka.TopicPartition(topic, 0) for topic in topics])
        return {partition.topic: end for partition, end in found.items()}

    async def documents(self, topic: str) -> list[Json]:
        """The latest value of each key. One client reads the topic incrementally."""
        topic_partition = aiokafka.TopicPartition(topic, 0)
        end = (await self._ends([topic]))[topic]
        while await self._reader.position(topic_partition) < end:
            for partition, records in (await self._reader.getmany(timeout_ms=50)).items():
                self._documents[partition] |= {record.key: record.value for record in records}
        return [json.loads(value) for value in self._documents[topic_partition].values() if value is not None]


# -------------------------------------------------------------------------------- the run


async def faults_of_all(bootstrap_servers: str, folder: Path) -> dict[str, list[str]]:
    """The differences between documents and expectations, by scenario."""
    known = pbxs()
    await make_topics(bootstrap_servers, list(known))
    system = System(bootstrap_servers, folder, list(known))
    ordered = sorted(steps())
    system.clock.now_us = ordered[0].at_us
    faults: dict[str, list[str]] = {name: [] for name in NAMES}
    looks = dict.fromkeys(NAMES, 0)
    async with system.running():
        for step in ordered:
            system.clock.now_us = step.at_us
            if not step.is_look:
                await system.send(pbx_of(step.name, step.content.get("pbx", DEFAULT_PBX)), step.content)
                continue
            names = [pbx for pbx in known if pbx.split("-")[0] == step.name.lower()]
            await system.settle(names)
            looks[step.name] += 1
            faults[step.name] += await compare(system, step, {pbx: known[pbx] for pbx in names})
    assert looks == {name: len(scenario(name)["expect"]) for name in NAMES}
    return faults


async def compare(system: System, step: Step, pbxs: Mapping[str, str]) -> list[str]:
    found: dict[str, list[Json]] = {}
    for kind in (CALL_TIMELINES, AGENT_STATUS):
        found[kind.suffix] = [
            {**document, "pbx": name}
            for pbx, name in pbxs.items()
            for document in await system.documents(topic_name(pbx, kind))
        ]
    with_pbx = set(pbxs.values()) != {DEFAULT_PBX}
    faults: list[str] = []
    for expected, kind, key in (
        (step.content["timelines"], CALL_TIMELINES, "call_id"),
        (step.content["agents"], AGENT_STATUS, "agent"),
    ):
        if expected:
            faults += differences(expected, by_key(found[kind.suffix], key, with_pbx=with_pbx))
    return [f"after {step.content['as_of']} s: {fault}" for fault in faults]


async def make_topics(bootstrap_servers: str, names: Sequence[str]) -> None:
    """Make topics without retention limit, because the scenarios' timestamps lie in the past."""
    topics = [
        dataclasses.replace(topic, kind=dataclasses.replace(topic.kind, retention_ms=-1))
        for topic in topics_for(names, 1)
    ]
    await apply_topics(settings_of(bootstrap_servers), topics, 1, 1)


@pytest.fixture(scope="module")
def faults(_used: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    yield asyncio.run(faults_of_all(_used.bootstrap_servers, tmp_path_factory.mktemp("scenarios")))
    _delete_topics(_used.bootstrap_servers)


@pytest.mark.parametrize("name", NAMES)
def test_scenario_from_webhooks_to_documents_on_the_topics(
    faults: Mapping[str, list[str]], name: str
) -> None:
    """The documents are those of the folds alone: nothing between webhook and topic changes them."""
    assert faults[name] == []
