//! What delivery knows of each chain at one sink: a few words, whatever the backlog.
//!
//! A chain is **live** as long as the main flow delivers it. When something of it fails it **lags**:
//! the main flow passes over it, and catch-up reads it from the journal again, from the entry before
//! which nothing of it is left. A chain that lags because of a fault of its own is **apart**: it is
//! sent in calls of its own beside the main flow until it has caught up. When a retry cannot help a
//! chain is **halted**.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    canonical::EventView,
    chain::ChainRef,
    error::{AuditError, AuditErrorKind},
    hash::Hash,
    id::{ChainId, InvalidId, TenantId},
    sink::{Head, SinkError},
    timestamp::Timestamp,
};

use super::{
    cursor::{ChainCursor, Cursor},
    health::{
        Circuit, HaltReason, HaltedChain, MissingEvents, MissingReason, SinkCounters, SinkState,
    },
};

/// The place of a chain in the ledger.
pub(super) type SlotId = usize;

/// All chains at one sink.
#[derive(Debug)]
pub(super) struct Ledger {
    sink: String,
    slots: Vec<Slot>,
    by_name: HashMap<Box<str>, SlotId>,
    /// The chains that are not simply live: they hold on to entries of the journal.
    pinned: BTreeSet<SlotId>,
    waiters: HashMap<Box<str>, Vec<Waiter>>,
    name: String,
    nature: Nature,
    /// What the sink does not have and will not get by itself.
    missing: BTreeMap<SlotId, Vec<Missing>>,
    /// Entries before this one are settled, but for what the pinned chains hold on to.
    pub(super) position: u64,
    /// Entries before this one have been read by the main flow, which has passed over what lags.
    pub(super) passed: u64,
    /// So many events of live chains the main flow holds, which it has not settled.
    pub(super) in_hand: u64,
    /// Something has changed since the cursor was stored.
    pub(super) dirty: bool,
    /// The fault of the sink as a whole, while there is one.
    trouble: Option<Trouble>,
    /// The main flow holds a batch that failed, and tries it again: that tells how the sink is.
    pub(super) retrying: bool,
    /// That batch is on its way.
    pub(super) trying: bool,
    /// The state that has been told of last.
    noted: SinkState,
    pub(super) counters: SinkCounters,
    pub(super) last_acknowledged: Option<Timestamp>,
    /// The last fault of a lagging chain.
    pub(super) last_fault: Option<Fault>,
    pub(super) ended: bool,
}

/// A fault of a chain by itself.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) retryable: bool,
    pub(super) message: String,
}

impl From<&SinkError> for Fault {
    fn from(error: &SinkError) -> Self {
        Self { retryable: error.is_retryable(), message: error.to_string() }
    }
}

/// What a sink is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nature {
    pub(super) ask_heads: bool,
    pub(super) accepts_gaps: bool,
}

/// Events that the sink does not have.
#[derive(Debug, Clone, Copy)]
struct Missing {
    first: u64,
    last: u64,
    reason: MissingReason,
}

/// A fault of the sink as a whole.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) failures: u32,
    pub(super) blocked: bool,
    pub(super) message: String,
}

/// One chain at one sink.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) chain: ChainRef,
    /// The position that the sink has to acknowledge next.
    pub(super) next: u64,
    /// The position after the last that the main flow has seen.
    end: u64,
    pub(super) flow: Flow,
    pub(super) contact: Contact,
    /// The journal was searched from its beginning for the next event.
    rewound: bool,
}

/// Who delivers a chain.
#[derive(Debug)]
pub(super) enum Flow {
    Live,
    Lagging(Lag),
    Halted { from: u64, sequence: u64, reason: HaltReason, message: String },
}

/// A chain that catch-up delivers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lag {
    /// Nothing of the chain is left before this entry.
    pub(super) from: u64,
    pub(super) failures: u32,
    pub(super) due: Instant,
    /// It failed by itself, and is sent by itself until it has caught up.
    pub(super) apart: bool,
    /// The segment whose outcome is unknown, which has to come again as it was.
    pub(super) exact: Option<Exact>,
}

/// The extent of a segment that begins at the next position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exact {
    pub(super) last: u64,
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// What is known of what the sink itself says it has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Contact {
    /// It has not been asked in this process.
    Unknown,
    /// It says that this is its head, which has to be found in the journal from entry `from` on, and
    /// before entry `by`, which was not durable when it was asked.
    Verify {
        head: Head,
        from: u64,
        by: u64,
    },
    Settled,
}

