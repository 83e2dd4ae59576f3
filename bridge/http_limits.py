"""
What the front door asks of a client before it is one: uvicorn bounds neither the size of headers nor the time of a request.

1. A head (request line and headers) has at most `max_head_bytes`, a whole message at most `max_message_bytes`: 431, or cut.
2. A request has `request_timeout_s` from its first byte to the end of its body: 408. A connection without a request has `idle_timeout_s`.
3. There are at most `max_connections`; one more hears 503 and is closed. With TLS they count from accept, before the handshake.
4. One request is in flight per connection, and few wait behind it; after a malformed one there is at most one answer and a close.
   llhttp refuses two lengths, a length beside chunks, bad chunk sizes, bare LF and folded headers; here stands what it lets through.
5. A refused client that still sends is heard for a moment more (RFC 9112, 9.6): a reset would take the answer away from it.
6. A POST to one of `whole_paths` that comes in one piece goes to `take` (Ingress's, with the same rules), without a task or a message of
   ASGI; any other request starts uvicorn's cycle, and so does the next one of a pipeline.

All of it costs the normal path nothing to speak of: no timer per request, one clock reading at its first byte and one at its end. `sweep`
looks at every connection twice a second; it takes the place of uvicorn's own keep-alive timers.
"""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

import httptools
import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from voipex.errors import (
    RETRY_AFTER_S,
    HeadersTooLarge,
    IngressError,
    MalformedRequest,
    RequestTimeout,
    ServiceUnavailable,
    ShuttingDown,
    TooManyConnections,
    problem_details,
)
from voipex.service.server import Answer

MAX_HEAD_BYTES: Final = 32 * 1024
_MAX_WAITING: Final = 16  # pipelined requests behind the one in flight; real clients send none
_LINGER_S: Final = 1.0
_LINGER_BYTES: Final = 512 * 1024
_LAST_BYTES_S: Final = 1.0  # for a request that is half here when we stop
_SURPLUS: Final = 256  # connections that may hear their 503 at the same time; above they are just closed
_OTHER_FILES: Final = 256  # descriptors for spool, Kafka, management port, libraries
_ACCEPT_AGAIN_S: Final = 0.1
_SWEEP_TICKS: Final = 5  # of uvicorn's 0.1 s

Headers = Sequence[tuple[bytes, bytes]]

