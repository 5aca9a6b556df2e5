//! Reviews: propose, present, decide.

use std::time::Instant;

use super::{
    Parent,
    outcome::{self, micros_since},
};
use crate::{
    content::Part,
    context::AuditContext,
    error::AuditError,
    event::review::{
        ReviewDecided, ReviewDecision, ReviewPresented, ReviewProposed, ReviewScope, Reviewer,
        ReviewerKind,
    },
    id::{CallId, EventId},
    log::{Draft, Receipt},
};

/// What a reviewer is asked about.
///
/// ```
/// use agent_audit_core::{attempt::ReviewCall, content::Part};
/// let call = ReviewCall::new("refund").with_part(Part::text("proposal", "refund 40 EUR"));
/// assert_eq!(call.action(), "refund");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a review is recorded by `attempt_review`"]
pub struct ReviewCall {
    proposed: ReviewProposed,
    parts: Vec<Part>,
    parent: Option<Parent>,
}

impl ReviewCall {
    /// A review of an action, usually named by its tool. The review gets an id of its own.
    pub fn new(action: impl Into<String>) -> Self {
        let proposed = ReviewProposed::new(EventId::new().to_string(), action);
        Self { proposed, parts: Vec::new(), parent: None }
    }

    /// Names the provider's id of the tool call that is proposed.
    pub fn with_call_id(mut self, call: CallId) -> Self {
        self.proposed.proposed_call_id = Some(call);
        self
    }

    /// Adds content: `proposal`.
    pub fn with_part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Names what the review follows from.
    pub fn with_parent(mut self, parent: impl Into<Parent>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// The action.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.proposed.action
    }
}

/// What a reviewer decided.
///
/// ```
/// use agent_audit_core::{attempt::ReviewVerdict, event::review::*};
/// let alice = Reviewer::new("alice", ReviewerKind::Human);
/// let verdict = ReviewVerdict::new(ReviewDecision::Approve, alice).with_rationale("in policy");
/// assert!(verdict.decision().allows());
/// ```
#[derive(Debug, Clone)]
pub struct ReviewVerdict {
    decision: ReviewDecision,
    reviewer: Reviewer,
    scope: Option<ReviewScope>,
    parts: Vec<Part>,
}

impl ReviewVerdict {
    /// This reviewer decided this.
    pub fn new(decision: ReviewDecision, reviewer: Reviewer) -> Self {
        Self { decision, reviewer, scope: None, parts: Vec::new() }
    }

    /// Says how far the decision reaches.
    pub fn with_scope(mut self, scope: ReviewScope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Adds the reviewer's reasons.
    pub fn with_rationale(mut self, text: impl Into<String>) -> Self {
        self.parts.push(Part::text("rationale", text));
        self
    }

    /// Adds what the reviewer changed: an RFC 6902 patch.
    pub fn with_diff(mut self, patch: impl Into<Vec<u8>>) -> Self {
        self.parts.push(Part::new("diff", "application/json-patch+json", patch));
        self
    }

    /// The decision.
    #[must_use]
    pub fn decision(&self) -> &ReviewDecision {
        &self.decision
    }
}

/// A review that is going on. Dropped without [`complete`](Self::complete), it is recorded as
/// dismissed by the log itself.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{attempt::{ReviewCall, ReviewVerdict}, content::Part, event::review::*, log::AuditLog};
/// let log = AuditLog::open(dir.path())?;
/// let session = log.session("acme", "session-1", "support-agent")?;
///
/// let mut review = session.attempt_review_blocking(ReviewCall::new("refund"))?;
/// review.present_blocking("alice", "web", Part::text("shown", "Refund 40 EUR?"))?;
/// let alice = Reviewer::new("alice", ReviewerKind::Human);
/// let decided = review.complete_blocking(ReviewVerdict::new(ReviewDecision::Approve, alice))?;
/// assert_eq!(decided.sequence, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping a review records that it was dismissed"]
pub struct ReviewAttempt {
    context: AuditContext,
    review_id: String,
    receipt: Receipt,
    presented: Option<(EventId, Instant)>,
    done: bool,
}

impl AuditContext {
    /// Records that a reviewer is asked; on return that is durable.
    ///
    /// # Errors
    /// As [`record`](Self::record). The action must not be taken then.
    ///
    /// # Cancel safety
    /// As [`attempt_tool`](Self::attempt_tool).
    pub async fn attempt_review(&self, call: ReviewCall) -> Result<ReviewAttempt, AuditError> {
        let ReviewCall { mut proposed, parts, parent } = call;
        if proposed.proposed_call_id.is_none() {
            proposed.proposed_call_id = self.call().cloned();
        }
        let review_id = proposed.review_id.clone();
        let (decision, _) = self.decision_for(parent.as_ref(), proposed.proposed_call_id.as_ref());
        let mut draft = Draft::new(proposed).with_parts(parts);
        draft.parent_event_id = decision;
        let intent = outcome::place_intent(self, draft).await?;
        let receipt = intent.receipt.clone();
        let context = self.with_parent(receipt.event_id);
        let mut attempt =
            ReviewAttempt { context, review_id, receipt, presented: None, done: false };
        outcome::confirm_intent(self, intent, &mut attempt.done).await?;
        Ok(attempt)
    }

