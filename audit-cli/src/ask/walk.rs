//! `agent-audit why` and `agent-audit effects`.

use std::collections::HashMap;

use agent_audit_core::{id::EventId, timeline::visible};
use agent_audit_query::{
    Access,
    questions::{
        links::{Link, LinkKind},
        walk::{Reach, Walk},
    },
};
use serde::Serialize;

use super::{
    Asking,
    brief::brief,
    json::{Flat, Linked},
};
use crate::{
    args::{EffectsArgs, WalkArgs, WhyArgs},
    failure::Failure,
};

#[derive(Serialize)]
struct Json<'a> {
    event_id: EventId,
    events: Vec<Linked<'a>>,
    missing: Vec<Missing<'a>>,
}

#[derive(Serialize)]
struct Missing<'a> {
    named_by: EventId,
    #[serde(flatten)]
    link: &'a Link,
}

pub(super) async fn why(args: &WhyArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let walk = asking.ledger.why(args.walk.event, reach(&args.walk)).await?;
    told("why", &walk, asking).await
}

pub(super) async fn effects(args: &EffectsArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let reach = reach(&args.walk);
    let reach = if args.context { reach.context() } else { reach };
    let walk = asking.ledger.effects(args.walk.event, reach).await?;
    told("effects", &walk, asking).await
}

fn reach(args: &WalkArgs) -> Reach {
    let reach = args.steps.map_or(Reach::default(), |steps| Reach::default().steps(steps));
    if args.content { reach.content() } else { reach }
}

async fn told(ask: &str, walk: &Walk, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let answer = Access::digest(walk.steps.iter().map(|step| &step.found));
    asking.recorder.queried(&asking.ledger, ask, &walk.origin, answer).await?;
    if asking.args.json { json(walk, asking) } else { text(walk, asking) }
}

fn json(walk: &Walk, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let mut events = Vec::with_capacity(walk.steps.len());
    for step in &walk.steps {
        let event = Flat::of(&step.found)?;
        events.push(Linked {
            depth: None,
            distance: Some(step.distance),
            causes: &step.causes,
            event,
        });
    }
    let missing =
        walk.missing.iter().map(|(named_by, link)| Missing { named_by: *named_by, link }).collect();
    asking.out.line(serde_json::to_string(&Json { event_id: walk.origin, events, missing })?)
}

/// One line for each event, numbered, with the numbers of its causes.
fn text(walk: &Walk, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let numbers: HashMap<EventId, usize> =
        walk.steps.iter().zip(1..).map(|(step, number)| (step.found.event_id(), number)).collect();
    let width = walk.steps.len().to_string().len();
    let mut session = "";
    for (step, number) in walk.steps.iter().zip(1usize..) {
        let found = &step.found;
        if session != found.session_id() {
            session = found.session_id();
            asking.out.line(format!(
                "session {} · {}",
                visible(session),
                visible(found.agent_id())
            ))?;
        }
        let mark = if found.event_id() == walk.origin { "→" } else { " " };
        let causes: Vec<String> = step
            .causes
            .iter()
            .filter_map(|link| Some(format!("{} {}", word(link.kind), numbers.get(&link.cause)?)))
            .collect();
        let causes =
            if causes.is_empty() { String::new() } else { format!("   ← {}", causes.join(", ")) };
        asking.out.line(format!(
            "{mark} {number:>width$}  {}  {}{causes}",
            asking.zone.show(found.timestamp()),
            brief(found)?
        ))?;
        asking.out.line(format!("  {:>width$}  {}", "", found.event_id()))?;
    }
    for (named_by, link) in &walk.missing {
        let (number, word) = (numbers.get(named_by).copied().unwrap_or_default(), word(link.kind));
        asking.out.line(format!(
            "? {number} names {} as its {word}, which is not in the store",
            link.cause
        ))?;
    }
    Ok(())
}

fn word(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Decision => "decision",
        LinkKind::Attempt => "attempt",
        LinkKind::Request => "request",
        LinkKind::Approval => "approval",
        LinkKind::Proposal => "proposal",
        LinkKind::Presentation => "presentation",
        LinkKind::Review => "review",
        LinkKind::Spawn => "spawn",
        LinkKind::Parent => "parent",
        LinkKind::Context => "context",
        LinkKind::Earlier => "earlier",
        LinkKind::Result => "result",
        LinkKind::Session => "session",
        _ => "cause",
    }
}
