"""What a PBX leaves open: which events it sends and which fields they have (nothing of this is documented)."""

from dataclasses import dataclass
from random import Random
from typing import Final

END_ORDERS: Final = ("agent", "agent, caller", "caller, agent", "caller")
"""Whose Hangups tell the end of a talk, in which order; the caller's has no Line."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    How this PBX tells what happens.

    new_call, cdr: whether it sends these. direction: whether events of incoming calls name theirs (the others always do, as documented).
    login_at_hangup: an outgoing call names its Login only then, as documented. queue: Ringing names the queue. queue_answers: the queue
    answers the caller's channel, reported as Answered without a Line. both_views: an internal call is reported from both sides. transferor_hangs_up: an
    AttendedTransfer is followed by a Hangup of who gave the caller away. reasons: Hangups have a Reason. lower_case: of Directions.
    named_transfer: AttendedTransfer names a Line.
    """

    new_call: bool = True
    cdr: bool = True
    direction: bool = True
    login_at_hangup: bool = False
    queue: bool = True
    queue_answers: bool = False
    both_views: bool = True
    transferor_hangs_up: bool = True
    named_transfer: bool = True
    reasons: bool = True
    lower_case: bool = False
    system_name: str = ""
    end_order: str = "agent, caller"

    def __str__(self) -> str:
        ways = [name for name in self.__dataclass_fields__ if getattr(self, name) is True]
        return ", ".join([*ways, f"end by {self.end_order}"])


def draw(random: Random) -> Dialect:
    return Dialect(
        new_call=random.random() < 0.75,
        cdr=random.random() < 0.7,
        direction=random.random() < 0.7,
        login_at_hangup=random.random() < 0.5,
        queue=random.random() < 0.8,
        queue_answers=random.random() < 0.3,
        both_views=random.random() < 0.6,
        transferor_hangs_up=random.random() < 0.6,
        named_transfer=random.random() < 0.8,
        reasons=random.random() < 0.9,
        lower_case=random.random() < 0.3,
        system_name=random.choice(("", "", "pbx1-")),
        end_order=random.choice(END_ORDERS),
    )
