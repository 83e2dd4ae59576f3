"""
The fold of a call (pure): call events in, one timeline per call and one activity record per agent and leg out.

The rules are those of docs/call-rules.md, by number. A document is a function of the call's events, sorted by (received_at, event_id), and
of the moment `as_of`. It is made in passes:

1. `fold.fold` reads the events in order and hands each to its handler. The handlers find the leg of an event and record in `call.Call`
   what the event says. A value is `legs.Reported` by an event or `legs.Inferred` by a rule. When a later event shows that an earlier one
   meant something else, the handler notes this in `call.Hindsight`, and the events are read again. So no inference is undone by hand.
2. `deadlines.as_of` adds what follows from time alone.
3. `holders.Holders` reads from the legs who had the caller after whom.
4. `quality`, `document` and `activities` write the result down.

`projection.CallProjection` is the fold as a task of the engine uses it.

The functions of each rule:

    promises    fold._read_again, deadlines.as_of; legs.Reported and legs.Inferred
    terms       parties.same_party, parties.same_person, fold._update_caller, legs.result_of;
                Call.closed_for_good, Call.late, Call.note
    1           parties.Party.fill, fold._update_call, fold._update_numbers
    2           fold._new_call
    3           attempts.ringing, Call.reopen
    4           attempts.answered: a _answered_before, _after_the_end; b and c _rang_on; d _late_after, _late_answer;
                e _anonymous_answer, decide; f _pickup. Other attempts: _end_others, ending._end_again
    5           ending.hangup; no-talk reasons: _nobody_talked, _restore, attempts._without_talk
    5a to 5f    ending: a _answered_elsewhere; b _call_ends, _blank_after_the_end; c _talk_ended; d _attempt_ended; e _caller_left;
                f _without_open_leg, _failed_before_ringing, _empty, Call.end_overtaken, deadlines._overtaken
    6           ending._after_the_end, ending._fill
    7           transfers.consulter_of, transfers.begin_leg
    8           transfers.attended_transfer, transfers.cancel_attended_transfer, transfers.take_over_by_hangup, Holders.transfers
    9           Holders.blind_of (blind transfers), transfers.infer_handover (hand-overs)
    10          ending.cdr; ending.end_by_cdr, which fold._step and deadlines.as_of call
    11          attempts.means_monitor, attempts._monitor_answered, ending._monitor_left, Call.keeping_open
    12          deadlines.as_of, deadlines.next_deadline
    13          document.document
    14          fold._unknown
    fields      document.document, deadlines.status_of, quality.anomalies_of
    quality     quality.quality_of
"""
