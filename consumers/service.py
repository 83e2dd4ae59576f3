"""
The composition root of the consumers: makes workers and the management port from the settings, starts, watches and stops them.

A third consumer is a package with a projection, and a line in `SERVICES`.
"""

import asyncio
import contextlib
import gc
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvloop

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.engine.metrics import Metrics
from consumers.engine.projection import Projection
from consumers.engine.worker import Worker
from consumers.settings import MANAGEMENT_PORTS, Settings
from voipex.errors import BridgeError
from voipex.service.logging import cause_of, get_logger
from voipex.service.management import Readiness, build_management
from voipex.service.server import Server, listening, server_config, started

SERVICES: Final[dict[str, Callable[[Settings], Projection[Any]]]] = {
    "timelines": lambda settings: CallProjection(
        ringing_limit_s=settings.ringing_limit_s,
        waiting_limit_s=settings.waiting_limit_s,
        talking_limit_s=settings.talking_limit_s,
    ),
    "agents": lambda settings: AgentProjection(settings.time_zone),
}

_OPEN_FILES: Final = 65_536

log = get_logger("consumers")


def run(name: str, settings: Settings, version: str) -> None:
    """Run `timelines`, `agents` or `all` until SIGTERM or SIGINT. Raises BridgeError when it cannot go on."""
    _raise_file_limit()
    gc.freeze()  # imported modules are never collected
    gc.set_threshold(20_000, 20, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(name, settings, version))


def _raise_file_limit() -> None:
    """Allow as many open files as the host does: a task holds six, so the usual 1,024 are reached with 14 PBXs of 12 partitions."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(name: str, settings: Settings, version: str) -> None:
    metrics = Metrics(version)
    names = list(SERVICES) if name == "all" else [name]
    workers = [Worker(SERVICES[each](settings), settings, metrics) for each in names]
    metrics.watch(lambda: [each.snapshot() for each in workers])

    def readiness() -> Readiness:
        return Readiness(
            all(each.ready for each in workers), {each.service: each.describe() for each in workers}
        )

    def stalled_because() -> str | None:
        return next((reason for each in workers if (reason := each.stalled_because) is not None), None)

    host = settings.management_host or settings.host
    port = MANAGEMENT_PORTS[name] if settings.management_port is None else settings.management_port
    with listening(host, port, "management_port") as sock:
        management = Server(server_config(build_management(readiness, metrics.registry, stalled_because)))
        serving = asyncio.create_task(management.serve([sock]))
        await started(management)
        log.info(
            "service started",
            version=version,
            services=",".join(names),
            management_port=sock.getsockname()[1],
            pbxs=",".join(settings.pbxs),
        )
        try:
            with _stopped_by_signals(workers):
                await _supervise(workers)
        finally:
            management.should_exit = True
            await asyncio.wait({serving})
    log.info("service stopped")


async def _supervise(workers: list[Worker[Any]]) -> None:
    """Run until all have stopped. When one fails, stop the others; each finishes its transactions."""
    working = [asyncio.create_task(each.run(), name=each.service) for each in workers]
    done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
    for each in workers:
        each.stop()
    await asyncio.wait(working)
    for task in done:
        error = task.exception()
        if error is not None:
            log.error("service failed", service=task.get_name(), error=cause_of(error))
            raise (
                error if isinstance(error, BridgeError) else BridgeError(f"{task.get_name()} failed")
            ) from error


@contextlib.contextmanager
def _stopped_by_signals(workers: list[Worker[Any]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for each in workers:
            each.stop()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
