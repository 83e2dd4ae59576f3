"""The stream of server-sent events as an ASGI application: a reader is a place in the ring, so none has a queue that grows."""

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from consumers.board.board import Board
from consumers.board.frames import Frame

HEARTBEAT_S: Final = 2.0
_SEND_TIMEOUT_S: Final = 10.0
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class Stream:
    """Serves `/api/stream`. `publish` wakes all readers, `close` ends them."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._news = asyncio.Event()
        self._closed = False
        self.readers = 0

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
        except (TimeoutError, OSError):
            pass  # a reader that takes nothing: it comes back and gets what it missed
        finally:
            self.readers -= 1
            leaving.cancel()

    async def _follow(
        self, send: Send, role: str, last_event_id: str | None, leaving: "asyncio.Task[None]"
    ) -> None:
        ring = self._board.ring
        frames = ring.after(last_event_id)
        number = ring.last
        await _write(send, self._board.snapshot()[role] if frames is None else _joined(frames, role))
        while not self._closed and not leaving.done():
            news = asyncio.create_task(self._news.wait())
            try:
                await asyncio.wait({news, leaving}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if self._closed or leaving.done():
                break
            later = ring.after_number(number)
            number = ring.last
            if later is None:  # it slept for longer than frames are kept
                await _write(send, self._board.snapshot()[role])
            else:
                await _write(send, _joined(later, role) or self._board.heartbeat())
        await _write(send, b"", more=False)


def _joined(frames: Sequence[Frame], role: str) -> bytes:
    return b"".join(frame.encoded[role] for frame in frames)


async def _write(send: Send, content: bytes, *, more: bool = True) -> None:
    if content or not more:
        async with asyncio.timeout(_SEND_TIMEOUT_S):
            await send({"type": "http.response.body", "body": content, "more_body": more})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
