"""The board: windows, frames, figures of queues, callers that were missed."""

import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.board.figures import DEFINITIONS
from consumers.board.missed import missed_row
from consumers.board.rows import call_row, mask, masked
from tests.board_fixtures import START_US, Json, body_of, missed, new_board, put, simulated, timeline
from voipex.timestamps import parse_rfc3339

NOW_US = parse_rfc3339("2026-03-02T08:05:00Z")


def board_of(*timelines: Json, now_us: int = NOW_US) -> Any:
    board = new_board(lambda: now_us)
    for each in timelines:
        board.put_call("voipex", each["call_id"], orjson.dumps(each))
    return board


def queue(board: Any, name: str = "NOC") -> Json:
    [row] = [row for row in board.queues() if row["queue"] == name]
    return dict(row)


# ---------------------------------------------------------------- window


def test_the_highest_revision_is_shown() -> None:
    board = board_of(timeline(revision=7), timeline(revision=6, outcome="missed"))
    assert board.window.calls["voipex", "1772438400.1"].row["revision"] == 7


def test_a_tombstone_removes_a_call_everywhere() -> None:
    board = board_of(missed("1772438400.1"))
    board.tick()
    board.put_call("voipex", "1772438400.1", None)
    board.tick()
    assert board.queues() == []
    assert board.missed() == []
    assert body_of(board.snapshot()["desk"])["calls"] == {}


def test_old_calls_leave_the_window() -> None:
    board = new_board(lambda: NOW_US + 3_600_000_000, window_us=600_000_000)
    board.put_call("voipex", "1772438400.1", orjson.dumps(timeline()))
    frame = board.tick()
    assert frame is not None
    assert body_of(frame.encoded["desk"])["calls"] == {"voipex/1772438400.1": None}


def test_the_least_recently_changed_calls_leave_a_full_window() -> None:
    board = new_board(lambda: NOW_US, max_calls=2)
    for number in (1, 2, 1, 3):
        board.put_call("voipex", f"1772438400.{number}", orjson.dumps(timeline(f"1772438400.{number}")))
    board.tick()
    assert [key for _, key in board.window.calls] == ["1772438400.1", "1772438400.3"]


@pytest.mark.parametrize(
    "value", [b"no JSON", b"[]", b"{}", b'{"revision": 1, "updated_at": "never"}', b'"x"']
)
def test_a_record_that_is_no_document_stops_nothing(value: bytes) -> None:
    board = board_of(timeline())
    board.put_call("voipex", "broken", value)
    board.put_agent("voipex", "broken agent", value)
    snapshot = body_of(board.snapshot()["desk"])
    assert list(snapshot["calls"]) == ["voipex/1772438400.1"]
    assert [each["key"] for each in snapshot["broken"]] == ["broken", "broken agent"]


# ---------------------------------------------------------------- stream


def test_changes_lead_to_the_same_as_a_later_snapshot() -> None:
    documents = simulated(600)
    board = new_board(lambda: START_US + 600_000_000)
    order: list[tuple[str, Json]] = [("call", each) for each in documents.timelines]
    order += [("agent", each) for each in documents.agents]
    random.Random(3).shuffle(order)
    shown = body_of(board.snapshot()["desk"])
    for number, (kind, each) in enumerate(order):
        if kind == "call":
            board.put_call("voipex", each["call_id"], orjson.dumps(each))
        else:
            board.put_agent("voipex", each["agent"], orjson.dumps(each))
        if number % 7 == 0 and (frame := board.tick()) is not None:
            apply(shown, body_of(frame.encoded["desk"]))
    board.queues()
    frame = board.tick()
    if frame is not None:
        apply(shown, body_of(frame.encoded["desk"]))
    later = body_of(board.snapshot()["desk"])
    assert {name: shown[name] for name in ("calls", "agents", "queues", "missed")} == {
        name: later[name] for name in ("calls", "agents", "queues", "missed")
    }


def apply(shown: Json, change: Json) -> None:
    for name in ("calls", "agents", "queues", "missed"):
        for key, row in change.get(name, {}).items():
            if row is None:
                shown[name].pop(key, None)
            else:
                shown[name][key] = row


