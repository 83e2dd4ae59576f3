"""
Rule A13, a line is its agent's: the records of the private topic `agent.lines`.

It is, since the last record that named Login and Line together. A leg that names a Line and no Login belongs to the line's agent at
the moment it began. Agent and line are different keys, mostly of different partitions, so the tasks write to each other:

    claim       to `line:<Line>`, from the task of an agent: a record of this agent named the line, at a moment
    activity    to the agent, from the task of `line:<Line>`: a leg without Login that began while the line was the agent's

Claims of one id (the event, or the leg and its agent) replace each other by revision. A leg comes to its agent directly as well as through its line,
`Leg.version` decides between the two. So neither order nor repetition matters.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from consumers.agents.legs import Leg, call_order
from consumers.agents.presence import LOGOUT, AgentEvent
from voipex.timestamps import format_rfc3339_cached, parse_rfc3339_in_range

LINE_PREFIX: Final = "line:"
"""Begins the key of a party that is known by its Line only."""

VALID_US: Final = 90 * 24 * 3600 * 1_000_000
"""A claim that is older does not count."""

Json = dict[str, Any]


class Claim(NamedTuple):
    """A record that named Login and Line together, at the key of the line. Sorted by time; at one moment a leg comes after an event."""

    at_us: int
    claim_id: str
    revision: int
    removed: bool
    agent: str

    @property
    def version(self) -> tuple[int, bool, int, str]:
        """Of two with one id the greater holds."""
        return self.revision, not self.removed, self.at_us, self.agent


class SentClaim(NamedTuple):
    """A claim and the line it is sent to."""

    line: str
    claim: Claim


def claims_of_event(agent: str, event: AgentEvent) -> tuple[SentClaim, ...]:
    """Any agent event but a logout claims the line it names."""
    if event.login is None or event.line is None or event.kind == LOGOUT:
        return ()
    return (SentClaim(event.line, Claim(event.at_us, f"event {event.event_id}", 0, False, agent)),)


def claims_of_leg(agent: str, leg: Leg, known: Leg | None) -> tuple[SentClaim, ...]:
    """A leg claims its line at its begin. A revision that says otherwise than the one *known* claims anew, or takes the claim back."""
    if known is None:
        if leg.login is None or leg.line is None:
            return ()
    elif (
        leg.removed is known.removed
        and (leg.login is None) is (known.login is None)
        and leg.line == known.line
        and leg.begin_us == known.begin_us
    ):
        return ()
    before = None if known is None else _claim_of_leg(agent, known)
    now = _claim_of_leg(agent, leg)
    if before is not None and now is not None and before.line == now.line:
        return () if before.claim.at_us == now.claim.at_us else (now,)
    sent = []
    if before is not None:
        claim = before.claim._replace(revision=leg.revision, removed=True)
        sent.append(SentClaim(before.line, claim))
    if now is not None:
        sent.append(now)
    return tuple(sent)


def _claim_of_leg(agent: str, leg: Leg) -> SentClaim | None:
    if leg.removed or leg.login is None or leg.line is None:
        return None
    system, epoch, sequence, call_id = call_order(leg.call_id)
    claim_id = f"leg {system} {epoch:012d}.{sequence:018d} {call_id} {leg.leg:06d} {agent}"
    return SentClaim(leg.line, Claim(leg.begin_us, claim_id, leg.revision, False, agent))


def latest_claim(last: Claim | None, claims: Iterable[Claim]) -> Claim | None:
    """The last of *last* and *claims*."""
    for claim in claims:
        if not claim.removed and (last is None or claim[:2] > last[:2]):
            last = claim
    return last


def claim_record(line: str, claim: Claim) -> Json:
    return {
        "type": "claim",
        "line": line,
        "agent": claim.agent,
        "at": format_rfc3339_cached(claim.at_us),
        "id": claim.claim_id,
        "revision": claim.revision,
        "removed": claim.removed,
    }


def read_claim(record: Json) -> Claim:
    """Read a claim record. Raises KeyError, TypeError and ValueError when it is none."""
    claim_id, revision, removed, agent = record["id"], record["revision"], record["removed"], record["agent"]
    if type(claim_id) is not str or type(revision) is not int or type(removed) is not bool:
        raise TypeError("not a claim")
    if type(agent) is not str:
        raise TypeError("a text was expected")
    return Claim(parse_rfc3339_in_range(record["at"]), claim_id, revision, removed, agent)


def activity_record(pbx: str, agent: str, leg: Leg, *, sequence: int, removed: bool) -> Json:
    """
    An AgentActivity for the agent who had the line when the leg began.

    *sequence*: counts what a line sends, since its agent may change while the leg does not; 0 where the leg itself was taken back.
    """
    return {
        "type": "activity",
        "sequence": sequence,
        "pbx": pbx,
        "agent": agent,
        "call_id": leg.call_id,
        "leg": leg.leg,
        "revision": leg.revision,
        "removed": removed,
        "login": None,
        "line": leg.line,
        "email": leg.email,
        "role": leg.role,
        "queue": leg.queue,
        "direction": leg.direction,
        "number": leg.number,
        "ring_started_at": _text(leg.ring_us),
        "answered_at": _text(leg.answered_us),
        "talk_started_at": _text(leg.talk_us),
        "ended_at": _text(leg.ended_us),
        "result": leg.result,
        "transferred_at": _text(leg.transferred_us),
        "last_event_at": _text(leg.last_event_us),
        "call_answered_at": _text(leg.call_answered_us),
        "inferred": ["agent"],
    }


def _text(at_us: int | None) -> str | None:
    return None if at_us is None else format_rfc3339_cached(at_us)
