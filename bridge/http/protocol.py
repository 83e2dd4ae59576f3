"""
HTTP/1.1 for the ingress, on httptools: complete requests in, responses out, and what a client may cost before it is known.

1. `Application.open` gets the head of each request before its body is read. It returns the handler of the body, or a response: that is
   sent at once, and the body is read and dropped.
2. Responses leave in the order of the requests; at most `max_pipelined` requests wait. Nothing is read from a client that does not read
   its responses.
3. A head, a body and a whole message are bounded in bytes: 431, 413, or a close. A request is bounded in time (`request_timeout_s`, from
   its first byte to its last: 408), and so is a connection without a request (`idle_timeout_s`). There is no timer per request: the server
   calls `expire` of each connection.
4. llhttp refuses two lengths, a length beside chunks, bad chunk sizes, bare LF and folded headers; the checks here are of what it lets
   through: versions, Host, a missing length (411). After an error there is one response at most, and a close.
5. A connection that is closed while the client may still be sending lingers for a moment (RFC 9112, 9.6): a reset would take the response
   away from the client.

    IDLE ──▶ HEAD ──▶ BODY ──▶ IDLE       as the bytes of a request arrive; responses do not change the state
      │        │        │
      └────────┴────────┴──▶ CLOSING ──▶ LINGERING
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from enum import IntEnum
from functools import lru_cache, partial
from http import HTTPStatus
from time import time
from typing import Final
from urllib.parse import unquote_to_bytes

import httptools

from bridge.http.errors import (
    ContentTooLarge,
    HeadersTooLarge,
    LengthRequired,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
)
from bridge.http.messages import (
    CLOSE,
    Application,
    Connection,
    End,
    Handler,
    Observer,
    Respond,
    Response,
    joined,
)
from voipex.errors import ShuttingDown

LINGER_S: Final = 1.0
_LINGER_BYTES: Final = 512 * 1024
_DROPPED_BYTES: Final = 4096  # a longer body of a refused request is no event of VOIPEX
_LAST_BYTES_S: Final = 1.0  # for a request that is half here when the server stops
OVERFLOW_CONNECTIONS: Final = 256
"""Connections above the limit that may hear their 503 at the same time; others are just closed."""
_OF_CONNECTION: Final = frozenset({b"transfer-encoding", b"connection", b"expect"})
_VERSIONS: Final = ("1.1", "1.0")
_UPGRADE_OFFER: Final = frozenset({b"upgrade", b"connection", b"http2-settings"})


class State(IntEnum):
    """Where the parser of a connection stands."""

    IDLE = 0
    """Between requests."""
    HEAD = 1
    BODY = 2
    CLOSING = 3
    """Responses that are due are sent, and nothing more is read."""
    LINGERING = 4
    """Our side is closed; what the client still sends is dropped."""


# Every request compares them several times, and `State.IDLE` is slow to look up.
_IDLE, _HEAD, _BODY, _CLOSING, _LINGERING = State


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may cost. `max_body_bytes`: of any body; a handler may allow less."""

    max_connections: int
    max_body_bytes: int
    request_timeout_s: float
    idle_timeout_s: float
    max_head_bytes: int = 32 * 1024
    max_pipelined: int = 16  # real clients send none

    @property
    def max_message_bytes(self) -> int:
        """A body in chunks of one byte has six bytes for each."""
        return self.max_head_bytes + 8 * self.max_body_bytes


Schedule = Callable[[Callable[[bytes, Respond], None], bytes, Respond], object]
"""Lets a handler be called with a body and the function that takes its response."""

_Request = tuple[Callable[[bytes, Respond], None], bytes, bool, bool]
"""A request that waits for its turn, or is being handled: its handler, its body, whether the connection may go on, whether it is a HEAD."""


