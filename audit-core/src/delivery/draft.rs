//! A batch in the making: entries of the journal, grouped by chain.

use std::{collections::HashMap, sync::Arc};

use crate::{
    canonical::{self, EventView},
    error::AuditError,
    hash::{self, Hash},
    journal::Journal,
    log::entry,
    record::{Record, RecordView},
    sink::{Batch, Head, Segment},
};

use super::{
    health::HaltReason,
    ledger::{Contact, Exact, Flow, Lag, Ledger, SlotId, Verdict},
};

/// What is read of the journal before others get their turn.
const MOST_ENTRIES: u64 = 65_536;
const MOST_BYTES: usize = 64 << 20;
/// What is read at a time for one chain that is sent by itself.
const MOST_ENTRIES_APART: u64 = 8_192;
const MOST_BYTES_APART: usize = 8 << 20;

/// Entries that may become a batch.
#[derive(Debug)]
pub(super) struct Draft {
    parts: Vec<Part>,
    by_slot: HashMap<SlotId, usize>,
    most_events: usize,
    most_bytes: usize,
    /// How much may be read.
    reach: (u64, usize),
    events: usize,
    bytes: usize,
    /// Something did not have room.
    full: bool,
    /// Parts that have been read in part and must be complete.
    incomplete: usize,
    read: u64,
    read_bytes: usize,
}

/// The entries of one chain.
#[derive(Debug)]
struct Part {
    slot: SlotId,
    entries: Vec<Entry>,
    /// The first entry of the chain that was read and left out.
    excluded: Option<u64>,
    /// It has to come again as it was, and has been read in part.
    incomplete: bool,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    index: u64,
    sequence: u64,
    previous: Hash,
    record: Record,
}

/// A batch and where its segments come from.
#[derive(Debug)]
pub(super) struct Shipment {
    pub(super) batch: Arc<Batch>,
    pub(super) loads: Vec<Load>,
}

/// Where a segment comes from.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) slot: SlotId,
    pub(super) first: u64,
    /// The journal entry of each event.
    pub(super) indices: Vec<u64>,
    pub(super) bytes: usize,
    pub(super) excluded: Option<u64>,
}

impl Load {
    pub(super) fn last(&self) -> u64 {
        self.first + (self.indices.len() as u64) - 1
    }

    /// About how many bytes the first events take.
    pub(super) fn bytes_of(&self, events: usize) -> u64 {
        let all = self.indices.len().max(1);
        (self.bytes as u64) * (events.min(all) as u64) / (all as u64)
    }

    pub(super) fn as_exact(&self) -> Exact {
        Exact { last: self.last(), events: self.indices.len(), bytes: self.bytes }
    }
}

impl Draft {
    pub(super) fn new(most_events: usize, most_bytes: usize) -> Self {
        Self {
            parts: Vec::new(),
            by_slot: HashMap::new(),
            most_events: most_events.max(1),
            most_bytes,
            reach: (MOST_ENTRIES, MOST_BYTES),
            events: 0,
            bytes: 0,
            full: false,
            incomplete: 0,
            read: 0,
            read_bytes: 0,
        }
    }

    /// One for a chain that is sent by itself.
    pub(super) fn apart(most_events: usize, most_bytes: usize) -> Self {
        let reach = (MOST_ENTRIES_APART, MOST_BYTES_APART);
        Self { reach, ..Self::new(most_events, most_bytes) }
    }

    fn part(&self, slot: SlotId) -> Option<&Part> {
        self.by_slot.get(&slot).map(|at| &self.parts[*at])
    }

    fn part_mut(&mut self, slot: SlotId) -> &mut Part {
        let parts = &mut self.parts;
        let at = *self.by_slot.entry(slot).or_insert_with(|| {
            let part =
                Part { slot, entries: Vec::new(), excluded: None, incomplete: false, bytes: 0 };
            parts.push(part);
            parts.len() - 1
        });
        &mut parts[at]
    }

