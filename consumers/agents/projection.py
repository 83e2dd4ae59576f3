"""AgentProjection: the agent fold as a projection of the engine. Input: agent events and activity records. Output: AgentStatus."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from zlib import adler32, crc32
from zoneinfo import ZoneInfo

import orjson

from consumers.agents import encoding, ownership
from consumers.agents import memory as memories
from consumers.agents.days import LocalDays, Window, published_day, published_queue_day
from consumers.agents.fold import BEGINNING, FORGET_US, SILENCE_US, Picture, availability_of, presence_of
from consumers.agents.legs import (
    DIRECTIONS,
    IDLE,
    PRECEDENCE,
    RESULTS,
    RINGING,
    ROLES,
    CallOrder,
    Leg,
    Phase,
    call_order,
    foremost,
)
from consumers.agents.lines import LINE_PREFIX, SentClaim, claim_record, read_claim
from consumers.agents.memory import AgentState
from consumers.agents.presence import IN, UNNAMED, AgentEvent
from consumers.engine.bounds import Container, bounded, nested
from consumers.engine.projection import NO_LIMIT_US, NO_PARTS, SHOWN_AHEAD_US, Document
from voipex.events import agent_key
from voipex.timestamps import format_rfc3339_cached, parse_rfc3339_in_range
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, AGENT_LINES, AGENT_STATE, AGENT_STATUS, TopicSpec

CE_TYPE: Final = "voipex.agent.status.v1"
LINES_CE_TYPE: Final = "voipex.agent.lines.v1"


class AgentProjection:
    """
    Folds one agent. The law of `Projection` holds for inputs of the last seven local days; older ones change nothing.

    When documents change by time alone (`next_timer`): silence (24 h), local midnight while the agent is logged in or in a call, and the end
    (90 d). Midnight costs one document per agent and day, and whoever reads yesterday's totals in the morning finds them complete.
    That open intervals grow every moment is no change: they count up to `updated_at`.
    """

    name: ClassVar = "agents"
    fold_version: ClassVar = memories.FOLD_VERSION
    inputs: ClassVar[Sequence[TopicSpec]] = (AGENT_EVENTS, AGENT_ACTIVITY, AGENT_LINES)
    outputs: ClassVar[Sequence[TopicSpec]] = (AGENT_STATUS, AGENT_LINES)
    repartitioned: ClassVar[Sequence[TopicSpec]] = (AGENT_LINES,)
    changelog: ClassVar = AGENT_STATE
    max_batch_records: ClassVar = 4_000  # a few keys each, and most come late when calls catch up too

    def __init__(self, time_zone: str = "Europe/Prague") -> None:
        """`time_zone`: of the local days. Raises `zoneinfo.ZoneInfoNotFoundError` when there is none of this name."""
        self._local_days = LocalDays(ZoneInfo(time_zone))

    def initial_state(self, pbx: str, key: str) -> AgentState:
        return AgentState(pbx, key)

    def fold(self, state: AgentState, kind: TopicSpec, value: bytes) -> AgentState:
        """Take one record. Raises ValueError when it cannot be read, or is of another agent."""
        try:
            record = orjson.loads(value)
            if kind == AGENT_EVENTS:
                event = _event_of(record)
                _check_owner(state.key, agent_key(event.login, event.line, event.email))
                return memories.take_event(state, event)
            if kind == AGENT_LINES and record["type"] == "claim":
                _check_owner(state.key, LINE_PREFIX + record["line"])
                return ownership.take_claim(state, read_claim(record))
            leg = _leg_of(record)
            if kind == AGENT_LINES:
                leg.forwarded = _number_of(record["sequence"])
            _check_owner(state.key, record["agent"])
            return memories.take_leg(state, leg)
        except (KeyError, TypeError, AttributeError) as fault:
            raise ValueError(f"not a record of {kind.suffix}: {fault!r}") from fault

    def emit(
        self, state: AgentState, as_of_us: int, limit_us: int = NO_LIMIT_US
    ) -> tuple[AgentState, Sequence[Document]]:
        as_of_us = min(as_of_us, limit_us)
        state, forwarded = ownership.assign(state, as_of_us)
        sent = [_forwarded(agent, record) for agent, record in forwarded]
        if state.to_send:
            sent += [_claim(each) for each in state.to_send]
            state = state.copy()
            state.to_send = ()
        state, documents = self._status(state, as_of_us, limit_us)
        return state, (*documents, *sent)

    def _status(
        self, state: AgentState, as_of_us: int, limit_us: int
    ) -> tuple[AgentState, Sequence[Document]]:
        # Records may be ahead of this moment (another clock, the other topic): a document is never older than its content, but for content
        # from beyond the limit, which shows without that its time counts.
        until_us = max(min(max(as_of_us, state.touched_us), limit_us), state.emitted_us)
        window = self._local_days.window(until_us)
        shown_us = limit_us + SHOWN_AHEAD_US
        state, walk = memories.advance(state, as_of_us, until_us, self._local_days)
        walk.branch()
        walk.over(until_us)
        walk.look_ahead(shown_us)
        picture = walk.picture
        if picture.seen_us is not None:
            walk.identify(
                [leg for leg in state.legs.values() if leg.counts_here and leg.start_us <= shown_us]
            )
            walk.look_at_last()
        running = list(walk.active.values())
        due_us = _due(picture, running, until_us, window)
        shows_next_us = _shows_next(state, shown_us)
        if due_us is None:
            return _forgotten(state, until_us, shows_next_us)
        due_us = min(due_us, shows_next_us)
        content = _content(state, picture, running, until_us, window)
        digest = _digest(content)
        revision = state.revision if digest == state.digest else state.revision + 1
        emitted = state.copy()
        emitted.digest, emitted.status, emitted.due_us, emitted.emitted_us = (
            digest,
            picture.state or "",
            due_us,
            until_us,
        )
        if revision == state.revision:
            return emitted, ()
        emitted.revision = revision
        value = b'%b,"revision":%d,"updated_at":"%b"}' % (
            content,
            revision,
            format_rfc3339_cached(until_us).encode(),
        )
        return emitted, (_document(state.key, value, revision),)

    def next_timer(self, state: AgentState) -> int | None:
        return state.due_us

    def expires_at(self, state: AgentState) -> int | None:
        """
        Unseen for 90 days, or never seen: nothing came, or everything that came was taken back. None while a leg is open: a call that
        goes on is no silence.
        """
        return None if any(leg.is_open for leg in state.legs.values()) else state.touched_us + FORGET_US

    def status(self, state: AgentState) -> str:
        """`state` of the status: available, paused, on_call and so on; empty when there is none."""
        return state.status

    def encode(self, state: AgentState) -> bytes:
        return encoding.encode(state)

    def take_parts(self, state: AgentState) -> tuple[AgentState, Mapping[str, bytes | None]]:
        return encoding.take_parts(state)

    def decode(self, value: bytes, parts: Mapping[str, bytes] = NO_PARTS) -> AgentState:
        return encoding.decode(value, parts, self._local_days)


def _due(picture: Picture, running: Sequence[Phase], until_us: int, window: Window) -> int | None:
    """The next moment that changes the document; None when there is none to change: the agent is unknown or forgotten."""
    if picture.seen_us is None or picture.last_event_us == BEGINNING:  # or everything reported was revoked
        return None
    if running:
        return window.day.end_us
    if until_us >= picture.seen_us + FORGET_US:
        return None
    silence_us = picture.seen_us + SILENCE_US
    if until_us >= silence_us:
        return picture.seen_us + FORGET_US
    return min(silence_us, window.day.end_us) if picture.summary.status == IN else silence_us


def _shows_next(state: AgentState, shown_us: int) -> int:
    """When content from beyond the limit, which does not show yet, will."""
    if state.touched_us <= shown_us:
        return NO_LIMIT_US
    moments_us = [event.at_us for event in state.events.values()]
    moments_us += [leg.start_us for leg in state.legs.values()]
    return min([each for each in moments_us if each > shown_us], default=NO_LIMIT_US) - SHOWN_AHEAD_US


def _forgotten(state: AgentState, until_us: int, shows_next_us: int) -> tuple[AgentState, Sequence[Document]]:
    """Nothing is known of this agent (any more): delete the document, should there be one."""
    expires_us = state.touched_us + FORGET_US
    is_over = until_us >= expires_us
    state = memories.forget(state) if is_over else state.copy()
    state.emitted_us, state.due_us = until_us, None if is_over else min(expires_us, shows_next_us)
    if not state.digest:
        return state, ()
    state.digest, state.status, state.revision = 0, "", state.revision + 1
    return state, (_document(state.key, None, state.revision),)


def _document(key: str, value: bytes | None, revision: int) -> Document:
    return Document(AGENT_STATUS, key, value, CE_TYPE, f"{key}@{revision}", revision)


def _claim(sent: SentClaim) -> Document:
    key, (_, claim_id, revision, _, _) = LINE_PREFIX + sent.line, sent.claim
    value = orjson.dumps(claim_record(sent.line, sent.claim))
    return Document(AGENT_LINES, key, value, LINES_CE_TYPE, f"{claim_id}@{revision}", revision)


def _forwarded(agent: str, record: dict[str, Any]) -> Document:
    ce_id = f"{record['call_id']}/{record['leg']}@{record['revision']}.{record['sequence']}"
    return Document(AGENT_LINES, agent, orjson.dumps(record), LINES_CE_TYPE, ce_id, record["revision"])


def _content(
    state: AgentState, picture: Picture, running: list[Phase], until_us: int, window: Window
) -> bytes:
    """The document without its end: revision and updated_at."""
    presence = presence_of(picture, silent=not running and picture.is_silent(until_us))
    shown = _one_per_call(running)
    calls = [phase for phase in shown if phase.activity != RINGING]
    ringing = [phase for phase in shown if phase.activity == RINGING]
    dropped = {
        name: len(phases) - MAX_CALLS
        for name, phases in (("current_calls", calls), ("ringing_calls", ringing))
        if len(phases) > MAX_CALLS
    }
    head = {
        "pbx": state.pbx,
        "agent": state.key,
        "login": picture.login and picture.login[1],
        "line": picture.line and picture.line[1],
        "email": picture.email and picture.email[1],
        "presence": presence,
        "availability": availability_of(picture, presence),
        "activity": foremost(running).activity if running else IDLE,
        "state": picture.state,
        "since": format_rfc3339_cached(picture.since_us),
        "previous": picture.previous
        and {"state": picture.previous[0], "since": format_rfc3339_cached(picture.previous[1])},
        "pause_name": picture.summary.pause_name,
        "current_calls": [_call(phase) for phase in calls[-MAX_CALLS:]],
        "ringing_calls": [_call(phase) for phase in ringing[-MAX_CALLS:]],
        "last_event_at": format_rfc3339_cached(picture.last_event_us),
    }
    content = b'%b,"queues":%b,"days":{%b},"queue_days":{%b},"dropped":%b' % (
        orjson.dumps(head)[:-1],
        picture.summary.queues,
        memories.members_of(state.past.days, picture.days, published_day, window.first_shown),
        _queue_days(state.past.queue_days, picture, window.first_shown),
        orjson.dumps(dropped),
    )
    return content if len(content) < _LARGE_BYTES else _bounded(orjson.loads(content + b"}"))


_LARGE_BYTES: Final = 32 * 1024

MAX_CALLS: Final = 50
"""Nobody has more at once; a login that many phones share may."""


def _bounded(status: dict[str, Any]) -> bytes:
    """The content, of at most 64 KiB."""
    containers = [
        Container(name, status, name) for name in ("current_calls", "ringing_calls", "queues", "queue_days")
    ]
    return bounded(status, [*containers, *nested("days", status, "pause_s")])[:-1]


def _one_per_call(running: Sequence[Phase]) -> Sequence[Phase]:
    """Each call once, by the precedence of activity, then by what began first; in the order of their beginning."""
    if len(running) < 2:
        return running
    chosen: dict[str, Phase] = {}
    for phase in sorted(running, key=_by_beginning):
        known = chosen.get(phase.leg.call_id)
        if known is None or PRECEDENCE[phase.activity] > PRECEDENCE[known.activity]:
            chosen[phase.leg.call_id] = phase
    return sorted(chosen.values(), key=_by_beginning)


def _by_beginning(phase: Phase) -> tuple[int, CallOrder, int]:
    return (phase.since_us, call_order(phase.leg.call_id), phase.leg.leg)


def _call(phase: Phase) -> dict[str, Any]:
    leg = phase.leg
    return {
        "call_id": leg.call_id,
        "queue": leg.queue,
        "number": leg.number,
        "direction": leg.direction,
        "since": format_rfc3339_cached(phase.since_us),
    }


def _queue_days(past: Mapping[bytes, bytes], picture: Picture, first_shown: str) -> bytes:
    texts = dict(past)
    for queue, days in picture.queue_days.items():
        if queue != UNNAMED:
            name = orjson.dumps(queue)
            text = memories.members_of(texts.get(name, b""), days, published_queue_day, first_shown)
            if text:
                texts[name] = text
    return b",".join([b"%b:{%b}" % each for each in sorted(texts.items())])


def _digest(content: bytes) -> int:
    """
    Tells documents apart that follow each other; never 0.

    Two checksums make 64 bits: nobody forges his status in order not to be published, and they cost a third of a hash.
    """
    return crc32(content) << 32 | adler32(content) or 1


# ---------------------------------------------------------------- reading records, fast


def _leg_of(record: dict[str, Any]) -> Leg:
    get = record.get
    removed = get("removed", False) is True
    ring_us = _optional_us(get("ring_started_at"))
    answered_us = _optional_us(get("answered_at"))
    talk_us = _optional_us(get("talk_started_at"))
    ended_us = _optional_us(get("ended_at"))
    last_event_us = parse_rfc3339_in_range(record["last_event_at"])
    role, result, direction = record["role"], get("result"), get("direction")
    if role not in ROLES or result not in RESULTS or direction not in DIRECTIONS:
        raise ValueError("an unknown role, result or direction")
    leg, revision = record["leg"], record["revision"]
    if type(leg) is not int or type(revision) is not int:
        raise TypeError("leg and revision are numbers")
    call_id = record["call_id"]
    queue, login, line, email = get("queue"), get("login"), get("line"), get("email")
    _check_words(call_id, queue, login, line, email, get("number"))
    return Leg(
        leg,
        _given(call_id),
        revision,
        removed,
        role,
        ring_us,
        answered_us,
        talk_us,
        ended_us,
        result,
        _optional_us(get("transferred_at")),
        last_event_us,
        queue or None,
        login or None,
        line or None,
        email or None,
        direction,
        get("number"),
        _optional_us(get("call_answered_at")),
    )


def _event_of(record: dict[str, Any]) -> AgentEvent:
    get = record.get
    event_id, kind = record["event_id"], record["type"]
    queue, pause_name = get("queue"), get("pause_name")
    login, line, email = get("login"), get("line"), get("email")
    _check_words(event_id, kind, queue, pause_name, login, line, email)
    return AgentEvent(
        parse_rfc3339_in_range(record["received_at"]),
        _given(event_id),
        _given(kind),
        queue or None,
        pause_name or None,
        login or None,
        line or None,
        email or None,
    )


def _check_owner(key: str, agent: str | None) -> None:
    """A record under a key that is not its own would count for somebody else."""
    if agent != key:
        raise ValueError("a record of another agent")


_WORD_TYPES: Final = {str, type(None)}


def _check_words(*words: object) -> None:
    """Texts, or None; a blank one (which we do not write) is "not known" too."""
    if not _WORD_TYPES.issuperset(map(type, words)):
        raise TypeError("a text was expected")


def _given(word: str | None) -> str:
    if word is None:
        raise TypeError("a text is missing")
    return word


def _number_of(value: object) -> int:
    if type(value) is not int:
        raise TypeError("a number was expected")
    return value


def _optional_us(text: str | None) -> int | None:
    return None if text is None else parse_rfc3339_in_range(text)
