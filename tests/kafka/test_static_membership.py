"""Instances keep their place in the group over a restart, and leave it when they are stopped."""

import shutil
from pathlib import Path

from tests.document_oracle import await_published
from tests.kafka.conftest import Broker, apply_topics
from tests.processes import ConsumerProcess
from tests.traffic import Traffic
from tests.waiting import eventually

SESSION_S = 90.0
"""Longer than anything here takes: whoever waits for the end of a session is seen."""


def consumer(folder: Path, service: str, kafka: Broker, pbx: str) -> ConsumerProcess:
    return ConsumerProcess(
        folder, service, kafka.bootstrap_servers, pbx, VOIPEX_SESSION_TIMEOUT_S=f"{SESSION_S:g}"
    )


def running_partitions(service: ConsumerProcess) -> int:
    details = service.ready_details().get(service.service, {})
    return int(details.get("partitions", {}).get("running", 0))


def await_partitions(service: ConsumerProcess, number: int) -> None:
    eventually(lambda: running_partitions(service) == number, lambda: f"{service.ready()}\n{service.log()}")


def test_a_killed_instance_goes_on_at_once_after_a_restart(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """It does not wait for the session of its predecessor. Killed five times, under load."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=21)
    timelines, agents = (consumer(tmp_path, name, kafka, pbx) for name in ("timelines", "agents"))
    with timelines.start(), agents.start():
        timelines.await_ready()
        for _ in range(5):
            traffic.publish(200)
            timelines.kill()
            timelines.start()
            timelines.await_ready(SESSION_S / 2)
        await_published(kafka.bootstrap_servers, pbx)
        timelines.stop()
        agents.stop()


def test_a_restart_in_place_moves_no_partition(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """The other instance is not even asked; and a stop hands the partitions over at once, since it leaves the group."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=22)
    one, other = (consumer(tmp_path, "timelines", kafka, pbx) for _ in range(2))
    agents = consumer(tmp_path, "agents", kafka, pbx)
    with one.start(), other, agents.start():
        await_partitions(one, 3)
        other.start()
        eventually(lambda: {running_partitions(one), running_partitions(other)} == {1, 2})
        before = running_partitions(one)
        rebalances = other.log().count("partitions assigned")
        traffic.publish(200)
        one.kill()
        one.start()
        await_partitions(one, before)
        traffic.publish(200)
        await_published(kafka.bootstrap_servers, pbx)
        after = other.log().count("partitions assigned")
        one.stop()
        await_partitions(other, 3)
        traffic.publish(200)
        await_published(kafka.bootstrap_servers, pbx)
        other.stop()
        agents.stop()

    assert after == rebalances


def test_instances_with_the_same_id_share_the_partitions(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """A state folder was copied, say. One of the two goes on as a dynamic member; they do not replace each other for ever."""
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    traffic = Traffic(kafka.bootstrap_servers, pbx, seed=23)
    one, other = (consumer(tmp_path, "timelines", kafka, pbx) for _ in range(2))
    agents = consumer(tmp_path, "agents", kafka, pbx)
    with one.start(), other, agents.start():
        await_partitions(one, 3)
        shutil.copytree(one.state_dir / "timelines", other.state_dir / "timelines")
        traffic.publish(200)
        other.start()
        eventually(
            lambda: {running_partitions(one), running_partitions(other)} == {1, 2},
            lambda: f"{one.log()}\n{other.log()}",
        )
        traffic.publish(200)
        await_published(kafka.bootstrap_servers, pbx)
        forgotten = one.log().count("group has forgotten this instance")
        forgotten += other.log().count("group has forgotten this instance")
        for each in (one, other, agents):
            each.stop()

    assert forgotten == 1
