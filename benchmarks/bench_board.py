"""
The board, from a record in Kafka to the painted page: 1,000 agents and 200 changes a second, a real broker, the board as a process, a real
Chromium without a screen.

    python -m benchmarks.bench_board [--json] [--rounds 3] [--seconds 60] [--minutes 10] [--only painted]

Record to painted: the page notes the first frame after which a tile has the revision, or one that replaced it before it could be painted; its
clock is that of this host. The main thread's share is that of Chromium's own counter `TaskDuration`: CPU time. Board and Kafka have a core each,
Chromium, the writer and the readers any of them: all share two cores, so a busy machine shows in every figure. `load` is the load average of the
minute before each round.

The slowed page counts wall time, for it is slowed by pauses, each as long as the work before it would have taken more. A wait for a core counts
as work there, and is followed by a pause too: so its main thread has one core and all else the other. A supervisor's computer runs neither Kafka
nor the board.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson
from aiokafka import AIOKafkaProducer
from playwright.async_api import Browser, CDPSession, Page, async_playwright

from benchmarks.machine import described
from benchmarks.rig import (
    LOAD_CORE,
    SERVER_CORE,
    Bridge,
    await_answer,
    kafka,
    prepare,
    rss_mib,
    serving,
    serving_bridge,
)
from consumers.board.api import STATIC
from sandbox.broker import LocalKafka
from sandbox.simulator import SimulationPlan, events
from tests.processes import free_port
from tools import browser as browsers
from voipex.kafka.settings import KafkaSettings
from voipex.kafka.topics import apply_topics
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_STATUS, CALL_TIMELINES, topic_name, topics_for

AGENTS = 1000
RATE = 200
SLOW = 4
"""How many times slower the page's CPU is made: about a TV stick."""
STREAMS = 200
STALLED, GOOD = 10, 50
CALLS_PER_S = 50
_EXAMPLES = Path("docs/contract/examples")
_STATES = ("available", "on_call", "ringing", "paused", "offline", "consulting")
_TICKS = os.sysconf("SC_CLK_TCK")
_PARTITIONS = 3

Row = dict[str, Any]


class Bar(NamedTuple):
    """What was measured, and what it may be at most."""

    what: str
    value: float
    most: float
    unit: str


class Rig(NamedTuple):
    """A running board, and who writes its topics."""

    broker: LocalKafka
    port: int
    pid: int
    writer: "Writer"
    browser: Browser

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="of each round")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the measurement of the heap")
    parser.add_argument("--only", choices=list(CASES), nargs="*", default=list(CASES))
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.only:
        rounds = 1 if name == "heap" else options.rounds
        seconds = options.minutes * 60 if name == "heap" else options.seconds
        found: list[list[Bar]] = []
        loads: list[float] = []
        for number in range(rounds):
            loads.append(round(os.getloadavg()[0], 1))
            found.append(asyncio.run(CASES[name](seconds)))
            if not options.json:
                print(name, number + 1, f"load {loads[-1]}", *found[-1], sep="\n  ", flush=True)
            else:
                print(f"  {name} {number + 1} of {rounds}", file=sys.stderr, flush=True)
        rows += [_row(bars, loads) for bars in zip(*found, strict=True)]
    result = {
        "what": (
            f"{AGENTS:,} agents, {RATE} changes a second. Medians of {options.rounds} rounds of {options.seconds} s; the heap over "
            f"{options.minutes:g} minutes, once."
        ),
        **described(),
        "cases": rows,
    }
    print(json.dumps(result, indent=None if options.json else 1))


def _row(bars: tuple[Bar, ...], loads: list[float]) -> Row:
    first, values = bars[0], [bar.value for bar in bars]
    median = statistics.median(values)
    return {
        "figure": first.what,
        "measured": round(median, 3),
        "bar": first.most,
        "unit": first.unit,
        "met": "yes" if median <= first.most else "**no**",
        "rounds": ", ".join(f"{value:g}" for value in values),
        "load": ", ".join(map(str, loads)),
    }


