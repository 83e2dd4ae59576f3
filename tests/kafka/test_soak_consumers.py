"""Long fault tests of the consumers for `make soak`: the same faults many times, under load; each event is folded exactly once."""

import asyncio
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from tests.document_oracle import assert_verified, await_published
from tests.kafka.conftest import JARS, TEST_PROPERTIES, Broker, apply_topics, bring_up, settings_of
from tests.kafka.pausable import LocalKafka
from tests.processes import ConsumerProcess, free_port
from tests.traffic import Traffic
from tests.waiting import WITHIN_S, eventually, outlast, soak_rounds
from voipex.errors import KafkaUnavailable
from voipex.kafka import topics as kafka_topics
from voipex.kafka.admin import admin_client
from voipex.topics import topics_for

pytestmark = pytest.mark.slow

SETTLED_WITHIN_S = 180.0


@contextmanager
def load(traffic: Traffic) -> Iterator[None]:
    """Write events all the time, except while no broker accepts them."""
    stopping = threading.Event()
    faults: list[BaseException] = []

    def publish() -> None:
        while not stopping.wait(0.1):
            try:
                traffic.publish(40)
            except (KafkaUnavailable, KafkaError):
                continue
            except Exception as error:  # noqa: BLE001 - for the test's own thread
                faults.append(error)
                return

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    assert not faults


def services(kafka: str, pbx: str, folder: Path, timelines: int) -> list[ConsumerProcess]:
    """Instances of `timelines`, and one of `agents`, the last."""
    names = [*["timelines"] * timelines, "agents"]
    return [ConsumerProcess(folder, name, kafka, pbx) for name in names]


@contextmanager
def ended(processes: Sequence[ConsumerProcess]) -> Iterator[None]:
    with ExitStack() as stack:
        for each in processes:
            stack.enter_context(each)
        yield


def record_figures(record_property: Any, rounds: dict[str, int], compared: dict[str, int]) -> None:
    for name, value in {**rounds, **compared}.items():
        record_property(name, value)


