"""
Memory: what is kept of one agent between two records (the private changelog), and how lateness is met.

    head      a Picture of the last record: the normal path walks from there to the next one
    stages    older pictures to go back to, each with lines (`archive`) of what became over between it and the next one; the first is the
              base, seven to eight local days back: all until then is folded in for good, later news of it are ignored
    legs      those that may still tell more: open, or over for a few seconds only
    events    agent events that are ahead of the head
    past      days that are over, as they are published

What comes late, or revises what a leg did before, turns the head back to the latest stage that has not seen it yet, and what became
over since then comes out of its lines; then the walk is done again from there. Five minutes are always met by a young stage, up to an
hour mostly by one that is older, and the rest by the base: a walk over the whole week, which costs milliseconds. Each gives the same
result as if everything had come in order: so order of arrival and repetition do not matter within these days. A long walk leaves stages
on its way: what comes late comes in swarms.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from consumers.agents import archive
from consumers.agents.archive import Sealed, Words
from consumers.agents.days import LocalDays, published_day, published_queue_day
from consumers.agents.fold import BEGINNING, Picture, Walk
from consumers.agents.legs import Leg, LegKey, past_of
from consumers.agents.presence import UNNAMED, AgentEvent

FOLD_VERSION: Final = 1
"""Of the rules and of the encoding. A state of an older version is walked through again from its base."""

STAGE_US: Final = 5 * 60 * 1_000_000
"""Events of two topics and of parallel connections come within this; what comes later costs a longer walk, not a wrong result."""

STAGES: Final = 5
"""The base among them, besides the one that was added last."""

OLDEST_STAGE_US: Final = 60 * 60 * 1_000_000
"""What is later than this comes seldom, and is met by the base."""

STAGED_BYTES: Final = 16 * 1024
"""Of lines that are not the base's, and so are not sealed."""

AGES_US: Final = tuple(minutes * 60 * 1_000_000 for minutes in (60, 20, 5))
"""Of the stages that a long walk leaves."""

LONG_WALK: Final = 10
"""Legs and events; a shorter walk may be done again."""

GRACE_US: Final = 15 * 1_000_000
"""The Hangup of the other party, which only fills, comes within seconds after a leg's end."""

SEAL_FROM_BYTES: Final = 8 * 1024
"""About a hundred lines: they become a third as long, at the cost of a microsecond or two for each."""

ARCHIVE_LIMIT_BYTES: Final = 128 * 1024
"""An eighth of the largest record: about 4000 legs or agent events. Beyond it the base moves forward early."""

KEPT_DAYS: Final = 7
"""The base lies at the beginning of the local day so many days back: one more than a document shows."""


class Stage(NamedTuple):
    """
    A picture to go back to.

    Named tuples are made four times as fast as frozen dataclasses, and several are made per record.
    """

    at_us: int
    picture: bytes
    """Empty: of an agent never seen."""
    lines: bytes = b""
    """What became over since then; of the base without what is sealed."""


class Past(NamedTuple):
    """Days that are over, as they are published: written once and shown for a week."""

    first: str = ""
    """The oldest of them; empty without any."""
    days: bytes = b""
    """Members of the JSON object."""
    queue_days: Mapping[bytes, bytes] = MappingProxyType({})
    """The same by queue; a queue is named by its JSON text."""


class AgentMemory(NamedTuple):
    """Never changed: each step makes another one."""

    pbx: str
    key: str
    revision: int
    digest: int
    """Of the document published last, but for revision and updated_at; 0 when there is none."""
    standing: str
    """`state` of that document; empty when there is none."""
    due_us: int | None
    told_us: int
    """The moment of the last document asked for: they do not go back."""
    touched_us: int
    """The latest moment of any record."""
    head: Picture
    """Its days are those that are not in `past`."""
    events: dict[str, AgentEvent]
    legs: dict[LegKey, Leg]
    stages: tuple[Stage, ...]
    sealed: Sealed
    """The older lines of the base."""
    words: Words
    past: Past
    trim_us: int
    """When the base moves forward next."""

    @property
    def base(self) -> Stage:
        return self.stages[0]