# Where the parser stands, of the newest message. Deaf: what is due is answered, nothing more is read. Parted: no more answers either.
_BETWEEN, _HEAD, _BODY, _DEAF, _PARTED = range(5)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    See the module's docstring. `refused` hears of every refusal made here. `take` gets headers and body of a request that came whole, and
    a function to call once with the answer.
    """

    max_connections: int
    request_timeout_s: float
    idle_timeout_s: float
    max_head_bytes: int
    max_message_bytes: int
    refused: Callable[[IngressError], None] = lambda _: None
    take: Callable[[Headers, bytes, Callable[[Answer], None]], None] = lambda *_: None
    whole_paths: frozenset[bytes] = frozenset()


def bounded(limits: Limits) -> type["BoundedProtocol"]:
    """uvicorn makes protocols by their class."""
    return type("BoundedHttp", (BoundedProtocol,), {"limits": limits})


def allow_files(max_connections: int) -> int:
    """Raise the process's limit of open files as far as needed; return how many connections fit, at most *max_connections*."""
    wanted = max_connections + _SURPLUS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max_connections
    new = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (new, hard))
    return max(1, min(max_connections, new - _SURPLUS - _OTHER_FILES))


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection, with the limits of this module. Reaches into it: tests/service/test_hostile_clients.py pins what it relies on."""

    limits: ClassVar[Limits]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._phase = _BETWEEN
        self._since = self.loop.time()
        """Begin of the message that is read, or of the silence."""
        self._fed_bytes = 0
        self._big_piece = False
        self._upgrade_ignored = False
        self._client_ended = False
        self._body: bytes | None = None
        """Of a request that may come whole, as far as it is here."""

    # ---------------------------------------------------------------- connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._courteous = _CourteousTransport(self)
        surplus = len(self.connections) - self.limits.max_connections
        if surplus > 0:
            self._refuse(TooManyConnections("more connections than VOIPEX_MAX_CONNECTIONS"))
        if surplus > _SURPLUS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        size = len(data)
        self._fed_bytes = fed_bytes = self._fed_bytes + size
        if self._phase >= _DEAF:
            if fed_bytes > _LINGER_BYTES:
                self.transport.abort()
            return
        limits = self.limits
        self._big_piece = size > limits.max_head_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, IngressError) else MalformedRequest())
        if self._body is not None:
            self._ask_app()
        if self._fed_bytes > limits.max_head_bytes and self._phase in (_HEAD, _BODY):
            if self._phase == _HEAD:
                self._refuse(HeadersTooLarge(f"more than {limits.max_head_bytes} bytes"))
            elif self._fed_bytes > limits.max_message_bytes:
                self._refuse(MalformedRequest("more bytes than its body may need"))

    def end_if_overdue(self, now: float) -> None:
        """Called by `sweep`."""
        limits = self.limits
        age_s = now - self._since
        if self._phase == _PARTED:
            if age_s > _LINGER_S:
                self.transport.abort()
        elif self.transport.is_closing():
            if age_s > 2 * limits.request_timeout_s:
                self.transport.abort()
        elif self._phase in (_HEAD, _BODY):
            if age_s > limits.request_timeout_s:
                self._refuse(RequestTimeout(f"not complete within {limits.request_timeout_s:g} s"))
        elif self._phase == _DEAF or self._busy():
            if age_s > limits.request_timeout_s and self.flow.write_paused:
                self.transport.abort()  # it sends, and does not read its answers
        elif age_s > limits.idle_timeout_s:
            self.transport.close()

    def shutdown(self) -> None:
        """Called by the server when it stops: a request that is here is answered, a half one has a second more."""
        super().shutdown()
        if self._phase == _PARTED:
            self.transport.abort()
        elif self._phase == _BODY:
            self.loop.call_later(_LAST_BYTES_S, self._stop_reading)

    def _stop_reading(self) -> None:
        if self._phase == _BODY and not self.transport.is_closing():
            self._refuse(ShuttingDown("the bridge is stopping"))
            self.loop.call_later(_LINGER_S, self.transport.abort)  # nobody sweeps any more

    # ---------------------------------------------------------------- the parser's callbacks

    def on_message_begin(self) -> None:
        self._phase = _HEAD
        self._since = self.loop.time()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        if self._big_piece or self._fed_bytes > self.limits.max_head_bytes:
            self._require_short_head()
        if len(self.pipeline) >= _MAX_WAITING:
            raise MalformedRequest("too many requests before the first answer")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise MalformedRequest("no proxy")
            self._upgrade_ignored = True  # the parser reads no further; it goes on without (below)
            return
        self._phase = _BODY
        if self.url in self.limits.whole_paths and self._may_come_whole():
            self._body = b""
        else:
            self._begin_cycle()

    def _may_come_whole(self) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and not (self.expect_100_continue or self.flow.write_paused or self._busy())
        )

    def _begin_cycle(self) -> None:
        """As uvicorn does, but all at once: most requests need none of it."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the scope has this list
        super().on_headers_complete()
        self.cycle.transport = self._courteous  # type: ignore[assignment]
        self.headers = []  # what comes now are trailers: no headers of ours

    def _ask_app(self) -> None:
        """It did not come whole."""
        body, self._body = self._body, None
        self._begin_cycle()
        if body:
            super().on_body(body)

    def on_body(self, body: bytes) -> None:
        if self._body is None:
            super().on_body(body)
        else:
            self._body += body

    def on_chunk_header(self) -> None:
        """Only chunked bodies come here; llhttp also takes other codings before `chunked`, and chunks in HTTP/1.0."""
        if self._body is not None:
            self._ask_app()
        codings = [value for name, value in self.scope["headers"] if name == b"transfer-encoding"]
        if codings and (codings[0].lower() != b"chunked" or self.scope["http_version"] != "1.1"):
            raise MalformedRequest("the only Transfer-Encoding is chunked, in HTTP/1.1")

    def on_message_complete(self) -> None:
        if self._upgrade_ignored:
            return
        if self._body is None:
            super().on_message_complete()
        else:
            self._take_whole(self._body)
        self._phase = _BETWEEN
        self._fed_bytes = 0

    def _take_whole(self, body: bytes) -> None:
        """Those that came in one turn of the loop are taken one after another: they find code and data in the core's caches."""
        whole = _Whole(self)
        self.cycle, self._body = whole, None  # type: ignore[assignment]
        self.loop.call_soon(self.limits.take, self.headers, body, whole.reply)

    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer for keep-alive."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._phase == _DEAF:
            self._part()
        elif self._phase == _BETWEEN:
            self._since = self.loop.time()

    # ---------------------------------------------------------------- refusing

    def _busy(self) -> bool:
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def _require_short_head(self) -> None:
        limit = self.limits.max_head_bytes
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limit:
            raise HeadersTooLarge(f"more than {limit} bytes")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Another protocol is an offer that may be ignored (RFC 9110, 7.8), but httptools skips the body: read the head again without it."""
        offered = {b"upgrade", b"connection", b"http2-settings"}
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in offered:
                head += (name, b": ", value, b"\r\n")
        since, fed_bytes = self._since, self._fed_bytes
        self._upgrade_ignored = False
        self.parser = httptools.HttpRequestParser(self)
        self._fed_bytes = fed_bytes - len(rest)
        try:
            self.parser.feed_data(b"".join((*head, b"\r\n")))
            self._since = since
        except httptools.HttpParserError:
            self._refuse(MalformedRequest())
        else:
            self.data_received(rest)

    def _refuse(self, error: IngressError) -> None:
        """One answer at most, after those that are due, and then the end: nothing more of this connection is taken for a request."""
        if self._body is not None:
            self._ask_app()
        reading_body = self._phase == _BODY
        self._phase = _DEAF
        self._fed_bytes = 0
        self._since = self.loop.time()
        self.limits.refused(error)
        if reading_body:
            self.cycle.disconnected = True  # its body never comes
            self.cycle.message_event.set()
        if self.pipeline:
            if reading_body:
                self.pipeline.popleft()
            return  # the requests before are answered, then `on_response_complete` ends it
        if self._busy():
            return
        if not (reading_body and self.cycle.response_started):
            self.transport.write(_answer(error))
        self._part()

    def _part(self) -> None:
        """Close; but say so first, and hear what comes for a moment, when the client may still be sending."""
        if self._phase == _BETWEEN or self._client_ended or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._phase = _PARTED
        self._fed_bytes = 0
        self._since = self.loop.time()
        if not self.transport.is_closing():
            self.transport.write_eof()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client may end its side after its request and wait for the answer; False: the transport closes itself."""
        waits = (
            self._phase == _BETWEEN and self._busy() and self.scheme == "http"
        )  # TLS has no half-open state
        if waits:
            self._phase = _DEAF
            self._client_ended = True
        return waits


