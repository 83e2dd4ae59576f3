"""A record as one line for people."""

import json
import time
from pathlib import Path

import pytest

from bridge.ops.columns import Row, row
from bridge.ops.reader import ConsumerRecord

EXAMPLES = Path(__file__).parents[3] / "docs/contract/examples"
AT_MS = 1_772_438_400_000


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def shown(value: bytes | None, **headers: str) -> Row:
    texts = tuple((name, text.encode()) for name, text in headers.items())
    return row(ConsumerRecord("t", 0, 0, AT_MS, b"1.1", value, texts))


def example(name: str, ce_type: str) -> Row:
    return shown((EXAMPLES / f"{name}.json").read_bytes(), ce_type=ce_type)


def test_an_event_shows_parties_line_agent_queue_and_reason() -> None:
    event = {
        "type": "hangup",
        "from": "777888999",
        "to": "222333444",
        "line": "444",
        "login": "petr.novak",
        "queue": "NOC",
        "direction": None,
        "reason": "No user response",
    }

    found = shown(json.dumps(event).encode(), ce_type="voipex.call.hangup.v1")

    assert found == Row(
        "2026-03-02 08:00:00",
        "1.1",
        "hangup",
        "",
        "777888999 → 222333444  line 444  petr.novak  queue NOC  No user response",
        "magenta",
    )


def test_a_timeline_shows_status_outcome_and_figures() -> None:
    found = example("call-timeline", "voipex.call.timeline.v1")

    assert (found.type, found.state) == ("timeline", "ended")
    assert found.words == (
        "answered  777888999 → 222333444  queue podpora  answered by 7009, 7051  wait 28 s  talk 299 s  exact  revision 10"
    )


def test_a_status_shows_state_line_and_queues() -> None:
    found = example("agent-status", "voipex.agent.status.v1")

    assert (found.type, found.state, found.words) == (
        "status",
        "available",
        "line 7009  queue podpora  revision 7",
    )


def test_an_activity_shows_role_and_call() -> None:
    found = example("agent-activity", "voipex.agent.activity.v1")

    assert (found.type, found.state, found.words) == (
        "activity",
        "completed",
        "caller  call 1772435650.44  with 777888999",
    )


def test_a_dead_letter_shows_its_reason_and_not_its_body() -> None:
    found = row(
        ConsumerRecord(
            "t",
            0,
            0,
            AT_MS,
            None,
            b'{"From":"777888999"}',
            (
                ("bridge-error-class", b"InvalidEvent"),
                ("bridge-error-message", b"no EventName"),
                ("bridge-stage", b"ingress"),
            ),
        )
    )

    assert found[1:5] == ("-", "dead letter", "InvalidEvent", "no EventName (ingress, 20 bytes)")


@pytest.mark.parametrize(
    ("value", "headers", "expected"),
    [
        (None, {}, ("deleted", "", "")),
        (b"\xff", {"ce_type": "voipex.call.timeline.v1"}, ("call.timeline", "", "1 bytes")),
        (b"[]", {"ce_type": "x"}, ("x", "", "2 bytes")),
        (b"{}", {}, ("record", "", "2 bytes")),
        (b"{}", {"ce_type": "voipex.call.parked.v1"}, ("parked", "", "")),
        (
            b'{"queues":null,"answered_by":null,"wait_s":"x"}',
            {"ce_type": "voipex.call.timeline.v1"},
            ("timeline", "", ""),
        ),
    ],
)
def test_any_record_has_a_row(
    value: bytes | None, headers: dict[str, str], expected: tuple[str, str, str]
) -> None:
    assert shown(value, **headers)[2:5] == expected
