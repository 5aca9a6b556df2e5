//! What a test asks of the sink as a whole.

use std::{collections::HashSet, fmt, time::Duration};

use super::{
    MemorySink,
    calls::{ModelCall, Review, ToolCall},
    entry::{Entry, Story, links},
    selection::Selection,
};
use crate::{
    event::Payload,
    id::EventId,
    verify::{ChainVerifier, Checkpoints, Report, Severity, Verdict},
};

/// Everything below looks at what has been *delivered*. Delivery runs beside the agent: close the
/// log first, record with `Durability::Delivered`, or await [`wait_for`](MemorySink::wait_for).
impl MemorySink {
    /// The events that can be read, in the order of time.
    ///
    /// ```
    /// use agent_audit_core::{event::EventType, memory::MemorySink};
    /// let sink = MemorySink::new();
    /// let gaps = sink.events().tenant("acme").session("s-1").of_type(EventType::ChainGap);
    /// assert_eq!(gaps.count(), 0);
    /// ```
    #[must_use]
    pub fn events(&self) -> Selection<Entry> {
        let story = Story::of(&self.lock());
        Selection::new("events", story.entries(), story)
    }

    /// The tool calls, by their attempts.
    ///
    /// ```
    /// use agent_audit_core::memory::MemorySink;
    /// assert!(MemorySink::new().tools().named("refund").is_empty());
    /// ```
    #[must_use]
    pub fn tools(&self) -> Selection<ToolCall> {
        let story = Story::of(&self.lock());
        Selection::new("tool calls", ToolCall::all(&story), story)
    }

    /// The model calls.
    ///
    /// ```
    /// use agent_audit_core::memory::MemorySink;
    /// assert!(MemorySink::new().models().named("gpt-5").is_empty());
    /// ```
    #[must_use]
    pub fn models(&self) -> Selection<ModelCall> {
        let story = Story::of(&self.lock());
        Selection::new("model calls", ModelCall::all(&story), story)
    }

    /// The reviews.
    ///
    /// ```
    /// use agent_audit_core::memory::MemorySink;
    /// assert!(MemorySink::new().reviews().named("refund").is_empty());
    /// ```
    #[must_use]
    pub fn reviews(&self) -> Selection<Review> {
        let story = Story::of(&self.lock());
        Selection::new("reviews", Review::all(&story), story)
    }

    /// Everything as lines that a person can read; see [`timeline`](crate::timeline).
    ///
    /// ```
    /// use agent_audit_core::memory::MemorySink;
    /// assert_eq!(MemorySink::new().timeline(), "nothing was recorded\n");
    /// ```
    #[must_use]
    pub fn timeline(&self) -> String {
        Story::of(&self.lock()).timeline()
    }

