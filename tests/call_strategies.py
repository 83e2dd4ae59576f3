"""
Calls for property tests: plausible ones (scripts of what a PBX does) with events lost, repeated and delayed, and hostile ones in which
anything may follow anything. Few lines and logins, so that they collide; times cluster around the limits of the rules.
"""

from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

from consumers.calls.events import CallEvent, call_event
from voipex.events import EVENT_TYPES, Direction, Event, EventType, ReasonClass
from voipex.timestamps import format_rfc3339

CALL_ID: Final = "1772438400.1"
BASE_US: Final = 1_772_438_400_000_000
S: Final = 1_000_000

GAPS_US: Final = (
    *(0, 0, 1, S // 10, S // 2, S),
    *(2 * S - 1, 2 * S, 2 * S + 1, 3 * S, 3 * S + 1, 4 * S),
    *(5 * S - 1, 5 * S, 5 * S + 1, 10 * S, 10 * S + 1),
    *(60 * S, 180 * S - 1, 180 * S, 180 * S + 1),
    *(3600 * S, 3600 * S + 1, 4 * 3600 * S, 4 * 3600 * S + 1),
)

PARTIES: Final[tuple[dict[str, str | None], ...]] = (
    {"line": "201", "login": "ada"},
    {"line": "201", "login": "ada"},
    {"line": "202", "login": "bob"},
    {"line": "202", "login": "bob"},
    {"line": "203"},
    {"line": "201"},
    {"login": "ADA"},
    {"login": "bob", "email": "bob@example.com"},
    {"email": "Bob@example.com"},
    {"line": "20", "login": "cervenka"},
    {},
)

REASONS: Final[tuple[tuple[str | None, ReasonClass | None], ...]] = (
    (None, None),
    ("Normal Clearing", ReasonClass.NORMAL),
    ("Normal Clearing", ReasonClass.NORMAL),
    ("User busy", ReasonClass.BUSY),
    ("No answer", ReasonClass.NO_ANSWER),
    ("Subscriber absent", ReasonClass.UNREACHABLE),
    ("Call Rejected", ReasonClass.REJECTED),
    ("Answered elsewhere", ReasonClass.ANSWERED_ELSEWHERE),
    ("Answered elsewhere", ReasonClass.ANSWERED_ELSEWHERE),
    ("Unallocated number", ReasonClass.FAILED_NUMBER),
    ("Network out of order", ReasonClass.FAILED_NETWORK),
    ("Něco nového", ReasonClass.OTHER),
)

EVENT_NAMES: Final = {
    **{type_: name for name, type_ in EVENT_TYPES.items()},
    EventType.UNKNOWN: "QueueJoined",
}


def event(type_: EventType, at_us: int, number: int = 0, **fields: Any) -> Event:
    """An event at *at_us* after the base, as the bridge publishes it; `number` makes its id."""
    return Event(
        event_id=f"019cade5-4c00-7000-8000-{number:012x}",
        pbx="voipex",
        type=type_,
        event_name=EVENT_NAMES[type_],
        received_at=format_rfc3339(BASE_US + at_us),
        unique_id=CALL_ID,
        pbx_started_at=format_rfc3339(BASE_US),
        **fields,
    )


_PARTY = st.sampled_from(PARTIES)
_REASON = st.sampled_from(REASONS)
_GAP = st.sampled_from(GAPS_US)
_FROM = st.sampled_from(("600000001", "600000001", "201", "202", "203", "20", None))
_DIRECTION = st.sampled_from(
    (
        *(Direction.INCOMING, Direction.INCOMING, Direction.INCOMING, None),
        *(Direction.OUTGOING, Direction.OUTGOING_LOCAL, Direction.BARGE),
    )
)
_TYPE = st.sampled_from(
    (
        *(EventType.NEW_CALL, EventType.CDR, EventType.UNKNOWN, EventType.AGENT_LOGIN),
        *(EventType.RINGING,) * 6,
        *(EventType.ANSWERED,) * 5,
        *(EventType.HANGUP,) * 6,
        *(EventType.ATTENDED_TRANSFER,) * 2,
        EventType.ATTENDED_TRANSFER_CANCELLED,
    )
)


@st.composite
def hostile(draw: st.DrawFn, max_size: int = 14) -> list[CallEvent]:
    """Events of any type in any order."""
    direction = draw(_DIRECTION)
    at_us = 0
    events = []
    for number in range(draw(st.integers(1, max_size))):
        at_us += draw(_GAP)
        type_ = draw(_TYPE)
        reason, reason_class = draw(_REASON) if type_ in (EventType.HANGUP, EventType.CDR) else (None, None)
        events.append(
            call_event(
                event(
                    type_,
                    at_us,
                    draw(st.integers(0, 7)) << 8 | number,  # equal times in any order of ids
                    direction=draw(_DIRECTION) if draw(st.integers(0, 5)) == 0 else direction,
                    from_=draw(_FROM),
                    to=draw(st.sampled_from(("222333444", None))),
                    queue=draw(st.sampled_from((None, None, "sales", "support"))),
                    reason=reason,
                    reason_class=reason_class,
                    extra={"billsec": 7} if type_ is EventType.CDR else {},
                    **draw(_PARTY),
                )
            )
        )
    return sorted(events)


Step = tuple[EventType, str | None, dict[str, Any]]


def _ring(line: str, **fields: Any) -> Step:
    return (EventType.RINGING, line, fields)


def _answer(line: str | None, **fields: Any) -> Step:
    return (EventType.ANSWERED, line, fields)


def _hangup(line: str | None, reason: int = 1, **fields: Any) -> Step:
    text, reason_class = REASONS[reason]
    return (EventType.HANGUP, line, {"reason": text, "reason_class": reason_class, **fields})


_ELSEWHERE: Final = 7
_BUSY: Final = 3
_RING_ALL: Final = (_ring("201"), _ring("202"), _ring("203"))
_CONSULT: Final = (_ring("201"), _answer("201"), _ring("202", from_="201"))
_BARGE: Final[dict[str, Any]] = {"direction": Direction.BARGE}
_OUT: Final[dict[str, Any]] = {"direction": Direction.OUTGOING, "from_": "20"}

SCRIPTS: Final[tuple[tuple[Step, ...], ...]] = (
    (_ring("201"), _answer("201"), _hangup("201")),
    (*_RING_ALL, _answer("202"), _hangup("201", _ELSEWHERE), _hangup("203", _ELSEWHERE), _hangup("202")),
    (*_RING_ALL, _hangup("201"), _hangup("202"), _hangup("203", _ELSEWHERE), _hangup(None, 4)),
    (_ring("201"), _hangup("201", _BUSY), _ring("202"), _answer("202"), _hangup("202")),
    (_ring("201"), _answer("201"), _hangup("201"), _ring("202"), _answer("202"), _hangup("202")),
    (_ring("201"), _answer("201"), _ring("202"), _answer("202"), _hangup("201"), _hangup("202")),
    (*_CONSULT, _answer("202"), (EventType.ATTENDED_TRANSFER, "201", {}), _hangup("202")),
    (*_CONSULT, (EventType.ATTENDED_TRANSFER, None, {}), _answer("202"), _hangup("202")),
    (
        *_CONSULT,
        _answer("202"),
        (EventType.ATTENDED_TRANSFER_CANCELLED, "201", {}),
        _hangup("202"),
        _hangup("201"),
    ),
    (*_CONSULT, _answer("202"), _hangup("201"), (EventType.ATTENDED_TRANSFER, "201", {}), _hangup("202")),
    (*_CONSULT, _answer("202"), _ring("203", from_="202"), _hangup("202"), _hangup("201")),
    (
        _ring("201"),
        _answer("201"),
        _ring("203", **_BARGE),
        _answer("203", **_BARGE),
        _hangup("203", **_BARGE),
    ),
    (_ring("20", **_OUT), _answer("20", **_OUT), _hangup("20", **_OUT)),
    (_ring("20", **_OUT), _hangup("20", _BUSY, **_OUT), _hangup(None, 4, **_OUT)),
    (_ring("20", **_OUT), _answer("20", **_OUT), _ring("202", from_="20"), _answer("202"), _hangup("20")),
    (_ring("201"), _answer(None), (EventType.CDR, None, {}), _hangup("201")),
)
_LOGINS: Final = {"201": "ada", "202": "bob", "20": "cervenka"}


@st.composite
def plausible(draw: st.DrawFn) -> list[CallEvent]:
    """A call as a PBX makes it, a few of its events lost, repeated or delayed."""
    script = list(draw(st.sampled_from(SCRIPTS)))
    if draw(st.booleans()):
        script += draw(st.sampled_from(SCRIPTS))
    steps: list[Step] = [(EventType.NEW_CALL, None, {}), *script, (EventType.CDR, None, {})]
    at_us = 0
    events = []
    for number, (type_, line, fields) in enumerate(steps):
        at_us += draw(_GAP)
        what = draw(st.integers(0, 11))
        delay_us = draw(_GAP) if what == 0 else 0
        for copy in range(0 if what == 1 else 2 if what == 2 else 1):
            values: dict[str, Any] = {
                "line": line,
                "login": _LOGINS.get(line or "") if what != 3 else None,
                "from_": "600000001",
                "to": "222333444",
                "direction": Direction.INCOMING,
                **fields,
            }
            events.append(call_event(event(type_, at_us + delay_us + copy, number << 8 | copy, **values)))
    return sorted(events)


def calls() -> st.SearchStrategy[list[CallEvent]]:
    return st.one_of(hostile(), plausible()).filter(bool)


def value_of(source: CallEvent) -> bytes:
    """The record value from which *source* is read."""
    value = Event(
        event_id=source.event_id,
        pbx="voipex",
        type=source.type,
        event_name=source.event_name,
        received_at=format_rfc3339(source.at_us),
        unique_id=CALL_ID,
        pbx_started_at=None if source.pbx_started_us is None else format_rfc3339(source.pbx_started_us),
        direction=source.direction,
        from_=source.from_,
        to=source.to,
        from_e164=source.from_e164,
        to_e164=source.to_e164,
        line=source.line,
        login=source.login,
        email=source.email,
        queue=source.queue,
        reason=source.reason,
        reason_class=source.reason_class,
        extra=source.extra or {},
    )
    return value.model_dump_json(by_alias=True).encode()


def moments(events: Sequence[CallEvent]) -> st.SearchStrategy[int]:
    """Times at, just before and some time after each event."""
    around = st.sampled_from((-1, 0, 1, *GAPS_US, 5 * 3600 * S))
    return st.builds(
        lambda at_us, more_us: at_us + more_us, st.sampled_from([each.at_us for each in events]), around
    )
