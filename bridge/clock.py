"""The bridge's only clock: `received_at` and `event_id`, both monotonic within the process also when the system's clock steps back."""

import os
import random
import time
from collections.abc import Callable

from bridge.events import rfc3339
from bridge.normalize import Receipt


class ReceiptClock:
    """
    Gives each webhook its Receipt.

    `event_id` is a UUIDv7 (RFC 9562): 48 bits of milliseconds, then 12 bits of the microsecond within it (method 3), then 62 bits that
    begin at random for each microsecond and count up within it. So ids sort as they were given, and ids of two processes do not meet.
    """

    def __init__(self, now_ns: Callable[[], int] = time.time_ns, seed: bytes | None = None) -> None:
        self._now_ns = now_ns
        # Ids must differ between processes, not be secret: a system call for each would cost more than the id.
        self._random_bits = random.Random(seed or os.urandom(32)).getrandbits  # noqa: S311
        self._last_us = 0
        self._tail = 0
        self._second = -1
        self._second_text = ""

    def receipt(self, traceparent: str | None = None) -> Receipt:
        at_us = self._now_ns() // 1000
        if at_us > self._last_us:
            self._last_us = at_us
            self._tail = self._random_bits(61)  # of 62: room to count
        else:
            at_us = self._last_us
            self._tail += 1
        return Receipt(at_us, self._text(at_us), uuid7(at_us, self._tail), traceparent)

    def _text(self, at_us: int) -> str:
        """RFC 3339, with all but the microseconds made once a second."""
        second, microsecond = divmod(at_us, 1_000_000)
        if second != self._second:
            self._second = second
            self._second_text = rfc3339(second * 1_000_000)[:20]
        return f"{self._second_text}{microsecond:06d}Z"


def uuid7(at_us: int, tail: int) -> str:
    """UUIDv7 of a moment in microseconds since 1970 and 62 bits to tell ids of one microsecond apart."""
    milliseconds, microsecond = divmod(at_us, 1000)
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | microsecond << 66  # 10 of the 12 bits of rand_a, upper ones first
    value |= 0b10 << 62 | tail & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
