"""Consultations (rule 7), attended transfers (rule 8), blind transfers and hand-overs (rule 9)."""

from typing import Final

from consumers.calls.call import SECOND_US, Applied, Call, Transfer
from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, PartyLike, is_blank, same_party
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Confidence, Effect, TransferKind

BLIND_US: Final = 10 * SECOND_US
"""A blind transfer rings the target within this time before or after the transferor hangs up (rule 9)."""


# ---------------------------------------------------------------- rule 7: consultations


def consulter_of(call: Call, event: CallEvent) -> Leg | None:
    """Rule 7: return the open answered customer leg whose Line is the From of the event that begins a leg."""
    if event.from_ is None:
        return None
    for leg in reversed(call.talking()):
        if leg.line == event.from_ and not same_party(leg, event):
            return leg
    return None


def begin_leg(call: Call, event: CallEvent, *, rings: bool) -> Leg:
    """Open a leg: a consult leg if From is a talking line (rule 7), else a leg of the caller or an agent."""
    consulter = consulter_of(call, event)
    call.reopen()
    if consulter is None:
        return call.begin(event, call.customer_role(event), rings=rings)
    consult = call.begin(event, LegRole.CONSULT, rings=rings)
    consult.consulter = consulter.number
    return consult


# ---------------------------------------------------------------- rule 8: attended transfers


def attended_transfer(call: Call, event: CallEvent) -> Applied:
    """Rule 8, AttendedTransfer(L): connect the caller to the party that L consulted."""
    confirmed = _confirmed_transfer(call, event)
    if confirmed is not None:
        return _confirm(call, confirmed, event)
    transferor = _own_talk(call, event) or _consulter_of_open_leg(call, event)
    if transferor is None:
        earlier = _transfer_by(call, event)
        if earlier is not None:
            return _confirm(call, earlier, event)
        transferor = _who_consults(call, event)
    if transferor is None and is_blank(event):
        transferor = _only_talking_leg(call)
    if transferor is None:
        return _record_unexplained(call, event)
    if same_party(transferor, event):
        call.touch(transferor, event)
    consults = call.open_consults_of(transferor)
    complete_transfer(
        call, transferor, event, Confidence.HIGH if consults else Confidence.LOW, reported_by=event
    )
    why = None if consults else "no consulted leg is known: nobody is known to have taken over"
    return Applied(Effect.TRANSFERRED, why, transferor)


def transfer_on_hangup(call: Call, leg: Leg, event: CallEvent) -> bool:
    """Rule 8, last sentence: a Hangup of a leg with an open consult leg transfers the caller to the consulted party."""
    if not call.open_consults_of(leg):
        return False
    call.touch(leg, event)
    leg.own_hangup = True
    complete_transfer(call, leg, event, Confidence.LOW, reported_by=None)
    return True


def complete_transfer(
    call: Call, transferor: Leg, event: CallEvent, confidence: Confidence, *, reported_by: CallEvent | None
) -> None:
    """End the leg of the transferor as transferred. Its newest open consult leg gets the caller; the other consults follow."""
    consults = call.open_consults_of(transferor)
    call.close(transferor, event.at_us, LegResult.TRANSFERRED, event)
    transferor.transferred_us = event.at_us
    target = consults[-1] if consults else None
    if target is not None:
        _take_over(call, target, transferor, event.at_us)
        for consult in consults[:-1]:
            follow(call, consult, target, event.at_us)
    number = 0 if target is None else target.number
    call.transfers.append(
        Transfer(
            event.at_us, TransferKind.ATTENDED, confidence, transferor.number, number, transferor, reported_by
        )
    )


def _take_over(call: Call, target: Leg, transferor: Leg, at_us: int) -> None:
    if target.answered_us is not None:
        call.consultation_over(target, at_us)
        target.consult_until_us = at_us
        call.connect_caller(target, at_us, call.index)
    target.role = call.customer_role(target)
    target.took_over_from = transferor.number


