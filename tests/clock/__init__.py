"""A clock of a process under test that is wrong, and can be set meanwhile: Python loads `sitecustomize` from this folder at its start."""

import struct
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
_SECONDS: Final = struct.Struct("<d")


class WrongClock:
    """The wall clock of processes that get `environment`; their monotonic clock is right."""

    def __init__(self, path: Path, ahead_s: float = 0.0) -> None:
        self._path = path
        self.set_ahead(ahead_s)

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(_FOLDER), "TEST_CLOCK_FILE": str(self._path)}

    def set_ahead(self, seconds: float) -> None:
        """Set the clock to *seconds* ahead of the right time, or behind it."""
        new = self._path.with_suffix(".new")
        new.write_bytes(_SECONDS.pack(seconds))
        new.replace(self._path)
