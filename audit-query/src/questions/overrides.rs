//! Where reviewers did not simply approve.

use std::collections::{BTreeSet, HashMap};

use agent_audit_core::{
    event::{
        Payload,
        review::{ReviewDecided, ReviewDecision, ReviewerKind},
    },
    id::EventId,
};
use serde::Serialize;

use crate::{Content, Cursor, Filter, Found, Ledger, QueryError, Request};

/// A reviewer's decision that was no plain approval.
///
/// ```
/// # use agent_audit_query::questions::overrides::Override;
/// # fn name(over: &Override) -> String {
/// format!("{} of {} by {}", over.decision, over.action.as_deref().unwrap_or("?"), over.reviewer_id)
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Override {
    /// The `review.decided` event.
    pub event_id: EventId,
    /// The review.
    pub review_id: String,
    /// The session.
    pub session_id: String,
    /// The agent whose action was reviewed.
    pub agent_id: String,
    /// The action that was proposed, where the proposal is there.
    pub action: Option<String>,
    /// `reject`, `modify`, `escalate`, `timed_out` or `dismissed`.
    pub decision: String,
    /// Who decided.
    pub reviewer_id: String,
    /// `human`, `model` or `policy`.
    pub reviewer_kind: String,
    /// In which role.
    pub reviewer_role: Option<String>,
    /// To whom the decision was handed on.
    pub escalated_to: Option<String>,
    /// When it was recorded, in nanoseconds since 1970.
    pub decided_at: i64,
    /// How long after the first presentation, in microseconds; absent where nothing was presented.
    pub latency_us: Option<u64>,
    /// The `review.presented` event that the decision rests on.
    pub presented_event_id: Option<EventId>,
    /// What was proposed.
    pub proposal: Option<Content>,
    /// The reviewer's reasons.
    pub rationale: Option<Content>,
    /// What the reviewer changed (RFC 6902).
    pub diff: Option<Content>,
}

/// Some overrides, and how to go on.
///
/// ```
/// let answer = agent_audit_query::questions::overrides::Overrides::default();
/// assert!(answer.overrides.is_empty());
/// ```
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Overrides {
    /// The overrides, by the time of the decision.
    pub overrides: Vec<Override>,
    /// The place behind the last of them, where there may be more.
    #[serde(skip)]
    pub next: Option<Cursor>,
    /// The place before the first of them, where there may be more.
    #[serde(skip)]
    pub previous: Option<Cursor>,
}

/// The decisions that override: all but approvals.
const OVERRIDING: [ReviewDecision; 5] = [
    ReviewDecision::Reject,
    ReviewDecision::Modify,
    ReviewDecision::Escalate,
    ReviewDecision::TimedOut,
    ReviewDecision::Dismissed,
];

impl Ledger {
    /// The decisions of reviewers that were no plain approvals, with diff, rationale and latency.
    ///
    /// The filter narrows them down: by period, reviewer, session, agent; by `decision`, to some kinds
    /// of them. Reviewers that are models or policies are among them and say so.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn overrides(
        &self,
        filter: &Filter,
        request: &Request,
    ) -> Result<Overrides, QueryError> {
        let mut filter = filter.clone().event_type("review.decided");
        if filter.values_of("decision").is_empty() {
            filter = OVERRIDING
                .iter()
                .fold(filter, |filter, decision| filter.decision(decision.as_str()));
        }
        let page = self.events(&filter, &request.clone().content()).await?;
        let mut decisions: Vec<(Found, ReviewDecided)> = Vec::new();
        for found in page.events {
            if let Payload::ReviewDecided(decided) = found.event()?.payload {
                decisions.push((found, decided));
            }
        }
        let proposals: BTreeSet<EventId> =
            decisions.iter().filter_map(|(_, decided)| decided.proposed_event_id).collect();
        let mut proposed = HashMap::new();
        for found in self.by_id(&proposals, true).await? {
            if let Payload::ReviewProposed(proposal) = found.event()?.payload {
                proposed.insert(found.event_id(), (proposal.action, found.content("proposal")?));
            }
        }
        let mut overrides = Vec::with_capacity(decisions.len());
        for (found, decided) in decisions {
            let proposal = decided.proposed_event_id.and_then(|id| proposed.get(&id)).cloned();
            let (action, proposal) =
                proposal.map_or((None, None), |(action, part)| (Some(action), part));
            overrides.push(Override {
                event_id: found.event_id(),
                session_id: found.session_id().to_owned(),
                agent_id: found.agent_id().to_owned(),
                decided_at: found.timestamp(),
                rationale: found.content("rationale")?,
                diff: found.content("diff")?,
                review_id: decided.review_id,
                action,
                decision: decided.decision.to_string(),
                reviewer_id: decided.reviewer.reviewer_id,
                reviewer_kind: decided.reviewer.kind.to_string(),
                reviewer_role: decided.reviewer.role,
                escalated_to: decided.escalated_to,
                // Nobody is quick to decide about what was not shown.
                latency_us: decided.presented_event_id.and(decided.decided_after_us),
                presented_event_id: decided.presented_event_id,
                proposal,
            });
        }
        Ok(Overrides { overrides, next: page.next, previous: page.previous })
    }
}

impl Override {
    /// Whether a person decided.
    #[must_use]
    pub fn is_human(&self) -> bool {
        self.reviewer_kind == ReviewerKind::Human.as_str()
    }
}
