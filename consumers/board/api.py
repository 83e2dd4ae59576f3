"""The HTTP interface of the board: JSON for programs, the stream, and the pages. It reads only: webhooks go one way."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consumers.board.access import Access, User
from consumers.board.board import Board
from consumers.board.day import EventsUnreadable, agent_day
from consumers.board.figures import DEFINITIONS, queue_of
from consumers.board.openapi import description
from consumers.board.queries import (
    AGENTS,
    CALLS,
    DOCUMENT,
    MISSED,
    NONE,
    PAGE,
    QUEUES,
    BadQuery,
    Parameter,
    read_query,
)
from consumers.board.rows import Json, masked
from consumers.board.stream import Stream
from consumers.board.window import Entry, is_open, order_of
from voipex.events import Event
from voipex.service.logging import get_logger
from voipex.timestamps import parse_rfc3339

STATIC: Final = Path(__file__).parent / "static"
_CONTENT_SECURITY_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; font-src 'self'; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_SECURITY_HEADERS: Final = (
    (
        b"content-security-policy",
        _CONTENT_SECURITY_POLICY,
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_MOST_CHECKS: Final = 50
"""Passwords that wait to be checked, some 40 ms each: with more, whoever guesses would keep others out for long."""

_MANAGEMENT: Final = frozenset({"/live", "/ready", "/metrics"})
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

EventsOf = Callable[[str, str, int], Awaitable[list[Event]]]
"""(pbx, agent key, since when in microseconds) -> events of the agent. Raises EventsUnreadable."""

log = get_logger("board")


def build_app(
    board: Board, stream: Stream, access: Access, events_of: EventsOf, management: ASGIApp
) -> ASGIApp:
    """Build the application of the board's port. `management` serves `/live`, `/ready` and `/metrics`, which need no user."""
    handlers = _Handlers(board, events_of)
    app = Starlette(
        routes=[
            Route("/", _index),
            Route("/api/calls", handlers.calls),
            Route("/api/calls/{call_id:path}", handlers.call),
            Route("/api/agents", handlers.agents),
            Route("/api/agents/{agent:path}/days/{date}", handlers.day),
            Route("/api/agents/{agent:path}", handlers.agent),
            Route("/api/queues", handlers.queues),
            Route("/api/missed", handlers.missed),
            Route("/api/definitions", handlers.definitions),
            Route("/api/openapi.json", handlers.openapi),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={BadQuery: _bad_query, HTTPException: _refused, EventsUnreadable: _unreadable},
    )
    return _Guard(app, stream, access, management)


async def _index(_: Request) -> Response:
    return Response((STATIC / "index.html").read_bytes(), media_type="text/html; charset=utf-8")


# ---------------------------------------------------------------- who may look


class _Guard:
    """Authenticates every request, adds security headers, and hands `/api/stream` to the stream."""

    def __init__(self, app: ASGIApp, stream: Stream, access: Access, management: ASGIApp) -> None:
        self._app, self._stream, self._access, self._management = app, stream, access, management
        self._one_at_a_time = asyncio.Semaphore(1)
        self._checks_waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] in _MANAGEMENT:
            await self._management(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_SECURITY_HEADERS]
            await send(message)

        if self._access.open_to_all and not _is_loopback(headers.get("host", "")):
            # A page of another site whose name leads to 127.0.0.1 would read the board in this browser.
            await _problem(421, "this board answers to localhost only")(scope, receive, send_guarded)
            return
        if self._checks_waiting >= _MOST_CHECKS:
            answer = _problem(429, "too many sign-ins at once", {"retry-after": "2"})
            await answer(scope, receive, send_guarded)
            return
        user = await self._user(headers.get("authorization"), scope)
        if user is None:
            challenge = {"www-authenticate": 'Basic realm="board", charset="UTF-8"'}
            answer = _problem(401, "a user of the board is required", challenge)
            await answer(scope, receive, send_guarded)
            return
        scope["user"] = user
        if scope["path"] == "/api/stream":
            if scope["method"] == "GET":
                await self._stream.serve(scope, receive, send_guarded, user.role)
            else:
                answer = _problem(405, headers={"allow": "GET"})
                await answer(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)

    async def _user(self, header: str | None, scope: Scope) -> User | None:
        user = self._access.known(header)
        if user is None and header is not None:
            self._checks_waiting += 1
            try:
                async with self._one_at_a_time:  # guesses wait for each other
                    user = self._access.known(header)  # a page asks for a dozen files at once
                    if user is not None:
                        return user
                    user = await asyncio.to_thread(self._access.check, header)
            finally:
                self._checks_waiting -= 1
            client = scope.get("client")
            log.info(
                "user signed in" if user is not None else "sign-in refused",
                user=None if user is None else user.name,
                peer=None if client is None else client[0],
            )
        return user


