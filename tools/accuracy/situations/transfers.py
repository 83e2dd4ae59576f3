"""Calls that agents give to each other."""

from tools.accuracy.people import Person
from tools.accuracy.situations.incoming import to_queue
from tools.accuracy.situations.register import situation
from tools.accuracy.telephony import Call
from tools.accuracy.truth import Role
from tools.accuracy.world import Play, World


def talk_first(world: World, call: Call, agent: Person) -> Play:
    """From the call's begin until some time into the talk with its first agent."""
    yield world.seconds(1, 20)
    leg = call.ring(agent)
    yield world.seconds(2, 10)
    call.pick_up(leg)
    yield world.seconds(8, 60)


@situation("a blind transfer to a colleague, who answers", weight=3)
def blind(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    handover = call.give_away(call.truth.legs[-1])
    call.queue = None
    yield world.seconds(0.05, 0.4)
    call.next_round()
    leg = call.ring(second)
    yield world.seconds(2, 15)
    call.take_over(handover, leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(first, second)


@situation("a blind transfer to a ring group, one of which answers", needs_reasons=True)
def blind_to_group(world: World, name: str) -> Play:
    first, *group = world.claim(3)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    handover = call.give_away(call.truth.legs[-1])
    call.queue = "fakturace"
    yield 0.3
    call.next_round()
    legs = [call.ring(person) for person in group]
    yield world.seconds(2, 15)
    winner, loser = legs
    call.take_over(handover, winner)
    call.elsewhere(loser)
    yield world.seconds(10, 200)
    call.end_talk(winner)
    world.release(first, *group)


@situation("a blind transfer to a queue that waits for a free agent, who answers")
def blind_to_waiting_queue(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    handover = call.give_away(call.truth.legs[-1])
    call.queue = "obchod"
    silent_us = world.now_us
    yield world.seconds(15, 120)
    call.mark_unreported(silent_us, "no event says that a caller was given to a queue where nobody is free")
    call.next_round()
    leg = call.ring(second)
    yield world.seconds(2, 12)
    call.take_over(handover, leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(first, second)


@situation("a blind transfer, the colleague does not answer and the caller is lost")
def blind_lost(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    call.give_away(call.truth.legs[-1])
    call.queue = None
    yield 0.3
    call.next_round()
    leg = call.ring(second)
    yield world.seconds(10, 25)
    if world.chance(0.5):
        call.fall_silent(leg)
        yield world.seconds(1, 20)
        call.give_up(outcome="answered", last_segment="missed")
    else:
        call.give_up(leg, outcome="answered", last_segment="missed")
    world.release(first, second)


@situation("a blind transfer to a queue where nobody is free: no phone rings, the caller is lost")
def blind_to_empty_queue(world: World, name: str) -> Play:
    [first] = world.claim(1)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    yield from _given_away_and_lost(world, call)
    world.release(first)


@situation("a parked caller whom nobody retrieves is lost")
def parked_lost(world: World, name: str) -> Play:
    [first] = world.claim(1)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    yield from _given_away_and_lost(world, call)
    world.release(first)


def _given_away_and_lost(world: World, call: Call) -> Play:
    given_us = world.now_us
    call.truth.handovers.remove(
        call.give_away(call.truth.legs[-1])
    )  # to nobody: no event tells that the agent did not just hang up
    yield world.seconds(20, 120)
    call.mark_unreported(
        given_us, "no event says that a caller was parked, or given to a queue where nobody is free"
    )
    call.give_up(outcome="answered", last_segment="missed")


@situation("a parked caller is retrieved by a colleague", weight=2)
def parked_retrieved(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    parked_us = world.now_us
    handover = call.give_away(call.truth.legs[-1])
    yield world.seconds(12, 90)
    call.mark_unreported(parked_us, "no event says that a caller was parked")
    call.queue = None
    call.next_round()
    leg = call.pick_up_unrung(second)
    handover.to_line = leg.line
    yield world.seconds(10, 100)
    call.end_talk(leg)
    world.release(first, second)


@situation("a parked caller is retrieved by the agent who parked him")
def parked_retrieved_by_same(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_queue(world, name, agent.queues[0])
    call.begin()
    yield from talk_first(world, call, agent)
    parked_us = world.now_us
    leg = call.truth.legs[-1]
    call.leave(leg)
    yield world.seconds(21, 90)
    call.mark_unreported(parked_us, "no event says that a caller was parked")
    call.queue = None
    call.next_round()
    leg = call.pick_up_unrung(agent)
    yield world.seconds(10, 100)
    call.end_talk(leg)
    world.release(agent)


@situation("a blind transfer comes back to who gave the caller away")
def blind_recall(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    handover = call.give_away(call.truth.legs[-1])
    call.truth.handovers.remove(handover)  # the caller is with the same agent next: nobody took him over
    call.queue = None
    yield 0.3
    call.next_round()
    leg = call.ring(second)
    yield 20
    call.fall_silent(leg)
    yield 0.3
    call.next_round()
    leg = call.ring(first)
    yield world.seconds(2, 10)
    call.pick_up(leg)
    yield world.seconds(10, 100)
    call.end_talk(leg)
    world.release(first, second)


@situation("an attended transfer", weight=3)
def attended(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consult = call.ring(second, by=leg)
    yield world.seconds(2, 10)
    call.pick_up(consult)
    yield world.seconds(5, 40)
    call.transfer(leg, consult)
    yield world.seconds(10, 200)
    call.end_talk(consult)
    world.release(first, second)


@situation("an attended transfer reported by the agent's Hangup alone")
def attended_by_hangup(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consult = call.ring(second, by=leg)
    yield world.seconds(2, 10)
    call.pick_up(consult)
    yield world.seconds(5, 40)
    reported_us = world.now_us
    call.transfer(leg, consult, reported=False)
    yield 0.05
    call.mark_unreported(reported_us, "the transfer is reported a moment later")
    yield world.seconds(10, 200)
    call.end_talk(consult)
    world.release(first, second)


@situation("a consultation that ends with the caller back at the agent", weight=2)
def consult_cancelled(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consult = call.ring(second, by=leg)
    yield world.seconds(3, 10)
    if world.chance(0.6):
        call.pick_up(consult)
        yield world.seconds(5, 40)
    call.cancel_consult(leg, consult)
    yield world.seconds(10, 100)
    call.end_talk(leg)
    world.release(first, second)


@situation("the consulted colleague hangs up, and the agent talks on")
def consulted_leaves(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consult = call.ring(second, by=leg)
    yield world.seconds(3, 10)
    call.pick_up(consult)
    yield world.seconds(5, 40)
    call.leave(consult)
    yield world.seconds(10, 100)
    call.end_talk(leg)
    world.release(first, second)


@situation("a consultation in vain, then another one that takes the caller over")
def consult_twice(world: World, name: str) -> Play:
    first, second, third = world.claim(3)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consult = call.ring(second, by=leg)
    yield world.seconds(10, 20)
    call.fall_silent(consult)
    yield world.seconds(3, 20)
    consult = call.ring(third, by=leg)
    yield world.seconds(2, 10)
    call.pick_up(consult)
    yield world.seconds(5, 40)
    call.transfer(leg, consult)
    yield world.seconds(10, 100)
    call.end_talk(consult)
    world.release(first, second, third)


@situation("a blonde transfer: the agent gives the caller away while the colleague's phone rings", weight=2)
def blonde(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consult = call.ring(second, by=leg)
    yield world.seconds(2, 8)
    handover = call.transfer(leg, None)
    call.ring_for_caller(consult)
    yield world.seconds(2, 10)
    call.take_over(handover, consult)
    yield world.seconds(10, 200)
    call.end_talk(consult)
    world.release(first, second)


@situation("a blonde transfer to a group, one of which answers", needs_reasons=True)
def blonde_to_group(world: World, name: str) -> Play:
    first, *group = world.claim(3)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consults = [call.ring(person, by=leg, dialled="600") for person in group]
    yield world.seconds(2, 8)
    handover = call.transfer(leg, None)
    call.ring_for_caller(*consults)
    yield world.seconds(2, 10)
    world.random.shuffle(consults)
    winner, loser = consults
    call.take_over(handover, winner)
    call.elsewhere(loser)
    yield world.seconds(10, 200)
    call.end_talk(winner)
    world.release(first, *group)


@situation("a blonde transfer that nobody answers: the caller is lost")
def blonde_lost(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consult = call.ring(second, by=leg)
    yield world.seconds(2, 8)
    call.transfer(leg, None)
    call.ring_for_caller(consult)
    yield world.seconds(5, 20)
    call.give_up(consult, outcome="answered", last_segment="missed")
    world.release(first, second)


@situation("a consultation of a group, one of which takes the caller over", needs_reasons=True)
def attended_to_group(world: World, name: str) -> Play:
    first, *group = world.claim(3)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    winner, loser = (call.ring(person, by=leg, dialled="600") for person in group)
    yield world.seconds(2, 8)
    call.pick_up(winner)
    call.elsewhere(loser)
    yield world.seconds(5, 30)
    call.transfer(leg, winner)
    yield world.seconds(10, 100)
    call.end_talk(winner)
    world.release(first, *group)


@situation("a chain: ring group, blind transfer to a group, attended transfer to a third", needs_reasons=True)
def chain(world: World, name: str) -> Play:
    first, lost, second, third = world.claim(4)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield 1
    leg, silent = call.ring(first), call.ring(lost)
    yield world.seconds(2, 10)
    call.pick_up(leg)
    call.elsewhere(silent)
    yield world.seconds(8, 60)
    handover = call.give_away(leg)
    call.queue = "obchod"
    yield 0.3
    call.next_round()
    leg = call.ring(second)
    yield world.seconds(2, 10)
    call.take_over(handover, leg)
    yield world.seconds(8, 60)
    call.next_round()
    consult = call.ring(third, by=leg)
    yield world.seconds(2, 8)
    call.pick_up(consult)
    yield world.seconds(5, 30)
    call.transfer(leg, consult)
    yield world.seconds(10, 200)
    call.end_talk(consult)
    world.release(first, lost, second, third)


@situation("an attended transfer of an outgoing call")
def outgoing_transferred(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = Call(world, name, caller=first.line, called=world.customer(), direction="outgoing")
    call.begin()
    yield 0.3
    leg = call.ring(first, role=Role.CALLER)
    yield world.seconds(3, 20)
    call.pick_up(leg)
    yield world.seconds(8, 60)
    consult = call.ring(second, by=leg)
    yield world.seconds(2, 8)
    call.pick_up(consult)
    yield world.seconds(5, 30)
    call.transfer(leg, consult)
    yield world.seconds(10, 200)
    call.end_talk(consult)
    world.release(first, second)


@situation("a blind transfer of an outgoing call")
def outgoing_given_on(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = Call(world, name, caller=first.line, called=world.customer(), direction="outgoing")
    call.begin()
    yield 0.3
    leg = call.ring(first, role=Role.CALLER)
    yield world.seconds(3, 20)
    call.pick_up(leg)
    yield world.seconds(8, 60)
    given_us = world.now_us
    handover = call.give_away(leg)
    # docs/call-rules.md, rule 9: no transfer is inferred over the end of an outgoing call. A late Hangup of the caller shows it all the same.
    call.truth.transfers_asked = False
    yield world.seconds(1.1, 1.6)
    call.mark_unreported(given_us, "the caller's Hangup ends an outgoing call until another phone rings")
    call.next_round()
    taken = call.ring(second)
    yield world.seconds(2, 15)
    call.take_over(handover, taken)
    yield world.seconds(10, 200)
    call.end_talk(taken)
    world.release(first, second)


@situation("an attended transfer, then the second agent gives the caller to a third without asking")
def attended_then_blind(world: World, name: str) -> Play:
    first, second, third = world.claim(3)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield from talk_first(world, call, first)
    leg = call.truth.legs[-1]
    consult = call.ring(second, by=leg)
    yield world.seconds(2, 10)
    call.pick_up(consult)
    yield world.seconds(5, 40)
    call.transfer(leg, consult)
    yield world.seconds(10, 60)
    handover = call.give_away(consult)
    call.queue = None
    yield world.seconds(0.05, 0.4)
    call.next_round()
    taken = call.ring(third)
    yield world.seconds(2, 15)
    call.take_over(handover, taken)
    yield world.seconds(10, 100)
    call.end_talk(taken)
    world.release(first, second, third)
