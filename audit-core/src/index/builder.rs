//! From events to the index of their interval.

use std::{collections::HashMap, sync::Arc};

use super::{EntryProof, Field, IndexRoot, MAX_EVENTS, Neighbour, Terms};
use crate::{
    canonical::EventView,
    hash::{Hash, Message, digests},
    tree::{CompactRange, MerkleTree},
};

const FIELDS: usize = Field::ALL.len();

/// Which value an event has in each field: the place of the value among those that occur, counted
/// from 1; 0 where the event has none.
type Row = [u16; FIELDS];

/// Takes the events of an interval, one after the other, and makes their index.
///
/// An event costs a comparison or a look-up for each field and 8 bytes, and a value that is new in
/// the interval one allocation.
///
/// ```
/// use agent_audit_core::{canonical::scan, event::{Event, chain::ChainClosed}};
/// use agent_audit_core::index::{Field, IndexBuilder};
/// let event = Event::example(ChainClosed::new("shutdown")).canonical_bytes()?;
/// let mut builder = IndexBuilder::new(0);
/// builder.push(&scan(&event)?)?;
/// let index = builder.build();
/// let key = Field::EventType.key("chain.closed");
/// assert_eq!(index.prove(&key).verify(&key, &index.root())?, [0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct IndexBuilder {
    rows: Rows,
    ids: [Ids; FIELDS],
}

/// The events of an interval by what they are indexed by.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    from: u64,
    rows: Vec<Row>,
    names: [Vec<Arc<str>>; FIELDS],
}

/// Finds the place of a value again.
#[derive(Debug, Clone, Default)]
struct Ids {
    by_name: HashMap<Arc<str>, u16>,
    /// The value that came after each one the last time: sessions go on and types take turns, so
    /// that it usually comes again.
    after: Vec<u16>,
    last: u16,
}

impl IndexBuilder {
    /// An index of the events from this position on.
    #[must_use]
    pub fn new(from: u64) -> Self {
        let rows = Rows { from, rows: Vec::new(), names: Default::default() };
        Self { rows, ids: Default::default() }
    }

    /// The first position of the interval.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.rows.from
    }

    /// The position of the next event.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.rows.from + len(&self.rows.rows)
    }

    /// Takes the next event of the chain.
    ///
    /// # Errors
    /// [`IndexFull`] where the interval has [`MAX_EVENTS`] already.
    pub fn push(&mut self, event: &EventView<'_>) -> Result<(), IndexFull> {
        self.push_terms(&Terms::of(event))
    }

    pub(super) fn is_full(&self) -> bool {
        len(&self.rows.rows) >= MAX_EVENTS
    }

    #[inline]
    pub(super) fn push_terms(&mut self, terms: &Terms<'_>) -> Result<(), IndexFull> {
        if self.is_full() {
            return Err(IndexFull);
        }
        let values = terms.values();
        let mut row = [0; FIELDS];
        for (at, id) in row.iter_mut().enumerate() {
            if let Some(value) = values[at] {
                *id = self.ids[at].of(value, &mut self.rows.names[at]);
            }
        }
        self.rows.rows.push(row);
        Ok(())
    }

    /// The same from a later position on.
    #[cfg(feature = "writer")]
    pub(super) fn behind(&self, from: u64) -> Self {
        let mut later = Self::new(from);
        let skipped = usize::try_from(from.saturating_sub(self.rows.from)).unwrap_or(usize::MAX);
        for row in self.rows.rows.iter().skip(skipped) {
            let mut moved = [0; FIELDS];
            for at in 0..FIELDS {
                if let Some(place) = usize::from(row[at]).checked_sub(1) {
                    let name = &self.rows.names[at][place];
                    moved[at] = later.ids[at].of_shared(name, &mut later.rows.names[at]);
                }
            }
            later.rows.rows.push(moved);
        }
        later
    }

    /// What the events have been, without the means to find values again.
    #[cfg(feature = "writer")]
    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The index of the events so far.
    #[must_use]
    pub fn build(&self) -> Index {
        self.rows.build()
    }
}

impl Ids {
    #[inline]
    fn of(&mut self, name: &str, names: &mut Vec<Arc<str>>) -> u16 {
        let guess = self.after.get(usize::from(self.last)).copied().unwrap_or(0);
        let known = usize::from(guess).checked_sub(1).and_then(|place| names.get(place));
        if known.is_some_and(|known| **known == *name) {
            self.last = guess;
            return guess;
        }
        match self.by_name.get(name) {
            Some(&id) => self.follow(id),
            None => self.add(Arc::from(name), names),
        }
    }

    #[cfg(feature = "writer")]
    fn of_shared(&mut self, name: &Arc<str>, names: &mut Vec<Arc<str>>) -> u16 {
        match self.by_name.get(name) {
            Some(&id) => self.follow(id),
            None => self.add(Arc::clone(name), names),
        }
    }

    fn add(&mut self, name: Arc<str>, names: &mut Vec<Arc<str>>) -> u16 {
        names.push(Arc::clone(&name));
        let id = u16::try_from(names.len()).expect("no more values than events");
        self.by_name.insert(name, id);
        self.after.resize(names.len() + 1, 0);
        self.follow(id)
    }

