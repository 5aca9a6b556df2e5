//! What the questions are asked about.

use agent_audit_core::{
    attempt::{ModelCall, ModelOutcome, ReviewCall, ReviewVerdict, ToolCall, ToolOutcome},
    content::Part,
    context::AuditContext,
    event::{
        Other,
        model::{
            ContextRole, Decision, DecisionKind, ModelDecided, ModelStatus, SelectedCall, Usage,
        },
        review::{
            ReviewDecided, ReviewDecision, ReviewPresented, ReviewProposed, ReviewScope, Reviewer,
            ReviewerKind,
        },
        session::{SessionEnded, SessionOutcome, SessionStarted},
        tool::{Effect, ToolAttempted, ToolStatus},
    },
    id::{CallId, EventId, SubjectId, TenantId},
    log::{AuditLog, Draft, Durability},
    memory::MemorySink,
    openai_chat::Transcript,
    sink::{Batch, Segment, SegmentOutcome, Sink},
    timestamp::Timestamp,
};

use crate::scan::Scanned;

/// How many sessions the larger of the tenants has.
const SESSIONS: usize = 12;

/// Records of several tenants, made by the writer itself.
///
/// ```
/// # pollster::block_on(async {
/// let input = agent_audit_query::conformance::Input::new("example-").await;
/// assert_eq!(input.tenants().len(), 3);
/// # });
/// ```
#[derive(Debug)]
pub struct Input {
    sink: MemorySink,
    reference: Scanned<MemorySink>,
    tenants: Vec<TenantId>,
}

impl Input {
    /// Makes the records. The names of the tenants begin with a prefix of the caller's, so that
    /// stores which are used again can tell them apart.
    ///
    /// # Panics
    /// Where the machine cannot keep a log in its folder for temporary files.
    pub async fn new(prefix: &str) -> Self {
        Self::with_transcripts(prefix, "").await
    }

    /// As [`new`](Self::new), and the first tenant also has these transcripts in OpenAI's chat
    /// format, one JSON object a line.
    ///
    /// # Panics
    /// As [`new`](Self::new), and where a line is no transcript.
    pub async fn with_transcripts(prefix: &str, transcripts: &str) -> Self {
        let sink = MemorySink::new();
        let tenants: Vec<TenantId> = ["acme", "Acme", "globex"]
            .map(|name| format!("{prefix}{name}").parse().unwrap())
            .into();
        // Two writers for the first tenant, on a chain each.
        for writer in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let log = AuditLog::builder(dir.path())
                .with_durability(Durability::Buffered)
                .with_sink(sink.clone())
                .open()
                .unwrap();
            for number in (0..SESSIONS).filter(|number| number % 2 == writer) {
                conversation(&log, &tenants[0], number).await;
            }
            if writer == 0 {
                // The same names as the first tenant's: only the tenant keeps them apart.
                conversation(&log, &tenants[1], 0).await;
                conversation(&log, &tenants[2], 1).await;
                reviews_gone_wrong(&log, &tenants[0]).await;
                for line in transcripts.lines().filter(|line| !line.trim().is_empty()) {
                    import(&log, &tenants[0], line).await;
                }
            }
            let report = log.close(std::time::Duration::from_secs(60)).await.unwrap();
            assert!(report.is_complete(), "the input is delivered to memory");
        }
        let reference = Scanned::new("reference", sink.clone());
        Self { sink, reference, tenants }
    }

    /// The tenants.
    #[must_use]
    pub fn tenants(&self) -> &[TenantId] {
        &self.tenants
    }

    /// The records themselves.
    #[must_use]
    pub fn records(&self) -> &MemorySink {
        &self.sink
    }

    /// The records as a store, whose answers are the right ones.
    #[must_use]
    pub fn reference(&self) -> &Scanned<MemorySink> {
        &self.reference
    }

    /// Brings the records to a sink.
    ///
    /// # Panics
    /// Where the sink does not take them.
    pub async fn load(&self, sink: &dyn Sink) {
        for chain in self.sink.chains() {
            for records in self.sink.records(&chain).chunks(100) {
                let segment = Segment::new(chain.clone(), records.to_vec()).unwrap();
                let ack = sink.append(&Batch::new(vec![segment])).await.unwrap();
                let [outcome] = &ack.outcomes[..] else { panic!("one outcome for one segment") };
                assert!(matches!(outcome, SegmentOutcome::Accepted), "the sink takes the records");
            }
        }
    }
}

