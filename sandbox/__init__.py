"""Everything on one machine, to try it out: a local Kafka, the services and a simulated PBX."""
