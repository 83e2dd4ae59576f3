"""Requests and responses as values, and the calls between a connection and the application."""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, Protocol

import orjson

RequestHeaders = Mapping[bytes, bytes]
"""The headers of a request by name in lower case; `joined` says what a repeated one is."""

CLOSE: Final = (b"connection", b"close")


def joined(name: bytes, value: bytes) -> bytes:
    """Return the value of a header that has come before: the last one wins, but two of Authorization are none."""
    return b"" if name == b"authorization" else value


class Response(NamedTuple):
    """A complete response. A connection adds `date`, and `connection: close` when it closes; `CLOSE` in the headers makes it close."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


Respond = Callable[[Response], None]


class Handler(Protocol):
    """A request whose head was accepted."""

    @property
    def max_body_bytes(self) -> int: ...

    def __call__(self, body: bytes, respond: Respond) -> None:
        """Handle the request: call *respond* once, now or later, on the event loop. Raises nothing."""
        ...

    def reject(self, error: Exception) -> Response:
        """Make the response to a request whose body could not be read."""
        ...


class Application(Protocol):
    """What a connection asks for each request. Neither call does I/O, and neither raises."""

    def open(self, method: bytes, path: bytes, headers: RequestHeaders, peer: str) -> Handler | Response:
        """Return the handler of the request's body, or the response to a request that its head rejects. *peer*: address of the other end."""
        ...

    def reject(self, error: Exception) -> Response:
        """Make the response to bytes that are no request."""
        ...


End = Literal[
    "open",
    "sender_idle",
    "sender_before_answer",
    "sender_within_request",
    "bridge_idle",
    "bridge_after_answer",
]
"""
Who ended a connection, and when. `bridge_idle`: after VOIPEX_IDLE_TIMEOUT_S. `bridge_after_answer`: the sender asked for it, or the bridge
refused or stops.
"""


class Connection(NamedTuple):
    """
    A connection at its end, or as it is now.

    `handler`: of the last request whose head was accepted. `age_s`: since the begin of a request that is still here, else since the last
    response.
    """

    handler: Handler | None
    requests: int
    http_version: str
    tls: str | None
    end: End
    age_s: float


class Observer(Protocol):
    """Learns how senders behave."""

    def closed(self, connection: Connection) -> None: ...

    def dropped(self, status: int, body: bytes) -> None:
        """The head of a request was refused with *status*; *body* is what followed it."""
        ...


def json_response(
    status: int, content_type: bytes, value: object, more: tuple[tuple[bytes, bytes], ...] = ()
) -> Response:
    body = orjson.dumps(value)
    headers = ((b"content-type", content_type), (b"content-length", b"%d" % len(body)), *more)
    return Response(status, headers, body)
