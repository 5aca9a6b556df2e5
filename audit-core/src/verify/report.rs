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
                "rests, as far as they cover it, on signed checkpoints and on a key that were both \
                 found in the log itself: whoever can write to the log could have replaced both; \
                 give the key you trust"
            }
            Self::OwnCheckpoint => {
                "rests, as far as they cover it, on checkpoints found in the log, signed by a key \
                 that you trust: only the holder of the key could have rewritten what they cover; \
                 whoever can write to the log could have cut it behind an older checkpoint"
            }
            Self::SeparateCheckpoint => {
                "rests, as far as they cover it, on signed checkpoints kept apart from the log: \
                 nobody can have rewritten what they cover"
            }
        }
    }
}

/// How many records, from position 0, matching checkpoints of each basis cover.
///
/// A checkpoint counts for its own basis and for every weaker one.
///
/// ```
/// use agent_audit_core::verify::{Basis, Coverage};
/// let coverage = Coverage::default();
/// assert_eq!(coverage.of(Basis::SeparateCheckpoint), 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Coverage {
    /// Those of any signed checkpoint, whatever key was found beside the log.
    pub own_key: u64,
    /// Those of a checkpoint that a trusted key signed.
    pub own_checkpoint: u64,
    /// Those of a checkpoint that the caller keeps apart from the log.
    pub separate_checkpoint: u64,
}

impl Coverage {
    /// The records that checkpoints of this basis, or of a stronger one, cover.
    ///
    /// [`Basis::ChainOnly`] asks for any checkpoint.
    #[must_use]
    pub fn of(&self, basis: Basis) -> u64 {
        match basis {
            Basis::ChainOnly | Basis::OwnKey => self.own_key,
            Basis::OwnCheckpoint => self.own_checkpoint,
            Basis::SeparateCheckpoint => self.separate_checkpoint,
        }
    }

    /// The strongest basis that covers anything, and how much it covers.
    pub(super) fn strongest(&self) -> (Basis, u64) {
        [Basis::SeparateCheckpoint, Basis::OwnCheckpoint, Basis::OwnKey]
            .into_iter()
            .map(|basis| (basis, self.of(basis)))
            .find(|(_, covered)| *covered > 0)
            .unwrap_or((Basis::ChainOnly, 0))
    }

    /// A checkpoint of this basis fits the records up to this size.
    pub(super) fn reach(&mut self, basis: Basis, size: u64) {
        for (own, counter) in [
            (Basis::OwnKey, &mut self.own_key),
            (Basis::OwnCheckpoint, &mut self.own_checkpoint),
            (Basis::SeparateCheckpoint, &mut self.separate_checkpoint),
        ] {
            if own <= basis {
                *counter = size.max(*counter);
            }
        }
    }

    #[cfg(feature = "writer")]
    fn max(self, other: Self) -> Self {
        Self {
            own_key: self.own_key.max(other.own_key),
            own_checkpoint: self.own_checkpoint.max(other.own_checkpoint),
            separate_checkpoint: self.separate_checkpoint.max(other.separate_checkpoint),
        }
    }

