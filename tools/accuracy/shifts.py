"""How the persons of the company log in, pause and log out, and how the PBX tells it."""

from collections.abc import Iterable
from typing import Final

from tools.accuracy.people import Pause, Person
from tools.accuracy.world import Play, World

SHIFTS: Final = {
    "plain": "in the morning in, several pauses, in the evening out",
    "paused_before_login": "the pause is reported just before the login",
    "name_lost": "the PBX restarts, and tells a running pause again without its name",
    "new_phone": "logged in on a new phone before the old one is logged out",
    "overnight": "logged in over midnight, until the next morning",
    "out_while_paused": "logged out while paused",
    "all_queues": "pauses without a Queue, which mean all of them",
    "one_queue": "paused in one of two queues",
    "twice": "logged out at noon and in again",
    "repeated_login": "the PBX tells the login again",
    "pauses_in_calls": "takes a pause while still talking",
    "out_in_a_call": "logs out while still talking",
    "late_shift": "logged in on the desk of a colleague who has left",
}
"""What a day of an agent may have, by name."""

_PAUSES: Final = ("Oběd", "Přestávka", "Školení", "Porada")
_HOUR_S: Final = 3600.0


def shifts(world: World) -> Iterable[Play]:
    """Return the day of every person; one comes at noon to the desk of another one who leaves then."""
    *regular, early, late = [person for person in world.people if not person.static]
    late.line = early.line
    yield _day(world, early, "plain", 6, 12)
    yield _day(world, late, "late_shift", 12.5, 20)
    kinds = [name for name in SHIFTS if name != "late_shift"]
    for person in regular:
        kind = world.random.choice(kinds)
        if kind == "one_queue" and len(person.queues) < 2:
            kind = "plain"
        yield _day(world, person, kind, world.seconds(7, 9), world.seconds(16, 18))


def _day(world: World, person: Person, kind: str, from_h: float, until_h: float) -> Play:
    end_us = world.midnight_us + round((until_h if kind != "overnight" else 30) * _HOUR_S * 1e6)
    yield from_h * _HOUR_S
    yield from _log_in(world, person, kind)
    evening_us = world.midnight_us + round(until_h * _HOUR_S * 1e6)
    while True:
        yield min(world.seconds(0.4 * _HOUR_S, 2.5 * _HOUR_S), max(1.0, (evening_us - world.now_us) / 1e6))
        if world.now_us >= evening_us:
            break
        yield from _until_it_suits(world, person, kind == "pauses_in_calls")
        is_late = evening_us - world.now_us < 1.5 * _HOUR_S * 1e6
        yield from _interruption(world, person, "plain" if kind == "twice" and is_late else kind)
    if kind == "overnight":
        yield max(0.0, (end_us - world.now_us) / 1e6)
    yield from _until_it_suits(world, person, kind == "out_in_a_call")
    if kind == "out_while_paused":
        _pause(world, person, person.queues, "Porada")
        yield world.seconds(60, 900)
    _log_out(world, person)


def _interruption(world: World, person: Person, kind: str) -> Play:
    if kind == "twice" and world.chance(0.4):
        _log_out(world, person)
        yield world.seconds(600, 3600)
        yield from _log_in(world, person, "plain")
    elif kind == "new_phone" and world.chance(0.4) and person.line != person.spare:
        yield from _new_phone(world, person)
    elif kind == "repeated_login" and world.chance(0.5):
        for queue in person.queues:
            _emit(world, person, "AgentLogin", queue)
    else:
        yield from _break(world, person, kind)


def _log_in(world: World, person: Person, kind: str) -> Play:
    paused = kind == "paused_before_login"
    pauses = {queue: Pause("Příprava", world.now_us) for queue in person.queues} if paused else {}
    person.become(world.now_us, frozenset(person.queues), pauses)
    for queue in person.queues:
        if paused:
            _emit(world, person, "AgentPaused", queue, pause_name="Příprava")
        _emit(world, person, "AgentLogin", queue, in_s=0.15 if paused else 0.0)
    if paused:
        yield world.seconds(60, 900)
        _unpause(world, person, person.queues)


def _log_out(world: World, person: Person) -> None:
    person.become(world.now_us, frozenset(), {})
    for queue in person.queues:
        _emit(world, person, "AgentLogout", queue)


def _new_phone(world: World, person: Person) -> Play:
    """The agent stays logged in; the old phone is logged out some seconds later."""
    old, person.line = person.line, person.spare
    for queue in person.queues:
        _emit(world, person, "AgentLogin", queue)
    gap_s = world.seconds(2, 60)
    for queue in person.queues:
        _emit(world, person, "AgentLogout", queue, line=old, in_s=gap_s)
    yield gap_s + 1


def _break(world: World, person: Person, kind: str) -> Play:
    name = world.random.choice(_PAUSES)
    queues = person.queues[:1] if kind == "one_queue" else person.queues
    every = kind == "all_queues"
    _pause(world, person, queues, name, every=every)
    yield world.seconds(120, 1200)
    if kind == "name_lost":
        for queue in queues:
            _emit(world, person, "AgentLogin", queue)
            _emit(world, person, "AgentPaused", queue, in_s=0.1)
        yield world.seconds(60, 600)
    yield from _until_free(person)
    _unpause(world, person, queues, every=every)


def _pause(world: World, person: Person, queues: tuple[str, ...], name: str, *, every: bool = False) -> None:
    pauses = person.presence.pauses | {queue: Pause(name, world.now_us) for queue in queues}
    person.become(world.now_us, person.presence.logged_in, pauses)
    for queue in ("",) if every else queues:
        _emit(world, person, "AgentPaused", queue, pause_name=name)


def _unpause(world: World, person: Person, queues: tuple[str, ...], *, every: bool = False) -> None:
    pauses = {queue: pause for queue, pause in person.presence.pauses.items() if queue not in queues}
    person.become(world.now_us, person.presence.logged_in, pauses)
    for queue in ("",) if every else queues:
        _emit(world, person, "AgentUnPaused", queue)


def _until_it_suits(world: World, person: Person, while_talking: bool) -> Play:
    """Wait until the person is free; *while_talking*: for up to an hour until a caller is on the phone."""
    for _ in range(1200):
        if not while_talking or world.is_talking(person):
            break
        yield 3.0
    if not (while_talking and world.is_talking(person)):
        yield from _until_free(person)


def _until_free(person: Person) -> Play:
    while person.busy:
        yield 3.0


def _emit(
    world: World,
    person: Person,
    event_name: str,
    queue: str,
    *,
    pause_name: str = "",
    line: str | None = None,
    in_s: float = 0.0,
) -> None:
    body = {"EventName": event_name, "Queue": queue, "Login": person.login}
    body |= {"Line": line or person.line, "Email": person.email}
    if pause_name:
        body["PauseName"] = pause_name
    world.send(body, person.login, in_s)