    /// Waits until the events satisfy a condition, and gives them.
    ///
    /// It is woken by deliveries and never sleeps. It waits for ever where the condition never
    /// holds; [`wait_for_within`](Self::wait_for_within) does not.
    ///
    /// ```
    /// use agent_audit_core::memory::MemorySink;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let events = MemorySink::new().wait_for(|events| events.is_empty()).await;
    /// assert_eq!(events.count(), 0);
    /// # });
    /// ```
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&Selection<Entry>) -> bool,
    ) -> Selection<Entry> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Registered before the look, so that no delivery falls in between.
            changed.as_mut().enable();
            let events = self.events();
            if condition(&events) {
                return events;
            }
            changed.await;
        }
    }

    /// As [`wait_for`](Self::wait_for), and gives up in the end. Needs a runtime with a clock.
    ///
    /// # Panics
    /// Where the condition does not hold in time, with the timeline.
    pub async fn wait_for_within(
        &self,
        limit: Duration,
        condition: impl FnMut(&Selection<Entry>) -> bool,
    ) -> Selection<Entry> {
        match tokio::time::timeout(limit, self.wait_for(condition)).await {
            Ok(events) => events,
            Err(_) => panic!(
                "the events did not come to satisfy the condition within {limit:?}\n\n{}",
                self.timeline()
            ),
        }
    }

    /// Runs the verifier over every chain, as it would run over a log.
    ///
    /// ```
    /// use agent_audit_core::{memory::MemorySink, verify::Verdict};
    /// assert_eq!(MemorySink::new().verify().verdict(), Verdict::Unsure, "nothing is not intact");
    /// ```
    #[must_use]
    pub fn verify(&self) -> Report {
        let chains = self.chains().into_iter().map(|chain| {
            let records = self.records(&chain);
            let mut verifier = ChainVerifier::new(chain, Checkpoints::none());
            for record in records {
                verifier.push(&record.to_bytes());
            }
            verifier.finish()
        });
        Report::from_chains(chains)
    }

    /// Asserts that the verifier finds every chain intact.
    ///
    /// Warnings and states, as an attempt whose end is not known or a chain that is still open, are
    /// not faults; [`verify`](Self::verify) tells them.
    ///
    /// # Panics
    /// Where it does not, or there is nothing to verify; with the findings and the timeline.
    #[track_caller]
    pub fn assert_chain_valid(&self) {
        let report = self.verify();
        let faults = report.findings.iter().filter(|f| f.severity <= Severity::Unsure);
        let faults: Vec<_> = faults.map(|finding| format!("- {finding}\n")).collect();
        assert!(
            report.verdict() == Verdict::Intact,
            "the chains are not intact:\n{}\n{}",
            faults.concat(),
            self.timeline()
        );
    }

    /// What is named and not there, or begun and not ended.
    ///
    /// ```
    /// use agent_audit_core::memory::MemorySink;
    /// assert!(MemorySink::new().orphans().is_empty());
    /// ```
    #[must_use]
    pub fn orphans(&self) -> Vec<Orphan> {
        let events = self.events();
        let ids: HashSet<_> = events.iter().map(|e| (e.tenant().clone(), e.id())).collect();
        let anywhere: HashSet<_> = events.iter().map(Entry::id).collect();
        let sessions: HashSet<_> = events.iter().map(|e| (e.tenant(), e.session())).collect();
        let mut orphans = Vec::new();
        let mut add = |entry: &Entry, kind| orphans.push(Orphan { entry: entry.clone(), kind });
        for entry in &events {
            for (field, id) in links(entry.event()) {
                if ids.contains(&(entry.tenant().clone(), id)) {
                    continue;
                }
                let foreign = anywhere.contains(&id);
                add(entry, OrphanKind::DanglingLink { field, id, foreign });
            }
            if let Payload::SessionStarted(started) = entry.payload()
                && let Some(parent) = &started.parent_session_id
                && !sessions.contains(&(entry.tenant(), parent))
            {
                add(entry, OrphanKind::UnknownParentSession);
            }
        }
        for call in self.tools().unresolved() {
            add(call.attempt(), OrphanKind::UnresolvedAttempt);
        }
        for call in self.models() {
            if call.decided().is_none() {
                add(call.entry(), OrphanKind::UnresolvedRequest);
            }
        }
        orphans
    }

    /// Asserts that every event that another names is there for the same tenant, and that every
    /// attempt and request has its end.
    ///
    /// # Panics
    /// Where one is not, with the timeline.
    #[track_caller]
    pub fn assert_no_orphans(&self) {
        let orphans = self.orphans();
        let lines: Vec<_> = orphans.iter().map(|orphan| format!("- {orphan}\n")).collect();
        assert!(
            orphans.is_empty(),
            "some events stand alone:\n{}\n{}",
            lines.concat(),
            self.timeline()
        );
    }
}

/// An event that names what is not there, or that has no end.
///
/// ```
/// use agent_audit_core::memory::{MemorySink, Orphan};
/// let orphans: Vec<Orphan> = MemorySink::new().orphans();
/// assert!(orphans.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Orphan {
    /// The event.
    pub entry: Entry,
    /// What it lacks.
    pub kind: OrphanKind,
}

/// What an orphan lacks.
///
/// ```
/// use agent_audit_core::memory::OrphanKind;
/// assert_ne!(OrphanKind::UnresolvedAttempt, OrphanKind::UnresolvedRequest);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrphanKind {
    /// An event that it names.
    DanglingLink {
        /// The field that names it.
        field: &'static str,
        /// The event.
        id: EventId,
        /// Whether the event is there, and is another tenant's.
        foreign: bool,
    },
    /// The session that it names as its parent.
    UnknownParentSession,
    /// The `tool.completed` of an attempt.
    UnresolvedAttempt,
    /// The `model.decided` of a request.
    UnresolvedRequest,
}

impl fmt::Display for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = &self.entry;
        match &self.kind {
            OrphanKind::DanglingLink { field, id, foreign: false } => {
                write!(f, "{entry} names {id} as its {field}, which is not there")
            }
            OrphanKind::DanglingLink { field, id, foreign: true } => {
                write!(f, "{entry} names {id} as its {field}, which is another tenant's")
            }
            OrphanKind::UnknownParentSession => {
                write!(f, "{entry} names a parent session of which there is no event")
            }
            OrphanKind::UnresolvedAttempt => write!(f, "{entry} has no tool.completed"),
            OrphanKind::UnresolvedRequest => write!(f, "{entry} has no model.decided"),
        }
    }
}
