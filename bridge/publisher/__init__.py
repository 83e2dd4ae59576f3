"""Spool -> Kafka, in order."""
