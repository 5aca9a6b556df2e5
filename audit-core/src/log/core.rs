//! Recording: from a draft to a place in a chain and in the journal.

use std::sync::{
    Arc, Condvar, Mutex, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    Clock, Draft, Durability, Receipt,
    chains::{AttemptKind, Chain, Chains, Gap, OpenAttempt},
    layout::Layout,
    prepare::{Place, Prepared, Scope},
};
use crate::{
    delivery::Delivery,
    error::{AuditError, AuditErrorKind},
    event::{
        Payload,
        chain::{ChainGap, ChainOpened, ChainResumed, GapReason},
    },
    id::{AgentId, EventId, InvalidId, SessionId, TenantId, WriterId},
    journal::{Journal, JournalError, JournalErrorKind, Permit, Ticket},
    key::SigningKey,
};

pub(crate) const SOFTWARE: &str = concat!("agent-audit ", env!("CARGO_PKG_VERSION"));

/// What all handles of a log share, and its threads.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) layout: Layout,
    pub(super) writer_id: WriterId,
    pub(super) key: SigningKey,
    pub(super) journal: Arc<Journal>,
    /// Read while an event takes its place; written while the chains are rebuilt, or as a whole
    /// written down.
    pub(super) chains: RwLock<Chains>,
    pub(super) delivery: Delivery,
    pub(super) clock: Arc<dyn Clock>,
    pub(crate) durability: Durability,
    pub(super) checkpoint_events: u64,
    /// The bound of the journal.
    pub(super) journal_max_bytes: Option<u64>,
    /// The journal entry at which this process began.
    pub(super) first_entry: u64,
    /// How much was cut from the journal's end when it was opened.
    pub(super) torn_bytes: Option<u64>,
    pub(super) snapshot_entry: AtomicU64,
    pub(super) closed: AtomicBool,
    pub(super) wake: (Mutex<Wake>, Condvar),
}

/// What the maintenance thread is asked for.
#[derive(Debug, Default)]
pub(super) struct Wake {
    pub(super) checkpoint: bool,
    pub(super) stop: bool,
}

/// An event that is written down and lacks its place.
pub(crate) struct DrawnUp {
    who: Who,
    chain: Arc<Chain>,
    track: Track,
    prepared: Box<Prepared>,
}

/// An event that has its place and is on its way to the disk.
#[derive(Debug)]
pub(crate) struct Enqueued {
    pub(crate) receipt: Receipt,
    ticket: Ticket,
}

/// What an event changes about open attempts.
enum Track {
    Nothing,
    Open(AttemptKind),
    Close(EventId),
    Lifecycle {
        /// Whether it is the first event of the chain.
        opens: bool,
    },
    /// A `chain.gap`, and what it tells.
    Gap(Gap),
    /// The outcome of an attempt whose process died.
    Dead(EventId),
    End,
}

/// For whom an event is written: callers are refused once the log closes, its own last events not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Caller,
    Log,
}

impl Core {
    /// Writes an event down, all but its place. Waits for nothing: the future that goes on from here
    /// holds what is written and not what it is written from, and is small.
    pub(crate) fn draw_up(&self, scope: &Scope<'_>, draft: Draft) -> Result<DrawnUp, AuditError> {
        self.draw_up_for(Who::Caller, scope, draft)
    }

    fn draw_up_for(
        &self,
        who: Who,
        scope: &Scope<'_>,
        draft: Draft,
    ) -> Result<DrawnUp, AuditError> {
        if who == Who::Caller && self.closed.load(Ordering::Acquire) {
            return Err(AuditError::closed());
        }
        let chain = self.chain(scope.tenant);
        let track = Track::of(&draft);
        let prepared = Prepared::new(draft, scope, &chain.id.chain_id, &self.writer_id)?;
        Ok(DrawnUp { who, chain, track, prepared: Box::new(prepared) })
    }

    /// Records an event that is written down.
    pub(crate) async fn record(
        &self,
        scope: &Scope<'_>,
        event: DrawnUp,
        durability: Durability,
    ) -> Result<Receipt, AuditError> {
        let enqueued = self.take_in(scope, event).await?;
        self.confirm(enqueued, durability).await
    }

    /// Gives an event its place. It is durable when [`confirm`](Self::confirm) says so.
    pub(crate) async fn enqueue(
        &self,
        scope: &Scope<'_>,
        draft: Draft,
    ) -> Result<Enqueued, AuditError> {
        let event = self.draw_up(scope, draft)?;
        self.take_in(scope, event).await
    }

