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
    """RFC 3339 (any offset) -> microseconds since 1970. Raises ValueError when it is no time, or has no offset."""
    if (
        len(text) == 27 and text[26] == "Z" and text[19] == "." and text[16] == ":"
    ):  # as we write it ourselves
        within = text[17:19] + text[20:26]
        if within.isascii() and within.isdigit() and within < "60":
            return _minute(text[:17]) + int(within)
    return _any(text)


@lru_cache(maxsize=8192)
def parse_rfc3339_in_range(text: str) -> int:
    """As `parse_rfc3339`, cached, for times to calculate with. Raises ValueError for times before 1970 or after 8999, too."""
    at_us = parse_rfc3339(text)
    if not 0 <= at_us < _RANGE_END_US:
        raise ValueError("a time out of range")
    return at_us


@lru_cache(maxsize=4096)
def _minute(text: str) -> int:
    return _any(text + "00Z")


def _any(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without an offset")
    return (moment - _EPOCH) // timedelta(microseconds=1)


_RANGE_END_US: Final = parse_rfc3339(
    "9000-01-01T00:00:00Z"
)  # leaves room for deadlines after a time: RFC 3339 ends with 9999
