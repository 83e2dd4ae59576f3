"""
Bytes -> the PBX's own words (pure). What VOIPEX may send is in contract 1; its dialects are met here and nowhere else.

Normal path: one `orjson.loads` and one pass over the keys. Everything odd (another encoding, the relaxed notation, a number where its
text matters) is tried only after that path failed or saw it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isinf
from types import MappingProxyType
from typing import Any, Final, NoReturn

import orjson

from bridge.errors import NotAnEvent, NotJson

DOCUMENTED_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        name: name
        for name in (
            "EventName",
            "From",
            "To",
            "Line",
            "Email",
            "Login",
            "UniqueId",
            "Queue",
            "Direction",
            "Reason",
            "PauseName",
        )
    }
)
"""Key in the body -> documented name, when the customer renamed nothing."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """
    What the PBX said: `words` by documented name, as text exactly as sent (blank ones left out), and everything else in `extra`,
    as sent, under the key that was sent.
    """

    words: Mapping[str, str]
    extra: Mapping[str, Any]


def key_table(renamed: Mapping[str, str]) -> Mapping[str, str]:
    """
    Make the table for `parse` from a credential's mapping (documented name -> the key this PBX sends).

    Documented names stay understood, unless this PBX uses one of them for something else.
    """
    return MappingProxyType({**DOCUMENTED_KEYS, **{sent: name for name, sent in renamed.items()}})


def parse(body: bytes, keys: Mapping[str, str] = DOCUMENTED_KEYS) -> Webhook:
    """
    Read one webhook.

    Raises:
        NotJson: neither JSON nor the relaxed notation, in UTF-8 or windows-1250.
        NotAnEvent: JSON, but no object, nested too deeply, or no EventName.
    """
    words: dict[str, str] = {}
    extra: dict[str, Any] = {}
    for key, value in _object_of(body).items():
        name = keys.get(key)
        word = value if type(value) is str else None if name is None else _number_as_text(body, key, value)
        if name is None or word is None:
            if (
                name is None or value is not None
            ):  # an object, a list, a truth value: no word, but not lost either
                extra[key] = value
        elif word and not word.isspace():
            if name in words:
                _keep_both(words, extra, name, key, word)
            else:
                words[name] = word
    if extra:
        _refuse_unwritable(extra.values())
    if "EventName" not in words:
        raise NotAnEvent("no EventName")
    return Webhook(words, extra)


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _decode_odd(_text_of(body))
    if type(document) is not dict:
        raise NotAnEvent("the body is no JSON object")
    return document


def _keep_both(words: dict[str, str], extra: dict[str, Any], name: str, key: str, word: str) -> None:
    """Two keys of one meaning (the documented one beside its new name): the renamed one counts, the other is extra."""
    if key == name:
        extra[key] = word
    else:
        extra[name] = words[name]
        words[name] = word


def _number_as_text(body: bytes, key: str, value: Any) -> str | None:
    """Text of a number, None of anything else."""
    if type(value) is int:
        return str(value)
    return _exact_number(body, key) if type(value) is float else None


def _exact_number(body: bytes, key: str) -> str:
    """Text of a number as it stands in the body: `1412256225.1940` is not `1412256225.194`."""
    try:
        document = _strict_json(_text_of(body), numbers_as_text=True)
    except RecursionError:
        raise NotAnEvent("nested too deeply") from None
    return str(document[key])


_MAX_DEPTH: Final = 64  # what reads and writes events (pydantic, orjson, other languages) gives up above 100


def _refuse_unwritable(values: Iterable[Any], levels: int = _MAX_DEPTH) -> None:
    """Refuse what JSON can say but an event could not repeat: more levels of lists and objects, and numbers beyond a double."""
    for value in values:
        if type(value) is dict or type(value) is list:
            if levels == 0:
                raise NotAnEvent("nested too deeply")
            _refuse_unwritable(value.values() if type(value) is dict else value, levels - 1)
        elif type(value) is float and isinf(value):
            raise NotAnEvent("a number out of range")


def _text_of(body: bytes) -> str:
    """UTF-8, with or without BOM; else windows-1250, in which an older PBX writes Czech."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return body.decode("cp1250")
    except UnicodeDecodeError:
        raise NotJson("neither UTF-8 nor windows-1250") from None


def _decode_odd(text: str) -> Any:
    try:
        return _strict_json(text)
    except (ValueError, RecursionError):
        pass
    relaxed = _relaxed_notation(text)
    if relaxed is None:
        raise NotJson("neither JSON nor the relaxed notation")
    return relaxed


def _strict_json(text: str, *, numbers_as_text: bool = False) -> Any:
    """JSON by the standard library: it can keep numbers as text, and lets raw control characters in strings pass (`strict`)."""
    as_text = str if numbers_as_text else None
    document = json.loads(
        text, strict=False, parse_float=as_text, parse_int=as_text, parse_constant=_refuse_constant
    )
    if "\\u" in text:
        json.dumps(
            document, ensure_ascii=False
        ).encode()  # a lone surrogate cannot be written as UTF-8: ValueError
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_RELAXED_KEY: Final = re.compile(r"[^\W\d][\w.-]*")


def _relaxed_notation(text: str) -> dict[str, str] | None:
    """
    Read the notation of the older documentation, `{EventName: Ringing, From: 777888999}`, as text values; None if it is something else.

    A comma ends a value only where a key and a colon follow: `Reason: User alerting, no answer` is one value. There are no quotes: text
    with one is JSON that broke, and to guess at it would invent values.
    """
    stripped = text.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")):
        return None
    inner = stripped[1:-1].rstrip().removesuffix(",")  # a last comma ends the last value, it is no part of it
    if any(sign in inner for sign in '{}"'):
        return None
    words: dict[str, str] = {}
    key = None
    for piece in inner.split(","):
        head, colon, tail = piece.partition(":")
        name = head.strip()
        if colon and _RELAXED_KEY.fullmatch(name):
            key = name
            words[key] = tail
        elif key is not None:
            words[key] += "," + piece
        elif piece.strip():
            return None
    if not words:
        return None
    return {name: value.strip() for name, value in words.items()}
