"""Calls of customers that no agent gives away."""

from tools.accuracy.people import Person
from tools.accuracy.situations.register import situation
from tools.accuracy.telephony import ABSENT, BUSY, ELSEWHERE, NO_RESPONSE, NORMAL, REJECTED, RESULTS, Call
from tools.accuracy.truth import Leg, Role
from tools.accuracy.world import Play, World

NUMBER = "222333444"


def to_line(world: World, name: str, person: Person) -> Call:
    return Call(world, name, caller=world.customer(), called=person.line)


def to_queue(world: World, name: str, queue: str) -> Call:
    return Call(world, name, caller=world.customer(), called=NUMBER, queue=queue)


def any_queue(world: World) -> str:
    return world.random.choice(("podpora", "obchod", "fakturace"))


def ring_all(call: Call, people: list[Person]) -> list[Leg]:
    """The queue rings several persons at once."""
    call.next_round()
    return [call.ring(person) for person in people]


def answer_one(world: World, call: Call, legs: list[Leg]) -> Leg:
    """One picks up, the others fall silent."""
    leg = world.random.choice(legs)
    call.pick_up(leg)
    call.elsewhere(*(each for each in legs if each is not leg))
    return leg


@situation("a customer dials an agent, who answers", weight=4)
def direct_answered(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_line(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent)
    yield world.seconds(2, 20)
    call.pick_up(leg)
    yield world.seconds(10, 300)
    call.end_talk(leg)
    world.release(agent)


@situation("a customer dials an agent, who does not answer")
def direct_missed(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_line(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent)
    yield world.seconds(8, 40)
    call.give_up(leg)
    world.release(agent)


@situation("a customer dials an agent, who is busy or rejects the call", needs_reasons=True)
def direct_refused(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_line(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent)
    reason = world.random.choice((BUSY, REJECTED))
    yield world.seconds(1, 6)
    call.fall_silent(leg, reason)
    call.say("Hangup", None, reason, in_s=0.03)
    yield 0.03
    call.over(RESULTS[reason])
    world.release(agent)


@situation("the queue rings one agent, who answers", weight=6)
def queue_answered(world: World, name: str) -> Play:
    queue = any_queue(world)
    [agent] = world.claim(1, queue)
    call = to_queue(world, name, queue)
    call.begin()
    yield world.seconds(1, 90)
    leg = call.ring(agent)
    yield world.seconds(2, 15)
    call.pick_up(leg)
    yield world.seconds(10, 400)
    call.end_talk(leg)
    world.release(agent)


@situation(
    "the queue rings several agents, one answers, and the Hangups of the others come at once",
    weight=4,
    needs_reasons=True,
)
def queue_ring_all(world: World, name: str) -> Play:
    queue = any_queue(world)
    agents = world.claim(world.random.choice((2, 3)), queue)
    call = to_queue(world, name, queue)
    call.begin()
    yield world.seconds(1, 60)
    legs = ring_all(call, agents)
    yield world.seconds(2, 15)
    leg = answer_one(world, call, legs)
    yield world.seconds(10, 300)
    call.end_talk(leg)
    world.release(*agents)


@situation("the losers of a ring group are reported only after the talk", needs_reasons=True)
def losers_reported_late(world: World, name: str) -> Play:
    agents = world.claim(3)
    call = to_queue(world, name, agents[0].queues[0])
    call.begin()
    yield 1
    legs = ring_all(call, agents)
    yield world.seconds(2, 15)
    winner, *losers = legs
    call.pick_up(winner)
    talk_s = world.seconds(20, 300)
    call.elsewhere(*losers, reported_in_s=talk_s + 0.2)
    yield talk_s
    call.end_talk(winner)
    world.release(*agents)


@situation("the losers of a ring group are never reported", needs_reasons=True)
def losers_never_reported(world: World, name: str) -> Play:
    agents = world.claim(2)
    call = to_queue(world, name, agents[0].queues[0])
    call.begin()
    yield 1
    winner, loser = ring_all(call, agents)
    yield world.seconds(2, 15)
    call.pick_up(winner)
    loser.ended_us, loser.result = world.now_us, "answered_elsewhere"
    yield world.seconds(20, 300)
    call.end_talk(winner)
    world.release(*agents)


@situation("the queue rings the same agent again after a break, who then answers")
def queue_rings_again(world: World, name: str) -> Play:
    queue = any_queue(world)
    [agent] = world.claim(1, queue)
    call = to_queue(world, name, queue)
    call.begin()
    yield world.seconds(1, 20)
    for _ in range(world.random.choice((1, 2))):
        call.next_round()
        leg = call.ring(agent)
        yield 15
        call.fall_silent(leg)
        yield world.seconds(5, 12)
    call.next_round()
    leg = call.ring(agent)
    yield world.seconds(2, 12)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(agent)


@situation("the queue rings a group twice: nobody answers, then one does", needs_reasons=True)
def queue_two_rounds(world: World, name: str) -> Play:
    agents = world.claim(2)
    call = to_queue(world, name, agents[0].queues[0])
    call.begin()
    yield world.seconds(1, 20)
    legs = ring_all(call, agents)
    yield 15
    for leg in legs:
        call.fall_silent(leg)
    yield world.seconds(5, 8)
    legs = ring_all(call, agents)
    yield world.seconds(2, 12)
    leg = answer_one(world, call, legs)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(*agents)


@situation("the caller leaves the queue before any phone rings")
def queue_left_early(world: World, name: str) -> Play:
    call = to_queue(world, name, any_queue(world))
    call.begin()
    yield world.seconds(5, 300)
    call.give_up()


@situation("the caller leaves the queue while a phone rings")
def queue_left_ringing(world: World, name: str) -> Play:
    queue = any_queue(world)
    [agent] = world.claim(1, queue)
    call = to_queue(world, name, queue)
    call.begin()
    yield world.seconds(1, 60)
    leg = call.ring(agent)
    yield world.seconds(2, 14)
    call.give_up(leg)
    world.release(agent)


@situation("nobody is logged in at night: an announcement, and the caller hangs up")
def night(world: World, name: str) -> Play:
    call = to_queue(world, name, any_queue(world))
    call.begin()
    yield world.seconds(10, 60)
    call.give_up()


@situation("a hunt group: the first rings in vain, the second answers")
def hunt_group(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = Call(world, name, caller=world.customer(), called="600")
    call.begin()
    yield 1
    leg = call.ring(first)
    yield 25
    call.fall_silent(leg)
    yield 0.2
    call.next_round()
    leg = call.ring(second)
    yield world.seconds(2, 20)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(first, second)


@situation("a queue overflows into another one, whose agent answers")
def overflow(world: World, name: str) -> Play:
    [first] = world.claim(1, "podpora")
    [second] = world.claim(1, "obchod")
    call = to_queue(world, name, "podpora")
    call.begin()
    yield 2
    leg = call.ring(first)
    yield 20
    call.fall_silent(leg)
    yield world.seconds(1, 20)
    call.queue = "obchod"
    call.next_round()
    leg = call.ring(second)
    yield world.seconds(2, 12)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(first, second)


@situation("an agent rejects the call, the queue's next one answers", needs_reasons=True)
def rejected_then_answered(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield 2
    leg = call.ring(first)
    yield world.seconds(1, 8)
    call.fall_silent(leg, REJECTED)
    yield world.seconds(0.5, 5)
    call.next_round()
    leg = call.ring(second)
    yield world.seconds(2, 12)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(first, second)


@situation("two devices on one line, one of them is dead; the other is picked up", needs_reasons=True)
def dead_device(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_queue(world, name, agent.queues[0])
    call.begin()
    yield world.seconds(1, 30)
    leg = call.ring(agent, devices=2)
    yield 0.3
    call.say("Hangup", leg, ABSENT)  # the dead one's: the line rings on
    yield world.seconds(1, 12)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(agent)


@situation(
    "two devices on one line, reported by one Ringing; one is dead, the other is picked up",
    needs_reasons=True,
)
def dead_device_one_ringing(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_queue(world, name, agent.queues[0])
    call.begin()
    yield world.seconds(1, 30)
    leg = call.ring(agent)
    yield 0.3
    silent_us = world.now_us
    call.say("Hangup", leg, ABSENT)
    yield world.seconds(1, 12)
    call.mark_unreported(
        silent_us, "one device says that it is dead, and no event says that the other rings on"
    )
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(agent)


@situation("two devices on one line, one of them is dead; the other rings in vain", needs_reasons=True)
def dead_device_missed(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_queue(world, name, agent.queues[0])
    call.begin()
    yield world.seconds(1, 30)
    leg = call.ring(agent, devices=2)
    yield 0.3
    call.say("Hangup", leg, ABSENT)
    yield world.seconds(10, 15)
    call.fall_silent(leg)
    yield world.seconds(2, 30)
    call.give_up()
    world.release(agent)


@situation("the phone of a ring group's member is dead, another member answers", needs_reasons=True)
def dead_member(world: World, name: str) -> Play:
    dead, alive = world.claim(2)
    call = to_queue(world, name, dead.queues[0])
    call.begin()
    yield world.seconds(1, 30)
    silent, leg = ring_all(call, [dead, alive])
    yield 0.2
    call.fall_silent(silent, ABSENT)
    yield world.seconds(2, 12)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(dead, alive)


@situation("one person, desk phone and mobile ring together, one is answered", needs_reasons=True)
def two_phones_answered(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_queue(world, name, agent.queues[0])
    call.begin()
    yield world.seconds(1, 30)
    legs = [call.ring(agent), call.ring(agent, line=agent.mobile)]
    yield world.seconds(2, 12)
    leg = answer_one(world, call, legs)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(agent)


@situation("one person, desk phone and mobile ring together, none is answered: one missed call")
def two_phones_missed(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_queue(world, name, agent.queues[0])
    call.begin()
    yield world.seconds(1, 30)
    legs = [call.ring(agent), call.ring(agent, line=agent.mobile)]
    yield 20
    for leg in legs:
        call.fall_silent(leg)
    yield world.seconds(1, 30)
    call.give_up()
    world.release(agent)


@situation("a second customer rings the agent who talks, and gives up")
def second_call(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_line(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent)
    yield world.seconds(2, 10)
    call.pick_up(leg)
    yield world.seconds(5, 30)
    second = to_line(world, name, agent)
    second.begin()
    yield 0.3
    knocking = second.ring(agent)
    yield world.seconds(3, 25)
    second.give_up(knocking)
    yield world.seconds(5, 100)
    call.end_talk(leg)
    world.release(agent)


@situation("the only agent of the queue does not answer, and the caller gives up")
def queue_missed(world: World, name: str) -> Play:
    queue = any_queue(world)
    [agent] = world.claim(1, queue)
    call = to_queue(world, name, queue)
    call.begin()
    yield world.seconds(2, 20)
    leg = call.ring(agent)
    yield 20
    call.fall_silent(leg)
    yield world.seconds(1, 60)
    call.give_up()
    world.release(agent)


@situation("a mobile picks up and does not confirm; the desk phone of the group answers", needs_reasons=True)
def unconfirmed_mobile(world: World, name: str) -> Play:
    first, second = world.claim(2)
    call = to_queue(world, name, first.queues[0])
    call.begin()
    yield 1
    mobile, desk = call.ring(first, line=first.mobile), call.ring(second)
    yield world.seconds(3, 7)
    picked_up_us = world.now_us
    call.say("Answered", mobile)
    yield world.seconds(5, 9)
    call.fall_silent(mobile, NO_RESPONSE)
    call.mark_unreported(picked_up_us, "a mobile is reported as answered until it fails to confirm")
    yield world.seconds(1, 10)
    call.pick_up(desk)
    yield world.seconds(10, 200)
    call.end_talk(desk)
    world.release(first, second)


@situation("a mobile picks up and does not confirm, nobody else answers", needs_reasons=True)
def unconfirmed_mobile_missed(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_queue(world, name, agent.queues[0])
    call.begin()
    yield 1
    mobile = call.ring(agent, line=agent.mobile)
    yield world.seconds(3, 7)
    picked_up_us = world.now_us
    call.say("Answered", mobile)
    yield world.seconds(5, 9)
    call.fall_silent(mobile, NO_RESPONSE)
    call.mark_unreported(picked_up_us, "a mobile is reported as answered until it fails to confirm")
    yield world.seconds(1, 10)
    call.give_up()
    world.release(agent)


@situation("nobody answers, and the mailbox takes a message")
def voicemail(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_line(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent)
    yield 20
    call.fall_silent(leg)
    yield 0.2
    call.say("Answered", None)
    yield world.seconds(5, 60)
    call.give_up()
    world.release(agent)


@situation("another agent picks up a ringing phone's call by a feature code", needs_reasons=True)
def pickup(world: World, name: str) -> Play:
    ringing, target = world.claim(2)
    call = to_line(world, name, ringing)
    call.begin()
    yield 0.3
    leg = call.ring(ringing)
    yield world.seconds(3, 15)
    taken = call.pick_up_unrung(target)
    leg.ended_us, leg.result = world.now_us, "answered_elsewhere"
    call.say("Hangup", leg, ELSEWHERE, in_s=0.05)
    yield world.seconds(10, 200)
    call.end_talk(taken)
    world.release(ringing, target)


@situation("a supervisor listens in", needs_reasons=False)
def barge(world: World, name: str) -> Play:
    agent, supervisor = world.claim(2)
    call = to_queue(world, name, agent.queues[0])
    call.begin()
    yield 2
    leg = call.ring(agent)
    yield world.seconds(2, 10)
    call.pick_up(leg)
    yield world.seconds(5, 30)
    listening = call.ring(supervisor, role=Role.MONITOR)
    yield world.seconds(1, 3)
    call.pick_up(listening)
    yield world.seconds(10, 60)
    call.leave(listening)
    yield world.seconds(5, 60)
    call.end_talk(leg)
    world.release(agent, supervisor)


@situation("the queue rings one agent, whose Answered does not say who answers")
def answered_unnamed(world: World, name: str) -> Play:
    queue = any_queue(world)
    [agent] = world.claim(1, queue)
    call = to_queue(world, name, queue)
    call.begin()
    yield world.seconds(1, 90)
    leg = call.ring(agent)
    yield world.seconds(2, 15)
    call.pick_up_unnamed(leg)
    yield world.seconds(10, 200)
    leg.ended_us, leg.result = world.now_us, "completed"
    call.say("Hangup", leg, NORMAL)
    call.say("Hangup", None, NORMAL, in_s=0.08)
    call.over("answered")
    world.release(agent)


@situation("a ring group, one answers and the Answered does not say who", needs_reasons=True)
def ring_all_unnamed(world: World, name: str) -> Play:
    agents = world.claim(2)
    call = to_queue(world, name, agents[0].queues[0])
    call.begin()
    yield world.seconds(1, 60)
    leg, loser = ring_all(call, agents)
    yield world.seconds(2, 15)
    call.pick_up_unnamed(leg)
    call.elsewhere(loser)
    yield world.seconds(10, 200)
    leg.ended_us, leg.result = world.now_us, "completed"
    call.say("Hangup", leg, NORMAL)
    call.say("Hangup", None, NORMAL, in_s=0.08)
    call.over("answered")
    world.release(*agents)


@situation("a second customer rings the agent who talks, is taken, and the first waits on hold")
def second_call_taken(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    call = to_line(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent)
    yield world.seconds(2, 10)
    call.pick_up(leg)
    yield world.seconds(5, 30)
    second = to_line(world, name, agent)
    second.begin()
    yield 0.3
    other = second.ring(agent)
    yield world.seconds(3, 15)
    second.pick_up(other)
    yield world.seconds(10, 60)
    second.end_talk(other)
    yield world.seconds(5, 60)
    call.end_talk(leg)
    world.release(agent)


@situation("a customer dials an agent who is paused or logged out, and answers")
def direct_to_absent(world: World, name: str) -> Play:
    agent = world.claim_absent()
    call = to_line(world, name, agent)
    call.begin()
    yield 0.3
    leg = call.ring(agent)
    yield world.seconds(2, 20)
    call.pick_up(leg)
    yield world.seconds(10, 200)
    call.end_talk(leg)
    world.release(agent)


@situation("the agent puts the caller on hold, reported by events that are not documented")
def on_hold(world: World, name: str) -> Play:
    queue = any_queue(world)
    [agent] = world.claim(1, queue)
    call = to_queue(world, name, queue)
    call.begin()
    yield world.seconds(1, 30)
    leg = call.ring(agent)
    yield world.seconds(2, 15)
    call.pick_up(leg)
    yield world.seconds(10, 60)
    call.say("Hold", leg)
    yield world.seconds(5, 60)
    call.say("Unhold", leg)
    yield world.seconds(10, 60)
    call.end_talk(leg)
    world.release(agent)


@situation("a caller gives up, and an agent calls back")
def callback(world: World, name: str) -> Play:
    [agent] = world.claim(1)
    customer = world.customer()
    call = Call(world, name, caller=customer, called=NUMBER, queue=agent.queues[0])
    call.begin()
    yield world.seconds(5, 40)
    call.give_up()
    yield world.seconds(30, 300)
    back = Call(world, name, caller=agent.line, called=customer, direction="outgoing")
    back.begin()
    yield 0.3
    leg = back.ring(agent, role=Role.CALLER)
    yield world.seconds(3, 20)
    back.pick_up(leg)
    yield world.seconds(10, 200)
    back.end_talk(leg)
    world.release(agent)
