//! The frozen files of schema 1.0: one event of every type with every field filled.
//!
//! A file never changes once it is released. A new optional field of a later minor version gets a
//! directory of its own; these must go on to be read and rewritten byte for byte.

use std::{collections::BTreeMap, path::PathBuf};

use super::*;
use crate::{
    content::ContentRef,
    event::{
        access::*, chain::*, content::*, integrity::*, key::*, model::*, review::*, session::*,
        tool::*,
    },
    id::CallId,
};

fn event_id(n: u8) -> EventId {
    format!("01890a5d-ac96-774b-bcce-b302099a80{n:02x}").parse().unwrap()
}

fn call_id() -> CallId {
    CallId::new("call_8Zq").unwrap()
}

fn subject_id() -> SubjectId {
    SubjectId::new("subj-81f3").unwrap()
}

fn writer_id() -> WriterId {
    WriterId::new("0b9d0a52-6f5f-4c4e-9d7e-2f8f1f3c5a77").unwrap()
}

fn chain_id() -> ChainId {
    ChainId::new("5f0c9a8e-1d2b-4c3d-8e7f-6a5b4c3d2e1f").unwrap()
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_nanos(1_795_420_800_000_000_000 + second * 1_000_000_000 + 123_456_789)
}

fn hash_of(byte: u8) -> Hash {
    Hash::from_bytes([byte; 32])
}

