//! The job: one run over all tenants.

use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use agent_audit_core::{
    event::integrity::VerifiedRange,
    hash,
    id::{EventId, SessionId, TenantId},
    key::{SigningKey, VerifyingKey},
    log::Clock,
    timestamp::Timestamp,
    verify::{Finding, FindingKind, Verdict},
};

use super::{
    Alert, AlertMessage, AlertOutcome, FindingCounts, Outcome, ReportCounts, ReportedTenant,
    WatchBuilder, WatchError, WatchReport,
    chain::{Against, Counts},
    docket::Docket,
    index::Index,
    known::Places,
    memory::Seal,
    outcome::Latest,
    record::Recorder,
    report,
    runs::Runs,
    tenant::Check,
    writers::Writers,
};
use crate::{EventStore, QueryError, QueryErrorKind};

/// How many ranges the recorded event names; the report's checkpoints cover all of them.
const RANGES: usize = 1_000;

/// The integrity job. Run it on a schedule; see the [module](super) for what it does.
///
/// It is one process's own for as long as it lives.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use agent_audit_core::{event::Other, log::AuditLog, memory::MemorySink};
/// use agent_audit_query::{integrity::Watch, scan::Scanned};
///
/// let sink = MemorySink::new();
/// let log = AuditLog::builder(dir.path().join("log")).with_sink(sink.clone()).open()?;
/// let session = log.session("acme", "s-1", "support-agent")?;
/// session.record_blocking(Other::custom("note")?)?;
/// log.close_blocking(std::time::Duration::from_secs(5))?;
///
/// # pollster::block_on(async {
/// let store = Arc::new(Scanned::new("memory", sink.clone()));
/// let mut watch = Watch::builder(dir.path().join("integrity")).with_store(store).open()?;
/// assert_eq!(watch.run().await?.exit_code(), 0);
///
/// let chain = sink.chains().remove(0);
/// sink.tamper().truncate(&chain, 2);
/// let outcome = watch.run().await?;
/// assert_eq!(outcome.exit_code(), 1);
/// assert_eq!(outcome.report.findings[0].kind.as_str(), "truncated");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Watch {
    pub(super) name: SessionId,
    pub(super) stores: Vec<Arc<dyn EventStore>>,
    pub(super) tenants: Vec<TenantId>,
    pub(super) places: Places,
    pub(super) key: SigningKey,
    pub(super) keys: Vec<VerifyingKey>,
    pub(super) writers: Vec<PathBuf>,
    pub(super) writer_keys: Vec<VerifyingKey>,
    pub(super) grace: u64,
    pub(super) whole_every: u64,
    pub(super) share: u64,
    pub(super) recorder: Option<Recorder>,
    pub(super) alerts: Vec<Arc<dyn Alert>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) latest: Arc<Mutex<Latest>>,
    /// Held for as long as the job lives.
    #[expect(dead_code, reason = "the lock goes when the file is closed")]
    pub(super) lock: File,
}

/// What a run gathers over the tenants.
#[derive(Debug, Default)]
struct Gathered {
    counts: ReportCounts,
    tenants: Vec<ReportedTenant>,
    ranges: Vec<VerifiedRange>,
}

impl Watch {
    /// Puts a job together that keeps its state in a directory.
    pub fn builder(dir: impl AsRef<Path>) -> WatchBuilder {
        WatchBuilder::new(dir.as_ref())
    }

    /// The name of the job.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The key that checkpoints and reports are verified with. Hand it to auditors by another way
    /// than the job's directory.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    #[cfg(feature = "opentelemetry")]
    pub(super) fn latest(&self) -> (String, std::sync::Weak<Mutex<Latest>>) {
        (self.name.to_string(), Arc::downgrade(&self.latest))
    }

    /// Runs once: verifies, signs a checkpoint of each tenant, reports, records, and alerts.
    ///
    /// Reads files and verifies on the thread that polls it; give it a thread of its own where others
    /// wait. Memory is bounded by the number of chains of one tenant and of tenants, not of records.
    ///
    /// # Errors
    /// [`WatchError`] where the job's own directory cannot be used; who is to be alerted has been.
    /// What is found in the stores, and a store that does not answer, is no error but in the report.
    ///
    /// # Cancel safety
    /// A run that is dropped, or whose process dies, leaves whole files; the next one completes.
    pub async fn run(&mut self) -> Result<Outcome, WatchError> {
        let started_at = self.clock.now();
        let result = self.run_once(started_at, Instant::now()).await;
        if let Err(error) = &result {
            let message = AlertMessage::of_failure(self.name.as_str(), started_at, error);
            let alerts = self.alert(&message).await;
            let failed = alerts.iter().filter(|alert| !alert.delivered).count();
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.verdict = Some(Verdict::Unsure);
            latest.started_at = Some(started_at);
            latest.unreported += 1 + u64::try_from(failed).unwrap_or(0);
        }
        result
    }