    /// How many events are in it.
    pub(super) fn events(&self) -> u64 {
        self.events as u64
    }

    /// How many events of a chain are in it.
    pub(super) fn taken(&self, slot: SlotId) -> u64 {
        self.part(slot).map_or(0, |part| part.entries.len() as u64)
    }

    /// Leaves an entry of a chain, and all that follow it, for another batch.
    pub(super) fn exclude(&mut self, slot: SlotId, index: u64) {
        self.complete(slot);
        let part = self.part_mut(slot);
        part.excluded = part.excluded.or(Some(index));
    }

    pub(super) fn is_excluded(&self, slot: SlotId) -> bool {
        self.excluded(slot).is_some()
    }

    /// The first entry of a chain that was read and left out.
    pub(super) fn excluded(&self, slot: SlotId) -> Option<u64> {
        self.part(slot).and_then(|part| part.excluded)
    }

    /// Notes that an entry was read.
    pub(super) fn note_read(&mut self, bytes: usize) {
        self.read += 1;
        self.read_bytes = self.read_bytes.saturating_add(bytes);
    }

    /// Whether reading should stop here.
    pub(super) fn is_enough(&self) -> bool {
        let full = self.full || self.events >= self.most_events || self.bytes >= self.most_bytes;
        let (entries, bytes) = self.reach;
        (full || self.read >= entries || self.read_bytes >= bytes) && self.incomplete == 0
    }

    /// Adds an event; false where it has no room. One that is alone always has.
    pub(super) fn take(
        &mut self,
        slot: SlotId,
        index: u64,
        event: &Decoded<'_>,
    ) -> Result<bool, AuditError> {
        if !self.has_room(1, event.bytes) {
            self.full = true;
            return Ok(false);
        }
        self.events += 1;
        self.bytes += event.bytes;
        self.push(slot, index, event)?;
        Ok(true)
    }

    /// Adds an event of a segment that has to come again as it was; false where the event is behind
    /// that segment, or the whole segment has no room.
    pub(super) fn take_exact(
        &mut self,
        slot: SlotId,
        exact: Exact,
        index: u64,
        event: &Decoded<'_>,
    ) -> Result<bool, AuditError> {
        if event.view.sequence > exact.last {
            return Ok(false);
        }
        if self.taken(slot) == 0 {
            if !self.has_room(exact.events, exact.bytes) {
                self.full = true;
                return Ok(false);
            }
            self.events += exact.events;
            self.bytes += exact.bytes;
            self.incomplete += 1;
            self.part_mut(slot).incomplete = true;
        }
        self.push(slot, index, event)?;
        if event.view.sequence == exact.last {
            self.complete(slot);
        }
        Ok(true)
    }

    fn has_room(&self, events: usize, bytes: usize) -> bool {
        let fits = self.events.saturating_add(events) <= self.most_events
            && self.bytes.saturating_add(bytes) <= self.most_bytes;
        fits || self.events == 0
    }

    fn complete(&mut self, slot: SlotId) {
        let part = self.part_mut(slot);
        if std::mem::take(&mut part.incomplete) {
            self.incomplete -= 1;
        }
    }

    fn push(&mut self, slot: SlotId, index: u64, event: &Decoded<'_>) -> Result<(), AuditError> {
        let record = event.to_record()?;
        let part = self.part_mut(slot);
        part.bytes += event.bytes;
        part.entries.push(Entry {
            index,
            sequence: event.view.sequence,
            previous: event.view.previous_event_hash,
            record,
        });
        Ok(())
    }

