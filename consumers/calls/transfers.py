"""
Consultations (rule 7), attended transfers (rule 8) and hand-overs (rule 9).

Blind transfers have no event of their own; `holders` infers them from the legs.
"""

from typing import Final

from consumers.calls.call import LATE_US, REMEMBERED, Call, Step, Transfer
from consumers.calls.events import CallEvent
from consumers.calls.holders import Holders
from consumers.calls.legs import Leg, Reported
from consumers.calls.parties import is_blank, same_party, same_person
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Confidence, Effect, TransferKind
from voipex.events import Direction

CONFIRMS: Final = "confirms what was inferred"
KNOWN: Final = "this transfer was reported before"


# ---------------------------------------------------------------- rule 7: consultations


def consulter_of(call: Call, event: CallEvent) -> Leg | None:
    """Rule 7: the answered and open customer leg whose Line the event names as From."""
    here = None if event.from_ is None else call.by_line.get(event.from_)
    for leg in reversed(here.open) if here is not None else ():
        if leg.caller_since_us is not None and not same_party(leg, event) and _may_consult(call, leg):
            return leg
    return None


def _may_consult(call: Call, leg: Leg) -> bool:
    """Rule 7: the caller of a local call consults nobody before another party has been answered."""
    if leg.role is not LegRole.CALLER or call.direction is not Direction.OUTGOING_LOCAL:
        return True
    return call.another_was_answered(leg)


def begin_leg(call: Call, event: CallEvent, *, rings: bool) -> Leg:
    """Begin a leg: a consult if From names a leg that talks (rule 7), else one of the caller or of an agent."""
    consulter = consulter_of(call, event)
    call.reopen()
    if consulter is None:
        return call.begin(event, call.customer_role(event), rings=rings)
    consulter.has_consulted = True
    consult = call.begin(event, LegRole.CONSULT, rings=rings)
    consult.consulter = consulter.number
    return consult


def role_after_consult(call: Call, consult: Leg) -> None:
    """Rule 8: a consult leg that goes on after its consulting leg has ended rings for the caller."""
    consulter = call.leg(consult.consulter)
    if consulter.end is not None or consulter.caller_since_us is None:
        consult.role = call.customer_role(consult)


# ---------------------------------------------------------------- rule 8: attended transfers


def attended_transfer(call: Call, event: CallEvent) -> Step:
    """Rule 8: end the leg of the transferor; its consult leg takes the caller. Or confirm a transfer that is known."""
    known = _reported_lately(call, event)
    if known is not None:
        return Step(Effect.FILLED, KNOWN, _transferor(call, known))
    inferred = _taken_over_by_hangup(call, event)
    if inferred is not None:
        return _confirm(call, inferred, event)
    transferor = _own_talk(call, event) or _consulter_of_own_leg(call, event)
    if transferor is None:
        before = _given_away_by(call, event)
        if before is not None:
            return _confirm(call, before, event)
        transferor = _newest_consulter(call, event)
    if transferor is None and is_blank(event):
        before = _inferred_lately(call, event)
        if before is not None:
            return _confirm(call, before, event)
        talking = call.talking()
        transferor = talking[0] if len(talking) == 1 else None
    if transferor is None:
        return _of_a_line_without_talk(call, event)
    if same_party(transferor, event):
        call.touch(transferor, event)
    consults = call.open_consults_of(transferor)
    give_away(call, transferor, event, Confidence.HIGH if consults else Confidence.LOW, reported=True)
    why = None if consults else "no consulted leg is known: nobody is known to have taken over"
    return Step(Effect.TRANSFERRED, why, transferor)


def take_over_by_hangup(call: Call, leg: Leg, event: CallEvent) -> bool:
    """Rule 8: the consult legs of a transferor that hangs up take the call. Return whether there were any."""
    if leg.caller_since_us is None or not call.open_consults_of(leg):
        return False
    call.touch(leg, event)
    leg.hangup_place = call.place
    give_away(call, leg, event, Confidence.LOW, reported=False)
    return True


def give_away(
    call: Call, transferor: Leg, event: CallEvent, confidence: Confidence, *, reported: bool
) -> None:
    """End the leg of the transferor. Its newest answered consult leg takes the call, else all that ring now ring for the caller."""
    consults = call.open_consults_of(transferor)
    call.close(
        transferor, Reported(event.at_us, call.place), Reported(LegResult.TRANSFERRED, call.place), event
    )
    answered = [consult for consult in consults if consult.answer is not None]
    target = answered[-1] if answered else None
    for consult in consults:
        if consult is target:
            call.consultation_over(consult, event.at_us)
            consult.consult_until_us = event.at_us
            call.get_caller(consult, event.at_us, call.place)
        elif target is not None:
            follow(call, consult, target, event.at_us)
            continue
        consult.role = call.customer_role(consult)
        consult.took_over_from = transferor.number
    call.add_transfer(
        Transfer(
            event.at_us,
            call.place,
            TransferKind.ATTENDED,
            confidence,
            transferor.number,
            0 if target is None else target.number,
            transferor,
            reported_by=event if reported else None,
            by_hangup=not reported,
            after_consult=bool(consults),
        )
    )


