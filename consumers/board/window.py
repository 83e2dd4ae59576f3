"""The latest document of every call and agent: rows to list, whole documents compressed (pure)."""

import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from consumers.board.rows import LEGS, Json, agent_row, call_row
from voipex.timestamps import parse_rfc3339

Key = tuple[str, str]
"""(pbx, UniqueId or agent key)."""

_FAST: Final = 1


@dataclass(slots=True)
class Entry:
    """A document: what a list shows of it, and all of it."""

    row: Json
    body: bytes
    revision: int
    updated_us: int

    def document(self) -> Json:
        document: Json = orjson.loads(zlib.decompress(self.body))
        return document

    def legs(self) -> Sequence[Json]:
        """All legs of a call, also where the row has the newest only."""
        legs: Sequence[Json] = self.row["legs"]
        return legs if len(legs) < LEGS else self.document()["legs"]


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that is no document of its topic: shown as such, it stops nothing."""

    topic: str
    key: str
    why: str
    raw: str


class Window:
    """
    Calls of the last *window_us*, at most *max_calls* of them, and all agents.

    A document replaces one of a lower revision; a tombstone removes it. Records may come twice and in any order of keys.
    """

    def __init__(self, window_us: int, max_calls: int) -> None:
        self.calls: OrderedDict[Key, Entry] = OrderedDict()
        self.agents: dict[Key, Entry] = {}
        self.broken: OrderedDict[Key, Broken] = OrderedDict()
        self.crowded_out = 0
        """Calls that were dropped before their time, because there were too many."""
        self._window_us = window_us
        self._max_calls = max_calls

    def put_call(self, pbx: str, key: str, value: bytes | None) -> bool:
        """Take a record of the timelines. Returns whether anything changed."""
        place = (pbx, key)
        if value is None:
            return self.calls.pop(place, None) is not None
        entry = self._entry(place, "timelines", value, self.calls.get(place))
        if entry is None:
            return False
        self.calls[place] = entry
        self.calls.move_to_end(place)
        return True

    def put_agent(self, pbx: str, key: str, value: bytes | None) -> bool:
        """Take a record of the agents' status. Returns whether anything changed."""
        place = (pbx, key)
        if value is None:
            return self.agents.pop(place, None) is not None
        entry = self._entry(place, "status", value, self.agents.get(place))
        if entry is None:
            return False
        self.agents[place] = entry
        return True

    def _entry(self, place: Key, topic: str, value: bytes, held: Entry | None) -> Entry | None:
        try:
            document = orjson.loads(value)
            revision, updated_us = int(document["revision"]), parse_rfc3339(document["updated_at"])
            if topic == "timelines":
                row = call_row(document)
                row["status"] + row["quality"]  # texts, or it is no timeline
            else:
                row = agent_row(document)
                row["state"] + row["since"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.broken[place] = Broken(topic, place[1], type(error).__name__, _shown(value))
            while len(self.broken) > _MAX_BROKEN:
                self.broken.popitem(last=False)
            return None
        self.broken.pop(place, None)
        if held is not None and revision < held.revision:
            return None
        return Entry(row, zlib.compress(value, _FAST), revision, updated_us)

    def evict(self, now_us: int) -> list[Key]:
        """Drop calls that are too old or too many, the least recently changed first, and return their keys."""
        dropped: list[Key] = []
        while self.calls:
            place, entry = next(iter(self.calls.items()))
            if len(self.calls) <= self._max_calls and entry.updated_us >= now_us - self._window_us:
                break
            self.crowded_out += entry.updated_us >= now_us - self._window_us
            del self.calls[place]
            dropped.append(place)
        return dropped

    def calls_newest_first(self) -> Iterator[Entry]:
        """Yield the calls by start, the newest first; those without a known start by their last change."""
        return iter(sorted(self.calls.values(), key=order_of, reverse=True))


def order_of(entry: Entry) -> tuple[str, str, str]:
    """Order of calls: start (of an unknown one the last change), then UniqueId and PBX, so that no two are equal."""
    row = entry.row
    return row["started_at"] or row["updated_at"], row["call_id"] or "", row["pbx"] or ""


_MAX_BROKEN: Final = 100
_SHOWN: Final = 2000


def _shown(value: bytes) -> str:
    return value[:_SHOWN].decode(errors="replace")


def is_open(row: Mapping[str, Any]) -> bool:
    """Whether the call goes on, as far as is known."""
    return row["status"] not in ("ended", "stale")
