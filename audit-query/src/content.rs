//! What is left of a part of content, checked against its commitment.

use agent_audit_core::{
    content::{AbsentReason, ContentRef, PartBody},
    id::EventId,
};
use serde::Serialize;

use crate::{Found, QueryError};

/// A part of an event's content, as far as it is there and is what the event committed to.
///
/// ```
/// use agent_audit_core::{content::Part, event::{Event, tool::ToolAttempted}, record::Record};
/// use agent_audit_query::{Content, Found};
/// let (reference, body) = Part::text("input", "order A-1").commit();
/// let event = Event::example(ToolAttempted::new("refund")).with_content(reference);
/// let found = Found::new(Record::new(event.canonical_bytes()?, vec![body]))?;
/// assert_eq!(found.content("input")?, Some(Content::Text { text: "order A-1".to_owned() }));
/// assert_eq!(found.content("output")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Content {
    /// Text.
    Text {
        /// The text, whole.
        text: String,
    },
    /// Bytes that are no text.
    Binary {
        /// How many.
        bytes: u64,
    },
    /// Encrypted: the reader has no key.
    Sealed {
        /// The key that it is encrypted with.
        key_id: String,
    },
    /// Gone, because its key was destroyed or its term was over.
    Absent {
        /// `erased` or `purged`.
        reason: &'static str,
        /// The event that says so.
        evidence: Option<EventId>,
    },
    /// Not asked for.
    NotFetched,
}

impl Content {
    /// The text, where it is there.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text { text } = self { Some(text) } else { None }
    }
}

impl Found {
    /// A part of the content by its name.
    ///
    /// # Errors
    /// [`Corrupt`](crate::QueryErrorKind::Corrupt) where the bytes are not those that the event
    /// committed to: they are never shown.
    pub fn content(&self, name: &str) -> Result<Option<Content>, QueryError> {
        let event = self.event()?;
        let Some(at) = event.content.iter().position(|part| part.name == name) else {
            return Ok(None);
        };
        match self.record().parts().get(at) {
            None => Ok(Some(Content::NotFetched)),
            Some(body) => self.read(&event.content[at], body).map(Some),
        }
    }

    fn read(&self, reference: &ContentRef, body: &PartBody) -> Result<Content, QueryError> {
        body.check(reference).map_err(|error| {
            QueryError::corrupt(format!(
                "content of event {} is not what the event committed to: run `agent-audit verify`",
                self.event_id()
            ))
            .with_source(error)
        })?;
        Ok(match body {
            PartBody::Clear { bytes, .. } => match str::from_utf8(bytes) {
                Ok(text) => Content::Text { text: text.to_owned() },
                Err(_) => Content::Binary { bytes: reference.bytes },
            },
            PartBody::Sealed(sealed) => Content::Sealed { key_id: sealed.key_id.clone() },
            PartBody::Absent { reason, evidence, .. } => Content::Absent {
                reason: match reason {
                    AbsentReason::Erased => "erased",
                    _ => "purged",
                },
                evidence: *evidence,
            },
            _ => Content::NotFetched,
        })
    }

    /// Whether every body that was fetched is the one that the event committed to.
    pub(crate) fn check_content(&self) -> Result<(), QueryError> {
        if self.record().parts().is_empty() {
            return Ok(());
        }
        let event = self.event()?;
        for (reference, body) in event.content.iter().zip(self.record().parts()) {
            self.read(reference, body)?;
        }
        Ok(())
    }
}
