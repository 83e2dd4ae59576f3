"""The published language."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voipex.events import AGENT_EVENT_TYPES, EVENT_TYPES, Event, EventType, agent_key, split_unique_id
from voipex.timestamps import format_rfc3339, parse_rfc3339


def test_every_type_but_unknown_has_one_event_name() -> None:
    assert sorted(EVENT_TYPES.values()) == sorted(set(EventType) - {EventType.UNKNOWN})


def test_agent_events_are_those_named_agent() -> None:
    assert {kind for name, kind in EVENT_TYPES.items() if name.startswith("Agent")} == AGENT_EVENT_TYPES
    assert all(kind.is_agent == (kind in AGENT_EVENT_TYPES) for kind in EventType)


@pytest.mark.parametrize(
    ("login", "line", "email", "key"),
    [
        ("Janecek", "163", "a@example.cz", "janecek"),
        (None, "163", "a@example.cz", "line:163"),
        (None, None, "A@Example.CZ", "email:a@example.cz"),
        ("Straße", None, None, "strasse"),
        (None, None, None, None),
    ],
)
def test_agent_key_is_login_else_line_else_email(
    login: str | None, line: str | None, email: str | None, key: str | None
) -> None:
    assert agent_key(login, line, email) == key


@pytest.mark.parametrize(
    ("unique_id", "parts"),
    [
        ("1386184858.1", ("", 1386184858, 1)),
        ("1386184858.10", ("", 1386184858, 10)),
        ("pbx-brno-1386184858.9", ("pbx-brno", 1386184858, 9)),
        ("-1386184858.9", ("", 1386184858, 9)),
        ("1386184858.", None),
        ("1386184858.9 ", None),
        ("1386184858.9\n", None),
        ("١٣٨٦١٨٤٨٥٨.9", None),
        ("abc", None),
        ("", None),
    ],
)
def test_a_unique_id_has_a_system_name_an_epoch_and_a_sequence(
    unique_id: str, parts: tuple[str, int, int] | None
) -> None:
    assert split_unique_id(unique_id) == parts


def test_unique_ids_sort_as_numbers() -> None:
    sent = ["1386184858.10", "1386184858.9", "1386184857.11"]

    assert sorted(sent, key=lambda each: split_unique_id(each) or ("", 0, 0)) == [
        "1386184857.11",
        "1386184858.9",
        "1386184858.10",
    ]


def test_timestamps_are_rfc_3339_in_utc_with_microseconds() -> None:
    assert format_rfc3339(1_772_438_400_000_001) == "2026-03-02T08:00:00.000001Z"


@given(st.integers(0, 253_402_300_799_999_999))
def test_timestamps_round_trip_and_sort_like_numbers(at_us: int) -> None:
    text = format_rfc3339(at_us)

    assert parse_rfc3339(text) == at_us
    assert datetime.fromisoformat(text) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
    assert len(text) == len("2026-03-02T08:00:00.000000Z")


def test_timestamps_with_any_offset_are_parsed() -> None:
    assert parse_rfc3339("2026-03-02T09:00:00+01:00") == parse_rfc3339("2026-03-02T08:00:00Z")


@pytest.mark.parametrize("text", ["2026-03-02T08:00:00", "yesterday", ""])
def test_timestamp_without_offset_is_invalid(text: str) -> None:
    with pytest.raises(ValueError, match=r"offset|isoformat"):
        parse_rfc3339(text)


def test_events_are_ordered_by_receipt_and_then_by_id() -> None:
    event = Event(
        event_id="b",
        pbx="voipex",
        type=EventType.CDR,
        event_name="CDR",
        received_at="2026-03-02T08:00:00.000000Z",
    )

    assert event.order == ("2026-03-02T08:00:00.000000Z", "b")
    assert event.order < event.model_copy(update={"event_id": "c"}).order


def test_unknown_fields_are_ignored() -> None:
    """Within `v1` the bridge may add fields, and older readers must accept them."""
    newer = (
        '{"event_id":"a","pbx":"voipex","type":"cdr","event_name":"CDR","received_at":"2026-03-02T08:00:00.000000Z",'
        '"mood":"good"}'
    )

    assert "mood" not in Event.model_validate_json(newer).model_dump()


def test_validation_error_does_not_repeat_the_content() -> None:
    with pytest.raises(ValueError) as caught:
        Event.model_validate({"event_id": 777888999})

    assert "777888999" not in str(caught.value)
