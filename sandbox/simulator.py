"""
A PBX that does not exist: realistic calls for demonstrations, tests and benchmarks.

`events` is pure: the same plan gives the same events at the same times. Each call and each agent's shift is a small generator that says
what happens and yields the seconds until its next step; one heap of them is the whole exchange. `play` posts these events to a bridge in
real time, as VOIPEX would.

Nobody is called by it: Czech numbers are 60100xxxx, foreign ones from Ofcom's range for drama, e-mails end in example.cz.
"""

import asyncio
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Final, TextIO, cast
from urllib.parse import urlsplit
from zlib import crc32

import httptools
import orjson

from voipex.timestamps import rfc3339

# ---------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """
    What to simulate.

    calls_per_s: new calls per second, of which four in ten are no queue calls. A call has about 6 events, more when agents are many.
    speed: how many times shorter than in life conversations, rings, pauses and shifts are; at 5 a call takes some 15 seconds. Only the
        break before an agent's phone rings again for the same call keeps its 5 seconds.
    agents: one of five is a static member, who never logs in. Whoever waits in a queue without a free agent gives up after a while.
    started_at_s: seconds since 1970, the epoch in every UniqueId. The same one on the same Kafka means the same calls once more; `play`
        sets it to the current time when it is None.
    calls_for_s: no new calls after so many seconds; then the events end with the last call. None: they never end.
    """

    seed: int = 1
    agents: int = 8
    queues: int = 2
    calls_per_s: float = 0.5
    speed: float = 5.0
    pbx: str = "voipex"
    started_at_s: int | None = None
    calls_for_s: float | None = None

    def __post_init__(self) -> None:
        if self.agents < 1 or self.queues < 1 or self.calls_per_s <= 0 or self.speed <= 0:
            raise ValueError("a simulation needs agents, queues, calls_per_s and speed above zero")

    @classmethod
    def at_rate(cls, events_per_s: float, seed: int = 1) -> "SimulationPlan":
        """Plan about so many events per second, for benchmarks: short calls, enough agents, and the rate is reached in seconds."""
        calls_per_s = events_per_s / _EVENTS_PER_CALL
        agents = max(8, round(calls_per_s * 6))
        return cls(seed, agents, max(1, agents // 10), calls_per_s, speed=25.0)


_EVENTS_PER_CALL: Final = 7.6  # where no caller waits for an agent
_DEFAULT_START_S: Final = 1_772_438_400  # 2026-03-02T08:00:00Z
_RING_AGAIN_S: Final = 5.0  # VOIPEX: a queue waits at least so long before it rings the same agent again
_RING_AT_ONCE: Final = 3  # so that a queue of a thousand agents (benchmarks) does not ring them all
_LOOKED_AT: Final = 32  # members that are asked whether they are free, at most
_STATIC_EVERY: Final = 5

_LOGINS: Final = ("novak", "svobodova", "dvorak", "cerna", "prochazka", "kucerova", "horak", "nemcova")
_QUEUES: Final = ("Podpora", "Obchod", "Fakturace", "Reklamace", "NOC", "Recepce")
_PAUSES: Final = ("Oběd", "Přestávka", "Školení", "Porada", "Administrativa", "Kouření")
_SUPERVISOR_LINE: Final = "199"


def events(plan: SimulationPlan) -> Iterator[tuple[float, dict[str, str]]]:
    """Yield (seconds since the start, body) in order of time. A body is shared with nobody, and keeps VOIPEX's order of keys."""
    pbx = _Pbx(plan)
    running: list[tuple[float, int, _Process]] = []
    started = 0
    while True:
        for process in pbx.starting:
            started += 1
            heappush(running, (pbx.now, started, process))
        pbx.starting.clear()
        if plan.calls_for_s is not None and pbx.now >= plan.calls_for_s and pbx.open_calls == 0:
            return
        pbx.now, number, process = heappop(running)
        pause_s = next(process, None)
        for body in pbx.said:
            yield pbx.now, body
        pbx.said.clear()
        if pause_s is not None:
            heappush(running, (pbx.now + pause_s, number, process))


