//! How long is waited for what is missing, and who gives way when there is no room.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use agent_audit_core::id::TenantId;

use super::State;
use crate::relay::chain::Chain;

/// Whose chain waits, with how many bytes, and its number.
type Waiting = (TenantId, usize, u64);

impl State {
    /// Keeps in mind whether a chain waits for something. The sinks are asked about it now and then.
    pub(super) fn watch_gap(&mut self, id: u64) {
        let Some(chain) = self.chains.get(&id) else { return };
        if !chain.is_gapped() {
            self.gapped.remove(&id);
            return;
        }
        self.gapped.insert(id);
        self.ask_again(id);
    }

    /// Gives up waiting where it was long enough, or where too much is held for it.
    pub(in crate::relay) fn give_up_gaps(&mut self, now: Instant) {
        for id in self.gapped.clone() {
            let Some(chain) = self.chains.get_mut(&id) else { continue };
            // What is missing may be the next message of a partition that rests because of others.
            if self.partitions.get(&chain.place).is_some_and(|partition| partition.paused) {
                chain.wait_anew(now);
                continue;
            }
            let late = chain.waiting(now, self.limits.gap_timeout);
            for lane in &late {
                let way = &mut chain.lanes[*lane];
                if !std::mem::replace(&mut way.gap_reported, true) {
                    tracing::warn!(
                        chain = %chain.chain, sink = %self.sinks[*lane].name, missing = way.next(),
                        waiting = way.early.len(), "events are missing"
                    );
                }
            }
            if self.limits.quarantine && !late.is_empty() {
                // Those that lack the same lack it for good, though they were met a little later.
                let missing: Vec<u64> = late.iter().map(|at| chain.lanes[*at].next()).collect();
                let mut lanes = chain.waiting(now, Duration::ZERO);
                lanes.retain(|at| missing.contains(&chain.lanes[*at].next()));
                self.give_up(id, &lanes);
            }
        }
        self.make_room();
    }

    /// In each partition what waits may hold half of the room. Where it holds more, the tenant gives
    /// way that holds most, with its largest chain: who sends what has gaps cannot have the events
    /// of another given up.
    fn make_room(&mut self) {
        let room = self.share() / 2;
        let mut crowds: HashMap<(String, i32), Vec<Waiting>> = HashMap::new();
        for id in &self.gapped {
            let Some(chain) = self.chains.get(id) else { continue };
            let waiting = (chain.chain.tenant_id.clone(), chain.waiting_bytes, *id);
            match crowds.get_mut(&chain.place) {
                Some(crowd) => crowd.push(waiting),
                None => drop(crowds.insert(chain.place.clone(), vec![waiting])),
            }
        }
        for mut crowd in crowds.into_values() {
            let mut held: usize = crowd.iter().map(|(_, bytes, _)| bytes).sum();
            if held <= room {
                continue;
            }
            let mut tenants: BTreeMap<TenantId, usize> = BTreeMap::new();
            for (tenant, bytes, _) in &crowd {
                *tenants.entry(tenant.clone()).or_default() += bytes;
            }
            crowd.sort_unstable_by_key(|(_, bytes, _)| *bytes);
            while held > room {
                let most = tenants.iter().max_by_key(|(_, bytes)| **bytes);
                let Some(most) = most.map(|(tenant, _)| tenant.clone()) else { break };
                let Some(at) = crowd.iter().rposition(|(tenant, ..)| *tenant == most) else {
                    break;
                };
                let (_, bytes, id) = crowd.remove(at);
                held -= bytes;
                if let Some(tenant) = tenants.get_mut(&most) {
                    *tenant -= bytes;
                }
                let all = |chain: &Chain| chain.waiting(Instant::now(), Duration::ZERO);
                let lanes = self.chains.get(&id).map(all).unwrap_or_default();
                self.give_up(id, &lanes);
            }
        }
    }

    fn give_up(&mut self, id: u64, lanes: &[usize]) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let effects = chain.give_up(lanes);
        self.follow(id, effects);
    }
}
