"""Refused bodies are recognized when they come again, and the probe ends by itself."""

from dataclasses import dataclass
from typing import Any

import pytest

from bridge.http import retries as module
from bridge.http.retries import Probe, Retries
from tests.factories import body

NEW_CALL = body(EventName="NewCall", UniqueId="1412256225.1")
HANGUP = body(EventName="Hangup", UniqueId="1412256225.1")
RINGING = body()


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def counts(retries: Retries, status: int, pbx: str | None = "voipex") -> dict[str, Any]:
    found: dict[str, Any] = retries.to_json()[pbx][str(status)]
    return found


def refuse(retries: Retries, sent: bytes, pbx: str = "voipex", status: int = 503) -> None:
    """What the ingress does with a request that it cannot store."""
    if retries.watching:
        retries.received(pbx, sent)
    retries.count(pbx, status)
    retries.refused(pbx, status, sent)


def test_repeats_of_a_refused_body_are_counted_with_their_gaps(clock: Clock) -> None:
    retries = Retries(monotonic=clock)

    for gap_s in (0.0, 2.0, 4.0):
        clock.now_s += gap_s
        refuse(retries, NEW_CALL)
    clock.now_s += 8
    retries.received("voipex", NEW_CALL)

    assert counts(retries, 503) == {
        "requests": 3,
        "watched": 1,
        "repeats": {"1": {"2": 1}, "2": {"4": 1}, "3": {"8": 1}},
        "uncertain": {},
        "silent": {},
    }


def test_a_body_that_never_comes_again_is_silent_for_an_hour(clock: Clock) -> None:
    retries = Retries(monotonic=clock)
    refuse(retries, NEW_CALL)

    clock.now_s += 61
    after_a_minute = counts(retries, 503)["silent"]
    clock.now_s += 7200
    retries.expire()

    assert after_a_minute == {"61": 1}
    assert counts(retries, 503)["silent"] == {"3600": 1}
    assert not retries.watching


@pytest.mark.parametrize("sent", [RINGING, HANGUP, body(EventName="AgentPaused", UniqueId="")])
def test_events_that_may_recur_are_no_certain_repeats_after_5_s(clock: Clock, sent: bytes) -> None:
    retries = Retries(monotonic=clock)
    refuse(retries, sent)

    clock.now_s += 4
    retries.received("voipex", sent)
    clock.now_s += 20
    retries.received("voipex", sent)

    found = counts(retries, 503)
    assert (found["repeats"], found["uncertain"]) == ({"1": {"4": 1}}, {"20": 1})


def test_a_body_refused_with_401_is_recognized_with_its_password(clock: Clock) -> None:
    retries = Retries(monotonic=clock)
    retries.refused(None, 401, NEW_CALL)

    clock.now_s += 3
    retries.received("voipex", NEW_CALL)

    assert counts(retries, 401, None)["repeats"] == {"1": {"3": 1}}


def test_equal_bodies_of_two_pbxs_are_no_repeats(clock: Clock) -> None:
    retries = Retries(monotonic=clock)
    refuse(retries, NEW_CALL)

    retries.received("brno", NEW_CALL)

    assert counts(retries, 503)["repeats"] == {}


def test_a_flood_of_refusals_is_remembered_in_part(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 10)
    retries = Retries(monotonic=clock)

    for number in range(50):
        refuse(retries, body(EventName="NewCall", UniqueId=f"1412256225.{number}"))
    refuse(retries, NEW_CALL, "brno")

    found = counts(retries, 503)
    assert (found["requests"], found["watched"], found["silent"]) == (50, 10, {"0": 10})
    assert counts(retries, 503, "brno")["watched"] == 1


def test_nothing_is_looked_at_before_something_is_refused() -> None:
    assert not Retries().watching


# ---------------------------------------------------------------- probe


def test_a_probe_refuses_a_few_events_and_their_repeats(clock: Clock) -> None:
    retries = Retries(monotonic=clock)
    retries.start_probe("voipex", 60, 2)
    calls = [body(EventName="NewCall", UniqueId=f"1412256225.{n}") for n in range(4)]

    first = [retries.received("voipex", sent) for sent in (RINGING, *calls)]
    clock.now_s += 2
    repeated = [retries.received("voipex", sent) for sent in calls]
    other = retries.received("brno", NEW_CALL)

    assert first == [False, True, True, False, False]
    assert (repeated, other) == ([True, True, False, False], False)
    assert counts(retries, 503)["repeats"] == {"1": {"2": 2}}
    assert retries.describe_probe() == {
        "pbx": "voipex",
        "requests": 2,
        "refused": 2,
        "answers": 4,
        "ended": None,
        "ends_in_s": 58.0,
    }


def test_a_probe_ends_when_its_time_is_over(clock: Clock) -> None:
    ended: list[Probe] = []
    retries = Retries(ended.append, clock)
    retries.start_probe("voipex", 60, 2)

    clock.now_s += 60
    wanted = retries.received("voipex", NEW_CALL)
    retries.expire()

    assert not wanted
    assert [(each.ended, each.refused) for each in ended] == [("time", 0)]
    assert not retries.watching
    assert retries.start_probe("voipex", 60, 2)


def test_a_sender_that_repeats_without_a_pause_ends_the_probe(clock: Clock) -> None:
    ended: list[Probe] = []
    retries = Retries(ended.append, clock)
    retries.start_probe("voipex", 60, 2)

    wanted = [retries.received("voipex", NEW_CALL) for _ in range(100)]

    assert sum(wanted) == 20
    assert [each.ended for each in ended] == ["answers"]


def test_a_probe_can_be_stopped_and_only_one_runs(clock: Clock) -> None:
    ended: list[Probe] = []
    retries = Retries(ended.append, clock)

    started = [retries.start_probe("voipex", 60, 2), retries.start_probe("voipex", 60, 2)]
    retries.stop_probe()
    retries.stop_probe()

    assert started == [True, False]
    assert [each.ended for each in ended] == ["stopped"]
    assert not retries.received("voipex", NEW_CALL)
