"""Classes of hangup reasons: every text that Asterisk prints has one."""

import pytest

from voipex.events import ReasonClass
from voipex.hangup_causes import CAUSES, reason_class

ASTERISK = {
    1: ("Unallocated (unassigned) number", "failed_number"),
    2: ("No route to specified transmit network", "failed_network"),
    3: ("No route to destination", "failed_number"),
    5: ("Misdialed trunk prefix", "failed_number"),
    6: ("Channel unacceptable", "failed_network"),
    7: ("Call awarded and being delivered in an established channel", "normal"),
    8: ("Pre-empted", "failed_network"),
    14: ("Number ported elsewhere", "failed_number"),
    16: ("Normal Clearing", "normal"),
    17: ("User busy", "busy"),
    18: ("No user responding", "no_answer"),
    19: ("User alerting, no answer", "no_answer"),
    20: ("Subscriber absent", "unreachable"),
    21: ("Call Rejected", "rejected"),
    22: ("Number changed", "failed_number"),
    23: ("Redirected to new destination", "failed_number"),
    26: ("Answered elsewhere", "answered_elsewhere"),
    27: ("Destination out of order", "unreachable"),
    28: ("Invalid number format", "failed_number"),
    29: ("Facility rejected", "rejected"),
    30: ("Response to STATus ENQuiry", "failed_network"),
    31: ("Normal, unspecified", "normal"),
    34: ("Circuit/channel congestion", "failed_network"),
    38: ("Network out of order", "failed_network"),
    41: ("Temporary failure", "failed_network"),
    42: ("Switching equipment congestion", "failed_network"),
    43: ("Access information discarded", "failed_network"),
    44: ("Requested channel not available", "failed_network"),
    50: ("Facility not subscribed", "failed_network"),
    52: ("Outgoing call barred", "rejected"),
    54: ("Incoming call barred", "rejected"),
    57: ("Bearer capability not authorized", "rejected"),
    58: ("Bearer capability not available", "failed_network"),
    65: ("Bearer capability not implemented", "failed_network"),
    66: ("Channel not implemented", "failed_network"),
    69: ("Facility not implemented", "failed_network"),
    81: ("Invalid call reference value", "failed_network"),
    88: ("Incompatible destination", "unreachable"),
    95: ("Invalid message unspecified", "failed_network"),
    96: ("Mandatory information element is missing", "failed_network"),
    97: ("Message type nonexist.", "failed_network"),
    98: ("Wrong message", "failed_network"),
    99: ("Info. element nonexist or not implemented", "failed_network"),
    100: ("Invalid information element contents", "failed_network"),
    101: ("Message not compatible with call state", "failed_network"),
    102: ("Recover on timer expiry", "failed_network"),
    103: ("Mandatory IE length error", "failed_network"),
    111: ("Protocol error, unspecified", "failed_network"),
    127: ("Interworking, unspecified", "failed_network"),
}
"""The table of ast_cause2str, and the class of each: those that the contract names, and the nearest one for the others."""


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
