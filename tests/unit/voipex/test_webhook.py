"""Bytes -> the fields of a webhook."""

import json
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.voipex.webhook_bodies import bodies, recorded
from voipex.errors import InvalidEvent, InvalidJson
from voipex.webhook import DOCUMENTED_KEYS, key_map, parse, text_of


def read(body: bytes) -> tuple[Any, Any, Any]:
    webhook = parse(body)
    return webhook.fields, webhook.extra, webhook.raw


DOCUMENTED: list[tuple[str, dict[str, str]]] = [
    (
        "agent_login.json",
        {
            "EventName": "AgentLogin",
            "Queue": "NOC",
            "Login": "janecek",
            "Line": "163",
            "Email": "nejaky@email.cz",
        },
    ),
    (
        "agent_paused.json",
        {
            "EventName": "AgentPaused",
            "Queue": "NOC",
            "Login": "janecek",
            "Line": "163",
            "Email": "nejaky@email.cz",
            "PauseName": "Oběd",
        },
    ),
    (
        "ringing.json",
        {
            "EventName": "Ringing",
            "From": "777888999",
            "To": "222333444",
            "Line": "444",
            "Email": "petr.novak@jehofirma.cz",
            "Login": "petr.novak",
            "UniqueId": "1412256225.1941",
        },
    ),
    (
        "hangup_missed.json",
        {
            "EventName": "Hangup",
            "From": "777888999",
            "To": "222333444",
            "UniqueId": "1412256225.1941",
            "Reason": "No user response",
        },
    ),
    (
        "ringing_outgoing.json",
        {
            "EventName": "Ringing",
            "From": "20",
            "To": "777888999",
            "Line": "20",
            "UniqueId": "1412256225.1941",
            "Direction": "outgoing",
        },
    ),
    (
        "hangup_outgoing.json",
        {
            "EventName": "Hangup",
            "From": "29",
            "To": "777888999",
            "Line": "20",
            "Login": "cervenka",
            "UniqueId": "1412256225.1941",
            "Direction": "outgoing",
            "Reason": "Normal Clearing",
        },
    ),
]


@pytest.mark.parametrize(("name", "fields"), DOCUMENTED)
def test_documented_payload_is_parsed(name: str, fields: dict[str, str]) -> None:
    webhook = parse(recorded(name))

    assert webhook.fields == fields
    assert webhook.extra == {}


@pytest.mark.parametrize("name", ["ringing_relaxed.txt", "ringing_bom.json"])
def test_relaxed_notation_and_bom_parse_like_json(name: str) -> None:
    assert read(recorded(name)) == read(recorded("ringing.json"))


def test_windows_1250_parses_like_utf_8() -> None:
    assert read(recorded("agent_paused_windows1250.json")) == read(recorded("agent_paused.json"))


def decoded_by_hand(body: bytes) -> str | None:
    """Decode as the contract says, a character at a time; None if no encoding fits."""
    while body[:3] == b"\xef\xbb\xbf":
        body = body[3:]
    while body[-1:] in (b"\0", b" ", b"\t", b"\r", b"\n"):
        body = body[:-1]
    characters: list[str] = []
    start, has_multi_byte = 0, False
    while start < len(body):
        for size in (1, 2, 3, 4):
            try:
                character = body[start : start + size].decode("utf-8")
            except UnicodeDecodeError:
                continue
            has_multi_byte = has_multi_byte or size > 1
            break
        else:
            character, size = "", 1
        characters.append(character)
        start += size
    if has_multi_byte or "" not in characters:
        return "".join(character or "\ufffd" for character in characters)
    try:
        return body.decode("cp1250")
    except UnicodeDecodeError:
        return None


