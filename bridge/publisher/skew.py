"""Compares this host's clock with those of the PBXs: a call begins when its UniqueId says, and its first events arrive within a second."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from voipex.events import split_unique_id
from voipex.records import Record

_SPAN_S: Final = 300.0
_FIRST_EVENTS: Final = frozenset({b"voipex.call.new_call.v1", b"voipex.call.ringing.v1"})
"""Types of events that come soon after the start of most calls. Others come at the end of a call that may have lasted hours."""


class ClockSkew:
    """The least delay from a call's start to the receipt of one of its events, by PBX, over the last five to ten minutes."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._span_began = monotonic()
        self._least: dict[str, float] = {}
        self._least_before: dict[str, float] = {}  # of the span before

    def observe(self, record: Record) -> None:
        """Note an event; other records, and ids without an epoch, are ignored."""
        if record.key is None or dict(record.headers).get("ce_type") not in _FIRST_EVENTS:
            return
        parts = split_unique_id(record.key.decode(errors="replace"))
        if parts is None:
            return
        self._begin_span()
        pbx = record.topic.partition(".")[0]  # names of PBXs have no dot
        delay_s = record.timestamp_ms / 1000 - parts[1]
        self._least[pbx] = min(self._least.get(pbx, delay_s), delay_s)

    def by_pbx_s(self) -> Mapping[str, float]:
        """Return this host's clock minus that of each PBX, in seconds; nothing of a PBX without calls."""
        self._begin_span()
        least = dict(self._least_before)
        for pbx, delay_s in self._least.items():
            least[pbx] = min(least.get(pbx, delay_s), delay_s)
        return least

    def _begin_span(self) -> None:
        now = self._monotonic()
        if now - self._span_began < _SPAN_S:
            return
        self._least_before = self._least if now - self._span_began < 2 * _SPAN_S else {}
        self._least, self._span_began = {}, now
