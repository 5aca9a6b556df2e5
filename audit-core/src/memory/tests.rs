#![allow(clippy::unwrap_used, reason = "tests")]

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use super::*;
use crate::{
    chain::ChainRef,
    content::Part,
    event::{
        Event, EventType, Payload,
        chain::ChainOpened,
        model::{Decision, DecisionKind, ModelDecided, ModelRequested, ModelStatus, SelectedCall},
        review::{
            ReviewDecided, ReviewDecision, ReviewPresented, ReviewProposed, Reviewer, ReviewerKind,
        },
        session::SessionStarted,
        tool::{ToolAttempted, ToolCompleted, ToolStatus},
    },
    hash::Hash,
    id::{CallId, ChainId, EventId, SessionId, TenantId, WriterId},
    record::Record,
    sink::{Batch, BatchAck, Segment, SegmentOutcome, Sink, SinkErrorKind},
    verify::FindingKind,
};

/// A chain that tells a story, event by event.
struct Teller {
    chain: ChainRef,
    records: Vec<Record>,
    parent: Option<EventId>,
}

impl Teller {
    fn new(tenant: &str) -> Self {
        let id = ChainId::new(format!("{tenant}-1")).unwrap();
        let chain = ChainRef::new(TenantId::new(tenant).unwrap(), id);
        let mut teller = Self { chain, records: Vec::new(), parent: None };
        teller.tell(ChainOpened::new(WriterId::random(), "ed25519:…", "agent 1.0"), []);
        teller.parent = None;
        teller
    }

    /// Each event has the one before as its parent, unless the test says otherwise.
    fn tell<const N: usize>(&mut self, payload: impl Into<Payload>, parts: [Part; N]) -> EventId {
        let mut event = Event::example(payload);
        let (references, bodies) = parts.into_iter().map(Part::commit).unzip();
        event.content = references;
        event.tenant_id = self.chain.tenant_id.clone();
        event.chain_id = self.chain.chain_id.clone();
        event.sequence = self.records.len() as u64;
        event.previous_event_hash = self.records.last().map_or(Hash::ZERO, Record::event_hash);
        event.parent_event_id = self.parent;
        self.parent = Some(event.event_id);
        self.records.push(Record::new(event.canonical_bytes().unwrap(), bodies));
        event.event_id
    }

    fn tool(&mut self, name: &str, input: &str, status: ToolStatus, output: &str) -> EventId {
        let input = Part::json("input", &serde_json::json!({ "id": input })).unwrap();
        let attempt = self.tell(ToolAttempted::new(name), [input]);
        self.tell(ToolCompleted::new(name, attempt, status), [Part::text("output", output)]);
        attempt
    }

    fn segment(&self, range: std::ops::Range<usize>) -> Segment {
        Segment::new(self.chain.clone(), self.records[range].to_vec()).unwrap()
    }

    fn all(&self) -> Segment {
        self.segment(0..self.records.len())
    }

    async fn sink(&self) -> MemorySink {
        let sink = MemorySink::new();
        deliver(&sink, [self.all()]).await;
        sink
    }
}

async fn deliver<const N: usize>(sink: &MemorySink, segments: [Segment; N]) {
    let ack = sink.append(&Batch::new(segments.to_vec())).await.unwrap();
    assert!(ack.outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
}

/// What a call panics with.
fn panic_of<T>(call: impl FnOnce() -> T) -> String {
    let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(call)) else {
        panic!("it did not panic")
    };
    *panic.downcast::<String>().unwrap()
}

fn decided(model: &str) -> ModelDecided {
    let call = SelectedCall::new(CallId::new("call_1").unwrap(), "refund");
    ModelDecided::new("openai", model, ModelStatus::Ok)
        .with_decision(Decision::new(DecisionKind::Tools).with_tool_calls([call]))
}

