"""
Divides the room of a spool among PBXs, so that a flood of one leaves room for the others.

Half of the limit is reserved, in equal parts: a PBX always gets its part, however much the others send. The other half goes to whoever
needs it. With one PBX there is nothing to divide.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from voipex.records import Record

_FRAMING_BYTES: Final = 512
"""Of a record beside its value: key, headers and lengths. A constant, since the size on disk is not known when it is subtracted."""


class Shares:
    """The part of each PBX in the waiting records."""

    def __init__(self, pbxs: Sequence[str], limit_bytes: int) -> None:
        self._pbxs: Final = tuple(map(str, pbxs))  # JSON takes no subclass of str as a key
        self.reserved_bytes: Final = limit_bytes // (2 * len(pbxs)) if len(pbxs) > 1 else 0
        self.counted: dict[str, int] = dict.fromkeys(self._pbxs, 0)
        """What was added and not subtracted, in bytes that are only comparable with each other."""
        self.refused: dict[str, int] = dict.fromkeys(self._pbxs, 0)
        """Appends that were refused because the PBX had filled its share."""
        self._limit_bytes: Final = limit_bytes
        self._shared_bytes: Final = limit_bytes - self.reserved_bytes * len(pbxs)

    def admit(self, pbx: str, size: int, total_bytes: int) -> bool:
        """Return whether *size* more bytes of a PBX fit, which make *total_bytes* of all; count a refusal."""
        if total_bytes <= self._shared_bytes:
            return True
        used, reserved = self.used_bytes(total_bytes - size), self.reserved_bytes
        if used.get(pbx, 0) + size <= reserved:
            return True
        others = sum([max(0, reserved - used[each]) for each in self._pbxs if each != pbx])
        if total_bytes + others <= self._limit_bytes:
            return True
        self.refused[pbx] = self.refused.get(pbx, 0) + 1
        return False

    def used_bytes(self, total_bytes: int) -> dict[str, int]:
        """Divide the bytes of all waiting records among the PBXs."""
        counted = sum(self.counted.values()) or 1
        return {pbx: total_bytes * count // counted for pbx, count in self.counted.items()}

    def add(self, records: Iterable[Record]) -> None:
        counted = self.counted
        for record in records:
            pbx = pbx_of(record)
            counted[pbx] = counted.get(pbx, 0) + len(record.value) + _FRAMING_BYTES

    def subtract(self, records: Iterable[Record]) -> None:
        counted = self.counted
        for record in records:
            pbx = pbx_of(record)
            counted[pbx] = max(0, counted.get(pbx, 0) - len(record.value) - _FRAMING_BYTES)

    def recover(self, counted: Mapping[str, int]) -> None:
        """Add what an earlier process had counted."""
        for pbx, count in counted.items():
            self.counted[pbx] = self.counted.get(pbx, 0) + count

    def clear(self) -> None:
        """Nothing is waiting: forget what was never subtracted, such as corrupt records."""
        for pbx in self.counted:
            self.counted[pbx] = 0


def pbx_of(record: Record) -> str:
    return _pbx_of(record.topic)


@lru_cache(maxsize=4096)  # three times for each record
def _pbx_of(topic: str) -> str:
    return topic.partition(".")[0]  # names of PBXs have no dot