class _Whole:
    """A request that came whole: what uvicorn asks of its cycle, and how it is answered."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "response_complete")
    response_started: Final = False
    message_event: Final = asyncio.Event()  # nobody waits for it

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol
        self.disconnected = self.response_complete = False
        self.keep_alive = True

    def reply(self, answer: Answer) -> None:
        self.response_complete = True
        protocol = self._protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        closes = not self.keep_alive or _CLOSE in answer.headers
        defaults = tuple(protocol.server_state.default_headers)
        protocol.transport.write(_message(answer, defaults, closes))
        if closes:
            protocol._part()  # noqa: SLF001  # its other half
        protocol.on_response_complete()


_CLOSE: Final = (b"connection", b"close")


@lru_cache(maxsize=64)  # nearly all are one and the same, for a second
def _message(answer: Answer, defaults: tuple[tuple[bytes, bytes], ...], closes: bool) -> bytes:
    headers = [*defaults, *answer.headers]
    if closes and _CLOSE not in headers:
        headers.append(_CLOSE)
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join((STATUS_LINE[answer.status], *lines, b"\r\n", answer.body))


class _CourteousTransport:
    """What a request's cycle sees: it closes after answers that came before the end of the body, and `_part` does that without a reset."""

    __slots__ = ("_protocol", "is_closing", "write")

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        self._protocol._part()  # noqa: SLF001  # its other half


