"""uvicorn servers on sockets that are bound before anything else starts, with signals left to the composition root."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from voipex.errors import PortInUse
from voipex.service.ports import bind
from voipex.service.settings import variable_of

_IN_FLIGHT_S: Final = 5  # for requests that are open at SIGTERM; a response takes milliseconds
_BACKLOG: Final = 2048  # connections that wait for accept()


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals alone: uvicorn re-raises them after `serve()`, which would end the process before the drain."""

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
    """Wait until every server has started or ended; uvicorn has no event for that."""
    while not all(server.started or server.ended.is_set() for server in servers):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def listening(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    """Yield a bound socket. Raises PortInUse, which names the *setting* of the port."""
    try:
        sock = bind(host, port)
    except OSError as error:
        raise PortInUse(
            f"cannot listen on {host}:{port} ({error.strerror}); set {variable_of(setting)} to another port"
        ) from error
    with sock:
        sock.setblocking(False)
        yield sock
