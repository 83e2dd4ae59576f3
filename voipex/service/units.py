"""Sizes and durations as people write them: `1G`, `30 d`."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_BYTES: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_bytes(value: Any) -> Any:
    """`64K`, `1G`, `1 GiB`, `1GB`: powers of 1024; a plain number is in bytes. Raises ValueError. Values other than text are returned as they are."""
    if not isinstance(value, str):
        return value
    match = _AMOUNT.fullmatch(value)
    factor = match and _BYTES.get(re.sub("(?<=[kmgt])i?b$", "", match[2].lower()))
    if match is None or factor is None:
        raise ValueError("not a size, such as 67108864, 64M or 1G")
    return round(float(match[1]) * factor)


def parse_seconds(value: Any) -> Any:
    """`500ms`, `90`, `2h`, `30 d`; a plain number is in seconds. Raises ValueError. Values other than text are returned as they are."""
    if not isinstance(value, str):
        return value
    match = _AMOUNT.fullmatch(value)
    factor = match and _SECONDS.get(match[2].lower())
    if match is None or factor is None:
        raise ValueError("not a duration, such as 30, 500ms, 5m, 2h or 30d")
    return float(match[1]) * factor


def parse_milliseconds(value: Any) -> Any:
    """As `parse_seconds`; a plain number is in milliseconds."""
    if not isinstance(value, str):
        return value
    return round(parse_seconds(f"{value} ms" if value.strip().isdecimal() else value) * 1000)


def format_size(count: int) -> str:
    """`1073741824` -> `1G`: the largest unit that leaves a whole number, as settings are written."""
    for unit in ("T", "G", "M", "K"):
        factor = _BYTES[unit.lower()]
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def format_duration(seconds: float) -> str:
    """`2592000` -> `30d`: the largest unit that leaves a whole number, as settings are written."""
    for unit in ("d", "h", "m"):
        factor = _SECONDS[unit]
        if seconds and seconds % factor == 0:
            return f"{seconds / factor:.0f}{unit}"
    return f"{seconds:g}s" if seconds >= 1 or not seconds else f"{seconds * 1000:g}ms"


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
Milliseconds = Annotated[int, BeforeValidator(parse_milliseconds)]
