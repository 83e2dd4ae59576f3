"""
The public topics in AsyncAPI 3.1: docs/contract/asyncapi.json, generated from the topics, messages and examples.

The format is JSON, which the standard library writes and every AsyncAPI tool reads. Headers are described in AsyncAPI's own schema format,
which its tools check; values refer to the JSON Schemas (2020-12) in docs/contract/schemas.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from tools.docs.examples import PBX, Example
from tools.docs.messages import MESSAGES, Message, headers_schema
from voipex.service.settings import RETENTION_SETTINGS, variable_of
from voipex.topics import DEFAULT_PARTITIONS, TOPIC_SPECS, Topic, TopicSpec, topic_name

REPLICAS: Final = 3
MIN_INSYNC: Final = 2
"""Defaults of the bridge's settings for `topics apply`. A test compares them, because this module does not load those settings."""

SCHEMA_FORMAT: Final = "application/schema+json;version=2020-12"
_BINDING: Final = "0.5.0"

Json = dict[str, Any]


def asyncapi(examples: Iterable[Example]) -> Json:
    """Return the document, from the perspective of the services that write the topics."""
    shown = list(examples)
    kinds = [kind for kind in TOPIC_SPECS if kind.public]
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "VOIPEX bridge, topics",
            "version": "1",
            "description": (
                "Call and agent events of a VOIPEX PBX, call timelines and agent status, on Kafka. "
                "For people: README.md beside this file. Within version 1 only additions are made: ignore fields, headers and words that you do not know."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "`make run`"},
        },
        "channels": {channel_name(kind): _channel(kind) for kind in kinds},
        "operations": {f"write{_capital(channel_name(kind))}": _operation(kind) for kind in kinds},
        "components": {
            "parameters": {"pbx": _parameter()},
            "messages": {each.name: _message(each, shown) for each in MESSAGES},
        },
    }


def channel_name(kind: TopicSpec) -> str:
    """`call.events.v1` -> `callEvents`."""
    first, *others = kind.suffix.removesuffix(".v1").replace("-", ".").split(".")
    return first + "".join(map(_capital, others))


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]


def messages_of(kind: TopicSpec) -> list[Message]:
    return [each for each in MESSAGES if each.kind == kind]


def _parameter() -> Json:
    return {
        "description": "Name of the PBX, `[a-z0-9-]{1,32}`. Several PBXs are several sets of topics; keys never carry the PBX.",
        "default": PBX,
        "examples": [PBX, "brno"],
    }


def _channel(kind: TopicSpec) -> Json:
    messages = messages_of(kind)
    topic = Topic(topic_name("{pbx}", kind), kind, DEFAULT_PARTITIONS)
    return {
        "address": topic.name,
        "summary": messages[0].summary,
        "description": f"Key: {kind.key}. Value: {kind.value}. Records of one key are in order.{_kept(kind)}",
        "parameters": {"pbx": {"$ref": "#/components/parameters/pbx"}},
        "messages": {each.name: {"$ref": f"#/components/messages/{each.name}"} for each in messages},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "replicas": REPLICAS,
                "topicConfiguration": _configuration(topic),
                "bindingVersion": _BINDING,
            }
        },
    }


def _kept(kind: TopicSpec) -> str:
    """Name the setting of the retention: the binding has its default."""
    name = RETENTION_SETTINGS.get(kind)
    return "" if name is None else f" `{variable_of(name)}` sets `retention.ms`."


def _configuration(topic: Topic) -> Json:
    """Convert the configuration to the types of the binding: the policy is a list, numbers are integers."""
    config: Json = {
        name: value.split(",") if name == "cleanup.policy" else int(value)
        for name, value in topic.config.items()
    }
    return {**config, "min.insync.replicas": MIN_INSYNC}


def _operation(kind: TopicSpec) -> Json:
    channel = f"#/channels/{channel_name(kind)}"
    return {
        "action": "send",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{each.name}"} for each in messages_of(kind)],
    }


def _message(message: Message, examples: Sequence[Example]) -> Json:
    return {
        "name": message.name,
        "summary": message.summary,
        "contentType": message.content_type,
        "headers": headers_schema(message),
        "payload": _payload(message),
        "bindings": {"kafka": {"key": _key(message), "bindingVersion": _BINDING}},
        "examples": [
            {
                "name": f"{message.name}{number}",
                "summary": each.title,
                "headers": dict(each.headers),
                "payload": each.value,
            }
            for number, each in enumerate((each for each in examples if each.message is message), start=1)
        ],
    }


def _payload(message: Message) -> Any:
    if message.schema is None:
        return message.value
    return {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": f"./schemas/{message.schema}.json"}}


def _key(message: Message) -> Json:
    if message.key is None:
        return {"type": "null", "description": "No key."}
    nullable = "null" in message.key
    return {"type": ["string", "null"] if nullable else "string", "description": message.key}
