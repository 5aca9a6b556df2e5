//! Every question, held against the answer from the records themselves, and against what the input
//! is known to hold.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use agent_audit_core::{event::Payload, id::TenantId, memory::MemorySink, timestamp::Timestamp};
use serde_json::json;

use super::Input;
use crate::{
    EventStore, Filter, Found, Ledger, Order, QueryErrorKind, Request,
    questions::{
        anomalies::{AnomalyKind, Bounds},
        usage::{By, Price, Prices},
        walk::{Reach, Walk},
    },
    scan::Scanned,
};

/// Asks every question.
pub(super) async fn compare(input: &Input, store: &Arc<dyn EventStore>) {
    let records: MemorySink = input.records().clone();
    let reference: Arc<dyn EventStore> = Arc::new(Scanned::new("reference", records));
    for tenant in input.tenants() {
        let asked = Both {
            store: Ledger::new(Arc::clone(store), tenant.clone()),
            reference: Ledger::new(Arc::clone(&reference), tenant.clone()),
        };
        stories(&asked).await;
        walks(&asked).await;
        overrides(&asked).await;
        attribution(&asked).await;
        anomalies(&asked).await;
        usage(&asked).await;
        pages(&asked).await;
    }
    known(&Ledger::new(Arc::clone(store), input.tenants()[0].clone())).await;
    nothing(store).await;
}

struct Both {
    store: Ledger,
    reference: Ledger,
}

fn same<T: Debug>(found: &T, expected: &T, question: &str) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{question}");
}

async fn stories(asked: &Both) {
    let sessions = asked.reference.sessions(&Filter::new(), None, 1_000).await.unwrap();
    for session in sessions.iter().take(8) {
        for content in [false, true] {
            let found = asked.store.story(&session.session_id, content).await.unwrap();
            let expected = asked.reference.story(&session.session_id, content).await.unwrap();
            same(&found, &expected, &format!("the story of {}", session.session_id));
        }
    }
}

async fn walks(asked: &Both) {
    let all = asked.reference.events(&Filter::new(), &Request::first(10_000)).await.unwrap();
    for found in all.events.iter().step_by(7) {
        let id = found.event_id();
        for reach in
            [Reach::default(), Reach::default().steps(2).content(), Reach::default().context()]
        {
            let question = format!("of {} {id}, {reach:?}", found.event_type());
            let why = asked.store.why(id, reach).await.unwrap();
            same(
                &why,
                &asked.reference.why(id, reach).await.unwrap(),
                &format!("the causes {question}"),
            );
            let effects = asked.store.effects(id, reach).await.unwrap();
            let expected = asked.reference.effects(id, reach).await.unwrap();
            same(&effects, &expected, &format!("the effects {question}"));
        }
    }
}

async fn overrides(asked: &Both) {
    for filter in
        [Filter::new(), Filter::new().reviewer("reviewer-0"), Filter::new().decision("modify")]
    {
        let request = Request::first(100);
        let found = asked.store.overrides(&filter, &request).await.unwrap();
        let expected = asked.reference.overrides(&filter, &request).await.unwrap();
        same(&found, &expected, &format!("the overrides with {filter}"));
    }
}

async fn attribution(asked: &Both) {
    for filter in [Filter::new().model_version("2026-05-01"), Filter::new().provider("anthropic")] {
        let request = Request::first(3);
        let found = asked.store.attribution(&filter, &request).await.unwrap();
        let expected = asked.reference.attribution(&filter, &request).await.unwrap();
        same(&found, &expected, &format!("the attribution of {filter}"));
    }
}

async fn anomalies(asked: &Both) {
    let bounds = Bounds::default().now(Timestamp::from_nanos(4_000_000_000_000_000_000));
    for filter in [Filter::new(), Filter::new().session("session-odd".parse().unwrap())] {
        let found = asked.store.anomalies(&filter, &bounds).await.unwrap();
        let expected = asked.reference.anomalies(&filter, &bounds).await.unwrap();
        assert_eq!(found, expected, "the anomalies with {filter}");
    }
}

