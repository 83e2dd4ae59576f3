"""How webhooks reach the bridge: in order, or not."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tools.accuracy.world import Body, Sent

DELIVERIES: Final = {
    "clean": "in order, each once",
    "wild": "neighbours of a call or agent swapped within a second (1 in 7 of those sent at once), repeated as a new event within 2 s (1 in 50), 1 % late by up to 20 s",
    "lossy": "wild, and 1 % lost",
}

_SWAPPED: Final = 0.15
"""Of two sent at the same moment; it falls to 0 for those a second apart."""
_SWAPPED_WITHIN_US: Final = 1_000_000
_REPEATED: Final = 0.02
_REPEATED_WITHIN_S: Final = 2.0  # a queue that rings the same agent again waits at least 5 s
_LATE: Final = 0.01
_LATE_BY_S: Final = 20.0
_LOST: Final = 0.01


@dataclass(frozen=True, slots=True)
class Arrival:
    at_us: int
    body: Body


@dataclass(slots=True)
class Fate:
    """What became of the webhooks of one call or agent."""

    moved_us: int = 0
    """By how much they were moved, in all: a moment of a document may be wrong by so much."""
    lost_us: list[int] = field(default_factory=list)
    """When those were sent that never arrived."""
    under_way: list[tuple[int, int]] = field(default_factory=list)
    """[sent, received) of those that did not arrive at once."""

    def is_known_at(self, at_us: int) -> bool:
        """Whether all that was sent by then has arrived."""
        if any(sent_us <= at_us for sent_us in self.lost_us):
            return False
        return not any(sent_us <= at_us < received_us for sent_us, received_us in self.under_way)


@dataclass(frozen=True, slots=True)
class Delivery:
    """arrivals: in the order of receipt. fates: by subject."""

    arrivals: Sequence[Arrival]
    fates: dict[str, Fate]

    def fate(self, subject: str) -> Fate:
        return self.fates.get(subject, Fate())


def deliver(sent: Sequence[Sent], how: str, seed: int) -> Delivery:
    """Deliver the webhooks of a day in one of the `DELIVERIES`."""
    in_order = sorted(sent, key=lambda each: each.at_us)
    if how == "clean":
        return Delivery([Arrival(each.at_us, each.body) for each in in_order], {})
    random = Random(seed)  # noqa: S311  # repeatable by intent
    times = _moved(in_order, random)
    fates: dict[str, Fate] = defaultdict(Fate)
    arrivals: list[Arrival] = []
    for each, at_us in zip(in_order, times, strict=True):
        fate = fates[each.subject]
        if how == "lossy" and random.random() < _LOST:
            fate.lost_us.append(each.at_us)
            continue
        fate.moved_us += abs(at_us - each.at_us)
        if at_us > each.at_us:
            fate.under_way.append((each.at_us, at_us))
        arrivals.append(Arrival(at_us, each.body))
        if random.random() < _REPEATED:
            arrivals.append(Arrival(at_us + round(random.uniform(0.05, _REPEATED_WITHIN_S) * 1e6), each.body))
    arrivals.sort(key=lambda each: each.at_us)
    return Delivery(arrivals, dict(fates))


def _moved(in_order: Sequence[Sent], random: Random) -> list[int]:
    """Return when each is received."""
    times = [each.at_us for each in in_order]
    by_subject: dict[str, list[int]] = defaultdict(list)
    for place, each in enumerate(in_order):
        by_subject[each.subject].append(place)
    for places in by_subject.values():
        first = 0
        while first + 1 < len(places):
            one, other = places[first], places[first + 1]
            nearness = 1 - (times[other] - times[one]) / _SWAPPED_WITHIN_US
            if random.random() < _SWAPPED * nearness:
                times[one], times[other] = times[other], times[one]
                first += 1
            first += 1
    return [
        at_us + (round(random.uniform(0, _LATE_BY_S) * 1e6) if random.random() < _LATE else 0)
        for at_us in times
    ]
