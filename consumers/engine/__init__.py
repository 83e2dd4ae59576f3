"""
Run a projection over one consumer group, exactly once (ADR 2): group membership, restore, batch, transaction, state store.

    projection    what a fold offers to the engine
    records       identifiers and records, in Kafka's words
    batch         records and states -> new states, documents, dead letters (pure)
    record_time   when a record was received (pure)
    outputs       the records that a task produces (pure)
    store         a task's states: a cache that is locked, wiped and deleted
    database      its SQLite file: states, parts, and the checkpoint they belong to
    task          one partition: batch, transaction, store; timers. States its invariants and steps
    task_report   what a task tells of its work, in metrics and log
    restore       from an assigned partition to a task that may fold
    task_state    the states of a task and the transitions between them
    runner        restores a task, runs it, and restores it again when it fails
    session       one membership of the group: assigns partitions to runners and feeds their tasks
    worker        one service: one session after another until it is stopped
    errors        what can go wrong, and what it makes the caller do
    metrics       every metric of the consumers

Adapters, the only modules here that import aiokafka:

    group             a member of a consumer group
    transactions      a transactional producer
    changelog         reads a changelog partition to its end
    lag               how far a group has read, asked from outside
    access            checks topics and ACLs before anything is read
    consumer_client   the settings that all consumers share
"""
