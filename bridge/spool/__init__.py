"""Accepted records on disk until Kafka has them."""
