"""Every scenario of tests/scenarios from webhooks to the documents that the services publish."""

import pytest

from consumers.explain.replay import explain
from consumers.explain.trace import read_trace
from tests.unit.consumers.traces import by_key, differences, lines_of, moment, scenario, scenario_names
from voipex.timestamps import parse_rfc3339


@pytest.mark.parametrize("name", scenario_names())
@pytest.mark.parametrize("reverse", [False, True], ids=["as sent", "lines in reverse"])
def test_scenario_holds(name: str, reverse: bool) -> None:
    """At each `as_of` the documents contain what is expected, whatever the order of the trace's lines."""
    recorded = scenario(name)
    lines = lines_of(recorded)
    if reverse:
        lines.reverse()
    with_pbx = any("pbx" in event for event in recorded["events"])
    for expected in recorded["expect"]:
        as_of_us = parse_rfc3339(moment(recorded["base"], expected["as_of"]))
        explanation = explain(read_trace(lines), as_of_us)

        timelines = by_key(explanation.timelines, "call_id", with_pbx=with_pbx)
        agents = by_key(explanation.agents, "agent", with_pbx=with_pbx)
        faults = differences(expected["timelines"] or {}, timelines) if expected["timelines"] else []
        faults += differences(expected["agents"], agents) if expected["agents"] else []
        assert faults == []
