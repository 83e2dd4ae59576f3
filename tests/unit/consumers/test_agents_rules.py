"""The rules of AgentStatus, with exact results."""

from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from consumers.agents import archive, memory
from consumers.agents.days import LocalDays
from consumers.agents.memory import FOLD_VERSION, AgentState
from consumers.agents.projection import AgentProjection
from tests.unit.consumers.agent_traffic import (
    DAY,
    HOUR,
    MONDAY,
    PRAGUE,
    SECOND,
    Record,
    all_parts,
    at,
    event,
    folded,
    leg,
    restarted,
    status,
    statuses,
)
from voipex.agent_status import AgentStatus
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, AGENT_STATUS

MINUTE = 60 * SECOND
T = MONDAY  # 2026-03-02 08:00 in Prague
TODAY = "2026-03-02"


def text(at_us: int) -> str:
    return format_rfc3339(at_us)


def day(document: dict[str, Any], date: str = TODAY) -> dict[str, Any]:
    totals: dict[str, Any] = document["days"][date]
    return totals


# ---------------------------------------------------------------- presence


def test_a_login_makes_the_agent_available() -> None:
    document = status(event(T, "login", "NOC", email="nejaky@email.cz"), as_of=T)

    assert (document["presence"], document["availability"], document["activity"], document["state"]) == (
        "logged_in",
        "available",
        "idle",
        "available",
    )
    assert document["since"] == text(T)
    assert document["previous"] is None
    assert document["queues"] == {
        "NOC": {
            "logged_in": True,
            "since": text(T),
            "paused": False,
            "pause_name": None,
            "paused_since": None,
            "inferred": False,
        }
    }
    assert (document["login"], document["line"], document["email"]) == ("janecek", "163", "nejaky@email.cz")
    assert (document["last_event_at"], document["updated_at"], document["revision"]) == (text(T), text(T), 1)
    assert (document["days"], document["queue_days"]) == ({}, {})


def test_the_document_is_an_agent_status() -> None:
    _, documents = PRAGUE.emit(folded(event(T, "login", "NOC"), leg(ring=T + 1)), T + 1)

    assert documents[0].kind == AGENT_STATUS
    assert documents[0].key == "janecek"
    assert documents[0].ce_type == "voipex.agent.status.v1"
    assert documents[0].ce_id == "janecek@1"
    document = AgentStatus.model_validate_json(documents[0].value or b"")
    assert document.model_dump(mode="json") == orjson.loads(documents[0].value or b"")


def test_a_second_queue_is_added_and_a_repeated_login_ignored() -> None:
    document = status(
        event(T, "login", "A"), event(T + 10, "login", "B"), event(T + 20, "login", "A"), as_of=T + 20
    )

    assert {name: queue["since"] for name, queue in document["queues"].items()} == {
        "A": text(T),
        "B": text(T + 10),
    }


def test_the_last_logout_means_offline_and_closes_the_pause() -> None:
    document = status(
        event(T, "login", "A"),
        event(T, "login", "B", event_id="b"),
        event(T + HOUR, "paused", "A", pause_name="Oběd"),
        event(T + HOUR, "paused", "B", event_id="c", pause_name="Oběd"),
        event(T + 2 * HOUR, "logout", "A"),
        event(T + 3 * HOUR, "logout", "B"),
        as_of=T + 4 * HOUR,
    )

    assert (document["presence"], document["availability"], document["state"]) == ("offline", None, "offline")
    assert (document["queues"], document["pause_name"]) == ({}, None)
    assert document["since"] == text(T + 3 * HOUR)
    assert document["previous"] == {"state": "paused", "since": text(T + HOUR)}
    assert day(document)["login_s"] == 3 * 3600
    assert (day(document)["paused_s"], day(document)["pauses"], day(document)["pause_s"]) == (
        7200,
        1,
        {"Oběd": 7200},
    )
    assert document["queue_days"]["A"][TODAY]["paused_s"] == 3600
    assert document["queue_days"]["B"][TODAY]["paused_s"] == 7200


def test_logout_of_one_of_two_queues_leaves_the_agent_logged_in() -> None:
    document = status(
        event(T, "login", "A"), event(T + 1, "login", "B"), event(T + 2, "logout", "A"), as_of=T + 2
    )

    assert document["presence"] == "logged_in"
    assert list(document["queues"]) == ["B"]


@pytest.mark.parametrize("name", ["paused", "unpaused"])
def test_after_a_logout_of_all_pauses_are_ignored(name: str) -> None:
    document = status(
        event(T, "login", "A"),
        event(T + 1, "logout", "A"),
        event(T + 2, name, "A"),
        event(T + 3, name),
        as_of=T + 3,
    )

    assert (document["presence"], document["queues"]) == ("offline", {})
    assert document["last_event_at"] == text(T + 3)


def test_after_a_logout_of_that_queue_a_pause_there_is_ignored() -> None:
    document = status(
        event(T, "login", "A"),
        event(T, "login", "B", event_id="b"),
        event(T + 1, "logout", "A"),
        event(T + 2, "paused", "A"),
        as_of=T + 2,
    )

    assert list(document["queues"]) == ["B"]
    assert document["state"] == "available"


def test_logging_in_again_lets_pauses_count_again() -> None:
    document = status(
        event(T, "login", "A"),
        event(T + 1, "logout", "A"),
        event(T + 2, "login", "A"),
        event(T + 3, "paused", "A"),
        as_of=T + 3,
    )

    assert document["state"] == "paused"
    assert document["queues"]["A"]["since"] == text(T + 2)


def test_a_second_pause_keeps_the_first_start() -> None:
    document = status(
        event(T, "login", "A"),
        event(T + 100, "paused", "A", pause_name="Oběd"),
        event(T + 400, "paused", "A", pause_name="Oběd"),
        event(T + 500, "paused", "A"),
        as_of=T + 500,
    )

    assert document["queues"]["A"]["paused_since"] == text(T + 100)
    assert document["queues"]["A"]["pause_name"] == document["pause_name"] == "Oběd"
    assert day(document)["pauses"] == 1


def test_another_pause_name_splits_the_interval() -> None:
    document = status(
        event(T, "login", "A"),
        event(T + HOUR, "paused", "A"),
        event(T + 2 * HOUR, "paused", "A", pause_name="Oběd"),
        event(T + 3 * HOUR, "paused", "A", pause_name="Káva"),
        event(T + 5 * HOUR, "unpaused", "A"),
        as_of=T + 6 * HOUR,
    )

    assert day(document)["pause_s"] == {"": 3600, "Oběd": 3600, "Káva": 7200}
    assert day(document)["paused_s"] == 4 * 3600
    assert day(document)["pauses"] == 3
    assert document["previous"] == {"state": "paused", "since": text(T + HOUR)}


def test_unpaused_without_paused_does_nothing() -> None:
    document = status(
        event(T, "login", "A"), event(T + 1, "unpaused", "A"), event(T + 2, "unpaused", "X"), as_of=T + 2
    )

    assert document["state"] == "available"
    assert list(document["queues"]) == ["A"]


def test_unpaused_of_an_agent_never_seen_leaves_presence_unknown() -> None:
    document = status(event(T, "unpaused", "A"), as_of=T)

    assert (document["presence"], document["availability"], document["state"], document["queues"]) == (
        "unknown",
        None,
        "unknown",
        {},
    )


def test_an_agent_with_calls_but_no_login_is_implicit() -> None:
    document = status(event(T, "unpaused", "A"), leg(ring=T + 1, ended=T + 2, result="busy"), as_of=T + 2)

    assert (document["presence"], document["availability"], document["state"]) == (
        "implicit",
        "available",
        "implicit",
    )


def test_a_pause_in_a_queue_never_seen_means_logged_in_there() -> None:
    document = status(event(T, "login", "A"), event(T + 1, "paused", "B", pause_name="Oběd"), as_of=T + 1)

    assert document["state"] == document["availability"] == "partially_paused"
    assert document["queues"]["B"] == {
        "logged_in": True,
        "since": text(T + 1),
        "paused": True,
        "pause_name": "Oběd",
        "paused_since": text(T + 1),
        "inferred": True,
    }


def test_a_pause_of_an_agent_never_seen_means_logged_in() -> None:
    document = status(event(T, "paused", "B"), as_of=T)

    assert (document["presence"], document["state"], document["pause_name"]) == ("logged_in", "paused", None)
    assert document["queues"]["B"]["inferred"] is True


def test_a_logout_of_an_agent_never_seen_means_offline() -> None:
    assert status(event(T, "logout", "A"), as_of=T)["presence"] == "offline"


def test_a_logout_of_another_queue_changes_nothing() -> None:
    assert status(event(T, "login", "A"), event(T + 1, "logout", "B"), as_of=T + 1)["state"] == "available"


