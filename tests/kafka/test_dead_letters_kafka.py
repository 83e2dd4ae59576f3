"""Dead letters of a bridge that does not know its PBX's key names: listed, shown, and published again once it does."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bridge.ops.reader import Consumed
from bridge.publisher.producer import KafkaProducer
from tests.commands import CommandResult, run_in_process
from tests.kafka.conftest import Broker, apply_topics, read_all, settings_of
from tests.processes import USER, BridgeProcess
from tests.waiting import eventually
from voipex.partitioner import partition_of
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
    """Running, with the letters of all these bodies in Kafka."""
    apply_topics(kafka.bootstrap_servers, pbx)
    with BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx).start() as running:
        assert [running.post(body)[0] for body in RENAMED] == [422] * len(RENAMED)
        assert running.post(GARBAGE)[0] == 400
        running.await_drained()
        yield running


def dead_letters_command(bridge: BridgeProcess, *arguments: str) -> CommandResult:
    return run_in_process(bridge.environment, "dead-letters", *arguments)


def fix_key_names(bridge: BridgeProcess) -> None:
    """What an operator does: the key names go into the credentials file."""
    path = bridge.folder / "credentials.json"
    file = json.loads(path.read_text())
    file["credentials"][0]["key_names"] = {"EventName": "event", "UniqueId": "call_id"}
    path.write_text(json.dumps(file))


def events(kafka: Broker, pbx: str) -> list[Consumed]:
    return [
        record
        for kind in ("call", "agent")
        for record in read_all(kafka.bootstrap_servers, f"{pbx}.{kind}.events.v1")
    ]


def dead_letters(kafka: Broker, pbx: str) -> list[Consumed]:
    return read_all(kafka.bootstrap_servers, f"{pbx}.dead-letters.v1")


def as_it_lies(record: Consumed) -> tuple[object, ...]:
    """All of it but its offset."""
    return (
        record.topic,
        record.partition,
        record.timestamp_ms,
        record.key,
        record.value,
        record.headers,
    )


def test_replay_after_fixed_key_names_publishes_idempotently(
    bridge: BridgeProcess, kafka: Broker, pbx: str
) -> None:
    kept = dead_letters(kafka, pbx)
    receipts = {
        (headers["bridge-event-id"].decode(), headers["bridge-received-at"].decode())
        for headers in ({name: value or b"" for name, value in letter.headers} for letter in kept)
        if headers["bridge-error-class"] == b"InvalidEvent"
    }

    too_early = dead_letters_command(bridge, "replay", "--json")
    after_too_early = events(kafka, pbx)
    fix_key_names(bridge)
    dry = dead_letters_command(bridge, "replay", "--dry-run", "--json")
    after_dry = events(kafka, pbx)
    first = dead_letters_command(bridge, "replay", "--json")
    once = events(kafka, pbx)
    second = dead_letters_command(bridge, "replay", "--class", "InvalidEvent")
    twice = events(kafka, pbx)
    left = dead_letters(kafka, pbx)
    eventually(lambda: bridge.post(RENAMED[2])[0] == 200)  # the running bridge takes the new names by itself
    bridge.await_drained()
    replayed, _, direct = (record for record in events(kafka, pbx) if record.key == b"1412256225.1941")

    counts = ("replayed", "unusable", "skipped", "refused")
    assert [too_early.json[count] for count in counts] == [0, 5, 0, 0]
    assert [dry.json[count] for count in counts] == [4, 1, 0, 0]
    assert [first.json[count] for count in counts] == [4, 1, 0, 0]
    assert (too_early.code, dry.code, first.code, second.code) == (1, 1, 1, 0)
    assert second.out == "4 replayed, 0 still unusable, 0 skipped, 0 refused by Kafka\n"
    assert after_too_early == after_dry == []

    told = [json.loads(record.value or b"") for record in once]
    assert {(event["event_id"], event["received_at"]) for event in told} == receipts
    assert sorted((record.key or b"").decode() for record in once) == [
        "1412256225.1940",
        "1412256225.1940",
        "1412256225.1941",
        "janecek",
    ]
    assert {record.partition for record in once} == {partition_of(record.key or b"", 12) for record in once}
    assert all(dict(record.headers)["bridge-replays"] == b"1" for record in once)
    assert Counter(map(as_it_lies, twice)) == Counter(list(map(as_it_lies, once)) * 2)
    assert sorted(left) == sorted(kept)
    assert "777888999" not in first.out + second.out + first.err
    assert [name for name, _ in replayed.headers] == [*(name for name, _ in direct.headers), "bridge-replays"]
    ours, theirs = json.loads(replayed.value or b""), json.loads(direct.value or b"")
    assert {**ours, "event_id": 0, "received_at": 0} == {**theirs, "event_id": 0, "received_at": 0}
    types = [json.loads(record.value or b"")["type"] for record in once if record.key == b"1412256225.1940"]
    assert types == ["ringing", "hangup"], "in the order of receipt, whatever partition its letters are in"


def test_list_hides_bodies_and_shares_its_filters_with_replay(
    bridge: BridgeProcess, kafka: Broker, pbx: str
) -> None:
    fix_key_names(bridge)

    lines = dead_letters_command(bridge, "list")
    rows = dead_letters_command(bridge, "list", "--json").json
    third = rows[2]
    by_class = dead_letters_command(bridge, "list", "--class", "InvalidJson", "--json").json
    between = dead_letters_command(
        bridge, "replay", "--since", rows[1]["received_at"], "--until", third["received_at"], "--json"
    )
    nothing = dead_letters_command(bridge, "replay", "--until", "1h", "--stage", "ingress", "--json")
    one = dead_letters_command(bridge, "replay", third["position"])
    none = dead_letters_command(bridge, "replay", "0:999")

    assert len(lines.out.splitlines()) == 5
    assert lines.err == "5 dead letters\n"
    assert "777888999" not in lines.out
    assert [row["received_at"] for row in rows] == sorted(row["received_at"] for row in rows)
    assert [(row["class"], row["stage"], row["credential"]) for row in rows] == [
        ("InvalidEvent", "ingress", USER)
    ] * 4 + [("InvalidJson", "ingress", USER)]
    assert [row["size_bytes"] for row in by_class] == [len(GARBAGE)]
    assert [letter["position"] for letter in between.json["letters"]] == [rows[1]["position"]]
    assert (nothing.code, nothing.json["letters"]) == (0, [])
    assert (one.code, none.code) == (0, 1)
    assert f"{third['position']}  went to {pbx}.call.events.v1" in one.out
    assert [record.key for record in events(kafka, pbx)] == [b"1412256225.1940", b"1412256225.1941"]


def test_only_show_prints_a_body_with_control_characters_escaped(bridge: BridgeProcess) -> None:
    rows = dead_letters_command(bridge, "list", "--json").json
    garbage, first = rows[-1]["position"], rows[0]["position"]

    shown, raw = (
        dead_letters_command(bridge, "show", garbage),
        dead_letters_command(bridge, "show", garbage, "--raw"),
    )
    as_json = dead_letters_command(bridge, "show", first, "--json")
    nowhere = dead_letters_command(bridge, "show", "11:4711")

    assert "bridge-error-class: InvalidJson\n" in shown.out
    assert shown.out.endswith("\n\nno json \\x1b[2J\n")
    assert raw.out.encode() == GARBAGE
    assert as_json.json["body"].encode() == RENAMED[0]
    assert as_json.json["headers"]["bridge-credential"] == USER
    assert (nowhere.code, nowhere.out) == (1, "")
    assert "no dead letter at 11:4711" in nowhere.err


def test_letters_of_a_revoked_credential_wait_for_one_to_be_named(
    bridge: BridgeProcess, kafka: Broker, pbx: str
) -> None:
    run_in_process(bridge.environment, "credentials", "revoke", USER)
    run_in_process(
        bridge.environment, "credentials", "create", "site-8", "--key", "EventName=event", "--key", "UniqueId=call_id"
    )  # fmt: skip

    alone = dead_letters_command(bridge, "replay", "--class", "InvalidEvent", "--json")
    named = dead_letters_command(
        bridge, "replay", "--class", "InvalidEvent", "--credential", "site-8", "--json"
    )

    assert (alone.code, alone.json["skipped"], alone.json["replayed"]) == (1, 4, 0)
    assert "--credential" in alone.json["letters"][0]["why"]
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


def test_refused_records_are_replayed_unchanged(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    """Key, value and headers are those of the source, whatever they are; what cannot go anywhere is reported and stops nothing."""
    apply_topics(kafka.bootstrap_servers, pbx)
    bridge = BridgeProcess(tmp_path, kafka.bootstrap_servers, pbx)
    own = (("ce_id", b"e-1"), ("ce_time", b"t"), ("odd", b"\xff"), ("odd", b"again"))

    def letter(stage: bytes, topic: str, partition: int | None, key: bytes | None) -> Record:
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
            letter(b"ingress", calls, None, b"1.1"),
            letter(b"timelines", calls, 7, None),
            letter(b"agents", agents, 3, b"janecek"),
            letter(b"timelines", "somebody.elses", 1, b"x"),
        ],
    )

    done = dead_letters_command(bridge, "replay", "--json")

    assert (done.code, done.json["replayed"], done.json["unusable"]) == (1, 3, 1)
    expected = {
        (calls, partition_of(b"1.1", 12), b"1.1"),
        (calls, 7, None),
        (agents, 3, b"janecek"),
    }
    found = events(kafka, pbx)
    assert {(record.topic, record.partition, record.key) for record in found} == expected
    for record in found:
        assert record.value == b"\x00value"
        assert record.headers == (*own, ("bridge-replays", b"1"))
        assert record.timestamp_ms == 1_772_438_400_000


def test_replay_names_a_missing_topic_and_continues(kafka: Broker, pbx: str, tmp_path: Path) -> None:
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

    done = dead_letters_command(bridge, "replay", "--json")

    assert (done.code, done.json["refused"], done.json["replayed"]) == (1, 2, 1)
    assert "topics apply" in done.json["letters"][0]["why"]
