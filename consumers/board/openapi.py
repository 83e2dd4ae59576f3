"""
The read API of the board in OpenAPI 3.1. Documents have the schemas of their topics; rows have a part of their fields, under the same names.

Served as `/api/openapi.json`, and written to docs/contract/board-openapi.json by `make contract`.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from consumers.board.figures import DEFINITIONS
from consumers.board.queries import AGENTS, CALLS, DOCUMENT, MISSED, NONE, QUEUES, Parameter
from consumers.board.rows import AGENT_FIELDS, CALL_FIELDS, LEG_FIELDS, LEGS, Json
from voipex.agent_status import AgentStatus
from voipex.call_timeline import CallTimeline

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_COUNT: Final = {"type": "integer", "minimum": 0}
_FLAG: Final = {"type": "boolean"}
_SECONDS_OR_NULL: Final = {"type": ["number", "null"], "minimum": 0}
_TIME: Final = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final = {"type": ["string", "null"], "format": "date-time"}

_ABOUT: Final = """\
Calls, agents, queues and missed callers as they are now. It reads only. For people: docs/board.md.

Beyond this host every request needs a user (Basic). A user of the role `wall` gets phone numbers with dots for all but the last three digits. The key
of an agent that is known by such a line only ends in `~` and eight digits of this board process, which tell lines apart.

