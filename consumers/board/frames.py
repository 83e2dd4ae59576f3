"""Frames of the stream: encoded once, kept for a minute, so that a reader who comes back misses and repeats nothing (pure)."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from consumers.board.rows import masked


class Encoded:
    """An event of the stream by role: for desks at once, for walls when the first of them asks, since most boards have none."""

    __slots__ = ("_body", "_desk", "_head", "_wall")

    def __init__(self, head: bytes, body: dict[str, Any]) -> None:
        self._head, self._body = head, body
        self._desk = head + orjson.dumps(body) + b"\n\n"
        self._wall: bytes | None = None

    def __getitem__(self, role: str) -> bytes:
        if role == "desk":
            return self._desk
        if self._wall is None:
            self._wall = self._head + orjson.dumps(masked(self._body)) + b"\n\n"
        return self._wall


class Frame(NamedTuple):
    """One event of the stream, encoded once for all its readers."""

    number: int
    made_us: int
    encoded: Encoded


class Ring:
    """The frames of the last *kept_us*. `boot` names this run: a reader of another run gets a snapshot."""

    def __init__(self, boot: str, kept_us: int) -> None:
        self.boot = boot
        self._kept_us = kept_us
        self._frames: deque[Frame] = deque()
        self._last = 0

    @property
    def last(self) -> int:
        """Number of the last frame; 0 before the first."""
        return self._last

    def add(self, body: dict[str, Any], made_us: int) -> Frame:
        """Append a `change`, and forget frames that are too old."""
        self._last += 1
        frame = Frame(self._last, made_us, self.encode("change", body))
        self._frames.append(frame)
        while self._frames[0].made_us < made_us - self._kept_us:
            self._frames.popleft()
        return frame

    def encode(self, event: str, body: dict[str, Any]) -> Encoded:
        """Encode an event of the stream whose id is that of the last frame. *body* and its rows must not change any more."""
        return Encoded(f"id: {self.boot}-{self._last}\nevent: {event}\ndata: ".encode(), body)

    def after(self, last_event_id: str | None) -> Sequence[Frame] | None:
        """Return the frames after *last_event_id*; None when they are no longer all here, or it is of another run."""
        boot, _, number = (last_event_id or "").rpartition("-")
        if boot != self.boot or not number.isascii() or not number.isdigit():
            return None
        return self.after_number(int(number))

    def after_number(self, number: int) -> Sequence[Frame] | None:
        """Return the frames after frame *number*; None when they are no longer all here."""
        missing = self._last - number
        if missing < 0 or missing > len(self._frames):
            return None
        return [] if missing == 0 else list(self._frames)[-missing:]