fn part(name: &str, media_type: &str, bytes: u64, byte: u8) -> ContentRef {
    ContentRef {
        name: name.to_owned(),
        media_type: media_type.to_owned(),
        bytes,
        commitment: hash_of(byte),
        extra: Extra::new(),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The payload of every type, with every field filled, and the content that goes with it.
pub(crate) fn payloads() -> Vec<(Payload, Vec<ContentRef>)> {
    let parameters = || {
        Parameters::new()
            .with_max_output_tokens(1024u64)
            .with_temperature("0.2")
            .with_top_p("0.95")
            .with_top_k(40u64)
            .with_frequency_penalty("0.5")
            .with_presence_penalty("-0.5")
            .with_seed("18446744073709551615")
            .with_reasoning_effort("high")
            .with_tool_choice("auto")
            .with_response_format("json_schema")
    };
    let context = || {
        [
            ContextItem::new(ContextRole::System, "context.0"),
            ContextItem::new(ContextRole::User, "context.1"),
        ]
    };
    let context_parts = || [part("context.0", TEXT, 120, 0x10), part("context.1", TEXT, 31, 0x11)];
    let ranges = || {
        [VerifiedRange::new(chain_id(), 0u64, 41u64).with_checkpoint(
            "log.example/5f0c\n42\nqqurq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n",
        )]
    };
    let mut all: Vec<(Payload, Vec<ContentRef>)> = Vec::new();
    let mut add = |payload: Payload, content: &[ContentRef]| all.push((payload, content.to_vec()));

    add(
        SessionStarted::new()
            .with_agent_name("support")
            .with_agent_version("2.1")
            .with_purpose("refunds")
            .with_parent_session_id(SessionId::new("session-0").unwrap())
            .with_spawned_by(event_id(0x70))
            .with_provenance(Provenance::Imported)
            .into(),
        &[],
    );
    add(
        SessionEnded::new(SessionOutcome::Failed)
            .with_reason("model_unavailable")
            .with_provenance(Provenance::Imported)
            .into(),
        &[],
    );
    add(
        ModelRequested::new("openai", "gpt-5")
            .with_parameters(parameters())
            .with_context_after(event_id(0x71))
            .with_provenance(Provenance::Imported)
            .with_context(context())
            .with_omitted_inputs(["client"])
            .into(),
        &[&context_parts()[..], &[part("tools", JSON, 310, 0x12)]].concat(),
    );
    add(
        ModelDecided::new("openai", "gpt-5", ModelStatus::Ok)
            .with_served_model("gpt-5-2025-08-07")
            .with_model_version("fp_44709d6fcb")
            .with_response_id("chatcmpl-9")
            .with_finish_reason("tool_calls")
            .with_request_event_id(event_id(0x72))
            .with_usage(
                Usage::new()
                    .with_input_tokens(812u64)
                    .with_cache_read_tokens(512u64)
                    .with_cache_write_tokens(0u64)
                    .with_output_tokens(64u64)
                    .with_reasoning_tokens(21u64),
            )
            .with_latency_us(1_250_000u64)
            .with_time_to_first_token_us(310_000u64)
            .with_decision(
                Decision::new(DecisionKind::Tools)
                    .with_branch("refund")
                    .with_tool_calls([SelectedCall::new(call_id(), "refund")]),
            )
            .with_error_code("content_filter")
            .with_context_after(event_id(0x71))
            .with_parameters(parameters())
            .with_provenance(Provenance::Imported)
            .with_context(context())
            .with_confidence([Confidence::new("mean_logprob", "-0.12")])
            .into(),
        &[
            &context_parts()[..],
            &[
                part("output", JSON, 941, 0x13),
                part("reasoning", TEXT, 77, 0x14),
                part("error", TEXT, 0, 0x15),
            ],
        ]
        .concat(),
    );
    add(
        ToolAttempted::new("refund")
            .with_tool_version("3")
            .with_effect(Effect::Destructive)
            .with_call_id(call_id())
            .with_decision_link(DecisionLink::CallId)
            .with_approval_event_id(event_id(0x73))
            .with_provenance(Provenance::Imported)
            .with_omitted_inputs(["client"])
            .into(),
        &[part("input", JSON, 44, 0x16), part("input.iban", TEXT, 22, 0x17)],
    );
    add(
        ToolCompleted::new("refund", event_id(0x74), ToolStatus::ToolError)
            .with_call_id(call_id())
            .with_error_code("limit_exceeded")
            .with_duration_us(950u64)
            .with_provenance(Provenance::Imported)
            .with_external_ids([ExternalId::new("payment", "pay_77")])
            .into(),
        &[part("output", JSON, 18, 0x18), part("error", TEXT, 29, 0x19)],
    );
    add(
        ReviewProposed::new("review-1", "refund")
            .with_proposed_call_id(call_id())
            .with_action_digest(hash_of(0x30))
            .with_expires_at(at(3_600))
            .with_policy("refunds over 100 EUR")
            .with_provenance(Provenance::Imported)
            .with_omitted_inputs(["card"])
            .into(),
        &[part("proposal", JSON, 44, 0x1a)],
    );
    add(
        ReviewPresented::new("review-1", "reviewer-7", "console")
            .with_proposed_event_id(event_id(0x75))
            .with_provenance(Provenance::Imported)
            .into(),
        &[part("shown", "text/html", 2_048, 0x1b)],
    );
    add(
        ReviewDecided::new(
            "review-1",
            ReviewDecision::Modify,
            Reviewer::new("reviewer-7", ReviewerKind::Human)
                .with_role("duty manager")
                .with_credentials(["sso:corp", "mfa"]),
        )
        .with_scope(ReviewScope::Once)
        .with_proposed_event_id(event_id(0x75))
        .with_presented_event_id(event_id(0x76))
        .with_decided_after_us(8_400_000u64)
        .with_expires_at(at(7_200))
        .with_escalated_to("reviewer-9")
        .with_provenance(Provenance::Imported)
        .into(),
        &[part("rationale", TEXT, 60, 0x1c), part("diff", "application/json-patch+json", 58, 0x1d)],
    );
    add(
        ReviewApplied::new("review-1", "resumed")
            .with_decided_event_id(event_id(0x77))
            .with_provenance(Provenance::Imported)
            .into(),
        &[part("state", JSON, 512, 0x1e)],
    );
    add(
        AccessQueried::new("auditor-3", "session")
            .with_rows(42u64)
            .with_digest(hash_of(0x31))
            .with_purpose("complaint 2026-118")
            .into(),
        &[part("query", JSON, 87, 0x1f)],
    );
    add(
        AccessExported::new("auditor-3", "time_range", "ndjson")
            .with_rows(10_000u64)
            .with_files(2u64)
            .with_digest(hash_of(0x32))
            .with_purpose("yearly audit")
            .into(),
        &[part("query", JSON, 91, 0x20)],
    );
    add(
        IntegrityVerified::new("agent-audit 0.1.0", 42u64, 1u64)
            .with_started_at(at(0))
            .with_duration_us(1_900u64)
            .with_checkpoint("log.example/acme\n1\nu7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s=\n")
            .with_ranges(ranges())
            .into(),
        &[part("report", JSON, 1_204, 0x21)],
    );
    add(
        IntegrityFailed::new("agent-audit 0.1.0", 42u64, 1u64)
            .with_started_at(at(0))
            .with_duration_us(1_900u64)
            .with_checkpoint("log.example/acme\n1\nu7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s=\n")
            .with_findings_total(1u64)
            .with_ranges(ranges())
            .with_findings([FindingSummary::new("hash_mismatch")
                .with_chain_id(chain_id())
                .with_sequence(7u64)
                .with_event_id(event_id(0x78))])
            .into(),
        &[part("report", JSON, 1_377, 0x22)],
    );
    let public_key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    add(ChainOpened::new(writer_id(), public_key, "agent-audit 0.1.0").into(), &[]);
    add(
        ChainResumed::new(writer_id(), public_key, "agent-audit 0.1.0")
            .with_closed_before(false)
            .with_torn_bytes(17u64)
            .into(),
        &[],
    );
    add(ChainClosed::new("shutdown").into(), &[]);
    add(
        ChainGap::new(GapReason::JournalFull, 3u64)
            .with_unrecorded_actions(1u64)
            .with_first_at(at(1))
            .with_last_at(at(2))
            .into(),
        &[],
    );
    add(
        KeyCreated::new("tenant-key-1", KeyScope::Tenant, "AES-256-GCM")
            .with_subject_id(subject_id())
            .with_wrapped_by("kek-1")
            .into(),
        &[],
    );
    add(
        KeyRotated::new("tenant-key-1", KeyScope::Tenant)
            .with_subject_id(subject_id())
            .with_wrapped_by("kek-2")
            .with_successor_key_id("tenant-key-2")
            .with_authority("security-1")
            .with_reason("yearly")
            .into(),
        &[],
    );
    add(
        KeyDestroyed::new("key-81f3", KeyScope::Subject, "dpo-1", "GDPR Art. 17")
            .with_subject_id(subject_id())
            .with_affected_events(9u64)
            .with_affected_parts(12u64)
            .into(),
        &[part("request", TEXT, 233, 0x23)],
    );
    add(
        ContentPurged::new("postgres", "retention", "policy-90d")
            .with_legal_basis("GDPR Art. 5(1)(e)")
            .with_before(at(4))
            .with_events(90u64)
            .with_parts(201u64)
            .into(),
        &[],
    );
    all
}

/// The events of the files, by type.
pub(crate) fn events() -> BTreeMap<String, Event> {
    let event = |(n, (payload, content)): (usize, (Payload, Vec<ContentRef>))| {
        let n = u8::try_from(n).unwrap();
        let event = Event {
            schema_version: "1.0".to_owned(),
            event_id: event_id(n),
            tenant_id: TenantId::new("acme").unwrap(),
            session_id: SessionId::new("session \"1\" \\ Zürich").unwrap(),
            agent_id: AgentId::new("support-agent").unwrap(),
            timestamp_utc: at(u64::from(n)),
            chain_id: chain_id(),
            sequence: u64::from(n) + 1,
            previous_event_hash: hash_of(0xa0 + n),
            payload,
            content,
            parent_event_id: Some(event_id(0x7f)),
            trace_id: Some(TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap()),
            span_id: Some(SpanId::new("00f067aa0ba902b7").unwrap()),
            subject_id: Some(subject_id()),
            writer_id: Some(writer_id()),
            occurred_at: Some(Timestamp::from_nanos(1_795_420_799_000_000_001)),
            extra: Extra::new(),
        };
        (event.event_type().as_str().to_owned(), event)
    };
    payloads().into_iter().enumerate().map(event).collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/1.0")
}

/// The frozen bytes of a type. What is missing can be written once with `WRITE_MISSING_GOLDEN=1`;
/// a file that exists is never written again.
pub(crate) fn frozen(event_type: &str) -> Vec<u8> {
    let path = directory().join(format!("{event_type}.json"));
    if !path.exists() && std::env::var_os("WRITE_MISSING_GOLDEN").is_some() {
        std::fs::write(&path, events()[event_type].canonical_bytes().unwrap()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{event_type} has no golden file {}: {error}", path.display())
    })
}

#[test]
fn every_type_has_a_golden_file_and_is_built_as_frozen() {
    let events = events();
    assert_eq!(events.len(), payloads().len(), "two events of one type");
    for event_type in EventType::ALL {
        let event = events.get(event_type.as_str());
        let event = event.unwrap_or_else(|| panic!("{event_type} has no golden event"));
        let bytes = event.canonical_bytes().unwrap();
        let frozen = frozen(event_type.as_str());
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            String::from_utf8(frozen).unwrap(),
            "{event_type}"
        );
    }
}

#[test]
fn every_golden_file_is_read_and_rewritten_byte_for_byte() {
    let hashes = std::fs::read_to_string(directory().join("hashes.txt")).unwrap_or_default();
    let hashes: BTreeMap<&str, &str> =
        hashes.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut seen = 0;
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.to_str().and_then(|path| path.strip_suffix(".json")) else {
            continue;
        };
        let name = name.rsplit('/').next().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let event = Event::from_slice(&bytes).unwrap();
        assert_eq!(event.event_type().as_str(), name);
        assert!(EventType::ALL.contains(&event.event_type()), "{name} is not of schema 1.0");
        assert_eq!(event, events()[name]);
        assert_eq!(event.canonical_bytes().unwrap(), bytes, "{name}");
        assert_eq!(hashes.get(name).copied(), Some(&*event.hash().unwrap().to_string()), "{name}");
        let view = canonical::scan(&bytes).unwrap();
        assert_eq!((view.event_type, view.sequence), (name, event.sequence));
        assert_eq!(view.content_len(), event.content.len());
        seen += 1;
    }
    assert_eq!(seen, EventType::ALL.len());
    assert_eq!(hashes.len(), seen, "hashes.txt names a type that has no file");
}
