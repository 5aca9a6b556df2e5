//! One recorded event, and the others that it came from.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use super::{
    calls::review_id,
    sink::{State, Stored},
};
use crate::{
    chain::ChainRef,
    event::{Event, EventType, Payload},
    hash::Hash,
    id::{AgentId, EventId, SessionId, TenantId},
    record::Record,
    timeline::{Timeline, chronological},
};

/// One event as the sink keeps it. It knows the others, so that it can be asked for its causes.
///
/// ```
/// use agent_audit_core::memory::{Entry, MemorySink};
/// fn total(entry: &Entry) -> u64 {
///     entry.content_json("input")["amount"].as_u64().unwrap_or(0)
/// }
/// assert_eq!(MemorySink::new().events().iter().map(total).sum::<u64>(), 0);
/// ```
#[derive(Clone)]
pub struct Entry {
    pub(super) story: Arc<Story>,
    pub(super) at: usize,
}

/// What a sink kept at one moment, in the order in which it is told.
pub(super) struct Story {
    stored: Vec<(Arc<Stored>, Event)>,
    by_id: HashMap<(TenantId, EventId), usize>,
    /// Records that cannot be read.
    unreadable: Vec<Arc<Stored>>,
}

impl Story {
    pub(super) fn of(state: &State) -> Arc<Self> {
        let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
        for stored in state.chains.values().flatten() {
            match &stored.event {
                Some(event) => readable.push((Arc::clone(stored), event.clone())),
                None => unreadable.push(Arc::clone(stored)),
            }
        }
        let order = chronological(readable.iter().map(|(_, event)| event));
        let stored: Vec<_> = order.into_iter().map(|at| readable[at].clone()).collect();
        let mut by_id = HashMap::new();
        for (at, (_, event)) in stored.iter().enumerate() {
            by_id.entry((event.tenant_id.clone(), event.event_id)).or_insert(at);
        }
        Arc::new(Self { stored, by_id, unreadable })
    }

    pub(super) fn entries(self: &Arc<Self>) -> Vec<Entry> {
        (0..self.stored.len()).map(|at| Entry { story: Arc::clone(self), at }).collect()
    }

    pub(super) fn find(self: &Arc<Self>, tenant: &TenantId, id: EventId) -> Option<Entry> {
        let at = *self.by_id.get(&(tenant.clone(), id))?;
        Some(Entry { story: Arc::clone(self), at })
    }

    pub(super) fn timeline(&self) -> String {
        let stored = self.stored.iter().map(|(stored, _)| stored);
        Timeline::new().render_records(stored.chain(&self.unreadable).map(|stored| &stored.record))
    }
}

