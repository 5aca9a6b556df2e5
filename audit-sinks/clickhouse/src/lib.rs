//! ClickHouse sink of agent-audit.
