"""
The state of an agent in the changelog: a value, which each of its records writes again, and parts, which are written once (ADR 13).

    value           a line of JSON, then the snapshot and the lines of the open segment
    `17`            a closed segment: its snapshot and lines
    `index <day>`   the closed segments that began on that day, a line of JSON, and the traces of their lines
    `past`          the days that are over, as they are published

Index and past are read with the value, segments only for what comes late.
"""

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

import orjson

from consumers.agents import archive
from consumers.agents import memory as memories
from consumers.agents.days import LocalDays
from consumers.agents.fold import BEGINNING, Picture, Walk
from consumers.agents.legs import Leg
from consumers.agents.lines import Claim, SentClaim, claims_of_event, claims_of_leg, latest_claim
from consumers.agents.memory import PAST_PART, AgentState, Past, Segment
from consumers.agents.presence import AgentEvent
from consumers.engine.projection import NO_PARTS, PartsNeeded

_plain_values_of: Final = attrgetter(*[each.name for each in fields(AgentState)][:13])
"""Up to `numbered`: numbers and texts."""


def encode(memory: AgentState) -> bytes:
    """The value. It starts with the version of the rules."""
    line = orjson.dumps(
        (
            memories.FOLD_VERSION,
            _plain_values_of(memory),
            memory.head.at_us,
            [tuple(event) for event in memory.events.values()],
            [leg.to_json() for leg in memory.legs.values()],
            [tuple(claim) for claim in memory.claims.values()],
            [(sent.line, tuple(sent.claim)) for sent in memory.to_send],
            tuple(memory.open),
            memories.parts_at_hand(memory),
            len(memory.snapshot),
        )
    )
    return b"%b\n%b%b" % (line, memory.snapshot, memory.lines)


def take_parts(memory: AgentState) -> tuple[AgentState, Mapping[str, bytes | None]]:
    """The state once its parts are written, and those that have changed."""
    if not memory.parts and not memory.changed:
        return memory, NO_PARTS
    parts = {name: _part(memory, name) for name in sorted(memory.changed)}
    memory = memory.copy()
    memory.parts, memory.changed = NO_PARTS, frozenset()
    return memory, parts


def _part(memory: AgentState, name: str) -> bytes | None:
    if name == PAST_PART:
        past = memory.past
        if past is memories.NO_PAST:
            return None
        # JSON has no tabs but those that we put.
        queue_days = b"\t".join([each for named in past.queue_days.items() for each in named])
        return b"%b\n%b\n%b" % (orjson.dumps((past.first, past.until)), past.days, queue_days)
    if name in memory.parts:
        return memory.parts[name]
    found, traces, start = [], [], 0
    for segment in memory.segments:
        end = start + segment.traces * archive.TRACE_BYTES
        if segment.index_part == name:
            found.append(tuple(segment))
            traces.append(memory.traces[start:end])
        start = end
    return b"%b\n%b" % (orjson.dumps(found), b"".join(traces)) if found else None


def decode(value: bytes, parts: Mapping[str, bytes], local_days: LocalDays) -> AgentState:
    """
    Return the state as it was encoded; of an older version of the rules back at its base, so that the next document is folded anew.

    Raises PartsNeeded.
    """
    end = value.index(b"\n") + 1
    kept: list[Any] = orjson.loads(value[:end])
    version, plain, head_us, events, legs, claims, to_send, begin, names, snapshot_bytes = kept
    if any(name not in parts for name in names):
        raise PartsNeeded(names)
    memory = AgentState(*plain)
    memory.events = {each[1]: AgentEvent(*each) for each in events}
    memory.legs = {(each[1], each[0]): Leg(*each) for each in legs}
    memory.claims = {each[1]: Claim(*each) for each in claims}
    memory.to_send = tuple([SentClaim(line, Claim(*claim)) for line, claim in to_send])
    memory.open = Segment(*begin)
    memory.snapshot, memory.lines = value[end : end + snapshot_bytes], value[end + snapshot_bytes :]
    memory.segments, memory.traces, memory.past = _index(names, parts)
    memory.indexes = tuple([name for name in names if name != PAST_PART])
    memory.parts = {name: part for name, part in parts.items() if name not in names}
    if version != memories.FOLD_VERSION:
        return _folded_anew(memory)
    memory.head = _head(memory, head_us, local_days)
    return memory


def _index(names: list[str], parts: Mapping[str, bytes]) -> tuple[tuple[Segment, ...], bytes, Past]:
    segments: list[Segment] = []
    traces, past = [], memories.NO_PAST
    for name in names:
        if name == PAST_PART:
            line, days, queue_days = parts[name].split(b"\n")
            texts = queue_days.split(b"\t") if queue_days else []
            first, until = orjson.loads(line)
            past = Past(first, until, days, dict(zip(texts[::2], texts[1::2], strict=True)))
        else:
            line, _, of_day = parts[name].partition(b"\n")
            segments += [Segment(*each) for each in orjson.loads(line)]
            traces.append(of_day)
    return tuple(segments), b"".join(traces), past


def _head(memory: AgentState, head_us: int, local_days: LocalDays) -> Picture:
    """The snapshot, carried on over the inputs of the open segment."""
    head = memories.snapshot_of(memory)
    if head_us == BEGINNING:
        return head
    events, legs, claims = archive.read(memory.lines)
    over = [leg for leg in legs.values() if leg.counts_here]
    goes_on = [leg for leg in memory.legs.values() if leg.counts_here]
    floor_us = local_days.window(max(memory.emitted_us, head_us)).floor_us
    walk = Walk(head, [*events.values(), *memory.events.values()], over + goes_on, local_days, floor_us)
    walk.over(head_us)
    walk.identify(over)
    head.claim = latest_claim(head.claim, claims.values())
    return head


def _folded_anew(memory: AgentState) -> AgentState:
    """Back at the base, with the claims of all that is folded again: a version before may not have sent them."""
    memory = memories.back_to_base(memory)
    for event in memory.events.values():
        memory.to_send += claims_of_event(memory.key, event)
    for leg in memory.legs.values():
        memory.to_send += claims_of_leg(memory.key, leg, None)
    return memory