def _is_loopback(host: str) -> bool:
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() and name else host) in _LOOPBACK_NAMES


# ---------------------------------------------------------------- JSON


class _Handlers:
    def __init__(self, board: Board, events_of: EventsOf) -> None:
        self._board = board
        self._events_of = events_of

    async def calls(self, request: Request) -> Response:
        """Rows of calls, the newest first; `after`: a call_id, to go on behind it."""
        query = self._query(request, CALLS)
        behind = None if "after" not in query else self._place(query["after"], query.get("pbx"))
        tests = _tests(query)
        limit = query.get("limit", PAGE)
        rows: list[Json] = []
        for entry in self._board.window.calls_newest_first():
            if (behind is None or order_of(entry) < behind) and all(test(entry.row) for test in tests):
                if len(rows) == limit:
                    return _json(request, {"calls": rows, "more": True})
                rows.append(entry.row)
        return _json(request, {"calls": rows, "more": False})

    def _place(self, call_id: str, pbx: str | None) -> tuple[str, str, str]:
        """Return the place of a call in the order, also when it no longer passes the filters."""
        for name in self._board.pbxs if pbx is None else (pbx,):
            entry = self._board.window.calls.get((name, call_id))
            if entry is not None:
                return order_of(entry)
        raise BadQuery("after is no call of the window any more; begin again without it")

    async def call(self, request: Request) -> Response:
        """The whole CallTimeline."""
        return self._document(request, self._board.window.calls, request.path_params["call_id"], "call")

    async def agents(self, request: Request) -> Response:
        """Rows of agents by key."""
        query = self._query(request, AGENTS)
        queue, pbx, state = query.get("queue"), query.get("pbx"), query.get("state")
        rows = [
            entry.row
            for (of, _), entry in sorted(self._board.window.agents.items(), key=lambda each: each[0])
            if (pbx is None or of == pbx)
            and (queue is None or queue in (entry.row["queues"] or {}))
            and (state is None or entry.row["state"] == state)
        ]
        return _json(request, {"agents": rows})

    async def agent(self, request: Request) -> Response:
        """The whole AgentStatus."""
        return self._document(request, self._board.window.agents, request.path_params["agent"], "agent")

    async def day(self, request: Request) -> Response:
        """One local day of an agent: presence and pauses from its events, calls from their legs."""
        agent, date = request.path_params["agent"], request.path_params["date"]
        pbx = self._query(request, DOCUMENT).get("pbx", self._board.pbxs[0])
        entry = self._board.window.agents.get((pbx, agent))
        if entry is None:
            return _problem(404, "no such agent")
        try:
            bounds = self._board.day_bounds_us(date)
        except (ValueError, OverflowError):
            return _problem(400, "a date is 2026-03-02")
        events = await self._events_of(pbx, agent, bounds[0] - _BEFORE_US)
        calls = [each for (of, _), each in self._board.window.calls.items() if of == pbx]
        now_us = self._board.now_us()
        day = await asyncio.to_thread(
            agent_day, entry.document(), calls, events, date, bounds, now_us, self._board.time_zone
        )
        return _json(request, day)

    async def queues(self, request: Request) -> Response:
        """Figures of every queue; `/api/definitions` says how each is computed."""
        query = self._query(request, QUEUES)
        rows = [row for row in self._board.queues() if all(row[name] == query[name] for name in query)]
        return _json(request, {"queues": rows, "target_s": self._board.target_s})

    async def missed(self, request: Request) -> Response:
        """Callers that were missed, the last one first; `open=true`: only those not called back."""
        query = self._query(request, MISSED)
        rows = [
            row
            for row in self._board.missed()
            if query.get("pbx", row["pbx"]) == row["pbx"]
            and query.get("queue", row["queue"] or "") == (row["queue"] or "")
            and ("since" not in query or parse_rfc3339(row["last_at"]) >= query["since"])
            and (query.get("open") != "true" or row["called_back"] is None)
        ]
        return _json(request, {"missed": rows})

    async def definitions(self, request: Request) -> Response:
        self._query(request, NONE)
        return _json(request, {"queues": DEFINITIONS})

    async def openapi(self, request: Request) -> Response:
        """The description of all this in OpenAPI 3.1."""
        self._query(request, NONE)
        return _json(request, description())

    def _query(self, request: Request, parameters: tuple[Parameter, ...]) -> Mapping[str, Any]:
        """Raises BadQuery, for lists also for a PBX that this board does not read: they would look as if nothing happened."""
        query = read_query(request.query_params.multi_items(), parameters)
        if parameters is not DOCUMENT and query.get("pbx", self._board.pbxs[0]) not in self._board.pbxs:
            raise BadQuery("pbx is none that this board reads")
        return query

    def _document(
        self, request: Request, entries: Mapping[tuple[str, str], Entry], key: str, what: str
    ) -> Response:
        pbx = self._query(request, DOCUMENT).get("pbx", self._board.pbxs[0])
        entry = entries.get((pbx, key))
        if entry is not None:
            return _json(request, entry.document())
        broken = self._board.window.broken.get((pbx, key))
        if broken is not None:
            return _json(request, {"broken": broken.why, "topic": broken.topic, "raw": broken.raw})
        return _problem(404, f"no such {what} in the window")


