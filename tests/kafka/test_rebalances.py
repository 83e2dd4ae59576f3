"""A member of the consumer group that stops during a rebalance."""

import asyncio
import signal
from pathlib import Path

import pytest

from consumers.calls.projection import CallProjection
from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from tests.kafka.conftest import Broker, create_topics, settings_of
from tests.kafka.engine import settings
from tests.processes import ConsumerProcess
from tests.waiting import async_eventually
from voipex.kafka.admin import admin_client

SESSION_S = 30.0


@pytest.mark.anyio
async def test_sigterm_in_a_rebalance_does_not_await_frozen_members(
    kafka: Broker, pbx: str, tmp_path: Path
) -> None:
    """The rebalance cannot end before the frozen member's session expires; SIGTERM must not wait for that."""
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    frozen = ConsumerProcess(
        tmp_path, "timelines", kafka.bootstrap_servers, pbx, 1, VOIPEX_SESSION_TIMEOUT_S=str(SESSION_S)
    )
    # Short: a client that abandons its JoinGroup has no member id to leave with, so the group expects it until its session expires.
    config = settings(kafka, tmp_path / "other", pbx, session_timeout_s=3)
    worker = Worker(CallProjection(), config, Metrics("test"))

    with frozen.start():
        await asyncio.to_thread(frozen.await_ready)
        frozen.send_signal(signal.SIGSTOP)
        working = asyncio.create_task(worker.run())
        await async_eventually(lambda: _is_rebalancing(kafka, worker.group))
        worker.stop()
        done, _ = await asyncio.wait({working}, timeout=SESSION_S / 2)
        frozen.send_signal(signal.SIGCONT)
        await asyncio.wait({working})
        # Otherwise the tests that follow would wait for its session to expire.
        await asyncio.to_thread(frozen.stop)

    assert done == {working}, "it waited for the frozen member's session"


async def _is_rebalancing(kafka: Broker, group: str) -> bool:
    async with admin_client(settings_of(kafka.bootstrap_servers), 20) as admin:
        [answer] = await admin.describe_consumer_groups([group])
    state: str = answer.groups[0][2]
    return state == "PreparingRebalance"