/// What to do with an entry of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// The sink has it.
    Skip,
    /// The next event should be here, and a later one is.
    Hole,
    /// The sink has another event at its head.
    Conflict,
}

#[derive(Debug)]
struct Waiter {
    sequence: u64,
    answer: oneshot::Sender<Result<(), AuditError>>,
}

impl Ledger {
    pub(super) fn new(sink: &str, nature: Nature, cursor: Cursor) -> Self {
        let mut ledger = Self {
            sink: sink.to_owned(),
            slots: Vec::new(),
            by_name: HashMap::new(),
            pinned: BTreeSet::new(),
            waiters: HashMap::new(),
            name: String::new(),
            nature,
            missing: BTreeMap::new(),
            position: cursor.position,
            passed: cursor.position,
            in_hand: 0,
            dirty: false,
            trouble: None,
            retrying: false,
            trying: false,
            noted: SinkState::Working,
            counters: SinkCounters::default(),
            last_acknowledged: None,
            last_fault: None,
            ended: false,
        };
        for ChainCursor { chain, next, from } in cursor.chains {
            let id = ledger.insert(chain, next);
            if let Some(from) = from {
                ledger.set_flow(id, Flow::Lagging(Lag::now(from)));
            }
        }
        for MissingEvents { chain, first, last, reason } in cursor.missing {
            let known = ledger.by_name.get(&name_of(&chain)).copied();
            let id = known.unwrap_or_else(|| ledger.insert(chain, first));
            ledger.missing.entry(id).or_default().push(Missing { first, last, reason });
        }
        ledger
    }