# ---------------------------------------------------------------- documents


class Writer:
    """Writes agent status and timelines to Kafka as the services would, and remembers when each revision was written."""

    def __init__(self, broker: LocalKafka) -> None:
        self._producer: Any = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)  # type: ignore[no-untyped-call]
        self._chance = random.Random(7)
        self._status = orjson.loads((_EXAMPLES / "agent-status.json").read_bytes())
        self._timeline = orjson.loads((_EXAMPLES / "call-timeline.json").read_bytes())
        self.newest: dict[str, int] = {}
        self.written: dict[tuple[str, int], float] = {}

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def fill(self) -> None:
        for number in range(AGENTS):
            await self.write_agent(number)
        for number in range(300):
            await self.write_call(number)
        await self._producer.flush()

    async def write_agent(self, number: int) -> None:
        name = f"agent.{number:04d}"
        revision = self.newest[name] = self.newest.get(name, 0) + 1
        now = time.time()
        at = format_rfc3339(int(now * 1e6))
        state = self._chance.choice(_STATES)
        document = {
            **self._status,
            "agent": name,
            "login": name,
            "line": str(2000 + number),
            "state": state,
            "activity": "on_call_in" if state == "on_call" else "ringing" if state == "ringing" else "idle",
            "pause_name": "Oběd" if state == "paused" else None,
            "since": at,
            "last_event_at": at,
            "updated_at": at,
            "revision": revision,
        }
        self.written[name, revision] = now
        await self._producer.send(topic_name("voipex", AGENT_STATUS), orjson.dumps(document), name.encode())

    async def write_call(self, number: int) -> None:
        name = f"1772438400.{number}"
        revision = self.newest[name] = self.newest.get(name, 0) + 1
        at = format_rfc3339(time.time_ns() // 1000)
        document = {
            **self._timeline,
            "call_id": name,
            "from": f"777{number:06d}",
            "started_at": at,
            "updated_at": at,
            "revision": revision,
        }
        await self._producer.send(topic_name("voipex", CALL_TIMELINES), orjson.dumps(document), name.encode())

    async def change(self, seconds: float, rate: float = RATE) -> None:
        """Change agents, and a call with every fourth, at an even pace."""
        begun = time.perf_counter()
        for n in range(round(seconds * rate)):
            delay = begun + n / rate - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            if n % 4 == 3:
                await self.write_call(self._chance.randrange(300))
            else:
                await self.write_agent(self._chance.randrange(AGENTS))


@contextlib.asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    """Start Kafka, a board with all agents, and a Chromium."""
    with kafka() as broker:
        settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
        await apply_topics(settings, topics_for(["voipex"], _PARTITIONS), 1, 1)
        async with Writer(broker) as writer:
            await writer.fill()
            with board(broker) as (port, pid):
                async with chromium() as browser:
                    yield Rig(broker, port, pid, writer, browser)


@contextlib.contextmanager
def board(broker: LocalKafka) -> Iterator[tuple[int, int]]:
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOIPEX_")},
        "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "VOIPEX_PORT": str(port),
        "VOIPEX_LOG_LEVEL": "warning",
    }
    with serving(["-m", "consumers", "board"], environment, f"http://127.0.0.1:{port}/ready") as process:
        yield port, process.pid


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = browsers.find()
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=path,
            env={**browsers.environment(path)},
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--enable-precise-memory-info"],
        )
        yield launched
        await launched.close()


# ---------------------------------------------------------------- the page

_NOTE = """() => {
  window.painted = []; window.longTasks = [];
  const seen = new Map();
  new MutationObserver(changes => {
    const names = [];
    for (const {target} of changes) {
      if (!target.dataset.agent) continue;
      const key = target.dataset.agent + ' ' + target.dataset.revision;
      if (!seen.has(key)) { seen.set(key, 1); names.push([target.dataset.agent, Number(target.dataset.revision)]); }
    }
    if (names.length) requestAnimationFrame(() => { const channel = new MessageChannel();
      channel.port1.onmessage = () => { const at = performance.timeOrigin + performance.now(); for (const each of names) window.painted.push([...each, at]); };
      channel.port2.postMessage(0); });
  }).observe(document.getElementById('board'), {subtree: true, attributes: true, attributeFilter: ['data-revision']});
  new PerformanceObserver(list => { for (const each of list.getEntries()) window.longTasks.push(each.duration); }).observe({type: 'longtask'});
}"""
"""Note when each revision of a tile is painted: a message posted in an animation frame is handled after its paint."""

