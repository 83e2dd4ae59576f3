"""Compare the timeline of a call with the truth, field by field."""

from collections.abc import Iterator
from typing import Any, Final

from tools.accuracy.truth import Conversation, Leg, Manner, Role, union_us
from voipex.timestamps import microseconds

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

    moved_us: by how much its webhooks were moved on their way; moments may be wrong by that.
    """
    if shown is None:
        return ["no document"]
    near_us = _NEAR_US + moved_us
    return [
        *_wrong_facts(truth, shown),
        *_wrong_moments(truth, shown, near_us),
        *_wrong_durations(truth, shown, near_us),
        *_wrong_transfers(truth, shown),
        *_wrong_legs(truth, shown["legs"], near_us),
    ]


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
        "direction": truth.direction if truth.direction_told else None,
        "outcome": truth.outcome,
        "last_segment_outcome": truth.last_segment,
        "answered_by": [leg.line for leg in truth.talks],
        "final_line": None if last is None else last.line,
        "final_login": None if last is None else last.login,
        "monitors": sorted(leg.line for leg in truth.legs if leg.role is Role.MONITOR),
    }
    yield from (field for field, value in expected.items() if shown[field] != value)


def _wrong_moments(truth: Conversation, shown: Json, near_us: int) -> Iterator[str]:
    rings = [leg.rang_us for leg in truth.legs if leg.rang_us is not None and leg.role is not Role.MONITOR]
    if truth.start_seen and not _is_near(shown["started_at"], truth.first_sign_us, near_us):
        yield "started_at"
    if not _is_near(shown["first_ring_at"], min(rings, default=None), near_us):
        yield "first_ring_at"
    if not _is_near(shown["answered_at"], truth.first_answer_us, near_us):
        yield "answered_at"
    if not _is_near(shown["ended_at"], truth.ended_us, near_us):
        yield "ended_at"


def _wrong_durations(truth: Conversation, shown: Json, near_us: int) -> Iterator[str]:
    end_us = truth.ended_us or 0
    legs = [leg for leg in truth.legs if leg.role is not Role.MONITOR]
    expected = {
        "ring_s": union_us(leg.ringing(end_us) for leg in legs),
        "talk_s": union_us(leg.talking(end_us) for leg in truth.talks),
        "consult_s": union_us(leg.consulted(end_us) for leg in legs),
    }
    if truth.start_seen and truth.first_sign_us is not None:
        answer_us = truth.first_answer_us
        expected["duration_s"] = end_us - truth.first_sign_us
        if answer_us is not None:
            expected["wait_s"] = answer_us - truth.first_sign_us
        elif shown["wait_s"] is not None:
            yield "wait_s"
    for field, value_us in expected.items():
        if shown[field] is None or abs(shown[field] * 1e6 - value_us) > near_us:
            yield field


def _wrong_transfers(truth: Conversation, shown: Json) -> Iterator[str]:
    expected = [(_KINDS[each.manner], each.giver.line, each.to_line) for each in truth.handovers]
    listed = [(each["kind"], each["from_line"], each["to_line"]) for each in shown["transfers"]]
    if len(expected) != len(listed) or any(
        kind not in kinds or (from_line, to_line) != (giver, taker)
        for (kinds, giver, taker), (kind, from_line, to_line) in zip(expected, listed, strict=True)
    ):
        yield "transfers"
    if shown["transferred"] != any(each.manner is not Manner.CANCELLED for each in truth.handovers):
        yield "transferred"


def _wrong_legs(truth: Conversation, shown: list[Json], near_us: int) -> Iterator[str]:
    """Compare legs of one line in their order; they are listed by their begin."""
    if len(truth.legs) != len(shown):
        yield "legs"
        return
    expected = sorted(truth.legs, key=lambda leg: (leg.line, _begin_us(leg)))
    listed = sorted(shown, key=lambda leg: (leg["line"] or "", leg["leg"]))
    wrong = {
        field
        for leg, each in zip(expected, listed, strict=True)
        for field in _wrong_leg(leg, each, truth, near_us)
    }
    yield from sorted(wrong)


def _begin_us(leg: Leg) -> int:
    return min(each for each in (leg.rang_us, leg.answered_us, leg.ended_us) if each is not None)


def _wrong_leg(leg: Leg, shown: Json, truth: Conversation, near_us: int) -> Iterator[str]:
    talked = leg.talking(truth.ended_us or 0) if leg.role in (Role.AGENT, Role.CALLER) else None
    if leg.line != shown["line"]:
        yield "legs.line"
    if leg.login != shown["login"]:
        yield "legs.login"
    if (leg.role is Role.MONITOR) != (shown["role"] == "monitor") or (leg.role is Role.CALLER) != (
        shown["role"] == "caller"
    ):
        yield "legs.role"
    if leg.result is not None and leg.role is not Role.MONITOR and leg.result != shown["result"]:
        yield "legs.result"
    if not _is_near(shown["ring_started_at"], leg.rang_us, near_us):
        yield "legs.ring_started_at"
    if leg.answered_us is not None and not _is_near(shown["answered_at"], leg.answered_us, near_us):
        yield "legs.answered_at"
    if not _is_near(shown["ended_at"], leg.ended_us, near_us):
        yield "legs.ended_at"
    talk_s = shown["talk_s"]
    if (talked is None) != (talk_s is None) or (
        talked is not None and abs(talk_s * 1e6 - (talked[1] - talked[0])) > near_us
    ):
        yield "legs.talk_s"


def _is_near(shown: str | None, expected_us: int | None, near_us: int) -> bool:
    if shown is None or expected_us is None:
        return shown is None and expected_us is None
    return abs(microseconds(shown) - expected_us) <= near_us
