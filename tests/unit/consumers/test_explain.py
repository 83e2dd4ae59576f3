"""`voipex-consumers explain`: reading traces, running the folds, printing, exit codes."""

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers.cli.main import app
from consumers.cli.output import Progress
from consumers.explain import view
from consumers.explain.drawing import Paper, draw
from consumers.explain.replay import explain
from consumers.explain.trace import made_up_id, read_trace
from consumers.explain.view import Clock, Wanted
from sandbox.simulator import SimulationPlan, events
from tests.unit.consumers.traces import by_key, differences, lines_of, moment, scenario, scenario_names
from voipex.agent_status import AgentStatus
from voipex.call_timeline import CallTimeline
from voipex.timestamps import format_rfc3339, parse_rfc3339

WANTED = Wanted()
TRACE = Path(__file__).parents[3] / "docs" / "contract" / "examples" / "trace.jsonl"


def line(at: str = "2026-03-02T08:00:00Z", body: Any = None, **more: Any) -> bytes:
    """A line of a trace; the body is that of an AgentLogin."""
    login = {"EventName": "AgentLogin", "Queue": "NOC", "Login": "janecek"}
    return json.dumps({"received_at": at, "body": login if body is None else body, **more}).encode()


def ringing(unique_id: str = '"1412256225.1941"', **more: Any) -> bytes:
    """A Ringing with this JSON text as its UniqueId."""
    head = json.dumps({"received_at": "2026-03-02T08:00:00Z", **more})[:-1]
    return f'{head}, "body": {{"EventName": "Ringing", "Line": "201", "UniqueId": {unique_id} }} }}'.encode()


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "no JSON object"),
        (b"{}", "no received_at"),
        (line(at="2026-03-02T08:00:00"), "received_at is no ISO 8601 time with an offset"),
        (line(at="yesterday"), "received_at is no ISO 8601 time with an offset"),
        (line(at="9000-01-01T00:00:00Z"), "received_at is no time between 1970 and 9000"),
        (line(at="1969-12-31T23:59:59Z"), "received_at is no time between 1970 and 9000"),
        (b'{"received_at": 5, "body": {}}', "received_at is no text"),
        (b'{"received_at": "2026-03-02T08:00:00Z"}', "neither a webhook nor an Event"),
        (line(pbx=5), "pbx is no text"),
        (line(event_id="\ud800"), "event_id is no text"),
        (line(body={"EventName": "\ud800"}), "JSON that cannot be written as UTF-8"),
        (b'{"topic": "voipex.call.events.v1", "value": 5}', "no JSON object"),
        (line(body=[1]), "the body is not a JSON object"),
        (line(body=5), "the body is not a JSON object"),
        (line(body="nonsense"), "neither JSON nor the relaxed notation"),
        (line(body={"Login": "janecek"}), "no EventName"),
        (line(body={"EventName": "Ringing"}), "no UniqueId, and no agent to key it by"),
        (
            b'{"received_at": "2026-03-02T08:00:00Z", "type": "won"}',
            "no Event: event_id, event_name, pbx, type",
        ),
        (
            b'{"received_at": "2026-03-02T08:00:00Z", "type": "cdr", "event_name": "CDR", "pbx": "a", "event_id": "1"}',
            "no UniqueId, and no agent to key it by",
        ),
    ],
)
def test_an_invalid_line_is_rejected_and_the_others_are_folded(content: bytes, why: str) -> None:
    explanation = explain(read_trace([b"", line(), content]))

    assert explanation.to_json()["rejected"] == [{"line": 3, "why": why}]
    assert [agent["agent"] for agent in explanation.agents] == ["janecek"]


def test_a_number_keeps_its_text() -> None:
    """`1412256225.1940` read as a number would be another call."""
    timelines = explain(read_trace([ringing("1412256225.1940")])).timelines

    assert [timeline["call_id"] for timeline in timelines] == ["1412256225.1940"]


def test_a_body_may_be_the_raw_text() -> None:
    raw = "{EventName: Ringing, From: 777888999, Line: 201, UniqueId: 1412256225.1941}"
    timelines = explain(read_trace([line(body=raw)])).timelines

    assert [(timeline["call_id"], timeline["from"]) for timeline in timelines] == [
        ("1412256225.1941", "777888999")
    ]


