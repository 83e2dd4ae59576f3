"""Bridges are replaced one after the other under clients that keep their connections: no request fails."""

import asyncio
import base64
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories import body
from tests.processes import USER, BridgeProcess, free_port
from tests.waiting import WITHIN_S, async_eventually

CLIENTS = 200
PAUSE_S = (0.1, 1.5)
"""Between two requests of a client: less than a drain, as in the documentation."""
PRE_STOP_S = 1.0
"""From the end of routing to SIGTERM, as the `preStop` of the manifests."""


class RoundRobin:
    """A TCP proxy that gives each new connection to the next of its backends; what is open stays where it is, as with kube-proxy."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._next = 0
        self._open: set[asyncio.Future[Any]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, backlog=1000)
        async with server:
            port: int = server.sockets[0].getsockname()[1]
            yield port
        if self._open:  # the clients have closed theirs
            await asyncio.wait(self._open)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._next += 1
        port = self.ports[self._next % len(self.ports)]
        try:
            backend_reader, backend_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        pumps = asyncio.gather(_pump(reader, backend_writer), _pump(backend_reader, writer))
        self._open.add(pumps)
        pumps.add_done_callback(self._open.discard)
        await pumps


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Client:
    """Posts on one connection until a response says `Connection: close`, then on a new one. It repeats nothing."""

    def __init__(self, port: int, authorization: str, number: int) -> None:
        self._port = port
        raw = body(UniqueId=f"{number}.1")
        head = f"POST /voipex HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: {len(raw)}\r\n\r\n"
        self._request = head.encode() + raw
        self.outcomes: Counter[str] = Counter()
        self.connections = 0

    async def post_until(self, stopped: asyncio.Event) -> None:
        pauses = random.Random(self._request)
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not stopped.is_set():
            try:
                if connection is None:
                    self.connections += 1
                    connection = await asyncio.open_connection("127.0.0.1", self._port)
                head = await self.post(*connection)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.outcomes[type(error).__name__] += 1
                head = b"connection: close"
            else:
                self.outcomes[head[9:12].decode()] += 1
            if b"connection: close" in head and connection is not None:
                connection[1].close()
                connection = None
            await asyncio.sleep(pauses.uniform(*PAUSE_S))
        if connection is not None:
            connection[1].close()
            await connection[1].wait_closed()

    async def post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        async with asyncio.timeout(WITHIN_S):
            writer.write(self._request)
            await writer.drain()
            return await reader.readuntil(b"\r\n\r\n")


@pytest.fixture
def nowhere() -> str:
    """An address without a broker: the spool keeps every event."""
    return f"127.0.0.1:{free_port()}"


def test_a_roll_out_under_kept_connections_fails_no_request(
    tmp_path: Path, nowhere: str, record_property: Any
) -> None:
    bridges = []
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
        bridges.append(BridgeProcess(tmp_path / name, nowhere, VOIPEX_DRAIN_S="20"))
    first, second = bridges
    (second.folder / "credentials.json").write_bytes((first.folder / "credentials.json").read_bytes())
    authorization = "Basic " + base64.b64encode(f"{USER}:{first.password}".encode()).decode()

    async def roll_out(proxy: RoundRobin) -> list[int]:
        codes = []
        for stopping, other in ((first, second), (second, first)):
            proxy.ports = [other.port]
            await asyncio.sleep(PRE_STOP_S)
            stopping.terminate()
            codes.append(await asyncio.to_thread(stopping.ended))
            await asyncio.to_thread(stopping.start)
            proxy.ports = [first.port, second.port]
            await asyncio.sleep(PRE_STOP_S)
        return codes

    async def story() -> tuple[list[int], list[Client]]:
        stopped = asyncio.Event()
        proxy = RoundRobin([first.port, second.port])
        async with proxy.listening() as port:
            clients = [Client(port, authorization, number) for number in range(CLIENTS)]
            posting = [asyncio.create_task(client.post_until(stopped)) for client in clients]
            await asyncio.sleep(PRE_STOP_S)
            codes = await roll_out(proxy)
            stopped.set()
            await asyncio.gather(*posting)
        return codes, clients

    with first.start(), second.start():
        codes, clients = asyncio.run(story())
        waiting = first.waiting() + second.waiting()
    outcomes = sum((client.outcomes for client in clients), Counter())

    assert set(outcomes) == {"200"}, outcomes
    assert waiting >= outcomes["200"]
    assert codes == [0, 0]
    assert all(client.connections >= 2 for client in clients)
    record_property("clients", CLIENTS)
    record_property("requests", outcomes.total())
    record_property("failed", outcomes.total() - outcomes["200"])


def test_an_idle_connection_holds_the_stop_until_the_drain_ends(tmp_path: Path, nowhere: str) -> None:
    """It is answered once more meanwhile; a second signal does not wait for it."""

    async def story(bridge: BridgeProcess) -> tuple[bytes, bytes, int]:
        client = Client(bridge.port, bridge.authorization()["Authorization"], 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        before = await client.post(reader, writer)
        bridge.terminate()
        await async_eventually(lambda: '"event":"stopping"' in bridge.log(), bridge.log)
        during = await client.post(reader, writer)
        assert bridge.running.poll() is None
        bridge.terminate()
        code = await asyncio.to_thread(bridge.ended)
        assert await idle_reader.read() == b""
        for each in (writer, idle_writer):
            each.close()
            await each.wait_closed()
        return before, during, code

    with BridgeProcess(tmp_path, nowhere, VOIPEX_DRAIN_S="600").start() as bridge:
        before, during, code = asyncio.run(story(bridge))

    assert b"connection: close" not in before
    assert b"connection: close" in during
    assert code == 0