def follow(call: Call, consult: Leg, consulter: Leg, at_us: int) -> None:
    """Let a consultation go on with the leg that has the caller now."""
    call.consultation_over(consult, at_us)
    consult.consulter = consulter.number


def _own_talk(call: Call, event: CallEvent) -> Leg | None:
    leg = call.open_leg_of(event)
    return leg if leg is not None and leg.caller_since_us is not None else None


def _consulter_of_own_leg(call: Call, event: CallEvent) -> Leg | None:
    leg = call.open_leg_of(event)
    return call.leg(leg.consulter) if leg is not None and leg.role is LegRole.CONSULT else None


def _newest_consulter(call: Call, event: CallEvent) -> Leg | None:
    """Rule 8: a party without an open leg means the newest leg that consults."""
    if call.open_leg_of(event) is not None:
        return None
    for leg in reversed(call.open):
        if leg.role is LegRole.CONSULT:
            return call.leg(leg.consulter)
    return None


def _newest(call: Call) -> Transfer | None:
    newest = call.transfers[-1] if call.transfers else None
    return None if newest is None or newest.kind is TransferKind.CANCELLED else newest


def _consult_since(call: Call, transfer: Transfer) -> bool:
    """Whether a consultation has begun since *transfer* and is open: then an AttendedTransfer means that one."""
    for leg in reversed(call.legs):
        if leg.began_place <= transfer.place:
            return False
        if leg.role is LegRole.CONSULT and leg.end is None:
            return True
    return False


def _reported_lately(call: Call, event: CallEvent) -> Transfer | None:
    """Rule 8: the transfer that was reported before, by the same party, or within 20 s by the target or anonymously."""
    newest = _newest(call)
    if newest is None or newest.reported_by is None or event.at_us - newest.reported_by.at_us > LATE_US:
        return None
    if _consult_since(call, newest):
        return None
    target = _target(call, newest)
    if is_blank(event) or (target is not None and same_party(target, event)):
        return newest
    has_caller_again = any(leg.caller_since_place > newest.place for leg in call.legs_of(event))
    return newest if same_party(newest.reported_by, event) and not has_caller_again else None


def _transferor(call: Call, transfer: Transfer) -> Leg | None:
    return call.leg(transfer.transferor) if transfer.transferor else None


def _target(call: Call, transfer: Transfer) -> Leg | None:
    target = Holders(call).target_of(transfer)
    return call.leg(target) if target else None


def _taken_over_by_hangup(call: Call, event: CallEvent) -> Transfer | None:
    """Rule 8: the newest transfer, if it was made by a Hangup, and the event names its target or nobody."""
    newest = _newest(call)
    if newest is None or not newest.by_hangup or newest.reported_by is not None:
        return None
    if _consult_since(call, newest):
        return None
    target = _target(call, newest)
    by_target = target is not None and same_party(target, event)
    return newest if is_blank(event) or by_target else None


def _inferred_lately(call: Call, event: CallEvent) -> Transfer | None:
    """Rule 8: the newest transfer, if it was inferred within the last 20 s."""
    newest = _newest(call)
    blind = Holders(call).newest_blind()
    if blind is not None and (newest is None or blind.place > newest.place):
        newest = blind
    if newest is None or newest.reported_by is not None or event.at_us - newest.at_us > LATE_US:
        return None
    return newest


def _given_away_by(call: Call, event: CallEvent) -> Transfer | None:
    """Rule 8: the newest transfer by the party, reported or inferred."""
    leg = next((leg for leg in call.legs_of(event) if leg.caller_since_us is not None), None)
    blind = None if leg is None else Holders(call).blind_of(leg)
    if blind is not None:
        return blind
    for transfer in reversed(call.transfers[-REMEMBERED:]):
        if transfer.kind is not TransferKind.CANCELLED and same_party(transfer.party, event):
            return (
                transfer
                if leg is None or transfer.transferor == leg.number or not transfer.transferor
                else None
            )
    return None