/// One request, one decision, one review, one call that it allows, one call that fails.
fn story() -> Teller {
    let mut acme = Teller::new("acme");
    let request = acme.tell(ModelRequested::new("openai", "gpt-5"), []);
    let decision = acme.tell(
        decided("gpt-5").with_request_event_id(request),
        [Part::text("output", "I refund it")],
    );
    acme.tell(ReviewProposed::new("r-1", "refund"), []);
    acme.tell(ReviewPresented::new("r-1", "reviewer-7", "console"), []);
    let reviewer = Reviewer::new("reviewer-7", ReviewerKind::Human);
    let approved = acme.tell(
        ReviewDecided::new("r-1", ReviewDecision::Modify, reviewer),
        [Part::text("rationale", "in policy"), Part::text("diff", "[]")],
    );
    acme.parent = Some(decision);
    let input = Part::json("input", &serde_json::json!({ "id": "A-1" })).unwrap();
    let refund = acme.tell(ToolAttempted::new("refund").with_approval_event_id(approved), [input]);
    acme.tell(
        ToolCompleted::new("refund", refund, ToolStatus::Ok),
        [Part::text("output", "[true]")],
    );
    acme.parent = Some(decision);
    acme.tool("notify", "A-1", ToolStatus::Error, "");
    acme
}

#[tokio::test]
async fn calls_read_like_the_story() {
    let sink = story().sink().await;
    sink.assert_no_orphans();
    sink.assert_chain_valid();
    sink.tools().assert_decided();

    let refund = sink.tools().tenant("acme").session("session-1").named("refund").only();
    assert_eq!(refund.status(), Some(&ToolStatus::Ok));
    assert_eq!(refund.input()["id"], "A-1");
    assert_eq!((refund.output(), refund.output_text()), (serde_json::json!([true]), "[true]"));
    assert_eq!(refund.input_text(), "{\"id\":\"A-1\"}");

    let model = sink.models().named("gpt-5").deciding(DecisionKind::Tools).only();
    assert_eq!(refund.decision().as_ref(), Some(&model));
    assert_eq!(model.output_text(), "I refund it");
    assert_eq!(model.tools().len(), 2);
    assert!(model.request().is_some());
    refund.assert_caused_by(&model);
    refund.completion().unwrap().assert_caused_by(&model);
    assert_eq!(refund.attempt().children(), [refund.completion().unwrap().clone()]);
    assert!(!model.caused_by(&refund));

    let review = sink.reviews().named("refund").with_decision(ReviewDecision::Modify).only();
    assert_eq!(review.rationale(), Some("in policy"));
    assert_eq!(review.diff(), Some(serde_json::json!([])));
    assert_eq!((review.events().len(), review.presented().len()), (3, 1));
    assert_eq!(refund.approval().as_ref(), review.decided_entry());
    assert!(refund.caused_by(&review), "over the approval that it relies on");
    review.assert_caused_by(&model);

    let notify = sink.tools().named("notify").only();
    assert!(!notify.caused_by(&review));
    assert_eq!(sink.tools().caused_by(&review).count(), 1);
    assert_eq!(sink.tools().with_status(ToolStatus::Error).only(), notify);
    let parents: Vec<_> = notify.attempt().ancestors().iter().map(Entry::event_type).collect();
    assert_eq!(parents, [EventType::ModelDecided, EventType::ModelRequested]);
    assert_eq!(sink.events().of_type(EventType::ReviewPresented).count(), 1);
    assert_eq!(sink.events()[0].event_type(), EventType::ChainOpened);
}

