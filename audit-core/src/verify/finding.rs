//! Findings: what is wrong, where, and how sure that is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{chain::ChainRef, id::EventId};

/// What kind of fault or state a verifier found.
///
/// The names in JSON are those of [`as_str`](Self::as_str) and do not change.
///
/// ```
/// use agent_audit_core::verify::{FindingKind, Severity};
/// assert_eq!(FindingKind::HeadMissing.as_str(), "head_missing");
/// assert_eq!(FindingKind::HeadMissing.severity(), Severity::Tampering);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// A record was changed after it was written.
    Tampered,
    /// Records in the middle of a chain are gone.
    Missing,
    /// Records at the beginning of a chain are gone.
    HeadMissing,
    /// Records at the end of a chain are gone, as a signed checkpoint shows.
    Truncated,
    /// Two different histories of one chain exist.
    Forked,
    /// Records are stored in another order than that in which they were written.
    Reordered,
    /// A record, or the identity of one, occurs twice.
    Duplicated,
    /// A record or checkpoint belongs to another tenant or chain.
    Foreign,
    /// A whole chain is gone, as a signed checkpoint shows.
    ChainMissing,
    /// A whole tenant is gone, as an earlier verification shows.
    TenantMissing,
    /// What an integrity job had written is gone, or an older copy stands in its place.
    StateRolledBack,
    /// Content does not match the commitment that the event keeps of it.
    ContentMismatch,
    /// A column that a store extracted does not agree with the record.
    ColumnMismatch,
    /// An index that a checkpoint was signed with is not that of the events.
    IndexMismatch,
    /// A signature names a trusted key and does not verify.
    BadSignature,
    /// Bytes of the journal that had been durable are changed or gone.
    JournalDamaged,
    /// No trusted key signed a checkpoint.
    UnknownKey,
    /// A checkpoint cannot be read.
    BadCheckpoint,
    /// A record was written in a schema that this program does not know.
    UnknownSchema,
    /// A journal entry is of a kind that this program does not know.
    UnknownEntry,
    /// A store could not be read.
    StoreUnreadable,
    /// There was nothing to verify.
    NothingToVerify,
    /// No checkpoint of the kind that the caller relies on covers any of a chain.
    NotVouched,
    /// Content is gone, and the chain does not say why.
    ContentMissing,
    /// Content is encrypted in a way that this program does not know.
    UnknownSeal,
    /// Records behind the last checkpoint of the kind that the caller relies on.
    UncoveredTail,
    /// A report could not be recorded, or an alert could not be delivered.
    Unreported,
    /// A timestamp lies before that of the record before.
    ClockRegression,
    /// The writer says that it could not write some events.
    Gap,
    /// A tool or model call was begun and has no recorded end.
    UnresolvedAttempt,
    /// A review was asked for, and the chain holds no decision.
    OpenReview,
    /// The last write was never acknowledged and is incomplete.
    TornTail,
    /// The chain has not been closed: its writer is at work, or died.
    Unclosed,
    /// A store does not have the newest records of a chain yet.
    Lagging,
    /// Findings beyond the limit of one chain were counted and not kept.
    Omitted,
}

