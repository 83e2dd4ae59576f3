"""The company: persons with their phones and queues, and when each was logged in and paused."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

QUEUES: Final = ("podpora", "obchod", "fakturace")

_LOGINS: Final = (
    *(
        "novak",
        "svobodova",
        "dvorak",
        "cerna",
        "prochazka",
        "kucerova",
        "horak",
        "nemcova",
        "marek",
        "pokorna",
    ),
    *("kral", "ruzickova", "benes", "fialova", "sedlacek", "dolezalova"),
)


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause in one queue, as the agent took it."""

    name: str
    since_us: int


@dataclass(frozen=True, slots=True)
class Presence:
    """What a person was from a moment on: the queues of the login, and the paused ones among them."""

    since_us: int
    logged_in: frozenset[str]
    pauses: dict[str, Pause]

    @property
    def pause(self) -> Pause | None:
        """The pause in every queue, begun last; None while a queue may ring."""
        if not self.logged_in or set(self.pauses) != self.logged_in:
            return None
        return max(self.pauses.values(), key=lambda pause: pause.since_us)


_ABSENT: Final = Presence(0, frozenset(), {})


@dataclass(slots=True, eq=False)
class Person:
    """
    Somebody who answers calls.

    mobile: a second phone with a line of its own, under the same login. spare: a phone that replaces the first. static: a queue member who never logs in.
    """

    login: str
    email: str
    line: str
    mobile: str
    spare: str
    queues: tuple[str, ...]
    static: bool
    busy: bool = False
    presences: list[Presence] = field(default_factory=lambda: [_ABSENT])

    @property
    def presence(self) -> Presence:
        return self.presences[-1]

    @property
    def has_been_here(self) -> bool:
        return len(self.presences) > 1

    def free_for(self, queue: str | None) -> bool:
        """Whether that queue (None: any) may ring this person."""
        paused = self.presence.pauses if queue is None else queue in self.presence.pauses
        if self.busy or paused or (queue is not None and queue not in self.queues):
            return False
        return self.static or bool(self.presence.logged_in)

    def become(self, now_us: int, logged_in: frozenset[str], pauses: dict[str, Pause]) -> None:
        kept = {queue: pause for queue, pause in pauses.items() if queue in logged_in}
        self.presences.append(Presence(now_us, logged_in, kept))

    def presence_at(self, at_us: int) -> Presence:
        return next(each for each in reversed(self.presences) if each.since_us <= at_us)

    def intervals(self, until_us: int) -> Iterator[tuple[int, int, Presence]]:
        """Yield (since, until, presence), in order."""
        ends = [each.since_us for each in self.presences[1:]]
        for presence, end_us in zip(self.presences, [*ends, until_us], strict=True):
            yield presence.since_us, min(end_us, until_us), presence


def hire(count: int) -> tuple[Person, ...]:
    """Return *count* persons; one of eight is a static queue member, one of three serves two queues."""
    return tuple(_hire(number) for number in range(count))


def _hire(number: int) -> Person:
    login = _LOGINS[number % len(_LOGINS)] + (
        str(number // len(_LOGINS) + 1) if number >= len(_LOGINS) else ""
    )
    first, second = QUEUES[number % len(QUEUES)], QUEUES[(number + 1) % len(QUEUES)]
    queues = (first, second) if number % 3 == 0 else (first,)
    return Person(
        login,
        f"{login}@example.cz",
        str(201 + number),
        str(901 + number),
        str(701 + number),
        queues,
        static=number % 8 == 7,
    )
