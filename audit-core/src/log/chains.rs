//! The chains of a log: one per tenant, a few hundred bytes each, rebuilt by replay.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    canonical::EventView,
    event::{
        Payload, Value,
        chain::GapReason,
        model::{ModelDecided, ModelStatus},
        tool::{ToolCompleted, ToolStatus},
    },
    hash::Hash,
    id::{ChainId, EventId, TenantId},
    index::{Pending, Terms},
    journal::Ticket,
    sink::ChainRef,
    timestamp::Timestamp,
    tree::CompactRange,
};

/// The chain of one tenant.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) id: ChainRef,
    state: Mutex<ChainState>,
    /// What could not be written since the last event.
    gap: Mutex<GapState>,
    /// Whether there is a gap to tell, so that recording needs no second lock to know.
    has_gap: AtomicBool,
    /// Attempts that the process before left without an outcome.
    dead: Mutex<Vec<(EventId, OpenAttempt)>>,
    has_dead: AtomicBool,
}

/// Events that were refused, until a `chain.gap` that tells of them is durable.
#[derive(Debug, Default)]
struct GapState {
    open: Option<Gap>,
    /// The journal entries of `chain.gap` events on their way to the disk, and what they tell.
    written: Vec<(u64, Gap)>,
}

/// How much was refused, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) reason: GapReason,
    pub(crate) lost: u64,
    pub(crate) unrecorded_actions: u64,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
}

impl Gap {
    pub(crate) fn of(reason: GapReason, lost: u64, at: Timestamp) -> Self {
        Self { reason, lost, unrecorded_actions: 0, first_at: at, last_at: at }
    }
}

impl GapState {
    fn add(&mut self, more: Gap) {
        self.open = Some(match self.open.take() {
            None => more,
            Some(gap) => Gap {
                reason: gap.reason,
                lost: gap.lost + more.lost,
                unrecorded_actions: gap.unrecorded_actions + more.unrecorded_actions,
                first_at: gap.first_at.min(more.first_at),
                last_at: gap.last_at.max(more.last_at),
            },
        });
    }

    /// Takes back what was told by entries that did not become durable, and says how many there
    /// were.
    fn take_back(&mut self, next_entry: u64) -> u64 {
        let mut taken_back = 0;
        for (entry, gap) in std::mem::take(&mut self.written) {
            if entry >= next_entry {
                self.add(gap);
                taken_back += 1;
            }
        }
        taken_back
    }
}

impl Chain {
    pub(crate) fn new(id: ChainRef, state: ChainState) -> Self {
        Self {
            id,
            state: Mutex::new(state),
            gap: Mutex::new(GapState::default()),
            has_gap: AtomicBool::new(false),
            dead: Mutex::default(),
            has_dead: AtomicBool::new(false),
        }
    }

    /// Whether there is a gap to tell.
    pub(crate) fn has_gap(&self) -> bool {
        self.has_gap.load(Ordering::Acquire)
    }

    /// Whether the log has something to write before the next event.
    pub(crate) fn owes(&self) -> bool {
        self.has_gap() || self.has_dead.load(Ordering::Acquire)
    }

    /// Remembers the attempts that are open now, as those of a dead process.
    pub(crate) fn bury_open_attempts(&self) {
        let open: Vec<_> = self.lock().open.clone().into_iter().collect();
        self.has_dead.store(!open.is_empty(), Ordering::Release);
        *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }

    /// One attempt of a dead process that has no outcome yet.
    pub(crate) fn dead_attempt(&self) -> Option<(EventId, OpenAttempt)> {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        // Some may have been closed since: by an outcome that came late, or by another caller.
        let state = self.lock();
        while dead.last().is_some_and(|(id, _)| !state.open.contains_key(id)) {
            dead.pop();
        }
        self.has_dead.store(!dead.is_empty(), Ordering::Release);
        dead.last().cloned()
    }

    pub(crate) fn add_gap(&self, gap: Gap) {
        self.with_gap(|state| state.add(gap));
    }

    pub(crate) fn take_gap(&self) -> Option<Gap> {
        self.with_gap(|state| state.open.take())
    }

