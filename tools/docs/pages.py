"""
The contract for people: a page per document, and README.md as the way in. Tables are made from the models, the messages and the topics.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tools.docs.asyncapi import MIN_INSYNC, REPLICAS, messages_of
from tools.docs.examples import Example
from tools.docs.messages import MESSAGES, Message
from voipex.topics import DEFAULT_PARTITIONS, TOPIC_SPECS, TopicSpec

MADE: Final = "Made from the code by `make contract`."
_DAY_MS: Final = 24 * 60 * 60 * 1000

Json = dict[str, Any]

_INTRODUCTIONS: Final = {
    "event": (
        "Event",
        """What the PBX told, one step of a call or of an agent. Events come at least once, in order per key; copies have the same `event_id`.
The PBX itself may send an event twice, late or never, and gives it neither a time nor a number. Who folds events takes each `event_id` once and
sorts by (`received_at`, `event_id`).""",
    ),
    "call-timeline": (
        "CallTimeline",
        """A call with all that is known of it: who rang, who answered, how long, who gave it to whom, how it came out. A new version is written
with every event of the call, and when time alone changes it (a call without an end).""",
    ),
    "agent-activity": (
        "AgentActivity",
        """What the agents service reads of calls, and others may: who did what in which call, without folding timelines. The key is the agent, so
one agent's records are in one partition. For reports over calls the legs of the timeline say the same.""",
    ),
    "agent-status": (
        "AgentStatus",
        """The state of an agent: there or not, what goes on, in which queues, and what the last seven local days came to. A record without a
value deletes the key. Totals are computed from what happened, never counted up, so that a late event mends them.""",
    ),
}

_README: Final = """# The contract

{made}

What readers of the topics may rely on. New here: [one call, from webhook to agent status](example-call.md).

| document | for |
|---|---|
| [event.md](event.md), [call-timeline.md](call-timeline.md), [agent-activity.md](agent-activity.md), [agent-status.md](agent-status.md), [dead-letter.md](dead-letter.md) | people: every field, every word, every header |
| [asyncapi.json](asyncapi.json) | machines: all public topics in AsyncAPI 3.1, with keys, headers, partitions, retention and examples |
| [schemas/](schemas/) | machines: the values as JSON Schemas (2020-12) |
| [examples/](examples/) | a value of each kind, and the recorded trace that they are made from |
| [openapi.yaml](openapi.yaml) | the front door in OpenAPI 3.1; its answers in words: [http-responses.md](../http-responses.md) |

## Topics

`<pbx>` is the name of the PBX, `voipex` unless told otherwise. Several PBXs are several sets of topics; keys never carry the PBX.

{topics}

{partitions} partitions, the same number for all topics of a PBX, {replicas} replicas, `min.insync.replicas` {insync}; `voipex-bridge topics apply` makes them and
settings change them ([settings.md](../settings.md)). Keys are spread as Kafka's default partitioner does. Topics of this PBX that are not listed are private.

## Rules for readers

- **Ignore what you do not know**: fields, headers, topics. Words of enumerations may be added too; treat one that you do not know as "other".
- **Null means "not known"**, and nothing is invented: what was inferred says so (`inferred`, `quality`, `confidence`).
- **Events come at least once.** Take each `event_id` once.
- **Documents are whole.** Of timelines, activity and status keep the highest `revision` per key (activity: per agent, call and leg), and do not add them up.
- **Order holds per key**, as it does in Kafka. Between keys, topics and PBXs there is none.
- **Timelines, activity and status are written in transactions**: read them with `isolation.level=read_committed`, else you meet what was taken back.
- **A record without a value deletes its key.**
- Times are RFC 3339 in UTC with microseconds, as the bridge's clock had them; durations are seconds.

## What may change

Within `v1` of a topic only additions are made: new fields, headers and words, never another type or meaning, and what is always there stays so. All else is a
`v2` beside it for a time.

`releases/<version>/` holds schemas and examples as that version published them. The tests hold today's documents against each of these schemas and each of these
examples against today's schemas, and fail when a field, a type, a word or a promise that a field is there was taken away. A release adds its own, after its version was
set in pyproject.toml:

```sh
python -m tools.docs release
```

It does not write over a version that is there; `--again` does, for one that is not published yet. Those of `v1` stay as long as `v1` does.
"""


