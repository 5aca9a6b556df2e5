//! How the copies of a chain end: cut, lagging, or gone.
//!
//! A copy that has fewer records than an earlier run had seen in it was cut, whatever the time. One
//! that has never had what another store, a writer's checkpoint or the tenant's checkpoint says to be
//! there may lag, for the grace; then it lacks it.

use std::sync::Arc;

use agent_audit_core::{
    chain::ChainRef,
    timestamp::Timestamp,
    verify::{Finding, FindingKind},
};

use super::{
    chain::Against,
    copy::Outcome,
    memory::{ChainMemory, CopyMemory},
};
use crate::EventStore;

pub(super) struct Ends<'a> {
    pub(super) chain: &'a ChainRef,
    pub(super) against: &'a Against<'a>,
    pub(super) before: &'a ChainMemory,
    pub(super) vouched_for: u64,
}

/// Who says that there are more records.
#[derive(Clone, Copy)]
enum Witness {
    Store(usize),
    Writer,
    Tenant,
}

impl Ends<'_> {
    pub(super) fn judge(
        &self,
        outcomes: &[Outcome],
        stores: &[Arc<dyn EventStore>],
        memory: &mut ChainMemory,
    ) -> Vec<Finding> {
        let known = self.before.known.as_ref().map_or(0, |known| known.size);
        // A copy with a fault says nothing about how long the others should be.
        let sound = outcomes.iter().enumerate().filter(|(_, o)| o.whole && !o.suspect);
        let longest = sound.map(|(at, outcome)| (outcome.end, Witness::Store(at)));
        let claims = [(known, Witness::Tenant), (self.vouched_for, Witness::Writer)];
        // Of those that say the same, a store comes last and is named: it can be looked at.
        let target = claims.into_iter().chain(longest).max_by_key(|(end, _)| *end);
        let Some((target, witness)) = target.filter(|(end, _)| *end > 0) else { return Vec::new() };
        let anywhere = outcomes.iter().map(|outcome| outcome.end).max().unwrap_or(0) >= known;
        let mut findings = Vec::new();
        for (outcome, store) in outcomes.iter().zip(stores) {
            if !outcome.whole {
                continue;
            }
            let before = self.before.copies.get(store.name());
            // Which copy an earlier run had seen is not known of every one; where none has it, it was
            // seen in one of these.
            let seen = before.map_or(0, CopyMemory::size);
            let seen = if anywhere { seen } else { seen.max(known) };
            if outcome.end < seen {
                findings.push(self.cut(outcome.end, seen, store.name()));
            } else if outcome.end < target {
                let (finding, since) =
                    self.short(outcome, before, target, witness, stores, store.name());
                findings.push(finding);
                memory.copies.entry(store.name().to_owned()).or_default().behind = Some(since);
            } else if let Some(copy) = memory.copies.get_mut(store.name()) {
                copy.behind = None;
            }
        }
        findings
    }

    /// Fewer records than there were.
    fn cut(&self, end: u64, seen: u64, store: &str) -> Finding {
        if end == 0 {
            let detail = format!(
                "the whole chain is gone: an earlier run of the integrity job saw {seen} records"
            );
            let finding = Finding::new(FindingKind::ChainMissing, detail);
            return finding.in_chain(self.chain).in_place(store);
        }
        let verb = if seen - end == 1 { "is" } else { "are" };
        let detail = format!(
            "{verb} missing: an earlier run of the integrity job saw {seen} records, and there are \
             {end}"
        );
        let finding = Finding::new(FindingKind::Truncated, detail).in_chain(self.chain);
        finding.at(end, seen - 1).in_place(store)
    }

    /// Fewer records than somebody else says, and since when that has been known.
    fn short(
        &self,
        outcome: &Outcome,
        before: Option<&CopyMemory>,
        target: u64,
        witness: Witness,
        stores: &[Arc<dyn EventStore>],
        store: &str,
    ) -> (Finding, Timestamp) {
        let Against { now, grace, .. } = *self.against;
        // A time that has not come yet is no time to wait from.
        let since =
            before.and_then(|copy| copy.behind).filter(|since| *since <= now).unwrap_or(now);
        let age = |since: Timestamp| now.as_nanos().saturating_sub(since.as_nanos());
        let recorded = outcome.missed.and_then(|row| u64::try_from(row.at).ok());
        let recorded = recorded.map_or(now, Timestamp::from_nanos);
        let overdue = age(since) > grace || age(recorded) > grace;
        let who = match witness {
            Witness::Store(at) => stores.get(at).map_or("another store", |store| store.name()),
            Witness::Writer => "a signed checkpoint of the writer",
            Witness::Tenant => "the tenant's checkpoint",
        };
        let has = match witness {
            Witness::Store(_) => "has",
            Witness::Writer | Witness::Tenant => "states",
        };
        let verb = if target - outcome.end == 1 { "is" } else { "are" };
        let added = if target - outcome.end == 1 { "was" } else { "were" };
        // What another store alone says can be as wrong as what this one does not say.
        let or = match witness {
            Witness::Store(_) => format!(", or {added} added elsewhere"),
            Witness::Writer | Witness::Tenant => String::new(),
        };
        let (kind, detail) = match (overdue, outcome.end, witness) {
            (false, ..) => {
                (FindingKind::Lagging, format!("{verb} not here yet: {who} {has} {target} records"))
            }
            (true, 0, _) => (
                FindingKind::ChainMissing,
                format!(
                    "{verb} missing here{or}: the store has nothing of the chain, and {who} {has} \
                     {target} records"
                ),
            ),
            (true, end, _) => (
                match witness {
                    Witness::Store(_) => FindingKind::Missing,
                    Witness::Writer | Witness::Tenant => FindingKind::Truncated,
                },
                format!(
                    "{verb} missing here{or}: {who} {has} {target} records, there are {end}, and time \
                     enough has passed for the store to have them"
                ),
            ),
        };
        let finding = Finding::new(kind, detail).in_chain(self.chain);
        (finding.at(outcome.end, target - 1).in_place(store), since)
    }
}
