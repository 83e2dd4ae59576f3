"""
Post events to a bridge in real time, as VOIPEX does.

The events are spread over lanes by call or agent. A lane is a thread with one keep-alive connection: it sends the next event only after the
response to the one before, so the events of one call, and of one agent, arrive in order. A 503 is repeated after its Retry-After, a broken
connection is replaced and the event sent again; any other response is final.
"""

import http.client
import queue
import select
import socket
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self, TextIO
from urllib.parse import urlsplit
from zlib import crc32

import orjson

from voipex.timestamps import format_rfc3339

_QUEUED: Final = (
    256  # events that wait for a lane; when it is full the next ones are late, which `behind_s` reports
)
_MAX_RETRY_AFTER_S: Final = 60
_STOP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """
    What was sent so far.

    accepted: events with a 2xx response. given_up: events without one, at the end.
    answers: number of responses by status; an event that was repeated counts each time.
    broken_connections: how often a connection failed, so that the event was sent again.
    behind_s: how late the last event was handed to its lane; it grows if the bridge is slower than the plan.
    """

    sent: int
    accepted: int
    given_up: int
    answers: Mapping[int, int]
    broken_connections: int
    elapsed_s: float
    behind_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """The URL of a bridge, and the headers of each request."""

    host: str
    port: int
    tls: bool
    path: str
    headers: Mapping[str, str]

    @property
    def url(self) -> str:
        """The URL, without credentials."""
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}{self.path}"

    def connection_error(self, timeout_s: float = 5.0) -> str | None:
        """Connect once. Return why that fails, such as `connection refused`, or None."""
        try:
            socket.create_connection((self.host, self.port), timeout_s).close()
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return None

    @classmethod
    def parse(cls, url: str, user: str, password: str) -> Self:
        """Raises ValueError if *url* is not an http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"{url!r} is not the URL of a bridge, such as http://127.0.0.1:8080/voipex")
        tls = parts.scheme == "https"
        credentials = b64encode(f"{user}:{password}".encode()).decode()
        return cls(
            parts.hostname,
            parts.port or (443 if tls else 80),
            tls,
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for what, in seconds."""

    response_timeout_s: float = 30.0
    reconnect_after_s: float = 0.2
    retry_after_s: float = 1.0
    """After a 503 without Retry-After."""
    last_tries_s: float = 10.0
    """After the last event, for those that are not accepted yet."""


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    retry_after_s: float | None


