//! One sink as others see it: what it has acknowledged, how it is doing, what is left.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, oneshot, watch};

use crate::{
    chain::ChainRef,
    error::{AuditError, AuditErrorKind},
    journal::Journal,
    log::Layout,
    sink::{Segment, SegmentOutcome, Sink, SinkErrorKind},
    timestamp::Timestamp,
};

use super::{
    cursor,
    draft::Decoded,
    health::{SinkHealth, Undelivered},
    ledger::{Ledger, Nature},
    options::{DeliveryOptions, OnRejected, Role},
    outcome::Answer,
    quarantine::Quarantine,
    source::lock,
};

/// How much of a backlog is looked at to count its chains.
const MOST_COUNTED: u64 = 65_536;

/// One sink and how far it has acknowledged.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    kind: &'static str,
    pub(super) role: Role,
    pub(super) nature: Nature,
    pub(super) most_events: usize,
    pub(super) most_bytes: usize,
    on_rejected: OnRejected,
    path: PathBuf,
    pub(super) journal: Arc<Journal>,
    pub(super) ledger: Mutex<Ledger>,
    quarantine: Mutex<Quarantine>,
    /// Entries before this one are acknowledged, and the stored cursor says so.
    stored: AtomicU64,
    /// The sink has to let go of entries before this one.
    pub(super) floor: watch::Sender<u64>,
    /// Events that are to be sent once more.
    requests: Mutex<Vec<Request>>,
    /// Something has changed that the main flow, or what runs beside it, may care about.
    pub(super) main: Notify,
    pub(super) aside: Notify,
    /// When the oldest waiting entry was recorded, as it was last looked up.
    oldest: Mutex<Option<(u64, Timestamp)>>,
}

/// Somebody wants an event out of quarantine.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) chain: ChainRef,
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) answer: oneshot::Sender<Result<(), AuditError>>,
}

impl Lane {
    /// Takes up the work where the stored cursor says; from the oldest entry where there is none.
    pub(super) fn open(
        sink: &dyn Sink,
        role: Role,
        layout: &Layout,
        journal: Arc<Journal>,
        options: &DeliveryOptions,
    ) -> Result<Self, AuditError> {
        let info = sink.info();
        let path = layout.cursors().join(format!("{}.json", info.name));
        let cursor = cursor::load(&path, &info.name)?.filter(|cursor| {
            // The journal was replaced by an older copy: its indices mean other entries now.
            let fits = cursor.position <= journal.next_index();
            if !fits {
                tracing::warn!(
                    sink = %info.name,
                    "the cursor of a sink is ahead of the journal, so delivery starts from the \
                     oldest entry kept"
                );
            }
            fits
        });
        let stored = cursor.as_ref().map_or(0, cursor::Cursor::trimmable);
        let mut cursor = cursor.unwrap_or_default();
        cursor.position = cursor.position.max(journal.first_index());
        let nature = Nature {
            ask_heads: info.readable_heads,
            accepts_gaps: info.accepts_gaps && !info.readable_heads,
        };
        let quarantine = Quarantine::open(
            layout.quarantine().join(&info.name),
            &info.name,
            options.quarantine_max_events,
        )?;
        Ok(Self {
            name: info.name.clone(),
            kind: info.kind,
            role,
            nature,
            most_events: info.max_batch_events,
            most_bytes: info.max_batch_bytes,
            on_rejected: options.on_rejected,
            path,
            journal,
            ledger: Mutex::new(Ledger::new(&info.name, nature, cursor)),
            quarantine: Mutex::new(quarantine),
            stored: AtomicU64::new(stored),
            floor: watch::channel(0).0,
            requests: Mutex::default(),
            main: Notify::new(),
            aside: Notify::new(),
            oldest: Mutex::default(),
        })
    }

