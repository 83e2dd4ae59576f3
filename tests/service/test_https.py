"""The ingress with a certificate: HTTPS, renewal while connections stay open, and the same limits."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.factories import body
from tests.processes import BridgeProcess, free_port
from tests.waiting import eventually


class SecureBridge(BridgeProcess):
    """A bridge with a certificate of a private authority."""

    def __init__(self, folder: Path, **changes: str) -> None:
        self.authority = trustme.CA()
        self.cert_file, self.key_file = folder / "tls.crt", folder / "tls.key"
        self.renew()
        super().__init__(
            folder,
            f"127.0.0.1:{free_port()}",
            VOIPEX_TLS_CERT_FILE=str(self.cert_file),
            VOIPEX_TLS_KEY_FILE=str(self.key_file),
            VOIPEX_DRAIN_S="0",
            **changes,
        )

    def renew(self) -> None:
        leaf = self.authority.issue_cert("127.0.0.1", "localhost")
        self.cert_file.write_bytes(leaf.cert_chain_pems[0].bytes())
        self.key_file.write_bytes(leaf.private_key_pem.bytes())

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def connect(self, context: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=10, context=context or self.trusting()
        )

    def post_on(self, connection: http.client.HTTPSConnection) -> int:
        connection.request("POST", "/voipex", body(), self.authorization())
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def serial_number(self) -> str:
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock,
            self.trusting().wrap_socket(sock, server_hostname="127.0.0.1") as secured,
        ):
            certificate = secured.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[SecureBridge]:
    with SecureBridge(tmp_path, VOIPEX_REQUEST_TIMEOUT_S="2", VOIPEX_MAX_CONNECTIONS="30") as process:
        process.start()
        yield process


def test_renewed_certificate_drops_no_connections(bridge: SecureBridge) -> None:
    with contextlib.closing(bridge.connect()) as kept:
        before = bridge.post_on(kept), bridge.serial_number()
        bridge.renew()
        deadline = time.monotonic() + 10
        while (renewed := bridge.serial_number()) == before[1] and time.monotonic() < deadline:
            time.sleep(0.1)
        kept_socket = kept.sock
        after = bridge.post_on(kept)
        same_connection = kept.sock is kept_socket

    assert before[0] == after == 200
    assert renewed != before[1]
    assert same_connection
    assert "certificate reloaded" in bridge.log()
    with urllib.request.urlopen(f"http://127.0.0.1:{bridge.management_port}/metrics", timeout=5) as answer:
        expiry = re.search(
            r"^voipex_bridge_certificate_not_after_timestamp_seconds (\S+)$",
            answer.read().decode(),
            re.MULTILINE,
        )
    assert expiry is not None
    assert float(expiry[1]) > time.time()


def test_a_failed_renewal_keeps_the_certificate_and_is_logged(bridge: SecureBridge) -> None:
    before = bridge.serial_number()
    bridge.cert_file.write_text("no certificate")
    assert bridge.process is not None
    os.kill(bridge.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 10
    while "cannot be used" not in bridge.log() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert bridge.serial_number() == before
    assert "certificate reload failed" in bridge.log()


def test_tls_is_1_2_at_least_and_http_1_1(bridge: SecureBridge) -> None:
    newest, old = bridge.trusting(), bridge.trusting()
    newest.set_alpn_protocols(["h2", "http/1.1"])
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    versions = []
    for context in (newest, old):
        with contextlib.closing(bridge.connect(context)) as connection:
            status = bridge.post_on(connection)
            assert isinstance(connection.sock, ssl.SSLSocket)
            versions.append((status, connection.sock.version(), connection.sock.selected_alpn_protocol()))

    assert versions == [(200, "TLSv1.3", "http/1.1"), (200, "TLSv1.2", None)]


def test_request_sent_with_the_end_of_the_handshake_is_served(bridge: SecureBridge) -> None:
    """Clients that do not wait: the bytes of Finished and of the request arrive at once."""
    request = (
        b"POST /voipex HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (
            bridge.authorization()["Authorization"].encode(),
            len(body()),
            body(),
        )
    )
    answers = []
    for _ in range(20):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = bridge.trusting().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", bridge.port), timeout=10) as sock:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(received(sock))
            tls.write(request)
            sock.sendall(outgoing.read())
            while True:
                try:
                    answers.append(tls.read(15))
                    break
                except ssl.SSLWantReadError:
                    incoming.write(received(sock))

    assert answers == [b"HTTP/1.1 200 OK"] * 20


def received(sock: socket.socket) -> bytes:
    piece = sock.recv(65536)
    assert piece, "the bridge hung up"
    return piece


def test_connections_without_tls_are_closed_and_limited(bridge: SecureBridge) -> None:
    with contextlib.ExitStack() as crowd:
        plain = crowd.enter_context(socket.create_connection(("127.0.0.1", bridge.port), timeout=10))
        plain.sendall(b"POST /voipex HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            said = plain.recv(4096)
            assert not said.startswith(b"HTTP")
        silent = [
            crowd.enter_context(socket.create_connection(("127.0.0.1", bridge.port), timeout=10))
            for _ in range(60)
        ]
        silent[-1].settimeout(1)  # above the most connections: closed at once
        started = time.monotonic()
        assert hung_up(silent[-1])
        beyond_after_s = time.monotonic() - started
        assert hung_up(silent[0])  # within: when its time for a handshake is over
        with contextlib.closing(bridge.connect()) as good:
            status = bridge.post_on(good)

    assert beyond_after_s < 1
    assert status == 200


def hung_up(sock: socket.socket) -> bool:
    try:
        return sock.recv(4096) == b""
    except ConnectionError:
        return True


def test_limits_hold_with_tls_too(bridge: SecureBridge) -> None:
    with contextlib.closing(bridge.connect()) as connection:
        connection.putrequest("POST", "/voipex")
        connection.putheader("X-Large", "x" * 40_000)
        connection.endheaders()
        too_large = connection.getresponse().status
    with contextlib.closing(bridge.connect()) as connection:
        connection.putrequest("POST", "/voipex")
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"half")
        early = connection.getresponse()
        early.read()

    assert too_large == 431
    assert early.status == 401


def test_stopping_with_open_connections_and_handshakes_is_clean(tmp_path: Path) -> None:
    with SecureBridge(tmp_path) as bridge:
        bridge.start()
        with (
            contextlib.closing(bridge.connect()) as kept,
            socket.create_connection(("127.0.0.1", bridge.port), timeout=10),
        ):
            bridge.post_on(kept)
            started = time.monotonic()
            bridge.terminate()
            code = bridge.ended()
            took_s = time.monotonic() - started
        log = bridge.log()

    assert code == 0
    assert took_s < 5
    assert "Traceback" not in log
    assert "https://127.0.0.1" in log


def test_certificate_without_its_key_prevents_the_start(tmp_path: Path) -> None:
    alone = BridgeProcess(tmp_path, "127.0.0.1:1", VOIPEX_TLS_CERT_FILE=str(tmp_path / "tls.crt"))
    with alone.start(ready=False):
        code_alone = alone.ended()
    (tmp_path / "b").mkdir()
    missing = BridgeProcess(
        tmp_path / "b",
        "127.0.0.1:1",
        VOIPEX_TLS_CERT_FILE=str(tmp_path / "tls.crt"),
        VOIPEX_TLS_KEY_FILE=str(tmp_path / "tls.key"),
    )
    with missing.start(ready=False):
        code_missing = missing.ended()

    assert (code_alone, code_missing) == (2, 2)
    assert "VOIPEX_TLS_KEY_FILE belong together" in alone.log()
    assert "tls.crt" in missing.log()
    assert "does not exist" in missing.log()
    assert "Traceback" not in alone.log() + missing.log()


def test_the_tls_version_of_a_sender_is_counted(bridge: SecureBridge) -> None:
    connection = bridge.connect()
    status = bridge.post_on(connection)

    def survey() -> dict[str, Any]:
        url = f"http://127.0.0.1:{bridge.management_port}/survey"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)["pbxs"]["voipex"]
        return found

    while_open = survey()
    connection.close()
    eventually(lambda: "open" not in survey()["ends"])
    closed = survey()

    assert status == 200
    assert [each["habits"]["tls"] for each in (while_open, closed)] == [{"TLSv1.3": 1}] * 2
    assert (while_open["ends"], closed["ends"]) == ({"open": 1}, {"sender_idle": 1})
