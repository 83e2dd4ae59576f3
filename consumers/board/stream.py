"""The stream of server-sent events as an ASGI application: a reader is a place in the ring, so none has a queue that grows."""

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from consumers.board.board import Board
from consumers.board.frames import Encoded, Frame

HEARTBEAT_S: Final = 2.0
_SEND_TIMEOUT_S: Final = 10.0
_PIECE_BYTES: Final = 64 * 1024
_SNAPSHOT_US: Final = 1_000_000
"""After a restart every page comes at once: those of a second share a snapshot, and get the frames since."""

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class Stream:
    """Serves `/api/stream`. `publish` wakes all readers, `close` ends them. A reader who takes nothing for `send_timeout_s` is cut."""

    def __init__(self, board: Board, send_timeout_s: float = _SEND_TIMEOUT_S) -> None:
        self._board = board
        self._send_timeout_s = send_timeout_s
        self._news = asyncio.Event()
        self._closed = False
        self._snapshot: tuple[int, int, Encoded | None] = (0, 0, None)
        self.readers = 0
        self.stalled = 0
        """Streams that were cut because their reader took nothing."""

    def publish(self) -> None:
        """A frame was added."""
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End all streams; open ones would hold up the stop of the server."""
        self._closed = True
        self.publish()

    async def serve(self, scope: Scope, receive: Receive, send: Send, role: str) -> None:
        """Send a snapshot, or what came after `Last-Event-ID` (a new EventSource cannot send it: `?since=`), then every frame."""
        last_event_id = Headers(scope=scope).get("last-event-id") or QueryParams(scope["query_string"]).get(
            "since"
        )
        leaving = asyncio.create_task(_disconnected(receive))
        self.readers += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await self._follow(send, role, last_event_id, leaving)
        except TimeoutError:
            self.stalled += 1  # the reader took nothing: it comes back and gets what it missed
        except OSError:
            pass  # it left while something was sent
        finally:
            self.readers -= 1
            leaving.cancel()

    async def _follow(
        self, send: Send, role: str, last_event_id: str | None, leaving: "asyncio.Task[None]"
    ) -> None:
        ring = self._board.ring
        frames = ring.after(last_event_id)
        if frames is None:
            number = await self._send_snapshot(send, role)
        else:
            number = ring.last
            await self._write(send, _joined(frames, role))
        while not self._closed and not leaving.done():
            if ring.last == number:
                await self._news_or(leaving)
                if self._closed or leaving.done():
                    break
            later = ring.after_number(number)
            if later is None:  # it slept for longer than frames are kept
                number = await self._send_snapshot(send, role)
            else:
                number = ring.last
                await self._write(send, _joined(later, role) or self._board.heartbeat())
        await self._write(send, b"", more=False)

    async def _send_snapshot(self, send: Send, role: str) -> int:
        """Send a snapshot and then the clocks, for it may be a second old. Return the number of its last frame."""
        number, made_us, snapshot = self._snapshot
        now_us = self._board.now_us()
        if snapshot is None or not 0 <= now_us - made_us < _SNAPSHOT_US:
            number, snapshot = self._board.ring.last, self._board.snapshot()
            self._snapshot = number, now_us, snapshot
        await self._write(send, snapshot[role])
        if self._board.ring.last == number:
            await self._write(send, self._board.heartbeat())
        return number

    async def _write(self, send: Send, content: bytes, *, more: bool = True) -> None:
        """Send in pieces, each once the one before has left: of a snapshot of a megabyte a slow reader would else hold a copy."""
        for begin in range(0, len(content) or not more, _PIECE_BYTES):
            piece = content[begin : begin + _PIECE_BYTES]
            async with asyncio.timeout(self._send_timeout_s):
                await send({"type": "http.response.body", "body": piece, "more_body": more})

    async def _news_or(self, leaving: "asyncio.Task[None]") -> None:
        """Return at the next frame, when the reader leaves, or when a heartbeat is due."""
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait({news, leaving}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()


def _joined(frames: Sequence[Frame], role: str) -> bytes:
    return b"".join(frame.encoded[role] for frame in frames)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
