"""
Compare published documents with the fold of the event topics, each at its own moment.

A timeline is folded again from the events of its topic as of its `updated_at`, an agent's status from agent events, activity and lines. The
activity of each leg, which the timelines service writes for the agents, is compared with the fold of its call. By the law of `Projection` every
field must be equal but `revision` and `updated_at`.

Services may be at work meanwhile. So the committed offsets are read first, then the documents, then the inputs: a record below the
committed offset must be in the documents, any other one may be. Records wait in a temporary SQLite file, so memory holds one key at a time.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection, CallState
from consumers.engine.projection import SHOWN_AHEAD_US
from consumers.engine.records import FOLD_VERSION_HEADER, ChangelogRecord, TopicPartition
from voipex.call_timeline import Anomaly
from voipex.timestamps import format_rfc3339, parse_rfc3339
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_LINES,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_TIMELINES,
    DEAD_LETTERS,
    TopicSpec,
    topic_name,
)

Json = dict[str, Any]
What = Literal["calls", "activity", "agents"]

DOCUMENTS: Final = (CALL_TIMELINES, AGENT_STATUS)
AGENT_INPUTS: Final = (AGENT_EVENTS, AGENT_ACTIVITY, AGENT_LINES)
INPUTS: Final = (CALL_EVENTS, *AGENT_INPUTS, DEAD_LETTERS)

SHOWN: Final = 1_000
"""Differing documents that are named; all are counted."""

SHOWN_FIELDS: Final = 20

COUNTERS: Final = frozenset({"revision", "updated_at"})
"""They count the changes of one run."""

AGED_OUT: Final = "events have left their topic"
BEING_FOLDED: Final = "events are still being folded"
OTHER_RULES: Final = "folded by another version of the rules"

OF_NOW: Final = ("activity", "current_calls", "ringing_calls", "last_event_at")
"""Fields of an agent that do not depend on records of days ago."""

OF_CALLS: Final = (
    "answered_in",
    "answered_out",
    "unanswered_out",
    "missed_rings",
    "answered_elsewhere",
    "transfers",
    "talk_s",
    "ring_s",
)
"""Totals of a day that depend on the records of this day only."""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    path: str
    published: Any
    expected: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """A published document that is not as the fold says, or that is missing."""

    pbx: str
    what: What
    key: str
    fields: tuple[FieldDifference, ...]


@dataclass(slots=True)
class Verdict:
    """How many documents are equal, differ, and cannot be compared (by reason), of each kind."""

    equal: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)
    not_comparable: dict[str, Counter[str]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def add(self, pbx: str, what: What, key: str, found: "Sequence[FieldDifference] | str") -> None:
        """*found*: the differences of a document, or why it cannot be compared."""
        if isinstance(found, str):
            self.not_comparable.setdefault(what, Counter())[found] += 1
        elif found:
            self.different[what] += 1
            if len(self.differences) < SHOWN:
                self.differences.append(Difference(pbx, what, key, tuple(found[:SHOWN_FIELDS])))
        else:
            self.equal[what] += 1

    def to_json(self) -> Json:
        kinds: tuple[What, ...] = ("calls", "activity", "agents")
        return {
            **{
                what: {
                    "equal": self.equal[what],
                    "different": self.different[what],
                    "not_comparable": dict(self.not_comparable.get(what, {})),
                }
                for what in kinds
            },
            "differences": [
                {
                    "pbx": each.pbx,
                    "what": each.what,
                    "key": each.key,
                    "fields": [
                        {"field": one.path, "published": one.published, "expected": one.expected}
                        for one in each.fields
                    ],
                }
                for each in self.differences
            ],
        }


# ---------------------------------------------------------------- records


class Records:
    """The records of one PBX in a temporary SQLite file: the newest document of each key, and the inputs by key."""

    def __init__(self, file: Path, pbx: str) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._kinds = {topic_name(pbx, kind): kind for kind in (*DOCUMENTS, *INPUTS)}
        self._begins: dict[tuple[str, int], int] = {}
        self._oldest: dict[tuple[str, int], str] = {}
        self._database.executescript(
            """
            pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -32768;
            create table document (kind text, key text, version text, value blob, primary key (kind, key)) without rowid;
            create table input (kind text, key text, partition int, offset int, value blob);
            create table activity (call_id text, leg int, agent text, value blob, primary key (call_id, leg, agent)) without rowid;
            create table rejected (topic text, partition int, offset int, primary key (topic, partition, offset)) without rowid;
            begin;
            """
        )

    def close(self) -> None:
        self._database.close()

    def begins_at(self, partition: TopicPartition, offset: int) -> None:
        """Note the first offset that a partition still has."""
        self._begins[self._kinds[partition.topic].suffix, partition.partition] = offset

    def add(self, partition: TopicPartition, records: Iterable[ChangelogRecord]) -> None:
        """Add records of a partition in the order of their offsets."""
        kind = self._kinds[partition.topic]
        if kind in DOCUMENTS:
            self._add_documents(kind, records)
        elif kind is DEAD_LETTERS:
            self._add_rejected(records)
        else:
            self._database.executemany(
                "insert into input values (?, ?, ?, ?, ?)",
                [
                    (
                        kind.suffix,
                        each.key.decode(errors="replace"),
                        partition.partition,
                        each.offset,
                        each.value,
                    )
                    for each in records
                    if each.value is not None
                ],
            )

    def _add_documents(self, kind: TopicSpec, records: Iterable[ChangelogRecord]) -> None:
        for each in records:
            version = each.headers.get(FOLD_VERSION_HEADER, b"").decode()
            self._database.execute(
                "insert or replace into document values (?, ?, ?, ?)",
                (kind.suffix, each.key.decode(errors="replace"), version, each.value),
            )

    def _add_rejected(self, records: Iterable[ChangelogRecord]) -> None:
        for each in records:
            place = [each.headers.get(f"__dlq.errors.{name}") for name in ("topic", "partition", "offset")]
            if None not in place:
                topic, partition, offset = (part.decode() for part in place if part is not None)
                self._database.execute(
                    "insert or ignore into rejected values (?, ?, ?)", (topic, int(partition), int(offset))
                )

    def index(self) -> None:
        """Call it once everything is added: take out dead letters, index the inputs, find the newest activity of each leg."""
        for topic, kind in self._kinds.items():
            self._database.execute(
                "delete from input where kind = ? and (partition, offset) in (select partition, offset from rejected where topic = ?)",
                (kind.suffix, topic),
            )
        self._database.execute("create index of_key on input (kind, key, offset)")
        rows = self._database.execute(
            "select key, value from input where kind = ? order by partition, offset", (AGENT_ACTIVITY.suffix,)
        )
        for key, value in rows:
            record = _object(value)
            call_id, leg = record.get("call_id"), record.get("leg")
            if isinstance(call_id, str) and isinstance(leg, int):
                self._database.execute(
                    "insert or replace into activity values (?, ?, ?, ?)", (call_id, leg, key, value)
                )

    def keys(self, document: TopicSpec, inputs: Sequence[TopicSpec]) -> Iterator[str]:
        """Every key that has a document or an input."""
        kinds = [kind.suffix for kind in inputs]
        places = ", ".join("?" * len(kinds))
        yield from (
            key
            for (key,) in self._database.execute(
                f"select key from document where kind = ? union select key from input where kind in ({places})",  # noqa: S608  # question marks
                (document.suffix, *kinds),
            )
        )

    def document(self, kind: TopicSpec, key: str) -> tuple[str, Json | None]:
        """The fold version and the value of the newest document; None: deleted, or never published."""
        row = self._database.execute(
            "select version, value from document where kind = ? and key = ?", (kind.suffix, key)
        ).fetchone()
        if row is None or row[1] is None:
            return "", None
        return row[0], _object(row[1])

    def inputs(self, kind: TopicSpec, key: str) -> list[tuple[int, int, bytes]]:
        """(partition, offset, value), in order."""
        return self._database.execute(
            "select partition, offset, value from input where kind = ? and key = ? order by offset",
            (kind.suffix, key),
        ).fetchall()

    def activities(self, call_id: str) -> Iterator[tuple[int, str, Json]]:
        """(leg, agent, record): the newest of each leg and agent."""
        rows = self._database.execute(
            "select leg, agent, value from activity where call_id = ?", (call_id,)
        ).fetchall()
        yield from ((leg, agent, _object(value)) for leg, agent, value in rows)

    def complete_since(self, kind: TopicSpec, partition: int) -> str | None:
        """When the oldest record that is left was received; None: no record has left the partition. `9999` if none is left."""
        place = (kind.suffix, partition)
        if self._begins.get(place, 0) == 0:
            return None
        if place not in self._oldest:
            row = self._database.execute(
                "select value from input where kind = ? and partition = ? order by offset limit 1", place
            ).fetchone()
            record = {} if row is None else _object(row[0])
            since = record.get("received_at") or record.get("last_event_at") or record.get("at")
            self._oldest[place] = since if isinstance(since, str) else "9999"
        return self._oldest[place]


def _object(value: bytes) -> Json:
    """A record's value as an object; an unreadable one is empty."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


