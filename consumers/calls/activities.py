"""The records of a call for its agents: one AgentActivity per leg (contract 5.1), as plain dicts like the timeline."""

from typing import Any

from consumers.calls.call import Call
from consumers.calls.document import Json, published_result, time_text
from consumers.calls.legs import Leg
from voipex.agent_activity import LegRole
from voipex.call_timeline import Outcome
from voipex.events import agent_key


def activities(pbx: str, call_id: str, call: Call, timeline: Json) -> dict[int, Json]:
    """Return records by leg number, without `revision`. A leg without an agent has none."""
    records = {}
    for_caller: dict[int, bool] = {}
    for leg in call.legs:
        agent = agent_key(leg.login, leg.line, leg.email)
        if agent is not None:
            records[leg.number] = _activity(pbx, call_id, call, leg, agent, timeline, for_caller)
    return records


def _activity(
    pbx: str, call_id: str, call: Call, leg: Leg, agent: str, timeline: Json, for_caller: dict[int, bool]
) -> Json:
    outcome: Outcome | None = timeline["outcome"]
    return {
        "pbx": pbx,
        "agent": agent,
        "call_id": call_id,
        "leg": leg.number,
        "removed": False,
        "login": leg.login,
        "line": leg.line,
        "email": leg.email,
        "role": leg.role,
        "queue": leg.queue,
        "direction": call.direction,
        "number": _number(call, leg, timeline, for_caller),
        "ring_started_at": time_text(leg.ring_started_us),
        "answered_at": time_text(leg.answered_us),
        "talk_started_at": time_text(leg.caller_since_us),
        "ended_at": time_text(leg.ended_us),
        "result": published_result(call, leg, outcome),
        "transferred_at": time_text(leg.transferred_us),
        "last_event_at": time_text(leg.touched_us),
    }


def removal(pbx: str, call_id: str, leg: int, agent: str, role: str, last_event_us: int) -> dict[str, Any]:
    """Return the record that withdraws a leg: the revised timeline has no such leg of this agent."""
    return {
        "pbx": pbx,
        "agent": agent,
        "call_id": call_id,
        "leg": leg,
        "removed": True,
        "role": role,
        "last_event_at": time_text(last_event_us),
    }


def _number(call: Call, leg: Leg, timeline: Json, for_caller: dict[int, bool]) -> Any:
    """Return the number of the remote party: `to` for the caller and its successors, the consulting line for a consult, else `from`."""
    if leg.role is LegRole.CONSULT:
        return call.leg(leg.consulter).line
    return timeline["to"] if _speaks_for_the_caller(call, leg, for_caller) else timeline["from"]


def _speaks_for_the_caller(call: Call, leg: Leg, known: dict[int, bool]) -> bool:
    """Whether the chain of transfers to this leg starts at the caller. `known` caches results by leg number."""
    passed = []
    while leg.number not in known:
        known[leg.number] = leg.role is LegRole.CALLER
        passed.append(leg.number)
        if known[leg.number] or not leg.took_over_from:
            break
        leg = call.leg(leg.took_over_from)
    answer = known[leg.number]
    known.update(dict.fromkeys(passed, answer))
    return answer
