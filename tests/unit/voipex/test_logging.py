"""Throttled log lines: one per key and interval, with a count of those in between."""

from voipex.service.logging import LogThrottle


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_one_line_per_key_and_interval_passes() -> None:
    clock = Clock()
    throttle = LogThrottle(1.0, clock)

    first = [throttle.admit("a"), throttle.admit("a"), throttle.admit("b"), throttle.admit("a")]
    clock.now_s = 1.0
    second = [throttle.admit("a"), throttle.admit("a"), throttle.admit("b")]

    assert first == [0, None, 0, None]
    assert second == [2, None, 0]


def test_reset_lets_the_next_line_pass() -> None:
    throttle = LogThrottle(60.0, Clock())
    throttle.admit("a")
    throttle.admit("a")

    throttle.reset()

    assert throttle.admit("a") == 0
