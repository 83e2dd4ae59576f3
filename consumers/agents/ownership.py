"""
Rule A13, the key of a line: which agent had it when, and what of its legs goes to whom (`lines` says why).

The claims are in the state as agent events are: those after the head, older ones in the archive, the last one in the Picture. A leg keeps
its agent (`owner`) from when it was assigned. A claim that comes late goes back to before it, and what began since is assigned anew.
"""

from consumers.agents import archive
from consumers.agents.legs import CALLER
from consumers.agents.lines import LINE_PREFIX, VALID_US, Claim, Json, activity_record, latest_claim
from consumers.agents.memory import AgentState, before, find, rewind, with_other_attempts


def take_claim(memory: AgentState, claim: Claim) -> AgentState:
    """Take a claim to the line; of those with one id the highest version holds."""
    known = memory.claims.get(claim.claim_id)
    found = None
    if known is None:
        if claim.at_us <= memory.folded_us:
            return memory
        found = find(memory, archive.mark_of_claim(claim.claim_id))
        if found is not None:
            known = archive.read(found.line)[2][claim.claim_id]
    if known is not None and claim.version <= known.version:
        return memory
    moments = [each.at_us for each in (claim, known) if each is not None and not each.removed]
    from_us = min(moments, default=memory.head.at_us + 1)
    matters = known is not None or from_us <= memory.last_begin_us
    if found is not None or (matters and from_us <= memory.head.at_us):
        place = len(memory.segments) if found is None else found.place
        memory = rewind(memory, before(from_us), place)
    if matters:
        memory = _with_calls_of_callers(memory, from_us)
    memory = memory.copy()
    memory.claims = {**memory.claims, claim.claim_id: claim}
    memory.touched_us = max(memory.touched_us, claim.at_us)
    return memory


def _with_calls_of_callers(memory: AgentState, from_us: int) -> AgentState:
    """Attempts of a caller count by call: where one may be given to another agent, the others of its call count differently."""
    for key, leg in memory.legs.items():
        if leg.role == CALLER and leg.begin_us >= from_us:
            memory, changed_us = with_other_attempts(memory, key)
            if memory.head.at_us >= changed_us:
                memory = rewind(memory, before(changed_us), len(memory.segments))
    return memory


def assign(memory: AgentState, as_of_us: int) -> tuple[AgentState, list[tuple[str, Json]]]:
    """
    Give each leg that began after the head to the agent who had the line then.

    Returns the memory, and what to send: (agent, activity record). They are numbered by *as_of_us*, so that a state that is built anew
    from its records goes on above all that it has sent before.
    """
    if not memory.legs or not memory.key.startswith(LINE_PREFIX):
        return memory, []
    legs = memory.legs.copy()
    sent: list[tuple[str, Json]] = []
    changed = False
    sequence = max(memory.sequence, as_of_us)
    for key, leg in memory.legs.items():
        owner = leg.owner
        if leg.removed:
            owner = None
        elif leg.begin_us > memory.head.at_us:
            owner = _owner_at(memory, leg.begin_us)
        if owner == leg.owner and (leg.is_sent or owner is None):
            continue
        if leg.owner is not None and leg.owner != owner:
            sequence += not leg.removed
            order = 0 if leg.removed else sequence
            record = activity_record(memory.pbx, leg.owner, leg, sequence=order, removed=True)
            sent.append((leg.owner, record))
        if owner is not None:
            sequence += 1
            record = activity_record(memory.pbx, owner, leg, sequence=sequence, removed=False)
            sent.append((owner, record))
        changed = True
        legs[key] = leg.given_to(owner)
    if not changed:
        return memory, []
    memory = memory.copy()
    memory.legs, memory.sequence = legs, sequence
    return memory, sent


def _owner_at(memory: AgentState, at_us: int) -> str | None:
    """The agent who had the line at a moment after the head."""
    claims = [claim for claim in memory.claims.values() if claim.at_us <= at_us]
    last = latest_claim(memory.head.claim, claims)
    return None if last is None or at_us - last.at_us > VALID_US else last.agent
