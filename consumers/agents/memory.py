"""
The state of one agent between two records (the private changelog), and the handling of late records.

    head      a Picture as of the last record; the next record continues from it
    stages    older pictures to rewind to, each with the lines (`archive`) finished between it and the next one: one at the beginning of
              each local day, a few of the last hour. The first is the base, seven to eight days back: older records are ignored
    legs      legs that may still change: open, or finished for a few seconds only
    events    agent events later than the head
    past      finished days, as they are published

A late record, or a revision of an earlier phase of a leg, rewinds the head to the latest stage that it does not affect. The lines
finished since are read back and the fold continues from there. A record late by up to five minutes meets a young stage, up to an hour
mostly an older one, and otherwise the beginning of its day, which costs milliseconds. The result equals that of folding in order, so
order of arrival and repetition do not matter within these days. A long walk leaves stages on its way, because late records come in
groups.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from consumers.agents import archive
from consumers.agents.archive import Lines, Words
from consumers.agents.days import LocalDays, published_day, published_queue_day
from consumers.agents.fold import BEGINNING, Picture, Walk
from consumers.agents.legs import CALLER, Leg, LegKey, past_of
from consumers.agents.lines import Claim, SentClaim, claims_of_event, claims_of_leg, latest_claim
from consumers.agents.presence import LOGIN, PAUSED, UNNAMED, UNPAUSED, AgentEvent
from consumers.agents.swapped import SWAPPED_US, reading_order

FOLD_VERSION: Final = 1
"""Of the rules and of the encoding. A state of an older version is walked through again from its base."""

STAGE_US: Final = 5 * 60 * 1_000_000
"""Events of two topics and of parallel connections come within this; what comes later costs a longer walk, not a wrong result."""

STAGES: Final = 5
"""Of a day: its beginning among them, besides the one that was added last."""

OLDEST_STAGE_US: Final = 60 * 60 * 1_000_000
"""What is later than this comes seldom, and is met by the beginning of the day."""

STAGED_BYTES: Final = 16 * 1024
"""Of lines that are not those of a day's beginning, and so are not sealed."""

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

WORDS_LIMIT_BYTES: Final = 32 * 1024
"""A hundred times what an agent needs: words of lines that are gone are among them, so all lines are written anew."""

KEPT_DAYS: Final = 7
"""The base lies at the beginning of the local day so many days back, or before: one more than a document shows."""


_NO_LINES: Final = Lines()


class Stage(NamedTuple):
    """A picture to go back to."""

    at_us: int
    picture: bytes
    """Empty: of an agent never seen."""
    until: str = ""
    """As `Past.until` at that moment. A stage that has another one than the stage before it begins a day."""
    is_quiet: bool = True
    """No leg goes on over this moment: it may become the base."""
    lines: Lines = _NO_LINES
    """What became over since then."""


class Past(NamedTuple):
    """Days that are over, as they are published: written once and shown for a week."""

    first: str = ""
    """The oldest of them; empty without any."""
    until: str = ""
    """All before this day are here, and none of them is in the picture; empty before the first day began."""
    days: bytes = b""
    """Members of the JSON object."""
    queue_days: Mapping[bytes, bytes] = MappingProxyType({})
    """The same by queue; a queue is named by its JSON text."""


_NO_STAGES: Final = (Stage(BEGINNING, b""),)
_NO_PAST: Final = Past()


