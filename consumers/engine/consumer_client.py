"""What every aiokafka consumer of the engine needs: its settings, a correct `committed`, a bounded stop. Only adapters import this."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiokafka
from aiokafka import errors
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest

from voipex.kafka.clients import close_consumer, consumer_arguments, prepare_client
from voipex.kafka.settings import KafkaSettings

# aiokafka ships no types: its values are converted where they leave an adapter.
_AIOKafkaConsumer: Any = aiokafka.AIOKafkaConsumer
AIOKafkaTopicPartition: Any = aiokafka.TopicPartition

FETCH_BYTES: Final = 512 * 1024
"""Per partition and fetch, which is also the most that one poll returns of a partition."""
REQUEST_TIMEOUT_MS: Final = 30_000
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 5.0


def new_consumer(settings: KafkaSettings, client_id: str, group: str | None, **options: Any) -> Any:
    """Make a consumer, not started. It reads committed records only, commits nothing and never resets a position."""
    client = _AIOKafkaConsumer(
        **consumer_arguments(settings),
        client_id=client_id,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",  # `latest` loses records silently when offsets expire
        isolation_level="read_committed",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **options,
    )
    prepare_client(client._client)  # noqa: SLF001 - no public way
    return client


async def start_consumer(client: Any) -> None:
    """Start within START_TIMEOUT_S."""
    async with asyncio.timeout(START_TIMEOUT_S):
        await client.start()
        # A stop() before anything has been awaited raises CancelledError, which looks like our own cancellation.
        await asyncio.sleep(0)


async def stop_consumer(client: Any) -> None:
    """Stop within STOP_TIMEOUT_S; close its connections also if that fails."""
    await close_consumer(client, STOP_TIMEOUT_S)


def leave_when_stopped(client: Any) -> None:
    """Let `stop` leave the group, also as a static member: aiokafka would not, and the group would wait for the session to end."""
    if client._coordinator is not None:  # noqa: SLF001 - no public way
        client._coordinator._group_instance_id = None  # noqa: SLF001


def give_up_id_when_replaced(client: Any, on_replaced: Callable[[], None]) -> None:
    """
    Make a static member dynamic when the group does not know it any more, and call `on_replaced`. Its session has ended, or another process
    has the same id; those two would replace each other for ever.
    """
    coordinator = client._coordinator  # noqa: SLF001 - no public way
    send = coordinator._send_req  # noqa: SLF001

    async def watched(request: Any) -> Any:
        response = await send(request)
        if (
            isinstance(request, HeartbeatRequest | JoinGroupRequest)
            and response.error_code == errors.UnknownMemberIdError.errno
            and coordinator._group_instance_id is not None  # noqa: SLF001
        ):
            coordinator._group_instance_id = None  # noqa: SLF001
            on_replaced()
        return response

    coordinator._send_req = watched  # noqa: SLF001


def raise_offset_fetch_errors(client: Any) -> None:
    """
    Make `committed` raise, and so retry, an error of the whole OffsetFetch response.

    aiokafka ignores that error (versions 2 and later of the response): while the group coordinator moves or loads, `committed` would
    return None for every partition, and the restore would halt the task for lost offsets.
    """
    coordinator = client._coordinator  # noqa: SLF001 - no public way
    if getattr(coordinator, "_raises_offset_fetch_errors", False):
        return
    coordinator._raises_offset_fetch_errors = True  # noqa: SLF001
    send = coordinator._send_req  # noqa: SLF001

    async def checked(request: Any) -> Any:
        response = await send(request)
        if isinstance(request, OffsetFetchRequest) and getattr(response, "error_code", 0) != 0:
            error = errors.for_code(response.error_code)
            if error is errors.NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
            raise error(coordinator.group_id)
        return response

    coordinator._send_req = checked  # noqa: SLF001
