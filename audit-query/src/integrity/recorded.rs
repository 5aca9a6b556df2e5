//! The job's own log against what is recorded of it in another store.

use agent_audit_core::{
    hash,
    timestamp::Timestamp,
    verify::{Finding, FindingKind},
};

use super::{
    SignedReport, WatchError, WatchReport,
    log::Follows,
    memory::Seal,
    record::{Recorded, Recorder},
    runs::{PLACE, Runs, begin, keep_aside, rolled_back, tenants},
};

impl Runs {
    /// Holds the log against the runs that are recorded.
    pub(super) async fn compare(
        &mut self,
        last: &[Recorded],
        seal: &Seal<'_>,
        recorder: &Recorder,
        grace: u64,
        now: Timestamp,
    ) -> Result<(), WatchError> {
        let origin = self.log.header.origin.clone();
        let own = last.iter().filter(|run| run.origin() == origin).max_by_key(|run| run.number());
        let follows = self.log.header.follows.clone();
        let other = last.iter().filter(|run| run.origin() != origin);
        let other = other.filter(|run| {
            !follows.as_ref().is_some_and(|f| f.origin == run.origin() && f.number >= run.number())
        });
        let other = other.max_by_key(|run| run.event_id);
        let place = self.record_place(recorder);
        if let Some(other) = other
            && own.is_none_or(|own| own.event_id < other.event_id)
        {
            let what = format!(
                "run {} of another state of this job is recorded in {place}, and this state knows \
                 nothing of it: the state was taken away, or this is another job of the same name",
                other.number()
            );
            return self.adopt(other, what, seal, recorder).await;
        }
        let size = self.tail.size();
        match own {
            Some(own) if own.number() >= size => {
                let what = format!(
                    "run {} is recorded in {place}, and the job's state has {size} runs: an older \
                     copy was put in its place",
                    own.number()
                );
                self.adopt(own, what, seal, recorder).await
            }
            Some(own) => {
                if self.root_at(own.number() + 1, seal)? != Some(own.note.unverified().root) {
                    let number = own.number();
                    let what = format!("run {number} is recorded in {place} as another one");
                    self.findings.push(rolled_back(what));
                    self.untrusted = true;
                }
                self.lost(Some(own.number()), &place, grace, now);
                Ok(())
            }
            None => {
                self.lost(None, &place, grace, now);
                let latest = last.iter().max_by_key(|run| run.event_id);
                if let Some(latest) = latest.filter(|_| self.reported.is_empty()) {
                    let _ = self.take_report(latest, seal, recorder).await;
                }
                Ok(())
            }
        }
    }

    /// Whether runs that had been recorded are no longer.
    fn lost(&mut self, last: Option<u64>, place: &str, grace: u64, now: Timestamp) {
        let Some((recorded, at)) =
            self.recorded.filter(|(number, _)| last.is_none_or(|l| l < *number))
        else {
            return;
        };
        // It is on its way from the log to the store.
        let late = now.as_nanos().saturating_sub(at.as_nanos()) > grace;
        let left =
            last.map_or_else(|| "none is there".to_owned(), |last| format!("the last is {last}"));
        let (kind, detail) = match late {
            true => (
                FindingKind::Truncated,
                format!("runs up to number {recorded} were recorded, and {left}"),
            ),
            false => (
                FindingKind::Lagging,
                format!("run {recorded} was recorded and is not here yet: {left}"),
            ),
        };
        self.findings.push(Finding::new(kind, detail).in_place(place));
    }

    /// Takes what is recorded for what is known, because the job's own state is not.
    async fn adopt(
        &mut self,
        run: &Recorded,
        what: String,
        seal: &Seal<'_>,
        recorder: &Recorder,
    ) -> Result<(), WatchError> {
        self.findings.push(rolled_back(what));
        self.untrusted = true;
        let signed = self.take_report(run, seal, recorder).await;
        // A number that was signed is never signed again.
        let origin = run.origin().to_owned();
        let hash = signed.map(|signed| hash::leaf(signed.run.get().as_bytes()));
        let path = self.log.path().to_owned();
        keep_aside(&path)?;
        self.log = begin(path, Some(Follows { hash, number: run.number(), origin }))?;
        self.tail = self.log.beginning();
        (self.recorded, self.unrecorded) = (None, None);
        Ok(())
    }

    /// Takes in what a recorded report says of the tenants.
    async fn take_report(
        &mut self,
        run: &Recorded,
        seal: &Seal<'_>,
        recorder: &Recorder,
    ) -> Option<SignedReport> {
        let signed = match recorder.report(run).await {
            Ok(signed) => signed?,
            Err(error) => {
                let detail = format!("the recorded report could not be read: {error}");
                let finding = Finding::new(FindingKind::StoreUnreadable, detail);
                self.findings.push(finding.in_place(self.record_place(recorder)));
                return None;
            }
        };
        if let Err(error) = signed.verify(seal.keys) {
            let what = format!("the recorded report is not under a key of this job: {error}");
            self.findings.push(Finding::new(FindingKind::UnknownKey, what).in_place(PLACE));
        }
        // Nobody else has anything better: what it says is looked for, and not believed.
        let report = serde_json::from_slice::<WatchReport>(signed.report_bytes()).ok();
        for (tenant, reported) in tenants(report.as_ref()) {
            let known = self.reported.get(&tenant).map(|known| known.state.at);
            if known.is_none_or(|at| at < reported.state.at) {
                self.reported.insert(tenant, reported);
            }
        }
        Some(signed)
    }
}