@dataclass(slots=True, eq=False)
class AgentState:
    """Copy-on-write: a function changes only the copy that it made itself. Copies share their parts."""

    pbx: str
    key: str
    revision: int = 0
    digest: int = 0
    """Of the document published last, but for revision and updated_at; 0 when there is none."""
    status: str = ""
    """`state` of that document; empty when there is none."""
    due_us: int | None = None
    emitted_us: int = BEGINNING
    """The moment of the last document asked for: they do not go back."""
    touched_us: int = BEGINNING
    """The latest moment of any record."""
    head: Picture = field(default_factory=Picture)
    """Its days are those that are not in `past`."""
    events: dict[str, AgentEvent] = field(default_factory=dict)
    legs: dict[LegKey, Leg] = field(default_factory=dict)
    stages: tuple[Stage, ...] = _NO_STAGES
    words: Words = ()
    past: Past = _NO_PAST
    kept_us: int = BEGINNING
    """The beginning of the day that is kept last: what was over by then changes nothing any more."""
    trim_us: int = BEGINNING
    """When the base moves forward next."""
    claims: dict[str, Claim] = field(default_factory=dict)
    """At the key of a line: claims later than the head, and those that came late."""
    to_send: tuple[SentClaim, ...] = ()
    """Claims of this agent, to be sent with the next documents."""
    sequence: int = 0
    """Of what this line has sent to agents."""
    last_begin_us: int = BEGINNING
    """When the last leg began."""

    def copy(self) -> "AgentState":
        return AgentState(*_values_of_state(self))

    @property
    def folded_us(self) -> int:
        """What was over by then is folded in for good."""
        return max(self.stages[0].at_us, self.kept_us)


_values_of_state: Final = attrgetter(*(each.name for each in fields(AgentState)))


# ---------------------------------------------------------------- taking records


def take_event(memory: AgentState, event: AgentEvent) -> AgentState:
    """Take an agent event; of copies with one event_id the first in the total order counts."""
    known = memory.events.get(event.event_id)
    if known is None:
        if event.at_us <= memory.folded_us:
            return memory
        _, line = find(memory, archive.mark_of_event(event.event_id))
        if line is not None:
            known = archive.read(line, memory.words)[0][event.event_id]
    first_us = event.at_us
    if known is not None:
        if _first(event, known) is known:
            return memory
        first_us = min(first_us, known.at_us)
    sent = claims_of_event(memory.key, event) if known is None else ()
    head = memory.head
    # A login is read before a pause that came just before it, but for an unpause between; so these, and any late event, may change how
    # the pauses before them are read.
    moves_pauses = event.kind in (LOGIN, UNPAUSED) and head.pause_heard_us >= event.at_us - SWAPPED_US
    if moves_pauses or first_us <= head.at_us:
        memory = rewind(memory, before(first_us - SWAPPED_US))
    memory = memory.copy()
    memory.events = {**memory.events, event.event_id: event}
    memory.to_send += sent
    memory.touched_us = max(memory.touched_us, event.at_us)
    return memory


def _first(one: AgentEvent, other: AgentEvent) -> AgentEvent:
    """Copies agree. Should two records share an id without being copies, the choice must not depend on which came first."""
    if one == other:
        return other
    return min(one, other, key=lambda event: (event.at_us, *(word or "" for word in event[2:])))


def take_leg(memory: AgentState, leg: Leg) -> AgentState:
    """Take what a call did to the agent; of the records of one leg the highest revision counts."""
    key = (leg.call_id, leg.leg)
    known = memory.legs.get(key)
    mark = b""
    if known is None:
        mark = archive.mark_of_leg(leg.leg, leg.call_id)
        found, line = find(memory, mark)
        if line is not None:
            known = archive.read(line, memory.words)[1][key]
            if leg.version > known.version and archive.as_kept(leg) == archive.as_kept(known):
                return _with_line(found, line, leg.given_to(known.owner))
        elif leg.latest_us <= memory.folded_us and not leg.is_open:
            return memory
        else:
            mark = b""
    if known is not None and leg.version <= known.version:
        return memory
    sent = claims_of_leg(memory.key, leg, known)
    if known is not None:
        leg.owner = known.owner
    memory = _before_news(memory, leg, known, mark).copy()
    memory.legs = {**memory.legs, key: leg}
    memory.to_send += sent
    memory.touched_us = max(memory.touched_us, leg.latest_us)
    if not leg.removed:
        memory.last_begin_us = max(memory.last_begin_us, leg.begin_us)
    return memory


