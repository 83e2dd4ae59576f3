"""The simulated company: its truth is consistent, and a wrong document is counted as wrong."""

from collections import Counter
from copy import deepcopy
from typing import Any

import pytest

from tools.accuracy.agents import days_of, shown_state, wrong_state, wrong_totals
from tools.accuracy.calls import wrong_fields, wrong_open_fields
from tools.accuracy.company import play
from tools.accuracy.deliveries import deliver
from tools.accuracy.folding import Documents, documents
from tools.accuracy.judge import judge_day
from tools.accuracy.people import Pause, Person
from tools.accuracy.report import BEGIN, END, markdown, replace_tables
from tools.accuracy.scores import CALLS, DAYS, Score, Scores
from tools.accuracy.situations import SITUATIONS
from tools.accuracy.truth import Conversation, Handover, Leg, Manner, Role, union_us
from tools.accuracy.world import World

MIDNIGHT_US = 1_772_406_000_000_000
"""2026-03-02T00:00 in Prague."""
HOUR_US = 3_600_000_000
FEW = ("attended", "blind", "queue_ring_all", "outgoing_answered", "queue_left_early", "barge")


@pytest.fixture(scope="module")
def world() -> World:
    return play(seed=1, day=0)


@pytest.fixture(scope="module")
def few() -> World:
    return play(seed=1, day=0, situations=FEW)


@pytest.fixture(scope="module")
def final(few: World) -> Documents:
    arrivals = deliver(few.sent, "clean", 1).arrivals
    [shown] = documents(arrivals, [arrivals[-1].at_us + HOUR_US])
    return shown


def test_same_seed_plays_the_same_day(world: World) -> None:
    assert play(seed=1, day=0).sent == world.sent
    assert play(seed=1, day=1).sent != world.sent


def test_every_situation_is_played(world: World) -> None:
    assert world.dialect.reasons, "else some situations are left out"
    assert {each.situation for each in world.conversations} == set(SITUATIONS)
    assert world.dropped == 0


def test_every_conversation_ends_with_an_outcome(world: World) -> None:
    for each in world.conversations:
        assert each.ended_us is not None
        assert each.first_sign_us is not None
        assert each.first_sign_us <= each.ended_us
        assert (each.outcome == "answered") == bool(each.talks)


def test_legs_ring_then_answer_then_end(world: World) -> None:
    for each in world.conversations:
        for leg in each.legs:
            moments = [leg.rang_us, leg.answered_us, leg.got_caller_us, leg.ended_us]
            known = [at_us for at_us in moments if at_us is not None]

            assert leg.ended_us is not None
            assert leg.ended_us <= (each.ended_us or 0)
            assert known == sorted(known)


def test_a_person_talks_to_one_caller_but_for_holds(world: World) -> None:
    talks: dict[str, list[tuple[int, int]]] = {}
    for each in world.conversations:
        if each.situation == "second_call_taken":
            continue
        for leg in each.talks:
            talks.setdefault(leg.login, []).append((leg.got_caller_us or 0, leg.ended_us or 0))

    for login, intervals in talks.items():
        assert union_us(intervals) == sum(until_us - from_us for from_us, until_us in intervals), login


def test_everybody_is_released_and_logged_out(world: World) -> None:
    assert [person.login for person in world.people if person.busy or person.presence.logged_in] == []


def test_clean_delivery_keeps_order(world: World) -> None:
    arrivals = deliver(world.sent, "clean", 1).arrivals

    assert [each.at_us for each in arrivals] == sorted(each.at_us for each in world.sent)


def test_wild_delivery_repeats_and_loses_nothing(world: World) -> None:
    delivery = deliver(world.sent, "wild", 1)
    sent = Counter(map(str, (each.body for each in world.sent)))
    received = Counter(map(str, (each.body for each in delivery.arrivals)))

    assert sent <= received
    assert 0.01 < (received.total() - sent.total()) / sent.total() < 0.03
    assert any(fate.moved_us for fate in delivery.fates.values())


def test_lossy_delivery_loses_one_in_a_hundred(world: World) -> None:
    lost = sum(len(fate.lost_us) for fate in deliver(world.sent, "lossy", 1).fates.values())

    assert 0.004 < lost / len(world.sent) < 0.02


