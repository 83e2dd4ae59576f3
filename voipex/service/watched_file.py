"""Files that a running service reloads when they change: secrets and certificates are replaced under it, also behind symbolic links."""

import os
from pathlib import Path

_Signature = tuple[int, int, int, int]


def signature_of(status: os.stat_result) -> _Signature:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


class WatchedFiles:
    """Tells when one of some files is another one than at the last look. One owner; `stat` is the only I/O."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._look()

    def changed(self) -> bool:
        """Look again. A missing file is a state like any other: its disappearance is one change, its return another."""
        seen, self._seen = self._seen, self._look()
        return seen != self._seen

    def _look(self) -> tuple[_Signature | None, ...]:
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> _Signature | None:
    try:
        return signature_of(path.stat())
    except OSError:
        return None
