"""
Services that fold events from Kafka into documents on Kafka: call timelines and agent status.

    calls         events of a call -> CallTimeline, and its effect on each agent (AgentActivity)
    agents        events and activity of an agent -> AgentStatus
    engine        runs such a fold as a consumer group, exactly once
    explain       the same folds over a recorded trace, without Kafka, or over the event topics, to verify what is published
    contract, documents   the published contract, generated from the models
    service       the composition root
    cli, settings
"""
