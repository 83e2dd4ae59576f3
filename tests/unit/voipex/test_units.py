"""Sizes and durations as an operator writes them."""

import pytest

from voipex.service.units import (
    format_duration,
    format_size,
    parse_bytes,
    parse_milliseconds,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("65536", 65_536),
        ("512B", 512),
        ("64K", 64 << 10),
        ("64 KiB", 64 << 10),
        ("1.5m", 3 << 19),
        ("1G", 1 << 30),
        ("1GB", 1 << 30),
        ("2 TiB", 2 << 40),
    ],
)
def test_a_size_has_a_unit_of_a_power_of_1024(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0.2", 0.2), ("500ms", 0.5), ("30 s", 30), ("5m", 300), ("2h", 7200), ("30 d", 2_592_000)],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(("text", "milliseconds"), [("60", 60), ("60ms", 60), ("0.1s", 100), ("2s", 2000)])
def test_a_duration_in_milliseconds_needs_no_unit(text: str, milliseconds: int) -> None:
    assert parse_milliseconds(text) == milliseconds


@pytest.mark.parametrize("text", ["", "-1", "1 X", "1KK", "1i", "K", "nan", "inf", "1e3", "1,5"])
def test_other_text_is_neither_size_nor_duration(text: str) -> None:
    for parse in (parse_bytes, parse_seconds, parse_milliseconds):
        with pytest.raises(ValueError, match=r"not a (size|duration), such as"):
            parse(text)


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 65_536, 1 << 20, 3 << 29, 1 << 30])
def test_a_size_is_written_as_it_is_read(count: int) -> None:
    assert parse_bytes(format_size(count)) == count


@pytest.mark.parametrize("seconds", [0, 0.06, 1, 1.5, 60, 61, 3600, 86_400, 2_592_000])
def test_a_duration_is_written_as_it_is_read(seconds: float) -> None:
    assert parse_seconds(format_duration(seconds)) == pytest.approx(seconds)
