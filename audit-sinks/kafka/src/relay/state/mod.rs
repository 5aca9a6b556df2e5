//! What the relay holds in memory: partitions, their chains, and how far each sink is.

mod asking;
mod gaps;
mod halts;
mod refusals;
mod report;
mod sending;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use agent_audit_core::sink::{ChainRef, SinkInfo};

use super::{
    chain::{Chain, Done, Effects, End, Item, Rules},
    halted::HaltNote,
    partition::Partition,
    status::Problem,
};

pub(super) use refusals::{Refusal, Refused};
pub(super) use sending::{Load, Settled};

/// The limits that the state keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_buffered_bytes: usize,
    pub(super) max_chains: usize,
    pub(super) gap_timeout: Duration,
    /// Whether there is a quarantine for what belongs nowhere.
    pub(super) quarantine: bool,
}

/// A sink, as far as the state knows it.
#[derive(Debug)]
pub(super) struct SinkState {
    pub(super) name: String,
    pub(super) readable_heads: bool,
    max_events: usize,
    max_bytes: usize,
    sending: sending::Line,
    asking: asking::Line,
    pub(super) last_error: Option<String>,
    acknowledged: u64,
}

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) partitions: HashMap<(String, i32), Partition>,
    pub(super) chains: HashMap<u64, Chain>,
    pub(super) sinks: Vec<SinkState>,
    next_id: u64,
    /// With more chains than this some are forgotten.
    forget_above: usize,
    /// Chains of which something waits for a missing event.
    gapped: BTreeSet<u64>,
    /// Chains that were halted, by sink, and why; also those of before a restart.
    halts: HashMap<(usize, ChainRef), String>,
    /// What is to be written to the quarantine.
    pub(super) refusals: VecDeque<Refusal>,
    pub(super) halt_notes: Vec<HaltNote>,
    read: u64,
    relayed: u64,
    copies: u64,
    problems: u64,
    latest: VecDeque<Problem>,
    pub(super) last_error: Option<String>,
}

impl State {
    pub(super) fn new(limits: Limits, sinks: Vec<SinkState>) -> Self {
        Self {
            limits,
            partitions: HashMap::new(),
            chains: HashMap::new(),
            sinks,
            next_id: 0,
            forget_above: limits.max_chains.max(1),
            gapped: BTreeSet::new(),
            halts: HashMap::new(),
            refusals: VecDeque::new(),
            halt_notes: Vec::new(),
            read: 0,
            relayed: 0,
            copies: 0,
            problems: 0,
            latest: VecDeque::new(),
            last_error: None,
        }
    }

    pub(super) fn assign(&mut self, topic: &str, partition: i32) {
        let place = (topic.to_owned(), partition);
        let fresh = || Partition::new(topic.to_owned(), partition);
        self.partitions.entry(place).or_insert_with(fresh);
    }

    /// Forgets a partition and all that is held of it: whoever reads it next begins at its offset.
    pub(super) fn revoke(&mut self, topic: &str, partition: i32) {
        let place = (topic.to_owned(), partition);
        let Some(gone) = self.partitions.remove(&place) else { return };
        for id in gone.chains.values() {
            self.chains.remove(id);
            self.gapped.remove(id);
        }
        self.refusals.retain(|refusal| {
            refusal.problem.topic != topic || refusal.problem.partition != partition
        });
    }

    /// The most bytes that each partition may hold.
    pub(super) fn share(&self) -> usize {
        self.limits.max_buffered_bytes / self.partitions.len().max(1)
    }

