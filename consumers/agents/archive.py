"""
Archive: finished agent events and legs as lines of bytes, which are rarely read again.

A line is a JSON array that starts with a line break, so that it is found by its beginning: `[event_id,` or `[leg,call_id,`. Repeated
texts are numbers into a table (`words`). Three bytes per line (`traces`) form a membership filter without false negatives, so that lines
are searched only if they probably hold the name. Older lines are compressed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from zlib import compress, crc32, decompress

import orjson

from consumers.agents.legs import CALLER, Leg, LegKey
from consumers.agents.lines import Claim
from consumers.agents.presence import AgentEvent
from voipex.agent_activity import LegResult, LegRole

Words = tuple[str, ...]

_ROLES: Final = tuple(role.value for role in LegRole)
_RESULTS: Final = (None, *(result.value for result in LegResult))
"""By place, as lines name them: a change is a new FOLD_VERSION."""

_SHOWN_ONLY: Final = slice(16, 18)
"""Places of direction and number among the values of a leg: they are shown of calls that go on only."""

_CALL_ANSWERED: Final = 18
"""Place of call_answered_us: it matters only whether that was before the ring."""

_FORWARDING: Final = slice(19, 22)
"""Places of forwarded, owner and is_sent."""

_FAST: Final = 1
"""Level of zlib: a third of the time of the usual one, for a tenth more bytes."""


class Lines(NamedTuple):
    """Of one stage; the older ones sealed, in pieces one after the other."""

    plain: bytes = b""
    pieces: bytes = b""
    sizes: Sequence[int] = ()
    """Of the pieces."""
    traces: bytes = b""
    """Of each line, plain or sealed: without them there it is not there; with them it may be."""


def find(lines: Lines, mark: bytes) -> tuple[Lines, bytes | None]:
    """The line that begins so, with its line break; and the lines, opened where that was needed to look."""
    line = line_in(lines.plain, mark)
    if line is not None or not lines.sizes:
        return lines, line
    opened = Lines(all_of(lines), traces=lines.traces)
    line = line_in(opened.plain, mark)
    return (lines, None) if line is None else (opened, line)


def all_of(lines: Lines) -> bytes:
    parts, start = [], 0
    for size in lines.sizes:
        parts.append(decompress(lines.pieces[start : start + size]))
        start += size
    return b"".join((*parts, lines.plain))


def seal(lines: Lines) -> Lines:
    piece = compress(lines.plain, _FAST)
    return Lines(b"", lines.pieces + piece, (*lines.sizes, len(piece)), lines.traces)


def join(lines: Lines, later: Iterable[Lines]) -> Lines:
    """*later*: none of them sealed."""
    return lines._replace(
        plain=b"".join([lines.plain, *[each.plain for each in later]]),
        traces=b"".join([lines.traces, *[each.traces for each in later]]),
    )


def trace_of(mark: bytes) -> bytes:
    return (crc32(mark) & 0xFFFFFF).to_bytes(3)


# ---------------------------------------------------------------- lines


def mark_of_event(event_id: str) -> bytes:
    return b"\n[%b," % orjson.dumps(event_id)


def mark_of_leg(leg: int, call_id: str) -> bytes:
    return b"\n[%d,%b," % (leg, orjson.dumps(call_id))


def mark_of_claim(claim_id: str) -> bytes:
    return b"\n[null,%b," % orjson.dumps(claim_id)


def mark_of_caller(call_id: str) -> bytes:
    """In the line of a leg of role caller: its attempts count by call."""
    return b",%b," % orjson.dumps(call_id)


def line_in(lines: bytes, mark: bytes) -> bytes | None:
    """The line that begins so, with its line break."""
    start = lines.find(mark)
    if start < 0:
        return None
    end = lines.find(b"\n", start + 1)
    return lines[start:] if end < 0 else lines[start:end]


def read(lines: bytes, words: Words) -> tuple[dict[str, AgentEvent], dict[LegKey, Leg], dict[str, Claim]]:
    """What lines tell, by name."""
    events: dict[str, AgentEvent] = {}
    legs: dict[LegKey, Leg] = {}
    claims: dict[str, Claim] = {}
    for line in lines.splitlines()[1:]:
        kept = orjson.loads(line)
        if type(kept[0]) is str:
            events[kept[0]] = _event_of(kept, words)
        elif kept[0] is None:
            _, claim_id, at_us, revision, removed, agent = kept
            claims[claim_id] = Claim(at_us, claim_id, revision, bool(removed), words[agent])
        else:
            legs[kept[1], kept[0]] = _leg_of(kept, words)
    return events, legs, claims


class Writer:
    """Writes lines, and adds to the words what they name."""

    def __init__(self, words: Words) -> None:
        self._numbers = {word: number for number, word in enumerate(words)}
        self._lines: list[bytes] = []
        self._traces: list[bytes] = []

    @property
    def lines(self) -> Lines:
        return Lines(b"".join(self._lines), traces=b"".join(self._traces))

    @property
    def words(self) -> Words:
        return tuple(self._numbers)

    def _number(self, word: str | None) -> int | None:
        return None if word is None else self._numbers.setdefault(word, len(self._numbers))

    def add_event(self, event: AgentEvent) -> None:
        number = self._number
        self._add(
            mark_of_event(event.event_id),
            (
                event.event_id,
                event.at_us,
                number(event.kind),
                number(event.queue),
                number(event.pause_name),
                number(event.login),
                number(event.line),
                number(event.email),
            ),
        )

    def add_claim(self, claim: Claim) -> None:
        at_us, claim_id, revision, removed, agent = claim
        kept = (None, claim_id, at_us, revision, int(removed), self._number(agent))
        self._add(mark_of_claim(claim_id), kept)

    def add_leg(self, leg: Leg) -> None:
        # Times count from the last event of the leg, which makes them short.
        number, from_us = self._number, leg.last_event_us
        self._add(
            mark_of_leg(leg.leg, leg.call_id),
            (
                leg.leg,
                leg.call_id,
                leg.revision,
                int(leg.removed),
                _ROLES.index(leg.role),
                _RESULTS.index(leg.result),
                from_us,
                None if leg.ring_us is None else leg.ring_us - from_us,
                None if leg.answered_us is None else leg.answered_us - from_us,
                None if leg.talk_us is None else leg.talk_us - from_us,
                None if leg.ended_us is None else leg.ended_us - from_us,
                None if leg.transferred_us is None else leg.transferred_us - from_us,
                number(leg.queue),
                number(leg.login),
                number(leg.line),
                number(leg.email),
                None if leg.call_answered_us is None else leg.call_answered_us - from_us,
                leg.forwarded,
                number(leg.owner),
            ),
        )
        if leg.role == CALLER:
            self._traces.append(trace_of(mark_of_caller(leg.call_id)))

    def _add(self, mark: bytes, kept: tuple[object, ...]) -> None:
        self._lines.append(b"\n" + orjson.dumps(kept))
        self._traces.append(trace_of(mark))


def _word(words: Words, number: int | None) -> str | None:
    return None if number is None else words[number]


def _event_of(kept: list[Any], words: Words) -> AgentEvent:
    event_id, at_us, kind, queue, pause_name, login, line, email = kept
    return AgentEvent(
        at_us,
        event_id,
        words[kind],
        _word(words, queue),
        _word(words, pause_name),
        _word(words, login),
        _word(words, line),
        _word(words, email),
    )


def _leg_of(kept: list[Any], words: Words) -> Leg:
    leg, call_id, revision, removed, role, result, from_us, *after = kept[:12]
    queue, login, line, email, call_answered, forwarded, owner = (*kept[12:], None, 0, None)[:7]
    ring_us, answered_us, talk_us, ended_us, transferred_us, call_answered_us = (
        None if after_us is None else from_us + after_us for after_us in (*after, call_answered)
    )
    return Leg(
        leg,
        call_id,
        revision,
        bool(removed),
        _ROLES[role],
        ring_us,
        answered_us,
        talk_us,
        ended_us,
        _RESULTS[result],
        transferred_us,
        from_us,
        _word(words, queue),
        _word(words, login),
        _word(words, line),
        _word(words, email),
        None,
        None,
        call_answered_us,
        forwarded,
        _word(words, owner),
        owner is not None,
    )


def as_kept(leg: Leg) -> list[Any]:
    """What of a leg makes a difference once it is over, but for its key."""
    values = list(leg.to_json())
    values[_CALL_ANSWERED] = leg.rings_unanswered_call
    del values[_FORWARDING], values[_SHOWN_ONLY], values[:3]
    return values
