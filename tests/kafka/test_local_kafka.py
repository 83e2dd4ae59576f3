"""The sandbox's broker: a real Kafka that keeps its data and leaves no process behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from sandbox.broker import LocalKafka, LocalKafkaError, Progress
from tests.kafka.conftest import (
    JARS,
    TEST_PROPERTIES,
    bring_up,
    console_consumer,
    console_producer,
    make_event_topics,
    read_all,
)
from tests.processes import free_port
from tests.waiting import WITHIN_S, eventually
from voipex.errors import PortInUse


def test_data_and_cluster_id_survive_a_restart(own_kafka: LocalKafka, pbx: str) -> None:
    topic = f"{pbx}.call.events.v1"
    make_event_topics(own_kafka.bootstrap_servers, pbx, partitions=1)
    console_producer(own_kafka.bootstrap_servers, topic, [("1.1", "kept")])
    cluster_id = own_kafka.cluster_id

    own_kafka.stop()
    assert own_kafka.pid is None
    bring_up(own_kafka)

    assert [seen.value for seen in console_consumer(own_kafka.bootstrap_servers, topic, records=1)] == [
        "kept"
    ]
    assert own_kafka.cluster_id == cluster_id


def test_data_survive_a_kill_and_a_change_of_ports(own_kafka: LocalKafka, pbx: str) -> None:
    """`make run KAFKA_PORT=…` changes the ports of an existing data folder."""
    topic = f"{pbx}.call.events.v1"
    make_event_topics(own_kafka.bootstrap_servers, pbx, partitions=1)
    console_producer(own_kafka.bootstrap_servers, topic, [("1.1", "kept")])

    own_kafka.kill()
    moved = LocalKafka(
        own_kafka.folder, JARS, port=free_port(), controller_port=free_port(), properties=TEST_PROPERTIES
    )
    moved.prepare()
    moved.start()
    try:
        moved.wait_ready(WITHIN_S)

        assert [record.value for record in read_all(moved.bootstrap_servers, topic)] == [b"kept"]
    finally:
        moved.stop()


def test_brokers_start_from_the_cache_of_java(own_kafka: LocalKafka) -> None:
    """Java goes on without a cache that does not fit; so a look at what the process has mapped."""
    mapped = Path(f"/proc/{own_kafka.pid}/maps").read_text()

    assert any(str(cache) in mapped for cache in JARS.glob("java-*.aot"))


def test_the_version_is_read_from_the_jar(own_kafka: LocalKafka) -> None:
    assert own_kafka.version == "4.3.1"


@pytest.mark.parametrize("which", ["port", "controller_port"])
def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path, which: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken: int = other.getsockname()[1]
        ports = {"port": free_port(), "controller_port": free_port(), which: taken}
        broker = LocalKafka(tmp_path, JARS, port=ports["port"], controller_port=ports["controller_port"])
        broker.prepare()

        with pytest.raises(PortInUse, match=f"port {taken} .* is in use"):
            broker.start()

        assert broker.pid is None
        assert not (tmp_path / "data").exists()


def test_a_failed_start_is_reported_with_the_last_log_lines(tmp_path: Path) -> None:
    broker = LocalKafka(tmp_path, JARS, port=free_port(), controller_port=free_port())
    broker.prepare()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text(
        "version=1\ncluster.id=QUFBQUFBQUFBQUFBQUFBQQ\nnode.id=77\n"
    )
    broker.start()

    with pytest.raises(LocalKafkaError, match=r"exited while starting(.|\n)*node.id"):
        broker.wait_ready(WITHIN_S)

    assert broker.pid is None


def test_a_data_folder_that_cannot_be_formatted_is_reported(tmp_path: Path) -> None:
    broker = LocalKafka(
        tmp_path, JARS, port=free_port(), controller_port=free_port(), properties={"process.roles": "king"}
    )
    broker.prepare()

    with pytest.raises(LocalKafkaError, match=r"cannot format(.|\n)*king"):
        broker.start()


def test_the_broker_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    """`kill -9` of `voipex-sandbox up` must not leave a broker that holds the port."""
    starts = (
        "import sys, time; from pathlib import Path; from sandbox.broker import LocalKafka\n"
        f"broker = LocalKafka(Path({str(tmp_path)!r}), Path({str(JARS)!r}), port={free_port()}, "
        f"controller_port={free_port()})\n"
        "broker.prepare(); broker.start(); print(broker.pid, flush=True); time.sleep(600)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    broker_pid = int(starter.stdout.readline())
    os.kill(broker_pid, 0)  # it is running

    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()

    eventually(lambda: not _is_running(broker_pid), "the broker outlived its parent")


def _is_running(pid: int) -> bool:
    """Whether the process exists. Zombies do not count: in a container there may be no init that reaps them."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_damaged_jar_is_downloaded_again_with_progress(own_kafka: LocalKafka, tmp_path: Path) -> None:
    """Never run code other than what was locked: a download may have been interrupted."""
    jars = tmp_path / "jars"
    shutil.copytree(JARS, jars, copy_function=os.link)
    damaged = next(jars.rglob("log4j-slf4j-impl-*.jar"))
    whole = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(whole[:-1])
    progress: list[Progress] = []

    LocalKafka(tmp_path, jars).prepare(progress.append)

    assert damaged.read_bytes() == whole
    assert [(each.jars_done, each.jars_total) for each in progress] == [(49, 50), (50, 50)]


def test_the_lock_names_no_host() -> None:
    assert "://" not in (files("sandbox") / "kafka_jars.lock").read_text()
