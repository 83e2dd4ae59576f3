"""The contract compared with the code that writes records: topics, keys, headers, examples, pages."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]
from pydantic import BaseModel

from bridge.auth.authenticate import Principal
from bridge.ops.dead_letters import DeadLetter, to_record
from bridge.ops.reader import ConsumerRecord
from bridge.publisher.delivery import stamped
from bridge.settings import Settings
from bridge.spool import SpooledRecord
from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.engine.batch import Batch
from consumers.engine.records import InputRecord, ProducerRecord, TaskId
from tests.factories import body, receipt
from tests.unit.consumers import tally
from tools.docs.asyncapi import channel_name
from tools.docs.contract import FOLDER, TRACE
from tools.docs.examples import examples_of
from tools.docs.messages import (
    ACTIVITY,
    AGENT_EVENT,
    CALL_EVENT,
    FORGOTTEN_AGENT,
    MESSAGES,
    MODELS,
    REFUSED_WEBHOOK,
    STATUS,
    TIMELINE,
    UNDELIVERABLE_RECORD,
    UNREADABLE_RECORD,
    Message,
    headers_schema,
)
from tools.docs.pages import table, type_of
from tools.docs.walkthrough import changed
from voipex.dead_letters import dead_letter, undeliverable
from voipex.errors import InvalidJson, InvalidWebhook
from voipex.events import EventType
from voipex.normalize import NormalizedEvent, normalize
from voipex.records import Record, ce_type, encode
from voipex.service.settings import RETENTION_SETTINGS, variable_of
from voipex.topics import (
    AGENT_EVENTS,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_TIMELINES,
    DEAD_LETTERS,
    DEFAULT_PARTITIONS,
    TOPIC_SPECS,
    TopicSpec,
    topics_for,
)
from voipex.webhook import DOCUMENTED_KEYS, parse

Json = dict[str, Any]
Headers = Mapping[str, str]

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SPOOL_ID = "5f0b2c3e-8d51-4c0e-9a46-2b7a1f3d9c10"
AT_MS = 1_772_438_400_000

EXAMPLES = examples_of((FOLDER / TRACE).read_bytes()).records
PAGES = sorted(FOLDER.glob("*.md"))


@pytest.fixture(scope="module")
def asyncapi() -> Json:
    loaded: Json = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))
    return loaded


def public() -> list[TopicSpec]:
    return [kind for kind in TOPIC_SPECS if kind.public]


# ---------------------------------------------------------------- AsyncAPI


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def resolve(document: Any, reference: str, folder: Path) -> Any:
    """Return the object that a reference names, or raise KeyError."""
    name, _, pointer = reference.partition("#")
    target = json.loads((folder / name).read_text(encoding="utf-8")) if name else document
    for step in pointer.split("/")[1:]:
        target = target[step.replace("~1", "/").replace("~0", "~")]
    return target


def test_every_reference_in_asyncapi_resolves(asyncapi: Json) -> None:
    found = list(references(asyncapi))

    assert {f"./schemas/{name}.json" for name in MODELS} <= set(found)
    for each in found:
        target = resolve(asyncapi, each, FOLDER)
        for inner in references(target) if not each.startswith("#") else ():
            assert isinstance(resolve(target, inner, FOLDER / "schemas"), dict)


def test_every_public_topic_is_a_channel_and_no_private_one_is(asyncapi: Json) -> None:
    addresses = {name: channel["address"] for name, channel in asyncapi["channels"].items()}

    assert addresses == {channel_name(kind): f"{{pbx}}.{kind.suffix}" for kind in public()}
    assert list(addresses) == [
        "callEvents", "agentEvents", "callTimelines", "agentActivity", "agentStatus", "deadLetters",
    ]  # fmt: skip


@pytest.mark.parametrize("pbx", ["voipex", "brno"])
def test_channel_addresses_are_the_topics_of_each_pbx(asyncapi: Json, pbx: str) -> None:
    names = {channel["address"].replace("{pbx}", pbx) for channel in asyncapi["channels"].values()}

    assert names == {topic.name for topic in topics_for([pbx]) if topic.kind.public}
    assert pbx in asyncapi["components"]["parameters"]["pbx"]["examples"]


def test_each_part_of_an_address_in_braces_is_a_parameter(asyncapi: Json) -> None:
    """The AsyncAPI parser does not check this."""
    for channel in asyncapi["channels"].values():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"])


@pytest.mark.parametrize("kind", public(), ids=lambda kind: kind.suffix)
def test_channel_bindings_are_those_of_the_topics(asyncapi: Json, kind: TopicSpec) -> None:
    binding = asyncapi["channels"][channel_name(kind)]["bindings"]["kafka"]
    configuration = {
        name: ",".join(value) if isinstance(value, list) else str(value)
        for name, value in binding["topicConfiguration"].items()
    }
    min_insync = str(Settings.model_fields["topic_min_insync"].default)

    assert binding["partitions"] == DEFAULT_PARTITIONS == Settings.model_fields["topic_partitions"].default
    assert binding["replicas"] == Settings.model_fields["topic_replication"].default
    assert configuration == {**kind.config(), "min.insync.replicas": min_insync}


@pytest.mark.parametrize("kind", RETENTION_SETTINGS, ids=lambda kind: kind.suffix)
def test_contract_and_privacy_page_name_each_retention(kind: TopicSpec) -> None:
    name = RETENTION_SETTINGS[kind]
    days = f"{kind.retention_ms // 86_400_000} days" if kind.retention_ms is not None else ""
    privacy = (FOLDER.parent / "privacy.md").read_text(encoding="utf-8")

    assert Settings.model_fields[name].default * 1000 == kind.retention_ms
    assert f"{days}: `{variable_of(name)}`" in privacy
    assert f"<pbx>.{kind.suffix}" in privacy
    if kind.public:
        assert variable_of(name) in (FOLDER / "asyncapi.json").read_text(encoding="utf-8")
        assert f"{days} (`{variable_of(name)}`)" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_message_has_its_channel_and_operation(asyncapi: Json) -> None:
    for kind in public():
        name = channel_name(kind)
        expected = [each.name for each in MESSAGES if each.kind == kind]
        operation = asyncapi["operations"][f"write{name[0].upper()}{name[1:]}"]

        assert list(asyncapi["channels"][name]["messages"]) == expected != []
        assert operation["channel"] == {"$ref": f"#/channels/{name}"}
        assert operation["messages"] == [{"$ref": f"#/channels/{name}/messages/{each}"} for each in expected]
    assert set(asyncapi["components"]["messages"]) == {each.name for each in MESSAGES}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: each.name)
def test_every_example_of_a_message_validates(asyncapi: Json, message: Message) -> None:
    """The AsyncAPI parser does not validate examples."""
    described = asyncapi["components"]["messages"][message.name]
    Draft7Validator.check_schema(described["headers"])
    payload = described["payload"]
    if message.schema is not None:
        payload = resolve(asyncapi, payload["schema"]["$ref"], FOLDER)

    assert described["examples"] != []
    for example in described["examples"]:
        assert list(Draft7Validator(described["headers"]).iter_errors(example["headers"])) == []
        assert list(Draft202012Validator(payload).iter_errors(example["payload"])) == []


def test_the_examples_of_documents_are_those_beside_it(asyncapi: Json) -> None:
    for message in (TIMELINE, ACTIVITY, STATUS):
        (example,) = asyncapi["components"]["messages"][message.name]["examples"]

        file = FOLDER / f"examples/{message.schema}.json"
        assert example["payload"] == json.loads(file.read_text(encoding="utf-8"))


def test_keys_of_examples_match_the_described_keys(asyncapi: Json) -> None:
    for example in EXAMPLES:
        key = asyncapi["components"]["messages"][example.message.name]["bindings"]["kafka"]["key"]

        assert Draft7Validator(key).is_valid(example.key)
        if "ce_partitionkey" in example.headers:
            assert example.headers["ce_partitionkey"] == example.key


# ---------------------------------------------------------------- headers: described and written


def texts(headers: Sequence[tuple[str, bytes]]) -> Headers:
    return {name: value.decode() for name, value in headers}


def check_headers(message: Message, written: Sequence[Headers]) -> None:
    """Check that *written* headers are exactly the described ones, required ones in each record, all of them valid."""
    always = {each.name for each in message.headers if each.always}
    named = {each.name for each in message.headers}
    validator = Draft7Validator(headers_schema(message))

    assert set().union(*written) == named
    for each in written:
        assert always <= set(each)
        assert list(validator.iter_errors(each)) == []


def published(record: Record) -> Record:
    """The record with the headers that the publisher adds."""
    (sent,) = stamped([SpooledRecord(SPOOL_ID, 7, record)])
    return sent


def refused(content: bytes, traceparent: str | None = None) -> Record:
    receipt_ = receipt(traceparent=traceparent)
    with pytest.raises(InvalidWebhook) as fault:
        normalize(parse(content), "voipex", receipt_)
    return published(dead_letter(content, fault.value, "voipex", "site-7", receipt_, 12))


def replayed(content: bytes, traceparent: str | None = None) -> Record:
    """Replay the dead letter of a webhook, after its credential has got the right key names."""
    receipt_ = receipt(traceparent=traceparent)
    sent = published(dead_letter(content, InvalidJson("not JSON"), "voipex", "site-7", receipt_, 12))
    refused_webhook = DeadLetter.from_record(
        "voipex",
        ConsumerRecord(sent.topic, sent.partition, 0, sent.timestamp_ms, sent.key, sent.value, sent.headers),
    )
    return to_record(refused_webhook, lambda _: Principal("site-7", "voipex", "CZ", DOCUMENTED_KEYS), 12)


def event_of(event_type: EventType, **changes: Any) -> NormalizedEvent:
    event = normalize(parse(body(**changes)), "voipex", receipt()).to_event()
    return NormalizedEvent.from_event(event.model_copy(update={"type": event_type}))


def test_headers_of_call_events_are_those_that_are_written() -> None:
    written = [
        texts(published(encode(event_of(each, Line=None, Login=None, Email=None), AT_MS, 12, trace)).headers)
        for each in EventType
        for trace in (None, TRACEPARENT)
    ]

    check_headers(CALL_EVENT, [*written, texts(replayed(body()).headers)])
    assert {each["ce_type"] for each in written} == set(types_of(CALL_EVENT))


def test_headers_of_agent_events_are_those_that_are_written() -> None:
    login = body(EventName="AgentLogin", UniqueId=None)
    written = [
        texts(published(encode(event_of(each), AT_MS, 12, trace)).headers)
        for each in EventType
        if each.is_agent
        for trace in (None, TRACEPARENT)
    ]

    check_headers(AGENT_EVENT, [*written, texts(replayed(login, TRACEPARENT).headers)])
    assert {each["ce_type"] for each in written} == set(types_of(AGENT_EVENT))


def types_of(message: Message) -> list[str]:
    (limits,) = (each.limits for each in message.headers if each.name == "ce_type")
    return [limits["const"]] if "const" in limits else list(limits["enum"])


class InKafka(NamedTuple):
    """A record as a consumer reads it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def folded(projection: Any, kind: TopicSpec, *records: Record) -> list[ProducerRecord]:
    """Everything that a service writes for these records, its changelog too."""
    batch = Batch(projection, TaskId("voipex", 0), 1)
    inputs = [
        InputRecord(kind, InKafka(place, each.timestamp_ms, each.key, each.value, each.headers))
        for place, each in enumerate(records)
    ]
    return [output for outputs in tally.folded(batch, inputs).outputs.values() for output in outputs]