def follow(call: Call, consult: Leg, consulter: Leg, at_us: int) -> None:
    """Assign a consultation to the leg that has the caller now."""
    call.consultation_over(consult, at_us)
    consult.consulter = consulter.number


def cancel_attended_transfer(call: Call, event: CallEvent) -> Applied:
    """Rule 8, CancelAttendedTransfer(L): close the consult leg; L continues. Applied once per consult."""
    consult = _consult_meant(call, event)
    if consult is None or consult.cancel_reported:
        return Applied(Effect.NONE, "no consultation to cancel")
    consult.cancel_reported = True
    if consult.is_open:
        unanswered = consult.answered_us is None
        call.close(consult, event.at_us, LegResult.CANCELLED if unanswered else LegResult.COMPLETED, event)
    consulter = call.leg(consult.consulter)
    call.transfers.append(
        Transfer(
            event.at_us,
            TransferKind.CANCELLED,
            Confidence.HIGH,
            consulter.number,
            consult.number,
            consulter,
            event,
        )
    )
    return Applied(Effect.CANCELLED, None, consult)


def _consult_meant(call: Call, event: CallEvent) -> Leg | None:
    """Return the consult leg of L itself, else the newest one that L consults; without an open leg of L the newest of all. Open legs first."""
    own = call.open_leg_of(event)
    if own is not None and own.role is LegRole.CONSULT:
        return own
    consults = [leg for leg in call.legs if leg.role is LegRole.CONSULT]
    if own is not None:
        consults = [leg for leg in consults if leg.consulter == own.number]
    return max(consults, key=lambda leg: (leg.is_open, leg.number), default=None)


def _own_talk(call: Call, event: CallEvent) -> Leg | None:
    return next((leg for leg in call.talking()[::-1] if same_party(leg, event)), None)


def _consulter_of_open_leg(call: Call, event: CallEvent) -> Leg | None:
    own = call.open_leg_of(event)
    if own is None or own.role is not LegRole.CONSULT:
        return None
    return call.leg(own.consulter)


def _who_consults(call: Call, event: CallEvent) -> Leg | None:
    """For L without an open leg: return the consulting leg of the newest open consult."""
    if call.open_leg_of(event) is not None:
        return None
    for leg in reversed(call.open):
        if leg.role is LegRole.CONSULT:
            return call.leg(leg.consulter)
    return None


def _only_talking_leg(call: Call) -> Leg | None:
    talking = call.talking()
    return talking[0] if len(talking) == 1 else None


def _confirmed_transfer(call: Call, event: CallEvent) -> Transfer | None:
    """
    Return the newest transfer if *event* reports it again: the same event repeated, or, after the transfer was inferred from the
    transferor's Hangup, a blank event or one of the target. Events of the transferor are matched by `_transfer_by`.
    """
    newest = call.transfers[-1] if call.transfers else None
    if newest is None or newest.kind is TransferKind.CANCELLED or event.at_us - newest.at_us > BLIND_US:
        return None
    if any(leg.role is LegRole.CONSULT for leg in call.open):
        return None  # the event is about this consultation
    if newest.reported_by is not None:
        return newest if same_party(newest.reported_by, event) else None
    by_target = (
        newest.kind is TransferKind.ATTENDED and newest.target and same_party(call.leg(newest.target), event)
    )
    return newest if is_blank(event) or by_target else None


def _transfer_by(call: Call, party: PartyLike) -> Transfer | None:
    """Return the newest transfer with this party as transferor."""
    for transfer in reversed(call.transfers):
        if transfer.kind is not TransferKind.CANCELLED and same_party(transfer.party, party):
            return transfer
    return None


def _confirm(call: Call, transfer: Transfer, event: CallEvent) -> Applied:
    """Confirm an inferred transfer. A transfer that was reported before does not change."""
    if transfer.reported_by is not None:
        return Applied(Effect.NONE, "this transfer was told before")
    transfer.reported_by = event
    transfer.kind = TransferKind.ATTENDED
    transfer.confidence = Confidence.HIGH
    transferor = call.leg(transfer.transferor)
    transferor.result = LegResult.TRANSFERRED
    return Applied(Effect.TRANSFERRED, "confirms what was inferred", transferor)