def _before_news(memory: AgentState, leg: Leg, known: Leg | None, mark: bytes) -> AgentState:
    """Back to where a leg and its revision *known* agree. *mark*: names the archived line of the latter."""
    changed_us = memory.head.at_us + 1
    if leg.role == CALLER or (known is not None and known.role == CALLER):
        # Those of a leg at hand are at hand too: the legs of a call are archived together.
        is_at_hand = known is not None and not mark
        memory, changed_us = with_other_attempts(memory, (leg.call_id, leg.leg), are_at_hand=is_at_hand)
    given_away = leg.owner is not None
    if known is not None and given_away and not leg.removed and leg.begin_us != known.begin_us:
        # It may have been another agent's line then.
        changed_us = min(changed_us, leg.begin_us, known.begin_us)

    def agrees(at_us: int) -> bool:
        if at_us >= changed_us:
            return False
        return given_away or past_of(leg, at_us) == (() if known is None else past_of(known, at_us))

    return memory if not mark and agrees(memory.head.at_us) else rewind(memory, agrees, mark)


def with_other_attempts(
    memory: AgentState, key: LegKey, *, are_at_hand: bool = False
) -> tuple[AgentState, int]:
    """
    Bring back the other attempts of a caller, which count by call, not each for itself.

    Returns the memory, and from when on they may count differently.
    """
    call_id, number = key
    if not are_at_hand:
        mark = archive.mark_of_caller(call_id)
        trace = archive.trace_of(mark)
        for stage in memory.stages:
            if trace in stage.lines.traces and mark in archive.all_of(stage.lines):
                memory = rewind(memory, before(stage.at_us + 1))
                break
    changed_us = memory.head.at_us + 1
    for leg in memory.legs.values():
        is_other = leg.call_id == call_id and leg.leg != number and leg.role == CALLER
        if is_other and leg.end_us is not None and leg.end_us < changed_us:
            changed_us = leg.end_us
    return memory, changed_us


def find(memory: AgentState, mark: bytes) -> tuple[AgentState, bytes | None]:
    """The line of an event or leg by how it begins; and the memory, its lines opened where that was needed to look."""
    trace = archive.trace_of(mark)
    for place, stage in enumerate(memory.stages):
        if trace in stage.lines.traces:
            lines, line = archive.find(stage.lines, mark)
            if line is not None:
                return _with_lines(memory, place, lines), line
    return memory, None


def _with_lines(memory: AgentState, place: int, lines: Lines) -> AgentState:
    stages = memory.stages
    stage = stages[place]
    if lines is stage.lines:
        return memory
    memory = memory.copy()
    memory.stages = (*stages[:place], stage._replace(lines=lines), *stages[place + 1 :])
    return memory


def _with_line(memory: AgentState, line: bytes, leg: Leg) -> AgentState:
    """A revision without news takes the place of the old one."""
    writer = archive.Writer(memory.words)
    writer.add_leg(leg)
    stages = []
    for stage in memory.stages:
        replaced = stage.lines.plain.replace(line, writer.lines.plain, 1)
        stages.append(stage._replace(lines=stage.lines._replace(plain=replaced)))
    memory = memory.copy()
    memory.stages, memory.words = tuple(stages), writer.words
    return memory


def rewind(memory: AgentState, agrees: Callable[[int], bool], mark: bytes = b"") -> AgentState:
    """
    Back to the latest stage whose moment *agrees* with what came, or to the base, with all that became over since out of its lines.

    *mark*: names the line that is to come out.
    """
    stages = list(memory.stages)
    lines = b""
    while stages:
        stage = stages.pop()
        lines = archive.all_of(stage.lines) + lines
        if stages and agrees(stage.at_us) and mark in lines:
            break
    events, legs, claims = archive.read(lines, memory.words)
    memory = memory.copy()
    memory.claims = claims | memory.claims
    memory.head = Picture.from_bytes(stage.picture) if stage.picture else Picture()
    memory.events = events | memory.events
    memory.legs = legs | memory.legs
    memory.stages = (*stages, stage._replace(lines=_NO_LINES))
    memory.past = _past_until(memory.past, stage.until)
    if not stages:
        memory.words = ()
    return memory


# ---------------------------------------------------------------- walking on and forgetting


