"""
Memory: what is kept of one agent between two records (the private changelog), and how lateness is met.

    base      a Picture seven to eight local days back: all before it is folded in for good, later news of it are ignored
    archive   agent events and legs since then that are over, one line each, as bytes that are normally not even read;
              all but the latest are sealed: compressed, with three bytes of each line's name to tell that it is there
    settled   a Picture a minute back: base plus archive, so that the normal path walks over the last minute only
    recent    agent events since `settled`, and legs that were not over then

A document is `settled` carried on over `recent`. What comes late (before `settled`), or revises what a leg did before, turns settled
back to base and all of the archive into recent; then the walk is done again over the whole week. That costs milliseconds and gives
the same result as if everything had come in order: so order of arrival and repetition do not matter within these days.

Encoded: a line of JSON (recent, and most of settled), then what is normally not read or published as it stands: two lines for
presence, two with days that are over, a line with base, and the archive.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from zlib import compress, crc32, decompress

import orjson

from consumers.activity import LegResult, LegRole
from consumers.agents.days import LocalDays, published_day, published_queue_day
from consumers.agents.fold import BEGINNING, Picture, advance
from consumers.agents.legs import Leg, bounds_of, past_of
from consumers.agents.presence import UNNAMED, AgentEvent

FOLD_VERSION: Final = 1
"""Of the rules and of the encoding. A state of an older version is walked through again from its base."""

SETTLE_AFTER_US: Final = 60 * 1_000_000
"""Events of two topics and of parallel connections come within this; what comes later costs a longer walk, not a wrong result."""

SEAL_FROM_BYTES: Final = 8 * 1024
"""About a hundred lines: they become a third as long, at the cost of a microsecond or two for each."""

ARCHIVE_LIMIT_BYTES: Final = 128 * 1024
"""An eighth of the largest record: about 4000 legs or agent events. Beyond it the base moves forward early."""

KEPT_DAYS: Final = 7
"""Base lies at the beginning of the local day so many days back: one more than a document shows."""

LegKey = tuple[str, int]


class Settled(NamedTuple):
    """
    What is over. Changes with every other leg or so, not with every record.

    Named tuples are made four times as fast as frozen dataclasses, and several are made per record.
    """

    picture: Picture
    """Its days are those from its own day on; what is over of them is written down in `past_…`."""
    words: tuple[str, ...] = ()
    """Texts that the lines of the archive name by number."""
    past_from: str = ""
    """The oldest of the past days; empty without any."""
    past_days: bytes = b""
    """Days that are over, as members of the JSON object that is published: written once and shown for a week."""
    past_queue_days: Mapping[bytes, bytes] = MappingProxyType({})
    """The same by queue; a queue is named by its JSON text."""
    base_us: int = BEGINNING
    trim_us: int = BEGINNING
    """When base moves forward next."""
    base: bytes = b""
    archive: bytes = b""
    """Each line begins with a line break, so that a line can be found by how it begins."""
    sealed: bytes = b""
    """Older lines: compressed pieces, one after the other."""
    sealed_sizes: tuple[int, ...] = ()
    traces: bytes = b""
    """Of each sealed line, three bytes: without them there it is not there; with them it may be."""

    @property
    def kept_bytes(self) -> int:
        return len(self.archive) + len(self.sealed) + len(self.traces)


class AgentMemory(NamedTuple):
    """Never changed: each step makes another one."""

    pbx: str
    key: str
    revision: int
    digest: int
    """Of the document published last, but for revision and updated_at; 0 when there is none."""
    due_us: int | None
    touched_us: int
    """The latest moment of any record."""
    told_us: int
    """The moment of the last document asked for: they do not go back."""
    settled: Settled
    events: dict[str, AgentEvent]
    legs: dict[LegKey, Leg]


def start(pbx: str, key: str) -> AgentMemory:
    return AgentMemory(pbx, key, 0, 0, None, BEGINNING, BEGINNING, Settled(Picture()), {}, {})


# ---------------------------------------------------------------- taking records


def take_event(memory: AgentMemory, event: AgentEvent) -> AgentMemory:
    """Take an agent event; of copies with one event_id the first in the total order counts."""
    settled = memory.settled
    known = memory.events.get(event.event_id)
    if known is None:
        if event.at_us < settled.base_us:
            return memory
        settled, line = _archived(settled, _event_mark(event.event_id))
        if line is not None:
            known = _event_of_line(orjson.loads(line), settled.words)
    if known is not None and _first(event, known) is known:
        return memory
    settled_us = settled.picture.at_us
    if event.at_us < settled_us or (known is not None and known.at_us < settled_us):
        memory = unsettle(memory)
    return memory._replace(
        events={**memory.events, event.event_id: event}, touched_us=max(memory.touched_us, event.at_us)
    )


def _first(one: AgentEvent, other: AgentEvent) -> AgentEvent:
    """Copies agree. Should two records share an id without being copies, the choice must not depend on which came first."""
    if one == other:
        return other
    return min(one, other, key=lambda event: (event.at_us, *(word or "" for word in event[2:])))


def take_leg(memory: AgentMemory, leg: Leg) -> AgentMemory:
    """Take what a call did to the agent; of the records of one leg the highest revision counts."""
    settled = memory.settled
    key = (leg.call_id, leg.leg)
    known = memory.legs.get(key)
    if known is not None:
        if leg.revision <= known.revision:
            return memory
    else:
        settled, line = _archived(settled, _leg_mark(leg.leg, leg.call_id))
        if line is not None:
            archived = _leg_of_line(orjson.loads(line), settled.words)
            if leg.revision <= archived.revision:
                return memory
            if _as_archived(leg) == _as_archived(archived):
                revised = _line_of_leg(leg, _Words(settled.words))
                archive = settled.archive.replace(b"\n" + line, revised, 1)
                return memory._replace(settled=settled._replace(archive=archive))
            memory = unsettle(memory)
        elif leg.latest_us < settled.base_us:
            return memory
    settled_us = settled.picture.at_us
    if past_of(leg, settled_us) != (() if known is None else past_of(known, settled_us)):
        memory = unsettle(memory)
    return memory._replace(legs={**memory.legs, key: leg}, touched_us=max(memory.touched_us, leg.latest_us))


# ---------------------------------------------------------------- settling and forgetting


def settle(memory: AgentMemory, as_of_us: int, until_us: int, local_days: LocalDays) -> AgentMemory:
    """Carry `settled` on to a minute before *as_of_us*, should anything have become over by then."""
    settled = memory.settled
    if as_of_us >= settled.trim_us or settled.kept_bytes > ARCHIVE_LIMIT_BYTES:
        memory = _trim(memory, as_of_us, until_us, local_days)
        settled = memory.settled
    horizon_us = as_of_us - SETTLE_AFTER_US
    if horizon_us <= settled.picture.at_us or _all_since(memory, horizon_us):
        return memory
    picture = settled.picture.copy()
    events, later_events = _split(memory.events, horizon_us)
    legs, later_legs = _split_legs(memory.legs, horizon_us)
    _advance(picture, events, memory.legs.values(), horizon_us, until_us, local_days)
    words = _Words(settled.words)
    lines = [_line_of_event(event, words) for event in events]
    lines += [_line_of_leg(leg, words) for leg in legs]
    settled = settled._replace(
        picture=picture, archive=b"".join((settled.archive, *lines)), words=words.told()
    )
    settled = _seal(_roll_over(settled, local_days))
    return memory._replace(settled=settled, events=later_events, legs=later_legs)


def _all_since(memory: AgentMemory, horizon_us: int) -> bool:
    for leg in memory.legs.values():
        if leg.latest_us < horizon_us and not leg.is_open:
            return False
    return all(event.at_us >= horizon_us for event in memory.events.values())


def unsettle(memory: AgentMemory) -> AgentMemory:
    """Back to `base`, with all that came since as recent."""
    settled = memory.settled
    if settled.picture.at_us == settled.base_us:
        return memory
    events, legs = {}, {}
    for line in unsealed(settled).archive.splitlines()[1:]:
        kept = orjson.loads(line)
        if type(kept[0]) is str:
            event = _event_of_line(kept, settled.words)
            events[event.event_id] = event
        else:
            leg = _leg_of_line(kept, settled.words)
            legs[leg.call_id, leg.leg] = leg
    picture = _base_picture(settled.base) if settled.base else Picture()
    return memory._replace(
        settled=Settled(picture, base_us=settled.base_us, trim_us=settled.trim_us, base=settled.base),
        events=events | memory.events,
        legs=legs | memory.legs,
    )


def _base_json(picture: Picture) -> bytes:
    parts = (picture.presence_json().decode(), picture.standing.queues.decode())
    return orjson.dumps((picture.to_json(), *parts))


def _base_picture(base: bytes) -> Picture:
    kept, presence, queues = orjson.loads(base)
    return Picture.from_json(kept, presence.encode(), queues.encode())


def _seal(settled: Settled) -> Settled:
    """Compress the archive when it has grown long."""
    if len(settled.archive) < SEAL_FROM_BYTES:
        return settled
    piece = compress(settled.archive)
    traces = [_trace(_mark_of(orjson.loads(line))) for line in settled.archive.splitlines()[1:]]
    return settled._replace(
        archive=b"",
        sealed=settled.sealed + piece,
        sealed_sizes=(*settled.sealed_sizes, len(piece)),
        traces=b"".join((settled.traces, *traces)),
    )


def unsealed(settled: Settled) -> Settled:
    pieces, start = [], 0
    for size in settled.sealed_sizes:
        pieces.append(decompress(settled.sealed[start : start + size]))
        start += size
    archive = b"".join((*pieces, settled.archive))
    return settled._replace(archive=archive, sealed=b"", sealed_sizes=(), traces=b"")


def _trace(mark: bytes) -> bytes:
    return (crc32(mark) & 0xFFFFFF).to_bytes(3)


def forget_days(memory: AgentMemory, first_shown: str) -> AgentMemory:
    """Forget past days that no document shows any more."""
    settled = memory.settled
    if not settled.past_from or settled.past_from >= first_shown:
        return memory
    past_days = _from(settled.past_days, first_shown)
    past_queue_days = {queue: _from(days, first_shown) for queue, days in settled.past_queue_days.items()}
    past_queue_days = {queue: days for queue, days in past_queue_days.items() if days}
    past_from = first_shown if past_days or past_queue_days else ""
    return memory._replace(
        settled=settled._replace(past_from=past_from, past_days=past_days, past_queue_days=past_queue_days),
    )


def _from(days: bytes, first_shown: str) -> bytes:
    kept = {day: totals for day, totals in orjson.loads(b"{%b}" % days).items() if day >= first_shown}
    return orjson.dumps(kept)[1:-1]


def _trim(memory: AgentMemory, as_of_us: int, until_us: int, local_days: LocalDays) -> AgentMemory:
    """Move `base` forward, to the beginning of the day that is kept last; further while there is too much to keep."""
    oldest = local_days.days_before(as_of_us, KEPT_DAYS)
    keep_us = oldest.start_us
    too_much = memory.settled.kept_bytes > ARCHIVE_LIMIT_BYTES
    memory = unsettle(memory)
    if too_much:
        moments = [event.at_us for event in memory.events.values()] + [
            leg.latest_us for leg in memory.legs.values()
        ]
        keep_us = max(keep_us, sorted(moments)[len(moments) // 2])
    settled = memory.settled._replace(trim_us=local_days.day_of(as_of_us).end_us)
    if keep_us <= settled.base_us:
        return memory._replace(settled=settled)
    base = settled.picture.copy()
    events, later_events = _split(memory.events, keep_us)
    _, later_legs = _split_legs(memory.legs, keep_us)
    _advance(base, events, memory.legs.values(), keep_us, until_us, local_days)
    base.days = {day: totals for day, totals in base.days.items() if day >= oldest.name}
    for queue, of_queue in list(base.queue_days.items()):
        kept = {day: totals for day, totals in of_queue.items() if day >= oldest.name}
        if kept:
            base.queue_days[queue] = kept
        else:
            del base.queue_days[queue]
    settled = settled._replace(picture=base, base_us=keep_us, base=_base_json(base))
    return memory._replace(settled=settled, events=later_events, legs=later_legs)


def _advance(
    picture: Picture,
    events: Iterable[AgentEvent],
    legs: Iterable[Leg],
    horizon_us: int,
    until_us: int,
    local_days: LocalDays,
) -> None:
    standing = [leg for leg in legs if leg.start_us < horizon_us and not leg.removed]
    advance(picture, events, standing, horizon_us, local_days, local_days.window(until_us).floor_us)


def _split(events: dict[str, AgentEvent], horizon_us: int) -> tuple[list[AgentEvent], dict[str, AgentEvent]]:
    """Events before a moment in their total order, and the later ones."""
    before = sorted(event for event in events.values() if event.at_us < horizon_us)
    return before, {name: event for name, event in events.items() if event.at_us >= horizon_us}


def _split_legs(legs: dict[LegKey, Leg], horizon_us: int) -> tuple[list[Leg], dict[LegKey, Leg]]:
    """Legs that are over before a moment, and the others."""
    before: list[Leg] = []
    later: dict[LegKey, Leg] = {}
    for key, leg in legs.items():
        if leg.latest_us < horizon_us and not leg.is_open:
            before.append(leg)
        else:
            later[key] = leg
    return before, later


def _roll_over(settled: Settled, local_days: LocalDays) -> Settled:
    """Days before that of `settled` are over: write them down as they are published."""
    picture = settled.picture
    today = local_days.day_of(picture.at_us).name
    over = sorted({day for day in picture.days if day < today})
    # A pause of an unnamed queue may still be counted for the queue that continues it, so its days are not over.
    if not over or UNNAMED in picture.queue_days:
        return settled
    past_days = [settled.past_days] if settled.past_days else []
    past_queue_days = dict(settled.past_queue_days)
    for day in over:
        past_days += texts_of({day: picture.days.pop(day)}, published_day)
    for queue, of_queue in list(picture.queue_days.items()):
        name = orjson.dumps(queue)
        texts = texts_of(
            {day: totals for day, totals in of_queue.items() if day < today}, published_queue_day
        )
        if texts:
            past = past_queue_days.get(name)
            past_queue_days[name] = b",".join([past, *texts] if past else texts)
        going_on = {day: totals for day, totals in of_queue.items() if day >= today}
        if going_on:
            picture.queue_days[queue] = going_on
        else:
            del picture.queue_days[queue]
    return settled._replace(
        past_from=settled.past_from or over[0],
        past_days=b",".join(past_days),
        past_queue_days=past_queue_days,
    )


def texts_of(
    days: Mapping[str, list[Any]],
    published: Callable[[list[Any]], dict[str, Any]],
    first_shown: str = "",
) -> list[bytes]:
    """Days in their order, as members of a JSON object; without those that are not shown any more."""
    return [
        b'"%b":%b' % (day.encode(), orjson.dumps(published(days[day])))
        for day in sorted(days)
        if day >= first_shown
    ]


# ---------------------------------------------------------------- the lines of the archive


class _Words:
    """The table of texts that lines name by number."""

    def __init__(self, told: tuple[str, ...]) -> None:
        self._numbers = {word: number for number, word in enumerate(told)}

    def number(self, word: str | None) -> int | None:
        return None if word is None else self._numbers.setdefault(word, len(self._numbers))

    def told(self) -> tuple[str, ...]:
        return tuple(self._numbers)


def _word(words: tuple[str, ...], number: int | None) -> str | None:
    return None if number is None else words[number]


_ROLES: Final = tuple(role.value for role in LegRole)
_RESULTS: Final = (None, *(result.value for result in LegResult))
"""By place, as lines name them: a change is a new FOLD_VERSION."""


def _event_mark(event_id: str) -> bytes:
    return b"\n[%b," % orjson.dumps(event_id)


def _leg_mark(leg: int, call_id: str) -> bytes:
    return b"\n[%d,%b," % (leg, orjson.dumps(call_id))


def _mark_of(kept: list[Any]) -> bytes:
    return _event_mark(kept[0]) if type(kept[0]) is str else _leg_mark(kept[0], kept[1])


def _archived(settled: Settled, mark: bytes) -> tuple[Settled, bytes | None]:
    """The line of an event or leg by how it begins, without its line break; and settled, unsealed where that was needed to look."""
    line = _line_in(settled.archive, mark)
    if line is None and _trace(mark) in settled.traces:
        settled = unsealed(settled)
        line = _line_in(settled.archive, mark)
    return settled, line


def _line_in(archive: bytes, mark: bytes) -> bytes | None:
    start = archive.find(mark)
    if start < 0:
        return None
    end = archive.find(b"\n", start + 1)
    return archive[start + 1 :] if end < 0 else archive[start + 1 : end]


def _line_of_event(event: AgentEvent, words: _Words) -> bytes:
    return b"\n" + orjson.dumps(
        (
            event.event_id,
            event.at_us,
            words.number(event.kind),
            words.number(event.queue),
            words.number(event.pause_name),
            words.number(event.login),
            words.number(event.line),
            words.number(event.email),
        )
    )


def _event_of_line(kept: list[Any], words: tuple[str, ...]) -> AgentEvent:
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


def _as_archived(leg: Leg) -> Leg:
    """What of a leg makes a difference once it is over."""
    return leg._replace(direction=None, number=None, revision=0)


def _line_of_leg(leg: Leg, words: _Words) -> bytes:
    # Times count from the last event of the leg, which makes them short.
    from_us = leg.last_event_us
    return b"\n" + orjson.dumps(
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
            words.number(leg.queue),
            words.number(leg.login),
            words.number(leg.line),
            words.number(leg.email),
        )
    )


def _leg_of_line(kept: list[Any], words: tuple[str, ...]) -> Leg:
    leg, call_id, revision, removed, role, result, from_us, *after, queue, login, line, email = kept
    ring_us, answered_us, talk_us, ended_us, transferred_us = (
        None if after_us is None else from_us + after_us for after_us in after
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
        *bounds_of(bool(removed), ring_us, answered_us, talk_us, ended_us, from_us),
    )


# ---------------------------------------------------------------- the changelog's value


def encode(memory: AgentMemory) -> bytes:
    settled, picture = memory.settled, memory.settled.picture
    head = orjson.dumps(
        (
            FOLD_VERSION,
            memory.pbx,
            memory.key,
            memory.revision,
            memory.digest,
            memory.due_us,
            memory.touched_us,
            memory.told_us,
            picture.to_json(),
            settled.words,
            settled.past_from,
            settled.base_us,
            settled.trim_us,
            settled.sealed_sizes,
            len(settled.traces),
            [tuple(event) for event in memory.events.values()],
            [tuple(leg) for leg in memory.legs.values()],
        )
    )
    # JSON has no tabs and line breaks but those that we put.
    past_queue_days = b"\t".join([each for named in settled.past_queue_days.items() for each in named])
    return b"\n".join(
        (
            head,
            picture.presence_json(),
            picture.standing.queues,
            settled.past_days,
            past_queue_days,
            settled.base,
            # From here on by length: the archive has line breaks, what is sealed is no text.
            settled.traces + settled.sealed + settled.archive,
        )
    )


def decode(value: bytes) -> AgentMemory:
    """The memory as it was encoded; of an older version of the rules with nothing settled, so that the next document is folded anew."""
    # By place instead of `split`: the archive is long, and copied once.
    ends = [value.index(b"\n")]
    for _ in range(5):
        ends.append(value.index(b"\n", ends[-1] + 1))
    presence, queues, past_days, past_queue_days, base = (
        value[start + 1 : end] for start, end in pairwise(ends)
    )
    (
        version,
        pbx,
        key,
        revision,
        digest,
        due_us,
        touched_us,
        told_us,
        picture,
        words,
        past_from,
        base_us,
        trim_us,
        sealed_sizes,
        length_of_traces,
        events,
        legs,
    ) = orjson.loads(value[: ends[0]])
    traces_end = ends[5] + 1 + length_of_traces
    sealed_end = traces_end + sum(sealed_sizes)
    names = past_queue_days.split(b"\t") if past_queue_days else []
    settled = Settled(
        Picture.from_json(picture, presence, queues),
        tuple(words),
        past_from,
        past_days,
        dict(zip(names[::2], names[1::2], strict=True)),
        base_us,
        trim_us,
        base,
        value[sealed_end:],
        value[traces_end:sealed_end],
        tuple(sealed_sizes),
        value[ends[5] + 1 : traces_end],
    )
    memory = AgentMemory(
        pbx,
        key,
        revision,
        digest,
        due_us,
        touched_us,
        told_us,
        settled,
        {kept[1]: AgentEvent(*kept) for kept in events},
        {(kept[1], kept[0]): Leg(*kept) for kept in legs},
    )
    return memory if version == FOLD_VERSION else unsettle(memory)
