"""
The agent fold: agent events and activity records in, AgentStatus out (contract 5). Pure: no clock, no I/O.

The way of a record:

    projection.py  bytes -> AgentEvent or Leg; documents out; when time alone changes them
    memory.py      keeps what came, drops copies and lower revisions, goes back when something comes late; the changelog's value
    archive.py     what is over, as lines that are normally not read
    fold.py        walks through time over both registers at once: states, unions, silence, 24 h and 90 days
    presence.py    the register of agent events: logins and pauses by queue; the rules of Login, Logout, Paused and UnPaused
    legs.py        the register of activity records: what a leg means for its agent, and what it counts for when it is over
    days.py        local days of 23 to 25 hours, and what a day came to
    status.py      the published model

Presence and activity do not know of each other: they meet in `fold`, where both are looked at as of the same moment. So it does not
matter how the two topics interleave.
"""
