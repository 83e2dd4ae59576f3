"""The survey names the anomalies of a trace, with right counts, and no personal data."""

import contextlib
import http.server
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from bridge.cli.main import app
from bridge.ops.survey import report
from bridge.ops.survey.anonymous import People, kind_of
from bridge.ops.survey.findings import unmapped_keys
from bridge.ops.survey.observe import Observations, observe
from bridge.ops.survey.sender import BridgeSurvey, sender_of
from bridge.ops.survey.sources import distinct
from consumers.explain.trace import read_trace
from sandbox.simulator import SimulationPlan, events
from tests.unit.bridge.test_senders import GOOD, Rig, request, with_rig
from voipex.timestamps import format_rfc3339, parse_rfc3339

START_US = parse_rfc3339("2026-03-02T08:00:00Z")

Body = dict[str, Any]
Line = tuple[float, Body]
"""Seconds since the start, body."""


def trace_of(lines: list[Line]) -> bytes:
    return b"\n".join(
        orjson.dumps({"received_at": format_rfc3339(START_US + round(at_s * 1e6)), "body": body})
        for at_s, body in sorted(lines, key=lambda line: line[0])
    )


def observed(lines: list[Line]) -> Observations:
    return observe(distinct(read_trace(trace_of(lines).splitlines())))


def found(seen: Observations) -> dict[tuple[str, str], int]:
    survey = report.to_json(seen, report.Documents(), Counter(), None)
    return {(each["code"], each["what"]): each["count"] for each in survey["findings"]}


def by_code(seen: Observations) -> Counter[str]:
    codes: Counter[str] = Counter()
    for (code, _), count in found(seen).items():
        codes[code] += count
    return codes


@pytest.fixture(scope="module")
def company() -> list[Line]:
    """Ten thousand events of a call centre, without anomalies of its own in what the tests plant."""
    return [(at_s, dict(body)) for at_s, body in islice(events(SimulationPlan.at_rate(20, seed=7)), 10_000)]


def call(unique_id: str, at_s: float = 0.0, **fields: str) -> Iterator[Line]:
    """A plain answered call."""
    common = {
        "UniqueId": unique_id,
        "From": "601000111",
        "To": "222333444",
        "Direction": "incoming",
        **fields,
    }
    phone = {"Line": "201", "Login": "novakova", "Email": "novakova@example.cz"}
    yield at_s, {"EventName": "NewCall", **common}
    yield at_s + 1, {"EventName": "Ringing", **common, **phone}
    yield at_s + 5, {"EventName": "Answered", **common, **phone}
    yield at_s + 60, {"EventName": "Hangup", **common, **phone, "Reason": "Normal Clearing"}
    yield at_s + 61, {"EventName": "CDR", **common}


# ---------------------------------------------------------------- planted anomalies


def test_eight_planted_anomalies_are_all_named(company: list[Line]) -> None:
    lines = [(at_s, dict(body)) for at_s, body in company]
    before = by_code(observed(lines))
    ringing = [line for line in lines if line[1]["EventName"] == "Ringing"]
    answered = [line for line in lines if line[1]["EventName"] == "Answered" and line[1].get("Line")]
    hangups = [line for line in lines if line[1].get("Reason")]
    for _, body in ringing[:11]:
        body["CallerName"] = "Petr Novák"
    for _, body in hangups[:12]:
        body["Reason"] = "Wrong exchange"
    for _, body in hangups[20:33]:
        body["Direction"] = "sideways"
    lines += [(at_s + 1.5, dict(body)) for at_s, body in answered[:14]]
    lines += [(at_s, {**body, "EventName": "Parked"}) for at_s, body in answered[20:35]]
    lines += [
        (at_s, {"EventName": "Answered", "UniqueId": body["UniqueId"]}) for at_s, body in answered[40:56]
    ]
    lines += [
        line
        for n in range(17)
        for line in call(f"{START_US // 1_000_000 + 4000 + n}.{n}", 10.0 * n, Line="9")
    ]
    for n in range(18):
        (at_s, body), *_ = [*call(f"voipex.{n}", 5.0 * n)]
        lines.append((at_s, body))
    after = by_code(observed(lines))
    after.subtract(before)
    assert {code: after[code] for code in PLANTED} == PLANTED


