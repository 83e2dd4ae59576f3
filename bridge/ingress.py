"""
The front door: `receive_webhook` is the sentence of the promise, everything else here serves it.

A request that came whole goes to `take`, straight from its connection (`http_limits`): tasks and messages of ASGI would take a
good part of the answer's time. All others come by ASGI, which reads their bodies; then both go one way.
One place makes answers of errors (`_refusal`), and no answer ever repeats a body.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, Final

import orjson

from bridge.auth.authenticate import Principal
from bridge.http.receipts import ReceiptClock
from bridge.metrics import Metrics
from bridge.spool import RecordSink
from voipex.dead_letters import dead_letter
from voipex.errors import (
    RETRY_AFTER_S,
    ContentTooLarge,
    IncompleteRequest,
    IngressError,
    InvalidWebhook,
    MethodNotAllowed,
    NotFound,
    ServiceUnavailable,
    TokenInvalid,
    Unauthorized,
    UnsupportedContentEncoding,
    problem_details,
)
from voipex.normalize import Receipt, fields_of
from voipex.records import Record, encode_fields
from voipex.service.logging import get_logger
from voipex.service.server import Answer
from voipex.traceparent import traceparent_of
from voipex.webhook import parse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

WEBHOOK_PATHS: Final = frozenset({"/voipex", "/voipex/"})
TOKEN_PATH: Final = "/token"  # noqa: S105  # a path
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BASIC_CHALLENGE: Final = b'Basic realm="voipex-bridge", charset="UTF-8"'

log = get_logger("ingress")


Reply = Callable[[Answer], None]


class Asked:
    """The headers that matter."""

    __slots__ = ("authorization", "content_encoding", "content_length", "traceparent")

    def __init__(
        self,
        authorization: bytes | None,
        content_length: bytes | None,
        content_encoding: bytes | None,
        traceparent: bytes | None,
    ) -> None:
        self.authorization: Final = authorization
        self.content_length: Final = content_length
        self.content_encoding: Final = content_encoding
        self.traceparent: Final = traceparent


class Ingress:
    """
    ASGI application of the front door.

    Args:
        outbox: stores records durably.
        authenticate: Authorization header -> Principal; raises Unauthorized.
        clock: gives each webhook its time and its id.
        token_endpoint: answers /token; without it there is none.
        partitions: of every topic.
        max_body_bytes: longest body; the rest of a longer one is never read.
        accepted: status and body of the answer to an accepted event.
    """

    def __init__(
        self,
        outbox: RecordSink,
        authenticate: Callable[[bytes | None], Principal],
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
        body = b"" if status == 204 else body
        headers: tuple[tuple[bytes, bytes], ...] = (
            () if status == 204 else ((b"content-length", b"%d" % len(body)),)
        )
        if body:
            headers += ((b"content-type", b"text/plain; charset=utf-8"),)
        self._accepted_answer = Answer(status, headers, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: the accepted status, or a problem (RFC 9457)."""
        if scope["path"] == TOKEN_PATH and self._token_endpoint is not None:
            await self._token_endpoint(scope, receive, send)
            return
        started = time.perf_counter()
        try:
            _require_webhook_route(scope)
            asked = asked_for(scope["headers"])
            caller = self._authenticate(asked.authorization)  # before the body is read
            body = await read_body(asked, receive, self._max_body_bytes)
        except Exception as error:  # noqa: BLE001 - the outermost place
            answer = self._refusal(error, scope["path"], scope["method"])
        else:
            answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self.receive_webhook(asked, caller, body, started, partial(_resolve, answered))
            answer = await answered
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    def take(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, reply: Reply) -> None:
        """Answer one POST to the webhook's path that is here, all of it: *reply* is told once, now or when its event is safe."""
        started = time.perf_counter()
        try:
            asked = asked_for(headers)
            caller = self._authenticate(asked.authorization)
            require_readable(asked, self._max_body_bytes)
        except Exception as error:  # noqa: BLE001 - the outermost place
            reply(self._refusal(error))
        else:
            self.receive_webhook(asked, caller, body, started, reply)

    def receive_webhook(
        self, asked: Asked, caller: Principal, body: bytes, started: float, reply: Reply
    ) -> None:
        """
        Take one webhook. The accepted status means that its event is safe (`Outbox`), any other answer that the PBX may know better.

        A body that is no event is safe too, as a dead letter, before it is refused.
        """
        try:
            receipt = self._clock.receipt(traceparent_of(asked.traceparent))
            try:
                event = fields_of(parse(body, caller.keys), caller.pbx, receipt, caller.region)
            except InvalidWebhook as fault:
                letter = dead_letter(body, fault, caller.pbx, caller.name, receipt, self._partitions)
                kept = partial(self._letter_kept, letter, fault, caller, receipt, reply)
                self._outbox.append((letter,), kept)
                return
            at_ms = receipt.received_at_us // 1000
            record = encode_fields(event, at_ms, self._partitions, receipt.traceparent)
            self._outbox.append((record,), partial(self._event_kept, event, started, reply))
        except Exception as error:  # noqa: BLE001 - the outermost place
            reply(self._refusal(error))

    def _event_kept(
        self, event: Mapping[str, Any], started: float, reply: Reply, fault: Exception | None
    ) -> None:
        if fault is not None:
            reply(self._refusal(fault))
            return
        reply(self._accepted_answer)
        self._metrics.events_received.inc(event["pbx"], event["type"])
        self._metrics.http_requests.inc("/voipex", "POST", self._accepted_code)
        self._metrics.http_request_duration.observe(time.perf_counter() - started)

    def _letter_kept(
        self,
        letter: Record,
        unusable: InvalidWebhook,
        caller: Principal,
        receipt: Receipt,
        reply: Reply,
        fault: Exception | None,
    ) -> None:
        if fault is None:
            self._metrics.dead_letters.labels(letter.topic, "ingress").inc()
            log.warning(
                "kept as a dead letter",
                event_id=receipt.event_id,
                fault=type(unusable).__name__,
                credential=caller.name,
            )
        reply(self._refusal(fault or unusable))

    def _refusal(self, error: Exception, path: str = "/voipex", method: str = "POST") -> Answer:
        if not isinstance(error, IngressError):
            # Without the body. Nothing is known to be safe, so the PBX may try again.
            log.error("the front door failed", exc_info=error)
            error = ServiceUnavailable("an internal error; the event is not kept")
        reason = type(error).__name__
        self._count_refusal(error, path, method, reason)
        if isinstance(error, (Unauthorized, ServiceUnavailable)):
            self._complaints.say(reason, error)
        body = orjson.dumps(problem_details(error))
        headers = (
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            *_headers_of(error),
        )
        return Answer(error.status, headers, body)

    def count_refusal(self, error: IngressError) -> None:
        """A refusal before there was a request (`http_limits`)."""
        self._metrics.http_requests.inc("other", "other", str(error.status))
        if isinstance(error, ServiceUnavailable):
            self._complaints.say(type(error).__name__, error)

    def _count_refusal(self, error: IngressError, path: str, method: str, reason: str) -> None:
        is_webhook = path in WEBHOOK_PATHS
        method = method if method in METHODS else "other"
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
    require_readable(asked, limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    while True:
        if message["type"] == "http.disconnect":
            raise IncompleteRequest("the connection ended before the body")
        if len(body) > limit_bytes:
            raise ContentTooLarge(f"more than {limit_bytes} bytes")
        if not message.get("more_body", False):
            return body
        message = await receive()
        body += message.get("body", b"")


def require_readable(asked: Asked, limit_bytes: int) -> None:
    """What the headers say about the body."""
    if asked.content_encoding is not None and asked.content_encoding.strip().lower() not in (
        b"",
        b"identity",
    ):
        raise UnsupportedContentEncoding("send the body without Content-Encoding")
    if (
        asked.content_length is not None
        and asked.content_length.isdigit()
        and int(asked.content_length) > limit_bytes
    ):
        raise ContentTooLarge(f"more than {limit_bytes} bytes")


def _resolve(answered: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not answered.done():  # cancelled
        answered.set_result(answer)


def _headers_of(error: IngressError) -> list[tuple[bytes, bytes]]:
    if isinstance(error, Unauthorized):
        invalid = b', error="invalid_token"' if isinstance(error, TokenInvalid) else b""
        return [
            (b"www-authenticate", BASIC_CHALLENGE),
            (b"www-authenticate", b'Bearer realm="voipex-bridge"' + invalid),
        ]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", b"POST")]
    if isinstance(error, ServiceUnavailable):
        return [(b"retry-after", b"%d" % RETRY_AFTER_S)]
    if isinstance(error, ContentTooLarge):
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
