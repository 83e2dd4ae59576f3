"""Dead letters of a PBX with renamed keys: listed, shown, and replayed once the credential has the key names."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bridge.ops.reader import ConsumerRecord
from bridge.publisher.producer import KafkaProducer
from tests.commands import CommandResult, run_in_process
from tests.kafka.conftest import Broker, apply_topics, read_all, settings_of
from tests.processes import USER, BridgeProcess
from tests.waiting import eventually
from voipex.partitioner import partition_for_key
from voipex.records import Record

RENAMED = [
    b'{"event":"Ringing","call_id":"1412256225.1940","Line":"163","From":"777888999"}',
    b'{"event":"Hangup","call_id":"1412256225.1940","Line":"163","Reason":"User busy"}',
    b'{"event":"Ringing","call_id":"1412256225.1941","Line":"164","From":"777888999"}',
    b'{"event":"AgentLogin","Login":"Janecek","Queue":"NOC"}',
]
GARBAGE = b"no json \x1b[2J"


@pytest.fixture
def bridge(kafka: Broker, pbx: str, tmp_path: Path) -> Iterator[BridgeProcess]:
    """A running bridge whose rejected bodies are dead letters in Kafka."""
    apply_topics(kafka.bootstrap_servers, pbx)
    with BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx).start() as running:
        assert [running.post(body)[0] for body in RENAMED] == [422] * len(RENAMED)
        assert running.post(GARBAGE)[0] == 400
        running.await_drained()
        yield running


def dead_letters(bridge: BridgeProcess, *arguments: str) -> CommandResult:
    return run_in_process(bridge.environment, "dead-letters", *arguments)


def add_key_names(bridge: BridgeProcess) -> None:
    """Write the PBX's key names into the credentials file, as an operator does."""
    path = bridge.folder / "credentials.json"
    file = json.loads(path.read_text())
    file["credentials"][0]["key_names"] = {"EventName": "event", "UniqueId": "call_id"}
    path.write_text(json.dumps(file))


def events(kafka: Broker, pbx: str) -> list[ConsumerRecord]:
    return [
        record
        for kind in ("call", "agent")
        for record in read_all(kafka.bootstrap_servers, f"{pbx}.{kind}.events.v1")
    ]


