"""Probes of the management port."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.commands import run_in_process
from tests.processes import free_port
from voipex.service import health


@contextmanager
def management_port(responses: Mapping[str, tuple[int, bytes]]) -> Iterator[int]:
    """A management port with these responses by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = responses[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


ALIVE_NOT_READY = {"/live": (200, b'{"live":true}'), "/ready": (503, b'{"ready":false,"stopping":true}')}


def test_ready() -> None:
    with management_port({"/ready": (200, b'{"ready":true}')}) as port:
        assert health.probe("127.0.0.1", port) == (True, "ready")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104
def test_live_but_not_ready_reports_the_cause(host: str) -> None:
    with management_port(ALIVE_NOT_READY) as port:
        assert health.probe(host, port) == (False, 'not ready: {"ready":false,"stopping":true}')
        assert health.probe(host, port, "live") == (True, "live")


def test_refused_connection_is_not_ok() -> None:
    port = free_port()
    result = health.probe("0.0.0.0", port)  # noqa: S104
    assert not result.ok
    assert result.message.startswith(f"no answer on 0.0.0.0:{port}: ")
    assert "refused" in result.message


def test_silent_port_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = health.probe("127.0.0.1", silent.getsockname()[1], timeout_s=0.05)
    assert not result.ok
    assert "timed out" in result.message


def test_response_that_is_not_http_is_not_ok() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"SSH-2.0\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        result = health.probe("127.0.0.1", server.getsockname()[1])
        thread.join()
    assert not result.ok


def test_command_prints_the_result_and_sets_the_exit_code() -> None:
    with management_port(ALIVE_NOT_READY) as port:
        environment = {"VOIPEX_MANAGEMENT_PORT": str(port)}
        unready, live = run_in_process(environment, "health"), run_in_process(environment, "health", "--live")
    assert (unready.code, unready.out) == (1, "")
    assert unready.err == 'not ready: {"ready":false,"stopping":true}\n'
    assert (live.code, live.out, live.err) == (0, "live\n", "")


def test_management_host_wins_over_host() -> None:
    with management_port({"/ready": (200, b"{}")}) as port:
        environment = {
            "VOIPEX_HOST": "192.0.2.1",
            "VOIPEX_MANAGEMENT_HOST": "127.0.0.1",
            "VOIPEX_MANAGEMENT_PORT": str(port),
        }
        assert run_in_process(environment, "health").code == 0


def test_module_reads_its_port_from_the_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with management_port(ALIVE_NOT_READY) as port:
        environment = {"VOIPEX_HOST": "0.0.0.0", "VOIPEX_MANAGEMENT_PORT": str(port)}  # noqa: S104
        assert health.main([], environment) == 1
        assert health.main(["--live"], environment) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("live\n", 'not ready: {"ready":false,"stopping":true}\n')


def test_module_loads_no_other_module_of_the_project() -> None:
    script = "import sys, voipex.service.health; print([each for each in sys.modules if each.startswith(('voipex', 'bridge', 'pydantic', 'aiokafka'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "['voipex', 'voipex.service', 'voipex.service.health']\n"
