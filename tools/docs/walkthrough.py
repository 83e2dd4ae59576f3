"""
One call told step by step: docs/contract/example-call.md. Each step shows a webhook as it came, the event that it became, what that
changed in the timeline, and what it did to the agents.

It is what the folds say as of each event, one after the other, so that it cannot drift from the code.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from consumers.explain.replay import explain
from consumers.explain.trace import Received
from tools.docs.examples import Examples
from tools.docs.pages import MADE, json_block, table

Json = dict[str, Any]

_COUNTERS: Final = frozenset({"events", "revision", "updated_at"})
"""Change with every event; not worth a row."""
_INNER: Final = {"legs": "leg", "transfers": "at"}
"""Lists of objects in a timeline, and what tells their members apart."""

_INTRODUCTION: Final = """What becomes of one call: the webhooks of the PBX on the left end, the documents that other teams read on the right.

```
webhook ──▶ Event ──▶ CallTimeline ──▶ AgentActivity ──▶ AgentStatus
            call.events   call.timelines   agent.activity    agent.status
```

The whole trace is [examples/trace.jsonl](examples/trace.jsonl); `voipex-consumers explain docs/contract/examples/trace.jsonl` draws it. Times are UTC.
"""


class _Moment:
    """What the folds say as of the receipt of one event."""

    def __init__(self, examples: Examples, received: Received) -> None:
        told = explain(examples.trace, received.at_us)
        self.timelines = {each["call_id"]: each for each in told.timelines}
        self.agents = {each["agent"]: each for each in told.agents}
        self.activities = list(told.activities)


def walkthrough(trace: bytes, examples: Examples) -> str:
    """The page; `trace` holds the webhooks as they came, one a line, in the order of time."""
    received = examples.trace.received
    webhooks = [json.loads(line)["body"] for line in trace.splitlines() if line.strip()]
    call_id = next(each.event.unique_id for each in received if each.event.unique_id is not None)
    steps = [place for place, each in enumerate(received) if each.event.unique_id == call_id]
    before = _Moment(examples, received[steps[0] - 1])
    parts = [
        "# One call, from webhook to agent status",
        MADE,
        _INTRODUCTION.strip(),
        "## Before the call",
        _standing(before.agents),
    ]
    for number, place in enumerate(steps, start=1):
        now = _Moment(examples, received[place])
        parts += _step(number, webhooks[place], received[place], call_id or "", before, now)
        before = now
    return "\n\n".join([*parts, *_end(call_id or "", before)]) + "\n"


def _standing(agents: Mapping[str, Json]) -> str:
    return table(
        ["agent", "state", "since", "queues"],
        (
            [f"`{name}`", f"`{each['state']}`", _time(each["since"]), ", ".join(each["queues"])]
            for name, each in agents.items()
        ),
    )


def _step(
    number: int, webhook: Json, received: Received, call_id: str, before: _Moment, now: _Moment
) -> Iterator[str]:
    event = received.event
    timeline = now.timelines[call_id]
    told = timeline["events"][-1]
    yield f"## {number}. {_time(event.received_at)} {event.event_name}: `{told['effect']}`"
    yield "The webhook:"
    yield f"```json\n{json.dumps(webhook, ensure_ascii=False)}\n```"
    yield "The event (what is null is left out here):"
    known = {
        name: value
        for name, value in event.model_dump(mode="json", by_alias=True).items()
        if value is not None and value != {}
    }
    yield f"```json\n{json.dumps(known, ensure_ascii=False)}\n```"
    if told["note"] is not None:
        yield f"Note: {told['note']}."
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
        yield table(["agent", "was", "is"], moved)


def changed(before: Json, now: Json) -> Iterator[tuple[str, Any, Any]]:
    """(field, was, is) of what differs; members of lists of objects are compared one by one."""
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
    told = [[f"`{name}`", _cell(was), _cell(now)] for name, was, now in rows]
    return table(["field", "was", "is"], told) if told else "Nothing but the list of events changes."


def _cell(value: Any) -> str:
    """A time without its date, everything else as JSON."""
    if value is None or value == []:
        return ""
    if isinstance(value, str) and value.endswith("Z") and "T" in value:
        return _time(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _activity_row(activity: Json) -> list[str]:
    moments = ("ring_started_at", "answered_at", "talk_started_at", "transferred_at", "ended_at")
    said = [f"{name} {_time(activity[name])}" for name in moments if activity.get(name) is not None]
    if activity.get("result") is not None:
        said.append(f"result `{activity['result']}`")
    return [f"`{activity['agent']}`", str(activity["leg"]), f"`{activity['role']}`", ", ".join(said)]


def _end(call_id: str, last: _Moment) -> Iterator[str]:
    timeline = last.timelines[call_id]
    latest = {each["leg"]: each for each in last.activities if each["call_id"] == call_id}
    answered = max(
        (each for each in latest.values() if each["talk_started_at"]), key=lambda each: each["leg"]
    )
    yield "## What readers have in the end"
    yield "The timeline ([what the fields mean](call-timeline.md)):"
    yield json_block(timeline)
    yield "The activity of the line that had the caller last ([fields](agent-activity.md)):"
    yield json_block(answered)
    yield "And the status of its agent, as of the same moment ([fields](agent-status.md)):"
    yield json_block(last.agents[answered["agent"]])


def _time(text: str) -> str:
    """`07:05:29.640` of an RFC 3339 time of ours."""
    return text[11:23]
