//! The OpenTelemetry sink of agent-audit: each event a log record of a collector, over gRPC or HTTP.
//!
//! ```
//! use agent_audit_core::sink::Sink;
//! use agent_audit_otlp::{OtlpConfig, OtlpSink};
//!
//! let config = OtlpConfig::grpc("https://collector.example:4317")
//!     .with_header("authorization", "Bearer very-secret")
//!     .with_resource("service.name", "support");
//! let sink = OtlpSink::new(config)?;
//! assert_eq!(sink.info().kind, "otlp");
//! # Ok::<(), agent_audit_core::sink::SinkError>(())
//! ```
//!
//! [`OtlpSink::from_env`] takes the standard variables of OpenTelemetry instead.
//!
//! # What is promised
//!
//! - An acknowledgement MUST mean that the collector has taken every record of the events. What that
//!   is worth is up to the collector: one with a queue in memory takes what it may still lose. See
//!   `docs/sinks.md` for the settings with which its word is worth more.
//! - An event is sent at least once. After a lost answer it is sent again, and so are the records of
//!   a request that was refused in part. A reader takes each event once by its chain and sequence:
//!   [`ReceivedEvents`] does.
//! - Partial success MUST NOT count as success. The protocol does not say which records were
//!   refused, so the request is sent again in parts, once: each tenant, then each chain, then each
//!   half, until the event that is refused is alone. What can be taken is taken, and the chain of
//!   the refused event halts visibly at that event.
//! - A fault of one tenant's records MUST NOT fail another's: a request that fails is sent again in
//!   parts by tenant, unless the collector itself is at fault (unreachable, throttling, credentials).
//! - A status is retried exactly where the table of the protocol says so, and not before the delay
//!   that the collector asks for (`RetryInfo`, `Retry-After`) is over.
//! - Content MUST NOT be sent unless [`OtlpConfig::with_content`] says so. Each record holds the
//!   commitments to it.
//! - No error shows the words of a collector, which may quote what it was sent, nor a header.
//!
//! What does not hold: a collector can be asked nothing, so there are no heads, conflicts are not
//! noticed, and what becomes of the order is up to what is behind it. Content that a collector has
//! received cannot be erased by this project.
//!
//! # The record
//!
//! | field | of the event |
//! |---|---|
//! | `time_unix_nano` | `occurred_at`, or else `timestamp_utc` |
//! | `observed_time_unix_nano` | `timestamp_utc` |
//! | `trace_id`, `span_id` | as in the event |
//! | `event_name` | `agent_audit.` and the event type |
//! | `severity` | `INFO`; `WARN` where something was cancelled, refused, destroyed or is not known; `ERROR` where something failed |
//! | `body` | one line for an operator, as `tool refund ok in 12 ms`; never content, never longer than a line |
//! | resource | as configured, and `agent_audit.tenant.id` |
//!
//! All names are in development at OpenTelemetry, and constants of this crate. Deprecated ones
//! (`gen_ai.system`, `gen_ai.prompt`, `gen_ai.completion`, `gen_ai.usage.prompt_tokens`,
//! `gen_ai.usage.completion_tokens`) are never sent. What an event does not have is left out, and
//! is not empty or 0.
//!
//! | attribute | of every event |
//! |---|---|
//! | `audit.record.id` | `event_id` |
//! | `audit.actor.id`, `audit.actor.type` | the agent (`service`); of a decided review the reviewer (`user`, `service` or `system`); of access who asked (`user`); of chains the writer, of verifications the verifier, of purges the rule (`system`); of destroyed keys who ordered it (`user`) |
//! | `audit.action` | `event_type` |
//! | `audit.outcome` | `success`, `failure`; `unknown` of what begins, was cancelled or is not known |
//! | `audit.integrity.value` | the event hash; `audit.integrity.canonicalization` is `jcs`. A single event is not signed, so there is no signer: checkpoints are |
//! | `audit.sequence.number`, `audit.previous_hash` | `sequence`, `previous_event_hash` |
//! | `audit.stream_id` | `tenant_id`, `/` and `chain_id` |
//! | `gen_ai.conversation.id`, `gen_ai.agent.id` | `session_id`, `agent_id` |
//! | `agent_audit.event` | the canonical bytes, unless [`OtlpConfig::with_event`] says otherwise |
//! | `agent_audit.schema_version`, `.parent_event.id`, `.subject.id`, `.writer.id`, `.provenance`, `.omitted_inputs` | as in the event |
//! | `agent_audit.content` | of each part `name`, `media_type`, `bytes`, `commitment`, and `role` of what a model saw |
//!
//! | event type | attributes |
//! |---|---|
//! | `session.*` | `gen_ai.operation.name` = `invoke_agent`, `gen_ai.agent.name`, `gen_ai.agent.version`, `error.type`, `agent_audit.session.{purpose, parent_id, spawned_by, outcome, reason}` |
//! | `model.*` | `gen_ai.operation.name` = `chat`, `gen_ai.provider.name`, `gen_ai.request.{model, max_tokens, temperature, top_p, top_k, seed, frequency_penalty, presence_penalty}`, `gen_ai.response.{id, model, finish_reasons, time_to_first_chunk}`, `gen_ai.usage.{input_tokens, output_tokens, cache_read.input_tokens, cache_creation.input_tokens, reasoning.output_tokens}`, `error.type`, `agent_audit.model.{status, version, latency_us, decision, branch, tool_calls, confidence, request_event.id, context_after, reasoning_effort, tool_choice, response_format}` |
//! | `tool.*` | `gen_ai.operation.name` = `execute_tool`, `gen_ai.tool.name`, `gen_ai.tool.call.id`, `error.type`, `agent_audit.tool.{version, effect, status, duration_us, decision_link, approval_event.id, attempt_event.id, external_ids}` |
//! | `review.*` | `gen_ai.tool.call.id`, `agent_audit.review.{id, action, action_digest, policy, presented_to, channel, decision, reviewer.id, reviewer.kind, reviewer.role, reviewer.credentials, scope, decided_after_us, expires_at, escalated_to, resulting_state, proposed_event.id, presented_event.id, decided_event.id}` |
//! | `access.*` | `agent_audit.access.{query, format, rows, files, digest, purpose}` |
//! | `integrity.*` | `error.type`, `agent_audit.integrity.{events, chains, duration_us, started_at, checkpoint, ranges, findings, findings_total}` |
//! | `chain.*` | `error.type`, `agent_audit.chain.{public_key, software, closed_before, torn_bytes, reason, lost_events, unrecorded_actions, first_at, last_at}` |
//! | `key.*` | `agent_audit.key.{id, scope, subject.id, algorithm, wrapped_by, successor_id, authority, reason, legal_basis, affected_events, affected_parts}` |
//! | `content.purged` | `agent_audit.purge.{store, reason, authority, legal_basis, before, events, parts}` |
//! | `custom.*` | `agent_audit.custom.` and the name of each field |
//!
//! With content, parts that the conventions have a name for are in `gen_ai.system_instructions`,
//! `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.tool.definitions`,
//! `gen_ai.tool.call.arguments` and `gen_ai.tool.call.result`; each entry of `agent_audit.content`
//! then says in `attribute` where its text is, or holds it as `text` or `data`, with the `salt` of
//! its commitment, or says in `state` that it is `sealed`, `erased` or `purged`.

mod config;
mod error;
mod mapping;
mod received;
mod sink;
mod store;

pub use config::{Compression, OtlpConfig, Oversized, Protocol};
pub use received::{ReceivedEvents, UnreadableLine};
pub use sink::OtlpSink;