# Random bytes are rarely UTF-8, so pieces of all kinds are joined.
pieces = st.one_of(
    st.text(max_size=3).map(str.encode),
    st.text("řšťĚ žé", max_size=3).map(lambda text: text.encode("cp1250")),
    st.sampled_from([b"\xef\xbb\xbf", b"\0", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"]),
    st.binary(max_size=3),
)


@given(st.lists(pieces, max_size=6).map(b"".join))
def test_bytes_are_utf_8_broken_utf_8_or_windows_1250(body: bytes) -> None:
    expected = decoded_by_hand(body)

    if expected is None:
        with pytest.raises(InvalidJson):
            text_of(body)
    else:
        assert text_of(body) == expected


def test_a_broken_byte_changes_nothing_else() -> None:
    body = '{"EventName":"AgentPaused","Login":"Dvořák","PauseName":"Ob\0d"}'.encode().replace(
        b"\0", b"\xe2\x82"
    )

    assert parse(body).fields == {
        "EventName": "AgentPaused",
        "Login": "Dvořák",
        "PauseName": "Ob\ufffd\ufffdd",
    }


@given(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["utf-8", "cp1250"]))
def test_byte_order_marks_and_trailing_nuls_are_dropped(marks: int, nuls: int, encoding: str) -> None:
    text = recorded("agent_paused.json").decode()

    body = b"\xef\xbb\xbf" * marks + text.encode(encoding) + b"\0" * nuls

    assert read(body) == read(text.encode())


units = st.one_of(
    st.sampled_from(["\ud83d", "\ude00", "\udfff", "\\", '"', "u", "ř"]), st.characters(codec="utf-8")
)


@given(st.lists(units, max_size=8).map("".join))
def test_a_lone_surrogate_becomes_one_replacement_character(text: str) -> None:
    body = json.dumps({"EventName": "Ringing", "extra " + text: {"nested": [text]}}).encode()
    expected = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    assert parse(body).extra == {"extra " + expected: {"nested": [expected]}}


@given(st.lists(st.text("abc1 ", min_size=1, max_size=4), min_size=1, max_size=4), st.booleans())
def test_of_equal_keys_the_last_wins(values: list[str], slow: bool) -> None:
    """Also where the slower parser reads the body, and as the text of a number."""
    pairs = ",".join(f'"Login":{json.dumps(value)}' for value in values)
    number = "1.10" if slow else '"1.10"'

    webhook = parse(f'{{"EventName":"Ringing",{pairs},"UniqueId":2.20,"UniqueId":{number}}}'.encode())

    last = values[-1].strip()
    expected = {"EventName": "Ringing", "UniqueId": "1.10"}
    assert webhook.fields == ({**expected, "Login": last} if last else expected)


def test_undecodable_bytes_are_invalid_json() -> None:
    with pytest.raises(InvalidJson, match="windows-1250"):
        parse(b'{"EventName":"Ringing","Login":"\x81"}')


def test_renamed_keys_are_mapped_to_documented_names() -> None:
    keys = key_map(
        {
            "EventName": "event",
            "From": "volajici",
            "To": "volany",
            "Line": "linka",
            "Email": "email",
            "Login": "uzivatel",
            "UniqueId": "hovor",
            "Direction": "smer",
            "Queue": "fronta",
        }
    )

    webhook = parse(recorded("ringing_renamed.json"), keys)

    assert webhook.fields == {
        "EventName": "Ringing",
        "From": "777888999",
        "To": "222333444",
        "Line": "444",
        "Login": "petr.novak",
        "UniqueId": "1412256225.1940",
        "Direction": "incomingLocal",
        "Queue": "NOC",
    }
    assert webhook.extra == {}


def test_documented_keys_stay_valid_beside_renamed_ones() -> None:
    webhook = parse(b'{"EventName":"CDR","call_id":"1.2"}', key_map({"UniqueId": "call_id"}))

    assert webhook.fields == {"EventName": "CDR", "UniqueId": "1.2"}


def test_documented_key_used_for_another_field_is_only_that() -> None:
    webhook = parse(b'{"EventName":"CDR","From":"1","To":"2"}', key_map({"From": "To", "To": "From"}))

    assert webhook.fields == {"EventName": "CDR", "From": "2", "To": "1"}


@pytest.mark.parametrize(
    "body",
    [b'{"EventName":"CDR","Login":"old","user":"new"}', b'{"EventName":"CDR","user":"new","Login":"old"}'],
)
def test_of_two_keys_of_a_field_the_renamed_one_counts(body: bytes) -> None:
    webhook = parse(body, key_map({"Login": "user"}))

    assert webhook.fields == {"EventName": "CDR", "Login": "new"}
    assert webhook.extra == {"Login": "old"}


@pytest.mark.parametrize(
    "body", [b'{"EventName":"CDR","Line":20,"linka":30}', b'{"EventName":"CDR","linka":30,"Line":20}']
)
def test_the_other_of_two_keys_is_extra_as_sent(body: bytes) -> None:
    webhook = parse(body, key_map({"Line": "linka"}))

    assert (webhook.fields["Line"], webhook.extra) == ("30", {"Line": 20})


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("1412256225.1940", "1412256225.1940"),  # a double would make it another call's id
        ("1386184858.10", "1386184858.10"),
        ("1412256225", "1412256225"),
        ("1.0", "1.0"),
        ("-0", "-0"),
        ("0", "0"),
        ("1E400", "1E400"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"1412256225.1940"', "1412256225.1940"),
        ('" 1412256225.1940"', " 1412256225.1940"),
    ],
)
def test_unique_id_sent_as_a_number_keeps_its_digits(sent: str, text: str) -> None:
    webhook = parse(f'{{"EventName":"Ringing","UniqueId":{sent}}}'.encode())

    assert webhook.fields["UniqueId"] == text