PLANTED = {
    "unmapped_key": 11,
    "reason_without_class": 12,
    "unknown_direction": 13,
    "repeated_event": 14,
    "unknown_event": 15,
    "answered_by_nobody": 16,
    "clock_ahead": 17,
    "id_of_another_form": 18,
}


def counted_by_a_bridge(bodies: list[Body]) -> dict[str, Any]:
    """The body of `/survey` once each of *bodies* came with its values in headers and URL, was accepted, refused and probed."""
    counted: dict[str, Any] = {}

    async def story(rig: Rig) -> None:
        for number, sent in enumerate(bodies):
            login, caller, queue = (str(sent.get(key) or "x") for key in ("Login", "From", "Queue"))
            headers = [
                f"User-Agent: {login} {caller}",
                f"Content-Type: text/{login}; charset={queue}",
                f"Connection: keep-alive, {login}",
                f"X-Forwarded-For: {caller}",
                f"Cookie: queue={queue}; mail={sent.get('Email')}",
                f"X-{login}: {queue}",
            ]
            target = f"http://{login}:{caller}@{login}/voipex?from={caller}&login={login}"
            good = [] if number % 7 == 0 else [GOOD]
            if number % 5 == 0:
                rig.retries.start_probe("voipex", 60, 1)
            planted = [header.encode() for header in headers]
            await rig.answered(request(orjson.dumps(sent), *good, *planted, target=target.encode()))
            rig.retries.stop_probe()
        counted.update(rig.survey())

    with_rig(story)
    head = {"since": "2026-03-02T08:00:00.000000Z", "answers": {"200": 1}, "slowest_answer_s": "0.025"}
    return {**head, **counted}


def test_no_personal_value_is_in_the_report(company: list[Line], tmp_path: Path) -> None:
    lines = [(at_s, dict(body)) for at_s, body in company]
    personal: set[str] = set()
    for number, (_, body) in enumerate(lines):
        if number % 50 == 0:
            body["Note"] = "volal Zdeněk Svěrák"
            body[body.get("Login") or "601000222"] = "x"
            body["Reason"] = f"busy {body.get('Login')}"
            body["Direction"] = body.get("Login") or body.get("From", "")
        personal |= {
            str(body[key])
            for key in ("From", "To", "Login", "Email", "Queue", "PauseName", "UniqueId", "Note")
            if len(str(body.get(key) or "")) > 4
        }
    file = tmp_path / "trace.jsonl"
    file.write_bytes(trace_of(lines))
    counted = counted_by_a_bridge([body for _, body in lines[:140]])
    with management_port(counted) as address:
        result = CliRunner().invoke(app, ["survey", str(file), "--bridge", address, "--json"])
    markdown = report.to_markdown(orjson.loads(result.output))
    shown = result.output + markdown + orjson.dumps(counted).decode()
    assert result.exit_code == 0, result.output
    assert [value for value in personal if value in shown] == []
    assert "Svěrák" not in shown
    assert "Events: 10000" in markdown
    assert counted["pbxs"]["voipex"]["connections"] > 100
    assert set(counted["before_authentication"]["refused"]) == {"401"}
    assert set(counted["pbxs"]["voipex"]["refused"]) == {"503"}


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("code", "lines", "count"),
    [
        ("no_new_call", lambda: [*call("1772438400.1")][1:], 1),
        ("no_end", lambda: [*call("1772438400.1")][:3], 1),
        ("several_cdrs", lambda: [*call("1772438400.1"), [*call("1772438400.1", 3.0)][-1]], 1),
        (
            "event_after_cdr",
            lambda: [*call("1772438400.1"), (70.0, {"EventName": "Hangup", "UniqueId": "1772438400.1"})],
            1,
        ),
        (
            "answered_before_ringing",
            lambda: [
                (at_s + 6 if body["EventName"] == "Ringing" else at_s, body)
                for at_s, body in call("1772438400.1")
            ],
            1,
        ),
        (
            "id_per_leg",
            lambda: [
                (at_s, {**body, "UniqueId": "1772438400.2"} if body["EventName"] == "Answered" else body)
                for at_s, body in call("1772438400.1")
            ],
            1,
        ),
        (
            "simultaneous_calls",
            lambda: [*call("1772438400.1"), *call("1772438401.2", 1.0)],
            1,
        ),
        (
            "logout_of_another_line",
            lambda: [
                (0.0, {"EventName": "AgentLogin", "Login": "a", "Line": "201", "Queue": "NOC"}),
                (9.0, {"EventName": "AgentLogout", "Login": "a", "Line": "202", "Queue": "NOC"}),
            ],
            1,
        ),
    ],
)
def test_each_anomaly_is_counted(code: str, lines: Callable[[], list[Line]], count: int) -> None:
    assert by_code(observed(lines()))[code] == count