    fn follow(&mut self, id: u16) -> u16 {
        self.after[usize::from(self.last)] = id;
        self.last = id;
        id
    }
}

impl Rows {
    /// Every value that occurs, with the positions where it does, field by field.
    pub(super) fn values(&self) -> Vec<(Field, &Arc<str>, Vec<u64>)> {
        let mut values = Vec::new();
        for (at, field) in Field::ALL.into_iter().enumerate() {
            let mut positions: Vec<Vec<u64>> = vec![Vec::new(); self.names[at].len()];
            for (row, position) in self.rows.iter().zip(self.from..) {
                if let Some(place) = usize::from(row[at]).checked_sub(1) {
                    positions[place].push(position);
                }
            }
            values.extend(self.names[at].iter().zip(positions).map(|(n, p)| (field, n, p)));
        }
        values
    }

    pub(super) fn build(&self) -> Index {
        let values = self.values();
        let texts: Vec<_> = values.iter().map(|(field, raw, _)| field.key_text(raw)).collect();
        let places: Vec<_> = values.iter().map(|(_, _, positions)| bytes_of(positions)).collect();
        let mut hashes = hash_all(texts.iter().chain(&places));
        let places = hashes.split_off(values.len());
        let mut entries: Vec<_> = hashes
            .into_iter()
            .zip(places)
            .zip(values)
            .map(|((key, places), (_, _, positions))| Entry { key, places, positions })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.key);
        let leaves: Vec<_> = entries.iter().map(Entry::leaf_bytes).collect();
        let leaves = leaves.iter().map(|bytes| Message { prefix: &[0x00], bytes });
        let leaves = digests(&leaves.collect::<Vec<_>>());
        Index { from: self.from, size: self.from + len(&self.rows), entries, leaves }
    }
}

/// The index of an interval, whole.
///
/// ```
/// use agent_audit_core::index::{Field, IndexBuilder};
/// let index = IndexBuilder::new(0).build();
/// assert_eq!(index.positions(&Field::Session.key("s-1")), None);
/// ```
#[derive(Debug, Clone)]
pub struct Index {
    from: u64,
    size: u64,
    /// Sorted by key.
    entries: Vec<Entry>,
    /// The leaf hash of each entry.
    leaves: Vec<Hash>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Hash,
    places: Hash,
    positions: Vec<u64>,
}

impl Entry {
    fn leaf_bytes(&self) -> [u8; 64] {
        super::proof::leaf_bytes(&self.key, &self.places)
    }
}

impl Index {
    /// What a checkpoint says of it.
    #[must_use]
    pub fn root(&self) -> IndexRoot {
        let root = self.leaves.iter().copied().collect::<CompactRange>().root();
        IndexRoot { from: self.from, size: self.size, entries: len(&self.entries), root }
    }

    /// The positions under a key; nothing where it does not occur.
    #[must_use]
    pub fn positions(&self, key: &Hash) -> Option<&[u64]> {
        let at = self.entries.binary_search_by_key(key, |entry| entry.key).ok()?;
        Some(&self.entries[at].positions)
    }

    /// Proves the positions under a key, or that it does not occur.
    #[must_use]
    pub fn prove(&self, key: &Hash) -> EntryProof {
        let tree = MerkleTree::from_leaves(&self.leaves);
        let inclusion = |at: usize| {
            let at = u64::try_from(at).expect("an index has at most 2^17 entries");
            tree.inclusion_proof(at).expect("the tree has a leaf for each entry")
        };
        let neighbour = |at: usize| {
            let Entry { key, places, .. } = self.entries.get(at)?;
            Some(Neighbour { key: *key, places: *places, inclusion: inclusion(at) })
        };
        match self.entries.binary_search_by_key(key, |entry| entry.key) {
            Ok(at) => EntryProof::Present {
                positions: self.entries[at].positions.clone(),
                inclusion: inclusion(at),
            },
            Err(at) => EntryProof::Absent {
                before: at.checked_sub(1).and_then(neighbour),
                after: neighbour(at),
            },
        }
    }
}

/// An interval that has as many events as one may have.
///
/// ```
/// let error = agent_audit_core::index::IndexFull;
/// assert_eq!(error.to_string(), "an index has at most 32768 events: begin the next one");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an index has at most {MAX_EVENTS} events: begin the next one")]
#[allow(clippy::exhaustive_structs, reason = "it says one thing")]
pub struct IndexFull;

/// Positions as they are hashed.
pub(super) fn bytes_of(positions: &[u64]) -> Vec<u8> {
    positions.iter().flat_map(|position| position.to_le_bytes()).collect()
}

fn hash_all<'a>(texts: impl Iterator<Item = &'a Vec<u8>>) -> Vec<Hash> {
    digests(&texts.map(|bytes| Message { prefix: &[], bytes }).collect::<Vec<_>>())
}

fn len<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).expect("a count of things in memory is below 2^64")
}
