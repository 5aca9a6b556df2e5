//! What a run comes to.

use std::time::Duration;

use agent_audit_core::{id::EventId, timestamp::Timestamp, verify::Verdict};

use super::{FindingCounts, ReportCounts, SignedReport, WatchError, WatchReport};

/// What metrics show.
#[derive(Debug, Clone, Default)]
pub(super) struct Latest {
    pub(super) verdict: Option<Verdict>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) duration: Duration,
    pub(super) findings: FindingCounts,
    pub(super) counts: ReportCounts,
    pub(super) runs: u64,
    pub(super) read: u64,
    pub(super) unreported: u64,
}

/// What a run comes to.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use agent_audit_core::memory::MemorySink;
/// use agent_audit_query::{integrity::Watch, scan::Scanned};
/// # pollster::block_on(async {
/// let store = Arc::new(Scanned::new("memory", MemorySink::new()));
/// let mut watch = Watch::builder(dir.path()).with_store(store).open()?;
/// let outcome = watch.run().await?;
/// assert_eq!(outcome.exit_code(), 2, "there was nothing to verify");
/// assert!(outcome.recorded.is_none(), "no log was given to record the run in");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// The report.
    pub report: WatchReport,
    /// The report with its signature.
    pub signed: SignedReport,
    /// The event that records the run, or why it could not be recorded; absent where no log was
    /// given.
    pub recorded: Option<Result<EventId, WatchError>>,
}

impl Outcome {
    /// The exit code: 0 intact, 1 tampering found, 2 could not tell, or told nobody.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.report.verdict, &self.recorded) {
            (Verdict::Intact, Some(Err(_))) => Verdict::Unsure.exit_code(),
            (verdict, _) => verdict.exit_code(),
        }
    }
}