def dead(kafka: Broker, pbx: str) -> list[ConsumerRecord]:
    return read_all(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1")


def without_offset(record: ConsumerRecord) -> tuple[object, ...]:
    """All fields of a record but the offset."""
    return (
        record.topic,
        record.partition,
        record.timestamp_ms,
        record.key,
        record.value,
        record.headers,
    )


def test_a_replay_with_the_key_names_publishes_the_events(
    bridge: BridgeProcess, kafka: Broker, pbx: str
) -> None:
    kept = dead(kafka, pbx)
    receipts = {
        (headers["bridge-event-id"].decode(), headers["bridge-received-at"].decode())
        for headers in ({name: value or b"" for name, value in dead_letter.headers} for dead_letter in kept)
        if headers["bridge-error-class"] == b"InvalidEvent"
    }

    too_early = dead_letters(bridge, "replay", "--json")
    after_too_early = events(kafka, pbx)
    add_key_names(bridge)
    dry = dead_letters(bridge, "replay", "--dry-run", "--json")
    after_dry = events(kafka, pbx)
    first = dead_letters(bridge, "replay", "--json")
    once = events(kafka, pbx)
    second = dead_letters(bridge, "replay", "--class", "InvalidEvent")
    twice = events(kafka, pbx)
    left = dead(kafka, pbx)
    eventually(lambda: bridge.post(RENAMED[2])[0] == 200, "the running bridge has not reloaded the file")
    bridge.await_drained()
    replayed, _, direct = (record for record in events(kafka, pbx) if record.key == b"1412256225.1941")

    counts = ("replayed", "unusable", "skipped", "refused")
    assert [too_early.json[count] for count in counts] == [0, 5, 0, 0]
    assert [dry.json[count] for count in counts] == [4, 1, 0, 0]
    assert [first.json[count] for count in counts] == [4, 1, 0, 0]
    assert (too_early.code, dry.code, first.code, second.code) == (1, 1, 1, 0)
    assert second.out == "4 replayed, 0 still unusable, 0 skipped, 0 refused by Kafka\n"
    assert after_too_early == after_dry == []

    published = [json.loads(record.value or b"") for record in once]
    assert {(event["event_id"], event["received_at"]) for event in published} == receipts
    assert sorted((record.key or b"").decode() for record in once) == [
        "1412256225.1940",
        "1412256225.1940",
        "1412256225.1941",
        "janecek",
    ]
    assert {record.partition for record in once} == {
        partition_for_key(record.key or b"", 12) for record in once
    }
    assert all(dict(record.headers)["bridge-replays"] == b"1" for record in once)
    assert Counter(map(without_offset, twice)) == Counter(list(map(without_offset, once)) * 2)
    assert sorted(left) == sorted(kept)
    assert "777888999" not in first.out + second.out + first.err
    assert [name for name, _ in replayed.headers] == [*(name for name, _ in direct.headers), "bridge-replays"]
    first_copy, second_copy = json.loads(replayed.value or b""), json.loads(direct.value or b"")
    assert {**first_copy, "event_id": 0, "received_at": 0} == {**second_copy, "event_id": 0, "received_at": 0}
    types = [json.loads(record.value or b"")["type"] for record in once if record.key == b"1412256225.1940"]
    assert types == ["ringing", "hangup"], (
        "in the order of receipt, whatever the partitions of the dead letters"
    )


def test_list_prints_no_bodies_and_filters_as_replay_does(
    bridge: BridgeProcess, kafka: Broker, pbx: str
) -> None:
    add_key_names(bridge)

    lines = dead_letters(bridge, "list")
    rows = dead_letters(bridge, "list", "--json").json
    third = rows[2]
    by_class = dead_letters(bridge, "list", "--class", "InvalidJson", "--json").json
    between = dead_letters(
        bridge, "replay", "--since", rows[1]["received_at"], "--until", third["received_at"], "--json"
    )
    nothing = dead_letters(bridge, "replay", "--until", "1h", "--stage", "ingress", "--json")
    one = dead_letters(bridge, "replay", third["position"])
    none = dead_letters(bridge, "replay", "0:999")

    assert len(lines.out.splitlines()) == 5
    assert lines.err == "5 dead letters\n"
    assert "777888999" not in lines.out
    assert [row["received_at"] for row in rows] == sorted(row["received_at"] for row in rows)
    assert [(row["class"], row["stage"], row["credential"]) for row in rows] == [
        ("InvalidEvent", "ingress", USER)
    ] * 4 + [("InvalidJson", "ingress", USER)]
    assert [row["size_bytes"] for row in by_class] == [len(GARBAGE)]
    assert [each["position"] for each in between.json["dead_letters"]] == [rows[1]["position"]]
    assert (nothing.code, nothing.json["dead_letters"]) == (0, [])
    assert (one.code, none.code) == (0, 1)
    assert f"{third['position']}  published to {pbx}.call.events.v1" in one.out
    assert [record.key for record in events(kafka, pbx)] == [b"1412256225.1940", b"1412256225.1941"]


def test_only_show_prints_a_body_with_controls_escaped(bridge: BridgeProcess) -> None:
    rows = dead_letters(bridge, "list", "--json").json
    garbage, first = rows[-1]["position"], rows[0]["position"]

    shown, raw = dead_letters(bridge, "show", garbage), dead_letters(bridge, "show", garbage, "--raw")
    as_json = dead_letters(bridge, "show", first, "--json")
    nowhere = dead_letters(bridge, "show", "11:4711")

    assert "bridge-error-class: InvalidJson\n" in shown.out
    assert shown.out.endswith("\n\nno json \\x1b[2J\n")
    assert raw.out.encode() == GARBAGE
    assert as_json.json["body"].encode() == RENAMED[0]
    assert as_json.json["headers"]["bridge-credential"] == USER
    assert (nowhere.code, nowhere.out) == (1, "")
    assert "no dead letter at 11:4711" in nowhere.err


def test_a_removed_credential_needs_another_one_named(bridge: BridgeProcess, kafka: Broker, pbx: str) -> None:
    run_in_process(bridge.environment, "credentials", "revoke", USER)
    run_in_process(
        bridge.environment, "credentials", "create", "site-8", "--key", "EventName=event", "--key", "UniqueId=call_id"
    )  # fmt: skip

    alone = dead_letters(bridge, "replay", "--class", "InvalidEvent", "--json")
    named = dead_letters(bridge, "replay", "--class", "InvalidEvent", "--credential", "site-8", "--json")

    assert (alone.code, alone.json["skipped"], alone.json["replayed"]) == (1, 4, 0)
    assert "--credential" in alone.json["dead_letters"][0]["why"]
    assert (named.code, named.json["replayed"]) == (0, 4)
    assert len(events(kafka, pbx)) == 4


def send(kafka: Broker, records: Sequence[Record]) -> None:
    async def publish() -> None:
        producer = KafkaProducer(settings_of(kafka.bootstrap_servers))
        await producer.start()
        try:
            for record in records:
                _, future = await producer.send(record.topic, record.partition, [record])
                await future
        finally:
            await producer.stop()

    asyncio.run(publish())


def test_records_return_unchanged_to_their_topics(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """Key, value and headers are those of the source; a record with a foreign topic is reported, and the others go on."""
    apply_topics(kafka.bootstrap_servers, pbx)
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx)
    own = (("ce_id", b"e-1"), ("ce_time", b"t"), ("odd", b"\xff"), ("odd", b"again"))

    def dead_letter(stage: bytes, topic: str, partition: int | None, key: bytes | None) -> Record:
        added: list[tuple[str, bytes]] = [
            ("bridge-error-class", b"Undeliverable"),
            ("bridge-error-message", b"a reason"),
            ("bridge-stage", stage),
            ("bridge-pbx", pbx.encode()),
            ("__dlq.errors.topic", topic.encode()),
        ]
        if partition is not None:
            added += [("__dlq.errors.partition", b"%d" % partition), ("__dlq.errors.offset", b"3")]
            added += [("bridge-received-at", b"2026-03-02T08:00:00.000000Z")]
        return Record(f"{pbx}.dead-letters.v1", 4, key, b"\x00value", (*own, *added), 1_772_438_400_000)

    calls, agents = f"{pbx}.call.events.v1", f"{pbx}.agent.events.v1"
    send(
        kafka,
        [
            dead_letter(b"ingress", calls, None, b"1.1"),
            dead_letter(b"timelines", calls, 7, None),
            dead_letter(b"agents", agents, 3, b"janecek"),
            dead_letter(b"timelines", "somebody.elses", 1, b"x"),
        ],
    )

    done = dead_letters(bridge, "replay", "--json")

    assert (done.code, done.json["replayed"], done.json["unusable"]) == (1, 3, 1)
    expected = {
        (calls, partition_for_key(b"1.1", 12), b"1.1"),
        (calls, 7, None),
        (agents, 3, b"janecek"),
    }
    found = events(kafka, pbx)
    assert {(record.topic, record.partition, record.key) for record in found} == expected
    for record in found:
        assert record.value == b"\x00value"
        assert record.headers == (*own, ("bridge-replays", b"1"))
        assert record.timestamp_ms == 1_772_438_400_000


def test_a_missing_partition_is_reported_for_each_dead_letter(
    kafka: Broker, pbx: str, tmp_path: Path
) -> None:
    apply_topics(kafka.bootstrap_servers, pbx)
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx, VOIPEX_TOPIC_PARTITIONS="24")
    make: Callable[[int], Record] = lambda partition: Record(  # noqa: E731
        f"{pbx}.dead-letters.v1",
        0,
        b"k",
        b"v",
        (
            ("bridge-stage", b"timelines"),
            ("bridge-pbx", pbx.encode()),
            ("__dlq.errors.topic", f"{pbx}.call.events.v1".encode()),
            ("__dlq.errors.partition", b"%d" % partition),
        ),
        1,
    )
    send(kafka, [make(20), make(20), make(2)])

    done = dead_letters(bridge, "replay", "--json")

    assert (done.code, done.json["refused"], done.json["replayed"]) == (1, 2, 1)
    assert "topics apply" in done.json["dead_letters"][0]["why"]
