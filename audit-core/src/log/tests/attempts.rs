//! Attempts: every way in which an action can end leaves one outcome.

use std::{
    future::{Future, pending},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::*;
use crate::{
    attempt::{ModelCall, ModelOutcome, ReviewCall, ReviewVerdict, ToolCall, ToolOutcome},
    context::{AuditContext, InCurrentAudit as _, spawn},
    error::AuditErrorKind,
    event::{
        Payload,
        chain::GapReason,
        model::{Decision, DecisionKind, ModelDecided, ModelStatus, SelectedCall},
        review::{ReviewDecision, Reviewer, ReviewerKind},
        session::SessionStarted,
        tool::{DecisionLink, ToolStatus},
    },
    id::{CallId, EventId},
    verify::FindingKind,
};

const DEADLINE: Duration = Duration::from_secs(10);

fn outcomes(events: &[Event]) -> Vec<(EventId, ToolStatus)> {
    events
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::ToolCompleted(completed) => {
                assert_eq!(event.parent_event_id, Some(completed.attempt_event_id));
                Some((completed.attempt_event_id, completed.status.clone()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn completed_dropped_and_panicked_attempts_have_their_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s-1", "agent").unwrap();
    let ok = session.attempt_tool_blocking(ToolCall::new("ok")).unwrap();
    let ok_id = ok.event_id();
    ok.complete_blocking(ToolOutcome::new(ToolStatus::Ok)).unwrap();
    let dropped = session.attempt_tool_blocking(ToolCall::new("dropped")).unwrap();
    let dropped_id = dropped.event_id();
    drop(dropped);
    let panicking = session.attempt_tool_blocking(ToolCall::new("panics")).unwrap();
    let panicked_id = panicking.event_id();
    let thread = std::thread::spawn(move || {
        let _attempt = panicking;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(thread.join().is_err());
    log.close_blocking(DEADLINE).unwrap();
    let events = events(dir.path()).remove("acme").unwrap();
    assert_eq!(
        outcomes(&events),
        [
            (ok_id, ToolStatus::Ok),
            (dropped_id, ToolStatus::Cancelled),
            (panicked_id, ToolStatus::Panicked),
        ]
    );
    assert_intact(dir.path());
}

#[test]
fn an_outcome_is_recorded_even_if_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s-1", "agent").unwrap();
    let attempt = session.attempt_tool_blocking(ToolCall::new("refund")).unwrap();
    let id = attempt.event_id();
    {
        let mut complete = pin!(attempt.complete(ToolOutcome::new(ToolStatus::Ok)));
        let polled = complete.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // On a fast disk it may even be done by now; either way it is dropped here.
        drop(polled);
    }
    log.close_blocking(DEADLINE).unwrap();
    let events = events(dir.path()).remove("acme").unwrap();
    assert_eq!(outcomes(&events), [(id, ToolStatus::Ok)]);
}

#[test]
fn attempts_of_a_dead_process_are_closed_as_unknown_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s \"1\"", "agent").unwrap();
    let call = ToolCall::new("refund").with_call_id(CallId::new("call_1").unwrap());
    let tool = session.attempt_tool_blocking(call).unwrap();
    let model = session.attempt_model_blocking(ModelCall::new("openai", "gpt-4o")).unwrap();
    let (tool_id, model_id) = (tool.event_id(), model.event_id());
    log.close_blocking(DEADLINE).unwrap();
    // As if the process had died: the guards go when nothing can be recorded any more.
    drop((tool, model, session, log));
    let unresolved = verify(dir.path());
    let kinds: Vec<_> = unresolved.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == FindingKind::UnresolvedAttempt).count(), 2);

    for _ in 0..2 {
        AuditLog::open(dir.path()).unwrap().close_blocking(DEADLINE).unwrap();
    }
    let events = events(dir.path()).remove("acme").unwrap();
    assert_eq!(outcomes(&events), [(tool_id, ToolStatus::Unknown)]);
    let closing = |id: EventId| {
        events.iter().filter(move |event| event.parent_event_id == Some(id)).collect::<Vec<_>>()
    };
    let [tool] = closing(tool_id)[..] else { panic!("one outcome") };
    assert_eq!(tool.session_id.as_str(), "s \"1\"");
    let Payload::ToolCompleted(completed) = &tool.payload else { panic!("{tool:?}") };
    assert_eq!(
        (completed.tool_name.as_str(), completed.call_id.as_ref().unwrap().as_str()),
        ("refund", "call_1")
    );
    let [model] = closing(model_id)[..] else { panic!("one outcome") };
    let Payload::ModelDecided(decided) = &model.payload else { panic!("{model:?}") };
    assert_eq!(
        (decided.requested_model.as_str(), &decided.status),
        ("gpt-4o", &ModelStatus::Unknown)
    );
    let report = assert_intact(dir.path());
    assert!(report.findings.iter().all(|finding| finding.kind != FindingKind::UnresolvedAttempt));
}

#[test]
fn a_tool_finds_its_decision_by_call_id_first_and_by_scope_second() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s-1", "agent").unwrap();
    let decide = |call: &str| {
        let attempt = session.attempt_model_blocking(ModelCall::new("openai", "m")).unwrap();
        let call = SelectedCall::new(CallId::new(call).unwrap(), "refund");
        let decision = Decision::new(DecisionKind::Tools).with_tool_calls([call]);
        let decided = ModelDecided::new("", "", ModelStatus::Ok).with_decision(decision);
        attempt.complete_blocking(ModelOutcome::decided(decided)).unwrap().event_id
    };
    let before = session.attempt_tool_blocking(ToolCall::new("none")).unwrap();
    let (first, second) = (decide("call_1"), decide("call_2"));
    let by_call = ToolCall::new("call").with_call_id(CallId::new("call_1").unwrap());
    let by_call = session.attempt_tool_blocking(by_call).unwrap();
    let by_context = session.with_call(CallId::new("call_1").unwrap());
    let by_context = by_context.attempt_tool_blocking(ToolCall::new("context")).unwrap();
    let by_scope = session.attempt_tool_blocking(ToolCall::new("scope")).unwrap();
    let explicit =
        session.attempt_tool_blocking(ToolCall::new("explicit").with_parent(first)).unwrap();
    let nested = explicit.context().attempt_tool_blocking(ToolCall::new("nested")).unwrap();
    let expected = [
        (before.event_id(), None, None),
        (by_call.event_id(), Some(first), Some(DecisionLink::CallId)),
        (by_context.event_id(), Some(first), Some(DecisionLink::CallId)),
        (by_scope.event_id(), Some(second), Some(DecisionLink::Scope)),
        (explicit.event_id(), Some(first), Some(DecisionLink::Explicit)),
        (nested.event_id(), Some(explicit.event_id()), None),
    ];
    drop((before, by_call, by_context, by_scope, nested, explicit));
    log.close_blocking(DEADLINE).unwrap();
    let events = events(dir.path()).remove("acme").unwrap();
    for (id, parent, link) in expected {
        let event = events.iter().find(|event| event.event_id == id).unwrap();
        let Payload::ToolAttempted(attempted) = &event.payload else { panic!("{event:?}") };
        assert_eq!(
            (event.parent_event_id, &attempted.decision_link),
            (parent, &link),
            "{}",
            attempted.tool_name
        );
    }
}

