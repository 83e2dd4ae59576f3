"""What a member of the group owes the others, and what it does not wait for."""

import asyncio
import signal
import time
from pathlib import Path

from consumers.calls.projection import CallProjection
from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from tests.kafka.conftest import Broker, apply_topics, settings_of
from tests.kafka.engine import settings
from tests.processes import ConsumerProcess
from tests.waiting import async_eventually
from voipex.kafka.admin import _admin

SESSION_S = 30.0


def test_a_service_that_waits_for_a_frozen_member_stops_at_once_when_it_is_told(
    kafka: Broker, pbx: str, tmp_path: Path
) -> None:
    """The group lets nobody in before the frozen one's session has ended; SIGTERM must not wait for that."""
    apply_topics(kafka.bootstrap_servers, pbx, 1)
    frozen = ConsumerProcess(
        tmp_path, "timelines", kafka.bootstrap_servers, pbx, 1, VOIPEX_SESSION_TIMEOUT_S=str(SESSION_S)
    )

    with frozen.start():
        frozen.await_ready()
        frozen.send_signal(signal.SIGSTOP)
        stopped_after_s = asyncio.run(_join_and_stop(kafka, pbx, tmp_path))
        frozen.send_signal(signal.SIGCONT)
        frozen.terminate()  # else the tests that follow would have to wait for its session to end
        assert frozen.ended() == 0, frozen.log()

    assert stopped_after_s < SESSION_S / 2


async def _join_and_stop(kafka: Broker, pbx: str, folder: Path) -> float:
    # Short: whoever drops its join has no name yet to leave the group by, and is expected until its session ends.
    ours = settings(kafka, folder / "other", pbx, session_timeout_s=3)
    worker = Worker(CallProjection(), ours, Metrics("test"))
    working = asyncio.create_task(worker.run())
    await async_eventually(lambda: _is_rebalancing(kafka, worker.group))
    worker.stop()
    told_s = time.monotonic()
    await working
    return time.monotonic() - told_s


async def _is_rebalancing(kafka: Broker, group: str) -> bool:
    async with _admin(settings_of(kafka.bootstrap_servers), 20) as admin:
        [answer] = await admin.describe_consumer_groups([group])
    state: str = answer.groups[0][2]
    return state == "PreparingRebalance"
