"""How every service reaches Kafka."""
