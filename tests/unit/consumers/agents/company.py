"""Several agents and lines: their states as the tasks of all partitions hold them, and who owns a line, worked out from all records at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from consumers.agents.memory import AgentState
from tests.unit.consumers.agent_reference import Json, reference
from tests.unit.consumers.agent_traffic import (
    DAY,
    HOUR,
    MONDAY,
    PRAGUE,
    SECOND,
    Record,
    event,
    leg,
    restarted,
    statuses,
)
from voipex.events import agent_key
from voipex.timestamps import parse_rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, AGENT_LINES, TopicSpec

NINETY_DAYS = 90 * DAY


def key_of(record: Record) -> str:
    fields = orjson.loads(record.value)
    if record.kind == AGENT_ACTIVITY:
        return str(fields["agent"])
    return agent_key(fields["login"], fields["line"], fields["email"]) or ""


def activity(call_id: str, number: int, **fields: Any) -> Record:
    """An activity record at the key that its Login, else its Line gives."""
    agent = agent_key(fields.get("login"), fields.get("line"), None)
    return leg(call_id, number, **{"login": None, "agent": agent, **fields})


@dataclass
class Company:
    """The tasks of the agents service: a state for each key, and records that are on their way."""

    random: Random
    states: dict[str, AgentState] = field(default_factory=dict)
    on_the_way: list[tuple[TopicSpec, str, bytes, int]] = field(default_factory=list)
    written: list[tuple[TopicSpec, str, bytes, int]] = field(default_factory=list)

    def run(self, records: Sequence[Record], as_of_us: int) -> dict[str, Json]:
        """The statuses as of a moment, after all records were read in some order and some of them twice."""
        self.on_the_way = [(each.kind, key_of(each), each.value, each.at_us) for each in records]
        while self.on_the_way:
            self.fold(self._any(), as_of_us)
        return self.documents(as_of_us)

    def run_in_batches(self, records: Sequence[Record], as_of_us: int) -> dict[str, Json]:
        """The same, with batches of records between two emissions, as a task folds them, and restarts between batches."""
        self.on_the_way = [(each.kind, key_of(each), each.value, each.at_us) for each in records]
        while self.on_the_way:
            batch = [self._any() for _ in range(self.random.randint(1, 8)) if self.on_the_way]
            self.fold_batch(batch, as_of_us)
        return self.documents(as_of_us)

    def _any(self) -> tuple[TopicSpec, str, bytes, int]:
        """One of the records on their way; it may come again."""
        place = self.random.randrange(len(self.on_the_way))
        return self.on_the_way[place] if self.random.random() < 0.1 else self.on_the_way.pop(place)

    def run_in_order(self, records: Sequence[Record], as_of_us: int) -> dict[str, Json]:
        for each in records:
            self.on_the_way.append((each.kind, key_of(each), each.value, each.at_us))
            while self.on_the_way:
                self.fold(self.on_the_way.pop(0), each.at_us)
        return self.documents(as_of_us)

    def fold(self, record: tuple[TopicSpec, str, bytes, int], latest_us: int) -> None:
        self.fold_batch([record], latest_us)

    def fold_batch(self, records: Sequence[tuple[TopicSpec, str, bytes, int]], latest_us: int) -> None:
        """Fold records, then emit each key that they touched, once."""
        states: dict[str, AgentState] = {}
        for kind, key, value, _ in records:
            state = states.get(key) or self.states.get(key) or PRAGUE.initial_state("voipex", key)
            states[key] = PRAGUE.fold(state, kind, value)
            if self.random.random() < 0.5:
                states[key] = restarted(states[key])
        at_us = max(at_us for *_, at_us in records)
        emits_us = min(at_us + self.random.choice([0, 0, SECOND, HOUR, DAY]), latest_us)
        for key, state in states.items():
            emitted, produced = PRAGUE.emit(state, emits_us)
            self.states[key] = restarted(emitted)
            sent = [
                (AGENT_LINES, each.key, each.value or b"", at_us)
                for each in produced
                if each.kind == AGENT_LINES
            ]
            self.on_the_way += sent
            self.written += sent

    def documents(self, as_of_us: int) -> dict[str, Json]:
        found = {}
        for key, state in self.states.items():
            state.digest = 0
            _, produced = PRAGUE.emit(state, as_of_us)
            for document in statuses(produced):
                if document.value is not None:
                    fields = orjson.loads(document.value)
                    del fields["revision"], fields["updated_at"]
                    found[key] = fields
        return found


def company_reference(records: Sequence[Record], as_of_us: int) -> dict[str, Json]:
    """The statuses of all agents, from the records as they stand at the end."""
    events = [each for each in records if each.kind == AGENT_EVENTS]
    legs: dict[tuple[str, str, int], Json] = {}
    for record in records:
        if record.kind == AGENT_ACTIVITY:
            fields = orjson.loads(record.value)
            key = (fields["agent"], fields["call_id"], fields["leg"])
            if key not in legs or fields["revision"] > legs[key]["revision"]:
                legs[key] = fields
    live = [fields for fields in legs.values() if not fields["removed"]]
    claims = _claims(events, live)
    of_agent: dict[str, list[Record]] = {}
    for each in events:
        of_agent.setdefault(key_of(each), []).append(each)
    for fields in live:
        agent = fields["agent"]
        if fields["login"] is None and fields["line"] is not None:
            agent = _owner(claims, fields["line"], _begin(fields)) or agent
        value = orjson.dumps({**fields, "agent": agent})
        of_agent.setdefault(agent, []).append(Record(as_of_us, AGENT_ACTIVITY, value))
    statuses_by_key = {key: reference(found, as_of_us, key) for key, found in of_agent.items()}
    return {key: fields for key, fields in statuses_by_key.items() if fields is not None}


Claims = list[tuple[str, tuple[Any, ...], str]]
"""(line, order, agent)."""


def _claims(events: Sequence[Record], legs: Sequence[Json]) -> Claims:
    claims: Claims = []
    for each in events:
        fields = orjson.loads(each.value)
        if fields["login"] and fields["line"] and fields["type"] != "agent_logout":
            order = (parse_rfc3339(fields["received_at"]), 0, fields["event_id"])
            claims.append((fields["line"], order, fields["login"].casefold()))
    for fields in legs:
        if fields["login"] and fields["line"]:
            epoch, sequence = fields["call_id"].split(".")
            order = (_begin(fields), 1, (int(epoch), int(sequence), fields["leg"]))
            claims.append((fields["line"], order, fields["login"].casefold()))
    return claims


def _owner(claims: Claims, line: str, at_us: int) -> str | None:
    until_then = [(order, agent) for claimed, order, agent in claims if claimed == line and order[0] <= at_us]
    if not until_then:
        return None
    order, agent = max(until_then, key=lambda each: (each[0][0], each[0][1], each[0][2]))
    return agent if at_us - order[0] <= NINETY_DAYS else None


def _begin(fields: Json) -> int:
    return parse_rfc3339(fields["ring_started_at"] or fields["answered_at"] or fields["ended_at"])


# ---------------------------------------------------------------- any traffic

LINES = ("201", "202")
LOGINS = ("novak", "bara")


def traffic(random: Random, *, longest_us: int = 3 * HOUR) -> list[Record]:
    """Agent events and legs of two agents and two lines; some name Login and Line, some only the Line, some the Login late."""
    now = MONDAY
    records: list[Record] = []
    for number in range(random.randint(1, 10)):
        now += random.choice([0, 1, SECOND, 20 * SECOND, HOUR, random.randint(0, longest_us)])
        records += (
            _event(random, now, number) if random.random() < 0.4 else _revisions_of_leg(random, now, number)
        )
    return sorted(records, key=lambda record: record.at_us)


def _event(random: Random, now: int, number: int) -> list[Record]:
    name = random.choice(["login", "login", "logout", "paused", "unpaused"])
    login = random.choice([*LOGINS, None])
    line = random.choice(LINES) if login is None else random.choice([*LINES, None])
    queue = random.choice(["NOC", "Sales", None])
    return [event(now, name, queue, event_id=f"{number}", login=login, line=line)]


def _revisions_of_leg(random: Random, now: int, number: int) -> list[Record]:  # noqa: C901 - a list of chances
    """A leg may get its Login with any revision, and may lose it, change it or its Line where the call is read anew."""
    call_id = random.choice([f"{now // SECOND}.{number}", f"{now // DAY}.9", f"{now // DAY}.10"])
    role = random.choice(["agent", "caller", "consult"])
    login, line = random.choice([None, None, *LOGINS]), random.choice(LINES)
    times: dict[str, Any] = {"ring": now}
    records: list[Record] = []
    known: str | None = None

    def write(last_us: int) -> None:
        nonlocal known
        fields = {"role": role, "line": line, "last": last_us, "revision": len(records) + 1, **times}
        record = activity(call_id, number + 1, login=login, **fields)
        if known is not None and known != key_of(record):
            records.append(
                leg(call_id, number + 1, agent=known, login=None, **{**fields, "removed": True, "line": None})
            )
            record = activity(call_id, number + 1, login=login, **fields)
        known = key_of(record)
        records.append(record)

    write(now)
    for step in ("answered", "ended", "after"):
        now += random.choice([0, 1, 5 * SECOND, HOUR])
        if random.random() < 0.3:
            login = random.choice([None, *LOGINS])
        if random.random() < 0.1:
            line = random.choice(LINES)
        if step == "answered":
            if random.random() < 0.4:
                continue
            times["answered"] = now
        elif step == "ended":
            if random.random() < 0.2:
                continue
            times["ended"] = now
            times["result"] = (
                "completed" if "answered" in times else random.choice(["no_answer", "cancelled"])
            )
        elif random.random() < 0.5:
            continue
        write(now)
    return records
