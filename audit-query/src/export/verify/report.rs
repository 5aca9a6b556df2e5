//! What was checked and found of an export.

use agent_audit_core::{
    chain::ChainRef,
    id::TenantId,
    key::VerifyingKey,
    verify::{Basis, Finding, FindingKind, Severity},
};
use serde::Serialize;

use crate::export::{Claim, Manifest};

/// How many findings are kept; more are counted.
const MAX_FINDINGS: usize = 1_000;

/// Whether an export is what it says that it is.
///
/// ```
/// use agent_audit_query::export::ExportVerdict;
/// let codes = [ExportVerdict::Intact, ExportVerdict::Tampered, ExportVerdict::Incomplete, ExportVerdict::Unsure]
///     .map(ExportVerdict::exit_code);
/// assert_eq!(codes, [0, 1, 1, 2]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "each of them decides an exit code")]
pub enum ExportVerdict {
    /// It is, as far as the basis carries.
    Intact,
    /// Something in it is not what was exported, or not what was recorded.
    Tampered,
    /// What is in it is right, and something is missing that it says is there: a file, a record, its
    /// own end.
    Incomplete,
    /// The verifier could not tell.
    Unsure,
}

impl ExportVerdict {
    /// The exit code of a command that verifies: 0 intact, 1 tampered or incomplete, 2 could not tell.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Intact => 0,
            Self::Tampered | Self::Incomplete => 1,
            Self::Unsure => 2,
        }
    }

    /// What a finding makes of an export.
    fn of(finding: &Finding) -> Self {
        use FindingKind::{ChainMissing, HeadMissing, Missing, Truncated};
        match (finding.severity, finding.kind) {
            (Severity::Tampering, Missing | HeadMissing | Truncated | ChainMissing) => {
                Self::Incomplete
            }
            (Severity::Tampering, _) => Self::Tampered,
            (Severity::Unsure, _) => Self::Unsure,
            (Severity::Warning | Severity::State, _) => Self::Intact,
        }
    }

    /// The worse of two.
    fn or(self, other: Self) -> Self {
        [Self::Tampered, Self::Incomplete, Self::Unsure]
            .into_iter()
            .find(|verdict| [self, other].contains(verdict))
            .unwrap_or(Self::Intact)
    }
}

/// Whether an export leaves nothing out.
///
/// ```
/// use agent_audit_query::export::{ExportCompleteness, VerifyOptions, example, verify};
/// # let dir = tempfile::tempdir()?;
/// example(dir.path())?;
/// let report = verify(&dir.path().join("export"), VerifyOptions::default())?;
/// assert_eq!(report.completeness, ExportCompleteness::Proven);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExportCompleteness {
    /// What was asked for is there, up to the checkpoint of each chain.
    Proven,
    /// Something was left out; the findings say what.
    Broken,
    /// It is claimed, and could not be checked: a checkpoint or a proof is not there, or not of a
    /// trusted key.
    Unproven,
    /// The export claims nothing: no proof exists for a question of its kind.
    NotProvable,
}

/// What was checked and found of an export.
///
/// ```
/// use agent_audit_query::export::{ExportVerdict, VerifyOptions, example, verify};
/// # let dir = tempfile::tempdir()?;
/// let exported = example(dir.path())?;
/// let report = verify(&dir.path().join("export"), VerifyOptions::default())?;
/// assert_eq!(report.verdict(), ExportVerdict::Intact);
/// assert_eq!((report.events, report.covered), (exported.manifest.counts.events, report.events));
/// assert!(report.explanation().contains("give the exporter's key"), "it was signed by itself");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// What the export says of itself, where that could be read; not to be believed where the verdict
    /// is tampered.
    pub manifest: Option<Manifest>,
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// How many chains there are events of.
    pub chains: u64,
    /// How many events were checked.
    pub events: u64,
    /// How many of them a signed checkpoint covers that could be believed.
    pub covered: u64,
    /// How many parts of content the events name.
    pub parts: u64,
    /// How many bytes of events were checked.
    pub bytes: u64,
    /// Parts whose content is gone, and that name the event by which it was erased.
    pub erased: u64,
    /// Parts whose content is gone, and that name the event by which it was purged.
    pub purged: u64,
    /// Parts whose content is encrypted, and was therefore not checked.
    pub sealed: u64,
    /// The key that signed the export.
    pub signer: Option<VerifyingKey>,
    /// Whether the caller trusts that key.
    pub signer_is_trusted: bool,
    /// What the proofs rest on: that of the weakest chain.
    pub basis: Basis,
    /// Whether anything was left out.
    pub completeness: ExportCompleteness,
    /// What was found, the most serious first.
    pub findings: Vec<Finding>,
    verdict: ExportVerdict,
}

