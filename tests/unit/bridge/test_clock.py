"""ReceiptClock: received_at and event_id of webhooks."""

import uuid

from bridge.http.receipts import ReceiptClock


def test_received_at_never_goes_back_when_the_clock_does() -> None:
    ticks = iter([5_000_000_000, 9_000_000_000, 3_000_000_000, 9_000_001_000])
    clock = ReceiptClock(now_ns=lambda: next(ticks))

    receipts = [clock.receipt() for _ in range(4)]

    assert [each.received_at for each in receipts] == [
        "1970-01-01T00:00:05.000000Z",
        "1970-01-01T00:00:09.000000Z",
        "1970-01-01T00:00:09.000000Z",
        "1970-01-01T00:00:09.000001Z",
    ]


def test_event_ids_are_uuid7_and_sort_whatever_the_clock_does() -> None:
    ticks = iter([7_000_000, 7_000_900, 7_001_000, 2_000_000, 2_000_000, 7_002_000, 8_000_000])
    clock = ReceiptClock(now_ns=lambda: next(ticks), seed=b"same")

    ids = [clock.receipt().event_id for _ in range(7)]

    assert ids == sorted(set(ids))
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in ids} == {(7, uuid.RFC_4122)}
    assert uuid.UUID(ids[-1]).int >> 80 == 8  # milliseconds since 1970


def test_two_processes_do_not_give_the_same_id() -> None:
    one, other = (ReceiptClock(now_ns=lambda: 1_000_000) for _ in range(2))

    assert one.receipt().event_id != other.receipt().event_id