def test_a_plain_call_has_no_anomaly() -> None:
    assert set(by_code(observed([*call("1772438400.1")]))) == {"never_log_in"}


def test_a_phone_that_rings_again_is_no_repeat() -> None:
    lines = [*call("1772438400.1")]
    lines.append((lines[1][0] + 5.0, dict(lines[1][1])))
    seen = observed(lines)
    assert seen.calls.repeats == {"rings again after 5 s or more": 1}
    assert by_code(seen)["repeated_event"] == 0


def test_the_answer_to_a_second_ring_is_no_repeat() -> None:
    lines = [*call("1772438400.1")]
    lines += [(at_s + 100, dict(body)) for at_s, body in lines[1:3]]
    assert by_code(observed(lines))["repeated_event"] == 0


def test_copies_of_one_event_id_are_one_event() -> None:
    line = orjson.dumps(
        {
            "received_at": "2026-03-02T08:00:00Z",
            "event_id": "0195553a-0000-7000-8000-000000000000",
            "body": next(iter(call("1772438400.1")))[1],
        }
    )
    assert len(distinct(read_trace([line, line]))) == 1


def test_a_consultation_under_the_same_id_is_seen() -> None:
    lines = [*call("1772438400.1")]
    lines.append((20.0, {"EventName": "Ringing", "UniqueId": "1772438400.1", "From": "201", "Line": "202"}))
    lines.append((21.0, {"EventName": "Ringing", "UniqueId": "1772438421.2", "From": "201", "Line": "203"}))
    between = observed(lines).between
    assert (between.consult_same_id, between.consult_other_id) == (1, 1)


# ---------------------------------------------------------------- names and kinds


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("201", "number of at most 5 digits"),
        ("601 000 111", "number of 6 or more digits"),
        ("+420601000111", "phone number with +"),
        ("a@example.cz", "e-mail"),
        ("1772438400.17", "UniqueId"),
        ("2026-03-02 08:00:00", "time"),
        ("1772438400", "seconds or milliseconds since 1970"),
        ("0:42", "duration"),
        (True, "boolean"),
        ({}, "object"),
        ([], "list"),
        (None, "null"),
        (" ", "blank"),
        ("novak", "one word"),
        ("Petr Novák", "text"),
    ],
)
def test_values_become_kinds(value: Any, kind: str) -> None:
    assert kind_of(value) == kind


def test_a_reason_of_telephony_is_printed_as_sent() -> None:
    assert People([]).phrase("Wrong  exchange") == "Wrong exchange"


@pytest.mark.parametrize("text", ["Petr Novák zavěsil", "601000111", "busy 601000111", "busy novakova", ""])
def test_another_reason_is_a_count_of_words(text: str) -> None:
    assert re.fullmatch(r"\(a text of \d words?\)", People([]).phrase(text))


def test_a_key_that_names_an_agent_is_not_printed() -> None:
    lines = [(at_s, {**body, "novakova": 1, "Duration": 3}) for at_s, body in call("1772438400.1")]
    assert set(unmapped_keys(observed(lines))) == {"(no identifier)", "Duration"}


# ---------------------------------------------------------------- the command


