"""
`voipex-consumers explain` and `verify`: the folds of the services, offline.

    trace.py      lines of a file -> Events in their total order, and the lines that could not be used
    replay.py     Events -> the documents that the services would have published, timers included
    evidence.py   a call -> what was reported by which event, what was inferred by which rule, and what is doubtful
    view.py       documents and evidence -> what is drawn, in words
    drawing.py    the same as text: lanes and strips
    page.py       the same as one HTML page, or as a picture
    verify.py     published documents -> how they differ from the fold of the event topics
    published.py  reads the topics for verify
"""
