"""
The ingress without I/O: `Ingress.open` takes the head of a request and returns the handler of its body. `protocol` and `asgi` call it.

The promise is `WebhookEndpoint.receive`. One place turns exceptions into responses (`Exchange.reject`), and no response repeats a
body.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from bridge.auth.attempts import WrongPasswords
from bridge.auth.authenticate import Principal
from bridge.http.errors import (
    ContentTooLarge,
    MethodNotAllowed,
    NotFound,
    RetryProbe,
    TooManyAttempts,
    UnsupportedContentEncoding,
)
from bridge.http.fairness import Turns
from bridge.http.messages import RequestHeaders, Respond, Response
from bridge.http.problems import known, problem_response
from bridge.http.receipts import ReceiptClock
from bridge.http.retries import Retries
from bridge.metrics import Metrics
from bridge.spool import OnDurable, RecordSink
from voipex.dead_letters import dead_letter
from voipex.errors import InvalidClient, InvalidWebhook, ServiceUnavailable, Unauthorized
from voipex.normalize import Receipt, normalize
from voipex.records import Record, encode
from voipex.service.logging import LogThrottle, get_logger, place_of
from voipex.traceparent import traceparent_of
from voipex.webhook import parse

WEBHOOK_PATHS: Final = (b"/voipex", b"/voipex/")
TOKEN_PATH: Final = b"/token"
_METHODS: Final = {  # labels of the metrics: a client must not make new ones
    method.encode(): method for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}
# An operator must see a wrong password in a PBX, or a full spool.
_LOGGED: Final = (Unauthorized, InvalidClient, ServiceUnavailable)

log = get_logger("ingress")


class Endpoint(Protocol):
    """Answers the POST requests of one path."""

    @property
    def route(self) -> str:
        """Label of the metrics."""
        ...

    @property
    def usage(self) -> str:
        """Which request is right; part of the response to another method."""
        ...

    @property
    def max_body_bytes(self) -> int: ...

    def authenticate(self, headers: RequestHeaders) -> Principal | None:
        """Authenticate before the body is read. None: the body says who the sender is."""
        ...

    def receive(self, body: bytes, exchange: "Exchange") -> None:
        """Handle the request: call `Exchange.respond` or `Exchange.fail` once, now or later, or raise."""
        ...

    def rejection(self, error: Exception) -> Response:
        """Make the response to an error of `problems`."""
        ...

    def on_rejected(self, error: Exception) -> None:
        """Count the rejection."""
        ...


class Ingress:
    """
    Routes requests to endpoints, and makes a response of every error.

    Args:
        endpoints: by path.
        wrong_passwords: decides which of them get 429.
        retries: remembers what was refused.
        log_requests: write a line for each request, at level debug.
    """

    def __init__(
        self,
        endpoints: Mapping[bytes, Endpoint],
        metrics: Metrics,
        *,
        wrong_passwords: WrongPasswords | None = None,
        retries: Retries | None = None,
        log_requests: bool = False,
    ) -> None:
        self._endpoints = endpoints
        self._metrics = metrics
        self._wrong_passwords = wrong_passwords or WrongPasswords()
        self.retries: Final = retries or Retries()
        self._log_requests = log_requests
        self._throttle = LogThrottle(interval_s=1.0)

    def open(self, method: bytes, path: bytes, headers: RequestHeaders, peer: str) -> "Exchange | Response":
        """Route and authenticate. Return the handler of the body, or the response to a request that its head rejects. Raises nothing."""
        exchange = Exchange(self, self._endpoints.get(path), method, headers, peer)
        try:
            exchange.open()
        except Exception as error:  # noqa: BLE001 - nothing above would answer the client
            return exchange.reject(error)
        return exchange

    def reject(self, error: Exception) -> Response:
        """Make the response to bytes that are no request."""
        return Exchange(self, None, b"", {}, "").reject(error)

    def record_response(self, exchange: "Exchange", status: int) -> None:
        route = "other" if exchange.endpoint is None else exchange.endpoint.route
        method = _METHODS.get(exchange.method, "other")
        self._metrics.http_requests.inc(route, method, status)
        if self._log_requests:
            duration_ms = round((time.perf_counter() - exchange.started) * 1000, 3)
            log.debug("request", method=method, route=route, status=status, duration_ms=duration_ms)

    def throttled(self, error: Exception, exchange: "Exchange") -> Exception:
        """Log a wrong password, and return TooManyAttempts in its place if its client has sent too many. Return any other error as it is."""
        if not isinstance(error, Unauthorized | InvalidClient) or error.user is None:
            return error
        client = self._wrong_passwords.client(exchange.peer, exchange.headers.get(b"x-forwarded-for"))
        is_throttled, suppressed = self._wrong_passwords.record(client, error.user)
        if suppressed is not None:
            log.warning("wrong password", user=error.user, client=client, peer=exchange.peer, more=suppressed)
        return TooManyAttempts("too many wrong passwords from this address") if is_throttled else error

    def log_rejection(self, error: Exception, status: int) -> None:
        if not isinstance(error, _LOGGED):
            return
        if isinstance(error, Unauthorized | InvalidClient) and error.user is not None:
            return  # a wrong password has its line already, with user and address
        reason = type(error).__name__
        suppressed = self._throttle.admit(reason)
        if suppressed is not None:
            log.warning("refused", reason=reason, status=status, detail=str(error), more=suppressed)


class Exchange:
    """One request and its response. Called with the request's body, it is the request's handler."""

    __slots__ = ("_ingress", "_respond", "endpoint", "headers", "method", "peer", "principal", "started")

    principal: Principal | None
    _respond: Respond

    def __init__(
        self,
        ingress: Ingress,
        endpoint: Endpoint | None,
        method: bytes,
        headers: RequestHeaders,
        peer: str,
    ) -> None:
        self._ingress = ingress
        self.endpoint = endpoint
        self.method = method
        self.headers = headers
        self.peer = peer
        self.started: Final = time.perf_counter()

    def open(self) -> None:
        """Raises what is wrong with the head; authenticates before anything is said about the body."""
        endpoint = self.endpoint
        if endpoint is None:
            raise NotFound("webhooks are sent by POST /voipex")
        if self.method != b"POST":
            raise MethodNotAllowed(endpoint.usage)
        self.principal = endpoint.authenticate(self.headers)
        check_body_headers(self.headers, endpoint.max_body_bytes)

    @property
    def max_body_bytes(self) -> int:
        assert self.endpoint is not None  # noqa: S101 - opened
        return self.endpoint.max_body_bytes

    def __call__(self, body: bytes, respond: Respond) -> None:
        self._respond = respond
        assert self.endpoint is not None  # noqa: S101 - opened
        try:
            self.endpoint.receive(body, self)
        except Exception as error:  # noqa: BLE001 - nothing above would answer the client
            self.fail(error, body)

    def respond(self, response: Response) -> None:
        self._respond(response)
        self._ingress.record_response(self, response.status)

    def fail(self, error: Exception, body: bytes) -> None:
        """Respond to an error; *body* is remembered, to recognize a repeat."""
        response = self.reject(error)
        self._respond(response)
        if self.pbx is not None:
            self._ingress.retries.refused(self.pbx, response.status, body)

    @property
    def pbx(self) -> str | None:
        """None before authentication."""
        principal = getattr(self, "principal", None)
        return None if principal is None else principal.pbx

    def reject(self, error: Exception) -> Response:
        """Make the response to *error*, which is counted and logged as one."""
        answered = known(error)
        if answered is not error:
            log.error("request failed", traceback=place_of(error))
        answered = self._ingress.throttled(answered, self)
        endpoint = self.endpoint
        response = problem_response(answered) if endpoint is None else endpoint.rejection(answered)
        self._ingress.record_response(self, response.status)
        self._ingress.log_rejection(answered, response.status)
        self._count_rejection(answered, response.status)
        if endpoint is not None:
            endpoint.on_rejected(answered)
        return response

    def _count_rejection(self, answered: Exception, status: int) -> None:
        retries, pbx = self._ingress.retries, self.pbx
        retries.count(pbx, status)
        length = self.headers.get(b"content-length")
        if isinstance(answered, ContentTooLarge) and length is not None:  # its body is not read
            retries.received(pbx, b"413 " + length)
            retries.refused(pbx, status, b"413 " + length)


def check_body_headers(headers: RequestHeaders, max_body_bytes: int) -> None:
    """Raises UnsupportedContentEncoding, ContentTooLarge: the body need not be read to know it."""
    if headers.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        raise UnsupportedContentEncoding("send the body without Content-Encoding")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > max_body_bytes:
        raise ContentTooLarge(f"more than {max_body_bytes} bytes")


# ---------------------------------------------------------------- webhooks


class WebhookEndpoint:
    """
    `POST /voipex`.

    Args:
        sink: makes records durable.
        authenticate: Authorization header -> Principal; raises Unauthorized.
        clock: gives each webhook its time and its id.
        partitions_of: number of partitions of each topic, by PBX.
        accepted: status and body of the response to an accepted event.
        retries: notes repeats, and has the probe.
        turns: of the responses, if PBXs share the bridge.
    """

    route: Final = "/voipex"
    usage: Final = "webhooks are sent by POST /voipex"

    def __init__(
        self,
        sink: RecordSink,
        authenticate: Callable[[bytes | None], Principal],
        clock: ReceiptClock,
        metrics: Metrics,
        *,
        partitions_of: Callable[[str], int],
        max_body_bytes: int,
        accepted: tuple[int, bytes] = (200, b""),
        retries: Retries | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._sink = sink
        self._authenticate = authenticate
        self._clock = clock
        self._metrics = metrics
        self._partitions_of = partitions_of
        self.max_body_bytes: Final = max_body_bytes
        self._accepted = _accepted_response(*accepted)
        self._turns = turns

    def authenticate(self, headers: RequestHeaders) -> Principal:
        return self._authenticate(headers.get(b"authorization"))

    def receive(self, body: bytes, exchange: Exchange) -> None:
        """
        Receive one webhook. The accepted status means that its event is durable (`RecordSink`); after any other the PBX may try to do better.

        A body that is no event is stored durably too, as a dead letter, before it is rejected. While a probe runs, a few events are answered
        with 503 although they are durable.
        """
        principal = exchange.principal
        assert principal is not None  # noqa: S101 - `authenticate` returns one
        probes = self._retries.watching and self._retries.received(principal.pbx, body)
        receipt = self._clock.receipt(traceparent_of(exchange.headers.get(b"traceparent")))
        partitions = self._partitions_of(principal.pbx)
        try:
            event = normalize(parse(body, principal.keys), principal.pbx, receipt, principal.region)
        except InvalidWebhook as error:
            dead = dead_letter(body, error, principal.pbx, principal.name, receipt, partitions)
            on_durable = partial(self._on_dead_letter_durable, dead, error, principal, receipt, exchange)
            self._sink.append((dead,), self._in_turn(principal.pbx, on_durable))
            return
        at_ms = receipt.received_at_us // 1000
        record = encode(event, at_ms, partitions, receipt.traceparent)
        on_event_durable = self._on_probed_durable if probes else self._on_event_durable
        respond = partial(on_event_durable, event.fields, exchange, body)
        self._sink.append((record,), self._in_turn(principal.pbx, respond))

    def _in_turn(self, pbx: str, on_durable: OnDurable) -> OnDurable:
        return on_durable if self._turns is None else partial(self._turns.call, pbx, on_durable)

    def _on_event_durable(
        self, fields: Mapping[str, Any], exchange: Exchange, body: bytes, error: Exception | None
    ) -> None:
        if error is not None:
            exchange.fail(error, body)
            return
        exchange.respond(self._accepted)
        self._metrics.events_received.inc(fields["pbx"], fields["type"])
        self._metrics.http_request_duration.observe(time.perf_counter() - exchange.started)

    def _on_probed_durable(
        self, fields: Mapping[str, Any], exchange: Exchange, body: bytes, error: Exception | None
    ) -> None:
        if error is None:
            self._metrics.events_received.inc(fields["pbx"], fields["type"])
        exchange.fail(error or RetryProbe("the event is stored; this answer is a probe"), body)

    def _on_dead_letter_durable(
        self,
        dead: Record,
        invalid: InvalidWebhook,
        principal: Principal,
        receipt: Receipt,
        exchange: Exchange,
        error: Exception | None,
    ) -> None:
        if error is None:
            self._metrics.dead_letters.labels(dead.topic, "ingress").inc()
            log.warning(
                "stored as a dead letter",
                event_id=receipt.event_id,
                fault=type(invalid).__name__,
                credential=principal.name,
            )
        exchange.fail(error or invalid, dead.value)

    def rejection(self, error: Exception) -> Response:
        return problem_response(error)

    def on_rejected(self, error: Exception) -> None:
        self._metrics.events_rejected.labels(type(error).__name__).inc()


def _accepted_response(status: int, body: bytes) -> Response:
    if status == 204:
        return Response(status, (), b"")
    headers = [(b"content-length", b"%d" % len(body))]
    if body:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    return Response(status, tuple(headers), body)
