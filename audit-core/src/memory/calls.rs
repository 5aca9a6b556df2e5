//! Tool calls, model calls and reviews: several events each, seen as one thing.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use super::entry::{Entry, Story};
use crate::event::{
    Payload,
    model::{Decision, ModelDecided, ModelRequested, ModelStatus, Usage},
    review::{ReviewDecided, ReviewDecision, ReviewProposed, Reviewer},
    tool::{ToolAttempted, ToolCompleted, ToolStatus},
};

/// A tool call: its attempt, and its completion where one was recorded.
///
/// ```
/// use agent_audit_core::memory::{MemorySink, ToolCall};
/// fn failed(call: &ToolCall) -> bool {
///     call.status().is_none_or(|status| !status.is_ok())
/// }
/// MemorySink::new().tools().filter("that failed", failed).assert_none();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    attempt: Entry,
    completion: Option<Entry>,
}

impl ToolCall {
    pub(super) fn all(story: &Arc<Story>) -> Vec<Self> {
        let entries = story.entries();
        let mut completions: HashMap<_, &Entry> = HashMap::new();
        for entry in &entries {
            if let Payload::ToolCompleted(completed) = entry.payload() {
                completions.entry((entry.tenant(), completed.attempt_event_id)).or_insert(entry);
            }
        }
        let attempts =
            entries.iter().filter(|entry| matches!(entry.payload(), Payload::ToolAttempted(_)));
        let call = |attempt: &Entry| {
            let completion = completions.get(&(attempt.tenant(), attempt.id()));
            Self { attempt: attempt.clone(), completion: completion.copied().cloned() }
        };
        attempts.map(call).collect()
    }

    /// The `tool.attempted` event.
    #[must_use]
    pub fn attempt(&self) -> &Entry {
        &self.attempt
    }

    /// The `tool.completed` event, where there is one.
    #[must_use]
    pub fn completion(&self) -> Option<&Entry> {
        self.completion.as_ref()
    }

    /// What the attempt says.
    #[must_use]
    pub fn attempted(&self) -> &ToolAttempted {
        match self.attempt.payload() {
            Payload::ToolAttempted(attempted) => attempted,
            _ => unreachable!("a tool call is built from an attempt"),
        }
    }

    /// What the completion says, where there is one.
    #[must_use]
    pub fn completed(&self) -> Option<&ToolCompleted> {
        match self.completion.as_ref()?.payload() {
            Payload::ToolCompleted(completed) => Some(completed),
            _ => None,
        }
    }

    /// The name of the tool.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.attempted().tool_name
    }

    /// How it ended, where that was recorded.
    #[must_use]
    pub fn status(&self) -> Option<&ToolStatus> {
        self.completed().map(|completed| &completed.status)
    }

    /// The exact input, as JSON.
    ///
    /// # Panics
    /// Where it was not recorded, is sealed or gone, or is not JSON.
    #[must_use]
    #[track_caller]
    pub fn input(&self) -> serde_json::Value {
        self.attempt.content_json("input")
    }

    /// The exact input, as text.
    ///
    /// # Panics
    /// Where it was not recorded, is sealed or gone, or is not text.
    #[must_use]
    #[track_caller]
    pub fn input_text(&self) -> &str {
        self.attempt.content_text("input")
    }

    /// The raw output, as JSON.
    ///
    /// # Panics
    /// Where the call has no completion with an output in the clear that is JSON.
    #[must_use]
    #[track_caller]
    pub fn output(&self) -> serde_json::Value {
        self.end().content_json("output")
    }

    /// The raw output, as text.
    ///
    /// # Panics
    /// Where the call has no completion with an output in the clear that is text.
    #[must_use]
    #[track_caller]
    pub fn output_text(&self) -> &str {
        self.end().content_text("output")
    }

    /// The error message, where there is one in the clear.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        std::str::from_utf8(self.completion.as_ref()?.content("error")?).ok()
    }

    /// The model call whose decision led to it: the nearest one among its causes.
    #[must_use]
    pub fn decision(&self) -> Option<ModelCall> {
        let decided = nearest(&self.attempt, |payload| matches!(payload, Payload::ModelDecided(_)));
        Some(ModelCall::of_decided(decided?))
    }

    /// The review decision that it relies on.
    #[must_use]
    pub fn approval(&self) -> Option<Entry> {
        self.attempt.story.find(self.attempt.tenant(), self.attempted().approval_event_id?)
    }

    #[track_caller]
    fn end(&self) -> &Entry {
        match &self.completion {
            Some(completion) => completion,
            None => panic!("{self} has no outcome\n\n{}", self.attempt.story.timeline()),
        }
    }
}