def test_figures_that_a_program_reads_are_in_the_stream_too() -> None:
    board = board_of(timeline())
    board.tick()
    board.put_call("voipex", "1772438400.2", orjson.dumps(missed("1772438400.2")))
    assert queue(board)["missed"] == 1
    frame = board.tick()
    assert frame is not None
    assert body_of(frame.encoded["desk"])["queues"]["voipex/NOC"]["missed"] == 1


def test_a_reader_resumes_without_gap_or_repeat() -> None:
    board = new_board(lambda: NOW_US)
    numbers = []
    for number in range(5):
        board.put_call("voipex", f"1772438400.{number}", orjson.dumps(timeline(f"1772438400.{number}")))
        frame = board.tick()
        assert frame is not None
        numbers.append(frame.number)
    assert [frame.number for frame in board.ring.after(f"boot-{numbers[1]}") or ()] == numbers[2:]
    assert board.ring.after(f"boot-{numbers[-1]}") == []


@pytest.mark.parametrize(
    "last_event_id", [None, "", "other-1", "-1", "1", "boot-", "boot-x", "boot-99", "boot-²", "boot--1"]
)
def test_a_reader_of_another_run_gets_a_snapshot(last_event_id: str | None) -> None:
    board = board_of(timeline())
    board.tick()
    board.put_call("voipex", "1772438400.1", orjson.dumps(timeline(revision=2)))
    board.tick()
    assert board.ring.after(last_event_id) is None
    assert len(board.ring.after("boot-1") or ()) == 1


def test_frames_are_kept_for_a_minute() -> None:
    now_us = NOW_US
    board = new_board(lambda: now_us)
    for number in range(4):
        now_us = NOW_US + number * 25_000_000
        board.put_call("voipex", f"1772438400.{number}", orjson.dumps(timeline(f"1772438400.{number}")))
        board.tick()
    assert board.ring.after_number(0) is None
    assert len(board.ring.after_number(1) or ()) == 3


# ---------------------------------------------------------------- figures


def test_every_figure_of_a_queue_has_a_definition() -> None:
    assert set(queue(board_of(timeline()))) - {"pbx", "queue"} == set(DEFINITIONS)


def test_a_queue_counts_answers_misses_and_the_service_level() -> None:
    calls = [timeline("1772438400.1"), timeline("1772438400.2", wait_s=25.0), missed("1772438400.3")]
    row = queue(board_of(*calls))
    assert (row["answered"], row["missed"], row["within"], row["wait_s"]) == (2, 1, 0.3333, 17.5)
    assert row["last_hour"][-1] == [2, 1]


def test_an_answer_at_the_target_time_is_within_it() -> None:
    assert queue(board_of(timeline(wait_s=20.0)))["within"] == 1.0
    assert queue(board_of(timeline(wait_s=20.001)))["within"] == 0.0


def test_a_call_that_moves_to_another_queue_leaves_the_first() -> None:
    legs = [{**timeline()["legs"][0], "queue": "Obchod"}]
    board = board_of(timeline(revision=1), timeline(revision=2, queues=["NOC", "Obchod"], legs=legs))
    assert [(row["queue"], row["answered"]) for row in board.queues()] == [("Obchod", 1)]


def test_calls_dropped_before_their_time_are_counted() -> None:
    board = new_board(lambda: NOW_US, max_calls=2)
    for number in range(5):
        board.put_call("voipex", f"1772438400.{number}", orjson.dumps(timeline(f"1772438400.{number}")))
    board.tick()
    assert board.window.crowded_out == 3


def test_calls_that_are_too_old_are_not_counted_as_dropped() -> None:
    board = new_board(lambda: NOW_US + 3_600_000_000, window_us=600_000_000)
    board.put_call("voipex", "1772438400.1", orjson.dumps(timeline()))
    board.tick()
    assert board.window.crowded_out == 0


def test_a_waiting_caller_is_seen_with_his_start() -> None:
    waiting = missed("1772438400.1", status="waiting", outcome=None, ended_at=None)
    row = queue(board_of(waiting))
    assert (row["waiting"], row["longest_since"], row["missed"]) == (1, "2026-03-02T08:00:00.000000Z", 0)


@pytest.mark.parametrize("direction", ["outgoing", "incoming_local", "outgoing_local"])
def test_only_calls_from_outside_count(direction: str) -> None:
    assert board_of(timeline(direction=direction)).queues() == []


