"""Judge every document of a simulated day against its truth."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tools.accuracy.agents import calls_of, days_of, shown_state, wrong_state, wrong_totals
from tools.accuracy.calls import wrong_fields, wrong_open_fields
from tools.accuracy.company import BUSY, play
from tools.accuracy.deliveries import Delivery, deliver
from tools.accuracy.folding import Documents, documents
from tools.accuracy.people import Person
from tools.accuracy.scores import CALLS, CUT_CALLS, CUT_DAYS, DAYS, OPEN_CALLS, STATES, Scores
from tools.accuracy.truth import Conversation
from tools.accuracy.world import World

_MOMENTS: Final = 40
"""At which open calls and agents are looked at, on each day."""
_LOOKED_AT_H: Final = (8.0, 18.5)
_AFTER_US: Final = 3_600_000_000
"""From the last event to the look at ended calls: every deadline of a call that rings or talks in vain has passed."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong document."""

    kind: str
    situation: str
    subject: str
    at_us: int
    wrong_fields: tuple[str, ...]
    quality: str
    shown: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    scores: Scores
    mistakes: tuple[Mistake, ...]
    dropped: int
    events: int


def judge_day(seed: int, day: int, how: str, situations: Collection[str] = (), plays: int = BUSY) -> Verdict:
    """Play a day, deliver its webhooks, fold them, and compare every document with the truth."""
    world = play(seed, day, situations, plays)
    delivery = deliver(world.sent, how, seed * 7919 + day)
    judge = _Judge(world, delivery)
    judge.run()
    return Verdict(judge.scores, tuple(judge.mistakes), world.dropped, len(delivery.arrivals))


class _Judge:
    def __init__(self, world: World, delivery: Delivery) -> None:
        self.scores = Scores()
        self.mistakes: list[Mistake] = []
        self._world = world
        self._delivery = delivery
        self._end_us = max(each.at_us for each in delivery.arrivals) + _AFTER_US

    def run(self) -> None:
        random = Random(self._world.seed)  # noqa: S311  # repeatable by intent
        moments_us = sorted(self._moment_us(random) for _ in range(_MOMENTS))
        *looks, final = documents(self._delivery.arrivals, [*moments_us, self._end_us])
        for shown in looks:
            self._judge_open_calls(shown)
            self._judge_states(shown)
        self._judge_ended_calls(final)
        self._judge_days(final)

    def _moment_us(self, random: Random) -> int:
        return self._world.midnight_us + round(random.uniform(*_LOOKED_AT_H) * 3.6e9)

    # ------------------------------------------------------------ calls

    def _judge_open_calls(self, shown: Documents) -> None:
        for truth in self._world.conversations:
            fate = self._delivery.fate(truth.call_id)
            knowable = fate.is_known_at(shown.at_us) and not truth.is_unreported_at(shown.at_us)
            if truth.open_at(shown.at_us) and knowable:
                document = shown.timelines.get(truth.call_id)
                self._add(OPEN_CALLS, truth, shown, wrong_open_fields(truth, document, shown.at_us))

    def _judge_ended_calls(self, final: Documents) -> None:
        for truth in self._world.conversations:
            fate = self._delivery.fate(truth.call_id)
            document = final.timelines.get(truth.call_id)
            kind = CUT_CALLS if fate.lost_us else CALLS
            self._add(kind, truth, final, wrong_fields(truth, document, fate.moved_us))

    def _add(self, kind: str, truth: Conversation, shown: Documents, wrong: list[str]) -> None:
        document = shown.timelines.get(truth.call_id)
        quality = "" if document is None else document["quality"]
        self.scores.add(kind, wrong, quality, truth.situation)
        if wrong:
            self.mistakes.append(
                Mistake(kind, truth.situation, truth.call_id, shown.at_us, tuple(wrong), quality, document)
            )

    # ------------------------------------------------------------ agents

    def _judge_states(self, shown: Documents) -> None:
        for person in self._world.people:
            if not self._is_known(person, shown.at_us):
                continue
            expected = shown_state(person, self._world.conversations, shown.at_us)
            document = shown.agents.get(person.login)
            if expected is None:
                continue
            wrong = [expected] if wrong_state(expected, document) else []
            self.scores.add(STATES, wrong)
            if wrong:
                self.mistakes.append(
                    Mistake(STATES, "", person.login, shown.at_us, (f"is {expected}",), "", document)
                )

    def _is_known(self, person: Person, at_us: int) -> bool:
        fates = list(self._fates(person))
        return all(fate.is_known_at(at_us) for fate in fates)

    def _fates(self, person: Person) -> Iterator[Any]:
        yield self._delivery.fate(person.login)
        for truth in self._world.conversations:
            if any(leg.login == person.login for leg in truth.legs):
                yield self._delivery.fate(truth.call_id)

    def _judge_days(self, final: Documents) -> None:
        for person in self._world.people:
            fates = list(self._fates(person))
            kind = CUT_DAYS if any(fate.lost_us for fate in fates) else DAYS
            moved_us = sum(fate.moved_us for fate in fates)
            document = final.agents.get(person.login)
            calls = calls_of(person, self._world.conversations)
            for date, expected in days_of(person, self._world.conversations, self._end_us).items():
                shown = None if document is None else document["days"].get(date)
                wrong = wrong_totals(expected, shown, moved_us)
                self.scores.add(kind, wrong, calls=calls[date])
                if wrong:
                    figures = {name: (expected.get(name), (shown or {}).get(name)) for name in wrong}
                    self.mistakes.append(
                        Mistake(kind, date, person.login, self._end_us, tuple(wrong), "", figures)
                    )