def test_number_keeps_its_digits_in_windows_1250() -> None:
    body = '{"EventName":"Ringing","Login":"Dvořák","UniqueId":1.10,"UniqueId":2.20}'.encode("cp1250")

    assert parse(body).fields == {"EventName": "Ringing", "Login": "Dvořák", "UniqueId": "2.20"}


def test_numbers_of_fields_become_text() -> None:
    webhook = parse(b'{"EventName":"Ringing","From":777888999,"Line":20,"UniqueId":"1.2"}')

    assert webhook.fields == {"EventName": "Ringing", "From": "777888999", "Line": "20", "UniqueId": "1.2"}


def test_blank_and_null_fields_are_left_out() -> None:
    webhook = parse(b'{"EventName":"Ringing","From":"","To":"  ","Line":"\\t","Login":null,"UniqueId":"1.2"}')

    assert webhook.fields == {"EventName": "Ringing", "UniqueId": "1.2"}
    assert webhook.extra == {}


def test_unmapped_fields_are_extra_as_sent() -> None:
    webhook = parse(recorded("cdr.json"))

    assert webhook.extra == {
        "Duration": 42,
        "BillSec": "37",
        "Channels": ["SIP/444-0000a1", "SIP/trunk-0000a0"],
    }


@pytest.mark.parametrize("before", ["", "\ufeff"])
@pytest.mark.parametrize(
    "sent",
    [
        "1412256225.1940",
        "1.10",
        "1E5",
        "1e-400",
        "-0",
        "-0.0",
        "0",
        "42",
        "37.5",
        "18446744073709551616",
        "9" * 308,
        "0." + "1" * 5000,
        '[1.10,{"a":-0,"b":[1e+5]},0,true,null,"1.10"]',
    ],
)
def test_numbers_of_extra_are_written_as_sent(sent: str, before: str) -> None:
    webhook = parse(f'{before}{{"EventName":"CDR","x":{sent},"y":{{"z":{sent}}}}}'.encode())

    assert orjson.dumps(webhook.extra).decode() == f'{{"x":{sent},"y":{{"z":{sent}}}}}'


def test_numbers_without_loss_stay_python_numbers() -> None:
    assert parse(b'{"EventName":"CDR","a":[42,0],"b":37.5}').extra == {"a": [42, 0], "b": 37.5}


@pytest.mark.parametrize("value", [{"a": 1}, ["a"], True, False])
def test_documented_key_without_text_is_extra(value: Any) -> None:
    webhook = parse(orjson.dumps({"EventName": "Ringing", "Queue": value}))

    assert webhook.fields == {"EventName": "Ringing"}
    assert webhook.extra == {"Queue": value}


def test_last_of_equal_keys_wins() -> None:
    assert parse(b'{"EventName":"Ringing","EventName":"Hangup"}').fields == {"EventName": "Hangup"}


def test_raw_control_characters_in_text_are_accepted() -> None:
    assert parse(b'{"EventName":"Ringing","Login":"a\tb\nc"}').fields["Login"] == "a\tb\nc"


