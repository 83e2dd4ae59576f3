"""The exactly-once task around a fold: consumer group, restore, batch, transaction, state store."""
