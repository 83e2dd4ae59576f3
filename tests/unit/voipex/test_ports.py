"""Ports: bound once, and a reason for each that cannot be."""

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.processes import free_port
from voipex.service.ports import bind, bind_error


def test_a_free_port_can_be_bound_and_is_free_afterwards() -> None:
    port = free_port()

    assert bind_error("127.0.0.1", port) is None
    with bind("127.0.0.1", port) as sock:
        assert sock.getsockname() == ("127.0.0.1", port)


@pytest.mark.process
def test_no_two_processes_are_given_the_same_port() -> None:
    """Services bind their ports long after they were given: one is created, others run first, and then it starts."""
    script = "import tests.processes as p; print(*(p.free_port() for _ in range(400)), flush=True); input()"
    with ExitStack() as ends:
        processes = [
            ends.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(3)
        ]
        given = [line.split() for each in processes if each.stdout and (line := each.stdout.readline())]
        given.append([str(free_port()) for _ in range(400)])
        for each in processes:
            each.communicate("\n")

    assert [len(each) for each in given] == [400] * 4
    assert len(set().union(*given)) == 1600


def test_consecutive_ports_are_free_together() -> None:
    first = free_port(3)

    assert [bind_error("127.0.0.1", port) for port in range(first, first + 3)] == [None] * 3


def test_a_port_with_a_listener_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        assert bind_error("127.0.0.1", port) == "Address already in use"
        with pytest.raises(OSError, match="Address already in use"):
            bind("127.0.0.1", port)


def test_a_foreign_address_cannot_be_bound() -> None:
    assert bind_error("192.0.2.1", 0) == "Cannot assign requested address"