# ---------------------------------------------------------------- people and calls

_Process = Generator[float, None, None]


@dataclass(slots=True, eq=False)
class _Agent:
    line: str
    login: str
    email: str
    queues: tuple["_Queue", ...]
    static: bool
    logged_in: bool
    paused: bool = False
    busy: bool = False

    @property
    def free(self) -> bool:
        return self.logged_in and not self.paused and not self.busy


@dataclass(slots=True, eq=False)
class _Queue:
    name: str
    number: str
    members: deque[_Agent] = field(default_factory=deque)

    def take(self, at_most: int) -> list[_Agent]:
        """Claim free members, those who waited longest first."""
        taken: list[_Agent] = []
        for _ in range(min(len(self.members), _LOOKED_AT)):
            agent = self.members[0]
            self.members.rotate(-1)
            if agent.free:
                agent.busy = True
                taken.append(agent)
                if len(taken) == at_most:
                    break
        return taken


class _Pbx:
    """What all calls share: the time, chance, people, and what was said at this moment."""

    def __init__(self, plan: SimulationPlan) -> None:
        self.plan = plan
        self.random = Random(plan.seed)  # noqa: S311  # repeatable by intent
        self.now = 0.0
        self.said: list[dict[str, str]] = []
        self.open_calls = 0
        self._epoch_s = _DEFAULT_START_S if plan.started_at_s is None else plan.started_at_s
        self._sequence = 0
        self.queues = [
            _Queue(_QUEUES[n] if n < len(_QUEUES) else f"Fronta {n + 1}", str(222_333_401 + n))
            for n in range(plan.queues)
        ]
        self.agents = [self._hire(n) for n in range(plan.agents)]
        self.supervisor = _Agent(_SUPERVISOR_LINE, "vedouci", "vedouci@example.cz", (), True, True)
        self.starting: list[_Process] = [_shift(self, agent) for agent in self.agents if not agent.static]
        self.starting.append(_arrivals(self))

    def _hire(self, number: int) -> _Agent:
        login = _LOGINS[number % len(_LOGINS)] + (
            str(number // len(_LOGINS) + 1) if number >= len(_LOGINS) else ""
        )
        first = self.queues[number % len(self.queues)]
        second = self.queues[(number + 1) % len(self.queues)]
        in_two = number % 3 == 0 and second is not first
        static = number % _STATIC_EVERY == _STATIC_EVERY - 1
        agent = _Agent(
            str(200 + number),
            login,
            f"{login}@example.cz",
            (first, second) if in_two else (first,),
            static,
            logged_in=static,
        )
        for queue in agent.queues:
            queue.members.append(agent)
        return agent

    def in_life(self, least_s: float, most_s: float) -> float:
        """A length of time as people take it, at this plan's speed."""
        return self.random.uniform(least_s, most_s) / self.plan.speed

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def customer(self) -> str:
        if self.chance(0.04):
            return f"+447700900{self.random.randrange(1000):03}"
        return f"60100{self.random.randrange(10_000):04}"

    def take_anyone(self) -> _Agent | None:
        """Claim a free agent of any queue; None when there seems to be none."""
        for _ in range(8):
            agent = self.random.choice(self.agents)
            if agent.free:
                agent.busy = True
                return agent
        return None

    def unique_id(self) -> str:
        self._sequence += 1
        return f"{self._epoch_s + int(self.now)}.{self._sequence}"


class _Call:
    """One call's words: what is the same in all its events."""

    def __init__(self, pbx: _Pbx, number_from: str, number_to: str, direction: str, queue: str = "") -> None:
        self._pbx = pbx
        self._from, self._to = number_from, number_to
        self._direction, self._queue = direction, queue
        self._unique_id = pbx.unique_id()

    def say(
        self,
        event_name: str,
        agent: _Agent | None = None,
        *,
        by: _Agent | None = None,
        direction: str | None = None,
        reason: str = "",
    ) -> None:
        """`by`: the colleague who consults, so that the leg goes from line to line. No agent: what concerns the whole call."""
        body = {
            "EventName": event_name,
            "From": self._from if by is None else by.line,
            "To": self._to if by is None or agent is None else agent.line,
            "Line": "" if agent is None else agent.line,
            "Email": "" if agent is None else agent.email,
            "Login": "" if agent is None else agent.login,
            "UniqueId": self._unique_id,
        }
        if self._queue and agent is not None and by is None:
            body["Queue"] = self._queue
        body["Direction"] = self._direction if direction is None else direction
        if reason:
            body["Reason"] = reason
        self._pbx.said.append(body)

    def leave_queue(self) -> None:
        """Whoever takes over by a transfer was not rung by the queue."""
        self._queue = ""

    def hang_up(self, agent: _Agent | None, reason: str, *, by: _Agent | None = None) -> None:
        self.say("Hangup", agent, by=by, reason=reason)


_NORMAL: Final = "Normal Clearing"
_NO_RESPONSE: Final = "No user response"


def _arrivals(pbx: _Pbx) -> _Process:
    kinds = (_queue_call, _outgoing_call, _direct_call, _internal_call, _hurried_caller)
    while True:
        yield pbx.random.expovariate(pbx.plan.calls_per_s)
        if pbx.plan.calls_for_s is not None and pbx.now >= pbx.plan.calls_for_s:
            return
        kind = pbx.random.choices(kinds, weights=(60, 22, 8, 7, 3))[0]
        pbx.starting.append(_counted(pbx, kind(pbx)))


def _counted(pbx: _Pbx, call: _Process) -> _Process:
    pbx.open_calls += 1
    yield 0.0
    yield from call
    pbx.open_calls -= 1


def _queue_call(pbx: _Pbx) -> _Process:
    """Rings a few agents at a time, again after a break when none answers, until the caller loses patience."""
    queue = pbx.random.choice(pbx.queues)
    call = _Call(pbx, pbx.customer(), queue.number, "incoming", queue.name)
    call.say("NewCall")
    yield pbx.in_life(1, 6)
    gives_up_at = pbx.now + pbx.in_life(40, 150)
    while pbx.now < gives_up_at:
        rung = queue.take(_RING_AT_ONCE)
        if not rung:
            yield pbx.in_life(5, 10)
            continue
        for agent in rung:
            call.say("Ringing", agent)
            yield 0.02
        if pbx.chance(0.8):
            yield pbx.in_life(2, 10)
            yield from _answer(pbx, call, rung)
            return
        lost_patience = pbx.chance(0.3)
        yield pbx.in_life(3, 10) if lost_patience else pbx.in_life(14, 16)
        for agent in rung:
            if pbx.chance(0.95):  # webhooks do get lost
                call.hang_up(agent, _NORMAL if lost_patience else _NO_RESPONSE)
            agent.busy = False
        if lost_patience:
            break
        yield _RING_AGAIN_S + pbx.random.uniform(0, 0.5)
    call.hang_up(None, _NORMAL)
    yield from _cdr(pbx, call)


def _answer(pbx: _Pbx, call: _Call, rung: list[_Agent]) -> _Process:
    agent = rung.pop(pbx.random.randrange(len(rung)))
    call.say("Answered", agent)
    yield 0.1
    for other in rung:
        call.hang_up(other, "Answered elsewhere")
        other.busy = False
    yield from _conversation(pbx, call, agent)


def _conversation(pbx: _Pbx, call: _Call, agent: _Agent) -> _Process:
    """From the answer to the last Hangup; whoever talks last goes free."""
    yield pbx.in_life(10, 30)
    course = pbx.random.choices(
        (_just_talk, _attended_transfer, _cancelled_transfer, _blind_transfer, _barge),
        weights=(62, 13, 7, 10, 8),
    )[0]
    last = yield from course(pbx, call, agent)
    if pbx.chance(0.99):  # else its Hangup got lost, and only the CDR tells of the end
        call.hang_up(last, _NORMAL)
    yield from _cdr(pbx, call)
    yield pbx.in_life(3, 10)  # notes
    last.busy = False


_Course = Generator[float, None, _Agent]
"""A part of a conversation; returns who talks to the customer in the end."""


def _just_talk(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    del call
    yield pbx.in_life(0, 60)
    return agent


def _attended_transfer(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    """Asks a colleague first. One in four hangs up while the colleague's phone still rings."""
    colleague = pbx.take_anyone()
    if colleague is None:
        return (yield from _just_talk(pbx, call, agent))
    call.say("Ringing", colleague, by=agent)
    yield pbx.in_life(3, 8)
    waits = pbx.chance(0.75)
    if waits:
        call.say("Answered", colleague, by=agent)
        yield pbx.in_life(5, 20)
    call.say("AttendedTransfer", agent)
    agent.busy = False
    call.leave_queue()
    if not waits:
        yield pbx.in_life(1, 4)
        call.say("Answered", colleague)
    yield pbx.in_life(15, 60)
    return colleague


def _cancelled_transfer(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    """Asks a colleague, who answers or not, and goes on alone."""
    colleague = pbx.take_anyone()
    if colleague is None:
        return (yield from _just_talk(pbx, call, agent))
    call.say("Ringing", colleague, by=agent)
    yield pbx.in_life(3, 10)
    answers = pbx.chance(0.6)
    if answers:
        call.say("Answered", colleague, by=agent)
        yield pbx.in_life(5, 20)
    call.say("CancelAttendedTransfer", agent)
    yield 0.1
    call.hang_up(colleague, _NORMAL if answers else _NO_RESPONSE, by=agent)
    colleague.busy = False
    yield pbx.in_life(5, 30)
    return agent


def _blind_transfer(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    """Hands the caller over without a word: VOIPEX has no event for that, a Hangup and another phone's Ringing is all there is."""
    colleague = pbx.take_anyone()
    if colleague is None:
        return (yield from _just_talk(pbx, call, agent))
    call.hang_up(agent, _NORMAL)
    agent.busy = False
    call.leave_queue()
    yield pbx.random.uniform(0, 0.3)
    call.say("Ringing", colleague)
    yield pbx.in_life(3, 12)
    call.say("Answered", colleague)
    yield pbx.in_life(15, 60)
    return colleague


def _barge(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    """A supervisor listens in, one conversation at a time."""
    supervisor = pbx.supervisor
    if supervisor.busy:
        return (yield from _just_talk(pbx, call, agent))
    supervisor.busy = True
    call.say("Ringing", supervisor, direction="barge")
    yield pbx.in_life(1, 2)
    call.say("Answered", supervisor, direction="barge")
    yield pbx.in_life(10, 40)
    call.say("Hangup", supervisor, direction="barge", reason=_NORMAL)
    supervisor.busy = False
    yield pbx.in_life(5, 30)
    return agent


def _cdr(pbx: _Pbx, call: _Call) -> _Process:
    yield pbx.random.uniform(0.1, 0.6)
    call.say("CDR")


def _outgoing_call(pbx: _Pbx) -> _Process:
    agent = pbx.take_anyone()
    if agent is None:
        yield from _queue_call(pbx)
        return
    call = _Call(pbx, agent.line, pbx.customer(), "outgoing")
    call.say("NewCall")
    yield 0.2
    call.say("Ringing", agent)
    fate = pbx.random.choices(
        ("answered", "User busy", _NO_RESPONSE, "Call Rejected", "Subscriber absent", "Unallocated number"),
        weights=(60, 12, 18, 4, 3, 3),
    )[0]
    if fate == "answered":
        yield pbx.in_life(4, 20)
        call.say("Answered", agent)
        yield from _conversation(pbx, call, agent)
        return
    yield pbx.in_life(15, 40) if fate == _NO_RESPONSE else pbx.in_life(1, 5)
    call.hang_up(agent, fate)
    agent.busy = False
    yield from _cdr(pbx, call)


def _direct_call(pbx: _Pbx) -> _Process:
    """A customer dials an agent's own number."""
    agent = pbx.take_anyone()
    if agent is None:
        yield from _hurried_caller(pbx)
        return
    call = _Call(pbx, pbx.customer(), agent.line, "incoming")
    yield from _ring_one(pbx, call, agent)


def _internal_call(pbx: _Pbx) -> _Process:
    caller = pbx.take_anyone()
    callee = pbx.take_anyone() if caller is not None else None
    if caller is not None and callee is not None:
        direction = pbx.random.choice(("incomingLocal", "incominglocal"))
        yield from _ring_one(pbx, _Call(pbx, caller.line, callee.line, direction), callee)
    if caller is not None:
        caller.busy = False


def _ring_one(pbx: _Pbx, call: _Call, agent: _Agent) -> _Process:
    call.say("NewCall")
    yield 0.2
    call.say("Ringing", agent)
    if pbx.chance(0.7):
        yield pbx.in_life(2, 12)
        call.say("Answered", agent)
        yield from _conversation(pbx, call, agent)
        return
    yield pbx.in_life(10, 25)
    call.hang_up(agent, _NORMAL)
    agent.busy = False
    yield 0.01
    call.hang_up(None, _NO_RESPONSE)
    yield from _cdr(pbx, call)


def _hurried_caller(pbx: _Pbx) -> _Process:
    """Hangs up before any phone rings."""
    call = _Call(pbx, pbx.customer(), pbx.random.choice(pbx.queues).number, "incoming")
    call.say("NewCall")
    yield pbx.random.uniform(0.05, 1)
    call.hang_up(None, _NO_RESPONSE)


# ---------------------------------------------------------------- shifts


def _shift(pbx: _Pbx, agent: _Agent) -> _Process:
    """Log in, pause now and then, go and come back; never in the middle of a call."""
    yield pbx.random.uniform(0, 3)
    _agent_says(pbx, agent, "AgentLogin")
    agent.logged_in = True
    yield pbx.in_life(30, 900)
    while True:
        while agent.busy:
            yield 0.5
        if pbx.chance(0.9):
            yield from _pause(pbx, agent)
        else:
            agent.logged_in = False
            _agent_says(pbx, agent, "AgentLogout")
            yield pbx.in_life(60, 300)
            _agent_says(pbx, agent, "AgentLogin")
            agent.logged_in = True
        yield pbx.in_life(300, 1800)


def _pause(pbx: _Pbx, agent: _Agent) -> _Process:
    """Pause in all queues, or now and then in one of two; who does that still takes calls."""
    name = pbx.random.choice(_PAUSES)
    partly = len(agent.queues) > 1 and pbx.chance(0.3)
    queues = agent.queues[:1] if partly else agent.queues
    agent.paused = not partly
    _agent_says(pbx, agent, "AgentPaused", queues, name)
    yield pbx.in_life(60, 400)
    _agent_says(pbx, agent, "AgentUnPaused", queues)
    agent.paused = False


def _agent_says(
    pbx: _Pbx, agent: _Agent, event_name: str, queues: tuple[_Queue, ...] | None = None, pause_name: str = ""
) -> None:
    """One event per queue, as VOIPEX does."""
    for queue in agent.queues if queues is None else queues:
        body = {
            "EventName": event_name,
            "Queue": queue.name,
            "Login": agent.login,
            "Line": agent.line,
            "Email": agent.email,
        }
        if pause_name:
            body["PauseName"] = pause_name
        pbx.said.append(body)


# ---------------------------------------------------------------- playing it to a bridge


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """
    What came of it so far.

    answers: how many by status; an event that was asked to come again counts each time.
    accepted: events answered 2xx. given_up: events never answered, or not by 2xx.
    broken_connections: how often a connection failed, and the event was sent again on a new one.
    behind_s: how late the last event was handed to a connection; it grows when the bridge is slower than the plan.
    """

    sent: int
    accepted: int
    given_up: int
    answers: Mapping[int, int]
    broken_connections: int
    elapsed_s: float
    behind_s: float


async def play(
    plan: SimulationPlan,
    url: str,
    user: str,
    password: str,
    *,
    duration_s: float | None = None,
    record_to: Path | None = None,
    on_progress: Callable[[SimulationReport], None] | None = None,
    connections: int = 16,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> SimulationReport:
    """
    Post the plan's events to *url* in real time, until they end, `duration_s` is over, or cancelled.

    Events of one call, and of one agent, go through one connection: the next is not sent before the last was answered. 503 is asked
    again after Retry-After, a broken connection is made anew, any other answer is final.

    `record_to`: each accepted event as a JSON line `{"received_at", "pbx", "body"}`, with the time of its answer, in that order; what
    `voipex-consumers explain` reads. `on_progress` is called once a second, and at the very end also when cancelled.
    """
    if plan.started_at_s is None:
        plan = replace(plan, started_at_s=now_us() // 1_000_000)
    player = _Player(plan, _Door.of(url, user, password), duration_s, connections, now_us)
    record = record_to.open("w", encoding="utf-8") if record_to is not None else None
    try:
        await player.run(record, on_progress)
    finally:
        if record is not None:
            record.close()
        if on_progress is not None:
            on_progress(player.report())
    return player.report()


@dataclass(frozen=True, slots=True)
class _Door:
    """Where to knock, and the request up to its length."""

    host: str
    port: int
    tls: bool
    head: bytes

    @classmethod
    def of(cls, url: str, user: str, password: str) -> "_Door":
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"{url!r} is no URL of a bridge, such as http://127.0.0.1:8080/voipex")
        tls = parts.scheme == "https"
        token = b64encode(f"{user}:{password}".encode()).decode()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nAuthorization: Basic {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, head.encode())


_QUEUED: Final = 256  # events that wait for a connection; above it the plan waits, and `behind_s` tells
_ANSWER_WITHIN_S: Final = 30.0
_PROGRESS_EVERY_S: Final = 1.0
_LAST_TRIES_S: Final = 10.0  # after the last event, for what was not accepted yet
_RETRY_AFTER_S: Final = 1.0  # where a 503 does not say
_MAX_RETRY_AFTER_S: Final = 60
_RECONNECT_AFTER_S: Final = 0.2


class _Player:
    def __init__(
        self,
        plan: SimulationPlan,
        door: _Door,
        duration_s: float | None,
        connections: int,
        now_us: Callable[[], int],
    ) -> None:
        self._plan = plan
        self._door = door
        self._duration_s = duration_s
        self._now_us = now_us
        self._last_us = 0
        self._lanes: list[asyncio.Queue[dict[str, str] | None]] = [
            asyncio.Queue(_QUEUED) for _ in range(connections)
        ]
        self._began_at = time.monotonic()
        self._last_try_at: float | None = None
        self._answers: Counter[int] = Counter()
        self._sent = self._accepted = self._given_up = self._broken = 0
        self._behind_s = 0.0

    def report(self) -> SimulationReport:
        return SimulationReport(
            self._sent,
            self._accepted,
            self._given_up,
            dict(self._answers),
            self._broken,
            time.monotonic() - self._began_at,
            self._behind_s,
        )

    async def run(
        self, record: TextIO | None, on_progress: Callable[[SimulationReport], None] | None
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            ticking = tasks.create_task(self._tick(on_progress)) if on_progress is not None else None
            async with asyncio.TaskGroup() as lanes:
                for lane in self._lanes:
                    lanes.create_task(self._drive(lane, record))
                await self._hand_out()
            if ticking is not None:
                ticking.cancel()

    async def _tick(self, on_progress: Callable[[SimulationReport], None]) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_EVERY_S)
            on_progress(self.report())

    async def _hand_out(self) -> None:
        self._began_at = time.monotonic()
        for at_s, body in events(self._plan):
            if self._duration_s is not None and at_s > self._duration_s:
                break
            early_s = self._began_at + at_s - time.monotonic()
            if early_s > 0.001:  # less is below what the event loop can wait
                await asyncio.sleep(early_s)
            self._behind_s = max(0.0, -early_s)
            if self._duration_s is not None and self._behind_s + at_s > self._duration_s:
                break
            key = body.get("UniqueId") or body["Login"]
            await self._lanes[crc32(key.encode()) % len(self._lanes)].put(body)
        self._last_try_at = time.monotonic() + _LAST_TRIES_S
        for lane in self._lanes:
            await lane.put(None)

    async def _drive(self, lane: "asyncio.Queue[dict[str, str] | None]", record: TextIO | None) -> None:
        """Send one event after the other, over one connection as long as it holds."""
        knocker = _Knocker(self._door)
        try:
            while (body := await lane.get()) is not None:
                self._sent += 1
                if await self._deliver(knocker, orjson.dumps(body)):
                    self._accepted += 1
                    if record is not None:
                        record.write(self._line(body))
                else:
                    self._given_up += 1
        finally:
            knocker.close()

    async def _deliver(self, knocker: "_Knocker", body: bytes) -> bool:
        while True:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    answer = await knocker.post(body)
            except OSError:  # TimeoutError is one
                knocker.close()
                self._broken += 1
                wait_s = _RECONNECT_AFTER_S
            else:
                self._answers[answer.status] += 1
                if answer.status != 503:
                    return 200 <= answer.status < 300
                wait_s = answer.retry_after_s
            if self._last_try_at is not None and time.monotonic() + wait_s > self._last_try_at:
                return False
            await asyncio.sleep(wait_s)

    def _line(self, body: Mapping[str, str]) -> str:
        self._last_us = max(self._now_us(), self._last_us + 1)  # so that the lines have one order
        received_at = rfc3339(self._last_us)
        return orjson.dumps({"received_at": received_at, "pbx": self._plan.pbx, "body": body}).decode() + "\n"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry_after_s: float


class _Knocker:
    """Posts one body at a time over a keep-alive connection, made anew whenever the last one is gone."""

    def __init__(self, door: _Door) -> None:
        self._door = door
        self._connection: _Connection | None = None

    async def post(self, body: bytes) -> _Answer:
        """
        Send one body and wait for its answer.

        Raises:
            OSError: the connection could not be made, or broke before the answer; the body may have arrived all the same.
        """
        if self._connection is None or self._connection.closed:
            _, self._connection = await asyncio.get_running_loop().create_connection(
                _Connection, self._door.host, self._door.port, ssl=self._door.tls or None
            )
        return await self._connection.ask(b"%b%d\r\n\r\n%b" % (self._door.head, len(body), body))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time. The `on_…` methods are called by the parser."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[_Answer] | None = None
        self._retry_after_s = _RETRY_AFTER_S

    async def ask(self, request: bytes) -> _Answer:
        if self.closed or self._transport is None:
            raise ConnectionResetError("closed by the bridge")
        self._waiting = asyncio.get_running_loop().create_future()
        self._retry_after_s = _RETRY_AFTER_S
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("no answer before the end of the connection"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.close()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.isdigit():
            self._retry_after_s = float(min(int(value), _MAX_RETRY_AFTER_S))

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.closed = True  # by the bridge, in a moment
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(_Answer(self._parser.get_status_code(), self._retry_after_s))
