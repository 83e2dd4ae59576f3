"""
HTTP to disk to Kafka. The packages, in the order of an event's path.

- `http`: requests in, responses out. `protocol` is HTTP/1.1 with its limits, `ingress` one request and the promise of 2xx, `problems` the
  response to each error; `server`, `tls` and `token_endpoint` are beside them, and `asgi` runs the ingress under any ASGI server.
- `auth`: who sends a request. Basic and Bearer, and the credentials file behind them.
- `spool`: records on disk; only now the PBX gets 2xx.
- `publisher`: spool to Kafka, in order, at least once.

The steps between them are in `voipex`, since the consumers share them: `webhook` (bytes to fields), `normalize` (fields to event), `records`
(event to record). `service` puts the parts together, `cli` is the command
line, and `ops` does what operators ask for: `doctor` checks everything, `dead_letters` inspects and replays, `tail` prints a topic.
"""