#[test]
fn a_review_says_how_long_it_was_looked_at_only_if_it_was_shown() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s-1", "agent").unwrap();
    let alice = || Reviewer::new("alice", ReviewerKind::Human);
    let shown = session.attempt_review_blocking(ReviewCall::new("refund")).unwrap();
    let page = crate::content::Part::text("shown", "Refund?");
    shown.present_blocking("alice", "web", page).unwrap();
    shown.complete_blocking(ReviewVerdict::new(ReviewDecision::Approve, alice())).unwrap();
    let unseen = session.attempt_review_blocking(ReviewCall::new("refund")).unwrap();
    unseen.complete_blocking(ReviewVerdict::new(ReviewDecision::Approve, alice())).unwrap();
    drop(session.attempt_review_blocking(ReviewCall::new("refund")).unwrap());
    log.close_blocking(DEADLINE).unwrap();
    let events = events(dir.path()).remove("acme").unwrap();
    let decided: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::ReviewDecided(decided) => Some(decided.clone()),
            _ => None,
        })
        .collect();
    assert!(decided[0].decided_after_us.is_some() && decided[0].presented_event_id.is_some());
    assert!(decided[1].decided_after_us.is_none() && decided[1].presented_event_id.is_none());
    assert_eq!(decided[2].decision, ReviewDecision::Dismissed);
    assert_eq!(decided[2].reviewer.kind, ReviewerKind::Policy);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_goes_where_it_is_taken_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    assert_eq!(AuditContext::current().unwrap_err().kind(), AuditErrorKind::NoContext);
    let tenant = || AuditContext::current().map(|context| context.tenant_id().to_string());
    let (acme, globex) =
        (log.session("acme", "s", "a").unwrap(), log.session("globex", "s", "a").unwrap());
    acme.scope(async {
        assert_eq!(tenant().unwrap(), "acme");
        globex.scope(async { assert_eq!(tenant().unwrap(), "globex") }).await;
        assert_eq!(tenant().unwrap(), "acme");
        tokio::task::yield_now().await;
        assert_eq!(tenant().unwrap(), "acme");
        assert!(
            tokio::spawn(async move { tenant() }).await.unwrap().is_err(),
            "a bare task has none"
        );
        assert_eq!(spawn(async move { tenant() }).await.unwrap().unwrap(), "acme");
        let taken = tokio::spawn(async move { tenant() }.in_current_audit());
        assert_eq!(taken.await.unwrap().unwrap(), "acme");
        let thread = crate::context::spawn_blocking(tenant);
        assert_eq!(thread.await.unwrap().unwrap(), "acme");
    })
    .await;
    assert!(tenant().is_err());
    // A future that is abandoned in the middle does not leave its context behind.
    {
        let mut stuck = pin!(acme.scope(pending::<()>()));
        assert_eq!(stuck.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
        assert!(tenant().is_err());
    }
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        acme.run(|| std::panic::resume_unwind(Box::new("on purpose")))
    }));
    assert!(caught.is_err() && tenant().is_err());
}

#[tokio::test]
async fn a_sub_agent_names_its_parent_session_and_what_spawned_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "main", "planner").unwrap();
    let call = session.attempt_tool(ToolCall::new("delegate")).await.unwrap();
    let child = call.context().sub_agent("sub", "worker", SessionStarted::new()).await.unwrap();
    child.record(note("from below")).await.unwrap();
    let spawned_by = call.event_id();
    drop(call);
    log.close(DEADLINE).await.unwrap();
    let events = events(dir.path()).remove("acme").unwrap();
    let started = events.iter().find(|event| event.session_id.as_str() == "sub").unwrap();
    let Payload::SessionStarted(payload) = &started.payload else { panic!("{started:?}") };
    assert_eq!(payload.parent_session_id.as_ref().unwrap().as_str(), "main");
    assert_eq!((payload.spawned_by, started.parent_event_id), (Some(spawned_by), Some(spawned_by)));
    let _ = GapReason::JournalFull;
}
