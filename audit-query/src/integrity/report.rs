//! What a run reports: for a machine, for a person, and under a signature.

use std::fmt;

use agent_audit_core::{
    canonical,
    checkpoint::SignedCheckpoint,
    hash::{self, Hash},
    key::VerifyingKey,
    timeline::visible,
    timestamp::Timestamp,
    tree::{CompactRange, InclusionProof},
    verify::{Finding, Severity, Verdict},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{AlertOutcome, FindingCounts, TenantState};

/// The version of the form of a report.
pub(super) const FORMAT: u32 = 1;
/// How the origins of jobs begin.
pub(super) const ORIGIN: &str = "agent-audit/integrity/";

/// What a run read, and what there is.
///
/// ```
/// use agent_audit_query::integrity::ReportCounts;
/// assert_eq!(ReportCounts::default().tenants, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReportCounts {
    /// How many tenants there are.
    pub tenants: u64,
    /// How many chains of them have been verified, in this run or an earlier one.
    pub chains: u64,
    /// How many records these have.
    pub events: u64,
    /// How many chains were read from the beginning in this run.
    pub chains_from_beginning: u64,
    /// How many records were read in this run, those of each store.
    pub records_read: u64,
    /// How many bytes these have.
    pub bytes_read: u64,
    /// How many parts of content they name.
    pub parts: u64,
    /// Parts that are gone, by an erasure.
    pub erased: u64,
    /// Parts that are gone, at the end of their term.
    pub purged: u64,
    /// Parts that are encrypted, and were therefore not checked.
    pub sealed: u64,
    /// Signed checkpoints that chains were held against.
    pub checkpoints_checked: u64,
}

/// A tenant in a report: its newest checkpoint, and the state that it commits to.
///
/// ```
/// use agent_audit_core::{id::TenantId, timestamp::Timestamp};
/// use agent_audit_query::integrity::{ReportedTenant, TenantState};
/// let state = TenantState::new(TenantId::new("acme")?, "agent-audit/tenant/7c6f", Timestamp::now());
/// assert_eq!(ReportedTenant::new("note", state).note, "note");
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReportedTenant {
    /// The checkpoint, a C2SP signed note.
    pub note: String,
    /// The state.
    pub state: TenantState,
}

impl ReportedTenant {
    /// A state and the checkpoint that commits to it.
    #[must_use]
    pub fn new(note: impl Into<String>, state: TenantState) -> Self {
        Self { note: note.into(), state }
    }
}

/// What a run found. `Display` says it to a person.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use agent_audit_core::{memory::MemorySink, verify::Verdict};
/// use agent_audit_query::{integrity::Watch, scan::Scanned};
/// # pollster::block_on(async {
/// let store = Arc::new(Scanned::new("memory", MemorySink::new()));
/// let mut watch = Watch::builder(dir.path()).with_store(store).open()?;
/// let report = watch.run().await?.report;
/// assert_eq!(report.verdict, Verdict::Unsure, "nothing is not intact");
/// assert!(report.to_string().contains("could not tell"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WatchReport {
    /// The version of this form, 1.
    pub format: u32,
    /// The name of the job.
    pub name: String,
    /// The origin of its checkpoints.
    pub origin: String,
    /// The number of the run, from 0.
    pub run: u64,
    /// When the run began, by the job's clock.
    pub started_at: Timestamp,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The program and version.
    pub verifier: String,
    /// The answer.
    pub verdict: Verdict,
    /// Whether every chain was read from the beginning.
    pub whole: bool,
    /// The stores by name.
    pub stores: Vec<String>,
    /// What was read.
    pub counts: ReportCounts,
    /// How many findings there are.
    pub findings_total: FindingCounts,
    /// The findings, the most serious first, as far as they are listed.
    pub findings: Vec<Finding>,
    /// Who was alerted.
    pub alerts: Vec<AlertOutcome>,
    /// The newest checkpoint of each tenant, and what it commits to.
    pub tenants: Vec<ReportedTenant>,
}

impl fmt::Display for WatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Intact => "intact",
            Verdict::Tampered => "TAMPERED WITH",
            Verdict::Unsure => "could not tell",
        };
        writeln!(f, "integrity of {}: {verdict}", self.stores.join(", "))?;
        writeln!(
            f,
            "run {} of {} on {}, by {}",
            self.run, self.name, self.started_at, self.verifier
        )?;
        let ReportCounts { tenants, chains, events, .. } = self.counts;
        writeln!(
            f,
            "{}, {}, {}",
            counted(tenants, "tenant"),
            counted(chains, "chain"),
            counted(events, "record")
        )?;
        let from = match self.whole {
            true => "all chains from the beginning".to_owned(),
            false => format!(
                "{} from the beginning, the others from where the run before ended",
                counted(self.counts.chains_from_beginning, "chain")
            ),
        };
        let read = counted(self.counts.records_read, "record");
        writeln!(f, "read {read}, {} bytes: {from}", self.counts.bytes_read)?;
        let ReportCounts { erased, purged, sealed, .. } = self.counts;
        if erased + purged + sealed > 0 {
            writeln!(
                f,
                "content: {} erased, {purged} purged, {sealed} sealed and not checked",
                counted(erased, "part")
            )?;
        }
        let mut before = None;
        for finding in &self.findings {
            if before.replace(finding.severity) != Some(finding.severity) {
                let (title, count) = match finding.severity {
                    Severity::Tampering => ("tampering", self.findings_total.tampering),
                    Severity::Unsure => ("could not tell", self.findings_total.unsure),
                    Severity::Warning => ("to be looked at", self.findings_total.warning),
                    Severity::State => ("no fault", self.findings_total.state),
                };
                writeln!(f, "\n{title}: {count}")?;
            }
            writeln!(f, "  {}: {}", finding.kind, visible(&finding.to_string()))?;
        }
        for alert in self.alerts.iter().filter(|alert| !alert.delivered) {
            writeln!(f, "\nalert {} was not delivered", visible(&alert.name))?;
        }
        Ok(())
    }
}

