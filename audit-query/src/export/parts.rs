//! Are the bodies of a record those that its event committed to?

use agent_audit_core::{
    canonical::EventView,
    content::{AbsentReason, PartBody, commitment},
    id::EventId,
};

/// The algorithm of encrypted content, and what it adds to the length: the salt and the tag.
const AES_256_GCM: u8 = 1;
const SEAL: u64 = 32 + 16;

/// What is wrong with a record's content, or to be found out about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// It is what the event committed to.
    Clear,
    /// It cannot be read, and has the length that it must have.
    Sealed,
    /// It is encrypted in a way that nobody here knows.
    UnknownSeal { name: &'a str, algorithm: u8 },
    /// It is not what the event committed to.
    Other { name: &'a str },
    /// It is gone, and this event says why.
    Gone { name: &'a str, reason: Reason, evidence: EventId },
    /// It is gone, and nothing says why.
    GoneUnexplained { name: &'a str },
}

/// Why content is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Erased,
    Purged,
}

impl Reason {
    /// The type of the event that says so.
    pub(super) fn event_type(self) -> &'static str {
        match self {
            Self::Erased => "key.destroyed",
            Self::Purged => "content.purged",
        }
    }

    /// What an event of a type says, if it says that content is gone.
    pub(super) fn of_event_type(event_type: &str) -> Option<Self> {
        [Self::Erased, Self::Purged].into_iter().find(|reason| reason.event_type() == event_type)
    }
}

/// Judges the bodies of a record, one after the other; an error says how many parts the event names
/// where there are not as many bodies.
pub(super) fn judge<'a>(
    event: &EventView<'a>,
    bodies: &[PartBody],
    each: &mut dyn FnMut(Part<'a>),
) -> Result<(), usize> {
    let mut named = event.content();
    for body in bodies {
        let reference = named.next().ok_or_else(|| event.content_len())?;
        let name = reference.name;
        each(match body {
            PartBody::Clear { salt, bytes } => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if length == reference.bytes && commitment(salt, bytes) == reference.commitment {
                    Part::Clear
                } else {
                    Part::Other { name }
                }
            }
            PartBody::Sealed(sealed) if sealed.algorithm != AES_256_GCM => {
                Part::UnknownSeal { name, algorithm: sealed.algorithm }
            }
            PartBody::Sealed(sealed) => {
                let length = u64::try_from(sealed.ciphertext.len()).unwrap_or(u64::MAX);
                let right = reference.bytes.checked_add(SEAL) == Some(length);
                if right { Part::Sealed } else { Part::Other { name } }
            }
            PartBody::Absent { reason, evidence: Some(evidence), .. } => match reason {
                AbsentReason::Erased => {
                    Part::Gone { name, reason: Reason::Erased, evidence: *evidence }
                }
                AbsentReason::Purged => {
                    Part::Gone { name, reason: Reason::Purged, evidence: *evidence }
                }
                _ => Part::GoneUnexplained { name },
            },
            PartBody::Absent { .. } => Part::GoneUnexplained { name },
            _ => Part::Other { name },
        });
    }
    if named.next().is_some() { Err(event.content_len()) } else { Ok(()) }
}
