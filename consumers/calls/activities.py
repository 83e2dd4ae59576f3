"""The AgentActivity of each leg of a call (docs/contract/agent-activity.md), as plain dicts like the timeline."""

from typing import Any

from consumers.calls.call import Call
from consumers.calls.document import Json, result_of_leg, text
from consumers.calls.events import time_text
from consumers.calls.holders import Holders
from consumers.calls.legs import Leg
from voipex.agent_activity import LegRole
from voipex.call_timeline import TransferKind
from voipex.events import agent_key


def activities(pbx: str, call_id: str, call: Call, timeline: Json, holders: Holders) -> dict[int, Json]:
    """Records by leg number, without `revision`. A leg that names no agent has none."""
    given_us: dict[int, int] = {}
    took_over_from = {leg.number: leg.took_over_from for leg in call.legs if leg.took_over_from}
    for transfer, target, _ in holders.transfers:
        if transfer.kind is not TransferKind.CANCELLED:
            given_us[transfer.transferor] = transfer.at_us
            if target:
                took_over_from[target] = transfer.transferor
    records = {}
    for_caller: dict[int, bool] = {}
    for leg in call.legs:
        agent = agent_key(leg.login, leg.line, leg.email)
        if agent is None:
            continue
        records[leg.number] = {
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
            "number": _number(call, leg, timeline, took_over_from, for_caller),
            "ring_started_at": text(leg.ring_started_us),
            "answered_at": text(leg.answered_us),
            "talk_started_at": text(_talk_started_us(call, leg)),
            "ended_at": text(leg.ended_us),
            "result": result_of_leg(call, leg, holders),
            "transferred_at": text(given_us.get(leg.number)),
            "last_event_at": time_text(leg.touched_us),
            "call_answered_at": timeline["answered_at"],
            "inferred": (),
        }
    return records


def _talk_started_us(call: Call, leg: Leg) -> int | None:
    """When the leg got the caller; for the caller of a local call with other legs, the first answer of those."""
    if not call.is_callers_own(leg):
        return leg.caller_since_us
    answers = (
        other.answer.value
        for other in call.legs
        if other.answer is not None and other.role not in (LegRole.CALLER, LegRole.MONITOR)
    )
    return min(answers, default=None)


def removal(pbx: str, call_id: str, leg: int, agent: str, role: str, last_event_us: int) -> dict[str, Any]:
    """The record that withdraws a leg of an agent: the revised timeline has no such leg of this agent any more."""
    return {
        "pbx": pbx,
        "agent": agent,
        "call_id": call_id,
        "leg": leg,
        "removed": True,
        "role": role,
        "last_event_at": time_text(last_event_us),
    }


def _number(
    call: Call, leg: Leg, timeline: Json, took_over_from: dict[int, int], for_caller: dict[int, bool]
) -> Any:
    """The number at the other end: `to` for the caller and legs that took over from it, the consulting line for a consult, else `from`."""
    if leg.role is LegRole.CONSULT:
        return call.leg(leg.consulter).line
    speaks = _speaks_for_the_caller(call, leg, took_over_from, for_caller)
    return timeline["to"] if speaks else timeline["from"]


def _speaks_for_the_caller(
    call: Call, leg: Leg, took_over_from: dict[int, int], known: dict[int, bool]
) -> bool:
    """
    Whether the chain of take-overs that leads to *leg* begins with the caller.

    `known` holds the results so far, by leg number; it is filled.
    """
    passed = []
    while leg.number not in known:
        known[leg.number] = leg.role is LegRole.CALLER
        passed.append(leg.number)
        transferor = took_over_from.get(leg.number)
        if known[leg.number] or not transferor:
            break
        leg = call.leg(transferor)
    answer = known[leg.number]
    known.update(dict.fromkeys(passed, answer))
    return answer