_TILES = """new MutationObserver((_, observer) => {
  if (document.querySelectorAll('.tile').length < %d) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.tilesAt = performance.now(); }, 0));
}).observe(document, {subtree: true, childList: true});"""


_MISSING = """newest => {
  const held = {};
  for (const [name, revision] of window.painted) held[name] = revision;
  return Object.keys(held).some(name => held[name] < newest[name.slice(name.indexOf('/') + 1)]);
}"""


class Load(NamedTuple):
    """How long a page took to open, in ms from the navigation."""

    first_content_ms: float
    tiles_ms: float


async def opened(rig_: Rig, view: str = "#/agents", *, slowed: bool = False) -> tuple[Page, CDPSession, Load]:
    context = await rig_.browser.new_context(viewport={"width": 1920, "height": 1080}, locale="en")
    page = await context.new_page()
    page.set_default_timeout(120_000)
    cdp = await context.new_cdp_session(page)
    await cdp.send("Performance.enable", {"timeDomain": "timeTicks" if slowed else "threadTicks"})
    await page.add_init_script(_TILES.replace("%d", str(AGENTS)))
    await page.goto(f"{rig_.url}/{view}")
    await page.locator(f".tile >> nth={AGENTS - 1}").wait_for(state="attached")
    await asyncio.sleep(1)
    tiles_ms = await page.evaluate("window.tilesAt")
    first_ms = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    return page, cdp, Load(first_ms, tiles_ms)


async def busy_s(cdp: CDPSession) -> float:
    found = await cdp.send("Performance.getMetrics")
    return float(next(each["value"] for each in found["metrics"] if each["name"] == "TaskDuration"))


@contextlib.asynccontextmanager
async def main_thread_alone(rig_: Rig) -> AsyncIterator[None]:
    """Let the main threads of pages run on the load's core, and all else of the rig on the other."""
    session = await rig_.browser.new_browser_cdp_session()
    found = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    pages = {int(each["id"]) for each in found if each["type"] == "renderer"}
    assert rig_.broker.pid is not None  # it runs
    for process in {
        os.getpid(),
        rig_.broker.pid,
        rig_.pid,
        *_started(),
        *(int(each["id"]) for each in found),
    }:
        _pin(process, lambda thread: {int(LOAD_CORE if thread in pages else SERVER_CORE)})
    try:
        yield
    finally:
        _pin(os.getpid(), lambda _: {int(SERVER_CORE), int(LOAD_CORE)})


def _started() -> set[int]:
    """The processes that this one started."""
    return {
        int(child)
        for thread in Path("/proc/self/task").iterdir()
        for child in (thread / "children").read_text().split()
    }


def _pin(process: int, cores_of: Callable[[int], set[int]]) -> None:
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores_of(int(thread.name)))


class Watched(NamedTuple):
    latencies_ms: list[float]
    long_tasks_ms: list[float]
    busy_share: float


async def watched(rig_: Rig, page: Page, cdp: CDPSession, seconds: float) -> Watched:
    """Change documents for so long, and return what the page noted."""
    await page.evaluate(_NOTE)
    await rig_.writer.change(3)
    await page.evaluate("window.longTasks.length = 0")
    from_s = time.time()
    before, begun = await busy_s(cdp), time.perf_counter()
    await rig_.writer.change(seconds)
    share = (await busy_s(cdp) - before) / (time.perf_counter() - begun)
    async with asyncio.timeout(60):
        while await page.evaluate(_MISSING, rig_.writer.newest):  # noqa: ASYNC110 - the page is asked
            await asyncio.sleep(0.2)
    long_tasks = await page.evaluate("window.longTasks")
    painted_ms: dict[str, list[tuple[int, float]]] = {}
    for name, revision, at_ms in await page.evaluate("window.painted"):
        painted_ms.setdefault(name.partition("/")[2], []).append((revision, at_ms))
    latencies = [
        shown_ms(painted_ms[name], revision) - at_s * 1000
        for (name, revision), at_s in rig_.writer.written.items()
        if at_s >= from_s
    ]
    return Watched(latencies, long_tasks, share)