def _confirm(call: Call, transfer: Transfer, event: CallEvent) -> Step:
    """Rule 8: confirm a transfer. A second report is a note."""
    transferor = _transferor(call, transfer)
    if transfer.reported_by is not None:
        return Step(Effect.FILLED, KNOWN, transferor)
    if not any(each is transfer for each in call.transfers):
        call.add_transfer(transfer)  # it was inferred from the legs
    transfer.reported_by = event
    transfer.kind = TransferKind.ATTENDED
    transfer.confidence = Confidence.HIGH
    transfer.after_consult = True
    if transferor is not None:
        transferor.result = Reported(LegResult.TRANSFERRED, call.place)
        transferor.touched_us = event.at_us
    return Step(Effect.TRANSFERRED, CONFIRMS, transferor)


def _of_a_line_without_talk(call: Call, event: CallEvent) -> Step:
    """Rule 8: a party that had the caller and hung up gave the caller away, and the call goes on. Else a transfer of low confidence."""
    leg = next((leg for leg in call.legs_of(event) if leg.caller_since_us is not None), None)
    if call.closed_for_good(event):
        return call.late(event, "came after the end of the call")
    ended_surely = call.ended and (call.ended_rule in ("b", "e") or call.cdr is not None)
    if leg is not None and leg.end is not None and not ended_surely:
        call.touch(leg, event)
        call.reopen()
        leg.result = Reported(LegResult.TRANSFERRED, call.place)
        _keep(call, event, leg, leg.end.place)
        return Step(Effect.TRANSFERRED, "it had hung up: it gave the caller away", leg)
    _keep(call, event, leg, call.place)
    return Step(Effect.TRANSFERRED, "nobody is known to have consulted", leg)


def _keep(call: Call, event: CallEvent, leg: Leg | None, place: int) -> None:
    """Rule 8: add a transfer without any consult leg."""
    number = 0 if leg is None else leg.number
    party = event if leg is None else leg
    call.add_transfer(
        Transfer(
            event.at_us, place, TransferKind.ATTENDED, Confidence.LOW, number, 0, party, reported_by=event
        )
    )


def cancel_attended_transfer(call: Call, event: CallEvent) -> Step:
    """Rule 8: end the consult legs of the leg that consults, which goes on. It counts once per consultation."""
    if call.closed_for_good(event):
        return call.late(event, "came after the end of the call")
    consulter = _consulter_meant(call, event)
    if consulter is None:
        return Step(Effect.NONE, "no consultation to cancel")
    own = [
        leg
        for leg in call.legs
        if leg.consulter == consulter.number and leg.role is LegRole.CONSULT and not leg.cancel_reported
    ]
    consults = [leg for leg in own if leg.end is None] or own[-1:]
    if not consults:
        return Step(Effect.NONE, "no consultation to cancel")
    answered = [leg for leg in consults if leg.answer is not None]
    target = (answered or consults)[-1]
    for leg in consults:
        leg.cancel_reported = True
        if leg.end is None:
            result = LegResult.CANCELLED if leg.answer is None else LegResult.COMPLETED
            call.close(leg, Reported(event.at_us, call.place), Reported(result, call.place), event)
    call.add_transfer(
        Transfer(
            event.at_us,
            call.place,
            TransferKind.CANCELLED,
            Confidence.HIGH,
            consulter.number,
            target.number,
            consulter,
            reported_by=event,
        )
    )
    return Step(Effect.CANCELLED, None, target)


def _consulter_meant(call: Call, event: CallEvent) -> Leg | None:
    """Rule 8: the leg of the party if it talks, else the leg that consults it, else the newest that consults, open consultations first."""
    own = call.open_leg_of(event)
    if own is not None and own.role is LegRole.CONSULT:
        return call.leg(own.consulter)
    if own is not None:
        return own
    consults = [leg for leg in call.legs if leg.role is LegRole.CONSULT]
    newest = max(consults, key=lambda leg: (leg.end is None, leg.number), default=None)
    return None if newest is None else call.leg(newest.consulter)


# ---------------------------------------------------------------- rule 9: hand-overs


def infer_handover(call: Call, target: Leg) -> None:
    """
    Rule 9: infer a hand-over if *target*, just answered, began to ring after another leg had got the caller and that leg is open.

    The caller was handed over when the target began to ring.
    """
    if target.ring_started_us is None or call.is_callers_own(target):
        return
    for transferor in call.talking():
        if (
            transferor is target
            or transferor.caller_since_place >= target.began_place
            or same_person(transferor, target)
        ):
            continue
        at_us = target.ring_started_us
        for consult in call.open_consults_of(transferor):
            follow(call, consult, target, at_us)
        call.infer_end(transferor, at_us, LegResult.TRANSFERRED, "9")
        call.add_transfer(
            Transfer(
                at_us,
                call.place,
                TransferKind.HANDOVER_INFERRED,
                Confidence.MEDIUM,
                transferor.number,
                target.number,
                transferor,
            )
        )
