"""
The fold of a call (pure): call events in, one timeline per call and one record per agent and leg out (contract 4 and 5.1).

A document is a function of the call's events, sorted by (received_at, event_id), and of a moment. It is made in passes:

1. `fold` reads the events in their order; `attempts` (rules 3, 4, 11), `transfers` (7, 8, hand-overs of 9) and `ending` (5, 6, 10) find
   which leg an event belongs to and what it says of it. A `call.Call` holds what was found: each value is `legs.Reported`, an event says
   so, or `legs.Inferred` by a rule. Where a later event shows that an earlier one meant something else, `call.Hindsight` notes it, and
   the events are read again with that knowledge: nothing inferred is ever undone by hand.
2. `deadlines` adds what only time does as of the moment (5f, 10, 12).
3. `holders` reads from the legs who had the caller after whom: blind transfers (9), targets, who answered.
4. `quality` says how far to trust it; `document` and `activities` write it down. `links` is rule 13.

`projection` is the fold as a task of the engine uses it. Rules 1, 2 and 14 are kept in `fold` and `parties`.
"""
