"""
The state of one agent between two records, and the handling of late records.

    head      a Picture as of the last record; the next record continues from it
    open      the open segment: where it begins, the Picture at that moment (`snapshot`), and the inputs that were over since (`lines`)
    segments  the closed ones, oldest first: seven to eight days of them. Older records are ignored
    legs      legs that may still change: open, or finished for a few seconds only
    events    agent events later than the head
    past      finished days, as they are published

A segment is closed when it has enough lines, and at local midnight. Its snapshot and lines are then a part of their own, which is written
once and deleted when the base moves forward; the index of a day's segments is a part, and so is the past (`encoding` has their format). The
head is not stored: it follows from the snapshot and the lines.

A late record, or a revision of an earlier phase of a leg, rewinds the head to the beginning of the latest segment that it does not affect.
The segments since are read, deleted, and the same sweep goes over their inputs once more. The result equals that of folding in order, so
order of arrival and repetition do not matter within these days.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from zlib import compress, decompress

import orjson

from consumers.agents import archive
from consumers.agents.days import LocalDays, published_day, published_queue_day
from consumers.agents.fold import BEGINNING, Picture, Walk
from consumers.agents.legs import CALLER, Leg, LegKey, past_of
from consumers.agents.lines import Claim, SentClaim, claims_of_event, claims_of_leg, latest_claim
from consumers.agents.presence import LOGIN, PAUSED, UNNAMED, UNPAUSED, AgentEvent
from consumers.agents.swapped import SWAPPED_US, reading_order
from consumers.engine.projection import PartsNeeded

FOLD_VERSION: Final = 1
"""Of the rules and of the encoding. A state of an older version is walked through again from its base."""

SEGMENT_LINES: Final = 24
"""
Of a segment. Each record of the agent writes the lines of the open one, a hundred bytes each; a closed one costs a snapshot, half a
kilobyte. A record that is a little late replays one or two.
"""

GRACE_US: Final = 15 * 1_000_000
"""The Hangup of the other party, which only fills, comes within seconds after a leg's end."""

KEPT_DAYS: Final = 7
"""The base lies at the beginning of the local day so many days back, or before: one more than a document shows."""

INDEX_LIMIT_BYTES: Final = 512 * 1024
"""About 150,000 lines in eight days, and half of the largest record. Beyond it the base moves forward early."""

NEVER: Final = -BEGINNING

PAST_PART: Final = "past"

_FAST: Final = 1
"""Level of zlib: a third of the time of the usual one, for a tenth more bytes."""


class Segment(NamedTuple):
    """Inputs that were over between two moments; its part has the Picture at the first one, and their lines."""

    number: int = 0
    at_us: int = BEGINNING
    until: str = ""
    """`Past.until` at that moment."""
    is_quiet: bool = True
    """No leg goes on over this moment: it may become the base."""
    traces: int = 0
    """How many of the state's traces are of its lines."""

    @property
    def part(self) -> str:
        """Name of its part."""
        return str(self.number)

    @property
    def index_part(self) -> str:
        """Name of the part that lists it."""
        return f"index {self.until}"


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


_FIRST: Final = Segment()
NO_PAST: Final = Past()


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
    kept_us: int = BEGINNING
    """The beginning of the day that is kept last: what was over by then changes nothing any more."""
    trim_us: int = BEGINNING
    """When the base moves forward next."""
    sequence: int = 0
    """Of what this line has sent to agents."""
    last_begin_us: int = BEGINNING
    """When the last leg began."""
    numbered: int = 0
    """The number of the last closed segment: none is given twice."""
    head: Picture = field(default_factory=Picture)
    """Its days are those that are not in `past`."""
    events: dict[str, AgentEvent] = field(default_factory=dict)
    legs: dict[LegKey, Leg] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    """At the key of a line: claims later than the head, and those that came late."""
    to_send: tuple[SentClaim, ...] = ()
    """Claims of this agent, to be sent with the next documents."""
    open: Segment = _FIRST
    snapshot: bytes = b""
    """Compressed; empty: of an agent never seen."""
    lines: bytes = b""
    segments: tuple[Segment, ...] = ()
    indexes: tuple[str, ...] = ()
    """Names of the parts that list the closed segments."""
    traces: bytes = b""
    """Of the lines of closed segments, three bytes each: a line whose trace is not there is in none of them."""
    past: Past = NO_PAST
    parts: Mapping[str, bytes | None] = field(default_factory=dict)
    """Closed segments at hand, by name: those that were read or have changed; None: deleted."""
    changed: frozenset[str] = frozenset()
    """Names of the parts that are to be written or deleted."""

    def copy(self) -> "AgentState":
        return AgentState(*_values_of_state(self))

    @property
    def folded_us(self) -> int:
        """What was over by then is folded in for good."""
        return max(self.segments[0].at_us if self.segments else self.open.at_us, self.kept_us)


