"""File locks: one process at a time has a file of the state folder. Folders and lock files belong to this user only."""

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

_RETRY_S: Final = 0.1


async def lock(path: Path, within_s: float) -> int | None:
    """Take a lock as `try_lock` does, but wait up to *within_s* for another process to release it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while (taken := try_lock(path)) is None and loop.time() < deadline:  # noqa: ASYNC110 - files have no events
        await asyncio.sleep(_RETRY_S)
    return taken


def try_lock(path: Path) -> int | None:
    """
    Return a file descriptor that holds the lock until it is closed; None: another process holds it, or the file system has no locks. Folders
    that are missing are made.
    """
    _make_private_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _make_private_folder(folder: Path) -> None:
    """Make *folder* and those above it that are missing, for this user only."""
    for each in reversed([folder, *folder.parents]):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(PermissionError):  # of another user, as a mounted volume may be
        folder.chmod(0o700)