#[tokio::test]
async fn a_failed_assertion_shows_what_was_asked_and_the_timeline() {
    let sink = story().sink().await;
    let refund = sink.tools().named("refund").only();
    let notify = sink.tools().named("notify").only();
    for (message, start) in [
        (
            panic_of(|| sink.tools().tenant("acme").named("pay").only()),
            "expected 1 of the tool calls of tenant acme, named \"pay\", found 0\n\nsession",
        ),
        (panic_of(|| sink.tools().assert_none()), "expected 0 of the tool calls, found 2\n\n"),
        (
            panic_of(|| notify.assert_caused_by(&refund)),
            "tool.attempted at acme/acme-1 #8 was not caused by tool.attempted at acme/acme-1 #6\n\n",
        ),
        (
            panic_of(|| refund.attempt().content_json("inptu")),
            "tool.attempted at acme/acme-1 #6 has no part \"inptu\" in the clear; it names [\"input\"]",
        ),
        (
            panic_of(|| notify.output()),
            "part \"output\" of tool.completed at acme/acme-1 #9 is not JSON",
        ),
        (
            panic_of(|| MemorySink::new().assert_chain_valid()),
            "the chains are not intact:\n- nothing",
        ),
    ] {
        assert!(message.starts_with(start), "{message}");
    }
    let message = panic_of(|| sink.events().only());
    assert!(message.contains("tool refund attempted · relies on #5"), "{message}");
}

#[tokio::test]
async fn orphans_are_named() {
    let mut acme = Teller::new("acme");
    let mut globex = Teller::new("globex");
    let foreign = globex.tell(ToolAttempted::new("theirs"), []);
    acme.parent = Some(foreign);
    acme.tell(ToolAttempted::new("pay"), []);
    let (lost, gone) = (EventId::new(), EventId::new());
    acme.parent = None;
    acme.tell(ToolCompleted::new("pay", lost, ToolStatus::Ok), []);
    acme.tell(ToolAttempted::new("pay").with_approval_event_id(gone), []);
    acme.tell(ModelRequested::new("openai", "gpt-5"), []);
    acme.tell(SessionStarted::new().with_parent_session_id(SessionId::new("nowhere").unwrap()), []);
    let sink = acme.sink().await;
    deliver(&sink, [globex.all()]).await;
    let found: Vec<_> = sink
        .orphans()
        .into_iter()
        .filter(|orphan| orphan.entry.tenant().as_str() == "acme")
        .map(|orphan| (orphan.entry.sequence(), orphan.kind))
        .collect();
    let link = |field, id, foreign| OrphanKind::DanglingLink { field, id, foreign };
    assert_eq!(
        found,
        [
            (1, link("parent_event_id", foreign, true)),
            (2, link("attempt_event_id", lost, false)),
            (3, link("approval_event_id", gone, false)),
            (5, OrphanKind::UnknownParentSession),
            (1, OrphanKind::UnresolvedAttempt),
            (3, OrphanKind::UnresolvedAttempt),
            (4, OrphanKind::UnresolvedRequest),
        ]
    );
    let message = panic_of(|| sink.assert_no_orphans());
    assert!(message.contains("- tool.attempted at acme/acme-1 #1 has no tool.completed\n"));
    let message = panic_of(|| sink.tools().tenant("acme").assert_decided());
    assert!(message.starts_with("no model decision led to tool call \"pay\" at acme/acme-1 #1, "));
}

#[tokio::test]
async fn instances_do_not_see_each_other_and_clones_do() {
    let sink = story().sink().await;
    assert!(MemorySink::new().is_empty());
    assert_eq!(sink.clone().len(), sink.len());
}

#[tokio::test]
async fn waiting_is_woken_by_a_delivery() {
    let acme = story();
    let sink = MemorySink::new();
    let waiter = tokio::spawn({
        let sink = sink.clone();
        async move { sink.wait_for(|events| events.len() >= 4).await.count() }
    });
    tokio::task::yield_now().await;
    deliver(&sink, [acme.segment(0..2)]).await;
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    deliver(&sink, [acme.segment(2..4)]).await;
    assert_eq!(waiter.await.unwrap(), 4);
    let late = tokio::spawn(async {
        let sink = MemorySink::new();
        sink.wait_for_within(Duration::ZERO, |events| !events.is_empty()).await.count()
    });
    let error = late.await.unwrap_err();
    let message = *error.into_panic().downcast::<String>().unwrap();
    assert!(message.contains("nothing was recorded"), "{message}");
}

