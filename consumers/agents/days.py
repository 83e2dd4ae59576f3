"""
Local days: their boundaries (from `zoneinfo`, so a day has 23 to 25 hours) and their totals.

Intervals are cut at local midnight. Totals are integers in microseconds, published as seconds.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

SHOWN_DAYS: Final = 7
"""Days in a document, today among them."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_DAY: Final = timedelta(days=1)


class Day(NamedTuple):
    """A local day: `[start_us, end_us)`."""

    name: str
    start_us: int
    end_us: int


class Window(NamedTuple):
    """What a document of some moment shows."""

    day: Day
    first_shown: str
    """The oldest day that it shows."""
    floor_us: int
    """Time before this is not summed up."""


class LocalDays:
    """The calendar of one time zone. Remembers the days it was asked for, since they are asked for again and again."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._last = Day("", 0, 0)
        self._window = Window(self._last, "", 0)
        self._by_date: dict[date, Day] = {}

    def day_of(self, at_us: int) -> Day:
        last = self._last
        if last.start_us <= at_us < last.end_us:
            return last
        day = self._day((_EPOCH + timedelta(microseconds=at_us)).astimezone(self._zone).date())
        # Where clocks go back over midnight the local date is not the day: days are what lies between first midnights.
        while at_us >= day.end_us:
            day = self._day(date.fromisoformat(day.name) + _ONE_DAY)
        self._last = day
        return day

    def window(self, at_us: int) -> Window:
        window = self._window
        if not window.day.start_us <= at_us < window.day.end_us:
            day = self.day_of(at_us)
            first_shown = self.days_before(at_us, SHOWN_DAYS - 1)
            window = self._window = Window(day, first_shown.name, first_shown.start_us)
        return window

    def days_before(self, at_us: int, count: int) -> Day:
        return self._day(date.fromisoformat(self.day_of(at_us).name) - timedelta(days=count))

    def _day(self, local_date: date) -> Day:
        day = self._by_date.get(local_date)
        if day is None:
            day = Day(
                local_date.isoformat(), self._midnight(local_date), self._midnight(local_date + _ONE_DAY)
            )
            if len(self._by_date) >= 1000:  # a replay of years needs no more than a few days at once
                self._by_date.clear()
            self._by_date[local_date] = day
        return day

    def _midnight(self, local_date: date) -> int:
        """The first moment of a date; where clocks skip midnight, the moment of the skip (fold=0 reads the gap so)."""
        midnight = datetime(local_date.year, local_date.month, local_date.day, tzinfo=self._zone)
        return (midnight.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


DayTotals = list[Any]
"""
Sums of one local day, by the places below. A list, since it is read and written with every record: it is in JSON what it is here.
The times are unions of intervals in microseconds; PAUSE_US has them by name.
"""

(
    ANSWERED_IN,
    ANSWERED_OUT,
    UNANSWERED_OUT,
    MISSED_RINGS,
    ANSWERED_ELSEWHERE,
    TRANSFERS,
    TALK_US,
    RING_US,
    LOGIN_US,
    PAUSED_US,
    PAUSES,
    PAUSE_US,
) = range(12)


def new_day() -> DayTotals:
    return [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {}]


def copy_of_day(totals: DayTotals) -> DayTotals:
    copy = totals.copy()
    copy[PAUSE_US] = copy[PAUSE_US].copy()
    return copy


def published_day(totals: DayTotals) -> dict[str, Any]:
    """As AgentDay. A day without anything has no totals."""
    return {
        "answered_in": totals[ANSWERED_IN],
        "answered_out": totals[ANSWERED_OUT],
        "unanswered_out": totals[UNANSWERED_OUT],
        "missed_rings": totals[MISSED_RINGS],
        "answered_elsewhere": totals[ANSWERED_ELSEWHERE],
        "transfers": totals[TRANSFERS],
        "talk_s": totals[TALK_US] / 1e6,
        "ring_s": totals[RING_US] / 1e6,
        "login_s": totals[LOGIN_US] / 1e6,
        "paused_s": totals[PAUSED_US] / 1e6,
        "pauses": totals[PAUSES],
        "pause_s": {name: paused_us / 1e6 for name, paused_us in totals[PAUSE_US].items()},
    }


QueueTotals = list[int]
"""Sums of one local day in one queue, likewise."""

ANSWERED, MISSED, TALKED_US, PAUSED_HERE_US = range(4)


def new_queue_day() -> QueueTotals:
    return [0, 0, 0, 0]


def published_queue_day(totals: QueueTotals) -> dict[str, Any]:
    """As QueueDay."""
    return {
        "answered": totals[ANSWERED],
        "missed_rings": totals[MISSED],
        "talk_s": totals[TALKED_US] / 1e6,
        "paused_s": totals[PAUSED_HERE_US] / 1e6,
    }
