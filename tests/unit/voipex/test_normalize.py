"""Webhooks become events."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import body, receipt
from tests.unit.voipex.webhook_bodies import as_read, bodies, recorded
from voipex.errors import InvalidEvent, InvalidJson
from voipex.events import Direction, Event, EventType, ReasonClass
from voipex.hangup_causes import reason_class
from voipex.normalize import direction_of, normalize, pbx_started_at
from voipex.records import decode, encode
from voipex.webhook import key_map, parse


def event_of(sent: bytes, region: str = "CZ") -> Event:
    return normalize(parse(sent), "voipex", receipt(), region).to_event()


DOCUMENTED: list[tuple[str, dict[str, Any]]] = [
    (
        "agent_login.json",
        {
            "type": "agent_login",
            "event_name": "AgentLogin",
            "queue": "NOC",
            "login": "janecek",
            "line": "163",
            "email": "nejaky@email.cz",
        },
    ),
    (
        "agent_paused.json",
        {
            "type": "agent_paused",
            "event_name": "AgentPaused",
            "queue": "NOC",
            "login": "janecek",
            "line": "163",
            "email": "nejaky@email.cz",
            "pause_name": "Oběd",
        },
    ),
    (
        "ringing.json",
        {
            "type": "ringing",
            "event_name": "Ringing",
            "from": "777888999",
            "from_e164": "+420777888999",
            "to": "222333444",
            "to_e164": "+420222333444",
            "line": "444",
            "email": "petr.novak@jehofirma.cz",
            "login": "petr.novak",
            "unique_id": "1412256225.1941",
            "pbx_started_at": "2014-10-02T13:23:45.000000Z",
        },
    ),
    (
        "hangup_missed.json",
        {
            "type": "hangup",
            "event_name": "Hangup",
            "from": "777888999",
            "from_e164": "+420777888999",
            "to": "222333444",
            "to_e164": "+420222333444",
            "unique_id": "1412256225.1941",
            "pbx_started_at": "2014-10-02T13:23:45.000000Z",
            "reason": "No user response",
            "reason_class": "no_answer",
        },
    ),
    (
        "ringing_outgoing.json",
        {
            "type": "ringing",
            "event_name": "Ringing",
            "from": "20",
            "to": "777888999",
            "to_e164": "+420777888999",
            "line": "20",
            "unique_id": "1412256225.1941",
            "pbx_started_at": "2014-10-02T13:23:45.000000Z",
            "direction": "outgoing",
        },
    ),
    (
        "hangup_outgoing.json",
        {
            "type": "hangup",
            "event_name": "Hangup",
            "from": "29",
            "to": "777888999",
            "to_e164": "+420777888999",
            "line": "20",
            "login": "cervenka",
            "unique_id": "1412256225.1941",
            "pbx_started_at": "2014-10-02T13:23:45.000000Z",
            "direction": "outgoing",
            "reason": "Normal Clearing",
            "reason_class": "normal",
        },
    ),
]


@pytest.mark.parametrize(("name", "expected"), DOCUMENTED)
def test_documented_payload_becomes_this_event(name: str, expected: dict[str, Any]) -> None:
    event = event_of(recorded(name))

    published = event.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert published == {
        **expected,
        "event_id": receipt().event_id,
        "pbx": "voipex",
        "received_at": "2026-03-02T08:00:00.000000Z",
        "extra": {},
    }


@pytest.mark.parametrize(
    ("name", "event_type"),
    [
        ("new_call.json", EventType.NEW_CALL),
        ("answered.json", EventType.ANSWERED),
        ("attended_transfer.json", EventType.ATTENDED_TRANSFER),
        ("attended_transfer_cancelled.json", EventType.ATTENDED_TRANSFER_CANCELLED),
        ("cdr.json", EventType.CDR),
        ("agent_logout.json", EventType.AGENT_LOGOUT),
        ("agent_unpaused.json", EventType.AGENT_UNPAUSED),
    ],
)
def test_event_name_has_its_type(name: str, event_type: EventType) -> None:
    assert event_of(recorded(name)).type is event_type


def test_unknown_fields_of_a_cdr_are_extra_as_sent() -> None:
    assert event_of(recorded("cdr.json")).extra == {
        "Duration": 42,
        "BillSec": "37",
        "Channels": ["SIP/444-0000a1", "SIP/trunk-0000a0"],
    }


@pytest.mark.parametrize("name", ["Voicemail", "ringing", "NovýHovor", "unknown"])
def test_unknown_event_name_has_type_unknown(name: str) -> None:
    event = event_of(body(EventName=name))

    assert (event.type, event.event_name) == (EventType.UNKNOWN, name)


def test_fields_are_trimmed_except_unique_id_and_event_name() -> None:
    event = event_of(body(EventName=" Ringing ", Line=" 444\t", Login=" petr ", UniqueId=" 1.10 "))

    assert (event.type, event.event_name) == (EventType.RINGING, " Ringing ")
    assert (event.line, event.login, event.unique_id) == ("444", "petr", " 1.10 ")


def test_blank_fields_are_null() -> None:
    event = event_of(
        body(Line="", Login=" ", Email="\n", From="", To=" ", Queue="", Reason=" ", Direction="")
    )

    assert (event.line, event.login, event.email, event.from_, event.to) == (None,) * 5
    assert (event.queue, event.reason, event.reason_class, event.direction) == (None,) * 4


@pytest.mark.parametrize(
    ("word", "direction"),
    [
        ("incoming", Direction.INCOMING),
        ("OUTGOING", Direction.OUTGOING),
        ("incomingLocal", Direction.INCOMING_LOCAL),
        ("incominglocal", Direction.INCOMING_LOCAL),
        ("Incoming_Local", Direction.INCOMING_LOCAL),
        ("outgoing-local", Direction.OUTGOING_LOCAL),
        ("outgoingLOCAL", Direction.OUTGOING_LOCAL),
        (" Barge ", Direction.BARGE),
        ("sideways", None),
    ],
)
def test_direction_is_read_in_any_case(word: str, direction: Direction | None) -> None:
    assert direction_of(word) is direction


def test_unknown_direction_is_extra() -> None:
    event = event_of(body(Direction="sideways"))

    assert (event.direction, event.extra) == (None, {"Direction": "sideways"})


@pytest.mark.parametrize(
    ("sent", "direction", "extra"),
    [
        ('"smer":"sideways"', None, '{"smer":"sideways"}'),
        ('"smer":" sideways "', None, '{"smer":" sideways "}'),
        ('"smer":1.10', None, '{"smer":1.10}'),
        ('"smer":-0', None, '{"smer":-0}'),
        ('"Direction":"sideways"', None, '{"Direction":"sideways"}'),
        ('"Direction":"sideways","smer":" "', None, '{"Direction":"sideways"}'),
        ('"Direction":null,"smer":"sideways"', None, '{"smer":"sideways"}'),
        ('"Direction":"incoming","smer":"sideways"', None, '{"Direction":"incoming","smer":"sideways"}'),
        ('"smer":"sideways","Direction":"incoming"', None, '{"Direction":"incoming","smer":"sideways"}'),
        ('"Direction":["incoming"],"smer":"sideways"', None, '{"Direction":["incoming"],"smer":"sideways"}'),
        ('"Direction":"sideways","smer":"incoming"', Direction.INCOMING, '{"Direction":"sideways"}'),
    ],
)
def test_unknown_direction_is_extra_under_the_key_sent(
    sent: str, direction: Direction | None, extra: str
) -> None:
    webhook = parse(f'{{"EventName":"CDR","UniqueId":"1.2",{sent}}}'.encode(), key_map({"Direction": "smer"}))

    event = normalize(webhook, "voipex", receipt()).to_event()

    assert (event.direction, orjson.dumps(event.extra).decode()) == (direction, extra)


@pytest.mark.parametrize(
    ("unique_id", "started_at"),
    [
        ("1412256225.1941", "2014-10-02T13:23:45.000000Z"),
        ("pbx-1412256225.1941", "2014-10-02T13:23:45.000000Z"),
        ("site-7-1412256225.1", "2014-10-02T13:23:45.000000Z"),
        ("0.1", "1970-01-01T00:00:00.000000Z"),
        ("253402300799.1", None),  # twelve digits
        ("99999999999.1", "5138-11-16T09:46:39.000000Z"),
        ("1412256225", None),
        ("call-7", None),
        ("１４１２２５６２２５.1", None),  # noqa: RUF001  # digits, but not Asterisk's
    ],
)
def test_pbx_started_at_is_the_epoch_of_the_unique_id(unique_id: str, started_at: str | None) -> None:
    assert pbx_started_at(unique_id) == started_at


def test_phone_numbers_are_parsed_in_the_given_region() -> None:
    assert event_of(body(From="02079460123"), region="GB").from_e164 == "+442079460123"
    assert event_of(body(From="02079460123")).from_e164 is None


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_call_event_without_unique_id_is_invalid(blank: str | None) -> None:
    with pytest.raises(InvalidEvent, match="no UniqueId"):
        event_of(body(UniqueId=blank))


@pytest.mark.parametrize("event_name", ["AgentLogin", "AgentLogout", "AgentPaused", "AgentUnPaused"])
def test_agent_event_needs_login_line_or_email(event_name: str) -> None:
    for known in ({"Login": "a"}, {"Line": 163}, {"Email": "a@example.cz"}):
        assert event_of(orjson.dumps({"EventName": event_name, **known})).type.is_agent

    with pytest.raises(InvalidEvent):
        event_of(orjson.dumps({"EventName": event_name, "Login": " ", "Queue": "NOC"}))


@pytest.mark.parametrize(
    "changes", [{"UniqueId": "1" * 5000}, {"EventName": "AgentLogin", "Login": "a" * 5000}]
)
def test_too_long_key_is_invalid(changes: dict[str, str]) -> None:
    with pytest.raises(InvalidEvent, match="longer"):
        event_of(body(**changes))


def test_unknown_event_without_unique_id_has_no_key() -> None:
    with pytest.raises(InvalidEvent):
        event_of(b'{"EventName":"AgentDancing","Login":"janecek"}')


@settings(deadline=None)
@given(sent=bodies)
def test_any_event_round_trips(sent: bytes) -> None:
    """decode ∘ encode = id, but for digits of numbers that no double has; everything else is refused with a reason."""
    try:
        event = normalize(parse(sent), "voipex", receipt())
    except (InvalidJson, InvalidEvent):
        return

    assert decode(encode(event, at_ms=0, partitions=12).value) == as_read(event.to_event())


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_reason_and_direction_have_a_class_or_none(text: str) -> None:
    assert reason_class(text) in ReasonClass
    assert direction_of(text) in (*Direction, None)
