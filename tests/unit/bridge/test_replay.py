"""What a replay publishes for a dead letter, and which letters an operator means."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.authenticate import Principal
from bridge.ops.dead_letters import (
    Letter,
    Position,
    PrincipalOf,
    Selection,
    Skipped,
    StillUnusable,
    letter_of,
    moment_of,
    position_of,
    printable,
    revived,
)
from bridge.ops.reader import Consumed
from tests.factories import body, receipt
from voipex.dead_letters import dead_letter, undeliverable
from voipex.errors import InvalidWebhook
from voipex.normalize import normalize
from voipex.partitioner import partition_of
from voipex.records import SEQ_HEADER, SPOOL_ID_HEADER, Record, decode, encode
from voipex.webhook import DOCUMENTED_KEYS, key_table, parse

RENAMED = b'{"event":"Ringing","call_id":"1412256225.1940","Line":"163","From":"0042077788"}'
DOCUMENTED = Principal("site-7", "brno", "CZ", DOCUMENTED_KEYS)
MENDED = Principal("site-7", "brno", "CZ", key_table({"EventName": "event", "UniqueId": "call_id"}))
NOW_US = 1_772_438_400_000_000


def in_kafka(record: Record, offset: int = 0) -> Consumed:
    """As the publisher leaves it there."""
    headers = (*record.headers, (SPOOL_ID_HEADER, b"spool-1"), (SEQ_HEADER, b"7"))
    return Consumed(
        record.topic, record.partition, offset, record.timestamp_ms, record.key, record.value, headers
    )


def refused(content: bytes, caller: Principal = DOCUMENTED) -> Letter:
    """The letter of a webhook that was no event when it came."""
    with pytest.raises(InvalidWebhook) as fault:
        normalize(parse(content, caller.keys), caller.pbx, receipt(), caller.region)
    record = dead_letter(content, fault.value, caller.pbx, caller.name, receipt(), 12)
    return letter_of(caller.pbx, in_kafka(record))


def from_stage(stage: str, record: Record, **changes: bytes) -> Letter:
    """The letter that a consumer writes about a record that it cannot fold."""
    headers = {
        "bridge-error-class": b"InvalidEvent",
        "bridge-error-message": b"no event",
        "bridge-stage": stage.encode(),
        "bridge-received-at": b"2026-03-02T09:00:00.000000Z",
        "bridge-pbx": b"brno",
        "__dlq.errors.topic": record.topic.encode(),
        "__dlq.errors.partition": b"%d" % record.partition,
        "__dlq.errors.offset": b"17",
        "__dlq.errors.group": b"voipex-timelines",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    written = record._replace(
        topic="brno.dead-letters.v1", headers=(*record.headers, *headers.items()), timestamp_ms=5
    )
    return letter_of(
        "brno",
        Consumed(written.topic, written.partition, 0, 5, written.key, written.value, written.headers),
    )


def event_record(**changes: str) -> Record:
    event = normalize(parse(body(**changes)), "brno", receipt())
    return encode(event, receipt().received_at_us // 1000, 12, "00-trace")


def only(caller: Principal | None) -> PrincipalOf:
    """A credentials file with one credential in it, or none."""
    return lambda name: caller if caller is not None and name == caller.name else None


# ---------------------------------------------------------------- webhooks


def test_once_the_key_names_are_mended_the_event_is_that_of_the_receipt() -> None:
    record = revived(refused(RENAMED), only(MENDED), 12)

    event = decode(record.value)
    assert (record.topic, record.key) == ("brno.call.events.v1", b"1412256225.1940")
    assert record.partition == partition_of(b"1412256225.1940", 12)
    assert (event.event_id, event.received_at) == (receipt().event_id, receipt().received_at)
    assert record.timestamp_ms == receipt().received_at_us // 1000
    assert (event.event_name, event.line, event.pbx) == ("Ringing", "163", "brno")


def test_a_replay_is_the_record_that_the_front_door_would_have_made_and_says_that_it_is_one() -> None:
    """Readers must not need to know of replays: but for one header, nothing tells them."""
    letter = refused(RENAMED)
    at_once = encode(
        normalize(parse(RENAMED, MENDED.keys), "brno", receipt(), "CZ"), receipt().received_at_us // 1000, 12
    )

    record = revived(letter, only(MENDED), 12)

    assert record._replace(headers=()) == at_once._replace(headers=())
    assert record.headers == (
        *at_once.headers,
        (SPOOL_ID_HEADER, b"spool-1"),
        (SEQ_HEADER, b"7"),
        ("bridge-replays", b"1"),
    )


def test_the_same_letter_gives_the_same_bytes_every_time() -> None:
    letter = refused(RENAMED)

    assert revived(letter, only(MENDED), 12) == revived(letter, only(MENDED), 12)


def test_the_trace_of_the_request_goes_on() -> None:
    traced = receipt(traceparent="00-trace")
    with pytest.raises(InvalidWebhook) as fault:
        normalize(parse(RENAMED), "brno", traced)
    record = dead_letter(RENAMED, fault.value, "brno", "site-7", traced, 12)

    made = revived(letter_of("brno", in_kafka(record)), only(MENDED), 12)

    assert dict(made.headers)["traceparent"] == b"00-trace"


@pytest.mark.parametrize("content", [b"no json", b"[]", b'{"EventName":"Ringing"}'])
def test_what_is_no_event_by_the_mended_names_either_stays_one(content: bytes) -> None:
    with pytest.raises(StillUnusable, match=r"InvalidJson|InvalidEvent"):
        revived(refused(content), only(MENDED), 12)


@given(st.binary(max_size=200))
def test_whatever_was_kept_a_replay_makes_a_record_or_says_why_not(content: bytes) -> None:
    try:
        normalize(parse(content), "brno", receipt())
    except InvalidWebhook as fault:
        letter = letter_of("brno", in_kafka(dead_letter(content, fault, "brno", "site-7", receipt(), 12)))
        with pytest.raises(StillUnusable):
            revived(letter, only(DOCUMENTED), 12)


def test_a_letter_of_a_revoked_credential_is_skipped_unless_another_is_named() -> None:
    """To guess the documented names would turn half of the fields into `extra`, for good: readers keep the first copy."""
    letter = refused(RENAMED)
    other = dataclasses.replace(MENDED, name="site-8")

    with pytest.raises(Skipped, match="--credential"):
        revived(letter, only(None), 12)

    assert decode(revived(letter, only(None), 12, other).value).line == "163"


def test_a_named_credential_does_not_replace_one_that_is_still_there() -> None:
    letter = refused(RENAMED)
    other = Principal("site-8", "brno", "CZ", DOCUMENTED_KEYS)

    assert revived(letter, only(MENDED), 12, other) == revived(letter, only(MENDED), 12)


def test_a_credential_of_another_pbx_does_not_read_it() -> None:
    with pytest.raises(Skipped, match="praha"):
        revived(refused(RENAMED), only(dataclasses.replace(MENDED, pbx="praha")), 12)


@pytest.mark.parametrize("header", ["bridge-event-id", "bridge-received-at", "bridge-pbx"])
def test_without_the_headers_of_its_receipt_nothing_is_made_up(header: str) -> None:
    letter = refused(RENAMED)
    headers = tuple(pair for pair in letter.headers if pair[0] != header)

    with pytest.raises(StillUnusable, match=header):
        revived(dataclasses.replace(letter, headers=headers), only(MENDED), 12)


@pytest.mark.parametrize("text", [b"yesterday", b"2026-03-02T09:00:00.000000+01:00", b"\xff"])
def test_a_time_that_no_bridge_wrote_is_not_repaired(text: bytes) -> None:
    letter = refused(RENAMED)
    headers = (*letter.headers, ("bridge-received-at", text))

    with pytest.raises(StillUnusable, match="bridge-received-at"):
        revived(dataclasses.replace(letter, headers=headers), only(MENDED), 12)


# ---------------------------------------------------------------- records


def test_what_kafka_refused_goes_back_as_it_was() -> None:
    record = event_record()
    letter = letter_of("brno", in_kafka(undeliverable(record, "Kafka refused it", "brno", 12)))

    back = revived(letter, only(None), 12)

    assert back._replace(headers=()) == record._replace(headers=())
    assert back.headers == (
        *record.headers,
        (SPOOL_ID_HEADER, b"spool-1"),
        (SEQ_HEADER, b"7"),
        ("bridge-replays", b"1"),
    )


@pytest.mark.parametrize("stage", ["timelines", "agents"])
def test_what_a_consumer_could_not_fold_goes_back_without_the_error_headers(stage: str) -> None:
    record = event_record()

    back = revived(from_stage(stage, record), only(None), 12)

    assert (back.topic, back.partition, back.key, back.value) == record[:4]
    assert back.headers == (*record.headers, ("bridge-replays", b"1"))


def test_a_replayed_record_that_failed_again_counts_up() -> None:
    record = event_record()
    once = revived(from_stage("timelines", record), only(None), 12)

    twice = revived(from_stage("timelines", once), only(None), 12)

    assert twice.headers == (*record.headers, ("bridge-replays", b"2"))


def test_a_record_without_a_key_goes_back_to_its_partition() -> None:
    record = Record("brno.call.events.v1", 5, None, b"x", (), 1)

    back = revived(from_stage("timelines", record), only(None), 12)

    assert (back.partition, back.key) == (5, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"__dlq.errors.topic": b"praha.call.events.v1"},
        {"__dlq.errors.topic": b"payments"},
        {"__dlq.errors.partition": b"12"},
    ],
)
def test_a_letter_cannot_send_anything_where_it_does_not_belong(headers: dict[str, bytes]) -> None:
    letter = from_stage("timelines", event_record())
    letter = dataclasses.replace(letter, headers=(*letter.headers, *headers.items()))

    with pytest.raises(StillUnusable):
        revived(letter, only(None), 12)


def test_a_refused_dead_letter_of_a_webhook_is_read_again_as_the_webhook() -> None:
    """Sent back to where it came from it would only multiply."""
    with pytest.raises(InvalidWebhook) as fault:
        parse(RENAMED)
    kept = dead_letter(RENAMED, fault.value, "brno", "site-7", receipt(), 12)
    letter = letter_of("brno", in_kafka(undeliverable(kept, "Kafka refused it", "brno", 12)))

    assert revived(letter, only(MENDED), 12).topic == "brno.call.events.v1"


def test_a_shortened_body_and_a_missing_one_are_not_published() -> None:
    letter = from_stage("timelines", event_record())
    shortened = dataclasses.replace(letter, headers=(*letter.headers, ("bridge-shortened-from", b"99999")))

    with pytest.raises(StillUnusable, match="beginning"):
        revived(shortened, only(None), 12)
    with pytest.raises(StillUnusable, match="no value"):
        revived(dataclasses.replace(letter, body=None), only(None), 12)


# ---------------------------------------------------------------- which ones


def test_what_is_told_of_a_letter_is_nothing_personal() -> None:
    described = refused(RENAMED).described()

    assert described == {
        "pbx": "brno",
        "position": f"{partition_of(receipt().event_id.encode(), 12)}:0",
        "received_at": "2026-03-02T08:00:00.000000Z",
        "class": "InvalidEvent",
        "message": "no EventName",
        "stage": "ingress",
        "credential": "site-7",
        "event_id": receipt().event_id,
        "source_topic": None,
        "size_bytes": len(RENAMED),
    }


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 2**62])
def test_a_letter_of_any_timestamp_can_be_listed(timestamp_ms: int) -> None:
    record = Consumed("brno.dead-letters.v1", 0, 0, timestamp_ms, None, b"", ())

    assert str(letter_of("brno", record).described()["received_at"]).endswith("Z")


def test_selections_are_by_time_class_stage_and_position() -> None:
    letter = refused(RENAMED)

    assert Selection().takes(letter)
    assert Selection(since_us=NOW_US, until_us=NOW_US + 1).takes(letter)
    assert not Selection(since_us=NOW_US + 1).takes(letter)
    assert not Selection(until_us=NOW_US).takes(letter)
    assert Selection(error_class="invalidevent", stage="ingress").takes(letter)
    assert not Selection(error_class="InvalidJson").takes(letter)
    assert not Selection(stage="timelines").takes(letter)
    assert not Selection(position=Position(letter.position.partition, 1)).takes(letter)


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("2026-03-02T08:00:00Z", NOW_US),
        ("2026-03-02T09:00:00+01:00", NOW_US),
        ("2026-03-02T08:00", NOW_US),
        ("2026-03-02", NOW_US - 8 * 3_600_000_000),
        ("90s", NOW_US - 90_000_000),
        ("1.5h", NOW_US - 5_400_000_000),
        ("7d", NOW_US - 7 * 86_400_000_000),
    ],
)
def test_times_are_moments_or_spans_before_now(text: str, at_us: int) -> None:
    assert moment_of(text, NOW_US) == at_us


@pytest.mark.parametrize("text", ["", "yesterday", "2w", "h", "-2h", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a time is"):
        moment_of(text, NOW_US)


def test_positions_are_as_list_prints_them() -> None:
    assert position_of("3:17") == Position(3, 17)
    assert str(Position(3, 17)) == "3:17"
    for text in ("3", "3:", ":17", "a:b", "3:17 ", "-1:0"):
        with pytest.raises(ValueError, match="PARTITION:OFFSET"):
            position_of(text)


def test_nothing_from_outside_steers_the_terminal() -> None:
    assert printable("Oběd\x1b[2J\r\n") == "Oběd\\x1b[2J\\r\\n"
    assert printable("a\nb\x00", keep="\n") == "a\nb\\x00"
