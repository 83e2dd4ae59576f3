"""Compare the status of an agent with the truth: the state at a moment, and the totals of a day."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from tools.accuracy.company import ZONE
from tools.accuracy.people import Person
from tools.accuracy.truth import Conversation, Interval, Leg, Manner, Role, union_us

Json = dict[str, Any]

COUNTERS: Final = (
    *("answered_in", "answered_out", "unanswered_out", "missed_rings", "answered_elsewhere", "transfers"),
    "pauses",
)
TIMES: Final = ("talk_s", "ring_s", "login_s", "paused_s")

TRANSFERS_AT_MOST: Final = "transfers at most"
"""Beside `transfers`, with those that nothing is asked about: a document may count them or not."""

_NEAR_US: Final = 1_000_000
_MISSED: Final = {"no_answer", "busy", "rejected"}


# ------------------------------------------------------------ a moment


def shown_state(person: Person, conversations: Iterable[Conversation], at_us: int) -> str | None:
    """Return what a supervisor should see; None when no event tells it."""
    active: list[tuple[int, int, str]] = []
    for each in conversations:
        legs = [leg for leg in each.legs if leg.login == person.login]
        if not each.open_at(at_us):
            continue
        if person.login in each.unheard or (legs and each.is_unreported_at(at_us)):
            return None
        active += [shown for leg in legs if (shown := _activity(leg, at_us)) is not None]
    if active:
        return max(active)[2]
    return _idle_state(person, at_us)


def _activity(leg: Leg, at_us: int) -> tuple[int, int, str] | None:
    """Return (precedence, begin, state) of a leg that goes on."""
    if leg.role is Role.CALLER and (leg.rings_at(at_us) or leg.has_caller_at(at_us)):
        return 4, leg.rang_us or 0, "on_call_out"
    if leg.has_caller_at(at_us):
        return 4, leg.got_caller_us or 0, "on_call_in"
    if leg.role is Role.MONITOR and (leg.monitors_at(at_us) or leg.rings_at(at_us)):
        return 3, leg.rang_us or 0, "monitoring"
    if leg.is_consulted_at(at_us):
        return 2, leg.answered_us or 0, "consulting"
    if leg.rings_at(at_us):
        return 1, leg.rang_us or 0, "ringing"
    return None


def _idle_state(person: Person, at_us: int) -> str:
    presence = person.presence_at(at_us)
    if person.static:
        return "implicit"
    if not presence.logged_in:
        return "offline"
    if presence.pause is not None:
        return "paused"
    return "partially_paused" if presence.pauses else "available"


def wrong_state(expected: str, shown: Json | None) -> bool:
    """Say whether the status shows something else; nobody has heard of an agent before his first event."""
    if shown is None:
        return expected not in ("offline", "implicit")
    if expected in ("on_call_in", "on_call_out"):
        return bool((shown["state"], shown["activity"]) != ("on_call", expected))
    return bool(shown["state"] != expected)


# ------------------------------------------------------------ a day


class _Days:
    """Sums by local day."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.times: dict[str, dict[str, list[Interval]]] = defaultdict(lambda: defaultdict(list))

    def count(self, counter: str, at_us: int | None) -> None:
        self.counts[_date(at_us or 0)][counter] += 1

    def add(self, name: str, interval: Interval | None) -> None:
        """Add an interval, cut at midnights."""
        if interval is None:
            return
        from_us, until_us = interval
        while from_us < until_us:
            midnight_us = _midnight_after_us(from_us)
            self.times[_date(from_us)][name].append((from_us, min(until_us, midnight_us)))
            from_us = midnight_us


