//! The job's own log of runs, the reports beside it, and what is recorded of them elsewhere.
//!
//! ```text
//! STATE/runs.ndjson                       the log: one state a run, each under a signed checkpoint
//! STATE/run.json                          how far it has come, and what of it is recorded
//! STATE/reports/<id>-<number>.json .txt   the signed report of each run, and the same to be read
//! ```

use std::{collections::BTreeMap, path::PathBuf};

use agent_audit_core::{
    hash,
    id::{ChainId, SessionId, TenantId},
    timestamp::Timestamp,
    tree::CompactRange,
    verify::{Finding, FindingKind},
};
use serde::{Deserialize, Serialize};

use super::{
    ReportedTenant, SignedReport, WatchError, WatchReport, disk,
    log::{Follows, Header, Opened, StateLog, Tail},
    memory::Seal,
    record::Recorder,
    report::{InvalidReport, ORIGIN, RunState},
};

/// What a finding about this says as its place.
pub(super) const PLACE: &str = "the job's own state";
const FORMAT: u32 = 1;

/// How far the log of runs has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    format: u32,
    origin: String,
    tail: Tail,
    /// The number of the last run that is recorded in the other store, and when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<(u64, Timestamp)>,
}

/// The log of runs, opened for one more.
#[derive(Debug)]
pub(super) struct Runs {
    dir: PathBuf,
    pub(super) log: StateLog,
    pub(super) tail: Tail,
    pub(super) recorded: Option<(u64, Timestamp)>,
    /// A report that was signed and not recorded.
    pub(super) unrecorded: Option<SignedReport>,
    /// What the last report says of each tenant.
    pub(super) reported: BTreeMap<TenantId, ReportedTenant>,
    pub(super) findings: Vec<Finding>,
    /// Whether what the job kept is not what it wrote, so that nothing of it is relied on.
    pub(super) untrusted: bool,
}

impl Runs {
    /// Opens the log, and holds it against what is recorded of it elsewhere.
    pub(super) async fn open(
        dir: PathBuf,
        seal: &Seal<'_>,
        recorder: Option<&Recorder>,
        name: &SessionId,
        grace: u64,
        now: Timestamp,
    ) -> Result<Self, WatchError> {
        let mut runs = Self::open_log(dir, seal)?;
        let own = runs.read_last(seal)?;
        runs.reported = tenants(own.as_ref().map(|(_, report)| report));
        if let (Some((signed, report)), Some(_)) = (&own, recorder)
            && runs.recorded.is_none_or(|(number, _)| number < report.run)
        {
            runs.unrecorded = Some(signed.clone());
        }
        let Some(recorder) = recorder else { return Ok(runs) };
        match recorder.last(name).await {
            Ok(last) => runs.compare(&last, seal, recorder, grace, now).await?,
            Err(error) => {
                let detail = format!(
                    "what is recorded of earlier runs could not be read: {error}; make it readable \
                     and run again"
                );
                let finding = Finding::new(FindingKind::StoreUnreadable, detail);
                runs.findings.push(finding.in_place(runs.record_place(recorder)));
            }
        }
        Ok(runs)
    }

    pub(super) fn record_place(&self, recorder: &Recorder) -> String {
        recorder.store.as_ref().map_or_else(String::new, |store| store.name().to_owned())
    }

