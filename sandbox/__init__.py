"""Everything on one machine: a local Kafka, the services, a simulated PBX."""
