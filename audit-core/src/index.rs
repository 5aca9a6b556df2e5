//! The index of an interval of a chain: which of its events have which value in which field.
//!
//! With each checkpoint the writer signs an index of the events since the one before. From it follows
//! of any value of a [`Field`] at which positions of the interval the events with that value are, or
//! that there is none: an answer from which somebody left an event out is found out, without the
//! events that were not asked for.
//!
//! An *entry* stands for one value of one field that occurs in the interval:
//!
//! ```text
//! key    = SHA-256 of the canonical JSON {"field":"<field>","value":"<value>"}
//! places = SHA-256 of the positions of the events, ascending, each as 8 bytes, little-endian
//! leaf   = SHA-256(0x00 ‖ key ‖ places)
//! ```
//!
//! The entries are sorted by their keys, byte by byte, and the root of the index is that of the
//! [tree](crate::tree) over their leaves. A checkpoint carries of each index one extension line,
//! [`IndexRoot`]:
//!
//! ```text
//! agent-audit-index/1 <from> <size> <entries> <base64 of the root>
//! ```
//!
//! The interval is that of the positions from `from` up to and without `size`, at most
//! [`MAX_EVENTS`]. The lines of one checkpoint join without a hole, and the last of them ends at the
//! size of the checkpoint. Where an interval of the chain has no line at all, nothing can be proved of
//! it.
//!
//! An [`EntryProof`] holds the entry of a key, or the two neighbours between which it would stand. Of
//! a neighbour it gives two hashes and no value: who is shown the events of one session does not read
//! the names of others.

mod builder;
#[cfg(feature = "writer")]
mod pending;
mod proof;
mod root;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use builder::{Index, IndexBuilder, IndexFull};
#[cfg(feature = "writer")]
pub(crate) use pending::Pending;
pub use proof::{EntryProof, EntryProofError, Neighbour};
pub use root::{IndexRoot, InvalidIndexRoot};

use crate::{
    canonical::{EventView, write_string},
    hash::Hash,
};

/// The most events of one interval.
///
/// ```
/// assert_eq!(agent_audit_core::index::MAX_EVENTS, 32_768);
/// ```
pub const MAX_EVENTS: u64 = 32_768;

/// A field of events that an index covers.
///
/// ```
/// use agent_audit_core::index::Field;
/// assert_eq!(Field::Session.as_str(), "session");
/// assert_eq!(Field::of_column("reviewer_id"), Some(Field::Reviewer));
/// assert_eq!(Field::of_column("agent_id"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Field {
    /// The type of the event.
    EventType,
    /// Who decided a review: `reviewer.reviewer_id` in the payload of a `review.decided`.
    Reviewer,
    /// The session.
    Session,
    /// The person whom the event is about, by a token.
    Subject,
}

impl Field {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 4] = [Self::EventType, Self::Reviewer, Self::Session, Self::Subject];

    /// The name of the field in an index.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::Reviewer => "reviewer",
            Self::Session => "session",
            Self::Subject => "subject",
        }
    }

    /// The field that a [column](crate::columns) of a store holds, where an index covers it.
    #[must_use]
    pub fn of_column(column: &str) -> Option<Self> {
        match column {
            "event_type" => Some(Self::EventType),
            "reviewer_id" => Some(Self::Reviewer),
            "session_id" => Some(Self::Session),
            "subject_id" => Some(Self::Subject),
            _ => None,
        }
    }

    /// The key of the entry for a value of this field.
    ///
    /// ```
    /// use agent_audit_core::index::Field;
    /// assert_ne!(Field::Session.key("a"), Field::Subject.key("a"));
    /// ```
    #[must_use]
    pub fn key(self, value: &str) -> Hash {
        let mut raw = Vec::with_capacity(value.len() + 2);
        write_string(&mut raw, value);
        let text = std::str::from_utf8(&raw).expect("JSON is UTF-8");
        Hash::from_bytes(Sha256::digest(self.key_text(unquoted(text))).into())
    }

    /// What is hashed to the key, for a value as it stands between the quotation marks of JSON.
    fn key_text(self, raw: &str) -> Vec<u8> {
        [r#"{"field":""#, self.as_str(), r#"","value":""#, raw, r#""}"#].concat().into_bytes()
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an event is indexed by: each value as it stands between the quotation marks of its canonical
/// JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) event_type: &'a str,
    pub(crate) reviewer: Option<&'a str>,
    pub(crate) session: &'a str,
    pub(crate) subject: Option<&'a str>,
}

impl<'a> Terms<'a> {
    pub(crate) fn of(event: &EventView<'a>) -> Self {
        Self {
            event_type: event.event_type,
            reviewer: reviewer(event.event_type, event.payload),
            session: event.session_id,
            subject: event.subject_id,
        }
    }

    /// The values in the order of [`Field::ALL`].
    fn values(&self) -> [Option<&'a str>; Field::ALL.len()] {
        [Some(self.event_type), self.reviewer, Some(self.session), self.subject]
    }
}

/// Who decided a review, by the canonical payload of an event of this type.
pub(crate) fn reviewer<'a>(event_type: &str, payload: &'a [u8]) -> Option<&'a str> {
    #[derive(Deserialize)]
    struct Decided<'a> {
        #[serde(borrow)]
        reviewer: Reviewer<'a>,
    }

    #[derive(Deserialize)]
    struct Reviewer<'a> {
        #[serde(borrow)]
        reviewer_id: &'a serde_json::value::RawValue,
    }

    if event_type != "review.decided" {
        return None;
    }
    let decided: Decided<'a> = serde_json::from_slice(payload).ok()?;
    let raw = decided.reviewer.reviewer_id.get();
    raw.starts_with('"').then(|| unquoted(raw))
}

/// A JSON string without its quotation marks.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json)
}