/// One run in the job's own log of states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunState {
    pub(super) at: Timestamp,
    pub(super) format: u32,
    pub(super) number: u64,
    pub(super) origin: String,
    pub(super) previous: Hash,
    /// SHA-256 of the report.
    pub(super) report: Hash,
    pub(super) verdict: Verdict,
}

impl RunState {
    pub(super) fn canonical_bytes(&self) -> Vec<u8> {
        canonical::to_vec(self).expect("a run holds texts and counts below 2^53")
    }
}

/// A count and what is counted.
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// SHA-256, as of a file.
pub(super) fn digest(bytes: &[u8]) -> Hash {
    Hash::from_bytes(Sha256::digest(bytes).into())
}

/// A report with everything it takes to believe it: one JSON object, to be kept as a file.
///
/// `report` is the report, `run` the state of the job's own log that names the report's SHA-256,
/// `proof` the proof that it is the last leaf of that log, and `note` the signed checkpoint of the log.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use agent_audit_core::memory::MemorySink;
/// use agent_audit_query::{integrity::{SignedReport, Watch}, scan::Scanned};
/// # pollster::block_on(async {
/// let store = Arc::new(Scanned::new("memory", MemorySink::new()));
/// let mut watch = Watch::builder(dir.path()).with_store(store).open()?;
/// let outcome = watch.run().await?;
/// let signed = SignedReport::from_slice(&outcome.signed.to_bytes())?;
/// assert_eq!(signed.verify(&[watch.verifying_key()])?, outcome.report);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignedReport {
    pub(super) note: String,
    pub(super) proof: InclusionProof,
    pub(super) report: Box<RawValue>,
    pub(super) run: Box<RawValue>,
}

impl SignedReport {
    /// Puts together what belongs together; `before` is the job's log before this run.
    pub(super) fn new(
        note: String,
        before: &CompactRange,
        report: Box<RawValue>,
        run: Box<RawValue>,
    ) -> Self {
        // The siblings of the last leaf are the complete subtrees before it, the nearest first.
        let hashes = before.hashes().iter().rev().copied().collect();
        let proof =
            InclusionProof { leaf_index: before.size(), tree_size: before.size() + 1, hashes };
        Self { note, proof, report, run }
    }

    /// The JSON form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a report has a JSON form")
    }

    /// Reads the JSON form; nothing of it is believed yet.
    ///
    /// # Errors
    /// [`InvalidReport`] where it is no such object.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidReport> {
        serde_json::from_slice(bytes).map_err(|error| InvalidReport(error.to_string()))
    }

    /// The report's own bytes.
    #[must_use]
    pub fn report_bytes(&self) -> &[u8] {
        self.report.get().as_bytes()
    }

    /// The signed checkpoint of the job's log, whose last leaf is this run.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Checks the signature, by one of these keys, and that it covers the report.
    ///
    /// # Errors
    /// [`InvalidReport`] where it does not.
    pub fn verify(&self, keys: &[VerifyingKey]) -> Result<WatchReport, InvalidReport> {
        let (run, _) = self.run(keys)?;
        if digest(self.report_bytes()) != run.report {
            return Err(InvalidReport("the report was changed after it was signed".to_owned()));
        }
        let report: WatchReport = serde_json::from_str(self.report.get())
            .map_err(|error| InvalidReport(format!("it cannot be read: {error}")))?;
        match report.format {
            FORMAT => Ok(report),
            other => Err(InvalidReport(format!(
                "format {other} is unknown, this program reads {FORMAT}"
            ))),
        }
    }

    /// The run that the checkpoint covers.
    pub(super) fn run(
        &self,
        keys: &[VerifyingKey],
    ) -> Result<(RunState, SignedCheckpoint), InvalidReport> {
        let fail = |error: &dyn fmt::Display| InvalidReport(error.to_string());
        let signed = SignedCheckpoint::parse(&self.note).map_err(|error| fail(&error))?;
        let run: RunState = serde_json::from_str(self.run.get()).map_err(|error| fail(&error))?;
        if !run.origin.starts_with(ORIGIN) {
            return Err(InvalidReport("it is signed as something else".to_owned()));
        }
        let checkpoint = signed.verify(&run.origin, keys).map_err(|error| fail(&error))?;
        let place = (self.proof.leaf_index, self.proof.tree_size);
        if place != (run.number, checkpoint.size) || run.number + 1 != checkpoint.size {
            return Err(InvalidReport("its proof is of another run".to_owned()));
        }
        let leaf = hash::leaf(self.run.get().as_bytes());
        self.proof.verify(&leaf, &checkpoint.root).map_err(|error| fail(&error))?;
        Ok((run, signed))
    }
}

/// A report that cannot be believed.
///
/// ```
/// use agent_audit_query::integrity::SignedReport;
/// let error = SignedReport::from_slice(b"{}").unwrap_err();
/// assert!(error.to_string().starts_with("not a signed report"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a signed report of an integrity job: {0}")]
pub struct InvalidReport(String);

impl InvalidReport {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}
