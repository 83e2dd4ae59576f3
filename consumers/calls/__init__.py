"""
The fold of a call (pure): call events in, one timeline per call and one record per agent and leg out (contract 4 and 5.1).

The way of an event: `projection` reads it, keeps what matters of it (`events`) in the call's set of events, sorted by
(received_at, event_id), and lets `fold` take it; `rings`, `hangups` and `transfers` decide what it does to the legs of the `call`;
`deadlines` adds what only time does as of a moment; `document` and `agents` write down what that makes. `timeline` is the model that
readers may rely on, `legs` a leg and who is who.

Where each rule of contract 4 is kept:

    1   blank never replaces          legs.Party.fill, call.Call.touch, fold._learn
    2   NewCall                       fold._new_call
    3   Ringing                       rings.ringing
    4   Answered                      rings.answered
    5   Hangup, a to f                hangups.hangup; the end of a call: call.Call.end
    6   after the end                 hangups._after_the_end, call.Call.reopen
    7   consultations                 transfers.consulter_of, hangups._consult_left
    8   attended transfers            transfers.attended_transfer, hangup_gives_away, cancel_attended_transfer
    9   blind transfers, hand-overs   transfers.infer_blind_to, infer_blind_from, infer_handover
    10  CDR                           fold._cdr, fold.end_by_cdr
    11  barge                         rings.ringing, rings._monitor_answered, hangups._monitor_left
    12  stale                         deadlines
    13  links                         links
    14  unknown events                fold._unknown
"""
