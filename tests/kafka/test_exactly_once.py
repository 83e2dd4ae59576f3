"""Readers with `read_committed` see each event in the documents exactly once, whatever is killed, frozen or lost."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bridge.ops.reader import ConsumerRecord
from tests.crash_injection import STEPS
from tests.document_oracle import assert_verified, await_published
from tests.kafka.conftest import Broker, apply_topics, bring_up, console_producer, read_all
from tests.kafka.pausable import LocalKafka
from tests.processes import ConsumerProcess
from tests.traffic import Traffic
from tests.waiting import eventually, outlast, soak_rounds
from voipex.topics import DEAD_LETTERS, topic_name


def record_figures(record_property: Any, figures: dict[str, int]) -> None:
    for name, value in figures.items():
        record_property(name, value)


def test_a_kill_at_any_step_of_a_batch_loses_and_doubles_nothing(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """Invariants I2, I3 and I4: kill -9 at each step of a batch; every third time the store is deleted too."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx)
    chance = random.Random(7)
    services = {
        name: ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx)
        for name in ("timelines", "agents")
    }
    turns = [(name, step) for step in STEPS for name in services]

    for number, (name, step) in enumerate(turns):
        traffic.publish(120)
        with services[name].start_crashing(step, chance.randint(1, 3)) as service:
            if name == "agents":  # it has more to do once the calls are folded
                with ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx).start():
                    assert service.ended() == -signal.SIGKILL
            else:
                assert service.ended() == -signal.SIGKILL
        if number % 3 == 0:
            services[name].wipe()

    with services["timelines"].start(), services["agents"].start():
        await_published(kafka.bootstrap_servers, pbx)
        compared = assert_verified(kafka.bootstrap_servers, pbx)
    record_figures(record_property, {"kills": len(turns), **compared})


def test_random_kills_under_load_lose_and_double_nothing(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """A short run; `make soak` has the long one."""
    _kills_at_random(kafka, pbx, tmp_path, rounds=8, seed=3)


@pytest.mark.slow
def test_many_random_kills_lose_and_double_nothing(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    kills = soak_rounds(120)
    compared = _kills_at_random(kafka, pbx, tmp_path, kills, seed=11)
    record_figures(record_property, {"kills": kills, **compared})


def _kills_at_random(kafka: Broker, pbx: str, folder: Path, rounds: int, seed: int) -> dict[str, int]:
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=seed)
    chance = random.Random(seed)
    services = [
        ConsumerProcess(folder, name, kafka.bootstrap_servers, pbx) for name in ("timelines", "agents")
    ]
    for service in services:
        service.start()
    try:
        for _ in range(rounds):
            traffic.publish(200)
            time.sleep(chance.uniform(0.3, 1.5))  # so that the kill hits any step
            victim = chance.choice(services)
            victim.kill()
            if chance.random() < 0.3:
                victim.wipe()
            victim.start()
        traffic.publish(50)
        await_published(kafka.bootstrap_servers, pbx)
        return assert_verified(kafka.bootstrap_servers, pbx)
    finally:
        for service in services:
            service.kill()


def test_a_frozen_instance_that_wakes_up_writes_nothing(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """Invariant I1: SIGSTOP past the session timeout; another instance takes over, and the frozen one is fenced when it wakes up."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=5)
    one = ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx)
    other = ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx)
    agents = ConsumerProcess(tmp_path, "agents", kafka.bootstrap_servers, pbx)

    with one.start(), other, agents.start():
        traffic.publish(300)
        one.await_ready()
        one.send_signal(signal.SIGSTOP)
        traffic.publish(300)
        other.start().await_ready()
        await_published(kafka.bootstrap_servers, pbx)
        one.send_signal(signal.SIGCONT)
        traffic.publish(300)
        await_published(kafka.bootstrap_servers, pbx)


def test_instances_that_join_and_leave_lose_and_double_nothing(
    kafka: Broker, pbx: str, tmp_path: Path
) -> None:
    """One instance, three, one again: by SIGTERM and SIGKILL, under load."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=6)
    first, second, third = (
        ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx) for _ in range(3)
    )

    with (
        first.start(),
        second,
        third,
        ConsumerProcess(tmp_path, "agents", kafka.bootstrap_servers, pbx).start(),
    ):
        traffic.publish(300)
        second.start()
        third.start()
        traffic.publish(300)
        second.await_ready()
        third.await_ready()
        traffic.publish(300)
        second.stop()
        third.kill()
        traffic.publish(300)
        await_published(kafka.bootstrap_servers, pbx)


def test_a_killed_or_frozen_broker_only_delays_documents(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path
) -> None:
    """kill -9, and SIGSTOP for longer than the transaction timeout."""
    apply_topics(own_kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(own_kafka.bootstrap_servers, pbx, seed=8)
    timelines, agents = (
        ConsumerProcess(tmp_path, name, own_kafka.bootstrap_servers, pbx) for name in ("timelines", "agents")
    )

    def state() -> str:
        """A halted partition is the product's word on a broker that lost a transaction's end; anything else is a fault of the service."""
        return "\n".join(f"{each.ready()}\n{each.log()[-4000:]}" for each in (timelines, agents))

    with timelines.start(), agents.start():
        traffic.publish(300)
        timelines.await_ready()
        traffic.publish(200)
        own_kafka.kill()
        bring_up(own_kafka)
        traffic.publish(200)
        await_published(own_kafka.bootstrap_servers, pbx, state=state)
        traffic.publish(200)
        own_kafka.pause()
        outlast(ConsumerProcess.TRANSACTION_TIMEOUT_S + 2, "the transaction timeout")
        own_kafka.resume()
        traffic.publish(200)
        await_published(own_kafka.bootstrap_servers, pbx, state=state)


def test_an_invalid_record_becomes_a_dead_letter(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=9)
    calls = f"{pbx}.call.events.v1"

    with (
        ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx).start(),
        ConsumerProcess(tmp_path, "agents", kafka.bootstrap_servers, pbx).start(),
    ):
        console_producer(
            kafka.bootstrap_servers, calls, [("1.1", "{"), ("1.2", "[]"), ("1.3", '{"event_id": 1}')]
        )
        traffic.publish(200)
        records = eventually(lambda: _dead_letters(kafka, pbx, 3))

    assert {each.key for each in records} == {b"1.1", b"1.2", b"1.3"}
    for each in records:
        headers = {name: (value or b"").decode() for name, value in each.headers}
        assert headers["bridge-stage"] == "timelines"
        assert headers["__dlq.errors.topic"] == calls
    record_property("invalid records", 3)
    record_property("dead letters", len(records))


def _dead_letters(kafka: Broker, pbx: str, number: int) -> list[ConsumerRecord]:
    """All dead letters once there are *number* of them, else none."""
    records = read_all(kafka.bootstrap_servers, topic_name(pbx, DEAD_LETTERS))
    return records if len(records) >= number else []