    async fn run_once(&self, now: Timestamp, begun: Instant) -> Result<Outcome, WatchError> {
        let seal = Seal { key: &self.key, keys: &self.keys };
        let mut docket = Docket::default();
        let state = self.places.state.clone();
        let recorder = self.recorder.as_ref();
        let mut runs = Runs::open(state, &seal, recorder, &self.name, self.grace, now).await?;
        docket.extend(std::mem::take(&mut runs.findings));
        docket.extend(clock_went_back(&runs, now));
        self.record_late(&mut runs, now, &mut docket).await?;
        let number = runs.next();
        let whole = runs.untrusted || number.is_multiple_of(self.whole_every);
        let gathered = self.check(&runs, &seal, now, whole, &mut docket).await?;
        let mut report = self.report(&runs, gathered.counts, now, whole);
        if report.counts.events == 0 && docket.counts() == FindingCounts::default() {
            docket.add(Finding::new(
                FindingKind::NothingToVerify,
                "nothing to verify: no record was found, and nothing says whether there should be",
            ));
        }
        (report.findings_total, report.tenants) = (docket.counts(), gathered.tenants);
        report.findings = docket.into_findings();
        report.verdict = report.findings_total.verdict();
        if report.verdict != Verdict::Intact {
            report.alerts = self.alert(&AlertMessage::of(&report)).await;
            for alert in report.alerts.iter().filter(|alert| !alert.delivered) {
                let why = alert.error.as_deref().unwrap_or("no reason was given");
                let detail = format!("{} was not told of this run: {why}", alert.name);
                report.findings_total.warning += 1;
                report.findings.push(Finding::new(FindingKind::Unreported, detail));
            }
        }
        report.duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let signed = runs.append(&report, &seal)?;
        let recorded = match recorder {
            None => None,
            Some(recorder) => {
                let event = recorder.record(&self.name, &report, &signed, gathered.ranges).await;
                if event.is_ok() {
                    runs.recorded(number, now)?;
                }
                Some(event)
            }
        };
        self.show(&report, &recorded);
        Ok(Outcome { report, signed, recorded })
    }

    /// Records a run that was signed, and not recorded before its process died or its log failed.
    async fn record_late(
        &self,
        runs: &mut Runs,
        now: Timestamp,
        docket: &mut Docket,
    ) -> Result<(), WatchError> {
        let (Some(signed), Some(recorder)) = (runs.unrecorded.take(), &self.recorder) else {
            return Ok(());
        };
        let Ok(report) = signed.verify(&self.keys) else { return Ok(()) };
        let result = recorder.record(&self.name, &report, &signed, Vec::new()).await;
        let how = match &result {
            Ok(_) => "is now".to_owned(),
            Err(error) => format!("cannot be now: {error}"),
        };
        let detail = format!("run {} had not been recorded, and {how}", report.run);
        docket.add(Finding::new(FindingKind::Unreported, detail));
        match result {
            Ok(_) => runs.recorded(report.run, now),
            Err(_) => Ok(()),
        }
    }

    /// Checks all tenants.
    async fn check(
        &self,
        runs: &Runs,
        seal: &Seal<'_>,
        now: Timestamp,
        whole: bool,
        docket: &mut Docket,
    ) -> Result<Gathered, WatchError> {
        let mut findings = Vec::new();
        let mut index = Index::load(&self.places, &mut findings)?;
        let writers = self.read_writers(&mut findings);
        docket.extend(findings);
        let against = Against { key: &self.key, writers: writers.as_ref(), now, grace: self.grace };
        let mut tenants: BTreeSet<TenantId> = self.tenants.iter().cloned().collect();
        for store in &self.stores {
            match store.tenants().await {
                Ok(listed) => tenants.extend(listed),
                Err(error) if !self.tenants.is_empty() && is_refused(&error) => {}
                Err(error) => docket.add(unlisted(&**store, &error)),
            }
        }
        // The record of the runs is a tenant like another one, in a store of its own.
        let recorder = self.recorder.as_ref().filter(|own| !tenants.contains(&own.tenant));
        let record = recorder.and_then(|own| Some((own.tenant.clone(), vec![own.store.clone()?])));
        tenants.extend(index.tenants().cloned());
        tenants.extend(runs.reported.keys().cloned());
        tenants.retain(|tenant| recorder.is_none_or(|own| own.tenant != *tenant));
        let number = runs.next();
        let turn = |id: &str| {
            let mark = hash::leaf(format!("{} {id}", runs.origin()).as_bytes());
            let (first, _) = mark.as_bytes().split_first_chunk::<8>().expect("a hash has 32 bytes");
            (u64::from_le_bytes(*first) % self.share) == number % self.share
        };
        let mut gathered = Gathered::default();
        // Its checkpoints are not among those of the writers.
        let own = Against { writers: None, ..against };
        let watched = tenants.into_iter().map(|tenant| (tenant, self.stores.clone(), &against));
        let record = record.map(|(tenant, stores)| (tenant, stores, &own));
        for (tenant, stores, against) in watched.chain(record) {
            let check = Check {
                places: &self.places,
                seal,
                against,
                tenant: &tenant,
                stores: &stores,
                id: index.id(&tenant),
                reported: runs.reported.get(&tenant),
                whole,
                turn: &turn,
                ranges: RANGES.saturating_sub(gathered.ranges.len()),
            };
            let checked = check.run(docket).await?;
            index.set(&tenant, &checked.origin);
            let counts = &mut gathered.counts;
            counts.tenants += 1;
            counts.chains += checked.chains;
            counts.events += checked.events;
            counts.chains_from_beginning += checked.whole;
            add(counts, checked.counts);
            gathered.tenants.extend(checked.reported);
            gathered.ranges.extend(checked.ranges);
        }
        index.save()?;
        Ok(gathered)
    }

