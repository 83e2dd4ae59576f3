"""A board that is filled from a simulated trace, without Kafka."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import orjson

from consumers.board.board import Board
from consumers.board.frames import Ring
from consumers.board.window import Window
from consumers.explain.replay import Explanation, explain
from consumers.explain.trace import Trace, read_trace
from sandbox.simulator import SimulationPlan, events
from voipex.events import Event
from voipex.timestamps import format_rfc3339

Json = dict[str, Any]

START_US = 1_772_438_400_000_000  # 2026-03-02T08:00:00Z, nine o'clock in Prague


def simulated(count: int, seed: int = 1, start_us: int = START_US) -> Explanation:
    """The documents of *count* simulated events."""
    return explain(_simulated_trace(count, seed, start_us))


def simulated_events(count: int, seed: int = 1, start_us: int = START_US) -> list[Event]:
    """The events behind `simulated`."""
    return [
        Event.model_validate_json(each.value) for each in _simulated_trace(count, seed, start_us).received
    ]


def _simulated_trace(count: int, seed: int, start_us: int) -> Trace:
    plan = SimulationPlan(seed=seed, agents=16, queues=3, calls_per_s=0.5, started_at_s=start_us // 1_000_000)
    lines = [
        orjson.dumps({"received_at": format_rfc3339(start_us + round(at_s * 1e6)), "body": body})
        for at_s, body in islice(events(plan), count)
    ]
    return read_trace(lines)


def new_board(
    now_us: Callable[[], int],
    *,
    window_us: int = 3 * 86_400_000_000,
    max_calls: int = 50_000,
    ring_us: int = 60_000_000,
) -> Board:
    return Board(
        Window(window_us, max_calls),
        Ring("boot", ring_us),
        pbxs=("voipex",),
        target_s=20.0,
        time_zone="Europe/Prague",
        now_us=now_us,
    )


def put(board: Board, documents: Explanation) -> None:
    for timeline in documents.timelines:
        board.put_call("voipex", timeline["call_id"], orjson.dumps(timeline))
    for status in documents.agents:
        board.put_agent("voipex", status["agent"], orjson.dumps(status))


def body_of(encoded: bytes) -> Json:
    """The JSON of an event of the stream."""
    body: Json = orjson.loads(encoded.partition(b"\ndata: ")[2])
    return body


def timeline(call_id: str = "1772438400.1", **changes: Any) -> Json:
    """An answered call of the queue NOC at 08:00:00, and what *changes* makes of it."""
    return {
        "pbx": "voipex",
        "call_id": call_id,
        "direction": "incoming",
        "from": "777888999",
        "to": "222333444",
        "queues": ["NOC"],
        "status": "ended",
        "outcome": "answered",
        "last_segment_outcome": "answered",
        "started_at": "2026-03-02T08:00:00.000000Z",
        "answered_at": "2026-03-02T08:00:10.000000Z",
        "ended_at": "2026-03-02T08:01:10.000000Z",
        "wait_s": 10.0,
        "talk_s": 60.0,
        "ring_s": 8.0,
        "consult_s": 0.0,
        "duration_s": 70.0,
        "answered_by": ["201"],
        "final_line": "201",
        "final_login": "novak",
        "transferred": False,
        "transfers": [],
        "monitors": [],
        "legs": [
            {
                "leg": 1,
                "line": "201",
                "login": "novak",
                "queue": "NOC",
                "role": "agent",
                "result": "completed",
                "ring_started_at": "2026-03-02T08:00:02.000000Z",
                "answered_at": "2026-03-02T08:00:10.000000Z",
                "ended_at": "2026-03-02T08:01:10.000000Z",
                "talk_s": 60.0,
                "consult_s": None,
                "inferred": [],
            }
        ],
        "events": [],
        "anomalies": [],
        "quality": "exact",
        "revision": 1,
        "updated_at": "2026-03-02T08:01:10.000000Z",
        **changes,
    }


def agent(name: str = "novak", **changes: Any) -> Json:
    """An agent who is free, and what *changes* makes of him."""
    return {
        "pbx": "voipex",
        "agent": name,
        "login": name,
        "line": "201",
        "email": None,
        "presence": "logged_in",
        "availability": "available",
        "activity": "idle",
        "state": "available",
        "since": "2026-03-02T08:00:00.000000Z",
        "previous": None,
        "pause_name": None,
        "queues": {},
        "current_calls": [],
        "ringing_calls": [],
        "days": {},
        "queue_days": {},
        "last_event_at": "2026-03-02T08:00:00.000000Z",
        "revision": 1,
        "updated_at": "2026-03-02T08:00:00.000000Z",
        **changes,
    }


def missed(call_id: str, at: str = "08:00:00", **changes: Any) -> Json:
    """A call that nobody answered."""
    start = f"2026-03-02T{at}.000000Z"
    return timeline(
        call_id,
        **{
            "outcome": "missed",
            "last_segment_outcome": None,
            "started_at": start,
            "answered_at": None,
            "wait_s": None,
            "talk_s": 0.0,
            "answered_by": [],
            "final_line": None,
            "final_login": None,
            "legs": [],
            "updated_at": start,
            **changes,
        },
    )