    /// Applies what the sink says it has of a chain to the events of that chain; false where the
    /// chain is halted by that, or catch-up has to begin elsewhere.
    pub(super) fn meet(
        &mut self,
        ledger: &mut Ledger,
        slot: SlotId,
        head: Option<Head>,
        journal: &Journal,
    ) -> bool {
        let part = self.part_mut(slot);
        let entries = std::mem::take(&mut part.entries);
        let Some(from) = entries.first().map(|entry| entry.index) else { return true };
        ledger.meet(slot, head, from, journal.durable_index());
        for entry in entries {
            let taken = part.entries.len() as u64;
            let event_hash = || entry.record.event_hash();
            match ledger.judge(slot, taken, entry.sequence, entry.previous, event_hash) {
                Verdict::Take => part.entries.push(entry),
                Verdict::Skip => {}
                // The entries follow each other, so neither of these comes after one was taken.
                Verdict::Hole => {
                    ledger.rewind(slot, journal.first_index(), entry.index);
                    part.excluded = None;
                    return false;
                }
                Verdict::Conflict => {
                    ledger.halt_at_head(slot, from);
                    return false;
                }
            }
        }
        true
    }

    /// The chains whose head is not known yet.
    pub(super) fn unknown(&self, ledger: &Ledger) -> Vec<SlotId> {
        let slots = self.parts.iter().filter(|part| !part.entries.is_empty()).map(|part| part.slot);
        slots.filter(|slot| matches!(ledger.slot(*slot).contact, Contact::Unknown)).collect()
    }

    /// Takes the events of a chain out; gives the journal entry of the first.
    pub(super) fn withdraw(&mut self, slot: SlotId) -> Option<u64> {
        let part = self.part_mut(slot);
        part.excluded = None;
        let entries = std::mem::take(&mut part.entries);
        entries.first().map(|entry| entry.index)
    }

    /// The batch, if there is anything to send. Chains whose events are not linked are halted.
    pub(super) fn into_shipment(self, ledger: &mut Ledger) -> Option<Shipment> {
        let mut segments = Vec::with_capacity(self.parts.len());
        let mut loads = Vec::with_capacity(self.parts.len());
        for Part { slot, entries, excluded, bytes, .. } in self.parts {
            let Some(first) = entries.first() else {
                // The sink has what was taken, so what was left out is next.
                if let Some(from) = excluded
                    && matches!(ledger.slot(slot).flow, Flow::Live)
                {
                    ledger.lag(slot, Lag::now(from));
                }
                continue;
            };
            let (first, from) = (first.sequence, first.index);
            let indices = entries.iter().map(|entry| entry.index).collect();
            let records = entries.into_iter().map(|entry| entry.record).collect();
            match Segment::new(ledger.slot(slot).chain.clone(), records) {
                Ok(segment) => {
                    segments.push(segment);
                    loads.push(Load { slot, first, indices, bytes, excluded });
                }
                Err(error) => {
                    let message = format!("the journal is broken: {error}");
                    ledger.halt(slot, from, first, HaltReason::Corrupt, message);
                }
            }
        }
        let batch = Arc::new(Batch::new(segments));
        (!loads.is_empty()).then_some(Shipment { batch, loads })
    }
}

/// An entry of the journal and what its event says.
#[derive(Debug)]
pub(super) struct Decoded<'a> {
    pub(super) view: EventView<'a>,
    record: RecordView<'a>,
    bytes: usize,
}

impl<'a> Decoded<'a> {
    pub(super) fn read(index: u64, bytes: &'a [u8]) -> Result<Self, AuditError> {
        let record = entry::read(index, bytes)?;
        let view = canonical::scan(record.event_bytes).map_err(|error| {
            AuditError::damaged(format!("journal entry {index} does not hold an event"))
                .with_source(error)
        })?;
        Ok(Self { view, record, bytes: bytes.len() })
    }

    pub(super) fn hash(&self) -> Hash {
        hash::leaf(self.record.event_bytes)
    }

    fn to_record(&self) -> Result<Record, AuditError> {
        let parts = self.record.parts().map_err(|error| AuditError::damaged(error.to_string()))?;
        Ok(Record::new(self.record.event_bytes.to_vec(), parts))
    }
}
