"""Settings -> a running board: the reader, a frame every quarter of a second, the pages."""

import asyncio
import gc
import secrets
import signal
import socket
import time
from typing import Final

import uvloop

from consumers.board.access import Access, read_users
from consumers.board.api import build_app
from consumers.board.board import Board
from consumers.board.frames import Ring
from consumers.board.metrics import board_registry, kafka_age_s
from consumers.board.reader import Reader, agent_events
from consumers.board.stream import Stream
from consumers.board.window import Window
from voipex.events import Event
from voipex.service.logging import get_logger
from voipex.service.management import Readiness, build_management
from voipex.service.server import Server, listening, server_config, started
from voipex.service.settings import BoardSettings

_FRAME_S: Final = 0.25
_RING_US: Final = 60_000_000
_SEND_BUFFER_BYTES: Final = 64 * 1024
"""A browser that stalls would else be sent megabytes of old frames."""
_UNREAD_MS: Final = 30_000
"""A connection whose peer takes nothing for so long is reset; what uvicorn closes would else wait for it for ever."""

log = get_logger("board")


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def run(settings: BoardSettings, version: str) -> None:
    """
    Run until SIGTERM or SIGINT.

    Raises:
        CredentialsInvalid: the users file cannot be used.
        PortInUse: names the setting.
    """
    access = Access(None if settings.board_users_file is None else read_users(settings.board_users_file))
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, access, version))


async def _serve(settings: BoardSettings, access: Access, version: str) -> None:
    window_us = round(settings.board_window_s * 1_000_000)
    board = Board(
        Window(window_us, settings.board_max_calls),
        Ring(secrets.token_hex(4), _RING_US),
        pbxs=settings.pbxs,
        target_s=settings.board_target_s,
        time_zone=settings.time_zone,
        now_us=now_us,
    )
    stream = Stream(board)
    reader = Reader(settings, settings.pbxs, board, window_us)

    async def events_of(pbx: str, agent: str, since_us: int) -> list[Event]:
        return await agent_events(settings, pbx, agent, since_us)

    def readiness() -> Readiness:
        kafka_at_us = board.freshness.kafka_at_us
        return Readiness(
            board.ready,  # also while Kafka is away: the pages show it, and an old picture in grey is better than none
            {
                "board": {
                    "fault": reader.fault,
                    "kafka_age_s": None if kafka_at_us is None else round(kafka_age_s(board), 3),
                    "lag_records": reader.lag,
                    "calls": len(board.window.calls),
                    "agents": len(board.window.agents),
                    "broken_documents": len(board.window.broken),
                    "crowded_out_calls": board.window.crowded_out,
                }
            },
        )

    with listening(settings.host, settings.port, "port") as sock:
        bound_sending(sock)
        management = build_management(
            readiness, board_registry(board, stream, access, lambda: reader.lag, version)
        )
        pages = Server(server_config(build_app(board, stream, access, events_of, management)))
        serving = asyncio.create_task(pages.serve([sock]))
        await started(pages)
        log.info("board started", version=version, port=sock.getsockname()[1], pbxs=",".join(settings.pbxs))
        working = [asyncio.create_task(reader.run(now_us)), asyncio.create_task(_tick(board, stream))]
        try:
            await _stopped(working)
        finally:
            stream.close()
            pages.should_exit = True
            for task in working:
                task.cancel()
            await asyncio.wait([serving, *working])
    log.info("board stopped")


def bound_sending(sock: socket.socket, unread_ms: int = _UNREAD_MS) -> None:
    """Bound what the kernel holds for a reader who takes nothing, and for how long. Connections inherit it from the listener."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread_ms)


async def _tick(board: Board, stream: Stream) -> None:
    while True:
        if board.tick() is not None:
            stream.publish()
        await asyncio.sleep(_FRAME_S)


async def _stopped(working: "list[asyncio.Task[None]]") -> None:
    """Return at SIGTERM or SIGINT; raise what ends one of *working*."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, *working], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
