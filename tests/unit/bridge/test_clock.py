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


def test_after_a_step_back_times_go_on_more_slowly() -> None:
    """Constant times would make every duration 0; the right pace would never catch up."""
    now_s, elapsed_s = 7200.0, 0.0
    clock = ReceiptClock(now_ns=lambda: int(now_s * 1e9), monotonic=lambda: elapsed_s)
    clock.receipt()
    now_s = 0.0  # the clock was two hours ahead
    given = {}
    for second in range(0, 72_020, 10):
        now_s = elapsed_s = float(second)
        given[second] = clock.receipt().received_at_us / 1e6, clock.ahead_s

    assert [given[0], given[10], given[20]] == [(7200, 7200), (7209, 7199), (7218, 7198)]
    assert [given[70_000], given[72_000], given[72_010]] == [(70_200, 200), (72_000, 0), (72_010, 0)]


def test_two_steps_back_keep_the_order() -> None:
    now_s, elapsed_s = 100.0, 0.0
    clock = ReceiptClock(now_ns=lambda: int(now_s * 1e9), monotonic=lambda: elapsed_s)
    given = []
    for now_s, elapsed_s in [(100, 0), (50, 1), (51, 2), (200, 3), (150, 4), (151, 14), (20, 24), (300, 30)]:  # noqa: B007 - read by the clock
        given.append(clock.receipt().received_at_us // 1_000_000)

    assert given == [100, 100, 100, 200, 200, 209, 218, 300]


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
