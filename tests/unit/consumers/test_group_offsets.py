"""What the group's coordinator answers about offsets; aiokafka's own coordinator, without a network."""

import asyncio
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka import errors
from aiokafka.consumer.group_coordinator import GroupCoordinator

from consumers.engine.group import _heed_refused_offsets

CALLS: Any = aiokafka.TopicPartition("voipex.call.events.v1", 0)
LOADED = SimpleNamespace(topics=[(CALLS.topic, [(0, 17, "", 0)])], error_code=0)


class Coordinator(GroupCoordinator):
    """Answers as told."""

    def __init__(self, *answers: Any) -> None:
        self.group_id = "voipex-timelines"
        self._retry_backoff_ms = 0
        self._answers = list(answers)
        self.known = 0
        self.coordinator_id: int | None = None

    async def ensure_coordinator_known(self) -> None:
        if self.coordinator_id is None:
            self.known, self.coordinator_id = self.known + 1, 1

    async def _send_req(self, request: Any) -> Any:
        del request
        return self._answers.pop(0)

    def coordinator_dead(self) -> None:
        self.coordinator_id = None


def committed(coordinator: Any) -> Any:
    client = SimpleNamespace(_coordinator=coordinator)
    _heed_refused_offsets(client)
    _heed_refused_offsets(client)
    return asyncio.run(coordinator.fetch_committed_offsets([CALLS]))


@pytest.mark.parametrize(
    ("code", "coordinators"),
    [(errors.GroupLoadInProgressError.errno, 1), (errors.NotCoordinatorForGroupError.errno, 2)],
)
def test_a_coordinator_that_cannot_say_yet_is_asked_again(code: int, coordinators: int) -> None:
    """To take that for "never committed" halts a partition that has lost nothing."""
    coordinator = Coordinator(SimpleNamespace(topics=[], error_code=code), LOADED)

    assert committed(coordinator)[CALLS].offset == 17
    assert coordinator.known == coordinators


def test_who_has_no_right_on_the_group_is_told() -> None:
    code = errors.GroupAuthorizationFailedError.errno

    with pytest.raises(errors.GroupAuthorizationFailedError, match="voipex-timelines"):
        committed(Coordinator(SimpleNamespace(topics=[], error_code=code)))


def test_what_was_never_committed_is_still_not_known() -> None:
    coordinator = Coordinator(SimpleNamespace(topics=[(CALLS.topic, [(0, -1, "", 0)])], error_code=0))

    assert committed(coordinator) == {}
