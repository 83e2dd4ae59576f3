"""The published language: what VOIPEX sends, events, documents, topics and records; and what every service has (`kafka`, `service`)."""
