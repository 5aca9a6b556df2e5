//! Valid chains of events as agents leave them, to feed to a sink.

use std::ops::RangeInclusive;

use crate::{
    content::{ContentRef, Part, PartBody},
    event::{
        Event, Other, Payload,
        chain::ChainOpened,
        model::{Decision, DecisionKind, ModelDecided, ModelStatus, SelectedCall},
        review::{
            ReviewApplied, ReviewDecided, ReviewDecision, ReviewPresented, ReviewProposed,
            Reviewer, ReviewerKind,
        },
        session::{SessionEnded, SessionOutcome, SessionStarted},
        tool::{Effect, ExternalId, ToolAttempted, ToolCompleted, ToolStatus},
    },
    hash::Hash,
    id::{CallId, ChainId, EventId, SubjectId, TenantId, TraceId, WriterId},
    record::Record,
    sink::{ChainRef, Segment},
};

/// The first `events` events of a fresh chain of a tenant: agent sessions with model decisions, tool
/// calls and reviews, with their content.
///
/// # Panics
/// Where `events` is 0, because a segment is never empty.
///
/// ```
/// use agent_audit_core::{conformance::chain, id::TenantId};
/// let segment = chain(&TenantId::new("acme")?, 12);
/// assert_eq!((segment.first(), segment.last()), (0, 11));
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[must_use]
pub fn chain(tenant: &TenantId, events: usize) -> Segment {
    TestChain::of(tenant.clone()).extend(events)
}

/// A chain that grows as a test needs it.
///
/// ```
/// use agent_audit_core::conformance::TestChain;
/// let mut chain = TestChain::new();
/// let first = chain.extend(3);
/// let second = chain.extend(2);
/// assert_eq!((first.last(), second.first()), (2, 3));
/// assert_eq!(chain.segment(0..=4).records(), chain.records());
/// assert_ne!(chain.fork(3).extend(1).hashes()[0], second.hashes()[0]);
/// ```
#[derive(Debug, Clone)]
pub struct TestChain {
    chain: ChainRef,
    records: Vec<Record>,
    head: Hash,
    story: Story,
}

/// What the next event refers to.
#[derive(Debug, Clone)]
struct Story {
    step: usize,
    parent: Option<EventId>,
    attempt: EventId,
    call: CallId,
}