    /// Remembers what a `chain.gap` tells until it is durable.
    pub(crate) fn gap_written(&self, entry: u64, told: Gap, durable: u64) {
        self.with_gap(|state| {
            state.written.retain(|(entry, _)| *entry >= durable);
            state.written.push((entry, told));
        });
    }

    /// The state's lock is taken before this one where both are needed.
    fn with_gap<R>(&self, change: impl FnOnce(&mut GapState) -> R) -> R {
        let mut state = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut state);
        self.has_gap.store(state.open.is_some(), Ordering::Release);
        answer
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ChainState> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that the writer knows of a chain; it is a function of the chain's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChainState {
    /// The tree over all event hashes; its size is the next sequence.
    pub(crate) tree: CompactRange,
    /// The event hash of the last event.
    pub(crate) head: Hash,
    /// When the last event was recorded.
    pub(crate) last_at: Option<Timestamp>,
    /// Whether the last event is a `chain.closed`.
    pub(crate) closed: bool,
    /// Attempts without an outcome, by the event that recorded the intent.
    pub(crate) open: BTreeMap<EventId, OpenAttempt>,
    /// The journal's promise of the last event, where this process wrote it.
    #[serde(skip)]
    pub(crate) last_ticket: Option<Ticket>,
    /// The journal entry of the last `chain.opened` or `chain.resumed`.
    pub(crate) announced_at: Option<u64>,
    /// The size of the tree at the last checkpoint.
    pub(crate) checkpointed: u64,
    /// What the next checkpoint says of where the events since the last one are found.
    #[serde(default)]
    pub(crate) index: Pending,
}

/// What is needed to close an attempt whose process died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenAttempt {
    pub(crate) session: String,
    pub(crate) agent: String,
    pub(crate) kind: AttemptKind,
    /// The canonical payload of the intent.
    pub(crate) payload: String,
}

