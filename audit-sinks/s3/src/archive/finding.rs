//! What a reader finds wrong with an archive.

use std::fmt;

use agent_audit_core::{chain::ChainRef, verify::Severity};

/// What kind of fault an archive has. What is wrong with the events themselves is told by the
/// chain's own report.
///
/// ```
/// use agent_audit_core::verify::Severity;
/// use agent_audit_s3::ArchiveFindingKind;
/// assert_eq!(ArchiveFindingKind::Overwritten.severity(), Severity::Tampering);
/// assert_eq!(ArchiveFindingKind::Overwritten.as_str(), "overwritten");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ArchiveFindingKind {
    /// An object that a manifest names is gone.
    ObjectMissing,
    /// An object is not what its manifest says.
    ObjectChanged,
    /// A manifest between two others is gone.
    ManifestMissing,
    /// A manifest is not what was signed, or does not follow the one before.
    ManifestChanged,
    /// A second version with other bytes was written over an object; the first one still counts.
    Overwritten,
    /// An object was deleted without naming a version; the version is still there.
    Hidden,
    /// A column of an object does not agree with its event.
    ColumnMismatch,
    /// An object is not locked as demanded.
    Unlocked,
    /// A manifest is signed by a key that is not believed, or by nobody.
    NotVouched,
    /// An object that attaches to the end of a chain has no manifest: its writer was interrupted and
    /// will finish it, or the manifest was removed.
    Pending,
    /// An object has no manifest: its writer was interrupted or lost a race. It was never
    /// acknowledged.
    Unlisted,
    /// The same was written twice: two writers were at work at once.
    WrittenTwice,
    /// Something lies in the archive that does not belong there.
    Foreign,
}

impl ArchiveFindingKind {
    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ObjectMissing => "object_missing",
            Self::ObjectChanged => "object_changed",
            Self::ManifestMissing => "manifest_missing",
            Self::ManifestChanged => "manifest_changed",
            Self::Overwritten => "overwritten",
            Self::Hidden => "hidden",
            Self::ColumnMismatch => "column_mismatch",
            Self::Unlocked => "unlocked",
            Self::NotVouched => "not_vouched",
            Self::Pending => "pending",
            Self::Unlisted => "unlisted",
            Self::WrittenTwice => "written_twice",
            Self::Foreign => "foreign",
        }
    }

    /// How serious it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::ObjectMissing
            | Self::ObjectChanged
            | Self::ManifestMissing
            | Self::ManifestChanged
            | Self::Overwritten
            | Self::Hidden
            | Self::ColumnMismatch => Severity::Tampering,
            Self::Unlocked | Self::NotVouched | Self::Pending => Severity::Unsure,
            Self::Unlisted | Self::WrittenTwice | Self::Foreign => Severity::Warning,
        }
    }
}

/// One thing that a reader found. `Display` says it in one sentence.
///
/// ```
/// use agent_audit_core::verify::Severity;
/// use agent_audit_s3::ArchiveFinding;
/// fn alarms(findings: &[ArchiveFinding]) -> Vec<String> {
///     let tampering = |f: &&ArchiveFinding| f.kind.severity() == Severity::Tampering;
///     findings.iter().filter(tampering).map(ToString::to_string).collect()
/// }
/// assert!(alarms(&[]).is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveFinding {
    /// What kind.
    pub kind: ArchiveFindingKind,
    /// The chain, where it is about one.
    pub chain: Option<ChainRef>,
    /// The key of the object or manifest.
    pub key: String,
    /// What is wrong: the predicate of the sentence.
    pub detail: String,
}

impl ArchiveFinding {
    pub(super) fn new(
        kind: ArchiveFindingKind,
        chain: Option<&ChainRef>,
        key: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, chain: chain.cloned(), key: key.into(), detail: detail.into() }
    }
}

impl fmt::Display for ArchiveFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(chain) = &self.chain {
            write!(f, "{chain}: ")?;
        }
        write!(f, "{:?} {}", self.key, self.detail)
    }
}