/// A model call: its request where that was recorded, and its answer.
///
/// ```
/// use agent_audit_core::memory::{MemorySink, ModelCall};
/// fn tokens(call: &ModelCall) -> u64 {
///     call.usage().and_then(|usage| usage.output_tokens).unwrap_or(0)
/// }
/// assert_eq!(MemorySink::new().models().iter().map(tokens).sum::<u64>(), 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall {
    /// The answer, or where there is none the request.
    main: Entry,
    request: Option<Entry>,
}

impl ModelCall {
    pub(super) fn all(story: &Arc<Story>) -> Vec<Self> {
        let entries = story.entries();
        let answered: Vec<_> = entries
            .iter()
            .filter(|entry| matches!(entry.payload(), Payload::ModelDecided(_)))
            .map(|entry| Self::of_decided(entry.clone()))
            .collect();
        let requests = entries.iter().filter(|entry| {
            matches!(entry.payload(), Payload::ModelRequested(_))
                && !answered.iter().any(|call| call.request.as_ref() == Some(entry))
        });
        let open = requests.map(|entry| Self { main: entry.clone(), request: Some(entry.clone()) });
        let mut calls: Vec<_> = open.chain(answered.iter().cloned()).collect();
        calls.sort_by_key(|call| call.main.at);
        calls
    }

    fn of_decided(main: Entry) -> Self {
        let request = main.causes().into_iter().find(|cause| {
            let named = match main.payload() {
                Payload::ModelDecided(decided) => {
                    decided.request_event_id.or(main.event().parent_event_id)
                }
                _ => None,
            };
            named == Some(cause.id()) && matches!(cause.payload(), Payload::ModelRequested(_))
        });
        Self { main, request }
    }

    /// The `model.decided` event, or where there is none `model.requested`.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.main
    }

    /// The `model.requested` event, where there is one.
    #[must_use]
    pub fn request(&self) -> Option<&Entry> {
        self.request.as_ref()
    }

    /// What the request says, where there is one.
    #[must_use]
    pub fn requested(&self) -> Option<&ModelRequested> {
        match self.request.as_ref()?.payload() {
            Payload::ModelRequested(requested) => Some(requested),
            _ => None,
        }
    }

    /// What the answer says, where there is one.
    #[must_use]
    pub fn decided(&self) -> Option<&ModelDecided> {
        match self.main.payload() {
            Payload::ModelDecided(decided) => Some(decided),
            _ => None,
        }
    }

    /// The model that was asked for.
    #[must_use]
    pub fn requested_model(&self) -> &str {
        let decided = self.decided().map(|decided| decided.requested_model.as_str());
        let requested = || self.requested().map(|requested| requested.requested_model.as_str());
        decided.or_else(requested).unwrap_or_default()
    }

    /// How it ended, where that was recorded.
    #[must_use]
    pub fn status(&self) -> Option<&ModelStatus> {
        self.decided().map(|decided| &decided.status)
    }

    /// What the answer amounts to.
    #[must_use]
    pub fn decision(&self) -> Option<&Decision> {
        self.decided()?.decision.as_ref()
    }

    /// The tokens that the provider counted.
    #[must_use]
    pub fn usage(&self) -> Option<&Usage> {
        self.decided()?.usage.as_ref()
    }

    /// The raw answer, as JSON.
    ///
    /// # Panics
    /// Where there is no answer in the clear that is JSON.
    #[must_use]
    #[track_caller]
    pub fn output(&self) -> serde_json::Value {
        self.main.content_json("output")
    }

    /// The raw answer, as text.
    ///
    /// # Panics
    /// Where there is no answer in the clear that is text.
    #[must_use]
    #[track_caller]
    pub fn output_text(&self) -> &str {
        self.main.content_text("output")
    }

    /// The error message, where there is one in the clear.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        std::str::from_utf8(self.main.content("error")?).ok()
    }

    /// The tool calls whose nearest decision this is.
    #[must_use]
    pub fn tools(&self) -> Vec<ToolCall> {
        let mut calls = ToolCall::all(&self.main.story);
        calls.retain(|call| call.decision().is_some_and(|decision| decision.main == self.main));
        calls
    }
}

/// A review: the events that share its id, from the proposal to what came of it.
///
/// ```
/// use agent_audit_core::memory::{MemorySink, Review};
/// fn unseen(review: &Review) -> bool {
///     review.decision().is_some() && review.presented().is_empty()
/// }
/// MemorySink::new().reviews().filter("decided without having been shown", unseen).assert_none();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    id: String,
    /// Never empty, in the order of time.
    events: Vec<Entry>,
}

impl Review {
    pub(super) fn all(story: &Arc<Story>) -> Vec<Self> {
        let mut reviews: Vec<Self> = Vec::new();
        for entry in story.entries() {
            let Some(id) = review_id(entry.payload()) else { continue };
            let same =
                |review: &&mut Self| review.id == id && review.events[0].tenant() == entry.tenant();
            match reviews.iter_mut().find(same) {
                Some(review) => review.events.push(entry),
                None => reviews.push(Self { id: id.to_owned(), events: vec![entry] }),
            }
        }
        reviews
    }