class HttpProtocol(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_application",
        "_body",
        "_concerns_connection",
        "_connections",
        "_continue_due",
        "_dropped",
        "_half_closed",
        "_handler",
        "_headers",
        "_is_large",
        "_keep_alive",
        "_left_s",
        "_limits",
        "_loop",
        "_method",
        "_observer",
        "_opened",
        "_parser",
        "_peer",
        "_queue",
        "_received",
        "_repeated",
        "_request",
        "_requests",
        "_schedule",
        "_shared",
        "_since",
        "_state",
        "_stopping",
        "_transport",
        "_upgrade",
        "_url",
    )
    _transport: asyncio.Transport

    def __init__(
        self,
        application: Application,
        limits: Limits,
        connections: "set[HttpProtocol]",
        observer: Observer | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """
        Belong to the *connections* of the server as long as this one is open.

        *schedule* calls the handlers of complete requests, never at once; without it the event loop does, in its next iteration.
        """
        self._observer = observer
        self._requests = self._dropped = 0
        self._opened: Handler | None = None
        """Of the last request whose head was accepted."""
        self._left_s: float | None = None
        """Age of the request at which the client ended its side, before the answer."""
        self._application = application
        self._limits = limits
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._schedule: Schedule = schedule or self._loop.call_soon
        self._parser = httptools.HttpRequestParser(self)
        self._state = _IDLE
        self._since = self._loop.time()
        """Begin of the message that is read, or of the silence."""
        self._received = 0
        """Bytes of this message, without those of the read in which it began behind another one: `_shared` is the size of that read."""
        self._shared = 0
        self._is_large = False
        """The head of this message may be too large: it must be measured."""
        self._queue: deque[_Request] = deque()
        self._request: _Request | None = None
        """The one that is being handled."""
        self._handler: Handler | None = None
        """Of the request that is read; None once it is answered."""
        self._continue_due = self._upgrade = self._half_closed = self._stopping = False

    # ---------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._peer = str((transport.get_extra_info("peername") or ("",))[0])
        self._connections.add(self)
        surplus = len(self._connections) - self._limits.max_connections
        if surplus > 0:
            self._reject(TooManyConnections("more connections than VOIPEX_MAX_CONNECTIONS"))
        if surplus > OVERFLOW_CONNECTIONS:
            transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)
        if self._observer is not None:
            self._observer.closed(self.describe(is_open=False))
        self._opened = None  # it refers to this object
        self._queue.clear()
        del self._parser  # it refers to this object

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._state >= _CLOSING:
            if self._received > _LINGER_BYTES:
                self._transport.abort()
            return
        limits = self._limits
        self._is_large = self._received + self._shared > limits.max_head_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._continue_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._reject_unparsed(error)
        if self._received == 0:
            self._shared = 0 if self._state is _IDLE else len(data)
        elif self._received > limits.max_head_bytes:
            if self._state is _HEAD:
                self._reject(HeadersTooLarge(f"more than {limits.max_head_bytes} bytes"))
            elif self._state is _BODY and self._received > limits.max_message_bytes:
                self._reject(MalformedRequest("more bytes than its body may need"))

    def eof_received(self) -> bool:
        """A client may end its side after its request and wait for the response. False: the transport closes itself."""
        waits = self._state is _IDLE and self._request is not None and self._transport.can_write_eof()
        if waits:
            self._half_closed = True
            self._left_s = self._loop.time() - self._since
            self._state = _CLOSING
        return waits

    def pause_writing(self) -> None:
        """The client does not read its responses."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # ---------------------------------------------------------------- the parser's callbacks

    def on_message_begin(self) -> None:
        self._state = _HEAD
        self._requests += 1
        self._since = self._loop.time()
        self._url = self._body = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated: list[tuple[bytes, bytes]] = []
        """Header lines before the last one of their name."""
        self._concerns_connection = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._state is _HEAD:  # in BODY these are trailers, which must not pass for headers
            name = name.lower()
            if name in self._headers:
                self._repeated.append((name, self._headers[name]))
                value = joined(name, value)
            self._headers[name] = value
            if name in _OF_CONNECTION:
                self._concerns_connection = True

    def on_headers_complete(self) -> None:
        parser = self._parser
        if self._is_large:
            self._require_short_head()
        if len(self._queue) >= self._limits.max_pipelined:
            raise MalformedRequest("too many requests before the first answer")
        self._method = parser.get_method()
        self._keep_alive = parser.should_keep_alive()
        headers = self._headers
        if not self._keep_alive or self._concerns_connection or self._repeated or b"host" not in headers:
            self._require_version_and_host(parser.get_http_version())
        if parser.should_upgrade():
            if self._method == b"CONNECT":
                raise MalformedRequest("no proxy")
            self._upgrade = True
            return
        expects_continue = self._concerns_connection and self._examine_headers()
        opened = self._application.open(self._method, _path_of(self._url), headers, self._peer)
        self._state = _BODY
        if isinstance(opened, Response):
            self._dropped = opened.status
            self._respond_early(opened)
            return
        self._opened = opened
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            self._respond_early(opened.reject(LengthRequired("send Content-Length, or chunks")))
            return
        self._handler = opened
        self._continue_due = expects_continue
        if expects_continue and self._request is None:
            self._send_continue()

    def on_body(self, body: bytes) -> None:
        handler = self._handler
        if handler is None:
            if self._dropped and len(self._body) <= _DROPPED_BYTES:
                self._body += body
            return
        self._body += body
        if len(self._body) > handler.max_body_bytes:
            self._body = b""
            self._respond_early(handler.reject(ContentTooLarge(f"more than {handler.max_body_bytes} bytes")))

    def on_message_complete(self) -> None:
        if self._upgrade:
            return
        self._state = _IDLE
        self._received = 0
        handler = self._handler
        if handler is not None:
            self._handler = None
            self._continue_due = False
            self._enqueue(handler, self._body)
        elif self._dropped:
            self._report_dropped()

    def _report_dropped(self) -> None:
        if self._observer is not None and 0 < len(self._body) <= _DROPPED_BYTES:
            self._observer.dropped(self._dropped, self._body)
        self._dropped = 0

    def describe(self, *, is_open: bool = True) -> Connection:
        """Describe the connection as it is now, or at its end."""
        end: End
        age_s = self._loop.time() - self._since
        if self._left_s is not None:
            end, age_s = "sender_before_answer", self._left_s
        elif is_open:
            end = "open"
        elif self._request is not None:
            end = "sender_before_answer"
        elif self._state >= _CLOSING:
            end = "bridge_after_answer"
        elif self._state is not _IDLE:
            end = "sender_within_request"
        else:
            end = "bridge_idle" if age_s > self._limits.idle_timeout_s else "sender_idle"
        tls = self._transport.get_extra_info("ssl_object")
        version = self._parser.get_http_version() if self._requests else ""
        return Connection(
            self._opened, self._requests, version, None if tls is None else tls.version(), end, age_s
        )

    def _require_short_head(self) -> None:
        limit = self._limits.max_head_bytes
        if len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._header_lines()) > limit:
            raise HeadersTooLarge(f"more than {limit} bytes")

    def _header_lines(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self._repeated
        yield from self._headers.items()

    def _require_version_and_host(self, version: str) -> None:
        """Of a request that is kept alive and has one Host all this is known."""
        if version not in _VERSIONS:  # a request line without a version counts as 0.9
            raise MalformedRequest("the request line must end in HTTP/1.1 or HTTP/1.0")
        if version == "1.1" and b"host" not in self._headers:
            raise MalformedRequest("HTTP/1.1 needs a Host header")
        if any(name == b"host" for name, _ in self._repeated):
            raise MalformedRequest("more than one Host header")

    def _examine_headers(self) -> bool:
        """Apply the headers that concern the connection. Return whether the client waits for 100 Continue."""
        expects_continue = False
        for name, value in self._header_lines():
            if name == b"transfer-encoding":
                # llhttp also takes other codings before `chunked`, and chunks in HTTP/1.0.
                if value.lower() != b"chunked" or self._parser.get_http_version() != "1.1":
                    raise MalformedRequest("the only Transfer-Encoding is chunked, in HTTP/1.1")
            elif name == b"connection":
                self._keep_alive &= self._parser.get_http_version() == "1.1"
            elif name == b"expect":
                expects_continue = value.lower() == b"100-continue"
        return expects_continue

    def _continue_without_upgrade(self, rest: bytes) -> None:
        """An offered upgrade may be ignored (RFC 9110, 7.8), but httptools skips the body: parse the head again, without the offer."""
        lines = [b"%b: %b\r\n" % header for header in self._header_lines() if header[0] not in _UPGRADE_OFFER]
        version = self._parser.get_http_version().encode()
        head = b"".join((self._method, b" ", self._url, b" HTTP/", version, b"\r\n", *lines, b"\r\n"))
        since = self._since
        self._received -= len(rest)
        self._upgrade = False
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserError as error:
            self._reject_unparsed(error)
        else:
            self._since = since
            self.data_received(rest)

    # ---------------------------------------------------------------- responding

    def _enqueue(self, handler: Callable[[bytes, Respond], None], body: bytes) -> None:
        request = (handler, body, self._keep_alive, self._method == b"HEAD")
        if self._request is None:
            self._start(request)
        else:
            self._queue.append(request)

    def _start(self, request: _Request) -> None:
        """Requests that arrive in one iteration of the loop are handled back to back, which keeps the CPU's caches warm."""
        self._request = request
        handler, body, _, _ = request
        self._schedule(handler, body, self._respond)

    def _respond_early(self, response: Response) -> None:
        """Respond to the request that is read; the rest of it is dropped."""
        self._handler = None
        self._enqueue(partial(_send, response), b"")

    def _respond(self, response: Response) -> None:
        request, transport = self._request, self._transport
        self._request = None
        if request is None or transport.is_closing():
            return
        _, _, keep_alive, is_head = request
        ends = self._stopping or self._state is _CLOSING
        closes = (ends and not self._queue) or not keep_alive or CLOSE in response.headers
        transport.write(encode(response, closes, is_head, int(time())))
        if closes:
            self._close()
        elif self._queue:
            self._start(self._queue.popleft())
        elif self._state is _IDLE:
            self._since = self._loop.time()
        elif self._continue_due:
            self._send_continue()

    def _send_continue(self) -> None:
        self._continue_due = False
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # ---------------------------------------------------------------- ending

    def _reject_unparsed(self, error: httptools.HttpParserError) -> None:
        """An error that a callback raised is the cause of the parser's."""
        cause = error.__context__
        self._reject(cause if isinstance(cause, Exception) else MalformedRequest())

    def _reject(self, error: Exception) -> None:
        """Nothing more of this connection is taken for a request. With responses still due, or one sent, there is no other."""
        if self._state >= _CLOSING or self._transport.is_closing():
            return
        response = self._application.reject(error)
        is_answered = self._state is _BODY and self._handler is None
        self._state = _CLOSING
        self._received = 0
        self._since = self._loop.time()
        self._handler = None
        if self._request is None:
            if not is_answered:
                self._transport.write(encode(response, True, False, int(time())))
            self._close()

    def _close(self) -> None:
        """Close; but listen for a moment when the client may still be sending."""
        transport = self._transport
        lingers = self._state is not _IDLE and not self._half_closed and transport.can_write_eof()
        self._state = _LINGERING
        self._received = 0
        self._since = self._loop.time()
        self._queue.clear()
        if not lingers:
            transport.close()
        elif not transport.is_closing():
            transport.write_eof()

    def expire(self, now: float) -> None:
        """End what took too long. *now*: of the loop's clock. The server calls it twice a second; 1,000 connections take about 0.1 ms."""
        age_s, limits, transport = now - self._since, self._limits, self._transport
        if transport.is_closing():
            if age_s > 2 * limits.request_timeout_s:
                transport.abort()  # the last response does not leave
        elif self._state is _LINGERING:
            if age_s > LINGER_S:
                transport.abort()
        elif self._state in (_HEAD, _BODY):
            if age_s > limits.request_timeout_s:
                self._reject(RequestTimeout(f"not complete within {limits.request_timeout_s:g} s"))
        elif transport.get_write_buffer_size():
            if age_s > limits.request_timeout_s:
                transport.abort()  # it sends, and does not read
        elif self._request is None and age_s > limits.idle_timeout_s:
            transport.close()

    def drain(self) -> None:
        """Close with the next response. An idle connection stays, since its client may be about to send."""
        self._stopping = True

    def shutdown(self) -> None:
        """Finish the requests that are here; a half one has a second more."""
        self._stopping = True
        if self._state is _LINGERING:
            self._transport.abort()
        elif self._state is _BODY:
            self._loop.call_later(_LAST_BYTES_S, self._stop_reading)
        elif self._request is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _stop_reading(self) -> None:
        if self._state is _BODY:
            self._reject(ShuttingDown("the bridge is stopping"))


def _send(response: Response, _: bytes, respond: Respond) -> None:
    respond(response)


@lru_cache(maxsize=64)  # nearly all are one and the same
def _path_of(url: bytes) -> bytes:
    try:
        path = url.partition(b"?")[0] if url.startswith(b"/") else httptools.parse_url(url).path or b"/"
    except httptools.HttpParserInvalidURLError as error:
        raise MalformedRequest from error
    return unquote_to_bytes(path) if b"%" in path else path


@lru_cache(maxsize=64)  # nearly all are one and the same, for a second
def encode(response: Response, closes: bool, is_head: bool, second: int) -> bytes:
    """Make the bytes of a response. *second*: of the `date`, since 1970."""
    lines = [b"HTTP/1.1 %d %b\r\ndate: %b\r\n" % (response.status, _phrase(response.status), _date(second))]
    lines += [b"%b: %b\r\n" % header for header in response.headers]
    if closes and CLOSE not in response.headers:
        lines.append(b"connection: close\r\n")
    return b"".join((*lines, b"\r\n", b"" if is_head else response.body))


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:  # VOIPEX_ACCEPTED_STATUS=299
        return b""


def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
