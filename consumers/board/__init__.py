"""
`voipex-consumers board`: what supervisors look at, and what programs ask for "now".

    reader.py    topics of timelines and agent status -> documents, without a group
    window.py    the latest document of every call and agent, as rows and compressed bodies
    rows.py      documents -> rows of a list; numbers masked for the wall
    figures.py   every figure that is shown of a queue, with its definition
    missed.py    calls that nobody answered -> one row per caller: called back or not
    frames.py    what changed -> frames of a stream that can be resumed
    board.py     one board: takes documents, makes frames
    access.py    users, roles and Basic authentication
    queries.py   parameters of the JSON interface, read strictly
    openapi.py   the description of the JSON interface
    metrics.py   what Prometheus scrapes
    api.py       the HTTP interface: JSON, the stream, the pages
    service.py   settings -> a running board
    static/      the pages: no build step, third-party files are listed in static/vendor/LIST.json
"""