def test_any_form_of_time_is_read() -> None:
    lines = [
        line("2026-03-02T09:00:00.5+01:00"),
        line("20260302T080000Z"),
        line(" 2026-03-02 08:00:01+00:00 "),
    ]
    read = read_trace(lines)

    assert [each.event.received_at for each in read.received] == [
        "2026-03-02T08:00:00.000000Z",
        "2026-03-02T08:00:00.500000Z",
        "2026-03-02T08:00:01.000000Z",
    ]


def test_events_are_read_from_topics_and_from_tail() -> None:
    events = [each.event for each in read_trace(lines_of(scenario("M02"))).received]
    values = [event.model_dump_json(by_alias=True).encode() for event in events]
    printed = [b'{"topic": "voipex.call.events.v1", "offset": 1, "value": %b}' % value for value in values]

    assert [each.event for each in read_trace(values).received] == events
    assert [each.event for each in read_trace(printed).received] == events


def test_lines_without_an_event_id_are_different_events() -> None:
    login, logout = (
        {"EventName": f"Agent{name}", "Login": "janecek", "Queue": "A"} for name in ("Login", "Logout")
    )
    at_us = parse_rfc3339("2026-03-02T08:00:00Z")

    assert explain(read_trace([line(body=login), line(body=logout)])).agents[0]["presence"] == "offline"
    assert explain(read_trace([line(body=logout), line(body=login)])).agents[0]["presence"] == "logged_in"
    assert made_up_id(at_us, 0) < made_up_id(at_us, 1) < made_up_id(at_us + 1, 0)
    assert made_up_id(at_us, 1) == "019cad8f-ac00-7000-8000-000000000001"


def test_lines_with_the_same_event_id_are_copies() -> None:
    lines = [ringing(event_id="a"), ringing(event_id="a"), ringing(event_id=" ")]

    assert len(explain(read_trace(lines)).timelines[0]["events"]) == 2


# ---------------------------------------------------------------- running


@pytest.mark.parametrize("name", scenario_names())
def test_every_document_is_valid(name: str) -> None:
    played = scenario(name)
    for expected in played["expect"]:
        as_of_us = parse_rfc3339(moment(played["base"], expected["as_of"]))
        explanation = explain(read_trace(lines_of(played)), as_of_us)
        for timeline in explanation.timelines:
            CallTimeline.model_validate(timeline)
        for agent in explanation.agents:
            AgentStatus.model_validate(agent)


@pytest.mark.parametrize("name", ["G01", "S02", "M02", "X11", "W23"])
def test_as_of_leaves_out_later_events(name: str) -> None:
    """The document as of a moment is the fold of the events received until then."""
    played = scenario(name)
    lines = lines_of(played)
    for event in played["events"]:
        as_of_us = parse_rfc3339(moment(played["base"], event["at"]))
        known = [each for each, of in zip(lines, played["events"], strict=True) if of["at"] <= event["at"]]

        assert (
            explain(read_trace(lines), as_of_us).to_json() == explain(read_trace(known), as_of_us).to_json()
        )


def test_timers_fire_in_the_order_of_time() -> None:
    """A call without Hangup is stale at its deadline; its agent is free from then on, and unknown a day later."""
    played = scenario("S02")
    explanation = explain(read_trace(lines_of(played)), parse_rfc3339(played["base"]) + 40 * 3600 * 1_000_000)
    (agent,) = explanation.agents

    assert explanation.timelines[0]["ended_at"] == "2026-03-02T12:00:06.000000Z"
    assert agent["since"] == "2026-03-03T12:00:06.000000Z"
    assert [state for _, state in explanation.states["voipex", "agent201"]] == [
        "ringing",
        "on_call",
        "implicit",
        "unknown",
    ]


def test_an_agent_unseen_for_90_days_is_gone() -> None:
    lines = [line(), line("2026-05-31T08:00:00Z", {"EventName": "CDR", "UniqueId": "1.1"})]

    assert list(explain(read_trace(lines)).agents) == []
    assert len(explain(read_trace(lines), parse_rfc3339("2026-05-31T07:59:59Z")).agents) == 1


def test_an_agent_seen_again_after_90_days_starts_empty() -> None:
    lines = [line(), line("2026-06-30T08:00:00Z", {"EventName": "AgentPaused", "Login": "janecek"})]
    (agent,) = explain(read_trace(lines)).agents

    assert (agent["queues"], agent["previous"], agent["revision"]) == ({}, None, 1)