def of_topic(outputs: Sequence[ProducerRecord], message: Message) -> list[ProducerRecord]:
    return [each for each in outputs if each.topic == f"voipex.{message.kind.suffix}"]


@pytest.mark.parametrize("message", [TIMELINE, ACTIVITY, STATUS], ids=lambda each: each.name)
def test_headers_of_documents_are_those_that_the_services_write(message: Message) -> None:
    agent = message.kind == AGENT_STATUS
    sent = body(EventName="AgentLogin", UniqueId=None) if agent else body()
    event = normalize(parse(sent), "voipex", receipt())
    written: list[ProducerRecord] = []
    for trace in (None, TRACEPARENT):
        record = published(encode(event, AT_MS, 1, trace))
        projection = AgentProjection() if agent else CallProjection()
        written += of_topic(folded(projection, AGENT_EVENTS if agent else CALL_EVENTS, record), message)

    check_headers(message, [texts(each.headers) for each in written])
    for each in written:
        assert each.key is not None
        assert each.value is not None
        named = texts(each.headers)["ce_id"]
        value = json.loads(each.value)
        leg = "" if message is not ACTIVITY else f"/{value['call_id']}/{value['leg']}"
        assert named == f"{each.key.decode()}{leg}@{value['revision']}"


def test_example_documents_have_the_headers_of_written_ones() -> None:
    for example in EXAMPLES:
        if example.message in (TIMELINE, ACTIVITY, STATUS, FORGOTTEN_AGENT):
            assert {each.name for each in example.message.headers if each.always} <= set(example.headers)


