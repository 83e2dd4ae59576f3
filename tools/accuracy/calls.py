"""Compare the timeline of a call with the truth, field by field."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tools.accuracy.truth import Conversation, Leg, Manner, Role, union_us
from voipex.timestamps import parse_rfc3339

Json = dict[str, Any]

_NEAR_US: Final = 300_000
"""A moment may differ by so much: the Hangups of one end follow each other."""

_KINDS: Final = {
    Manner.ATTENDED: ("attended",),
    Manner.BLONDE: ("attended", "blind_inferred"),
    Manner.BLIND: ("blind_inferred", "handover_inferred"),
    Manner.CANCELLED: ("cancelled",),
}


def wrong_fields(truth: Conversation, shown: Json | None, moved_us: int = 0) -> list[str]:
    """
    Name the fields in which the document of an ended call differs from the truth.

    moved_us: by how much its webhooks were moved on their way. Moments may be wrong by that, and where an event came after the next one
    of its phone, "not known" (null) is right about when it happened.
    """
    if shown is None:
        return ["no document"]
    near = _Nearness(_NEAR_US + moved_us, unknown_is_right=moved_us > 0)
    return [
        *_wrong_facts(truth, shown),
        *_wrong_moments(truth, shown, near),
        *_wrong_durations(truth, shown, near),
        *_wrong_transfers(truth, shown),
        *_wrong_legs(truth, shown["legs"], near),
    ]


@dataclass(frozen=True, slots=True)
class _Nearness:
    """How near a moment or a duration must be to the truth."""

    near_us: int
    unknown_is_right: bool

    def moment(self, shown: str | None, expected_us: int | None, *, may_be_unknown: bool = False) -> bool:
        if shown is None:
            return expected_us is None or (may_be_unknown and self.unknown_is_right)
        return expected_us is not None and abs(parse_rfc3339(shown) - expected_us) <= self.near_us

    def duration(
        self, shown_s: float | None, expected_us: int | None, *, may_be_unknown: bool = False
    ) -> bool:
        if shown_s is None:
            return expected_us is None or (may_be_unknown and self.unknown_is_right)
        return expected_us is not None and abs(shown_s * 1e6 - expected_us) <= self.near_us


def wrong_open_fields(truth: Conversation, shown: Json | None, at_us: int) -> list[str]:
    """Name the fields in which the document of an open call differs from the truth of that moment."""
    if shown is None:
        return ["no document"]
    talks = [leg for leg in truth.talks if leg.got_caller_us is not None and leg.got_caller_us <= at_us]
    open_legs = [leg for leg in shown["legs"] if leg["ended_at"] is None and leg["role"] != Role.MONITOR]
    ringing = sorted(leg["line"] for leg in open_legs if leg["answered_at"] is None)
    expected: Json = {
        "status": truth.status_at(at_us),
        "outcome": "answered" if talks else None,
        "answered_by": [leg.line for leg in talks],
        "ended_at": None,
    }
    wrong = [field for field, value in expected.items() if shown[field] != value]
    return wrong + ([] if ringing == _ringing_lines(truth, at_us) else ["ringing legs"])


def _ringing_lines(truth: Conversation, at_us: int) -> list[str]:
    return sorted(leg.line for leg in truth.legs if leg.role is not Role.MONITOR and leg.rings_at(at_us))


def _wrong_facts(truth: Conversation, shown: Json) -> Iterator[str]:
    last = truth.last_holder
    expected = {
        "status": "ended",
        "direction": truth.direction if truth.direction_reported else None,
        "outcome": truth.outcome,
        "last_segment_outcome": truth.last_segment,
        "answered_by": [leg.line for leg in truth.talks],
        "final_line": None if last is None else last.line,
        "final_login": None if last is None or not last.login_reported else last.login,
        "monitors": sorted(leg.line for leg in truth.legs if leg.role is Role.MONITOR),
    }
    yield from (field for field, value in expected.items() if shown[field] != value)


def _wrong_moments(truth: Conversation, shown: Json, near: _Nearness) -> Iterator[str]:
    # A Hangup that came first: then the document says where its start is from.
    start_known = shown["started_at_source"] != "unique_id" or not near.unknown_is_right
    if truth.start_seen and start_known and not near.moment(shown["started_at"], truth.first_sign_us):
        yield "started_at"
    first_rings = (
        min((leg.rang_us for leg in legs if leg.rang_us is not None), default=None)
        for legs in _rung(truth, shown, near)
    )
    if not any(near.moment(shown["first_ring_at"], each, may_be_unknown=True) for each in first_rings):
        yield "first_ring_at"
    if not near.moment(shown["answered_at"], truth.first_answer_us):
        yield "answered_at"
    if not near.moment(shown["ended_at"], truth.ended_us):
        yield "ended_at"


def _rung(truth: Conversation, shown: Json, near: _Nearness) -> Iterator[list[Leg]]:
    """
    The legs that may have rung; and, where a Ringing came after the next event of its phone, those whose ring the document knows.

    Times that sum up rings cannot hold one that "not known" is right about.
    """
    legs = [leg for leg in truth.legs if leg.role is not Role.MONITOR]
    yield legs
    if near.unknown_is_right:
        unknown = {leg["line"] for leg in shown["legs"] if leg["ring_started_at"] is None}
        yield [leg for leg in legs if leg.line not in unknown]


def _wrong_durations(truth: Conversation, shown: Json, near: _Nearness) -> Iterator[str]:
    end_us = truth.ended_us or 0
    legs = [leg for leg in truth.legs if leg.role is not Role.MONITOR]
    expected: dict[str, int | None] = {
        "talk_s": union_us(leg.talking(end_us) for leg in truth.talks),
        "consult_s": union_us(leg.consulted(end_us) for leg in legs),
    }
    if truth.start_seen and truth.first_sign_us is not None:
        answer_us = truth.first_answer_us
        expected["duration_s"] = end_us - truth.first_sign_us
        expected["wait_s"] = None if answer_us is None else answer_us - truth.first_sign_us
    rings = (union_us(leg.ringing(end_us) for leg in rung) for rung in _rung(truth, shown, near))
    if not any(near.duration(shown["ring_s"], each) for each in rings):
        yield "ring_s"
    for field, value_us in expected.items():
        if not near.duration(shown[field], value_us, may_be_unknown=field in ("duration_s", "wait_s")):
            yield field


def _wrong_transfers(truth: Conversation, shown: Json) -> Iterator[str]:
    if not truth.transfers_asked:
        return
    expected = [(_KINDS[each.manner], each.transferor.line, each.to_line) for each in truth.handovers]
    listed = [(each["kind"], each["from_line"], each["to_line"]) for each in shown["transfers"]]
    if len(expected) != len(listed) or any(
        kind not in kinds or (from_line, to_line) != (transferor, target)
        for (kinds, transferor, target), (kind, from_line, to_line) in zip(expected, listed, strict=True)
    ):
        yield "transfers"
    if shown["transferred"] != any(each.manner is not Manner.CANCELLED for each in truth.handovers):
        yield "transferred"


def _wrong_legs(truth: Conversation, shown: list[Json], near: _Nearness) -> Iterator[str]:
    """Compare legs of one line in their order; they are listed by their begin."""
    if len(truth.legs) != len(shown):
        shared = {leg.line for leg in truth.legs if leg.devices > 1}
        # A dead device reported before its line's other one is a leg of its own: that is as true.
        shown = [leg for leg in shown if leg["line"] not in shared or leg["result"] != "unreachable"]
    if len(truth.legs) != len(shown):
        yield "legs"
        return
    expected = sorted(truth.legs, key=lambda leg: (leg.line, _begin_us(leg)))
    listed = sorted(shown, key=lambda leg: (leg["line"] or "", leg["leg"]))
    wrong = {
        field
        for leg, each in zip(expected, listed, strict=True)
        for field in _wrong_leg(leg, each, truth, near)
    }
    yield from (f"legs.{field}" for field in sorted(wrong))


def _begin_us(leg: Leg) -> int:
    return min(each for each in (leg.rang_us, leg.answered_us, leg.ended_us) if each is not None)


def _wrong_leg(leg: Leg, shown: Json, truth: Conversation, near: _Nearness) -> Iterator[str]:
    talked = leg.talking(truth.ended_us or 0) if leg.role in (Role.AGENT, Role.CALLER) else None
    if leg.line != shown["line"]:
        yield "line"
    if leg.login_reported and leg.login != shown["login"]:
        yield "login"
    if any((leg.role is role) != (shown["role"] == role) for role in (Role.MONITOR, Role.CALLER)):
        yield "role"
    if (
        leg.result is not None
        and leg.role is not Role.MONITOR
        and shown["result"] not in leg.result.split("|")
    ):
        yield "result"
    if not near.moment(shown["ring_started_at"], leg.rang_us, may_be_unknown=True):
        yield "ring_started_at"
    if leg.answered_us is not None and not near.moment(shown["answered_at"], leg.answered_us):
        yield "answered_at"
    if not near.moment(shown["ended_at"], leg.ended_us):
        yield "ended_at"
    if not near.duration(shown["talk_s"], None if talked is None else talked[1] - talked[0]):
        yield "talk_s"
