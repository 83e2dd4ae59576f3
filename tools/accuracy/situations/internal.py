"""Calls between colleagues, reported from both sides or from the called one's alone."""

from tools.accuracy.people import Person
from tools.accuracy.situations.register import situation
from tools.accuracy.telephony import BUSY, NORMAL, RESULTS, Call
from tools.accuracy.truth import Leg, Role
from tools.accuracy.world import Play, World


class _InternalCall(Call):
    """An internal call. A PBX that tells one side only says nothing of the caller's phone."""

    def __init__(self, world: World, name: str, caller: Person, called: Person) -> None:
        direction = "outgoing_local" if world.dialect.both_views else "incoming_local"
        super().__init__(world, name, caller=caller.line, called=called.line, direction=direction)
        self.begin()
        self.own: Leg | None = None
        if world.dialect.both_views:
            self.own = self.ring(caller, role=Role.CALLER)
        else:
            self.truth.unheard.add(caller.login)
        self.far = self.ring(called)

    def answer(self) -> None:
        self.pick_up(self.far)
        if self.own is not None:
            self.pick_up(self.own)

    def end_both(self) -> None:
        now_us = self.world.now_us
        self.leave(self.far)
        if self.own is not None:
            self.own.ended_us, self.own.result = now_us, "completed"
            self.say("Hangup", self.own, NORMAL, in_s=0.02)
        self.over("answered")

    def fail(self, reason: str) -> None:
        self.fall_silent(self.far, reason)
        unanswered = "no_answer" if self.own is not None else "missed"
        if self.own is not None:
            self.fall_silent(self.own, reason)
        else:
            self.say("Hangup", None, reason, in_s=0.02)
        self.over(unanswered if RESULTS[reason] == "no_answer" else RESULTS[reason])


@situation("an internal call, answered", weight=3)
def internal_answered(world: World, name: str) -> Play:
    caller, called = world.claim(2)
    call = _InternalCall(world, name, caller, called)
    yield world.seconds(2, 15)
    call.answer()
    yield world.seconds(10, 200)
    call.end_both()
    world.release(caller, called)


@situation("an internal call that is not answered")
def internal_missed(world: World, name: str) -> Play:
    caller, called = world.claim(2)
    call = _InternalCall(world, name, caller, called)
    yield world.seconds(10, 30)
    call.fail(NORMAL)
    world.release(caller, called)


@situation("an internal call to a colleague who is busy", needs_reasons=True)
def internal_busy(world: World, name: str) -> Play:
    caller, called = world.claim(2)
    call = _InternalCall(world, name, caller, called)
    yield world.seconds(0.5, 3)
    call.fail(BUSY)
    world.release(caller, called)
