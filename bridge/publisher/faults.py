"""
What a failed delivery means, and what the publisher does about it.

Only a record that is larger than its topic allows is given up, and then its dead letter takes its place. Every other fault is one of the
environment and passes: a broker, a clock, a right, a topic, a policy. The records wait in the spool, however long it takes.
"""

from dataclasses import dataclass
from enum import Enum


class DeliveryFault(Enum):
    """The meaning of a failed delivery."""

    RETRIABLE = "retriable"
    """Send again with a new producer."""
    UNKNOWN_TOPIC = "unknown_topic"
    """The topic or partition does not exist: wait for it."""
    UNAUTHORIZED = "unauthorized"
    """An ACL is missing: wait for it."""
    TOO_LARGE = "too_large"
    """The batch is larger than the topic's max.message.bytes: halve it; a single record becomes a dead letter, a dead letter waits."""
    TIMESTAMP = "timestamp"
    """The topic takes no record of that time: wait until it does; a dead letter is sent again without a timestamp."""
    REFUSED = "refused"
    """The broker refuses the batch for another reason, such as a policy: wait."""


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """A batch that was not delivered."""

    error: BaseException
    batch_records: int
    """0 if it was not sent."""


class AckTimeout(Exception):
    """No acknowledgement came in time; whether the batch arrived is unknown."""