    pub(super) fn trimmable(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    /// Stores the cursor if anything has changed.
    pub(super) fn store(&self) -> Result<(), AuditError> {
        let cursor = {
            let mut ledger = lock(&self.ledger);
            if !std::mem::take(&mut ledger.dirty) {
                return Ok(());
            }
            ledger.cursor()
        };
        let stored = cursor::store(&self.path, &cursor);
        match &stored {
            // A sink that lost events moves back; what was allowed to go may be gone by now.
            Ok(()) => self.stored.store(cursor.trimmable(), Ordering::Release),
            Err(error) => {
                lock(&self.ledger).dirty = true;
                tracing::warn!(sink = %self.name, %error, "the cursor of a sink cannot be stored");
            }
        }
        stored
    }

    /// What follows from the outcome of a segment. An event that was refused for good is kept aside
    /// here, durably, where that is allowed and can be done.
    pub(super) fn judge(&self, segment: &Segment, outcome: SegmentOutcome) -> Answer {
        let message = match &outcome {
            SegmentOutcome::Failed { error }
                if error.kind() == SinkErrorKind::Rejected
                    && !error.is_retryable()
                    && segment.len() == 1
                    && self.on_rejected == OnRejected::Quarantine
                    && self.nature.accepts_gaps =>
            {
                error.to_string()
            }
            _ => return Answer::Outcome(outcome),
        };
        let Some(record) = segment.records().first() else { return Answer::Outcome(outcome) };
        match self.quarantine().keep(segment.chain(), segment.first(), record, &message) {
            Ok(()) => Answer::Quarantined,
            Err(error) => {
                tracing::error!(sink = %self.name, %error, "a refused event cannot be kept aside");
                Answer::Outcome(outcome)
            }
        }
    }

    pub(super) fn quarantine(&self) -> MutexGuard<'_, Quarantine> {
        // Its list changes only when the file has.
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries a halted chain once more.
    pub(super) fn retry(&self, chain: &ChainRef) -> Result<(), AuditError> {
        let mut ledger = lock(&self.ledger);
        if ledger.ended {
            return Err(AuditError::closed());
        }
        let halted = ledger.id_of(chain).is_some_and(|id| ledger.retry(id));
        drop(ledger);
        if !halted {
            return Err(AuditError::invalid(format!(
                "chain {chain} is not halted at sink `{}`: its health lists those that are",
                self.name
            )));
        }
        self.main.notify_one();
        Ok(())
    }

    /// Asks for an event to be sent once more that is kept aside.
    pub(super) fn release(
        &self,
        chain: &ChainRef,
        sequence: u64,
    ) -> Result<oneshot::Receiver<Result<(), AuditError>>, AuditError> {
        if lock(&self.ledger).ended {
            return Err(AuditError::closed());
        }
        let path = self.quarantine().find(chain, sequence).map(|event| event.path.clone());
        let path = path.ok_or_else(|| {
            AuditError::invalid(format!(
                "event {sequence} of chain {chain} is not in quarantine for sink `{}`: its health \
                 lists those that are",
                self.name
            ))
        })?;
        let (answer, receiver) = oneshot::channel();
        let request = Request { chain: chain.clone(), sequence, path, answer };
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        self.aside.notify_one();
        Ok(receiver)
    }

    pub(super) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing is delivered from here on.
    pub(super) fn end(&self) {
        lock(&self.ledger).end();
        for request in self.take_requests() {
            // Who asked may be gone.
            let _ = request.answer.send(Err(AuditError::new(
                AuditErrorKind::Undelivered,
                "the audit log was closed before the event was released: open it and try again",
            )));
        }
    }

    pub(super) fn health(&self) -> SinkHealth {
        let durable = self.journal.durable_index();
        let (low, mut health) = {
            let ledger = lock(&self.ledger);
            let lagging = ledger.lagging().count();
            let waiting = durable.saturating_sub(ledger.position);
            let health = SinkHealth {
                name: self.name.clone(),
                kind: self.kind,
                role: self.role,
                state: ledger.state(),
                circuit: ledger.circuit(),
                waiting,
                events_waiting: durable.saturating_sub(ledger.passed)
                    + ledger.in_hand
                    + ledger.left_behind().0,
                bytes_waiting: 0,
                oldest_waiting: None,
                last_acknowledged: ledger.last_acknowledged,
                lagging,
                halted: ledger.halted(),
                missing: ledger.missing(),
                quarantined: Vec::new(),
                failures: ledger.trouble().map_or(0, |trouble| trouble.failures),
                last_error: ledger.last_error().map(str::to_owned),
                counters: ledger.counters,
            };
            (ledger.low(), health)
        };
        if health.events_waiting > 0 {
            health.bytes_waiting = self.journal.bytes_from(low);
            health.oldest_waiting = self.recorded_at(low);
        }
        health.quarantined = self.quarantine().list();
        health
    }

    /// When an entry was recorded; none where that cannot be read.
    fn recorded_at(&self, index: u64) -> Option<Timestamp> {
        let mut oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, at)) = *oldest
            && known == index
        {
            return Some(at);
        }
        let at = recorded_at(&self.journal, index)?;
        *oldest = Some((index, at));
        Some(at)
    }

    /// What the sink has not acknowledged of the entries before `target`; none if nothing.
    pub(super) fn undelivered(&self, target: u64) -> Option<Undelivered> {
        let (position, (mut events, mut chains)) = {
            let ledger = lock(&self.ledger);
            (ledger.position, ledger.left_behind())
        };
        let counted = target.min(position.saturating_add(MOST_COUNTED));
        let mut entry = Vec::new();
        let mut at = position;
        if let Ok(mut reader) = self.journal.reader(position) {
            while at < counted
                && let Ok(Some(index)) = reader.next(&mut entry)
            {
                at = index + 1;
                let Ok(event) = Decoded::read(index, &entry) else { continue };
                let mut ledger = lock(&self.ledger);
                let Ok(id) = ledger.find(&event.view) else { continue };
                if event.view.sequence >= ledger.counted(id) {
                    events += 1;
                    chains.insert(id);
                }
            }
        }
        events += target.saturating_sub(at);
        (events > 0).then(|| Undelivered {
            sink: self.name.clone(),
            role: self.role,
            events,
            chains: chains.len().max(1),
        })
    }
}

/// When the event of a durable entry was recorded; none where that cannot be read.
pub(super) fn recorded_at(journal: &Journal, index: u64) -> Option<Timestamp> {
    let mut entry = Vec::new();
    let index = journal.reader(index).ok()?.next(&mut entry).ok()??;
    let event = Decoded::read(index, &entry).ok()?;
    event.view.timestamp_utc.parse().ok()
}
