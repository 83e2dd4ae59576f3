"""Dead letters: raw bodies and records with the reason in their headers."""

from tests.factories import receipt
from voipex.dead_letters import dead_letter, undeliverable
from voipex.errors import InvalidEvent, InvalidJson
from voipex.records import Record

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_dead_letter_has_the_raw_body_and_headers_for_a_replay() -> None:
    body = b'{"From":"777888999",\xff'

    stored = dead_letter(
        body, InvalidJson("neither JSON nor the relaxed notation"), "brno", "site-7", receipt(), 12
    )

    assert stored.topic == "brno.dead-letters.v1"
    assert stored.key is None
    assert stored.value == body
    assert stored.timestamp_ms == 1_772_438_400_000
    assert dict(stored.headers) == {
        "bridge-error-class": b"InvalidJson",
        "bridge-error-message": b"neither JSON nor the relaxed notation",
        "bridge-stage": b"ingress",
        "bridge-received-at": b"2026-03-02T08:00:00.000000Z",
        "bridge-event-id": receipt().event_id.encode(),
        "bridge-pbx": b"brno",
        "bridge-credential": b"site-7",
    }


def test_dead_letter_has_the_traceparent_of_its_request() -> None:
    traced = receipt(traceparent=TRACEPARENT)

    stored = dead_letter(b"{}", InvalidEvent("no EventName"), "voipex", "demo", traced, 12)

    assert dict(stored.headers)["traceparent"] == TRACEPARENT.encode()


def test_dead_letters_are_spread_over_all_partitions() -> None:
    ids = [f"019cade5-4c00-7000-8000-{n:012}" for n in range(200)]
    records = [
        dead_letter(b"", InvalidJson("no"), "voipex", "demo", receipt(event_id=each), 3) for each in ids
    ]

    assert {each.partition for each in records} == {0, 1, 2}


def test_undeliverable_record_keeps_key_value_and_headers() -> None:
    record = Record(
        "voipex.call.events.v1",
        5,
        b"1.2",
        b"{}",
        (("ce_time", b"2026-03-02T08:00:00.000001Z"), ("bridge-seq", b"9")),
        42,
    )

    stored = undeliverable(record, "MessageSizeTooLarge", "voipex", 12)

    assert stored.topic == "voipex.dead-letters.v1"
    assert (stored.key, stored.value, stored.timestamp_ms) == (b"1.2", b"{}", 42)
    assert stored.headers[:2] == record.headers
    assert dict(stored.headers[2:]) == {
        "bridge-error-class": b"Undeliverable",
        "bridge-error-message": b"MessageSizeTooLarge",
        "bridge-stage": b"ingress",
        "bridge-pbx": b"voipex",
        "bridge-received-at": b"2026-03-02T08:00:00.000001Z",
        "__dlq.errors.topic": b"voipex.call.events.v1",
    }


def test_undeliverable_record_without_key_has_a_partition() -> None:
    record = Record("voipex.call.events.v1", 5, None, b"{}", (), 42)

    stored = undeliverable(record, "Invalid", "voipex", 3)

    assert stored.key is None
    assert 0 <= stored.partition < 3
    assert dict(stored.headers)["bridge-received-at"] == b"1970-01-01T00:00:00.042000Z"
