"""Classes of hangup reasons: every text that Asterisk prints has one."""

import pytest

from voipex.events import ReasonClass
from voipex.hangup_causes import CAUSES, reason_class

ASTERISK = {
    1: ("Unallocated (unassigned) number", "failed_number"),
    2: ("No route to specified transmit network", "failed_network"),
    3: ("No route to destination", "failed_number"),
    5: ("Misdialed trunk prefix", "other"),
    6: ("Channel unacceptable", "other"),
    7: ("Call awarded and being delivered in an established channel", "other"),
    8: ("Pre-empted", "other"),
    14: ("Number ported elsewhere", "other"),
    16: ("Normal Clearing", "normal"),
    17: ("User busy", "busy"),
    18: ("No user responding", "no_answer"),
    19: ("User alerting, no answer", "no_answer"),
    20: ("Subscriber absent", "unreachable"),
    21: ("Call Rejected", "rejected"),
    22: ("Number changed", "other"),
    23: ("Redirected to new destination", "other"),
    26: ("Answered elsewhere", "answered_elsewhere"),
    27: ("Destination out of order", "unreachable"),
    28: ("Invalid number format", "failed_number"),
    29: ("Facility rejected", "other"),
    30: ("Response to STATus ENQuiry", "other"),
    31: ("Normal, unspecified", "other"),
    34: ("Circuit/channel congestion", "failed_network"),
    38: ("Network out of order", "failed_network"),
    41: ("Temporary failure", "failed_network"),
    42: ("Switching equipment congestion", "failed_network"),
    43: ("Access information discarded", "other"),
    44: ("Requested channel not available", "other"),
    50: ("Facility not subscribed", "other"),
    52: ("Outgoing call barred", "other"),
    54: ("Incoming call barred", "other"),
    57: ("Bearer capability not authorized", "other"),
    58: ("Bearer capability not available", "other"),
    65: ("Bearer capability not implemented", "other"),
    66: ("Channel not implemented", "other"),
    69: ("Facility not implemented", "other"),
    81: ("Invalid call reference value", "other"),
    88: ("Incompatible destination", "other"),
    95: ("Invalid message unspecified", "other"),
    96: ("Mandatory information element is missing", "other"),
    97: ("Message type nonexist.", "other"),
    98: ("Wrong message", "other"),
    99: ("Info. element nonexist or not implemented", "other"),
    100: ("Invalid information element contents", "other"),
    101: ("Message not compatible with call state", "other"),
    102: ("Recover on timer expiry", "other"),
    103: ("Mandatory IE length error", "other"),
    111: ("Protocol error, unspecified", "other"),
    127: ("Interworking, unspecified", "other"),
}
"""The table of ast_cause2str, and the class that the contract gives each text."""


@pytest.mark.parametrize("code", range(128))
def test_every_cause_of_asterisk_has_its_class(code: int) -> None:
    text, expected = ASTERISK.get(code, ("Unknown", "other"))
    listed = [cause for cause in CAUSES if cause.code == code]

    assert [cause.text for cause in listed] == ([text] if code in ASTERISK else [])
    assert {reason_class(text), reason_class(f"  {text.upper()} "), *(c.reason_class for c in listed)} == {
        ReasonClass(expected)
    }
    assert text in {cause.text for cause in CAUSES}


def test_no_text_is_listed_twice() -> None:
    texts = [cause.text.casefold() for cause in CAUSES]

    assert len(texts) == len(set(texts))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Congestion", "failed_network"),
        ("Network unreachable", "failed_network"),
        ("Normal temporary failure", "failed_network"),
        ("Zavěšeno", "other"),
        ("", "other"),
    ],
)
def test_a_text_that_is_not_listed_has_a_class(text: str, expected: str) -> None:
    assert reason_class(text) == expected