#[tokio::test]
async fn faults_happen_as_scripted_and_are_counted() {
    let acme = story();
    let sink = MemorySink::new();
    let batch = Batch::new(vec![acme.all()]);
    let before = sink.faults().inject(Fault::before(SinkErrorKind::Unavailable).times(2));
    let after = sink.faults().inject(Fault::after(SinkErrorKind::Timeout));
    for (kind, kept) in [
        (SinkErrorKind::Unavailable, 0),
        (SinkErrorKind::Unavailable, 0),
        (SinkErrorKind::Timeout, acme.records.len()),
    ] {
        let error = sink.append(&batch).await.unwrap_err();
        assert_eq!((error.kind(), error.maybe_applied(), sink.len()), (kind, kept > 0, kept));
    }
    assert!(sink.append(&batch).await.is_ok());
    assert_eq!((before.fired(), after.fired(), sink.faults().calls(Operation::Append)), (2, 1, 4));
    assert_eq!(sink.len(), acme.records.len(), "kept once");

    sink.faults()
        .inject(Fault::before(SinkErrorKind::PermissionDenied).on(Operation::Head).always());
    assert!(sink.head(&acme.chain).await.is_err());
    sink.faults().clear();
    assert_eq!(sink.head(&acme.chain).await.unwrap().unwrap().sequence, 9);
}

#[tokio::test]
async fn a_fault_of_one_tenant_leaves_the_other_alone() {
    let (acme, globex) = (story(), Teller::new("globex"));
    for (fault, kept) in [
        (Fault::before(SinkErrorKind::Rejected), 0),
        (Fault::after(SinkErrorKind::Timeout), acme.records.len()),
        (Fault::conflict(), 0),
        (Fault::prefix(3), 3),
    ] {
        let sink = MemorySink::new();
        sink.faults().inject(fault.tenant("acme"));
        let batch = Batch::new(vec![acme.all(), globex.all()]);
        let BatchAck { outcomes } = sink.append(&batch).await.unwrap();
        assert!(!matches!(outcomes[0], SegmentOutcome::Accepted), "{outcomes:?}");
        assert!(matches!(outcomes[1], SegmentOutcome::Accepted), "{outcomes:?}");
        assert_eq!(sink.records(&acme.chain).len(), kept);
        assert!(matches!(sink.append(&batch).await.unwrap().outcomes[0], SegmentOutcome::Accepted));
    }
}

#[tokio::test]
async fn a_hang_waits_for_its_release() {
    let acme = story();
    for (fault, kept) in [(Fault::hang_before(), 0), (Fault::hang_after(), acme.records.len())] {
        let sink = MemorySink::new();
        let hang = sink.faults().inject(fault);
        let appending = tokio::spawn({
            let (sink, batch) = (sink.clone(), Batch::new(vec![acme.all()]));
            async move { sink.append(&batch).await.map(|_| ()) }
        });
        hang.wait_until_fired(1).await;
        assert_eq!(sink.len(), kept);
        hang.release();
        appending.await.unwrap().unwrap();
        assert_eq!(sink.len(), acme.records.len());
    }
}

#[tokio::test]
async fn a_hang_that_is_given_up_keeps_nothing() {
    let acme = story();
    let sink = MemorySink::new();
    let hang = sink.faults().inject(Fault::hang_before());
    let appending = tokio::spawn({
        let (sink, batch) = (sink.clone(), Batch::new(vec![acme.all()]));
        async move { sink.append(&batch).await.map(|_| ()) }
    });
    hang.wait_until_fired(1).await;
    appending.abort();
    assert!(appending.await.unwrap_err().is_cancelled());
    assert!(sink.is_empty());
}

