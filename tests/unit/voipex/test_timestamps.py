"""Microseconds and RFC 3339, back and forth."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voipex.timestamps import format_rfc3339, parse_rfc3339

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMPS = st.integers(min_value=0, max_value=253_402_300_799_999_999)


@given(at_us=TIMESTAMPS)
def test_timestamps_round_trip(at_us: int) -> None:
    text = format_rfc3339(at_us)

    assert text == (EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27)
    assert parse_rfc3339(text) == at_us


@given(at_us=TIMESTAMPS, place=st.integers(0, 26), sign=st.sampled_from("0579:.-+TZ _٣a"))
def test_fast_path_agrees_with_the_standard_library(at_us: int, place: int, sign: str) -> None:
    """Timestamps as `format_rfc3339` writes them have a faster parser."""
    text = format_rfc3339(at_us)
    text = text[:place] + sign + text[place + 1 :]
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        timestamp = None
    if timestamp is None or timestamp.tzinfo is None:
        with pytest.raises(ValueError):
            parse_rfc3339(text)
    else:
        assert parse_rfc3339(text) == (timestamp - EPOCH) // timedelta(microseconds=1)