def advance(
    memory: AgentState, as_of_us: int, until_us: int, local_days: LocalDays
) -> tuple[AgentState, Walk]:
    """
    Carry the head on to the last record. What is ahead of *as_of_us* stays ahead: else all that comes in time would be late.

    Returns the walk, too, which can be carried on to *until_us*.
    """
    window = local_days.window(until_us)
    if as_of_us >= memory.trim_us:
        memory = _trim(memory, as_of_us, window.floor_us, local_days)
    head_us, over_us = min(as_of_us, memory.touched_us), as_of_us - GRACE_US
    walk = _walk(memory, local_days, window.floor_us)
    is_long = len(memory.legs) + len(memory.events) > LONG_WALK
    for at_us in _midnights(memory, head_us, local_days):
        memory = _add_stage(_advance(memory, walk, at_us, at_us), local_days)
    if is_long:
        # What comes late comes in swarms: stages on the way, so that the next one need not walk as far.
        for age_us in AGES_US:
            at_us = head_us - age_us
            if memory.stages[-1].at_us < at_us and memory.head.at_us < at_us:
                memory = _stage_when_due(_advance(memory, walk, at_us, at_us - GRACE_US), local_days)
    memory = _advance(memory, walk, head_us, over_us)
    return _forget_days(_stage_when_due(memory, local_days), window.first_shown), walk


def _kept_bytes(stages: Sequence[Stage]) -> int:
    return sum([len(plain) + len(pieces) + len(traces) for _, _, _, _, (plain, pieces, _, traces) in stages])


def _midnights(memory: AgentState, head_us: int, local_days: LocalDays) -> Sequence[int]:
    """Where the days between the head and *head_us* begin; of those before anything that is to be walked over only the last one."""
    if head_us <= memory.head.at_us:
        return ()
    today_us = local_days.day_of(head_us).start_us
    if today_us <= memory.head.at_us:
        return ()
    first_us = min(
        [event.at_us for event in memory.events.values()] + [leg.start_us for leg in memory.legs.values()],
        default=head_us,
    )
    if memory.head.seen_us is None and today_us <= first_us:
        return ()
    from_us = max(first_us, memory.head.at_us)
    earlier = [local_days.days_before(head_us, count).start_us for count in range(KEPT_DAYS, 0, -1)]
    return [*(at_us for at_us in earlier if at_us > from_us), today_us]


def _walk(memory: AgentState, local_days: LocalDays, floor_us: int) -> Walk:
    """A walk from the head over all that is not written down."""
    legs = [leg for leg in memory.legs.values() if leg.counts_here]
    return Walk(memory.head.copy(), memory.events.values(), legs, local_days, floor_us)


def _advance(memory: AgentState, walk: Walk, until_us: int, over_us: int) -> AgentState:
    """Carry the head on to *until_us*, and write down what is over: events by then, legs by *over_us*."""
    walk.over(until_us)
    head = walk.picture
    over_us = min(over_us, head.at_us)
    events = _read_by(memory, head.at_us)
    legs = _over_by(memory, over_us)
    claims = [claim for claim in memory.claims.values() if claim.at_us <= head.at_us] if memory.claims else ()
    if events or legs or claims:
        walk.identify([leg for leg in legs if leg.counts_here])
        head.claim = latest_claim(head.claim, claims)
        memory = _archive(memory, events, legs, claims)
    memory = memory.copy()
    memory.head = head
    return memory


def _read_by(memory: AgentState, at_us: int) -> list[AgentEvent]:
    """The events that were read until a moment."""
    events = [event for event in memory.events.values() if event.at_us <= at_us]
    if not events or len(events) == len(memory.events) or not any(event.kind == PAUSED for event in events):
        return events
    return [event for read_us, event in reading_order(sorted(memory.events.values())) if read_us <= at_us]


def _over_by(memory: AgentState, at_us: int) -> list[Leg]:
    """The legs of calls that are over: rounds need all legs of a call that goes on."""
    legs = [leg for leg in memory.legs.values() if leg.latest_us <= at_us and not leg.is_open]
    if not legs or len(legs) == len(memory.legs):
        return legs
    going_on = {
        leg.call_id
        for leg in memory.legs.values()
        if (leg.latest_us > at_us or leg.is_open) and (leg.start_us <= at_us or leg.role == CALLER)
    }
    return [leg for leg in legs if leg.call_id not in going_on]


