"""Detect changes of files that a running service reloads, such as secrets and certificates, also behind symbolic links."""

import os
from pathlib import Path

_Signature = tuple[int, int, int, int]


def signature_of(status: os.stat_result) -> _Signature:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


class WatchedFiles:
    """Detects that one of some files was replaced or changed since the last check. For one owner; `stat` is the only I/O."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._last = self._signatures()

    def changed(self) -> bool:
        """Check again. A file that disappears is one change, its return another."""
        last, self._last = self._last, self._signatures()
        return last != self._last

    def _signatures(self) -> tuple[_Signature | None, ...]:
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> _Signature | None:
    try:
        return signature_of(path.stat())
    except OSError:
        return None
