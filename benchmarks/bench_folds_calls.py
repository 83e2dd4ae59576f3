"""
The call fold alone: CPU (user + system) per event on simulated traffic, with the state read and written as a task does when it is cold.

    python -m benchmarks.bench_folds_calls [--json] [--calls 10000 --calls 1000000]

`fold`: state decoded, record read, event folded, state encoded. `documents`: what changed of timeline and agents' records, as JSON.
"""

import argparse
import json
import resource
import statistics
import time
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from benchmarks.machine import described
from consumers.calls.projection import CallProjection
from sandbox.simulator import SimulationPlan, events
from voipex.normalize import Receipt, normalize
from voipex.records import encode
from voipex.timestamps import format_rfc3339
from voipex.topics import CALL_EVENTS
from voipex.webhook import parse

BATCH = 5000
KEPT_CALLS = 100_000
"""Limit of the states in memory: all open calls and most ended ones, however long the run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calls", type=int, action="append", help="a run of so many calls; repeatable")
    options = parser.parse_args()
    runs = [run(calls) for calls in options.calls or [10_000, 100_000]]
    if options.json:
        print(json.dumps({"machine": described(), "runs": runs}, indent=2))
    else:
        for found in runs:
            print("  ".join(f"{name} {value}" for name, value in found.items()))


def run(calls: int) -> dict[str, Any]:
    """Fold the events in batches; generating them is not measured."""
    projection = CallProjection()
    states: OrderedDict[str, bytes] = OrderedDict()
    folding, documents = [], []
    records, produced, seen = _records(), 0, 0
    known: set[str] = set()
    while len(known) < calls and (batch := list(islice(records, BATCH))):
        known.update(call_id for call_id, _, _ in batch)
        fold_s = document_s = 0.0
        for call_id, at_us, value in batch:
            started = time.process_time()
            encoded = states.get(call_id)
            state = (
                projection.initial_state("voipex", call_id) if encoded is None else projection.decode(encoded)
            )
            state = projection.fold(state, CALL_EVENTS, value)
            state.folded_call()
            folded = time.process_time()
            state, emitted = projection.emit(state, at_us)
            written = time.process_time()
            states[call_id] = projection.encode(state)
            fold_s += folded - started + time.process_time() - written
            document_s += written - folded
            produced += len(emitted)
        seen += len(batch)
        folding.append(fold_s / len(batch) * 1e6)
        documents.append(document_s / len(batch) * 1e6)
        while len(states) > KEPT_CALLS:
            states.popitem(last=False)
    return {
        "calls": len(known),
        "events": seen,
        "events_per_call": round(seen / len(known), 2),
        "documents_per_event": round(produced / seen, 2),
        "fold_us_median": round(statistics.median(folding), 1),
        "fold_us_first_tenth": round(statistics.median(folding[: max(1, len(folding) // 10)]), 1),
        "fold_us_last_tenth": round(statistics.median(folding[-max(1, len(folding) // 10) :]), 1),
        "documents_us_median": round(statistics.median(documents), 1),
        "state_bytes_mean": round(statistics.mean(map(len, states.values()))),
        "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _records() -> Iterator[tuple[str, int, bytes]]:
    """Yield (call id, received_at, record value) of the call events of an endless busy day."""
    plan = SimulationPlan(seed=1, agents=200, queues=8, calls_per_s=5.0, speed=1.0)
    for number, (at_s, words) in enumerate(events(plan)):
        if "UniqueId" not in words:
            continue
        at_us = 1_772_438_400_000_000 + round(at_s * 1_000_000)
        receipt = Receipt(at_us, format_rfc3339(at_us), f"019cade5-4c00-7000-8000-{number:012x}")
        event = normalize(parse(json.dumps(words).encode()), "voipex", receipt)
        yield words["UniqueId"], at_us, encode(event, at_us // 1000, 12).value


if __name__ == "__main__":
    main()
