"""What only several calls show: whether an id is that of a call or of a leg, and where consultations are reported (pure)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from voipex.events import Event, EventType
from voipex.timestamps import parse_rfc3339

_TOGETHER_US: Final = 2_000_000
_WITHIN_US: Final = 3_600_000_000

_PbxLine = tuple[str, str]
"""PBX and line."""


@dataclass(slots=True)
class BetweenCalls:
    """`..._same_id`, `..._other_id`: whether both events have one UniqueId."""

    answers_same_id: int = 0  # an Answered whose line rang under the same id
    answers_other_id: int = 0  # … under another id only, and not under its own
    simultaneous: int = 0  # ids that begin within 2 s with equal From and To, the id apart
    consult_same_id: int = 0  # a Ringing from a line that talks in the call of the same id
    consult_other_id: int = 0  # … that talks under another id


def between_calls(events: Iterable[Event]) -> BetweenCalls:
    """Follow all calls side by side; *events* are those of calls in their total order."""
    follower = _Follower()
    for event in events:
        follower.follow(event, parse_rfc3339(event.received_at))
    return follower.counts


class _Follower:
    def __init__(self) -> None:
        self.counts = BetweenCalls()
        self._begun: dict[tuple[str, str | None, str | None], tuple[str | None, int]] = {}
        self._known: set[tuple[str, str | None]] = set()
        self._ringing: dict[_PbxLine, tuple[str | None, int]] = {}  # id and moment of the last Ringing
        self._rang: set[tuple[_PbxLine, str | None]] = set()
        self._talking: dict[_PbxLine, str | None] = {}

    def follow(self, event: Event, at_us: int) -> None:
        if (event.pbx, event.unique_id) not in self._known:
            self._begin(event, at_us)
        if event.type is EventType.RINGING and event.from_ is not None and event.from_ != event.line:
            held = self._talking.get((event.pbx, event.from_))
            self.counts.consult_same_id += held == event.unique_id
            self.counts.consult_other_id += held not in (None, event.unique_id)
        if event.line is not None:
            self._follow_line((event.pbx, event.line), event, at_us)

    def _begin(self, event: Event, at_us: int) -> None:
        self._known.add((event.pbx, event.unique_id))
        if event.from_ is not None and event.to is not None:
            ends = (event.pbx, event.from_, event.to)
            other = self._begun.get(ends)
            self.counts.simultaneous += other is not None and at_us - other[1] <= _TOGETHER_US
            self._begun[ends] = (event.unique_id, at_us)

    def _follow_line(self, place: _PbxLine, event: Event, at_us: int) -> None:
        match event.type:
            case EventType.RINGING:
                self._ringing[place] = (event.unique_id, at_us)
                self._rang.add((place, event.unique_id))
            case EventType.ANSWERED:
                last = self._ringing.get(place)
                if (place, event.unique_id) in self._rang:
                    self.counts.answers_same_id += 1
                elif last is not None and at_us - last[1] <= _WITHIN_US:
                    self.counts.answers_other_id += 1
                self._talking[place] = event.unique_id
            case EventType.HANGUP:
                self._ringing.pop(place, None)
                self._talking.pop(place, None)