    /// [`enqueue`](Self::enqueue) for what the log itself writes while it closes.
    pub(super) async fn enqueue_last(
        &self,
        scope: &Scope<'_>,
        draft: Draft,
    ) -> Result<Enqueued, AuditError> {
        let event = self.draw_up_for(Who::Log, scope, draft)?;
        self.take_in(scope, event).await
    }

    async fn take_in(&self, scope: &Scope<'_>, event: DrawnUp) -> Result<Enqueued, AuditError> {
        let DrawnUp { who, chain, track, mut prepared } = event;
        loop {
            let permit = self.admit(&chain, prepared.entry_bytes()).await?;
            match self.place(who, &chain, prepared, permit, &track, scope) {
                Ok(enqueued) => return Ok(enqueued),
                Err(NotPlaced::Failed(error)) => return Err(self.lost(&chain, error)),
                Err(NotPlaced::Closed) => return Err(AuditError::closed()),
                Err(NotPlaced::PreambleFirst(back)) => prepared = back,
            }
            // Seldom, and large.
            Box::pin(self.settle(who, &chain)).await?;
        }
    }

    /// Writes what the log itself owes to a chain: that it is opened or resumed, the outcomes of
    /// attempts whose process died, the events that were refused.
    pub(super) async fn settle(&self, who: Who, chain: &Arc<Chain>) -> Result<(), AuditError> {
        while let Some(preamble) = self.preamble(chain)? {
            self.write_preamble(who, chain, preamble).await?;
        }
        Ok(())
    }

    /// Waits until an event has come as far as asked.
    pub(crate) async fn confirm(
        &self,
        enqueued: Enqueued,
        durability: Durability,
    ) -> Result<Receipt, AuditError> {
        let Enqueued { receipt, ticket } = enqueued;
        if durability == Durability::Buffered {
            return Ok(receipt);
        }
        // What is lost here is counted when the journal recovers, with what nobody waits for.
        self.journal.durable(ticket).await?;
        if durability == Durability::Delivered {
            Box::pin(self.delivery.delivered(&receipt.chain, receipt.sequence)).await?;
        }
        Ok(receipt)
    }

    /// Room in the journal. A journal that failed is put in order first, once.
    async fn admit(&self, chain: &Chain, bytes: usize) -> Result<Permit, AuditError> {
        match self.journal.admit(bytes).await {
            Err(error) if error.kind() == JournalErrorKind::Failed => {
                self.recover().map_err(|error| self.refused(chain, error))?;
                self.journal.admit(bytes).await
            }
            result => result,
        }
        .map_err(|error| self.lost(chain, error))
    }

    fn place(
        &self,
        who: Who,
        chain: &Arc<Chain>,
        prepared: Box<Prepared>,
        permit: Permit,
        track: &Track,
        scope: &Scope<'_>,
    ) -> Result<Enqueued, NotPlaced> {
        let _nobody_rebuilds = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        let mut state = chain.lock();
        let announced = state.announced_at.is_some_and(|at| at >= self.first_entry);
        if who == Who::Caller && self.closed.load(Ordering::Acquire) {
            return Err(NotPlaced::Closed);
        }
        let in_turn = match track {
            Track::Lifecycle { opens } => !announced && *opens == (state.next() == 0),
            Track::Gap(_) => announced,
            // Somebody else may have closed it while this one waited for room.
            Track::Dead(attempt) => announced && state.open.contains_key(attempt),
            _ => announced && !chain.owes(),
        };
        if !in_turn {
            return Err(NotPlaced::PreambleFirst(prepared));
        }
        let event_id = prepared.event_id;
        let open = match track {
            Track::Open(kind) => Some(OpenAttempt {
                session: scope.session.as_str().to_owned(),
                agent: scope.agent.as_str().to_owned(),
                kind: *kind,
                payload: prepared.payload(),
            }),
            _ => None,
        };
        let at = self.clock.now();
        let sequence = state.next();
        let placed = prepared.place(Place { sequence, previous: state.head, at });
        let ticket = self
            .journal
            .append(permit, &[&placed.head, &placed.parts])
            .map_err(NotPlaced::Failed)?;
        state.push(placed.event_hash, at, &placed.terms(), Some(ticket));
        match (track, open) {
            (Track::Open(_), Some(open)) => {
                state.open.insert(event_id, open);
            }
            (Track::Close(attempt), _) => {
                state.open.remove(attempt);
            }
            (Track::Lifecycle { .. }, _) => state.announced_at = Some(ticket.index()),
            (Track::Dead(attempt), _) => {
                state.open.remove(attempt);
            }
            (Track::Gap(told), _) => {
                let durable = self.journal.durable_index();
                chain.gap_written(ticket.index(), told.clone(), durable);
            }
            (Track::End, _) => state.closed = true,
            _ => {}
        }
        let due = state.next().saturating_sub(state.checkpointed) == self.checkpoint_events;
        drop(state);
        if due {
            self.ask(|wake| wake.checkpoint = true);
        }
        let receipt =
            Receipt { event_id, chain: chain.id.clone(), sequence, event_hash: placed.event_hash };
        Ok(Enqueued { receipt, ticket })
    }

