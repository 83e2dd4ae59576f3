"""What `voipex-sandbox up` starts, and contradictions between its options."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from sandbox.plan import Plan

PORTS = ("port", "management_port", "timelines_port", "agents_port", "kafka_port")


@pytest.fixture(autouse=True)
def local_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOIPEX_KAFKA_BOOTSTRAP_SERVERS", raising=False)


def plan(**ports: Any) -> Plan:
    return replace(Plan(Path("build")), **ports)


def test_the_default_ports_do_not_contradict() -> None:
    assert list(plan().contradictions()) == []


@pytest.mark.parametrize(("one", "other"), list(combinations(PORTS, 2)))
def test_each_two_equal_ports_are_named_by_their_options(one: str, other: str) -> None:
    [fault] = plan(**{one: 9500, other: 9500}).contradictions()

    assert fault.startswith(f"--{one} and --{other} are both 9500".replace("_", "-"))


@pytest.mark.parametrize("other", PORTS[:-1])
def test_no_port_may_be_that_of_kafkas_controller(other: str) -> None:
    [fault] = plan(**{other: 9501, "kafka_port": 9500}).contradictions()

    assert "--kafka-port + 1 (Kafka's controller) are both 9501" in fault


def test_ports_of_a_local_kafka_are_free_beside_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")

    assert list(plan(port=9092).contradictions()) == []
