"""What `explain` marks as reported and as inferred."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.explain import view
from consumers.explain.evidence import RULES, RULES_OF_NOTES, WHY, Evidence, evidence_of
from consumers.explain.replay import Explanation, explain
from consumers.explain.trace import read_trace
from consumers.explain.view import Wanted
from tests.unit.consumers.traces import lines_of, moment, scenario, scenario_names
from voipex.timestamps import parse_rfc3339

CALLS = Path(__file__).parents[3] / "consumers" / "calls"
PAGE = Path(__file__).parents[3] / "docs" / "call-rules.md"


def explanations(name: str) -> Iterator[Explanation]:
    """A scenario at each moment for which it has an expectation."""
    played = scenario(name)
    for expected in played["expect"]:
        yield explain(read_trace(lines_of(played)), parse_rfc3339(moment(played["base"], expected["as_of"])))


def evidences(name: str) -> Iterator[tuple[dict[str, Any], Evidence]]:
    for explanation in explanations(name):
        for timeline in explanation.timelines:
            state = explanation.call_states[timeline["pbx"], timeline["call_id"]]
            yield timeline, evidence_of(state, timeline, explanation.as_of_us or 0)


@pytest.mark.parametrize("name", scenario_names())
def test_a_document_is_exact_if_and_only_if_nothing_is_doubted(name: str) -> None:
    for timeline, evidence in evidences(name):
        sure = not evidence.inferred and not evidence.doubts

        assert (timeline["quality"] == "exact") is sure, (timeline["call_id"], evidence)


@pytest.mark.parametrize("name", scenario_names())
def test_every_inferred_field_of_a_leg_has_a_mark(name: str) -> None:
    fields = {"answered": "answered_at", "answer withdrawn": "answered_at", "ended": "ended_at"}
    for timeline, evidence in evidences(name):
        for leg in timeline["legs"]:
            marks = [mark for mark in evidence.inferred if mark.leg == leg["leg"]]
            marked = {fields.get(what, "result") for mark in marks for what in mark.what.split(" and ")}

            assert set(leg["inferred"]) <= marked


@pytest.mark.parametrize("name", scenario_names())
def test_every_mark_has_a_rule_of_the_page_and_its_event(name: str) -> None:
    for timeline, evidence in evidences(name):
        for mark in evidence.inferred:
            assert mark.why
            assert 0 <= mark.place <= len(timeline["events"]) + timeline["events_dropped"]
            assert mark.place > 0 or mark.rule in {"12", "8", "5f"}
        for mark in evidence.reported:
            assert 0 < mark.place <= len(timeline["events"]) + timeline["events_dropped"]


def test_every_rule_that_infers_has_a_sentence() -> None:
    """A rule that the fold names in an `Inferred` must be drawn with its reason."""
    used = set()
    for path in CALLS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Inferred", "infer_end")):
                last = node.args[-1]
                if isinstance(last, ast.Constant) and isinstance(last.value, str):
                    used.add(last.value)

    assert used - {rule for rule, _ in WHY} == set()
    assert {"3", "4", "4d", "4e", "5a", "5f", "9", "10", "12"} <= used


def test_every_note_with_a_rule_is_one_of_the_fold() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in CALLS.glob("*.py"))

    assert [note for note in RULES_OF_NOTES if note not in source] == []


def test_every_rule_of_explain_stands_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = {rule for rule, _ in WHY} | set(RULES.values()) | set(RULES_OF_NOTES.values())
    numbers = {re.sub(r"\D", "", rule) for rule in named}

    assert [number for number in sorted(numbers) if f"**{number}. " not in page] == []
    for rule in named:
        sign = re.sub(r"\d", "", rule)
        assert not sign or f"**{sign}. " in page


def test_a_missing_hangup_is_drawn_as_inferred() -> None:
    """The other phone of a round rings on until its Hangup comes; the answer alone ends it by rule 4."""
    body = {"From": "777888999", "To": "222333444", "UniqueId": "1.1"}
    events = [("NewCall", None), ("Ringing", "201"), ("Ringing", "202"), ("Answered", "202")]
    lines = [
        b'{"received_at":"2026-03-02T08:00:0%dZ","body":%b}'
        % (second, str({"EventName": name, "Line": line or "", **body}).replace("'", '"').encode())
        for second, (name, line) in enumerate(events)
    ]
    (call,) = view.calls(explain(read_trace(lines)), Wanted())
    (inference,) = call.inferences

    assert call.lanes[0].result == "answered elsewhere, rang 2 s [a]"
    assert [sign for _, sign in call.lanes[0].marks] == ["a"]
    assert (inference.rule, inference.event) == ("4", 4)
    assert inference.text == (
        "leg 1 (201) ended: another line answered, which ends every attempt that rings for the same caller (event 4)"
    )
    assert call.lanes[1].marks == []
