"""
HTTP in, Kafka out: the way of an event, one file per step.

    http_limits   what a client may cost before it is known; tls: HTTPS
    ingress       POST /voipex: authenticated before the body is read, answered when the event is safe
    auth          who is calling (credentials: the file behind it; tokens: Bearer, given out by token_endpoint)
    webhook       bytes -> the PBX's own words
    normalize     the PBX's words -> Event, ours (clock: its time and its id)
    wire          Event -> Record, with its key, partition and headers (dead_letters: what is no event)
    spool         the record on disk; only now the PBX hears 2xx
    publisher     spool -> Kafka, in order, whatever happens
    kafka         the one door to the client library

`service` puts the parts together, `cli` is the command line, `ops` has the commands for operators: `doctor` checks everything,
`dead_letters` inspects and replays, `tail` prints a topic.
"""
