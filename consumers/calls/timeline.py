"""
CallTimeline: what downstream teams read about one call (contract 4). Times are RFC 3339, UTC, microseconds, `Z`; durations are seconds.

`null` means "not known" or "not yet"; nothing is invented, and what was inferred says so (`inferred`, `quality`, `confidence`).
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bridge.events import Direction, EventType, ReasonClass
from consumers.activity import LegResult, LegRole


class CallStatus(StrEnum):
    NEW = "new"
    RINGING = "ringing"
    TALKING = "talking"
    WAITING = "waiting"
    ENDED = "ended"
    STALE = "stale"


class Outcome(StrEnum):
    ANSWERED = "answered"
    MISSED = "missed"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    UNKNOWN = "unknown"


class EndedBy(StrEnum):
    HANGUP = "hangup"
    CDR = "cdr"
    TIMEOUT = "timeout"


class StartSource(StrEnum):
    NEW_CALL = "new_call"
    FIRST_EVENT = "first_event"
    UNIQUE_ID = "unique_id"


class TransferKind(StrEnum):
    ATTENDED = "attended"
    CANCELLED = "cancelled"
    BLIND_INFERRED = "blind_inferred"
    HANDOVER_INFERRED = "handover_inferred"


class Confidence(StrEnum):
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class LinkKind(StrEnum):
    CONSULT_OF = "consult_of"
    TRANSFER_OF = "transfer_of"
    SUGGESTED = "suggested"


class Effect(StrEnum):
    """What one event did to the call."""

    OPENED = "opened"
    RANG = "rang"
    PARALLEL = "parallel"
    ANSWERED = "answered"
    LEFT = "left"
    ENDED = "ended"
    TRANSFERRED = "transferred"
    CANCELLED = "cancelled"
    CDR = "cdr"
    FILLED = "filled"
    NONE = "none"


class Anomaly(StrEnum):
    """Codes of what was odd, in the order in which they are told."""

    NO_NEW_CALL = "no_new_call"
    ANSWERED_WITHOUT_RING = "answered_without_ring"
    RING_AFTER_ANSWER = "ring_after_answer"
    HANGUP_WITHOUT_LEG = "hangup_without_leg"
    UNKNOWN_EVENT = "unknown_event"
    UNKNOWN_REASON = "unknown_reason"
    CLOCK_SKEW = "clock_skew"
    END_INFERRED = "end_inferred"
    REOPENED = "reopened"
    LATE_EVENT = "late_event"


class Quality(StrEnum):
    EXACT = "exact"
    ESTIMATED = "estimated"
    PARTIAL = "partial"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Transfer(_Model):
    at: str = Field(description="when the caller left the line that gave them away")
    kind: TransferKind
    from_line: str | None
    to_line: str | None = Field(description="null when nobody is known to have taken over")
    confidence: Confidence


class Link(_Model):
    call_id: str
    kind: LinkKind
    confidence: Confidence
    why: str


class Leg(_Model):
    """One attempt to ring a line, and what became of it."""

    leg: int = Field(description="1, 2, … in the order in which legs began")
    line: str | None
    login: str | None
    email: str | None
    queue: str | None
    role: LegRole
    result: LegResult | None = Field(description="null while open")
    ring_started_at: str | None = Field(
        description="null when it was answered without a ring (a pickup, or a lost Ringing)"
    )
    answered_at: str | None
    ended_at: str | None
    ring_s: float | None = Field(description="null without a ring, while open, or when ended by timeout")
    talk_s: float | None = Field(
        description="with the caller; a colleague who was consulted first: since the transfer"
    )
    consult_s: float | None = Field(description="consulting or being consulted")
    parallel_rings: int = Field(description="further devices of the line that rang with it")
    reason: str | None
    reason_class: ReasonClass | None
    inferred: tuple[str, ...] = Field(description="fields of this leg that no event told")


class TimelineEvent(_Model):
    event_id: str
    type: EventType
    event_name: str = Field(description="EventName as sent")
    at: str
    line: str | None
    effect: Effect
    note: str | None = Field(description="why it had this effect, where that is not obvious")


class CallTimeline(_Model):
    """One call, from first event to end."""

    pbx: str
    call_id: str = Field(description="UniqueId")
    conversation_id: str = Field(description="numerically smallest UniqueId of the linked group")
    call_ids: tuple[str, ...] = Field(description="every UniqueId of the linked group")
    direction: Direction | None = Field(description="first one told, except `barge`")
    from_: str | None = Field(alias="from", description="of NewCall, else of the earliest event")
    to: str | None = Field(description="of NewCall, else of the earliest event")
    from_all: tuple[str, ...] = Field(
        description="every distinct value; not of transfers, consult and monitor legs"
    )
    to_all: tuple[str, ...]
    from_e164: str | None
    to_e164: str | None
    queues: tuple[str, ...] = Field(description="names in order of first appearance")
    status: CallStatus
    outcome: Outcome | None = Field(description="null while open and unanswered")
    last_segment_outcome: Outcome | None = Field(
        description="as outcome; if a customer leg rang unanswered after the last answer, that of a call never answered"
    )
    ended_by: EndedBy | None
    started_at: str | None
    started_at_source: StartSource | None = Field(
        description="`unique_id`: no start was seen; null without an epoch"
    )
    pbx_started_at: str | None = Field(description="start on the clock of the PBX, 1 s exact")
    first_ring_at: str | None
    answered_at: str | None
    ended_at: str | None
    cdr_at: str | None
    wait_s: float | None = Field(description="answered_at - started_at")
    ring_s: float | None = Field(description="union of all ring intervals but monitors'")
    talk_s: float | None = Field(
        description="union of the time with the caller; 0 if never answered, null while none of it is complete"
    )
    consult_s: float | None = Field(description="union of answered consultations")
    duration_s: float | None = Field(description="ended_at - started_at")
    answered_by: tuple[str, ...] = Field(description="lines (else logins) in the order of getting the caller")
    final_line: str | None
    final_login: str | None
    transferred: bool
    transfers: tuple[Transfer, ...]
    monitors: tuple[str, ...] = Field(description="lines that barged in")
    links: tuple[Link, ...]
    legs: tuple[Leg, ...]
    events: tuple[TimelineEvent, ...] = Field(description="the first 500")
    events_dropped: int = Field(description="how many more there are; the fold has seen them all")
    anomalies: tuple[Anomaly, ...]
    quality: Quality
    cdr: dict[str, Any] | None = Field(description="what the last CDR told, its unknown fields in `extra`")
    revision: int = Field(description="+1 per change; keep the highest")
    updated_at: str = Field(description="the moment this was folded for")