def test_a_call_without_a_queue_has_a_row_of_its_own() -> None:
    legs = [{**timeline()["legs"][0], "queue": None}]
    row = queue(board_of(timeline(queues=[], legs=legs)), "")
    assert (row["answered"], row["logged"]) == (1, None)


def test_a_call_counts_for_the_queue_that_answered_it() -> None:
    legs = [{**timeline()["legs"][0], "queue": "Obchod"}]
    board = board_of(timeline(queues=["NOC", "Obchod", "Reklamace"], legs=legs))
    assert [row["queue"] for row in board.queues()] == ["Obchod"]


def test_yesterday_is_not_today() -> None:
    late = {"started_at": "2026-03-01T22:59:59.000000Z", "updated_at": "2026-03-02T08:00:00.000000Z"}
    early = {"started_at": "2026-03-01T23:00:00.000000Z", "updated_at": "2026-03-02T08:00:00.000000Z"}
    assert queue(board_of(timeline(**late)))["answered"] == 0
    assert queue(board_of(timeline(**early)))["answered"] == 1  # midnight in Prague


@pytest.mark.parametrize(("date", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_has_its_true_length(date: str, hours: int) -> None:
    begin, end = board_of().day_bounds_us(date)
    assert (end - begin) // 3_600_000_000 == hours


def test_members_are_counted_by_queue() -> None:
    board = new_board(lambda: NOW_US)
    for name, activity, paused in (("a", "idle", False), ("b", "on_call_in", False), ("c", "idle", True)):
        board.put_agent("voipex", name, orjson.dumps(agent(name, activity, paused)))
    row = queue(board)
    assert (row["logged"], row["free"], row["talking"], row["paused"]) == (3, 1, 1, 1)


def agent(name: str, activity: str = "idle", paused: bool = False) -> Json:
    return {
        "pbx": "voipex",
        "agent": name,
        "login": name,
        "line": "201",
        "presence": "logged_in",
        "availability": "available",
        "activity": activity,
        "state": "available",
        "since": "2026-03-02T08:00:00.000000Z",
        "pause_name": None,
        "queues": {"NOC": {"logged_in": True, "paused": paused, "pause_name": None}},
        "current_calls": [],
        "ringing_calls": [],
        "days": {"2026-03-01": {"answered_in": 1}, "2026-03-02": {"answered_in": 2}, "2026-02-28": {}},
        "last_event_at": "2026-03-02T08:00:00.000000Z",
        "revision": 1,
        "updated_at": "2026-03-02T08:00:00.000000Z",
    }


def test_a_replay_changes_no_figure() -> None:
    documents = simulated(400)
    once, twice = (new_board(lambda: START_US + 600_000_000) for _ in range(2))
    put(once, documents)
    for _ in range(2):
        put(twice, documents)
        twice.tick()
    assert once.queues() == twice.queues()
    assert [{**row, "caller": ""} for row in once.missed()] == [
        {**row, "caller": ""} for row in twice.missed()
    ]


# ---------------------------------------------------------------- missed callers


def test_a_caller_is_one_row_however_often_he_tried() -> None:
    calls = [
        missed("1772438400.1", "08:00:00", **{"from": "777 888 999"}),
        missed("1772438400.2", "08:01:00", **{"from": "+420777888999"}),
        missed("1772438400.3", "08:02:00"),
    ]
    [row] = board_of(*calls).missed()
    assert (row["tries"], row["first_at"][11:19], row["last_at"][11:19]) == (3, "08:00:00", "08:02:00")
    assert row["called_back"] is None


@pytest.mark.parametrize(
    ("changes", "direction"),
    [({}, "incoming"), ({"direction": "outgoing", "from": "201", "to": "777888999"}, "outgoing")],
)
def test_a_later_talk_in_either_direction_is_a_call_back(changes: Json, direction: str) -> None:
    back = timeline(
        "1772438500.2",
        started_at="2026-03-02T08:03:00.000000Z",
        answered_at="2026-03-02T08:03:05.000000Z",
        **changes,
    )
    [row] = board_of(missed("1772438400.1"), back).missed()
    assert row["called_back"] == {
        "call_id": "1772438500.2",
        "at": "2026-03-02T08:03:05.000000Z",
        "direction": direction,
        "by": "novak",
        "doubt": False,
    }


def test_a_talk_before_the_last_try_is_no_call_back() -> None:
    [row] = board_of(timeline(), missed("1772438400.2", "08:02:00")).missed()
    assert row["called_back"] is None


def test_a_caller_lost_after_a_talk_is_missed() -> None:
    [row] = board_of(timeline(last_segment_outcome="missed")).missed()
    assert row["lost_after_talk"]


def test_callers_without_a_number_are_kept_apart() -> None:
    board = board_of(*({**missed(f"1772438400.{number}"), "from": None} for number in (1, 2)))
    assert [row["number"] for row in board.missed()] == [None, None]


def test_an_answered_caller_was_not_missed() -> None:
    assert missed_row([call_row(timeline())]) is None


# ---------------------------------------------------------------- numbers on the wall


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("777888999", "······999"),
        ("+420 777 888 999", "+··· ··· ··· 999"),
        ("201", "201"),
        ("12345", "12345"),
        ("", ""),
    ],
)
def test_all_but_three_digits_are_masked(number: str, shown: str) -> None:
    assert mask(number) == shown


