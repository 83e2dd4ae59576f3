"""
AgentStatus: the published state of one agent, value of `<pbx>.agent.status.v1`.

All times are RFC 3339, UTC, microseconds, `Z`; durations are seconds. Null means "not known" or "not so".
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from voipex.events import Direction


class AgentPresence(StrEnum):
    """
    Presence of the agent, by the PBX's agent events.

    - `offline`: logged out of all queues
    - `logged_in`: logged into at least one
    - `implicit`: never logs in, but takes calls
    - `unknown`: no event for 24 h, or none yet that shows it
    """

    OFFLINE = "offline"
    LOGGED_IN = "logged_in"
    IMPLICIT = "implicit"
    UNKNOWN = "unknown"


class Availability(StrEnum):
    """
    Whether queues may ring the agent.

    - `available`: paused in no queue
    - `partially_paused`: paused in some of the queues
    - `paused`: paused in all of them
    """

    AVAILABLE = "available"
    PARTIALLY_PAUSED = "partially_paused"
    PAUSED = "paused"


class Activity(StrEnum):
    """
    What the agent does, by the calls. Of several the first of: on a call (begun last), monitoring, consulting, ringing.

    - `idle`: nothing
    - `ringing`: the agent's line rings
    - `on_call_in`: talks with a caller
    - `on_call_out`: makes a call, from its first ring on
    - `consulting`: is asked by a colleague
    - `monitoring`: listens in
    """

    IDLE = "idle"
    RINGING = "ringing"
    ON_CALL_IN = "on_call_in"
    ON_CALL_OUT = "on_call_out"
    CONSULTING = "consulting"
    MONITORING = "monitoring"


class AgentState(StrEnum):
    """
    What to show: the first that holds, in this order.

    - `on_call`: in a call with a caller, in or out
    - `monitoring`: listens in
    - `consulting`: is asked by a colleague
    - `ringing`: the agent's line rings
    - `paused`, `partially_paused`, `available`: logged in, by `availability`
    - `implicit`: never logs in, but takes calls
    - `offline`: logged out
    - `unknown`: no event for 24 h; shown instead of the idle states
    """

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
    """The state before the current one."""

    state: AgentState = Field(description="what was shown")
    since: str = Field(description="when it began; it ended when the current one began")


class QueueStatus(_Published):
    """The agent in one queue, logged in."""

    logged_in: bool = Field(description="always true: queues that the agent left are not listed")
    since: str = Field(description="logged into this queue since")
    paused: bool = Field(description="paused in this queue")
    pause_name: str | None = Field(
        default=None, description="name of the pause; null when not paused, or without a name"
    )
    paused_since: str | None = Field(
        default=None, description="start of the pause under this name; null when not paused"
    )
    inferred: bool = Field(
        default=False,
        description="the login is inferred: a pause showed it, or the AgentLogin named no queue; or the end of a pause is, a call of the queue rang",
    )


class AgentCall(_Published):
    """One call that the agent has now."""

    call_id: str = Field(description="UniqueId, `call_id` of the timeline")
    queue: str | None = Field(default=None, description="queue that rang the agent")
    number: str | None = Field(default=None, description="number at the other end, as sent")
    direction: Direction | None = Field(default=None, description="of the call")
    since: str = Field(description="when ringing, talking, consulting or monitoring began")


class AgentDay(_Published):
    """What one local day came to. Intervals are cut at local midnight; open ones count up to `updated_at`."""

    answered_in: int = Field(description="rounds in which the agent got the caller, on the day of the answer")
    answered_out: int = Field(description="calls made that were answered, on the day of the first answer")
    unanswered_out: int = Field(description="calls made that ended without an answer, none by time-out")
    missed_rings: int = Field(
        description="rounds without an answer in which a phone ended no_answer, busy or rejected; phones of one agent that ring in one call at once are one round"
    )
    answered_elsewhere: int = Field(
        description="other rounds without an answer in which a phone ended answered_elsewhere"
    )
    transfers: int = Field(description="callers given away")
    talk_s: float = Field(
        description="time with callers in roles agent and caller (union); without legs ended by timeout"
    )
    ring_s: float = Field(
        description="time of ringing in roles agent and consult (union), up to an answer or the end; without rings that ended by timeout"
    )
    login_s: float = Field(description="time logged into at least one queue")
    paused_s: float = Field(description="time paused in all queues")
    pauses: int = Field(
        description="pauses in all queues that began on this day; another name begins another"
    )
    pause_s: dict[str, float] = Field(description='`paused_s` by the name of the pause; no name is ""')


class QueueDay(_Published):
    """What one local day came to in one queue, role agent only."""

    answered: int = Field(description="calls of the queue that the agent answered, on the day of the answer")
    missed_rings: int = Field(description="rounds of the queue that count as `missed_rings` of the day")
    talk_s: float = Field(description="time with callers of the queue; without legs ended by timeout")
    paused_s: float = Field(description="time paused in this queue")


class AgentStatus(_Published):
    """
    What an agent does now, and what the last seven local days came to. Times are RFC 3339, UTC, microseconds, `Z`, durations are seconds.

    Null means "not known" or "not so". Every field is always there. Per `agent` the highest `revision` holds.
    """

    pbx: str = Field(description="name of the PBX, also the first part of the topic's name")
    agent: str = Field(
        description="the agent key, also the record's key: login in lower case, else `line:<line>`, else `email:<e-mail>`"
    )
    login: str | None = Field(default=None, description="last one reported, as are line and e-mail")
    line: str | None = Field(default=None, description="extension where the agent was last")
    email: str | None = Field(default=None, description="e-mail of the agent")
    presence: AgentPresence = Field(description="presence of the agent")
    availability: Availability | None = Field(
        default=None, description="whether queues may ring the agent; null when offline or unknown"
    )
    activity: Activity = Field(description="what the agent does in calls")
    state: AgentState = Field(description="what to show, of the three above")
    since: str = Field(description="when `state` began")
    previous: PreviousState | None = Field(default=None, description="the state before it")
    queues: dict[str, QueueStatus] = Field(description="queues that the agent is logged into, by name")
    pause_name: str | None = Field(default=None, description="of the current pause, the one begun last")
    current_calls: tuple[AgentCall, ...] = Field(
        description="all but the ringing ones, each call once, in order of their beginning"
    )
    ringing_calls: tuple[AgentCall, ...] = Field(
        description="calls that only ring now, each call once, in order of their beginning"
    )
    days: dict[str, AgentDay] = Field(description="by local date; the last seven, without empty ones")
    queue_days: dict[str, dict[str, QueueDay]] = Field(
        description="by queue and local date, without empty ones"
    )
    dropped: dict[str, int] = Field(
        description="empty but for a status that would exceed 64 KiB: how many of the oldest entries are left out, by field; texts of more than 200 characters are then cut",
    )
    last_event_at: str = Field(
        description="time of the last event of the agent or of one of the agent's legs"
    )
    revision: int = Field(description="+1 per change; consumers keep the highest")
    updated_at: str = Field(
        description="the time that this document describes; open intervals count up to it"
    )