def test_headers_of_refused_webhooks_are_those_that_are_written() -> None:
    records = [refused(b"{"), refused(b"{}", TRACEPARENT)]

    check_headers(REFUSED_WEBHOOK, [texts(each.headers) for each in records])
    assert all(each.key is None for each in records)


def test_headers_of_undeliverable_records_are_added_to_their_own() -> None:
    record = encode(event_of(EventType.RINGING), AT_MS, 12)
    dead_letter = undeliverable(record, "Kafka refused it: MessageSizeTooLarge", "voipex", 12)
    own = len(record.headers)

    assert dead_letter.headers[:own] == record.headers
    check_headers(UNDELIVERABLE_RECORD, [texts(published(dead_letter).headers[own:])])


@pytest.mark.parametrize("stage", ["timelines", "agents"])
def test_headers_of_unreadable_records_are_added_to_their_own(stage: str) -> None:
    agent = stage == "agents"
    sent = body(EventName="AgentLogin", UniqueId=None) if agent else body()
    record = published(encode(normalize(parse(sent), "voipex", receipt()), AT_MS, 1))
    broken = record._replace(value=b"{")
    projection = AgentProjection() if agent else CallProjection()
    (dead_letter,) = of_topic(
        folded(projection, AGENT_EVENTS if agent else CALL_EVENTS, broken), UNREADABLE_RECORD
    )
    own = len(record.headers)

    assert dead_letter.headers[:own] == record.headers
    assert (dead_letter.key, dead_letter.value) == (record.key, b"{")
    check_headers(UNREADABLE_RECORD, [texts(dead_letter.headers[own:])])
    assert texts(dead_letter.headers)["bridge-stage"] == stage


