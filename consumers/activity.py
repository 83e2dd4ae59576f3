"""
AgentActivity: what one call did to one agent, as the timelines service writes it and the agents service reads it (contract 5.1).

A self-contained record per (agent, call_id, leg): the highest revision wins, so that order and repetition change nothing.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from bridge.events import Direction


class LegRole(StrEnum):
    AGENT = "agent"
    CALLER = "caller"
    CONSULT = "consult"
    MONITOR = "monitor"


class LegResult(StrEnum):
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
    """All times are RFC 3339, UTC, microseconds, `Z`; null means "not known" or "not yet"."""

    model_config = ConfigDict(frozen=True)

    pbx: str
    agent: str = Field(description="the agent key, also the record's key")
    call_id: str
    leg: int = Field(description="`leg` of the timeline's leg")
    revision: int = Field(description="revision of the timeline that this record was taken from")
    removed: bool = Field(
        default=False, description="the revised timeline has no such leg of this agent any more"
    )
    login: str | None = None
    line: str | None = None
    email: str | None = None
    role: LegRole
    queue: str | None = None
    direction: Direction | None = None
    number: str | None = Field(default=None, description="who is at the other end: contract 5, `number`")
    ring_started_at: str | None = None
    answered_at: str | None = None
    talk_started_at: str | None = Field(
        default=None, description="when the leg got the caller; null for consult and monitor"
    )
    ended_at: str | None = None
    result: LegResult | None = None
    transferred_at: str | None = None
    last_event_at: str
