"""Timestamps: RFC 3339 text <-> microseconds since 1970. Events come close together, so minutes and seconds are cached."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_rfc3339(at_us: int) -> str:
    """Microseconds since 1970 -> `2026-03-02T08:00:00.000000Z`."""
    second, microsecond = divmod(at_us, 1_000_000)
    return f"{_second(second)}.{microsecond:06d}Z"


@lru_cache(maxsize=1024)
def _second(at_s: int) -> str:
    return (_EPOCH + timedelta(seconds=at_s)).replace(tzinfo=None).isoformat()


format_rfc3339_cached: Final = lru_cache(maxsize=16384)(format_rfc3339)
"""`format_rfc3339` for the folds: a document has a dozen times, and the next document of its key repeats most of them."""


def parse_rfc3339(text: str) -> int:
    """RFC 3339 with any offset -> microseconds since 1970. Raises ValueError for anything else, also without an offset."""
    if len(text) == 27 and text[26] == "Z" and text[19] == "." and text[16] == ":":  # by format_rfc3339
        digits = text[17:19] + text[20:26]
        if digits.isascii() and digits.isdigit() and digits < "60":
            return _minute(text[:17]) + int(digits)
    return _any(text)


@lru_cache(maxsize=8192)
def parse_rfc3339_in_range(text: str) -> int:
    """`parse_rfc3339`, cached, for times to calculate with. Raises ValueError also before 1970 and after 8999."""
    at_us = parse_rfc3339(text)
    if not 0 <= at_us < _RANGE_END_US:
        raise ValueError("a time out of range")
    return at_us


@lru_cache(maxsize=4096)
def _minute(text: str) -> int:
    return _any(text + "00Z")


def _any(text: str) -> int:
    timestamp = datetime.fromisoformat(text)
    if timestamp.tzinfo is None:
        raise ValueError("a time without an offset")
    return (timestamp - _EPOCH) // timedelta(microseconds=1)


# RFC 3339 ends with the year 9999: this leaves room for deadlines after a time.
_RANGE_END_US: Final = parse_rfc3339("9000-01-01T00:00:00Z")
