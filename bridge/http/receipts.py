"""The bridge's only clock: `received_at` and `event_id`, both monotonic within the process also when the system's clock steps back."""

import os
import random
import time
from collections.abc import Callable
from typing import Final

from voipex.normalize import Receipt
from voipex.timestamps import format_rfc3339

_PACE: Final = 0.9
"""Of the times given while the system's clock is behind them: durations are nearly right, and the clock catches up."""


class ReceiptClock:
    """
    Gives each webhook its Receipt.

    After the system's clock was set back, times go on from the last one given, at nine tenths of real time, until the clock has caught up.

    `event_id` is a UUIDv7 (RFC 9562): 48 bits of milliseconds, then 12 bits of the microsecond within it (method 3), then 62 bits that
    begin at random for each millisecond and count up within it. So ids sort as they were given, and ids of two processes do not meet.
    """

    def __init__(
        self,
        now_ns: Callable[[], int] = time.time_ns,
        seed: bytes | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now_ns = now_ns
        self._monotonic = monotonic
        self._paced_us = -1  # the last time given while the clock was behind
        self._paced_from: tuple[int, float] = (0, 0.0)  # a time given, and the monotonic clock then
        # Ids must differ between processes, not be secret: a system call for each would cost more than the id.
        self._random_bits = random.Random(seed or os.urandom(32)).getrandbits  # noqa: S311
        self._last_us = 0
        self._millisecond = -1
        self._time_head = self._id_head = self._random_head = ""
        self._count = 0

    @property
    def ahead_s(self) -> float:
        """How far the last time given is ahead of the system's clock."""
        return max(0.0, self._last_us / 1e6 - self._now_ns() / 1e9)

    def receipt(self, traceparent: str | None = None) -> Receipt:
        at_us = self._now_ns() // 1000
        if at_us < self._last_us:
            at_us = self._paced()
        self._last_us = at_us
        millisecond, microsecond = divmod(at_us, 1000)
        if millisecond != self._millisecond:
            self._begin_millisecond(millisecond)
        self._count = count = self._count + 1
        # The version and 10 of the 12 bits of rand_a, upper ones first; the variant and 62 bits.
        event_id = f"{self._id_head}{0x7000 | microsecond << 2:x}-{self._random_head}-{count:012x}"
        return Receipt(at_us, f"{self._time_head}{microsecond:03d}Z", event_id, traceparent)

    def _paced(self) -> int:
        """Return the next time while the system's clock is behind the last one."""
        now_s = self._monotonic()
        if self._last_us != self._paced_us:  # the clock was set back since the last receipt
            self._paced_from = (self._last_us, now_s)
        from_us, from_s = self._paced_from
        self._paced_us = max(self._last_us, from_us + int((now_s - from_s) * _PACE * 1e6))
        return self._paced_us

    def _begin_millisecond(self, millisecond: int) -> None:
        """Make what all ids and times of a millisecond have in common."""
        self._millisecond = millisecond
        self._time_head = format_rfc3339(millisecond * 1000)[:23]
        text = f"{millisecond & (1 << 48) - 1:012x}"
        self._id_head = f"{text[:8]}-{text[8:]}-"
        self._random_head = f"{0x8000 | self._random_bits(14):x}"
        self._count = self._random_bits(47)  # of 48: room to count