impl ExportReport {
    /// Whether the export is what it says that it is.
    ///
    /// An export without events is never [`ExportVerdict::Intact`].
    #[must_use]
    pub fn verdict(&self) -> ExportVerdict {
        self.verdict
    }

    /// What the verdict is worth, in a few sentences.
    #[must_use]
    pub fn explanation(&self) -> String {
        let signer = match (&self.signer, self.signer_is_trusted) {
            (None, _) => "no signature over the export could be verified".to_owned(),
            (Some(key), true) => {
                format!("the export is signed by the key {} that you trust", key.id())
            }
            (Some(key), false) => format!(
                "the export is signed by the key {} that it names itself: whoever wrote it could \
                 have made all of it; give the exporter's key",
                key.id()
            ),
        };
        let behind = match self.events.saturating_sub(self.covered) {
            0 => String::new(),
            behind => format!(" ({behind} of {} events are not covered)", self.events),
        };
        let basis = match self.basis {
            Basis::ChainOnly => {
                "no signed checkpoint of the log could be relied on: that the events were recorded \
                 rests on the exporter's word"
            }
            Basis::OwnKey => {
                "the proofs rest on signed checkpoints and on a key that the export itself names: \
                 give the key of the log"
            }
            Basis::OwnCheckpoint => {
                "the proofs rest on checkpoints that are signed by a key of the log that you trust: \
                 only its holder could have made other events"
            }
            _ => {
                "the proofs rest on signed checkpoints that were kept apart: nobody can have made \
                 other events"
            }
        };
        let completeness = match self.completeness {
            ExportCompleteness::Proven => {
                let claim = self.manifest.as_ref().map_or(Claim::None, |of| of.completeness);
                format!("nothing was left out: {claim}")
            }
            ExportCompleteness::Broken => "something was left out".to_owned(),
            ExportCompleteness::Unproven => {
                "that nothing was left out is claimed and could not be checked".to_owned()
            }
            ExportCompleteness::NotProvable => Claim::None.to_string(),
        };
        format!("{signer}; {basis}{behind}; {completeness}")
    }
}

/// A report that is being written.
pub(super) struct Draft {
    pub(super) report: ExportReport,
    omitted: u64,
}

impl Draft {
    pub(super) fn new() -> Self {
        let report = ExportReport {
            manifest: None,
            tenant: None,
            chains: 0,
            events: 0,
            covered: 0,
            parts: 0,
            bytes: 0,
            erased: 0,
            purged: 0,
            sealed: 0,
            signer: None,
            signer_is_trusted: false,
            basis: Basis::ChainOnly,
            completeness: ExportCompleteness::Unproven,
            findings: Vec::new(),
            verdict: ExportVerdict::Intact,
        };
        Self { report, omitted: 0 }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.report.verdict = self.report.verdict.or(ExportVerdict::of(&finding));
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(finding);
        } else {
            self.omitted += 1;
        }
    }

    /// A finding about the export as a whole, or one of its files.
    pub(super) fn find(&mut self, kind: FindingKind, place: &str, detail: impl Into<String>) {
        self.add(Finding::new(kind, detail).in_place(place));
    }

    /// Whether anything is wrong, or could not be told.
    pub(super) fn has_faults(&self) -> bool {
        self.report.verdict != ExportVerdict::Intact
    }

    /// Whether something of a chain is not what it was, or is missing.
    pub(super) fn is_wrong(&self, chain: &ChainRef) -> bool {
        let findings = self.report.findings.iter();
        findings
            .filter(|finding| finding.chain.as_ref() == Some(chain))
            .any(|finding| finding.severity == Severity::Tampering)
    }

    pub(super) fn finish(mut self) -> ExportReport {
        if self.report.events == 0 {
            self.add(Finding::new(
                FindingKind::NothingToVerify,
                "nothing to verify: the export has no event",
            ));
        }
        if self.omitted > 0 {
            let detail = format!("{} more findings were counted and are not listed", self.omitted);
            self.report.findings.push(Finding::new(FindingKind::Omitted, detail));
        }
        self.report.findings.sort_by(|a, b| {
            let key = |f: &Finding| (f.severity, f.sequence, f.last_sequence, f.kind);
            (a.severity.cmp(&b.severity))
                .then_with(|| a.chain.cmp(&b.chain))
                .then_with(|| key(a).cmp(&key(b)))
        });
        self.report
    }
}