def shown_ms(painted: list[tuple[int, float]], revision: int) -> float:
    """Return when a revision, or one that replaced it before it could be painted, was painted."""
    return next(at_ms for shown, at_ms in painted if shown >= revision)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)


# ---------------------------------------------------------------- cases


async def painted(seconds: float) -> list[Bar]:
    async with rig() as it:
        page, cdp, load = await opened(it)
        found = await watched(it, page, cdp, seconds)
        await page.context.close()
        slow_page, slow_cdp, _ = await opened(it, slowed=True)
        async with main_thread_alone(it):
            await slow_cdp.send("Emulation.setCPUThrottlingRate", {"rate": SLOW})
            await asyncio.sleep(2)
            slow = await watched(it, slow_page, slow_cdp, seconds)
    return [
        Bar("record to painted, p95", percentile(found.latencies_ms, 0.95), 500, "ms"),
        Bar("record to painted, max", percentile(found.latencies_ms, 1), 1500, "ms"),
        Bar("tasks over 50 ms after the first paint", sum(each > 50 for each in found.long_tasks_ms), 0, ""),
        Bar("main thread", round(found.busy_share * 100, 1), 25, "%"),
        Bar(f"page slowed {SLOW} times: longest task", round(max(slow.long_tasks_ms, default=0)), 200, "ms"),
        Bar(f"page slowed {SLOW} times: main thread", round(slow.busy_share * 100, 1), 60, "%"),
        Bar(
            f"page slowed {SLOW} times: record to painted, p95",
            percentile(slow.latencies_ms, 0.95),
            1500,
            "ms",
        ),
        Bar("first content, from the navigation", round(load.first_content_ms), 500, "ms"),
        Bar("1,000 tiles drawn, from the navigation", round(load.tiles_ms), 1000, "ms"),
        Bar("all files of the pages", round(sum(map(_size, STATIC.rglob("*"))) / 1000, 1), 150, "KB"),
    ]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() and path.suffix not in (".txt", ".json") else 0


async def heap(seconds: float) -> list[Bar]:
    async with rig() as it:
        page, cdp, _ = await opened(it)
        await it.writer.change(30)
        before = await _heap(cdp)
        await it.writer.change(seconds)
        after = await _heap(cdp)
        await page.context.close()
    grown, nodes = after[0] - before[0], abs(after[1] - before[1]) / before[1]
    return [
        Bar(f"growth of the heap in {seconds / 60:g} minutes", round(grown / 1e6, 2), 10, "MB"),
        Bar("change of the number of DOM nodes", round(nodes * 100, 2), 1, "%"),
    ]


async def _heap(cdp: CDPSession) -> tuple[float, int]:
    for _ in range(3):
        await cdp.send("HeapProfiler.collectGarbage")
    used = await cdp.send("Runtime.getHeapUsage")
    counters = await cdp.send("Memory.getDOMCounters")
    return used["usedSize"], counters["nodes"]


async def streams(seconds: float) -> list[Bar]:
    """The board's process with many readers who take everything."""
    async with rig() as it:
        alone_mib = rss_mib(it.pid)
        clients = [asyncio.create_task(_follow(it.port, None)) for _ in range(STREAMS)]
        await it.writer.change(5)
        before, begun = _cpu_s(it.pid), time.perf_counter()
        await it.writer.change(seconds)
        share = (_cpu_s(it.pid) - before) / (time.perf_counter() - begun)
        assert await _readers(it.port) == STREAMS
        with_mib = rss_mib(it.pid)
        await _cancelled(clients)
    return [
        Bar(f"board with {STREAMS} streams: of a core", round(share * 100, 1), 40, "%"),
        Bar(f"board with {STREAMS} streams: memory", with_mib, 150, "MiB"),
        Bar("board without streams: memory", alone_mib, 150, "MiB"),
    ]


