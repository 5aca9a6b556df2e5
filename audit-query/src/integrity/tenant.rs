//! One tenant: all of its chains in all stores, and then its next checkpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use agent_audit_core::{
    chain::ChainRef,
    event::integrity::VerifiedRange,
    id::{ChainId, TenantId},
    verify::{Finding, FindingKind},
};

use super::{
    ReportedTenant, TenantState, WatchError,
    absent::Evidence,
    chain::{Against, Chain, Counts},
    docket::Docket,
    known::{Known, Lookup, Places, id_of},
    log::StateLog,
    memory::{CopyMemory, Memory, Seal},
    report::counted,
};
use crate::{EventStore, QueryError, QueryErrorKind};

/// What a run found of a tenant.
#[derive(Debug)]
pub(super) struct Tenant {
    /// Its newest checkpoint; where this run signed none, that of the last report.
    pub(super) reported: Option<ReportedTenant>,
    pub(super) origin: String,
    pub(super) chains: u64,
    pub(super) events: u64,
    /// How many chains were read from the beginning.
    pub(super) whole: u64,
    pub(super) counts: Counts,
    pub(super) ranges: Vec<VerifiedRange>,
}

/// A tenant to be checked.
pub(super) struct Check<'a> {
    pub(super) places: &'a Places,
    pub(super) seal: &'a Seal<'a>,
    pub(super) against: &'a Against<'a>,
    pub(super) tenant: &'a TenantId,
    pub(super) stores: &'a [Arc<dyn EventStore>],
    /// The id of its checkpoints, and its state in the last report.
    pub(super) id: Option<&'a str>,
    pub(super) reported: Option<&'a ReportedTenant>,
    /// Read everything from the beginning.
    pub(super) whole: bool,
    /// Whether it is this chain's turn to be read from the beginning.
    pub(super) turn: &'a (dyn Fn(&str) -> bool + Sync),
    /// How many ranges are still told.
    pub(super) ranges: usize,
}

/// The chains that a store lists, or why it does not.
type Listed = Result<BTreeSet<ChainId>, QueryError>;

