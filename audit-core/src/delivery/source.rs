//! Reading the journal into drafts: the main flow, and catch-up behind it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    error::AuditError,
    journal::{Journal, Reader},
};

use super::{
    draft::{Decoded, Draft},
    ledger::{Flow, Ledger, SlotId, Verdict},
};

/// Where a worker reads.
#[derive(Debug)]
pub(super) struct Source {
    journal: Arc<Journal>,
    main: Tape,
    behind: Tape,
}

/// What was read, and how far.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) draft: Draft,
    /// Everything before this entry was read.
    pub(super) end: u64,
}

impl Source {
    pub(super) fn new(journal: Arc<Journal>) -> Self {
        Self { journal, main: Tape::default(), behind: Tape::default() }
    }

    /// Reads what comes next for the live chains.
    ///
    /// # Errors
    /// What stands in the way of the very next entry; what can be read before a fault is.
    pub(super) fn main(
        &mut self,
        ledger: &Mutex<Ledger>,
        draft: Draft,
    ) -> Result<Fill, AuditError> {
        let start = lock(ledger).position;
        let mut fill = Fill { draft, end: start };
        match self.read_main(ledger, &mut fill) {
            Err(error) if fill.end == start => Err(error),
            _ => Ok(fill),
        }
    }

    fn read_main(&mut self, ledger: &Mutex<Ledger>, fill: &mut Fill) -> Result<(), AuditError> {
        self.main.seek(&self.journal, fill.end)?;
        while !fill.draft.is_enough() {
            let Some((index, entry)) = self.main.next()? else { break };
            fill.draft.note_read(entry.len());
            let event = Decoded::read(index, entry)?;
            let mut ledger = lock(ledger);
            let id = find(&mut ledger, index, &event)?;
            if matches!(ledger.slot(id).flow, Flow::Live) && !fill.draft.is_excluded(id) {
                let done =
                    consider(&self.journal, &mut ledger, &mut fill.draft, id, index, &event)?;
                if done == Done::NoRoom {
                    break;
                }
            }
            ledger.pass(id, event.view.sequence);
            fill.end = index + 1;
            ledger.passed = ledger.passed.max(fill.end);
        }
        Ok(())
    }

    /// Reads again what is left of the lagging chains that are `due`, as far as the main flow has
    /// read.
    /// Chains that turn out to be in another state are taken out of `due`.
    ///
    /// # Errors
    /// What stands in the way of the very first entry; what can be read before a fault is.
    pub(super) fn behind(
        &mut self,
        ledger: &Mutex<Ledger>,
        due: &mut BTreeSet<SlotId>,
        draft: Draft,
    ) -> Result<Fill, AuditError> {
        let (limit, start) = {
            let ledger = lock(ledger);
            let froms = due.iter().filter_map(|id| match ledger.slot(*id).flow {
                Flow::Lagging(lag) => Some(lag.from),
                Flow::Live | Flow::Halted { .. } => None,
            });
            (ledger.passed, froms.min())
        };
        let start = start.unwrap_or(limit).max(self.journal.first_index());
        let mut fill = Fill { draft, end: start };
        match self.read_behind(ledger, due, limit, &mut fill) {
            Err(error) if fill.end == start => Err(error),
            _ => Ok(fill),
        }
    }

    fn read_behind(
        &mut self,
        ledger: &Mutex<Ledger>,
        due: &mut BTreeSet<SlotId>,
        limit: u64,
        fill: &mut Fill,
    ) -> Result<(), AuditError> {
        if fill.end >= limit {
            return Ok(());
        }
        self.behind.seek(&self.journal, fill.end)?;
        while fill.end < limit && !fill.draft.is_enough() {
            if due.iter().all(|id| fill.draft.is_excluded(*id)) {
                // Nothing that follows would be taken.
                break;
            }
            let Some((index, entry)) = self.behind.next()? else { break };
            fill.draft.note_read(entry.len());
            let event = Decoded::read(index, entry)?;
            let mut ledger = lock(ledger);
            let id = find(&mut ledger, index, &event)?;
            if due.contains(&id)
                && let Flow::Lagging(lag) = ledger.slot(id).flow
                && index >= lag.from
                && !fill.draft.is_excluded(id)
            {
                match consider(&self.journal, &mut ledger, &mut fill.draft, id, index, &event)? {
                    Done::Fine => {}
                    Done::NoRoom => fill.draft.exclude(id, index),
                    Done::Elsewhere => {
                        due.remove(&id);
                    }
                }
            }
            fill.end = index + 1;
        }
        Ok(())
    }

    /// Forgets the files that are open, so that what was repaired is seen.
    pub(super) fn reset(&mut self) {
        self.main = Tape::default();
        self.behind = Tape::default();
    }
}

pub(super) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // Every change of the ledger is complete before anything can panic.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reader that can give its last entry once more, so that one without room is not read twice.
#[derive(Debug, Default)]
struct Tape {
    reader: Option<Reader>,
    entry: Vec<u8>,
    /// The index of what is in `entry`.
    last: Option<u64>,
    again: bool,
}

impl Tape {
    fn seek(&mut self, journal: &Journal, position: u64) -> Result<(), AuditError> {
        self.again = self.last == Some(position);
        if !self.again && self.reader.as_ref().is_none_or(|reader| reader.position() != position) {
            self.last = None;
            self.reader = None;
            self.reader = Some(journal.reader(position)?);
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(u64, &[u8])>, AuditError> {
        if !std::mem::take(&mut self.again) {
            self.last = None;
            self.last = match &mut self.reader {
                Some(reader) => reader.next(&mut self.entry)?,
                None => None,
            };
        }
        Ok(self.last.map(|index| (index, self.entry.as_slice())))
    }
}

fn find(ledger: &mut Ledger, index: u64, event: &Decoded<'_>) -> Result<SlotId, AuditError> {
    ledger.find(&event.view).map_err(|error| {
        AuditError::damaged(format!("journal entry {index} is of no valid chain"))
            .with_source(error)
    })
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Fine,
    NoRoom,
    /// The chain is halted, or catch-up has to begin elsewhere.
    Elsewhere,
}

/// Takes an event into the draft, or deals with it otherwise.
fn consider(
    journal: &Journal,
    ledger: &mut Ledger,
    draft: &mut Draft,
    id: SlotId,
    index: u64,
    event: &Decoded<'_>,
) -> Result<Done, AuditError> {
    let taken = draft.taken(id);
    let (sequence, previous) = (event.view.sequence, event.view.previous_event_hash);
    let verdict = ledger.judge(id, taken, sequence, previous, || event.hash());
    Ok(match verdict {
        Verdict::Take => {
            let exact = match ledger.slot(id).flow {
                Flow::Lagging(lag) => lag.exact,
                Flow::Live | Flow::Halted { .. } => None,
            };
            let took = match exact {
                Some(exact) => draft.take_exact(id, exact, index, event)?,
                None => draft.take(id, index, event)?,
            };
            if took { Done::Fine } else { Done::NoRoom }
        }
        Verdict::Skip => Done::Fine,
        // What was taken is sent first; then the hole is looked at again.
        Verdict::Hole if taken > 0 => {
            draft.exclude(id, index);
            Done::Fine
        }
        Verdict::Hole => {
            ledger.rewind(id, journal.first_index(), index);
            Done::Elsewhere
        }
        Verdict::Conflict => {
            ledger.halt_at_head(id, index);
            Done::Elsewhere
        }
    })
}
