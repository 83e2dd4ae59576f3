"""Numbers as people dial them -> E.164, where that is certain."""

import re
from functools import lru_cache
from typing import Final

import phonenumbers

_LONGEST: Final = 40  # E.164 has 15 digits; the rest is room for prefixes and spaces
_DIALLED: Final = re.compile(r"\+?[0-9 ()/.-]+", re.ASCII)


def e164(number: str, region: str) -> str | None:
    """
    Return *number* as `+420777888999` when it is a full, valid number in *region* (two letters); None for extensions and anything else.
    """
    return _e164(number, region) if len(number) <= _LONGEST else None


@lru_cache(
    maxsize=4096
)  # a parse costs 17 µs, as much as the rest of an event; a PBX sees the same numbers again and again
def _e164(number: str, region: str) -> str | None:
    if _DIALLED.fullmatch(number) is None:
        return None
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def is_region(region: str) -> bool:
    """True for a region that numbers can be parsed in (`CZ`)."""
    return region in phonenumbers.SUPPORTED_REGIONS
