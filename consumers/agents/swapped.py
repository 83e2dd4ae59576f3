"""
Rule A8: agent events that arrive swapped, and which one is read when.

A PBX that logs a member in paused may report the pause first. An AgentPaused up to 2 s before AgentLogins of its queue is therefore read
right after the last of them, at its moment, unless an AgentUnPaused of that queue lies between.
"""

from collections.abc import Sequence
from typing import Final

from consumers.agents.presence import LOGIN, PAUSED, UNPAUSED, AgentEvent

SWAPPED_US: Final = 2 * 1_000_000
"""A pause may precede its login by so much."""


def reading_order(events: Sequence[AgentEvent]) -> list[tuple[int, AgentEvent]]:
    """Sort *events*, given in their total order, by the moment at which each is read: (moment, event)."""
    after: dict[int, list[int]] = {}  # place of a login -> places of the pauses read after it
    for place, event in enumerate(events):
        if event.kind == PAUSED:
            login = _login_of(events, place)
            if login is not None:
                after.setdefault(login, []).append(place)
    if not after:
        return [(event.at_us, event) for event in events]
    moved = {place for places in after.values() for place in places}
    order = []
    for place, event in enumerate(events):
        if place not in moved:
            order.append((event.at_us, event))
        order += [(event.at_us, events[each]) for each in after.get(place, ())]
    return order


def _login_of(events: Sequence[AgentEvent], place: int) -> int | None:
    """Return the place of the last login that the pause at *place* belongs to; None: the pause is read where it is."""
    pause = events[place]
    last = None
    unpaused = None
    for later in range(place + 1, len(events)):
        event = events[later]
        if event.at_us > pause.at_us + SWAPPED_US:
            break
        if pause.queue is not None and event.queue is not None and event.queue != pause.queue:
            continue
        if event.kind == LOGIN:
            last = later
        elif event.kind == UNPAUSED and unpaused is None:
            unpaused = later
    return None if last is None or (unpaused is not None and unpaused < last) else last