def test_an_empty_queue_means_those_logged_in() -> None:
    records = [
        event(T, "login", "A"),
        event(T + 1, "login", "B"),
        event(T + 2, "logout", "B"),
        event(T + 3, "login", "C"),
        event(T + 4, "paused", pause_name="Oběd"),
    ]
    paused = status(*records, as_of=T + 4)
    unpaused = status(*records, event(T + 5, "unpaused"), as_of=T + 5)
    logged_out = status(*records, event(T + 5, "logout"), as_of=T + 5)

    assert {name: queue["paused"] for name, queue in paused["queues"].items()} == {"A": True, "C": True}
    assert paused["state"] == "paused"
    assert unpaused["state"] == "available"
    assert (logged_out["presence"], logged_out["queues"]) == ("offline", {})


def test_an_empty_queue_of_a_login_means_all_ever_named() -> None:
    document = status(
        event(T, "login", "A"),
        event(T + 1, "logout", "A"),
        event(T + 2, "unpaused", "B"),
        event(T + 3, "login"),
        as_of=T + 3,
    )

    assert {name: queue["since"] for name, queue in document["queues"].items()} == {
        "A": text(T + 3),
        "B": text(T + 3),
    }


def test_a_login_without_queue_continues_in_the_first_named_one() -> None:
    records = [event(T, "login"), event(T + 1, "login"), event(T + 2, "paused", pause_name="Oběd")]
    unnamed = status(*records, as_of=T + 2)
    named = status(*records, event(T + 3 * SECOND, "login", "A"), as_of=T + 4 * SECOND)

    assert status(*records, as_of=T + HOUR)["queue_days"] == {}
    assert (unnamed["presence"], unnamed["state"], unnamed["queues"]) == ("logged_in", "paused", {})
    assert unnamed["pause_name"] == "Oběd"
    assert named["queues"] == {
        "A": {
            "logged_in": True,
            "since": text(T),
            "paused": True,
            "pause_name": "Oběd",
            "paused_since": text(T + 2),
            "inferred": False,
        }
    }
    assert named["queue_days"]["A"][TODAY]["paused_s"] == 3.999998
    assert day(named)["pauses"] == 1


def test_a_pause_without_queue_counts_for_no_queue() -> None:
    document = status(
        event(T, "login"),
        event(T + 1, "paused"),
        event(T + SECOND, "unpaused"),
        event(T + 2 * SECOND, "login", "A"),
        as_of=T + 3 * SECOND,
    )

    assert document["queue_days"] == {}
    assert day(document)["paused_s"] == 0.999999


def test_a_queue_named_by_a_pause_continues_an_unnamed_login() -> None:
    document = status(event(T, "login"), event(T + 1, "paused", "A"), as_of=T + 1)

    assert document["queues"]["A"]["inferred"] is True
    assert document["queues"]["A"]["since"] == text(T)


def test_a_login_of_all_queues_continues_a_pause_in_the_first() -> None:
    document = status(
        event(T, "unpaused", "A"),
        event(T + 1, "unpaused", "B"),
        event(T + 2, "paused"),
        event(T + 3 * SECOND, "login"),
        as_of=T + 3 * SECOND,
    )

    assert {name: queue["paused"] for name, queue in document["queues"].items()} == {"A": True, "B": False}


def test_the_pause_name_is_that_of_the_latest_pause() -> None:
    records = [
        event(T, "login", "A"),
        event(T, "login", "B", event_id="b"),
        event(T + HOUR, "paused", "A", pause_name="Oběd"),
        event(T + 2 * HOUR, "paused", "B", pause_name="Káva"),
    ]
    partly = status(*records[:3], as_of=T + HOUR)
    wholly = status(*records, as_of=T + 3 * HOUR)

    assert (partly["state"], partly["pause_name"]) == ("partially_paused", "Oběd")
    assert day(partly)["pauses"] == 0
    assert (wholly["state"], wholly["pause_name"]) == ("paused", "Káva")
    assert day(wholly)["pause_s"] == {"Káva": 3600}
    assert day(wholly)["paused_s"] == 3600


def test_pauses_of_the_same_time_are_ordered_by_event_id() -> None:
    document = status(
        event(T, "login", "A", event_id="1"),
        event(T, "login", "B", event_id="2"),
        event(T + 1, "paused", "A", event_id="4", pause_name="Oběd"),
        event(T + 1, "paused", "B", event_id="3", pause_name="Káva"),
        as_of=T + 1,
    )

    assert document["pause_name"] == "Oběd"