/// A session with a model, tools, a review, a sub-agent, a person concerned; a little different for
/// each number.
async fn conversation(log: &AuditLog, tenant: &TenantId, number: usize) {
    let agent = if number.is_multiple_of(3) { "billing-agent" } else { "support-agent" };
    let session = log.session(tenant, format!("session-{number:02}"), agent).unwrap();
    let session = if number.is_multiple_of(2) {
        session.with_subject(SubjectId::new(format!("person-{}", number % 4)).unwrap())
    } else {
        session
    };
    session.start(SessionStarted::new().with_agent_version("1.4")).await.unwrap();

    let looked_up = model(&session, number, "call-lookup", "lookup_order", None).await;
    tool(&session, &format!("call-lookup-{number}"), "lookup_order", ToolStatus::Ok, None).await;

    let refund = model(&session, number, "call-refund", "refund", Some(looked_up)).await;
    let decisions = [
        ReviewDecision::Approve,
        ReviewDecision::Modify,
        ReviewDecision::Reject,
        ReviewDecision::Escalate,
    ];
    let decision = decisions[number % decisions.len()].clone();
    let reviewer = Reviewer::new(format!("reviewer-{}", number % 2), ReviewerKind::Human)
        .with_role("supervisor");
    let call = CallId::new(format!("call-refund-{number}")).unwrap();
    let review = session
        .attempt_review(ReviewCall::new("refund").with_call_id(call.clone()).with_part(Part::new(
            "proposal",
            "application/json",
            r#"{"amount":40}"#,
        )))
        .await
        .unwrap();
    review.present("reviewer", "web", Part::text("shown", "Refund 40 EUR?")).await.unwrap();
    let mut verdict = ReviewVerdict::new(decision.clone(), reviewer)
        .with_scope(ReviewScope::Once)
        .with_rationale("as the rules say");
    if decision == ReviewDecision::Modify {
        verdict = verdict.with_diff(r#"[{"op":"replace","path":"/amount","value":20}]"#);
    }
    let decided = review.complete(verdict).await.unwrap();
    if decision.allows() {
        tool(&session, call.as_str(), "refund", ToolStatus::Ok, Some(decided.event_id)).await;
    }
    let statuses = [ToolStatus::Error, ToolStatus::ToolError, ToolStatus::Panicked];
    let status = statuses[number % statuses.len()].clone();
    tool(&session, &format!("call-odd-{number}"), "lookup_order", status, None).await;

    if number % 3 == 1 {
        let spawn =
            session.attempt_tool(ToolCall::new("delegate").with_parent(refund)).await.unwrap();
        let child = spawn
            .context()
            .sub_agent(
                format!("session-{number:02}/research"),
                "research-agent",
                SessionStarted::new().with_purpose("research"),
            )
            .await
            .unwrap();
        model(&child, number + 100, "call-search", "search", None).await;
        tool(&child, &format!("call-search-{}", number + 100), "search", ToolStatus::Ok, None)
            .await;
        child.end(SessionEnded::new(SessionOutcome::Completed)).await.unwrap();
        spawn.complete(ToolOutcome::new(ToolStatus::Ok)).await.unwrap();
    }
    session
        .record(Draft::new(Other::custom("mood").unwrap()).with_part(Part::text("note", "calm ✓")))
        .await
        .unwrap();
    if number % 4 != 3 {
        session.end(SessionEnded::new(SessionOutcome::Completed)).await.unwrap();
    }
}

/// Asks a model, which answers with one tool call.
async fn model(
    context: &AuditContext,
    number: usize,
    call: &str,
    tool: &str,
    after: Option<EventId>,
) -> EventId {
    let version = if number.is_multiple_of(2) { "2026-05-01" } else { "2026-08-06" };
    let requested = if number.is_multiple_of(5) { "claude-sonnet" } else { "gpt-4o" };
    let provider = if number.is_multiple_of(5) { "anthropic" } else { "openai" };
    let mut asked = ModelCall::new(provider, requested).with_context(
        ContextRole::User,
        "text/plain",
        "I want my money back",
    );
    if let Some(after) = after {
        asked = asked.with_context_after(after);
    }
    let attempt = context.attempt_model(asked).await.unwrap();
    let request = attempt.event_id();
    let count = u64::try_from(number).unwrap();
    let call_id = CallId::new(format!("{call}-{number}")).unwrap();
    let decision =
        Decision::new(DecisionKind::Tools).with_tool_calls([SelectedCall::new(call_id, tool)]);
    let decided = ModelDecided::new(provider, requested, ModelStatus::Ok)
        .with_served_model(format!("{requested}-{version}"))
        .with_model_version(version)
        .with_request_event_id(request)
        .with_usage(Usage::new().with_input_tokens(100 + count).with_output_tokens(10u64))
        .with_latency_us(1_000 + count)
        .with_decision(decision);
    let outcome = ModelOutcome::decided(decided).with_part(Part::text("output", "let me see"));
    attempt.complete(outcome).await.unwrap().event_id
}

async fn tool(
    context: &AuditContext,
    call: &str,
    name: &str,
    status: ToolStatus,
    approval: Option<EventId>,
) {
    let mut asked = ToolCall::new(name)
        .with_call_id(CallId::new(call).unwrap())
        .with_part(Part::new("input", "application/json", r#"{"order":"A-1"}"#));
    if let Some(approval) = approval {
        asked = asked.with_approval(approval);
    }
    let attempt = context.attempt_tool(asked).await.unwrap();
    let mut outcome = ToolOutcome::new(status.clone()).with_part(Part::new(
        "output",
        "application/json",
        r#"{"amount":40}"#,
    ));
    if status.is_ok() {
        outcome = outcome.with_external_id("order", "A-1").with_external_id("payment", call);
    }
    attempt.complete(outcome).await.unwrap();
}

/// Reviews and calls as they should not be: each is what some anomaly is about.
async fn reviews_gone_wrong(log: &AuditLog, tenant: &TenantId) {
    let session = log.session(tenant, "session-odd", "odd-agent").unwrap();
    session.start(SessionStarted::new()).await.unwrap();
    let propose = |id: &str| ReviewProposed::new(id, "wire_transfer");
    let human = || Reviewer::new("hasty", ReviewerKind::Human);

    // Decided at once, over and over.
    for number in 0..6 {
        let id = format!("hasty-{number}");
        let proposed = session.record(propose(&id)).await.unwrap().event_id;
        let presented = ReviewPresented::new(&*id, "hasty", "web").with_proposed_event_id(proposed);
        let presented =
            session.record(Draft::new(presented).with_parent(proposed)).await.unwrap().event_id;
        let decided = ReviewDecided::new(&*id, ReviewDecision::Approve, human())
            .with_proposed_event_id(proposed)
            .with_presented_event_id(presented)
            .with_decided_after_us(150_000u64 + number);
        session.record(Draft::new(decided).with_parent(proposed)).await.unwrap();
    }
    // Never presented; by a policy; by a model; long expired, and used twice.
    for (id, kind) in [
        ("unseen", ReviewerKind::Human),
        ("policy", ReviewerKind::Policy),
        ("model", ReviewerKind::Model),
    ] {
        let proposed = session.record(propose(id)).await.unwrap().event_id;
        let decided = ReviewDecided::new(
            id,
            ReviewDecision::Approve,
            Reviewer::new(format!("by-{id}"), kind),
        )
        .with_proposed_event_id(proposed);
        session.record(Draft::new(decided).with_parent(proposed)).await.unwrap();
    }
    let proposed = session.record(propose("expired")).await.unwrap().event_id;
    let past: Timestamp = "2020-01-01T00:00:00.000000000Z".parse().unwrap();
    let decided = ReviewDecided::new("expired", ReviewDecision::Approve, human())
        .with_proposed_event_id(proposed)
        .with_scope(ReviewScope::Once)
        .with_expires_at(past);
    let approval =
        session.record(Draft::new(decided).with_parent(proposed)).await.unwrap().event_id;
    for call in ["call-twice-1", "call-twice-2"] {
        tool(&session, call, "wire_transfer", ToolStatus::Ok, Some(approval)).await;
    }
    // Another action than the one that was approved.
    tool(&session, "call-other", "close_account", ToolStatus::Ok, Some(approval)).await;
    // A review that nobody decided, and a call of which no end was recorded.
    session.record(propose("open")).await.unwrap();
    let attempted = ToolAttempted::new("wire_transfer").with_effect(Effect::Destructive);
    session.record(attempted).await.unwrap();
}

async fn import(log: &AuditLog, tenant: &TenantId, line: &str) {
    let transcript = Transcript::parse(line.as_bytes()).unwrap();
    let session = log.session(tenant, transcript.session_id(), "imported-agent").unwrap();
    for event in transcript.events() {
        session.record(event).await.unwrap();
    }
}