    /// Takes a message that is an event.
    pub(super) fn event(
        &mut self,
        place: &(String, i32),
        offset: i64,
        chain: ChainRef,
        item: Item,
    ) {
        let Some(partition) = self.partitions.get_mut(place) else { return };
        self.read += 1;
        partition.read(offset);
        partition.bytes += item.bytes;
        let id = match partition.chains.get(&chain) {
            Some(id) => *id,
            None => {
                let id = self.next_id;
                self.next_id += 1;
                partition.chains.insert(chain.clone(), id);
                let readable: Vec<_> = self.sinks.iter().map(|sink| sink.readable_heads).collect();
                let fresh = Chain::new(chain, place.clone(), &readable, item.sequence);
                self.chains.insert(id, fresh);
                self.halt_again(id);
                self.ask_all(id);
                id
            }
        };
        let rules = self.rules();
        let Some(chain) = self.chains.get_mut(&id) else { return };
        chain.heard = self.read;
        let effects = chain.arrive(item, rules);
        self.follow(id, effects);
        if self.chains.len() > self.forget_above {
            self.forget();
        }
    }

    /// Takes a message that is none.
    pub(super) fn stray(&mut self, problem: Problem, content: Refused, bytes: usize) {
        let place = (problem.topic.clone(), problem.partition);
        let Some(partition) = self.partitions.get_mut(&place) else { return };
        self.read += 1;
        let offset = problem.offset;
        partition.read(offset);
        partition.bytes += bytes;
        self.refuse(problem, content, bytes);
        self.done(&place, offset, bytes);
    }

    fn rules(&self) -> Rules {
        Rules { now: Instant::now(), quarantine: self.limits.quarantine }
    }

    /// Does in the partition and for the sinks what follows from what happened to a chain.
    fn follow(&mut self, id: u64, effects: Effects) {
        let Effects { rejected, done } = effects;
        if !rejected.is_empty() || !done.is_empty() {
            let Some(chain) = self.chains.get(&id) else { return };
            let (place, name) = (chain.place.clone(), chain.chain.clone());
            for rejection in rejected {
                self.reject(&place, &name, rejection);
            }
            for Done { offset, bytes, end } in done {
                match end {
                    End::Relayed => self.relayed += 1,
                    End::Copy => self.copies += 1,
                    End::Refused => {}
                }
                self.done(&place, offset, bytes);
            }
        }
        for sink in 0..self.sinks.len() {
            self.offer(sink, id);
        }
        self.watch_gap(id);
    }

    /// Nobody holds a message any more, for one of the reasons to hold it.
    fn done(&mut self, place: &(String, i32), offset: i64, bytes: usize) {
        if let Some(partition) = self.partitions.get_mut(place) {
            partition.close(offset);
            partition.bytes = partition.bytes.saturating_sub(bytes);
        }
    }

    /// Forgets chains at rest, those first that were unheard of for longest. Those that are halted
    /// somewhere are remembered as such.
    fn forget(&mut self) {
        let mut resting: Vec<(u64, u64)> = self
            .chains
            .iter()
            .filter(|(_, chain)| chain.is_at_rest())
            .map(|(id, chain)| (chain.heard, *id))
            .collect();
        resting.sort_unstable();
        let most = self.limits.max_chains / 4 + 1;
        for (_, id) in resting.into_iter().take(most) {
            if let Some(chain) = self.chains.remove(&id)
                && let Some(partition) = self.partitions.get_mut(&chain.place)
            {
                partition.chains.remove(&chain.chain);
            }
        }
        // Where all are busy, looking again at each event would be the main work.
        let soon = self.chains.len() + self.limits.max_chains / 8;
        self.forget_above = self.limits.max_chains.max(soon).max(1);
    }

    /// Whether nothing is on its way to a sink or to the quarantine.
    pub(super) fn is_idle(&self) -> bool {
        self.refusals.is_empty() && !self.chains.values().any(Chain::is_moving)
    }
}

impl SinkState {
    pub(super) fn new(info: &SinkInfo) -> Self {
        Self {
            name: info.name.clone(),
            readable_heads: info.readable_heads,
            max_events: info.max_batch_events.max(1),
            max_bytes: info.max_batch_bytes.max(1),
            sending: sending::Line::default(),
            asking: asking::Line::default(),
            last_error: None,
            acknowledged: 0,
        }
    }
}