def start(pbx: str, key: str) -> AgentMemory:
    base = Stage(BEGINNING, b"")
    return AgentMemory(
        pbx, key, 0, 0, "", None, BEGINNING, BEGINNING, Picture(), {}, {}, (base,), Sealed(), (), Past(), BEGINNING
    )  # fmt: skip


# ---------------------------------------------------------------- taking records


def take_event(memory: AgentMemory, event: AgentEvent) -> AgentMemory:
    """Take an agent event; of copies with one event_id the first in the total order counts."""
    known = memory.events.get(event.event_id)
    if known is None:
        if event.at_us <= memory.base.at_us:
            return memory
        _, line = _find(memory, archive.mark_of_event(event.event_id))
        if line is not None:
            known = archive.read(line, memory.words)[0][event.event_id]
    first_us = event.at_us
    if known is not None:
        if _first(event, known) is known:
            return memory
        first_us = min(first_us, known.at_us)
    if first_us <= memory.head.at_us:
        memory = go_back(memory, lambda at_us: at_us < first_us)
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
    key = (leg.call_id, leg.leg)
    known = memory.legs.get(key)
    mark = b""
    if known is None:
        mark = archive.mark_of_leg(leg.leg, leg.call_id)
        found, line = _find(memory, mark)
        if line is not None:
            known = archive.read(line, memory.words)[1][key]
            if leg.revision > known.revision and archive.as_kept(leg) == archive.as_kept(known):
                return _with_line(found, line, leg)
        elif leg.latest_us <= memory.base.at_us and not leg.is_open:
            return memory
        else:
            mark = b""
    if known is not None and leg.revision <= known.revision:
        return memory

    def agrees(at_us: int) -> bool:
        return past_of(leg, at_us) == (() if known is None else past_of(known, at_us))

    if mark or not agrees(memory.head.at_us):
        memory = go_back(memory, agrees, mark)
    return memory._replace(legs={**memory.legs, key: leg}, touched_us=max(memory.touched_us, leg.latest_us))


def _find(memory: AgentMemory, mark: bytes) -> tuple[AgentMemory, bytes | None]:
    """The line of an event or leg by how it begins; and the memory, unsealed where that was needed to look."""
    for stage in memory.stages:
        line = archive.line_in(stage.lines, mark)
        if line is not None:
            return memory, line
    if not archive.is_traced(memory.sealed, mark):
        return memory, None
    memory = _unsealed(memory)
    return memory, archive.line_in(memory.base.lines, mark)


def _unsealed(memory: AgentMemory) -> AgentMemory:
    base = memory.base._replace(lines=archive.unseal(memory.sealed) + memory.base.lines)
    return memory._replace(stages=(base, *memory.stages[1:]), sealed=Sealed())


def _with_line(memory: AgentMemory, line: bytes, leg: Leg) -> AgentMemory:
    """A revision without news takes the place of the old one."""
    writer = archive.Writer(memory.words)
    writer.add_leg(leg)
    return memory._replace(
        stages=tuple(
            stage._replace(lines=stage.lines.replace(line, writer.lines, 1)) for stage in memory.stages
        ),
        words=writer.words,
    )


def go_back(memory: AgentMemory, agrees: Callable[[int], bool], mark: bytes = b"") -> AgentMemory:
    """
    Back to the latest stage whose moment *agrees* with what came, or to the base, with all that became over since out of its lines.

    *mark*: names the line that is to come out.
    """
    stages = list(memory.stages)
    lines = b""
    while stages:
        stage = stages.pop()
        lines = stage.lines + lines
        if stages and agrees(stage.at_us) and mark in lines:
            break
    past = memory.past
    if not stages:
        lines, past = archive.unseal(memory.sealed) + lines, Past()
    events, legs = archive.read(lines, memory.words)
    return memory._replace(
        head=Picture.from_bytes(stage.picture) if stage.picture else Picture(),
        events=events | memory.events,
        legs=legs | memory.legs,
        stages=(*stages, stage._replace(lines=b"")),
        sealed=memory.sealed if stages else Sealed(),
        words=memory.words if stages else (),
        past=past,
    )


