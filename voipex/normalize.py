"""Webhook -> NormalizedEvent: the fields of an Event, and its topic and key (pure)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

from voipex.errors import InvalidEvent
from voipex.events import (
    AGENT_EVENT_TYPES,
    EVENT_TYPES,
    Direction,
    Event,
    EventType,
    agent_key,
    split_unique_id,
)
from voipex.hangup_causes import reason_class
from voipex.phone import e164
from voipex.timestamps import format_rfc3339
from voipex.topics import AGENT_EVENTS, CALL_EVENTS, TopicSpec
from voipex.webhook import Webhook

_UNKNOWN: Final = EventType.UNKNOWN  # a member of an enum is slow to look up

_DIRECTIONS: Final = {
    "incoming": Direction.INCOMING,
    "outgoing": Direction.OUTGOING,
    "incominglocal": Direction.INCOMING_LOCAL,
    "outgoinglocal": Direction.OUTGOING_LOCAL,
    "barge": Direction.BARGE,
}
_SEPARATORS: Final = str.maketrans("", "", " _-")

_MAX_KEY_CHARACTERS: Final = (
    1024  # real keys are below 100; a record holds its key three times, and Kafka limits its size
)
_MAX_EPOCH_S: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second that RFC 3339 can express


@dataclass(slots=True)  # not frozen: each webhook makes one, and a frozen __init__ takes four times as long
class Receipt:
    """What the bridge adds to a webhook on receipt. No other clock counts, and `event_id` never changes again."""

    received_at_us: int
    received_at: str
    event_id: str
    traceparent: str | None = None


@dataclass(slots=True)  # not frozen: each webhook makes one, and a frozen __init__ takes four times as long
class NormalizedEvent:
    """
    An event and its place in Kafka, decided once: the topic's kind (`CALL_EVENTS` or `AGENT_EVENTS`) and the record's key.

    `fields` is the JSON object of an Event, in the order of its fields; a number in `extra` may be an `orjson.Fragment`.
    """

    kind: TopicSpec
    key: str
    fields: dict[str, Any]

    @classmethod
    def from_event(cls, event: Event) -> Self:
        """Wrap an event that was read back. Raises ValueError when it has no key."""
        kind, key = _kind_and_key(event.type, event.unique_id, event.login, event.line, event.email)
        if key is None:
            raise ValueError("an event without a key")
        return cls(kind, key, event.model_dump(by_alias=True))

    def to_event(self) -> Event:
        """Validate `fields` as the public model. `records.encode` writes them; pydantic cannot write a Fragment."""
        return Event.model_validate(self.fields)


def normalize(webhook: Webhook, pbx: str, receipt: Receipt, region: str = "CZ") -> NormalizedEvent:
    """
    Make the event of a webhook; `region` (two letters) is where its phone numbers are dialled.

    The fields are not validated: they were made here, and the model would take a tenth of the response time (a test compares the two).

    Raises:
        InvalidEvent: no key: neither a UniqueId nor, for agent events, a Login, Line or Email. Or a key that is too long.
    """
    sent = webhook.fields.get
    event_name, unique_id = webhook.fields["EventName"], sent("UniqueId")
    event_type = EVENT_TYPES.get(event_name.strip(), _UNKNOWN)
    line, login, email = sent("Line"), sent("Login"), sent("Email")
    kind, key = _kind_and_key(event_type, unique_id, login, line, email)
    if key is None:
        raise InvalidEvent("no UniqueId, and no agent to key it by")
    if len(key) > _MAX_KEY_CHARACTERS:
        raise InvalidEvent(f"the key is longer than {_MAX_KEY_CHARACTERS} characters")

    extra = webhook.extra
    sent_direction = sent("Direction")
    direction = None if sent_direction is None else direction_of(sent_direction)
    if sent_direction is not None and direction is None:
        extra = {**extra, **webhook.field_of("Direction")}  # an unknown direction is not lost
    number_from, number_to, reason = sent("From"), sent("To"), sent("Reason")
    fields = {
        "event_id": receipt.event_id,
        "pbx": pbx,
        "type": event_type,
        "event_name": event_name,
        "received_at": receipt.received_at,
        "unique_id": unique_id,
        "pbx_started_at": None if unique_id is None else pbx_started_at(unique_id),
        "direction": direction,
        "from": number_from,
        "to": number_to,
        "from_e164": None if number_from is None else e164(number_from, region),
        "to_e164": None if number_to is None else e164(number_to, region),
        "line": line,
        "login": login,
        "email": email,
        "queue": sent("Queue"),
        "pause_name": sent("PauseName"),
        "reason": reason,
        "reason_class": None if reason is None else reason_class(reason),
        "extra": extra,
    }
    return NormalizedEvent(kind, key, fields)


def _kind_and_key(
    event_type: EventType, unique_id: str | None, login: str | None, line: str | None, email: str | None
) -> tuple[TopicSpec, str | None]:
    """Send agent events to the agent topic by agent key, everything else to the call topic by UniqueId."""
    if event_type in AGENT_EVENT_TYPES:
        agent = agent_key(login, line, email)
        if agent is not None:
            return AGENT_EVENTS, agent
    return CALL_EVENTS, unique_id


def direction_of(sent: str) -> Direction | None:
    """`incomingLocal`, `incominglocal`, `INCOMING_LOCAL` -> incoming_local; None if unknown."""
    return _DIRECTIONS.get(sent.casefold().translate(_SEPARATORS))


@lru_cache(maxsize=8192)  # the events of a call arrive close together
def pbx_started_at(unique_id: str) -> str | None:
    """Return the start of the call on the clock of the PBX, from the epoch in the UniqueId; None if it has none."""
    parts = split_unique_id(unique_id)
    if parts is None or parts[1] > _MAX_EPOCH_S:
        return None
    return format_rfc3339(parts[1] * 1_000_000)
