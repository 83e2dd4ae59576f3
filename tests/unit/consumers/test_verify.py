"""`voipex-consumers verify`: published documents against the fold of the event topics."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.cli.main import app
from consumers.engine.records import ChangelogRecord, TopicPartition
from consumers.explain.published import verify
from consumers.explain.verify import (
    AGED_OUT,
    BEING_FOLDED,
    INPUTS,
    OTHER_RULES,
    FieldDifference,
    Records,
    Verdict,
    Verification,
)
from consumers.settings import Settings
from tests.unit.consumers.traces import lines_of, moment, scenario, scenario_names
from tests.unit.test_golden import TIME_ZONE, events_of, written
from voipex.errors import BridgeError, KafkaUnreachable
from voipex.timestamps import parse_rfc3339
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_TIMELINES,
    DEAD_LETTERS,
    TopicSpec,
    topic_name,
)

PBX = "voipex"


class Topics:
    """What is in the topics of one PBX with one partition each, as `written` by the bridge and the services."""

    def __init__(self, name: str = "M02") -> None:
        played = scenario(name)
        events = [each for each in events_of(lines_of(played)) if each[1].pbx == PBX]
        until_us = max(parse_rfc3339(moment(played["base"], each["as_of"])) for each in played["expect"])
        self.records: dict[str, list[ChangelogRecord]] = {}
        self.begins: dict[str, int] = {}
        self.committed: dict[str, int] = {}
        for each in written(PBX, events, until_us):
            self.write(each.topic, each.key, each.value, each.headers)

    def write(
        self, topic: str, key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes]] = ()
    ) -> None:
        records = self.records.setdefault(topic, [])
        records.append(ChangelogRecord(len(records), key, value, dict(headers)))

    def of(self, kind: TopicSpec) -> list[ChangelogRecord]:
        return self.records.setdefault(topic_name(PBX, kind), [])

    def newest(self, kind: TopicSpec) -> int:
        """Where the newest document of a topic is that was not deleted."""
        return max(place for place, each in enumerate(self.of(kind)) if each.value is not None)

    def change(self, kind: TopicSpec, **fields: Any) -> None:
        """Change fields of the newest document."""
        place = self.newest(kind)
        record = self.of(kind)[place]
        value = {**orjson.loads(record.value or b""), **fields}
        self.of(kind)[place] = record._replace(value=orjson.dumps(value))

    def age(self, kind: TopicSpec, number: int) -> None:
        """Let the first records leave their topic."""
        del self.of(kind)[:number]
        self.begins[topic_name(PBX, kind)] = number

    def commit(self, kind: TopicSpec, offset: int) -> None:
        self.committed[topic_name(PBX, kind)] = offset

    def verify(self, file: Path) -> Verdict:
        records = Records(file, PBX)
        for topic, of_topic in self.records.items():
            records.begins_at(TopicPartition(topic, 0), self.begins.get(topic, 0))
            records.add(TopicPartition(topic, 0), of_topic)
        records.index()
        committed = {
            (kind, 0): self.committed.get(topic_name(PBX, kind), 1 << 40)
            for kind in INPUTS
            if kind is not DEAD_LETTERS
        }
        verdict = Verdict()
        verification = Verification(
            PBX, records, CallProjection(), AgentProjection(TIME_ZONE), committed, lambda _: 0
        )
        verification.run(verdict)
        records.close()
        return verdict


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


def paths(verdict: Verdict, what: str) -> list[str]:
    return [one.path for each in verdict.differences if each.what == what for one in each.fields]


OF_ONE_PBX = [
    name for name in scenario_names() if any("pbx" not in each for each in scenario(name)["events"])
]


@pytest.mark.parametrize("name", OF_ONE_PBX)
def test_what_the_services_write_is_equal(name: str, file: Path) -> None:
    verdict = Topics(name).verify(file)

    assert verdict.differences == []
    assert verdict.not_comparable == {}
    assert verdict.equal.total() > 0


@pytest.mark.parametrize(
    ("kind", "fields", "what", "path"),
    [
        (CALL_TIMELINES, {"talk_s": 1.5}, "calls", "talk_s"),
        (CALL_TIMELINES, {"answered_by": ["999"]}, "calls", "answered_by"),
        (CALL_TIMELINES, {"cdr": {"extra": {"a": 1}}}, "calls", "cdr"),
        (AGENT_STATUS, {"state": "paused"}, "agents", "state"),
        (AGENT_STATUS, {"days": {}}, "agents", "days.2026-03-02"),
        (AGENT_ACTIVITY, {"result": "busy"}, "activity", "result"),
        (AGENT_ACTIVITY, {"removed": True}, "activity", "removed"),
    ],
)
def test_a_wrong_field_is_found(
    kind: TopicSpec, fields: dict[str, Any], what: str, path: str, file: Path
) -> None:
    topics = Topics()
    topics.change(kind, **fields)
    verdict = topics.verify(file)

    assert path in paths(verdict, what)
    assert verdict.different[what] == 1


def test_revision_and_moment_are_not_compared(file: Path) -> None:
    topics = Topics()
    topics.change(CALL_TIMELINES, revision=99)

    assert topics.verify(file).different.total() == 0


@pytest.mark.parametrize("kind", [CALL_TIMELINES, AGENT_STATUS])
def test_a_missing_document_is_found(kind: TopicSpec, file: Path) -> None:
    topics = Topics()
    key = topics.of(kind)[-1].key
    topics.write(topic_name(PBX, kind), key, None)
    verdict = topics.verify(file)

    assert [
        (each.key, each.fields[0].published) for each in verdict.differences if each.what != "activity"
    ] == [(key.decode(), None)]


def test_an_event_that_was_not_folded_is_found(file: Path) -> None:
    """Its offset was committed, and the document lacks it: it is lost."""
    topics = Topics()
    documents = topics.of(CALL_TIMELINES)
    last = [each for each in documents if each.key == documents[-1].key][-1]
    documents.remove(last)
    verdict = topics.verify(file)

    assert "updated_at" in paths(verdict, "calls")


def test_an_invented_event_is_found(file: Path) -> None:
    topics = Topics()
    topics.of(CALL_EVENTS).pop()

    assert paths(topics.verify(file), "calls") != []


def test_a_document_of_no_event_is_found(file: Path) -> None:
    topics = Topics()
    topics.of(CALL_EVENTS).clear()

    assert topics.verify(file).different["calls"] == len({each.key for each in topics.of(CALL_TIMELINES)})


def test_documents_of_events_that_left_their_topic_are_counted(file: Path) -> None:
    topics = Topics()
    topics.age(CALL_EVENTS, 1)
    verdict = topics.verify(file)

    assert verdict.different["calls"] == 0
    assert verdict.not_comparable["calls"] == {AGED_OUT: 1}


def test_an_agent_is_compared_as_far_as_its_records_reach(file: Path) -> None:
    """Older records decide presence and days; calls of now are known."""
    for fields, expected in (({"login": "x"}, []), ({"ringing_calls": [1]}, ["ringing_calls"])):
        topics = Topics("G01")
        topics.age(AGENT_ACTIVITY, 1)
        topics.change(AGENT_STATUS, **fields)
        file.unlink(missing_ok=True)
        verdict = topics.verify(file)

        assert paths(verdict, "agents") == expected


def test_events_that_wait_to_be_folded_are_no_difference(file: Path) -> None:
    """The service has read two events less than there are, and its documents show it."""
    whole, topics = Topics(), Topics()
    number = len(topics.of(CALL_EVENTS))
    for kind in (CALL_TIMELINES, AGENT_ACTIVITY, AGENT_STATUS):
        topics.of(kind).clear()
    topics.commit(CALL_EVENTS, number - 2)
    seen = {each.key for each in whole.of(CALL_EVENTS)[: number - 2]}
    for each in whole.of(CALL_TIMELINES):
        if len(orjson.loads(each.value or b"")["events"]) <= number - 2 and each.key in seen:
            topics.write(topic_name(PBX, CALL_TIMELINES), each.key, each.value, each.headers.items())
    verdict = topics.verify(file)

    assert verdict.different["calls"] == 0
    assert verdict.equal["calls"] == 1


def test_a_call_without_a_folded_event_waits(file: Path) -> None:
    topics = Topics()
    topics.commit(CALL_EVENTS, 0)
    topics.of(CALL_TIMELINES).clear()
    verdict = topics.verify(file)

    assert verdict.not_comparable["calls"] == {BEING_FOLDED: 1}


def test_an_agent_with_waiting_records_is_not_compared(file: Path) -> None:
    topics = Topics()
    topics.commit(AGENT_ACTIVITY, 0)
    topics.change(AGENT_STATUS, state="paused")
    verdict = topics.verify(file)

    assert verdict.different["agents"] == 0
    assert verdict.not_comparable["agents"] == {BEING_FOLDED: 1}


def test_documents_of_other_rules_are_counted(file: Path) -> None:
    topics = Topics()
    for kind in (CALL_TIMELINES, AGENT_STATUS):
        topics.of(kind)[:] = [
            each._replace(headers={**each.headers, "bridge-fold-version": b"0"}) for each in topics.of(kind)
        ]
    verdict = topics.verify(file)

    assert (verdict.equal["calls"], verdict.different.total()) == (0, 0)
    assert set(verdict.not_comparable["calls"]) == {OTHER_RULES}
    assert set(verdict.not_comparable["agents"]) == {OTHER_RULES}


def test_a_dead_letter_is_no_lost_event(file: Path) -> None:
    topics = Topics()
    topic = topic_name(PBX, CALL_EVENTS)
    copied = topics.of(CALL_EVENTS)[-1]
    value = {**orjson.loads(copied.value or b""), "event_id": "rejected"}
    topics.write(topic, copied.key, orjson.dumps(value))
    place = {
        "topic": topic.encode(),
        "partition": b"0",
        "offset": str(len(topics.of(CALL_EVENTS)) - 1).encode(),
    }
    headers = [(f"__dlq.errors.{name}", value) for name, value in place.items()]
    without = topics.verify(file).different.total()
    file.unlink()
    topics.write(topic_name(PBX, DEAD_LETTERS), copied.key, copied.value, headers)

    assert without > 0
    assert topics.verify(file).different.total() == 0


def test_unreadable_records_stop_nothing(file: Path) -> None:
    topics = Topics()
    for kind in (CALL_EVENTS, AGENT_EVENTS, AGENT_ACTIVITY):
        topics.write(topic_name(PBX, kind), topics.of(CALL_EVENTS)[0].key, b"{")
        topics.write(topic_name(PBX, kind), b"\xff", None)

    assert topics.verify(file).different.total() == 0


def test_many_differences_are_counted_and_some_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.explain.verify.SHOWN", 1)
    verdict = Verdict()
    faults = one_fault()
    for key in ("1.1", "2.1"):
        verdict.add(PBX, "calls", key, faults)

    assert (verdict.different["calls"], [each.key for each in verdict.differences]) == (2, ["1.1"])


def one_fault() -> list[FieldDifference]:

    return [FieldDifference("talk_s", 1, 2)]


# ---------------------------------------------------------------- the command


def verified(monkeypatch: pytest.MonkeyPatch, verdict: "Verdict | Exception", *arguments: str) -> Any:
    async def verify(*_: object) -> Verdict:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    monkeypatch.setattr("consumers.explain.published.verify", verify)
    return CliRunner().invoke(app, ["verify", *arguments])


def test_equal_documents_exit_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict()
    verdict.add(PBX, "calls", "1.1", [])
    verdict.add(PBX, "calls", "2.1", AGED_OUT)
    result = verified(monkeypatch, verdict)

    assert result.exit_code == 0
    assert "calls: 1 equal, 0 different, 1 not compared: events have left their topic" in result.stdout


def test_different_documents_exit_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict()
    verdict.add(PBX, "calls", "1.1", one_fault())
    result = verified(monkeypatch, verdict)

    assert result.exit_code == 1
    assert "voipex calls 1.1:\n    talk_s is 1, should be 2\n" in result.stdout


def test_json_output_names_each_field(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict()
    verdict.add(PBX, "agents", "janecek", one_fault())
    printed = orjson.loads(verified(monkeypatch, verdict, "--json").stdout)

    assert printed["agents"] == {"equal": 0, "different": 1, "not_comparable": {}}
    assert printed["differences"] == [
        {
            "pbx": "voipex",
            "what": "agents",
            "key": "janecek",
            "fields": [{"field": "talk_s", "published": 1, "expected": 2}],
        }
    ]


def test_an_unreachable_kafka_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    result = verified(monkeypatch, KafkaUnreachable("no answer"))

    assert isinstance(result.exception, KafkaUnreachable)


@pytest.mark.anyio
async def test_a_missing_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryDirectory", none)
    with pytest.raises(BridgeError, match="set TMPDIR"):
        await verify(Settings())
