"""
One call, step by step: docs/contract/example-call.md. Each step shows the webhook, its event, the changes of the timeline and the effects on
the agents.

The page is computed by the folds as of each event, so that it cannot drift from the code.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from consumers.explain.page import picture
from consumers.explain.replay import explain
from consumers.explain.trace import Received
from consumers.explain.view import Clock, Wanted, calls
from tools.docs.examples import Examples
from tools.docs.pages import MADE, json_block, table

Json = dict[str, Any]

_COUNTERS: Final = frozenset({"events", "revision", "updated_at"})
"""Fields that change with every event and are not shown."""
_INNER: Final = {"legs": "leg", "transfers": "at"}
"""Lists of objects in a timeline, and the member that identifies an object."""

_INTRODUCTION: Final = """One call from the webhooks of the PBX (left) to the documents that other teams read (right).

```
webhook ──▶ Event ──▶ CallTimeline ──▶ AgentActivity ──▶ AgentStatus
            call.events   call.timelines   agent.activity    agent.status
```

The whole trace is [examples/trace.jsonl](examples/trace.jsonl); `voipex-consumers explain docs/contract/examples/trace.jsonl` draws it, and with
`--html FILE` as a page with such pictures (hatched: rings, full: talks, dotted: is consulted):

![the legs of the call on a time axis](example-call.svg)

Times are UTC. Calls in which something had to be inferred are in [one call of each kind of doubt](example-doubts.md).
"""

CALL_PICTURE: Final = "example-call.svg"


def call_picture(examples: Examples) -> str:
    """The call as an SVG file."""
    return picture(next(calls(examples.explanation, Wanted())), Clock("UTC"))


class _Snapshot:
    """The documents as of the receipt of one event."""

    def __init__(self, examples: Examples, received: Received) -> None:
        explanation = explain(examples.trace, received.at_us)
        self.timelines = {each["call_id"]: each for each in explanation.timelines}
        self.agents = {each["agent"]: each for each in explanation.agents}
        self.activities = list(explanation.activities)


def walkthrough(trace: bytes, examples: Examples) -> str:
    """Return the page. `trace` has the webhooks, one a line, in the order of receipt."""
    received = examples.trace.received
    webhooks = [json.loads(line)["body"] for line in trace.splitlines() if line.strip()]
    call_id = next(each.event.unique_id for each in received if each.event.unique_id is not None)
    steps = [place for place, each in enumerate(received) if each.event.unique_id == call_id]
    before = _Snapshot(examples, received[steps[0] - 1])
    parts = [
        "# One call, from webhook to agent status",
        MADE,
        _INTRODUCTION.strip(),
        "## Before the call",
        _agents_table(before.agents),
    ]
    for number, place in enumerate(steps, start=1):
        now = _Snapshot(examples, received[place])
        parts += _step(number, webhooks[place], received[place], call_id or "", before, now)
        before = now
    return "\n\n".join([*parts, *_end(call_id or "", before)]) + "\n"


def _agents_table(agents: Mapping[str, Json]) -> str:
    return table(
        ["agent", "state", "since", "queues"],
        (
            [f"`{name}`", f"`{each['state']}`", _time(each["since"]), ", ".join(each["queues"])]
            for name, each in agents.items()
        ),
    )


def _step(
    number: int, webhook: Json, received: Received, call_id: str, before: _Snapshot, now: _Snapshot
) -> Iterator[str]:
    event = received.event
    timeline = now.timelines[call_id]
    entry = timeline["events"][-1]
    yield f"## {number}. {_time(event.received_at)} {event.event_name}: `{entry['effect']}`"
    yield "The webhook:"
    yield f"```json\n{json.dumps(webhook, ensure_ascii=False)}\n```"
    yield "The event (without its null fields):"
    known = {
        name: value
        for name, value in event.model_dump(mode="json", by_alias=True).items()
        if value is not None and value != {}
    }
    yield f"```json\n{json.dumps(known, ensure_ascii=False)}\n```"
    if entry["note"] is not None:
        yield f"Note: {entry['note']}."
    yield f"The timeline, revision {timeline['revision']}:"
    yield _changes(changed(before.timelines.get(call_id, {}), timeline))
    fresh = now.activities[len(before.activities) :]
    if fresh:
        yield "Activity:"
        yield table(["agent", "leg", "role", "now"], (_activity_row(each) for each in fresh))
    moved = [
        [f"`{name}`", f"`{before.agents[name]['state']}`", f"`{each['state']}`"]
        for name, each in now.agents.items()
        if name in before.agents and before.agents[name]["state"] != each["state"]
    ]
    if moved:
        yield "Agents:"
        yield table(["agent", "before", "after"], moved)


def changed(before: Json, now: Json) -> Iterator[tuple[str, Any, Any]]:
    """Yield (field, old value, new value) of each difference; objects in lists are compared member by member."""
    for name, value in now.items():
        was = before.get(name)
        if name in _COUNTERS or was == value or (not before and value in (None, [], 0, 0.0, False)):
            continue
        if name not in _INNER:
            yield name, was, value
            continue
        known = {each[_INNER[name]]: each for each in was or []}
        for place, each in enumerate(value):
            earlier = known.get(each[_INNER[name]], {})
            for inner, what in each.items():
                if earlier.get(inner) != what and (earlier or what not in (None, [], 0)):
                    yield f"{name}[{place}].{inner}", earlier.get(inner), what


def _changes(rows: Iterator[tuple[str, Any, Any]]) -> str:
    lines = [[f"`{name}`", _cell(was), _cell(now)] for name, was, now in rows]
    return table(["field", "before", "after"], lines) if lines else "Only the list of events changes."


def _cell(value: Any) -> str:
    """Format a time without its date, any other value as JSON."""
    if value is None or value == []:
        return ""
    if isinstance(value, str) and value.endswith("Z") and "T" in value:
        return _time(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _activity_row(activity: Json) -> list[str]:
    moments = ("ring_started_at", "answered_at", "talk_started_at", "transferred_at", "ended_at")
    facts = [f"{name} {_time(activity[name])}" for name in moments if activity.get(name) is not None]
    if activity.get("result") is not None:
        facts.append(f"result `{activity['result']}`")
    return [f"`{activity['agent']}`", str(activity["leg"]), f"`{activity['role']}`", ", ".join(facts)]


def _end(call_id: str, last: _Snapshot) -> Iterator[str]:
    timeline = last.timelines[call_id]
    latest = {each["leg"]: each for each in last.activities if each["call_id"] == call_id}
    answered = max(
        (each for each in latest.values() if each["talk_started_at"]), key=lambda each: each["leg"]
    )
    yield "## The final documents"
    yield "The timeline ([fields](call-timeline.md)):"
    yield json_block(timeline)
    yield "The activity of the last line that talked to the caller ([fields](agent-activity.md)):"
    yield json_block(answered)
    yield "The status of its agent at the same time ([fields](agent-status.md)):"
    yield json_block(last.agents[answered["agent"]])


def _time(text: str) -> str:
    """Shorten an RFC 3339 time to `07:05:29.640`."""
    return text[11:23]
