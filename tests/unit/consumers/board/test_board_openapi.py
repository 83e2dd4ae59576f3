"""The description of the read API: it is valid, and a running board answers as it says, field by field."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships none
from openapi_spec_validator import validate

from consumers.board.access import Access, add_user, read_users
from consumers.board.openapi import description
from tests.board_fixtures import Json
from tests.unit.consumers.board.test_api import basic, documents, events_of, get, talk

DOCUMENT: Json = orjson.loads(orjson.dumps(description()))
CALL, AGENT = "1772438400.1", "cerna"  # of `documents`, which are the same each time

ANSWERS = {
    "/api/calls": "/api/calls?limit=1000",
    "/api/calls/{call_id}": f"/api/calls/{CALL}",
    "/api/agents": "/api/agents",
    "/api/agents/{agent}": f"/api/agents/{AGENT}",
    "/api/agents/{agent}/days/{date}": f"/api/agents/{AGENT}/days/2026-03-02",
    "/api/queues": "/api/queues",
    "/api/missed": "/api/missed",
    "/api/definitions": "/api/definitions",
}


def closed(schema: Any) -> Any:
    """The same, but without room for further fields: a test must notice a field that is not described."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    if "properties" in made and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


CLOSED = closed(DOCUMENT)


def faults(schema: Json, value: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "components": CLOSED["components"]})
    return [f"{list(each.path)}: {each.message[:200]}" for each in validator.iter_errors(value)]


def schema_of(path: str, status: str = "200") -> Json:
    [content] = CLOSED["paths"][path]["get"]["responses"][status]["content"].values()
    schema: Json = content["schema"]
    return schema


def test_the_description_is_valid() -> None:
    validate(deepcopy(DOCUMENT))


def test_every_path_is_tried() -> None:
    assert set(DOCUMENT["paths"]) == {*ANSWERS, "/api/stream"}


def test_a_board_serves_its_description() -> None:
    assert orjson.loads(get("/api/openapi.json")[2]) == DOCUMENT


@pytest.mark.parametrize("path", ANSWERS)
def test_a_board_answers_as_described(path: str) -> None:
    status, headers, content = get(ANSWERS[path])
    body = orjson.loads(content)

    assert (status, headers["content-type"]) == (200, "application/json")
    assert faults(schema_of(path), body) == []
    assert all(len(value) > 0 for value in body.values() if isinstance(value, list) and path.count("/") == 2)


@pytest.mark.parametrize("path", ANSWERS)
def test_a_wall_gets_what_is_described(path: str, tmp_path: Any) -> None:
    add_user(tmp_path / "users.json", "screen", "wall", "battery")
    access = Access(read_users(tmp_path / "users.json"))

    content = get(ANSWERS[path], access, Authorization=basic("screen", "battery"))[2]

    assert faults(schema_of(path), orjson.loads(content)) == []


@pytest.mark.parametrize("field", ["revision", "legs", "doubt", "from"])
def test_a_missing_field_would_be_noticed(field: str) -> None:
    body = orjson.loads(get("/api/calls")[2])
    del body["calls"][3][field]

    assert faults(schema_of("/api/calls"), body)


def test_a_field_that_is_not_described_would_be_noticed() -> None:
    body = orjson.loads(get("/api/agents")[2])
    body["agents"][0]["mood"] = "fine"

    assert faults(schema_of("/api/agents"), body)


