"""
The agent fold alone: CPU (user + system) per record of a working day, with the state at hand and written each time, as a task does.

    python -m benchmarks.bench_folds_agents [--json] [--agents 20 --hours 9]

The day is simulated (bridge.simulate); activity records are what the call fold makes of its calls, which is not counted. `fold`: record
read and taken, state encoded. `documents`: walked over what came since, the document written as JSON. `cold`: both, and the state decoded
before. `batched`: ten records of an agent at once, as a task folds them when it catches up; per record. `late`: a record that comes three
minutes, or hours, too late, at the end of the day. `changelog`: bytes that a record writes there, value and parts, when each is a batch.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from benchmarks.machine import described
from consumers.agents.memory import AgentState
from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection, CallState
from consumers.engine.projection import PartsNeeded
from sandbox.simulator import SimulationPlan, events
from voipex.events import agent_key
from voipex.normalize import Receipt, normalize
from voipex.records import encode
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, CALL_EVENTS, TopicSpec
from voipex.webhook import parse

START_US = 1_772_434_800_000_000
"""2026-03-02 08:00 in Prague."""

CALLS_PER_AGENT_AND_HOUR = 15
BATCH = 500
RECORDS_AT_ONCE = 10
LATE_US = {"late_us_median": 3 * 60 * 1_000_000, "hours_late_us_median": 5 * 3600 * 1_000_000}

Traffic = tuple[str, int, TopicSpec, bytes]
"""(agent, when, topic, value)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--hours", type=float, default=9.0)
    options = parser.parse_args()
    found = run(options.agents, options.hours)
    if options.json:
        print(json.dumps({"machine": described(), **found}, indent=2))
    else:
        print("\n".join(f"{name:>24}  {value}" for name, value in found.items()))