_BEFORE_US: Final = 3 * 86_400_000_000
"""Events from so long before a day say how it begins."""


def _tests(query: Mapping[str, Any]) -> list[Callable[[Json], bool]]:
    """Return what a row must pass, by the filters `pbx queue agent outcome quality direction status since`."""
    tests: list[Callable[[Json], bool]] = [
        partial(_is, name, query[name])
        for name in ("pbx", "outcome", "quality", "direction")
        if name in query
    ]
    if "queue" in query:
        tests.append(lambda row: queue_of(row) == query["queue"])
    if "status" in query:
        tests.append(partial(_has_status, query["status"]))
    if "agent" in query:
        tests.append(partial(_concerns, query["agent"].casefold()))
    if "since" in query:
        tests.append(lambda row: parse_rfc3339(row["started_at"] or row["updated_at"]) >= query["since"])
    return tests


def _is(name: str, value: str, row: Json) -> bool:
    return bool(row[name] == value)


def _has_status(status: str, row: Json) -> bool:
    return is_open(row) if status == "open" else bool(row["status"] == status)


def _concerns(agent: str, row: Json) -> bool:
    return any(
        agent in ((leg["login"] or "").casefold(), leg["line"] or "", f"line:{leg['line']}")
        for leg in row["legs"]
    )


def _json(request: Request, body: Any) -> Response:
    if request.user.role == "wall":
        body = masked(body)
    return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})


# ---------------------------------------------------------------- problems (RFC 9457)


def _problem(status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    title = HTTPStatus(status).phrase
    body = orjson.dumps({"title": title, "status": status, "detail": detail or title})
    return Response(body, status, headers, media_type="application/problem+json")


async def _bad_query(_: Request, error: Exception) -> Response:
    return _problem(400, str(error))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    return _problem(error.status_code, headers=error.headers)


async def _unreadable(_: Request, error: Exception) -> Response:
    return _problem(503, str(error), {"retry-after": "5"})
