//! The job's own record: each run is an event in a log of its own, in another store.

use std::sync::Arc;

use agent_audit_core::{
    checkpoint::SignedCheckpoint,
    content::Part,
    event::{
        Payload,
        integrity::{FindingSummary, IntegrityFailed, IntegrityVerified, VerifiedRange},
    },
    id::{AgentId, EventId, SessionId, TenantId},
    log::{AuditLog, Draft},
    verify::{Finding, Severity, Verdict},
};

use super::{SignedReport, WatchError, WatchReport};
use crate::{EventStore, Filter, Found, Order, QueryError, Select};

/// How many findings the event itself names; the report has them all.
const NAMED: usize = 100;

/// Where the runs are recorded, and where that can be read.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) log: AuditLog,
    pub(super) tenant: TenantId,
    pub(super) store: Option<Arc<dyn EventStore>>,
}

/// The last run that is recorded.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) event_id: EventId,
    pub(super) note: SignedCheckpoint,
}

impl Recorded {
    pub(super) fn origin(&self) -> &str {
        &self.note.unverified().origin
    }

    /// The number of the run.
    pub(super) fn number(&self) -> u64 {
        self.note.unverified().size.saturating_sub(1)
    }
}

impl Recorder {
    /// Records a run.
    pub(super) async fn record(
        &self,
        name: &SessionId,
        report: &WatchReport,
        signed: &SignedReport,
        ranges: Vec<VerifiedRange>,
    ) -> Result<EventId, WatchError> {
        let failed = |error: &dyn std::fmt::Display| {
            WatchError::damaged(format!("the run could not be recorded: {error}"))
        };
        let session = self
            .log
            .session(&self.tenant, name, AgentId::system())
            .map_err(|error| failed(&error))?;
        let proof = Part::json("proof", &signed.proof).map_err(|error| failed(&error))?;
        let draft = Draft::new(payload(report, signed, ranges))
            .with_part(Part::new("report", "application/json", signed.report_bytes()))
            .with_part(Part::new("run", "application/json", signed.run.get().as_bytes()))
            .with_part(proof);
        let receipt =
            session.record(draft).await.map_err(|error| failed(&error).with_source(error))?;
        Ok(receipt.event_id)
    }

    /// The last run of a job in each chain that the store has; none without a store.
    ///
    /// By position: a clock that was set back hides nothing.
    pub(super) async fn last(&self, name: &SessionId) -> Result<Vec<Recorded>, QueryError> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let mut last = Vec::new();
        for chain in store.chains(&self.tenant).await? {
            let filter = Filter::new().chain(chain).family("integrity.").session(name.clone());
            let select = Select::new(filter, Order::Chain, 1).descending();
            let found = store.select(&self.tenant, &select).await?;
            last.extend(found.first().filter(|found| self.is_own(found)).and_then(recorded));
        }
        Ok(last)
    }

    fn is_own(&self, found: &Found) -> bool {
        found.tenant_id() == self.tenant.as_str() && found.event_type().starts_with("integrity.")
    }

    /// The report of a run that is recorded; none where its content is gone.
    pub(super) async fn report(&self, last: &Recorded) -> Result<Option<SignedReport>, QueryError> {
        let Some(store) = &self.store else { return Ok(None) };
        let filter = Filter::new().event(last.event_id);
        let select = Select::new(filter, Order::Time, 1).content();
        let found = store.select(&self.tenant, &select).await?;
        let Some(found) = found.first().filter(|found| self.is_own(found)) else { return Ok(None) };
        let part = |name: &str| {
            let text = std::str::from_utf8(found.record().content(name)?).ok()?;
            serde_json::value::RawValue::from_string(text.to_owned()).ok()
        };
        let proof = part("proof").and_then(|proof| serde_json::from_str(proof.get()).ok());
        let (Some(report), Some(run), Some(proof)) = (part("report"), part("run"), proof) else {
            return Ok(None);
        };
        Ok(Some(SignedReport { note: last.note.to_string(), proof, report, run }))
    }
}

fn recorded(found: &Found) -> Option<Recorded> {
    let note = match found.event().ok()?.payload {
        Payload::IntegrityVerified(run) => run.checkpoint?,
        Payload::IntegrityFailed(run) => run.checkpoint?,
        _ => return None,
    };
    let note = SignedCheckpoint::parse(&note).ok()?;
    Some(Recorded { event_id: found.event_id(), note })
}

fn payload(report: &WatchReport, signed: &SignedReport, ranges: Vec<VerifiedRange>) -> Payload {
    let (events, chains) = (report.counts.records_read, report.counts.chains);
    let checkpoint = signed.note.clone();
    if report.verdict == Verdict::Intact {
        return IntegrityVerified::new(report.verifier.clone(), events, chains)
            .with_started_at(report.started_at)
            .with_duration_us(report.duration_us)
            .with_checkpoint(checkpoint)
            .with_ranges(ranges)
            .into();
    }
    let counted = report.findings_total.tampering + report.findings_total.unsure;
    let named = report.findings.iter().filter(|finding| finding.severity <= Severity::Unsure);
    IntegrityFailed::new(report.verifier.clone(), events, chains)
        .with_started_at(report.started_at)
        .with_duration_us(report.duration_us)
        .with_checkpoint(checkpoint)
        .with_findings_total(counted)
        .with_ranges(ranges)
        .with_findings(named.take(NAMED).map(summary))
        .into()
}

fn summary(finding: &Finding) -> FindingSummary {
    let mut summary = FindingSummary::new(finding.kind.as_str());
    summary.chain_id = finding.chain.as_ref().map(|chain| chain.chain_id.clone());
    summary.sequence = finding.sequence;
    summary.event_id = finding.event_id;
    summary
}
