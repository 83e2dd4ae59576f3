"""
Presence: the register of agent events. The queues an agent is logged into, the queues he is paused in, and the names of the pauses.

Events are applied in their total order (received_at, event_id). Each is idempotent, so a repeated event changes nothing. Some
installations never name a queue: a login without a queue is stored as `UNNAMED` until an event names one, which takes the login over.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, NamedTuple

import orjson

from voipex.timestamps import format_rfc3339_cached

UNNAMED: Final = ""
"""Stands for the queue of a login that named none; never published (blank queue names do not exist)."""

NEVER, IN, OUT = "never", "in", "out"
"""What agent events said last of an agent: nothing yet, logged in somewhere, logged out of everything."""


class AgentEvent(NamedTuple):
    """What of an Event matters here, sorted by the total order."""

    at_us: int
    event_id: str
    kind: str
    queue: str | None
    pause_name: str | None
    login: str | None
    line: str | None
    email: str | None


LOGIN, LOGOUT, PAUSED, UNPAUSED = "agent_login", "agent_logout", "agent_paused", "agent_unpaused"

CROSSING_US: Final = 10 * 1_000_000
"""Rule A9: a queue may ring an agent whose pause is younger, since the two events crossed."""


class Applied(NamedTuple):
    """What became of an event."""

    heir: str | None
    """The queue that continues an unnamed login, when this event named it."""
    ignored: bool
    """A logout of another login than the one that holds now."""


@dataclass(slots=True)
class QueueRegister:
    """One queue that the agent is logged into."""

    since_us: int
    inferred: bool = False
    paused_since_us: int | None = None
    pause_name: str | None = None
    pause_id: str = ""  # event_id of the pause: tells which of two at the same microsecond began last
    unpause_inferred: bool = False
    """A ring showed that an AgentUnPaused was lost; until the next Paused or UnPaused."""

    def pause(self, event: AgentEvent, at_us: int) -> None:
        """Rule A4: a second pause keeps the first start; another name begins anew (no name is not another name)."""
        self.unpause_inferred = False
        renamed = event.pause_name is not None and event.pause_name != self.pause_name
        if self.paused_since_us is None or renamed:
            self.paused_since_us = at_us
            self.pause_name = event.pause_name
            self.pause_id = event.event_id

    def unpause(self) -> None:
        self.paused_since_us, self.pause_name, self.pause_id = None, None, ""
        self.unpause_inferred = False

    @property
    def is_paused(self) -> bool:
        return self.paused_since_us is not None

    def published(self) -> dict[str, Any]:
        """As QueueStatus."""
        return {
            "logged_in": True,
            "since": format_rfc3339_cached(self.since_us),
            "paused": self.is_paused,
            "pause_name": self.pause_name,
            "paused_since": None
            if self.paused_since_us is None
            else format_rfc3339_cached(self.paused_since_us),
            "inferred": self.inferred or self.unpause_inferred,
        }


_values_of_queue: Final = attrgetter(*(each.name for each in fields(QueueRegister)))


class PresenceSummary(NamedTuple):
    """Values derived from the register. Cached with it, since most records do not change it."""

    status: str
    availability: str
    """Of who is logged in: available, partially_paused (in some of the logged queues) or paused (in all)."""
    pause: str | None
    """Rule A7: name of the pause of the agent, which runs while **all** logged queues are paused; "" without a name."""
    pause_name: str | None
    """Of the pause that began last, also when it is not in all queues."""
    paused: list[str]
    queues: bytes
    """As published, in JSON."""


@dataclass(slots=True, eq=False)
class Presence:
    """Mutable; `copy` before applying to one that somebody else holds."""

    status: str = NEVER
    queues: dict[str, QueueRegister] = field(default_factory=dict)
    left: dict[str, bool] = field(default_factory=dict)
    """Every queue ever named -> the agent logged out of it, and not in again."""
    login_lines: dict[str, str | None] = field(default_factory=dict)
    """By queue, the Line of its last AgentLogin."""

    def copy(self) -> "Presence":
        queues = {name: QueueRegister(*_values_of_queue(queue)) for name, queue in self.queues.items()}
        return Presence(self.status, queues, self.left.copy(), self.login_lines.copy())

    def apply(self, event: AgentEvent, at_us: int | None = None) -> Applied:
        """Take the next event. `at_us`: when it is read, where that is not its receipt (`swapped`)."""
        at_us = event.at_us if at_us is None else at_us
        heir, ignored = None, False
        if event.queue is not None:
            self.left.setdefault(event.queue, False)
            heir = self._continue_unnamed(event.queue, inferred=event.kind != LOGIN)
        if event.kind == LOGIN:
            heir = self._log_in(event) or heir
        elif event.kind == LOGOUT:
            ignored = self._log_out(event)
        elif self.status != OUT:  # after a logout of all, pauses are ignored
            if event.kind == PAUSED:
                self._pause(event, at_us)
            elif event.kind == UNPAUSED:
                for queue in self._named_or_all(event):
                    queue.unpause()
        return Applied(heir, ignored)

    def ring(self, name: str, at_us: int) -> bool:
        """
        Rule A9. Infer a lost AgentUnPaused: a queue rings no paused member.

        Returns True if the pause of this queue ends here; one that is younger than 10 s may have crossed with the ring.
        """
        queue = self.queues.get(name)
        if queue is None or queue.paused_since_us is None or at_us < queue.paused_since_us + CROSSING_US:
            return False
        queue.unpause()
        queue.unpause_inferred = True
        return True

    def _continue_unnamed(self, name: str, *, inferred: bool) -> str | None:
        """Rule A6: the first queue named after an unnamed login is the one that was meant: it keeps its start and its pause."""
        unnamed = self.queues.pop(UNNAMED, None)
        if unnamed is None:
            return None
        unnamed.inferred = unnamed.inferred or inferred
        self.queues[name] = unnamed
        self.login_lines[name] = self.login_lines.pop(UNNAMED, None)
        return name

    def _log_in(self, event: AgentEvent) -> str | None:
        """Rule A2: a second queue adds, a repeated one changes nothing; no queue means all that were ever named."""
        heir = None
        names: Iterable[str] = (event.queue,) if event.queue is not None else self.left or (UNNAMED,)
        if event.queue is None and self.left:
            heir = self._continue_unnamed(next(iter(self.left)), inferred=True)
        for name in names:
            self.login_lines[name] = event.line
            if name not in self.queues:
                self.queues[name] = QueueRegister(event.at_us)
        self.status = IN
        return heir

    def _log_out(self, event: AgentEvent) -> bool:
        """
        Rule A3. Leave one queue, or (none named) all; leaving the last means offline.

        A logout that names another Line than the last login of a queue ends that other login: the queue stays. Returns True if this is so
        for every queue that is meant.
        """
        meant = (event.queue,) if event.queue is not None else tuple(self.queues) or tuple(self.login_lines)
        staying = {name for name in meant if self._is_of_another_line(name, event)}
        if meant and len(staying) == len(meant):
            return True
        for name in {*self.left, *self.queues} if event.queue is None else (event.queue,):
            if name not in staying:
                self.queues.pop(name, None)
                if name != UNNAMED:
                    self.left[name] = True
        if not self.queues:
            self.status = OUT
        return False

    def _is_of_another_line(self, name: str, event: AgentEvent) -> bool:
        line = self.login_lines.get(name)
        return line is not None and event.line is not None and event.line != line

    def _pause(self, event: AgentEvent, at_us: int) -> None:
        """Rule A4: pause in one queue, or (none named) in all logged ones. A pause where no login was seen shows that there was one."""
        name = event.queue
        if name is None:
            if not self.queues:
                self.queues[UNNAMED] = QueueRegister(at_us, inferred=True)
        elif name not in self.queues:
            if self.left[name]:
                return
            self.queues[name] = QueueRegister(at_us, inferred=True)
        self.status = IN
        for queue in self._named_or_all(event):
            queue.pause(event, at_us)

    def _named_or_all(self, event: AgentEvent) -> Iterable[QueueRegister]:
        if event.queue is None:
            return self.queues.values()
        queue = self.queues.get(event.queue)
        return () if queue is None else (queue,)

    def summary(self) -> "PresenceSummary":
        paused = [(q.paused_since_us, q.pause_id, name) for name, q in self.queues.items() if q.is_paused]
        last = self.queues[max(paused)[2]] if paused else None
        all_paused = last is not None and len(paused) == len(self.queues)
        return PresenceSummary(
            self.status,
            "paused" if all_paused else "available" if last is None else "partially_paused",
            last.pause_name or "" if last is not None and all_paused else None,
            None if last is None else last.pause_name,
            [name for _, _, name in paused],
            orjson.dumps(
                {name: queue.published() for name, queue in sorted(self.queues.items()) if name != UNNAMED}
            ),
        )

    def to_json(self) -> bytes:
        queues = {name: _values_of_queue(queue) for name, queue in self.queues.items()}
        return orjson.dumps((self.status, queues, self.left, self.login_lines))

    @classmethod
    def from_json(cls, kept: bytes) -> "Presence":
        status, queues, *more = orjson.loads(kept)
        return cls(status, {name: QueueRegister(*values) for name, values in queues.items()}, *more)