def pages(schemas: Mapping[str, Json], examples: Iterable[Example]) -> dict[str, str]:
    """Every page by its name. `schemas`: by the name of the document."""
    shown = list(examples)
    made = {f"{name}.md": _document_page(name, schemas[name], shown) for name in schemas}
    return {"README.md": _readme(), **made, "dead-letter.md": _dead_letter_page(shown)}


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; what would end a cell is escaped."""
    names = list(heads)
    escaped = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    lines = [" | ".join(names), *escaped]
    lines = [f"| {line} |" for line in lines]
    return "\n".join([lines[0], "|---" * len(names) + "|", *lines[1:]])


def json_block(value: Any) -> str:
    return f"```json\n{json.dumps(value, ensure_ascii=False, indent=2)}\n```"


# ---------------------------------------------------------------- README.md


def _readme() -> str:
    topics = table(
        ["topic", "key", "value", "kept"],
        (
            [f"`<pbx>.{kind.suffix}`", kind.key, _page_of(kind), _kept(kind)]
            for kind in TOPIC_SPECS
            if kind.public
        ),
    )
    return _README.format(
        made=MADE, topics=topics, partitions=DEFAULT_PARTITIONS, replicas=REPLICAS, insync=MIN_INSYNC
    )


def _page_of(kind: TopicSpec) -> str:
    schema = next((each.schema for each in messages_of(kind) if each.schema is not None), None)
    return f"[{kind.value}]({schema or 'dead-letter'}.md)"


def _kept(kind: TopicSpec) -> str:
    days = None if kind.retention_ms is None else f"{kind.retention_ms // _DAY_MS} days"
    if "compact" not in kind.cleanup:
        return str(days)
    latest = "the last value of each key"
    return latest if days is None else f"{latest}, {days}"


# ---------------------------------------------------------------- a page per document


def _document_page(name: str, schema: Json, examples: Iterable[Example]) -> str:
    title, introduction = _INTRODUCTIONS[name]
    messages = [
        each for each in MESSAGES if each.kind in {other.kind for other in MESSAGES if other.schema == name}
    ]
    example = max((each for each in examples if each.message.schema == name), key=_told)
    parts = [
        f"# {title}",
        MADE,
        introduction,
        _facts(messages),
        f"JSON Schema: [schemas/{name}.json](schemas/{name}.json). Example: [examples/{name}.json](examples/{name}.json).",
        "## Fields",
        schema["description"],
        _fields(schema),
        *_parts_of(schema),
        *_words_of(schema),
        *_headers_of(messages),
        "## A record",
        _record(example),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(messages: Iterable[Message]) -> str:
    return table(
        ["topic", "record", "key", "kept"],
        (
            [f"`<pbx>.{each.kind.suffix}`", each.summary, each.key or "none", _kept(each.kind)]
            for each in messages
        ),
    )


def _fields(schema: Json) -> str:
    required = set(schema.get("required", ()))
    optional = set(schema["properties"]) - required
    heads = ["field", "type", "meaning"] + (["always there"] if optional else [])
    return table(
        heads,
        (
            [f"`{name}`", type_of(told), told.get("description", "")]
            + ([("yes" if name in required else "no")] if optional else [])
            for name, told in schema["properties"].items()
        ),
    )


def _parts_of(schema: Json) -> Iterator[str]:
    """Objects within the document."""
    for name, part in schema.get("$defs", {}).items():
        if "properties" in part:
            yield f"### {name}"
            yield part.get("description", "")
            yield _fields(part)


def _words_of(schema: Json) -> Iterator[str]:
    """Enumerations."""
    words = {name: part for name, part in schema.get("$defs", {}).items() if "enum" in part}
    if words:
        yield "## Words"
    for name, part in words.items():
        yield f"### {name}"
        yield part["description"]


def type_of(told: Json) -> str:
    """A property's type in words; other parts of the page by a link."""
    if "$ref" in told:
        name = told["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in told:
        return " or ".join(map(type_of, told["anyOf"]))
    if told["type"] == "array":
        return f"array of {type_of(told['items'])}"
    members = told.get("additionalProperties")
    if told["type"] == "object" and isinstance(members, dict):
        return f"object of {type_of(members)}"
    return str(told["type"])


def _headers_of(messages: Iterable[Message]) -> Iterator[str]:
    """One table, or one for each set of headers."""
    yield "## Headers"
    yield "CloudEvents 1.0, binary mode, beside ours. Every value is UTF-8 text."
    by_headers: dict[Any, list[Message]] = {}
    for each in messages:
        by_headers.setdefault(repr(each.headers), []).append(each)
    for alike in by_headers.values():
        if len(by_headers) > 1:
            yield f"Of `<pbx>.{alike[0].kind.suffix}`:"
        yield header_table(alike[0])


def header_table(message: Message) -> str:
    return table(
        ["header", "always there", "meaning"],
        (
            [f"`{each.name}`", "yes" if each.always else "no", each.meaning + _values(each.limits)]
            for each in message.headers
        ),
    )


def _values(limits: Mapping[str, Any]) -> str:
    values = [limits["const"]] if "const" in limits else limits.get("enum", [])
    return ": " + ", ".join(f"`{each}`" for each in values) if values else ""


def _record(example: Example) -> str:
    """Topic, key and headers as lines, then the value."""
    key = "none" if example.key is None else example.key
    lines = [
        f"topic    {example.topic}",
        f"key      {key}",
        *(f"header   {name}: {value}" for name, value in example.headers.items()),
    ]
    head = "```\n" + "\n".join(lines) + "\n```"
    value = f"```\n{example.value}\n```" if isinstance(example.value, str) else json_block(example.value)
    return f"{head}\n\n{value}"


def _told(example: Example) -> int:
    """How much an example shows: members that are known."""
    return sum(value is not None for value in example.value.values())


# ---------------------------------------------------------------- dead letters


def _dead_letter_page(examples: Iterable[Example]) -> str:
    letters = [each for each in examples if each.message.kind.suffix.startswith("dead-letters")]
    kinds = list(dict.fromkeys(each.message.name for each in letters))
    parts = [
        "# Dead letters",
        MADE,
        """What could not be used is kept, untouched, with its reason: nothing that was authenticated and read is dropped. `voipex-bridge dead-letters list|show|replay`
reads them and publishes them again once the cause is mended; twice changes nothing ([operations.md](../operations.md)).""",
        _facts(each for each in MESSAGES if each.name in kinds),
    ]
    for name in kinds:
        of_kind = [each for each in letters if each.message.name == name]
        parts += [f"## {name}", of_kind[0].message.summary, f"Key: {of_kind[0].message.key or 'none'}."]
        parts.append(header_table(of_kind[0].message))
        for each in of_kind:
            parts += [f"{each.title[0].upper()}{each.title[1:]}:", _record(each)]
    return "\n\n".join(parts) + "\n"
