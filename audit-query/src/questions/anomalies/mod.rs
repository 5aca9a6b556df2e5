//! What is not as it should be.
//!
//! An anomaly is no proof of a wrong: it is what a person should look at. What it rests on is named by
//! event, so that [`Ledger::why`](crate::Ledger::why) can be asked next.

mod approvals;
mod calls;
mod chains;
mod reviews;

use std::time::Duration;

use agent_audit_core::{id::EventId, timestamp::Timestamp};
use serde::Serialize;

use crate::{Filter, Found, Ledger, QueryError};

/// What is not as it should be.
///
/// ```
/// use agent_audit_query::questions::anomalies::AnomalyKind;
/// assert_eq!(serde_json::to_string(&AnomalyKind::NeverPresented)?, r#""never_presented""#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnomalyKind {
    /// A person decided sooner after the presentation than the bound.
    HastyDecision,
    /// A person approved hastily many times in a row.
    HastyStreak,
    /// A review was decided, and nothing says that the proposal was shown to anybody.
    NeverPresented,
    /// A review was decided by a model.
    DecidedByModel,
    /// A review was decided by a policy.
    DecidedByPolicy,
    /// A review was proposed, and nobody decided it.
    Undecided,
    /// What was executed is not what was approved: another tool, another call, or other values.
    ActionMismatch,
    /// A call relies on a decision that allows nothing.
    NotApproved,
    /// A call was attempted before the decision that it relies on.
    ApprovedAfterwards,
    /// A call relies on a decision that is not there, or is none.
    UnknownApproval,
    /// A call relies on an approval after its expiry.
    ApprovalExpired,
    /// An approval for once was relied on again.
    ApprovalReused,
    /// An approval for a session was relied on in another one.
    ApprovalOutOfScope,
    /// An attempt of which no end was recorded.
    NoOutcome,
    /// A tool call that follows from no decision of a model.
    NoDecision,
    /// The writer says that it could not record some events.
    Gap,
    /// A writer has recorded nothing for longer than the bound, and did not close its chain.
    SilentWriter,
}

/// One thing that is not as it should be.
///
/// ```
/// # use agent_audit_query::questions::anomalies::Anomaly;
/// # fn line(anomaly: &Anomaly) -> String {
/// format!("{:?}: {}", anomaly.kind, anomaly.detail)
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Anomaly {
    /// What kind it is of.
    pub kind: AnomalyKind,
    /// The event at which it shows.
    pub event_id: EventId,
    /// Its session.
    pub session_id: String,
    /// Its agent.
    pub agent_id: String,
    /// When it was recorded, in nanoseconds since 1970.
    pub at: i64,
    /// The reviewer, where one is concerned.
    pub reviewer_id: Option<String>,
    /// Other events that it rests on; of a long streak the last hundred.
    pub related: Vec<EventId>,
    /// In words, without content.
    pub detail: String,
}

impl Anomaly {
    fn new(kind: AnomalyKind, found: &Found, detail: impl Into<String>) -> Self {
        Self {
            kind,
            event_id: found.event_id(),
            session_id: found.session_id().to_owned(),
            agent_id: found.agent_id().to_owned(),
            at: found.timestamp(),
            reviewer_id: None,
            related: Vec::new(),
            detail: detail.into(),
        }
    }

    fn by(mut self, reviewer: &str) -> Self {
        self.reviewer_id = Some(reviewer.to_owned());
        self
    }

    fn with(mut self, related: impl IntoIterator<Item = EventId>) -> Self {
        self.related.extend(related);
        self
    }
}

/// From where on something is an anomaly.
///
/// ```
/// use std::time::Duration;
/// use agent_audit_query::questions::anomalies::Bounds;
/// let bounds = Bounds::default().hasty(Duration::from_secs(10)).streak(3);
/// assert_ne!(bounds, Bounds::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    hasty: Duration,
    streak: usize,
    silence: Duration,
    now: Timestamp,
}

impl Default for Bounds {
    /// Two seconds, five in a row, a day of silence until now.
    fn default() -> Self {
        Self {
            hasty: Duration::from_secs(2),
            streak: 5,
            silence: Duration::from_secs(24 * 60 * 60),
            now: Timestamp::now(),
        }
    }
}

impl Bounds {
    /// A decision is hasty when it came sooner after the presentation.
    #[must_use]
    pub fn hasty(mut self, after: Duration) -> Self {
        self.hasty = after;
        self
    }

    /// So many hasty approvals in a row by one reviewer are a streak.
    #[must_use]
    pub fn streak(mut self, decisions: usize) -> Self {
        self.streak = decisions.max(2);
        self
    }

    /// A writer is silent that has recorded nothing for so long.
    #[must_use]
    pub fn silence(mut self, of: Duration) -> Self {
        self.silence = of;
        self
    }

    /// The time up to which silence is counted.
    #[must_use]
    pub fn now(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }
}

impl Ledger {
    /// What is not as it should be, among the events that match, by time.
    ///
    /// Reads every review and tool call that matches, in order; memory is bounded by the reviews, the
    /// calls that are open at once and the approvals in them. What a matching event refers to is looked
    /// up also where it does not match itself: a call at the end of the period may have its outcome
    /// after it. Writers are looked at as a whole, whatever the filter.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn anomalies(
        &self,
        filter: &Filter,
        bounds: &Bounds,
    ) -> Result<Vec<Anomaly>, QueryError> {
        let mut anomalies = reviews::look(self, filter, bounds).await?;
        let (found, approvals) = calls::look(self, filter).await?;
        anomalies.extend(found);
        anomalies.extend(approvals::look(self, approvals).await?);
        anomalies.extend(chains::look(self, filter, bounds).await?);
        anomalies.sort_by_key(|anomaly| (anomaly.at, anomaly.event_id, anomaly.kind));
        Ok(anomalies)
    }
}