def test_the_command_reads_standard_input() -> None:
    result = CliRunner().invoke(
        app, ["survey", "-"], input=trace_of([*call("1772438400.1")]), catch_exceptions=False
    )
    assert result.exit_code == 0
    assert result.output.startswith("# What this PBX sends\n\nEvents: 5, calls: 1")


def test_an_empty_recording_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert (
        "There are no events to look at."
        in CliRunner().invoke(app, ["survey", str(tmp_path / "empty")]).output
    )


def test_a_missing_recording_is_wrong_usage(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["survey", str(tmp_path / "none")]).exit_code == 2


# ---------------------------------------------------------------- what bridges say


def bridge_survey(**changes: Any) -> dict[str, Any]:
    """The body of `/survey`."""
    counted = {
        "connections": 2,
        "addresses": 1,
        "habits": {"connection": {"close": 2}, "proxy": {"none": 2}},
        "requests_per_connection": {"1": 2},
        "ends": {"bridge_after_answer": 2},
        "idle_s": {},
        "left_s": {},
        "refused": {},
        **changes,
    }
    return {
        "since": "2026-03-02T08:00:00.000000Z",
        "answers": {"200": 5},
        "slowest_answer_s": "0.025",
        "pbxs": {"voipex": counted},
        "before_authentication": {"connections": 0, "refused": {}},
        "probe": None,
    }


def refused(**changes: Any) -> dict[str, Any]:
    counted = {"requests": 3, "watched": 3, "repeats": {}, "uncertain": {}, "silent": {}, **changes}
    return {"refused": {"503": counted}}


def answer(question: str, *surveys: dict[str, Any]) -> str:
    sender = sender_of([BridgeSurvey.model_validate(each) for each in surveys], "voipex") if surveys else None
    survey = report.to_json(observed([*call("1772438400.1")]), report.Documents(), Counter(), sender)
    [found] = [each["answer"] for each in survey["answers"] if question in each["question"]]
    return str(found)


@pytest.mark.parametrize(
    ("counted", "shown"),
    [
        ({}, "not seen: no request was refused. `--probe-retry` finds out"),
        (refused(repeats={"1": {"2": 3}}), "503: repeats after 2 s, 3 times (3 events)"),
        (
            refused(repeats={"1": {"2": 1}, "2": {"2.1": 1}, "3": {"1.9": 1}}),
            "503: repeats after 1.9 or 2 or 2.1 s, 3 times (1 event)",
        ),
        (
            refused(repeats={"1": {"2": 3}, "2": {"4": 1}}),
            "503: repeats after 2 s, then 4 s, 4 times (3 events)",
        ),
        (
            refused(repeats={"1": {"1.9": 1, "2": 2, "2.1": 1, "2.2": 1}}),
            "503: repeats after 1.9 to 2.2 s (median 2 s), 5 times (5 events)",
        ),
        (refused(silent={"61": 2, "75": 1}), "503: never within a minute, 3 events"),
        (refused(silent={"3600": 1}), "503: never within an hour, 1 event"),
        (refused(silent={"130": 1, "12": 2}), "503: never within 2 minutes, 1 event, not yet, 2 events refused less than a minute ago"),
        (
            refused(silent={"61": 1}, uncertain={"20": 1}),
            "503: never within a minute, 1 event, the same content after 20 s, once, perhaps as a new event",
        ),
        (refused(watched=0), "503: unknown, 3 times; a body that was not read cannot be recognized"),
    ],
)  # fmt: skip
def test_repeats_of_refused_requests_are_an_answer(counted: dict[str, Any], shown: str) -> None:
    assert answer("refused requests sent again", bridge_survey(**counted)) == shown


def test_time_outs_and_connections_are_answers() -> None:
    calm, hasty = bridge_survey(), bridge_survey(left_s={"5": 2}, idle_s={"15": 1})

    assert answer("wait for an answer", calm) == (
        "not seen: it never left before an answer; the slowest answer to an accepted event took at most 0.025 s"
    )
    assert answer("wait for an answer", hasty).startswith("left before the answer after 5 s, 2 times")
    assert answer("keep its connections", hasty) == (
        "0 of 2 connections carried more than one request; 2 asked for a close; it closed 1 itself, after 15 s without a request"
    )
    assert answer("keep its connections") == "not seen: no bridge was asked, `--bridge` names one"


