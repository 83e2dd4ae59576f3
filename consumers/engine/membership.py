"""
The id of an instance in its consumer group (`group.instance.id`, KIP-345), so that a restart in place takes its partitions over at once.

Without it, the group waits for the session of a killed process to end (30 s) before a new one gets anything. With it, the new process replaces the
old one. That is safe, since the tasks' transactional ids fence whatever is still running (I1).

The id belongs to a state folder, a host and a slot: the number of the first lock file in the folder that no other process holds. It also
depends on the topics, because a group keeps the assignment of an instance that is replaced, although it may subscribe to others now.
"""

import contextlib
import os
import re
import secrets
import socket
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from consumers.engine.locks import try_lock

_MAX_SLOTS: Final = 64
_RANDOM: Final = re.compile(rb"[0-9a-f]{16}")


@contextlib.contextmanager
def instance_id(folder: Path, topics: Sequence[str]) -> Iterator[str | None]:
    """Hold a slot of *folder* during the block; yield its id, or None where the file system has no locks or cannot be written."""
    claimed = _claim(folder)
    if claimed is None:
        yield None
        return
    slot, descriptor = claimed
    try:
        yield _id(slot, descriptor, topics)
    finally:
        os.close(descriptor)


def _id(slot: int, descriptor: int, topics: Sequence[str]) -> str | None:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:100]
    topics_hash = zlib.crc32(",".join(sorted(topics)).encode())
    with contextlib.suppress(OSError):
        return f"{host}-{slot}-{_random_part(descriptor)}-{topics_hash:08x}"
    return None


def _claim(folder: Path) -> tuple[int, int] | None:
    """Return the first free slot and the descriptor that holds its lock."""
    with contextlib.suppress(OSError):
        for slot in range(_MAX_SLOTS):
            descriptor = try_lock(folder / f"instance-{slot}.lock")
            if descriptor is not None:
                return slot, descriptor
    return None


def _random_part(descriptor: int) -> str:
    """Return the file's content; a new file gets one, so that two folders never have the same id."""
    content = os.pread(descriptor, 16, 0)
    if _RANDOM.fullmatch(content) is None:
        content = secrets.token_hex(8).encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
    return content.decode()