def nested(levels: int, before: str = "") -> bytes:
    return f'{{"EventName":"CDR",{before}"x":{"[" * levels}{"]" * levels}}}'.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"EventName=Ringing&From=1",
        b'{"EventName":"Ringing"',
        b'{"EventName":"Ringing",}',
        b'{"EventName":"Ringing"} {}',
        b'{"EventName": Ringing}',
        b"{'EventName': 'Ringing'}",
        b'{EventName: "Ringing"}',
        b'{"EventName":"Ringing","Line":007}',
        b'{"EventName":"Ringing","Line":NaN}',
        b"{}}",
        b"{,}",
        b"{EventName Ringing}",
        b"<xml/>",
        b"\x00\x01\x02",
        b"[" * 60_000,
        nested(1100)[:-1],
        nested(1100, '"Login":"}",')[:-1],
    ],
)
def test_other_text_is_invalid_json(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"Ringing"',
        b"42",
        b"{}",
        b'[{"EventName":"Ringing"}]',
        b'{"EventName":""}',
        b'{"EventName":null}',
        b'{"EventName":["Ringing"]}',
        b'{"eventname":"Ringing"}',
        b"{From: 777888999}",
    ],
)
def test_json_without_event_name_is_an_invalid_event(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        parse(body)


def test_relaxed_values_may_have_commas_colons_and_numbers() -> None:
    webhook = parse(
        " {EventName: Hangup, Reason: User alerting, no answer, UniqueId: 1.1940, Queue: Linka: 2, Login: Dvořák, Line: }\n".encode()
    )

    assert webhook.fields == {
        "EventName": "Hangup",
        "Reason": "User alerting, no answer",
        "UniqueId": "1.1940",
        "Queue": "Linka: 2",
        "Login": "Dvořák",
    }


def test_extra_may_be_nested_64_levels_deep() -> None:
    assert parse(nested(64)).fields == {"EventName": "CDR"}


@pytest.mark.parametrize(
    "body",
    [
        nested(65),
        nested(900),
        nested(1010, '"UniqueId":1.10,'),
        nested(1100),
        nested(30_000),
        nested(1100, '"Login":"[{\\"",'),
        b"[" * 2000 + b"]" * 2000,
        b'{"EventName":"CDR","x":' + b'{"y":' * 65 + b"1" + b"}" * 66,
    ],
)
def test_too_deeply_nested_json_is_an_invalid_event(body: bytes) -> None:
    """JSON writers have a maximum depth, which an event must not exceed."""
    with pytest.raises(InvalidEvent, match="nested too deeply"):
        parse(body)


@pytest.mark.parametrize(
    "value",
    ["1e999", "[-1e999]", '{"a":[1e999]}', "9" * 310, "-" + "9" * 310, "9" * 4300, "9" * 4301, "9" * 60_000],
)
def test_number_beyond_a_double_is_an_invalid_event(value: str) -> None:
    """It would become `null`, and be lost silently."""
    with pytest.raises(InvalidEvent, match="out of range"):
        parse(f'{{"EventName":"CDR","x":{value}}}'.encode())


@pytest.mark.parametrize("digits", [310, 4300, 4301])
def test_field_may_be_an_integer_of_any_length(digits: int) -> None:
    assert parse(b'{"EventName":"CDR","Queue":%s}' % (b"9" * digits)).fields["Queue"] == "9" * digits


def test_a_long_integer_alone_is_an_invalid_event() -> None:
    with pytest.raises(InvalidEvent, match="not a JSON object"):
        parse(b"9" * 5000)


def test_messages_of_errors_never_repeat_the_body() -> None:
    for body in (b'{"EventName":"","From":"777888999"}', b'{"From": 777888999', b"777888999"):
        with pytest.raises((InvalidJson, InvalidEvent)) as caught:
            parse(body)

        assert "777888999" not in str(caught.value)


def test_key_maps_are_read_only() -> None:
    assert isinstance(key_map({}), MappingProxyType)
    assert key_map({}) == DOCUMENTED_KEYS


@settings(deadline=None)
@given(body=bodies)
def test_any_body_is_a_webhook_or_rejected(body: bytes) -> None:
    try:
        webhook = parse(body)
    except (InvalidJson, InvalidEvent):
        return

    assert webhook.fields["EventName"].strip()
    assert set(webhook.fields) <= set(DOCUMENTED_KEYS)
    assert all(isinstance(text, str) and text.strip() for text in webhook.fields.values())


def test_trailing_comma_is_no_part_of_a_relaxed_value() -> None:
    assert parse(b"{EventName: Ringing, UniqueId: 1412256225.1940, }").fields["UniqueId"] == "1412256225.1940"
