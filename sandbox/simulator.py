"""
Simulate the call centre of a PBX: realistic webhooks for demonstrations, tests and benchmarks.

`events` is pure: the same plan gives the same events at the same times. Each call and each agent's shift is a generator that emits events
and yields the seconds until its next step; one heap of these generators is the whole PBX. `player` posts the events to a bridge.

Numbers and addresses belong to nobody: Czech numbers are 60100xxxx, foreign ones come from Ofcom's range for drama, e-mails end in
example.cz.
"""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Final

# ---------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """
    What to simulate.

    calls_per_s: new calls per second; six in ten are calls to a queue. A call has about 6 events, more if there are many agents.
    speed: how many times faster than in reality conversations, rings, pauses and shifts pass; at 5 a call takes about 15 seconds. Only the
        5 seconds before a queue rings the same agent again stay as they are.
    agents: one of five is a static queue member, which never logs in. A caller that no agent answers gives up after a while.
    started_at_s: seconds since 1970, the epoch in every UniqueId. The same value on the same Kafka repeats the same calls.
    calls_for_s: no new calls after so many seconds; the events end with the last call. None: they never end.
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
        """Return a plan with about so many events per second, for benchmarks: short calls and enough agents, so that the rate is reached in seconds."""
        calls_per_s = events_per_s / _EVENTS_PER_CALL
        agents = max(8, round(calls_per_s * 6))
        return cls(seed, agents, max(1, agents // 10), calls_per_s, speed=25.0)


_EVENTS_PER_CALL: Final = 7.6  # if no caller waits for an agent
_DEFAULT_START_S: Final = 1_772_438_400  # 2026-03-02T08:00:00Z
_RING_AGAIN_S: Final = 5.0  # VOIPEX: the least time before a queue rings the same agent again
_RING_AT_ONCE: Final = 3  # else a queue of a thousand agents (benchmarks) would ring them all
_MAX_SCANNED: Final = 32  # members of a queue, in search of free ones
_STATIC_EVERY: Final = 5

_LOGINS: Final = ("novak", "svobodova", "dvorak", "cerna", "prochazka", "kucerova", "horak", "nemcova")
_QUEUES: Final = ("Podpora", "Obchod", "Fakturace", "Reklamace", "NOC", "Recepce")
_PAUSES: Final = ("Oběd", "Přestávka", "Školení", "Porada", "Administrativa", "Kouření")
_SUPERVISOR_LINE: Final = "199"


def events(plan: SimulationPlan) -> Iterator[tuple[float, dict[str, str]]]:
    """Yield (seconds since the start, body), ordered by time. Each body is a new dict with its keys in VOIPEX's order."""
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
        for body in pbx.emitted:
            yield pbx.now, body
        pbx.emitted.clear()
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

    def claim(self, at_most: int) -> list[_Agent]:
        """Claim up to *at_most* free members, those who waited longest first."""
        claimed: list[_Agent] = []
        for _ in range(min(len(self.members), _MAX_SCANNED)):
            agent = self.members[0]
            self.members.rotate(-1)
            if agent.free:
                agent.busy = True
                claimed.append(agent)
                if len(claimed) == at_most:
                    break
        return claimed


class _Pbx:
    """What all calls share: the clock, the random numbers, the agents, and the events of this moment."""

    def __init__(self, plan: SimulationPlan) -> None:
        self.plan = plan
        self.random = Random(plan.seed)  # noqa: S311  # repeatable by intent
        self.now = 0.0
        self.emitted: list[dict[str, str]] = []
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

    def duration_s(self, least_s: float, most_s: float) -> float:
        """Return a random duration, shortened by the plan's speed."""
        return self.random.uniform(least_s, most_s) / self.plan.speed

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def customer(self) -> str:
        if self.chance(0.04):
            return f"+447700900{self.random.randrange(1000):03}"
        return f"60100{self.random.randrange(10_000):04}"

    def claim_any_agent(self) -> _Agent | None:
        """Claim a free agent of any queue; None if a few random picks find none."""
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
    """The fields that all events of one call share."""

    def __init__(self, pbx: _Pbx, number_from: str, number_to: str, direction: str, queue: str = "") -> None:
        self._pbx = pbx
        self._from, self._to = number_from, number_to
        self._direction, self._queue = direction, queue
        self._unique_id = pbx.unique_id()

    def emit(
        self,
        event_name: str,
        agent: _Agent | None = None,
        *,
        consulting: _Agent | None = None,
        direction: str | None = None,
        reason: str = "",
    ) -> None:
        """
        Emit an event of this call: of an agent's leg, or of the whole call.

        `consulting`: the colleague who calls *agent* for a consultation; the leg goes from line to line.
        """
        body = {
            "EventName": event_name,
            "From": self._from if consulting is None else consulting.line,
            "To": self._to if consulting is None or agent is None else agent.line,
            "Line": "" if agent is None else agent.line,
            "Email": "" if agent is None else agent.email,
            "Login": "" if agent is None else agent.login,
            "UniqueId": self._unique_id,
        }
        if self._queue and agent is not None and consulting is None:
            body["Queue"] = self._queue
        body["Direction"] = self._direction if direction is None else direction
        if reason:
            body["Reason"] = reason
        self._pbx.emitted.append(body)

    def leave_queue(self) -> None:
        """Leave out the queue from now on: it did not ring the target of a transfer."""
        self._queue = ""

    def hang_up(self, agent: _Agent | None, reason: str, *, consulting: _Agent | None = None) -> None:
        self.emit("Hangup", agent, consulting=consulting, reason=reason)


_NORMAL: Final = "Normal Clearing"
_NO_RESPONSE: Final = "No user response"


def _arrivals(pbx: _Pbx) -> _Process:
    kinds = (_queue_call, _outgoing_call, _direct_call, _internal_call, _abandoned_call)
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
    """The queue rings a few agents at a time, and again after a break if none answers, until the caller hangs up."""
    queue = pbx.random.choice(pbx.queues)
    call = _Call(pbx, pbx.customer(), queue.number, "incoming", queue.name)
    call.emit("NewCall")
    yield pbx.duration_s(1, 6)
    gives_up_at = pbx.now + pbx.duration_s(40, 150)
    while pbx.now < gives_up_at:
        rung = queue.claim(_RING_AT_ONCE)
        if not rung:
            yield pbx.duration_s(5, 10)
            continue
        for agent in rung:
            call.emit("Ringing", agent)
            yield 0.02
        if pbx.chance(0.8):
            yield pbx.duration_s(2, 10)
            yield from _answer(pbx, call, rung)
            return
        lost_patience = pbx.chance(0.3)
        yield pbx.duration_s(3, 10) if lost_patience else pbx.duration_s(14, 16)
        for agent in rung:
            if pbx.chance(0.95):  # a webhook may be lost
                call.hang_up(agent, _NORMAL if lost_patience else _NO_RESPONSE)
            agent.busy = False
        if lost_patience:
            break
        yield _RING_AGAIN_S + pbx.random.uniform(0, 0.5)
    call.hang_up(None, _NORMAL)
    yield from _cdr(pbx, call)


def _answer(pbx: _Pbx, call: _Call, rung: list[_Agent]) -> _Process:
    agent = rung.pop(pbx.random.randrange(len(rung)))
    call.emit("Answered", agent)
    yield 0.1
    for other in rung:
        call.hang_up(other, "Answered elsewhere")
        other.busy = False
    yield from _conversation(pbx, call, agent)


def _conversation(pbx: _Pbx, call: _Call, agent: _Agent) -> _Process:
    """From the answer to the last Hangup, which releases the last agent."""
    yield pbx.duration_s(10, 30)
    course = pbx.random.choices(
        (_just_talk, _attended_transfer, _cancelled_transfer, _blind_transfer, _barge),
        weights=(62, 13, 7, 10, 8),
    )[0]
    last = yield from course(pbx, call, agent)
    if pbx.chance(0.99):  # else its Hangup is lost, and only the CDR reports the end
        call.hang_up(last, _NORMAL)
    yield from _cdr(pbx, call)
    yield pbx.duration_s(3, 10)  # after-call work
    last.busy = False


_Course = Generator[float, None, _Agent]
"""A part of a conversation; returns the agent who talks to the customer at its end."""


def _just_talk(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    del call
    yield pbx.duration_s(0, 60)
    return agent


def _attended_transfer(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    """The agent consults a colleague first. One in four hangs up while the colleague's phone still rings (a blonde transfer)."""
    colleague = pbx.claim_any_agent()
    if colleague is None:
        return (yield from _just_talk(pbx, call, agent))
    call.emit("Ringing", colleague, consulting=agent)
    yield pbx.duration_s(3, 8)
    waits = pbx.chance(0.75)
    if waits:
        call.emit("Answered", colleague, consulting=agent)
        yield pbx.duration_s(5, 20)
    call.emit("AttendedTransfer", agent)
    agent.busy = False
    call.leave_queue()
    if not waits:
        yield pbx.duration_s(1, 4)
        call.emit("Answered", colleague)
    yield pbx.duration_s(15, 60)
    return colleague


def _cancelled_transfer(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    """The agent consults a colleague, who answers or not, and returns to the customer."""
    colleague = pbx.claim_any_agent()
    if colleague is None:
        return (yield from _just_talk(pbx, call, agent))
    call.emit("Ringing", colleague, consulting=agent)
    yield pbx.duration_s(3, 10)
    answers = pbx.chance(0.6)
    if answers:
        call.emit("Answered", colleague, consulting=agent)
        yield pbx.duration_s(5, 20)
    call.emit("CancelAttendedTransfer", agent)
    yield 0.1
    call.hang_up(colleague, _NORMAL if answers else _NO_RESPONSE, consulting=agent)
    colleague.busy = False
    yield pbx.duration_s(5, 30)
    return agent


def _blind_transfer(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    """The agent transfers without a consultation. VOIPEX has no event for that: only a Hangup and another phone's Ringing."""
    colleague = pbx.claim_any_agent()
    if colleague is None:
        return (yield from _just_talk(pbx, call, agent))
    call.hang_up(agent, _NORMAL)
    agent.busy = False
    call.leave_queue()
    yield pbx.random.uniform(0, 0.3)
    call.emit("Ringing", colleague)
    yield pbx.duration_s(3, 12)
    call.emit("Answered", colleague)
    yield pbx.duration_s(15, 60)
    return colleague


def _barge(pbx: _Pbx, call: _Call, agent: _Agent) -> _Course:
    """A supervisor listens in. There is one, so only one conversation at a time."""
    supervisor = pbx.supervisor
    if supervisor.busy:
        return (yield from _just_talk(pbx, call, agent))
    supervisor.busy = True
    call.emit("Ringing", supervisor, direction="barge")
    yield pbx.duration_s(1, 2)
    call.emit("Answered", supervisor, direction="barge")
    yield pbx.duration_s(10, 40)
    call.emit("Hangup", supervisor, direction="barge", reason=_NORMAL)
    supervisor.busy = False
    yield pbx.duration_s(5, 30)
    return agent


def _cdr(pbx: _Pbx, call: _Call) -> _Process:
    yield pbx.random.uniform(0.1, 0.6)
    call.emit("CDR")


def _outgoing_call(pbx: _Pbx) -> _Process:
    agent = pbx.claim_any_agent()
    if agent is None:
        yield from _queue_call(pbx)
        return
    call = _Call(pbx, agent.line, pbx.customer(), "outgoing")
    call.emit("NewCall")
    yield 0.2
    call.emit("Ringing", agent)
    fate = pbx.random.choices(
        ("answered", "User busy", _NO_RESPONSE, "Call Rejected", "Subscriber absent", "Unallocated number"),
        weights=(60, 12, 18, 4, 3, 3),
    )[0]
    if fate == "answered":
        yield pbx.duration_s(4, 20)
        call.emit("Answered", agent)
        yield from _conversation(pbx, call, agent)
        return
    yield pbx.duration_s(15, 40) if fate == _NO_RESPONSE else pbx.duration_s(1, 5)
    call.hang_up(agent, fate)
    agent.busy = False
    yield from _cdr(pbx, call)


def _direct_call(pbx: _Pbx) -> _Process:
    """A customer dials an agent's line."""
    agent = pbx.claim_any_agent()
    if agent is None:
        yield from _abandoned_call(pbx)
        return
    call = _Call(pbx, pbx.customer(), agent.line, "incoming")
    yield from _ring_one(pbx, call, agent)


def _internal_call(pbx: _Pbx) -> _Process:
    caller = pbx.claim_any_agent()
    callee = pbx.claim_any_agent() if caller is not None else None
    if caller is not None and callee is not None:
        direction = pbx.random.choice(("incomingLocal", "incominglocal"))
        yield from _ring_one(pbx, _Call(pbx, caller.line, callee.line, direction), callee)
    if caller is not None:
        caller.busy = False


def _ring_one(pbx: _Pbx, call: _Call, agent: _Agent) -> _Process:
    call.emit("NewCall")
    yield 0.2
    call.emit("Ringing", agent)
    if pbx.chance(0.7):
        yield pbx.duration_s(2, 12)
        call.emit("Answered", agent)
        yield from _conversation(pbx, call, agent)
        return
    yield pbx.duration_s(10, 25)
    call.hang_up(agent, _NORMAL)
    agent.busy = False
    yield 0.01
    call.hang_up(None, _NO_RESPONSE)
    yield from _cdr(pbx, call)


def _abandoned_call(pbx: _Pbx) -> _Process:
    """The caller hangs up before any phone rings."""
    call = _Call(pbx, pbx.customer(), pbx.random.choice(pbx.queues).number, "incoming")
    call.emit("NewCall")
    yield pbx.random.uniform(0.05, 1)
    call.hang_up(None, _NO_RESPONSE)


# ---------------------------------------------------------------- shifts


def _shift(pbx: _Pbx, agent: _Agent) -> _Process:
    """The agent logs in, pauses, logs out and comes back; never during a call."""
    yield pbx.random.uniform(0, 3)
    _emit_agent_event(pbx, agent, "AgentLogin")
    agent.logged_in = True
    yield pbx.duration_s(30, 900)
    while True:
        while agent.busy:
            yield 0.5
        if pbx.chance(0.9):
            yield from _pause(pbx, agent)
        else:
            agent.logged_in = False
            _emit_agent_event(pbx, agent, "AgentLogout")
            yield pbx.duration_s(60, 300)
            _emit_agent_event(pbx, agent, "AgentLogin")
            agent.logged_in = True
        yield pbx.duration_s(300, 1800)


def _pause(pbx: _Pbx, agent: _Agent) -> _Process:
    """The agent pauses in all queues, or sometimes in one of two; then calls still come."""
    name = pbx.random.choice(_PAUSES)
    partly = len(agent.queues) > 1 and pbx.chance(0.3)
    queues = agent.queues[:1] if partly else agent.queues
    agent.paused = not partly
    _emit_agent_event(pbx, agent, "AgentPaused", queues, name)
    yield pbx.duration_s(60, 400)
    _emit_agent_event(pbx, agent, "AgentUnPaused", queues)
    agent.paused = False


def _emit_agent_event(
    pbx: _Pbx, agent: _Agent, event_name: str, queues: tuple[_Queue, ...] | None = None, pause_name: str = ""
) -> None:
    """Emit one event per queue, as VOIPEX does."""
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
        pbx.emitted.append(body)
