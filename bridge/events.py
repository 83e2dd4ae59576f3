"""
The published language: `Event`, the value of `<pbx>.call.events.v1` and `<pbx>.agent.events.v1` (contract 3).

Adding an event type starts and ends here: one member of `EventType`, one row of `EVENT_TYPES`.
"""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field


class EventType(StrEnum):
    NEW_CALL = "new_call"
    RINGING = "ringing"
    ANSWERED = "answered"
    HANGUP = "hangup"
    ATTENDED_TRANSFER = "attended_transfer"
    ATTENDED_TRANSFER_CANCELLED = "attended_transfer_cancelled"
    CDR = "cdr"
    AGENT_LOGIN = "agent_login"
    AGENT_LOGOUT = "agent_logout"
    AGENT_PAUSED = "agent_paused"
    AGENT_UNPAUSED = "agent_unpaused"
    UNKNOWN = "unknown"

    @property
    def is_agent(self) -> bool:
        """Agent events are keyed by the agent and go to the agent topic."""
        return self in AGENT_EVENT_TYPES


EVENT_TYPES: Final = {
    "NewCall": EventType.NEW_CALL,
    "Ringing": EventType.RINGING,
    "Answered": EventType.ANSWERED,
    "Hangup": EventType.HANGUP,
    "AttendedTransfer": EventType.ATTENDED_TRANSFER,
    "CancelAttendedTransfer": EventType.ATTENDED_TRANSFER_CANCELLED,
    "CDR": EventType.CDR,
    "AgentLogin": EventType.AGENT_LOGIN,
    "AgentLogout": EventType.AGENT_LOGOUT,
    "AgentPaused": EventType.AGENT_PAUSED,
    "AgentUnPaused": EventType.AGENT_UNPAUSED,
}
"""EventName as VOIPEX sends it -> our type."""

AGENT_EVENT_TYPES: Final = frozenset(
    {EventType.AGENT_LOGIN, EventType.AGENT_LOGOUT, EventType.AGENT_PAUSED, EventType.AGENT_UNPAUSED}
)


class Direction(StrEnum):
    INCOMING = "incoming"
    OUTGOING = "outgoing"
    INCOMING_LOCAL = "incoming_local"
    OUTGOING_LOCAL = "outgoing_local"
    BARGE = "barge"


class ReasonClass(StrEnum):
    NORMAL = "normal"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    REJECTED = "rejected"
    ANSWERED_ELSEWHERE = "answered_elsewhere"
    FAILED_NUMBER = "failed_number"
    FAILED_NETWORK = "failed_network"
    OTHER = "other"


class Event(BaseModel):
    """One step of a call or of an agent, as the PBX told it and the bridge received it. `null` means "not known"."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore", hide_input_in_errors=True)

    event_id: str = Field(description="UUIDv7 given on receipt, the same on every republication")
    pbx: str
    type: EventType
    event_name: str = Field(description="EventName as sent")
    received_at: str = Field(description="RFC 3339, UTC, microseconds, `Z`; never goes back within a process")
    unique_id: str | None = Field(default=None, description="Asterisk's id of the call, text exactly as sent")
    pbx_started_at: str | None = Field(
        default=None, description="start of the call on the PBX clock, 1 s exact"
    )
    direction: Direction | None = None
    from_: str | None = Field(default=None, alias="from")
    to: str | None = None
    from_e164: str | None = None
    to_e164: str | None = None
    line: str | None = None
    login: str | None = None
    email: str | None = None
    queue: str | None = None
    pause_name: str | None = None
    reason: str | None = None
    reason_class: ReasonClass | None = None
    extra: dict[str, Any] = Field(default_factory=dict, description="fields outside the mapping, as sent")

    @property
    def order(self) -> tuple[str, str]:
        """The total order of folds."""
        return (self.received_at, self.event_id)


def agent_key(login: str | None, line: str | None, email: str | None) -> str | None:
    """Name an agent: Login casefolded, else `line:<Line>`, else `email:<email casefolded>`; None without any (contract 2)."""
    if login is not None:
        return login.casefold()
    if line is not None:
        return f"line:{line}"
    if email is not None:
        return f"email:{email.casefold()}"
    return None


_UNIQUE_ID: Final = re.compile(r"(?:(.*)-)?(\d{1,11})\.(\d{1,18})", re.DOTALL | re.ASCII)


def split_unique_id(unique_id: str) -> tuple[str, int, int] | None:
    """`[systemname-]epoch.sequence` -> (systemname or "", epoch in seconds, sequence), which sorts as numbers (9 before 10); else None."""
    match = _UNIQUE_ID.fullmatch(unique_id)
    if match is None:
        return None
    return (match[1] or "", int(match[2]), int(match[3]))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(at_us: int) -> str:
    """Microseconds since 1970 -> `2026-03-02T08:00:00.000000Z`."""
    moment = _EPOCH + timedelta(microseconds=at_us)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def microseconds(text: str) -> int:
    """RFC 3339 (any offset) -> microseconds since 1970. Raises ValueError when it is no time, or has no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without an offset")
    return (moment - _EPOCH) // timedelta(microseconds=1)
