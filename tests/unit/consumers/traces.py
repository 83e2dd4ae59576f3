"""Scenarios as traces for `explain`, and the comparison of documents with the expectations of a scenario."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

SCENARIOS = Path(__file__).parents[2] / "scenarios"

Json = dict[str, Any]


def scenario_names() -> list[str]:
    return sorted(path.stem for path in SCENARIOS.glob("*.json"))


def scenario(name: str) -> Json:
    loaded: Json = json.loads((SCENARIOS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def moment(base: str, after_s: float) -> str:
    return (datetime.fromisoformat(base) + timedelta(seconds=after_s)).isoformat()


def lines_of(scenario: Json) -> list[bytes]:
    """Write a scenario as a trace. A redelivery has the event_id of the line before it."""
    lines: list[bytes] = []
    for number, event in enumerate(scenario["events"]):
        copies = number - 1 if event.get("redelivery") else number
        line = {
            "received_at": moment(scenario["base"], event["at"]),
            "event_id": f"019cade5-4c00-7000-8000-{copies:012d}",
            "body": event["body"],
        }
        if "pbx" in event:
            line["pbx"] = event["pbx"]
        lines.append(json.dumps(line, ensure_ascii=False).encode())
    return lines


def differences(expected: Any, actual: Any, where: str = "") -> list[str]:  # noqa: PLR0911 - one per kind of value
    """
    List the differences of *actual* from *expected*. An object may have further members, a list may not; numbers match within 0.01, and
    `a|b` stands for either text.
    """
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping):
            return [f"{where}: {actual!r} is no object"]
        # {} expects an empty object
        if not expected and actual:
            return [f"{where}: {actual!r} is not empty"]
        return [
            fault
            for name in expected
            for fault in (
                differences(expected[name], actual[name], f"{where}.{name}")
                if name in actual
                else [f"{where}.{name} is missing"]
            )
        ]
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        if not isinstance(actual, Sequence) or len(expected) != len(actual):
            return [f"{where}: {actual!r} instead of {expected!r}"]
        return [
            fault
            for number, (one, other) in enumerate(zip(expected, actual, strict=True))
            for fault in differences(one, other, f"{where}[{number}]")
        ]
    if isinstance(expected, float | int) and not isinstance(expected, bool):
        close = isinstance(actual, float | int) and abs(expected - actual) <= 0.01
        return [] if close else [f"{where}: {actual!r} instead of {expected!r}"]
    if isinstance(expected, str) and "|" in expected:
        return [] if actual in expected.split("|") else [f"{where}: {actual!r} is none of {expected!r}"]
    return [] if actual == expected else [f"{where}: {actual!r} instead of {expected!r}"]


def by_key(documents: Iterable[Json], name: str, *, with_pbx: bool) -> dict[str, Json]:
    return {f"{each['pbx']}/{each[name]}" if with_pbx else each[name]: each for each in documents}
