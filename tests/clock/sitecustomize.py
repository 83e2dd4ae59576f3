"""Shift `time.time` and `time.time_ns` of this process by the seconds in a file. See `tests.clock`."""

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path


def _shift(path: Path, time_ns: Callable[[], int]) -> None:
    def shifted_ns() -> int:
        (seconds,) = struct.unpack("<d", path.read_bytes())
        return time_ns() + int(seconds * 1e9)

    time.time_ns = shifted_ns
    time.time = lambda: shifted_ns() / 1e9


if (_file := os.environ.get("TEST_CLOCK_FILE")) is not None:
    _shift(Path(_file), time.time_ns)
