//! What an event says of its causes.

use agent_audit_core::{
    event::{Event, Payload},
    id::EventId,
};
use serde::Serialize;

/// How one event led to another.
///
/// ```
/// use agent_audit_query::questions::links::LinkKind;
/// assert_eq!(serde_json::to_string(&LinkKind::Approval)?, r#""approval""#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LinkKind {
    /// The model's decision that made this call.
    Decision,
    /// The intent whose outcome this is.
    Attempt,
    /// The request that this answers.
    Request,
    /// The review that allows this.
    Approval,
    /// The proposal that was presented or decided.
    Proposal,
    /// What the reviewer was shown.
    Presentation,
    /// The decision of the review that was applied.
    Review,
    /// The event that spawned this session.
    Spawn,
    /// The event that this happened under.
    Parent,
    /// The decision whose context this one goes on from, as the record says.
    Context,
    /// The decision before this one in its session, which the record does not name.
    Earlier,
    /// A result that came back before this decision and after the one before it: it was there to
    /// be seen.
    Result,
    /// The beginning of the session.
    Session,
}

/// One cause of an event.
///
/// ```
/// use agent_audit_core::{event::{Event, tool::*}, id::EventId};
/// use agent_audit_query::questions::links::{Link, LinkKind};
/// let attempt = EventId::new();
/// let event = Event::example(ToolCompleted::new("refund", attempt, ToolStatus::Ok));
/// assert_eq!(Link::named_by(&event), [Link { kind: LinkKind::Attempt, cause: attempt }]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[allow(clippy::exhaustive_structs, reason = "a link is a kind and an end")]
pub struct Link {
    /// How.
    pub kind: LinkKind,
    /// The event that led to this one.
    pub cause: EventId,
}

impl Link {
    /// The causes that an event names itself, each once, by its most telling name.
    #[must_use]
    pub fn named_by(event: &Event) -> Vec<Self> {
        let mut links: Vec<Self> = Vec::new();
        let mut add = |kind, cause: Option<EventId>| {
            let Some(cause) = cause else { return };
            if links.iter().all(|link| link.cause != cause) {
                links.push(Self { kind, cause });
            }
        };
        match &event.payload {
            Payload::ToolAttempted(attempted) => {
                add(LinkKind::Approval, attempted.approval_event_id);
                if attempted.decision_link.is_some() {
                    add(LinkKind::Decision, event.parent_event_id);
                }
            }
            Payload::ToolCompleted(completed) => {
                add(LinkKind::Attempt, Some(completed.attempt_event_id));
            }
            Payload::ModelRequested(requested) => add(LinkKind::Context, requested.context_after),
            Payload::ModelDecided(decided) => {
                add(LinkKind::Request, decided.request_event_id);
                add(LinkKind::Context, decided.context_after);
            }
            Payload::ReviewPresented(presented) => {
                add(LinkKind::Proposal, presented.proposed_event_id);
            }
            Payload::ReviewDecided(decided) => {
                add(LinkKind::Proposal, decided.proposed_event_id);
                add(LinkKind::Presentation, decided.presented_event_id);
            }
            Payload::ReviewApplied(applied) => add(LinkKind::Review, applied.decided_event_id),
            Payload::SessionStarted(started) => add(LinkKind::Spawn, started.spawned_by),
            _ => {}
        }
        add(LinkKind::Parent, event.parent_event_id);
        links
    }
}
