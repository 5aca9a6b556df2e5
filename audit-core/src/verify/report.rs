//! Reports: what was checked, what was found, and what the verdict rests on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{chain::ChainRef, id::TenantId};

use super::{ChainState, Finding, FindingKind, Severity};

/// What a verdict rests on, from the weakest.
///
/// ```
/// use agent_audit_core::verify::Basis;
/// assert!(Basis::ChainOnly < Basis::SeparateCheckpoint);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Basis {
    /// The links of the chain alone: whoever can write to the log can make another that fits.
    ChainOnly,
    /// A signed checkpoint beside the log, under a key that was also found beside the log.
    OwnKey,
    /// A checkpoint beside the log, signed by a key that the caller trusts.
    OwnCheckpoint,
    /// A signed checkpoint that the caller keeps apart from the log.
    SeparateCheckpoint,
}

impl Basis {
    /// What it is worth, in one sentence.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::ChainOnly => {
                "rests on the links of the chain alone: whoever can write to the log could have \
                 rewritten it whole"
            }
            Self::OwnKey => {
                "rests on signed checkpoints and on a key that were both found in the log itself: \
                 whoever can write to the log could have replaced both; give the key you trust"
            }
            Self::OwnCheckpoint => {
                "rests on checkpoints found in the log, signed by a key that you trust: only the \
                 holder of the key could have rewritten it, or cut it after an older checkpoint"
            }
            Self::SeparateCheckpoint => {
                "rests on signed checkpoints kept apart from the log: nobody can have rewritten \
                 what they cover"
            }
        }
    }
}

/// The answer to whether the log is as it was written.
///
/// ```
/// use agent_audit_core::verify::Verdict;
/// assert_eq!((Verdict::Intact.exit_code(), Verdict::Tampered.exit_code(), Verdict::Unsure.exit_code()), (0, 1, 2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums, reason = "yes, no, and could not tell: there is no fourth")]
pub enum Verdict {
    /// It is, as far as the basis carries.
    Intact,
    /// It is not.
    Tampered,
    /// The verifier could not tell.
    Unsure,
}

impl Verdict {
    /// The exit code of a command that verifies: 0 intact, 1 tampered, 2 could not tell.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Intact => 0,
            Self::Tampered => 1,
            Self::Unsure => 2,
        }
    }
}

/// What was checked and found of one chain.
///
/// ```
/// use agent_audit_core::{chain::ChainRef, id::{ChainId, TenantId}};
/// use agent_audit_core::verify::{ChainVerifier, Checkpoints};
/// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
/// let report = ChainVerifier::new(chain, Checkpoints::none()).finish();
/// assert_eq!((report.events, report.covered), (0, 0));
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChainReport {
    /// The chain.
    pub chain: ChainRef,
    /// How many records were checked.
    pub events: u64,
    /// How many parts of content the records name.
    pub parts: u64,
    /// How many bytes of records were checked.
    pub bytes: u64,
    /// Parts whose content was erased on request.
    pub erased: u64,
    /// Parts whose content was purged after its term.
    pub purged: u64,
    /// Parts whose content is encrypted, and was therefore not checked.
    pub sealed: u64,
    /// Signed checkpoints that the chain was held against.
    pub checkpoints_checked: u64,
    /// How many records, from position 0, the last matching checkpoint covers.
    pub covered: u64,
    /// What the verdict rests on.
    pub basis: Basis,
    /// What was found.
    pub findings: Vec<Finding>,
    /// From where a later verification can go on; absent where the chain has a fault.
    pub state: Option<ChainState>,
}

/// What was checked and found of a log.
///
/// ```
/// use agent_audit_core::verify::{FindingKind, Report, Verdict};
/// let report = Report::from_chains([]);
/// assert_eq!(report.verdict(), Verdict::Unsure, "nothing is not intact");
/// assert_eq!(report.findings[0].kind, FindingKind::NothingToVerify);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// How many tenants.
    pub tenants: u64,
    /// How many chains.
    pub chains: u64,
    /// How many events; an event that is both in the journal and in a store counts once.
    pub events: u64,
    /// How many parts of content the events name.
    pub parts: u64,
    /// How many bytes of records.
    pub bytes: u64,
    /// Parts whose content was erased on request.
    pub erased: u64,
    /// Parts whose content was purged after its term.
    pub purged: u64,
    /// Parts whose content is encrypted, and was therefore not checked.
    pub sealed: u64,
    /// Signed checkpoints that the chains were held against.
    pub checkpoints_checked: u64,
    /// How many of the events a matching signed checkpoint covers.
    pub covered: u64,
    /// What was found, the most serious first.
    pub findings: Vec<Finding>,
    /// What the verdict rests on: that of the weakest chain.
    pub basis: Basis,
}

impl Report {
    /// Joins the reports of the chains of a log.
    #[must_use]
    pub fn from_chains(chains: impl IntoIterator<Item = ChainReport>) -> Self {
        Self::join(chains, Vec::new())
    }

    /// Joins the reports of chains with findings about the log as a whole.
    pub(crate) fn join(
        chains: impl IntoIterator<Item = ChainReport>,
        findings: Vec<Finding>,
    ) -> Self {
        let mut report = Self {
            tenants: 0,
            chains: 0,
            events: 0,
            parts: 0,
            bytes: 0,
            erased: 0,
            purged: 0,
            sealed: 0,
            checkpoints_checked: 0,
            covered: 0,
            findings,
            basis: Basis::ChainOnly,
        };
        let mut tenants: BTreeSet<TenantId> = BTreeSet::new();
        let mut weakest = None;
        for chain in chains {
            report.chains += 1;
            report.events += chain.events;
            report.parts += chain.parts;
            report.bytes += chain.bytes;
            report.erased += chain.erased;
            report.purged += chain.purged;
            report.sealed += chain.sealed;
            report.checkpoints_checked += chain.checkpoints_checked;
            report.covered += chain.covered;
            report.findings.extend(chain.findings);
            weakest = Some(weakest.map_or(chain.basis, |basis: Basis| basis.min(chain.basis)));
            tenants.insert(chain.chain.tenant_id);
        }
        report.tenants = u64::try_from(tenants.len()).unwrap_or(u64::MAX);
        report.basis = weakest.unwrap_or(Basis::ChainOnly);
        if report.events == 0 {
            report.findings.push(Finding::new(
                FindingKind::NothingToVerify,
                "nothing to verify: no record was found, and nothing says whether there should be",
            ));
        }
        report.findings.sort_by(|a, b| {
            let key = |f: &Finding| (f.severity, f.sequence, f.last_sequence, f.kind);
            a.severity
                .cmp(&b.severity)
                .then_with(|| a.chain.cmp(&b.chain))
                .then_with(|| key(a).cmp(&key(b)))
        });
        report
    }

    /// Whether the log is as it was written.
    ///
    /// A report without events is never [`Verdict::Intact`].
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let worst = self.findings.iter().map(|finding| finding.severity).min();
        match worst {
            Some(Severity::Tampering) => Verdict::Tampered,
            Some(Severity::Unsure) => Verdict::Unsure,
            _ if self.events == 0 => Verdict::Unsure,
            _ => Verdict::Intact,
        }
    }

    /// The exit code of a command that verifies: 0 intact, 1 tampered, 2 could not tell.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.verdict().exit_code()
    }
}
