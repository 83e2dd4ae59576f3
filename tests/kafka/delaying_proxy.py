"""A TCP proxy in front of a broker that delays one request: its connection breaks, and the broker gets it later, from the old connection."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiokafka.client
import pytest

_client_module: Any = aiokafka.client


class DelayingProxy:
    """Every connection of aiokafka's clients goes through it."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._wanted: int | None = None
        self._delayed: tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes] | None = None
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def holds_one(self) -> bool:
        return self._delayed is not None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for each in self._pumps:
            each.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def delay_next(self, api_key: int) -> None:
        """Delay the next request of this kind, and break its connection."""
        self._wanted = api_key

    async def release(self) -> None:
        """Let the broker have the delayed request, and return once it has answered."""
        assert self._delayed is not None, "no request was delayed"
        reader, writer, frame = self._delayed
        self._delayed = None
        writer.write(frame)
        await _read_frame(reader)
        writer.close()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pump = asyncio.create_task(self._pump(reader, writer))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_broker = None
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
            self._writers.append(to_broker)
            back = asyncio.create_task(_copy(from_broker, writer))
            try:
                while True:
                    frame = await _read_frame(reader)
                    if struct.unpack_from(">h", frame, 4)[0] == self._wanted:
                        self._wanted = None
                        back.cancel()
                        await asyncio.wait({back})
                        self._delayed, to_broker = (from_broker, to_broker, frame), None
                        break
                    to_broker.write(frame)
            finally:
                back.cancel()
        for each in (writer, to_broker):
            if each is not None:
                each.close()


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length, "big"))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def delaying_proxy(
    bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DelayingProxy]:
    """Route every connection that is opened during the block through a proxy, also those to addresses that brokers advertise."""
    broker_port = int(bootstrap_servers.rpartition(":")[2])
    proxy = DelayingProxy(broker_port)
    create_conn = _client_module.create_conn

    async def create_proxied(host: str, port: int, **arguments: Any) -> Any:
        return await create_conn(host, proxy.port if port == broker_port else port, **arguments)

    await proxy.start()
    with monkeypatch.context() as patched:
        patched.setattr(_client_module, "create_conn", create_proxied)
        try:
            yield proxy
        finally:
            await proxy.stop()
