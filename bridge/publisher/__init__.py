"""Publishes the spool to Kafka."""
