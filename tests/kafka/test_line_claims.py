"""Claims to lines between agents of different partitions: each leg counts for the agent who had its line, once, whatever is killed."""

import asyncio
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from bridge.http.receipts import ReceiptClock
from tests.crash_injection import STEPS
from tests.document_oracle import await_published, read
from tests.kafka.conftest import Broker, apply_topics
from tests.processes import ConsumerProcess
from tests.traffic import write
from tests.unit.consumers.agent_traffic import Record as Input
from tests.unit.consumers.agents.company import company_reference
from tests.waiting import eventually
from voipex.kafka.settings import KafkaSettings
from voipex.normalize import normalize
from voipex.partitioner import partition_for_key
from voipex.records import Record, encode
from voipex.timestamps import parse_rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, AGENT_STATUS
from voipex.webhook import parse

PARTITIONS = 3
LOGINS = ("novak", "bara", "cyril", "dana", "emil", "fiala")
LINES = ("201", "202", "204")

Json = dict[str, Any]


class Desks:
    """Agents who share few lines. All calls are outgoing as documented: the Line from the first event on, a Login at the Hangup or never."""

    def __init__(self, kafka: Broker, pbx: str, seed: int) -> None:
        self._settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
        self._pbx = pbx
        self._random = random.Random(seed)
        self._clock = ReceiptClock()
        self._calls = 0

    def publish(self, number: int) -> None:
        """Write so many claims, each followed by a call from a line that anybody may have."""
        asyncio.run(write(self._settings, [each for _ in range(number) for each in self._turn()]))

    def _turn(self) -> Iterator[Record]:
        login, line, used = (self._random.choice(each) for each in (LOGINS, LINES, LINES))
        name = self._random.choice(("AgentLogin", "AgentLogin", "AgentPaused", "AgentLogout"))
        yield self._record(EventName=name, Queue="NOC", Login=login, Line=line)
        self._calls += 1
        call = {"UniqueId": f"1772438400.{self._calls}", "Direction": "outgoing", "From": used, "Line": used}
        call["To"] = "777888999"
        yield self._record(EventName="Ringing", **call)
        if self._random.random() < 0.6:
            yield self._record(EventName="Answered", **call)
        if self._random.random() < 0.8:
            login = self._random.choice(("", "", *LOGINS))
            yield self._record(EventName="Hangup", Reason="Normal Clearing", Login=login, **call)

    def _record(self, **body: str) -> Record:
        receipt = self._clock.receipt()
        event = normalize(parse(json.dumps(body).encode()), self._pbx, receipt)
        return encode(event, receipt.received_at_us // 1000, PARTITIONS)


def test_the_agents_are_keys_of_every_partition() -> None:
    """Else the tests below would show nothing about claims between partitions."""
    for keys in (LOGINS, [f"line:{line}" for line in LINES]):
        assert {partition_for_key(key.encode(), PARTITIONS) for key in keys} == set(range(PARTITIONS))


def test_kills_give_each_leg_to_its_lines_agent(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """kill -9 of the agents service at each step of a batch, every third time with its store."""
    apply_topics(kafka.bootstrap_servers, pbx, PARTITIONS)
    desks = Desks(kafka, pbx, seed=1)
    agents = ConsumerProcess(tmp_path, "agents", kafka.bootstrap_servers, pbx)
    with ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx).start():
        for number, step in enumerate(STEPS):
            desks.publish(8)
            with agents.start_crashing(step, 1 + number % 3) as service:
                assert service.ended() == -signal.SIGKILL
            if number % 3 == 0:
                agents.wipe()
        with agents.start():
            await_owners(kafka, pbx)


def test_rebalances_give_each_leg_to_its_lines_agent(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """One instance, two, one: agent and line are in tasks of different processes meanwhile, and one of those is killed."""
    apply_topics(kafka.bootstrap_servers, pbx, PARTITIONS)
    desks = Desks(kafka, pbx, seed=2)
    one, other = (ConsumerProcess(tmp_path, "agents", kafka.bootstrap_servers, pbx) for _ in range(2))
    with ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx).start(), one.start(), other:
        desks.publish(20)
        other.start()
        desks.publish(20)
        other.await_ready()
        desks.publish(20)
        one.kill()
        desks.publish(20)
        await_owners(kafka, pbx)


def test_a_zombie_gives_no_leg_to_anybody(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """SIGSTOP past the session timeout: another instance takes the lines over, and the frozen one is fenced when it wakes up."""
    apply_topics(kafka.bootstrap_servers, pbx, PARTITIONS)
    desks = Desks(kafka, pbx, seed=3)
    one, other = (ConsumerProcess(tmp_path, "agents", kafka.bootstrap_servers, pbx) for _ in range(2))
    with ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx).start(), one.start(), other:
        desks.publish(20)
        one.await_ready()
        one.send_signal(signal.SIGSTOP)
        desks.publish(20)
        other.start().await_ready()
        await_owners(kafka, pbx)
        one.send_signal(signal.SIGCONT)
        desks.publish(20)
        await_owners(kafka, pbx)


# -------------------------------------------------------------------------------- who has which leg


def await_owners(kafka: Broker, pbx: str) -> None:
    """Wait until each event is in the documents once, and each leg counts for the agent that all records together name."""
    await_published(kafka.bootstrap_servers, pbx)
    found: list[str] = []

    def agree() -> bool:
        found[:] = _differences(kafka, pbx)
        return not found

    eventually(agree, lambda: "\n".join(found[:10]), every_s=0.3)


def _differences(kafka: Broker, pbx: str) -> Iterator[str]:
    """Compare with owners worked out from events and activity alone, not from what the service wrote to itself."""
    topics = read(kafka.bootstrap_servers, pbx, AGENT_EVENTS, AGENT_ACTIVITY, AGENT_STATUS)
    inputs = [
        Input(0, kind, each.value or b"") for kind in (AGENT_EVENTS, AGENT_ACTIVITY) for each in topics[kind]
    ]
    published: dict[str, Json | None] = {
        (each.key or b"").decode(): None if each.value is None else orjson.loads(each.value)
        for each in topics[AGENT_STATUS]
    }
    for key in sorted({*published, *company_reference(inputs, _latest_us(published))}):
        document = published.get(key)
        as_of_us = _latest_us(published) if document is None else parse_rfc3339(document["updated_at"])
        expected = company_reference(inputs, as_of_us).get(key)
        if document is None or expected is None:
            if document is not None or expected is not None:
                yield f"{key}: {'published' if document else 'not published'}, which it should not be"
            continue
        for name in sorted(expected.keys() - {"pbx"}):
            if document[name] != expected[name]:
                yield f"{key}: {name} is {document[name]}, should be {expected[name]}"


def _latest_us(published: dict[str, Json | None]) -> int:
    return max((parse_rfc3339(each["updated_at"]) for each in published.values() if each), default=0)