    fn open_log(dir: PathBuf, seal: &Seal<'_>) -> Result<Self, WatchError> {
        let path = dir.join("runs.ndjson");
        let mut findings = Vec::new();
        let mut untrusted = false;
        let progress = Self::progress(&dir, &mut findings)?;
        let log = match StateLog::open(path.clone())? {
            Opened::Log(log) => Some(log),
            Opened::Missing if progress.is_none() => None,
            Opened::Missing => {
                findings.push(rolled_back(format!("`{}` is gone", path.display())));
                untrusted = true;
                None
            }
            Opened::Damaged(what) => {
                findings.push(rolled_back(what));
                untrusted = true;
                None
            }
        };
        let (mut follows, mut recorded) =
            (None, progress.as_ref().and_then(|known| known.recorded));
        if let Some(progress) = &progress {
            follows = follow_up(&progress.tail, &progress.origin);
        }
        let opened = match log {
            None => None,
            Some(log) => match Self::catch_up(&log, progress.as_ref(), seal)? {
                Ok(tail) => Some((log, tail)),
                Err(what) => {
                    findings.push(rolled_back(what));
                    untrusted = true;
                    None
                }
            },
        };
        let (log, tail) = match opened {
            Some(opened) => opened,
            None => {
                recorded = None;
                if path.exists() {
                    keep_aside(&path)?;
                }
                let log = begin(path, follows)?;
                let tail = log.beginning();
                (log, tail)
            }
        };
        let reported = BTreeMap::new();
        Ok(Self { dir, log, tail, recorded, unrecorded: None, reported, findings, untrusted })
    }

