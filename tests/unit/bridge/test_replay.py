"""What a replay publishes for a dead letter, and which dead letters a filter selects."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.authenticate import Principal
from bridge.cli.dead_letters import parse_position, parse_time_us
from bridge.cli.output import escape_terminal
from bridge.ops.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    Position,
    PrincipalOf,
    Skipped,
    StillInvalid,
    to_record,
)
from bridge.ops.reader import ConsumerRecord
from tests.factories import body, receipt
from voipex.dead_letters import dead_letter, undeliverable
from voipex.errors import InvalidWebhook
from voipex.normalize import normalize
from voipex.partitioner import partition_for_key
from voipex.records import SEQ_HEADER, SPOOL_ID_HEADER, Record, decode, encode
from voipex.webhook import DOCUMENTED_KEYS, key_map, parse

RENAMED = b'{"event":"Ringing","call_id":"1412256225.1940","Line":"163","From":"0042077788"}'
DOCUMENTED = Principal("site-7", "brno", "CZ", DOCUMENTED_KEYS)
CORRECTED = Principal("site-7", "brno", "CZ", key_map({"EventName": "event", "UniqueId": "call_id"}))
NOW_US = 1_772_438_400_000_000


def in_kafka(record: Record, offset: int = 0) -> ConsumerRecord:
    """Return the record as the publisher writes it."""
    headers = (*record.headers, (SPOOL_ID_HEADER, b"spool-1"), (SEQ_HEADER, b"7"))
    return ConsumerRecord(
        record.topic, record.partition, offset, record.timestamp_ms, record.key, record.value, headers
    )


def invalid_webhook(content: bytes, caller: Principal = DOCUMENTED) -> DeadLetter:
    """Return the dead letter of a webhook that was not an event when it was received."""
    with pytest.raises(InvalidWebhook) as fault:
        normalize(parse(content, caller.keys), caller.pbx, receipt(), caller.region)
    record = dead_letter(content, fault.value, caller.pbx, caller.name, receipt(), 12)
    return DeadLetter.from_record(caller.pbx, in_kafka(record))


def from_consumer(stage: str, record: Record, **changes: bytes) -> DeadLetter:
    """Return the dead letter of a record that a consumer cannot fold."""
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
    return DeadLetter.from_record(
        "brno",
        ConsumerRecord(written.topic, written.partition, 0, 5, written.key, written.value, written.headers),
    )


def event_record(**changes: str) -> Record:
    event = normalize(parse(body(**changes)), "brno", receipt())
    return encode(event, receipt().received_at_us // 1000, 12, "00-trace")


def only(caller: Principal | None) -> PrincipalOf:
    """Stand for a credentials file with one credential, or none."""
    return lambda name: caller if caller is not None and name == caller.name else None


# ---------------------------------------------------------------- webhooks


def test_with_corrected_key_names_the_event_has_its_receipt() -> None:
    record = to_record(invalid_webhook(RENAMED), only(CORRECTED), 12)

    event = decode(record.value)
    assert (record.topic, record.key) == ("brno.call.events.v1", b"1412256225.1940")
    assert record.partition == partition_for_key(b"1412256225.1940", 12)
    assert (event.event_id, event.received_at) == (receipt().event_id, receipt().received_at)
    assert record.timestamp_ms == receipt().received_at_us // 1000
    assert (event.event_name, event.line, event.pbx) == ("Ringing", "163", "brno")


def test_a_replay_differs_from_ingress_by_one_header() -> None:
    """Readers need not know about replays."""
    found = invalid_webhook(RENAMED)
    direct = encode(
        normalize(parse(RENAMED, CORRECTED.keys), "brno", receipt(), "CZ"),
        receipt().received_at_us // 1000,
        12,
    )

    record = to_record(found, only(CORRECTED), 12)

    assert record._replace(headers=()) == direct._replace(headers=())
    assert record.headers == (
        *direct.headers,
        (SPOOL_ID_HEADER, b"spool-1"),
        (SEQ_HEADER, b"7"),
        ("bridge-replays", b"1"),
    )


def test_a_dead_letter_gives_the_same_bytes_every_time() -> None:
    found = invalid_webhook(RENAMED)

    assert to_record(found, only(CORRECTED), 12) == to_record(found, only(CORRECTED), 12)


def test_a_replay_keeps_the_traceparent() -> None:
    traced = receipt(traceparent="00-trace")
    with pytest.raises(InvalidWebhook) as fault:
        normalize(parse(RENAMED), "brno", traced)
    record = dead_letter(RENAMED, fault.value, "brno", "site-7", traced, 12)

    made = to_record(DeadLetter.from_record("brno", in_kafka(record)), only(CORRECTED), 12)

    assert dict(made.headers)["traceparent"] == b"00-trace"


@pytest.mark.parametrize("content", [b"no json", b"[]", b'{"EventName":"Ringing"}'])
def test_a_body_that_is_still_no_event_is_not_published(content: bytes) -> None:
    with pytest.raises(StillInvalid, match=r"InvalidJson|InvalidEvent"):
        to_record(invalid_webhook(content), only(CORRECTED), 12)


@pytest.mark.parametrize(
    ("sent", "login"),
    [
        ("Dvořák".encode("cp1250"), "Dvořák"),
        ("Dvořák".encode() + b"\xff", "Dvořák\ufffd"),
        (b"Dvo\\ud800", "Dvo\ufffd"),
        (b'old","Login":"new', "new"),
    ],
)
def test_a_replay_decodes_bytes_as_the_ingress_does(sent: bytes, login: str) -> None:
    content = b"\xef\xbb\xbf" * 2 + RENAMED[:-1] + b',"Login":"%b"}\0' % sent

    record = to_record(invalid_webhook(content), only(CORRECTED), 12)

    assert decode(record.value).login == login


@given(st.binary(max_size=200))
def test_any_invalid_body_stays_invalid_on_replay(content: bytes) -> None:
    try:
        normalize(parse(content), "brno", receipt())
    except InvalidWebhook as fault:
        found = DeadLetter.from_record(
            "brno", in_kafka(dead_letter(content, fault, "brno", "site-7", receipt(), 12))
        )
        with pytest.raises(StillInvalid):
            to_record(found, only(DOCUMENTED), 12)


def test_a_removed_credential_needs_a_fallback() -> None:
    """Guessing the documented names would put half of the fields into `extra`, and readers keep the first copy."""
    found = invalid_webhook(RENAMED)
    other = dataclasses.replace(CORRECTED, name="site-8")

    with pytest.raises(Skipped, match="--credential"):
        to_record(found, only(None), 12)

    assert decode(to_record(found, only(None), 12, other).value).line == "163"


def test_an_existing_credential_wins_over_the_fallback() -> None:
    found = invalid_webhook(RENAMED)
    other = Principal("site-8", "brno", "CZ", DOCUMENTED_KEYS)

    assert to_record(found, only(CORRECTED), 12, other) == to_record(found, only(CORRECTED), 12)


def test_a_credential_of_another_pbx_is_not_used() -> None:
    with pytest.raises(Skipped, match="praha"):
        to_record(invalid_webhook(RENAMED), only(dataclasses.replace(CORRECTED, pbx="praha")), 12)


@pytest.mark.parametrize("header", ["bridge-event-id", "bridge-received-at", "bridge-pbx"])
def test_a_missing_receipt_header_is_an_error(header: str) -> None:
    found = invalid_webhook(RENAMED)
    headers = tuple(pair for pair in found.headers if pair[0] != header)

    with pytest.raises(StillInvalid, match=header):
        to_record(dataclasses.replace(found, headers=headers), only(CORRECTED), 12)


@pytest.mark.parametrize("text", [b"yesterday", b"2026-03-02T09:00:00.000000+01:00", b"\xff"])
def test_a_receipt_time_in_another_form_is_an_error(text: bytes) -> None:
    found = invalid_webhook(RENAMED)
    headers = (*found.headers, ("bridge-received-at", text))

    with pytest.raises(StillInvalid, match="bridge-received-at"):
        to_record(dataclasses.replace(found, headers=headers), only(CORRECTED), 12)


# ---------------------------------------------------------------- records


def test_a_record_that_kafka_rejected_returns_unchanged() -> None:
    record = event_record()
    found = DeadLetter.from_record("brno", in_kafka(undeliverable(record, "Kafka refused it", "brno", 12)))

    back = to_record(found, only(None), 12)

    assert back._replace(headers=()) == record._replace(headers=())
    assert back.headers == (
        *record.headers,
        (SPOOL_ID_HEADER, b"spool-1"),
        (SEQ_HEADER, b"7"),
        ("bridge-replays", b"1"),
    )


@pytest.mark.parametrize("stage", ["timelines", "agents"])
def test_a_record_returns_without_the_error_headers(stage: str) -> None:
    record = event_record()

    back = to_record(from_consumer(stage, record), only(None), 12)

    assert (back.topic, back.partition, back.key, back.value) == record[:4]
    assert back.headers == (*record.headers, ("bridge-replays", b"1"))


def test_a_second_replay_counts_up() -> None:
    record = event_record()
    once = to_record(from_consumer("timelines", record), only(None), 12)

    twice = to_record(from_consumer("timelines", once), only(None), 12)

    assert twice.headers == (*record.headers, ("bridge-replays", b"2"))


def test_a_record_without_a_key_returns_to_its_partition() -> None:
    record = Record("brno.call.events.v1", 5, None, b"x", (), 1)

    back = to_record(from_consumer("timelines", record), only(None), 12)

    assert (back.partition, back.key) == (5, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"__dlq.errors.topic": b"praha.call.events.v1"},
        {"__dlq.errors.topic": b"payments"},
        {"__dlq.errors.partition": b"12"},
    ],
)
def test_a_record_returns_only_to_a_topic_of_its_pbx(headers: dict[str, bytes]) -> None:
    found = from_consumer("timelines", event_record())
    found = dataclasses.replace(found, headers=(*found.headers, *headers.items()))

    with pytest.raises(StillInvalid):
        to_record(found, only(None), 12)


def test_a_rejected_dead_letter_of_a_webhook_is_parsed_again() -> None:
    """Returned to its source topic, the dead letters, it would only multiply."""
    with pytest.raises(InvalidWebhook) as fault:
        parse(RENAMED)
    kept = dead_letter(RENAMED, fault.value, "brno", "site-7", receipt(), 12)
    found = DeadLetter.from_record("brno", in_kafka(undeliverable(kept, "Kafka refused it", "brno", 12)))

    assert to_record(found, only(CORRECTED), 12).topic == "brno.call.events.v1"


def test_a_dead_letter_without_a_value_is_not_published() -> None:
    found = from_consumer("timelines", event_record())

    with pytest.raises(StillInvalid, match="no value"):
        to_record(found.without_body(), only(None), 12)


# ---------------------------------------------------------------- list and filter


def test_a_summary_holds_no_personal_data() -> None:
    described = invalid_webhook(RENAMED).summary()

    assert described == {
        "pbx": "brno",
        "position": f"{partition_for_key(receipt().event_id.encode(), 12)}:0",
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
def test_a_dead_letter_of_any_timestamp_can_be_listed(timestamp_ms: int) -> None:
    record = ConsumerRecord("brno.dead-letters.v1", 0, 0, timestamp_ms, None, b"", ())

    assert str(DeadLetter.from_record("brno", record).summary()["received_at"]).endswith("Z")


def test_filters_by_time_class_stage_and_position() -> None:
    found = invalid_webhook(RENAMED)

    assert DeadLetterFilter().matches(found)
    assert DeadLetterFilter(since_us=NOW_US, until_us=NOW_US + 1).matches(found)
    assert not DeadLetterFilter(since_us=NOW_US + 1).matches(found)
    assert not DeadLetterFilter(until_us=NOW_US).matches(found)
    assert DeadLetterFilter(error_class="invalidevent", stage="ingress").matches(found)
    assert not DeadLetterFilter(error_class="InvalidJson").matches(found)
    assert not DeadLetterFilter(stage="timelines").matches(found)
    assert not DeadLetterFilter(position=Position(found.position.partition, 1)).matches(found)


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
def test_a_time_is_rfc_3339_or_a_span_before_now(text: str, at_us: int) -> None:
    assert parse_time_us(text, NOW_US) == at_us


@pytest.mark.parametrize("text", ["", "yesterday", "2w", "h", "-2h", "2026-13-01"])
def test_an_invalid_time_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="a time is"):
        parse_time_us(text, NOW_US)


def test_positions_are_parsed_as_list_prints_them() -> None:
    assert parse_position("3:17") == Position(3, 17)
    assert str(Position(3, 17)) == "3:17"
    for text in ("3", "3:", ":17", "a:b", "3:17 ", "-1:0"):
        with pytest.raises(ValueError, match="PARTITION:OFFSET"):
            parse_position(text)


def test_control_characters_are_escaped() -> None:
    assert escape_terminal("Oběd\x1b[2J\r\n") == "Oběd\\x1b[2J\\r\\n"
    assert escape_terminal("a\nb\x00", keep="\n") == "a\nb\\x00"
