"""
The clock, the persons and the PBX of one simulated day.

Each conversation and each shift is a generator: it acts, yields the seconds until its next act, and so on. The same seed plays the same
day.
"""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Final

from tools.accuracy.dialects import Dialect, draw
from tools.accuracy.people import Person, hire
from tools.accuracy.truth import Conversation

Body = dict[str, str]
Play = Generator[float, None, None]
"""Yields seconds until its next act."""

_PERSONS: Final = 14
_TRY_AGAIN_S: Final = 240.0
_TRIES: Final = 40


class NobodyFreeError(Exception):
    """A situation needs more persons than are free; it is tried again later."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A webhook as the PBX sends it. subject: the call or the login that it tells of."""

    at_us: int
    body: Body
    subject: str


@dataclass(slots=True)
class World:
    """One day of the company."""

    seed: int
    midnight_us: int
    random: Random = field(init=False)
    dialect: Dialect = field(init=False)
    people: tuple[Person, ...] = field(init=False)
    now_us: int = field(init=False)
    sent: list[Sent] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    dropped: int = 0
    """Situations that never found the persons they need."""
    _sequence: int = 0
    _plays: list[tuple[int, int, Play]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311  # repeatable by intent
        self.dialect = draw(self.random)
        self.people = hire(_PERSONS)
        self.now_us = self.midnight_us

    # ------------------------------------------------------------ time

    def start(self, play: Play, in_s: float = 0.0) -> None:
        self._sequence += 1
        heappush(self._plays, (self.now_us + round(in_s * 1e6), self._sequence, play))

    def run(self) -> None:
        """Play until nothing is left to happen."""
        while self._plays:
            self.now_us, number, play = heappop(self._plays)
            pause_s = next(play, None)
            if pause_s is not None:
                heappush(self._plays, (self.now_us + round(pause_s * 1e6), number, play))

    def seconds(self, least_s: float, most_s: float) -> float:
        return self.random.uniform(least_s, most_s)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # ------------------------------------------------------------ persons

    def claim(self, count: int, queue: str | None = None) -> list[Person]:
        """Claim free persons; `release` them afterwards. Raises NobodyFreeError."""
        free = [each for each in self.people if each.free_for(queue)]
        if len(free) < count:
            raise NobodyFreeError
        claimed = self.random.sample(free, count)
        for person in claimed:
            person.busy = True
        return claimed

    def claim_absent(self) -> Person:
        """Claim a person whom no queue rings now, paused or logged out again, at a desk of their own. Raises NobodyFreeError."""
        lines = Counter(person.line for person in self.people)
        absent = [
            each
            for each in self.people
            if not each.busy and each.has_been_here and not each.free_for(None) and lines[each.line] == 1
        ]
        if not absent:
            raise NobodyFreeError
        person = self.random.choice(absent)
        person.busy = True
        return person

    def release(self, *people: Person) -> None:
        for person in people:
            person.busy = False

    def is_talking(self, person: Person) -> bool:
        return any(
            leg.login == person.login and leg.has_caller_at(self.now_us)
            for each in self.conversations
            if each.open_at(self.now_us)
            for leg in each.legs
        )

    # ------------------------------------------------------------ the PBX

    def unique_id(self) -> str:
        self._sequence += 1
        return f"{self.dialect.system_name}{self.now_us // 1_000_000}.{self._sequence}"

    def customer(self) -> str:
        """Return a customer's number; some hide it."""
        return "" if self.chance(0.03) else f"60100{self.random.randrange(10_000):04}"

    def send(self, body: Body, subject: str, in_s: float = 0.0) -> None:
        self.sent.append(Sent(self.now_us + round(in_s * 1e6), body, subject))


def patiently(world: World, script: Callable[[World, str], Play], name: str) -> Play:
    """Play a situation as soon as the persons it needs are free."""
    for _ in range(_TRIES):
        play = script(world, name)
        free = [person for person in world.people if not person.busy]
        try:
            pause_s = next(play, None)
        except NobodyFreeError:
            world.release(*free)
            yield world.seconds(_TRY_AGAIN_S / 2, _TRY_AGAIN_S)
            continue
        if pause_s is not None:
            yield pause_s
        yield from play
        return
    world.dropped += 1
