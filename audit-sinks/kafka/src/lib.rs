//! Kafka sink of agent-audit, and its consumer.
