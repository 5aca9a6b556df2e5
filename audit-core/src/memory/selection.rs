//! What a test picks out of what was recorded.

use std::{fmt, ops::Deref, sync::Arc};

use super::{
    calls::{ModelCall, Review, ToolCall},
    entry::{Entry, Story},
};
use crate::{
    event::{
        EventType,
        model::{DecisionKind, ModelStatus},
        review::ReviewDecision,
        tool::ToolStatus,
    },
    timeline::Timeline,
};

/// Some of what a sink keeps at one moment: events, tool calls, model calls or reviews, in the order
/// of time. It is a slice, and can be narrowed.
///
/// Where an assertion does not hold it panics, says what was asked for, and shows the timeline.
///
/// ```
/// use agent_audit_core::{event::tool::ToolStatus, memory::MemorySink};
/// let sink = MemorySink::new();
/// let refunds = sink.tools().tenant("acme").named("refund").with_status(ToolStatus::Ok);
/// assert!(refunds.is_empty());
/// assert_eq!(refunds.to_string(), "tool calls of tenant acme, named \"refund\", with status ok");
/// ```
#[derive(Clone)]
pub struct Selection<T> {
    items: Vec<T>,
    /// What was asked for, in words.
    wanted: String,
    narrowed: bool,
    story: Arc<Story>,
}

impl<T> Selection<T> {
    pub(super) fn new(wanted: &str, items: Vec<T>, story: Arc<Story>) -> Self {
        Self { items, wanted: wanted.to_owned(), narrowed: false, story }
    }

    /// The only one.
    ///
    /// # Panics
    /// Where there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn only(mut self) -> T {
        self.assert_count(1);
        self.items.remove(0)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Asserts how many there are.
    ///
    /// # Panics
    /// Where there are more or fewer.
    #[track_caller]
    pub fn assert_count(&self, count: usize) {
        assert!(
            self.items.len() == count,
            "expected {count} of the {self}, found {}\n\n{}",
            self.items.len(),
            self.story.timeline()
        );
    }

    /// Asserts that there is none.
    ///
    /// # Panics
    /// Where there is one.
    #[track_caller]
    pub fn assert_none(&self) {
        self.assert_count(0);
    }

    /// Keeps those that a question answers with yes; `what` is for the message of a panic, as
    /// `over 100 EUR`.
    #[must_use]
    pub fn filter(self, what: impl fmt::Display, keep: impl FnMut(&T) -> bool) -> Self {
        self.narrow(what.to_string(), keep)
    }

    fn narrow(mut self, what: String, mut keep: impl FnMut(&T) -> bool) -> Self {
        self.items.retain(|item| keep(item));
        let before = if self.narrowed { ", " } else { " " };
        self.wanted = format!("{}{before}{what}", self.wanted);
        self.narrowed = true;
        self
    }
}

impl<T: AsRef<Entry>> Selection<T> {
    /// Those of a tenant.
    #[must_use]
    pub fn tenant(self, tenant: &str) -> Self {
        self.narrow(format!("of tenant {tenant}"), |item| item.as_ref().tenant().as_str() == tenant)
    }

    /// Those of a session.
    #[must_use]
    pub fn session(self, session: &str) -> Self {
        let of = |item: &T| item.as_ref().session().as_str() == session;
        self.narrow(format!("of session {session}"), of)
    }

    /// Those of an agent.
    #[must_use]
    pub fn agent(self, agent: &str) -> Self {
        self.narrow(format!("of agent {agent}"), |item| item.as_ref().agent().as_str() == agent)
    }

    /// Those that another event led to; see [`Entry::caused_by`].
    #[must_use]
    pub fn caused_by(self, other: &impl AsRef<Entry>) -> Self {
        let what = format!("caused by {}", other.as_ref());
        self.narrow(what, |item| item.as_ref().caused_by(other))
    }
}

impl Selection<Entry> {
    /// Those of a type.
    ///
    /// ```
    /// use agent_audit_core::{event::EventType, memory::MemorySink};
    /// MemorySink::new().events().of_type(EventType::ChainGap).assert_none();
    /// ```
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "it reads as a word: of_type(ToolAttempted)")]
    pub fn of_type(self, event_type: EventType) -> Self {
        self.narrow(format!("of type {event_type}"), |entry| entry.event_type() == event_type)
    }

    /// These events as lines that a person can read.
    ///
    /// ```
    /// use agent_audit_core::memory::MemorySink;
    /// assert_eq!(MemorySink::new().events().timeline(), "nothing was recorded\n");
    /// ```
    #[must_use]
    pub fn timeline(&self) -> String {
        Timeline::new().render_records(self.items.iter().map(Entry::record))
    }
}

impl Selection<ToolCall> {
    /// Those of a tool.
    #[must_use]
    pub fn named(self, tool: &str) -> Self {
        self.narrow(format!("named {tool:?}"), |call| call.name() == tool)
    }

    /// Those that ended so.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "it reads as a word: with_status(Ok)")]
    pub fn with_status(self, status: ToolStatus) -> Self {
        self.narrow(format!("with status {status}"), |call| call.status() == Some(&status))
    }

    /// Those whose end was not recorded.
    #[must_use]
    pub fn unresolved(self) -> Self {
        self.narrow("without an outcome".to_owned(), |call| call.completion().is_none())
    }

    /// Asserts that a recorded model decision led to each of them.
    ///
    /// # Panics
    /// Where one has none.
    #[track_caller]
    pub fn assert_decided(&self) {
        let undecided: Vec<_> =
            self.iter().filter(|call| call.decision().is_none()).map(ToString::to_string).collect();
        assert!(
            undecided.is_empty(),
            "no model decision led to {}\n\n{}",
            undecided.join(", "),
            self.story.timeline()
        );
    }
}

impl Selection<ModelCall> {
    /// Those that asked for a model.
    #[must_use]
    pub fn named(self, model: &str) -> Self {
        self.narrow(format!("to {model:?}"), |call| call.requested_model() == model)
    }

    /// Those that ended so.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "it reads as a word: with_status(Ok)")]
    pub fn with_status(self, status: ModelStatus) -> Self {
        self.narrow(format!("with status {status}"), |call| call.status() == Some(&status))
    }

    /// Those whose answer amounts to this.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "it reads as a word: deciding(Tools)")]
    pub fn deciding(self, kind: DecisionKind) -> Self {
        let of = |call: &ModelCall| call.decision().is_some_and(|decision| decision.kind == kind);
        self.narrow(format!("deciding {kind}"), of)
    }
}

impl Selection<Review> {
    /// Those of an action.
    #[must_use]
    pub fn named(self, action: &str) -> Self {
        self.narrow(format!("of {action:?}"), |review| review.action() == Some(action))
    }

    /// Those that were last decided so.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "it reads as a word: with_decision(Reject)")]
    pub fn with_decision(self, decision: ReviewDecision) -> Self {
        self.narrow(format!("decided {decision}"), |review| review.decision() == Some(&decision))
    }
}

impl<T> Deref for Selection<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> IntoIterator for Selection<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Selection<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<T> fmt::Display for Selection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wanted)
    }
}

impl<T> fmt::Debug for Selection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the {}", self.items.len(), self.wanted)
    }
}