/// Tampers with the story of acme; globex stands beside it.
async fn tampered(tamper: impl FnOnce(Tamper<'_>, &ChainRef, &ChainRef)) -> MemorySink {
    let (acme, globex) = (story(), Teller::new("globex"));
    let sink = acme.sink().await;
    deliver(&sink, [globex.all()]).await;
    sink.assert_chain_valid();
    tamper(sink.tamper(), &acme.chain, &globex.chain);
    sink
}

#[tokio::test]
async fn the_verifier_names_what_was_tampered_with() {
    type Change = fn(Tamper<'_>, &ChainRef, &ChainRef);
    let cases: [(&str, Change, FindingKind, u64); 9] = [
        ("edited", |t, a, _| t.replace_text(a, 6, "refund", "refuse"), FindingKind::Tampered, 6),
        ("broken", |t, a, _| t.edit(a, 6, |bytes| bytes.truncate(9)), FindingKind::Tampered, 6),
        ("removed", |t, a, _| t.remove(a, 4), FindingKind::Missing, 4),
        ("swapped", |t, a, _| t.swap(a, 4, 5), FindingKind::Reordered, 4),
        ("doubled", |t, a, _| t.duplicate(a, 4), FindingKind::Duplicated, 4),
        ("beheaded", |t, a, _| t.behead(a, 2), FindingKind::HeadMissing, 0),
        ("part", |t, a, _| t.edit_part(a, 6, "input", "{}"), FindingKind::ContentMismatch, 6),
        ("moved away", |t, a, g| t.move_to(a, 4, g), FindingKind::Missing, 4),
        ("moved to", |t, a, g| t.move_to(a, 4, g), FindingKind::Foreign, 4),
    ];
    for (name, change, kind, at) in cases {
        let sink = tampered(change).await;
        let findings = sink.verify().findings;
        let named = |finding: &&crate::verify::Finding| finding.kind == kind;
        let found = findings.iter().find(named);
        assert!(found.is_some(), "{name}: {findings:?}");
        if kind != FindingKind::Foreign {
            assert!(findings.iter().any(|f| f.kind == kind && f.is_at(at)), "{name}: {findings:?}");
        }
        let message = panic_of(|| sink.assert_chain_valid());
        assert!(message.contains(&format!("- {}", found.unwrap())), "{name}: {message}");
    }
    // A cut end or a removed chain leaves valid chains: only a checkpoint shows it.
    tampered(|t, a, _| t.truncate(a, 3)).await.assert_chain_valid();
    let sink = tampered(|t, a, _| t.remove_chain(a)).await;
    sink.assert_chain_valid();
    assert_eq!(sink.chains().len(), 1);
}

#[tokio::test]
async fn tampering_with_nothing_is_noticed() {
    let sink = story().sink().await;
    let chain = sink.chains().remove(0);
    let message = panic_of(|| sink.tamper().remove(&chain, 99));
    assert_eq!(message, "chain acme/acme-1 has 10 records, none at 99");
    let message = panic_of(|| sink.tamper().replace_text(&chain, 0, "nowhere", ""));
    assert!(message.starts_with("record 0 of acme/acme-1 does not hold \"nowhere\""));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_in_the_timeline() {
    let sink = tampered(|t, a, _| t.edit(a, 6, |bytes| bytes.clear())).await;
    assert!(sink.timeline().ends_with("✗ 1 record cannot be read\n"), "{}", sink.timeline());
}

#[cfg(feature = "conformance")]
mod conformance {
    use async_trait::async_trait;

    use super::*;
    use crate::conformance::{self, Harness};

    #[derive(Default)]
    struct Memory(MemorySink);

    #[async_trait]
    impl Harness for Memory {
        async fn sink(&self) -> Arc<dyn Sink> {
            Arc::new(self.0.clone())
        }

        async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
            self.0.records(chain)
        }

        async fn faulty(
            &self,
            fault: conformance::Fault,
            chain: &ChainRef,
        ) -> Option<Arc<dyn Sink>> {
            let kind = SinkErrorKind::Unavailable;
            let fault = match fault {
                conformance::Fault::BeforeCommit => Fault::before(kind),
                conformance::Fault::AfterCommit => Fault::after(kind),
            };
            self.0.faults().inject(fault.tenant(chain.tenant_id.as_str()));
            Some(self.sink().await)
        }
    }

    crate::sink_conformance!(Memory::default());
}
