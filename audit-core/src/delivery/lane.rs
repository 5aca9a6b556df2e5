//! One sink as others see it: what it has acknowledged, how it is doing, what is left.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{error::AuditError, journal::Journal, sink::Sink};

use super::{
    cursor,
    draft::Decoded,
    health::{SinkHealth, SinkState, Undelivered},
    ledger::Ledger,
    source::lock,
};

/// How much of a backlog is looked at to count its chains.
const MOST_COUNTED: u64 = 65_536;

/// One sink and how far it has acknowledged.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    kind: &'static str,
    pub(super) ask_heads: bool,
    pub(super) most_events: usize,
    pub(super) most_bytes: usize,
    path: PathBuf,
    pub(super) journal: Arc<Journal>,
    pub(super) ledger: Mutex<Ledger>,
    /// Entries before this one are acknowledged, and the stored cursor says so.
    stored: AtomicU64,
}

impl Lane {
    /// Takes up the work where the stored cursor says; from the oldest entry where there is none.
    pub(super) fn open(
        sink: &dyn Sink,
        path: PathBuf,
        journal: Arc<Journal>,
    ) -> Result<Self, AuditError> {
        let info = sink.info();
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
        Ok(Self {
            name: info.name.clone(),
            kind: info.kind,
            ask_heads: info.readable_heads,
            most_events: info.max_batch_events,
            most_bytes: info.max_batch_bytes,
            path,
            journal,
            ledger: Mutex::new(Ledger::new(&info.name, info.readable_heads, cursor)),
            stored: AtomicU64::new(stored),
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

    pub(super) fn health(&self) -> SinkHealth {
        let ledger = lock(&self.ledger);
        let fault = ledger.last_fault.as_ref();
        let silent = fault.filter(|_| ledger.nothing_goes_through());
        let state = match &ledger.trouble {
            _ if ledger.ended => SinkState::Closed,
            None if silent.is_some_and(|fault| fault.retryable) => SinkState::Retrying,
            None if silent.is_some() => SinkState::Blocked,
            None => SinkState::Working,
            Some(trouble) if trouble.blocked => SinkState::Blocked,
            Some(_) => SinkState::Retrying,
        };
        let lagging = ledger.lagging().count();
        let fault = fault.filter(|_| lagging > 0).map(|fault| &fault.message);
        let error = ledger.trouble.as_ref().map(|trouble| &trouble.message).or(fault);
        SinkHealth {
            name: self.name.clone(),
            kind: self.kind,
            state,
            waiting: self.journal.durable_index().saturating_sub(ledger.position),
            lagging,
            halted: ledger.halted(),
            failures: ledger.trouble.as_ref().map_or(0, |trouble| trouble.failures),
            last_error: error.cloned(),
        }
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
            events,
            chains: chains.len().max(1),
        })
    }
}