def test_pauses_count_on_their_first_day_and_split_at_midnight() -> None:
    evening = at("2026-03-02T23:00:00+01:00")
    document = status(
        event(evening, "login", "A"),
        event(evening + HOUR // 2, "paused", "A", pause_name="Oběd"),
        event(evening + 3 * HOUR, "unpaused", "A"),
        as_of=evening + 3 * HOUR,
    )

    assert day(document)["pauses"] == 1
    assert (day(document)["paused_s"], day(document)["login_s"]) == (1800, 3600)
    assert day(document, "2026-03-03")["pauses"] == 0
    assert day(document, "2026-03-03")["pause_s"] == {"Oběd": 7200}


def test_a_pause_that_begins_now_counts_already() -> None:
    document = status(event(T, "login", "A"), event(T + 1, "paused", "A", pause_name="Oběd"), as_of=T + 1)

    assert day(document)["pauses"] == 1
    assert day(document)["pause_s"] == {"Oběd": 0}


def test_states_of_no_length_are_none() -> None:
    document = status(
        event(T, "login", "A", event_id="1"),
        event(T, "paused", "A", event_id="2"),
        event(T + 10, "unpaused", "A", event_id="3"),
        event(T + 10, "paused", "A", event_id="4"),
        event(T + 20, "unpaused", "A", event_id="5"),
        as_of=T + 30,
    )

    assert (document["state"], document["since"]) == ("available", text(T + 20))
    assert document["previous"] == {"state": "paused", "since": text(T)}
    assert day(document)["pauses"] == 1


# ---------------------------------------------------------------- silence and the end


def test_presence_is_unknown_after_24_hours_of_silence() -> None:
    records = [event(T, "login", "A"), event(T + HOUR, "paused", "A", pause_name="Oběd")]
    before = status(*records, as_of=T + 25 * HOUR - 1)
    after = status(*records, as_of=T + 25 * HOUR)
    later = status(*records, as_of=T + 40 * HOUR)

    assert before["state"] == "paused"
    assert (after["presence"], after["availability"], after["state"]) == ("unknown", None, "unknown")
    assert after["since"] == text(T + 25 * HOUR)
    assert after["previous"] == {"state": "paused", "since": text(T + HOUR)}
    assert later["days"] == after["days"]
    assert day(later)["login_s"] == 16 * 3600
    assert day(later, "2026-03-03")["paused_s"] == 9 * 3600


def test_time_grows_again_from_the_next_event_or_call() -> None:
    document = status(
        event(T, "login", "A"),
        event(T + 1, "paused", "A", pause_name="Oběd"),
        leg(ring=T + 3 * DAY, ended=T + 3 * DAY + MINUTE, result="no_answer"),
        as_of=T + 3 * DAY + HOUR,
    )

    assert (document["state"], document["since"]) == ("paused", text(T + 3 * DAY + MINUTE))
    assert day(document, "2026-03-05")["login_s"] == 3600
    assert "2026-03-04" not in document["days"]
    assert [day(document, date)["pauses"] for date in document["days"]] == [1, 0, 0]


def test_silence_counts_from_the_last_event_of_a_call() -> None:
    filled = leg(ring=T, ended=T + MINUTE, result="busy", last=T + HOUR)

    assert status(filled, as_of=T + 25 * HOUR - 1)["presence"] == "implicit"
    assert status(filled, as_of=T + 25 * HOUR)["presence"] == "unknown"


def test_an_open_call_is_no_silence() -> None:
    document = status(event(T, "login", "A"), leg(ring=T + 1, answered=T + 2), as_of=T + 3 * DAY)

    assert (document["presence"], document["state"]) == ("logged_in", "on_call")


def test_an_agent_unseen_for_90_days_is_deleted() -> None:
    state, documents = PRAGUE.emit(folded(event(T, "login", "A")), T)
    assert documents[0].value is not None
    assert PRAGUE.expires_at(state) == T + 90 * DAY

    assert PRAGUE.status(state) == "available"
    deleted, documents = PRAGUE.emit(state, T + 90 * DAY)
    assert [(document.value, document.ce_id) for document in documents] == [(None, "janecek@2")]
    assert PRAGUE.status(deleted) == ""
    assert PRAGUE.emit(deleted, T + 91 * DAY)[1] == ()
    assert PRAGUE.next_timer(deleted) is None

    again = status(event(T, "login", "A"), event(T + 91 * DAY, "paused", line=None), as_of=T + 91 * DAY)
    assert again["queues"] == {}
    assert again["line"] is None
    assert again["previous"] is None


def test_an_event_at_the_90th_day_precedes_the_deadline() -> None:
    document = status(event(T, "login", "A"), event(T + 90 * DAY, "paused"), as_of=T + 90 * DAY)

    assert list(document["queues"]) == ["A"]


def test_an_agent_whose_only_leg_is_revoked_is_deleted() -> None:
    """A leg of `line:201` whose Login came later belongs to the Login: the agent `line:201` disappears."""
    state, documents = PRAGUE.emit(folded(leg(ring=T)), T)
    state = PRAGUE.fold(state, AGENT_ACTIVITY, leg(ring=T, revision=2, removed=True).value)
    state, deletion = PRAGUE.emit(state, T + 1)

    assert documents[0].value is not None
    assert [document.value for document in deletion] == [None]
    assert PRAGUE.next_timer(state) == T + 90 * DAY
    assert PRAGUE.expires_at(state) == T + 90 * DAY
    assert PRAGUE.emit(state, T + 2)[1] == ()


def test_an_agent_with_an_open_leg_has_no_expiry() -> None:
    state = folded(event(T, "login", "A"), leg(ring=T + 1, answered=T + 2))
    ended = leg(ring=T + 1, answered=T + 2, ended=T + HOUR, result="completed", revision=2)

    assert PRAGUE.expires_at(state) is None
    assert PRAGUE.expires_at(PRAGUE.fold(state, AGENT_ACTIVITY, ended.value)) == T + HOUR + 90 * DAY


def test_the_status_is_the_state_published_last() -> None:
    state, documents = PRAGUE.emit(folded(event(T, "login", "A"), event(T + 1, "paused", "A")), T + 1)
    document = orjson.loads(documents[0].value or b"")
    unpaused = PRAGUE.fold(state, AGENT_EVENTS, event(T + 2, "unpaused", "A").value)

    assert PRAGUE.status(state) == document["state"] == "paused"
    assert PRAGUE.status(restarted(state)) == "paused"
    assert PRAGUE.status(unpaused) == "paused"
    assert PRAGUE.status(PRAGUE.emit(unpaused, T + 2)[0]) == "available"


def test_an_agent_without_records_has_no_document() -> None:
    state, documents = PRAGUE.emit(PRAGUE.initial_state("voipex", "janecek"), T)

    assert documents == ()
    assert (PRAGUE.expires_at(state) or 0) <= T
    assert PRAGUE.status(state) == ""


# ---------------------------------------------------------------- when time alone changes the document


def due(*records: Record, as_of: int) -> int | None:
    return PRAGUE.next_timer(PRAGUE.emit(folded(*records), as_of)[0])


MIDNIGHT = at("2026-03-03T00:00:00+01:00")


def test_due_is_midnight_while_logged_in_or_in_a_call() -> None:
    """So that yesterday's totals are complete in the morning."""
    assert due(event(T, "login", "A"), as_of=T) == MIDNIGHT
    assert due(leg(ring=T), as_of=T) == MIDNIGHT


def test_due_is_silence_then_the_end() -> None:
    assert due(event(T, "login", "A"), as_of=MIDNIGHT) == T + DAY
    assert due(event(T, "logout", "A"), as_of=T) == T + DAY
    assert due(event(T, "logout", "A"), as_of=T + DAY) == T + 90 * DAY


def test_at_midnight_the_day_is_complete() -> None:
    document = status(event(T, "login", "A"), as_of=MIDNIGHT)

    assert day(document)["login_s"] == 16 * 3600
    assert "2026-03-03" not in document["days"]


def test_an_unchanged_document_is_not_published_again() -> None:
    state, produced = PRAGUE.emit(folded(event(T, "login", "A"), event(T + 1, "logout", "A")), T + 1)
    first = statuses(produced)
    state, second = PRAGUE.emit(state, T + HOUR)

    assert [document.revision for document in first] == [1]
    assert second == ()


def test_updated_at_never_goes_back() -> None:
    state, documents = PRAGUE.emit(folded(event(T + HOUR, "login", "A")), T)
    assert orjson.loads(documents[0].value or b"")["updated_at"] == text(T + HOUR)

    state, _ = PRAGUE.emit(state, T + 2 * HOUR)
    _, documents = PRAGUE.emit(PRAGUE.fold(state, AGENT_EVENTS, event(T, "login", "B").value), T + HOUR)
    document = orjson.loads(documents[0].value or b"")
    assert (document["updated_at"], document["revision"]) == (text(T + 2 * HOUR), 3)


# ---------------------------------------------------------------- calls: activity and state


@pytest.mark.parametrize(
    ("record", "activity", "state"),
    [
        (leg(ring=T), "ringing", "ringing"),
        (leg(ring=T, answered=T + 1), "on_call_in", "on_call"),
        (leg(role="caller", ring=T), "on_call_out", "on_call"),
        (leg(role="caller", ring=T, answered=T + 1), "on_call_out", "on_call"),
        (leg(role="consult", ring=T), "ringing", "ringing"),
        (leg(role="consult", ring=T, answered=T + 1), "consulting", "consulting"),
        (leg(role="monitor", ring=T), "monitoring", "monitoring"),
        (leg(role="monitor", ring=T, answered=T + 1), "monitoring", "monitoring"),
        (leg(answered=T), "on_call_in", "on_call"),
    ],
)
def test_the_role_of_a_leg_gives_activity_and_state(record: Record, activity: str, state: str) -> None:
    document = status(record, as_of=T + 2)

    assert (document["activity"], document["state"]) == (activity, state)


def test_the_activity_of_several_legs_is_the_most_important_one() -> None:
    ringing = leg("1.1", ring=T)
    consulting = leg("1.2", role="consult", ring=T, answered=T)
    monitoring = leg("1.3", role="monitor", ring=T)
    incoming = leg("1.4", ring=T, answered=T + 5)
    outgoing = leg("1.5", role="caller", ring=T + 6)

    assert status(ringing, consulting, as_of=T + 9)["activity"] == "consulting"
    assert status(ringing, consulting, monitoring, as_of=T + 9)["activity"] == "monitoring"
    assert status(ringing, consulting, monitoring, incoming, as_of=T + 9)["activity"] == "on_call_in"
    assert status(outgoing, monitoring, incoming, as_of=T + 9)["activity"] == "on_call_out"
    assert status(ringing, consulting, as_of=T + 9)["state"] == "consulting"
    assert status(ringing, consulting, monitoring, as_of=T + 9)["state"] == "monitoring"
    assert status(ringing, monitoring, incoming, as_of=T + 9)["state"] == "on_call"


def test_a_call_is_shown_before_presence() -> None:
    records = [event(T, "login", "A"), event(T + 1, "paused", "A"), leg(ring=T + 2, queue="A")]
    document = status(*records, as_of=T + 3)

    assert (document["state"], document["availability"]) == ("ringing", "paused")
    assert document["previous"] == {"state": "paused", "since": text(T + 1)}
    assert status(event(T, "logout"), leg(ring=T + 2), as_of=T + 3)["presence"] == "offline"


def test_current_calls_are_all_but_the_ringing_ones() -> None:
    document = status(
        leg("1.1", ring=T, queue="A", number="777", direction="incoming"),
        leg("1.2", role="caller", ring=T + 1, answered=T + 9, direction="outgoing", number="601"),
        leg("1.3", ring=T, answered=T + 5),
        as_of=T + 10,
    )

    assert document["ringing_calls"] == [
        {"call_id": "1.1", "queue": "A", "number": "777", "direction": "incoming", "since": text(T)}
    ]
    assert document["current_calls"] == [
        {"call_id": "1.2", "queue": None, "number": "601", "direction": "outgoing", "since": text(T + 1)},
        {
            "call_id": "1.3",
            "queue": None,
            "number": "777888999",
            "direction": "incoming",
            "since": text(T + 5),
        },
    ]


def test_a_colleague_who_took_over_consulted_before() -> None:
    taken = leg(ring=T, answered=T + 10 * SECOND, talk=T + 30 * SECOND)
    document = status(taken, as_of=T + 40 * SECOND)

    assert document["previous"] == {"state": "consulting", "since": text(T + 10 * SECOND)}
    assert document["current_calls"][0]["since"] == text(T + 30 * SECOND)
    assert (day(document)["talk_s"], day(document)["ring_s"], day(document)["answered_in"]) == (10, 10, 1)


def test_a_caller_is_on_the_call_from_its_ring_and_talks_later() -> None:
    document = status(
        leg(role="caller", ring=T, answered=T + SECOND, talk=T + 2 * SECOND), as_of=T + 3 * SECOND
    )

    assert document["current_calls"][0]["since"] == text(T)
    assert (day(document)["talk_s"], day(document)["ring_s"], day(document)["answered_out"]) == (1, 0, 1)


def test_login_line_and_email_are_those_reported_last() -> None:
    document = status(
        event(T, "login", "A", login="Janecek", line="163", email="a@b.cz"),
        leg(ring=T + 1, login="janecek", line="164", email=None),
        event(T + 2, "paused", "A", login="JANECEK", line=None, email="c@d.cz"),
        leg("1.2", ring=T + 3, login=None, line=None, email=None),
        as_of=T + 3,
    )

    assert (document["login"], document["line"], document["email"]) == ("JANECEK", "164", "c@d.cz")


# ---------------------------------------------------------------- calls: totals


def test_answers_count_on_their_first_day_and_talk_is_split() -> None:
    evening = at("2026-03-02T23:50:00+01:00")
    document = status(
        leg(
            ring=evening,
            answered=evening + MINUTE,
            ended=evening + 30 * MINUTE,
            result="completed",
            queue="A",
        ),
        as_of=evening + HOUR,
    )

    assert (day(document)["answered_in"], day(document)["ring_s"], day(document)["talk_s"]) == (1, 60, 540)
    assert (day(document, "2026-03-03")["answered_in"], day(document, "2026-03-03")["talk_s"]) == (0, 1200)
    assert document["queue_days"] == {
        "A": {
            "2026-03-02": {"answered": 1, "missed_rings": 0, "talk_s": 540, "paused_s": 0},
            "2026-03-03": {"answered": 0, "missed_rings": 0, "talk_s": 1200, "paused_s": 0},
        }
    }


def test_the_rest_counts_on_the_day_it_ends() -> None:
    evening = at("2026-03-02T23:59:50+01:00")
    document = status(
        leg("1.1", ring=evening, ended=evening + 20 * SECOND, result="no_answer", queue="A"),
        leg("1.2", role="caller", ring=evening, ended=evening + 20 * SECOND, result="no_answer"),
        leg("1.3", ring=evening, ended=evening + 20 * SECOND, result="answered_elsewhere"),
        leg("1.4", answered=evening, ended=evening + 20 * SECOND, result="transferred", transferred=evening),
        as_of=evening + HOUR,
    )

    counts = ("missed_rings", "unanswered_out", "answered_elsewhere", "transfers")
    assert [day(document)[name] for name in counts] == [0, 0, 0, 0]
    assert [day(document, "2026-03-03")[name] for name in counts] == [1, 1, 1, 1]
    assert document["queue_days"]["A"] == {
        "2026-03-03": {"answered": 0, "missed_rings": 1, "talk_s": 0, "paused_s": 0}
    }


@pytest.mark.parametrize(
    ("result", "missed"),
    [
        ("no_answer", 1),
        ("busy", 1),
        ("rejected", 1),
        ("unreachable", 0),
        ("answered_elsewhere", 0),
        ("cancelled", 0),
        ("failed", 0),
        ("timeout", 0),
    ],
)
def test_missed_rings_are_unanswered_attempts_of_role_agent(result: str, missed: int) -> None:
    document = status(leg(ring=T, ended=T + MINUTE, result=result), as_of=T + HOUR)
    consult = status(
        leg(role="consult", ring=T, ended=T + MINUTE, result=result), leg("1.2", ring=T), as_of=T + HOUR
    )

    assert document["days"].get(TODAY, {"missed_rings": 0})["missed_rings"] == missed
    assert day(consult)["missed_rings"] == 0


def test_a_blind_transfer_counts_too() -> None:
    document = status(
        leg(answered=T, ended=T + MINUTE, result="completed", transferred=T + MINUTE), as_of=T + HOUR
    )

    assert day(document)["transfers"] == 1


def test_a_consult_leg_counts_no_transfer() -> None:
    document = status(
        leg(
            role="consult",
            ring=T,
            answered=T + 1,
            ended=T + MINUTE,
            result="transferred",
            transferred=T + MINUTE,
        ),
        as_of=T + HOUR,
    )

    assert "transfers" not in document["days"] or day(document)["transfers"] == 0


def test_talk_and_ring_are_unions() -> None:
    document = status(
        leg("1.1", ring=T, answered=T + 10 * SECOND, ended=T + 60 * SECOND, result="completed", queue="A"),
        leg("1.2", ring=T, answered=T + 20 * SECOND, ended=T + 70 * SECOND, result="completed", queue="B"),
        leg(
            "1.3", role="caller", ring=T, answered=T + 30 * SECOND, ended=T + 40 * SECOND, result="completed"
        ),
        leg(
            "1.4",
            role="consult",
            ring=T + 15 * SECOND,
            answered=T + 25 * SECOND,
            ended=T + 26 * SECOND,
            result="completed",
        ),
        leg("1.5", role="monitor", ring=T, ended=T + 100 * SECOND, result="completed"),
        as_of=T + HOUR,
    )

    assert (day(document)["talk_s"], day(document)["ring_s"]) == (60, 25)
    assert {queue: days[TODAY]["talk_s"] for queue, days in document["queue_days"].items()} == {
        "A": 50,
        "B": 50,
    }


def test_legs_ended_by_timeout_add_to_no_total() -> None:
    document = status(
        leg("1.1", ring=T, answered=T + SECOND, ended=T + HOUR, result="timeout", queue="A"),
        leg("1.2", ring=T, ended=T + MINUTE, result="timeout"),
        leg("1.3", role="caller", ring=T, ended=T + MINUTE, result="timeout"),
        as_of=T + 2 * HOUR,
    )

    assert (day(document)["talk_s"], day(document)["ring_s"]) == (0, 1)
    assert (day(document)["answered_in"], day(document)["unanswered_out"]) == (1, 0)


def test_open_intervals_count_up_to_updated_at() -> None:
    document = status(leg(ring=T, answered=T + SECOND), as_of=T + MINUTE)

    assert (day(document)["talk_s"], document["updated_at"]) == (59, text(T + MINUTE))


def test_the_highest_revision_counts_and_replaces() -> None:
    first = leg(ring=T, ended=T + MINUTE, result="no_answer", revision=2)
    revised = leg(ring=T, answered=T + SECOND, ended=T + MINUTE, result="completed", revision=3)
    for records in ([first, revised], [revised, first], [revised, revised, first, first]):
        document = status(*records, as_of=T + HOUR)

        assert (day(document)["missed_rings"], day(document)["answered_in"], day(document)["talk_s"]) == (
            0,
            1,
            59,
        )


def test_a_revoked_leg_counts_for_nothing() -> None:
    other = leg("1.2", ring=T, ended=T + MINUTE, result="busy")
    document = status(
        leg(ring=T, ended=T + MINUTE, result="no_answer"),
        leg(ring=T, revision=2, removed=True),
        other,
        as_of=T + HOUR,
    )

    assert day(document)["missed_rings"] == 1


def test_contradictory_times_give_no_negative_duration() -> None:
    document = status(
        leg("1.1", ring=T + MINUTE, answered=T, ended=T - MINUTE, result="completed", talk=T - HOUR),
        leg("1.2", ended=T - MINUTE, last=T, result="busy"),
        leg("1.3", ended=T + MINUTE, last=T, result="busy"),
        as_of=T + HOUR,
    )

    assert (day(document)["talk_s"], day(document)["ring_s"]) == (0, 0)


def test_an_attempt_that_never_rang_adds_no_ring() -> None:
    """Its answer came without a ring and was withdrawn, and it ended when the phone began to ring."""
    withdrawn = leg("1.1", 1, ended=T + 4 * SECOND, last=T, result="no_answer")
    again = leg("1.1", 2, ring=T + 4 * SECOND, ended=T + 9 * SECOND, result="no_answer")

    document = status(withdrawn, again, as_of=T + HOUR)

    assert (day(document)["ring_s"], document["previous"]["since"]) == (5, text(T + 4 * SECOND))


# ---------------------------------------------------------------- days


@pytest.mark.parametrize(
    ("date", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)]
)
def test_a_day_has_23_to_25_hours(date: str, hours: int) -> None:
    """Clocks in Prague: forward on 29 March 2026, back on 25 October 2026."""
    start = at(f"{date}T00:00:00+02:00") - 3 * HOUR
    document = status(
        *(event(start + hour * 6 * HOUR, "login", "A") for hour in range(8)), as_of=start + 48 * HOUR
    )

    assert day(document, date)["login_s"] == hours * 3600


