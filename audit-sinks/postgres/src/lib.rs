//! PostgreSQL sink of agent-audit, with row-level security.
