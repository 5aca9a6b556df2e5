//! What an attacker with access to the store would do, for tests of verifiers.

use std::{fmt, sync::Arc};

use super::{
    MemorySink,
    sink::{State, Stored},
};
use crate::{
    chain::ChainRef,
    content::{PartBody, Salt},
    record::Record,
};

/// Changes what a [`MemorySink`] keeps, past every check.
///
/// A position is the place in the chain as it is kept now: after a removal, what follows has moved
/// up. Each change panics where there is nothing at the position, so that a test does not pass for
/// having changed nothing.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainOpened}, id::WriterId, record::Record};
/// use agent_audit_core::{memory::MemorySink, sink::{Batch, ChainRef, Segment, Sink}};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let event = Event::example(ChainOpened::new(WriterId::random(), "ed25519:…", "agent 1.0"));
/// let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
/// let segment = Segment::new(chain.clone(), vec![Record::new(event.canonical_bytes()?, Vec::new())])?;
///
/// let sink = MemorySink::new();
/// sink.append(&Batch::new(vec![segment])).await?;
/// sink.assert_chain_valid();
/// sink.tamper().replace_text(&chain, 0, "\"sequence\":0", "\"sequence\":1");
/// assert_eq!(sink.verify().exit_code(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Tamper<'a> {
    sink: &'a MemorySink,
}

impl MemorySink {
    /// Changes what is kept, past every check; see [`Tamper`].
    #[must_use]
    pub fn tamper(&self) -> Tamper<'_> {
        Tamper { sink: self }
    }
}

/// # Panics
/// Every change panics where there is no record at the position that it names.
impl Tamper<'_> {
    /// Changes the bytes of an event.
    #[track_caller]
    pub fn edit(&self, chain: &ChainRef, at: u64, change: impl FnOnce(&mut Vec<u8>)) {
        self.replace(chain, at, |record| {
            let mut bytes = record.event_bytes().to_vec();
            change(&mut bytes);
            Record::new(bytes, record.parts().to_vec())
        });
    }

    /// Replaces a piece of text in the bytes of an event; it must be there.
    #[track_caller]
    pub fn replace_text(&self, chain: &ChainRef, at: u64, from: &str, to: &str) {
        self.edit(chain, at, |bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert!(text.contains(from), "record {at} of {chain} does not hold {from:?}: {text}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        });
    }

    /// Changes the plaintext of a part and leaves its salt, and so the commitment, as they were.
    #[track_caller]
    pub fn edit_part(&self, chain: &ChainRef, at: u64, name: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.replace(chain, at, |record| {
            let view = record.view().ok();
            let part = view.and_then(|view| view.content().position(|part| part.name == name));
            let mut parts = record.parts().to_vec();
            match part.and_then(|part| parts.get_mut(part)) {
                Some(PartBody::Clear { bytes: old, .. }) => *old = bytes,
                Some(body) => *body = PartBody::Clear { salt: Salt::random(), bytes },
                None => panic!("record {at} of {chain} has no part {name:?}"),
            }
            Record::new(record.event_bytes().to_vec(), parts)
        });
    }

    /// Puts another record in the place of one.
    #[track_caller]
    pub fn replace(&self, chain: &ChainRef, at: u64, change: impl FnOnce(&Record) -> Record) {
        self.change(chain, |records| {
            let place = place(chain, records, at);
            records[place] = Stored::new(change(&records[place].record));
        });
    }

    /// Removes a record.
    #[track_caller]
    pub fn remove(&self, chain: &ChainRef, at: u64) {
        self.change(chain, |records| {
            records.remove(place(chain, records, at));
        });
    }

    /// Lets two records change places.
    #[track_caller]
    pub fn swap(&self, chain: &ChainRef, one: u64, other: u64) {
        self.change(chain, |records| {
            let (one, other) = (place(chain, records, one), place(chain, records, other));
            records.swap(one, other);
        });
    }

    /// Puts a copy of a record behind it.
    #[track_caller]
    pub fn duplicate(&self, chain: &ChainRef, at: u64) {
        self.change(chain, |records| {
            let place = place(chain, records, at);
            records.insert(place, Arc::clone(&records[place]));
        });
    }

    /// Cuts the end of a chain: so many records stay.
    #[track_caller]
    pub fn truncate(&self, chain: &ChainRef, keep: u64) {
        self.change(chain, |records| {
            let last = place(chain, records, keep);
            records.truncate(last);
        });
    }

    /// Cuts the beginning of a chain: the record at this position becomes the first.
    #[track_caller]
    pub fn behead(&self, chain: &ChainRef, first: u64) {
        self.change(chain, |records| {
            let first = place(chain, records, first);
            records.drain(..first);
        });
    }

    /// Moves a record to the end of another chain, as one tenant's to another.
    #[track_caller]
    pub fn move_to(&self, chain: &ChainRef, at: u64, to: &ChainRef) {
        let mut state = self.sink.lock();
        let records = state.chains.get_mut(chain).unwrap_or_else(|| no_chain(chain));
        let moved = records.remove(place(chain, records, at));
        state.chains.entry(to.clone()).or_default().push(moved);
        drop(state);
        self.sink.shared.changed.notify_waiters();
    }

    /// Removes a whole chain.
    #[track_caller]
    pub fn remove_chain(&self, chain: &ChainRef) {
        if self.sink.lock().chains.remove(chain).is_none() {
            no_chain(chain)
        }
        self.sink.shared.changed.notify_waiters();
    }

    #[track_caller]
    fn change(&self, chain: &ChainRef, change: impl FnOnce(&mut Vec<Arc<Stored>>)) {
        let mut state = self.sink.lock();
        let State { chains } = &mut *state;
        change(chains.get_mut(chain).unwrap_or_else(|| no_chain(chain)));
        drop(state);
        self.sink.shared.changed.notify_waiters();
    }
}

#[track_caller]
fn place(chain: &ChainRef, records: &[Arc<Stored>], at: u64) -> usize {
    let place = usize::try_from(at).ok().filter(|place| *place < records.len());
    place.unwrap_or_else(|| panic!("chain {chain} has {} records, none at {at}", records.len()))
}

#[track_caller]
fn no_chain(chain: &dyn fmt::Display) -> ! {
    panic!("there is no chain {chain}")
}
