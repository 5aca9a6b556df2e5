//! What a caller hands in: the payload and content of one event, before it has its place.

use crate::{
    content::Part,
    event::Payload,
    id::{EventId, SpanId, SubjectId, TraceId},
    timestamp::Timestamp,
};

/// An event to be recorded: payload, content, and what links it to others.
///
/// The rest of the envelope comes from the [context](crate::context::AuditContext) and the chain.
///
/// ```
/// use agent_audit_core::{content::Part, event::Other, log::Draft};
/// let draft = Draft::new(Other::custom("note")?).with_part(Part::text("note", "hello"));
/// assert_eq!(draft.payload().event_type().as_str(), "custom.note");
/// # Ok::<(), agent_audit_core::event::InvalidEvent>(())
/// ```
#[derive(Debug, Clone)]
pub struct Draft {
    pub(crate) payload: Payload,
    pub(crate) parts: Vec<Part>,
    pub(crate) event_id: EventId,
    pub(crate) parent_event_id: Option<EventId>,
    pub(crate) subject_id: Option<SubjectId>,
    pub(crate) trace: Option<(TraceId, Option<SpanId>)>,
    pub(crate) occurred_at: Option<Timestamp>,
}

impl Draft {
    /// An event with this payload and a fresh identity.
    pub fn new(payload: impl Into<Payload>) -> Self {
        Self {
            payload: payload.into(),
            parts: Vec::new(),
            event_id: EventId::new(),
            parent_event_id: None,
            subject_id: None,
            trace: None,
            occurred_at: None,
        }
    }

    /// Adds a part of content.
    #[must_use]
    pub fn with_part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Adds parts of content.
    #[must_use]
    pub fn with_parts(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.parts.extend(parts);
        self
    }

    /// Names the event that caused this one; without it, the context's.
    #[must_use]
    pub fn with_parent(mut self, parent: EventId) -> Self {
        self.parent_event_id = Some(parent);
        self
    }

    /// Names the person whom the data is about, by a token; without it, the context's.
    #[must_use]
    pub fn with_subject(mut self, subject: SubjectId) -> Self {
        self.subject_id = Some(subject);
        self
    }

    /// Names the trace and span that it happens in; without it, the context's.
    #[must_use]
    pub fn with_trace(mut self, trace: TraceId, span: Option<SpanId>) -> Self {
        self.trace = Some((trace, span));
        self
    }

    /// Says when it happened, where that is not now.
    #[must_use]
    pub fn with_occurred_at(mut self, at: Timestamp) -> Self {
        self.occurred_at = Some(at);
        self
    }

    /// The identity that the event will have.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }
}

impl<P: Into<Payload>> From<P> for Draft {
    fn from(payload: P) -> Self {
        Self::new(payload)
    }
}
