"""How the caller changes hands: consultations (rule 7), attended transfers (rule 8), blind transfers and hand-overs (rule 9)."""

from typing import Final

from consumers.calls.call import SECOND_US, Call, Told, Transfer
from consumers.calls.events import CallEvent
from consumers.calls.legs import Leg, Named, is_blank, same_party
from voipex.agent_activity import LegResult, LegRole
from voipex.call_timeline import Confidence, Effect, TransferKind

BLIND_US: Final = 10 * SECOND_US
"""A blind transfer rings the next line within this time before or after the first one hangs up (rule 9)."""


# ---------------------------------------------------------------- rule 7: consultations


def consulter_of(call: Call, event: CallEvent) -> Leg | None:
    """Rule 7: whose open answered customer leg has the Line that a beginning leg names as From."""
    if event.from_ is None:
        return None
    for leg in reversed(call.talking()):
        if leg.line == event.from_ and not same_party(leg, event):
            return leg
    return None


def begin_leg(call: Call, event: CallEvent, *, rings: bool) -> Leg:
    """Open a leg in the role that it begins with: a consult while From says so (rule 7), else of the caller or an agent."""
    consulter = consulter_of(call, event)
    call.reopen()
    if consulter is None:
        return call.begin(event, call.customer_role(event), rings=rings)
    consult = call.begin(event, LegRole.CONSULT, rings=rings)
    consult.consulter = consulter.number
    return consult


# ---------------------------------------------------------------- rule 8: attended transfers


def attended_transfer(call: Call, event: CallEvent) -> Told:
    """Rule 8, AttendedTransfer(L): the caller goes from L to whom L consulted."""
    just_made = _just_made(call, event)
    if just_made is not None:
        return _confirm(call, just_made, event)
    giver = _own_talk(call, event) or _consulter_of_open_leg(call, event)
    if giver is None:
        given = _given_away_by(call, event)
        if given is not None:
            return _confirm(call, given, event)
        giver = _who_consults(call, event)
    if giver is None and is_blank(event):
        giver = _only_talking_leg(call)
    if giver is None:
        return _keep_unexplained(call, event)
    if same_party(giver, event):
        call.touch(giver, event)
    consults = call.open_consults_of(giver)
    give_away(call, giver, event, Confidence.HIGH if consults else Confidence.LOW, teller=event)
    why = None if consults else "no consulted leg is known: nobody is known to have taken over"
    return Told(Effect.TRANSFERRED, why, giver)


def hangup_gives_away(call: Call, leg: Leg, event: CallEvent) -> bool:
    """Rule 8, last sentence: a leg that leaves by Hangup while its consult leg is open gave the caller to it."""
    if not call.open_consults_of(leg):
        return False
    call.touch(leg, event)
    leg.own_hangup = True
    give_away(call, leg, event, Confidence.LOW, teller=None)
    return True


def give_away(
    call: Call, giver: Leg, event: CallEvent, confidence: Confidence, *, teller: CallEvent | None
) -> None:
    """The giver's leg ends as transferred; its newest open consult leg takes the call, its others follow."""
    consults = call.open_consults_of(giver)
    call.close(giver, event.at_us, LegResult.TRANSFERRED, event)
    giver.transferred_us = event.at_us
    taker = consults[-1] if consults else None
    if taker is not None:
        _take_over(call, taker, giver, event.at_us)
        for consult in consults[:-1]:
            follow(call, consult, taker, event.at_us)
    number = 0 if taker is None else taker.number
    call.transfers.append(
        Transfer(event.at_us, TransferKind.ATTENDED, confidence, giver.number, number, giver, teller)
    )


def _take_over(call: Call, taker: Leg, giver: Leg, at_us: int) -> None:
    if taker.answered_us is not None:
        call.consultation_over(taker, at_us)
        taker.consult_until_us = at_us
        call.get_caller(taker, at_us, call.no)
    taker.role = call.customer_role(taker)
    taker.took_over_from = giver.number


def follow(call: Call, consult: Leg, consulter: Leg, at_us: int) -> None:
    """The consultation goes on with whoever has the caller now."""
    call.consultation_over(consult, at_us)
    consult.consulter = consulter.number


def cancel_attended_transfer(call: Call, event: CallEvent) -> Told:
    """Rule 8, CancelAttendedTransfer(L): the consult leg closes, L goes on; once per consult."""
    consult = _consult_meant(call, event)
    if consult is None or consult.consult_told:
        return Told(Effect.NONE, "no consultation to cancel")
    consult.consult_told = True
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
    return Told(Effect.CANCELLED, None, consult)


def _consult_meant(call: Call, event: CallEvent) -> Leg | None:
    """L's newest consultation, or the one that L is in; L without an open leg: the newest one. Open ones first."""
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
    """Of L without an open leg: who consults, the newest."""
    if call.open_leg_of(event) is not None:
        return None
    for leg in reversed(call.open):
        if leg.role is LegRole.CONSULT:
            return call.leg(leg.consulter)
    return None


def _only_talking_leg(call: Call) -> Leg | None:
    talking = call.talking()
    return talking[0] if len(talking) == 1 else None


