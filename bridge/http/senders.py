"""
How the senders use HTTP, as counts without a value that could identify anybody: what `voipex-bridge survey` asks the bridge.

Counted at the end of each connection, by the PBX of its last request that was authenticated: nothing is counted per request. Names in headers
become kinds from fixed lists; addresses and bodies become hashes, which never leave the process.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from bridge.http.ingress import Exchange
from bridge.http.messages import Connection
from bridge.http.retries import Retries, rounded_s

_MAX_ADDRESSES: Final = 1000
_MAX_HABITS: Final = 500  # more combinations than a PBX and its proxies have
_AGENTS: Final = (
    *(
        "curl",
        "wget",
        "guzzlehttp",
        "php",
        "symfony",
        "python-requests",
        "python-urllib",
        "python-httpx",
        "aiohttp",
    ),
    *("go-http-client", "okhttp", "apache-httpclient", "java", "axios", "undici", "node", "ruby", "faraday"),
    *("restsharp", "dotnet", "libwww-perl", "lwp", "asterisk", "mozilla"),
)
"""Beginnings of the User-Agents of widespread libraries; "php" after "guzzlehttp", which may name both."""
_CONTENT_TYPES: Final = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/json",
    "text/plain",
)
_CHARSETS: Final = ("utf-8", "windows-1250", "iso-8859-1", "iso-8859-2", "us-ascii")
_OF_PROXIES: Final = (b"x-forwarded-for", b"forwarded", b"via")


class Habits(NamedTuple):
    """The habits of one connection, each as a kind."""

    http_version: str
    connection: str
    framing: str
    content_type: str
    charset: str
    user_agent: str
    authentication: str
    tls: str
    expect: str
    proxy: str


@dataclass(slots=True)
class _Sender:
    """Counts of one PBX."""

    habits: Counter[Habits] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    idle_s: Counter[str] = field(default_factory=Counter)
    """Silence after which the sender closed a connection."""
    left_s: Counter[str] = field(default_factory=Counter)
    """Time from the begin of a request to the moment at which the sender left without its answer."""
    addresses: set[int] = field(default_factory=set)
    """Hashes, with the key of the process."""

    def add(self, connection: Connection, habits: Habits, address: int) -> None:
        if habits in self.habits or len(self.habits) < _MAX_HABITS:
            self.habits[habits] += 1
        self.requests[_magnitude(connection.requests)] += 1
        self.ends[connection.end] += 1
        if connection.end == "sender_idle":
            self.idle_s[rounded_s(connection.age_s)] += 1
        elif connection.end == "sender_before_answer":
            self.left_s[rounded_s(connection.age_s)] += 1
        if len(self.addresses) < _MAX_ADDRESSES:
            self.addresses.add(address)

    def to_json(self) -> dict[str, Any]:
        habits: dict[str, Counter[str]] = {name: Counter() for name in Habits._fields}
        for combination, count in self.habits.items():
            for name, kind in zip(Habits._fields, combination, strict=True):
                habits[name][kind] += count
        return {
            "connections": self.ends.total(),
            "addresses": len(self.addresses),
            "habits": habits,
            "requests_per_connection": self.requests,
            "ends": self.ends,
            "idle_s": self.idle_s,
            "left_s": self.left_s,
        }


class Senders:
    """
    Counts connections and refused requests. For the event loop alone.

    Args:
        client: (address of the other end, X-Forwarded-For) -> address of the client.
    """

    def __init__(self, retries: Retries, client: Callable[[str, bytes | None], str]) -> None:
        self.retries = retries
        self._client = client
        self._key = os.urandom(32)
        self._senders: defaultdict[str | None, _Sender] = defaultdict(_Sender)
        self._strangers = 0

    def closed(self, connection: Connection) -> None:
        """Count a connection at its end."""
        self._strangers += not self._add(connection, self._senders)

    def dropped(self, status: int, body: bytes) -> None:
        """Remember the body of a request that its head refused."""
        if status != 413:  # which `ingress` recognizes by its length
            self.retries.received(None, body)
            self.retries.refused(None, status, body)

    def _add(self, connection: Connection, to: Mapping[str | None, _Sender]) -> bool:
        exchange = connection.handler
        if not isinstance(exchange, Exchange) or exchange.principal is None:
            return False
        address = self._client(exchange.peer, exchange.headers.get(b"x-forwarded-for"))
        to[exchange.principal.pbx].add(
            connection, _habits_of(connection, exchange.headers), hash((self._key, address))
        )
        return True

    def to_json(self, now_open: Iterable[Connection]) -> dict[str, Any]:
        """Return all counts since the start, with the connections that are open now."""
        senders = deepcopy(self._senders)
        strangers = self._strangers + sum(not self._add(each, senders) for each in now_open)
        refused = self.retries.to_json()
        for pbx in refused:
            senders[pbx]
        return {
            "pbxs": {
                pbx: {**sender.to_json(), "refused": refused.get(pbx, {})}
                for pbx, sender in senders.items()
                if pbx is not None
            },
            "before_authentication": {"connections": strangers, "refused": refused.get(None, {})},
            "probe": self.retries.describe_probe(),
        }


def _habits_of(connection: Connection, headers: Mapping[bytes, bytes]) -> Habits:
    return _habits(
        connection.http_version,
        headers.get(b"connection"),
        b"transfer-encoding" in headers,
        headers.get(b"content-type"),
        headers.get(b"user-agent"),
        headers.get(b"authorization", b"")[:7],
        connection.tls,
        b"expect" in headers,
        any(name in headers for name in _OF_PROXIES),
    )


@lru_cache(maxsize=64)  # a PBX has one combination, or two
def _habits(
    http_version: str,
    connection: bytes | None,
    is_chunked: bool,
    content_type: bytes | None,
    user_agent: bytes | None,
    authorization: bytes,
    tls: str | None,
    expects: bool,
    is_forwarded: bool,
) -> Habits:
    media_type, _, parameters = _text(content_type).partition(";")
    scheme = authorization.split(b" ")[0].lower().decode(errors="replace")
    return Habits(
        http_version=http_version if http_version in ("1.0", "1.1") else "another",
        connection=_kind(None if connection is None else _text(connection), ("close", "keep-alive")),
        framing="chunked" if is_chunked else "Content-Length",
        content_type=_kind(None if content_type is None else media_type.strip(), _CONTENT_TYPES),
        charset=_charset(parameters),
        user_agent=_user_agent(user_agent),
        authentication=_kind(scheme, ("basic", "bearer")),
        tls=_kind(tls, ("TLSv1.2", "TLSv1.3")),
        expect="100-continue" if expects else "none",
        proxy="through a proxy" if is_forwarded else "none",
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode("latin-1").strip().lower()


def _kind(value: str | None, known: tuple[str, ...]) -> str:
    return "none" if value is None else value if value in known else "another"


def _charset(parameters: str) -> str:
    for each in parameters.split(";"):
        name, _, value = each.partition("=")
        if name.strip() == "charset":
            return _kind(value.strip().strip('"'), _CHARSETS)
    return "none"


def _user_agent(value: bytes | None) -> str:
    if value is None:
        return "none"
    text = _text(value)
    return next((name for name in _AGENTS if text.startswith(name)), "another")


def _magnitude(requests: int) -> str:
    """Return `1`, `2 to 9`, `10 to 99`, `100 or more`."""
    if requests < 2:
        return str(requests)
    return "2 to 9" if requests < 10 else "10 to 99" if requests < 100 else "100 or more"
