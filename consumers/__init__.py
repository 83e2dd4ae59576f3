"""
Kafka in, state and Kafka out: separate services that fold events into call timelines and agent status.

    projection    what a fold offers to the service that runs it
    calls         events of a call -> CallTimeline, and what it did to each agent (activity)
    agents        events and activity of an agent -> AgentStatus
    explain       the same folds over a recorded trace, without Kafka
"""