    fn read_writers(&self, findings: &mut Vec<Finding>) -> Option<Writers> {
        if self.writers.is_empty() {
            return None;
        }
        match Writers::read(&self.writers, &self.writer_keys) {
            Ok(mut writers) => {
                findings.append(&mut writers.findings);
                Some(writers)
            }
            Err(error) => {
                let detail = format!("the writers' checkpoints could not be read: {error}");
                findings.push(Finding::new(FindingKind::StoreUnreadable, detail));
                None
            }
        }
    }

    fn report(
        &self,
        runs: &Runs,
        counts: ReportCounts,
        now: Timestamp,
        whole: bool,
    ) -> WatchReport {
        WatchReport {
            format: report::FORMAT,
            name: self.name.to_string(),
            origin: runs.origin().to_owned(),
            run: runs.next(),
            started_at: now,
            duration_us: 0,
            verifier: concat!("agent-audit ", env!("CARGO_PKG_VERSION")).to_owned(),
            verdict: Verdict::Unsure,
            whole,
            stores: self.stores.iter().map(|store| store.name().to_owned()).collect(),
            counts,
            findings_total: FindingCounts::default(),
            findings: Vec::new(),
            alerts: Vec::new(),
            tenants: Vec::new(),
        }
    }

    async fn alert(&self, message: &AlertMessage) -> Vec<AlertOutcome> {
        let mut outcomes = Vec::new();
        for alert in &self.alerts {
            outcomes.push(AlertOutcome::of(&**alert, message).await);
        }
        outcomes
    }

    fn show(&self, report: &WatchReport, recorded: &Option<Result<EventId, WatchError>>) {
        let alerts = report.alerts.iter().filter(|alert| !alert.delivered).count();
        let unrecorded = matches!(recorded, Some(Err(_)));
        if let Some(Err(error)) = recorded {
            tracing::error!(run = report.run, %error, "an integrity run could not be recorded");
        }
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.verdict = Some(report.verdict);
        latest.started_at = Some(report.started_at);
        latest.duration = Duration::from_micros(report.duration_us);
        latest.findings = report.findings_total;
        latest.counts = report.counts;
        latest.runs += 1;
        latest.read += report.counts.records_read;
        latest.unreported += u64::try_from(alerts).unwrap_or(0) + u64::from(unrecorded);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("name", &self.name)
            .field("dir", &self.places.state)
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

fn add(counts: &mut ReportCounts, read: Counts) {
    counts.records_read += read.records;
    counts.bytes_read += read.bytes;
    counts.parts += read.parts;
    counts.erased += read.erased;
    counts.purged += read.purged;
    counts.sealed += read.sealed;
    counts.checkpoints_checked += read.checkpoints;
}

/// The job's own clock: what was signed last must not lie ahead.
fn clock_went_back(runs: &Runs, now: Timestamp) -> Option<Finding> {
    let last = runs.reported.values().map(|tenant| tenant.state.at).max()?;
    let detail = format!(
        "the clock of the job went back: it is {now}, and checkpoints were signed on {last}; how long \
         a store has lagged is not known then"
    );
    (now < last).then(|| Finding::new(FindingKind::ClockRegression, detail))
}

/// Whether the store does not let this reader list tenants, so that the caller names them.
fn is_refused(error: &QueryError) -> bool {
    matches!(error.kind(), QueryErrorKind::PermissionDenied | QueryErrorKind::Unsupported)
}

fn unlisted(store: &dyn EventStore, error: &QueryError) -> Finding {
    let detail = format!(
        "the store does not say which tenants there are: {error}; make it readable, or name the \
         tenants, and run again"
    );
    Finding::new(FindingKind::StoreUnreadable, detail).in_place(store.name())
}
