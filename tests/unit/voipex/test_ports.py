"""Ports: bound once, and a reason for each that cannot be."""

import socket

import pytest

from tests.processes import free_port
from voipex.service.ports import bind, bind_error


def test_a_free_port_can_be_bound_and_is_free_afterwards() -> None:
    port = free_port()

    assert bind_error("127.0.0.1", port) is None
    with bind("127.0.0.1", port) as sock:
        assert sock.getsockname() == ("127.0.0.1", port)


def test_a_port_with_a_listener_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        assert bind_error("127.0.0.1", port) == "Address already in use"
        with pytest.raises(OSError, match="Address already in use"):
            bind("127.0.0.1", port)


def test_a_foreign_address_cannot_be_bound() -> None:
    assert bind_error("192.0.2.1", 0) == "Cannot assign requested address"
