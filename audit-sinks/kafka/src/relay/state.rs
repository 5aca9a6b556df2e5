//! What the relay holds in memory: partitions, their chains, and how far each sink is.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Head, Segment},
};

use super::{
    chain::{Chain, Contact, Item},
    check::{Check, Verdict},
    partition::Partition,
    status::{Gap, PartitionStatus, Problem, ProblemKind, RelaySinkStatus, RelayStatus},
};

/// How many problems are kept to be shown.
const SHOWN_PROBLEMS: usize = 100;

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
    pub(super) max_events: usize,
    pub(super) max_bytes: usize,
    /// Chains with something to send, in order of arrival.
    ready: VecDeque<u64>,
    /// Chains that failed, and when they are tried again.
    delayed: BTreeSet<(Instant, u64)>,
    /// The whole sink is left alone until then.
    pub(super) rests_until: Option<Instant>,
    pub(super) failures: u32,
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
    /// Chains whose heads have to be asked for, and those that wait for a missing event.
    pub(super) unknown: VecDeque<u64>,
    gapped: BTreeSet<u64>,
    /// What is to be written to the quarantine.
    pub(super) refusals: VecDeque<Refusal>,
    read: u64,
    relayed: u64,
    copies: u64,
    problems: u64,
    latest: VecDeque<Problem>,
    pub(super) last_error: Option<String>,
}

/// A message on its way to the quarantine.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) problem: Problem,
    pub(super) content: Refused,
    bytes: usize,
}

/// What is kept of it.
#[derive(Debug)]
pub(super) enum Refused {
    Event(Record),
    Raw { key: Option<Vec<u8>>, value: Option<Vec<u8>> },
}

/// What a sink is asked to store of one chain.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) chain: u64,
    pub(super) segment: Segment,
    /// The place of its first event in the chain's queue.
    pub(super) ticket: u64,
    /// These events are old: the sinks compare them with what they hold.
    pub(super) old: bool,
}

