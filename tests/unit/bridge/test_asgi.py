"""The ingress as an ASGI application, under uvicorn."""

import asyncio
import http.client
from typing import Any

import pytest

from bridge.http.asgi import asgi_application
from tests.factories import body
from tests.fakes import FakeSpool, webhook_ingress
from voipex.service.server import Server, listening, server_config, started


def test_it_runs_under_uvicorn() -> None:
    spool = FakeSpool()
    app = asgi_application(webhook_ingress(spool))

    async def story() -> list[int]:
        server = Server(server_config(app))
        with listening("127.0.0.1", 0, "port") as sock:
            serving = asyncio.create_task(server.serve([sock]))
            await started(server)
            statuses = await asyncio.to_thread(post_two, sock.getsockname()[1])
            server.should_exit = True
            await serving
        return statuses

    assert asyncio.run(story()) == [200, 413]
    assert len(spool.records) == 1


def post_two(port: int) -> list[int]:
    statuses = []
    for raw in (body(), b"x" * 2000):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/voipex", iter([raw[:7], raw[7:]]), {"Authorization": "Basic good"})
        statuses.append(connection.getresponse().status)
        connection.close()
    return statuses


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_other_scopes_are_not_supported(kind: str) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(NotImplementedError, match=kind):
        asyncio.run(asgi_application(webhook_ingress(FakeSpool()))({"type": kind}, never, never))


def test_a_client_that_leaves_early_gets_no_response() -> None:
    """The server cancels the application while the event is being made durable."""

    class SlowSpool(FakeSpool):
        def append(self, records: Any, on_durable: Any) -> None:
            asyncio.get_running_loop().call_later(0.01, super().append, records, on_durable)

    spool = SlowSpool()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body()}

    async def story() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", b"Basic good")]
        scope = {"type": "http", "path": "/voipex", "method": "POST", "headers": headers}
        request = asyncio.ensure_future(asgi_application(webhook_ingress(spool))(scope, receive, send))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait({request})
        await asyncio.sleep(0.05)
        return sent

    assert asyncio.run(story()) == []
    assert len(spool.records) == 1
