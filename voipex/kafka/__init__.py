"""Access to Kafka for every service: settings, clients, topics, and the cause when it fails."""
