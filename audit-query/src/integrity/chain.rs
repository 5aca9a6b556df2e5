//! One chain in all stores: each copy verified, copies compared with each other, and what of it is
//! known from here on.

use std::sync::Arc;

use agent_audit_core::{
    chain::ChainRef,
    checkpoint::{Checkpoint, chain_origin},
    key::SigningKey,
    timestamp::Timestamp,
    verify::{ChainState, CheckpointSource, Checkpoints, Finding, FindingKind, Severity},
};

use super::{
    ChainEntry, Standing,
    absent::Evidence,
    copy::{Outcome, Reading},
    ends::Ends,
    memory::{ChainMemory, CopyMemory},
    writers::Writers,
};
use crate::EventStore;

/// What a run holds every chain against.
#[derive(Debug)]
pub(super) struct Against<'a> {
    pub(super) key: &'a SigningKey,
    pub(super) writers: Option<&'a Writers>,
    pub(super) now: Timestamp,
    /// How long a store may lag, in nanoseconds.
    pub(super) grace: u64,
}

/// What a run found of a chain.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) memory: ChainMemory,
    pub(super) findings: Vec<Finding>,
    /// Whether some copy was read from the beginning.
    pub(super) whole: bool,
    /// From which position on the furthest copy was read.
    pub(super) from: u64,
    pub(super) counts: Counts,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) parts: u64,
    pub(super) erased: u64,
    pub(super) purged: u64,
    pub(super) sealed: u64,
    pub(super) checkpoints: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.parts += other.parts;
        self.erased += other.erased;
        self.purged += other.purged;
        self.sealed += other.sealed;
        self.checkpoints += other.checkpoints;
    }
}

/// Positions that two copies have different records for.
#[derive(Debug, Clone, Copy)]
struct Difference {
    first: u64,
    last: u64,
    one: usize,
    other: usize,
}

/// Records that came long after a checkpoint that does not cover them, by their own date.
#[derive(Debug, Clone, Copy)]
struct Late {
    first: u64,
    at: i64,
    count: u64,
    copy: usize,
}

/// All copies, read once.
#[derive(Debug)]
struct Pass {
    outcomes: Vec<Outcome>,
    differences: Vec<Difference>,
    late: Option<Late>,
    findings: Vec<Finding>,
    /// The largest size that a writer's checkpoint states.
    vouched_for: u64,
}

/// One chain to be checked.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    pub(super) against: &'a Against<'a>,
    pub(super) chain: &'a ChainRef,
    pub(super) stores: &'a [Arc<dyn EventStore>],
    /// What was known before this run.
    pub(super) before: &'a ChainMemory,
    /// When the tenant's last checkpoint was signed.
    pub(super) signed_at: Option<Timestamp>,
}

