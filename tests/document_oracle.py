"""The oracle: computes the expected documents by a batch fold of the event topics and compares them with the published ones."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from bridge.ops import reader
from bridge.ops.reader import ConsumerRecord
from consumers.agents.projection import AgentProjection
from consumers.calls.events import call_event
from consumers.calls.projection import timeline
from consumers.explain.published import verify
from consumers.settings import Settings
from tests.waiting import WITHIN_S, eventually
from voipex.events import Event
from voipex.kafka.settings import KafkaSettings
from voipex.timestamps import parse_rfc3339
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_LINES,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_TIMELINES,
    topic_name,
)

Json = dict[str, Any]


def read(bootstrap_servers: str, pbx: str, *kinds: Any) -> dict[Any, list[ConsumerRecord]]:
    """All committed records of these topics, by kind."""
    settings = KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)

    async def all_of() -> dict[Any, list[ConsumerRecord]]:
        return {kind: [each async for each in reader.read(settings, topic_name(pbx, kind))] for kind in kinds}

    return asyncio.run(all_of())


def await_published(
    bootstrap_servers: str,
    pbx: str,
    within_s: float = WITHIN_S,
    forgotten: Mapping[Any, Sequence[ConsumerRecord]] | None = None,
    state: Callable[[], object] = str,
) -> None:
    """
    Wait until the documents are as expected; see `differences`. `state`: of the services, shown with the differences that remain.

    Raises:
        AssertionError: the differences that remain at the end.
    """
    found: list[str] = []

    def is_published() -> bool:
        found[:] = differences(bootstrap_servers, pbx, forgotten)
        return not found

    eventually(
        is_published,
        lambda: "\n".join((f"{len(found)} differences:", *found[:10], str(state()))),
        within_s,
        every_s=0.3,
    )


def assert_verified(bootstrap_servers: str, pbx: str, partitions: int = 3) -> dict[str, int]:
    """
    `voipex-consumers verify` finds every document comparable and equal. Call it once everything is published. Returns how many there are, for
    the figures of a test.
    """
    settings = Settings(kafka_bootstrap_servers=bootstrap_servers, pbxs=(pbx,), topic_partitions=partitions)
    verdict = asyncio.run(verify(settings))

    assert verdict.to_json()["differences"] == []
    assert verdict.not_comparable == {}
    assert verdict.equal.total() > 0
    return {
        **{f"{what} equal": number for what, number in verdict.equal.items()},
        "different": verdict.different.total(),
    }


def differences(
    bootstrap_servers: str, pbx: str, forgotten: Mapping[Any, Sequence[ConsumerRecord]] | None = None
) -> list[str]:
    """
    Compare the documents with a batch fold of the event topics; find revisions that were doubled or left out.

    `forgotten`: by kind, records that were folded and that their topic may have deleted since.
    """
    found = read(
        bootstrap_servers,
        pbx,
        CALL_EVENTS,
        AGENT_EVENTS,
        AGENT_ACTIVITY,
        AGENT_LINES,
        CALL_TIMELINES,
        AGENT_STATUS,
    )
    for kind, records in (forgotten or {}).items():
        there = {(each.partition, each.offset) for each in found[kind]}
        found[kind] += [each for each in records if (each.partition, each.offset) not in there]
    return [
        *_revisions(found[CALL_TIMELINES]),
        *_revisions(found[AGENT_STATUS]),
        *call_differences(pbx, found),
        *_agents(pbx, found),
    ]


def _revisions(documents: Sequence[ConsumerRecord]) -> Iterator[str]:
    last: dict[bytes, int] = {}
    for each in documents:
        key = each.key or b""
        deleted = each.value is None
        revision = last.get(key, 0) + 1 if deleted else orjson.loads(each.value or b"null")["revision"]
        if revision != last.get(key, 0) + 1:
            yield f"{each.topic} {key!r}: revision {revision} after {last.get(key, 0)}"
        last[key] = revision


def _latest(documents: Sequence[ConsumerRecord]) -> dict[str, Json]:
    return {(each.key or b"").decode(): orjson.loads(each.value or b"null") for each in documents}


def call_differences(pbx: str, found: dict[Any, list[ConsumerRecord]]) -> Iterator[str]:
    sent: dict[str, list[Event]] = {}
    for each in found[CALL_EVENTS]:
        sent.setdefault((each.key or b"").decode(), []).append(Event.model_validate_json(each.value or b""))
    published = _latest(found[CALL_TIMELINES])
    for call_id, its_events in sent.items():
        document = published.get(call_id)
        if document is None:
            yield f"call {call_id}: not published"
            continue
        as_of_us = parse_rfc3339(document["updated_at"])
        expected = timeline(pbx, call_id, [call_event(each) for each in its_events], as_of_us)
        assert expected is not None
        yield from _compared(
            f"call {call_id}", document, orjson.loads(expected.model_dump_json(by_alias=True))
        )
        # The topic may have copies of an event; the document has each event once.
        document_ids = [each["event_id"] for each in document["events"]]
        sent_ids = {each.event_id for each in its_events}
        if sorted(document_ids) != sorted(sent_ids):
            yield f"call {call_id}: {len(document_ids)} events for {len(sent_ids)} of {len(its_events)} records"


def _agents(pbx: str, found: dict[Any, list[ConsumerRecord]]) -> Iterator[str]:
    projection = AgentProjection()
    states: dict[str, Any] = {}
    for kind in (AGENT_EVENTS, AGENT_ACTIVITY, AGENT_LINES):
        for each in found[kind]:
            key = (each.key or b"").decode()
            state = states.get(key) or projection.initial_state(pbx, key)
            states[key] = projection.fold(state, kind, each.value or b"")
    published = _latest(found[AGENT_STATUS])
    for key, state in states.items():
        document = published.get(key)
        as_of_us = state.touched_us if document is None else parse_rfc3339(document["updated_at"])
        _, produced = projection.emit(state, as_of_us)
        expected = [orjson.loads(each.value or b"null") for each in produced if each.kind == AGENT_STATUS]
        if document is None:
            if expected not in ([], [None]):
                yield f"agent {key}: not published"
            continue
        if not expected:
            yield f"agent {key}: published, though it has no status"
            continue
        yield from _compared(f"agent {key}", document, expected[0] or {})


def _compared(what: str, document: Json, expected: Json) -> Iterator[str]:
    for name in sorted(document.keys() | expected.keys()):
        if name not in {"revision", "updated_at"} and document.get(name) != expected.get(name):
            yield f"{what}: {name} is {document.get(name)}, should be {expected.get(name)}"
