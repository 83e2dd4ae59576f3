"""The recorded calls of tests/scenarios, webhook to timeline. Expectations are a subset of the document; `a|b` means either."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.calls.projection import CallProjection, CallState
from voipex.call_timeline import CallTimeline
from voipex.normalize import Receipt, normalize
from voipex.timestamps import format_rfc3339, parse_rfc3339
from voipex.topics import CALL_EVENTS, CALL_TIMELINES
from voipex.webhook import parse

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.json"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_recorded_call_gives_its_timeline(path: Path) -> None:
    scenario = json.loads(path.read_text())
    base_us = parse_rfc3339(scenario["base"])
    events = _events(scenario, base_us)

    for expected in scenario["expect"]:
        documents = _timelines(events, base_us + round(expected["as_of"] * 1_000_000))
        for key, timeline in expected["timelines"].items():
            assert _differences(timeline, documents[key if "/" in key else f"voipex/{key}"]) == []


def _events(scenario: dict[str, Any], base_us: int) -> list[tuple[str, str, bytes]]:
    """(pbx, call id, record value) of every webhook; a redelivery carries the event_id of the one before it."""
    records = []
    event_id = ""
    for number, step in enumerate(scenario["events"]):
        at_us = base_us + round(step["at"] * 1_000_000)
        if not step.get("redelivery"):
            event_id = f"{at_us:020d}-{number:04d}"
        webhook = parse(json.dumps(step["body"]).encode())
        event = normalize(
            webhook, step.get("pbx", "voipex"), Receipt(at_us, format_rfc3339(at_us), event_id), region="CZ"
        ).to_event()
        if event.unique_id is not None:
            records.append((event.pbx, event.unique_id, event.model_dump_json(by_alias=True).encode()))
    return records


def _timelines(records: list[tuple[str, str, bytes]], as_of_us: int) -> dict[str, Any]:
    projection = CallProjection()
    states: dict[str, CallState] = {}
    for pbx, call_id, value in records:
        key = f"{pbx}/{call_id}"
        state = states.get(key) or projection.initial_state(pbx, call_id)
        states[key] = projection.fold(state, CALL_EVENTS, value)
    timelines = {}
    for key, state in states.items():
        for document in projection.emit(state, as_of_us)[1]:
            if document.kind == CALL_TIMELINES and document.value is not None:
                CallTimeline.model_validate_json(document.value)
                timelines[key] = orjson.loads(document.value)
    return timelines


def _differences(expected: Any, actual: Any, where: str = "") -> list[str]:
    if isinstance(expected, dict):
        return [
            difference
            for key, value in expected.items()
            for difference in _differences(value, actual.get(key, "<missing>"), f"{where}.{key}")
        ]
    if isinstance(expected, list):
        if len(expected) != len(actual):
            return [f"{where}: {len(expected)} expected, not {len(actual)}: {actual}"]
        return [
            difference
            for index, value in enumerate(expected)
            for difference in _differences(value, actual[index], f"{where}[{index}]")
        ]
    if (
        isinstance(expected, int | float)
        and not isinstance(expected, bool)
        and isinstance(actual, int | float)
    ):
        return [] if abs(expected - actual) <= 0.01 else [f"{where}: {expected} expected, not {actual}"]
    if isinstance(expected, str) and "|" in expected:
        return [] if actual in expected.split("|") else [f"{where}: {expected} expected, not {actual}"]
    return [] if expected == actual else [f"{where}: {expected} expected, not {actual}"]
