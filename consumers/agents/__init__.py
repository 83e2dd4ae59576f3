"""
The agent fold: agent events and activity records in, AgentStatus out. Pure: no clock, no I/O.

The path of a record:

    projection.py  parses records into AgentEvent or Leg; builds documents; computes when they change by time alone
    memory.py      the state of an agent: drops copies and lower revisions, closes segments, rewinds for late records
    archive.py     finished events and legs as lines, which are rarely read again
    encoding.py    the state in the changelog: a value and its parts
    lines.py       claims to lines, and activity on them: the records that tasks of different partitions write to each other
    ownership.py   the key of a line: which agent had it when, and what of its legs goes to whom
    fold.py        sweeps through time over events and legs: states, unions of intervals, silence (24 h), expiry (90 days)
    presence.py    the register of agent events: logins and pauses per queue; rules A2 to A7
    swapped.py     the order in which agent events are read: a pause just before its login is read after it
    legs.py        the register of activity records: the phases of a leg
    rounds.py      the counters: rounds of attempts of one agent in one call, calls made, transfers
    days.py        local days of 23 to 25 hours, and the totals of a day

Presence and activity are two registers, each by its own moments: the order in which the two topics arrive does not matter. Only a ring
of a queue in which the agent is paused tells presence something: that an AgentUnPaused was lost.

The rules are those of docs/agent-rules.md, by number. The functions of each rule:

    A1          fold.Picture.update_identity, Walk._hear, Walk.identify
    A2 to A6    presence.Presence.apply: A2 _log_in, A3 _log_out, A4 _pause, QueueRegister.pause, A5 QueueRegister.unpause,
                A6 _continue_unnamed, _named_or_all, fold.Walk._settle_unnamed
    A7          presence.Presence.summary, fold.Walk._look
    A8          swapped.reading_order
    A9          fold.Walk._ring_paused, presence.Presence.ring
    A10         fold.presence_of, fold.availability_of
    A11, A12    fold.Walk._pass, Picture.is_silent, Picture.start_empty
    A13         lines.claims_of_event, lines.claims_of_leg, Leg.begin_us, ownership.take_claim, ownership.assign
    A14         legs.phases, legs.precedence_of
    A15         fold.Walk._look
    A16         projection, from Walk.active
    A17         days.LocalDays, fold.Walk._add_calls, Walk._add_presence, Walk._days_of
    A18, A19    rounds.counts
"""