def test_calls_are_sorted_by_pbx_and_numeric_id() -> None:
    ids = [("b", "9.1"), ("a", "10.1"), ("a", "9.10"), ("a", "9.9"), ("a", "no number")]
    lines = [ringing(f'"{unique_id}"', pbx=pbx) for pbx, unique_id in ids]
    timelines = explain(read_trace(lines)).timelines

    assert [(timeline["pbx"], timeline["call_id"]) for timeline in timelines] == [
        ("a", "no number"),
        ("a", "9.9"),
        ("a", "9.10"),
        ("a", "10.1"),
        ("b", "9.1"),
    ]


def test_a_later_login_leaves_no_agent_of_the_line() -> None:
    body = {"Line": "201", "UniqueId": "1.1"}
    lines = [
        line(body={"EventName": "Ringing", **body}),
        line("2026-03-02T08:00:05Z", {"EventName": "Answered", "Login": "janecek", **body}),
    ]
    explanation = explain(read_trace(lines))

    assert [agent["agent"] for agent in explanation.agents] == ["janecek"]
    assert [(each["agent"], each["removed"]) for each in explanation.activities] == [
        ("line:201", False),
        ("line:201", True),
        ("janecek", False),
    ]


def test_a_fold_that_rejects_an_event_reports_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The services write a dead letter for it."""
    monkeypatch.setattr("consumers.engine.batch.MAX_VALUE_BYTES", 900)
    explanation = explain(read_trace([b"", ringing()]))

    assert [(each.line, each.why) for each in explanation.rejected] == [
        (2, "a dead letter: the key has more events than a state can hold (900 bytes)")
    ]
    assert list(explanation.timelines) == []


def test_a_bug_in_the_rules_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(*_: object) -> Any:
        raise OverflowError("bug")

    monkeypatch.setattr("consumers.calls.projection.CallProjection.fold", fold)

    with pytest.raises(OverflowError, match="bug"):
        explain(read_trace([ringing()]))


def test_an_empty_trace_has_no_moment() -> None:
    assert explain(read_trace([])).to_json() == {"as_of": None, "timelines": [], "agents": [], "rejected": []}
    assert explain(read_trace([]), 0).to_json() == {
        "as_of": "1970-01-01T00:00:00.000000Z",
        "timelines": [],
        "agents": [],
        "rejected": [],
    }


# ---------------------------------------------------------------- printing and ending


@pytest.fixture
def run() -> Any:
    runner = CliRunner()
    return lambda *arguments, **more: runner.invoke(app, ["explain", *map(str, arguments)], **more)


@pytest.mark.parametrize("name", ["M02", "X07"])
def test_json_output_is_one_object(name: str, run: Any, tmp_path: Path) -> None:
    played = scenario(name)
    expected = played["expect"][-1]
    file = tmp_path / "trace.jsonl"
    file.write_bytes(b"\n".join(lines_of(played)))
    result = run(file, "--as-of", moment(played["base"], expected["as_of"]), "--json")

    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert list(printed) == ["as_of", "timelines", "agents", "rejected"]
    timelines = by_key(printed["timelines"], "call_id", with_pbx=name == "X07")
    assert differences(expected["timelines"], timelines) == []


def test_a_dash_reads_standard_input(run: Any) -> None:
    result = run("-", "--json", input=line())

    assert result.exit_code == 0
    assert json.loads(result.stdout)["agents"][0]["agent"] == "janecek"


def test_a_drawing_lists_each_event_with_effect_and_rule(run: Any) -> None:
    result = run(TRACE)

    assert result.exit_code == 0
    for expected in (
        "CALL voipex 1772435129.41",
        "transfer attended: 7009 to 7051, confidence high",
        "+191.437  AttendedTransfer  7009  gives the caller away  rule 8 ",
        "2 7009 petr.novak",
        "queues: podpora (paused, Oběd), prodej (paused, Oběd)",
        "Europe/Prague",
    ):
        assert expected in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def drawn(
    lines: list[bytes],
    as_of: str | None = None,
    *,
    width: int = 100,
    blocks: bool = True,
    colours: bool = False,
    wanted: Wanted = WANTED,
) -> str:
    explanation = explain(read_trace(lines), None if as_of is None else parse_rfc3339(as_of))
    paper = Paper(width, blocks, colours)
    return "".join(f"{line}\n" for line in draw(explanation, paper, Clock("Europe/Prague"), wanted))


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_can_be_drawn(name: str) -> None:
    played = scenario(name)
    for expected in played["expect"]:
        drawing = drawn(lines_of(played), moment(played["base"], expected["as_of"]))

        assert len(drawing.splitlines()) >= 4


def test_the_legend_and_a_summary_come_first() -> None:
    lines = drawn(lines_of(scenario("M02"))).splitlines()
    titles = [line.split()[0] for line in lines if line.startswith(("a leg", "SUMMARY", "CALL", "AGENTS"))]

    assert titles == ["a", "SUMMARY", "CALL", "AGENTS"]


def test_the_summary_says_why_a_call_was_missed() -> None:
    body = {"From": "777888999", "To": "222333444", "UniqueId": "1.1"}
    lines = [
        line("2026-03-02T08:00:00Z", {"EventName": "NewCall", **body}),
        line("2026-03-02T08:00:02Z", {"EventName": "Ringing", "Line": "201", **body}),
        line("2026-03-02T08:00:30Z", {"EventName": "Hangup", "Reason": "Normal Clearing", **body}),
    ]

    assert "1.1 777888999 to 222333444, missed after 30 s: 201 no answer" in drawn(lines)


def test_the_summary_names_the_last_missed_calls_only() -> None:
    lines = [
        line(f"2026-03-02T08:00:{second:02d}Z", {"EventName": name, "UniqueId": f"{second}.1"})
        for second in range(12)
        for name in ("NewCall", "Hangup")
    ]
    drawing = drawn(lines)

    assert "not reached, the last 10 of 12:" in drawing
    assert drawing.count("missed after") == 10


@pytest.mark.parametrize("width", [1, 20, 33, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("name", ["M02", "X10", "G01"])
def test_no_figure_is_cut_at_any_width(name: str, width: int) -> None:
    lines = lines_of(scenario(name))
    explanation = explain(read_trace(lines))
    drawing = drawn(lines, width=width)

    for call in view.calls(explanation, WANTED):
        for lane in call.lanes:
            assert lane.result in drawing
            assert lane.label in drawing
        for event in call.events:
            assert f"+{event.after_s:.3f}" in drawing
    assert not re.search(r"\d$\n *(s|min|h)\b", drawing, re.MULTILINE)


def test_lengths_of_time_are_whole() -> None:
    lengths = [0.25, 28, 59.9999, 122.2, 3599, 3720]

    assert [view.seconds(each) for each in lengths] == [
        "0.25 s",
        "28 s",
        "60 s",
        "2 min 02 s",
        "59 min 59 s",
        "1 h 02 min",
    ]


def test_phases_of_a_leg_have_different_glyphs() -> None:
    lanes = drawn(lines_of(scenario("M02"))).splitlines()
    first, second = (next(lane for lane in lanes if lane.startswith(f"{number} 2")) for number in (1, 2))

    assert set(first) & set("░█▒┄") == {"░", "█"}
    assert set(second) & set("░█▒┄") == {"░", "▒", "█"}
    assert second.index("░") < second.index("▒") < second.index("█")
    assert "┄" in drawn(lines_of(scenario("X10")))


def test_a_terminal_gets_colours() -> None:
    assert "\x1b[32m█" in drawn(lines_of(scenario("M02")), colours=True)


def test_colours_change_no_line() -> None:
    lines = lines_of(scenario("M02"))
    coloured = re.sub(r"\x1b\[[0-9;]*m", "", drawn(lines, colours=True))

    assert drawn(lines) == coloured


def test_a_terminal_without_block_characters_gets_ascii() -> None:
    drawing = drawn(lines_of(scenario("M02")), blocks=False)

    assert drawing.isascii()
    assert re.search(r"\.+%%+##+ ", drawing)


def test_control_characters_do_not_reach_the_terminal() -> None:
    body = {"EventName": "Ringing\x1b[31m", "UniqueId": "1.1", "Line": "2\x1b[2J", "Login": "a\x1b]0;x\x07"}
    drawing = drawn([line(body=body), line(body={**body, "EventName": "Ringing"})])

    assert "\x1b" not in drawing
    assert "2·[2J" in drawing


def test_an_empty_trace_and_invalid_lines_are_drawn() -> None:
    assert drawn([]) == "The trace is empty.\n"
    assert "lines 1, 2, 3, 4, 5 and 1 more: no JSON" in drawn([b"{"] * 6 + [line()])


def test_a_long_call_reports_the_number_of_hidden_events() -> None:
    body = {"EventName": "Whatever", "UniqueId": "1.1"}
    lines = [line(f"2026-03-02T08:{n // 60:02d}:{n % 60:02d}Z", body) for n in range(502)]

    assert "and 2 more events" in drawn(lines)


def test_only_the_last_states_of_an_agent_are_listed() -> None:
    names = ["AgentPaused", "AgentUnPaused"] * 6
    lines = [line()] + [
        line(f"2026-03-02T09:{n:02d}:00Z", {"EventName": name, "Login": "janecek"})
        for n, name in enumerate(names)
    ]

    assert "…, 10:04:00 paused" in drawn(lines)


# ---------------------------------------------------------------- what is wanted


def test_one_call_is_drawn_without_agents(run: Any) -> None:
    result = run(TRACE, "--call", "1772435650.44")

    assert result.exit_code == 0
    assert "1772435129.41" not in result.stdout
    assert "AGENTS" not in result.stdout


def test_one_call_is_that_of_the_whole_trace(run: Any) -> None:
    """An open call is shown as of the end of the trace, not as of its own last event."""
    lines = [ringing('"1.1"'), line("2026-03-02T09:00:00Z")]
    whole, one = (run("-", "--json", *more, input=b"\n".join(lines)) for more in ([], ["--call", "1.1"]))

    assert json.loads(one.stdout)["timelines"] == json.loads(whole.stdout)["timelines"]


@pytest.mark.parametrize("name", ["jana.mala", "JANA.MALA", "7051", "jana.mala@example.com"])
def test_an_agent_is_drawn_with_its_calls(name: str, run: Any) -> None:
    printed = json.loads(run(TRACE, "--agent", name, "--json").stdout)

    assert [agent["agent"] for agent in printed["agents"]] == ["jana.mala"]
    assert [timeline["call_id"] for timeline in printed["timelines"]] == ["1772435129.41"]


@pytest.mark.parametrize(("option", "name"), [("--call", "9.9"), ("--agent", "nobody")])
def test_what_the_trace_does_not_have_exits_with_1(option: str, name: str, run: Any) -> None:
    result = run(TRACE, option, name)

    assert result.exit_code == 1
    assert f"has no {option[2:]} {name}" in result.stderr


def test_since_leaves_out_calls_that_were_over(run: Any) -> None:
    result = run(TRACE, "--since", "2026-03-02T08:12:00+01:00")

    assert "CALL voipex 1772435650.44" in result.stdout
    assert "CALL voipex 1772435129.41" not in result.stdout
    assert "  08:12:00 " in result.stdout


# ---------------------------------------------------------------- long traces, pager, page


def test_batches_give_the_same_documents_but_for_their_counters() -> None:
    lines = [at_line for name in scenario_names()[:40] for at_line in lines_of(scenario(name))]
    counters = {"revision", "updated_at"}
    one, many = (explain(read_trace(lines), batch_events=number) for number in (1, 50))

    for exact, batched in ((one.timelines, many.timelines), (one.agents, many.agents)):
        assert [{name: each[name] for name in each if name not in counters} for each in exact] == [
            {name: each[name] for name in each if name not in counters} for each in batched
        ]


def test_a_long_trace_is_folded_in_batches(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = json.loads(run(TRACE, "--json").stdout)
    monkeypatch.setattr("consumers.cli.explain.SMALL_TRACE", 3)
    monkeypatch.setattr("consumers.cli.explain.BATCHES", 1)
    batched = json.loads(run(TRACE, "--json").stdout)

    assert [each["revision"] for each in batched["timelines"]] == [1, 1]
    assert [each["legs"] for each in batched["timelines"]] == [each["legs"] for each in exact["timelines"]]


def test_progress_reaches_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    output = StringIO()
    monkeypatch.setattr(output, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", output)
    now_s = iter([0.0, 0.5, 1.5, 1.6, 1.8])
    monkeypatch.setattr("time.monotonic", lambda: next(now_s))
    with Progress("folding", 200) as progress:
        for done in (10, 50, 60, 100):
            progress(done)

    assert output.getvalue() == "\r\x1b[Kfolding 25 % \r\x1b[Kfolding 50 % \r\x1b[K"


def test_a_pager_shows_the_drawing_on_a_terminal(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paged: list[str] = []
    monkeypatch.setattr("consumers.cli.explain.Console.is_terminal", True)
    monkeypatch.setattr("click.echo_via_pager", lambda lines, **_: paged.extend(lines))

    assert "SUMMARY" in run(TRACE, "--no-pager").stdout
    assert (run(TRACE).stdout, any("SUMMARY" in row for row in paged)) == ("", True)


def test_a_file_that_is_no_trace_gets_one_sentence(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("a\nb\n" * 100)
    result = run(file)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"{file} is no trace: none of its 200 lines can be used (line 1: no JSON); `voipex-consumers explain --help` shows one\n"
    )


HOSTILE = "</text><script src=//x.example>\"'&"


def test_a_page_loads_nothing_and_escapes_texts(run: Any, tmp_path: Path) -> None:
    body = {
        name: f"{HOSTILE}{name}" for name in ("From", "To", "Line", "Login", "Email", "Queue", "UniqueId")
    }
    lines = [
        line(body={"EventName": "NewCall", **body}),
        line(body={"EventName": "Ringing", **body}),
        line(body={"EventName": HOSTILE, **body}),
        line(body={"EventName": "AgentPaused", "PauseName": HOSTILE, **body}),
        b"{",
    ]
    file = tmp_path / "page.html"
    result = run("-", "--html", file, input=b"\n".join(lines))
    text = file.read_text(encoding="utf-8")
    parsed = Parsed()
    parsed.feed(text)

    assert result.exit_code == 0
    assert (
        parsed.tags & {"script", "img", "link", "iframe", "object", "image", "use", "base", "form"} == set()
    )
    assert parsed.attributes & {"src", "xlink:href", "srcset", "onload"} == set()
    assert set(parsed.links) <= {"#"}
    assert "default-src 'none'" in text
    assert sum(HOSTILE in data for data in parsed.texts) == 10


class Parsed(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [(value or "")[:1] for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_page_shows_what_the_drawing_shows(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    run(TRACE, "--html", file)
    text = html.unescape(re.sub("<[^>]*>", " ", file.read_text(encoding="utf-8")))
    explanation = explain(read_trace(TRACE.read_bytes().splitlines()))

    for call in view.calls(explanation, WANTED):
        for lane in call.lanes:
            assert lane.label in text
            assert lane.result in text
        for event in call.events:
            assert f"+{event.after_s:.3f} {event.name}" in text


def test_a_page_that_cannot_be_written_exits_with_1(run: Any, tmp_path: Path) -> None:
    result = run(TRACE, "--html", tmp_path / "no" / "page.html")

    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr


# ---------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no such file"], "there is no file"),
        ([TRACE, "--as-of", "2026-03-02"], "no ISO 8601 time with an offset"),
        ([TRACE, "--as-of", "9999-12-31T00:00:00Z"], "no time between 1970 and 9000"),
        ([TRACE, "--time-zone", "Moon/Tranquility"], "is no time zone"),
        ([TRACE, "--time-zone", "../etc/passwd"], "is no time zone"),
        ([TRACE, "--what"], "No such option"),
        ([], "Missing argument"),
    ],
)
def test_a_usage_error_exits_with_2_and_a_message(arguments: list[Any], message: str, run: Any) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_an_unreadable_file_exits_with_1(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    result = run(TRACE)

    assert result.exit_code == 1
    assert "cannot be read: Permission denied" in result.stderr


def test_help_shows_a_line_of_a_trace(run: Any) -> None:
    result = run("--help")

    assert result.exit_code == 0
    assert '"received_at"' in result.stdout


@pytest.mark.process
def test_the_package_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "consumers", "explain", str(TRACE), "--json"], capture_output=True, check=True
    )

    assert json.loads(done.stdout)["rejected"] == []


@pytest.mark.process
def test_a_long_trace_takes_bounded_memory(tmp_path: Path) -> None:
    """16 KB per call of about ten events; objects of pydantic and the slack of orjson's bytes would take 80 KB."""
    used_kb = []
    for number in (200, 20_000):
        file = tmp_path / f"{number}.jsonl"
        plan = SimulationPlan(seed=1, agents=20, queues=3, calls_per_s=0.5, started_at_s=1772434800)
        with file.open("w", encoding="utf-8") as trace:
            for at_s, body in islice(events(plan), number):
                received_at = format_rfc3339(round((1772434800 + at_s) * 1_000_000))
                trace.write(json.dumps({"received_at": received_at, "body": body}) + "\n")
        code = (
            "import resource, sys; from consumers.cli.main import app; "
            "app(['explain', sys.argv[1]], standalone_mode=False); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=True)
        used_kb.append(int(done.stderr))

    assert used_kb[1] - used_kb[0] < 20_000 / 10 * 32
    assert b"20,000 events" in done.stdout
