//! Stores: each chain from position 0, in parallel by chain.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use crate::{chain::ChainRef, hash::Hash};

use super::{
    super::{ChainVerifier, Checkpoints, Finding, FindingKind, chain::End},
    RecordStore, Slots, Ticker,
    journal::Slot,
    unreadable,
};

/// How many records pass between two reports of progress.
const TICK: u64 = 4_096;

/// A store's copy of a chain, verified.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) store: String,
    /// At the end of the copy.
    pub(super) verifier: ChainVerifier,
    /// At the position where the journal begins, where the copy reaches it.
    pub(super) branch: Option<ChainVerifier>,
    /// The position where the journal begins.
    pub(super) first: u64,
    /// The event hashes from there on.
    pub(super) hashes: Vec<Hash>,
    pub(super) findings: Vec<Finding>,
    /// Whether the store could be read to the end.
    pub(super) whole: bool,
}

/// Enters the chains of all stores; returns whether every store could be asked.
pub(super) fn list(
    stores: &[Box<dyn RecordStore>],
    slots: &mut Slots,
    findings: &mut Vec<Finding>,
) -> bool {
    let mut complete = true;
    for (at, store) in stores.iter().enumerate() {
        match store.chains() {
            Ok(chains) => {
                for chain in chains {
                    let slot = slots
                        .entry(chain.chain_id.as_str().into())
                        .or_insert_with(|| Slot::new(chain.clone(), Checkpoints::none()));
                    if slot.chain == chain {
                        slot.in_stores.push(at);
                    } else {
                        let detail = format!(
                            "the chain is kept for this tenant, and belongs to tenant {}",
                            slot.chain.tenant_id
                        );
                        let finding = Finding::new(FindingKind::Foreign, detail)
                            .in_chain(&chain)
                            .in_place(store.name());
                        findings.push(finding);
                    }
                }
            }
            Err(error) => {
                complete = false;
                findings.push(unreadable(store.name(), None, &error));
            }
        }
    }
    complete
}

/// Verifies every chain in every store that holds it.
pub(super) fn verify(
    stores: &[Box<dyn RecordStore>],
    slots: &mut Slots,
    first: &HashMap<Box<str>, u64>,
    workers: usize,
    ticker: &mut Ticker<'_>,
) {
    let work: Vec<Mutex<(&mut Slot, Option<u64>)>> = slots
        .iter_mut()
        .filter(|(_, slot)| !slot.in_stores.is_empty())
        .map(|(id, slot)| Mutex::new((slot, first.get(id).copied())))
        .collect();
    let ahead = AtomicUsize::new(0);
    let (tick, ticks) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers.min(work.len()) {
            let (tick, ahead, work) = (tick.clone(), &ahead, &work);
            scope.spawn(move || {
                while let Some(work) = work.get(ahead.fetch_add(1, Ordering::Relaxed)) {
                    // Nobody else takes this chain; a lock is how the compiler is told.
                    let mut work = work.lock().expect("each chain is taken once");
                    let (slot, first) = &mut *work;
                    for at in std::mem::take(&mut slot.in_stores) {
                        let copy = read_copy(&*stores[at], slot, *first, &tick);
                        slot.copies.push(copy);
                    }
                }
            });
        }
        drop(tick);
        for (events, bytes) in ticks {
            ticker.add(events, bytes);
        }
    });
}

fn read_copy(
    store: &dyn RecordStore,
    slot: &Slot,
    first: Option<u64>,
    tick: &mpsc::Sender<(u64, u64)>,
) -> Copy {
    let mut checkpoints = slot.checkpoints.clone();
    if !slot.copies.is_empty() {
        // The first copy has told what is wrong with the checkpoints themselves.
        checkpoints.findings.clear();
    }
    let mut copy = Copy {
        store: store.name().to_owned(),
        verifier: ChainVerifier::new(slot.chain.clone(), checkpoints),
        branch: None,
        first: first.unwrap_or(u64::MAX),
        hashes: Vec::new(),
        findings: Vec::new(),
        whole: true,
    };
    let (mut events, mut bytes) = (0, 0);
    let read = store.read(&slot.chain, 0, &mut |record| {
        copy.take(&slot.chain, record);
        events += 1;
        bytes += u64::try_from(record.bytes.len()).unwrap_or(u64::MAX);
        if events == TICK {
            // Nobody listening means nobody wants to know.
            let _ = tick.send((std::mem::take(&mut events), std::mem::take(&mut bytes)));
        }
    });
    let _ = tick.send((events, bytes));
    copy.branch_here();
    if let Err(error) = read {
        copy.whole = false;
        copy.findings.push(unreadable(store.name(), Some(&slot.chain), &error));
    }
    copy
}

impl Copy {
    fn take(&mut self, chain: &ChainRef, record: super::StoredRecord<'_>) {
        self.branch_here();
        let at = self.verifier.next_sequence();
        self.verifier.push(record.bytes);
        // Only the contiguous run from where the journal begins: a hole is a finding already.
        let index = self.verifier.next_sequence().checked_sub(self.first.saturating_add(1));
        if self.verifier.next_sequence() > at
            && index == u64::try_from(self.hashes.len()).ok()
            && let Some(hash) = self.verifier.head()
        {
            self.hashes.push(hash);
        }
        if let Some(column) = record.column_mismatch {
            let detail = format!("has a column that does not agree with the record: {column}");
            let finding = Finding::new(FindingKind::ColumnMismatch, detail)
                .in_chain(chain)
                .at(at, at)
                .of_event(self.verifier.event_id(at));
            self.findings.push(finding);
        }
    }

    /// Keeps where the chain stands at the position where the journal begins.
    fn branch_here(&mut self) {
        if self.branch.is_none() && self.verifier.next_sequence() == self.first {
            self.branch = Some(self.verifier.second_copy());
        }
    }

    /// Ends the verification of a copy behind which another one goes on, or not.
    pub(super) fn finish(self, end: End) -> super::super::ChainReport {
        // What cannot be read to its end cannot be said to have been cut.
        let end = if self.whole { end } else { End::Continued };
        let mut report = self.verifier.finish_as(end);
        report.findings.extend(self.findings);
        for finding in &mut report.findings {
            finding.place.get_or_insert_with(|| self.store.clone());
        }
        report
    }
}