class HttpSender:
    """Posts one body at a time over a keep-alive connection, and replaces it when it is closed."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        kind = http.client.HTTPSConnection if target.tls else http.client.HTTPConnection
        self._connection = kind(target.host, target.port, timeout=timeout_s)
        self._target = target

    def post(self, body: bytes) -> _Response:
        """
        Send *body* and wait for the response.

        Raises:
            OSError, http.client.HTTPException: the connection failed before the response; the body may have arrived.
        """
        if self._closed_by_peer():
            self._connection.close()
        self._connection.request("POST", self._target.path, body, self._target.headers)
        response = self._connection.getresponse()
        response.read()
        retry_after = response.getheader("Retry-After", "")
        return _Response(
            response.status,
            float(min(int(retry_after), _MAX_RETRY_AFTER_S)) if retry_after.isdecimal() else None,
        )

    def _closed_by_peer(self) -> bool:
        """Whether an idle connection has something to read, which can only be its end."""
        sock = self._connection.sock
        return sock is not None and bool(select.select([sock], [], [], 0)[0])

    def close(self) -> None:
        """Close the connection; the next `post` opens another one."""
        self._connection.close()


class Player:
    """
    Sends (seconds since the start, body) pairs to a bridge, each at its time.

    duration_s: stop after so many seconds, even if the bridge is slower than the events. None: when the events end.
    record: gets a JSON line `{"received_at", "pbx", "body"}` for each accepted event, in the order of the responses; `received_at` is the
        time of the response. `voipex-consumers explain` reads such files.
    """

    def __init__(
        self,
        events: Iterable[tuple[float, dict[str, str]]],
        target: Target,
        *,
        pbx: str = "voipex",
        duration_s: float | None = None,
        record: TextIO | None = None,
        connections: int = 16,
        timing: Timing | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._events = events
        self._target = target
        self._pbx = pbx
        self._duration_s = duration_s
        self._record = record
        self._timing = timing or Timing()
        self._now_us = now_us
        self._lanes: list[queue.Queue[dict[str, str] | None]] = [
            queue.Queue(_QUEUED) for _ in range(connections)
        ]
        self._stopping = threading.Event()
        self._give_up_at: float | None = None
        self._started_at = time.monotonic()
        self._behind_s = 0.0
        self._lock = threading.Lock()  # guards all that follows
        self._ended_at: float | None = None
        self._failure: Exception | None = None
        self._answers: Counter[int] = Counter()
        self._sent = self._accepted = self._given_up = self._broken = 0
        self._last_us = 0

    def report(self) -> SimulationReport:
        """Return the figures so far; they are final after `run`."""
        with self._lock:
            return SimulationReport(
                self._sent,
                self._accepted,
                self._given_up,
                dict(self._answers),
                self._broken,
                (self._ended_at or time.monotonic()) - self._started_at,
                self._behind_s,
            )

    def run(self) -> None:
        """Send the events; return when the last one is accepted or given up. An exception, such as Ctrl-C, stops the lanes within a second."""
        threads = [threading.Thread(target=self._run_lane, args=(lane,), daemon=True) for lane in self._lanes]
        for thread in threads:
            thread.start()
        try:
            self._hand_out()
            self._give_up_at = time.monotonic() + self._timing.last_tries_s
            for lane in self._lanes:
                self._put(lane, None)
            if not self._stopping.is_set():  # else a lane may lack its end
                for thread in threads:
                    thread.join()
        finally:
            self._stop(threads)
        if self._failure is not None:
            raise self._failure

    def _stop(self, threads: Iterable[threading.Thread]) -> None:
        self._stopping.set()
        for lane in self._lanes:
            if lane.empty():
                lane.put(None)  # its thread may wait for the next event
        deadline = time.monotonic() + _STOP_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            # From now on, a thread that still waits for a response counts and records nothing.
            self._ended_at = time.monotonic()

    def _hand_out(self) -> None:
        """Give each event to its lane at its time."""
        self._started_at = time.monotonic()
        for at_s, body in self._events:
            if self._duration_s is not None and at_s > self._duration_s:
                return
            early_s = self._started_at + at_s - time.monotonic()
            if self._stopping.wait(max(0.0, early_s)):
                return
            self._behind_s = max(0.0, -early_s)
            if self._duration_s is not None and self._behind_s + at_s > self._duration_s:
                return
            key = body.get("UniqueId") or body["Login"]
            self._put(self._lanes[crc32(key.encode()) % len(self._lanes)], body)

    def _put(self, lane: "queue.Queue[dict[str, str] | None]", body: dict[str, str] | None) -> None:
        while not self._stopping.is_set():
            try:
                lane.put(body, timeout=0.1)
            except queue.Full:
                continue
            return

    def _run_lane(self, lane: "queue.Queue[dict[str, str] | None]") -> None:
        """Send one event after the other until there are no more; runs in a thread of its own."""
        sender = HttpSender(self._target, self._timing.response_timeout_s)
        try:
            while (body := lane.get()) is not None and not self._stopping.is_set():
                with self._lock:
                    self._sent += 1
                accepted = self._deliver(sender, orjson.dumps(body))
                self._count_event(body, accepted=accepted)
        except Exception as error:  # noqa: BLE001 - `run` raises it
            with self._lock:
                self._failure = self._failure or error
            self._stopping.set()
        finally:
            sender.close()

    def _deliver(self, sender: HttpSender, body: bytes) -> bool | None:
        """Return whether the bridge accepted *body*; None if the player was stopped before."""
        while not self._stopping.is_set():
            try:
                response = sender.post(body)
            except (OSError, http.client.HTTPException):
                sender.close()
                self._count_broken()
                wait_s = self._timing.reconnect_after_s
            else:
                self._count_answer(response.status)
                if response.status != http.client.SERVICE_UNAVAILABLE:
                    return 200 <= response.status < 300
                wait_s = (
                    self._timing.retry_after_s if response.retry_after_s is None else response.retry_after_s
                )
            if self._give_up_at is not None and time.monotonic() + wait_s > self._give_up_at:
                return False
            self._stopping.wait(wait_s)
        return None

    def _count_broken(self) -> None:
        with self._lock:
            if self._ended_at is None:
                self._broken += 1

    def _count_answer(self, status: int) -> None:
        with self._lock:
            if self._ended_at is None:
                self._answers[status] += 1

    def _count_event(self, body: Mapping[str, str], *, accepted: bool | None) -> None:
        with self._lock:
            if self._ended_at is not None or accepted is None:
                return
            if not accepted:
                self._given_up += 1
                return
            self._accepted += 1
            if self._record is not None:
                self._last_us = max(self._now_us(), self._last_us + 1)  # a time of its own for each line
                line = {"received_at": format_rfc3339(self._last_us), "pbx": self._pbx, "body": body}
                self._record.write(orjson.dumps(line).decode() + "\n")
