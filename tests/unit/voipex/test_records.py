"""Event <-> Record, and CloudEvents as the SDK reads them."""

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given

from tests.factories import body, receipt
from tests.unit.voipex.webhook_bodies import as_read, bodies, recorded
from voipex.errors import InvalidWebhook
from voipex.events import EVENT_TYPES, Event, EventType
from voipex.normalize import NormalizedEvent, normalize
from voipex.partitioner import partition_for_key
from voipex.records import Record, ce_type, decode, encode
from voipex.webhook import parse

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AT_MS = 1_772_438_400_000


def event_of(sent: bytes, pbx: str = "voipex") -> NormalizedEvent:
    return normalize(parse(sent), pbx, receipt())


def record_of(sent: bytes, pbx: str = "voipex") -> Record:
    return encode(event_of(sent, pbx), AT_MS, 12)


def test_call_event_has_its_unique_id_as_key() -> None:
    record = record_of(recorded("ringing.json"), pbx="brno")

    assert record.topic == "brno.call.events.v1"
    assert record.key == b"1412256225.1941"
    assert record.partition == partition_for_key(b"1412256225.1941", 12)
    assert record.timestamp_ms == AT_MS


def test_numbers_of_extra_keep_their_digits() -> None:
    record = record_of(
        b'{"EventName":"CDR","UniqueId":"1.2","a":1412256225.1940,"b":[18446744073709551616,-0]}'
    )

    assert record.value.endswith(b',"extra":{"a":1412256225.1940,"b":[18446744073709551616,-0]}}')


def test_agent_event_has_its_agent_as_key() -> None:
    record = record_of(recorded("agent_paused.json"))

    assert (record.topic, record.key) == ("voipex.agent.events.v1", b"janecek")


def test_agent_event_without_agent_has_its_unique_id_as_key() -> None:
    record = record_of(b'{"EventName":"AgentLogin","UniqueId":"1.2"}')

    assert (record.topic, record.key) == ("voipex.call.events.v1", b"1.2")


def test_event_without_key_has_no_record() -> None:
    keyless = event_of(recorded("ringing.json")).to_event().model_copy(update={"unique_id": None})

    with pytest.raises(ValueError, match="without a key"):
        NormalizedEvent.from_event(keyless)


def test_headers_are_those_of_the_contract() -> None:
    record = encode(event_of(recorded("ringing.json")), AT_MS, 12, TRACEPARENT)

    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_type": b"voipex.call.ringing.v1",
        "ce_source": b"/voipex/voipex",
        "content-type": b"application/json",
        "ce_id": receipt().event_id.encode(),
        "ce_time": b"2026-03-02T08:00:00.000000Z",
        "ce_subject": b"1412256225.1941",
        "ce_partitionkey": b"1412256225.1941",
        "traceparent": TRACEPARENT.encode(),
    }


def test_value_is_the_event_as_json_with_nulls() -> None:
    record = record_of(recorded("hangup_missed.json"))

    assert record.value == (
        b'{"event_id":"019cade5-4c00-7000-8000-000000000001","pbx":"voipex","type":"hangup","event_name":"Hangup",'
        b'"received_at":"2026-03-02T08:00:00.000000Z","unique_id":"1412256225.1941",'
        b'"pbx_started_at":"2014-10-02T13:23:45.000000Z","direction":null,"from":"777888999","to":"222333444",'
        b'"from_e164":"+420777888999","to_e164":"+420222333444","line":null,"login":null,"email":null,"queue":null,'
        b'"pause_name":null,"reason":"No user response","reason_class":"no_answer","extra":{}}'
    )


@pytest.mark.parametrize("name", [*EVENT_TYPES, "Novinka"])
def test_cloudevents_sdk_reads_every_record(name: str) -> None:
    normalized = event_of(body(EventName=name, Login="Dvořák", Line=None))
    event = normalized.to_event()
    record = encode(normalized, AT_MS, 12, TRACEPARENT)

    read = from_binary(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat())

    assert record.key is not None
    assert read.get_id() == event.event_id
    assert read.get_source() == "/voipex/voipex"
    assert read.get_specversion() == "1.0"
    assert read.get_type() == record_type(event)
    assert read.get_subject() == record.key.decode()
    assert read.get_extension("partitionkey") == record.key.decode()
    assert read.get_datacontenttype() == "application/json"
    time = read.get_time()
    assert time is not None
    assert time.isoformat() == "2026-03-02T08:00:00+00:00"
    assert read.get_data() == event.model_dump(mode="json", by_alias=True)


def record_type(event: Event) -> str:
    return ce_type(event.type, is_agent=event.type.is_agent)


@pytest.mark.parametrize(
    ("event_type", "is_agent", "expected"),
    [
        (EventType.RINGING, False, "voipex.call.ringing.v1"),
        (EventType.NEW_CALL, False, "voipex.call.new_call.v1"),
        (EventType.ATTENDED_TRANSFER_CANCELLED, False, "voipex.call.attended_transfer_cancelled.v1"),
        (EventType.UNKNOWN, False, "voipex.call.unknown.v1"),
        (EventType.AGENT_LOGIN, True, "voipex.agent.login.v1"),
        (EventType.AGENT_UNPAUSED, True, "voipex.agent.unpaused.v1"),
    ],
)
def test_ce_type_names_call_or_agent(event_type: EventType, is_agent: bool, expected: str) -> None:
    assert ce_type(event_type, is_agent=is_agent) == expected


@pytest.mark.parametrize("name", ["ringing.json", "hangup_outgoing.json", "agent_paused.json", "cdr.json"])
def test_record_decodes_to_its_event(name: str) -> None:
    event = event_of(recorded(name))

    assert decode(encode(event, AT_MS, 12).value) == event.to_event()


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"event_id":"a"}', b"\xff"])
def test_value_that_is_no_event_raises_value_error(value: bytes) -> None:
    with pytest.raises(ValueError):
        decode(value)


def test_size_of_a_record_includes_its_value_and_headers() -> None:
    small, large = record_of(body()), record_of(body(Queue="x" * 1000))

    assert large.size_bytes == small.size_bytes + 1000 - len("null") + len('""')
    assert small.size_bytes > len(small.value)


@given(bodies)
def test_normalized_fields_are_those_of_the_model(body: bytes) -> None:
    """`normalize` does not validate: what it makes must be what the model would have made, in the same order."""
    try:
        normalized = normalize(parse(body), "voipex", receipt())
    except InvalidWebhook:
        return

    event = normalized.to_event()
    read = NormalizedEvent.from_event(event)

    assert list(normalized.fields) == [field.alias or name for name, field in Event.model_fields.items()]
    assert (read.kind, read.key) == (normalized.kind, normalized.key)
    assert encode(read, 1, 12) == encode(normalized, 1, 12)
    assert decode(encode(normalized, 1, 12).value) == as_read(event)
