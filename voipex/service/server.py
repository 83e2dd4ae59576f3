"""How a server of ours runs: on sockets that are open before anything else starts, and with signals left to the composition root."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from voipex.errors import PortInUse
from voipex.service.ports import bind
from voipex.service.settings import variable_of

_IN_FLIGHT_S: Final = 5  # requests that were open at SIGTERM; an answer takes milliseconds
_BACKLOG: Final = 2048  # connections that may wait for accept()


class Server(uvicorn.Server):
    """uvicorn re-raises the signal after `serve()`, which would kill us before the drain: signals are the root's."""

    def __init__(self, config: uvicorn.Config, *more: Any) -> None:
        super().__init__(config, *more)
        self.ended = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self.ended.set()


def server_config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the client's address
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_IN_FLIGHT_S,
    )


async def started(*servers: Server) -> None:
    """uvicorn has no event for it."""
    while not all(server.started or server.ended.is_set() for server in servers):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def listening(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """A listening socket. Raises PortInUse with the name of the setting."""
    try:
        sock = bind(host, port)
    except OSError as error:
        raise PortInUse(
            f"cannot listen on {host}:{port} ({error.strerror}); set {variable_of(setting)} to another port"
        ) from error
    with sock:
        sock.setblocking(False)
        yield sock
