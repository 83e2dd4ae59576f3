"""Read what the services have published, and what they have read, for `verify`."""

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.engine.access import group_of
from consumers.engine.changelog import Changelogs
from consumers.engine.lag import read_bounds, read_lag
from consumers.explain.verify import AGENT_INPUTS, DOCUMENTS, INPUTS, Records, Verdict, Verification
from consumers.settings import Settings
from voipex.errors import BridgeError
from voipex.partitioner import partition_for_key
from voipex.topics import CALL_EVENTS, Topic, TopicSpec

Progress = Callable[[str], None]

CLIENT_ID: Final = "voipex-verify"


async def verify(settings: Settings, progress: Progress = lambda _: None) -> Verdict:
    """
    Compare the documents of every PBX of the settings.

    Raises:
        TopicMismatch: topics are missing or have another number of partitions.
        KafkaUnreachable: with the cause.
        BridgeError: there is no folder for temporary files.
    """
    verdict = Verdict()
    for pbx in settings.pbxs:
        with _temporary_folder() as folder:
            records = Records(Path(folder) / "records.sqlite", pbx)
            try:
                verification = await _collected(settings, pbx, records, progress)
                verification.run(verdict, progress)
            finally:
                records.close()
    return verdict


def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    try:
        return tempfile.TemporaryDirectory(prefix="voipex-verify-")
    except OSError as error:
        raise BridgeError(
            f"no folder for temporary files ({error.strerror or error}): set TMPDIR to one that can be written"
        ) from error


async def _collected(settings: Settings, pbx: str, records: Records, progress: Progress) -> Verification:
    topics = [topic for topic in settings.topics() if topic.name.startswith(f"{pbx}.")]
    committed: dict[tuple[TopicSpec, int], int | None] = {}
    for service, inputs in (("timelines", (CALL_EVENTS,)), ("agents", AGENT_INPUTS)):  # before the documents
        mine = _of(topics, inputs)
        kinds = {topic.name: topic.kind for topic in mine}
        for (name, number), lag in (await read_lag(settings, group_of(service), mine)).items():
            committed[kinds[name], number] = lag.committed
    for kinds_read in (DOCUMENTS, INPUTS):
        bounds = await read_bounds(settings, _of(topics, kinds_read), CLIENT_ID)
        changelogs = Changelogs(settings, CLIENT_ID)
        for partition, (begin, end) in bounds.items():
            progress(f"{pbx}: reading {partition}")
            records.begins_at(partition, begin)
            if begin < end:
                async for read, _ in changelogs.read(partition, begin, end):
                    records.add(partition, read)
    records.index()
    return Verification(
        pbx,
        records,
        CallProjection(
            ringing_limit_s=settings.ringing_limit_s,
            waiting_limit_s=settings.waiting_limit_s,
            talking_limit_s=settings.talking_limit_s,
        ),
        AgentProjection(settings.time_zone),
        committed,
        partial(_partition_of, topics[0].partitions),
    )


def _of(topics: Iterable[Topic], kinds: Iterable[TopicSpec]) -> list[Topic]:
    wanted = set(kinds)
    return [topic for topic in topics if topic.kind in wanted]


def _partition_of(partitions: int, key: str) -> int:
    return partition_for_key(key.encode(), partitions)
