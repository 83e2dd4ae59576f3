"""
CallTimeline: what downstream teams read about one call. docs/call-rules.md says how events become one.

Times are RFC 3339, UTC, microseconds, `Z`; durations are seconds.

`null` means "not known" or "not yet"; nothing is invented, and inferred values are marked (`inferred`, `quality`, `confidence`).
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from voipex.agent_activity import LegResult, LegRole
from voipex.events import Direction, EventType, ReasonClass


class CallStatus(StrEnum):
    """
    Where the call stands.

    - `new`: known, nothing rang yet
    - `ringing`: a line rings, nobody talks with the caller
    - `talking`: a line has the caller, or one of several lines must have answered
    - `waiting`: something rang or talked, nothing does now (a queue between two attempts)
    - `ended`: by a Hangup or a CDR
    - `stale`: no end was reported; closed after a time without events, later events open it again
    """

    NEW = "new"
    RINGING = "ringing"
    TALKING = "talking"
    WAITING = "waiting"
    ENDED = "ended"
    STALE = "stale"


class Outcome(StrEnum):
    """
    How the call came out, as seen by the caller.

    - `answered`: a line that is neither consulted nor listening in took it; the PBX itself (a queue, an announcement) is none
    - `missed`: nobody answered an incoming call, or one of unknown direction
    - `no_answer`: nobody answered an outgoing call, also an internal one seen from its caller
    - `busy`, `rejected`, `unreachable`, `failed`: unanswered, by the reason of the Hangup that ended it
    - `unknown`: nothing but CDRs came
    """

    ANSWERED = "answered"
    MISSED = "missed"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    UNKNOWN = "unknown"


class EndedBy(StrEnum):
    """
    What ended the call.

    - `hangup`: a Hangup
    - `cdr`: a CDR without a Hangup within 5 s
    - `timeout`: nothing, see `stale`
    """

    HANGUP = "hangup"
    CDR = "cdr"
    TIMEOUT = "timeout"


class StartSource(StrEnum):
    """
    Where `started_at` is from.

    - `new_call`: NewCall was the earliest event
    - `first_event`: another event was
    - `unique_id`: only the end was seen, so the epoch in the UniqueId
    """

    NEW_CALL = "new_call"
    FIRST_EVENT = "first_event"
    UNIQUE_ID = "unique_id"


class TransferKind(StrEnum):
    """
    How the caller was given on.

    - `attended`: reported by an AttendedTransfer, or by the Hangup of a line that consulted
    - `cancelled`: a consultation that ended with the caller taken back
    - `blind_inferred`: not reported; one line left and another rang or answered after it
    - `handover_inferred`: not reported; another line was rung and answered while the first still talked
    """

    ATTENDED = "attended"
    CANCELLED = "cancelled"
    BLIND_INFERRED = "blind_inferred"
    HANDOVER_INFERRED = "handover_inferred"


class Confidence(StrEnum):
    """
    How far to trust it.

    - `high`: reported by the PBX
    - `medium`: inferred from the order and times of events
    - `low`: something that should belong to it was not reported, or came long after
    """

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class LinkKind(StrEnum):
    """
    What another call is to this one.

    - `consult_of`: a consultation of it, as a call of its own
    - `transfer_of`: its continuation after a transfer
    - `suggested`: times and numbers fit
    """

    CONSULT_OF = "consult_of"
    TRANSFER_OF = "transfer_of"
    SUGGESTED = "suggested"


class Effect(StrEnum):
    """
    What one event did to the call.

    - `opened`: it began the call
    - `rang`: it began a leg
    - `parallel`: another device of a ringing line
    - `answered`: it answered a leg
    - `left`: it ended a leg, the call goes on
    - `ended`: it ended the call
    - `transferred`: it gave the caller on
    - `cancelled`: it ended a consultation
    - `cdr`: a CDR
    - `filled`: it gave details only, one device less, an answer or a transfer that was reported before, or an answer that came late
    - `none`: nothing, see `note`
    """

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
    """
    Codes of anomalies, in the order in which they are reported. New codes may be added.

    - `no_new_call`: no NewCall came
    - `answered_without_ring`: a leg was answered that never rang (a pickup, or a lost Ringing)
    - `ring_after_answer`: a line rang that was talking already
    - `hangup_without_leg`: a line hung up that had neither rung nor answered
    - `unknown_event`: an event of an unknown type
    - `unknown_reason`: a hangup with an unknown reason
    - `clock_skew`: the epoch in the UniqueId lies over 60 s after the first event, or an event claimed a time more than five minutes beyond now
    - `end_inferred`: the end of the call or of a leg was not reported
    - `reopened`: a line rang or answered after the end
    - `late_event`: an event came after one that it should precede
    """

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
    """
    How far the timeline can be trusted.

    - `exact`: all that it shows was reported by events
    - `estimated`: something was inferred, or events leave a doubt: fields named in `inferred`, an end by CDR, a transfer that was not
      reported, an answer of nobody, an event left out as late
    - `partial`: NewCall or the start was not seen, or the call is stale
    """

    EXACT = "exact"
    ESTIMATED = "estimated"
    PARTIAL = "partial"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Transfer(_Model):
    """The caller was given from one line to another, or nearly."""

    at: str = Field(
        description="when it was reported; of an inferred one when the next line rang or answered, or when the first one left if that was later"
    )
    kind: TransferKind = Field(description="how")
    from_line: str | None = Field(description="line that gave the caller away")
    to_line: str | None = Field(description="line that took the caller over; null until one has")
    confidence: Confidence = Field(description="how far to trust that it happened like this")


class Link(_Model):
    """Another call that belongs to this one."""

    call_id: str = Field(description="UniqueId of the other call")
    kind: LinkKind = Field(description="what this call is to the other")
    confidence: Confidence = Field(description="how far to trust the link")
    why: str = Field(description="what it was found by")


class Leg(_Model):
    """One attempt to ring a line, and what became of it."""

    leg: int = Field(description="1, 2, … in the order in which legs began")
    line: str | None = Field(description="the extension that rang")
    login: str | None = Field(
        description="login of the agent at the line, the last one reported; null when nobody is logged in"
    )
    email: str | None = Field(description="e-mail of the agent at the line")
    queue: str | None = Field(description="queue that rang it; null when it was rung directly")
    role: LegRole = Field(description="part that it plays in the call")
    result: LegResult | None = Field(description="what became of it; null while open")
    ring_started_at: str | None = Field(
        description="when it began to ring; null when it was answered without (a pickup, or a lost Ringing)"
    )
    answered_at: str | None = Field(description="when it was answered; null when it was not")
    ended_at: str | None = Field(description="when the leg ended; null while open")
    ring_s: float | None = Field(
        description="seconds of ringing; null without a ring, while it rings, or when ended by timeout"
    )
    talk_s: float | None = Field(
        description="seconds with the caller; of a colleague who was consulted first, since the transfer; null when never answered, or not known"
    )
    consult_s: float | None = Field(
        description="seconds of consulting or of being consulted; null without any"
    )
    parallel_rings: int = Field(description="further devices of the line that rang with it")
    reason: str | None = Field(description="reason of its Hangup, as sent")
    reason_class: ReasonClass | None = Field(description="class of `reason`")
    inferred: tuple[str, ...] = Field(
        description="fields of this leg that no event reports: `answered_at` (also once an answer of it was withdrawn), `ended_at` (with its result)"
    )


class TimelineEvent(_Model):
    """One event of the call, and what it did."""

    event_id: str = Field(description="as in the event")
    type: EventType = Field(description="as in the event")
    event_name: str = Field(description="EventName as sent")
    at: str = Field(description="`received_at` of the event")
    line: str | None = Field(description="as in the event")
    effect: Effect = Field(description="what it did to the call")
    note: str | None = Field(description="why it had this effect, where that is not obvious")


class CallTimeline(_Model):
    """
    One call, from first event to end. All times are RFC 3339, UTC, microseconds, `Z`, durations are seconds.

    Null means "not known" or "not yet". Every field is always there. Per `call_id` the highest `revision` holds.
    """

    pbx: str = Field(description="name of the PBX, also the first part of the topic's name")
    call_id: str = Field(description="UniqueId, also the record's key")
    conversation_id: str = Field(
        description="numerically smallest UniqueId of the linked group; links are a later capability, until then it is `call_id`"
    )
    call_ids: tuple[str, ...] = Field(description="every UniqueId of the linked group")
    direction: Direction | None = Field(
        description="first one reported, except `barge`; `outgoing_local` replaces `incoming_local`, the other view of the same call"
    )
    from_: str | None = Field(
        alias="from", description="the caller, as sent: of NewCall, else of the earliest event"
    )
    to: str | None = Field(description="who was called, as sent: of NewCall, else of the earliest event")
    from_all: tuple[str, ...] = Field(
        description="every distinct `from`, in order; not of transfers, consult and monitor legs"
    )
    to_all: tuple[str, ...] = Field(description="every distinct `to`, likewise")
    from_e164: str | None = Field(
        description="`from` in E.164 when it is a full number in the region of the PBX"
    )
    to_e164: str | None = Field(description="`to` in E.164, likewise")
    queues: tuple[str, ...] = Field(description="names of queues, in order of first appearance")
    status: CallStatus = Field(description="where the call stands")
    outcome: Outcome | None = Field(description="how it came out; null while open and unanswered")
    last_segment_outcome: Outcome | None = Field(
        description="as outcome; that of a call never answered, if after the last talk a line rings or rang in vain, or the caller waited on until the end"
    )
    ended_by: EndedBy | None = Field(description="what ended the call; null while open")
    started_at: str | None = Field(
        description="time of the earliest event; see `started_at_source` for a call of which only the end was seen"
    )
    started_at_source: StartSource | None = Field(
        description="where `started_at` is from; null, as it is, when only the end was seen and the UniqueId has no epoch"
    )
    pbx_started_at: str | None = Field(description="start on the clock of the PBX, 1 s exact")
    first_ring_at: str | None = Field(description="first time that a line rang")
    answered_at: str | None = Field(description="first time that somebody got the caller")
    ended_at: str | None = Field(
        description="when the call ended; null while open; of a stale call the time at which it was given up"
    )
    cdr_at: str | None = Field(description="time of the last CDR")
    wait_s: float | None = Field(
        description="`answered_at` - `started_at`; null if never answered, or when no start was seen"
    )
    ring_s: float | None = Field(
        description="time in which anything rang (union; without monitors); 0 without any, null when nothing of it is complete"
    )
    talk_s: float | None = Field(
        description="time in which anybody talked with the caller (union); 0 if never answered, null when nothing of it is complete"
    )
    consult_s: float | None = Field(
        description="time in which colleagues were consulted (union); 0 without any, null when nothing of it is complete"
    )
    duration_s: float | None = Field(
        description="`ended_at` - `started_at`; null while open, when ended by `timeout`, or when no start was seen"
    )
    answered_by: tuple[str, ...] = Field(
        description="lines (else logins) in the order of getting the caller, repeats kept; a consulted colleague only after the transfer; the caller of a local call only while no other line has a leg"
    )
    final_line: str | None = Field(
        description="line that had the caller last: of those that answered the one that left last"
    )
    final_login: str | None = Field(description="login that had the caller last")
    transferred: bool = Field(description="the caller was given on at least once; not by `cancelled`")
    transfers: tuple[Transfer, ...] = Field(description="in order of time, cancelled ones too")
    monitors: tuple[str, ...] = Field(description="lines that barged in")
    links: tuple[Link, ...] = Field(
        description="other calls that belong to it; a later capability, empty until then"
    )
    legs: tuple[Leg, ...] = Field(description="one per attempt to ring a line, in order of beginning")
    events: tuple[TimelineEvent, ...] = Field(
        description="every event with what it did and why, in order of receipt; the first 500, fewer only if these exceed 128 KiB"
    )
    events_dropped: int = Field(description="how many more there are; the fold has seen them all")
    anomalies: tuple[Anomaly, ...] = Field(description="anomalies of the call")
    quality: Quality = Field(description="how far the whole can be trusted")
    cdr: dict[str, Any] | None = Field(
        description="contents of the last CDR: those of `from to line login email queue reason` that are known, the rest in `extra`"
    )
    dropped: dict[str, int] = Field(
        description="empty but for a timeline that would exceed 512 KiB: how many of the oldest entries are left out, by field; texts of more than 200 characters are then cut",
    )
    revision: int = Field(description="+1 per change; consumers keep the highest")
    updated_at: str = Field(description="the time that this document describes")