def _record_unexplained(call: Call, event: CallEvent) -> Applied:
    """Record an AttendedTransfer without a consult leg, with low confidence."""
    leg = next((leg for leg in call.legs_of(event) if leg.caller_since_us is not None), None)
    if leg is not None:
        leg.transferred_us = event.at_us
    number = 0 if leg is None else leg.number
    call.transfers.append(
        Transfer(event.at_us, TransferKind.ATTENDED, Confidence.LOW, number, 0, event, event)
    )
    return Applied(Effect.TRANSFERRED, "nobody is known to have consulted", leg)


# ---------------------------------------------------------------- rule 9: blind transfers and hand-overs


def infer_blind_to(call: Call, target: Leg, at_us: int) -> None:
    """Rule 9: infer a blind transfer to *target*, which began to ring or was answered within 10 s after the talk of another line; no other leg talks."""
    if any(leg is not target for leg in call.talking()):
        return  # this includes every consult leg, whose consulting leg talks
    last_us, transferor = -1, None
    for leg in call.legs:  # the leg that the caller was connected to last
        if leg.caller_since_us is not None and leg.ended_us is not None and leg.ended_us >= last_us:
            last_us, transferor = leg.ended_us, leg
    if transferor is not None and at_us - last_us <= BLIND_US:
        _blind(call, transferor, target, last_us)


def infer_blind_from(call: Call, transferor: Leg, at_us: int) -> None:
    """Rule 9: infer a blind transfer from *transferor*, which left within 10 s after another, still open line began to ring or was answered; no other leg talks."""
    for target in call.open_legs():
        alone = target.is_customer and all(leg is target for leg in call.talking())
        if alone and _began_lately(transferor, target, at_us):
            _blind(call, transferor, target, at_us)


def _began_lately(transferor: Leg, target: Leg, at_us: int) -> bool:
    """Whether the target began after the answer of the transferor, and at most 10 s ago. Lines that rang in parallel are no targets."""
    if target.began_index > transferor.caller_since_index and at_us - target.began_us <= BLIND_US:
        return True
    if target.answered_us is None:
        return False
    return target.answered_index > transferor.caller_since_index and at_us - target.answered_us <= BLIND_US


def _blind(call: Call, transferor: Leg, target: Leg, at_us: int) -> None:
    """Record a blind transfer to another line, once per leg. An AttendedTransfer without a target gets this target instead."""
    if same_party(transferor, target):
        return
    if transferor.transferred_us is None:
        _record_transfer(call, TransferKind.BLIND_INFERRED, transferor, target, at_us)
        return
    for transfer in call.transfers:
        if transfer.transferor == transferor.number and not transfer.target:
            transfer.target = target.number
            target.took_over_from = transferor.number


def infer_handover(call: Call, target: Leg) -> None:
    """
    Rule 9: *target*, just answered, began to ring while other lines talked to the caller. Those lines handed the caller over when the
    target began to ring.
    """
    if target.ring_started_us is None:
        return
    for transferor in call.talking():
        if (
            transferor is target
            or same_party(transferor, target)
            or transferor.caller_since_index >= target.began_index
        ):
            continue
        at_us = target.ring_started_us
        for consult in call.open_consults_of(transferor):
            follow(call, consult, target, at_us)
        call.close_inferred(transferor, at_us, LegResult.TRANSFERRED)
        _record_transfer(call, TransferKind.HANDOVER_INFERRED, transferor, target, at_us)


def _record_transfer(call: Call, kind: TransferKind, transferor: Leg, target: Leg, at_us: int) -> None:
    transferor.transferred_us = at_us
    target.took_over_from = transferor.number
    call.transfers.append(
        Transfer(at_us, kind, Confidence.MEDIUM, transferor.number, target.number, transferor)
    )
