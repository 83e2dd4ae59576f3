"""
The PBX of one call: each act changes the truth and sends what a PBX of this dialect would send.

Situations that make the PBX say something misleading say it by `say`, and leave the truth as it is.
"""

from typing import Final

from tools.accuracy.people import Person
from tools.accuracy.truth import Conversation, Handover, Leg, Manner, Role
from tools.accuracy.world import Body, World

NORMAL: Final = "Normal Clearing"
NO_RESPONSE: Final = "No user response"
ELSEWHERE: Final = "Answered elsewhere"
BUSY: Final = "User busy"
REJECTED: Final = "Call Rejected"
ABSENT: Final = "Subscriber absent"
UNALLOCATED: Final = "Unallocated number"

RESULTS: Final = {
    NORMAL: "no_answer",
    NO_RESPONSE: "no_answer",
    ELSEWHERE: "answered_elsewhere",
    BUSY: "busy",
    REJECTED: "rejected",
    ABSENT: "unreachable",
    UNALLOCATED: "failed",
}
"""What happened to a phone that nobody picked up, by the reason that the PBX gives."""


class Call:
    """A conversation and its webhooks."""

    def __init__(
        self,
        world: World,
        situation: str,
        *,
        caller: str,
        called: str,
        direction: str = "incoming",
        queue: str | None = None,
    ) -> None:
        self.world = world
        self.queue = queue
        self._from, self._to = caller, called
        self._dialect = world.dialect
        reported = world.dialect.direction or direction != "incoming"
        self.truth = Conversation(world.unique_id(), situation, direction, reported)
        world.conversations.append(self.truth)
        self._round = 0
        self._parties: dict[Leg, tuple[Person, str, str]] = {}

    # ------------------------------------------------------------ how it begins

    def begin(self) -> None:
        """The call reaches the PBX."""
        if self._dialect.new_call:
            self.say("NewCall", None)
        if self.queue is not None and self._dialect.queue_answers:
            self.say("Answered", None, in_s=0.2)

    # ------------------------------------------------------------ phones

    def next_round(self) -> None:
        """The PBX starts to ring anew."""
        self._round += 1

    def ring(
        self,
        person: Person,
        *,
        line: str | None = None,
        role: Role = Role.AGENT,
        by: Leg | None = None,
        dialled: str | None = None,
        devices: int = 1,
    ) -> Leg:
        """A phone starts to ring. by: who consults, *dialled* being the number that he called."""
        leg = self._leg(person, line, role, by, dialled)
        leg.rang_us, leg.devices = self.world.now_us, devices
        for device in range(devices):
            self.say("Ringing", leg, in_s=device * 0.02)
        return leg

    def pick_up(self, leg: Leg) -> None:
        """Somebody answers: the caller's talk or the consultation begins."""
        leg.answered_us = self.world.now_us
        self.say("Answered", leg)
        if leg.role in (Role.AGENT, Role.CALLER):
            leg.got_caller_us = self.world.now_us

    def pick_up_unnamed(self, leg: Leg) -> None:
        """Somebody answers, and the PBX does not say who."""
        leg.answered_us = leg.got_caller_us = self.world.now_us
        self.say("Answered", None)

    def pick_up_unrung(self, person: Person) -> Leg:
        """Somebody takes the call from another phone (a pickup, a parking lot)."""
        leg = self._leg(person, None, Role.AGENT, None, None)
        self.pick_up(leg)
        return leg

    def attempt_unrung(self, person: Person) -> Leg:
        """An outgoing call that fails before anything rings."""
        return self._leg(person, None, Role.CALLER, None, None)

    def elsewhere(self, *legs: Leg, reported_in_s: float = 0.05) -> None:
        """Phones fall silent because another was picked up; reported after *reported_in_s*."""
        for number, leg in enumerate(legs):
            leg.ended_us, leg.result = self.world.now_us, "answered_elsewhere"
            self.say("Hangup", leg, ELSEWHERE, in_s=reported_in_s + number * 0.02)

    def fall_silent(self, leg: Leg, reason: str = NO_RESPONSE, result: str | None = None) -> None:
        """A phone stops to ring, and nobody has picked it up."""
        leg.ended_us, leg.result = self.world.now_us, result or RESULTS[reason]
        self.say("Hangup", leg, reason)

    def leave(self, leg: Leg, result: str = "completed") -> None:
        """Who talks, listens in or is consulted hangs up."""
        leg.ended_us, leg.result = self.world.now_us, result
        self.say("Hangup", leg, NORMAL)

    # ------------------------------------------------------------ handing the caller over

    def transfer(self, transferor: Leg, target: Leg | None, *, reported: bool = True) -> Handover:
        """
        Give the caller to who is consulted (or rings for a consultation; None: a group). reported: by AttendedTransfer, else by a Hangup.
        """
        now_us = self.world.now_us
        asleep = target is None or target.answered_us is None
        handover = Handover(now_us, Manner.BLONDE if asleep or not reported else Manner.ATTENDED, transferor)
        self.truth.handovers.append(handover)
        if target is not None and target.answered_us is not None:
            target.role, target.got_caller_us, target.consulted_until_us = Role.AGENT, now_us, now_us
            handover.to_line = target.line
        transferor.ended_us, transferor.result = now_us, "transferred"
        if reported:
            self._say_transfer(transferor)
        if not reported or self._dialect.transferor_hangs_up:
            self.say("Hangup", transferor, NORMAL, in_s=0.05)
        return handover

    def take_over(self, handover: Handover, leg: Leg) -> None:
        """Who rang during a transfer picks up and has the caller."""
        leg.role = Role.AGENT
        handover.to_line = leg.line
        person, _, _ = self._parties[leg]
        self._parties[leg] = (person, self._from, self._to)
        self.pick_up(leg)

    def ring_for_caller(self, *legs: Leg) -> None:
        """Phones that rang for a consultation ring on for the caller."""
        for leg in legs:
            leg.role, leg.consulted_by = Role.AGENT, None

    def cancel_consult(self, transferor: Leg, *consulted: Leg) -> None:
        """The agent returns to the caller."""
        now_us = self.world.now_us
        answered = [leg for leg in consulted if leg.answered_us is not None]
        to_line = (answered or consulted)[-1].line
        self.truth.handovers.append(Handover(now_us, Manner.CANCELLED, transferor, to_line))
        self.say("CancelAttendedTransfer", transferor)
        for leg in consulted:
            leg.ended_us = now_us
            leg.result = "completed" if leg.answered_us is not None else "cancelled|no_answer"
            self.say("Hangup", leg, NORMAL if leg.answered_us is not None else NO_RESPONSE, in_s=0.1)

    def give_away(self, transferor: Leg) -> Handover:
        """A blind transfer or parking: the agent is out, and the caller goes on. No event names it."""
        handover = Handover(self.world.now_us, Manner.BLIND, transferor)
        self.truth.handovers.append(handover)
        self.leave(transferor)
        transferor.result = None  # to the PBX this phone has just hung up
        return handover

    # ------------------------------------------------------------ how it ends

    def over(self, outcome: str, last_segment: str | None = None) -> None:
        """The call ends now, by what has been said or is said next."""
        now_us = self.world.now_us
        self.truth.ended_us, self.truth.outcome = now_us, outcome
        self.truth.last_segment = last_segment or outcome
        if self._dialect.cdr:
            self.say("CDR", None, in_s=self.world.seconds(0.3, 0.8))

    def end_talk(self, leg: Leg) -> None:
        """The last talk ends, reported by the dialect's Hangups."""
        leg.ended_us, leg.result = self.world.now_us, "completed"
        order = self._dialect.end_order.split(", ")
        if leg.role is Role.CALLER or self.truth.direction != "incoming":
            order = ["agent"]  # the far end of an outgoing call has no Hangup of its own
        for number, channel in enumerate(order):
            self.say("Hangup", leg if channel == "agent" else None, NORMAL, in_s=number * 0.08)
        self.over("answered")

    def give_up(self, *ringing: Leg, outcome: str = "missed", last_segment: str | None = None) -> None:
        """The caller hangs up; the phones that ring fall silent."""
        for leg in ringing:
            self.fall_silent(leg, NORMAL)
        self.say("Hangup", None, NORMAL, in_s=0.03 if ringing else 0.0)
        self.over(outcome, last_segment)

    def mark_unreported(self, from_us: int, why: str) -> None:
        """From a moment until now no event says what goes on."""
        self.truth.unreported.append((from_us, self.world.now_us, why))

    # ------------------------------------------------------------ events

    def say(
        self,
        event_name: str,
        leg: Leg | None,
        reason: str = "",
        *,
        in_s: float = 0.0,
        direction: str | None = None,
    ) -> None:
        """Send an event of a phone, or of the whole call."""
        person, number_from, number_to = (None, self._from, self._to) if leg is None else self._parties[leg]
        body: Body = {"EventName": event_name, "From": number_from, "To": number_to}
        body["Line"] = "" if leg is None else leg.line
        body["Email"] = "" if person is None else person.email
        body["Login"] = "" if person is None else person.login
        body["UniqueId"] = self.truth.call_id
        if (
            leg is not None
            and leg.role is Role.CALLER
            and self._dialect.login_at_hangup
            and event_name != "Hangup"
        ):
            body["Email"] = body["Login"] = ""
            if person is not None and person.static:
                self.truth.unheard.add(person.login)  # no AgentLogin has named the line
        if leg is not None and body["Login"]:
            leg.login_reported = True
        if self._dialect.queue and leg is not None and leg.queue is not None:
            body["Queue"] = leg.queue
        body |= self._direction(leg, direction)
        if reason and self._dialect.reasons:
            body["Reason"] = reason
        self.world.send(body, self.truth.call_id, in_s)
        if self.truth.first_sign_us is None:
            self.truth.first_sign_us = self.world.now_us + round(in_s * 1e6)
            self.truth.start_seen = event_name not in ("Hangup", "CDR")

    def _direction(self, leg: Leg | None, given: str | None) -> Body:
        direction = self.truth.direction if given is None else given
        if leg is not None and leg.role is Role.MONITOR:
            direction = "barge"
        elif direction == "incoming" and not self._dialect.direction:
            return {}
        elif direction == "outgoing_local" and leg is not None and leg.role is not Role.CALLER:
            direction = "incomingLocal"
        name = {"outgoing_local": "outgoingLocal", "incoming_local": "incomingLocal"}.get(
            direction, direction
        )
        return {"Direction": name.lower() if self._dialect.lower_case else name}

    def _say_transfer(self, transferor: Leg) -> None:
        if self._dialect.named_transfer:
            self.say("AttendedTransfer", transferor)
        else:
            self.say("AttendedTransfer", None)

    def _leg(self, person: Person, line: str | None, role: Role, by: Leg | None, dialled: str | None) -> Leg:
        leg = Leg(line or person.line, person.login, role, self._round, consulted_by=by)
        if by is not None:
            leg.role = Role.CONSULT
        elif role is Role.AGENT:
            leg.queue = self.queue
        self.truth.legs.append(leg)
        numbers = (self._from, self._to) if by is None else (by.line, dialled or leg.line)
        self._parties[leg] = (person, *numbers)
        return leg