impl OpenAttempt {
    /// The outcome of an attempt whose process died.
    pub(crate) fn unknown_outcome(&self, id: EventId) -> Payload {
        let intent: Value = serde_json::from_str(&self.payload)
            .unwrap_or_else(|_| Value::Object(Default::default()));
        let text =
            |name| intent.field(name).and_then(Value::as_text).unwrap_or("unknown").to_owned();
        match self.kind {
            AttemptKind::Tool => {
                let mut completed = ToolCompleted::new(text("tool_name"), id, ToolStatus::Unknown);
                completed.call_id =
                    intent.field("call_id").and_then(Value::as_text).and_then(|id| id.parse().ok());
                completed.into()
            }
            AttemptKind::Model => {
                let (provider, model) = (text("provider"), text("requested_model"));
                ModelDecided::new(provider, model, ModelStatus::Unknown)
                    .with_request_event_id(id)
                    .into()
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttemptKind {
    Tool,
    Model,
}

impl ChainState {
    pub(crate) fn empty() -> Self {
        Self {
            tree: CompactRange::new(),
            head: Hash::ZERO,
            last_at: None,
            closed: false,
            open: BTreeMap::new(),
            last_ticket: None,
            announced_at: None,
            checkpointed: 0,
            index: Pending::starting_at(0),
        }
    }

    /// The position that the next event gets.
    pub(crate) fn next(&self) -> u64 {
        self.tree.size()
    }

    /// Takes up an event that now has its place.
    pub(crate) fn push(
        &mut self,
        event_hash: Hash,
        at: Timestamp,
        terms: &Terms<'_>,
        ticket: Option<Ticket>,
    ) {
        self.index.push(self.next(), terms);
        self.tree.push(event_hash);
        self.head = event_hash;
        self.last_at = Some(at);
        self.last_ticket = ticket;
        self.closed = false;
    }

    /// Takes up an event that was read back.
    ///
    /// Returns what is wrong where the event does not follow.
    pub(crate) fn replay(
        &mut self,
        view: &EventView<'_>,
        event_hash: Hash,
        entry: u64,
    ) -> Result<(), String> {
        if view.sequence != self.next() {
            return Err(format!("holds event {} where {} follows", view.sequence, self.next()));
        }
        if view.previous_event_hash != self.head {
            return Err(format!(
                "is broken between events {} and {}",
                view.sequence.saturating_sub(1),
                view.sequence
            ));
        }
        let at: Timestamp = view
            .timestamp_utc
            .parse()
            .map_err(|error: crate::timestamp::InvalidTimestamp| error.to_string())?;
        self.push(event_hash, at, &Terms::of(view), None);
        self.note_view(view);
        self.closed = view.event_type == "chain.closed";
        if matches!(view.event_type, "chain.opened" | "chain.resumed") {
            self.announced_at = Some(entry);
        }
        Ok(())
    }

    fn note_view(&mut self, view: &EventView<'_>) {
        let kind = match view.event_type {
            "tool.attempted" => AttemptKind::Tool,
            "model.requested" => AttemptKind::Model,
            "tool.completed" | "model.decided" => {
                if let Some(parent) = view.parent_event_id.and_then(|id| id.parse().ok()) {
                    self.open.remove(&parent);
                }
                return;
            }
            _ => return,
        };
        let Ok(id) = view.event_id.parse() else { return };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let unescaped = |text: &str| {
            serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned())
        };
        self.open.insert(
            id,
            OpenAttempt {
                session: unescaped(view.session_id),
                agent: unescaped(view.agent_id),
                kind,
                payload: text(view.payload),
            },
        );
    }
}

/// All chains by tenant.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    by_tenant: HashMap<TenantId, Arc<Chain>>,
}

impl Chains {
    pub(crate) fn get(&self, tenant: &TenantId) -> Option<&Arc<Chain>> {
        self.by_tenant.get(tenant)
    }

    /// The chain of a tenant, which comes into being here.
    pub(crate) fn get_or_create(&mut self, tenant: &TenantId) -> Arc<Chain> {
        let chain = self.by_tenant.entry(tenant.clone()).or_insert_with(|| {
            let id = ChainRef::new(tenant.clone(), ChainId::random());
            Arc::new(Chain::new(id, ChainState::empty()))
        });
        Arc::clone(chain)
    }

    pub(crate) fn insert(&mut self, chain: Chain) {
        self.by_tenant.insert(chain.id.tenant_id.clone(), Arc::new(chain));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.by_tenant.values()
    }

    /// Goes back to what is durable after the journal failed: to the states that its replay gave.
    ///
    /// Every event that had a place and lost it is counted as refused.
    pub(crate) fn take_back(&mut self, replayed: &Self, next_entry: u64, now: Timestamp) {
        for chain in self.iter() {
            let mut state = chain.lock();
            let back = match replayed.get(&chain.id.tenant_id) {
                Some(durable) => durable.lock().clone(),
                None => ChainState::empty(),
            };
            let told_again = chain.with_gap(|gap| gap.take_back(next_entry));
            let own = u64::from(state.announced_at.is_some_and(|at| at >= next_entry)) + told_again;
            let lost = state.next().saturating_sub(back.next()).saturating_sub(own);
            if lost > 0 {
                chain.add_gap(Gap::of(GapReason::JournalFailed, lost, now));
            }
            let (checkpointed, unsigned) = (state.checkpointed, state.index.start());
            *state = ChainState { checkpointed, ..back };
            state.index.signed(unsigned);
        }
    }

    /// Takes up an event that was read from the journal, opening its chain if need be.
    pub(crate) fn replay(
        &mut self,
        view: &EventView<'_>,
        event_hash: Hash,
        entry: u64,
    ) -> Result<&Arc<Chain>, String> {
        let tenant = TenantId::new(view.tenant_id).map_err(|error| error.to_string())?;
        let chain_id = ChainId::new(view.chain_id).map_err(|error| error.to_string())?;
        let chain = self.by_tenant.entry(tenant.clone()).or_insert_with(|| {
            let id = ChainRef::new(tenant, chain_id.clone());
            Arc::new(Chain::new(id, ChainState::empty()))
        });
        if chain.id.chain_id != chain_id {
            return Err(format!(
                "tenant {} has two chains in one journal, {} and {chain_id}",
                chain.id.tenant_id, chain.id.chain_id
            ));
        }
        chain
            .lock()
            .replay(view, event_hash, entry)
            .map_err(|why| format!("chain {} {why}", chain.id))?;
        Ok(chain)
    }
}