def test_seven_local_days_are_shown() -> None:
    records = [event(T + n * DAY, "login", "A") for n in range(10)]
    document = status(*records, as_of=T + 9 * DAY)

    assert list(document["days"]) == [f"2026-03-{n:02d}" for n in (5, 6, 7, 8, 9, 10, 11)]


def test_days_are_those_of_the_time_zone() -> None:
    tokyo = AgentProjection("Asia/Tokyo")
    document = status(
        event(T, "login", "A"),
        event(at("2026-03-03T01:00:00+09:00"), "logout", "A"),
        as_of=T + DAY,
        projection=tokyo,
    )

    assert {date: totals["login_s"] for date, totals in document["days"].items()} == {
        "2026-03-02": 8 * 3600,
        "2026-03-03": 3600,
    }


def test_a_clock_that_goes_back_over_midnight_keeps_days_apart() -> None:
    """In St. John's clocks went back from 00:01 to 23:01: the rest of that evening belongs to the day that had begun."""
    days = LocalDays(ZoneInfo("America/St_Johns"))
    midnight = at("2006-10-29T00:00:00-02:30")

    assert days.day_of(at("2006-10-28T23:40:00-03:30")).name == "2006-10-29"
    assert days.day_of(midnight - 1).name == "2006-10-28"
    assert days.day_of(midnight).name == "2006-10-29"
    assert days.day_of(at("2006-10-28T23:30:00-03:30")).name == "2006-10-29"
    assert days.day_of(at("2006-10-30T00:00:00-03:30") - 1).name == "2006-10-29"