def _answer(error: IngressError) -> bytes:
    body = orjson.dumps(problem_details(error))
    head = [
        STATUS_LINE[error.status],
        b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body),
    ]
    if isinstance(error, ServiceUnavailable):
        head.append(b"retry-after: %d\r\n" % RETRY_AFTER_S)
    return b"".join((*head, b"\r\n", body))


def sweep(connections: Iterable[object], now: float) -> None:
    """End what took too long. About 0.1 ms for 1,000 connections."""
    for connection in tuple(connections):
        if isinstance(connection, BoundedProtocol):
            connection.end_if_overdue(now)


class BoundedServer(uvicorn.Server):
    """A server whose connections have limits. With `tls` it speaks TLS, each connection with the context that `tls` gives when it comes."""

    def __init__(self, config: uvicorn.Config, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        super().__init__(config)
        self.tls = tls
        self._accepting: set[asyncio.Task[None]] = set()
        self._handshakes: set[asyncio.Task[None]] = set()

    async def on_tick(self, counter: int) -> bool:
        if counter % _SWEEP_TICKS == 0:
            sweep(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """With TLS we accept ourselves: uvicorn's handshakes would be unseen, unbounded in number, and a minute long each."""
        if self.tls is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        self.servers = []
        for listening in sockets or ():
            listening.listen(self.config.backlog)
            accepting = asyncio.create_task(self._accept(listening, self.tls))
            accepting.add_done_callback(self._stopped_accepting)
            self._accepting.add(accepting)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in (*self._accepting, *self._handshakes):
            task.cancel()
        await super().shutdown(sockets)

    def _stopped_accepting(self, task: "asyncio.Task[None]") -> None:
        """A door that opens to nobody is no door: the end of this ends the server, too."""
        self._accepting.discard(task)
        self.should_exit = True

    async def _accept(self, listening: socket.socket, tls: Callable[[], ssl.SSLContext]) -> None:
        loop = asyncio.get_running_loop()
        limits: Limits = self.config.http_protocol_class.limits  # type: ignore[attr-defined]
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError:  # no descriptors left, or the client is gone already
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if len(self._handshakes) + len(self.server_state.connections) >= limits.max_connections:
                limits.refused(TooManyConnections("more connections than VOIPEX_MAX_CONNECTIONS"))
                accepted.close()
                continue
            handshake = asyncio.create_task(self._agree(accepted, tls(), limits.request_timeout_s))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _agree(self, accepted: socket.socket, context: ssl.SSLContext, timeout_s: float) -> None:
        def http() -> asyncio.Protocol:
            return self.config.http_protocol_class(
                config=self.config,  # type: ignore[call-arg]
                server_state=self.server_state,
                app_state=self.lifespan.state,
                _loop=loop,
            )

        loop = asyncio.get_running_loop()
        # No TLS, none that we speak, gone, or too slow: ssl.SSLError and TimeoutError are OSErrors.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                http,
                accepted,
                ssl=context,
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=_LINGER_S,
            )
