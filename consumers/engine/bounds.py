"""
Documents of bounded size (pure): a status has at most 64 KiB, a timeline 512.

Whatever a PBX sends, readers can rely on these. A document that would be larger loses long texts first, then entries of its lists and
objects, of the largest one first. `dropped` in the document says how many.
"""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any, Final, NamedTuple

import orjson

Json = dict[str, Any]

MAX_DOCUMENT_BYTES: Final = 64 * 1024

_TAIL_BYTES: Final = 128
"""For `revision` and `updated_at`, which are appended later."""

_MAX_TEXT: Final = 200
"""Characters: more than any name or number has."""


class Container(NamedTuple):
    """A list or an object of a document, `holder[key]`, that may lose entries: the oldest, which are its first, or the newest."""

    name: str
    holder: Any
    key: str
    keeps_first: bool = False


def bounded(document: Json, containers: Sequence[Container], max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """
    Return the JSON of *document*, of which the containers are parts, changed so that it fits into *max_bytes*.

    Lists of the document are replaced and not changed; the document itself and its objects are.
    """
    value = orjson.dumps(document)
    limit = max_bytes - _TAIL_BYTES
    if len(value) <= limit:
        return value
    for each in containers:
        each.holder[each.key] = _cut(each.holder[each.key])
    for name, content in document.items():
        document[name] = _cut(content) if isinstance(content, str) and name not in _IDENTITY else content
    dropped: dict[str, int] = document["dropped"]
    while len(value := orjson.dumps(document)) > limit:
        largest = max(containers, key=_bytes_of)
        entries = largest.holder[largest.key]
        # Not more than half at once: what is over may be in another one.
        share = ceil(len(entries) * (len(value) - limit) / _bytes_of(largest))
        number = max(1, min(share, len(entries) // 2))
        largest.holder[largest.key] = _without(entries, number, keeps_first=largest.keeps_first)
        dropped[largest.name] = dropped.get(largest.name, 0) + number
    return value


_IDENTITY: Final = frozenset({"pbx", "agent", "call_id", "conversation_id"})


def bounded_list(entries: Sequence[Any], limit: int) -> list[Any]:
    """Return the first *entries* whose JSON has at most *limit* bytes; long texts are cut first."""
    kept = list(entries)
    if len(orjson.dumps(kept)) <= limit:
        return kept
    kept = [_cut(each) for each in kept]
    while len(value := orjson.dumps(kept)) > limit:
        kept = kept[: min(len(kept) - 1, len(kept) * limit // len(value))]
    return kept


def _bytes_of(container: Container) -> int:
    return len(orjson.dumps(container.holder[container.key]))


def _without(entries: Any, number: int, *, keeps_first: bool) -> Any:
    kept = slice(None, len(entries) - number) if keeps_first else slice(number, None)
    return dict(list(entries.items())[kept]) if isinstance(entries, dict) else list(entries)[kept]


def _cut(content: Any) -> Any:
    """Cut the texts in *content*, whose names stay."""
    if isinstance(content, str):
        return content if len(content) <= _MAX_TEXT else content[: _MAX_TEXT - 1] + "…"
    if isinstance(content, dict):
        return {name: _cut(each) for name, each in content.items()}
    if isinstance(content, list | tuple):
        return [_cut(each) for each in content]
    return content


def nested(name: str, holder: Json, key: str) -> Iterator[Container]:
    """The objects `key` of each of the objects in `holder[name]`."""
    for each in holder[name].values():
        yield Container(f"{name}.{key}", each, key)
