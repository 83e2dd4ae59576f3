"""
The fold of a call (pure): call events in, one timeline per call and one record per agent and leg out (contract 4 and 5.1).

The path of an event: `projection` parses it and inserts its relevant fields (`events`) into the call's set of events, sorted by
(received_at, event_id); `fold` applies it, and `rings`, `hangups` and `transfers` decide its effect on the legs of the `call`;
`deadlines` applies the passing of time; `document` and `activities` build the published documents.

The function that implements each rule of contract 4:

    1   blank never replaces          legs.Party.fill, call.Call.touch, fold._update_call
    2   NewCall                       fold._new_call
    3   Ringing                       rings.ringing
    4   Answered                      rings.answered
    5   Hangup, a to f                hangups.hangup; the end of a call: call.Call.end
    6   after the end                 hangups._after_the_end, call.Call.reopen
    7   consultations                 transfers.consulter_of, hangups._consult_left
    8   attended transfers            transfers.attended_transfer, transfer_on_hangup, cancel_attended_transfer
    9   blind transfers, hand-overs   transfers.infer_blind_to, infer_blind_from, infer_handover
    10  CDR                           fold._cdr, fold.end_by_cdr
    11  barge                         rings.ringing, rings._monitor_answered, hangups._monitor_left
    12  stale                         deadlines
    13  links                         document.links_of
    14  unknown events                fold._unknown
"""