    fn progress(
        dir: &std::path::Path,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Progress>, WatchError> {
        let path = dir.join("run.json");
        let Some(bytes) = disk::read(&path)? else { return Ok(None) };
        match serde_json::from_slice::<Progress>(&bytes) {
            Ok(progress) if progress.format == FORMAT => Ok(Some(progress)),
            _ => {
                let what = format!("`{}` is not what the job wrote", path.display());
                findings.push(rolled_back(what));
                Ok(None)
            }
        }
    }

    /// Follows the log to its end.
    fn catch_up(
        log: &StateLog,
        progress: Option<&Progress>,
        seal: &Seal<'_>,
    ) -> Result<Result<Tail, String>, WatchError> {
        let mut tail = match progress {
            Some(progress) if progress.origin == log.header.origin => {
                if let Err(problem) = log.last(&progress.tail, seal.keys)? {
                    return Ok(Err(format!("of the runs, {}", problem.what)));
                }
                progress.tail.clone()
            }
            // Between a new log and the first run in it there is the old progress.
            _ => log.beginning(),
        };
        Ok(match log.follow(&mut tail, seal.keys, &mut |_, _| {})? {
            None => Ok(tail),
            Some(problem) => Err(format!("of the runs, {}", problem.what)),
        })
    }

    /// The report of the last run that came to its end.
    fn read_last(
        &mut self,
        seal: &Seal<'_>,
    ) -> Result<Option<(SignedReport, WatchReport)>, WatchError> {
        let Some(last) = self.tail.size().checked_sub(1) else { return Ok(None) };
        // A crash between the run's checkpoint and its report leaves the report before.
        for number in [Some(last), last.checked_sub(1)].into_iter().flatten() {
            let path = self.report_path(number, "json");
            let Some(bytes) = disk::read(&path)? else { continue };
            let read = SignedReport::from_slice(&bytes).and_then(|signed| {
                let report = signed.verify(seal.keys)?;
                let (own, other) =
                    ((&*self.log.header.origin, number), (&*report.origin, report.run));
                if own == other {
                    Ok((signed, report))
                } else {
                    Err(InvalidReport::new("it is of another run"))
                }
            });
            match read {
                Ok(read) => return Ok(Some(read)),
                Err(error) => {
                    let what = format!("`{}`: {error}", path.display());
                    self.findings.push(rolled_back(what));
                    self.untrusted = true;
                }
            }
        }
        let what = format!("the report of run {last} is gone from `{}`", self.dir.display());
        self.findings.push(rolled_back(what));
        self.untrusted = true;
        Ok(None)
    }

    /// The root of the log at a size.
    pub(super) fn root_at(
        &self,
        size: u64,
        seal: &Seal<'_>,
    ) -> Result<Option<hash::Hash>, WatchError> {
        if size == self.tail.size() {
            return Ok(Some(self.tail.tree.root()));
        }
        let mut tail = self.log.beginning();
        let mut root = None;
        let problem = self.log.follow(&mut tail, seal.keys, &mut |_, note| {
            if note.unverified().size == size {
                root = Some(note.unverified().root);
            }
        })?;
        Ok(root.filter(|_| problem.is_none()))
    }

    /// The number of the run that comes next.
    pub(super) fn next(&self) -> u64 {
        self.tail.size()
    }

    pub(super) fn origin(&self) -> &str {
        &self.log.header.origin
    }

    /// Signs a run and keeps its report.
    pub(super) fn append(
        &mut self,
        report: &WatchReport,
        seal: &Seal<'_>,
    ) -> Result<SignedReport, WatchError> {
        let bad = |error: serde_json::Error| {
            WatchError::damaged("the report has no JSON form").with_source(error)
        };
        let bytes = serde_json::value::to_raw_value(report).map_err(bad)?;
        let run = RunState {
            at: report.started_at,
            format: FORMAT,
            number: report.run,
            origin: self.origin().to_owned(),
            previous: self.tail.last,
            report: super::report::digest(bytes.get().as_bytes()),
            verdict: report.verdict,
        };
        let state = run.canonical_bytes();
        let before: CompactRange = self.tail.tree.clone();
        let note = self.log.append(&mut self.tail, &state, seal.key)?.to_string();
        let state = String::from_utf8(state).expect("canonical JSON is text");
        let state = serde_json::value::RawValue::from_string(state).map_err(bad)?;
        let signed = SignedReport::new(note, &before, bytes, state);
        disk::create_dir(&self.dir.join("reports"))?;
        disk::replace(&self.report_path(report.run, "txt"), report.to_string().as_bytes())?;
        disk::replace(&self.report_path(report.run, "json"), &signed.to_bytes())?;
        self.save()?;
        Ok(signed)
    }

    /// Remembers that the report of a run is recorded elsewhere.
    pub(super) fn recorded(&mut self, number: u64, at: Timestamp) -> Result<(), WatchError> {
        self.recorded = Some((number, at));
        self.save()
    }

    fn save(&self) -> Result<(), WatchError> {
        let (origin, tail) = (self.origin().to_owned(), self.tail.clone());
        let progress = Progress { format: FORMAT, origin, tail, recorded: self.recorded };
        let bytes = serde_json::to_vec(&progress).expect("progress has a JSON form");
        disk::replace(&self.dir.join("run.json"), &bytes)
    }

    fn report_path(&self, number: u64, end: &str) -> PathBuf {
        let id = self.origin().strip_prefix(ORIGIN).unwrap_or_default();
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        self.dir.join("reports").join(format!("{id}-{number:012}.{end}"))
    }
}

pub(super) fn begin(path: PathBuf, follows: Option<Follows>) -> Result<StateLog, WatchError> {
    let origin = format!("{ORIGIN}{}", ChainId::random());
    StateLog::create(path, Header::new(origin, None, follows))
}

/// A log that cannot be gone on with is kept for whoever looks into it.
pub(super) fn keep_aside(path: &std::path::Path) -> Result<(), WatchError> {
    let aside = path.with_extension(format!("ndjson.{}", Timestamp::now().as_nanos()));
    std::fs::rename(path, &aside).map_err(|error| WatchError::io("keep aside", path, error))
}

fn follow_up(tail: &Tail, origin: &str) -> Option<Follows> {
    let number = tail.size().checked_sub(1)?;
    Some(Follows { hash: Some(tail.last), number, origin: origin.to_owned() })
}

pub(super) fn rolled_back(what: impl Into<String>) -> Finding {
    Finding::new(FindingKind::StateRolledBack, what).in_place(PLACE)
}

pub(super) fn tenants(report: Option<&WatchReport>) -> BTreeMap<TenantId, ReportedTenant> {
    let tenants = report.map_or(&[][..], |report| &report.tenants);
    tenants.iter().map(|tenant| (tenant.state.tenant_id.clone(), tenant.clone())).collect()
}
