"""
AgentStatus: the published state of one agent, value of `<pbx>.agent.status.v1` (contract 5).

All times are RFC 3339, UTC, microseconds, `Z`; durations are seconds. Null means "not known" or "not so".
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from bridge.events import Direction


class AgentPresence(StrEnum):
    OFFLINE = "offline"
    LOGGED_IN = "logged_in"
    IMPLICIT = "implicit"
    UNKNOWN = "unknown"


class Availability(StrEnum):
    AVAILABLE = "available"
    PARTIALLY_PAUSED = "partially_paused"
    PAUSED = "paused"


class Activity(StrEnum):
    IDLE = "idle"
    RINGING = "ringing"
    ON_CALL_IN = "on_call_in"
    ON_CALL_OUT = "on_call_out"
    CONSULTING = "consulting"
    MONITORING = "monitoring"


class AgentState(StrEnum):
    ON_CALL = "on_call"
    MONITORING = "monitoring"
    CONSULTING = "consulting"
    RINGING = "ringing"
    PAUSED = "paused"
    PARTIALLY_PAUSED = "partially_paused"
    AVAILABLE = "available"
    IMPLICIT = "implicit"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class _Published(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        hide_input_in_errors=True,
        json_schema_serialization_defaults_required=True,  # every field is written, also when it is null
    )


class PreviousState(_Published):
    state: AgentState
    since: str


class QueueStatus(_Published):
    """The agent in one queue that he is logged into."""

    logged_in: bool = Field(description="always true: queues that the agent left are not listed")
    since: str = Field(description="logged into this queue since")
    paused: bool
    pause_name: str | None = None
    paused_since: str | None = Field(
        default=None, description="start of the pause under this name; null when not paused"
    )
    inferred: bool = Field(
        default=False,
        description="no AgentLogin named this queue, a pause showed that the agent is logged in",
    )


class AgentCall(_Published):
    """One call that the agent has now."""

    call_id: str
    queue: str | None = None
    number: str | None = Field(default=None, description="who is at the other end, as sent")
    direction: Direction | None = None
    since: str = Field(description="when ringing, talking, consulting or monitoring began")


class AgentDay(_Published):
    """What one local day came to. Intervals are cut at local midnight; open ones count up to `updated_at`."""

    answered_in: int = Field(description="calls answered in role agent, on the day of the answer")
    answered_out: int = Field(description="calls answered in role caller, on the day of the answer")
    unanswered_out: int = Field(description="calls of role caller that ended without an answer")
    missed_rings: int = Field(
        description="ring attempts of role agent that ended no_answer, busy or rejected"
    )
    answered_elsewhere: int = Field(description="ring attempts of role agent that somebody else answered")
    transfers: int = Field(description="callers given away")
    talk_s: float = Field(description="union of talk with callers, roles agent and caller; no time-outs")
    ring_s: float = Field(description="union of ringing, roles agent and consult; no time-outs")
    login_s: float = Field(description="logged into at least one queue")
    paused_s: float = Field(description="paused in all queues")
    pauses: int = Field(
        description="pauses in all queues that began on this day; another name begins another"
    )
    pause_s: dict[str, float] = Field(description='`paused_s` by the name of the pause; no name is ""')


class QueueDay(_Published):
    """What one local day came to in one queue, role agent only."""

    answered: int
    missed_rings: int
    talk_s: float
    paused_s: float = Field(description="paused in this queue")


class AgentStatus(_Published):
    """What an agent does now, and what his last seven local days came to."""

    pbx: str
    agent: str = Field(description="the agent key, also the record's key")
    login: str | None = Field(default=None, description="last non-null value, as are line and email")
    line: str | None = None
    email: str | None = None
    presence: AgentPresence
    availability: Availability | None = Field(default=None, description="null when offline or unknown")
    activity: Activity
    state: AgentState = Field(description="what to show")
    since: str = Field(description="when `state` began")
    previous: PreviousState | None = Field(default=None, description="the state before it")
    queues: dict[str, QueueStatus] = Field(description="queues that the agent is logged into, by name")
    pause_name: str | None = Field(default=None, description="of the current pause, the one begun last")
    current_calls: tuple[AgentCall, ...] = Field(
        description="all but the ringing ones, in order of their beginning"
    )
    ringing_calls: tuple[AgentCall, ...]
    days: dict[str, AgentDay] = Field(description="by local date; the last seven, without empty ones")
    queue_days: dict[str, dict[str, QueueDay]] = Field(
        description="by queue and local date, without empty ones"
    )
    last_event_at: str
    revision: int = Field(description="counts changes; consumers keep the highest")
    updated_at: str = Field(description="the moment that this document describes")