def test_every_kind_of_dead_letter_is_in_the_dead_letters_topic() -> None:
    kinds = (REFUSED_WEBHOOK, UNDELIVERABLE_RECORD, UNREADABLE_RECORD)

    assert [each for each in MESSAGES if each.kind == DEAD_LETTERS] == list(kinds)


def test_described_types_are_those_that_are_written() -> None:
    assert ce_type(EventType.RINGING, is_agent=False) in types_of(CALL_EVENT)
    assert types_of(TIMELINE) == ["voipex.call.timeline.v1"]
    assert types_of(ACTIVITY) == ["voipex.agent.activity.v1"]
    assert types_of(STATUS) == types_of(FORGOTTEN_AGENT) == ["voipex.agent.status.v1"]
    assert TIMELINE.kind == CALL_TIMELINES


# ---------------------------------------------------------------- pages


def models_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in parts_of(field.annotation):
            if issubclass(part, BaseModel):
                yield from models_of(part)


def parts_of(annotation: Any) -> Iterator[type]:
    """Yield every class in a type annotation."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for each in get_args(annotation):
        yield from parts_of(each)


@pytest.mark.parametrize("name", MODELS)
def test_every_field_of_every_model_is_described(name: str) -> None:
    undescribed = [
        f"{model.__name__}.{field_name}"
        for model in models_of(MODELS[name])
        for field_name, field in model.model_fields.items()
        if not field.description
    ]

    assert undescribed == []


@pytest.mark.parametrize("name", MODELS)
def test_every_value_of_every_enumeration_is_explained(name: str) -> None:
    undescribed = [
        f"{part.__name__}.{member.value}"
        for model in models_of(MODELS[name])
        for field in model.model_fields.values()
        for part in parts_of(field.annotation)
        if issubclass(part, Enum)
        for member in part
        if not re.search(rf"^\s*- .*`{member.value}`.*: ", part.__doc__ or "", re.MULTILINE)
    ]

    assert undescribed == []


def page(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODELS)
def test_a_page_has_every_field_and_header(name: str) -> None:
    text = page(f"{name}.md")
    fields = [
        field.alias or field_name
        for model in models_of(MODELS[name])
        for field_name, field in model.model_fields.items()
    ]
    headers = [each.name for message in MESSAGES if message.schema == name for each in message.headers]

    assert [each for each in (*fields, *headers) if f"| `{each}` |" not in text] == []


def test_the_page_of_dead_letters_has_every_kind_and_header() -> None:
    text = page("dead-letter.md")

    for message in (REFUSED_WEBHOOK, UNDELIVERABLE_RECORD, UNREADABLE_RECORD):
        assert f"## {message.name}\n" in text
        assert [each.name for each in message.headers if f"| `{each.name}` |" not in text] == []


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_every_link_of_a_page_leads_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)

    assert links != []
    for link in links:
        name, _, anchor = link.partition("#")
        target = (file.parent / name) if name else file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_walkthrough_has_every_event_and_the_final_timeline() -> None:
    text = page("example-call.md")
    timeline = json.loads(page("examples/call-timeline.json"))
    blocks = [json.loads(each) for each in re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)]

    assert [each["event_id"] for each in timeline["events"]] == [
        each["event_id"] for each in blocks if "event_id" in each
    ]
    assert [each["EventName"] for each in blocks if "EventName" in each] == [
        each["event_name"] for each in timeline["events"]
    ]
    assert timeline in blocks


def test_changes_of_a_timeline_are_listed_leg_by_leg() -> None:
    before = {"status": "ringing", "revision": 1, "legs": [{"leg": 1, "line": "201", "result": None}]}
    now = {
        "status": "waiting",
        "revision": 2,
        "legs": [
            {"leg": 1, "line": "201", "result": "busy"},
            {"leg": 2, "line": "202", "result": None},
        ],
    }

    assert list(changed(before, now)) == [
        ("status", "ringing", "waiting"),
        ("legs[0].result", None, "busy"),
        ("legs[1].leg", None, 2),
        ("legs[1].line", None, "202"),
    ]


def test_tables_escape_a_pipe_in_a_cell() -> None:
    assert table(["a", "b"], [["1|2", "3"]]) == "| a | b |\n|---|---|\n| 1\\|2 | 3 |"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"type": "string"}, "string"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number or null"),
        ({"$ref": "#/$defs/Leg"}, "[Leg](#leg)"),
        ({"type": "array", "items": {"$ref": "#/$defs/Leg"}}, "array of [Leg](#leg)"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({"type": "object", "additionalProperties": True}, "object"),
    ],
)
def test_types_are_described_in_words(field: Json, expected: str) -> None:
    assert type_of(field) == expected