def _just_made(call: Call, event: CallEvent) -> Transfer | None:
    """
    The newest transfer, when *event* tells it and not by who gave (`_given_away_by`): once more, in the same words, since events come
    twice; or after it was inferred from the giver's Hangup, by nobody or by who took over.
    """
    newest = call.transfers[-1] if call.transfers else None
    if newest is None or newest.kind is TransferKind.CANCELLED or event.at_us - newest.at_us > BLIND_US:
        return None
    if any(leg.role is LegRole.CONSULT for leg in call.open):
        return None  # that one is meant
    if newest.teller is not None:
        return newest if same_party(newest.teller, event) else None
    is_takers = (
        newest.kind is TransferKind.ATTENDED and newest.taker and same_party(call.leg(newest.taker), event)
    )
    return newest if is_blank(event) or is_takers else None


def _given_away_by(call: Call, party: Named) -> Transfer | None:
    """The newest time that the party gave the caller away."""
    for transfer in reversed(call.transfers):
        if transfer.kind is not TransferKind.CANCELLED and same_party(transfer.party, party):
            return transfer
    return None


def _confirm(call: Call, transfer: Transfer, event: CallEvent) -> Told:
    """Had L given the caller away before: this confirms it; twice it is a note."""
    if transfer.teller is not None:
        return Told(Effect.NONE, "this transfer was told before")
    transfer.teller = event
    transfer.kind = TransferKind.ATTENDED
    transfer.confidence = Confidence.HIGH
    giver = call.leg(transfer.giver)
    giver.result = LegResult.TRANSFERRED
    return Told(Effect.TRANSFERRED, "confirms what was inferred", giver)


def _keep_unexplained(call: Call, event: CallEvent) -> Told:
    """An AttendedTransfer without any consult leg is kept with low confidence."""
    leg = next((leg for leg in call.legs_of(event) if leg.caller_since_us is not None), None)
    if leg is not None:
        leg.transferred_us = event.at_us
    number = 0 if leg is None else leg.number
    call.transfers.append(
        Transfer(event.at_us, TransferKind.ATTENDED, Confidence.LOW, number, 0, event, event)
    )
    return Told(Effect.TRANSFERRED, "nobody is known to have consulted", leg)


# ---------------------------------------------------------------- rule 9: blind transfers and hand-overs


def infer_blind_to(call: Call, taker: Leg, at_us: int) -> None:
    """Rule 9: *taker* began to ring or was answered at a moment within 10 s after another line's talk had ended; nobody else talks."""
    if any(leg is not taker for leg in call.talking()):
        return  # so it is for every consult: who consults it talks
    last_us, giver = -1, None
    for leg in call.legs:  # whom the caller left last
        if leg.caller_since_us is not None and leg.ended_us is not None and leg.ended_us >= last_us:
            last_us, giver = leg.ended_us, leg
    if giver is not None and at_us - last_us <= BLIND_US:
        _blind(call, giver, taker, last_us)


def infer_blind_from(call: Call, giver: Leg, at_us: int) -> None:
    """Rule 9: *giver* left within 10 s after another line, still open, began to ring or was answered; nobody else talks."""
    for taker in call.open_legs():
        alone = taker.is_customer and all(leg is taker for leg in call.talking())
        if alone and _began_lately(giver, taker, at_us):
            _blind(call, giver, taker, at_us)


def _began_lately(giver: Leg, taker: Leg, at_us: int) -> bool:
    """Who rang along before the giver was answered is no taker."""
    if taker.began_no > giver.caller_since_no and at_us - taker.began_us <= BLIND_US:
        return True
    if taker.answered_us is None:
        return False
    return taker.answered_no > giver.caller_since_no and at_us - taker.answered_us <= BLIND_US


def _blind(call: Call, giver: Leg, taker: Leg, at_us: int) -> None:
    """Another line, and once per leg; an AttendedTransfer that told of nobody to take over learns who it was."""
    if same_party(giver, taker):
        return
    if giver.transferred_us is None:
        _changes_hands(call, TransferKind.BLIND_INFERRED, giver, taker, at_us)
        return
    for transfer in call.transfers:
        if transfer.giver == giver.number and not transfer.taker:
            transfer.taker = taker.number
            taker.took_over_from = giver.number


def infer_handover(call: Call, taker: Leg) -> None:
    """
    Rule 9: *taker*, just answered, began to ring after another line had got the caller, who is still there: they were handed over
    when the taker began to ring.
    """
    if taker.ring_started_us is None:
        return
    for giver in call.talking():
        if giver is taker or same_party(giver, taker) or giver.caller_since_no >= taker.began_no:
            continue
        at_us = taker.ring_started_us
        for consult in call.open_consults_of(giver):
            follow(call, consult, taker, at_us)
        call.close_inferred(giver, at_us, LegResult.TRANSFERRED)
        _changes_hands(call, TransferKind.HANDOVER_INFERRED, giver, taker, at_us)


def _changes_hands(call: Call, kind: TransferKind, giver: Leg, taker: Leg, at_us: int) -> None:
    giver.transferred_us = at_us
    taker.took_over_from = giver.number
    call.transfers.append(Transfer(at_us, kind, Confidence.MEDIUM, giver.number, taker.number, giver))