def test_a_clock_that_skips_midnight_begins_the_day_later() -> None:
    """In Beirut clocks go from 00:00 to 01:00."""
    day = LocalDays(ZoneInfo("Asia/Beirut")).day_of(at("2026-03-29T12:00:00+03:00"))

    assert (day.start_us, day.end_us - day.start_us) == (at("2026-03-29T00:00:00+02:00"), 23 * HOUR)


def test_days_of_many_years_have_their_lengths() -> None:
    days = LocalDays(ZoneInfo("Europe/Prague"))
    lengths = {day.end_us - day.start_us for day in (days.day_of(T + n * DAY) for n in range(1500))}

    assert lengths == {23 * HOUR, 24 * HOUR, 25 * HOUR}


def test_an_unknown_time_zone_is_an_error() -> None:
    with pytest.raises(KeyError):
        AgentProjection("Moon/Tranquility")


# ---------------------------------------------------------------- records that cannot be read


@pytest.mark.parametrize(
    "value",
    [
        b"no json",
        b"[]",
        b"{}",
        b"null",
        event(T, "login", login=5).value,
        event(T, "login", received_at="yesterday").value,
        event(T, "login", received_at="9999-01-01T00:00:00Z").value,
        event(T, "login", received_at="1969-01-01T00:00:00.000000Z").value,
        event(T, "login").value.replace(b'"event_id":', b'"id":'),
        event(T, "login", event_id="x").value.replace(b'"x"', b"null"),
    ],
)
def test_an_event_that_cannot_be_read_is_a_value_error(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        PRAGUE.fold(PRAGUE.initial_state("voipex", "janecek"), AGENT_EVENTS, value)


@pytest.mark.parametrize(
    "changes", [{"role": "boss"}, {"result": "won"}, {"leg": "1"}, {"revision": None}, {"queue": []}]
)
def test_an_activity_that_cannot_be_read_is_a_value_error(changes: dict[str, Any]) -> None:
    record = leg(ring=T)
    value = orjson.dumps({**orjson.loads(record.value), **changes})
    with pytest.raises(ValueError, match=r".*"):
        PRAGUE.fold(PRAGUE.initial_state("voipex", "janecek"), AGENT_ACTIVITY, value)


@pytest.mark.parametrize(
    "record",
    [
        event(T, "login", login="novak"),
        event(T, "login", login=None),
        event(T, "login", login=None, line=None, email="janecek"),
        event(T, "login", login="", line=None),
        leg(ring=T, agent="novak"),
        leg(ring=T, agent="Janecek"),
        leg(ring=T, agent=None),
    ],
)
def test_a_record_of_another_agent_is_a_value_error(record: Record) -> None:
    """Its key is wrong: folded, it would count for the wrong agent."""
    with pytest.raises(ValueError, match="another agent"):
        PRAGUE.fold(PRAGUE.initial_state("voipex", "janecek"), record.kind, record.value)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("janecek", {"login": "Janecek"}),
        ("strasse", {"login": "Straße"}),
        ("line:163", {"login": None}),
        ("line:163", {"login": "", "email": "a@b.cz"}),
        ("email:a@b.cz", {"login": None, "line": None, "email": "A@b.cz"}),
    ],
)
def test_an_agent_is_known_by_login_else_line_else_email(key: str, names: dict[str, Any]) -> None:
    state = PRAGUE.fold(
        PRAGUE.initial_state("voipex", key), AGENT_EVENTS, event(T, "login", "A", **names).value
    )

    assert PRAGUE.emit(state, T)[1][0].key == key


def test_an_unknown_agent_event_is_a_sign_of_life() -> None:
    document = status(event(T, "login", "A"), event(T + 20 * HOUR, "wrapup", "A"), as_of=T + 30 * HOUR)

    assert document["state"] == "available"
    assert document["last_event_at"] == text(T + 20 * HOUR)


def test_times_with_an_offset_are_read_too() -> None:
    document = status(event(T, "login", "A", received_at="2026-03-02T08:00:00+01:00"), as_of=T)

    assert document["since"] == text(T)


# ---------------------------------------------------------------- memory: late, twice, old


def produced(*records: Record, then: int) -> Any:
    """Fold and emit record by record, so that the past is archived."""
    state = PRAGUE.initial_state("voipex", "janecek")
    for record in records:
        state = PRAGUE.fold(state, record.kind, record.value)
        state, _ = PRAGUE.emit(state, record.at_us)
    state, _ = PRAGUE.emit(state, then)
    return restarted(state)


def changed(state: Any, **fields: Any) -> Any:
    duplicate = state.copy()
    for name, value in fields.items():
        setattr(duplicate, name, value)
    return duplicate


def document_of(state: Any, as_of: int) -> dict[str, Any]:
    _, documents = PRAGUE.emit(changed(state, digest=0), as_of)
    document: dict[str, Any] = orjson.loads(documents[0].value or b"")
    return document


def lines_of(state: Any) -> bytes:
    """The archived lines of a state."""
    lines = b"".join([memory._read_segment(state, place)[1] for place in range(len(state.segments))])
    return lines + bytes(state.lines)


def begins(state: Any) -> list[int]:
    """The moments at which its segments begin, that of the base first."""
    return [each.at_us for each in (*state.segments, state.open)]


CALL = (leg(ring=T, queue="A"), leg(ring=T, ended=T + MINUTE, result="busy", queue="A", revision=2))


def test_settled_records_are_archived_as_lines() -> None:
    state = produced(event(T - HOUR, "login", "A"), *CALL, then=T + HOUR)

    assert (state.events, state.legs) == ({}, {})
    assert lines_of(state).count(b"\n") == 2


def test_a_copy_of_an_archived_record_changes_nothing() -> None:
    login = event(T - HOUR, "login", "A")
    state = produced(login, *CALL, then=T + HOUR)
    for record in (login, *CALL):
        assert PRAGUE.fold(state, record.kind, record.value) is state


def test_an_equal_revision_only_replaces_the_old_one() -> None:
    state = produced(*CALL, then=T + HOUR)
    again = leg(ring=T, ended=T + MINUTE, result="busy", queue="A", revision=9)
    revised = PRAGUE.fold(state, AGENT_ACTIVITY, again.value)

    assert (revised.legs, revised.events) == ({}, {})
    assert document_of(revised, T + HOUR)["days"] == document_of(state, T + HOUR)["days"]
    assert PRAGUE.fold(revised, AGENT_ACTIVITY, leg(ring=T, queue="A", revision=8).value) is revised


def test_a_revision_of_an_archived_leg_changes_the_totals() -> None:
    state = produced(*CALL, then=T + HOUR)
    answered = leg(ring=T, answered=T + SECOND, ended=T + MINUTE, result="completed", queue="A", revision=3)
    document = document_of(PRAGUE.fold(state, AGENT_ACTIVITY, answered.value), T + HOUR)

    assert (day(document)["missed_rings"], day(document)["answered_in"], day(document)["talk_s"]) == (
        0,
        1,
        59,
    )