_values_of_state: Final = attrgetter(*(each.name for each in fields(AgentState)))


# ---------------------------------------------------------------- taking records


def take_event(memory: AgentState, event: AgentEvent) -> AgentState:
    """Take an agent event; of copies with one event_id the first in the total order counts."""
    known = memory.events.get(event.event_id)
    place = len(memory.segments)
    if known is None:
        if event.at_us <= memory.folded_us:
            return memory
        found = find(memory, archive.mark_of_event(event.event_id))
        if found is not None:
            known = archive.read(found.line)[0][event.event_id]
            place = found.place
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
        memory = rewind(memory, before(first_us - SWAPPED_US), place)
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
    found = None
    if known is None:
        found = find(memory, archive.mark_of_leg(leg.leg, leg.call_id))
        if found is not None:
            known = archive.read(found.line)[1][key]
            if leg.version > known.version and archive.as_kept(leg) == archive.as_kept(known):
                return _with_line(memory, found, leg.given_to(known.owner))
        elif leg.latest_us <= memory.folded_us and not leg.is_open:
            return memory
    if known is not None and leg.version <= known.version:
        return memory
    sent = claims_of_leg(memory.key, leg, known)
    if known is not None:
        leg.owner = known.owner
    memory = _before_news(memory, leg, known, found).copy()
    memory.legs = {**memory.legs, key: leg}
    memory.to_send += sent
    memory.touched_us = max(memory.touched_us, leg.latest_us)
    if not leg.removed:
        memory.last_begin_us = max(memory.last_begin_us, leg.begin_us)
    return memory


def _before_news(memory: AgentState, leg: Leg, known: Leg | None, found: "ArchivedLine | None") -> AgentState:
    """Back to where a leg and its revision *known* agree. *found*: the line of the latter, if it has one."""
    changed_us = memory.head.at_us + 1
    if leg.role == CALLER or (known is not None and known.role == CALLER):
        # Those of a leg at hand are at hand too: the legs of a call are archived together.
        is_at_hand = known is not None and found is None
        memory, changed_us = with_other_attempts(memory, (leg.call_id, leg.leg), are_at_hand=is_at_hand)
    given_away = leg.owner is not None
    if known is not None and given_away and not leg.removed and leg.begin_us != known.begin_us:
        # It may have been another agent's line then.
        changed_us = min(changed_us, leg.begin_us, known.begin_us)

    def agrees(at_us: int) -> bool:
        if at_us >= changed_us:
            return False
        return given_away or past_of(leg, at_us) == (() if known is None else past_of(known, at_us))

    if found is None and agrees(memory.head.at_us):
        return memory
    return rewind(memory, agrees, len(memory.segments) if found is None else found.place)


def with_other_attempts(
    memory: AgentState, key: LegKey, *, are_at_hand: bool = False
) -> tuple[AgentState, int]:
    """
    Bring back the other attempts of a caller, which count by call, not each for itself.

    Returns the memory, and from when on they may count differently.
    """
    call_id, number = key
    if not are_at_hand:
        found = find(memory, archive.mark_of_caller(call_id))
        if found is not None:
            memory = rewind(memory, before(NEVER), found.place)
    changed_us = memory.head.at_us + 1
    for leg in memory.legs.values():
        is_other = leg.call_id == call_id and leg.leg != number and leg.role == CALLER
        if is_other and leg.end_us is not None and leg.end_us < changed_us:
            changed_us = leg.end_us
    return memory, changed_us


# ---------------------------------------------------------------- segments


class ArchivedLine(NamedTuple):
    """A line, and the place of its segment; that of the open one comes after all others."""

    place: int
    line: bytes


def find(memory: AgentState, mark: bytes) -> ArchivedLine | None:
    """Find the oldest line with *mark*. Raises PartsNeeded."""
    for place in _places_of(memory, archive.trace_of(mark)):
        _, lines = _read_segment(memory, place)
        if mark in lines:
            return ArchivedLine(place, archive.line_in(lines, mark))
    if mark in memory.lines:
        return ArchivedLine(len(memory.segments), archive.line_in(memory.lines, mark))
    return None


