//! One chain in all stores: each copy is read and verified, and copies are compared with each other.

use std::sync::Arc;

use agent_audit_core::{
    chain::ChainRef,
    checkpoint::{Checkpoint, chain_origin},
    key::SigningKey,
    timestamp::Timestamp,
    verify::{ChainState, CheckpointSource, Checkpoints, Finding, FindingKind},
};

use super::{
    absent::Evidence,
    copy::{Outcome, Reading},
    memory::{ChainMemory, CopyMemory},
    writers::Writers,
};
use crate::EventStore;

/// What a run holds every chain against.
#[derive(Debug, Clone, Copy)]
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
pub(super) struct Difference {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) one: usize,
    pub(super) other: usize,
}

/// Records that came long after a checkpoint that does not cover them, by their own date.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    pub(super) first: u64,
    pub(super) at: i64,
    pub(super) count: u64,
    pub(super) copy: usize,
}

/// All copies, read once.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) differences: Vec<Difference>,
    pub(super) late: Option<Late>,
    pub(super) findings: Vec<Finding>,
    /// The largest size that a writer's checkpoint states.
    pub(super) vouched_for: u64,
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

    pub(super) fn known_size(&self) -> u64 {
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