def test_records_during_a_long_call_are_archived() -> None:
    """A Hangup that is lost leaves a leg open for hours; its revisions may end it, or turn out to be something else."""
    pauses = [event(T + n * HOUR, "paused" if n % 2 else "unpaused", "A") for n in range(1, 6)]
    state = produced(
        event(T, "login", "A"), leg(ring=T, answered=T + MINUTE, queue="A"), *pauses, then=T + 6 * HOUR
    )
    assert (state.events, list(state.legs)) == ({}, [("1.1", 1)])
    assert day(document_of(state, T + 6 * HOUR))["talk_s"] == 6 * 3600 - 60

    ended = leg(ring=T, answered=T + MINUTE, ended=T + 6 * HOUR, queue="A", result="completed", revision=2)
    goes_on = PRAGUE.fold(state, AGENT_ACTIVITY, ended.value)
    assert (goes_on.head, goes_on.lines) == (state.head, state.lines)
    assert day(document_of(goes_on, T + 7 * HOUR))["talk_s"] == 6 * 3600 - 60
    assert document_of(goes_on, T + 7 * HOUR)["state"] == "paused"

    timed_out = leg(ring=T, answered=T + MINUTE, ended=T + 6 * HOUR, queue="A", result="timeout", revision=3)
    anew = PRAGUE.fold(goes_on, AGENT_ACTIVITY, timed_out.value)
    assert len(anew.events) == 6
    assert day(document_of(anew, T + 7 * HOUR))["talk_s"] == 0


def test_records_at_the_time_of_the_head_count_once() -> None:
    """The head lies at the last record; here an answer, an end and a pause lie exactly there, and more comes for that moment."""
    records = [
        event(T, "login", "A"),
        leg("1.1", ring=T, answered=T + MINUTE),
        leg("1.2", ring=T, ended=T + MINUTE, result="busy"),
        event(T + MINUTE, "paused", "A", pause_name="Oběd"),
    ]
    state = produced(*records, then=T + 2 * MINUTE)
    document = document_of(state, T + 2 * MINUTE)

    assert state.head.at_us == T + MINUTE
    assert (state.events, list(state.legs)) == ({}, [("1.1", 1)])
    assert (day(document)["answered_in"], day(document)["missed_rings"], day(document)["pauses"]) == (1, 1, 1)
    assert (day(document)["talk_s"], day(document)["ring_s"], day(document)["paused_s"]) == (60, 60, 60)

    state = PRAGUE.fold(state, AGENT_ACTIVITY, leg("1.3", answered=T + MINUTE).value)
    state = PRAGUE.fold(state, AGENT_EVENTS, event(T + MINUTE, "unpaused", "A", event_id="z").value)
    document = document_of(state, T + 2 * MINUTE)
    assert (day(document)["answered_in"], day(document)["missed_rings"], day(document)["pauses"]) == (2, 1, 0)
    assert (day(document)["talk_s"], day(document)["ring_s"], day(document)["paused_s"]) == (60, 60, 0)


def test_the_first_moment_of_the_oldest_day_counts() -> None:
    midnight = at("2026-03-02T00:00:00+01:00")
    document = status(
        event(midnight - HOUR, "login", "A"),
        event(midnight, "paused", "A"),
        leg("1.1", answered=midnight, ended=midnight, result="completed", queue="A"),
        leg("1.2", ring=midnight - SECOND, ended=midnight, result="busy"),
        as_of=midnight + 6 * DAY,
    )

    assert (day(document)["pauses"], day(document)["answered_in"], day(document)["missed_rings"]) == (1, 1, 1)
    assert day(document)["login_s"] == 24 * 3600
    assert day(document)["ring_s"] == 0


def test_a_late_hangup_that_only_fills_is_a_sign_of_life() -> None:
    state = produced(leg(ring=T, ended=T + MINUTE, result="busy"), then=T + MINUTE + SECOND)
    filled = leg(ring=T, ended=T + MINUTE, result="busy", last=T + HOUR, revision=2)
    state, _ = PRAGUE.emit(PRAGUE.fold(state, AGENT_ACTIVITY, filled.value), T + HOUR)

    assert list(state.legs) == [("1.1", 1)]
    assert document_of(state, T + HOUR)["last_event_at"] == text(T + HOUR)
    assert PRAGUE.next_timer(state) == T + 25 * HOUR

    state, _ = PRAGUE.emit(PRAGUE.fold(state, AGENT_EVENTS, event(T + 2 * MINUTE, "logout").value), T + HOUR)
    assert state.head.at_us == T + HOUR
    assert list(state.legs) == [("1.1", 1)]
    document = document_of(state, T + HOUR)
    assert (document["last_event_at"], document["line"], day(document)["missed_rings"]) == (
        text(T + HOUR),
        "163",
        1,
    )
    assert PRAGUE.next_timer(state) == T + 25 * HOUR


def test_an_archived_leg_that_is_revoked_counts_for_nothing() -> None:
    removed = leg("1.2", ring=T, answered=T, ended=T + MINUTE, result="completed", removed=True)
    state = produced(event(T, "login", "A"), removed, then=T + HOUR)
    document = document_of(state, T + HOUR)

    assert lines_of(state).count(b"\n") == 2
    assert (day(document)["answered_in"], day(document)["talk_s"], document["last_event_at"]) == (
        0,
        0,
        text(T),
    )


def test_no_day_is_counted_twice() -> None:
    evening = at("2026-03-02T23:30:00+01:00")
    state = produced(
        event(evening, "login", "A"),
        event(evening, "paused", "A", event_id="p"),
        event(evening + HOUR, "unpaused", "A"),
        then=evening + 2 * HOUR,
    )
    _, documents = PRAGUE.emit(changed(state, digest=0), evening + 2 * HOUR)
    value = documents[0].value or b""

    assert (state.past.first, value.count(b'"2026-03-02":'), value.count(b'"2026-03-03":')) == (
        "2026-03-02",
        2,
        2,
    )


def test_of_different_records_with_one_event_id_the_first_counts() -> None:
    early, late = event(T, "login", "A", event_id="x"), event(T + HOUR, "login", "B", event_id="x")
    same_time = event(T, "login", "B", event_id="x")

    for records in ([early, late], [late, early], [early, same_time, late], [same_time, late, early]):
        assert list(status(*records, as_of=T + HOUR)["queues"]) == ["A"]
    assert list(
        document_of(PRAGUE.fold(produced(late, then=T + DAY), AGENT_EVENTS, early.value), T + DAY)["queues"]
    ) == ["A"]
    assert list(
        document_of(PRAGUE.fold(produced(early, then=T + DAY), AGENT_EVENTS, late.value), T + DAY)["queues"]
    ) == ["A"]


