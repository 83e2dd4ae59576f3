"""The bridge's only clock: `received_at` and `event_id`, both monotonic within the process also when the system's clock steps back."""

import os
import random
import time
from collections.abc import Callable

from voipex.normalize import Receipt
from voipex.timestamps import format_rfc3339


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
        self._millisecond = -1
        self._time_head = self._id_head = ""

    def receipt(self, traceparent: str | None = None) -> Receipt:
        at_us = self._now_ns() // 1000
        if at_us > self._last_us:
            self._last_us = at_us
            self._tail = self._random_bits(61)  # of 62: room to count
        else:
            at_us = self._last_us
            self._tail += 1
        # What both texts begin with is made once a millisecond.
        millisecond, microsecond = divmod(at_us, 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            self._time_head, self._id_head = format_rfc3339(at_us)[:23], _id_head(millisecond)
        received_at = f"{self._time_head}{microsecond:03d}Z"
        return Receipt(at_us, received_at, self._id_head + _id_tail(microsecond, self._tail), traceparent)


def _id_head(millisecond: int) -> str:
    text = f"{millisecond & (1 << 48) - 1:012x}"
    return f"{text[:8]}-{text[8:]}-"


def _id_tail(microsecond: int, tail: int) -> str:
    """Version and 10 of the 12 bits of rand_a, upper ones first; variant and 62 bits."""
    text = f"{1 << 63 | tail & (1 << 62) - 1:x}"
    return f"{0x7000 | microsecond << 2:x}-{text[:4]}-{text[4:]}"
