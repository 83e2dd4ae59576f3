"""
CPU time of the agent fold per record: decode the state, fold, produce the document, encode the state; as a task without any cache would.

The traffic is a working week of one agent, seeded: calls of two queues, some missed, some outgoing; pauses in both queues. Records are
measured on the last day, in the order of time.

    python benchmarks/bench_folds_agents.py --json
"""

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from bridge.events import rfc3339
from bridge.topics import AGENT_ACTIVITY, AGENT_EVENTS, TopicKind
from consumers.agents.projection import AgentProjection

SECOND = 1_000_000
QUEUES = ("support", "sales")

Traffic = tuple[int, TopicKind, bytes]


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of the agent fold per record.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--days", type=int, default=5, help="working days before the end (default 5)")
    parser.add_argument("--calls-per-day", type=int, default=90)
    parser.add_argument("--agents", type=int, default=5, help="how many weeks to measure")
    options = parser.parse_args()
    result = measure(options.agents, options.days, options.calls_per_day)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>24}  {value}")


def measure(agents: int, days: int, calls_per_day: int) -> dict[str, Any]:
    projection = AgentProjection()
    costs_us: list[float] = []
    state_bytes: list[int] = []
    for seed in range(agents):
        encoded = projection.encode(projection.start("voipex", "janecek"))
        for day, (at_us, kind, value) in week(seed, days, calls_per_day):
            started_ns = time.process_time_ns()
            state = projection.decode(encoded)
            state = projection.fold(state, kind, value)
            state, _ = projection.produce(state, at_us)
            encoded = projection.encode(state)
            cost_ns = time.process_time_ns() - started_ns
            if day == days - 1:
                costs_us.append(cost_ns / 1000)
                state_bytes.append(len(encoded))
    costs_us.sort()
    return {
        "benchmark": "folds_agents",
        "records": len(costs_us),
        "median_us": round(statistics.median(costs_us), 1),
        "mean_us": round(statistics.fmean(costs_us), 1),
        "p95_us": round(costs_us[len(costs_us) * 95 // 100], 1),
        "p99_us": round(costs_us[len(costs_us) * 99 // 100], 1),
        "state_bytes_median": statistics.median(state_bytes),
        "state_bytes_max": max(state_bytes),
        "target_median_us": 30,
        "days": days,
        "calls_per_day": calls_per_day,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "at": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def week(seed: int, days: int, calls_per_day: int) -> Iterator[tuple[int, Traffic]]:
    chance = random.Random(seed)
    monday_us = 1_772_434_800 * SECOND  # 2026-03-02 08:00 in Prague
    for day in range(days):
        start_us = monday_us + day * 24 * 3600 * SECOND
        records = [agent_event(start_us + n * SECOND, "login", queue) for n, queue in enumerate(QUEUES)]
        at_us = start_us + 60 * SECOND
        for call in range(calls_per_day):
            at_us += chance.randrange(30, 300) * SECOND
            if chance.random() < 0.15:
                pause = chance.choice(["Oběd", "Káva", "Administrativa"])
                records += [agent_event(at_us + n, "paused", queue, pause) for n, queue in enumerate(QUEUES)]
                at_us += chance.randrange(60, 1800) * SECOND
                records += [agent_event(at_us + n, "unpaused", queue) for n, queue in enumerate(QUEUES)]
                at_us += 30 * SECOND
            records += list(call_of(chance, at_us, call))
            at_us = records[-1][0]
        records += [agent_event(at_us + n * SECOND, "logout", queue) for n, queue in enumerate(QUEUES, 60)]
        for record in records:
            yield day, record


def call_of(chance: random.Random, at_us: int, number: int) -> Iterator[Traffic]:
    """Rings, is answered (or not), ends; and one time in three a CDR's revision that changes nothing of the leg."""
    call_id = f"{at_us // SECOND}.{number}"
    outgoing = chance.random() < 0.2
    told: dict[str, Any] = {
        "role": "caller" if outgoing else "agent",
        "queue": None if outgoing else chance.choice(QUEUES),
        "direction": "outgoing" if outgoing else "incoming",
        "number": f"7{chance.randrange(10**8):08d}",
        "ring_started_at": rfc3339(at_us),
    }
    yield activity(at_us, call_id, 2, told)
    at_us += chance.randrange(1, 20) * SECOND + chance.randrange(SECOND)
    revision = 3
    if chance.random() < 0.8:
        told["answered_at"] = told["talk_started_at"] = rfc3339(at_us)
        yield activity(at_us, call_id, revision, told)
        revision += 1
        at_us += chance.randrange(10, 400) * SECOND + chance.randrange(SECOND)
        told["result"] = "completed"
    else:
        told["result"] = "no_answer"
    told["ended_at"] = rfc3339(at_us)
    yield activity(at_us, call_id, revision, told)
    if chance.random() < 0.3:
        yield activity(at_us + SECOND, call_id, revision + 1, told)


def activity(at_us: int, call_id: str, revision: int, told: dict[str, Any]) -> Traffic:
    record: dict[str, Any] = {
        "pbx": "voipex",
        "agent": "janecek",
        "call_id": call_id,
        "leg": 1,
        "revision": revision,
        "removed": False,
        "login": "janecek",
        "line": "163",
        "email": "janecek@example.com",
        "answered_at": None,
        "talk_started_at": None,
        "ended_at": None,
        "result": None,
        "transferred_at": None,
        **told,
        "last_event_at": rfc3339(at_us),
    }
    return at_us, AGENT_ACTIVITY, orjson.dumps(record)


def agent_event(at_us: int, name: str, queue: str, pause: str | None = None) -> Traffic:
    record: dict[str, Any] = {
        "event_id": f"019cade5-4c00-7000-8000-{at_us % 10**12:012d}",
        "pbx": "voipex",
        "type": f"agent_{name}",
        "event_name": "Agent",
        "received_at": rfc3339(at_us),
        "unique_id": None,
        "line": "163",
        "login": "janecek",
        "email": "janecek@example.com",
        "queue": queue,
        "pause_name": pause,
        "extra": {},
    }
    return at_us, AGENT_EVENTS, orjson.dumps(record)


if __name__ == "__main__":
    main()