    fn add(&mut self, other: Self) {
        self.own_key += other.own_key;
        self.own_checkpoint += other.own_checkpoint;
        self.separate_checkpoint += other.separate_checkpoint;
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
    /// Parts whose content is gone, and that name the event by which it was erased.
    pub erased: u64,
    /// Parts whose content is gone, and that name the event by which it was purged.
    pub purged: u64,
    /// Parts whose content is encrypted, and was therefore not checked.
    pub sealed: u64,
    /// Signed checkpoints that the chain was held against.
    pub checkpoints_checked: u64,
    /// Signed indexes that were recomputed from the records.
    pub indexes_checked: u64,
    /// How many records, from position 0, the largest matching checkpoint of the basis covers.
    pub covered: u64,
    /// How far the checkpoints of each basis reach.
    pub coverage: Coverage,
    /// What the verdict rests on: the strongest checkpoint that fits.
    pub basis: Basis,
    /// What was found.
    pub findings: Vec<Finding>,
    /// From where a later verification can go on; absent where the chain has a fault.
    pub state: Option<ChainState>,
}

impl ChainReport {
    /// Demands that checkpoints of this basis, or of a stronger one, cover the chain.
    ///
    /// A chain without one becomes a finding that the verifier could not tell
    /// ([`FindingKind::NotVouched`]), and records behind the last one a warning
    /// ([`FindingKind::UncoveredTail`]): a log at work always has some.
    ///
    /// ```
    /// use agent_audit_core::{chain::ChainRef, event::Event, event::chain::ChainOpened};
    /// use agent_audit_core::{id::WriterId, record::Record};
    /// use agent_audit_core::verify::{Basis, ChainVerifier, Checkpoints, FindingKind};
    /// let opened = Event::example(ChainOpened::new(WriterId::random(), "ed25519:…", "example"));
    /// let chain = ChainRef::new(opened.tenant_id.clone(), opened.chain_id.clone());
    /// let mut verifier = ChainVerifier::new(chain, Checkpoints::none());
    /// verifier.push(&Record::new(opened.canonical_bytes()?, Vec::new()).to_bytes());
    /// let report = verifier.finish().demanding(Basis::OwnCheckpoint);
    /// assert!(report.findings.iter().any(|finding| finding.kind == FindingKind::NotVouched));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn demanding(mut self, basis: Basis) -> Self {
        // Where the chain was tampered with, that says more than who vouched for it.
        let tampered = self.findings.iter().any(|f| f.severity == Severity::Tampering);
        if tampered || self.events == 0 || basis == Basis::ChainOnly {
            return self;
        }
        let covered = self.coverage.of(basis);
        if covered == 0 {
            let wanted = match basis {
                Basis::SeparateCheckpoint => "no checkpoint kept apart from the log",
                Basis::OwnCheckpoint => "no checkpoint signed by a key that you trust",
                _ => "no signed checkpoint",
            };
            let (other, reach) = self.coverage.strongest();
            let but = match other {
                Basis::ChainOnly => String::new(),
                Basis::OwnKey => {
                    format!(" (checkpoints under a key from the log reach to record {})", reach - 1)
                }
                _ => format!(" (checkpoints found in the log reach to record {})", reach - 1),
            };
            let detail = format!(
                "{wanted} covers any of its {} records{but}: it can have been written by anybody \
                 with the disk",
                self.events
            );
            let finding = Finding::new(FindingKind::NotVouched, detail);
            self.findings.push(finding.in_chain(&self.chain));
        } else if covered < self.events {
            let wanted = match basis {
                Basis::SeparateCheckpoint => "no checkpoint kept apart from the log covers",
                _ => "no checkpoint signed by a key that you trust covers",
            };
            let one = covered + 1 == self.events;
            let (come, them) = if one { ("comes", "it") } else { ("come", "them") };
            let detail = format!(
                "{come} behind the last checkpoint: {wanted} {them} yet, and anybody with the disk \
                 can have written {them}"
            );
            let finding = Finding::new(FindingKind::UncoveredTail, detail);
            self.findings.push(finding.in_chain(&self.chain).at(covered, self.events - 1));
        }
        self
    }

    /// Takes in what checkpoints cover of another copy.
    #[cfg(feature = "writer")]
    pub(super) fn cover(&mut self, other: Coverage) {
        self.coverage = self.coverage.max(other);
        (self.basis, self.covered) = self.coverage.strongest();
    }
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
    /// Parts whose content is gone, and that name the event by which it was erased.
    pub erased: u64,
    /// Parts whose content is gone, and that name the event by which it was purged.
    pub purged: u64,
    /// Parts whose content is encrypted, and was therefore not checked.
    pub sealed: u64,
    /// Signed checkpoints that the chains were held against.
    pub checkpoints_checked: u64,
    /// Signed indexes that were recomputed from the records.
    #[serde(default)]
    pub indexes_checked: u64,
    /// How many of the events a matching signed checkpoint of the basis, or of a stronger one,
    /// covers.
    pub covered: u64,
    /// How many of them checkpoints of each basis cover.
    #[serde(default)]
    pub coverage: Coverage,
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
            indexes_checked: 0,
            covered: 0,
            coverage: Coverage::default(),
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
            report.indexes_checked += chain.indexes_checked;
            report.coverage.add(chain.coverage);
            report.findings.extend(chain.findings);
            weakest = Some(weakest.map_or(chain.basis, |basis: Basis| basis.min(chain.basis)));
            tenants.insert(chain.chain.tenant_id);
        }
        report.tenants = u64::try_from(tenants.len()).unwrap_or(u64::MAX);
        report.basis = weakest.unwrap_or(Basis::ChainOnly);
        report.covered = report.coverage.of(report.basis);
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

    /// What the verdict is worth, of the records that checkpoints cover and of those behind them.
    ///
    /// ```
    /// use agent_audit_core::verify::{Basis, Report};
    /// let nothing = Report::from_chains([]);
    /// assert_eq!(nothing.explanation(), Basis::ChainOnly.explanation());
    /// ```
    #[must_use]
    pub fn explanation(&self) -> String {
        let basis = self.basis.explanation();
        match self.events.saturating_sub(self.covered) {
            0 => basis.to_owned(),
            _ if self.basis == Basis::ChainOnly => basis.to_owned(),
            1 => format!(
                "{basis}; the 1 record that they do not cover can have been written by anybody \
                 with the disk"
            ),
            behind => format!(
                "{basis}; the {behind} records that they do not cover can have been written by \
                 anybody with the disk"
            ),
        }
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