def run(agents: int, hours: float) -> dict[str, Any]:
    records = day(agents, hours)
    totals, states, written = measure(records)
    cold, _, _ = measure(records, is_cold=True)
    folding, documents, _ = measure_parts(records)
    sizes = [len(state.value) for state in states.values()]
    part_sizes = [sum(map(len, state.parts.values())) for state in states.values()]
    return {
        "agents": len(states),
        "hours": hours,
        "records": len(records),
        "records_per_agent": round(len(records) / len(states)),
        "total_us_median": round(statistics.median(totals), 1),
        "total_us_best": round(min(totals), 1),
        "total_us_first_tenth": round(statistics.median(totals[: max(1, len(totals) // 10)]), 1),
        "total_us_last_tenth": round(statistics.median(totals[-max(1, len(totals) // 10) :]), 1),
        "cold_us_median": round(statistics.median(cold), 1),
        "fold_us_median": round(statistics.median(folding), 1),
        "documents_us_median": round(statistics.median(documents), 1),
        "batched_us_median": round(statistics.median(measure_batched(records)), 1),
        **{name: round(measure_late(states, late_us)) for name, late_us in LATE_US.items()},
        "target_us_median": 30,
        "changelog_bytes_median": round(statistics.median(written)),
        "changelog_bytes_p99": round(statistics.quantiles(written, n=100)[98]),
        "changelog_bytes_per_agent": round(sum(written) / len(states)),
        "state_bytes_mean": round(statistics.mean(sizes)),
        "state_bytes_max": max(sizes),
        "part_bytes_mean": round(statistics.mean(part_sizes)),
    }


@dataclass(slots=True)
class Stored:
    """A state as the store holds it."""

    value: bytes = b""
    parts: dict[str, bytes] = field(default_factory=dict)

    def write(self, value: bytes, parts: Mapping[str, bytes | None]) -> int:
        """Return the number of bytes for the changelog."""
        self.value = value
        for name, part in parts.items():
            if part is None:
                self.parts.pop(name, None)
            else:
                self.parts[name] = part
        return len(value) + sum(len(part or b"") for part in parts.values())


def measure(
    records: Sequence[Traffic], *, is_cold: bool = False
) -> tuple[list[float], dict[str, Stored], list[int]]:
    """CPU per record by batches, in microseconds, measured around each batch only; the states; the bytes written by each record."""
    projection = AgentProjection()
    states: dict[str, Stored] = {}
    at_hand: dict[str, AgentState] = {}
    costs, written = [], []
    for first in range(0, len(records), BATCH):
        batch = records[first : first + BATCH]
        started = time.process_time()
        for agent, at_us, kind, value in batch:
            stored = states.setdefault(agent, Stored())
            state = at_hand.get(agent) or projection.initial_state("voipex", agent)
            if is_cold and stored.value:
                state = projection.decode(stored.value, stored.parts)
            try:
                state = projection.fold(state, kind, value)
            except PartsNeeded:
                state = projection.fold(projection.decode(stored.value, stored.parts), kind, value)
            state, _ = projection.emit(state, at_us)
            at_hand[agent], parts = projection.take_parts(state)
            written.append(stored.write(projection.encode(at_hand[agent]), parts))
        costs.append((time.process_time() - started) / len(batch) * 1e6)
    return costs, states, written


def measure_parts(records: Sequence[Traffic]) -> tuple[list[float], list[float], int]:
    """Measure folding and emitting separately; reading the clock in between costs a microsecond."""
    projection = AgentProjection()
    at_hand: dict[str, AgentState] = {}
    folding, documents, emitted = [], [], 0
    for first in range(0, len(records), BATCH):
        batch = records[first : first + BATCH]
        fold_s = documents_s = 0.0
        for agent, at_us, kind, value in batch:
            started = time.process_time()
            state = projection.fold(
                at_hand.get(agent) or projection.initial_state("voipex", agent), kind, value
            )
            folded = time.process_time()
            at_hand[agent], produced = projection.emit(state, at_us)
            written = time.process_time()
            projection.encode(at_hand[agent])
            fold_s += folded - started + time.process_time() - written
            documents_s += written - folded
            emitted += len(produced)
        folding.append(fold_s / len(batch) * 1e6)
        documents.append(documents_s / len(batch) * 1e6)
    return folding, documents, emitted


def measure_batched(records: Sequence[Traffic]) -> list[float]:
    """CPU per record in microseconds, with ten records of an agent at a time."""
    projection = AgentProjection()
    at_hand: dict[str, AgentState] = {}
    waiting: dict[str, list[Traffic]] = {}
    batches: list[list[Traffic]] = []
    for record in records:
        of_agent = waiting.setdefault(record[0], [])
        of_agent.append(record)
        if len(of_agent) == RECORDS_AT_ONCE:
            batches.append(waiting.pop(record[0]))
    costs = []
    at_once = BATCH // RECORDS_AT_ONCE
    for first in range(0, len(batches), at_once):
        measured = batches[first : first + at_once]
        started = time.process_time()
        for batch in measured:
            agent, at_us, _, _ = batch[-1]
            state = at_hand.get(agent) or projection.initial_state("voipex", agent)
            for _, _, kind, value in batch:
                state = projection.fold(state, kind, value)
            at_hand[agent], _ = projection.emit(state, at_us)
            projection.encode(at_hand[agent])
        costs.append((time.process_time() - started) / (len(measured) * RECORDS_AT_ONCE) * 1e6)
    return costs


def measure_late(states: Mapping[str, Stored], late_us: int) -> float:
    """CPU of a late agent event in microseconds: median over the agents."""
    projection = AgentProjection()
    costs = []
    for agent, stored in states.items():
        at_us = projection.decode(stored.value, stored.parts).emitted_us
        event = {
            "event_id": "late",
            "type": "agent_wrapup",
            "received_at": format_rfc3339(at_us - late_us),
            "login": agent,
        }
        value = json.dumps(event).encode()
        started = time.process_time()
        state = projection.fold(projection.decode(stored.value, stored.parts), AGENT_EVENTS, value)
        projection.encode(projection.take_parts(projection.emit(state, at_us)[0])[0])
        costs.append((time.process_time() - started) * 1e6)
    return statistics.median(costs)


def day(agents: int, hours: float) -> list[Traffic]:
    """Agent events and activity records of a simulated day; calls with a lost Hangup are ended by their timers."""
    calls_per_s = agents * CALLS_PER_AGENT_AND_HOUR / 3600
    plan = SimulationPlan(seed=1, agents=agents, queues=4, calls_per_s=calls_per_s, speed=1.0)
    calls = CallProjection()
    states: dict[str, CallState] = {}
    timers: list[tuple[int, str]] = []
    records: list[Traffic] = []

    def tell(call_id: str, state: CallState, at_us: int) -> None:
        states[call_id], documents = calls.emit(state, at_us)
        records.extend(
            (document.key, at_us, AGENT_ACTIVITY, document.value or b"")
            for document in documents
            if document.kind == AGENT_ACTIVITY
        )
        due_us = calls.next_timer(states[call_id])
        if due_us is not None:
            heappush(timers, (due_us, call_id))

    for number, (at_s, words) in enumerate(events(plan)):
        if at_s > hours * 3600:
            break
        at_us = START_US + round(at_s * 1_000_000)
        while timers and timers[0][0] < at_us:
            due_us, call_id = heappop(timers)
            if calls.next_timer(states[call_id]) == due_us:
                tell(call_id, states[call_id], due_us)
        receipt = Receipt(at_us, format_rfc3339(at_us), f"019cade5-4c00-7000-8000-{number:012x}")
        normalized = normalize(parse(json.dumps(words).encode()), "voipex", receipt)
        event = normalized.to_event()
        value = encode(normalized, at_us // 1000, 12).value
        if event.unique_id is None:
            agent = agent_key(event.login, event.line, event.email) or ""
            records.append((agent, at_us, AGENT_EVENTS, value))
        else:
            state = states.get(event.unique_id) or calls.initial_state("voipex", event.unique_id)
            tell(event.unique_id, calls.fold(state, CALL_EVENTS, value), at_us)
    return records


if __name__ == "__main__":
    main()
