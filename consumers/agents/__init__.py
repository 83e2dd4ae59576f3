"""
The agent fold: agent events and activity records in, AgentStatus out (contract 5). Pure: no clock, no I/O.

The path of a record:

    projection.py  parses records into AgentEvent or Leg; builds documents; computes when they change by time alone
    memory.py      the state of an agent: drops copies and lower revisions, rewinds for late records; the value in the changelog
    archive.py     compact storage of finished events and legs, which are rarely read again
    fold.py        sweeps through time over events and legs: states, unions of intervals, silence (24 h), expiry (90 days)
    presence.py    the register of agent events: logins and pauses per queue; the rules of Login, Logout, Paused and UnPaused
    legs.py        the register of activity records: the phases of a leg, and what a finished leg counts for
    days.py        local days of 23 to 25 hours, and the totals of a day

Presence and activity are independent of each other. `fold` combines them as of one moment, so the order in which the two topics arrive
does not matter.
"""