impl Chain<'_> {
    /// Checks the chain; from the beginning where that is asked for, or where something is wrong.
    pub(super) async fn check(&self, whole: bool, evidence: &mut Evidence) -> Checked {
        let mut whole = whole;
        loop {
            let pass = self.pass(whole).await;
            let absent = self.absent(&pass, evidence).await;
            let suspect = pass.outcomes.iter().any(|outcome| outcome.suspect)
                || !pass.differences.is_empty()
                || !absent.is_empty();
            let partial = pass.outcomes.iter().any(|outcome| outcome.from > 0);
            if suspect && partial && !whole {
                // What is at fault is told by the whole chain; what was trusted may be, too.
                whole = true;
                continue;
            }
            return self.judge(pass, absent, whole);
        }
    }

    async fn pass(&self, whole: bool) -> Pass {
        let mut findings = Vec::new();
        let (checkpoints, vouched_for) = self.checkpoints(whole, &mut findings);
        let known = self.known_size();
        let mut readings: Vec<_> = self
            .stores
            .iter()
            .map(|store| {
                let checkpoints = checkpoints.clone();
                match self.trusted(store.name()).filter(|_| !whole) {
                    Some(state) => Reading::resumed(&**store, self.chain, checkpoints, state),
                    None => Reading::whole(&**store, self.chain, checkpoints).probing(known),
                }
            })
            .collect();
        let mut differences: Vec<Difference> = Vec::new();
        let mut late: Option<Late> = None;
        loop {
            for reading in &mut readings {
                reading.fill().await;
            }
            let next = readings.iter().filter_map(|reading| reading.peek()).map(|row| row.sequence);
            let Some(position) = next.min() else { break };
            let mut first = None;
            for (at, reading) in readings.iter_mut().enumerate() {
                while reading.peek().is_some_and(|row| row.sequence == position) {
                    let Some(row) = reading.pop() else { break };
                    match first {
                        None => {
                            first = Some((at, row));
                            self.note_late(&mut late, at, row.sequence, row.at);
                        }
                        Some((one, held)) if one != at && held.hash != row.hash => {
                            note_difference(&mut differences, position, one, at);
                        }
                        Some(_) => {}
                    }
                }
            }
            let Some((holder, row)) = first else { break };
            for (at, reading) in readings.iter_mut().enumerate() {
                if at != holder && reading.is_done() && reading.missed.is_none() {
                    reading.missed = Some(row);
                }
            }
        }
        let outcomes = readings.into_iter().map(Reading::finish).collect();
        Pass { outcomes, differences, late, findings, vouched_for }
    }

    /// The signed checkpoints that every copy must fit.
    fn checkpoints(&self, whole: bool, findings: &mut Vec<Finding>) -> (Checkpoints, u64) {
        let mut keys = vec![self.against.key.verifying_key()];
        keys.extend(self.against.writers.map_or(&[][..], Writers::keys));
        let mut checkpoints = Checkpoints::trusting(self.chain, keys);
        if let Some(known) = &self.before.known
            && known.size > 0
        {
            // The tenant's checkpoint says so of the chain; the verifier is told in its own form.
            let origin = chain_origin(self.chain.chain_id.as_str());
            if let Ok(signed) =
                Checkpoint::new(origin, known.size, known.root).sign(self.against.key)
            {
                checkpoints.add_signed(&signed, CheckpointSource::Own);
            }
        }
        let Some(writers) = self.against.writers else { return (checkpoints, 0) };
        let from = if whole { 0 } else { self.known_size() };
        match writers.add_to(&mut checkpoints, self.chain, from) {
            Ok((largest, found)) => {
                findings.extend(found);
                (checkpoints, largest)
            }
            Err(error) => {
                let detail = format!("the writer's checkpoints could not be read: {error}");
                let finding = Finding::new(FindingKind::StoreUnreadable, detail);
                findings.push(finding.in_chain(self.chain));
                (checkpoints, 0)
            }
        }
    }

    fn known_size(&self) -> u64 {
        self.before.known.as_ref().map_or(0, |known| known.size)
    }

    /// What was verified of a copy, where it agrees with the tenant's checkpoint.
    fn trusted(&self, store: &str) -> Option<&ChainState> {
        let state = self.before.copies.get(store)?.state.as_ref()?;
        let known = self.before.known.as_ref()?;
        let agrees = (state.tree().root(), state.head()) == (known.root, &known.head);
        (state.size() < known.size || (state.size() == known.size && agrees)).then_some(state)
    }

    fn note_late(&self, late: &mut Option<Late>, copy: usize, sequence: u64, at: i64) {
        let Some(signed_at) = self.signed_at.filter(|_| sequence >= self.known_size()) else {
            return;
        };
        let grace = i64::try_from(self.against.grace).unwrap_or(i64::MAX);
        if at.saturating_add(grace) < signed_at.as_nanos_i64() {
            late.get_or_insert(Late { first: sequence, at, count: 0, copy }).count += 1;
        }
    }

    /// Content that is gone without a reason, for each copy.
    async fn absent(&self, pass: &Pass, evidence: &mut Evidence) -> Vec<(usize, Finding)> {
        let mut absent = Vec::new();
        for (at, (outcome, store)) in pass.outcomes.iter().zip(self.stores).enumerate() {
            let seen = self.before.copies.get(store.name()).map_or(0, CopyMemory::size);
            let found = outcome.absences.unexplained(self.chain, seen, evidence).await;
            absent.extend(found.into_iter().map(|finding| (at, finding.in_place(store.name()))));
        }
        absent
    }

    fn judge(&self, mut pass: Pass, absent: Vec<(usize, Finding)>, whole: bool) -> Checked {
        let mut findings = std::mem::take(&mut pass.findings);
        let disputed = self.differences(&pass, &mut findings);
        self.probes(&mut pass, &mut findings);
        for (at, finding) in absent {
            pass.outcomes[at].state = None;
            findings.push(finding);
        }
        self.times(&pass, &mut findings);
        let mut counts = Counts::default();
        for outcome in &mut pass.outcomes {
            let report = &mut outcome.report;
            if outcome.from > 0 {
                // Half a story: what began before is not known here, and what just began is at work.
                report.findings.retain(|finding| {
                    !matches!(
                        finding.kind,
                        FindingKind::UnresolvedAttempt | FindingKind::OpenReview
                    )
                });
            }
            findings.append(&mut report.findings);
            counts.add(Counts {
                records: outcome.records,
                bytes: outcome.bytes,
                parts: report.parts,
                erased: report.erased,
                purged: report.purged,
                sealed: report.sealed,
                checkpoints: report.checkpoints_checked,
            });
        }
        let mut memory = self.advance(&pass, &disputed);
        let ends = Ends {
            chain: self.chain,
            against: self.against,
            before: self.before,
            vouched_for: pass.vouched_for,
        };
        findings.extend(ends.judge(&pass.outcomes, self.stores, &mut memory));
        findings.extend(self.vouched(&pass, &mut memory));
        let whole = whole || pass.outcomes.iter().any(|outcome| outcome.from == 0);
        let from = pass.outcomes.iter().max_by_key(|outcome| outcome.end).map_or(0, |o| o.from);
        Checked { memory, findings, whole, from, counts }
    }

    /// Where copies differ and neither is at fault by itself; returns which copies are in dispute.
    fn differences(&self, pass: &Pass, findings: &mut Vec<Finding>) -> Vec<usize> {
        let mut disputed = Vec::new();
        for difference in &pass.differences {
            let named = |copy: usize| {
                pass.outcomes[copy].report.findings.iter().any(|finding| {
                    finding.severity == Severity::Tampering && finding.is_at(difference.first)
                })
            };
            if named(difference.one) || named(difference.other) {
                continue;
            }
            disputed.extend([difference.one, difference.other]);
            let (one, other) =
                (self.stores[difference.one].name(), self.stores[difference.other].name());
            let verb = if difference.first == difference.last { "is" } else { "are" };
            let detail = format!(
                "{verb} not the same in {one} and in {other}, and each fits its own history: two \
                 readers are shown two histories"
            );
            let finding = Finding::new(FindingKind::Forked, detail)
                .in_chain(self.chain)
                .at(difference.first, difference.last);
            findings.push(finding.in_place(format!("{one}, {other}")));
        }
        disputed
    }

    /// Whether head and root of the tenant's checkpoint are of one history.
    fn probes(&self, pass: &mut Pass, findings: &mut Vec<Finding>) {
        let Some(known) = self.before.known.as_ref().filter(|known| known.size > 0) else { return };
        for outcome in &mut pass.outcomes {
            let Some(hash) = outcome.probed.filter(|hash| *hash != known.head) else { continue };
            if outcome.state.is_none() {
                continue;
            }
            let last = known.size - 1;
            let detail = format!(
                "fits the root that the tenant's checkpoint states of the chain and not the head, \
                 {}: it has the event hash {hash}; root and head are of two histories",
                known.head
            );
            let finding = Finding::new(FindingKind::Forked, detail).in_chain(self.chain);
            findings.push(finding.at(last, last).in_place("tenant checkpoints"));
            outcome.state = None;
        }
    }

    fn times(&self, pass: &Pass, findings: &mut Vec<Finding>) {
        let date = |nanos: i64| Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(0));
        for (outcome, store) in pass.outcomes.iter().zip(self.stores) {
            let before = self.before.copies.get(store.name()).map_or(i64::MIN, |copy| copy.last_at);
            if let Some(first) = outcome.first.filter(|row| outcome.from > 0 && row.at < before) {
                let detail = format!(
                    "is dated {}, before the record in front of it ({}): the writer's clock went back",
                    date(first.at),
                    date(before)
                );
                let finding = Finding::new(FindingKind::ClockRegression, detail);
                let finding = finding.in_chain(self.chain).at(first.sequence, first.sequence);
                findings.push(finding.in_place(store.name()));
            }
        }
        if let (Some(late), Some(signed_at)) = (pass.late, self.signed_at) {
            let more = match late.count {
                1 => String::new(),
                count => format!(" ({} more records are like it)", count - 1),
            };
            let detail = format!(
                "is dated {}, and the tenant checkpoint of {signed_at} does not cover it: it came \
                 late, or was dated back{more}",
                date(late.at)
            );
            let finding = Finding::new(FindingKind::ClockRegression, detail);
            let finding = finding.in_chain(self.chain).at(late.first, late.first);
            findings.push(finding.in_place(self.stores[late.copy].name()));
        }
    }

    /// What is known from here on: nothing is forgotten, and what has a fault does not count.
    fn advance(&self, pass: &Pass, disputed: &[usize]) -> ChainMemory {
        let mut memory = self.before.clone();
        memory.since.get_or_insert(self.against.now);
        let mut furthest: Option<(&ChainState, Standing)> = None;
        for (at, (outcome, store)) in pass.outcomes.iter().zip(self.stores).enumerate() {
            let Some(state) = outcome.state.as_ref().filter(|_| !disputed.contains(&at)) else {
                continue;
            };
            let copy = memory.copies.entry(store.name().to_owned()).or_default();
            if state.size() < copy.size() {
                continue;
            }
            if let Some(last) = outcome.last {
                (copy.last_at, copy.closed) = (last.at, last.closes);
            }
            copy.state = Some(state.clone());
            let standing = if copy.closed { Standing::Closed } else { Standing::Open };
            if furthest.is_none_or(|(other, _)| other.size() < state.size()) {
                furthest = Some((state, standing));
            }
        }
        if let Some((state, standing)) = furthest
            && state.size() >= self.known_size()
        {
            let (root, head) = (state.tree().root(), *state.head());
            let chain = self.chain.chain_id.clone();
            memory.known = Some(ChainEntry::new(chain, state.size(), root, head, standing));
        }
        memory
    }

    /// Where the writers' checkpoints are given, a chain that none of them covers is nobody's.
    fn vouched(&self, pass: &Pass, memory: &mut ChainMemory) -> Option<Finding> {
        self.against.writers?;
        let covered = pass.outcomes.iter().map(|o| o.report.coverage.separate_checkpoint).max();
        memory.vouched = memory.vouched.max(covered.unwrap_or(0));
        let end = pass.outcomes.iter().map(|outcome| outcome.end).max().unwrap_or(0);
        let age = |since: Timestamp| self.against.now.as_nanos().saturating_sub(since.as_nanos());
        let last = pass.outcomes.iter().filter_map(|outcome| outcome.last).map(|row| row.at).min();
        let last = last.and_then(|at| u64::try_from(at).ok()).map(Timestamp::from_nanos);
        let old = memory.since.into_iter().chain(last).any(|since| age(since) > self.against.grace);
        if memory.vouched > 0 || end == 0 || !old {
            return None;
        }
        let detail = format!(
            "no checkpoint of a writer covers any of its {end} records: it can have been written by \
             anybody with access to a store"
        );
        Some(Finding::new(FindingKind::NotVouched, detail).in_chain(self.chain))
    }
}

fn note_difference(differences: &mut Vec<Difference>, at: u64, one: usize, other: usize) {
    let goes_on = |known: &&mut Difference| {
        (known.one, known.other) == (one, other) && known.last.checked_add(1) == Some(at)
    };
    if let Some(run) = differences.iter_mut().find(goes_on) {
        run.last = at;
    } else if differences.len() < 1_000 {
        differences.push(Difference { first: at, last: at, one, other });
    }
}
