"""Numbers as people dial them -> E.164, where that is certain."""

import re
from functools import lru_cache
from typing import Final

import phonenumbers

_LONGEST: Final = 40  # E.164 has 15 digits; the rest is room for prefixes and spaces

# What has no more digits may be an extension, also where it is valid: two of three numbers of 4 digits are, to the library, in LU.
_EXTENSION_DIGITS: Final = 5

# The last ones are Unicode's hyphens, dashes and minus sign; the library reads them.
_DIALLED: Final = re.compile(r"(?:tel:)?\(?\+?[0-9 ()/.\-\u2010-\u2015\u2212]+", re.ASCII | re.IGNORECASE)


def e164(number: str, region: str) -> str | None:
    """
    Return *number* as `+420777888999` when it is a full, valid number in *region* (two letters); None for extensions (whatever has at
    most five digits) and anything else.
    """
    return _e164(number, region) if len(number) <= _LONGEST else None


@lru_cache(
    maxsize=4096
)  # a parse costs 17 µs, as much as the rest of an event; a PBX sees the same numbers again and again
def _e164(number: str, region: str) -> str | None:
    number = " ".join(number.split())  # plain spaces for thin ones and those that do not break
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
    """True for a region that numbers can be parsed in (`CZ`)."""
    return region in phonenumbers.SUPPORTED_REGIONS