    /// The identity of the review.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its events, in the order of time.
    #[must_use]
    pub fn events(&self) -> &[Entry] {
        &self.events
    }

    /// What was proposed, where that was recorded.
    #[must_use]
    pub fn proposed(&self) -> Option<&ReviewProposed> {
        self.events.iter().find_map(|entry| match entry.payload() {
            Payload::ReviewProposed(proposed) => Some(proposed),
            _ => None,
        })
    }

    /// The events that say to whom it was shown.
    #[must_use]
    pub fn presented(&self) -> Vec<&Entry> {
        let shown = |entry: &&Entry| matches!(entry.payload(), Payload::ReviewPresented(_));
        self.events.iter().filter(shown).collect()
    }

    /// The event of the last decision, where there is one.
    #[must_use]
    pub fn decided_entry(&self) -> Option<&Entry> {
        let decided = |entry: &&Entry| matches!(entry.payload(), Payload::ReviewDecided(_));
        self.events.iter().rfind(decided)
    }

    /// What the last decision says.
    #[must_use]
    pub fn decided(&self) -> Option<&ReviewDecided> {
        match self.decided_entry()?.payload() {
            Payload::ReviewDecided(decided) => Some(decided),
            _ => None,
        }
    }

    /// The event that says what came of it, where there is one.
    #[must_use]
    pub fn applied(&self) -> Option<&Entry> {
        let applied = |entry: &&Entry| matches!(entry.payload(), Payload::ReviewApplied(_));
        self.events.iter().rfind(applied)
    }

    /// What was proposed, usually the name of a tool.
    #[must_use]
    pub fn action(&self) -> Option<&str> {
        self.proposed().map(|proposed| proposed.action.as_str())
    }

    /// The last decision.
    #[must_use]
    pub fn decision(&self) -> Option<&ReviewDecision> {
        self.decided().map(|decided| &decided.decision)
    }

    /// Who decided last.
    #[must_use]
    pub fn reviewer(&self) -> Option<&Reviewer> {
        self.decided().map(|decided| &decided.reviewer)
    }

    /// Why, where the last decision says so in the clear.
    #[must_use]
    pub fn rationale(&self) -> Option<&str> {
        std::str::from_utf8(self.decided_entry()?.content("rationale")?).ok()
    }

    /// The changes of the last decision (RFC 6902), where there are some in the clear.
    #[must_use]
    pub fn diff(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(self.decided_entry()?.content("diff")?).ok()
    }
}

macro_rules! begins_with {
    ($($name:ident => $this:ident: $entry:expr, $shown:expr;)*) => {$(
        impl AsRef<Entry> for $name {
            fn as_ref(&self) -> &Entry {
                let $this = self;
                $entry
            }
        }

        impl $name {
            /// Whether another event led to it; see [`Entry::caused_by`].
            #[must_use]
            pub fn caused_by(&self, other: &impl AsRef<Entry>) -> bool {
                self.as_ref().caused_by(other)
            }

            /// Asserts that another event led to it.
            ///
            /// # Panics
            /// Where it did not, with the timeline.
            #[track_caller]
            pub fn assert_caused_by(&self, other: &impl AsRef<Entry>) {
                self.as_ref().assert_caused_by(other);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $this = self;
                let entry = self.as_ref();
                write!(f, "{} at {} #{}", $shown, entry.chain(), entry.sequence())
            }
        }
    )*};
}

begins_with! {
    ToolCall => call: &call.attempt, format!("tool call {:?}", call.name());
    ModelCall => call: &call.main, format!("model call {:?}", call.requested_model());
    Review => review: &review.events[0], format!("review {:?}", review.id);
}

pub(super) fn review_id(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::ReviewProposed(review) => Some(&review.review_id),
        Payload::ReviewPresented(review) => Some(&review.review_id),
        Payload::ReviewDecided(review) => Some(&review.review_id),
        Payload::ReviewApplied(review) => Some(&review.review_id),
        _ => None,
    }
}

/// The first event of a kind that one meets on the way back over parents, then over all causes.
fn nearest(from: &Entry, wanted: impl Fn(&Payload) -> bool) -> Option<Entry> {
    let ancestor = from.ancestors().into_iter().find(|entry| wanted(entry.payload()));
    ancestor.or_else(|| {
        let mut seen = HashSet::from([from.at]);
        let mut next = VecDeque::from(from.causes());
        while let Some(entry) = next.pop_front() {
            if wanted(entry.payload()) {
                return Some(entry);
            }
            if seen.insert(entry.at) {
                next.extend(entry.causes());
            }
        }
        None
    })
}
