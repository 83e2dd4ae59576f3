"""
Kafka in, state and Kafka out: separate services that fold events into call timelines and agent status.

    projection    what a fold offers to the service that runs it
    calls         events of a call -> CallTimeline, and what it did to each agent (activity)
    agents        events and activity of an agent -> AgentStatus
    explain       the same folds over a recorded trace, without Kafka
    contract, documents   what readers may rely on, written down from the models

The way of a record:

    worker        member of the group: which partitions are ours; polls, and hands records to their tasks
    restore       an assigned partition: fence, ask what was committed, roll the store forward
    task          one partition, exactly once: fold a batch, one transaction, then the store; timers
    batch         records and states -> what becomes of each key, and what is published (pure)
    store         the cache of a partition's states in SQLite
    kafka         the client, typed; the only file that imports aiokafka
    run, cli, settings, metrics   the process around it
"""
