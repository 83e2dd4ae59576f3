"""Accepts the connections of the ingress on one socket, expires them, and shuts them down (ADR 8)."""

import asyncio
import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from bridge.http.errors import TooManyConnections
from bridge.http.messages import Application, Connection, Observer
from bridge.http.protocol import LINGER_S, OVERFLOW_CONNECTIONS, HttpProtocol, Limits, Schedule

_BACKLOG: Final = 2048  # connections that may wait for accept()
_ACCEPT_AGAIN_S: Final = 0.1
_EXPIRE_S: Final = 0.5
_DRAINED_S: Final = 0.05
_SHUTDOWN_S: Final = 5.0  # for requests that are in flight; a response takes milliseconds
_OTHER_FILES: Final = 256  # descriptors for spool, Kafka, management port, libraries


class HttpServer:
    """
    Serves one socket.

    Args:
        application: opens the requests.
        tls: gives the context of each new connection; without it the server speaks plain HTTP.
        observer: learns how the senders behave.
        schedule: see `HttpProtocol`.
    """

    def __init__(
        self,
        application: Application,
        limits: Limits,
        tls: Callable[[], ssl.SSLContext] | None = None,
        observer: Observer | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self._observer = observer
        self._application = application
        self._limits = limits
        self._tls = tls
        self._schedule = schedule
        self._connections: set[HttpProtocol] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._draining = False
        self._stopping = asyncio.Event()
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()

    async def serve(self, listening: socket.socket) -> None:
        """Serve until `stop`, then finish the requests that are here, for at most `_SHUTDOWN_S`."""
        try:
            if self._tls is None:
                loop = asyncio.get_running_loop()
                server = await loop.create_server(self._make_protocol, sock=listening, backlog=_BACKLOG)
                await self._run(server.close)
            else:
                accepting = asyncio.create_task(self._accept(listening, self._tls))
                accepting.add_done_callback(lambda _: self.stop())
                await self._run(accepting.cancel)
                await asyncio.wait({accepting})
                if not accepting.cancelled():
                    accepting.result()  # the error that ended it
        finally:
            for handshake in self._handshakes:
                handshake.cancel()
            for connection in tuple(self._connections):
                connection.abort()
            self.stopped.set()

    async def drain(self) -> None:
        """
        Close each connection with its next response, and return once none is left.

        A connection that is closed while its client sends is a failed request, which nobody may repeat for it: so idle ones stay, and new
        ones are accepted, until `stop`.
        """
        self._draining = True
        for connection in self._connections:
            connection.drain()
        while self._connections or self._handshakes:  # noqa: ASYNC110 - a set tells nobody when it is empty
            await asyncio.sleep(_DRAINED_S)

    def stop(self) -> None:
        self._stopping.set()

    def describe(self) -> list[Connection]:
        """Describe the connections that are open now."""
        return [connection.describe() for connection in self._connections]

    async def _run(self, stop_accepting: Callable[[], object]) -> None:
        self.started.set()
        try:
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_EXPIRE_S):
                        await self._stopping.wait()
                self._expire()
        finally:
            stop_accepting()
        for connection in tuple(self._connections):
            connection.shutdown()
        deadline = time.monotonic() + _SHUTDOWN_S
        while self._connections and time.monotonic() < deadline:
            await asyncio.sleep(_DRAINED_S)
            self._expire()

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._connections):
            connection.expire(now)

    def _make_protocol(self) -> HttpProtocol:
        protocol = HttpProtocol(
            self._application, self._limits, self._connections, self._observer, self._schedule
        )
        if self._draining:
            protocol.drain()
        return protocol

    # ---------------------------------------------------------------- TLS

    async def _accept(self, listening: socket.socket, tls: Callable[[], ssl.SSLContext]) -> None:
        """
        Accept connections that begin with a handshake.

        `create_server(ssl=...)` would show a connection only after its handshake, so that handshakes were unlimited in number.
        """
        loop = asyncio.get_running_loop()
        listening.listen(_BACKLOG)
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError:  # no descriptors left, or the client is gone already
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if len(self._handshakes) + len(self._connections) >= self._limits.max_connections:
                self._application.reject(TooManyConnections("more connections than VOIPEX_MAX_CONNECTIONS"))
                accepted.close()  # a response would need a handshake
                continue
            handshake = asyncio.create_task(self._shake_hands(accepted, tls()))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, accepted: socket.socket, context: ssl.SSLContext) -> None:
        # No TLS, none that we speak, gone, or too slow: ssl.SSLError and TimeoutError are OSErrors.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make_protocol,
                accepted,
                ssl=context,
                ssl_handshake_timeout=self._limits.request_timeout_s,
                ssl_shutdown_timeout=LINGER_S,
            )


def raise_file_limit(max_connections: int) -> int:
    """Raise the process's limit of open files as far as needed; return how many connections fit, at most *max_connections*."""
    wanted = max_connections + OVERFLOW_CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max_connections
    new = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (new, hard))
    return max(1, min(max_connections, new - OVERFLOW_CONNECTIONS - _OTHER_FILES))
