"""Calls to customers."""

from tools.accuracy.people import Person
from tools.accuracy.situations.register import situation
from tools.accuracy.telephony import ABSENT, BUSY, NO_RESPONSE, NORMAL, REJECTED, RESULTS, UNALLOCATED, Call
from tools.accuracy.truth import Leg, Role
from tools.accuracy.world import Play, World

_OUTCOMES = {NO_RESPONSE: "no_answer", NORMAL: "no_answer"}


def to_customer(world: World, name: str, agent: Person) -> Call:
    return Call(world, name, caller=agent.line, called=world.customer(), direction="outgoing")


def fail(call: Call, leg: Leg, reason: str) -> None:
    """The far end does not answer: the PBX says why."""
    call.fall_silent(leg, reason)
    call.over(_OUTCOMES.get(reason, RESULTS[reason]))


@situation("an outgoing call, answered", weight=4)
def outgoing_answered(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_customer(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent, role=Role.CALLER)
    yield world.seconds(3, 25)
    call.pick_up(leg)
    yield world.seconds(10, 300)
    call.end_talk(leg)
    world.release(agent)


@situation("an outgoing call of an agent who is paused or logged out, answered")
def outgoing_of_absent(world: World, name: str) -> Play:
    agent = world.claim_absent()
    call = to_customer(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent, role=Role.CALLER)
    yield world.seconds(3, 25)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(agent)


@situation("an outgoing call that is not answered, by every reason", weight=4, needs_reasons=True)
def outgoing_unanswered(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_customer(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent, role=Role.CALLER)
    reason = world.random.choice((BUSY, NO_RESPONSE, REJECTED, ABSENT, UNALLOCATED))
    yield world.seconds(15, 40) if reason == NO_RESPONSE else world.seconds(1, 6)
    fail(call, leg, reason)
    world.release(agent)


@situation("the agent gives up an outgoing call that rings")
def outgoing_given_up(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_customer(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent, role=Role.CALLER)
    yield world.seconds(5, 40)
    fail(call, leg, NORMAL)
    world.release(agent)


@situation("an outgoing call fails before it rings", needs_reasons=True)
def outgoing_failed_unrung(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_customer(world, name, agent)
    call.begin()
    yield world.seconds(0.3, 1.5)
    leg = call.attempt_unrung(agent)
    fail(call, leg, world.random.choice((REJECTED, UNALLOCATED, BUSY)))
    world.release(agent)


@situation("an outgoing call is reported to be over, rings again and is answered")
def outgoing_false_end(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_customer(world, name, agent)
    call.begin()
    yield 0.5
    leg = call.ring(agent, role=Role.CALLER)
    yield 2
    call.fall_silent(leg, NORMAL)
    false_end_us = world.now_us
    yield 1
    call.mark_unreported(false_end_us, "the PBX says that the call is over")
    call.next_round()
    leg = call.ring(agent, role=Role.CALLER)
    yield world.seconds(3, 15)
    call.pick_up(leg)
    yield world.seconds(10, 100)
    call.end_talk(leg)
    world.release(agent)


def _click(world: World, name: str, agent: Person) -> tuple[Call, Leg]:
    call = to_customer(world, name, agent)
    call.begin()
    return call, call.ring(agent, role=Role.CALLER)


@situation("click to dial: the agent's own phone is picked up first, then the customer answers")
def click_answered(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call, leg = _click(world, name, agent)
    yield from _own_phone(world, call, leg)
    yield world.seconds(3, 20)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(agent)


@situation("click to dial: the customer is busy or does not answer", weight=2, needs_reasons=True)
def click_unanswered(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call, leg = _click(world, name, agent)
    yield from _own_phone(world, call, leg)
    yield world.seconds(4, 25)
    fail(call, leg, world.random.choice((BUSY, NO_RESPONSE, REJECTED)))
    world.release(agent)


@situation("click to dial: the agent does not pick up the own phone", needs_reasons=True)
def click_own_phone_missed(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call, leg = _click(world, name, agent)
    yield 20
    fail(call, leg, NO_RESPONSE)
    world.release(agent)


def _own_phone(world: World, call: Call, leg: Leg) -> Play:
    yield world.seconds(1, 4)
    picked_up_us = world.now_us
    call.say("Answered", leg)
    yield world.seconds(1, 2)
    call.mark_unreported(picked_up_us, "one's own phone is reported as answered before the customer's rings")
    call.say("Ringing", leg)


@situation("the agent dials a busy customer again, who then answers", needs_reasons=True)
def outgoing_twice(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_customer(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent, role=Role.CALLER)
    yield 3
    fail(call, leg, BUSY)
    yield world.seconds(5, 30)
    again = to_customer(world, name, agent)
    again.begin()
    yield 0.3
    leg = again.ring(agent, role=Role.CALLER)
    yield world.seconds(3, 20)
    again.pick_up(leg)
    yield world.seconds(10, 100)
    again.end_talk(leg)
    world.release(agent)