async fn usage(asked: &Both) {
    let prices = Prices::default().with("gpt-4o", Price::new(2_500_000, 10_000_000));
    for by in [By::Model, By::Agent, By::Session, By::Day] {
        let found = asked.store.usage(&Filter::new(), by, &prices).await.unwrap();
        let expected = asked.reference.usage(&Filter::new(), by, &prices).await.unwrap();
        assert_eq!(found, expected, "the usage by {by:?}");
    }
}

/// There and back again gives every event once, in both directions.
async fn pages(asked: &Both) {
    let filter = Filter::new().family("tool.");
    for order in [Order::Time, Order::Chain] {
        let whole =
            asked.reference.events(&filter, &Request::first(10_000).order(order)).await.unwrap();
        let ids = |events: &[Found]| events.iter().map(Found::event_id).collect::<Vec<_>>();
        let mut forwards = Vec::new();
        let mut request = Request::first(9).order(order);
        loop {
            let page = asked.store.events(&filter, &request).await.unwrap();
            forwards.extend(ids(&page.events));
            let Some(next) = page.next else { break };
            request = Request::after(next, 9).order(order);
        }
        assert_eq!(forwards, ids(&whole.events), "forwards in {order:?}");
        let mut backwards = Vec::new();
        let mut request = Request::last(9).order(order);
        loop {
            let page = asked.store.events(&filter, &request).await.unwrap();
            backwards.splice(0..0, ids(&page.events));
            let Some(previous) = page.previous else { break };
            request = Request::before(previous, 9).order(order);
        }
        assert_eq!(backwards, ids(&whole.events), "backwards in {order:?}");
    }
}