impl Entry {
    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.story.stored[self.at].1
    }

    /// The record: the event's bytes and the bodies of its content.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.stored().record
    }

    /// The event hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.stored().hash
    }

    /// The identity of the event.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.event().event_id
    }

    /// The type of the event.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.event().event_type()
    }

    /// What happened.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.event().payload
    }

    /// The customer for whom the agent acted.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.event().tenant_id
    }

    /// The run of the agent.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.event().session_id
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &AgentId {
        &self.event().agent_id
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self) -> ChainRef {
        ChainRef::new(self.event().tenant_id.clone(), self.event().chain_id.clone())
    }

    /// The position in the chain.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.event().sequence
    }

    /// The event that is named as this one's parent, where the sink keeps it.
    #[must_use]
    pub fn parent(&self) -> Option<Entry> {
        self.story.find(self.tenant(), self.event().parent_event_id?)
    }

    /// The parent, the parent's parent, and so on.
    #[must_use]
    pub fn ancestors(&self) -> Vec<Entry> {
        let mut seen = HashSet::from([self.at]);
        let mut ancestors = Vec::new();
        let mut next = self.parent();
        while let Some(entry) = next.filter(|entry| seen.insert(entry.at)) {
            next = entry.parent();
            ancestors.push(entry);
        }
        ancestors
    }

    /// The events that name this one as their parent.
    #[must_use]
    pub fn children(&self) -> Vec<Entry> {
        let mut entries = self.story.entries();
        entries.retain(|entry| {
            entry.event().parent_event_id == Some(self.id()) && entry.tenant() == self.tenant()
        });
        entries
    }

    /// Every event that this one names: its parent, and by its type the attempt that it ends, the
    /// approval that it relies on, the call that spawned it; of a review, also what came before in
    /// the same review.
    #[must_use]
    pub fn causes(&self) -> Vec<Entry> {
        let named = links(self.event()).into_iter();
        let named = named.filter_map(|(_, id)| self.story.find(self.tenant(), id));
        let Some(review) = review_id(self.payload()) else { return named.collect() };
        let before = self.story.entries().into_iter().take(self.at).filter(|entry| {
            entry.tenant() == self.tenant() && review_id(entry.payload()) == Some(review)
        });
        named.chain(before).collect()
    }

    /// Whether the other event led to this one, over however many steps of [`causes`](Self::causes).
    ///
    /// Of a tool call, a model call or a review, what counts is the event with which it began.
    #[must_use]
    pub fn caused_by(&self, other: &impl AsRef<Entry>) -> bool {
        let other = other.as_ref();
        let mut seen = HashSet::from([self.at]);
        let mut next = VecDeque::from(self.causes());
        while let Some(entry) = next.pop_front() {
            if entry.id() == other.id() && entry.tenant() == other.tenant() {
                return true;
            }
            if seen.insert(entry.at) {
                next.extend(entry.causes());
            }
        }
        false
    }

    /// Asserts that the other event led to this one.
    ///
    /// # Panics
    /// Where it did not, with the timeline.
    #[track_caller]
    pub fn assert_caused_by(&self, other: &impl AsRef<Entry>) {
        assert!(
            self.caused_by(other),
            "{self} was not caused by {}\n\n{}",
            other.as_ref(),
            self.story.timeline()
        );
    }

    /// The bytes of a part of content, where the event has it and the record holds it in the clear.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        let at = self.event().content.iter().position(|part| part.name == name)?;
        self.record().parts().get(at)?.bytes()
    }

    /// A part of content as text.
    ///
    /// # Panics
    /// Where the event does not have it in the clear, or it is not UTF-8; with the timeline.
    #[must_use]
    #[track_caller]
    pub fn content_text(&self, name: &str) -> &str {
        match std::str::from_utf8(self.clear(name)) {
            Ok(text) => text,
            Err(error) => self.fail(&format!("part {name:?} of {self} is not text: {error}")),
        }
    }

    /// A part of content as JSON.
    ///
    /// # Panics
    /// Where the event does not have it in the clear, or it is not JSON; with the timeline.
    #[must_use]
    #[track_caller]
    pub fn content_json(&self, name: &str) -> serde_json::Value {
        match serde_json::from_slice(self.clear(name)) {
            Ok(value) => value,
            Err(error) => self.fail(&format!("part {name:?} of {self} is not JSON: {error}")),
        }
    }

    #[track_caller]
    fn clear(&self, name: &str) -> &[u8] {
        match self.content(name) {
            Some(bytes) => bytes,
            None => {
                let names: Vec<_> = self.event().content.iter().map(|part| &part.name).collect();
                self.fail(&format!("{self} has no part {name:?} in the clear; it names {names:?}"))
            }
        }
    }

    #[track_caller]
    fn fail(&self, message: &str) -> ! {
        panic!("{message}\n\n{}", self.story.timeline())
    }

    fn stored(&self) -> &Stored {
        &self.story.stored[self.at].0
    }
}

impl AsRef<Entry> for Entry {
    fn as_ref(&self) -> &Entry {
        self
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for Entry {}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} #{}", self.event_type(), self.chain(), self.sequence())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.to_string()).field(self.event()).finish()
    }
}

/// The events that an event names, each with the field that names it.
pub(super) fn links(event: &Event) -> Vec<(&'static str, EventId)> {
    let mut links = vec![("parent_event_id", event.parent_event_id)];
    match &event.payload {
        Payload::SessionStarted(session) => links.push(("spawned_by", session.spawned_by)),
        Payload::ModelRequested(model) => links.push(("context_after", model.context_after)),
        Payload::ModelDecided(model) => {
            links.push(("request_event_id", model.request_event_id));
            links.push(("context_after", model.context_after));
        }
        Payload::ToolAttempted(tool) => links.push(("approval_event_id", tool.approval_event_id)),
        Payload::ToolCompleted(tool) => {
            links.push(("attempt_event_id", Some(tool.attempt_event_id)))
        }
        Payload::ReviewPresented(review) => {
            links.push(("proposed_event_id", review.proposed_event_id));
        }
        Payload::ReviewDecided(review) => {
            links.push(("presented_event_id", review.presented_event_id));
            links.push(("proposed_event_id", review.proposed_event_id));
        }
        Payload::ReviewApplied(review) => links.push(("decided_event_id", review.decided_event_id)),
        _ => {}
    }
    links.into_iter().filter_map(|(field, id)| Some((field, id?))).collect()
}