def days_of(
    person: Person, conversations: Sequence[Conversation], end_us: int
) -> dict[str, dict[str, float]]:
    """Return what a person did on each local day, by the names of `days` in AgentStatus."""
    days = _Days()
    for each in conversations:
        _count_calls(days, person, each)
    for from_us, until_us, presence in person.intervals(end_us):
        if presence.logged_in:
            days.add("login_s", (from_us, until_us))
        if presence.pause is not None:
            days.add("paused_s", (from_us, until_us))
    for started_us in _pauses(person):
        days.count("pauses", started_us)
    names = {*days.counts, *days.times}
    return {
        name: {counter: days.counts[name][counter] for counter in (*COUNTERS, TRANSFERS_AT_MOST)}
        | {time: union_us(days.times[name][time]) / 1e6 for time in TIMES}
        for name in names
    }


def calls_of(person: Person, conversations: Iterable[Conversation]) -> Counter[str]:
    """Count the calls that a person had a part in, by the local day on which they began."""
    return Counter(
        _date(each.first_sign_us or 0)
        for each in conversations
        if any(leg.login == person.login for leg in each.legs)
    )


def _pauses(person: Person) -> Iterator[int]:
    """Yield when each pause began that kept the person from all calls."""
    before = None
    for presence in person.presences:
        if presence.pause is not None and before is None:
            yield presence.since_us
        before = presence.pause


def _count_calls(days: _Days, person: Person, truth: Conversation) -> None:
    legs = [leg for leg in truth.legs if leg.login == person.login]
    for leg in legs:
        if leg.role is not Role.MONITOR:
            days.add("talk_s", leg.talking(truth.ended_us or 0))
        if leg.role in (Role.AGENT, Role.CONSULT):
            days.add("ring_s", leg.ringing(truth.ended_us or 0))
    for handover in truth.handovers:
        if handover.transferor in legs and handover.manner is not Manner.CANCELLED:
            days.count(TRANSFERS_AT_MOST, handover.at_us)
            if truth.transfers_asked:
                days.count("transfers", handover.at_us)
    _count_calls_out(days, [leg for leg in legs if leg.role is Role.CALLER])
    rounds: dict[int, list[Leg]] = defaultdict(list)
    for leg in legs:
        if leg.role is Role.AGENT:
            rounds[leg.round].append(leg)
    for each in rounds.values():
        _count_round(days, each)


def _count_calls_out(days: _Days, own: list[Leg]) -> None:
    answers = [leg.got_caller_us for leg in own if leg.got_caller_us is not None]
    if answers:
        days.count("answered_out", min(answers))
    elif own:
        days.count("unanswered_out", own[-1].ended_us)


def _count_round(days: _Days, legs: list[Leg]) -> None:
    """Count what came of ringing a person: one call, on however many phones."""
    answers = [leg.got_caller_us for leg in legs if leg.got_caller_us is not None]
    results = {leg.result for leg in legs}
    ended_us = max(leg.ended_us or 0 for leg in legs)
    if answers:
        days.count("answered_in", min(answers))
    elif results & _MISSED:
        days.count("missed_rings", ended_us)
    elif "answered_elsewhere" in results:
        days.count("answered_elsewhere", ended_us)


def wrong_totals(expected: dict[str, float], shown: Json | None, moved_us: int = 0) -> list[str]:
    """Name the totals of a day that differ from the truth."""
    if shown is None:
        return ["no document"] if any(expected.values()) else []
    near_s = (_NEAR_US + moved_us) / 1e6
    transfers_at_most = expected[TRANSFERS_AT_MOST]
    return [
        *(
            counter
            for counter in COUNTERS
            if shown[counter] != expected[counter]
            and not (counter == "transfers" and expected[counter] <= shown[counter] <= transfers_at_most)
        ),
        *(time for time in TIMES if abs(shown[time] - expected[time]) > near_s),
    ]


def _date(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, ZONE).date().isoformat()


def _midnight_after_us(at_us: int) -> int:
    next_date = datetime.fromtimestamp(at_us / 1e6, ZONE).date() + timedelta(days=1)
    midnight = datetime(next_date.year, next_date.month, next_date.day, tzinfo=ZONE)
    return round(midnight.timestamp()) * 1_000_000
