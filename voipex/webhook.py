"""
Bytes -> the PBX's own words (pure). What VOIPEX may send is in contract 1; its dialects are met here and nowhere else.

Normal path: one `orjson.loads` and one pass over the keys. Everything odd (another encoding, the relaxed notation, a number whose digits
may be lost) is read a second time, exactly, only after that path failed or saw it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

import orjson

from voipex.errors import InvalidEvent, InvalidJson

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


@dataclass(slots=True)  # not frozen: each request makes one, and a frozen __init__ takes four times as long
class Webhook:
    """
    What the PBX said: `fields` by documented name, as text exactly as sent (blank ones left out), and everything else in `extra`,
    as sent, under the key that was sent. A number there that Python would write with other digits is an `orjson.Fragment`.
    `raw` is the body as it was read, `key_map` the table that it was read with.
    """

    fields: Mapping[str, str]
    extra: Mapping[str, Any]
    raw: Mapping[str, Any]
    key_map: Mapping[str, str]

    def field_of(self, name: str) -> dict[str, Any]:
        """The field that `fields[name]` was read from, for `extra`: under the key that was sent, as sent."""
        return {
            key: _as_sent(value)
            for key, value in self.raw.items()
            if self.key_map.get(key) == name
            and key not in self.extra
            and value is not None
            and str(value).strip()
        }


def key_map(renamed: Mapping[str, str]) -> Mapping[str, str]:
    """
    Make the table for `parse` from a credential's mapping (documented name -> the key this PBX sends).

    Documented names stay understood, unless this PBX uses one of them for something else.
    """
    return MappingProxyType({**DOCUMENTED_KEYS, **{sent: name for name, sent in renamed.items()}})


def parse(body: bytes, key_map: Mapping[str, str] = DOCUMENTED_KEYS) -> Webhook:
    """
    Read one webhook.

    Raises:
        InvalidJson: neither JSON nor the relaxed notation, in UTF-8 or windows-1250.
        InvalidEvent: JSON, but no object, nested too deeply, with a number out of range, or no EventName.
    """
    try:
        return _split_fields(orjson.loads(body), key_map)
    except (orjson.JSONDecodeError, _DigitsMatter):
        return _split_fields(_read_exactly(_text_of(body)), key_map)


def _split_fields(document: Any, key_map: Mapping[str, str]) -> Webhook:
    if type(document) is not dict:
        raise InvalidEvent("the body is no JSON object")
    words: dict[str, str] = {}
    extra: dict[str, Any] = {}
    for key, value in document.items():
        name = key_map.get(key)
        word = value if type(value) is str else None if name is None else _number_as_text(value)
        if name is None or word is None:
            if (
                name is None or value is not None
            ):  # an object, a list, a truth value: no word, but not lost either
                extra[key] = value
        elif word and not word.isspace():
            if name not in words:
                words[name] = word
            elif key == name:  # two keys of one meaning: the renamed one counts, the documented one is extra
                extra[key] = value
            else:
                extra[name] = document[name]
                words[name] = word
    if extra:
        extra = {key: _as_sent(value) for key, value in extra.items()}
    if "EventName" not in words:
        raise InvalidEvent("no EventName")
    return Webhook(words, extra, document, key_map)


class _Number(NamedTuple):
    """A number of the body, as its text stands there."""

    text: str


class _DigitsMatter(Exception):
    """This number may have lost digits: `1412256225.1940` is not `1412256225.194`, nor `-0` 0. Never leaves this module."""


def _number_as_text(value: Any) -> str | None:
    """Text of a number, None of anything else."""
    if type(value) is int or type(value) is float:
        _require_all_digits(value)
        return str(value)
    return value.text if type(value) is _Number else None


def _require_all_digits(number: float) -> None:
    if type(number) is float or number == 0:
        raise _DigitsMatter


_MAX_DEPTH: Final = 64  # what reads and writes events (pydantic, orjson, other languages) gives up above 100


def _as_sent(value: Any, levels: int = _MAX_DEPTH) -> Any:
    """Make *value* what an event can repeat. Refuses what JSON can say but an event could not: more levels of lists and objects."""
    kind = type(value)
    if kind is str:
        return value
    if kind is dict or kind is list:
        if levels == 0:
            raise InvalidEvent("nested too deeply")
        if kind is list:
            return [_as_sent(each, levels - 1) for each in value]
        return {key: _as_sent(each, levels - 1) for key, each in value.items()}
    if kind is _Number:
        return _number_as_sent(value.text)
    if kind is int or kind is float:
        _require_all_digits(value)
    return value


def _number_as_sent(text: str) -> Any:
    """A number that is written with the same digits again; beyond a double, readers would make it `null` or infinite."""
    digits = text.encode()
    try:
        number = orjson.loads(digits)
    except orjson.JSONDecodeError:
        raise InvalidEvent("a number out of range") from None
    return number if orjson.dumps(number) == digits else orjson.Fragment(digits)


def _text_of(body: bytes) -> str:
    """UTF-8, with or without BOM; else windows-1250, in which an older PBX writes Czech."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return body.decode("cp1250")
    except UnicodeDecodeError:
        raise InvalidJson("neither UTF-8 nor windows-1250") from None


def _read_exactly(text: str) -> Any:
    try:
        return _strict_json(text)
    except ValueError:
        relaxed = _relaxed_notation(text)
    except RecursionError:
        if _closes_what_it_opens(text):
            raise InvalidEvent("nested too deeply") from None
        relaxed = None
    if relaxed is None:
        raise InvalidJson("neither JSON nor the relaxed notation")
    return relaxed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_EXACT: Final = json.JSONDecoder(
    strict=False, parse_float=_Number, parse_int=_Number, parse_constant=_refuse_constant
)


def _strict_json(text: str) -> Any:
    """JSON by the standard library: it can keep numbers as text, and lets raw control characters in strings pass (`strict`)."""
    document = _EXACT.decode(text)
    if "\\u" in text:
        json.dumps(
            document, ensure_ascii=False
        ).encode()  # a lone surrogate cannot be written as UTF-8: ValueError
    return document


_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _closes_what_it_opens(text: str) -> bool:
    """Tell JSON that nobody reads to its depth from JSON that was cut off."""
    bare = _STRING.sub("", text)
    return bare.count("[") == bare.count("]") and bare.count("{") == bare.count("}")


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