    pub(super) fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id]
    }

    /// The chain of an event; one that is new here begins with it.
    pub(super) fn find(&mut self, view: &EventView<'_>) -> Result<SlotId, InvalidId> {
        write_name(&mut self.name, view.tenant_id, view.chain_id);
        if let Some(id) = self.by_name.get(self.name.as_str()) {
            return Ok(*id);
        }
        let (tenant, chain) = (TenantId::new(view.tenant_id)?, ChainId::new(view.chain_id)?);
        Ok(self.insert(ChainRef::new(tenant, chain), view.sequence))
    }

    fn insert(&mut self, chain: ChainRef, next: u64) -> SlotId {
        let id = self.slots.len();
        self.by_name.insert(name_of(&chain), id);
        let contact = self.stranger();
        self.slots.push(Slot { chain, next, end: next, flow: Flow::Live, contact, rewound: false });
        id
    }

    fn stranger(&self) -> Contact {
        if self.nature.ask_heads { Contact::Unknown } else { Contact::Settled }
    }

    pub(super) fn id_of(&self, chain: &ChainRef) -> Option<SlotId> {
        self.by_name.get(&name_of(chain)).copied()
    }

    /// The main flow has come past an event.
    pub(super) fn pass(&mut self, id: SlotId, sequence: u64) {
        let slot = &mut self.slots[id];
        slot.end = slot.end.max(sequence + 1);
    }

    /// Judges an event, of whose chain `taken` events are on their way already.
    pub(super) fn judge(
        &mut self,
        id: SlotId,
        taken: u64,
        sequence: u64,
        previous: Hash,
        event_hash: impl FnOnce() -> Hash,
    ) -> Verdict {
        let slot = &mut self.slots[id];
        if let Contact::Verify { head, .. } = slot.contact {
            let same = match sequence.checked_sub(head.sequence) {
                None => return Verdict::Skip,
                Some(0) => event_hash() == head.event_hash,
                Some(1) => previous == head.event_hash,
                Some(_) => return Verdict::Hole,
            };
            if !same {
                return Verdict::Conflict;
            }
            slot.contact = Contact::Settled;
            self.acknowledge(id, head.sequence + 1);
            self.repin(id);
        }
        match sequence.cmp(&(self.slots[id].next + taken)) {
            std::cmp::Ordering::Less => Verdict::Skip,
            std::cmp::Ordering::Equal => Verdict::Take,
            // What the sink says that it has decides.
            _ if taken == 0 && matches!(self.slots[id].contact, Contact::Unknown) => Verdict::Take,
            std::cmp::Ordering::Greater => Verdict::Hole,
        }
    }

    /// Takes up what the sink says it has of a chain, of which entry `from` is the first not settled.
    pub(super) fn meet(&mut self, id: SlotId, head: Option<Head>, from: u64, by: u64) {
        let slot = &mut self.slots[id];
        match head {
            None => {
                slot.next = 0;
                slot.contact = Contact::Settled;
            }
            Some(head) => {
                slot.next = slot.next.min(head.sequence + 1);
                slot.contact = Contact::Verify { head, from, by };
            }
        }
        self.repin(id);
    }

    /// The sink has everything before `next`.
    pub(super) fn acknowledge(&mut self, id: SlotId, next: u64) {
        self.dirty = true;
        let slot = &mut self.slots[id];
        if next > slot.next {
            slot.next = next;
            slot.end = slot.end.max(next);
            slot.rewound = false;
            self.answer(id, |waiter| (waiter.sequence < next).then_some(Ok(())));
            self.filled(id, next);
        }
    }

    /// A sink that refuses gaps has everything before `next`, so it was given what was missing.
    fn filled(&mut self, id: SlotId, next: u64) {
        let Some(missing) = self.missing.get_mut(&id) else { return };
        if self.nature.accepts_gaps {
            return;
        }
        let listed = missing.len();
        missing.retain(|missing| missing.last >= next);
        if missing.len() < listed {
            let chain = &self.slots[id].chain;
            tracing::info!(
                sink = %self.sink, tenant = %chain.tenant_id, chain = %chain.chain_id, next,
                "a sink has events that it had missed"
            );
        }
        if missing.is_empty() {
            self.missing.remove(&id);
        }
    }

    /// The chain goes on behind events that the sink does not get.
    fn skip(&mut self, id: SlotId, first: u64, last: u64, reason: MissingReason) {
        self.note_missing(id, Missing { first, last, reason });
        let slot = &mut self.slots[id];
        slot.next = slot.next.max(last + 1);
        slot.end = slot.end.max(slot.next);
        slot.rewound = false;
        let error = self.gone(id, first, reason);
        self.answer(id, |waiter| {
            (first..=last).contains(&waiter.sequence).then(|| Err(error.clone()))
        });
    }

    fn note_missing(&mut self, id: SlotId, missing: Missing) {
        self.dirty = true;
        let listed = self.missing.entry(id).or_default();
        match listed.last_mut() {
            Some(last)
                if last.reason == MissingReason::Trimmed
                    && missing.reason == MissingReason::Trimmed
                    && missing.first <= last.last + 1 =>
            {
                last.first = last.first.min(missing.first);
                last.last = last.last.max(missing.last);
            }
            _ => listed.push(missing),
        }
    }

    /// An event was refused for good and is kept aside; the chain goes on behind it.
    pub(super) fn quarantine(&mut self, id: SlotId, sequence: u64) {
        self.counters.quarantined += 1;
        let chain = &self.slots[id].chain;
        tracing::error!(
            sink = %self.sink, tenant = %chain.tenant_id, chain = %chain.chain_id, sequence,
            "a sink refuses an event for good, which is kept aside"
        );
        self.skip(id, sequence, sequence, MissingReason::Quarantined);
    }

    /// The sink has taken an event that was kept aside.
    pub(super) fn released(&mut self, chain: &ChainRef, sequence: u64) {
        let Some(id) = self.id_of(chain) else { return };
        let Some(missing) = self.missing.get_mut(&id) else { return };
        missing.retain(|missing| {
            (missing.reason, missing.first) != (MissingReason::Quarantined, sequence)
        });
        if missing.is_empty() {
            self.missing.remove(&id);
        }
        self.dirty = true;
    }

    /// The journal lets go of entries before `floor`: of a chain, of events `first` to `last`.
    /// Says whether the chain is halted by that.
    pub(super) fn give_up(&mut self, id: SlotId, floor: u64, first: u64, last: u64) -> bool {
        self.counters.missing += (last + 1).saturating_sub(first);
        if self.nature.accepts_gaps {
            self.skip(id, first, last, MissingReason::Trimmed);
            let slot = &mut self.slots[id];
            slot.contact = Contact::Settled;
            let refused = matches!(&slot.flow, Flow::Halted { reason: HaltReason::Rejected, .. });
            if refused || matches!(slot.flow, Flow::Lagging(_)) {
                self.set_flow(id, Flow::Lagging(Lag::now(floor)));
            }
            return false;
        }
        self.note_missing(id, Missing { first, last, reason: MissingReason::Trimmed });
        let was = matches!(&self.slots[id].flow, Flow::Halted { reason: HaltReason::Trimmed, .. });
        self.slots[id].contact = self.stranger();
        let (first, message) = self.trimmed_message(id, first);
        match was {
            true => {
                let reason = HaltReason::Trimmed;
                let flow = Flow::Halted { from: floor, sequence: first, reason, message };
                self.set_flow(id, flow);
            }
            false => self.halt(id, floor, first, HaltReason::Trimmed, message),
        }
        !was
    }

    fn trimmed_message(&self, id: SlotId, first: u64) -> (u64, String) {
        let (first, last) = match self.missing.get(&id).and_then(|missing| missing.last()) {
            Some(missing) => (missing.first, missing.last),
            None => (first, first),
        };
        let message = format!(
            "the sink did not take events {first} to {last} in time, and the journal let go of \
             them: copy them to the sink from another store, then retry the chain"
        );
        (first, message)
    }

    /// Nothing of any chain is needed before `floor`.
    pub(super) fn let_go(&mut self, floor: u64) {
        self.dirty = true;
        for id in self.pinned.iter().copied().collect::<Vec<_>>() {
            let slot = &mut self.slots[id];
            match &mut slot.flow {
                Flow::Lagging(Lag { from, .. }) | Flow::Halted { from, .. } => {
                    *from = (*from).max(floor);
                }
                Flow::Live => {}
            }
            if let Contact::Verify { from, .. } = &mut slot.contact {
                *from = (*from).max(floor);
            }
        }
        self.position = self.position.max(floor);
        self.passed = self.passed.max(self.position);
    }

    /// The oldest entry that the sink may still need.
    pub(super) fn low(&self) -> u64 {
        let pins = self.pinned.iter().filter_map(|id| self.slots[*id].pin());
        pins.fold(self.position, u64::min)
    }

    /// Tries a halted chain once more; false where it is not halted.
    pub(super) fn retry(&mut self, id: SlotId) -> bool {
        let stranger = self.stranger();
        let slot = &mut self.slots[id];
        let Flow::Halted { from, reason, .. } = slot.flow else { return false };
        slot.rewound = false;
        slot.contact = stranger;
        let chain = slot.chain.clone();
        // Whatever else stopped the chain says nothing about what it missed before.
        if matches!(stranger, Contact::Settled)
            && reason == HaltReason::Trimmed
            && let Some(last) = self.missing.remove(&id).and_then(|missing| missing.last().copied())
        {
            // It cannot say what it holds, so who asks is believed.
            let slot = &mut self.slots[id];
            slot.next = slot.next.max(last.last + 1);
            tracing::warn!(
                sink = %self.sink, tenant = %chain.tenant_id, chain = %chain.chain_id,
                "a chain goes on at a sink that is said to have been given what it missed"
            );
        }
        tracing::info!(
            sink = %self.sink, tenant = %chain.tenant_id, chain = %chain.chain_id,
            "a halted chain is tried again"
        );
        self.set_flow(id, Flow::Lagging(Lag::now(from)));
        true
    }

    /// Catch-up takes the chain over.
    pub(super) fn lag(&mut self, id: SlotId, lag: Lag) {
        self.set_flow(id, Flow::Lagging(lag));
    }

    /// Catch-up has come as far as the main flow.
    pub(super) fn rejoin(&mut self, id: SlotId) {
        self.set_flow(id, Flow::Live);
        self.ease();
    }

    /// Forgets the last fault once no chain has failed that has not been taken since.
    pub(super) fn ease(&mut self) {
        if self.lagging().all(|(_, lag)| lag.failures == 0) {
            self.last_fault = None;
        }
    }

    /// Searches the journal from its beginning for the next event; the second time in a row there
    /// is none, so the chain is halted.
    pub(super) fn rewind(&mut self, id: SlotId, first_index: u64, at: u64) {
        let slot = &mut self.slots[id];
        if !slot.rewound {
            slot.rewound = true;
            if let Contact::Verify { from, .. } = &mut slot.contact {
                *from = first_index;
            }
            return self.set_flow(id, Flow::Lagging(Lag::now(first_index)));
        }
        let next = slot.next;
        if self.is_missing(id, next).is_some() {
            let (first, message) = self.trimmed_message(id, next);
            return self.halt(id, at, first, HaltReason::Trimmed, message);
        }
        let message = format!(
            "the sink holds the events before {next}, and the journal no longer holds event {next}: \
             restore the sink from a backup, or copy the missing events from another store"
        );
        self.halt(id, at, next, HaltReason::Corrupt, message);
    }

    /// No retry helps; `from` is the first entry not settled.
    pub(super) fn halt(
        &mut self,
        id: SlotId,
        from: u64,
        sequence: u64,
        reason: HaltReason,
        message: String,
    ) {
        let chain = &self.slots[id].chain;
        tracing::error!(
            sink = %self.sink,
            tenant = %chain.tenant_id,
            chain = %chain.chain_id,
            sequence,
            ?reason,
            reason_text = %message,
            "a chain is no longer sent to a sink"
        );
        self.set_flow(id, Flow::Halted { from, sequence, reason, message });
        let error = self.refusal(id);
        let next = self.slots[id].next;
        self.answer(id, |waiter| (waiter.sequence >= next).then(|| Err(error.clone())));
    }

    /// The sink says that its head is `sequence`, and has another event there.
    pub(super) fn halt_at_head(&mut self, id: SlotId, from: u64) {
        if let Contact::Verify { head, .. } = self.slots[id].contact {
            let message =
                format!("the sink holds another event at position {}, its head", head.sequence);
            self.halt(id, from, head.sequence, HaltReason::Conflict, message);
        }
    }

    /// Why the sink does not have a position and will not get it by itself, if so.
    fn is_missing(&self, id: SlotId, sequence: u64) -> Option<MissingReason> {
        let missing = self.missing.get(&id)?;
        let found = missing.iter().find(|gone| (gone.first..=gone.last).contains(&sequence));
        found.map(|gone| gone.reason)
    }

    /// Everything before an entry is settled, but for what the pinned chains hold on to.
    pub(super) fn advance(&mut self, position: u64) {
        self.position = self.position.max(position);
        self.passed = self.passed.max(self.position);
        self.in_hand = 0;
        self.dirty = true;
    }

    /// Whether the main flow could not get beyond its position, which is the end of the journal then.
    /// If so, chains of which the sink has more than the journal are halted.
    pub(super) fn is_at_end(&mut self, end: u64) -> bool {
        if end > self.position {
            return false;
        }
        for id in self.pinned.iter().copied().collect::<Vec<_>>() {
            let slot = &self.slots[id];
            let Contact::Verify { head, from, by } = slot.contact else { continue };
            if by <= end && matches!(slot.flow, Flow::Live) {
                let message = format!(
                    "the sink holds events up to {} and the journal ends before that: it was \
                     restored from an old copy, or another log writes to the same chain",
                    head.sequence
                );
                self.halt(id, from, head.sequence, HaltReason::Conflict, message);
            }
        }
        true
    }

    fn set_flow(&mut self, id: SlotId, flow: Flow) {
        self.slots[id].flow = flow;
        self.repin(id);
    }

    fn repin(&mut self, id: SlotId) {
        self.dirty = true;
        if self.slots[id].pin().is_some() {
            self.pinned.insert(id);
        } else {
            self.pinned.remove(&id);
        }
    }

    /// Whether chains lag and none goes through: what fails each of them by itself, as a sink that
    /// answers for none, is then a fault of the sink.
    pub(super) fn nothing_goes_through(&self) -> bool {
        let goes = |slot: &Slot| {
            matches!(slot.flow, Flow::Live) && !matches!(slot.contact, Contact::Unknown)
        };
        self.lagging().next().is_some() && !self.slots.iter().any(goes)
    }

    /// The chains that catch-up has to look after, with their state.
    pub(super) fn lagging(&self) -> impl Iterator<Item = (SlotId, &Lag)> {
        self.pinned.iter().filter_map(|id| match &self.slots[*id].flow {
            Flow::Lagging(lag) => Some((*id, lag)),
            Flow::Live | Flow::Halted { .. } => None,
        })
    }

    /// Makes every lagging chain due, as if it had not failed.
    pub(super) fn hasten(&mut self, now: Instant) {
        for id in &self.pinned {
            if let Flow::Lagging(lag) = &mut self.slots[*id].flow {
                lag.due = lag.due.min(now);
                lag.failures = 0;
            }
        }
    }

    /// Takes up that the sink as a whole fails, or no longer does.
    pub(super) fn set_trouble(&mut self, trouble: Option<Trouble>) {
        self.trouble = trouble;
        self.note_state();
    }

    /// Says once, where the state has changed since, how the sink is doing.
    pub(super) fn note_state(&mut self) {
        let to = self.state();
        let from = std::mem::replace(&mut self.noted, to);
        if from == to {
            return;
        }
        let (sink, circuit, lagging) = (&self.sink, self.circuit(), self.lagging().count());
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        let error = self.last_error().unwrap_or_default();
        match to {
            SinkState::Working => {
                tracing::info!(%sink, %from, %to, %circuit, lagging, "a sink takes events again");
            }
            SinkState::Closed => {
                tracing::debug!(%sink, %from, %to, lagging, "delivery to a sink has ended");
            }
            SinkState::Retrying | SinkState::Blocked => tracing::warn!(
                %sink, %from, %to, %circuit, lagging, failures, error,
                "a sink does not take events"
            ),
        }
    }

    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// The fault of the sink, or of a lagging chain, while there is one.
    pub(super) fn last_error(&self) -> Option<&str> {
        let fault = || {
            self.lagging().next()?;
            self.last_fault.as_ref().map(|fault| fault.message.as_str())
        };
        self.trouble.as_ref().map(|trouble| trouble.message.as_str()).or_else(fault)
    }

    pub(super) fn state(&self) -> SinkState {
        let silent = || self.last_fault.as_ref().filter(|_| self.nothing_goes_through());
        match &self.trouble {
            _ if self.ended => SinkState::Closed,
            Some(trouble) if trouble.blocked => SinkState::Blocked,
            Some(_) => SinkState::Retrying,
            None => match silent() {
                Some(fault) if fault.retryable => SinkState::Retrying,
                Some(_) => SinkState::Blocked,
                None => SinkState::Working,
            },
        }
    }

    pub(super) fn circuit(&self) -> Circuit {
        match self.state() {
            SinkState::Working => Circuit::Closed,
            _ if self.trying => Circuit::HalfOpen,
            _ => Circuit::Open,
        }
    }

    pub(super) fn missing(&self) -> Vec<MissingEvents> {
        let all = self.missing.iter().flat_map(|(id, missing)| {
            let chain = &self.slots[*id].chain;
            missing.iter().map(|Missing { first, last, reason }| MissingEvents {
                chain: chain.clone(),
                first: *first,
                last: *last,
                reason: *reason,
            })
        });
        all.collect()
    }

    pub(super) fn halted(&self) -> Vec<HaltedChain> {
        let halted = self.pinned.iter().filter_map(|id| match &self.slots[*id] {
            Slot { chain, flow: Flow::Halted { sequence, reason, message, .. }, .. } => {
                Some(HaltedChain {
                    chain: chain.clone(),
                    sequence: *sequence,
                    reason: *reason,
                    message: message.clone(),
                })
            }
            _ => None,
        });
        halted.collect()
    }

    /// Events and chains that the main flow has come past and the sink has not acknowledged.
    pub(super) fn left_behind(&self) -> (u64, BTreeSet<SlotId>) {
        let mut events = 0;
        let mut chains = BTreeSet::new();
        for id in &self.pinned {
            let slot = &self.slots[*id];
            let left = slot.end.saturating_sub(slot.next);
            events += left;
            if left > 0 {
                chains.insert(*id);
            }
        }
        (events, chains)
    }

    /// Events of a chain before this position are acknowledged or counted as left behind.
    pub(super) fn counted(&self, id: SlotId) -> u64 {
        let slot = &self.slots[id];
        if self.pinned.contains(&id) { slot.end.max(slot.next) } else { slot.next }
    }

    pub(super) fn cursor(&self) -> Cursor {
        let chains = self.slots.iter().map(|slot| ChainCursor {
            chain: slot.chain.clone(),
            next: slot.next,
            from: slot.pin(),
        });
        Cursor { position: self.position, chains: chains.collect(), missing: self.missing() }
    }

    /// An answer when the sink has acknowledged a position, or never will; none if it has.
    pub(super) fn delivered(
        &mut self,
        chain: &ChainRef,
        sequence: u64,
    ) -> Option<oneshot::Receiver<Result<(), AuditError>>> {
        let name = name_of(chain);
        let id = self.by_name.get(&name).copied();
        let gone = id.and_then(|id| Some((id, self.is_missing(id, sequence)?)));
        if gone.is_none() && id.is_some_and(|id| sequence < self.slots[id].next) {
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        if let Some((id, reason)) = gone {
            let _ = answer.send(Err(self.gone(id, sequence, reason)));
            return Some(receiver);
        }
        match id {
            Some(id) if matches!(self.slots[id].flow, Flow::Halted { .. }) => {
                let _ = answer.send(Err(self.refusal(id)));
            }
            _ if self.ended => {
                let _ = answer.send(Err(self.closed()));
            }
            _ => {
                let waiters = self.waiters.entry(name).or_default();
                if waiters.len() == waiters.capacity() {
                    // Those who stopped waiting must not pile up behind a sink that is down.
                    waiters.retain(|waiter| !waiter.answer.is_closed());
                }
                waiters.push(Waiter { sequence, answer });
            }
        }
        Some(receiver)
    }

    /// Nothing is delivered from here on.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.note_state();
        for waiter in std::mem::take(&mut self.waiters).into_values().flatten() {
            let _ = waiter.answer.send(Err(self.closed()));
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiters.values().map(Vec::len).sum()
    }

    fn answer(&mut self, id: SlotId, outcome: impl Fn(&Waiter) -> Option<Result<(), AuditError>>) {
        if self.waiters.is_empty() {
            return;
        }
        let name = name_of(&self.slots[id].chain);
        let Some(waiters) = self.waiters.get_mut(&name) else { return };
        for at in (0..waiters.len()).rev() {
            if let Some(outcome) = outcome(&waiters[at]) {
                // Who asked may be gone.
                let _ = waiters.swap_remove(at).answer.send(outcome);
            }
        }
        if waiters.is_empty() {
            self.waiters.remove(&name);
        }
    }

    fn gone(&self, id: SlotId, sequence: u64, reason: MissingReason) -> AuditError {
        let (sink, chain) = (&self.sink, &self.slots[id].chain);
        let why = match reason {
            MissingReason::Trimmed => "and the journal let go of it",
            MissingReason::Quarantined => "which refused it, and it is kept aside in quarantine",
        };
        AuditError::new(
            AuditErrorKind::Undelivered,
            format!("event {sequence} of chain {chain} is not in sink `{sink}`, {why}"),
        )
    }

    fn refusal(&self, id: SlotId) -> AuditError {
        let Slot { chain, flow, .. } = &self.slots[id];
        let message = match flow {
            Flow::Halted { message, .. } => message.as_str(),
            Flow::Live | Flow::Lagging(_) => "it failed",
        };
        let sink = &self.sink;
        AuditError::new(
            AuditErrorKind::Undelivered,
            format!("sink `{sink}` no longer takes events of chain {chain}: {message}"),
        )
    }

    fn closed(&self) -> AuditError {
        AuditError::new(
            AuditErrorKind::Undelivered,
            format!(
                "the audit log was closed before sink `{}` had acknowledged the event, which is \
                 delivered after the next open",
                self.sink
            ),
        )
    }
}

impl Lag {
    /// A chain that is due at once.
    pub(super) fn now(from: u64) -> Self {
        Self { from, failures: 0, due: Instant::now(), apart: false, exact: None }
    }
}

impl Slot {
    /// The oldest entry of the journal that the chain may still need.
    fn pin(&self) -> Option<u64> {
        let flow = match &self.flow {
            Flow::Live => None,
            Flow::Lagging(Lag { from, .. }) | Flow::Halted { from, .. } => Some(*from),
        };
        match self.contact {
            Contact::Verify { from, .. } => Some(flow.map_or(from, |flow| flow.min(from))),
            Contact::Unknown | Contact::Settled => flow,
        }
    }
}

fn name_of(chain: &ChainRef) -> Box<str> {
    let mut name = String::new();
    write_name(&mut name, chain.tenant_id.as_str(), chain.chain_id.as_str());
    name.into_boxed_str()
}

/// The rule of names has no `/`, so that no two chains share a name.
fn write_name(name: &mut String, tenant: &str, chain: &str) {
    name.clear();
    name.push_str(tenant);
    name.push('/');
    name.push_str(chain);
}