def test_documents_of_a_clean_day_are_right(few: World, final: Documents) -> None:
    wrong = {
        each.call_id: fields
        for each in few.conversations
        if (fields := wrong_fields(each, final.timelines.get(each.call_id)))
    }

    assert wrong == {}


WRONG: dict[str, Any] = {
    "status": "stale",
    "direction": "barge",
    "outcome": "missed",
    "last_segment_outcome": "missed",
    "answered_by": ["999"],
    "final_line": "999",
    "final_login": "nobody",
    "monitors": ["999"],
    "started_at": "2026-03-01T00:00:00Z",
    "first_ring_at": None,
    "answered_at": None,
    "ended_at": None,
    "wait_s": 0.0,
    "ring_s": 9999.0,
    "talk_s": 9999.0,
    "consult_s": 9999.0,
    "duration_s": None,
    "transferred": False,
    "transfers": [],
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_field_of_a_call_is_named(field: str, few: World, final: Documents) -> None:
    truth = next(each for each in few.conversations if each.situation == "attended")
    document = {**final.timelines[truth.call_id], field: WRONG[field]}

    assert wrong_fields(truth, document) == [field]


LEG: dict[str, Any] = {
    "line": "999",
    "login": "nobody",
    "role": "monitor",
    "result": "timeout",
    "ring_started_at": None,
    "answered_at": None,
    "ended_at": None,
    "talk_s": None,
}


@pytest.mark.parametrize("field", LEG)
def test_a_wrong_field_of_a_leg_is_named(field: str, few: World, final: Documents) -> None:
    truth = next(each for each in few.conversations if each.situation == "queue_ring_all")
    document = deepcopy(final.timelines[truth.call_id])
    answered = next(leg for leg in document["legs"] if leg["talk_s"] is not None)
    answered[field] = LEG[field]

    assert f"legs.{field}" in wrong_fields(truth, document)


def test_a_missing_leg_and_a_missing_document_are_wrong(few: World, final: Documents) -> None:
    truth = next(each for each in few.conversations if each.situation == "blind")
    document = deepcopy(final.timelines[truth.call_id])
    document["legs"].pop()

    assert wrong_fields(truth, document) == ["legs"]
    assert wrong_fields(truth, None) == ["no document"]


def test_a_moved_webhook_excuses_its_moment_only(few: World, final: Documents) -> None:
    truth = next(each for each in few.conversations if each.situation == "blind")
    document = {**final.timelines[truth.call_id]}
    document["wait_s"] += 3.0

    assert wrong_fields(truth, document) == ["wait_s"]
    assert wrong_fields(truth, document, moved_us=4_000_000) == []
    assert wrong_fields(truth, {**document, "outcome": "missed"}, moved_us=4_000_000) == ["outcome"]


def test_an_open_call_is_compared_with_its_moment() -> None:
    leg = Leg("201", "novak", Role.AGENT, 0, rang_us=10, answered_us=20, got_caller_us=20)
    truth = Conversation("1.1", "direct_answered", "incoming", True, first_sign_us=0, legs=[leg])
    shown: dict[str, Any] = {"ended_at": None, "role": "agent", "line": "201", "answered_at": None}
    ringing = {"status": "ringing", "outcome": None, "answered_by": [], "ended_at": None, "legs": [shown]}

    assert wrong_open_fields(truth, ringing, at_us=15) == []
    assert wrong_open_fields(truth, ringing, at_us=25) == ["status", "outcome", "answered_by", "ringing legs"]


def person(*, static: bool = False) -> Person:
    return Person("novak", "novak@example.cz", "201", "901", "701", ("podpora",), static)


def test_a_state_is_the_call_before_the_pause() -> None:
    novak = person()
    novak.become(5, frozenset({"podpora"}), {"podpora": Pause("Oběd", 5)})
    leg = Leg("201", "novak", Role.AGENT, 0, rang_us=10, answered_us=20, got_caller_us=20, ended_us=30)
    call = Conversation("1.1", "direct_answered", "incoming", True, first_sign_us=0, ended_us=30, legs=[leg])

    states = [shown_state(novak, [call], at_us) for at_us in (1, 7, 15, 25, 35)]

    assert states == ["offline", "paused", "ringing", "on_call_in", "paused"]


def test_an_unreported_moment_of_a_call_is_not_asked() -> None:
    leg = Leg("201", "novak", Role.CALLER, 0, rang_us=10)
    call = Conversation("1.1", "click_answered", "outgoing", True, first_sign_us=0, legs=[leg])
    call.unreported.append((20, 30, "its own phone"))

    assert shown_state(person(), [call], 15) == "on_call_out"
    assert shown_state(person(), [call], 25) is None


def test_a_wrong_state_is_seen() -> None:
    assert not wrong_state("offline", None)
    assert wrong_state("available", None)
    assert wrong_state("on_call_in", {"state": "on_call", "activity": "on_call_out"})
    assert not wrong_state("paused", {"state": "paused", "activity": "idle"})


def test_a_night_is_cut_at_midnight() -> None:
    novak = person()
    novak.become(MIDNIGHT_US + 20 * HOUR_US, frozenset({"podpora"}), {})
    novak.become(MIDNIGHT_US + 30 * HOUR_US, frozenset(), {})

    days = days_of(novak, [], MIDNIGHT_US + 40 * HOUR_US)

    assert {name: day["login_s"] for name, day in days.items()} == {
        "2026-03-02": 4 * 3600.0,
        "2026-03-03": 6 * 3600.0,
    }


def test_two_phones_of_a_person_miss_one_call() -> None:
    at_us = MIDNIGHT_US + 9 * HOUR_US
    legs = [
        Leg(line, "novak", Role.AGENT, 0, rang_us=at_us, ended_us=at_us + 20_000_000, result="no_answer")
        for line in ("201", "901")
    ]
    call = Conversation(
        "1.1", "two_phones_missed", "incoming", True, at_us, ended_us=at_us + 30_000_000, legs=legs
    )

    [day] = days_of(person(), [call], at_us + HOUR_US).values()

    assert (day["missed_rings"], day["ring_s"]) == (1, 20.0)
    assert wrong_totals(day, {**day, "missed_rings": 2}) == ["missed_rings"]
    assert wrong_totals(day, {**day, "ring_s": 40.0}) == ["ring_s"]
    assert wrong_totals(day, None) == ["no document"]


def test_a_transfer_not_asked_about_may_be_counted_or_not() -> None:
    at_us = MIDNIGHT_US + 9 * HOUR_US
    leg = Leg("201", "novak", Role.CALLER, 0, rang_us=at_us, ended_us=at_us + 1)
    handovers = [Handover(at_us, Manner.BLIND, leg, "202")]
    call = Conversation("1.1", "outgoing_given_on", "outgoing", True, at_us, ended_us=at_us + 2, legs=[leg])
    call.handovers = handovers
    call.transfers_asked = False

    [day] = days_of(person(), [call], at_us + HOUR_US).values()

    assert day["transfers"] == 0
    wrong = [wrong_totals(day, {**day, "transfers": shown}) for shown in (0, 1, 2)]
    assert wrong == [[], [], ["transfers"]]


def test_days_are_drawn_with_the_calls_they_have() -> None:
    busy, quiet = Scores(), Scores()
    busy.add(DAYS, [], calls=30)
    busy.add(DAYS, ["talk_s"], calls=20)
    quiet.add(DAYS, [], calls=6)

    tables = markdown({"wild": busy}, {"wild": quiet})

    assert "| wild | once a day | 6.0 | 1 | 100 % | 0 |" in tables
    assert "| wild | 4 times a day | 25.0 | 2 | 50.00 % | 1 |" in tables


def test_a_wrong_and_sure_document_is_counted_as_such() -> None:
    score = Score()
    for wrong, quality in (([], "exact"), (["talk_s"], "exact"), (["talk_s", "outcome"], "estimated")):
        score.add(wrong, quality)

    assert (score.judged, score.wrong, score.sure) == (3, 2, 1)
    assert score.fields == {"talk_s": 2, "outcome": 1}


def test_a_day_is_judged_from_webhook_to_score() -> None:
    verdict = judge_day(seed=1, day=0, how="clean", situations=("direct_answered",))

    assert verdict.scores.by_kind[CALLS].judged == 16
    assert verdict.scores.by_situation["direct_answered"][CALLS].wrong == 0


def test_one_wrong_of_many_is_never_rounded_to_all() -> None:
    scores = Scores()
    scores.by_kind[CALLS] = Score(judged=1_000_000, wrong=1)

    assert "99.99 %" in markdown({"clean": scores}, {})
    assert "100 %" not in markdown({"clean": scores}, {})


def test_tables_replace_those_between_the_marks() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter"

    assert replace_tables(page, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter"
