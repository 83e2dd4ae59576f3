"""What every service needs besides Kafka: settings, logging, the management port."""
