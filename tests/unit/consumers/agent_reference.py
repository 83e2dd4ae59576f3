"""
AgentStatus by brute force: each time is computed from all records. Nothing is stored or cached.

It shares single rules with the fold (`Presence.apply`, `phases`), which have exact tests of their own.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from consumers.agents.days import LocalDays
from consumers.agents.fold import FORGET_US, SILENCE_US
from consumers.agents.legs import Leg, Phase, phases
from consumers.agents.presence import AgentEvent, Presence
from consumers.agents.projection import _event_of, _leg_of
from tests.unit.consumers.agent_traffic import Record
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_EVENTS

Json = dict[str, Any]


class Reference:
    def __init__(
        self,
        records: Iterable[Record],
        as_of_us: int,
        agent: str = "janecek",
        time_zone: str = "Europe/Prague",
    ) -> None:
        self.agent = agent
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

    def read_at(self, event: AgentEvent) -> tuple[int, str, int, int, str]:
        """When an event is read, to be sorted by: a pause up to 2 s before logins of its queue right after the last of them."""
        own = (event.at_us, event.event_id, 0, 0, "")
        if event.kind != "agent_paused":
            return own

        def concerns(other: AgentEvent) -> bool:
            return event.queue is None or other.queue is None or other.queue == event.queue

        logins = [
            other
            for other in self.events
            if other.kind == "agent_login"
            and event < other
            and other.at_us <= event.at_us + 2_000_000
            and concerns(other)
        ]
        if not logins:
            return own
        last = max(logins)
        if any(
            event < other < last and other.kind == "agent_unpaused" and concerns(other)
            for other in self.events
        ):
            return own
        return (last.at_us, last.event_id, 1, event.at_us, event.event_id)

    def presence(self, at_us: int) -> Presence:
        return self.applied(at_us)[0]

    def applied(self, at_us: int) -> tuple[Presence, set[str]]:
        """The register at a moment, and the event_ids of logouts that were ignored."""
        presence, ignored = Presence(), set()
        steps: list[tuple[Any, AgentEvent | Leg]] = [((self.read_at(each), 0), each) for each in self.events]
        # A ring comes after the events of its moment.
        steps = [((order[0][0], 0, order[0]), each) for order, each in steps]
        steps += [
            ((leg.start_us, 1, leg.call_id, leg.leg), leg)
            for leg in self.legs
            if leg.role == "agent"
            and leg.queue is not None
            and leg.ring_us is not None
            and not (leg.answered_us is not None and leg.answered_us < leg.ring_us)
            and not (leg.call_answered_us is not None and leg.call_answered_us <= leg.ring_us)
        ]
        for order, each in sorted(steps, key=lambda step: step[0]):
            if order[0] > at_us:
                continue
            if isinstance(each, AgentEvent):
                if presence.apply(each, order[0]).ignored:
                    ignored.add(each.event_id)
                continue
            queue = presence.queues.get(each.queue or "")
            if queue and queue.paused_since_us is not None and order[0] - queue.paused_since_us >= 10_000_000:
                queue.paused_since_us, queue.pause_name, queue.pause_id = None, None, ""
                queue.unpause_inferred = True
        return presence, ignored

    def heir(self, at_us: int) -> str | None:
        """The queue that continues the unnamed pause of this moment, if an event has named one while it ran."""
        presence = self.presence(at_us)
        for event in sorted(self.events, key=self.read_at):
            read_us = self.read_at(event)[0]
            if read_us > at_us:
                heir = presence.apply(event, read_us).heir
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
        shown = [
            phase
            for phase in running
            if phase == min((each for each in running if each.leg.call_id == phase.leg.call_id), key=_by_rank)
        ]
        previous, (state, since_us) = self.states()
        paused = [queue for queue in presence.queues.values() if queue.paused_since_us is not None]
        paused.sort(key=lambda queue: (queue.paused_since_us or 0, queue.pause_id))
        days, queue_days = self.totals()
        return {
            "pbx": "voipex",
            "agent": self.agent,
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
                    "inferred": queue.inferred or queue.unpause_inferred,
                }
                for name, queue in presence.queues.items()
                if name
            },
            "pause_name": paused[-1].pause_name if paused else None,
            "current_calls": [_call(phase) for phase in shown if phase.activity != "ringing"],
            "ringing_calls": [_call(phase) for phase in shown if phase.activity == "ringing"],
            "last_event_at": format_rfc3339(
                max([event.at_us for event in self.events] + [leg.last_event_us for leg in self.legs])
            ),
            "days": days,
            "queue_days": queue_days,
            "dropped": {},
        }

    def latest(self, name: str) -> str | None:
        ignored = self.applied(self.until_us)[1]
        values = [
            ((event.at_us, 1, event.event_id, 0), getattr(event, name))
            for event in self.events
            if event.event_id not in ignored
        ]
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

    def totals(self) -> tuple[Json, Json]:  # noqa: C901 - every sum in one place, to be read beside the contract
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
            talking = [
                self.queue_of(phase.leg) for phase in running if phase.talks and phase.leg.role == "agent"
            ]
            for queue_name in {queue for queue in talking if queue is not None}:
                queue_day(queue_name, start_us)["talk_s"] += length
        self.count(day, queue_day)
        shown_queues = {queue: _shown(of_queue, oldest) for queue, of_queue in queue_days.items()}
        return _shown(days, oldest), {queue: shown for queue, shown in shown_queues.items() if shown}

    def count(self, day: Callable[[int], Json], queue_day: Callable[[str, int], Json]) -> None:  # noqa: C901 - likewise
        """Count rounds, calls and transfers."""
        for leg in self.legs:
            given = leg.transferred_us is not None or leg.result == "transferred"
            if given and leg.role in {"agent", "caller"} and leg.ended_us is not None:
                day(_end(leg))["transfers"] += 1
        for attempts in self.rounds():
            got = [(_talks_from(leg), leg) for leg in attempts if _talks_from(leg) is not None]
            if got:
                at_us = min(got_us for got_us, _ in got if got_us is not None)
                day(at_us)["answered_in"] += 1
                named = self.queue_of_round(attempts, at_us)
                if named is not None:
                    queue_day(named, at_us)["answered"] += 1
            elif all(leg.ended_us is not None and leg.answered_us is None for leg in attempts):
                at_us = max(_end(leg) for leg in attempts)
                results = [leg.result for leg in attempts]
                if any(result in {"no_answer", "busy", "rejected"} for result in results):
                    day(at_us)["missed_rings"] += 1
                    named = self.queue_of_round(attempts, at_us)
                    if named is not None:
                        queue_day(named, at_us)["missed_rings"] += 1
                elif "answered_elsewhere" in results:
                    day(at_us)["answered_elsewhere"] += 1
        for call_id in {leg.call_id for leg in self.legs}:
            made = [leg for leg in self.legs if leg.call_id == call_id and leg.role == "caller"]
            answers = [each for each in map(_talks_from, made) if each is not None]
            if answers:
                day(min(answers))["answered_out"] += 1
            elif made and all(leg.ended_us is not None and leg.result != "timeout" for leg in made):
                day(max(_end(leg) for leg in made))["unanswered_out"] += 1

    def rounds(self) -> list[list[Leg]]:
        """Attempts of role agent that overlap in time, until a phone rings again."""
        rounds: list[list[Leg]] = []
        for leg in sorted(self.legs, key=lambda leg: (leg.start_us, leg.leg)):
            if leg.role != "agent":
                continue
            of_call = [each for each in rounds if each[0].call_id == leg.call_id]
            latest = of_call[-1] if of_call else []
            overlaps = any(
                other.ended_us is None or leg.start_us < _end(other) or leg.start_us == other.start_us
                for other in latest
            )
            over = [other for other in latest if other.ended_us is not None and _end(other) <= leg.start_us]
            rang = latest if leg.line is not None else over
            if overlaps and leg.line not in [other.line for other in rang]:
                latest.append(leg)
            else:
                rounds.append([leg])
        return rounds

    def queue_of_round(self, attempts: list[Leg], at_us: int) -> str | None:
        """That of the attempt that got the caller, else of the first that has one, as known at a moment."""
        got = [
            (at, leg.start_us, leg.leg, leg.queue) for leg in attempts if (at := _talks_from(leg)) is not None
        ]
        queues = [min(got)[3]] if got and min(got)[0] <= at_us else []
        queues += [leg.queue for leg in attempts if leg.start_us <= at_us]
        return next((queue for queue in queues if queue is not None), None)

    def queue_of(self, leg: Leg) -> str | None:
        if leg.queue is not None:
            return leg.queue
        attempts = next(each for each in self.rounds() if leg in each)
        at_us = _talks_from(leg)
        assert at_us is not None
        return self.queue_of_round(attempts, at_us)


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


def _end(leg: Leg) -> int:
    assert leg.ended_us is not None
    return max(leg.ended_us, leg.start_us)


def _talks_from(leg: Leg) -> int | None:
    """When the agent got the caller, or a caller the other party."""
    end_us = leg.ended_us if leg.ended_us is None else _end(leg)
    if leg.role == "caller":
        if leg.talk_us is None or (end_us is not None and leg.talk_us > end_us):
            return None
        return max(leg.talk_us, leg.start_us)
    if leg.role != "agent" or leg.answered_us is None:
        return None
    at_us = max(leg.start_us, leg.answered_us, leg.talk_us or leg.answered_us)
    return at_us if end_us is None else min(at_us, end_us)


def _number(call_id: str) -> tuple[int, int]:
    epoch, sequence = call_id.split(".")
    return int(epoch), int(sequence)


def _by_beginning(phase: Phase) -> tuple[int, tuple[int, int], int]:
    return phase.since_us, _number(phase.leg.call_id), phase.leg.leg


def _by_rank(phase: Phase) -> tuple[int, int, int]:
    """Least first: which of several parts in one call is shown."""
    return -_by_weight(phase)[0], phase.since_us, phase.leg.leg


def _by_weight(phase: Phase) -> tuple[int, tuple[int, tuple[int, int], int]]:
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


def reference(records: Sequence[Record], as_of_us: int, agent: str = "janecek") -> Json | None:
    return Reference(records, as_of_us, agent).document()
