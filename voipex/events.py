"""
`Event`, the value of `<pbx>.call.events.v1` and `<pbx>.agent.events.v1`.

A new event type needs one member of `EventType` and one row of `EVENT_TYPES`; the bridge needs no other change.
"""

import re
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field


class EventType(StrEnum):
    """
    What happened. New types may be added.

    - `new_call`: a call exists, nothing has rung yet
    - `ringing`: a line rings; the same event again, seconds later, is another attempt or another device
    - `answered`: a line picked up
    - `hangup`: a party left, or the call ended
    - `attended_transfer`: a line handed its caller over to the colleague that it consulted
    - `attended_transfer_cancelled`: the line took its caller back
    - `cdr`: the PBX wrote its call detail record
    - `agent_login`, `agent_logout`: an agent joined or left a queue
    - `agent_paused`, `agent_unpaused`: an agent paused in a queue, or resumed
    - `unknown`: an EventName that the bridge does not know, see `event_name`
    """

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
        """Whether the type is one of `AGENT_EVENT_TYPES`."""
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
"""EventName as VOIPEX sends it -> type."""

AGENT_EVENT_TYPES: Final = frozenset(
    {EventType.AGENT_LOGIN, EventType.AGENT_LOGOUT, EventType.AGENT_PAUSED, EventType.AGENT_UNPAUSED}
)
"""Types of events about an agent instead of a call."""


class Direction(StrEnum):
    """
    Direction of the call, as the PBX reports it.

    - `incoming`: from outside
    - `outgoing`: to the outside
    - `incoming_local`, `outgoing_local`: between extensions
    - `barge`: a supervisor listens in
    """

    INCOMING = "incoming"
    OUTGOING = "outgoing"
    INCOMING_LOCAL = "incoming_local"
    OUTGOING_LOCAL = "outgoing_local"
    BARGE = "barge"


class ReasonClass(StrEnum):
    """
    Class of a hangup reason. The texts are Asterisk's; upper or lower case and spaces do not matter. docs/hangup-causes.md lists all.

    - `normal`: Normal Clearing
    - `busy`: User busy
    - `no_answer`: No user response, No user responding, No answer, "User alerting, no answer"
    - `unreachable`: Subscriber absent, Destination out of order
    - `rejected`: Call Rejected
    - `answered_elsewhere`: Answered elsewhere
    - `failed_number`: Unallocated number, No route to destination, Invalid number format
    - `failed_network`: congestion, a network fault, a temporary failure
    - `other`: any other text
    """

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
    """
    One step of a call or of an agent, as the PBX reported it and the bridge received it. `null` means "not known".

    The bridge writes every field. Fields with a default may be missing in events of another version.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore", hide_input_in_errors=True)

    event_id: str = Field(
        description="UUIDv7 assigned on receipt, the same on every republication; it identifies copies"
    )
    pbx: str = Field(description="name of the PBX, also the first part of the topic's name")
    type: EventType = Field(description="what happened")
    event_name: str = Field(description="EventName as sent")
    received_at: str = Field(
        description="when the bridge received it (the PBX sends no time): RFC 3339, UTC, microseconds, `Z`; never goes back within a process"
    )
    unique_id: str | None = Field(
        default=None,
        description="Asterisk's id of the call, `[systemname-]epoch.sequence`, text exactly as sent; null when there was none, as on agent events",
    )
    pbx_started_at: str | None = Field(
        default=None,
        description="start of the call on the clock of the PBX, in whole seconds: the epoch in `unique_id`",
    )
    direction: Direction | None = Field(
        default=None,
        description="as reported; the PBX may omit it, and an unknown value is in `extra`, under its key",
    )
    from_: str | None = Field(
        default=None, alias="from", description="number or extension of the caller, as sent, trimmed"
    )
    to: str | None = Field(default=None, description="number or extension called, as sent, trimmed")
    from_e164: str | None = Field(
        default=None,
        description="`from` in E.164 when it is a full number in the region of the PBX; null for extensions",
    )
    to_e164: str | None = Field(default=None, description="`to` in E.164, likewise")
    line: str | None = Field(
        default=None,
        description="the extension that the event is about; on outgoing calls that of the caller; null when it is about no extension",
    )
    login: str | None = Field(
        default=None, description="login of the agent or user at the line; may change within a call"
    )
    email: str | None = Field(default=None, description="e-mail of the agent or user at the line")
    queue: str | None = Field(default=None, description="name of the queue")
    pause_name: str | None = Field(default=None, description="name of the pause (`agent_paused`)")
    reason: str | None = Field(default=None, description="reason of the hangup, as sent, trimmed (`hangup`)")
    reason_class: ReasonClass | None = Field(default=None, description="class of `reason`; null without one")
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="fields that the bridge does not know, as sent, numbers with all their digits; the contents of a CDR are here",
    )

    @property
    def order(self) -> tuple[str, str]:
        """Sort key of the total order in which events are folded."""
        return (self.received_at, self.event_id)


def agent_key(login: str | None, line: str | None, email: str | None) -> str | None:
    """Make the key of an agent: the login casefolded, else `line:<line>`, else `email:<email casefolded>`; None without any."""
    if login is not None:
        return login.casefold()
    if line is not None:
        return f"line:{line}"
    if email is not None:
        return f"email:{email.casefold()}"
    return None


_UNIQUE_ID: Final = re.compile(r"(?:(.*)-)?(\d{1,11})\.(\d{1,18})", re.DOTALL | re.ASCII)


def split_unique_id(unique_id: str) -> tuple[str, int, int] | None:
    """`[systemname-]epoch.sequence` -> (systemname or "", epoch in seconds, sequence), which sorts numerically (9 before 10); else None."""
    match = _UNIQUE_ID.fullmatch(unique_id)
    if match is None:
        return None
    return (match[1] or "", int(match[2]), int(match[3]))