# ---------------------------------------------------------------- walking on and forgetting


def walk_on(
    memory: AgentMemory, as_of_us: int, until_us: int, local_days: LocalDays
) -> tuple[AgentMemory, Walk]:
    """
    Carry the head on to the last record. What is ahead of *as_of_us* stays ahead: else all that comes in time would be late.

    Returns the walk, too, which can be carried on to *until_us*.
    """
    window = local_days.window(until_us)
    if as_of_us >= memory.trim_us or _kept_bytes(memory) > ARCHIVE_LIMIT_BYTES:
        memory = _trim(memory, as_of_us, window.floor_us, local_days)
    head_us, over_us = min(as_of_us, memory.touched_us), as_of_us - GRACE_US
    walk = _walk(memory, local_days, window.floor_us)
    if len(memory.legs) + len(memory.events) > LONG_WALK:
        # What comes late comes in swarms: stages on the way, so that the next one need not walk as far.
        for age_us in AGES_US:
            at_us = head_us - age_us
            if memory.stages[-1].at_us < at_us and memory.head.at_us < at_us:
                memory = _add_stage(_advance(memory, walk, at_us, at_us - GRACE_US), local_days)
    memory = _advance(memory, walk, head_us, over_us)
    return _forget_days(_add_stage(memory, local_days), window.first_shown), walk


def _kept_bytes(memory: AgentMemory) -> int:
    return len(memory.base.lines) + len(memory.sealed.pieces) + len(memory.sealed.traces)


def _walk(memory: AgentMemory, local_days: LocalDays, floor_us: int) -> Walk:
    """A walk from the head over all that is not written down."""
    legs = [leg for leg in memory.legs.values() if not leg.removed]
    return Walk(memory.head.copy(), sorted(memory.events.values()), legs, local_days, floor_us)


def _advance(memory: AgentMemory, walk: Walk, until_us: int, over_us: int) -> AgentMemory:
    """Carry the head on to *until_us*, and write down what is over: events by then, legs by *over_us*."""
    walk.over(until_us)
    head = walk.picture
    over_us = min(over_us, head.at_us)
    events = [event for event in memory.events.values() if event.at_us <= head.at_us]
    legs = [leg for leg in memory.legs.values() if leg.latest_us <= over_us and not leg.is_open]
    if events or legs:
        walk.identify([leg for leg in legs if not leg.removed])
        memory = _put_away(memory, events, legs)
    return memory._replace(head=head)


def _put_away(memory: AgentMemory, events: Iterable[AgentEvent], legs: Iterable[Leg]) -> AgentMemory:
    """Write down what is over, after the last stage."""
    writer = archive.Writer(memory.words)
    later_events, later_legs = memory.events.copy(), memory.legs.copy()
    for event in events:
        writer.add_event(event)
        del later_events[event.event_id]
    for leg in legs:
        writer.add_leg(leg)
        del later_legs[leg.call_id, leg.leg]
    last = memory.stages[-1]
    return memory._replace(
        events=later_events,
        legs=later_legs,
        stages=(*memory.stages[:-1], last._replace(lines=last.lines + writer.lines)),
        words=writer.words,
    )


def _add_stage(memory: AgentMemory, local_days: LocalDays) -> AgentMemory:
    """
    Make the head a stage when the last one is old, and keep one before it, so that there is always one that is old enough.

    When a day is over it is written down first: pictures before that have it still, so nobody may go back to them.
    """
    head, last = memory.head, memory.stages[-1]
    if head.at_us < last.at_us + STAGE_US and len(last.lines) < SEAL_FROM_BYTES:
        return memory
    today = local_days.day_of(head.at_us).name
    stages = list(memory.stages)
    # A pause of an unnamed queue may still be counted for the queue that continues it, so its days are not over.
    if any(day < today for day in head.days) and UNNAMED not in head.queue_days:
        memory = memory._replace(past=_roll_over(memory.past, head, today))
        stages = [memory.base._replace(lines=b"".join([stage.lines for stage in stages]))]
    _thin_out(stages, head.at_us)
    sealed, lines = memory.sealed, stages[0].lines
    if len(lines) >= SEAL_FROM_BYTES:
        sealed, stages[0] = archive.seal(sealed, lines), stages[0]._replace(lines=b"")
    return memory._replace(stages=(*stages, Stage(head.at_us, head.to_bytes())), sealed=sealed)


