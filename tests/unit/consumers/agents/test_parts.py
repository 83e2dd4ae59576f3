"""The state of an agent in parts, as the engine keeps it: segments are read only when something comes late, and none is left behind."""

from collections.abc import Sequence
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.agents import memory
from consumers.agents.projection import AgentProjection
from consumers.engine.batch import Batch, BatchResult
from consumers.engine.projection import PartsNeeded
from consumers.engine.records import InputRecord, PartKey, TaskId, changelog_key
from tests.unit.consumers.agent_reference import reference
from tests.unit.consumers.agent_traffic import (
    DAY,
    HOUR,
    MONDAY,
    PRAGUE,
    SECOND,
    Json,
    Record,
    all_parts,
    event,
    leg,
    traffic,
)
from tests.unit.consumers.tally import FakeRecord, folded, resumed
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_STATUS, topic_name

STATUS = topic_name("voipex", AGENT_STATUS)
STATE = topic_name("voipex", AgentProjection.changelog)


class Service:
    """A task with a changelog that is compacted at once."""

    def __init__(self) -> None:
        self.changelog: dict[str | PartKey, bytes] = {}
        self.statuses: list[Json | None] = []
        self.written: list[int] = []
        """Bytes written to the changelog, by batch."""
        self.reads: list[str] = []
        """Names of the parts that were read."""
        self.restart()

    def restart(self) -> None:
        self._batch = Batch(PRAGUE, TaskId("voipex", 0), 1)

    def run(self, records: Sequence[Record], as_of_us: int) -> None:
        """Fold a batch as of a moment."""
        headers = (("ce_time", format_rfc3339(as_of_us).encode()),)
        inputs = [
            InputRecord(each.kind, FakeRecord(n, b"janecek", each.value, as_of_us // 1000, headers))
            for n, each in enumerate(records)
        ]
        states = {str(key): value for key, value in self.changelog.items() if key == "janecek"}
        result = folded(self._batch, inputs, states)
        while result.waiting:
            needed = result.waiting["janecek"].names
            self.reads += needed
            loaded = {name: self.changelog[PartKey("janecek", name)] for name in needed}
            resumed(self._batch, result, {"janecek": loaded})
        self._write(result)

    def _write(self, result: BatchResult) -> None:
        assert (result.failures, result.dead_letters) == ([], 0)
        self.written.append(0)
        for (topic, partition), records in result.outputs.items():
            assert partition == 0
            for each in records:
                if topic == STATUS:
                    self.statuses.append(orjson.loads(each.value or b"null"))
                if topic == STATE:
                    self.written[-1] += len(each.key or b"") + len(each.value or b"")
                    self._keep(changelog_key(each.key or b""), each.value)

    def _keep(self, key: str | PartKey, value: bytes | None) -> None:
        if value is None:
            self.changelog.pop(key, None)
        else:
            self.changelog[key] = value

    def names(self) -> set[str]:
        """Names of the parts in the changelog."""
        return {key.name for key in self.changelog if isinstance(key, PartKey)}

    def status(self) -> Json | None:
        shown = self.statuses[-1] if self.statuses else None
        return shown and {name: shown[name] for name in shown if name not in {"revision", "updated_at"}}


def named_parts(service: Service) -> set[str]:
    """The parts that the value names, directly or by an index."""
    value = service.changelog["janecek"]
    try:
        PRAGUE.decode(value)
        at_hand: set[str] = set()
    except PartsNeeded as needed:
        at_hand = set(needed.names)
    parts = {name: service.changelog[PartKey("janecek", name)] for name in at_hand}
    return at_hand | {each.part for each in PRAGUE.decode(value, parts).segments}


@given(traffic(max_size=30), st.integers(0, 1 << 32), st.sampled_from([1, 2, 24]))
@settings(deadline=None)
def test_any_order_split_and_restart_gives_the_same_status(
    records: list[Record], seed: int, segment_lines: int
) -> None:
    """With small segments, so that most of what comes reads and replays some. The changelog has the parts that are named, and no other."""
    random = Random(seed)
    as_of_us = max([MONDAY, *(record.at_us for record in records)])
    shuffled = records + records[: random.randrange(5)]
    random.shuffle(shuffled)
    service = Service()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "SEGMENT_LINES", segment_lines)
        while shuffled:
            batch = [shuffled.pop() for _ in range(min(len(shuffled), random.choice([1, 1, 3, 10])))]
            latest_us = max(each.at_us for each in batch) + random.choice([0, SECOND, HOUR, DAY])
            service.run(batch, min(latest_us, as_of_us))
            assert service.names() == named_parts(service)
            if random.random() < 0.3:
                service.restart()
        if records:
            service.run(records[:1], as_of_us)

    assert service.status() == reference(records, as_of_us)


def day_of_calls(number: int, calls: int) -> list[Record]:
    records = []
    for n in range(calls):
        at_us = MONDAY + number * DAY + n * 120 * SECOND
        call_id = f"{at_us // SECOND}.{n}"
        fields: Json = {"queue": "Sales", "ring": at_us}
        answered = {**fields, "answered": at_us + 10 * SECOND}
        ended = {**answered, "ended": at_us + 100 * SECOND, "result": "completed"}
        records += [
            leg(call_id, revision=1, **fields),
            leg(call_id, revision=2, **answered),
            leg(call_id, revision=3, **ended),
        ]
    return sorted(records, key=lambda record: record.at_us)


@pytest.fixture(scope="module")
def week() -> Service:
    """An agent who has taken 200 calls a day for eight days; each record is a batch."""
    service = Service()
    service.run([event(MONDAY - HOUR, "login", "Sales")], MONDAY - HOUR)
    for number in range(8):
        for record in day_of_calls(number, 200):
            service.run([record], record.at_us)
    return service


def test_a_record_writes_at_most_4_kib_in_the_median(week: Service) -> None:
    day = sorted(week.written[-600:])

    assert day[300] < 4096
    assert day[-1] < 20_000


def test_what_comes_in_order_reads_no_segment(week: Service) -> None:
    """But for what a new process reads once."""
    assert [name for name in week.reads if name.isdigit()] == []


def test_what_comes_late_reads_the_segments_since(week: Service) -> None:
    end_us = MONDAY + 7 * DAY + 200 * 120 * SECOND
    week.reads.clear()

    week.run([event(end_us - HOUR, "wrapup")], end_us)
    an_hour = {name for name in week.reads if name.isdigit()}

    assert 1 <= len(an_hour) <= 3
    assert an_hour.isdisjoint(week.names())
    assert week.names() == named_parts(week)


def test_a_part_is_named_by_bytes_that_no_key_has() -> None:
    part = PartKey("line:\u00ff/17", "index 2026-03-02")

    assert changelog_key(part.encode()) == part
    assert changelog_key("line:\u00ff/17".encode()) == "line:\u00ff/17"


def test_a_state_says_which_parts_it_needs() -> None:
    state = PRAGUE.initial_state("voipex", "janecek")
    for record in [*day_of_calls(0, 3), *day_of_calls(1, 3)]:
        state, _ = PRAGUE.emit(PRAGUE.fold(state, record.kind, record.value), record.at_us)
    parts = all_parts(state)
    state, written = PRAGUE.take_parts(state)

    assert written == parts
    with pytest.raises(PartsNeeded) as at_hand:
        PRAGUE.decode(PRAGUE.encode(state))
    assert set(at_hand.value.names) == {name for name in parts if not name.isdigit()}
    with pytest.raises(PartsNeeded) as late:
        PRAGUE.fold(state, event(MONDAY, "wrapup").kind, event(MONDAY, "wrapup").value)
    assert set(late.value.names) == set(parts)