def test_events_of_the_stream_are_as_described() -> None:
    def conversation(ask: Any, board: Any, _stream: Any) -> bytes:
        first: bytes = ask("/api/stream")[2]
        last = board.ring.last
        for each in documents().timelines[:3]:
            board.put_call("voipex", each["call_id"], None)
        board.put_agent("voipex", AGENT, None)
        board.queues()
        board.tick()
        changes: bytes = ask(f"/api/stream?since=boot-{last}")[2]
        heartbeat: bytes = board.heartbeat()
        return first + changes + heartbeat

    kinds = {}
    for kind, body in events_of(talk(Access(None), conversation)):
        kinds[kind] = body
        assert faults(CLOSED["components"]["schemas"][kind.capitalize()], body) == [], kind

    assert set(kinds) == {"snapshot", "change", "heartbeat"}
    assert {"calls", "agents", "queues"} <= set(kinds["change"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/calls?outcome=mised", 400),
        ("/api/calls?quality=good", 400),
        ("/api/calls?direction=up", 400),
        ("/api/calls?status=", 400),
        ("/api/calls?limit=1001", 400),
        (f"/api/calls?limit={'9' * 5000}", 400),
        ("/api/calls?since=2026-03-02T08:00:00", 400),
        ("/api/calls?after=no.such", 400),
        ("/api/calls?pbx=brno", 400),
        ("/api/calls?que=NOC", 400),
        ("/api/calls?queue=NOC&queue=Obchod", 400),
        ("/api/agents?state=asleep", 400),
        ("/api/missed?open=yes", 400),
        ("/api/missed?since=today", 400),
        ("/api/queues?pbx=brno", 400),
        (f"/api/calls/{CALL}?pbx=brno", 404),
        (f"/api/calls/{CALL}?pbs=voipex", 400),
        ("/api/definitions?x=1", 400),
        (f"/api/agents/{AGENT}/days/yesterday", 400),
        (f"/api/agents/{AGENT}/days/9999-12-31", 400),
        ("/api/calls/no.such", 404),
        ("/api/agents/no.such", 404),
        ("/nothing", 404),
    ],
)
def test_what_cannot_be_answered_is_a_problem(path: str, status: int) -> None:
    answer = get(path)

    assert (answer[0], answer[1]["content-type"]) == (status, "application/problem+json")
    problem = orjson.loads(answer[2])
    assert faults(CLOSED["components"]["schemas"]["Problem"], problem) == []
    assert problem["status"] == status
    assert "mised" not in problem["detail"]


@pytest.mark.parametrize("path", ["/api/calls", "/api/stream", "/"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_another_method_is_a_problem(path: str, method: str) -> None:
    answer = talk(
        Access(None), lambda ask, _board, _stream: ask(f"{path}?" if path == "/api/stream" else path, method)
    )

    assert (answer[0], answer[1]["content-type"]) == (405, "application/problem+json")
    assert "GET" in answer[1]["allow"]


def parameters() -> Iterator[tuple[str, Json]]:
    for path, item in DOCUMENT["paths"].items():
        for each in item["get"]["parameters"]:
            if each["in"] == "query" and path in ANSWERS:
                yield path, each


@pytest.mark.parametrize(("path", "parameter"), list(parameters()))
def test_every_described_parameter_is_taken(path: str, parameter: Json) -> None:
    schema = parameter["schema"]
    name = parameter["name"]
    values = schema.get("enum") or {
        "date-time": ["2026-03-02T08:00:00Z", "2026-03-02T09:00:00+01:00"],
        "integer": ["1", "1000"],
        "pbx": ["voipex"],
        "after": [CALL],
    }.get(schema.get("format") or (name if name in ("pbx", "after") else schema["type"]), ["NOC"])

    def conversation(ask: Any, _board: Any, _stream: Any) -> list[tuple[str, int]]:
        address = ANSWERS[path].partition("?")[0]
        return [(value, ask(f"{address}?{name}={value}")[0]) for value in values]

    assert [each for each in talk(Access(None), conversation) if each[1] != 200] == []


def test_a_page_goes_on_behind_a_call_that_no_longer_passes() -> None:
    def conversation(ask: Any, _board: Any, _stream: Any) -> tuple[list[str], list[str]]:
        whole = [row["call_id"] for row in orjson.loads(ask("/api/calls?limit=1000")[2])["calls"]]
        other = next(
            row["call_id"]
            for row in orjson.loads(ask("/api/calls?limit=1000")[2])["calls"]
            if row["outcome"] == "answered"
        )
        rest = orjson.loads(ask(f"/api/calls?limit=1000&outcome=missed&after={other}")[2])["calls"]
        missed = orjson.loads(ask("/api/calls?limit=1000&outcome=missed")[2])["calls"]
        behind = set(whole[whole.index(other) + 1 :])
        return [row["call_id"] for row in rest], [
            row["call_id"] for row in missed if row["call_id"] in behind
        ]

    found, wanted = talk(Access(None), conversation)
    assert found == wanted
    assert found


def test_a_key_with_a_percent_sign_is_read_once() -> None:
    def conversation(ask: Any, board: Any, _stream: Any) -> int:
        wanted = {**documents().agents[0], "agent": "a%41/b"}
        board.put_agent("voipex", "a%41/b", orjson.dumps(wanted))
        status: int = ask("/api/agents/a%2541%2Fb")[0]
        return status

    assert talk(Access(None), conversation) == 200
