"""
Bytes -> the fields of one webhook, by documented name (pure). All dialects of VOIPEX are handled here and nowhere else.

Normal path: one `orjson.loads` and one pass over the keys. Where that fails or meets a number whose digits it may lose, the body is parsed
a second time by a slower and exact parser, which also knows the other encoding and the relaxed notation.
"""

import codecs
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
"""Key in the body -> documented name, if the PBX uses the documented names."""


_EXACT_FIELDS: Final = frozenset({"EventName", "UniqueId"})


@dataclass(slots=True)  # not frozen: each request makes one, and a frozen __init__ takes four times as long
class Webhook:
    """
    A parsed webhook.

    `fields`: documented name -> text, without blank ones; EventName and UniqueId exactly as sent, the others trimmed. `extra`: everything
    else, under the key that was sent; a number that Python would write with other digits is an `orjson.Fragment`. `raw`: the parsed body.
    `key_map`: key in the body -> documented name.
    """

    fields: Mapping[str, str]
    extra: Mapping[str, Any]
    raw: Mapping[str, Any]
    key_map: Mapping[str, str]

    def field_of(self, name: str) -> dict[str, Any]:
        """Return the field that `fields[name]` was read from, as an item of `extra`: under the key that was sent, as sent."""
        return {
            key: _as_sent(value)
            for key, value in self.raw.items()
            if self.key_map.get(key) == name
            and key not in self.extra
            and value is not None
            and str(value).strip()
        }


def key_map(key_names: Mapping[str, str]) -> Mapping[str, str]:
    """
    Make the map for `parse` from the key names of a credential (documented name -> the key that this PBX sends).

    Documented names stay valid, unless this PBX uses one of them for another field.
    """
    return MappingProxyType({**DOCUMENTED_KEYS, **{sent: name for name, sent in key_names.items()}})


def parse(body: bytes, key_map: Mapping[str, str] = DOCUMENTED_KEYS) -> Webhook:
    """
    Parse one webhook.

    Raises:
        InvalidJson: neither JSON nor the relaxed notation, in UTF-8 or windows-1250.
        InvalidEvent: JSON, but not an object, nested too deeply, with a number out of range, or no EventName.
    """
    try:
        return _split_fields(orjson.loads(body), key_map)
    except (orjson.JSONDecodeError, _DigitsMatter):
        return _split_fields(_read_exactly(text_of(body)), key_map)


def _split_fields(document: Any, key_map: Mapping[str, str]) -> Webhook:
    """Split the parsed body into documented fields and `extra`."""
    if type(document) is not dict:
        raise InvalidEvent("the body is not a JSON object")
    fields: dict[str, str] = {}
    extra: dict[str, Any] = {}
    name_of = key_map.get
    for key, value in document.items():
        name = name_of(key)
        if name is None:
            extra[key] = value
            continue
        text = value if type(value) is str else _number_as_text(value)
        if text is None:
            if value is not None:  # an object, a list or a boolean is no field, but is not lost
                extra[key] = value
            continue
        trimmed = text.strip()
        if not trimmed:
            continue
        if name in fields:  # two keys of one field: the renamed key counts, the documented one goes to extra
            extra[name] = document[name]
            if key == name:
                continue
        fields[name] = text if trimmed is not text and name in _EXACT_FIELDS else trimmed
    extra = {key: _as_sent(value) for key, value in extra.items()} if extra else extra
    if "EventName" not in fields:
        raise InvalidEvent("no EventName")
    return Webhook(fields, extra, document, key_map)


class _Number(NamedTuple):
    """A number of the body, as text."""

    text: str


class _DigitsMatter(Exception):
    """A number may have lost digits: `1412256225.1940` is not `1412256225.194`, nor is `-0` 0. Never leaves this module."""


def _number_as_text(value: Any) -> str | None:
    """Return the text of a number; None for anything else."""
    if type(value) is int or type(value) is float:
        _require_all_digits(value)
        return str(value)
    return value.text if type(value) is _Number else None


def _require_all_digits(number: float) -> None:
    if type(number) is float or number == 0:
        raise _DigitsMatter


_MAX_DEPTH: Final = 64  # readers and writers of events (pydantic, orjson, other languages) give up above 100