# ---------------------------------------------------------------- comparison


@dataclass(frozen=True, slots=True)
class Verification:
    """
    committed: the next offset of each service and input partition, read before the documents; None: never committed.
    partition_of: the partition of a key, of every topic.
    """

    pbx: str
    records: Records
    calls: CallProjection
    agents: AgentProjection
    committed: Mapping[tuple[TopicSpec, int], int | None]
    partition_of: Callable[[str], int]

    def run(self, verdict: Verdict, progress: Callable[[str], None] = lambda _: None) -> None:
        for number, key in enumerate(self.records.keys(CALL_TIMELINES, (CALL_EVENTS,))):
            if number % 1000 == 0:
                progress(f"{self.pbx}: {number} calls")
            self._verify_call(verdict, key)
        for number, key in enumerate(self.records.keys(AGENT_STATUS, AGENT_INPUTS)):
            if number % 100 == 0:
                progress(f"{self.pbx}: {number} agents")
            verdict.add(self.pbx, "agents", key, self._agent(key))

    # ------------------------------------------------------------ calls

    def _verify_call(self, verdict: Verdict, call_id: str) -> None:
        version, document = self.records.document(CALL_TIMELINES, call_id)
        state, folded, waiting = self._events(call_id, document)
        if document is None:
            if folded:
                verdict.add(self.pbx, "calls", call_id, [FieldDifference("", None, "a timeline")])
            elif waiting:
                verdict.add(self.pbx, "calls", call_id, BEING_FOLDED)
            return
        reason = self._not_comparable(call_id, version, document, state)
        if waiting and document["events_dropped"]:  # some of them may be in it
            reason = reason or BEING_FOLDED
        if reason is not None:
            verdict.add(self.pbx, "calls", call_id, reason)
            return
        as_of_us = parse_rfc3339(document["updated_at"])
        # Of a call whose time was ahead of the clock; what is further ahead than a day waits.
        limit_us = as_of_us - 1 if Anomaly.CLOCK_SKEW in document["anomalies"] else as_of_us
        late = [each for each in state.events if as_of_us < each.at_us <= as_of_us + SHOWN_AHEAD_US]
        _, produced = self.calls.emit(state, as_of_us, limit_us)
        expected = _object(produced[0].value or b"") if produced else {}
        found = [*_differences(document, expected)]
        if late:  # each event changes `events`, so a document that has it is not older
            found.append(
                FieldDifference("updated_at", document["updated_at"], format_rfc3339(late[-1].at_us))
            )
        verdict.add(self.pbx, "calls", call_id, found)
        self._verify_activities(
            verdict, call_id, document, [_object(each.value or b"") for each in produced[1:]]
        )

    def _events(self, call_id: str, document: Json | None) -> tuple[CallState, int, int]:
        """
        The state from all events that the document has or must have. How many must be in it, and how many wait to be folded.
        """
        state = self.calls.initial_state(self.pbx, call_id)
        known = set() if document is None else {each["event_id"] for each in document["events"]}
        folded = waiting = 0
        for partition, offset, value in self.records.inputs(CALL_EVENTS, call_id):
            is_folded = self._is_folded(CALL_EVENTS, partition, offset)
            if not is_folded and _object(value).get("event_id") not in known:
                waiting += 1
                continue
            folded += is_folded
            try:
                state = self.calls.fold(state, CALL_EVENTS, value)
            except ValueError:  # a dead letter that has left its topic
                continue
        return state, folded, waiting

    def _is_folded(self, kind: TopicSpec, partition: int, offset: int) -> bool:
        committed = self.committed.get((kind, partition))
        return committed is not None and offset < committed

    def _not_comparable(self, call_id: str, version: str, document: Json, state: CallState) -> str | None:
        if version != str(self.calls.fold_version):
            return OTHER_RULES
        since = self.records.complete_since(CALL_EVENTS, self.partition_of(call_id))
        if since is None:
            return None
        there = {event.event_id for event in state.events}
        gone = [each for each in document["events"] if each["event_id"] not in there]
        return AGED_OUT if any(each["at"] <= since for each in gone) else None

    def _verify_activities(
        self, verdict: Verdict, call_id: str, document: Json, expected: Sequence[Json]
    ) -> None:
        published = {(leg, agent): record for leg, agent, record in self.records.activities(call_id)}
        if any(record["revision"] > document["revision"] for record in published.values()):
            verdict.add(self.pbx, "activity", call_id, BEING_FOLDED)
            return
        wanted = {(each["leg"], each["agent"]): each for each in expected}
        for leg, agent in sorted(published.keys() | wanted.keys()):
            key = f"{agent} {call_id} leg {leg}"
            record, fold = published.get((leg, agent)), wanted.get((leg, agent))
            if fold is None:
                fault = (
                    [] if record is None or record["removed"] else [FieldDifference("removed", False, True)]
                )
                verdict.add(self.pbx, "activity", key, fault)
            elif record is None:
                aged = self.records.complete_since(AGENT_ACTIVITY, self.partition_of(agent)) is not None
                missing = [FieldDifference("", None, "an activity")]
                verdict.add(self.pbx, "activity", key, AGED_OUT if aged else missing)
            else:
                verdict.add(self.pbx, "activity", key, list(_differences(record, fold)))

    # ------------------------------------------------------------ agents

    def _agent(self, key: str) -> list[FieldDifference] | str:
        version, document = self.records.document(AGENT_STATUS, key)
        if document is not None and version != str(self.agents.fold_version):
            return OTHER_RULES
        found = self._agent_differences(key, document, with_waiting=False)
        if not found:
            return []
        if self._has_waiting(key):
            return BEING_FOLDED if self._agent_differences(key, document, with_waiting=True) else []
        partition = self.partition_of(key)
        since = [self.records.complete_since(kind, partition) for kind in AGENT_INPUTS]
        aged = [each for each in since if each is not None]
        if not aged:
            return found
        return [each for each in found if _is_recent(each.path, max(aged))] or AGED_OUT

    def _has_waiting(self, key: str) -> bool:
        return any(
            not self._is_folded(kind, partition, offset)
            for kind in AGENT_INPUTS
            for partition, offset, _ in self.records.inputs(kind, key)
        )

    def _agent_differences(
        self, key: str, document: Json | None, *, with_waiting: bool
    ) -> list[FieldDifference]:
        state = self.agents.initial_state(self.pbx, key)
        folded = 0
        for kind in AGENT_INPUTS:
            for partition, offset, value in self.records.inputs(kind, key):
                if with_waiting or self._is_folded(kind, partition, offset):
                    try:
                        state = self.agents.fold(state, kind, value)
                    except ValueError:  # a dead letter that has left its topic
                        continue
                    folded += 1
        expected: Json | None = None
        if folded:
            as_of_us = state.touched_us if document is None else parse_rfc3339(document["updated_at"])
            _, produced = self.agents.emit(state, as_of_us, as_of_us)
            values = [each.value for each in produced if each.kind is AGENT_STATUS]
            expected = None if not values or values[0] is None else _object(values[0])
        if document is None:
            return [] if expected is None else [FieldDifference("", None, "a status")]
        if expected is None:
            return [FieldDifference("", "a status", None)]
        return list(_differences(document, expected))


def _is_recent(path: str, since: str) -> bool:
    """Whether a field of an agent depends only on records after *since*."""
    name, _, rest = path.partition(".")
    if name.partition("[")[0] in OF_NOW:
        return True
    if name != "days":
        return False
    day, _, total = rest.partition(".")
    try:
        # A day more, since days are local and *since* is in UTC.
        return total in OF_CALLS and date.fromisoformat(day) > date.fromisoformat(since[:10]) + timedelta(
            days=1
        )
    except ValueError:
        return False


def _differences(published: Any, expected: Any, path: str = "") -> Iterator[FieldDifference]:
    """Compare field by field: `legs[1].ended_at`."""
    if isinstance(published, dict) and isinstance(expected, dict):
        for name in sorted(published.keys() | expected.keys()):
            if path or name not in COUNTERS:
                inner = f"{path}.{name}" if path else name
                yield from _differences(published.get(name), expected.get(name), inner)
    elif isinstance(published, list) and isinstance(expected, list) and len(published) == len(expected):
        for place, (one, other) in enumerate(zip(published, expected, strict=True)):
            yield from _differences(one, other, f"{path}[{place}]")
    elif published != expected:
        yield FieldDifference(path, published, expected)