def test_frozen_instances_again_and_again_write_nothing(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    freezes = soak_rounds(100)
    compared = frozen_again_and_again(kafka, pbx, tmp_path, freezes)
    record_figures(record_property, {"freezes": freezes}, compared)


def frozen_again_and_again(kafka: Broker, pbx: str, folder: Path, rounds: int) -> dict[str, int]:
    """Two instances share the partitions. In turn one is frozen past its session timeout while the other takes over."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    chance = random.Random(21)
    one, other, agents = processes = services(kafka.bootstrap_servers, pbx, folder, 2)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=21)
    with ended(processes):
        for each in processes:
            each.start()
        with load(traffic):
            for number in range(rounds):
                agents.await_ready()
                frozen, awake = (one, other) if number % 2 else (other, one)
                frozen.await_ready()
                time.sleep(chance.uniform(0, 0.5))  # anywhere in what it does
                frozen.send_signal(signal.SIGSTOP)
                outlast(ConsumerProcess.SESSION_TIMEOUT_S + 0.5, "its session")
                awake.await_ready()
                frozen.send_signal(signal.SIGCONT)
        await_published(kafka.bootstrap_servers, pbx, SETTLED_WITHIN_S)
        return assert_verified(kafka.bootstrap_servers, pbx)


def test_instances_that_join_and_leave_many_times(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    rounds = soak_rounds(30)
    compared = come_and_go(kafka, pbx, tmp_path, rounds)
    record_figures(record_property, {"times 1 to 3 instances and back": rounds}, compared)


def come_and_go(kafka: Broker, pbx: str, folder: Path, rounds: int) -> dict[str, int]:
    """One instance, three, one again: by SIGTERM and SIGKILL, at any time of a rebalance; new instances start without a store."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    chance = random.Random(22)
    first, second, third, agents = processes = services(kafka.bootstrap_servers, pbx, folder, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=22)
    with ended(processes):
        first.start()
        agents.start()
        with load(traffic):
            for _ in range(rounds):
                for each in (second, third):
                    each.wipe()
                    each.start()
                    time.sleep(chance.uniform(0, 3))
                second.terminate()
                assert second.ended() in {0, -signal.SIGTERM}, second.log()  # -15: before it had begun
                third.kill()
                if chance.random() < 0.5:
                    first.send_signal(chance.choice((signal.SIGTERM, signal.SIGKILL)))
                    first.ended()
                    first.wipe()
                    first.start()
                first.await_ready()
        await_published(kafka.bootstrap_servers, pbx, SETTLED_WITHIN_S)
        return assert_verified(kafka.bootstrap_servers, pbx)


def test_repeated_broker_kills_and_stalls_lose_nothing(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    faults = soak_rounds(15)
    compared = broken_broker(own_kafka, pbx, tmp_path, faults)
    record_figures(record_property, {"kills and freezes of the broker": faults}, compared)


def broken_broker(kafka: LocalKafka, pbx: str, folder: Path, rounds: int) -> dict[str, int]:
    """In turn kill -9, and SIGSTOP for less and more than the transaction timeout."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    chance = random.Random(23)
    processes = services(kafka.bootstrap_servers, pbx, folder, 1)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=23)
    with ended(processes):
        for each in processes:
            each.start()
        with load(traffic):
            for number in range(rounds):
                for each in processes:
                    each.await_ready()
                time.sleep(chance.uniform(0, 2))
                if number % 2:
                    kafka.pause()
                    outlast(chance.uniform(0.5, 8), "by turns: a transaction may take 3 s")
                    kafka.resume()
                else:
                    kafka.kill()
                    outlast(chance.uniform(0, 3), "nothing, or the session of a consumer")
                    bring_up(kafka)
        await_published(kafka.bootstrap_servers, pbx, SETTLED_WITHIN_S)
        return assert_verified(kafka.bootstrap_servers, pbx)


# -------------------------------------------------------------------------------- three brokers


@pytest.fixture
def three_brokers(tmp_path: Path) -> Iterator[list[LocalKafka]]:
    """Three brokers, for topics with three replicas of which two must be in sync."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    voters = ",".join(f"{number}@127.0.0.1:{ports[number - 1][1]}" for number in (1, 2, 3))
    brokers = [
        LocalKafka(
            tmp_path / f"broker-{number}",
            JARS,
            port=port,
            controller_port=controller_port,
            properties={
                **TEST_PROPERTIES,
                "node.id": str(number),
                "controller.quorum.voters": voters,
                "default.replication.factor": "3",
                "offsets.topic.replication.factor": "3",
                "transaction.state.log.replication.factor": "3",
                "transaction.state.log.min.isr": "2",
            },
            cluster_id="QUFBQUFBQUFBQUFBQUFBQQ",
            heap_mb=384,
        )
        for number, (port, controller_port) in enumerate(ports, 1)
    ]
    for each in brokers:
        each.prepare()
        each.start()
    for each in brokers:
        each.wait_ready(WITHIN_S)
    yield brokers
    for each in brokers:
        each.kill()


def test_any_of_three_brokers_can_be_killed(
    three_brokers: list[LocalKafka], pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """Replication 3, min.insync.replicas 2: the group goes on with any two brokers."""
    addresses = ",".join(each.bootstrap_servers for each in three_brokers)
    topics = topics_for([pbx], 3)
    asyncio.run(kafka_topics.apply_topics(settings_of(addresses), topics, 3, 2))
    processes = services(addresses, pbx, tmp_path, 2)
    traffic = Traffic(addresses, pbx, seed=24)
    with ended(processes):
        for each in processes:
            each.start()
        with load(traffic):
            for broker in three_brokers:
                for each in processes:
                    each.await_ready()
                broker.kill()
                outlast(10, "its session with the controller")
                bring_up(broker)
                eventually(lambda: all_in_sync(addresses, [topic.name for topic in topics], 3), every_s=0.3)
        await_published(addresses, pbx, SETTLED_WITHIN_S)
        compared = assert_verified(addresses, pbx)
    record_figures(record_property, {"kills": len(three_brokers)}, compared)


def all_in_sync(addresses: str, topics: Sequence[str], replicas: int) -> bool:
    """Whether every partition of *topics* has *replicas* in-sync replicas."""

    async def fewest() -> int:
        async with admin_client(settings_of(addresses), 30) as admin:
            described = await admin.describe_topics(list(topics))
        return min(len(each["isr"]) for topic in described for each in topic["partitions"])

    return asyncio.run(fewest()) == replicas
