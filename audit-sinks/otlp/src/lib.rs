//! OpenTelemetry (OTLP) sink of agent-audit.