/// What became of a load.
#[derive(Debug)]
pub(super) enum Settled {
    /// So many events from its beginning are stored. All of them, where it is as many.
    Stored(usize),
    /// So many are stored, the next one is refused for good.
    Refused(usize, String),
    /// It is tried again then.
    Again(Instant, String),
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
            unknown: VecDeque::new(),
            gapped: BTreeSet::new(),
            refusals: VecDeque::new(),
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
                let readable = self.sinks.iter().any(|sink| sink.readable_heads);
                let fresh = Chain::new(chain, place.clone(), self.sinks.len());
                self.chains.insert(id, fresh);
                if readable {
                    self.unknown.push_back(id);
                } else if let Some(chain) = self.chains.get_mut(&id) {
                    chain.contact = Contact::Known(Check::at(item.sequence));
                }
                id
            }
        };
        let Some(chain) = self.chains.get_mut(&id) else { return };
        chain.heard = self.read;
        if matches!(chain.contact, Contact::Unknown) {
            chain.inbox.push_back(item);
        } else {
            self.take(id, item);
        }
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

    /// Puts an event where it belongs in its chain.
    fn take(&mut self, id: u64, item: Item) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let Contact::Known(check) = &mut chain.contact else { return };
        match check.judge(item.sequence, item.previous, item.hash) {
            Verdict::Next => {
                check.advance(item.hash);
                self.push(id, item, false);
                self.after_gap(id);
            }
            Verdict::Old => self.push(id, item, true),
            Verdict::Copy => {
                self.copies += 1;
                let place = chain.place.clone();
                self.done(&place, item.offset, item.bytes);
            }
            Verdict::Early => self.early(id, item),
            Verdict::Conflict => {
                let why = "another event was read at its position, and stays";
                self.reject(id, item, ProblemKind::Conflict, None, why.to_owned());
            }
            Verdict::Unlinked => {
                let why = "it is not linked to the event before it";
                self.reject(id, item, ProblemKind::Unlinked, None, why.to_owned());
            }
        }
    }

    /// Appends an event to what the sinks are to get.
    fn push(&mut self, id: u64, item: Item, old: bool) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        chain.queue.push_back((item, old));
        for sink in 0..self.sinks.len() {
            self.offer(sink, id);
        }
    }

    /// Lets a sink know that a chain has something for it; what it will not get is passed.
    fn offer(&mut self, sink: usize, id: u64) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let end = chain.end();
        let lane = &mut chain.lanes[sink];
        if lane.busy || lane.cursor >= end {
            return;
        }
        if lane.halted.is_none() {
            lane.busy = true;
            self.sinks[sink].ready.push_back(id);
            return;
        }
        self.pass_halted(sink, id);
    }

    /// What a sink will not get, because it refused an event before it.
    fn pass_halted(&mut self, sink: usize, id: u64) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let (from, end) = (chain.lanes[sink].cursor, chain.end());
        let why = chain.lanes[sink].halted.clone().unwrap_or_default();
        let mut refused = Vec::new();
        for ticket in from..end {
            if let Some((item, _)) = chain.at(ticket) {
                refused.push((item.offset, item.sequence, item.record.clone(), item.bytes));
            }
        }
        chain.lanes[sink].cursor = end;
        let (place, name) = (chain.place.clone(), chain.chain.clone());
        for (offset, sequence, record, bytes) in refused {
            let problem = Problem {
                kind: ProblemKind::Refused,
                topic: place.0.clone(),
                partition: place.1,
                offset,
                event: Some((name.clone(), sequence)),
                sink: Some(self.sinks[sink].name.clone()),
                message: why.clone(),
            };
            self.refuse(problem, Refused::Event(record), bytes);
        }
        self.settle(id);
    }

    /// Holds an event until the one before it is there.
    fn early(&mut self, id: u64, item: Item) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let place = chain.place.clone();
        match chain.early.get(&item.sequence) {
            Some(known) if known.hash == item.hash => {
                self.copies += 1;
                self.done(&place, item.offset, item.bytes);
            }
            Some(_) => {
                let why = "another event was read at its position, and events before both miss";
                self.reject(id, item, ProblemKind::Conflict, None, why.to_owned());
            }
            None if chain.gave_up && self.limits.quarantine => {
                let why = missing(chain.next());
                self.reject(id, item, ProblemKind::Gap, None, why);
            }
            None => {
                chain.gap_since.get_or_insert_with(Instant::now);
                if let Some(partition) = self.partitions.get_mut(&place) {
                    partition.early_bytes += item.bytes;
                }
                chain.early.insert(item.sequence, item);
                self.gapped.insert(id);
            }
        }
    }

    /// Takes what waited for the event that has come.
    fn after_gap(&mut self, id: u64) {
        loop {
            let Some(chain) = self.chains.get_mut(&id) else { return };
            let next = chain.next();
            let Some(first) = chain.early.first_entry().filter(|first| *first.key() <= next) else {
                if chain.early.is_empty() {
                    chain.gap_since = None;
                    chain.gap_reported = false;
                    self.gapped.remove(&id);
                }
                return;
            };
            let item = first.remove();
            if let Some(partition) = self.partitions.get_mut(&chain.place) {
                partition.early_bytes -= item.bytes;
            }
            self.take(id, item);
        }
    }

    /// Takes the answer of the sinks with readable heads: what all of them hold of a chain.
    pub(super) fn met(&mut self, id: u64, head: Option<Head>) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        match &mut chain.contact {
            Contact::Unknown => {
                chain.contact = Contact::Known(Check::after(head));
                for item in std::mem::take(&mut chain.inbox) {
                    self.take(id, item);
                }
            }
            Contact::Known(check) => {
                if check.catch_up(head) {
                    chain.gave_up = false;
                    self.after_gap(id);
                }
            }
        }
    }

    /// Gives up waiting where it was long enough, or where too much is held for it.
    pub(super) fn give_up_gaps(&mut self, now: Instant) {
        let share = self.share();
        for id in self.gapped.clone() {
            let Some(chain) = self.chains.get_mut(&id) else { continue };
            let late = chain.gap_since.is_some_and(|since| now - since >= self.limits.gap_timeout);
            let crowded = self
                .partitions
                .get(&chain.place)
                .is_some_and(|partition| partition.early_bytes > share / 2);
            if late && !std::mem::replace(&mut chain.gap_reported, true) {
                tracing::warn!(
                    chain = %chain.chain, missing = chain.next(), waiting = chain.early.len(),
                    "events are missing"
                );
            }
            if !(crowded || late && self.limits.quarantine) {
                continue;
            }
            chain.gave_up = true;
            let why = missing(chain.next());
            let items = std::mem::take(&mut chain.early);
            chain.gap_since = None;
            let place = chain.place.clone();
            self.gapped.remove(&id);
            for item in items.into_values() {
                if let Some(partition) = self.partitions.get_mut(&place) {
                    partition.early_bytes -= item.bytes;
                }
                self.reject(id, item, ProblemKind::Gap, None, why.clone());
            }
        }
    }

    /// Chains that wait for an event: another relay may have brought it to the sinks.
    pub(super) fn gapped(&self) -> Vec<u64> {
        self.gapped.iter().copied().collect()
    }

    fn reject(
        &mut self,
        id: u64,
        item: Item,
        kind: ProblemKind,
        sink: Option<usize>,
        message: String,
    ) {
        let Some(chain) = self.chains.get(&id) else { return };
        let place = chain.place.clone();
        let problem = Problem {
            kind,
            topic: place.0.clone(),
            partition: place.1,
            offset: item.offset,
            event: Some((chain.chain.clone(), item.sequence)),
            sink: sink.map(|sink| self.sinks[sink].name.clone()),
            message,
        };
        let (offset, bytes) = (item.offset, item.bytes);
        self.refuse(problem, Refused::Event(item.record), bytes);
        self.done(&place, offset, bytes);
    }

    /// Notes a message that belongs nowhere: offsets stay before it, or before it is quarantined.
    fn refuse(&mut self, problem: Problem, content: Refused, bytes: usize) {
        self.problems += 1;
        if self.problems.is_power_of_two() {
            tracing::warn!(problems = self.problems, kind = %problem.kind, "{problem}");
        }
        let place = (problem.topic.clone(), problem.partition);
        if self.latest.len() == SHOWN_PROBLEMS {
            self.latest.pop_front();
        }
        self.latest.push_back(problem.clone());
        let Some(partition) = self.partitions.get_mut(&place) else { return };
        if self.limits.quarantine {
            partition.open(problem.offset);
            partition.bytes += bytes;
            self.refusals.push_back(Refusal { problem, content, bytes });
        } else {
            partition.stick(problem.offset);
        }
    }

    /// These refusals are in the quarantine.
    pub(super) fn quarantined(&mut self, refusals: &[Refusal]) {
        for Refusal { problem, bytes, .. } in refusals {
            self.done(&(problem.topic.clone(), problem.partition), problem.offset, *bytes);
        }
    }

    fn done(&mut self, place: &(String, i32), offset: i64, bytes: usize) {
        if let Some(partition) = self.partitions.get_mut(place) {
            partition.close(offset);
            partition.bytes = partition.bytes.saturating_sub(bytes);
        }
    }

    /// Lets go of what every sink has passed.
    fn settle(&mut self, id: u64) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let passed = chain.lanes.iter().map(|lane| lane.cursor).min().unwrap_or(chain.end());
        let mut done = Vec::new();
        while chain.base < passed {
            let Some((item, _)) = chain.queue.pop_front() else { break };
            chain.base += 1;
            done.push((item.offset, item.bytes));
        }
        let place = chain.place.clone();
        self.relayed += done.len() as u64;
        for (offset, bytes) in done {
            self.done(&place, offset, bytes);
        }
    }

    /// What to send to a sink next; none where there is nothing, and then when to look again.
    pub(super) fn next_loads(
        &mut self,
        sink: usize,
        now: Instant,
    ) -> Result<Vec<Load>, Option<Instant>> {
        let state = &mut self.sinks[sink];
        if let Some(until) = state.rests_until {
            if now < until {
                return Err(Some(until));
            }
            state.rests_until = None;
        }
        while let Some((due, id)) = state.delayed.first().copied().filter(|(due, _)| *due <= now) {
            state.delayed.remove(&(due, id));
            state.ready.push_back(id);
        }
        let (mut events, mut bytes) = (0, 0);
        let mut loads = Vec::new();
        let mut broken = Vec::new();
        while let Some(id) = state.ready.front().copied() {
            let Some(chain) = self.chains.get_mut(&id) else {
                state.ready.pop_front();
                continue;
            };
            if chain.lanes[sink].cursor >= chain.end() {
                chain.lanes[sink].busy = false;
                state.ready.pop_front();
                continue;
            }
            let room = (state.max_events - events, state.max_bytes.saturating_sub(bytes));
            let Some(load) = chain.load(id, sink, room, loads.is_empty()) else { break };
            state.ready.pop_front();
            match load {
                Ok((load, size)) => {
                    events += load.segment.len();
                    bytes += size;
                    loads.push(load);
                }
                Err(why) => broken.push((id, why)),
            }
            if events >= state.max_events || bytes >= state.max_bytes {
                break;
            }
        }
        let wake = state.delayed.first().map(|(due, _)| *due);
        for (id, why) in broken {
            self.halt(sink, id, why);
        }
        if loads.is_empty() { Err(wake) } else { Ok(loads) }
    }

    /// Takes up what became of a load.
    pub(super) fn settled(&mut self, sink: usize, load: &Load, settled: Settled) {
        let id = load.chain;
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let lane = &mut chain.lanes[sink];
        lane.busy = false;
        lane.again = None;
        match settled {
            Settled::Stored(events) => {
                lane.failures = 0;
                lane.cursor = load.ticket + events as u64;
                self.sinks[sink].acknowledged += events as u64;
            }
            Settled::Again(due, error) => {
                lane.failures = lane.failures.saturating_add(1);
                lane.busy = true;
                lane.again = Some(load.segment.len());
                self.sinks[sink].last_error = Some(error);
                self.sinks[sink].delayed.insert((due, id));
                return;
            }
            Settled::Refused(events, why) => {
                lane.cursor = load.ticket + events as u64;
                self.sinks[sink].acknowledged += events as u64;
                self.sinks[sink].last_error = Some(why.clone());
                if load.old {
                    self.pass_one(sink, id, why);
                } else {
                    self.halt(sink, id, why);
                }
            }
        }
        self.settle(id);
        self.offer(sink, id);
    }

    /// An old event that a sink refuses says nothing about those after it.
    fn pass_one(&mut self, sink: usize, id: u64, why: String) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let ticket = chain.lanes[sink].cursor;
        chain.lanes[sink].cursor += 1;
        let place = chain.place.clone();
        let Some((item, _)) = chain.at(ticket) else { return };
        let problem = Problem {
            kind: ProblemKind::Refused,
            topic: place.0.clone(),
            partition: place.1,
            offset: item.offset,
            event: Some((chain.chain.clone(), item.sequence)),
            sink: Some(self.sinks[sink].name.clone()),
            message: why,
        };
        let (record, bytes) = (item.record.clone(), item.bytes);
        self.refuse(problem, Refused::Event(record), bytes);
    }

    fn halt(&mut self, sink: usize, id: u64, why: String) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        chain.lanes[sink].busy = false;
        chain.lanes[sink].halted = Some(why);
        self.pass_halted(sink, id);
    }

    /// Whether no chain fails at a sink at present.
    pub(super) fn is_sound(&self, sink: usize) -> bool {
        let sound = |chain: &Chain| {
            let lane = &chain.lanes[sink];
            lane.failures == 0 && lane.halted.is_none()
        };
        self.sinks[sink].delayed.is_empty() && self.chains.values().all(sound)
    }

    /// Whether the sinks have not answered yet about a chain.
    pub(super) fn is_unknown(&self, id: u64) -> bool {
        self.chains.get(&id).is_some_and(|chain| matches!(chain.contact, Contact::Unknown))
    }

    pub(super) fn failures(&self, sink: usize, id: u64) -> u32 {
        self.chains.get(&id).map_or(0, |chain| chain.lanes[sink].failures)
    }

    /// Forgets chains at rest, those first that were unheard of for longest.
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
        self.refusals.is_empty()
            && self.chains.values().all(|chain| chain.queue.is_empty() && chain.inbox.is_empty())
    }

    pub(super) fn status(&self) -> RelayStatus {
        let mut partitions: Vec<_> = self
            .partitions
            .values()
            .map(|partition| PartitionStatus {
                topic: partition.topic.clone(),
                partition: partition.partition,
                committed: partition.committed,
                position: partition.position(),
                end: partition.end,
                open: partition.open_messages(),
                paused: partition.paused,
                stuck_at: partition.stuck_at,
            })
            .collect();
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let halted = |sink: usize| {
            self.chains.values().filter(|chain| chain.lanes[sink].halted.is_some()).count()
        };
        let sinks = self.sinks.iter().enumerate().map(|(at, sink)| RelaySinkStatus {
            name: sink.name.clone(),
            acknowledged: sink.acknowledged,
            failures: sink.failures,
            last_error: sink.last_error.clone(),
            halted: halted(at),
        });
        let gaps = self.gapped.iter().filter_map(|id| self.chains.get(id)).map(|chain| Gap {
            chain: chain.chain.clone(),
            missing: chain.next(),
            waiting: chain.early.len(),
        });
        RelayStatus {
            partitions,
            sinks: sinks.collect(),
            read: self.read,
            relayed: self.relayed,
            copies: self.copies,
            problems: self.problems,
            gaps: gaps.collect(),
            latest_problems: self.latest.iter().cloned().collect(),
            last_error: self.last_error.clone(),
        }
    }
}

impl SinkState {
    pub(super) fn new(info: &agent_audit_core::sink::SinkInfo) -> Self {
        Self {
            name: info.name.clone(),
            readable_heads: info.readable_heads,
            max_events: info.max_batch_events.max(1),
            max_bytes: info.max_batch_bytes.max(1),
            ready: VecDeque::new(),
            delayed: BTreeSet::new(),
            rests_until: None,
            failures: 0,
            last_error: None,
            acknowledged: 0,
        }
    }
}

fn missing(next: u64) -> String {
    format!("event {next} before it is missing")
}