def test_counts_of_several_bridges_are_added() -> None:
    one, other = (bridge_survey(**refused(silent={"61": 1})) for _ in range(2))
    other["since"] = "2026-03-02T09:00:00.000000Z"
    other["slowest_answer_s"] = "+Inf"

    sender = sender_of([BridgeSurvey.model_validate(each) for each in (one, other)], "voipex")

    assert (sender.bridges, sender.connections, sender.answers) == (2, 4, {"200": 10})
    assert sender.refused["503"].silent == {"61": 2}
    assert (sender.since, sender.slowest_answer_s) == ("2026-03-02T09:00:00.000000Z", "+Inf")


def test_refused_events_that_do_not_come_again_are_a_finding() -> None:
    sender = sender_of(
        [BridgeSurvey.model_validate(bridge_survey(**refused(silent={"61": 2, "9": 1}), left_s={"5": 1}))],
        "voipex",
    )
    survey = report.to_json(observed([*call("1772438400.1")]), report.Documents(), Counter(), sender)

    counts = {each["code"]: (each["count"], each["of"]) for each in survey["findings"]}
    assert counts["not_repeated_after_503"] == (2, 3)
    assert counts["left_before_answer"] == (1, 2)
    assert survey["sender"]["refused"]["503"]["silent"] == {"61": 2, "9": 1}


def test_a_proxy_is_named_before_its_habits() -> None:
    sender = sender_of(
        [BridgeSurvey.model_validate(bridge_survey(habits={"proxy": {"through a proxy": 2}}))], "voipex"
    )
    survey = report.to_json(observed([*call("1772438400.1")]), report.Documents(), Counter(), sender)

    assert "2 of 2 connections came through a proxy" in report.to_markdown(survey)


@contextlib.contextmanager
def management_port(body: dict[str, Any]) -> Iterator[str]:
    """The address of a port that answers every GET with this body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(orjson.dumps(body))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def survey_with(*options: str) -> Result:
    return CliRunner().invoke(app, ["survey", "-", *options], input=trace_of([*call("1772438400.1")]))


def test_the_command_asks_the_bridges_that_are_named() -> None:
    with management_port(bridge_survey(**refused(repeats={"1": {"2": 3}}))) as address:
        result = survey_with("--bridge", f"http://{address}")

    assert result.exit_code == 0, result.output
    assert (
        "| Are refused requests sent again? | 503: repeats after 2 s, 3 times (3 events) |" in result.output
    )
    assert "| connections | 2 from 1 address |" in result.output


@pytest.mark.parametrize(
    "url",
    ["http://jana:tajne@127.0.0.1:1", "https://bridge:8081", "bridge", "http://bridge:tajne/", "jana:tajne"],
)
def test_a_wrong_url_of_a_bridge_is_not_repeated(url: str) -> None:
    result = survey_with("--bridge", url)

    assert result.exit_code == 2
    assert "tajne" not in result.output + result.stderr
    assert "--bridge: say http://HOST:PORT of a management port, without a user" in result.stderr


def test_a_bridge_that_is_none_is_named_and_not_shown() -> None:
    planted = bridge_survey(habits={"user_agent": {"<petr.novak 777888999>": 1}})
    with management_port(planted) as address:
        result = survey_with("--bridge", address)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"--bridge {address}: what answers there is no bridge of this version" in result.stderr
    assert "777888999" not in result.stderr


def test_a_probe_is_not_started_without_a_yes() -> None:
    result = survey_with("--probe-retry", "--bridge", "127.0.0.1:1", "--pbx", "voipex")

    assert result.exit_code == 1
    assert "answers 503 to 10 events of the PBX voipex" in result.stderr
    assert "not started; --yes starts it without asking" in result.stderr


def test_a_probe_needs_to_know_its_bridge() -> None:
    assert survey_with("--probe-retry", "--yes").exit_code == 2
