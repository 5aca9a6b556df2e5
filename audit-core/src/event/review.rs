//! Reviews: a reviewer, human or not, approves, changes or refuses what an agent proposes.
//!
//! A review is a state machine, often across processes: proposed, presented, decided, applied. The
//! four events share a `review_id`.
//!
//! Content: `proposal` with `review.proposed`; `shown` (what the reviewer saw, exactly) with
//! `review.presented`; `rationale` and `diff` (RFC 6902, `application/json-patch+json`) with
//! `review.decided`; `state` (the agent's state that results) with `review.applied`.

use super::{
    payload::{payload, words},
    session::Provenance,
};
use crate::{
    hash::Hash,
    id::{CallId, EventId},
    timestamp::Timestamp,
};

words! {
    /// What a reviewer decided.
    ///
    /// ```
    /// use agent_audit_core::event::review::ReviewDecision;
    /// assert!(ReviewDecision::Modify.allows() && !ReviewDecision::TimedOut.allows());
    /// ```
    ReviewDecision {
        /// The action may go ahead as proposed.
        Approve = "approve",
        /// It may not go ahead.
        Reject = "reject",
        /// It may go ahead as changed by the `diff`.
        Modify = "modify",
        /// Someone else is to decide.
        Escalate = "escalate",
        /// Nobody decided in time.
        TimedOut = "timed_out",
        /// The review was closed without a decision.
        Dismissed = "dismissed",
    }
    /// What kind of reviewer decided.
    ///
    /// ```
    /// use agent_audit_core::event::review::ReviewerKind;
    /// assert_eq!(ReviewerKind::Human.as_str(), "human");
    /// ```
    ReviewerKind {
        /// A person.
        Human = "human",
        /// A model.
        Model = "model",
        /// A rule.
        Policy = "policy",
    }
    /// How far a decision reaches.
    ///
    /// ```
    /// use agent_audit_core::event::review::ReviewScope;
    /// assert_eq!(ReviewScope::from("once"), ReviewScope::Once);
    /// ```
    ReviewScope {
        /// This action alone.
        Once = "once",
        /// Every such action of the session.
        Session = "session",
        /// Every such action from now on.
        Always = "always",
    }
}

impl ReviewDecision {
    /// Whether the action may go ahead, as proposed or as changed.
    #[must_use]
    pub fn allows(&self) -> bool {
        matches!(self, Self::Approve | Self::Modify)
    }
}

payload! {
    /// `review.proposed`: a reviewer is asked about an action.
    ///
    /// ```
    /// use agent_audit_core::event::review::ReviewProposed;
    /// let payload = ReviewProposed::new("review-1", "refund").with_policy("refunds over 100 EUR");
    /// assert_eq!(payload.action, "refund");
    /// ```
    ReviewProposed {
        /// The identity of the review.
        review_id: String,
        /// What is proposed, usually the name of a tool.
        action: String,
        [optional]
        /// The provider's id of the call that is proposed.
        proposed_call_id: CallId,
        /// The digest of the exact input that is proposed, to hold what was executed against it.
        action_digest: Hash,
        /// When the question becomes void.
        expires_at: Timestamp,
        /// The rule that asks for the review.
        policy: String,
        /// Set where the review was imported.
        provenance: Provenance,
        [lists]
        /// Parameters that the application left out of the record on purpose.
        omitted_inputs: String,
    }
    /// `review.presented`: the proposal was shown to someone who can decide.
    ///
    /// ```
    /// use agent_audit_core::event::review::ReviewPresented;
    /// let payload = ReviewPresented::new("review-1", "reviewer-7", "console");
    /// assert_eq!(payload.presented_to, "reviewer-7");
    /// ```
    ReviewPresented {
        /// The identity of the review.
        review_id: String,
        /// A token of the person or system that it was shown to; never a name or an address itself.
        presented_to: String,
        /// Where it was shown.
        channel: String,
        [optional]
        /// The `review.proposed` event.
        proposed_event_id: EventId,
        /// Set where the review was imported.
        provenance: Provenance,
    }
    /// `review.decided`: the reviewer decided.
    ///
    /// ```
    /// use agent_audit_core::event::review::{ReviewDecided, ReviewDecision, Reviewer, ReviewerKind};
    /// let reviewer = Reviewer::new("reviewer-7", ReviewerKind::Human).with_role("duty manager");
    /// let payload = ReviewDecided::new("review-1", ReviewDecision::Approve, reviewer);
    /// assert_eq!(payload.presented_event_id, None, "decided without having been shown");
    /// ```
    ReviewDecided {
        /// The identity of the review.
        review_id: String,
        /// The decision.
        decision: ReviewDecision,
        /// Who decided.
        reviewer: Reviewer,
        [optional]
        /// How far the decision reaches.
        scope: ReviewScope,
        /// The `review.proposed` event.
        proposed_event_id: EventId,
        /// The `review.presented` event, where the proposal was shown.
        presented_event_id: EventId,
        /// How long after it was shown the decision came, in microseconds; absent where it was not.
        decided_after_us: u64,
        /// When the decision ceases to hold.
        expires_at: Timestamp,
        /// Whom the question goes to next, as a token, where it was escalated.
        escalated_to: String,
        /// Set where the review was imported.
        provenance: Provenance,
    }
    /// Who decided.
    ///
    /// ```
    /// use agent_audit_core::event::review::{Reviewer, ReviewerKind};
    /// let reviewer = Reviewer::new("limits-v3", ReviewerKind::Policy);
    /// assert!(reviewer.credentials.is_empty());
    /// ```
    Reviewer {
        /// A token of the reviewer; never a name or an address itself.
        reviewer_id: String,
        /// What kind of reviewer it is.
        kind: ReviewerKind,
        [optional]
        /// The role in which the reviewer decided.
        role: String,
        [lists]
        /// What showed who the reviewer was and what they may do, as `mfa` or `sso:corp`; never a secret.
        credentials: String,
    }
    /// `review.applied`: the decision took effect.
    ///
    /// ```
    /// use agent_audit_core::event::review::ReviewApplied;
    /// assert_eq!(ReviewApplied::new("review-1", "resumed").resulting_state, "resumed");
    /// ```
    ReviewApplied {
        /// The identity of the review.
        review_id: String,
        /// What became of the agent, in one word, as `resumed` or `stopped`.
        resulting_state: String,
        [optional]
        /// The `review.decided` event.
        decided_event_id: EventId,
        /// Set where the review was imported.
        provenance: Provenance,
    }
}
