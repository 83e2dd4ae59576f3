"""Connections of the ingress in process: order of responses, flow control, and the end of a connection."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.http.errors import MalformedRequest
from bridge.http.messages import Handler, RequestHeaders, Respond, Response
from bridge.http.problems import problem_response
from bridge.http.protocol import Limits
from bridge.http.server import HttpServer
from tests.factories import body
from tests.fakes import FakeSpool, webhook_ingress
from voipex.service.server import listening

OK = Response(200, ((b"content-length", b"2"),), b"ok")
LIMITS = Limits(max_connections=10, max_body_bytes=1024, request_timeout_s=5, idle_timeout_s=5)


class Echoing:
    """An application that lists its requests and responds at once, or when the test lets it."""

    max_body_bytes = 1024

    def __init__(self, response: Response | None = OK) -> None:
        self.response = response
        self.opened: list[tuple[bytes, bytes, RequestHeaders]] = []
        self.bodies: list[bytes] = []
        self.waiting: list[Respond] = []
        self.rejected: list[Exception] = []

    def open(self, method: bytes, path: bytes, headers: RequestHeaders, peer: str) -> Handler | Response:
        assert peer == "127.0.0.1"
        self.opened.append((method, path, headers))
        return self

    def __call__(self, body: bytes, respond: Respond) -> None:
        self.bodies.append(body)
        if self.response is None:
            self.waiting.append(respond)
        else:
            respond(self.response)

    def reject(self, error: Exception) -> Response:
        self.rejected.append(error)
        return problem_response(error)


Story = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def converse(application: Any, story: Story, limits: Limits = LIMITS) -> None:
    """Let a client talk to the application over a real socket."""

    async def conversation() -> None:
        server = HttpServer(application, limits)
        with listening("127.0.0.1", 0, "port") as sock:
            serving = asyncio.create_task(server.serve(sock))
            await server.started.wait()
            reader, writer = await asyncio.open_connection(*sock.getsockname()[:2])
            try:
                async with asyncio.timeout(20):
                    await story(reader, writer)
            finally:
                writer.close()
                server.stop()
                await serving

    asyncio.run(conversation())


def post(path: bytes = b"/x", raw: bytes = b"hi", *headers: bytes) -> bytes:
    lines = (b"POST %b HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(raw), *headers, b"", raw)
    return b"\r\n".join(lines)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def response_from(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Status line and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: ")), 0
    )
    return head.split(b"\r\n")[0], await reader.readexactly(length)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/%76oipex?x=%20", b"/voipex"),
        (b"http://bridge:80/voipex?x", b"/voipex"),
        (b"http://bridge", b"/"),
        (b"/a%zz", b"/a%zz"),
        (b"*", b"*"),
    ],
)
def test_path_of_a_request_target(target: bytes, path: bytes) -> None:
    application = Echoing()

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = b"OPTIONS" if target == b"*" else b"POST"
        writer.write(post(target).replace(b"POST", method))
        await response_from(reader)

    converse(application, story)

    assert [opened[1] for opened in application.opened] == [path]


def test_a_target_that_is_no_url_is_malformed() -> None:
    application = Echoing()

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post(b"http://a:b:c/"))
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    converse(application, story)

    assert [type(error) for error in application.rejected] == [MalformedRequest]


def test_a_pipelined_head_over_the_limit_is_431_in_two_reads() -> None:
    application = Echoing()
    large = post(b"/large", b"hi", b"X-Large: " + b"x" * 40_000)

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post() + large[:20_000])
        assert await response_from(reader) == (b"HTTP/1.1 200 OK", b"ok")
        writer.write(large[20_000:])
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    converse(application, story)


def test_pipelined_requests_of_more_than_a_head_are_accepted() -> None:
    application = Echoing()

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        small = post(b"/x", b"hi", b"X-Small: " + b"x" * 10_000)
        writer.write(small * 8 + small[:100])
        for _ in range(8):
            await response_from(reader)
        writer.write(small[100:])
        assert await response_from(reader) == (b"HTTP/1.1 200 OK", b"ok")

    converse(application, story)

    assert len(application.bodies) == 9


def test_100_continue_waits_for_the_responses_before_it() -> None:
    application = Echoing(response=None)

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post() + post(b"/y", b"", b"Expect: 100-continue").replace(b"Length: 0", b"Length: 2"))
        await until(lambda: bool(application.waiting) and len(application.opened) == 2)
        application.waiting.pop()(OK)
        first = await response_from(reader)
        interim = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"hi")
        await until(lambda: bool(application.waiting))
        application.waiting.pop()(OK)
        second = await response_from(reader)
        assert (first[0], interim, second[0]) == (
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 200 OK",
        )

    converse(application, story)


def test_a_client_that_does_not_read_is_not_read_from() -> None:
    large = Response(200, ((b"content-length", b"100000"),), bytes(100_000))
    application = Echoing(large)

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(2000):
            writer.write(post())
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        handled = len(application.bodies)
        assert handled < 500  # what the buffers of the sockets hold
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(handled + 10):
            await response_from(reader)
        assert len(application.bodies) > handled

    converse(application, story)


def test_the_last_response_before_a_stop_says_close() -> None:
    application = Echoing(response=None)

    async def conversation() -> bytes:
        server = HttpServer(application, LIMITS)
        with listening("127.0.0.1", 0, "port") as sock:
            serving = asyncio.create_task(server.serve(sock))
            await server.started.wait()
            reader, writer = await asyncio.open_connection(*sock.getsockname()[:2])
            writer.write(post() + post())
            await until(lambda: bool(application.waiting))
            server.stop()
            await asyncio.sleep(0.1)
            for _ in range(2):
                await until(lambda: bool(application.waiting))
                application.waiting.pop()(OK)
            received = await reader.read()
            writer.close()
            await serving
        return received

    received = asyncio.run(conversation())

    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.count(b"connection: close") == 1
    assert b"connection: close" in received.rpartition(b"HTTP/1.1")[2]


def test_a_fault_of_the_application_is_503() -> None:
    class Broken(Echoing):
        def open(self, *_: object) -> Handler | Response:
            raise RuntimeError("a bug")

        def reject(self, error: Exception) -> Response:
            self.rejected.append(error)
            return Response(503, (), b"")

    application = Broken()

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post())
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")

    converse(application, story)

    assert [str(error) for error in application.rejected] == ["a bug"]


@pytest.mark.parametrize("status", [202, 204, 299])
def test_any_accepted_status_is_sent(status: int) -> None:
    spool = FakeSpool()
    ingress = webhook_ingress(spool, accepted=(status, b""))

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post(b"/voipex", body(), b"Authorization: Basic good"))
        line, _ = await response_from(reader)
        assert line.startswith(b"HTTP/1.1 %d " % status)

    converse(ingress, story)

    assert len(spool.records) == 1
