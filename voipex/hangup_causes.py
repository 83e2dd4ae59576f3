"""
The texts of hangup reasons and their classes: the only table of them. docs/hangup-causes.md is generated from it.

The numbers and texts are those of `ast_cause2str` (main/channel.c of Asterisk); the numbers are those of ITU-T Q.850, as far as Asterisk
uses them. Asterisk prints `Unknown` for every number that is missing here.

Texts that the contract names have the class that it gives them. The others have the nearest one: a number that leads nowhere, somebody who
may not or will not be called, or a fault of signalling.
"""

from typing import Final, NamedTuple

from voipex.events import ReasonClass


class HangupCause(NamedTuple):
    """A cause as Asterisk prints it. code: None for a text that another layer prints for one of the causes."""

    code: int | None
    text: str
    reason_class: ReasonClass


CAUSES: Final = (
    HangupCause(1, "Unallocated (unassigned) number", ReasonClass.FAILED_NUMBER),
    HangupCause(2, "No route to specified transmit network", ReasonClass.FAILED_NETWORK),
    HangupCause(3, "No route to destination", ReasonClass.FAILED_NUMBER),
    HangupCause(5, "Misdialed trunk prefix", ReasonClass.FAILED_NUMBER),
    HangupCause(6, "Channel unacceptable", ReasonClass.FAILED_NETWORK),
    HangupCause(7, "Call awarded and being delivered in an established channel", ReasonClass.NORMAL),
    HangupCause(8, "Pre-empted", ReasonClass.FAILED_NETWORK),
    HangupCause(14, "Number ported elsewhere", ReasonClass.FAILED_NUMBER),
    HangupCause(16, "Normal Clearing", ReasonClass.NORMAL),
    HangupCause(17, "User busy", ReasonClass.BUSY),
    HangupCause(18, "No user responding", ReasonClass.NO_ANSWER),
    HangupCause(19, "User alerting, no answer", ReasonClass.NO_ANSWER),
    HangupCause(20, "Subscriber absent", ReasonClass.UNREACHABLE),
    HangupCause(21, "Call Rejected", ReasonClass.REJECTED),
    HangupCause(22, "Number changed", ReasonClass.FAILED_NUMBER),
    HangupCause(23, "Redirected to new destination", ReasonClass.FAILED_NUMBER),
    HangupCause(26, "Answered elsewhere", ReasonClass.ANSWERED_ELSEWHERE),
    HangupCause(27, "Destination out of order", ReasonClass.UNREACHABLE),
    HangupCause(28, "Invalid number format", ReasonClass.FAILED_NUMBER),
    HangupCause(29, "Facility rejected", ReasonClass.REJECTED),
    HangupCause(30, "Response to STATus ENQuiry", ReasonClass.FAILED_NETWORK),
    HangupCause(31, "Normal, unspecified", ReasonClass.NORMAL),
    HangupCause(34, "Circuit/channel congestion", ReasonClass.FAILED_NETWORK),
    HangupCause(38, "Network out of order", ReasonClass.FAILED_NETWORK),
    HangupCause(41, "Temporary failure", ReasonClass.FAILED_NETWORK),
    HangupCause(42, "Switching equipment congestion", ReasonClass.FAILED_NETWORK),
    HangupCause(43, "Access information discarded", ReasonClass.FAILED_NETWORK),
    HangupCause(44, "Requested channel not available", ReasonClass.FAILED_NETWORK),
    HangupCause(50, "Facility not subscribed", ReasonClass.FAILED_NETWORK),
    HangupCause(52, "Outgoing call barred", ReasonClass.REJECTED),
    HangupCause(54, "Incoming call barred", ReasonClass.REJECTED),
    HangupCause(57, "Bearer capability not authorized", ReasonClass.REJECTED),
    HangupCause(58, "Bearer capability not available", ReasonClass.FAILED_NETWORK),
    HangupCause(65, "Bearer capability not implemented", ReasonClass.FAILED_NETWORK),
    HangupCause(66, "Channel not implemented", ReasonClass.FAILED_NETWORK),
    HangupCause(69, "Facility not implemented", ReasonClass.FAILED_NETWORK),
    HangupCause(81, "Invalid call reference value", ReasonClass.FAILED_NETWORK),
    HangupCause(88, "Incompatible destination", ReasonClass.UNREACHABLE),
    HangupCause(95, "Invalid message unspecified", ReasonClass.FAILED_NETWORK),
    HangupCause(96, "Mandatory information element is missing", ReasonClass.FAILED_NETWORK),
    HangupCause(97, "Message type nonexist.", ReasonClass.FAILED_NETWORK),
    HangupCause(98, "Wrong message", ReasonClass.FAILED_NETWORK),
    HangupCause(99, "Info. element nonexist or not implemented", ReasonClass.FAILED_NETWORK),
    HangupCause(100, "Invalid information element contents", ReasonClass.FAILED_NETWORK),
    HangupCause(101, "Message not compatible with call state", ReasonClass.FAILED_NETWORK),
    HangupCause(102, "Recover on timer expiry", ReasonClass.FAILED_NETWORK),
    HangupCause(103, "Mandatory IE length error", ReasonClass.FAILED_NETWORK),
    HangupCause(111, "Protocol error, unspecified", ReasonClass.FAILED_NETWORK),
    HangupCause(127, "Interworking, unspecified", ReasonClass.FAILED_NETWORK),
    HangupCause(None, "Unknown", ReasonClass.OTHER),
    HangupCause(None, "Unallocated number", ReasonClass.FAILED_NUMBER),
    HangupCause(None, "No user response", ReasonClass.NO_ANSWER),  # as VOIPEX documents it
    HangupCause(None, "No answer", ReasonClass.NO_ANSWER),
)

NETWORK_TERMS: Final = ("congestion", "network", "temporary failure")
"""A text that is not in the table and has one of these is a fault of the network."""


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


_CLASSES: Final = {_key(cause.text): cause.reason_class for cause in CAUSES}


def reason_class(reason: str) -> ReasonClass:
    """Classify the reason of a hangup. Case and surplus spaces do not matter."""
    text = _key(reason)
    known = _CLASSES.get(text)
    if known is not None:
        return known
    if any(term in text for term in NETWORK_TERMS):
        return ReasonClass.FAILED_NETWORK
    return ReasonClass.OTHER
