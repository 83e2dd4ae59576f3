"""Play one day of the company: its shifts, and every situation several times."""

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from tools.accuracy.shifts import shifts
from tools.accuracy.situations import SITUATIONS
from tools.accuracy.world import World, patiently

ZONE: Final = ZoneInfo("Europe/Prague")
_FIRST_DAY: Final = date(2026, 3, 2)
BUSY, QUIET = 4, 1
"""How often a day plays a situation of weight 1."""

_OPENING_H: Final = (9.0, 16.5)
_NIGHT_H: Final = (20.5, 29.0)


def play(seed: int, day: int, situations: Collection[str] = (), plays: int = BUSY) -> World:
    """Play the day with that number. situations: only these (default: all). plays: of each of weight 1."""
    world = World(seed * 100_003 + day, _midnight_us(_FIRST_DAY + timedelta(days=day)))
    for shift in shifts(world):
        world.start(shift)
    for name, each in SITUATIONS.items():
        if (situations and name not in situations) or (each.needs_reasons and not world.dialect.reasons):
            continue
        for _ in range(plays * each.weight):
            hours = world.seconds(*(_NIGHT_H if name == "night" else _OPENING_H))
            world.start(patiently(world, each.script, name), hours * 3600)
    world.run()
    return world


def _midnight_us(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp()) * 1_000_000