async def stalled(seconds: float) -> list[Bar]:
    """Readers who take nothing, beside good ones."""
    async with rig() as it:
        latencies: list[float] = []
        clients = [asyncio.create_task(_follow(it.port, latencies)) for _ in range(GOOD)]
        await it.writer.change(5)
        latencies.clear()
        await it.writer.change(seconds)
        usual_ms, before_mib = percentile(latencies, 0.95), rss_mib(it.pid)
        stuck = [_stuck(it.port) for _ in range(STALLED)]
        begun = time.perf_counter()
        latencies.clear()
        grown, gone_s = 0.0, 999.0
        changing = asyncio.create_task(it.writer.change(max(seconds, 130)))
        while not changing.done():
            grown = max(grown, rss_mib(it.pid) - before_mib)
            if gone_s == 999.0 and time.perf_counter() - begun > 2 and await _readers(it.port) <= GOOD:
                gone_s = time.perf_counter() - begun
                if gone_s > seconds / 2:
                    changing.cancel()
            await asyncio.sleep(0.5)
        await asyncio.gather(changing, return_exceptions=True)
        beside_ms = percentile(latencies, 0.95)
        for each in stuck:
            each.close()
        await _cancelled(clients)
    return [
        Bar(f"{GOOD} good streams, p95 alone", usual_ms, 500, "ms"),
        Bar(
            f"{GOOD} good streams, p95 beside {STALLED} stalled: of that",
            round(beside_ms / usual_ms, 3),
            1.2,
            "",
        ),
        Bar("growth of the board's memory meanwhile", round(grown, 1), 20, "MiB"),
        Bar("the stalled are gone after", round(gone_s, 1), 120, "s"),
    ]


async def posted(seconds: float) -> list[Bar]:
    """From the bridge's receipt of an event, through all services, to the agent's tile."""
    with kafka() as broker, tempfile.TemporaryDirectory(prefix="bench-", dir=".") as name:
        folder = Path(name)
        bridge = prepare(folder, broker, VOIPEX_TOPIC_PARTITIONS=str(_PARTITIONS))
        with (
            serving_bridge(bridge),
            _consumer("timelines", folder, bridge) as timelines,
            _consumer("agents", folder, bridge) as agents,
            board(broker) as (port, _),
        ):
            for each in (timelines, agents):
                await_answer(f"http://127.0.0.1:{each}/ready")
            async with chromium() as browser:
                latencies = await _posts(bridge, browser, port, seconds)
    return [
        Bar(f"POST to painted at {CALLS_PER_S} calls/s, p50", percentile(latencies, 0.5), 1500, "ms"),
        Bar(f"POST to painted at {CALLS_PER_S} calls/s, p95", percentile(latencies, 0.95), 1500, "ms"),
    ]


_NOTE_EVENTS = """async () => {
  const {store} = await import('/static/store.mjs');
  window.painted = [];
  const seen = new Map();
  new MutationObserver(changes => {
    const found = [];
    for (const name of new Set(changes.map(each => each.target.dataset.agent))) {
      const at = store.rows.agents.get(name)?.last_event_at;
      if (at && at > (seen.get(name) ?? '')) { seen.set(name, at); found.push([name, at]); }
    }
    if (found.length) requestAnimationFrame(() => { const channel = new MessageChannel();
      channel.port1.onmessage = () => { const now = performance.timeOrigin + performance.now(); for (const each of found) window.painted.push([...each, now]); };
      channel.port2.postMessage(0); });
  }).observe(document.getElementById('board'), {subtree: true, attributes: true, childList: true, attributeFilter: ['data-revision']});
}"""


