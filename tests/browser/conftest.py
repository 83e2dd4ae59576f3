"""A board in this process behind a proxy that can cut and stall, and a real browser that may load nothing from elsewhere."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from prometheus_client import CollectorRegistry

from consumers.board.access import Access, Role, User
from consumers.board.api import build_app
from consumers.board.board import Board
from consumers.board.stream import Stream
from consumers.explain.replay import Explanation
from tests.board_fixtures import START_US, Json, new_board, put
from tools import browser as browsers
from voipex.events import Event
from voipex.service.management import Readiness, build_management
from voipex.service.server import Server, listening, server_config, started

WITHIN_MS = 60_000
TICK_S = 0.1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in str(item.path):
            item.add_marker(pytest.mark.browser)


class Proxy:
    """Forwards TCP connections; `cut` closes them all, `stalled` lets nothing through to the browser."""

    def __init__(self) -> None:
        self.port = 0
        self.stalled = False
        self.refusing = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, to_port: int) -> asyncio.Server:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self.refusing:
                writer.close()
                return
            upstream, to_upstream = await asyncio.open_connection("127.0.0.1", to_port)
            self._writers |= {writer, to_upstream}
            try:
                await asyncio.gather(self._copy(reader, to_upstream), self._copy(upstream, writer, back=True))
            finally:
                for each in (writer, to_upstream):
                    self._writers.discard(each)
                    each.close()

        server = await asyncio.start_server(forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while content := await reader.read(4096):
                while back and self.stalled:  # noqa: ASYNC110 - set from another thread
                    await asyncio.sleep(0.05)
                writer.write(content)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    def cut(self) -> None:
        for each in list(self._writers):
            each.transport.abort()


class _Everybody(Access):
    """Lets everybody in, in one role."""

    def __init__(self, role: Role) -> None:
        super().__init__(None)
        self._role = role

    def known(self, header: str | None) -> User | None:
        return User("anyone" if header is None else "somebody", self._role)


class LiveBoard:
    """A board that is served; its methods may be called from the test's thread."""

    def __init__(self, role: Role = "desk") -> None:
        self._access = _Everybody(role)
        self.shift_us = (
            START_US + 300_000_000 - time.time_ns() // 1000
        )  # the documents of the tests are five minutes old
        self.board: Board = new_board(self.now_us)
        self.events: list[Event] = []
        self.proxy = Proxy()
        self.kafka_runs = True
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(),), daemon=True
        )
        self._thread.start()
        assert self._ready.wait(30)

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.shift_us

    def set_now(self, at_us: int) -> None:
        """Let the board's clock show *at_us*, and go on from there."""
        self.shift_us += at_us - self.now_us()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    def do(self, what: Callable[[], Any]) -> Any:
        """Call *what* in the board's thread."""
        done: Any = []
        ended = threading.Event()

        def call() -> None:
            done.append(what())
            ended.set()

        self._loop.call_soon_threadsafe(call)
        assert ended.wait(30)
        return done[0]

    def fill(self, documents: Explanation) -> None:
        self.do(lambda: put(self.board, documents))

    def put_call(self, timeline: Json) -> None:
        self.do(lambda: self.board.put_call(timeline["pbx"], timeline["call_id"], orjson.dumps(timeline)))

    def put_agent(self, status: Json) -> None:
        self.do(lambda: self.board.put_agent("voipex", status["agent"], orjson.dumps(status)))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    async def _serve(self) -> None:
        async def events_of(pbx: str, agent: str, since_us: int) -> list[Event]:
            return [each for each in self.events if agent in (each.login, each.line)]

        stream = Stream(self.board)
        management = build_management(lambda: Readiness(True, {}), CollectorRegistry())
        self.board.ready = True
        server = Server(server_config(build_app(self.board, stream, self._access, events_of, management)))
        with listening("127.0.0.1", 0, "port") as sock:
            serving = asyncio.create_task(server.serve([sock]))
            await started(server)
            proxy = await self.proxy.serve(sock.getsockname()[1])
            self._ready.set()
            while not self._stop.is_set():
                if self.kafka_runs:
                    self.board.freshness.kafka_at_us = self.now_us()
                if self.board.tick() is not None:
                    stream.publish()
                await asyncio.sleep(TICK_S)
            stream.close()
            self.proxy.cut()
            proxy.close()
            server.should_exit = True
            await serving


@pytest.fixture
def live(request: pytest.FixtureRequest) -> Iterator[LiveBoard]:
    """Parametrized indirectly by a role; else `desk`."""
    served = LiveBoard(getattr(request, "param", "desk"))
    try:
        yield served
    finally:
        served.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = browsers.find()
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=path,
            env={**browsers.environment(path)},
            args=["--no-sandbox", "--disable-gpu", "--disable-quic"],
        )
        yield launched
        launched.close()


class Visitor:
    """Opens pages, and fails the test for a console message, an exception, or a request to another origin."""

    def __init__(self, browser: Browser, live: LiveBoard) -> None:
        self._browser, self._live = browser, live
        self.faults: list[str] = []
        self.contexts: list[BrowserContext] = []
        self.urls: list[str] = []
        self.expected = ("net::ERR_",)
        """Console messages that a cut connection makes."""

    def open(self, hash_: str = "", **options: Any) -> Page:
        context = self._browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "locale": "en", **options}
        )
        context.set_default_timeout(WITHIN_MS)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._note(f"console: {message.text}"))
        page.on("pageerror", lambda error: self._note(f"exception: {error}"))
        page.on("request", lambda request: self._request(request.url))
        page.goto(f"{self._live.url}/{hash_}")
        page.wait_for_selector("#content")
        return page

    def _note(self, fault: str) -> None:
        if not any(each in fault for each in self.expected):
            self.faults.append(fault)

    def _request(self, url: str) -> None:
        self.urls.append(url)
        if not url.startswith(self._live.url):
            self.faults.append(f"a request to {url}")


@pytest.fixture
def visitor(chromium: Browser, live: LiveBoard) -> Iterator[Visitor]:
    opened = Visitor(chromium, live)
    yield opened
    for context in opened.contexts:
        context.close()
    assert opened.faults == []