impl FindingKind {
    /// The name, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tampered => "tampered",
            Self::Missing => "missing",
            Self::HeadMissing => "head_missing",
            Self::Truncated => "truncated",
            Self::Forked => "forked",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Foreign => "foreign",
            Self::ChainMissing => "chain_missing",
            Self::TenantMissing => "tenant_missing",
            Self::StateRolledBack => "state_rolled_back",
            Self::ContentMismatch => "content_mismatch",
            Self::ColumnMismatch => "column_mismatch",
            Self::IndexMismatch => "index_mismatch",
            Self::BadSignature => "bad_signature",
            Self::JournalDamaged => "journal_damaged",
            Self::UnknownKey => "unknown_key",
            Self::BadCheckpoint => "bad_checkpoint",
            Self::UnknownSchema => "unknown_schema",
            Self::UnknownEntry => "unknown_entry",
            Self::StoreUnreadable => "store_unreadable",
            Self::NothingToVerify => "nothing_to_verify",
            Self::NotVouched => "not_vouched",
            Self::ContentMissing => "content_missing",
            Self::UnknownSeal => "unknown_seal",
            Self::UncoveredTail => "uncovered_tail",
            Self::Unreported => "unreported",
            Self::ClockRegression => "clock_regression",
            Self::Gap => "gap",
            Self::UnresolvedAttempt => "unresolved_attempt",
            Self::OpenReview => "open_review",
            Self::TornTail => "torn_tail",
            Self::Unclosed => "unclosed",
            Self::Lagging => "lagging",
            Self::Omitted => "omitted",
        }
    }

    /// How serious a finding of this kind is, where nothing speaks for less.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Tampered
            | Self::Missing
            | Self::HeadMissing
            | Self::Truncated
            | Self::Forked
            | Self::Reordered
            | Self::Duplicated
            | Self::Foreign
            | Self::ChainMissing
            | Self::TenantMissing
            | Self::StateRolledBack
            | Self::ContentMismatch
            | Self::ColumnMismatch
            | Self::IndexMismatch
            | Self::BadSignature
            | Self::JournalDamaged => Severity::Tampering,
            Self::UnknownKey
            | Self::BadCheckpoint
            | Self::UnknownSchema
            | Self::UnknownEntry
            | Self::StoreUnreadable
            | Self::NothingToVerify
            | Self::NotVouched
            | Self::ContentMissing
            | Self::UnknownSeal => Severity::Unsure,
            Self::ClockRegression
            | Self::Gap
            | Self::UnresolvedAttempt
            | Self::TornTail
            | Self::UncoveredTail
            | Self::Unreported
            | Self::Omitted => Severity::Warning,
            Self::OpenReview | Self::Unclosed | Self::Lagging => Severity::State,
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How serious a finding is; the most serious come first.
///
/// ```
/// use agent_audit_core::verify::Severity;
/// assert!(Severity::Tampering < Severity::State);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    clippy::exhaustive_enums,
    reason = "each severity decides an exit code; a new one would too"
)]
pub enum Severity {
    /// The log is not as it was written.
    Tampering,
    /// The verifier could not tell.
    Unsure,
    /// The log is as it was written, and says something that a person should look at.
    Warning,
    /// A fact that is no fault.
    State,
}

/// One thing that a verifier found. `Display` says it in one sentence.
///
/// ```
/// use agent_audit_core::{chain::ChainRef, id::{ChainId, TenantId}};
/// use agent_audit_core::verify::{Finding, FindingKind};
/// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
/// let finding = Finding::new(FindingKind::Missing, "are missing").in_chain(&chain).at(3, 5);
/// assert_eq!(finding.to_string(), "acme/c-1: records 3 to 5 are missing");
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// How serious.
    pub severity: Severity,
    /// The chain, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainRef>,
    /// The position in the chain, the first one of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The last position, where it is about several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sequence: Option<u64>,
    /// The event, where it is about one that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// Which copy of the record: the journal, or a store by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What is wrong: the predicate of the sentence.
    pub detail: String,
}

impl Finding {
    /// A finding of a kind, about nothing in particular.
    pub fn new(kind: FindingKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            severity: kind.severity(),
            chain: None,
            sequence: None,
            last_sequence: None,
            event_id: None,
            place: None,
            detail: detail.into(),
        }
    }

    /// Names the chain.
    #[must_use]
    pub fn in_chain(mut self, chain: &ChainRef) -> Self {
        self.chain = Some(chain.clone());
        self
    }

    /// Names the first and the last position.
    #[must_use]
    pub fn at(mut self, first: u64, last: u64) -> Self {
        self.sequence = Some(first);
        self.last_sequence = (last > first).then_some(last);
        self
    }

    /// Names the event.
    #[must_use]
    pub fn of_event(mut self, event_id: Option<EventId>) -> Self {
        self.event_id = event_id;
        self
    }

    /// Names the copy.
    #[must_use]
    pub fn in_place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Takes another severity than that of the kind.
    #[must_use]
    pub fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Whether the finding is about a position.
    #[must_use]
    pub fn is_at(&self, sequence: u64) -> bool {
        self.sequence
            .is_some_and(|first| (first..=self.last_sequence.unwrap_or(first)).contains(&sequence))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(chain) = &self.chain {
            write!(f, "{chain}: ")?;
        }
        match (self.sequence, self.last_sequence) {
            (Some(first), Some(last)) => write!(f, "records {first} to {last} ")?,
            (Some(at), None) => match self.event_id {
                Some(event_id) => write!(f, "record {at} (event {event_id}) ")?,
                None => write!(f, "record {at} ")?,
            },
            (None, _) => {}
        }
        f.write_str(&self.detail)?;
        match &self.place {
            Some(place) => write!(f, " [in {place}]"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_the_names() {
        let finding = Finding::new(FindingKind::NothingToVerify, "nothing");
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!(json["kind"], finding.kind.as_str());
        assert_eq!(json["severity"], "unsure");
        assert_eq!(serde_json::from_value::<Finding>(json).unwrap(), finding);
    }
}
