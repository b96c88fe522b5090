"""A Kafka topic as a source: its committed messages, from the earliest on, with the position in the journal."""