def test_records_before_the_retained_days_are_truncated() -> None:
    logins = [event(T + n * DAY // 2, "login", "A") for n in range(24)]
    state = produced(*logins, then=T + 12 * DAY)
    oldest = at("2026-03-07T00:00:00+01:00")

    assert begins(state)[0] == oldest
    assert PRAGUE.fold(state, AGENT_EVENTS, event(oldest, "logout", "A").value) is state
    assert PRAGUE.fold(state, AGENT_ACTIVITY, leg(ring=T, ended=T + 1, result="busy").value) is state
    late = PRAGUE.fold(state, AGENT_EVENTS, event(oldest + SECOND, "login", "B").value)
    assert document_of(late, T + 12 * DAY)["queues"]["B"]["since"] == text(oldest + SECOND)
    assert document_of(late, T + 12 * DAY)["queues"]["A"]["since"] == text(T)


def test_an_open_leg_is_never_truncated() -> None:
    """Timelines may stand for a week, and then take the leg back."""
    state = PRAGUE.fold(PRAGUE.initial_state("voipex", "janecek"), AGENT_ACTIVITY, leg(ring=T).value)
    for days in range(12):
        state, documents = PRAGUE.emit(state, T + days * DAY)
    assert begins(state)[0] < T
    assert (document_of(state, T + 12 * DAY)["since"], len(documents)) == (text(T), 1)

    state = PRAGUE.fold(state, AGENT_ACTIVITY, leg(ring=T, revision=2, removed=True).value)
    state, deletion = PRAGUE.emit(state, T + 12 * DAY)

    assert [document.value for document in deletion] == [None]


def test_an_open_leg_over_the_limit_can_still_be_revoked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "INDEX_LIMIT_BYTES", 10)
    monkeypatch.setattr(memory, "SEGMENT_LINES", 2)
    rung = [leg("2.1", n, ring=T + n * HOUR, ended=T + n * HOUR + 1, result="busy") for n in range(1, 9)]
    removed = [leg("2.1", n, ring=T + n * HOUR, revision=2, removed=True) for n in range(1, 9)]
    state = produced(leg(ring=T), *rung, then=T + 10 * HOUR)
    assert len(state.segments) > 2
    for record in (leg(ring=T, revision=2, removed=True), *removed):
        state = PRAGUE.fold(state, AGENT_ACTIVITY, record.value)

    PRAGUE.emit(state, T + 11 * HOUR)


def test_a_leg_that_comes_back_to_life_is_shown_however_old() -> None:
    over = leg(ring=T, ended=T + 3 * MINUTE, result="timeout")
    logins = [event(T + days * DAY, "login", "A") for days in range(1, 12)]
    state = produced(over, *logins, then=T + 12 * DAY)
    assert begins(state)[0] > T + 3 * MINUTE

    state = PRAGUE.fold(state, AGENT_ACTIVITY, leg(ring=T, revision=2).value)
    document = document_of(state, T + 12 * DAY)

    assert (document["state"], len(document["ringing_calls"])) == ("ringing", 1)


@pytest.mark.parametrize("late_us", [0, SECOND])
def test_more_than_a_segment_at_one_moment_is_replayed(late_us: int) -> None:
    """All of it is over at the moment at which the next segment begins."""
    calls = [leg(f"3.{n}", ring=T + 1, ended=T + MINUTE, result="busy") for n in range(100)]
    late = event(T + MINUTE - late_us, "login", "A")
    state = produced(*calls, then=T + HOUR)

    document = document_of(PRAGUE.fold(state, AGENT_EVENTS, late.value), T + HOUR)

    assert (day(document)["missed_rings"], len(lines_of(state).splitlines()) - 1) == (100, 100)
    assert document["queues"]["A"]["since"] == text(T + MINUTE - late_us)


def test_old_days_are_dropped_without_new_records() -> None:
    state = produced(
        event(T, "login", "A"),
        event(T + HOUR, "paused", "A"),
        event(T + DAY, "logout", "A"),
        then=T + 2 * DAY,
    )
    assert list(document_of(state, T + 6 * DAY)["days"]) == ["2026-03-02", "2026-03-03"]
    assert list(document_of(state, T + 7 * DAY)["days"]) == ["2026-03-03"]
    assert document_of(state, T + 8 * DAY)["queue_days"] == {}


def test_a_record_in_the_future_moves_the_days_shown() -> None:
    """Its document is as of that record; days that are out of its sight are forgotten, and so are queues with nothing else."""
    records = [
        event(T, "login", "A"),
        event(T, "paused", "A", event_id="p"),
        event(T + DAY, "login", "B"),
        event(T + DAY, "paused", "B", event_id="q"),
        event(T + 2 * DAY - HOUR, "logout"),
    ]
    state = produced(*records, then=T + 3 * DAY)
    ahead = PRAGUE.fold(state, AGENT_EVENTS, event(T + 7 * DAY, "login", "A").value)
    document = document_of(ahead, T + 3 * DAY)

    assert list(document_of(state, T + 3 * DAY)["days"]) == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert list(document["days"]) == ["2026-03-03", "2026-03-04"]
    assert list(document["queue_days"]) == ["A", "B"]
    far = document_of(PRAGUE.fold(state, AGENT_EVENTS, event(T + 10 * DAY, "unpaused").value), T + 3 * DAY)
    assert (far["days"], far["queue_days"], far["updated_at"]) == ({}, {}, text(T + 10 * DAY))


# ---------------------------------------------------------------- times beyond now

LIMIT = 5 * MINUTE


def live(*records: Record, now: int, state: AgentState | None = None) -> tuple[AgentState, dict[str, Any]]:
    """Take records at a time of this host's clock, each as of its own time; return the last document."""
    state = PRAGUE.initial_state("voipex", "janecek") if state is None else state
    document: dict[str, Any] = {}
    for record in records:
        state = PRAGUE.fold(state, record.kind, record.value)
        state, produced = PRAGUE.emit(state, record.at_us, now + LIMIT)
        state = PRAGUE.decode(PRAGUE.encode(state))
        for each in statuses(produced):
            document = orjson.loads(each.value or b"{}")
    return state, document


def test_a_bridge_an_hour_ahead_shows_live_and_counts_no_hour() -> None:
    """The document shows the pause at once, with its time as reported; login and pause count to the clock."""
    state, _ = live(event(T, "login", "NOC"), now=T)
    ahead = (event(T + HOUR, "paused", "NOC"), leg(ring=T + HOUR + MINUTE))
    state, document = live(*ahead, now=T + MINUTE, state=state)

    assert (document["state"], document["since"]) == ("ringing", text(T + HOUR + MINUTE))
    assert document["queues"]["NOC"]["paused"] is True
    assert document["updated_at"] == text(T + MINUTE + LIMIT)
    assert document["last_event_at"] == text(T + HOUR + MINUTE)
    assert (day(document)["login_s"], day(document)["paused_s"], day(document)["ring_s"]) == (360, 0, 0)


def test_time_counts_once_the_clock_has_caught_up() -> None:
    records = (
        event(T, "login", "NOC"),
        event(T + HOUR, "paused", "NOC"),
        event(T + 2 * HOUR, "unpaused", "NOC"),
    )
    state, _ = live(*records, now=T + MINUTE)
    _, produced = PRAGUE.emit(state, T + 3 * HOUR, T + 3 * HOUR + LIMIT)
    [document] = statuses(produced)

    expected = status(*records, as_of=T + 3 * HOUR)
    assert orjson.loads(document.value or b"") | {"revision": 1} == expected
    assert (day(expected)["login_s"], day(expected)["paused_s"]) == (3 * 3600, 3600)


def test_a_record_of_the_year_2999_changes_nothing_of_today() -> None:
    far = event(at("2999-01-01T12:00:00+01:00"), "logout", "NOC", login="JANECEK", line="999")
    far_leg = leg("9.9", ring=far.at_us, line="999")
    today = [event(T, "login", "NOC"), event(T + MINUTE, "paused", "NOC"), event(T + HOUR, "unpaused", "NOC")]
    state, document = live(today[0], far, far_leg, *today[1:], now=T + HOUR)

    assert document | {"revision": 1} == status(*today, as_of=T + HOUR + LIMIT)
    assert PRAGUE.next_timer(state) == status_due(*today, as_of=T + HOUR + LIMIT)


def status_due(*records: Record, as_of: int) -> int | None:
    return PRAGUE.next_timer(PRAGUE.emit(folded(*records), as_of)[0])


def test_a_record_ahead_by_days_shows_a_day_before_its_time() -> None:
    """As it does when the clock of this host was behind and is set: nothing is lost."""
    ahead = event(T + 3 * DAY, "login", "NOC")
    state, none = live(ahead, now=T)
    due_us = PRAGUE.next_timer(state) or 0
    _, produced = PRAGUE.emit(state, due_us, due_us + LIMIT)

    assert none == {}
    assert due_us == T + 2 * DAY
    assert orjson.loads(statuses(produced)[0].value or b"")["state"] == "available"


def test_a_record_far_ahead_puts_today_out_of_sight() -> None:
    state = produced(
        event(T, "login", "A"), event(T + 1, "paused", "A"), event(T + MINUTE, "logout"), then=T + HOUR
    )
    document = document_of(PRAGUE.fold(state, AGENT_EVENTS, event(T + 10 * DAY, "unpaused").value), T + HOUR)

    assert (document["days"], document["queue_days"]) == ({}, {})


def test_days_before_a_call_that_lasts_a_week_are_not_shown() -> None:
    state = produced(
        event(T, "login", "A"),
        event(T + HOUR, "paused", "A"),
        event(T + 2 * HOUR, "unpaused", "A"),
        leg(ring=T + 3 * HOUR, answered=T + 3 * HOUR),
        then=T + 8 * DAY,
    )
    document = document_of(state, T + 8 * DAY)

    assert list(document["days"]) == [f"2026-03-{n:02d}" for n in (4, 5, 6, 7, 8, 9, 10)]
    assert document["queue_days"] == {}
    assert begins(state)[0] < T + 3 * HOUR
    assert (document["current_calls"][0]["since"], document["since"]) == (
        text(T + 3 * HOUR),
        text(T + 3 * HOUR),
    )
    assert list(document_of(state, T + 9 * DAY)["days"]) == [f"2026-03-{n:02d}" for n in range(5, 12)]


def test_queues_of_old_days_are_forgotten_with_them() -> None:
    state = produced(
        event(T, "login", "A"),
        event(T, "paused", "A", event_id="p"),
        event(T + HOUR, "logout"),
        event(T + 5 * DAY, "login", "B"),
        event(T + 5 * DAY, "paused", "B", event_id="q"),
        event(T + 6 * DAY, "logout"),
        then=T + 12 * DAY,
    )

    assert list(document_of(state, T + 12 * DAY)["queue_days"]) == ["B"]
    assert state.head.queue_days.keys() | set(map(orjson.loads, state.past.queue_days)) == {"B"}
    later = PRAGUE.emit(PRAGUE.fold(state, AGENT_EVENTS, event(T + 20 * DAY, "login").value), T + 20 * DAY)[0]
    assert later.head.queue_days.keys() | later.past.queue_days.keys() == set()


def test_closed_segments_still_know_their_copies() -> None:
    """What is in them is found by three bytes, which may also be there by chance."""
    records = [
        event(T + n * MINUTE, "paused" if n % 2 else "unpaused", "A", event_id=f'{n}",{n}')
        for n in range(300)
    ]
    calls = [
        leg(f"9.{n}", ring=T + n * HOUR, ended=T + n * HOUR + 1, result="busy", queue="A") for n in range(5)
    ]
    state = produced(*sorted(records + calls, key=lambda record: record.at_us), then=T + 6 * HOUR)

    assert len(state.segments) == 305 // memory.SEGMENT_LINES
    assert lines_of(state).count(b"\n") == 305
    assert sum(each.traces for each in state.segments) * 3 == len(state.traces)
    for record in records + calls:
        assert PRAGUE.fold(state, record.kind, record.value) is state
    new = event(T + 7 * HOUR, "login", "B", event_id="new")
    trace = archive.trace_of(archive.mark_of_event("new"))
    chance = changed(state, traces=state.traces[:300] + trace + state.traces[303:])
    assert len(PRAGUE.fold(chance, AGENT_EVENTS, new.value).events) == 1

    again = leg("9.0", ring=T, ended=T + 1, result="busy", queue="A", revision=2)
    revised = PRAGUE.fold(state, AGENT_ACTIVITY, again.value)
    assert document_of(revised, T + 6 * HOUR) == document_of(state, T + 6 * HOUR)
    assert begins(revised) == begins(state)
    answered = leg("9.0", answered=T, ended=T + SECOND, result="completed", revision=3)
    document = document_of(PRAGUE.fold(restarted(revised), AGENT_ACTIVITY, answered.value), T + 6 * HOUR)
    assert (day(document)["missed_rings"], day(document)["answered_in"]) == (4, 1)


def test_thousands_of_events_a_day_are_closed_in_segments() -> None:
    """And their totals stay right: only lateness is met for less long."""
    state = PRAGUE.initial_state("voipex", "janecek")
    pauses = 0
    for n in range(8000):
        name = "paused" if n % 2 else "unpaused"
        pauses += n % 2
        record = (
            event(
                T + n * 5 * SECOND,
                name,
                "A",
                blake2b(b"%d" % n).hexdigest()[:36],
                pause_name="Oběd" if n % 2 else None,
            )
            if n
            else event(T, "login", "A")
        )
        state = PRAGUE.fold(state, record.kind, record.value)
        if n % 500 == 499:
            state, _ = PRAGUE.emit(state, record.at_us)
            state = restarted(state)
    document = document_of(state, T + 40000 * SECOND)

    assert len(PRAGUE.encode(state)) < 5_000
    assert max(map(len, all_parts(state).values())) < 50_000
    assert day(document)["login_s"] == 40000
    assert sum(totals["pauses"] for totals in document["days"].values()) == pauses
    assert sum(totals["paused_s"] for totals in document["days"].values()) == pauses * 5

    state = PRAGUE.fold(state, AGENT_EVENTS, event(T + 10 * DAY, "logout").value)
    state, _ = PRAGUE.emit(state, T + 10 * DAY)
    assert document_of(state, T + 10 * DAY)["queue_days"] == {}
    assert sum(map(len, all_parts(state).values())) < 3000


def test_a_state_of_an_older_version_is_folded_anew() -> None:
    state = produced(event(T - HOUR, "login", "A"), *CALL, then=T + HOUR)
    older = PRAGUE.decode(PRAGUE.encode(state).replace(b"[%d," % FOLD_VERSION, b"[0,", 1), all_parts(state))

    assert len(older.events) + len(older.legs) == 2
    assert document_of(older, T + HOUR)["days"] == document_of(state, T + HOUR)["days"]


def daily_calls(days: int) -> list[Record]:
    """Three missed calls a day."""
    return [
        leg(f"{number}.{n}", ring=begin, ended=begin + MINUTE, result="busy")
        for number in range(days)
        for n in range(3)
        for begin in [T + number * DAY + n * HOUR]
    ]


def test_a_leg_with_only_an_end_counts_on_that_day() -> None:
    """Its last event, a Hangup that only fills, comes after midnight."""
    midnight = at("2026-03-03T00:00:00+01:00")
    document = status(
        leg(ended=midnight - SECOND, result="busy", last=midnight + SECOND), as_of=midnight + HOUR
    )

    assert document["days"]["2026-03-02"]["missed_rings"] == 1
    assert "2026-03-03" not in document["days"] or document["days"]["2026-03-03"]["missed_rings"] == 0


def test_the_base_moves_forward_without_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days that are over are dropped with their lines."""
    state = produced(*daily_calls(8), then=T + 8 * DAY - HOUR)
    lines = lines_of(state).count(b"\n")
    monkeypatch.setattr(memory, "rewind", None)

    state, _ = PRAGUE.emit(state, T + 9 * DAY)

    assert lines == 21
    assert lines_of(state).count(b"\n") == 18
    assert begins(state)[0] == at("2026-03-04T00:00:00+01:00")


@pytest.mark.parametrize("late", [False, True])
def test_days_of_calls_without_queue_are_dropped_too(late: bool) -> None:
    calls = daily_calls(20)
    if late:  # so the days before are taken back, and shown again
        calls.append(leg("late", ring=T + 15 * DAY + 2 * HOUR, ended=T + 15 * DAY + 3 * HOUR, result="busy"))
    state = produced(*calls, then=T + 20 * DAY)

    document = document_of(state, T + 20 * DAY)
    assert document["days"] == status(*calls, as_of=T + 20 * DAY)["days"]
    assert list(document["days"]) == [f"2026-03-{number:02d}" for number in range(16, 22)]


def test_a_late_record_is_replayed_from_the_start_of_its_day() -> None:
    state = produced(*daily_calls(6), then=T + 6 * DAY - HOUR)
    late = event(T + 3 * DAY + 30 * MINUTE, "login", "A")

    back = PRAGUE.fold(state, AGENT_EVENTS, late.value)
    assert len(back.legs) == 9
    assert document_of(back, T + 6 * DAY - HOUR) == {
        **status(*daily_calls(6), late, as_of=T + 6 * DAY - HOUR),
        "revision": state.revision + 1,
    }

    again, _ = PRAGUE.emit(back, T + 6 * DAY - HOUR)
    assert begins(again)[1:] == [at(f"2026-03-{number:02d}T00:00:00+01:00") for number in range(3, 8)]


def test_the_base_moves_forward_early_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    state = produced(*daily_calls(6), then=T + 6 * DAY - HOUR)
    monkeypatch.setattr(memory, "INDEX_LIMIT_BYTES", 30)
    monkeypatch.setattr(memory, "rewind", None)

    state = PRAGUE.fold(state, AGENT_EVENTS, event(T + 6 * DAY, "wrapup").value)
    state, _ = PRAGUE.emit(state, T + 6 * DAY)
    state, _ = PRAGUE.emit(changed(state, trim_us=0), T + 6 * DAY)

    assert begins(state)[0] > T + DAY
    assert len(state.traces) <= 30
    assert document_of(state, T + 6 * DAY)["days"] == status(*daily_calls(6), as_of=T + 6 * DAY)["days"]


def test_a_forgotten_agent_leaves_no_part() -> None:
    """Tombstones for all of them go with that of the value."""
    state = produced(*daily_calls(3), then=T + 3 * DAY)
    state, _ = PRAGUE.take_parts(state)
    names = set(all_parts(produced(*daily_calls(3), then=T + 3 * DAY)))

    state, _ = PRAGUE.emit(state, T + 100 * DAY)
    assert PRAGUE.expires_at(state) == state.touched_us + 90 * DAY
    _, parts = PRAGUE.take_parts(state)

    assert parts == dict.fromkeys(names)
    assert len(names) > 3


def test_an_unnamed_pause_over_midnight_counts_for_its_queue() -> None:
    state = produced(
        event(T, "login"),
        event(T + HOUR, "paused"),
        event(T + 2 * HOUR, "paused"),
        leg(ring=T + 20 * HOUR, ended=T + 20 * HOUR + 1, result="busy"),
        event(T + 30 * HOUR, "login", "A"),
        then=T + 31 * HOUR,
    )
    document = document_of(state, T + 31 * HOUR)

    assert {date: totals["paused_s"] for date, totals in document["queue_days"]["A"].items()} == {
        "2026-03-02": 15 * 3600,
        "2026-03-03": 15 * 3600,
    }
