"""
`voipex-consumers explain`: folds a recorded trace offline, with the batches of the services and no Kafka.

    trace.py     lines of a file -> Events in their total order, and the lines that could not be used
    replay.py    Events -> the documents that the services would have published, timers included
    drawing.py   documents -> lanes and strips for a person, with the reason of every step
"""