def _as_sent(value: Any, levels: int = _MAX_DEPTH) -> Any:
    """Convert *value* for `extra`. Raises InvalidEvent if it has more *levels* of lists and objects than an event may have."""
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
    """Return a number that is written with the same digits. Raises InvalidEvent beyond a double: readers would get `null` or infinity."""
    digits = text.encode()
    try:
        number = orjson.loads(digits)
    except orjson.JSONDecodeError:
        raise InvalidEvent("a number out of range") from None
    return number if orjson.dumps(number) == digits else orjson.Fragment(digits)


_BOM: Final = b"\xef\xbb\xbf"
_PADDING: Final = b"\0 \t\r\n"  # the NUL that ends a string in C, and what may follow or precede it
_MULTI_BYTE: Final = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
"""A well-formed UTF-8 sequence of two to four bytes (Unicode, table 3-7)."""
_REPLACEMENT: Final = "\ufffd"


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Python's own handler makes one character of a truncated sequence, however many bytes it has."""
    assert isinstance(error, UnicodeDecodeError)  # noqa: S101 - only `decode` uses it
    return _REPLACEMENT * (error.end - error.start), error.end


codecs.register_error("voipex.replace_each_byte", _replace_each_byte)


def text_of(body: bytes) -> str:
    """
    Decode a body: UTF-8, or windows-1250, in which older PBXs write Czech. Byte order marks before it and NULs after it are dropped.

    In broken UTF-8, that is with at least one well-formed sequence, each broken byte becomes U+FFFD; windows-1250 would garble the rest.

    Raises:
        InvalidJson: neither, since windows-1250 leaves five bytes undefined.
    """
    while body.startswith(_BOM):
        body = body[len(_BOM) :]
    body = body.rstrip(_PADDING)
    try:
        return body.decode()
    except UnicodeDecodeError:
        if _MULTI_BYTE.search(body):
            return body.decode(errors="voipex.replace_each_byte")
    try:
        return body.decode("cp1250")
    except UnicodeDecodeError:
        raise InvalidJson("neither UTF-8 nor windows-1250") from None


def _read_exactly(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        relaxed = _relaxed_notation(text)
    except RecursionError:
        if _is_balanced(text):
            raise InvalidEvent("nested too deeply") from None
        relaxed = None
    if relaxed is None:
        raise InvalidJson("neither JSON nor the relaxed notation")
    return relaxed


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_EXACT: Final = json.JSONDecoder(
    strict=False, parse_float=_Number, parse_int=_Number, parse_constant=_reject_constant
)


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def parse_json(text: str) -> Any:
    """
    Parse by the standard library, which can keep numbers as text and accepts control characters in strings (`strict=False`).

    The last of equal keys wins. A lone surrogate, which UTF-8 lacks, becomes U+FFFD. Raises ValueError, RecursionError.
    """
    document = _EXACT.decode(text)
    return _without_surrogates(document) if "\\u" in text else document


def _without_surrogates(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return _SURROGATE.sub(_REPLACEMENT, value)
    if kind is list:
        return [_without_surrogates(each) for each in value]
    if kind is dict:
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return value


_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _is_balanced(text: str) -> bool:
    """Whether all brackets are closed: distinguishes JSON that is nested too deeply from JSON that was cut off."""
    brackets = _STRING.sub("", text)
    return brackets.count("[") == brackets.count("]") and brackets.count("{") == brackets.count("}")


_RELAXED_KEY: Final = re.compile(r"[^\W\d][\w.-]*")


def _relaxed_notation(text: str) -> dict[str, str] | None:
    """
    Parse the notation of the older documentation, `{EventName: Ringing, From: 777888999}`; all values are text. None for anything else.

    A comma ends a value only if a key and a colon follow: `Reason: User alerting, no answer` is one value. The notation has no quotes:
    text with a quote is broken JSON, and a guess at it would invent values.
    """
    stripped = text.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")):
        return None
    inner = stripped[1:-1].rstrip().removesuffix(",")  # a trailing comma is not part of the last value
    if any(character in inner for character in '{}"'):
        return None
    values: dict[str, str] = {}
    key = None
    for piece in inner.split(","):
        head, colon, tail = piece.partition(":")
        name = head.strip()
        if colon and _RELAXED_KEY.fullmatch(name):
            key = name
            values[key] = tail
        elif key is not None:
            values[key] += "," + piece
        elif piece.strip():
            return None
    if not values:
        return None
    return {name: value.strip() for name, value in values.items()}
