"""Kafka -> board: the topics of timelines and agent status, all partitions, committed records only, without a group."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from aiokafka.errors import KafkaError

from consumers.board.board import Board
from consumers.board.day import EventsUnreadable
from consumers.engine.consumer_client import (
    AIOKafkaTopicPartition,
    new_consumer,
    start_consumer,
    stop_consumer,
)
from voipex.events import Event
from voipex.kafka.settings import KafkaSettings
from voipex.partitioner import partition_for_key
from voipex.service.logging import get_logger
from voipex.topics import AGENT_EVENTS, AGENT_STATUS, CALL_TIMELINES, topic_name

_POLL_MS: Final = 100
_RECORDS: Final = 2000  # per poll, so that the event loop serves readers meanwhile
_ENDS_EVERY_S: Final = 2.0
_ENDS_TIMEOUT_S: Final = 8.0
_RETRY_S: Final = 2.0
_EVENTS_TIMEOUT_S: Final = 15.0

log = get_logger("board")


class Reader:
    """Reads for one board until stopped; a fault of Kafka is logged once, and reading goes on where it ended."""

    def __init__(self, settings: KafkaSettings, pbxs: tuple[str, ...], board: Board, window_us: int) -> None:
        self._settings = settings
        self._topics = {
            topic_name(pbx, spec): (pbx, spec) for pbx in pbxs for spec in (CALL_TIMELINES, AGENT_STATUS)
        }
        self._board = board
        self._window_us = window_us
        self._positions: dict[Any, int] = {}
        self.fault: str | None = "has not connected yet"
        """Why the board does not read now; None while it does."""
        self.lag = 0
        """Records to the ends of the topics, as they were when last asked for."""

    async def run(self, now_us: Callable[[], int]) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self._read(now_us)
            except (KafkaError, OSError, TimeoutError, _Waiting) as error:
                fault = str(error) or type(error).__name__
                if fault != self.fault:
                    log.warning("topics not readable", detail=fault)
                self.fault = fault
            await asyncio.sleep(_RETRY_S)

    async def _read(self, now_us: Callable[[], int]) -> None:
        client = new_consumer(
            self._settings, "voipex-board", None, fetch_max_wait_ms=_POLL_MS, max_poll_records=_RECORDS
        )
        try:
            await start_consumer(client)
            partitions = await self._partitions(client)
            client.assign(partitions)
            await self._seek(client, partitions, now_us())
            if self.fault is not None:
                log.info("reading topics", partitions=len(partitions))
            self.fault = None
            asking = asyncio.create_task(self._watch_ends(client, partitions, now_us))
            try:
                while not asking.done():
                    polled = await client.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS)
                    for partition, records in polled.items():
                        self._take(partition, records)
                    if not polled:
                        await asyncio.sleep(0)
                await asking
            finally:
                asking.cancel()
                await asyncio.wait({asking})
        finally:
            await stop_consumer(client)

    async def _partitions(self, client: Any) -> list[Any]:
        # All topics: a request that names a missing one creates it if auto.create.topics.enable is set.
        cluster = await client._client.fetch_all_metadata()  # noqa: SLF001 - `topics()` does not return the partitions
        missing = [name for name in self._topics if not cluster.partitions_for_topic(name)]
        if missing:
            raise _Waiting(f"topics are missing: {', '.join(missing)}; run: voipex-bridge topics apply")
        return [
            AIOKafkaTopicPartition(name, number)
            for name in self._topics
            for number in sorted(cluster.partitions_for_topic(name))
        ]

    async def _seek(self, client: Any, partitions: list[Any], now_us: int) -> None:
        """Go on where reading ended; at first the begin of the window for timelines, and the begin of the topic for agents."""
        begins = await client.beginning_offsets(partitions)
        ends = await client.end_offsets(partitions)
        since_ms = max(0, now_us - self._window_us) // 1000
        calls = [each for each in partitions if self._topics[each.topic][1] is CALL_TIMELINES]
        found = await client.offsets_for_times(dict.fromkeys(calls, since_ms))
        for each in partitions:
            begin, end = begins[each], ends[each]
            if each in calls:
                begin = end if found.get(each) is None else found[each].offset
            position = self._positions.get(each, begin)
            # Out of range: retention took it, or the topic was made anew.
            client.seek(each, position if begins[each] <= position <= end else begin)

    def _take(self, partition: Any, records: list[Any]) -> None:
        pbx, spec = self._topics[partition.topic]
        put = self._board.put_call if spec is CALL_TIMELINES else self._board.put_agent
        for record in records:
            if record.key is not None:
                put(pbx, record.key.decode(errors="replace"), record.value)
        self._positions[partition] = records[-1].offset + 1

    async def _watch_ends(self, client: Any, partitions: list[Any], now_us: Callable[[], int]) -> None:
        """Ask for the ends of the topics every two seconds: only who has read to them shows what is now."""
        while True:
            asked_us = now_us()
            async with asyncio.timeout(_ENDS_TIMEOUT_S):
                ends = await client.end_offsets(partitions)
            for _ in range(round(_ENDS_EVERY_S / 0.1)):
                self.lag = sum([max(0, ends[each] - await client.position(each)) for each in partitions])
                if not self.lag:
                    self._board.freshness.kafka_at_us = asked_us
                    self._board.ready = True
                    break
                await asyncio.sleep(0.1)
            await asyncio.sleep(_ENDS_EVERY_S)


class _Waiting(Exception):
    """Something that may come has not come yet; never leaves this module."""


async def agent_events(settings: KafkaSettings, pbx: str, agent: str, since_us: int) -> list[Event]:
    """
    Read the events of one agent since *since_us*, from its partition alone.

    Raises:
        EventsUnreadable: Kafka does not answer.
    """
    try:
        async with asyncio.timeout(_EVENTS_TIMEOUT_S):
            return await _agent_events(settings, pbx, agent, since_us)
    except (KafkaError, OSError, TimeoutError) as error:
        raise EventsUnreadable("Kafka does not give the events of the day") from error


async def _agent_events(settings: KafkaSettings, pbx: str, agent: str, since_us: int) -> list[Event]:
    client = new_consumer(settings, "voipex-board-day", None, fetch_max_wait_ms=_POLL_MS)
    events: list[Event] = []
    try:
        await start_consumer(client)
        name = topic_name(pbx, AGENT_EVENTS)
        cluster = await client._client.fetch_all_metadata()  # noqa: SLF001 - as above
        partitions = len(cluster.partitions_for_topic(name) or ())
        if not partitions:
            return []
        partition = AIOKafkaTopicPartition(name, partition_for_key(agent.encode(), partitions))
        client.assign([partition])
        end = (await client.end_offsets([partition]))[partition]
        found = (await client.offsets_for_times({partition: max(0, since_us // 1000)}))[partition]
        client.seek(partition, end if found is None else found.offset)
        while await client.position(partition) < end:
            for records in (await client.getmany(timeout_ms=_POLL_MS)).values():
                events.extend(_events_of(records, agent))
    finally:
        await stop_consumer(client)
    return events


def _events_of(records: Iterable[Any], agent: str) -> Iterator[Event]:
    for record in records:
        if record.key == agent.encode() and record.value is not None:
            with contextlib.suppress(ValueError):
                yield Event.model_validate_json(record.value)