def _archive(
    memory: AgentState, events: Iterable[AgentEvent], legs: Iterable[Leg], claims: Collection[Claim]
) -> AgentState:
    """Append events and legs that are over to the lines of the last stage."""
    writer = archive.Writer(memory.words)
    later_events, later_legs = memory.events.copy(), memory.legs.copy()
    for event in events:
        writer.add_event(event)
        del later_events[event.event_id]
    for leg in legs:
        writer.add_leg(leg)
        del later_legs[leg.call_id, leg.leg]
    later_claims = memory.claims.copy() if claims else memory.claims
    for claim in claims:
        writer.add_claim(claim)
        del later_claims[claim.claim_id]
    last = memory.stages[-1]
    memory = memory.copy()
    memory.events, memory.legs, memory.claims = later_events, later_legs, later_claims
    memory.words = writer.words
    memory.stages = (*memory.stages[:-1], last._replace(lines=archive.join(last.lines, (writer.lines,))))
    return memory


def _stage_when_due(memory: AgentState, local_days: LocalDays) -> AgentState:
    """Make the head a stage when the last one is old, and keep one before it, so that there is always one that is old enough."""
    last = memory.stages[-1]
    if memory.head.at_us < last.at_us + STAGE_US and len(last.lines.plain) < SEAL_FROM_BYTES:
        return memory
    return _add_stage(memory, local_days)


def _add_stage(memory: AgentState, local_days: LocalDays) -> AgentState:
    """Make the head a stage. When it begins a day, the days before are over: they are written down, and their lines sealed."""
    head, past, stages = memory.head, memory.past, list(memory.stages)
    first = _first_of_day(stages)
    young = stages[first:]
    today = local_days.day_of(head.at_us).name
    # A pause of an unnamed queue may still be counted for the queue that continues it, so its days are not over.
    begins_day = today > past.until and UNNAMED not in head.queue_days
    if begins_day:
        past = _roll_over(past, head, today)
        young = [young[0]._replace(lines=archive.join(young[0].lines, [stage.lines for stage in young[1:]]))]
    else:
        _thin_out(young, head.at_us)
    stages[first:] = young
    for place in range(first + 1):
        stage = stages[place]
        plain_bytes = len(stage.lines.plain)
        if plain_bytes >= SEAL_FROM_BYTES or (plain_bytes and begins_day):
            stages[place] = stage._replace(lines=archive.seal(stage.lines))
    going_on = [leg for leg in memory.legs.values() if leg.is_open or leg.latest_us > head.at_us]
    is_quiet = all(leg.start_us > head.at_us for leg in going_on)
    stages.append(Stage(head.at_us, head.to_bytes(), past.until, is_quiet))
    memory = memory.copy()
    memory.stages, memory.past = tuple(stages), past
    if _kept_bytes(stages) > ARCHIVE_LIMIT_BYTES:
        memory.trim_us = BEGINNING
    return memory


def _first_of_day(stages: Sequence[Stage]) -> int:
    """The place of the last stage that begins a day."""
    place = len(stages) - 1
    while place > 0 and stages[place].until == stages[place - 1].until:
        place -= 1
    return place


def _thin_out(stages: list[Stage], now_us: int) -> None:
    """Leave few stages after a day's beginning, the more apart the older they are: so that what is a little late costs a short walk."""
    while len(stages) > 2 and (
        stages[2].at_us <= now_us - OLDEST_STAGE_US
        or sum(len(stage.lines.plain) for stage in stages[1:]) > STAGED_BYTES
    ):
        _drop_stage(stages, 1)
    while len(stages) > STAGES:
        ages = [
            max(1, now_us - stage.at_us) for stage in stages
        ]  # many lines at one moment make a stage, too
        _drop_stage(stages, min(range(2, len(stages)), key=lambda place: ages[place - 1] / ages[place]))