impl TestChain {
    /// A fresh chain of a fresh tenant.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        let name = format!("tenant-{}", ChainId::random());
        Self::of(TenantId::new(name).expect("a random name is a name"))
    }

    /// A fresh chain of a tenant.
    #[must_use]
    pub fn of(tenant: TenantId) -> Self {
        Self::at(ChainRef::new(tenant, ChainId::random()))
    }

    /// An empty chain of this tenant and id.
    #[must_use]
    pub fn at(chain: ChainRef) -> Self {
        let story = Story { step: 0, parent: None, attempt: EventId::new(), call: call_id(0) };
        Self { chain, records: Vec::new(), head: Hash::ZERO, story }
    }

    /// The tenant and the id.
    #[must_use]
    pub fn chain(&self) -> &ChainRef {
        &self.chain
    }

    /// Everything so far.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Adds so many events.
    ///
    /// # Panics
    /// Where `events` is 0, because a segment is never empty.
    pub fn extend(&mut self, events: usize) -> Segment {
        let first = self.next();
        for _ in 0..events {
            let (event, parts) = self.next_event();
            self.push(event, parts.into_iter().map(Part::commit).collect());
        }
        self.segment(first..=self.next() - 1)
    }

    /// Adds one event with this content.
    pub fn extend_with(&mut self, content: Vec<(ContentRef, PartBody)>) -> Segment {
        let first = self.next();
        let payload = Other::custom("conformance").expect("the name is one");
        self.push(Event::example(payload), content);
        self.segment(first..=first)
    }

    /// A run of what there is.
    ///
    /// # Panics
    /// Where there is no such run.
    #[must_use]
    pub fn segment(&self, range: RangeInclusive<u64>) -> Segment {
        let at = |position: u64| usize::try_from(position).expect("a test chain is short");
        let records = self.records[at(*range.start())..=at(*range.end())].to_vec();
        Segment::new(self.chain.clone(), records).expect("the chain is built link by link")
    }

    /// A chain that is the same before this position, and other from there on.
    #[must_use]
    pub fn fork(&self, at: u64) -> Self {
        let mut fork = self.clone();
        fork.records.truncate(usize::try_from(at).expect("a test chain is short"));
        fork.head = fork.records.last().map_or(Hash::ZERO, Record::event_hash);
        fork
    }

    fn next(&self) -> u64 {
        self.records.len() as u64
    }

    fn push(&mut self, mut event: Event, content: Vec<(ContentRef, PartBody)>) {
        let (references, bodies) = content.into_iter().unzip();
        event.tenant_id = self.chain.tenant_id.clone();
        event.chain_id = self.chain.chain_id.clone();
        event.sequence = self.next();
        event.previous_event_hash = self.head;
        event.parent_event_id = self.story.parent;
        event.content = references;
        self.story.parent = Some(event.event_id);
        let bytes = event.canonical_bytes().expect("the event holds nothing but what is hashed");
        let record = Record::new(bytes, bodies);
        self.head = record.event_hash();
        self.records.push(record);
    }

    /// The next event of an agent that refunds orders, and asks a person before it does.
    fn next_event(&mut self) -> (Event, Vec<Part>) {
        let step = self.story.step;
        self.story.step += 1;
        let review = format!("review-{}", step / 9);
        let mut parts = Vec::new();
        let payload: Payload = if self.records.is_empty() {
            ChainOpened::new(WriterId::random(), "ed25519:example", "agent-audit 0.1.0").into()
        } else {
            match step % 9 {
                1 => SessionStarted::new().with_agent_version("2.1").with_purpose("refunds").into(),
                2 => {
                    self.story.call = call_id(step);
                    parts.push(Part::text("context.0", "Wo bleibt mein Geld? 💶"));
                    parts.push(Part::text("output", format!("I look at order A-{step}.")));
                    let call = SelectedCall::new(self.story.call.clone(), "refund");
                    ModelDecided::new("openai", "gpt-5", ModelStatus::Ok)
                        .with_served_model("gpt-5-2025-08-07")
                        .with_model_version("fp_44709d6fcb")
                        .with_decision(Decision::new(DecisionKind::Tools).with_tool_calls([call]))
                        .into()
                }
                3 => ReviewProposed::new(review, "refund")
                    .with_proposed_call_id(self.story.call.clone())
                    .into(),
                4 => ReviewPresented::new(review, "reviewer-7", "console").into(),
                5 => {
                    parts.push(Part::text("rationale", "within policy"));
                    let reviewer = Reviewer::new("reviewer-7", ReviewerKind::Human);
                    ReviewDecided::new(review, ReviewDecision::Approve, reviewer)
                        .with_decided_after_us(4_200_000u64)
                        .into()
                }
                6 => ReviewApplied::new(review, "resumed").into(),
                7 => {
                    parts.push(Part::new("input", "application/json", br#"{"eur": 19.90}"#));
                    ToolAttempted::new("refund")
                        .with_effect(Effect::Destructive)
                        .with_call_id(self.story.call.clone())
                        .into()
                }
                8 => {
                    parts.push(Part::new("output", "application/json", br#"{"ok": true}"#));
                    ToolCompleted::new("refund", self.story.attempt, ToolStatus::Ok)
                        .with_call_id(self.story.call.clone())
                        .with_external_ids([ExternalId::new("order", format!("A-{step}"))])
                        .into()
                }
                _ => SessionEnded::new(SessionOutcome::Completed).into(),
            }
        };
        let attempt = matches!(payload, Payload::ToolAttempted(_));
        let mut event = Event::example(payload);
        event.subject_id = SubjectId::new("subject-81f3").ok();
        event.trace_id = TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").ok();
        if attempt {
            self.story.attempt = event.event_id;
        }
        (event, parts)
    }
}

fn call_id(step: usize) -> CallId {
    CallId::new(format!("call_{step}")).expect("it is short text")
}
