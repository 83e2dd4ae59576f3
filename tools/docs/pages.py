"""
The contract in Markdown: a page per document, and README.md as their index. The tables are generated from models, messages and topics.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tools.docs.asyncapi import MIN_INSYNC, REPLICAS, messages_of
from tools.docs.examples import Example
from tools.docs.messages import MESSAGES, Message
from voipex.service.settings import RETENTION_SETTINGS, variable_of
from voipex.topics import DEFAULT_PARTITIONS, TOPIC_SPECS, TopicSpec

MADE: Final = "Generated from the code by `make contract`."
_DAY_MS: Final = 24 * 60 * 60 * 1000

Json = dict[str, Any]

_INTRODUCTIONS: Final = {
    "event": (
        "Event",
        """One step of a call or of an agent, as the PBX reported it. Events are delivered at least once, in order per key; copies have the same
`event_id`. The PBX itself may send an event twice, late or never, and gives it neither a time nor a number. Readers that fold events take each
`event_id` once and sort by (`received_at`, `event_id`).""",
    ),
    "call-timeline": (
        "CallTimeline",
        """Everything known about a call: who was rung, who answered, for how long, its transfers and its result. Each event of the call publishes
a new version; so does time alone for a call whose end is not reported.""",
    ),
    "agent-activity": (
        "AgentActivity",
        """What an agent did in a call, one document per leg. The agents service reads it, and so can other consumers that need no whole timelines.
The key is the agent, so that all records of an agent are in one partition. The legs of the timeline contain the same for reports on calls.""",
    ),
    "agent-status": (
        "AgentStatus",
        """The state of an agent: presence, current activity, queues, and totals of the last seven local days. A record without a value deletes
the key. Totals are computed from the history, not incremented, so a late event corrects them.""",
    ),
}

_README: Final = """# The contract

{made}

What readers of the topics can rely on. Start with [one call, from webhook to agent status](example-call.md);
the rules of [the call fold](../call-rules.md) and [the agent fold](../agent-rules.md) say how events become documents.

| document | for |
|---|---|
| [event.md](event.md), [call-timeline.md](call-timeline.md), [agent-activity.md](agent-activity.md), [agent-status.md](agent-status.md), [dead-letter.md](dead-letter.md) | people: every field, enumeration value and header |
| [asyncapi.json](asyncapi.json) | machines: all public topics in AsyncAPI 3.1, with keys, headers, partitions, retention and examples |
| [schemas/](schemas/) | machines: the values as JSON Schemas (2020-12) |
| [examples/](examples/) | a value of each document, and the recorded trace from which they are computed |
| [openapi.yaml](openapi.yaml) | the HTTP endpoint in OpenAPI 3.1; its responses explained: [http-responses.md](../http-responses.md) |
| [board-openapi.json](board-openapi.json) | the read API of [the board](../board.md) in OpenAPI 3.1, with the schemas of the documents |

## Topics

`<pbx>` is the name of the PBX, by default `voipex`. Each PBX has topics of its own; keys never contain the PBX.

{topics}

{partitions} partitions, the same number for all topics of a PBX, {replicas} replicas, `min.insync.replicas` {insync}; `voipex-bridge topics apply` creates them
with the values of the settings ([settings.md](../settings.md)), which may give a PBX another number of partitions. Partitions are those of Kafka's default partitioner; the dead letter of
a record has the record's partition number. Topics of the PBX that are not listed are private.

## Rules for readers

- **Ignore unknown fields, headers and topics.** Enumerations may grow too; treat an unknown value as "other".
- **Null means "not known"**. Nothing is invented: inferred values are marked (`inferred`, `quality`, `confidence`).
- **Events are delivered at least once.** Take each `event_id` once.
- **Documents are complete.** Of timelines, activity and status keep the highest `revision` per key (activity: per agent, call and leg); do not sum revisions.
- **Order is per key**, as in Kafka. There is no order between keys, topics or PBXs.
- **Timelines, activity and status are written in transactions**: read them with `isolation.level=read_committed`, or you will read aborted records too.
- **A record without a value deletes its key.**
- Times are RFC 3339 in UTC with microseconds, by the bridge's clock; durations are in seconds.

## What may change

Within `v1` of a topic there are only additions: new fields, headers and enumeration values. Types and meanings never change, and what is always present stays
so. Any other change is a new topic `v2`, published beside `v1` for a time.

`releases/<version>/` has the schemas and examples of that version. The tests validate today's documents with each of these schemas and each of these examples with
today's schemas; they fail if a field, a type, an enumeration value or the presence of a field was taken away. A release adds its own, after its version is set in
pyproject.toml:

```sh
python -m tools.docs release
```

