"""Numbers in E.164, where that is certain."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.phone import e164, is_region


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("777888999", "+420777888999"),
        ("777 888 999", "+420777888999"),
        ("+420 777-888-999", "+420777888999"),
        ("00420777888999", "+420777888999"),
        ("(222) 333 444", "+420222333444"),
        ("+442079460123", "+442079460123"),
    ],
)
def test_full_numbers_become_e164_however_they_are_written(number: str, expected: str) -> None:
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
    ],
)
def test_extensions_and_everything_uncertain_stay_unknown(number: str) -> None:
    assert e164(number, "CZ") is None


def test_digits_of_other_scripts_are_not_guessed_at() -> None:
    assert e164("٧٧٧٨٨٨٩٩٩", "CZ") is None


def test_the_region_says_how_a_national_number_is_read() -> None:
    assert e164("02079460123", "GB") == "+442079460123"


def test_regions_are_two_capital_letters_that_exist() -> None:
    assert [is_region(region) for region in ("CZ", "SK", "cz", "XX", "CZE", "")] == [True, True] + [False] * 4


@settings(deadline=None)
@given(st.text("+0123456789 ()/.-x", max_size=20))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = e164(text, "CZ")

    assert number is None or (number[0] == "+" and number[1:].isdigit())
