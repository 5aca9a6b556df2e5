//! SQS FIFO queue sink of agent-audit.
