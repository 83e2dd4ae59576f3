"""What a failed delivery means, and what the publisher does about it."""

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
    """The batch is larger than the topic's max.message.bytes: halve it; a single record becomes a dead letter."""
    REJECTED = "rejected"
    """The broker will not accept the batch: the same."""
    AMBIGUOUS = "ambiguous"
    """The broker failed on the batch, perhaps because of a record in it: the same, after more attempts."""


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """A batch that was not delivered."""

    error: BaseException
    batch_records: int
    """0 if it was not sent."""


class AckTimeout(Exception):
    """No acknowledgement came in time; whether the batch arrived is unknown."""
