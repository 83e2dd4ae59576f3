"""
AgentStatus by brute force: each time is computed from all records. Nothing is stored or cached.

It shares single rules with the fold (`Presence.apply`, `phases`), which have exact tests of their own.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from consumers.agents.days import LocalDays
from consumers.agents.fold import FORGET_US, SILENCE_US
from consumers.agents.legs import Leg, Phase, outcome_of, phases
from consumers.agents.presence import AgentEvent, Presence
from consumers.agents.projection import _event_of, _leg_of
from tests.unit.consumers.agent_traffic import Record
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_EVENTS

Json = dict[str, Any]


class Reference:
    def __init__(self, records: Iterable[Record], as_of_us: int, time_zone: str = "Europe/Prague") -> None:
        self.days = LocalDays(ZoneInfo(time_zone))
        events: dict[str, AgentEvent] = {}
        legs: dict[tuple[str, int], Leg] = {}
        for record in records:
            if record.kind == AGENT_EVENTS:
                event = _event_of(orjson.loads(record.value))
                events[event.event_id] = event
            else:
                leg = _leg_of(orjson.loads(record.value))
                known = legs.get((leg.call_id, leg.leg))
                if known is None or leg.revision > known.revision:
                    legs[leg.call_id, leg.leg] = leg
        self.events = sorted(events.values())
        self.legs = [leg for leg in legs.values() if not leg.removed]
        latest = [event.at_us for event in self.events] + [leg.latest_us for leg in legs.values()]
        self.until_us = max([as_of_us, *latest])
        self.forget()
        self.phases: list[tuple[Phase, int | None]] = []
        for leg in self.legs:
            cut = phases(leg)
            ends = [phase.start_us for phase in cut[1:]] + [leg.end_us]
            self.phases += zip(cut, ends, strict=True)

    def busy(self) -> list[tuple[int, int]]:
        """When the agent was seen, as intervals."""
        return sorted(
            [(event.at_us, event.at_us) for event in self.events]
            + [
                (leg.start_us, self.until_us if leg.ended_us is None else max(leg.start_us, leg.ended_us))
                for leg in self.legs
            ]
            + [
                (leg.last_event_us, leg.last_event_us)
                for leg in self.legs
                if leg.ended_us is not None and leg.last_event_us > leg.ended_us
            ]
        )

    def forget(self) -> None:
        """What lies before a gap of more than 90 days is gone."""
        seen_us = None
        for start_us, end_us in self.busy():
            if seen_us is not None and start_us > seen_us + FORGET_US:
                self.events = [event for event in self.events if event.at_us >= start_us]
                self.legs = [leg for leg in self.legs if leg.start_us >= start_us]
                self.forget()
                return
            seen_us = end_us if seen_us is None else max(seen_us, end_us)

    def seen_us(self, at_us: int) -> int | None:
        """The last moment up to this one at which the agent was seen."""
        return max(
            (min(end_us, at_us) for start_us, end_us in self.busy() if start_us <= at_us), default=None
        )

    def presence(self, at_us: int) -> Presence:
        presence = Presence()
        for event in self.events:
            if event.at_us <= at_us:
                presence.apply(event)
        return presence

    def heir(self, at_us: int) -> str | None:
        """The queue that continues the unnamed pause of this moment, if an event has named one while it ran."""
        presence = self.presence(at_us)
        for event in self.events:
            if event.at_us > at_us:
                heir = presence.apply(event)
                if heir is not None:
                    return heir
                unnamed = presence.queues.get("")
                if unnamed is None or unnamed.paused_since_us is None:
                    return None
        return None

    def running(self, at_us: int) -> list[Phase]:
        return [
            phase
            for phase, end_us in self.phases
            if phase.start_us <= at_us and (end_us is None or at_us < end_us)
        ]

    def is_silent(self, at_us: int) -> bool:
        seen_us = self.seen_us(at_us)
        return not self.running(at_us) and seen_us is not None and at_us >= seen_us + SILENCE_US

    def presence_name(self, at_us: int) -> str:
        if self.is_silent(at_us):
            return "unknown"
        status = self.presence(at_us).status
        if status == "never":
            return "implicit" if any(leg.start_us <= at_us for leg in self.legs) else "unknown"
        return {"in": "logged_in", "out": "offline"}[status]

    def pause_of_all(self, presence: Presence) -> str | None:
        """Name of the pause that runs while all logged queues are paused."""
        paused = [queue for queue in presence.queues.values() if queue.paused_since_us is not None]
        if not paused or len(paused) < len(presence.queues):
            return None
        paused.sort(key=lambda queue: (queue.paused_since_us or 0, queue.pause_id))
        return paused[-1].pause_name or ""

    def availability(self, at_us: int) -> str | None:
        if self.presence_name(at_us) in {"offline", "unknown"}:
            return None
        paused = [queue.paused_since_us is not None for queue in self.presence(at_us).queues.values()]
        if paused and all(paused):
            return "paused"
        return "partially_paused" if any(paused) else "available"

    def state(self, at_us: int) -> str:
        activities = {phase.activity for phase in self.running(at_us)}
        for activity, state in (
            ("on_call_in", "on_call"),
            ("on_call_out", "on_call"),
            ("monitoring", "monitoring"),
            ("consulting", "consulting"),
            ("ringing", "ringing"),
        ):
            if activity in activities:
                return state
        name = self.presence_name(at_us)
        return self.availability(at_us) or "" if name == "logged_in" else name

    def moments(self) -> list[int]:
        """Where anything may change, up to the end."""
        marks = {event.at_us for event in self.events}
        for leg in self.legs:
            marks |= {leg.start_us, leg.last_event_us}
        for phase, end_us in self.phases:
            marks |= {phase.start_us} | ({end_us} if end_us is not None else set())
        marks |= {mark + SILENCE_US for mark in marks}
        if marks:
            marks.add(self.until_us)
            midnight_us = self.days.window(self.until_us).floor_us
            while midnight_us < self.until_us:
                marks.add(midnight_us)
                midnight_us = self.days.day_of(midnight_us).end_us
        seen = self.busy()
        first_us = seen[0][0] if seen else 0
        return sorted(mark for mark in marks if first_us <= mark <= self.until_us)

    def document(self) -> Json | None:
        seen_us = self.seen_us(self.until_us)
        if seen_us is None or (not self.running(self.until_us) and self.until_us >= seen_us + FORGET_US):
            return None
        now = self.until_us
        presence = self.presence(now)
        running = sorted(self.running(now), key=_by_beginning)
        previous, (state, since_us) = self.states()
        paused = [queue for queue in presence.queues.values() if queue.paused_since_us is not None]
        paused.sort(key=lambda queue: (queue.paused_since_us or 0, queue.pause_id))
        days, queue_days = self.totals()
        return {
            "pbx": "voipex",
            "agent": "janecek",
            "login": self.latest("login"),
            "line": self.latest("line"),
            "email": self.latest("email"),
            "presence": self.presence_name(now),
            "availability": self.availability(now),
            "activity": max(running, key=_by_weight).activity if running else "idle",
            "state": state,
            "since": format_rfc3339(since_us),
            "previous": None
            if previous is None
            else {"state": previous[0], "since": format_rfc3339(previous[1])},
            "queues": {
                name: {
                    "logged_in": True,
                    "since": format_rfc3339(queue.since_us),
                    "paused": queue.paused_since_us is not None,
                    "pause_name": queue.pause_name,
                    "paused_since": None
                    if queue.paused_since_us is None
                    else format_rfc3339(queue.paused_since_us),
                    "inferred": queue.inferred,
                }
                for name, queue in presence.queues.items()
                if name
            },
            "pause_name": paused[-1].pause_name if paused else None,
            "current_calls": [_call(phase) for phase in running if phase.activity != "ringing"],
            "ringing_calls": [_call(phase) for phase in running if phase.activity == "ringing"],
            "last_event_at": format_rfc3339(
                max([event.at_us for event in self.events] + [leg.last_event_us for leg in self.legs])
            ),
            "days": days,
            "queue_days": queue_days,
        }

    def latest(self, name: str) -> str | None:
        values = [((event.at_us, 1, event.event_id, 0), getattr(event, name)) for event in self.events]
        values += [((leg.last_event_us, 0, leg.call_id, leg.leg), getattr(leg, name)) for leg in self.legs]
        values = [(order, value) for order, value in values if value is not None]
        return max(values)[1] if values else None

    def states(self) -> tuple[tuple[str, int] | None, tuple[str, int]]:
        """The state before the last, and the last: each with its start. Only the last may have no length (yet)."""
        runs: list[tuple[str, int]] = []
        for moment in self.moments():  # of neighbours at one moment there is only the last: moments are a set
            state = self.state(moment)
            if not runs or runs[-1][0] != state:
                runs.append((state, moment))
        return (runs[-2] if len(runs) > 1 else None), runs[-1]

    def totals(self) -> tuple[Json, Json]:  # noqa: C901, PLR0912 - every sum in one place, to be read beside the contract
        moments = self.moments()
        oldest = self.days.window(self.until_us).first_shown
        days: dict[str, Json] = {}
        queue_days: dict[str, dict[str, Json]] = {}

        def day(at_us: int) -> Json:
            counts = (
                "answered_in",
                "answered_out",
                "unanswered_out",
                "missed_rings",
                "answered_elsewhere",
                "transfers",
                "pauses",
            )
            sums = ("talk_s", "ring_s", "login_s", "paused_s")
            empty = {**dict.fromkeys(counts, 0), **dict.fromkeys(sums, 0), "pause_s": {}}
            return days.setdefault(self.days.day_of(at_us).name, empty)

        def queue_day(queue: str, at_us: int) -> Json:
            empty = {"answered": 0, "missed_rings": 0, "talk_s": 0, "paused_s": 0}
            return queue_days.setdefault(queue, {}).setdefault(self.days.day_of(at_us).name, empty)

        pause = None
        for start_us, end_us in zip(moments, [*moments[1:], moments[-1]], strict=True):
            length = end_us - start_us
            presence = self.presence(start_us)
            before, pause = pause, self.pause_of_all(presence)
            if pause is not None and pause != before:
                day(start_us)["pauses"] += 1
                day(start_us)["pause_s"].setdefault(pause, 0)
            if presence.status == "in" and not self.is_silent(start_us):
                day(start_us)["login_s"] += length
                if pause is not None and length:
                    day(start_us)["paused_s"] += length
                    day(start_us)["pause_s"][pause] = day(start_us)["pause_s"].get(pause, 0) + length
                for name, queue in presence.queues.items():
                    paused_in = name or self.heir(start_us)
                    if queue.paused_since_us is not None and paused_in is not None:
                        queue_day(paused_in, start_us)["paused_s"] += length
            running = self.running(start_us)
            if any(phase.talks for phase in running):
                day(start_us)["talk_s"] += length
            if any(phase.rings for phase in running):
                day(start_us)["ring_s"] += length
            talking = [phase.leg.queue for phase in running if phase.talks and phase.leg.role == "agent"]
            for queue_name in {queue for queue in talking if queue is not None}:
                queue_day(queue_name, start_us)["talk_s"] += length
        for phase, _ in self.phases:
            if phase.answers and phase.leg.role == "agent":
                day(phase.start_us)["answered_in"] += 1
                if phase.leg.queue is not None:
                    queue_day(phase.leg.queue, phase.start_us)["answered"] += 1
            elif phase.answers:
                day(phase.start_us)["answered_out"] += 1
        for leg in self.legs:
            if leg.ended_us is not None:
                missed, answered_elsewhere, unanswered_out, transfer = outcome_of(leg)
                ended_us = max(leg.ended_us, leg.start_us)
                day(ended_us)["missed_rings"] += missed
                day(ended_us)["answered_elsewhere"] += answered_elsewhere
                day(ended_us)["unanswered_out"] += unanswered_out
                day(ended_us)["transfers"] += transfer
                if missed and leg.queue is not None:
                    queue_day(leg.queue, ended_us)["missed_rings"] += 1
        shown_queues = {queue: _shown(of_queue, oldest) for queue, of_queue in queue_days.items()}
        return _shown(days, oldest), {queue: shown for queue, shown in shown_queues.items() if shown}


def _shown(days: dict[str, Json], oldest: str) -> dict[str, Json]:
    return {
        day: {name: _seconds(name, value) for name, value in totals.items()}
        for day, totals in days.items()
        if day >= oldest and any(value for name, value in totals.items() if name != "pause_s")
    }


def _seconds(name: str, value: Any) -> Any:
    if name == "pause_s":
        return {pause: length_us / 1e6 for pause, length_us in value.items()}
    return value / 1e6 if name.endswith("_s") else value


def _by_beginning(phase: Phase) -> tuple[int, str, int]:
    return phase.since_us, phase.leg.call_id, phase.leg.leg


def _by_weight(phase: Phase) -> tuple[int, tuple[int, str, int]]:
    weights = {"ringing": 0, "consulting": 1, "monitoring": 2, "on_call_in": 3, "on_call_out": 3}
    return weights[phase.activity], _by_beginning(phase)


def _call(phase: Phase) -> Json:
    return {
        "call_id": phase.leg.call_id,
        "queue": phase.leg.queue,
        "number": phase.leg.number,
        "direction": phase.leg.direction,
        "since": format_rfc3339(phase.since_us),
    }


def reference(records: Sequence[Record], as_of_us: int) -> Json | None:
    return Reference(records, as_of_us).document()
