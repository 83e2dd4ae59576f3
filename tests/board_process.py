"""
A board as a process of its own, without Kafka: it changes its agents by itself.

    python -m tests.board_process PORT AGENTS CHANGES_PER_FRAME SEND_TIMEOUT_S UNREAD_MS
"""

import asyncio
import random
import sys
import time

import orjson

from consumers.board.access import Access
from consumers.board.api import build_app
from consumers.board.board import Board
from consumers.board.metrics import board_registry
from consumers.board.service import bound_sending
from consumers.board.stream import Stream
from tests.board_fixtures import agent, new_board
from voipex.events import Event
from voipex.service.management import Readiness, build_management
from voipex.service.server import Server, listening, server_config, started

FRAME_S = 0.1
RING_US = 3_000_000


async def serve(port: int, agents: int, changes: int, send_timeout_s: float, unread_ms: int) -> None:
    board = new_board(lambda: time.time_ns() // 1000, ring_us=RING_US)
    board.ready = True
    stream = Stream(board, send_timeout_s)
    access = Access(None)
    registry = board_registry(board, stream, access, lambda: 0, "test")
    management = build_management(lambda: Readiness(True, {}), registry)
    server = Server(server_config(build_app(board, stream, access, no_events, management)))
    with listening("127.0.0.1", port, "port") as sock:
        bound_sending(sock, unread_ms)
        serving = asyncio.create_task(server.serve([sock]))
        await started(server)
        chance = random.Random(1)
        revision = 0
        while not serving.done():
            for number in range(agents) if revision == 0 else chance.sample(range(agents), changes):
                put(board, number, revision, chance.choice(["available", "on_call", "paused"]))
            revision += 1
            if board.tick() is not None:
                stream.publish()
            await asyncio.sleep(FRAME_S)


def put(board: Board, number: int, revision: int, state: str) -> None:
    document = agent(f"agent{number}", state=state, revision=revision)
    board.put_agent("voipex", document["agent"], orjson.dumps(document))


async def no_events(pbx: str, agent: str, since_us: int) -> list[Event]:
    return []


if __name__ == "__main__":
    asyncio.run(
        serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    )