    pub(super) fn chain(&self, tenant: &TenantId) -> Arc<Chain> {
        let chains = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(chain) = chains.get(tenant) {
            return Arc::clone(chain);
        }
        drop(chains);
        self.chains.write().unwrap_or_else(PoisonError::into_inner).get_or_create(tenant)
    }

    /// What must stand in the chain before the next event.
    fn preamble(&self, chain: &Chain) -> Result<Option<Preamble>, AuditError> {
        let state = chain.lock();
        if state.announced_at.is_none_or(|at| at < self.first_entry) {
            let (writer, key) = (self.writer_id.clone(), self.key.verifying_key().to_string());
            let opens = state.next() == 0;
            let payload = if opens {
                Payload::from(ChainOpened::new(writer, key, SOFTWARE))
            } else {
                let mut resumed =
                    ChainResumed::new(writer, key, SOFTWARE).with_closed_before(state.closed);
                resumed.torn_bytes = self.torn_bytes;
                resumed.into()
            };
            return Ok(Some(Preamble::own(payload, Track::Lifecycle { opens })));
        }
        drop(state);
        if let Some((id, attempt)) = chain.dead_attempt() {
            let damaged = |error: InvalidId| AuditError::damaged(error.to_string());
            return Ok(Some(Preamble {
                session: SessionId::new(&attempt.session).map_err(damaged)?,
                agent: AgentId::new(&attempt.agent).map_err(damaged)?,
                parent: Some(id),
                payload: attempt.unknown_outcome(id),
                track: Track::Dead(id),
            }));
        }
        let Some(gap) = chain.take_gap() else { return Ok(None) };
        let payload = ChainGap::new(gap.reason.clone(), gap.lost)
            .with_first_at(gap.first_at)
            .with_last_at(gap.last_at);
        let payload = match gap.unrecorded_actions {
            0 => payload,
            actions => payload.with_unrecorded_actions(actions),
        };
        Ok(Some(Preamble::own(payload.into(), Track::Gap(gap))))
    }

    async fn write_preamble(
        &self,
        who: Who,
        chain: &Arc<Chain>,
        preamble: Preamble,
    ) -> Result<(), AuditError> {
        let Preamble { session, agent, parent, payload, track } = preamble;
        // Until its entry has a place, a gap goes back when this future is dropped or fails.
        let mut told = GapGuard {
            chain,
            gap: match &track {
                Track::Gap(gap) => Some(gap.clone()),
                _ => None,
            },
        };
        let scope = Scope::system(&chain.id.tenant_id, &session, &agent);
        let mut draft = Draft::new(payload);
        draft.parent_event_id = parent;
        let prepared = Prepared::new(draft, &scope, &chain.id.chain_id, &self.writer_id)?;
        let permit = self.admit(chain, prepared.entry_bytes()).await?;
        match self.place(who, chain, Box::new(prepared), permit, &track, &scope) {
            Ok(_) => {
                told.gap = None;
                Ok(())
            }
            // Somebody else announced the chain or closed the attempt, or the chain must be
            // announced otherwise: look again.
            Err(NotPlaced::PreambleFirst(_)) => Ok(()),
            Err(NotPlaced::Closed) => Err(AuditError::closed()),
            Err(NotPlaced::Failed(error)) => Err(self.lost(chain, error)),
        }
    }

    /// Counts an event that the journal refused, and says so.
    fn lost(&self, chain: &Chain, error: JournalError) -> AuditError {
        self.refused(chain, AuditError::from(error))
    }