async def _posts(bridge: Bridge, browser: Browser, port: int, seconds: float) -> list[float]:
    context = await browser.new_context(viewport={"width": 1920, "height": 1080}, locale="en")
    page = await context.new_page()
    await page.goto(f"http://127.0.0.1:{port}/#/agents")
    plan = SimulationPlan(
        agents=600, queues=20, calls_per_s=CALLS_PER_S, speed=15.0, started_at_s=int(time.time())
    )
    playing = asyncio.create_task(_play(bridge, plan, seconds + 25))
    await asyncio.sleep(20)  # agents log in, the first calls end
    await page.evaluate(_NOTE_EVENTS)
    await asyncio.sleep(5)
    await page.evaluate("window.painted.length = 0")
    await playing
    await asyncio.sleep(3)
    painted_rows = await page.evaluate("window.painted")
    await context.close()
    latencies = [now - _ms(at) for _, at, now in painted_rows]
    assert len(latencies) > seconds * CALLS_PER_S * 0.5, f"only {len(latencies)} events were painted"
    return latencies


def _ms(at: str) -> float:
    seconds = time.mktime(time.strptime(at[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    return seconds * 1000 + int(at[20:26]) / 1000


async def _play(bridge: Bridge, plan: SimulationPlan, seconds: float) -> None:
    """Post the simulated events when they are due."""
    due: asyncio.Queue[Mapping[str, str] | None] = asyncio.Queue()
    workers = [asyncio.create_task(_post(bridge, due)) for _ in range(16)]
    begun = time.perf_counter()
    for at_s, body in events(plan):
        if at_s > seconds:
            break
        delay = begun + at_s - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        due.put_nowait(body)
    for _ in workers:
        due.put_nowait(None)
    await asyncio.gather(*workers)


async def _post(bridge: Bridge, due: "asyncio.Queue[Mapping[str, str] | None]") -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    head = f"POST /voipex HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {bridge.token}\r\nContent-Length: "
    while (item := await due.get()) is not None:
        body = orjson.dumps(item)
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
    writer.close()


@contextlib.contextmanager
def _consumer(name: str, folder: Path, bridge: Bridge) -> Iterator[int]:
    port = free_port()
    environment = {
        **bridge.environment,
        "VOIPEX_MANAGEMENT_PORT": str(port),
        "VOIPEX_STATE_DIR": str(folder / name),
        "VOIPEX_LOG_LEVEL": "warning",
    }
    with serving(["-m", "consumers", name], environment, f"http://127.0.0.1:{port}/live"):
        yield port


# ---------------------------------------------------------------- readers without a browser

_UPDATED = re.compile(rb'"updated_at":"([^"]+)"')


async def _follow(port: int, latencies_ms: list[float] | None) -> None:
    """Take everything. Note the age of the oldest document of each frame, which is what the slowest tile of a page shows."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        writer.write(b"GET /api/stream HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        while True:
            event = await reader.readuntil(b"\n\n")
            if latencies_ms is not None and b"event: change" in event:
                oldest = min(_UPDATED.findall(event), default=None)
                if oldest is not None:
                    latencies_ms.append(time.time() * 1000 - _ms(oldest.decode()))
    finally:
        writer.close()


def _stuck(port: int) -> socket.socket:
    """Ask for the stream and never read."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", port))
    made.sendall(b"GET /api/stream HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    return made


async def _readers(port: int) -> int:
    text = (await asyncio.to_thread(_get, port, "/metrics")).decode()
    return int(float(re.search(r"^voipex_board_readers (\S+)", text, re.MULTILINE)[1]))  # type: ignore[index]


def _get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        content: bytes = answer.read()
    return content


async def _cancelled(tasks: list["asyncio.Task[None]"]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


CASES: dict[str, Callable[[float], Coroutine[Any, Any, list[Bar]]]] = {
    "painted": painted,
    "posted": posted,
    "streams": streams,
    "stalled": stalled,
    "heap": heap,
}


if __name__ == "__main__":
    main()
