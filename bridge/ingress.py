"""
The front door: `receive_webhook` is the sentence of the promise, everything else here serves it.

A plain ASGI application, since every object on this way is paid for by each answer.
One place makes answers of errors (`_refuse`), and no answer ever repeats a body.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import orjson

from bridge.auth import Caller
from bridge.clock import ReceiptClock
from bridge.dead_letters import dead_letter
from bridge.errors import (
    RETRY_AFTER_S,
    BodyEncoded,
    BodyTooLarge,
    IncompleteRequest,
    IngressError,
    MethodNotAllowed,
    NotFound,
    TokenInvalid,
    Unauthorized,
    Unavailable,
    Unusable,
    problem_of,
)
from bridge.logs import get_logger
from bridge.metrics import Metrics
from bridge.normalize import fields_of
from bridge.tracing import traceparent_of
from bridge.webhook import parse
from bridge.wire import Record, encode_fields

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

WEBHOOK_PATHS: Final = frozenset({"/voipex", "/voipex/"})
TOKEN_PATH: Final = "/token"  # noqa: S105  # a path
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BASIC_CHALLENGE: Final = b'Basic realm="voipex-bridge", charset="UTF-8"'

log = get_logger("ingress")


class Outbox(Protocol):
    """Where a record is safe. Two answers to one question: on our disk (the spool), or with all in-sync replicas."""

    async def append(self, records: Sequence[Record]) -> None:
        """Return once *records* are safe. Raises Unavailable when they are not: answer 503."""
        ...


class Asked(NamedTuple):
    """The headers that matter."""

    authorization: bytes | None
    content_length: bytes | None
    content_encoding: bytes | None
    traceparent: bytes | None


class Ingress:
    """
    ASGI application of the front door.

    Args:
        outbox: keeps records.
        authenticate: Authorization header -> Caller; raises Unauthorized.
        clock: gives each webhook its time and its id.
        token_endpoint: answers /token; without it there is none.
        partitions: of every topic.
        max_body_bytes: longest body; the rest of a longer one is never read.
        accepted: status and body of the answer to an accepted event.
    """

    def __init__(
        self,
        outbox: Outbox,
        authenticate: Callable[[bytes | None], Caller],
        clock: ReceiptClock,
        metrics: Metrics,
        token_endpoint: Application | None = None,
        *,
        partitions: int,
        max_body_bytes: int,
        accepted: tuple[int, bytes] = (200, b""),
    ) -> None:
        self._outbox = outbox
        self._authenticate = authenticate
        self._clock = clock
        self._partitions = partitions
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._token_endpoint = token_endpoint
        self._complaints = OncePerSecond()
        status, body = accepted
        self._accepted_code = str(status)
        headers = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        if body and status != 204:
            headers.append((b"content-type", b"text/plain; charset=utf-8"))
        self._accepted_start = {"type": "http.response.start", "status": status, "headers": headers}
        self._accepted_body = {"type": "http.response.body", "body": b"" if status == 204 else body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: the accepted status, or a problem (RFC 9457)."""
        if scope["path"] == TOKEN_PATH and self._token_endpoint is not None:
            await self._token_endpoint(scope, receive, send)
            return
        started = time.perf_counter()
        try:
            event = await self.receive_webhook(scope, receive)
        except IngressError as error:
            await self._refuse(error, scope, send)
        except Exception:
            log.exception(
                "the front door failed"
            )  # without the body: nothing is known to be safe, so the PBX may try again
            await self._refuse(Unavailable("an internal error; the event is not kept"), scope, send)
        else:
            await send(self._accepted_start)
            await send(self._accepted_body)
            self._metrics.events_received.inc(event["pbx"], event["type"])
            self._metrics.http_requests.inc("/voipex", "POST", self._accepted_code)
            self._metrics.http_request_duration.observe(time.perf_counter() - started)

    async def receive_webhook(self, scope: Scope, receive: Receive) -> Mapping[str, Any]:
        """
        Take one webhook. Returning its event (as fields) means that it is safe (`Outbox`); an IngressError says what to answer instead.

        A body that is no event is safe too, as a dead letter, before it is refused.
        """
        _require_webhook_route(scope)
        asked = asked_for(scope["headers"])
        caller = self._authenticate(asked.authorization)  # before the body is read
        body = await read_body(asked, receive, self._max_body_bytes)
        receipt = self._clock.receipt(traceparent_of(asked.traceparent))
        try:
            event = fields_of(parse(body, caller.keys), caller.pbx, receipt, caller.region)
        except Unusable as fault:
            letter = dead_letter(body, fault, caller.pbx, caller.name, receipt, self._partitions)
            await self._outbox.append((letter,))
            self._metrics.dead_letters.labels(letter.topic, "ingress").inc()
            log.warning(
                "kept as a dead letter",
                event_id=receipt.event_id,
                fault=type(fault).__name__,
                credential=caller.name,
            )
            raise
        record = encode_fields(event, receipt.received_at_us // 1000, self._partitions, receipt.traceparent)
        await self._outbox.append((record,))
        return event

    async def _refuse(self, error: IngressError, scope: Scope, send: Send) -> None:
        reason = type(error).__name__
        self._count_refusal(error, scope, reason)
        if isinstance(error, (Unauthorized, Unavailable)):
            self._complaints.say(reason, error)
        body = orjson.dumps(problem_of(error))
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            *_headers_of(error),
        ]
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def count_refusal(self, error: IngressError) -> None:
        """A refusal before there was a request (`http_limits`)."""
        self._metrics.http_requests.inc("other", "other", str(error.status))
        if isinstance(error, Unavailable):
            self._complaints.say(type(error).__name__, error)

    def _count_refusal(self, error: IngressError, scope: Scope, reason: str) -> None:
        is_webhook = scope["path"] in WEBHOOK_PATHS
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.http_requests.inc("/voipex" if is_webhook else "other", method, str(error.status))
        if is_webhook:
            self._metrics.events_rejected.labels(reason).inc()


