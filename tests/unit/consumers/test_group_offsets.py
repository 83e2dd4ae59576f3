"""raise_offset_fetch_errors: errors of a whole OffsetFetch response, with aiokafka's own coordinator and no network."""

from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka import errors
from aiokafka.consumer.group_coordinator import GroupCoordinator

from consumers.engine.consumer_client import raise_offset_fetch_errors

pytestmark = pytest.mark.anyio

CALLS: Any = aiokafka.TopicPartition("voipex.call.events.v1", 0)
LOADED = SimpleNamespace(topics=[(CALLS.topic, [(0, 17, "", 0)])], error_code=0)


class Coordinator(GroupCoordinator):
    """Answers with what the test has queued."""

    def __init__(self, *answers: Any) -> None:
        self.group_id = "voipex-timelines"
        self._retry_backoff_ms = 0
        self._answers = list(answers)
        self.lookups = 0
        self.coordinator_id: int | None = None

    async def ensure_coordinator_known(self) -> None:
        if self.coordinator_id is None:
            self.lookups, self.coordinator_id = self.lookups + 1, 1

    async def _send_req(self, request: Any) -> Any:
        del request
        return self._answers.pop(0)

    def coordinator_dead(self) -> None:
        self.coordinator_id = None


async def committed(coordinator: Any) -> Any:
    client = SimpleNamespace(_coordinator=coordinator)
    raise_offset_fetch_errors(client)
    raise_offset_fetch_errors(client)  # the second call changes nothing
    return await coordinator.fetch_committed_offsets([CALLS])


@pytest.mark.parametrize(
    ("code", "lookups"),
    [(errors.GroupLoadInProgressError.errno, 1), (errors.NotCoordinatorForGroupError.errno, 2)],
)
async def test_a_loading_or_moved_coordinator_is_asked_again(code: int, lookups: int) -> None:
    """Taken for "never committed", it would halt a task that has lost nothing."""
    coordinator = Coordinator(SimpleNamespace(topics=[], error_code=code), LOADED)

    assert (await committed(coordinator))[CALLS].offset == 17
    assert coordinator.lookups == lookups


async def test_a_missing_acl_on_the_group_is_raised() -> None:
    code = errors.GroupAuthorizationFailedError.errno

    with pytest.raises(errors.GroupAuthorizationFailedError, match="voipex-timelines"):
        await committed(Coordinator(SimpleNamespace(topics=[], error_code=code)))


async def test_an_offset_never_committed_is_not_returned() -> None:
    coordinator = Coordinator(SimpleNamespace(topics=[(CALLS.topic, [(0, -1, "", 0)])], error_code=0))

    assert await committed(coordinator) == {}