An existing version is overwritten only with `--again`, for one that is not published yet. Releases stay as long as the `v1` of their topics.
"""


def pages(schemas: Mapping[str, Json], examples: Iterable[Example]) -> dict[str, str]:
    """Return the pages by file name. `schemas`: the JSON Schema of each document."""
    shown = list(examples)
    made = {f"{name}.md": _document_page(name, schemas[name], shown) for name in schemas}
    return {"README.md": _readme(), **made, "dead-letter.md": _dead_letter_page(shown)}


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Format a Markdown table; `|` is escaped."""
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
        ["topic", "key", "value", "retention"],
        (
            [f"`<pbx>.{kind.suffix}`", kind.key, _page_of(kind), _retention(kind)]
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


def _retention(kind: TopicSpec) -> str:
    days = None
    if kind.retention_ms is not None:
        days = f"{kind.retention_ms // _DAY_MS} days (`{variable_of(RETENTION_SETTINGS[kind])}`)"
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
    example = max((each for each in examples if each.message.schema == name), key=_known_members)
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
        ["topic", "record", "key", "retention"],
        (
            [f"`<pbx>.{each.kind.suffix}`", each.summary, each.key or "none", _retention(each.kind)]
            for each in messages
        ),
    )


def _fields(schema: Json) -> str:
    required = set(schema.get("required", ()))
    optional = set(schema["properties"]) - required
    heads = ["field", "type", "meaning"] + (["always present"] if optional else [])
    return table(
        heads,
        (
            [f"`{name}`", type_of(field), field.get("description", "")]
            + ([("yes" if name in required else "no")] if optional else [])
            for name, field in schema["properties"].items()
        ),
    )


def _parts_of(schema: Json) -> Iterator[str]:
    """Describe the objects within the document."""
    for name, part in schema.get("$defs", {}).items():
        if "properties" in part:
            yield f"### {name}"
            yield part.get("description", "")
            yield _fields(part)


def _words_of(schema: Json) -> Iterator[str]:
    """Describe the enumerations."""
    words = {name: part for name, part in schema.get("$defs", {}).items() if "enum" in part}
    if words:
        yield "## Enumerations"
    for name, part in words.items():
        yield f"### {name}"
        yield part["description"]


def type_of(field: Json) -> str:
    """Describe the type of a property in words, with links to the objects of the page."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(map(type_of, field["anyOf"]))
    if field["type"] == "array":
        return f"array of {type_of(field['items'])}"
    members = field.get("additionalProperties")
    if field["type"] == "object" and isinstance(members, dict):
        return f"object of {type_of(members)}"
    return str(field["type"])


def _headers_of(messages: Iterable[Message]) -> Iterator[str]:
    """One table, or one per set of headers."""
    yield "## Headers"
    yield "Those of CloudEvents 1.0 (binary mode) and the bridge's own. Every value is UTF-8 text."
    by_headers: dict[Any, list[Message]] = {}
    for each in messages:
        by_headers.setdefault(repr(each.headers), []).append(each)
    for alike in by_headers.values():
        if len(by_headers) > 1:
            yield f"Of `<pbx>.{alike[0].kind.suffix}`:"
        yield header_table(alike[0])


def header_table(message: Message) -> str:
    return table(
        ["header", "always present", "meaning"],
        (
            [f"`{each.name}`", "yes" if each.always else "no", each.meaning + _values(each.limits)]
            for each in message.headers
        ),
    )


def _values(limits: Mapping[str, Any]) -> str:
    values = [limits["const"]] if "const" in limits else limits.get("enum", [])
    return ": " + ", ".join(f"`{each}`" for each in values) if values else ""


def _record(example: Example) -> str:
    """Format topic, key and headers as lines, then the value."""
    key = "none" if example.key is None else example.key
    lines = [
        f"topic    {example.topic}",
        f"key      {key}",
        *(f"header   {name}: {value}" for name, value in example.headers.items()),
    ]
    head = "```\n" + "\n".join(lines) + "\n```"
    value = f"```\n{example.value}\n```" if isinstance(example.value, str) else json_block(example.value)
    return f"{head}\n\n{value}"


def _known_members(example: Example) -> int:
    """Count the members of an example that are not null."""
    return sum(value is not None for value in example.value.values())


# ---------------------------------------------------------------- dead letters


def _dead_letter_page(examples: Iterable[Example]) -> str:
    dead_letters = [each for each in examples if each.message.kind.suffix.startswith("dead-letters")]
    kinds = list(dict.fromkeys(each.message.name for each in dead_letters))
    parts = [
        "# Dead letters",
        MADE,
        """A webhook or record that cannot be used is stored unchanged with the reason; no authenticated webhook is dropped. `voipex-bridge dead-letters
list|show|replay` reads them and publishes them again once the cause is fixed; a replay is idempotent ([operations.md](../operations.md)).""",
        _facts(each for each in MESSAGES if each.name in kinds),
    ]
    for name in kinds:
        of_kind = [each for each in dead_letters if each.message.name == name]
        parts += [f"## {name}", of_kind[0].message.summary, f"Key: {of_kind[0].message.key or 'none'}."]
        parts.append(header_table(of_kind[0].message))
        for each in of_kind:
            parts += [f"{each.title[0].upper()}{each.title[1:]}:", _record(each)]
    return "\n\n".join(parts) + "\n"
