//! Reviews: propose, present, decide.

use std::sync::Arc;

use super::{
    Parent,
    outcome::{self, micros_since},
};
use crate::{
    content::Part,
    context::{AuditContext, ReviewInHand},
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

    /// Says that a parameter was left out of the record on purpose.
    pub fn with_omitted_input(mut self, name: impl Into<String>) -> Self {
        self.proposed.omitted_inputs.push(name.into());
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
/// let review = session.attempt_review_blocking(ReviewCall::new("refund"))?;
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
    review: Arc<ReviewInHand>,
    receipt: Receipt,
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
        let review = Arc::new(ReviewInHand::new(review_id, receipt.event_id));
        let context = self.with_review(Arc::clone(&review));
        let mut attempt = ReviewAttempt { context, review, receipt, done: false };
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

    /// Records, inside a review, what was shown, to whom, and by which channel. The first
    /// presentation counts for the time that the decision took.
    ///
    /// A review is going on in the body of an `#[audited(review)]` function and in
    /// [`ReviewAttempt::context`], outside of the tool calls and reviews below it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use agent_audit_core::{attempt::ReviewCall, content::Part, context::AuditContext, log::AuditLog};
    /// let log = AuditLog::open(dir.path())?;
    /// let session = log.session("acme", "session-1", "support-agent")?;
    /// let shown = Part::text("shown", "Refund 40 EUR?");
    /// assert!(session.present_review_blocking("reviewer-7", "web", shown.clone()).is_err());
    ///
    /// let review = session.attempt_review_blocking(ReviewCall::new("refund"))?;
    /// review.context().run(|| {
    ///     AuditContext::current()?.present_review_blocking("reviewer-7", "web", shown)
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](crate::error::AuditErrorKind::Invalid) where no review is going on; else as
    /// [`record`](Self::record).
    pub async fn present_review(
        &self,
        presented_to: impl Into<String>,
        channel: impl Into<String>,
        shown: Part,
    ) -> Result<Receipt, AuditError> {
        let Some(review) = self.review() else {
            return Err(AuditError::invalid(
                "no review is going on here, so nothing can be presented: call this in the body \
                 of an `#[audited(review)]` function, or in the context of a review attempt",
            ));
        };
        let presented = ReviewPresented::new(review.review_id.clone(), presented_to, channel)
            .with_proposed_event_id(review.proposed_event_id);
        let draft = Draft::new(presented).with_part(shown).with_parent(review.proposed_event_id);
        let receipt = self.record(draft).await?;
        review.note_presented(receipt.event_id);
        Ok(receipt)
    }

    /// [`present_review`](Self::present_review), waiting on this thread.
    ///
    /// # Errors
    /// As [`present_review`](Self::present_review).
    pub fn present_review_blocking(
        &self,
        presented_to: impl Into<String>,
        channel: impl Into<String>,
        shown: Part,
    ) -> Result<Receipt, AuditError> {
        pollster::block_on(self.present_review(presented_to, channel, shown))
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
        &self.review.review_id
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
        &self,
        presented_to: impl Into<String>,
        channel: impl Into<String>,
        shown: Part,
    ) -> Result<Receipt, AuditError> {
        self.context.present_review(presented_to, channel, shown).await
    }

    /// [`present`](Self::present), waiting on this thread.
    ///
    /// # Errors
    /// As [`present`](Self::present).
    pub fn present_blocking(
        &self,
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
        let mut decided = ReviewDecided::new(self.review.review_id.clone(), decision, reviewer)
            .with_proposed_event_id(self.receipt.event_id);
        decided.scope = scope;
        if let Some((presented, at)) = self.review.presented() {
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
