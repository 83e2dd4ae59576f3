"""Numbers in E.164, where that is certain."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voipex.phone import e164, is_region


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("777888999", "+420777888999"),
        ("777 888 999", "+420777888999"),
        ("+420 777-888-999", "+420777888999"),
        ("00420777888999", "+420777888999"),
        ("(222) 333 444", "+420222333444"),
        ("+442079460123", "+442079460123"),
        ("(+420) 777 888 999", "+420777888999"),
        ("+420\u00a0777\u00a0888\u00a0999", "+420777888999"),
        ("777\u2009888\u202f999", "+420777888999"),
        ("777\u2013888\u2011999", "+420777888999"),
        ("777\u2212888\u2010999", "+420777888999"),
        ("tel:+420777888999", "+420777888999"),
        ("TEL:777 888 999", "+420777888999"),
    ],
)
def test_full_numbers_become_e164_in_any_notation(number: str, expected: str) -> None:
    assert e164(number, "CZ") == expected


@pytest.mark.parametrize(
    "number",
    [
        "20",
        "444",
        "112",
        "**9642301",
        "anonymous",
        "sip:444@example.cz",
        "600000001",
        "+",
        "",
        "7" * 9000,
        "77788899x",
        "tel:",
        "tel:444",
        "sip:777888999",
        "777888999;ext=12",
        "777+888999",
    ],
)
def test_extensions_and_uncertain_numbers_are_none(number: str) -> None:
    assert e164(number, "CZ") is None


@pytest.mark.parametrize("region", ["AT", "CZ", "DE", "FI", "IR", "LU", "SK", "TK", "UY"])
def test_no_extension_is_a_full_number_in_any_region(region: str) -> None:
    """The library accepts most four-digit numbers in Luxembourg."""
    dialled = [f"{number:0{digits}}" for digits in (2, 3, 4) for number in range(0, 10**digits, 7)]
    dialled += [f"{number:05}" for number in range(0, 100_000, 701)]

    assert [number for number in dialled if e164(number, region)] == []
    assert e164("12-34", region) is None


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("030 901820", "DE", "+4930901820"),
        ("01 58858", "AT", "+43158858"),
        ("27 12 34 56", "LU", "+35227123456"),
        ("+352 40 80", "LU", "+3524080"),
    ],
)
def test_short_full_numbers_of_other_regions_become_e164(number: str, region: str, expected: str) -> None:
    assert e164(number, region) == expected


def test_digits_of_other_scripts_are_none() -> None:
    assert e164("٧٧٧٨٨٨٩٩٩", "CZ") is None


def test_national_number_is_parsed_in_its_region() -> None:
    assert e164("02079460123", "GB") == "+442079460123"


def test_region_is_an_existing_upper_case_code() -> None:
    assert [is_region(region) for region in ("CZ", "SK", "cz", "XX", "CZE", "")] == [True, True] + [False] * 4


@settings(deadline=None)
@given(st.text("+0123456789 ()/.-x", max_size=20))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = e164(text, "CZ")

    assert number is None or (number[0] == "+" and number[1:].isdigit())