impl Check<'_> {
    pub(super) async fn run(&self, docket: &mut Docket) -> Result<Tenant, WatchError> {
        let lookup = Lookup {
            places: self.places,
            seal: self.seal,
            tenant: self.tenant,
            id: self.id,
            reported: self.reported.map(|reported| &reported.state),
            whole: self.whole || (self.turn)(self.tenant.as_str()),
        };
        let Known { log, mut memory, findings, untrusted, ahead } = lookup.load()?;
        docket.extend(findings);
        if ahead {
            // So that what is remembered is never more than one checkpoint behind.
            self.remember(&log, &memory)?;
        }
        let listed = self.list(docket).await;
        let gone = self.gone(&listed, &memory, docket);
        let whole = self.whole || untrusted;
        let mut tenant = Tenant {
            reported: self.reported.cloned(),
            origin: log.header.origin.clone(),
            chains: 0,
            events: 0,
            whole: 0,
            counts: Counts::default(),
            ranges: Vec::new(),
        };
        let mut evidence = Evidence::new(self.stores.to_vec());
        let mut chains: BTreeSet<ChainId> = memory.chains.keys().cloned().collect();
        chains.extend(listed.iter().flatten().flatten().cloned());
        for chain_id in chains {
            let chain = ChainRef::new(self.tenant.clone(), chain_id.clone());
            let before = memory.chains.remove(&chain_id).unwrap_or_default();
            let check = Chain {
                against: self.against,
                chain: &chain,
                stores: self.stores,
                before: &before,
                signed_at: memory.at,
            };
            let whole = whole || (self.turn)(chain_id.as_str());
            let mut checked = check.check(whole, &mut evidence).await;
            // That the whole tenant is gone has been said.
            checked.findings.retain(|finding| {
                finding.kind != FindingKind::ChainMissing
                    || !finding.place.as_ref().is_some_and(|place| gone.contains(place))
            });
            docket.extend(checked.findings);
            tenant.counts.add(checked.counts);
            tenant.whole += u64::from(checked.whole);
            if let Some(known) = &checked.memory.known {
                tenant.chains += 1;
                tenant.events += known.size;
                if tenant.ranges.len() < self.ranges && known.size > checked.from {
                    let last = known.size - 1;
                    tenant.ranges.push(VerifiedRange::new(chain_id.clone(), checked.from, last));
                }
            }
            memory.chains.insert(chain_id, checked.memory);
        }
        // Who could ask no store at all has nothing to sign.
        if listed.iter().any(Result::is_ok) {
            self.sign(&log, &mut memory, &mut tenant)?;
        }
        Ok(tenant)
    }

    async fn list(&self, docket: &mut Docket) -> Vec<Listed> {
        let mut all = Vec::new();
        for store in self.stores {
            let listed = store.chains(self.tenant).await;
            if let Err(error) = &listed {
                let (kind, what) = match error.kind() {
                    QueryErrorKind::Corrupt => (FindingKind::Tampered, "holds what is no record"),
                    _ => (FindingKind::StoreUnreadable, "does not say which chains there are"),
                };
                let detail = format!(
                    "tenant {}: the store {what}: {error}; mend that and run again",
                    self.tenant
                );
                docket.add(Finding::new(kind, detail).in_place(store.name()));
            }
            all.push(listed.map(|chains| chains.into_iter().collect()));
        }
        all
    }

    /// The stores from which the tenant is gone as a whole.
    fn gone(&self, listed: &[Listed], memory: &Memory, docket: &mut Docket) -> BTreeSet<String> {
        let known = memory.chains.values().filter_map(|chain| chain.known.as_ref());
        let (chains, events) = known.fold((0u64, 0u64), |(chains, events), known| {
            (chains + 1, events.saturating_add(known.size))
        });
        let mut gone = BTreeSet::new();
        if events == 0 {
            return gone;
        }
        let nowhere = listed.iter().flatten().all(BTreeSet::is_empty);
        for (store, listed) in self.stores.iter().zip(listed) {
            let held = memory
                .chains
                .values()
                .filter_map(|chain| chain.copies.get(store.name()))
                .any(|copy| CopyMemory::size(copy) > 0);
            let empty = listed.as_ref().is_ok_and(BTreeSet::is_empty);
            if empty && (held || nowhere) {
                let since = memory.at.map_or_else(|| "before".to_owned(), |at| format!("on {at}"));
                let detail = format!(
                    "tenant {}: the whole ledger is gone, {} with {} as of {since}",
                    self.tenant,
                    counted(chains, "chain"),
                    counted(events, "record")
                );
                let finding = Finding::new(FindingKind::TenantMissing, detail);
                docket.add(finding.in_place(store.name()));
                gone.insert(store.name().to_owned());
            }
        }
        gone
    }

    /// Signs what is known from here on, and remembers it.
    fn sign(
        &self,
        log: &StateLog,
        memory: &mut Memory,
        tenant: &mut Tenant,
    ) -> Result<(), WatchError> {
        let known: BTreeMap<_, _> = memory
            .chains
            .iter()
            .filter_map(|(id, chain)| Some((id, chain.known.clone()?)))
            .collect();
        let now = self.against.now;
        let mut state = TenantState::new(self.tenant.clone(), log.header.origin.clone(), now)
            .with_chains(known.into_values());
        if let Some(last) = memory.tail.size().checked_sub(1) {
            state = state.behind(last, memory.tail.last);
        }
        let note = log.append(&mut memory.tail, &state.canonical_bytes(), self.seal.key)?;
        memory.at = Some(now);
        self.remember(log, memory)?;
        tenant.reported = Some(ReportedTenant { note: note.to_string(), state });
        Ok(())
    }

    fn remember(&self, log: &StateLog, memory: &Memory) -> Result<(), WatchError> {
        let path = id_of(&log.header.origin).map(|id| self.places.memory_of(id));
        let path = path.ok_or_else(|| {
            WatchError::damaged(format!("`{}` names no id", log.path().display()))
        })?;
        memory.save(&path, self.seal)
    }
}