@given(st.text(max_size=20))
def test_a_mask_leaves_at_most_five_digits(number: str) -> None:
    assert sum(char.isdecimal() for char in mask(number)) <= max(5, 0)


def test_the_wall_receives_no_number_of_a_current_call() -> None:
    call = {"call_id": "1.1", "queue": "NOC", "number": "601234567", "direction": "incoming", "since": None}
    status = {**agent("a"), "current_calls": [call], "ringing_calls": [call]}
    board = new_board(lambda: NOW_US)
    board.put_agent("voipex", "a", orjson.dumps(status))
    frame = board.tick()
    assert frame is not None
    for encoded in (frame.encoded, board.snapshot()):
        assert b"601234567" in encoded["desk"]
        assert b"601234567" not in encoded["wall"]
        assert "······567".encode() in encoded["wall"]


def test_the_wall_receives_no_number_of_a_line() -> None:
    key = "line:+420601234567"
    status = {**agent(key), "login": None, "line": "+420601234567"}
    call = timeline(answered_by=["+420601234567"], final_line="+420601234567", monitors=["+420601234567"])
    board = new_board(lambda: NOW_US)
    board.put_agent("voipex", key, orjson.dumps(status))
    board.put_call("voipex", "1.1", orjson.dumps(call))
    frame = board.tick()
    assert frame is not None
    for encoded in (frame.encoded, board.snapshot()):
        assert b"601234567" in encoded["desk"]
        assert b"601234567" not in encoded["wall"]
        assert "voipex/line:+·········567".encode() in encoded["wall"]


def test_lines_with_equal_last_digits_stay_apart_on_the_wall() -> None:
    lines = ("+420601234567", "+420777234567", "201")
    board = new_board(lambda: NOW_US)
    for line in lines:
        key = f"line:{line}"
        board.put_agent("voipex", key, orjson.dumps({**agent(key), "login": None, "line": line}))
    board.tick()

    rows = orjson.loads(board.snapshot()["wall"].split(b"data: ")[1])["agents"]

    assert sorted(row["line"] for row in rows.values()) == ["+·········567", "+·········567", "201"]
    assert {name: row["agent"] for name, row in rows.items()} == {
        name: name.removeprefix("voipex/") for name in rows
    }
    assert "voipex/line:201" in rows


def test_the_wall_receives_a_broken_record_without_its_text() -> None:
    assert masked({"broken": "ValueError", "topic": "timelines", "raw": "777888999"})["raw"] is None


def test_the_wall_receives_the_events_of_a_call() -> None:
    assert masked(timeline(events=[{"event_id": "e", "line": "201"}]))["events"] == [
        {"event_id": "e", "line": "201"}
    ]


def test_the_wall_receives_no_whole_number() -> None:
    documents = simulated(500)
    board = new_board(lambda: START_US + 600_000_000)
    put(board, documents)
    board.tick()
    numbers = {each[name] for each in documents.timelines for name in ("from", "to")}
    encoded = board.snapshot()["wall"].decode() + orjson.dumps(masked(list(documents.timelines))).decode()
    assert not [number for number in numbers if number is not None and len(number) > 5 and number in encoded]