    fn refused(&self, chain: &Chain, error: AuditError) -> AuditError {
        if error.is_unavailable() && error.kind() != AuditErrorKind::Closed {
            let reason = match error.kind() {
                AuditErrorKind::Full => GapReason::JournalFull,
                _ => GapReason::JournalFailed,
            };
            chain.add_gap(Gap::of(reason, 1, self.clock.now()));
        }
        error
    }

    /// Counts an action that went ahead although its record could not be written.
    pub(crate) fn note_unrecorded(&self, tenant: &TenantId) {
        let gap = Gap::of(GapReason::JournalFailed, 0, self.clock.now());
        self.chain(tenant).add_gap(Gap { unrecorded_actions: 1, ..gap });
    }

    /// Puts a failed journal in order and takes the chains back to what is durable.
    fn recover(&self) -> Result<(), AuditError> {
        let mut chains = self.chains.write().unwrap_or_else(PoisonError::into_inner);
        if !self.journal.stats().failed {
            return Ok(());
        }
        let recovered = self.journal.recover()?;
        let replayed = super::replay::chains(&self.layout, &self.journal, recovered)?;
        chains.take_back(&replayed, recovered.next_index, self.clock.now());
        tracing::warn!(
            next_entry = recovered.next_index,
            "the journal failed and is usable again; events that were refused are recorded as gaps"
        );
        Ok(())
    }

    /// Waits until all of these are durable; false where one never will be.
    pub(super) fn all_durable(&self, tickets: &[Ticket]) -> bool {
        tickets.iter().all(|ticket| self.journal.durable(*ticket).wait().is_ok())
    }

    pub(super) fn ask(&self, change: impl FnOnce(&mut Wake)) {
        change(&mut self.wake.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.1.notify_all();
    }
}

/// An event that the log itself writes before the next one.
struct Preamble {
    session: SessionId,
    agent: AgentId,
    parent: Option<EventId>,
    payload: Payload,
    track: Track,
}

impl Preamble {
    /// An event of the log's own session.
    fn own(payload: Payload, track: Track) -> Self {
        let (session, agent) = (SessionId::system(), AgentId::system());
        Self { session, agent, parent: None, payload, track }
    }
}

struct GapGuard<'a> {
    chain: &'a Chain,
    gap: Option<Gap>,
}

impl Drop for GapGuard<'_> {
    fn drop(&mut self) {
        if let Some(gap) = self.gap.take() {
            self.chain.add_gap(gap);
        }
    }
}

enum NotPlaced {
    /// The chain is not announced: after a recovery, or by a race.
    PreambleFirst(Box<Prepared>),
    /// The log was closed meanwhile.
    Closed,
    Failed(JournalError),
}

impl Track {
    fn of(draft: &Draft) -> Self {
        match &draft.payload {
            Payload::ToolAttempted(_) => Self::Open(AttemptKind::Tool),
            Payload::ModelRequested(_) => Self::Open(AttemptKind::Model),
            Payload::ToolCompleted(_) | Payload::ModelDecided(_) => {
                draft.parent_event_id.map_or(Self::Nothing, Self::Close)
            }
            Payload::ChainClosed(_) => Self::End,
            _ => Self::Nothing,
        }
    }
}

impl<'a> Scope<'a> {
    pub(crate) fn system(tenant: &'a TenantId, session: &'a SessionId, agent: &'a AgentId) -> Self {
        Self { tenant, session, agent, parent: None, subject: None, trace: None }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{attempt::ToolCall, log::AuditLog};

    /// Callers who come at the same time all find the same attempt of a dead process.
    #[test]
    fn an_attempt_of_a_dead_process_is_closed_once_however_many_close_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::open(dir.path()).unwrap();
        let session = log.session("acme", "s", "a").unwrap();
        let attempt = session.attempt_tool_blocking(ToolCall::new("refund")).unwrap();
        // As when the process dies: the guard never records an outcome.
        std::mem::forget(attempt);
        let core = log.core();
        let chain = core.chain(&TenantId::new("acme").unwrap());
        chain.bury_open_attempts();
        let found: Vec<_> = (0..3).map(|_| core.preamble(&chain).unwrap().unwrap()).collect();
        for preamble in found {
            pollster::block_on(core.write_preamble(Who::Caller, &chain, preamble)).unwrap();
        }
        let events = chain.lock().next();
        assert_eq!(events, 3, "the chain's opening, the attempt and one outcome");
        assert!(core.preamble(&chain).unwrap().is_none());
    }
}
