"""
AgentActivity: what one call did to one agent, as the timelines service writes it and the agents service reads it.

A self-contained record per (agent, call_id, leg): the highest revision wins, so that order and repetition change nothing.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from voipex.events import Direction


class LegRole(StrEnum):
    """
    Part that a line plays in a call.

    - `agent`: it was rung for the caller, or took the caller over
    - `caller`: it makes the call (outgoing calls)
    - `consult`: a colleague asks it, the caller waits; neither an answer nor talk with the caller
    - `monitor`: a supervisor listens in; counts nowhere
    """

    AGENT = "agent"
    CALLER = "caller"
    CONSULT = "consult"
    MONITOR = "monitor"


class LegResult(StrEnum):
    """
    What became of one attempt to ring a line.

    - `completed`: it was answered, and ended by a hangup
    - `transferred`: it was answered, and gave the caller away
    - `no_answer`: it rang in vain
    - `busy`, `rejected`, `unreachable`: by the reason of its hangup
    - `answered_elsewhere`: somebody else took the call
    - `cancelled`: withdrawn before an answer
    - `failed`: the number or the network failed
    - `timeout`: no end was reported; closed after a time without events
    """

    COMPLETED = "completed"
    TRANSFERRED = "transferred"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    ANSWERED_ELSEWHERE = "answered_elsewhere"
    CANCELLED = "cancelled"
    FAILED = "failed"
    TIMEOUT = "timeout"


class AgentActivity(BaseModel):
    """
    What one leg of one call is to one agent. All times are RFC 3339, UTC, microseconds, `Z`; null means "not known" or "not yet".

    Per `agent`, `call_id` and `leg` the highest `revision` holds. With `removed` true only the fields that are always there are written.
    """

    model_config = ConfigDict(frozen=True)

    pbx: str = Field(description="name of the PBX, also the first part of the topic's name")
    agent: str = Field(
        description="the agent key, also the record's key: login in lower case, else `line:<line>`, else `email:<e-mail>`"
    )
    call_id: str = Field(description="the call: UniqueId, `call_id` of the timeline")
    leg: int = Field(description="`leg` of the timeline's leg")
    revision: int = Field(description="revision of the timeline that this record was taken from")
    removed: bool = Field(
        default=False, description="the revised timeline has no such leg of this agent any more"
    )
    login: str | None = Field(
        default=None, description="last one reported on this leg, as are line and e-mail"
    )
    line: str | None = Field(default=None, description="the extension")
    email: str | None = Field(default=None, description="e-mail of the agent")
    role: LegRole = Field(description="part that the agent plays in the call")
    queue: str | None = Field(default=None, description="queue that the leg was rung for")
    direction: Direction | None = Field(default=None, description="direction of the call, as in the timeline")
    number: str | None = Field(
        default=None,
        description="number at the other end: the called one for a caller and for the line that took over from a caller, the consulting line for a consult, else the caller",
    )
    ring_started_at: str | None = Field(
        default=None, description="when it began to ring; null when it was answered without a ring"
    )
    answered_at: str | None = Field(default=None, description="when it was answered")
    talk_started_at: str | None = Field(
        default=None,
        description="when it got the caller; null for consult and monitor, and until then; of the caller of a local call the first answer of another line",
    )
    ended_at: str | None = Field(default=None, description="when the leg ended; null while it is open")
    result: LegResult | None = Field(default=None, description="what became of it; null while it is open")
    transferred_at: str | None = Field(default=None, description="when the agent gave the caller away")
    last_event_at: str = Field(description="time of the last event that touched the leg")
    call_answered_at: str | None = Field(
        default=None, description="when the call was first answered, `answered_at` of the timeline"
    )
    inferred: tuple[str, ...] = Field(
        default=(), description="`agent` where no event names the agent, but the line was theirs then"
    )
