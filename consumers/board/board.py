"""One board: takes documents as they come, and makes frames of what changed since the last one (pure)."""

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from hashlib import blake2b
from typing import Any, Final
from zoneinfo import ZoneInfo

from consumers.board.figures import Clock, Fact, fact, queue_figures, queue_of
from consumers.board.frames import Encoded, Frame, Ring
from consumers.board.missed import caller_key, missed_row
from consumers.board.rows import Json
from consumers.board.window import Entry, Key, Window, is_open
from voipex.timestamps import format_rfc3339, parse_rfc3339

_FIGURES_US: Final = 1_000_000
"""Figures of a queue that changed are computed at most this often."""
_ALL_FIGURES_US: Final = 60_000_000
"""And all of them once a minute: the last hour moves on, the day ends."""
_SNAPSHOT_ENDED: Final = 300
"""Ended calls in a snapshot, the newest; the others are asked for page by page."""


@dataclass(slots=True)
class Freshness:
    """When the board last knew that it was at the end of its topics, and when the PBX last sent an event; None: not yet."""

    kafka_at_us: int | None = None
    event_at_us: int | None = None


@dataclass(slots=True)
class _Dirty:
    calls: set[Key] = field(default_factory=set)
    agents: set[Key] = field(default_factory=set)
    queues: set[tuple[str, str]] = field(default_factory=set)
    callers: set[str] = field(default_factory=set)
    queue_rows: Json = field(default_factory=dict)
    missed_rows: Json = field(default_factory=dict)


