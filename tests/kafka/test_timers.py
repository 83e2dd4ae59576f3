"""Timers of idle calls on a real broker: they fire at their deadline, but not before the input up to it has been read."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.http.receipts import ReceiptClock
from consumers.calls.projection import CallProjection
from consumers.engine.metrics import Metrics
from consumers.engine.task import IDLE_COMMIT_S
from consumers.engine.worker import Worker
from consumers.settings import Settings
from tests import factories
from tests.kafka.conftest import Broker, create_topics
from tests.kafka.engine import all_running, read, running, settings
from tests.traffic import write
from tests.waiting import WITHIN_S, async_eventually
from voipex.normalize import normalize
from voipex.records import Record, encode
from voipex.timestamps import parse_rfc3339
from voipex.topics import CALL_TIMELINES, topic_name
from voipex.webhook import parse

SECOND_US = 1_000_000
LIMIT_S = 180.0

Json = Mapping[str, Any]


class Clock:
    """Moved by hand; stands still otherwise."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us


def event(pbx: str, call: str, name: str, at_us: int, number: int = 0) -> Record:
    body = factories.body(EventName=name, UniqueId=call)
    receipt = ReceiptClock(lambda: at_us * 1000, seed=b"%d" % number).receipt()
    return encode(normalize(parse(body), pbx, receipt), at_us // 1000, 1)


async def documents_of(kafka: Broker, pbx: str, call: str) -> list[Json]:
    """All documents of a call."""
    return [
        json.loads(each.value or b"null")
        for each in await read(kafka, topic_name(pbx, CALL_TIMELINES))
        if each.key == call.encode()
    ]


async def until_status(kafka: Broker, pbx: str, call: str, status: str, within_s: float = WITHIN_S) -> None:
    found: list[Json] = []

    async def is_it() -> bool:
        found[:] = await documents_of(kafka, pbx, call)
        return bool(found) and found[-1]["status"] == status

    await async_eventually(is_it, lambda: found, within_s)


def timelines(config: Settings, clock: Any = None) -> Worker[Any]:
    projection = CallProjection(ringing_limit_s=config.ringing_limit_s)
    return Worker(projection, config, Metrics("test"), *([clock] if clock is not None else []))


@pytest.mark.anyio
async def test_an_idle_call_becomes_stale_by_the_clock(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """With the real clock and a limit of two seconds. The document has the deadline's time, whenever the timer fires."""
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    config = settings(kafka, tmp_path, pbx, ringing_limit_s=2.0)

    async with running(worker := timelines(config)):
        await all_running(worker, 1)
        at_us = time.time_ns() // 1000
        await write(config, [event(pbx, "1.1", "Ringing", at_us)])
        # Nothing else wakes the task before it commits its idle positions.
        await until_status(kafka, pbx, "1.1", "stale", within_s=IDLE_COMMIT_S)

    ringing, stale = await documents_of(kafka, pbx, "1.1")
    assert ringing["status"] == "ringing"
    assert stale["ended_by"] == "timeout"
    assert parse_rfc3339(stale["ended_at"]) == at_us + 2 * SECOND_US
    assert parse_rfc3339(stale["updated_at"]) >= at_us + 2 * SECOND_US


@pytest.mark.anyio
@pytest.mark.parametrize("cache", ["present", "lost"])
async def test_overdue_timers_fire_only_after_the_inputs_are_read(
    kafka: Broker, pbx: str, tmp_path: Path, cache: str
) -> None:
    """
    Two calls ring when the service stops; it starts again after their deadline. One is still ringing and becomes stale. The other was
    answered in time, but its answer follows two batches of other calls: it must never be published as stale.
    """
    await create_topics(kafka.bootstrap_servers, pbx, 1)
    clock = Clock(time.time_ns() // 1000)
    began_us = clock.now_us
    config = settings(kafka, tmp_path / "state", pbx, ringing_limit_s=LIMIT_S)
    async with running(worker := timelines(config, clock)):
        await all_running(worker, 1)
        await write(config, [event(pbx, call, "Ringing", began_us) for call in ("1.1", "1.2")])
        for call in ("1.1", "1.2"):
            await until_status(kafka, pbx, call, "ringing")
    others = [event(pbx, f"2.{number}", "Hangup", began_us + SECOND_US, number) for number in range(2500)]
    await write(config, others)
    await write(config, [event(pbx, "1.2", "Answered", began_us + 2 * SECOND_US)])
    await write(config, [event(pbx, "1.3", "Ringing", began_us + 2 * SECOND_US)])
    await write(config, others)  # copies
    await write(config, [event(pbx, "1.3", "Answered", began_us + 3 * SECOND_US)])
    clock.now_us += round(2 * LIMIT_S * SECOND_US)

    if cache == "lost":
        config = settings(kafka, tmp_path / "other", pbx, ringing_limit_s=LIMIT_S)
    async with running(worker := timelines(config, clock)):
        await until_status(kafka, pbx, "1.1", "stale")
        await until_status(kafka, pbx, "1.3", "talking")

    statuses = {
        call: [each["status"] for each in await documents_of(kafka, pbx, call)]
        for call in ("1.1", "1.2", "1.3")
    }
    assert statuses == {
        "1.1": ["ringing", "stale"],
        "1.2": ["ringing", "talking"],
        "1.3": ["ringing", "talking"],
    }