Unknown fields and values may come in later versions: ignore them. Null means "not known". Of two rows keep the higher `revision`.
Errors are problems (RFC 9457)."""

_STREAM: Final = """\
Server-sent events. First `snapshot` with all rows, then `change` with the rows that differ (null: gone), and `heartbeat` every two seconds when
nothing changes; their `data` have the schemas `Snapshot`, `Change` and `Heartbeat`. With `Last-Event-ID`, or `since`, the stream goes on behind
that event without gap or repeat, if that was within a minute and in the same run; else it begins with a snapshot."""


@cache
def description() -> Json:
    """Return the document; callers must not change it."""
    _, made = models_json_schema(
        [(CallTimeline, "serialization"), (AgentStatus, "serialization")],
        by_alias=True,
        ref_template="#/components/schemas/{model}",
    )
    documents: Json = made["$defs"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "VOIPEX bridge, board",
            "version": "1",
            "summary": "What is now: calls, agents, queues, missed callers.",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8084", "description": "`make run`"}],
        "security": [{}, {"basic": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "schemas": {**documents, **_rows(documents)},
        },
    }


# ---------------------------------------------------------------- paths


def _paths() -> Json:
    call_id = _in_path("call_id", "UniqueId; a slash in it is %2F or itself")
    agent = _in_path("agent", "agent key, as in `agent` of the status")
    date = _in_path("date", "a local day such as 2026-03-02")
    return {
        "/api/calls": _get("listCalls", "Rows of calls, the newest first.", CALLS, "Calls"),
        "/api/calls/{call_id}": _get(
            "getCall", "The whole CallTimeline.", DOCUMENT, ("CallTimeline", "Broken"), [call_id]
        ),
        "/api/agents": _get("listAgents", "Rows of agents, by PBX and key.", AGENTS, "Agents"),
        "/api/agents/{agent}": _get(
            "getAgent", "The whole AgentStatus.", DOCUMENT, ("AgentStatus", "Broken"), [agent]
        ),
        "/api/agents/{agent}/days/{date}": _get(
            "getDay", "One local day of an agent.", DOCUMENT, "Day", [agent, date]
        ),
        "/api/queues": _get("listQueues", "Figures of every queue.", QUEUES, "Queues"),
        "/api/missed": _get(
            "listMissed", "Callers that were missed, one row each, the last one first.", MISSED, "Missed"
        ),
        "/api/definitions": _get("getDefinitions", "How figures are computed.", NONE, "Definitions"),
        "/api/stream": {"get": _stream()},
    }


def _in_path(name: str, text: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": _TEXT}


def _get(
    name: str,
    summary: str,
    parameters: Iterable[Parameter],
    schema: str | tuple[str, ...],
    path: Iterable[Json] = (),
) -> Json:
    given = list(path)
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "parameters": [
                *given,
                *(
                    {"name": each.name, "in": "query", "description": each.description, "schema": each.schema}
                    for each in parameters
                ),
            ],
            "responses": {
                "200": {
                    "description": summary,
                    "content": {"application/json": {"schema": _of(schema)}},
                },
                "400": _problem("A parameter is not known, or its value is not valid; `detail` names it."),
                **({"404": _problem("It is not in the window.")} if given else {}),
                **(
                    {"503": _problem("Kafka does not give the events of the day.", "Retry-After")}
                    if schema == "Day"
                    else {}
                ),
                **_REFUSALS,
            },
        }
    }


def _stream() -> Json:
    return {
        "operationId": "follow",
        "summary": "Changes as they happen.",
        "description": _STREAM,
        "parameters": [
            {"name": "Last-Event-ID", "in": "header", "description": "id of an event", "schema": _TEXT},
            {
                "name": "since",
                "in": "query",
                "description": "the same, for those who cannot send headers",
                "schema": _TEXT,
            },
        ],
        "responses": {
            "200": {
                "description": "Events until one side closes.",
                "content": {"text/event-stream": {"schema": _TEXT}},
            },
            **_REFUSALS,
        },
    }


def _of(schema: str | tuple[str, ...]) -> Json:
    if isinstance(schema, str):
        return _ref(schema)
    return {"anyOf": [_ref(each) for each in schema]}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _problem(text: str, *headers: str) -> Json:
    return {
        "description": text,
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
        **({"headers": {each: {"schema": _TEXT} for each in headers}} if headers else {}),
    }


_REFUSALS: Final = {
    "401": _problem("A user is required, or the password is wrong.", "WWW-Authenticate"),
    "421": _problem("Without a users file the board answers to names of this host only."),
    "429": _problem("Too many passwords wait to be checked.", "Retry-After"),
}

# ---------------------------------------------------------------- schemas


def _object(properties: Json, text: str | None = None) -> Json:
    """Describe an object that has all these fields always."""
    return {
        **({} if text is None else {"description": text}),
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _list(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def _by_name(schema: Json, text: str) -> Json:
    return {"type": "object", "additionalProperties": schema, "description": text}


def _part(documents: Mapping[str, Any], model: str, names: Iterable[str]) -> Json:
    """Return fields of a document with their own schemas."""
    fields: Json = documents[model]["properties"]
    return {name: fields[name] for name in names}


def _rows(documents: Mapping[str, Any]) -> Json:
    call = _object(
        {
            **_part(documents, "CallTimeline", CALL_FIELDS),
            "legs": {
                **_list(_object(_part(documents, "Leg", LEG_FIELDS))),
                "maxItems": LEGS,
                "description": "the last of them",
            },
            "doubt": {**_FLAG, "description": "`quality` is not `exact`"},
            "last_event_at": {**_TIME_OR_NULL, "description": "of the last event"},
        },
        "A part of a CallTimeline.",
    )
    agent = _object(
        {
            **_part(documents, "AgentStatus", AGENT_FIELDS),
            "days": _by_name(_ref("AgentDay"), "the last two local days that are not empty"),
        },
        "A part of an AgentStatus.",
    )
    clocks = {
        "now": {**_TIME, "description": "the board's clock"},
        "date": {**_TEXT, "description": "the local day"},
        "ready": {**_FLAG, "description": "the topics were read to their ends since the start"},
        "kafka_age_s": {
            **_SECONDS_OR_NULL,
            "description": "since the topics were last known to be read to their ends; null: never yet",
        },
        "event_age_s": {**_SECONDS_OR_NULL, "description": "since the last event of the PBX"},
    }
    rows = {"calls": "CallRow", "agents": "AgentRow", "queues": "QueueRow", "missed": "MissedRow"}
    change: Json = {
        name: _by_name({"anyOf": [_ref(row), {"type": "null"}]}, "by name; null: gone")
        for name, row in rows.items()
    }
    return {
        "CallRow": call,
        "AgentRow": agent,
        "QueueRow": _queue_row(),
        "MissedRow": _missed_row(),
        "Calls": _object(
            {"calls": _list(_ref("CallRow")), "more": {**_FLAG, "description": "there are further pages"}}
        ),
        "Agents": _object({"agents": _list(_ref("AgentRow"))}),
        "Queues": _object(
            {
                "queues": _list(_ref("QueueRow")),
                "target_s": {"type": "number", "description": "the wait of `within`"},
            }
        ),
        "Missed": _object({"missed": _list(_ref("MissedRow"))}),
        "Definitions": _object({"queues": _by_name(_TEXT, "figure -> how it is computed")}),
        "Day": _day(documents),
        "Broken": _broken(),
        "Heartbeat": _object(clocks, "Data of the event `heartbeat`."),
        "Change": {
            **_object(clocks, "Data of the event `change`: the collections that changed."),
            "properties": {**clocks, **change},
        },
        "Snapshot": _object(
            {
                **clocks,
                "boot": {**_TEXT, "description": "names the run of the board"},
                "time_zone": _TEXT,
                "target_s": {"type": "number"},
                **{name: _by_name(_ref(row), "by name") for name, row in rows.items()},
                "broken": _list(_object({"topic": _TEXT, "key": _TEXT, "why": _TEXT})),
            },
            "Data of the event `snapshot`: all open calls and the newest ended ones, agents, queues, missed callers.",
        ),
        "Problem": _object({"title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT}, "RFC 9457."),
    }


def _queue_row() -> Json:
    members = {"type": ["integer", "null"], "minimum": 0}
    kinds: Json = {
        **dict.fromkeys(("logged", "free", "talking", "paused"), members),
        **dict.fromkeys(("waiting", "answered", "missed", "estimated", "partial"), _COUNT),
        "longest_since": _TIME_OR_NULL,
        "within": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "wait_s": _SECONDS_OR_NULL,
        "last_hour": _list({**_list(_COUNT), "minItems": 2, "maxItems": 2}),
    }
    return _object(
        {
            "pbx": _TEXT,
            "queue": {**_TEXT, "description": "its name; empty: calls without a queue"},
            **{name: {**kinds[name], "description": text} for name, text in DEFINITIONS.items()},
        },
        "The figures of a queue.",
    )


def _missed_row() -> Json:
    back = _object(
        {
            "call_id": _TEXT,
            "at": _TIME,
            "direction": _TEXT_OR_NULL,
            "by": {**_TEXT_OR_NULL, "description": "login, else line"},
            "doubt": _FLAG,
        }
    )
    return _object(
        {
            "caller": {**_TEXT, "description": "names the caller within one run of the board"},
            "pbx": _TEXT,
            "number": {**_TEXT_OR_NULL, "description": "of the last missed call, as sent"},
            "tries": {"type": "integer", "minimum": 1, "description": "missed calls in the window"},
            "first_at": _TIME,
            "last_at": _TIME,
            "queue": _TEXT_OR_NULL,
            "waited_s": {**_SECONDS_OR_NULL, "description": "in the last missed call"},
            "lost_after_talk": {**_FLAG, "description": "was talked to, then left waiting until the end"},
            "doubt": {**_FLAG, "description": "of one of the calls"},
            "calls": {**_list(_TEXT), "description": "`call_id` of the last of them"},
            "called_back": {
                "anyOf": [back, {"type": "null"}],
                "description": "the first answered call with the number, in either direction, after the last missed one",
            },
        },
        "A caller that was missed.",
    )


def _day(documents: Mapping[str, Any]) -> Json:
    leg = _object(
        {
            **_part(documents, "Leg", LEG_FIELDS),
            **_part(documents, "CallTimeline", ("call_id", "direction", "from", "to", "outcome", "quality")),
            "began_at": _TIME,
            "talk_started_at": {**_TIME_OR_NULL, "description": "when the leg got the caller"},
        }
    )
    return _object(
        {
            "agent": _TEXT,
            "pbx": _TEXT,
            "date": _TEXT,
            "begin": _TIME,
            "end": _TIME,
            "until": {**_TIME, "description": "now, within the day"},
            "presence": {
                **_list(_object({"since": _TIME, "state": _TEXT})),
                "description": "states without calls; empty for an agent who never logs in",
            },
            "pauses": _list(_object({"at": _TIME, "queue": _TEXT_OR_NULL, "pause_name": _TEXT_OR_NULL})),
            "legs": _list(leg),
            "sums": {"anyOf": [_ref("AgentDay"), {"type": "null"}], "description": "of the status"},
            "updated_at": _TIME,
        },
        "A local day of an agent.",
    )


def _broken() -> Json:
    return _object(
        {"broken": _TEXT, "topic": _TEXT, "raw": _TEXT_OR_NULL},
        "A record that is no document of its topic: another producer writes to it.",
    )
