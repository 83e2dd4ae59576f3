"""What the board's reader says about its position: only who is at the ends of the topics shows what is now."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from consumers.board import reader as readers
from consumers.board.board import Board
from consumers.board.reader import Reader
from tests.board_fixtures import START_US, new_board
from voipex.kafka.settings import KafkaSettings


class Client:
    """Two partitions with ten records each."""

    def __init__(self) -> None:
        self.positions = {0: 4, 1: 10}

    async def end_offsets(self, partitions: list[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 10)

    async def position(self, partition: int) -> int:
        return self.positions[partition]


def watch(monkeypatch: pytest.MonkeyPatch, story: Callable[[Client, Reader, Board], Any]) -> None:
    monkeypatch.setattr(readers, "_ENDS_EVERY_S", 0.1)
    board = new_board(lambda: START_US)
    reader = Reader(KafkaSettings(), ("voipex",), board, 0)
    client = Client()

    async def whole() -> None:
        watching = asyncio.create_task(reader._watch_ends(client, [0, 1], lambda: START_US))
        try:
            await story(client, reader, board)
        finally:
            watching.cancel()

    asyncio.run(whole())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - it is short
            await asyncio.sleep(0.01)


def test_a_reader_that_is_behind_is_not_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(client: Client, reader: Reader, board: Board) -> None:
        await until(lambda: reader.lag == 6)
        await asyncio.sleep(0.5)
        assert (board.ready, board.freshness.kafka_at_us) == (False, None)

    watch(monkeypatch, story)


def test_a_reader_at_the_ends_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(client: Client, reader: Reader, board: Board) -> None:
        await until(lambda: reader.lag == 6)
        client.positions[0] = 10
        await until(lambda: board.ready)
        assert (reader.lag, board.freshness.kafka_at_us) == (0, START_US)

    watch(monkeypatch, story)
