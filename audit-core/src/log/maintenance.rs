//! The thread that signs checkpoints, writes snapshots and trims the journal.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    checkpoints::{CheckpointFile, Mark},
    core::Core,
    snapshot::Snapshot,
};
use crate::{error::AuditError, id::ChainId};

/// How many entries may come after a snapshot before the next: the work of the next opening.
const SNAPSHOT_ENTRIES: u64 = 65_536;
/// How often the thread looks without being asked.
const TICK: Duration = Duration::from_secs(1);
/// And while it knows that there will be something to trim.
const SHORT_TICK: Duration = Duration::from_millis(20);

pub(super) struct Maintenance {
    core: Arc<Core>,
    checkpoints: CheckpointFile,
    interval: Duration,
    /// When each chain with events after its checkpoint was first seen so.
    waiting: HashMap<ChainId, Instant>,
    /// An optional sink was told to let go of entries, which can be trimmed in a moment.
    relieving: bool,
}

impl Maintenance {
    pub(super) fn new(core: Arc<Core>, checkpoints: CheckpointFile, interval: Duration) -> Self {
        Self { core, checkpoints, interval, waiting: HashMap::new(), relieving: false }
    }

    /// Works until told to stop, and hands itself back for the last checkpoints.
    pub(super) fn run(mut self) -> Self {
        loop {
            let (wake, condvar) = &self.core.wake;
            let state = wake.lock().unwrap_or_else(PoisonError::into_inner);
            let tick = if self.relieving { SHORT_TICK } else { TICK };
            let (mut state, _) = condvar
                .wait_timeout_while(state, tick.min(self.interval), |wake| {
                    !wake.stop && !wake.checkpoint
                })
                .unwrap_or_else(PoisonError::into_inner);
            if state.stop {
                drop(state);
                return self;
            }
            state.checkpoint = false;
            drop(state);
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.relieving = self.core.delivery.relieve();
        // Each on its own: a full disk of checkpoints must not keep the journal from being trimmed.
        for worked in [self.checkpoint(false), self.snapshot_if_due(), self.trim()] {
            if let Err(error) = worked {
                tracing::warn!(%error, "maintenance of the audit log failed; it is tried again");
            }
        }
    }

    /// Signs a checkpoint of every chain that has events after its last, once it is due or at once.
    fn checkpoint(&mut self, at_once: bool) -> Result<(), AuditError> {
        let core = Arc::clone(&self.core);
        let (mut marks, mut indexes) = (Vec::new(), Vec::new());
        let mut tickets = Vec::new();
        {
            let chains = core.chains.read().unwrap_or_else(PoisonError::into_inner);
            for chain in chains.iter() {
                let state = chain.lock();
                let new = state.next().saturating_sub(state.checkpointed);
                if new == 0 {
                    self.waiting.remove(&chain.id.chain_id);
                    continue;
                }
                let since =
                    *self.waiting.entry(chain.id.chain_id.clone()).or_insert_with(Instant::now);
                if at_once || new >= core.checkpoint_events || since.elapsed() >= self.interval {
                    let (size, root) = (state.next(), state.tree.root());
                    let chain = chain.id.clone();
                    marks.push(Mark { chain, size, root, indexes: Vec::new() });
                    indexes.push(state.index.indexes());
                    tickets.extend(state.last_ticket);
                }
            }
        }
        // A checkpoint must never promise what a crash could still take back. If the journal fails
        // meanwhile, the marks may be of events that are gone: nothing is signed.
        if marks.is_empty() || !core.all_durable(&tickets) {
            return Ok(());
        }
        for (mark, indexes) in marks.iter_mut().zip(indexes) {
            mark.indexes = indexes.roots();
        }
        self.checkpoints.append(&marks, &core.key)?;
        let chains = core.chains.read().unwrap_or_else(PoisonError::into_inner);
        for mark in marks {
            if let Some(chain) = chains.get(&mark.chain.tenant_id) {
                let mut state = chain.lock();
                state.checkpointed = mark.size;
                state.index.signed(mark.size);
                self.waiting.remove(&mark.chain.chain_id);
            }
        }
        Ok(())
    }

    /// The last work: everything is signed, written down and trimmed.
    pub(super) fn settle(&mut self) -> Result<(), AuditError> {
        self.checkpoint(true)?;
        self.snapshot()?;
        self.trim()
    }

    fn snapshot_if_due(&self) -> Result<(), AuditError> {
        let written = self.core.snapshot_entry.load(Ordering::Relaxed);
        let stats = self.core.journal.stats();
        let half_full = self.core.journal_max_bytes.is_some_and(|max| stats.bytes >= max / 2);
        let frees = self.core.delivery.trimmable().is_some_and(|entry| entry > written);
        if stats.durable_index.saturating_sub(written) >= SNAPSHOT_ENTRIES || (half_full && frees) {
            self.snapshot()?;
        }
        Ok(())
    }

    /// Writes the state of the chains down.
    fn snapshot(&self) -> Result<(), AuditError> {
        let snapshot = {
            // Locked for writing, so that no event is between its place in the journal and its
            // chain.
            let chains = self.core.chains.write().unwrap_or_else(PoisonError::into_inner);
            Snapshot::of(&chains, self.core.journal.next_index())
        };
        let tickets: Vec<_> =
            snapshot.chains.iter().filter_map(|(_, state)| state.last_ticket).collect();
        if !self.core.all_durable(&tickets) {
            return Ok(());
        }
        snapshot.write(&self.core.layout)?;
        self.core.snapshot_entry.store(snapshot.entry, Ordering::Relaxed);
        Ok(())
    }

    fn trim(&self) -> Result<(), AuditError> {
        let Some(delivered) = self.core.delivery.trimmable() else { return Ok(()) };
        let snapshot = self.core.snapshot_entry.load(Ordering::Relaxed);
        Ok(self.core.journal.trim(delivered.min(snapshot))?)
    }
}
