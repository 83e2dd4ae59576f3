"""RFC 3339 to microseconds and back, fast: a document tells a dozen times, and each comes again in the next ones."""

from functools import lru_cache
from typing import Final

from voipex.timestamps import microseconds, rfc3339

_MINUTE_US: Final = 60_000_000
_LAST_US: Final = microseconds("9000-01-01T00:00:00Z")  # so that deadlines after a time can still be written


@lru_cache(maxsize=8192)
def us_of(text: str) -> int:
    """RFC 3339 -> microseconds since 1970. Raises ValueError when it is no time, or none that can be reckoned with."""
    at_us = microseconds(text)
    if not 0 <= at_us < _LAST_US:
        raise ValueError("a time out of all reason")
    return at_us


@lru_cache(maxsize=8192)
def text_of(at_us: int) -> str:
    """Microseconds -> text, as `voipex.timestamps.rfc3339`."""
    minute, rest_us = divmod(at_us, _MINUTE_US)
    # Exact: 8 digits of the 15 that a float holds. (An f-string takes a third longer.)
    return "%s%09.6fZ" % (_text_of_minute(minute), rest_us / 1_000_000)  # noqa: UP031


@lru_cache(maxsize=4096)
def _text_of_minute(minute: int) -> str:
    return rfc3339(minute * _MINUTE_US)[:17]
