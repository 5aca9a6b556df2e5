//! Kinesis Data Streams sink of agent-audit.