def _drop_stage(stages: list[Stage], place: int) -> None:
    before, dropped = stages[place - 1], stages.pop(place)
    stages[place - 1] = before._replace(lines=archive.join(before.lines, (dropped.lines,)))


def _trim(memory: AgentState, as_of_us: int, floor_us: int, local_days: LocalDays) -> AgentState:
    """Move the base forward, to the beginning of the day that is kept last; further while there is too much to keep."""
    kept_us = local_days.days_before(as_of_us, KEPT_DAYS).start_us
    memory = memory.copy()
    memory.kept_us, memory.trim_us = kept_us, local_days.day_of(as_of_us).end_us
    stages = memory.stages
    # A leg is folded in for good when it is over: until then what it did may be taken back.
    bases = [place for place, stage in enumerate(stages) if stage.is_quiet]
    first = max((place for place in bases if stages[place].at_us <= kept_us), default=0)
    if _kept_bytes(stages[first:]) > ARCHIVE_LIMIT_BYTES:
        days = [place for place in bases if first < place <= _first_of_day(stages)]
        fitting = [place for place in days if _kept_bytes(stages[place:]) <= ARCHIVE_LIMIT_BYTES // 2]
        if not fitting:
            return _fold_half(memory, floor_us, local_days)
        first = fitting[0]
    memory.stages = stages[first:]
    return back_to_base(memory) if sum(map(len, memory.words)) > WORDS_LIMIT_BYTES else memory


def _fold_half(memory: AgentState, floor_us: int, local_days: LocalDays) -> AgentState:
    """Move the base over the older half of all that is kept."""
    memory = back_to_base(memory)
    moments = [event.at_us for event in memory.events.values()]
    moments += [leg.latest_us for leg in memory.legs.values()]
    moments += [claim.at_us for claim in memory.claims.values()]
    base_us = sorted(moments)[len(moments) // 2] - 1
    if base_us <= memory.stages[0].at_us:
        return memory
    memory = _advance(memory, _walk(memory, local_days, floor_us), base_us, base_us)
    memory = memory.copy()
    memory.stages = (Stage(memory.head.at_us, memory.head.to_bytes(), memory.past.until),)
    memory.words = ()
    return memory


def before(limit_us: int) -> Callable[[int], bool]:
    """For `rewind`: to the latest stage before a moment."""
    return lambda at_us: at_us < limit_us


def back_to_base(memory: AgentState) -> AgentState:
    return rewind(memory, lambda _: False)


# ---------------------------------------------------------------- days that are over


def _roll_over(past: Past, picture: Picture, today: str) -> Past:
    """Move the days before *today* from the picture to the past: write them down as they are published."""
    days, going_on = _parted(picture.days, today)
    first = past.first or min(days, default="")
    picture.days = going_on
    queue_days = dict(past.queue_days)
    for queue, of_queue in list(picture.queue_days.items()):
        over, going_on = _parted(of_queue, today)
        _keep_days(picture, queue, going_on)
        if over:
            name = orjson.dumps(queue)
            queue_days[name] = members_of(queue_days.get(name, b""), over, published_queue_day)
    return Past(first, today, members_of(past.days, days, published_day), queue_days)


def _keep_days(picture: Picture, queue: str, days: dict[str, list[int]]) -> None:
    if days:
        picture.queue_days[queue] = days
    else:
        del picture.queue_days[queue]


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


def _forget_days(memory: AgentState, first_shown: str) -> AgentState:
    """Forget past days that no document shows any more."""
    past = memory.past
    if not past.first or past.first >= first_shown:
        return memory
    past = _past_of(past, lambda day: day >= first_shown)
    memory = memory.copy()
    memory.past = past._replace(first=first_shown if past.first else "")
    return memory


def _past_until(past: Past, until: str) -> Past:
    """The past as it was when this day began."""
    return past if past.until == until else _past_of(past, lambda day: day < until)._replace(until=until)


def _past_of(past: Past, keeps: Callable[[str], bool]) -> Past:
    """The past with some of its days only."""

    def some(members: bytes) -> bytes:
        days = orjson.loads(b"{%b}" % members)
        return orjson.dumps({day: totals for day, totals in days.items() if keeps(day)})[1:-1]

    days = some(past.days)
    queue_days = {queue: kept for queue, members in past.queue_days.items() if (kept := some(members))}
    return past._replace(first=past.first if days or queue_days else "", days=days, queue_days=queue_days)


# ---------------------------------------------------------------- the changelog's value


def encode(memory: AgentState) -> bytes:
    """A line of JSON, then what is normally not read or published as it stands, by length."""
    head, stages, past = memory.head, memory.stages, memory.past
    # JSON has no tabs but those that we put.
    queue_days = b"\t".join([each for named in past.queue_days.items() for each in named])
    parts = [head.presence_json(), head.summary.queues, past.days, queue_days]
    kept_stages = []
    for at_us, picture, until, is_quiet, (lines, pieces, sizes, traces) in stages:
        kept_stages.append((at_us, until, is_quiet, sizes))
        parts += (picture, lines, traces, pieces)
    to_send = [(sent.line, tuple(sent.claim)) for sent in memory.to_send]
    line = orjson.dumps(
        (
            FOLD_VERSION,
            memory.pbx,
            memory.key,
            memory.revision,
            memory.digest,
            memory.status,
            memory.due_us,
            memory.emitted_us,
            memory.touched_us,
            head.to_json(),
            [tuple(event) for event in memory.events.values()],
            [leg.to_json() for leg in memory.legs.values()],
            kept_stages,
            memory.words,
            past.first,
            past.until,
            memory.kept_us,
            memory.trim_us,
            (
                [tuple(claim) for claim in memory.claims.values()],
                to_send,
                memory.sequence,
                memory.last_begin_us,
            ),
            [len(part) for part in parts],
        )
    )
    return b"".join((line, b"\n", *parts))


def decode(value: bytes) -> AgentState:
    """The memory as it was encoded; of an older version of the rules back at its base, so that the next document is folded anew."""
    end = value.index(b"\n")
    fields = orjson.loads(value[:end])
    end += 1
    parts = []
    for length in fields[-1]:
        parts.append(value[end : end + length])
        end += length
    version, pbx, key, revision, digest, status, due_us, emitted_us, touched_us = fields[:9]
    head, events, legs, kept_stages, words, past_first, past_until, kept_us, trim_us, *more = fields[9:-1]
    claims, to_send, sequence, last_begin_us = more[0] if more else ((), (), 0, BEGINNING)
    presence, queues, past_days, past_queue_days = parts[:4]
    names = past_queue_days.split(b"\t") if past_queue_days else []
    stages, part = [], iter(parts[4:])
    for at_us, until, is_quiet, sizes in kept_stages:
        picture, lines, traces, pieces = next(part), next(part), next(part), next(part)
        stages.append(Stage(at_us, picture, until, is_quiet, Lines(lines, pieces, sizes, traces)))
    memory = AgentState(
        pbx,
        key,
        revision,
        digest,
        status,
        due_us,
        emitted_us,
        touched_us,
        Picture.from_json(head, presence, queues),
        {kept[1]: AgentEvent(*kept) for kept in events},
        {(kept[1], kept[0]): Leg(*kept) for kept in legs},
        tuple(stages),
        tuple(words),
        Past(past_first, past_until, past_days, dict(zip(names[::2], names[1::2], strict=True))),
        kept_us,
        trim_us,
        {kept[1]: Claim(*kept) for kept in claims},
        tuple([SentClaim(line, Claim(*claim)) for line, claim in to_send]),
        sequence,
        last_begin_us,
    )
    return memory if version == FOLD_VERSION else _folded_anew(memory)


def _folded_anew(memory: AgentState) -> AgentState:
    """Back at the base, with the claims of all that is folded again: a version before may not have sent them."""
    memory = back_to_base(memory)
    for event in memory.events.values():
        memory.to_send += claims_of_event(memory.key, event)
    for leg in memory.legs.values():
        memory.to_send += claims_of_leg(memory.key, leg, None)
    return memory