def _require_webhook_route(scope: Scope) -> None:
    if scope["path"] not in WEBHOOK_PATHS:
        raise NotFound("the front door is POST /voipex")
    if scope["method"] != "POST":
        raise MethodNotAllowed("the front door is POST /voipex")


def asked_for(headers: Sequence[tuple[bytes, bytes]]) -> Asked:
    """The headers that matter, in one pass; of equal ones the last, but two Authorizations are none."""
    authorization = content_length = content_encoding = traceparent = None
    for name, value in headers:
        if name == b"authorization":
            authorization = value if authorization is None else b""
        elif name == b"content-length":
            content_length = value
        elif name == b"content-encoding":
            content_encoding = value
        elif name == b"traceparent":
            traceparent = value
    return Asked(authorization, content_length, content_encoding, traceparent)


async def read_body(asked: Asked, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body, at most *limit_bytes*; a longer one is refused by its announced length or as soon as it is too long."""
    if asked.content_encoding is not None and asked.content_encoding.strip().lower() not in (
        b"",
        b"identity",
    ):
        raise BodyEncoded("send the body without Content-Encoding")
    if (
        asked.content_length is not None
        and asked.content_length.isdigit()
        and int(asked.content_length) > limit_bytes
    ):
        raise BodyTooLarge(f"more than {limit_bytes} bytes")
    message = await receive()
    body: bytes = message.get("body", b"")
    while True:
        if message["type"] == "http.disconnect":
            raise IncompleteRequest("the connection ended before the body")
        if len(body) > limit_bytes:
            raise BodyTooLarge(f"more than {limit_bytes} bytes")
        if not message.get("more_body", False):
            return body
        message = await receive()
        body += message.get("body", b"")


def _headers_of(error: IngressError) -> list[tuple[bytes, bytes]]:
    if isinstance(error, Unauthorized):
        invalid = b', error="invalid_token"' if isinstance(error, TokenInvalid) else b""
        return [
            (b"www-authenticate", BASIC_CHALLENGE),
            (b"www-authenticate", b'Bearer realm="voipex-bridge"' + invalid),
        ]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", b"POST")]
    if isinstance(error, Unavailable):
        return [(b"retry-after", b"%d" % RETRY_AFTER_S)]
    if isinstance(error, BodyTooLarge):
        return [(b"connection", b"close")]  # the rest of the body is not read
    return []


class OncePerSecond:
    """One log line a second for each kind of refusal: a wrong password in a PBX must be seen, and must not fill a disk."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, reason: str, error: IngressError) -> None:
        now = time.monotonic()
        if now - self._said_at.get(reason, -1.0) < 1.0:
            self._unsaid[reason] = self._unsaid.get(reason, 0) + 1
            return
        self._said_at[reason] = now
        log.warning(
            "refused", reason=reason, status=error.status, detail=str(error), more=self._unsaid.pop(reason, 0)
        )