    /// [`attempt_review`](Self::attempt_review), waiting on this thread.
    ///
    /// # Errors
    /// As [`attempt_review`](Self::attempt_review).
    pub fn attempt_review_blocking(&self, call: ReviewCall) -> Result<ReviewAttempt, AuditError> {
        pollster::block_on(self.attempt_review(call))
    }
}

impl ReviewAttempt {
    /// The identity of the `review.proposed` event.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.receipt.event_id
    }

    /// The id that all events of this review share.
    #[must_use]
    pub fn review_id(&self) -> &str {
        &self.review_id
    }

    /// The place inside the review: what happens there names the proposal as its parent.
    #[must_use]
    pub fn context(&self) -> &AuditContext {
        &self.context
    }

    /// Records what was shown, to whom, and by which channel. The first presentation counts for the
    /// time that the decision took.
    ///
    /// # Errors
    /// As [`AuditContext::record`].
    pub async fn present(
        &mut self,
        presented_to: impl Into<String>,
        channel: impl Into<String>,
        shown: Part,
    ) -> Result<Receipt, AuditError> {
        let presented = ReviewPresented::new(self.review_id.clone(), presented_to, channel)
            .with_proposed_event_id(self.receipt.event_id);
        let draft = Draft::new(presented).with_part(shown).with_parent(self.receipt.event_id);
        let receipt = self.context.record(draft).await?;
        self.presented.get_or_insert((receipt.event_id, Instant::now()));
        Ok(receipt)
    }

    /// [`present`](Self::present), waiting on this thread.
    ///
    /// # Errors
    /// As [`present`](Self::present).
    pub fn present_blocking(
        &mut self,
        presented_to: impl Into<String>,
        channel: impl Into<String>,
        shown: Part,
    ) -> Result<Receipt, AuditError> {
        pollster::block_on(self.present(presented_to, channel, shown))
    }

    /// Records the decision.
    ///
    /// # Errors
    /// As [`AuditContext::record`].
    ///
    /// # Cancel safety
    /// The decision is recorded even if the future is dropped.
    pub async fn complete(mut self, verdict: ReviewVerdict) -> Result<Receipt, AuditError> {
        self.done = true;
        let draft = self.decided(verdict);
        outcome::record(&self.context, draft).await
    }

    /// [`complete`](Self::complete), waiting on this thread.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn complete_blocking(self, verdict: ReviewVerdict) -> Result<Receipt, AuditError> {
        pollster::block_on(self.complete(verdict))
    }

    fn decided(&self, verdict: ReviewVerdict) -> Draft {
        let ReviewVerdict { decision, reviewer, scope, parts } = verdict;
        let mut decided = ReviewDecided::new(self.review_id.clone(), decision, reviewer)
            .with_proposed_event_id(self.receipt.event_id);
        decided.scope = scope;
        if let Some((presented, at)) = self.presented {
            decided.presented_event_id = Some(presented);
            decided.decided_after_us = Some(micros_since(at));
        }
        Draft::new(decided).with_parts(parts).with_parent(self.receipt.event_id)
    }
}

impl Drop for ReviewAttempt {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let log = Reviewer::new("agent-audit", ReviewerKind::Policy);
        let verdict = ReviewVerdict::new(ReviewDecision::Dismissed, log);
        outcome::record_detached(&self.context, self.decided(verdict));
    }
}
