"""The stream as an ASGI application: heartbeats, a snapshot that readers share, frames without gap."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from consumers.board import stream as streams
from consumers.board.board import Board
from consumers.board.stream import Stream
from tests.board_fixtures import START_US, Json, agent, body_of, new_board
from tests.unit.consumers.board.test_api import events_of

SCOPE = {"type": "http", "method": "GET", "path": "/api/stream", "query_string": b"", "headers": []}


class Reader:
    """A client of the stream that never leaves by itself."""

    def __init__(self, stream: Stream, send: Callable[[Any], Awaitable[None]] | None = None) -> None:
        self.content = b""
        self.task = asyncio.create_task(
            stream.serve(dict(SCOPE), self._receive, self.take if send is None else send, "desk")
        )

    async def _receive(self) -> Any:
        await asyncio.Event().wait()

    async def take(self, message: Any) -> None:
        self.content += message.get("body", b"")

    @property
    def events(self) -> list[tuple[str, Json]]:
        return list(events_of(self.content))

    async def until(self, holds: Callable[[list[tuple[str, Json]]], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds(self.events):  # noqa: ASYNC110 - it is short
                await asyncio.sleep(0.01)


def change(board: Board, stream: Stream, name: str, revision: int) -> None:
    board.put_agent("voipex", name, orjson.dumps(agent(name, revision=revision)))
    assert board.tick() is not None
    stream.publish()


def run(story: Callable[[Board, Stream], Any], **options: Any) -> None:
    board = new_board(lambda: START_US)

    async def whole() -> None:
        stream = Stream(board, **options)
        try:
            async with asyncio.timeout(120):
                await story(board, stream)
        finally:
            stream.close()

    asyncio.run(whole())


def test_a_quiet_stream_has_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.02)

    async def story(board: Board, stream: Stream) -> None:
        reader = Reader(stream)
        await reader.until(lambda events: [kind for kind, _ in events].count("heartbeat") >= 4)
        assert {kind for kind, _ in reader.events} == {"snapshot", "heartbeat"}
        assert all(body["now"] for _, body in reader.events)

    run(story)


def test_readers_of_a_second_share_a_snapshot_and_miss_nothing() -> None:
    async def story(board: Board, stream: Stream) -> None:
        change(board, stream, "a", 1)
        first = Reader(stream)
        await first.until(lambda events: len(events) >= 1)
        change(board, stream, "a", 2)
        change(board, stream, "b", 1)
        second = Reader(stream)
        await second.until(lambda events: "change" in [kind for kind, _ in events])
        change(board, stream, "c", 1)
        wanted = {"voipex/a": 2, "voipex/b": 1, "voipex/c": 1}
        for reader in (first, second):
            await reader.until(lambda events: latest(events) == wanted)
            numbers = [number_of(each) for each in reader.content.split(b"\n\n") if b"event: change" in each]
            assert numbers == [2, 3, 4]
        assert snapshot_of(first) == snapshot_of(second)

    run(story)


def latest(events: list[tuple[str, Json]]) -> dict[str, int]:
    held: Json = {}
    for _, body in events:
        held |= body.get("agents", {})
    return {name: row["revision"] for name, row in held.items()}


def snapshot_of(reader: Reader) -> bytes:
    return next(each for each in reader.content.split(b"\n\n") if b"event: snapshot" in each)


def number_of(event: bytes) -> int:
    return int(event.partition(b"id: boot-")[2].partition(b"\n")[0])


def test_an_old_snapshot_is_not_sent_again() -> None:
    async def story(board: Board, stream: Stream) -> None:
        await Reader(stream).until(lambda events: len(events) >= 1)
        board.now_us = lambda: START_US + 5_000_000
        late = Reader(stream)
        await late.until(lambda events: len(events) >= 1)
        assert late.events[0][1]["now"] == "2026-03-02T08:00:05.000000Z"

    run(story)


async def never(message: Any) -> None:
    if "body" in message:
        await asyncio.Event().wait()


def test_a_reader_that_takes_nothing_is_cut_and_counted() -> None:
    async def story(board: Board, stream: Stream) -> None:
        stuck, good = Reader(stream, send=never), Reader(stream)
        await asyncio.wait({stuck.task}, timeout=60)
        assert (stuck.task.done(), good.task.done()) == (True, False)
        assert (stream.stalled, stream.readers) == (1, 1)

    run(story, send_timeout_s=0.05)


def test_a_frame_that_comes_while_another_is_sent_is_not_delayed() -> None:
    async def story(board: Board, stream: Stream) -> None:
        async def changing(message: Any) -> None:
            if b"event: snapshot" in message.get("body", b""):
                change(board, stream, "b", 1)
            await reader.take(message)

        reader = Reader(stream, send=changing)
        begun = asyncio.get_running_loop().time()
        await reader.until(lambda events: "change" in [kind for kind, _ in events])
        assert asyncio.get_running_loop().time() - begun < streams.HEARTBEAT_S

    run(story)


def test_the_wall_is_encoded_when_it_asks() -> None:
    board = new_board(lambda: START_US)
    board.put_agent("voipex", "a", orjson.dumps(agent("a")))
    frame = board.tick()
    assert frame is not None
    assert body_of(frame.encoded["wall"])["agents"].keys() == {"voipex/a"}
    assert frame.encoded["wall"] is frame.encoded["wall"]