def _places_of(memory: AgentState, trace: bytes) -> Iterator[int]:
    """The closed segments that may have a line with this trace, the oldest first."""
    at = memory.traces.find(trace)
    while at >= 0:
        if at % archive.TRACE_BYTES == 0:
            yield bisect_right(_ends(memory.segments), at // archive.TRACE_BYTES)
        at = memory.traces.find(trace, at + 1)


def _ends(segments: Sequence[Segment]) -> list[int]:
    """Where the traces of each segment end."""
    return list(accumulate(each.traces for each in segments))


def _read_segment(memory: AgentState, place: int) -> tuple[bytes, bytes]:
    """Snapshot and lines of a closed segment, the first one compressed."""
    segment = memory.segments[place]
    _require(memory, [segment])
    size, _, rest = (memory.parts[segment.part] or b"").partition(b" ")
    return rest[: int(size)], decompress(rest[int(size) :])


def _require(memory: AgentState, segments: Sequence[Segment]) -> None:
    missing = [each.part for each in segments if memory.parts.get(each.part) is None]
    if missing:  # with those that any state needs, since it is decoded anew
        raise PartsNeeded([*missing, *parts_at_hand(memory)])


def parts_at_hand(memory: AgentState) -> list[str]:
    """The parts without which a state cannot be decoded."""
    return [*memory.indexes] if memory.past is NO_PAST else [PAST_PART, *memory.indexes]


def rewind(memory: AgentState, agrees: Callable[[int], bool], at_most: int) -> AgentState:
    """
    Back to the beginning of the latest segment whose moment *agrees* with what came, or to the base, with the inputs since out of their lines.

    *at_most*: the place of that segment is not after this one. Raises PartsNeeded.
    """
    segments = memory.segments
    begins = [*segments, memory.open]
    place = at_most
    while place > 0 and not agrees(begins[place].at_us):
        place -= 1
    _require(memory, segments[place:])
    read = [_read_segment(memory, each) for each in range(place, len(segments))]
    events, legs, claims = archive.read(b"".join([*(lines for _, lines in read), memory.lines]))
    memory = _without_segments(memory, range(place, len(segments)))
    if read:
        memory.open, memory.snapshot = begins[place]._replace(number=0, traces=0), read[0][0]
    memory.lines, memory.head = b"", snapshot_of(memory)
    memory.events = events | memory.events
    memory.legs = legs | memory.legs
    memory.claims = claims | memory.claims
    return _with_past(memory, _past_until(memory.past, memory.open.until))


def before(limit_us: int) -> Callable[[int], bool]:
    """For `rewind`: to the latest segment that begins before a moment."""
    return lambda at_us: at_us < limit_us


def back_to_base(memory: AgentState) -> AgentState:
    return rewind(memory, before(NEVER), 0)


def _without_segments(memory: AgentState, places: range) -> AgentState:
    """A copy without closed segments, the first or the last ones; their parts are deleted."""
    memory = memory.copy()
    segments = memory.segments
    dropped = segments[places.start : places.stop]
    if dropped:
        ends = [0, *(end * archive.TRACE_BYTES for end in _ends(segments))]
        memory.traces = memory.traces[: ends[places.start]] + memory.traces[ends[places.stop] :]
        memory.segments = segments[: places.start] + segments[places.stop :]
        memory.indexes = tuple(dict.fromkeys([each.index_part for each in memory.segments]))
        names = [each.part for each in dropped]
        memory.parts = {**memory.parts, **dict.fromkeys(names)}
        memory.changed = memory.changed.union(names, [each.index_part for each in dropped])
    return memory


def _with_past(memory: AgentState, past: Past) -> AgentState:
    """Set the past in a copy that the caller has made."""
    if past is not memory.past:
        memory.past = past
        memory.changed |= {PAST_PART}
    return memory


def _with_line(memory: AgentState, found: ArchivedLine, leg: Leg) -> AgentState:
    """A revision without news takes the place of the old one."""
    line = archive.lines_of((), (leg,), ())
    memory = memory.copy()
    if found.place == len(memory.segments):
        memory.lines = memory.lines.replace(found.line, line, 1)
        return memory
    snapshot, lines = _read_segment(memory, found.place)
    part = memory.segments[found.place].part
    memory.parts = {**memory.parts, part: _body(snapshot, lines.replace(found.line, line, 1))}
    memory.changed |= {part}
    return memory


def _body(snapshot: bytes, lines: bytes) -> bytes:
    return b"%d %b%b" % (len(snapshot), snapshot, compress(lines, _FAST))


def snapshot_of(memory: AgentState) -> Picture:
    """The agent as the open segment begins."""
    return Picture.from_bytes(decompress(memory.snapshot)) if memory.snapshot else Picture()


def _close(memory: AgentState, local_days: LocalDays) -> AgentState:
    """Close the open segment, and begin another at the head. When that begins a day, the days before are over: they are written down."""
    head, past, closed = memory.head, memory.past, memory.open
    today = local_days.day_of(head.at_us).name
    # A pause of an unnamed queue may still be counted for the queue that continues it, so its days are not over.
    if today > past.until and UNNAMED not in head.queue_days:
        past = _roll_over(past, head, today)
    traces = archive.traces_of(memory.lines)
    going_on = [leg for leg in memory.legs.values() if leg.is_open or leg.latest_us > head.at_us]
    is_quiet = all(leg.start_us > head.at_us for leg in going_on)
    memory = _with_past(memory.copy(), past)
    memory.numbered += 1
    closed = closed._replace(number=memory.numbered, traces=len(traces) // archive.TRACE_BYTES)
    memory.parts = {**memory.parts, closed.part: _body(memory.snapshot, memory.lines)}
    memory.changed |= {closed.part, closed.index_part}
    memory.segments = (*memory.segments, closed)
    memory.indexes = tuple(dict.fromkeys([*memory.indexes, closed.index_part]))
    memory.traces += traces
    memory.open = Segment(0, head.at_us, past.until, is_quiet)
    memory.snapshot, memory.lines = compress(head.to_bytes(), _FAST), b""
    if len(memory.traces) > INDEX_LIMIT_BYTES:
        memory.trim_us = BEGINNING
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
        memory = _trim(memory, as_of_us, local_days)
    head_us, over_us = min(as_of_us, memory.touched_us), as_of_us - GRACE_US
    walk = _walk(memory, local_days, window.floor_us)
    for at_us in _stops(memory, head_us, local_days):
        memory = _close(_advance(memory, walk, at_us, at_us), local_days)
    memory = _advance(memory, walk, head_us, over_us)
    if memory.lines.count(b"\n") >= SEGMENT_LINES:
        memory = _close(memory, local_days)
    return _forget_days(memory, window.first_shown), walk


def _stops(memory: AgentState, head_us: int, local_days: LocalDays) -> Sequence[int]:
    """Where segments end on the way to *head_us*: at midnight, and after so many inputs."""
    stops = _midnights(memory, head_us, local_days)
    if len(memory.legs) + len(memory.events) + len(memory.claims) < 2 * SEGMENT_LINES:
        return stops
    moments = [event.at_us for event in memory.events.values()]
    moments += [leg.latest_us for leg in memory.legs.values()]
    moments += [claim.at_us for claim in memory.claims.values()]
    moments.sort()
    enough = moments[SEGMENT_LINES::SEGMENT_LINES]
    return sorted({*stops, *(at_us for at_us in enough if memory.head.at_us < at_us < head_us)})


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
    memory = memory.copy()
    memory.head = head
    if not events and not legs and not claims:
        return memory
    walk.identify([leg for leg in legs if leg.counts_here])
    head.claim = latest_claim(head.claim, claims)
    memory.lines += archive.lines_of(events, legs, claims)
    memory.events, memory.legs, memory.claims = memory.events.copy(), memory.legs.copy(), memory.claims.copy()
    for event in events:
        del memory.events[event.event_id]
    for leg in legs:
        del memory.legs[leg.call_id, leg.leg]
    for claim in claims:
        del memory.claims[claim.claim_id]
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


def _trim(memory: AgentState, as_of_us: int, local_days: LocalDays) -> AgentState:
    """Move the base forward, to the beginning of the day that is kept last; further while there is too much to keep."""
    kept_us = local_days.days_before(as_of_us, KEPT_DAYS).start_us
    begins = [*memory.segments, memory.open]
    # A leg is folded in for good when it is over: until then what it did may be taken back.
    bases = [place for place, each in enumerate(begins) if each.is_quiet]
    first = max((place for place in bases if begins[place].at_us <= kept_us), default=0)
    if len(memory.traces) > INDEX_LIMIT_BYTES:
        first = max(first, next((place for place in bases if place > len(begins) // 2), 0))
    memory = _without_segments(memory, range(first))
    memory.kept_us, memory.trim_us = kept_us, local_days.day_of(as_of_us).end_us
    return memory


def forget(memory: AgentState) -> AgentState:
    """Delete all parts: what they hold is out of date."""
    memory = _without_segments(memory, range(len(memory.segments)))
    return _with_past(memory, NO_PAST)


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
    return _with_past(memory.copy(), past._replace(first=first_shown if past.first else ""))


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