class Board:
    """
    The state of the board, and its stream.

    `target_s`: the wait within which a call should be answered. `time_zone`: of the day that figures speak of.
    """

    def __init__(
        self,
        window: Window,
        ring: Ring,
        *,
        pbxs: tuple[str, ...],
        target_s: float,
        time_zone: str,
        now_us: Callable[[], int],
    ) -> None:
        self.window = window
        self.ring = ring
        self.freshness = Freshness()
        self.ready = False
        self.pbxs = pbxs
        self.target_s = target_s
        self.time_zone = time_zone
        self.now_us = now_us
        self._zone = ZoneInfo(time_zone)
        self._dirty = _Dirty()
        self._facts: defaultdict[tuple[str, str], dict[Key, Fact]] = defaultdict(dict)
        self._queue_of: dict[Key, tuple[str, str]] = {}
        self._callers: defaultdict[str, dict[Key, Json]] = defaultdict(dict)
        self._caller_of: dict[Key, str] = {}
        self._members: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._queues: dict[tuple[str, str], Json] = {}
        self._missed: dict[str, Json] = {}
        self._salt = secrets.token_bytes(16)
        self._figures_due_us = 0
        self._all_figures_due_us = 0

    # ------------------------------------------------------------ documents

    def put_call(self, pbx: str, key: str, value: bytes | None) -> None:
        if self.window.put_call(pbx, key, value):
            self._index((pbx, key))
            self._see_event(self.window.calls.get((pbx, key)))
            self._dirty.calls.add((pbx, key))

    def put_agent(self, pbx: str, key: str, value: bytes | None) -> None:
        held = self.window.agents.get((pbx, key))
        if self.window.put_agent(pbx, key, value):
            now = self.window.agents.get((pbx, key))
            for entry, change in ((held, -1), (now, 1)):
                for queue in (entry.row["queues"] or {}) if entry is not None else ():
                    self._members[pbx, queue] += change
                    self._dirty.queues.add((pbx, queue))
            self._see_event(now)
            self._dirty.agents.add((pbx, key))

    def _see_event(self, entry: Entry | None) -> None:
        if entry is not None and entry.row["last_event_at"] is not None:
            at_us = parse_rfc3339(entry.row["last_event_at"])
            self.freshness.event_at_us = max(at_us, self.freshness.event_at_us or 0)

    def _index(self, place: Key) -> None:
        """Move a call to the queue and the caller that it counts for now; none, once it is gone."""
        entry = self.window.calls.get(place)
        old_queue, old_caller = self._queue_of.pop(place, None), self._caller_of.pop(place, None)
        if old_queue is not None:
            self._facts[old_queue].pop(place, None)
            self._dirty.queues.add(old_queue)
        if old_caller is not None:
            self._callers[old_caller].pop(place, None)
            self._dirty.callers.add(old_caller)
        if entry is None:
            return
        counted = fact(entry.row)
        if counted is not None:
            queue = self._queue_of[place] = (place[0], queue_of(entry.row))
            self._facts[queue][place] = counted
            self._dirty.queues.add(queue)
        caller = self._caller_of[place] = caller_key(entry.row)
        self._callers[caller][place] = entry.row
        self._dirty.callers.add(caller)

    # ------------------------------------------------------------ stream

    def tick(self) -> Frame | None:
        """Make the frame of what changed since the last one; None when nothing did."""
        now_us = self.now_us()
        for place in self.window.evict(now_us):
            self._index(place)
            self._dirty.calls.add(place)
        self._compute(now_us)
        dirty, self._dirty = self._dirty, _Dirty(queues=self._dirty.queues)
        body: Json = {}
        if dirty.calls:
            body["calls"] = _changes(dirty.calls, self.window.calls)
        if dirty.agents:
            body["agents"] = _changes(dirty.agents, self.window.agents)
        if dirty.queue_rows:
            body["queues"] = dirty.queue_rows
        if dirty.missed_rows:
            body["missed"] = dirty.missed_rows
        return self.ring.add({**self._clocks(now_us), **body}, now_us) if body else None

    def snapshot(self) -> Encoded:
        """Encode everything that the pages show at first: all open calls, the newest ended ones, agents, queues, missed callers."""
        now_us = self.now_us()
        ended = 0
        calls = []
        for entry in self.window.calls_newest_first():
            if is_open(entry.row):
                calls.append(entry.row)
            elif ended < _SNAPSHOT_ENDED:
                ended += 1
                calls.append(entry.row)
        return self.ring.encode(
            "snapshot",
            {
                **self._clocks(now_us),
                "boot": self.ring.boot,
                "time_zone": self.time_zone,
                "target_s": self.target_s,
                "calls": {_name(row["pbx"], row["call_id"]): row for row in calls},
                "agents": {_name(*place): entry.row for place, entry in self.window.agents.items()},
                "queues": {_name(*place): row for place, row in self._queues.items()},
                "missed": dict(self._missed),
                "broken": [
                    {"topic": each.topic, "key": each.key, "why": each.why}
                    for each in self.window.broken.values()
                ],
            },
        )

    def heartbeat(self) -> bytes:
        """Encode the clocks alone: the age of the picture must be known when nothing changes."""
        return self.ring.encode("heartbeat", self._clocks(self.now_us()))["desk"]

    def _clocks(self, now_us: int) -> Json:
        fresh = self.freshness
        return {
            "now": format_rfc3339(now_us),
            "date": self.clock(now_us).date,
            "ready": self.ready,
            "kafka_age_s": None
            if fresh.kafka_at_us is None
            else round(max(0, now_us - fresh.kafka_at_us) / 1e6, 3),
            "event_age_s": None
            if fresh.event_at_us is None
            else round(max(0, now_us - fresh.event_at_us) / 1e6, 3),
        }

    # ------------------------------------------------------------ figures

    def queues(self) -> list[Json]:
        """Return the rows of all queues, by PBX and name."""
        self._compute(self.now_us(), at_once=True)
        return [row for _, row in sorted(self._queues.items())]

    def missed(self) -> list[Json]:
        """Return the rows of callers who were missed, the last one first."""
        self._compute(self.now_us(), at_once=True)
        return sorted(self._missed.values(), key=lambda row: row["last_at"], reverse=True)

    def clock(self, now_us: int) -> Clock:
        """Return the local day that *now_us* lies in; it has 23 to 25 hours."""
        day = datetime.fromtimestamp(now_us / 1e6, self._zone).date()
        start = datetime.combine(day, time(), self._zone)
        return Clock(now_us, int(start.timestamp()) * 1_000_000, day.isoformat())

    def day_bounds_us(self, date: str) -> tuple[int, int]:
        """Return begin and end of a local day. Raises ValueError when there is none such."""
        day = datetime.fromisoformat(date).date()
        bounds = [datetime.combine(each, time(), self._zone) for each in (day, day + timedelta(days=1))]
        return int(bounds[0].timestamp()) * 1_000_000, int(bounds[1].timestamp()) * 1_000_000

    def _compute(self, now_us: int, *, at_once: bool = False) -> None:
        """Compute the figures that are due; rows that differ go into the next frame, null for one that is gone."""
        dirty = self._dirty
        if now_us >= self._all_figures_due_us:
            self._all_figures_due_us = now_us + _ALL_FIGURES_US
            dirty.queues.update(self._facts, self._queues)
        if dirty.queues and (at_once or now_us >= self._figures_due_us):
            self._figures_due_us = now_us + _FIGURES_US
            clock = self.clock(now_us)
            for place in dirty.queues:
                row = self._queue_row(place, clock)
                if _set(self._queues, place, row):
                    dirty.queue_rows[_name(*place)] = row
            dirty.queues.clear()
        for caller in dirty.callers:
            name = self._opaque(caller)
            row = missed_row(self._callers[caller].values())
            if _set(self._missed, name, row and {"caller": name, **row}):
                dirty.missed_rows[name] = self._missed.get(name)
            if not self._callers[caller]:
                del self._callers[caller]
        dirty.callers.clear()

    def _opaque(self, caller: str) -> str:
        """Name a caller without the number, which the wall must not receive; the name is that of this run."""
        return blake2b(caller.encode(errors="replace"), key=self._salt, digest_size=8).hexdigest()

    def _queue_row(self, place: tuple[str, str], clock: Clock) -> Json | None:
        pbx, queue = place
        facts = self._facts[place]
        if not facts and self._members[place] <= 0:
            del self._facts[place]
            self._members.pop(place, None)
            return None
        members = (entry.row for (of, _), entry in self.window.agents.items() if of == pbx)
        return {"pbx": pbx, **queue_figures(queue, facts.values(), members, clock, self.target_s)}


def _set(rows: dict[Any, Json], key: Any, row: Json | None) -> bool:
    """Put or remove a row. Returns whether that changed anything."""
    if row == rows.get(key):
        return False
    if row is None:
        del rows[key]
    else:
        rows[key] = row
    return True


def _name(pbx: str, key: str) -> str:
    """Name of a row in the stream."""
    return f"{pbx}/{key}"


def _changes(places: Iterable[Key], entries: Any) -> Json:
    """Rows by name; null: it is gone."""
    return {_name(*place): entries[place].row if place in entries else None for place in sorted(places)}