def _thin_out(stages: list[Stage], now_us: int) -> None:
    """Leave few stages after the base, the more apart the older they are: so that what is a little late costs a short walk."""
    while len(stages) > 2 and (
        stages[2].at_us <= now_us - OLDEST_STAGE_US
        or sum(len(stage.lines) for stage in stages[1:]) > STAGED_BYTES
    ):
        _drop_stage(stages, 1)
    while len(stages) > STAGES:
        ages = [
            max(1, now_us - stage.at_us) for stage in stages
        ]  # many lines at one moment make a stage, too
        _drop_stage(stages, min(range(2, len(stages)), key=lambda place: ages[place - 1] / ages[place]))


def _drop_stage(stages: list[Stage], place: int) -> None:
    before, dropped = stages[place - 1], stages.pop(place)
    stages[place - 1] = before._replace(lines=before.lines + dropped.lines)


def _trim(memory: AgentMemory, as_of_us: int, floor_us: int, local_days: LocalDays) -> AgentMemory:
    """Move the base forward, to the beginning of the day that is kept last; further while there is too much to keep."""
    oldest = local_days.days_before(as_of_us, KEPT_DAYS)
    keep_us = oldest.start_us
    too_much = _kept_bytes(memory) > ARCHIVE_LIMIT_BYTES
    memory = back_to_base(memory)._replace(trim_us=local_days.day_of(as_of_us).end_us)
    if too_much:
        moments = [event.at_us for event in memory.events.values()]
        moments += [leg.latest_us for leg in memory.legs.values()]
        keep_us = max(keep_us, sorted(moments)[len(moments) // 2])
    else:
        # What a leg did is folded in for good when it is over: until then it may be taken back.
        going_on = [leg.start_us for leg in memory.legs.values() if leg.is_open or leg.latest_us >= keep_us]
        keep_us = min(keep_us, min(going_on, default=keep_us))
    if keep_us - 1 <= memory.base.at_us:
        return memory
    memory = _advance(memory, _walk(memory, local_days, floor_us), keep_us - 1, keep_us - 1)
    head = memory.head
    head.days = {day: totals for day, totals in head.days.items() if day >= oldest.name}
    for queue, of_queue in list(head.queue_days.items()):
        _keep_days(head, queue, {day: totals for day, totals in of_queue.items() if day >= oldest.name})
    return memory._replace(stages=(Stage(head.at_us, head.to_bytes()),), words=())


def back_to_base(memory: AgentMemory) -> AgentMemory:
    return go_back(memory, lambda _: False)


def _keep_days(picture: Picture, queue: str, days: dict[str, list[int]]) -> None:
    if days:
        picture.queue_days[queue] = days
    else:
        del picture.queue_days[queue]


# ---------------------------------------------------------------- days that are over


def _roll_over(past: Past, picture: Picture, today: str) -> Past:
    """Move the days before *today* from the picture to the past: write them down as they are published."""
    first = past.first or min(picture.days)
    days, going_on = _parted(picture.days, today)
    picture.days = going_on
    queue_days = dict(past.queue_days)
    for queue, of_queue in list(picture.queue_days.items()):
        over, going_on = _parted(of_queue, today)
        _keep_days(picture, queue, going_on)
        if over:
            name = orjson.dumps(queue)
            queue_days[name] = members_of(queue_days.get(name, b""), over, published_queue_day)
    return Past(first, members_of(past.days, days, published_day), queue_days)


def _parted(days: dict[str, list[Any]], today: str) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Days before *today*, and the others."""
    over = {day: totals for day, totals in days.items() if day < today}
    return over, {day: totals for day, totals in days.items() if day >= today}


def members_of(
    past: bytes,
    days: Mapping[str, list[Any]],
    published: Callable[[list[Any]], dict[str, Any]],
    first_shown: str = "",
) -> bytes:
    """Days that are over, and after them *days*, as members of a JSON object; without those that are not shown any more."""
    members = orjson.dumps({day: published(days[day]) for day in sorted(days) if day >= first_shown})[1:-1]
    return b"%b,%b" % (past, members) if past and members else past or members


def _forget_days(memory: AgentMemory, first_shown: str) -> AgentMemory:
    """Forget past days that no document shows any more."""
    past = memory.past
    if not past.first or past.first >= first_shown:
        return memory
    days = _from(past.days, first_shown)
    queue_days = {queue: _from(days, first_shown) for queue, days in past.queue_days.items()}
    queue_days = {queue: days for queue, days in queue_days.items() if days}
    return memory._replace(past=Past(first_shown if days or queue_days else "", days, queue_days))


def _from(days: bytes, first_shown: str) -> bytes:
    kept = {day: totals for day, totals in orjson.loads(b"{%b}" % days).items() if day >= first_shown}
    return orjson.dumps(kept)[1:-1]


# ---------------------------------------------------------------- the changelog's value


def encode(memory: AgentMemory) -> bytes:
    """A line of JSON, then what is normally not read or published as it stands, by length."""
    head, stages, sealed, past = memory.head, memory.stages, memory.sealed, memory.past
    # JSON has no tabs but those that we put.
    queue_days = b"\t".join([each for named in past.queue_days.items() for each in named])
    parts = [head.presence_json(), head.standing.queues, past.days, queue_days, sealed.traces, sealed.pieces]
    for stage in stages:
        parts += (stage.picture, stage.lines)
    line = orjson.dumps(
        (
            FOLD_VERSION,
            memory.pbx,
            memory.key,
            memory.revision,
            memory.digest,
            memory.standing,
            memory.due_us,
            memory.told_us,
            memory.touched_us,
            head.to_json(),
            [tuple(event) for event in memory.events.values()],
            [tuple(leg) for leg in memory.legs.values()],
            [stage.at_us for stage in stages],
            sealed.sizes,
            memory.words,
            past.first,
            memory.trim_us,
            [len(part) for part in parts],
        )
    )
    return b"".join((line, b"\n", *parts))


def decode(value: bytes) -> AgentMemory:
    """The memory as it was encoded; of an older version of the rules back at its base, so that the next document is folded anew."""
    end = value.index(b"\n")
    (
        version,
        pbx,
        key,
        revision,
        digest,
        standing,
        due_us,
        told_us,
        touched_us,
        head,
        events,
        legs,
        stages,
        sealed_sizes,
        words,
        past_first,
        trim_us,
        lengths,
    ) = orjson.loads(value[:end])
    end += 1
    parts = []
    for length in lengths:
        parts.append(value[end : end + length])
        end += length
    presence, queues, past_days, past_queue_days, traces, pieces = parts[:6]
    names = past_queue_days.split(b"\t") if past_queue_days else []
    memory = AgentMemory(
        pbx,
        key,
        revision,
        digest,
        standing,
        due_us,
        told_us,
        touched_us,
        Picture.from_json(head, presence, queues),
        {kept[1]: AgentEvent(*kept) for kept in events},
        {(kept[1], kept[0]): Leg(*kept) for kept in legs},
        tuple(map(Stage, stages, parts[6::2], parts[7::2])),
        Sealed(pieces, tuple(sealed_sizes), traces),
        tuple(words),
        Past(past_first, past_days, dict(zip(names[::2], names[1::2], strict=True))),
        trim_us,
    )
    return memory if version == FOLD_VERSION else back_to_base(memory)
