"""Dialled numbers -> E.164, where that is certain."""

import re
from functools import lru_cache
from typing import Final

import phonenumbers

_LONGEST: Final = 40  # E.164 has 15 digits; the rest is room for prefixes and spaces

# Numbers with no more digits may be extensions even if they are valid: in LU the library accepts two of three 4-digit numbers.
_EXTENSION_DIGITS: Final = 5

# The last range holds Unicode's hyphens, dashes and minus sign, which the library understands.
_DIALLED: Final = re.compile(r"(?:tel:)?\(?\+?[0-9 ()/.\-\u2010-\u2015\u2212]+", re.ASCII | re.IGNORECASE)


def e164(number: str, region: str) -> str | None:
    """
    Return *number* as `+420777888999` if it is a full, valid number in *region* (`CZ`).

    None for extensions, that is numbers of at most five digits, and for anything else.
    """
    return _e164(number, region) if len(number) <= _LONGEST else None


@lru_cache(
    maxsize=4096
)  # parsing takes 17 µs, more than the rest of an event, and a PBX sees the same numbers all day
def _e164(number: str, region: str) -> str | None:
    number = " ".join(number.split())  # thin and no-break spaces become plain ones
    if _DIALLED.fullmatch(number) is None or sum(map(str.isdigit, number)) <= _EXTENSION_DIGITS:
        return None
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def is_region(region: str) -> bool:
    """Whether numbers can be parsed in this region (`CZ`)."""
    return region in phonenumbers.SUPPORTED_REGIONS