/// What anybody who reads the input can say.
async fn known(ledger: &Ledger) {
    // A refund that a reviewer changed: session-01 is the second, decided by reviewer-1.
    let filter = Filter::new().session("session-01".parse().unwrap());
    let overrides = ledger.overrides(&filter, &Request::first(10)).await.unwrap().overrides;
    let [change] = &overrides[..] else {
        panic!("one override in session-01, not {}", overrides.len())
    };
    assert_eq!((change.decision.as_str(), change.reviewer_id.as_str()), ("modify", "reviewer-1"));
    assert_eq!(change.action.as_deref(), Some("refund"));
    assert!(change.latency_us.is_some() && change.is_human());
    let shown = serde_json::to_value(&overrides).unwrap();
    assert_eq!(shown[0]["proposal"], json!({"state": "text", "text": r#"{"amount":40}"#}));
    assert_eq!(shown[0]["rationale"]["text"], "as the rules say");
    assert!(shown[0]["diff"]["text"].as_str().unwrap().contains("replace"));

    // Why was it refunded: back to the decision, its prompt, the approval, what was shown.
    let refund = Filter::new()
        .session("session-01".parse().unwrap())
        .event_type("tool.attempted")
        .tool("refund");
    let refund = ledger.events(&refund, &Request::first(2)).await.unwrap().events.remove(0);
    let why = ledger.why(refund.event_id(), Reach::default()).await.unwrap();
    let count = types(&why);
    for (event_type, at_least) in [
        ("session.started", 1),
        ("model.requested", 2),
        ("model.decided", 2),
        ("review.proposed", 1),
        ("review.presented", 1),
        ("review.decided", 1),
        ("tool.completed", 1),
    ] {
        assert!(count.get(event_type).is_some_and(|n| *n >= at_least), "{event_type} in {count:?}");
    }
    assert_eq!(why.steps.last().unwrap().found.event_id(), refund.event_id(), "causes come first");
    assert!(why.missing.is_empty());

    // What the decision of session-01 led to: among it everything of the sub-agent's session.
    let decided = why
        .steps
        .iter()
        .find(|step| step.found.event_type() == "model.decided" && step.distance == 1)
        .unwrap();
    let effects = ledger.effects(decided.found.event_id(), Reach::default()).await.unwrap();
    let researched: Vec<_> = effects
        .steps
        .iter()
        .filter(|step| step.found.session_id() == "session-01/research")
        .collect();
    assert!(researched.len() >= 6, "the sub-agent's session is an effect");
    assert!(effects.steps.iter().any(|step| step.found.event_id() == refund.event_id()));

    // The story holds both sessions, the spawned one inside.
    let story = ledger.story(&"session-01".parse().unwrap(), true).await.unwrap();
    assert_eq!(story.sessions.len(), 2);
    let at = |wanted: &str| {
        story.lines.iter().position(|line| {
            line.found.event_type() == wanted && line.found.session_id().ends_with("research")
        })
    };
    let spawn = story
        .lines
        .iter()
        .position(|line| line.found.text("tool_name").as_deref() == Some("delegate"));
    assert!(spawn < at("session.started") && at("session.started") < at("session.ended"));

    // Each wrong of the odd session is found, and by its right name.
    let odd = Filter::new().session("session-odd".parse().unwrap());
    let anomalies = ledger.anomalies(&odd, &Bounds::default()).await.unwrap();
    let mut kinds: BTreeMap<AnomalyKind, usize> = BTreeMap::new();
    for anomaly in &anomalies {
        *kinds.entry(anomaly.kind).or_default() += 1;
    }
    let expected = [
        (AnomalyKind::HastyDecision, 6),
        (AnomalyKind::HastyStreak, 1),
        (AnomalyKind::NeverPresented, 4),
        (AnomalyKind::DecidedByModel, 1),
        (AnomalyKind::DecidedByPolicy, 1),
        (AnomalyKind::Undecided, 1),
        (AnomalyKind::ActionMismatch, 1),
        (AnomalyKind::ApprovalExpired, 3),
        (AnomalyKind::ApprovalReused, 2),
        (AnomalyKind::NoOutcome, 1),
        (AnomalyKind::NoDecision, 4),
    ];
    assert_eq!(kinds, BTreeMap::from(expected), "{anomalies:#?}");

    // Figures add up: what is summed by session is what is summed by day.
    let sum = |rows: Vec<crate::questions::usage::Usage>| {
        rows.iter().fold((0, 0), |(calls, tokens), row| {
            (calls + row.calls, tokens + row.input_tokens.unwrap_or(0))
        })
    };
    let prices = Prices::default();
    let by_day = sum(ledger.usage(&Filter::new(), By::Day, &prices).await.unwrap());
    let by_session = sum(ledger.usage(&Filter::new(), By::Session, &prices).await.unwrap());
    assert_eq!(by_day, by_session);

    // Everything of one version is of that version.
    let filter = Filter::new().model_version("2026-08-06");
    let answer = ledger.attribution(&filter, &Request::first(1_000)).await.unwrap();
    for found in &answer.decisions {
        let Payload::ModelDecided(decided) = found.event().unwrap().payload else {
            panic!("a decision")
        };
        assert_eq!(decided.model_version.as_deref(), Some("2026-08-06"));
    }
    assert!(answer.downstream.iter().any(|found| found.event_type() == "tool.completed"));
}

fn types(walk: &Walk) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for step in &walk.steps {
        *count.entry(step.found.event_type().to_owned()).or_default() += 1;
    }
    count
}

/// A tenant that nobody knows, and questions that make no sense.
async fn nothing(store: &Arc<dyn EventStore>) {
    let tenant: TenantId = "nobody-at-all".parse().unwrap();
    let ledger = Ledger::new(Arc::clone(store), tenant);
    let kind = ledger.story(&"s".parse().unwrap(), false).await.unwrap_err().kind();
    assert_eq!(kind, QueryErrorKind::NotFound);
    let id = agent_audit_core::id::EventId::new();
    assert_eq!(
        ledger.why(id, Reach::default()).await.unwrap_err().kind(),
        QueryErrorKind::NotFound
    );
    assert_eq!(
        ledger.effects(id, Reach::default()).await.unwrap_err().kind(),
        QueryErrorKind::NotFound
    );
    assert!(ledger.anomalies(&Filter::new(), &Bounds::default()).await.unwrap().is_empty());
    let turned = Filter::new().from_sequence(9).to_sequence(3);
    let kind = ledger.events(&turned, &Request::first(1)).await.unwrap_err().kind();
    assert_eq!(kind, QueryErrorKind::Invalid);
}
